//! What HTTPS serves with: a certificate from our own authority that renews itself, or one that was brought.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::{
    encoding::AsDer as _,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use chancery_authority::{Failure, Office, Refusal, records::JobKind};
use chancery_cluster::{Identity, OptionalClients};
use chancery_pki::{
    NameSet, PublicKey, Timestamp,
    certificate::{self, Certificate},
};
use chancery_signer::{KeyFile, KeyFileError};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::rustls::{
    self, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use crate::{
    config::{Config, v1::Tls},
    files::{self, PRIVATE},
};

/// The file in the data folder that keeps our own certificate and its key.
const KEPT: &str = "tls.pem";
/// The part of its life that a certificate has left when it is renewed: a third.
const RENEW_AT: u32 = 3;

/// HTTPS has nothing to serve with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// Files that were brought cannot be read.
    #[error("the TLS file {}: {why}", path.display())]
    Brought {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The brought key can be read by others.
    #[error("the TLS key {path} can be read by others (mode {mode:04o}); type: chmod 600 {path}", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The brought key signs something else already.
    #[error(
        "the TLS key {} is the {what} key ({}): keys that sign certificates or checkpoints serve no handshakes; bring \
         another key and a certificate for it", path.display(), other.display()
    )]
    Shared {
        /// The key's file.
        path: PathBuf,
        /// What it signs.
        what: &'static str,
        /// The file that holds it for that.
        other: PathBuf,
    },
    /// A key file of ours cannot be read.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// Our own authority refuses.
    #[error(
        "the server's own certificate was refused: {0}\nsee [tls] in the configuration, and the policy's rules for door own-tls"
    )]
    Refused(String),
    /// Our own authority cannot issue now.
    #[error("the server's own certificate could not be issued: {0}")]
    Failed(String),
    /// The job of a renewal that nobody needs any more cannot be finished.
    #[error("nothing is left to renew, but that could not be stored: {0}")]
    Owed(Failure),
    /// The file that keeps it cannot be written.
    #[error("{}: {source}", path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TLS library refuses.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

/// What HTTPS serves with, exchanged as a whole.
#[derive(Debug)]
pub(crate) struct Served {
    current: ArcSwapOption<Current>,
}

/// A certificate with its key, ready for rustls.
#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    shown: Shown,
}

/// What people are told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) own: bool,
    pub(crate) names: Vec<String>,
    pub(crate) not_after: Option<Timestamp>,
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|current| Arc::clone(&current.key))
    }
}

impl Served {
    /// Nothing yet.
    pub(crate) fn nothing() -> Arc<Self> {
        Arc::new(Self { current: ArcSwapOption::empty() })
    }

    /// What is served with now.
    pub(crate) fn shown(&self) -> Option<Shown> {
        self.current.load().as_ref().map(|current| current.shown.clone())
    }

    fn put(&self, current: Current) {
        self.current.store(Some(Arc::new(current)));
    }
}

/// The TLS of the HTTPS listener: TLS 1.2 and 1.3, no tickets (resumption saves nothing here and
/// would keep state), HTTP/2 and 1.1.
pub(crate) fn server_config(served: Arc<Served>, identity: Arc<Identity>) -> Result<Arc<ServerConfig>, TlsError> {
    let library = |error: rustls::Error| TlsError::Library(error.to_string());
    let mut config = ServerConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()
        .map_err(library)?
        .with_client_cert_verifier(Arc::new(OptionalClients::new(identity, &crypto())))
        .with_cert_resolver(served);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn crypto() -> Arc<CryptoProvider> {
    Arc::new(provider::default_provider())
}

/// The keys that sign certificates and checkpoints. Whoever serves handshakes with one of them lets strangers use it.
#[derive(Debug)]
pub(crate) struct SigningKeys(Vec<(&'static str, PathBuf, PublicKey)>);

impl SigningKeys {
    /// Reads which they are; the files say it in the clear.
    pub(crate) fn of(config: &Config) -> Result<Self, TlsError> {
        let issuing = config.authorities.iter().map(|authority| ("issuing", &authority.key));
        let all = issuing.chain([("ledger's", &config.ledger.key)]);
        let read = all.map(|(what, file)| Ok((what, file.clone(), KeyFile::read(file)?.public_key().clone())));
        read.collect::<Result<_, TlsError>>().map(Self)
    }

    /// That the key in `path` is none of them.
    fn leave_out(&self, path: &Path, spki: &[u8]) -> Result<(), TlsError> {
        match self.0.iter().find(|(_, _, key)| key.spki() == spki) {
            None => Ok(()),
            Some((what, other, _)) => Err(TlsError::Shared { path: path.to_owned(), what, other: other.clone() }),
        }
    }
}

/// Looks after what HTTPS serves with.
pub(crate) struct Keeper {
    served: Arc<Served>,
    signing: SigningKeys,
    office: Office,
    kept: PathBuf,
    /// What is wanted; held until it is served, so that a renewal under way does not undo a reload.
    wanted: tokio::sync::Mutex<Tls>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Keeper {
    pub(crate) fn new(served: Arc<Served>, office: Office, config: &Config) -> Result<Self, TlsError> {
        Ok(Self {
            served,
            signing: SigningKeys::of(config)?,
            office,
            kept: config.data.join(KEPT),
            wanted: tokio::sync::Mutex::new(config.tls.clone()),
        })
    }

    /// One that keeps its file in `folder`.
    #[cfg(test)]
    pub(crate) fn of(office: Office, folder: &Path, wanted: Tls) -> Self {
        Self {
            served: Served::nothing(),
            signing: SigningKeys(Vec::new()),
            office,
            kept: folder.join(KEPT),
            wanted: tokio::sync::Mutex::new(wanted),
        }
    }

    /// Looks whether these files could be served with, or these names asked for; changes nothing.
    pub(crate) fn check(config: &Config) -> Result<(), TlsError> {
        match &config.tls {
            Tls::Own { .. } => Ok(()),
            Tls::Brought { certificate, key } => brought(certificate, key, &SigningKeys::of(config)?).map(drop),
        }
    }

    /// Serves with what is wanted from now on: brought files are read again, an own certificate
    /// that is kept and still good is taken, else a new one is issued. One whose renewal is due is taken all the same
    /// where none can be issued now: what is stored can be read and revoked then.
    pub(crate) async fn take(&self, wanted: Tls) -> Result<(), TlsError> {
        let mut held = self.wanted.lock().await;
        let taken = match &wanted {
            Tls::Brought { certificate, key } => {
                self.served.put(brought(certificate, key, &self.signing)?);
                None
            }
            Tls::Own { names, .. } => Some(names.clone()),
        };
        *held = wanted;
        let Some(names) = taken else { return Ok(()) };
        let Some((current, due)) = self.kept(&names) else { return self.issue(&names).await };
        let (now, end) = (self.office.now(), current.shown.not_after);
        self.served.put(current);
        if due > now {
            self.owe(due).await;
        } else if let Err(error) = self.issue(&names).await {
            let end = end.map(|end| end.to_string()).unwrap_or_default();
            tracing::error!(%error, certificate.not_after = end, "the server goes on with its own certificate as long as \
                it lasts; its renewal is due and is tried again");
            self.owe(now).await;
        }
        Ok(())
    }

    /// Does the renewal that is owed, if it still is; who brings a certificate renews it himself.
    pub(crate) async fn renew(&self) -> Result<(), TlsError> {
        let wanted = self.wanted.lock().await;
        let Tls::Own { names, .. } = &*wanted else {
            return self.office.finish(JobKind::RenewOwnTls).await.map_err(TlsError::Owed);
        };
        if let Some((_, due)) = self.kept(names)
            && due > self.office.now()
        {
            self.owe(due).await;
            return Ok(());
        }
        self.issue(names).await
    }

    async fn issue(&self, names: &NameSet) -> Result<(), TlsError> {
        let failed = |error: &dyn fmt::Display| TlsError::Failed(error.to_string());
        let unspecified = |_| TlsError::Failed("a TLS key could not be made".to_owned());
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(unspecified)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(unspecified)?;
        let spki = pair.public_key().as_der().map_err(unspecified)?;
        let key = PublicKey::from_spki(spki.as_ref()).map_err(|error| failed(&error))?;
        let issued = self.office.issue_own_tls(names, &key).await.map_err(|refusal| match refusal {
            Refusal::Rejected(rejection) => TlsError::Refused(rejection.to_string()),
            Refusal::Failed(failure) => failed(&failure),
        })?;
        // Key and certificate in one file, so that a crash leaves no pair that does not fit.
        let mut kept = Zeroizing::new(certificate::pem_block("PRIVATE KEY", pkcs8.as_ref()));
        kept.push_str(&issued.pem());
        files::replace(&self.kept, kept.as_bytes(), PRIVATE)
            .map_err(|source| TlsError::Keep { path: self.kept.clone(), source })?;
        let (current, due) = read_own(kept.as_bytes()).map_err(|why| failed(&why))?;
        if let Some(shown) = current.shown.not_after {
            tracing::info!(certificate.names = %names, certificate.not_after = %shown, "the server has a new certificate of its own");
        }
        self.served.put(current);
        self.owe(due).await;
        Ok(())
    }

    /// The certificate that is kept, with the time of its renewal, if it fits and has not ended.
    fn kept(&self, names: &NameSet) -> Option<(Current, Timestamp)> {
        let kept = Zeroizing::new(fs::read(&self.kept).ok()?);
        let (current, due) = match read_own(&kept) {
            Ok(read) => read,
            Err(why) => {
                tracing::warn!(file = %self.kept.display(), why, "the kept certificate cannot be used; a new one is issued");
                return None;
            }
        };
        let leaf = Certificate::from_der(current.key.cert.first()?).ok()?;
        let same_names = NameSet::new(leaf.names().iter().cloned()).is_ok_and(|held| held == *names);
        let ours = self.office.settings().authorities.iter().any(|authority| {
            authority
                .chains
                .iter()
                .any(|chain| leaf.issuer() == chain.issuing().subject() && leaf.is_signed_by(chain.issuing().key()))
        });
        let lasts = self.office.now().whole_seconds() <= leaf.validity().not_after();
        (same_names && ours && lasts).then_some((current, due))
    }

    /// Owes the renewal. Where that cannot be stored now, the next start finds it out by itself.
    async fn owe(&self, due: Timestamp) {
        if let Err(error) = self.office.schedule(JobKind::RenewOwnTls, due).await {
            tracing::warn!(%error, "the renewal of the server's own certificate could not be scheduled");
        }
    }
}

/// Reads a file of key and chain; also says when it is to be renewed.
fn read_own(pem: &[u8]) -> Result<(Current, Timestamp), String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    let chain =
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let leaf = chain.first().ok_or("there is no certificate in it")?;
    let leaf = Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let (from, to) = (leaf.validity().not_before(), leaf.validity().not_after());
    let left = to.since(from) / RENEW_AT;
    let shown = Shown { own: true, names: leaf.names().iter().map(ToString::to_string).collect(), not_after: Some(to) };
    Ok((Current { key: certified(chain, key)?, shown }, to.before(left)))
}

/// Reads files that someone else renews.
fn brought(certificate: &Path, key: &Path, signing: &SigningKeys) -> Result<Current, TlsError> {
    use std::os::unix::fs::MetadataExt as _;
    let wrong = |path: &Path, why: String| TlsError::Brought { path: path.to_owned(), why };
    let mode = fs::metadata(key).map_err(|error| wrong(key, error.to_string()))?.mode() & 0o7777;
    // The group may read it, as Kubernetes mounts secrets.
    if mode & 0o027 != 0 {
        return Err(TlsError::Exposed { path: key.to_owned(), mode });
    }
    let pem = Zeroizing::new(fs::read(key).map_err(|error| wrong(key, error.to_string()))?);
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(key, error.to_string()))?;
    let pem = fs::read(certificate).map_err(|error| wrong(certificate, error.to_string()))?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(certificate, error.to_string()))?;
    let leaf = chain.first().ok_or_else(|| wrong(certificate, "there is no certificate in it".to_owned()))?;
    let leaf = Certificate::from_der(leaf).ok();
    let shown = Shown {
        own: false,
        names: leaf.as_ref().map_or_else(
            || vec![certificate.display().to_string()],
            |leaf| leaf.names().iter().map(ToString::to_string).collect(),
        ),
        not_after: leaf.map(|leaf| leaf.validity().not_after()),
    };
    let certified = certified(chain, private).map_err(|why| wrong(certificate, why))?;
    let spki = certified.key.public_key().ok_or_else(|| wrong(key, "its public key cannot be told".to_owned()))?;
    signing.leave_out(key, &spki)?;
    Ok(Current { key: certified, shown })
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>, String> {
    let certified = CertifiedKey::from_der(chain, key, &crypto()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "certificate and key do not belong together".to_owned(),
        other => other.to_string(),
    })?;
    Ok(Arc::new(certified))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use chancery_authority::{Limits, office::Hold, records::Job};
    use chancery_testkit::{
        memory::{Commit, Failing},
        office::{TestOffice, names_of},
    };

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const POLICY: &str =
        "version: v1\nrules:\n  - name: own\n    allow: { names: [\"**.test\"] }\n    for: { door: own-tls }\n";

    /// An office whose policy lets the server have names below `test`, and a keeper with a folder.
    fn keeper() -> (TestOffice, Keeper, tempfile::TempDir) {
        let (ca, folder) = (TestOffice::new(POLICY, Limits::default()), tempfile::tempdir().unwrap());
        let keeper = Keeper::of(ca.office.clone(), folder.path(), own());
        (ca, keeper, folder)
    }

    fn own() -> Tls {
        Tls::Own { names: names_of(&["ca.test"]), authority: "issuing".parse().unwrap(), profile: "server".to_owned() }
    }

    /// A certificate of somebody else's, in files.
    fn foreign(folder: &Path) -> Tls {
        let (certificate, key) = (folder.join("brought.pem"), folder.join("brought.key"));
        let pair = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&pair).unwrap();
        fs::write(&certificate, made.pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        Tls::Brought { certificate, key }
    }

    fn renewals(jobs: &[Job]) -> Vec<Timestamp> {
        jobs.iter().filter(|job| job.kind == JobKind::RenewOwnTls).map(|job| job.due).collect()
    }

    #[tokio::test]
    async fn a_renewal_that_is_owed_ends_once_a_certificate_is_brought() {
        let (ca, keeper, folder) = keeper();
        keeper.take(own()).await.unwrap();
        let [due] = *renewals(&ca.store.jobs()) else { panic!("a renewal is owed") };
        keeper.take(foreign(folder.path())).await.unwrap();
        ca.clock.set(due);
        keeper.renew().await.unwrap();
        assert_eq!(renewals(&ca.store.jobs()), []);
        assert!(!keeper.served.shown().unwrap().own);
    }

    #[tokio::test]
    async fn a_kept_certificate_is_served_to_its_end_where_no_new_one_can_be_issued_and_its_renewal_is_owed() {
        let (ca, keeper, folder) = keeper();
        keeper.take(own()).await.unwrap();
        let first = keeper.served.shown().unwrap();
        // As a start on a full disk finds it, in its last third.
        let now = first.not_after.unwrap().before(DAY);
        ca.clock.set(now);
        ca.office.hold(Hold::Unrecorded, "the disk is full");
        let started = Keeper::of(ca.office.clone(), folder.path(), own());
        started.take(own()).await.unwrap();
        assert_eq!(started.served.shown().unwrap(), first);
        assert_eq!(renewals(&ca.store.jobs()), [now]);
        started.renew().await.unwrap_err();
        ca.office.lift(Hold::Unrecorded);
        started.renew().await.unwrap();
        assert!(started.served.shown().unwrap().not_after > first.not_after);
        assert!(renewals(&ca.store.jobs())[0] > now);
        // What has ended serves nobody.
        ca.clock.advance(DAY * 365);
        ca.office.hold(Hold::Unrecorded, "the disk is full");
        let late = Keeper::of(ca.office.clone(), folder.path(), own());
        assert!(late.take(own()).await.unwrap_err().to_string().contains("the disk is full"));
    }

    #[tokio::test]
    async fn a_kept_certificate_in_its_last_third_is_renewed_by_a_start_that_can() {
        let (ca, keeper, folder) = keeper();
        keeper.take(own()).await.unwrap();
        let end = keeper.served.shown().unwrap().not_after.unwrap();
        ca.clock.set(end.before(DAY));
        let started = Keeper::of(ca.office.clone(), folder.path(), own());
        started.take(own()).await.unwrap();
        assert!(started.served.shown().unwrap().not_after.unwrap() > end);
    }

    #[tokio::test]
    async fn a_renewal_under_way_does_not_undo_a_reload() {
        let (ca, keeper, folder) = keeper();
        keeper.take(own()).await.unwrap();
        let [due] = *renewals(&ca.store.jobs()) else { panic!("a renewal is owed") };
        ca.clock.set(due);
        ca.store.fail_next(Commit::Intent, Failing::Late);
        let (renewed, taken) = tokio::join!(keeper.renew(), keeper.take(foreign(folder.path())));
        renewed.unwrap();
        taken.unwrap();
        assert!(!keeper.served.shown().unwrap().own, "what was asked for last is served");
    }

    #[test]
    fn a_brought_key_that_signs_certificates_or_checkpoints_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let Tls::Brought { certificate, key } = foreign(folder.path()) else { panic!("it is brought") };
        let made = CertificateDer::from_pem_slice(&fs::read(&certificate).unwrap()).unwrap();
        let own = PublicKey::from_spki(Certificate::from_der(&made).unwrap().spki()).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::CertificateParams::new(vec!["other".to_owned()]).unwrap().self_signed(&other).unwrap();
        let other = PublicKey::from_spki(Certificate::from_der(other.der()).unwrap().spki()).unwrap();
        let signing = |what, key: &PublicKey| SigningKeys(vec![(what, PathBuf::from("keys/one.key"), key.clone())]);
        brought(&certificate, &key, &signing("issuing", &other)).unwrap();
        for what in ["issuing", "ledger's"] {
            let error = brought(&certificate, &key, &signing(what, &own)).unwrap_err().to_string();
            assert!(error.contains(&format!("is the {what} key (keys/one.key)")), "{error}");
            assert!(error.contains("bring another key"), "{error}");
        }
    }
}
