//! The keys by which a cluster signs its service-account tokens (JWK sets, RFC 7517 §5).
//!
//! Every key is checked as those of accounts are: weak ones are left out. Keys are read again when a token names one
//! that is not among them, at most every few seconds, and now and then anyway, beside what is asked meanwhile, so that one
//! that was taken away stops counting. Where they cannot be read, those of before count for a day.

use std::{
    collections::HashMap,
    fs::File,
    io::Read as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_pki::{KeyKind, PublicKey};
use josekit::jws::{ES256, ES384, ES512, JwsVerifier, RS256, RS384, RS512};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    api_server::{ANSWER_MAX, ApiServer},
    claims::Algorithm,
};

/// Most keys of one cluster; more are not read.
const KEYS_MAX: usize = 32;
/// Largest key set in a file, in octets: as large as one that an API server may send.
const SET_MAX: u64 = ANSWER_MAX as u64;
/// Between two reads because of a key that is not there.
const UNKNOWN_EVERY: Duration = Duration::from_secs(5);
/// After how long keys are read again in any case.
const FRESH_FOR: Duration = Duration::from_secs(600);
/// Between two such reads that fail.
const STALE_EVERY: Duration = Duration::from_secs(60);
/// After how long without a read that succeeds keys count no more: the one that is in somebody else's hands may be among
/// them.
const COUNT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Where a cluster's keys are read.
#[derive(Debug, Clone)]
pub enum Published {
    /// In a file.
    File(PathBuf),
    /// At its API server.
    ApiServer(ApiServer),
}

/// A cluster's keys could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeysFault {
    /// The file, or the API server.
    #[error("the cluster's keys cannot be read: {0}")]
    Unreadable(String),
    /// Something else than keys.
    #[error("the cluster's keys are no JWK set: {0}")]
    NoSet(String),
    /// No key that could be used.
    #[error(
        "there is no key among the cluster's keys that could verify a token (RSA of 2048 bits or more, or P-256, P-384, P-521)"
    )]
    NoKeys,
}

/// The keys of a cluster, read again when that is called for.
pub(crate) struct Keys {
    published: Published,
    read: Mutex<Read>,
    /// One reads at a time; whoever needs a key that is not at hand waits for what it reads.
    reading: Arc<tokio::sync::Mutex<()>>,
}

/// A key, ready to verify.
type Verifier = Arc<dyn JwsVerifier + Send + Sync>;

#[derive(Default)]
struct Read {
    keys: Arc<Set>,
    tried: Option<Instant>,
    done: Option<Instant>,
}

type Set = HashMap<(Option<String>, Algorithm), Verifier>;

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    pub(crate) fn new(published: Published) -> Arc<Self> {
        Arc::new(Self { published, read: Mutex::default(), reading: Arc::default() })
    }

    /// The verifier for a key of this id and algorithm that was read before. Nobody waits: keys that are due are read
    /// beside.
    pub(crate) fn at_hand(self: &Arc<Self>, kid: Option<&str>, algorithm: Algorithm) -> Option<Verifier> {
        let (found, done, tried) = self.look(kid, algorithm);
        let (found, age) = (found?, done?.elapsed());
        if age >= COUNT_FOR {
            return None;
        }
        if age >= FRESH_FOR
            && !within(tried, STALE_EVERY)
            && let Ok(turn) = Arc::clone(&self.reading).try_lock_owned()
        {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                let _turn = turn;
                // What is wrong is logged.
                let _ = this.read_anew().await;
            });
        }
        Some(found)
    }

    /// The verifier for a key of this id and algorithm; none where there is no such key. May wait for whoever has them.
    ///
    /// # Errors
    ///
    /// [`KeysFault`], where there are no keys to look among.
    pub(crate) async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Option<Verifier>, KeysFault> {
        let _turn = self.reading.lock().await;
        let (found, done, tried) = self.look(kid, algorithm);
        let counts = within(done, COUNT_FOR);
        match found {
            // Whoever had the turn before has read it.
            Some(found) if counts => return Ok(Some(found)),
            _ if within(tried, UNKNOWN_EVERY) && counts => return Ok(None),
            _ if within(tried, UNKNOWN_EVERY) => {
                return Err(KeysFault::Unreadable("they could not be read a moment ago".to_owned()));
            }
            _ => {}
        }
        match self.read_anew().await {
            Ok(()) => Ok(self.look(kid, algorithm).0),
            Err(_) if counts => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// A key, when keys were read last, and when that was tried.
    fn look(&self, kid: Option<&str>, algorithm: Algorithm) -> (Option<Verifier>, Option<Instant>, Option<Instant>) {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        (read.keys.get(&(kid.map(str::to_owned), algorithm)).cloned(), read.done, read.tried)
    }

    async fn read_anew(&self) -> Result<(), KeysFault> {
        let keys = self.published.read().await;
        let now = Some(Instant::now());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match keys {
            Ok(keys) => {
                *read = Read { keys: Arc::new(keys), tried: now, done: now };
                Ok(())
            }
            Err(fault) => {
                tracing::warn!(%fault, "keys of a cluster");
                read.tried = now;
                Err(fault)
            }
        }
    }
}

fn within(since: Option<Instant>, long: Duration) -> bool {
    since.is_some_and(|since| since.elapsed() < long)
}

impl Published {
    /// Looks whether there are keys: for a check of the configuration.
    ///
    /// # Errors
    ///
    /// [`KeysFault`].
    pub async fn check(&self) -> Result<(), KeysFault> {
        self.read().await.map(drop)
    }

    async fn read(&self) -> Result<Set, KeysFault> {
        let text = match self {
            Self::File(path) => read_file(path.clone()).await,
            Self::ApiServer(server) => server.keys().await.map_err(|fault| fault.to_string()),
        };
        let text = text.map_err(KeysFault::Unreadable)?;
        // Up to three verifiers for each key, and its own checks: some milliseconds.
        let parsed = tokio::task::spawn_blocking(move || parse(&text)).await;
        parsed.map_err(|error| KeysFault::Unreadable(error.to_string()))?
    }
}

async fn read_file(path: PathBuf) -> Result<String, String> {
    let read = move || {
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        // What a file says of its length may be wrong by the time that it is read.
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(SET_MAX + 1).read_to_string(&mut text)).map_err(told)?;
        if u64::try_from(read).is_ok_and(|octets| octets <= SET_MAX) {
            return Ok(text);
        }
        Err(format!("{} has more than the {SET_MAX} octets that are read", path.display()))
    };
    tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
}

fn parse(text: &str) -> Result<Set, KeysFault> {
    let JwkSet { keys } = serde_json::from_str(text).map_err(|error| KeysFault::NoSet(error.to_string()))?;
    let mut set = Set::new();
    for jwk in keys.into_iter().take(KEYS_MAX) {
        // A key of another kind is no fault: it signs something else.
        let Ok(jwk) = serde_json::from_value::<Jwk>(jwk) else { continue };
        let kid = jwk.kid.clone();
        match verifiers(&jwk) {
            Ok(made) => {
                for (algorithm, verifier) in made {
                    // Of two under one id the first counts, as it does in Kubernetes.
                    set.entry((kid.clone(), algorithm)).or_insert(verifier);
                }
            }
            Err(why) => tracing::warn!(key.id = ?kid, why, "a key of a cluster is left out"),
        }
    }
    if set.is_empty() { Err(KeysFault::NoKeys) } else { Ok(set) }
}

type Made = Vec<(Algorithm, Verifier)>;

/// A key's verifiers, one for each algorithm that it fits.
fn verifiers(jwk: &Jwk) -> Result<Made, String> {
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Err("it is not for signatures".to_owned());
    }
    let part = |part: &Option<String>| {
        let text = part.as_deref().ok_or("a part of it is missing")?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| "a part of it is not base64url")
    };
    let key = match (&*jwk.kty, jwk.crv.as_deref()) {
        ("RSA", _) => PublicKey::from_rsa(&part(&jwk.n)?, &part(&jwk.e)?),
        ("EC", Some(curve)) => {
            let kind = match curve {
                "P-256" => KeyKind::P256,
                "P-384" => KeyKind::P384,
                "P-521" => KeyKind::P521,
                _ => return Err("its curve is not taken".to_owned()),
            };
            PublicKey::from_ec(kind, &part(&jwk.x)?, &part(&jwk.y)?)
        }
        _ => return Err("its kind is not taken".to_owned()),
    };
    let key = key.map_err(|rejection| rejection.to_string())?;
    let algorithms: &[Algorithm] = match key.kind() {
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => {
            &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512]
        }
        KeyKind::P256 => &[Algorithm::ES256],
        KeyKind::P384 => &[Algorithm::ES384],
        KeyKind::P521 => &[Algorithm::ES512],
        KeyKind::Ed25519 => return Err("its kind is not taken".to_owned()),
    };
    algorithms.iter().map(|algorithm| Ok((*algorithm, verifier(*algorithm, key.spki())?))).collect()
}

fn verifier(algorithm: Algorithm, spki: &[u8]) -> Result<Verifier, String> {
    let told = |error: josekit::JoseError| error.to_string();
    Ok(match algorithm {
        Algorithm::RS256 => Arc::new(RS256.verifier_from_der(spki).map_err(told)?),
        Algorithm::RS384 => Arc::new(RS384.verifier_from_der(spki).map_err(told)?),
        Algorithm::RS512 => Arc::new(RS512.verifier_from_der(spki).map_err(told)?),
        Algorithm::ES256 => Arc::new(ES256.verifier_from_der(spki).map_err(told)?),
        Algorithm::ES384 => Arc::new(ES384.verifier_from_der(spki).map_err(told)?),
        Algorithm::ES512 => Arc::new(ES512.verifier_from_der(spki).map_err(told)?),
    })
}
