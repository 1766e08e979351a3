//! Signatures of requests, verified by josekit with verifiers that are kept ready.
//!
//! A verifier is known by the digest of the key that it was made from, so an account whose key
//! changed can never be checked against the old one. Curves on which a verification takes more
//! than a millisecond, and keys that nobody has looked at yet, are dealt with off the async threads: so many
//! of each at once. Strangers have turns of their own on half of the cores, so that they take no account's turn and
//! leave half of the machine; that an account is always served first is not promised.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chancery_pki::{PublicKey, SpkiDigest};
use josekit::jws::{ES256, ES384, ES512, EdDSA, JwsVerifier, RS256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::jws::{Algorithm, Jwk, Jws, JwsRejection, fits};

/// Ready verifiers in each of two generations; one takes some 3 KiB.
const GENERATION: usize = 1024;
/// Slow verifications of accounts under way at once; more wait.
const SLOW_AT_ONCE: usize = 4;
/// Longest wait of a stranger.
const STRANGER_WAIT: Duration = Duration::from_secs(2);

/// The ready verifiers of this process.
pub(crate) struct Verifiers {
    ready: Mutex<Ready>,
    slow: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

/// The turn of somebody unknown to have a key looked at.
pub(crate) struct Turn(OwnedSemaphorePermit);

type Key = (SpkiDigest, Algorithm);
type Verifier = Arc<dyn JwsVerifier>;

/// Two generations: what was not asked for while the young one filled up goes with the old one.
#[derive(Default)]
struct Ready {
    young: HashMap<Key, Verifier>,
    old: HashMap<Key, Verifier>,
}

impl Ready {
    fn find(&mut self, key: &Key) -> Option<Verifier> {
        if let Some(found) = self.young.get(key) {
            return Some(Arc::clone(found));
        }
        let found = self.old.remove(key)?;
        self.keep(*key, Arc::clone(&found));
        Some(found)
    }

    fn keep(&mut self, key: Key, verifier: Verifier) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, verifier);
    }
}

impl Verifiers {
    /// None ready yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            ready: Mutex::default(),
            slow: Arc::new(Semaphore::new(SLOW_AT_ONCE)),
            strangers: Arc::new(Semaphore::new(strangers_at_once())),
        })
    }

    /// Verifies a request that names an account, whose key this is.
    pub(crate) async fn verify(self: &Arc<Self>, jws: Jws, key: &PublicKey) -> Result<Jws, JwsRejection> {
        match jws.algorithm {
            Algorithm::Es256 | Algorithm::Rs256 | Algorithm::EdDsa => self.check(&jws, key).map(|()| jws),
            Algorithm::Es384 | Algorithm::Es512 => {
                let key = key.clone();
                let permit = Arc::clone(&self.slow).acquire_owned().await.expect("the semaphore is never closed");
                self.aside(permit, move |this| this.check(&jws, &key).map(|()| jws)).await
            }
        }
    }

    /// A turn to have a key looked at that nobody has looked at yet. `None` if too many wait for theirs.
    pub(crate) async fn turn(&self) -> Option<Turn> {
        let permit = timeout(STRANGER_WAIT, Arc::clone(&self.strangers).acquire_owned()).await.ok()?;
        Some(Turn(permit.expect("the semaphore is never closed")))
    }

    /// Verifies a request that brings its own key, which is looked at first.
    pub(crate) async fn verify_with_own_key(
        self: &Arc<Self>,
        jws: Jws,
        jwk: Jwk,
        Turn(permit): Turn,
    ) -> Result<(Jws, PublicKey), JwsRejection> {
        self.aside(permit, move |this| {
            let key = jwk.public_key()?;
            this.check(&jws, &key).map(|()| (jws, key))
        })
        .await
    }

    /// Runs work off the async threads. The permit goes with the work, which goes on when its client has gone.
    async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(&Self) -> Result<T, JwsRejection> + Send + 'static,
    ) -> Result<T, JwsRejection> {
        let this = Arc::clone(self);
        let work = move || {
            let _permit = permit;
            work(&this)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome,
            // A panic in the cryptography refuses this request and nothing else.
            Err(_) => Err(JwsRejection::BadSignature),
        }
    }

    fn check(&self, jws: &Jws, key: &PublicKey) -> Result<(), JwsRejection> {
        fits(jws.algorithm, key)?;
        let id = (key.digest(), jws.algorithm);
        let known = self.ready().find(&id);
        let is_known = known.is_some();
        let verifier = known.or_else(|| verifier(jws.algorithm, key)).ok_or(JwsRejection::BadSignature)?;
        if !well_formed(jws) || verifier.verify(&jws.signing_input, &jws.signature).is_err() {
            return Err(JwsRejection::BadSignature);
        }
        if !is_known {
            self.ready().keep(id, verifier); // only now: what does not verify takes nobody's place
        }
        Ok(())
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many keys of strangers are looked at at once, which is work for a core each: half of the cores, at least one.
/// More wait, but not for long.
fn strangers_at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

/// Octets of each number of an ECDSA signature (RFC 7518 §3.4) that are not all zero: josekit is not asked about others.
fn well_formed(jws: &Jws) -> bool {
    let width = match jws.algorithm {
        Algorithm::Es256 => 32,
        Algorithm::Es384 => 48,
        Algorithm::Es512 => 66,
        Algorithm::Rs256 | Algorithm::EdDsa => return !jws.signature.is_empty(),
    };
    let nonzero = |octets: &[u8]| octets.iter().any(|octet| *octet != 0);
    jws.signature.len() == 2 * width && jws.signature.chunks_exact(width).all(nonzero)
}

/// A verifier made from the canonical SubjectPublicKeyInfo, never from what the client wrote.
fn verifier(algorithm: Algorithm, key: &PublicKey) -> Option<Verifier> {
    let spki = key.spki();
    match algorithm {
        Algorithm::Es256 => ES256.verifier_from_der(spki).ok().map(|verifier| Arc::new(verifier) as Verifier),
        Algorithm::Es384 => ES384.verifier_from_der(spki).ok().map(|verifier| Arc::new(verifier) as Verifier),
        Algorithm::Es512 => ES512.verifier_from_der(spki).ok().map(|verifier| Arc::new(verifier) as Verifier),
        Algorithm::Rs256 => RS256.verifier_from_der(spki).ok().map(|verifier| Arc::new(verifier) as Verifier),
        Algorithm::EdDsa => EdDSA.verifier_from_der(spki).ok().map(|verifier| Arc::new(verifier) as Verifier),
    }
}

#[cfg(test)]
impl Verifiers {
    /// How many are kept.
    pub(crate) fn kept(&self) -> usize {
        let ready = self.ready();
        ready.young.len() + ready.old.len()
    }

    /// As if `count` other keys had been used.
    pub(crate) fn fill_up(&self, key: &PublicKey, count: u32) {
        let verifier = verifier(Algorithm::of(key.kind()), key).expect("a verifier");
        for number in 0..count {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&number.to_be_bytes());
            self.ready().keep((SpkiDigest(digest), Algorithm::Es256), Arc::clone(&verifier));
        }
    }
}
