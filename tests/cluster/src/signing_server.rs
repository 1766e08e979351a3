//! A server that speaks the wire of `/api/v1` and does what a test says: slow, busy, lying.
//!
//! It keeps what it signed by UID, as the real one does, so that a test sees whether anybody asked for a second
//! certificate. It runs on a thread of its own and outlives the async runtime of any one test.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use chancery_api::{
    ErrorBody, RefusalReason, RequestKind, RevokeRequest, SignedCertificate, SignerInfo, SignerProfile, SigningRequest,
    SigningState, UsageReport,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls_pki_types::PrivateKeyDer;
use tokio::{net::TcpListener, sync::Notify};
use tokio_rustls::TlsAcceptor;

use crate::{Result, until};

/// What the server does with the next requests for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Signs.
    Sign,
    /// Signs, and answers only when told to.
    Hold,
    /// Answers with a status and no more.
    Status(u16),
    /// Says that it will take a while.
    Pending,
    /// Refuses, with this message.
    Refuse(String),
    /// Refuses CSRs with this DNS name, and signs the others.
    RefuseNames(String),
    /// Signs somebody else's key.
    WrongKey,
    /// Signs for a time that is over.
    Expired,
    /// Signs by a clock that is so many seconds ahead, or behind.
    Shifted(i64),
    /// Sends a chain that does not lead to its root.
    ForeignChain,
    /// Sends a chain longer than cert-manager reads.
    TooLong,
    /// Adds a name.
    OtherNames,
    /// Sends what is no answer.
    Garbage,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

struct State {
    behaviour: Behaviour,
    tokens: BTreeSet<String>,
    profiles: Vec<String>,
    asked: Vec<SigningRequest>,
    /// What was asked first for each UID.
    first: BTreeMap<String, SigningRequest>,
    issued: BTreeMap<String, SignedCertificate>,
    revoked: Vec<(String, Option<u64>)>,
    used: Vec<(String, Vec<String>)>,
    checks: usize,
    turned_away: usize,
    redirect: Option<String>,
    /// What it tells of its roots; none, its one root.
    roots: Option<String>,
    backdate_s: u64,
}

/// See the module.
pub struct SigningServer {
    address: SocketAddr,
    authority: Arc<Authorities>,
    state: Arc<Mutex<State>>,
    released: Arc<Notify>,
    changed: Arc<Notify>,
}

struct Authorities {
    root: Authority,
    middle: Authority,
    foreign: Authority,
}

impl SigningServer {
    /// Starts a server that knows this token.
    pub fn start(token: &str) -> Result<Self> {
        let root = CertifiedIssuer::self_signed(ca("Test Root"), KeyPair::generate()?)?;
        let middle = CertifiedIssuer::signed_by(ca("Test Issuing"), KeyPair::generate()?, &root)?;
        let foreign = CertifiedIssuer::self_signed(ca("Test Foreign"), KeyPair::generate()?)?;
        let authority = Arc::new(Authorities { root, middle, foreign });
        let state = Arc::new(Mutex::new(State {
            behaviour: Behaviour::Sign,
            tokens: BTreeSet::from([token.to_owned()]),
            profiles: vec!["server".to_owned()],
            asked: Vec::new(),
            first: BTreeMap::new(),
            issued: BTreeMap::new(),
            revoked: Vec::new(),
            used: Vec::new(),
            checks: 0,
            turned_away: 0,
            redirect: None,
            roots: None,
            backdate_s: 60,
        }));
        let (released, changed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &authority.root)?.der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der())?)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let serving = Serving {
            authority: Arc::clone(&authority),
            state: Arc::clone(&state),
            released: Arc::clone(&released),
            changed: Arc::clone(&changed),
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(serving.accept(listener, acceptor));
            }
        });
        Ok(Self { address, authority, state, released, changed })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate that clients of it trust, and the root of what it signs, in PEM.
    #[must_use]
    pub fn root(&self) -> String {
        self.authority.root.pem()
    }

    /// What it does from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state().behaviour = behaviour;
    }

    /// Lets what is held go on.
    pub fn release(&self) {
        self.released.notify_waiters();
    }

    /// From now on only this token is good.
    pub fn only_token(&self, token: &str) {
        self.state().tokens = BTreeSet::from([token.to_owned()]);
    }

    /// Tells of these roots, in PEM.
    pub fn tell_roots(&self, roots: &str) {
        self.state().roots = Some(roots.to_owned());
    }

    /// Says that certificates begin this long before they are issued.
    pub fn backdate(&self, seconds: u64) {
        self.state().backdate_s = seconds;
    }

    /// Sends whoever asks elsewhere.
    pub fn redirect(&self, location: Option<String>) {
        self.state().redirect = location;
    }

    /// The requests for certificates that it has seen.
    #[must_use]
    pub fn asked(&self) -> Vec<SigningRequest> {
        self.state().asked.clone()
    }

    /// The requests for one UID.
    #[must_use]
    pub fn asked_for(&self, uid: &str) -> usize {
        self.state().asked.iter().filter(|request| request.uid == uid).count()
    }

    /// Waits until it was asked so often for this UID.
    pub async fn until_asked(&self, uid: &str, times: usize) -> Result<()> {
        self.until(&format!("{times} requests for {uid}"), |server| server.asked_for(uid) >= times).await
    }

    /// What it has signed, by UID.
    #[must_use]
    pub fn issued(&self) -> BTreeMap<String, SignedCertificate> {
        self.state().issued.clone()
    }

    /// Where it was told that certificates are used, by UID of their requests.
    #[must_use]
    pub fn used(&self) -> Vec<(String, Vec<String>)> {
        self.state().used.clone()
    }

    /// What it was told to revoke.
    #[must_use]
    pub fn revoked(&self) -> Vec<(String, Option<u64>)> {
        self.state().revoked.clone()
    }

    /// How often it turned away somebody who wanted more than to know how it is.
    #[must_use]
    pub fn turned_away(&self) -> usize {
        self.state().turned_away
    }

    /// How often it was asked how it is.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.state().checks
    }

    /// Waits until it has seen what is wanted: at most [`until::LIMIT`].
    pub async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) -> Result<()> {
        let seen = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // From now on no change is missed.
                changed.as_mut().enable();
                if wanted(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(until::LIMIT, seen).await.map_err(|_| {
            let (asked, revoked) = (self.asked().len(), self.revoked());
            let checks = self.checks();
            format!(
                "the server waited {} s for {what}; it has seen {asked} requests, {checks} checks, and revoked {revoked:?}",
                until::LIMIT.as_secs()
            )
            .into()
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Serving {
    authority: Arc<Authorities>,
    state: Arc<Mutex<State>>,
    released: Arc<Notify>,
    changed: Arc<Notify>,
}

impl Serving {
    async fn accept(self, listener: std::net::TcpListener, acceptor: TlsAcceptor) {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        while let Ok((stream, _)) = listener.accept().await {
            let (serving, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| {
                    let serving = serving.clone();
                    async move { Ok::<_, Infallible>(serving.answer(request).await) }
                });
                let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if let Some(location) = self.state().redirect.clone() {
            let answer = Response::builder().status(StatusCode::TEMPORARY_REDIRECT).header("location", location);
            return answer.body(Full::default()).unwrap_or_default();
        }
        let token =
            request.headers().get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if !token.is_some_and(|token| self.state().tokens.contains(token)) {
            if request.method() == Method::POST {
                self.state().turned_away += 1;
                self.changed.notify_waiters();
            }
            return refused(StatusCode::UNAUTHORIZED, "the token is not known");
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        let path: Vec<&str> = head.uri.path().trim_start_matches("/api/v1/").split('/').collect();
        if let ["signing-requests", _kind, uid, ..] = path.as_slice() {
            // As the real one: a UID is one of the namespace that it was asked for in.
            let asked_in = self.state().first.get(*uid).map(|first| first.origin.namespace.clone());
            let namespace = head.uri.query().and_then(|query| query.strip_prefix("namespace="));
            if asked_in.is_some_and(|asked_in| asked_in.as_deref() != namespace) {
                return refused(StatusCode::NOT_FOUND, "it was asked for in another namespace");
            }
        }
        match (&head.method, path.as_slice()) {
            (&Method::GET, ["signer"]) => {
                let mut state = self.state();
                state.checks += 1;
                self.changed.notify_waiters();
                let roots = state.roots.clone().unwrap_or_else(|| self.authority.root.pem());
                json(&info(&state.profiles, &roots, state.backdate_s))
            }
            (&Method::POST, ["signing-requests"]) => match serde_json::from_slice(&body) {
                Ok(asked) => self.sign(asked).await,
                Err(error) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
            },
            (&Method::GET, ["signing-requests", _kind, uid]) => {
                let first = self.state().first.get(*uid).cloned();
                match first {
                    Some(first) => self.sign(first).await,
                    None => refused(StatusCode::NOT_FOUND, "it was never asked for"),
                }
            }
            (&Method::POST, ["signing-requests", _kind, uid, "usage"]) => {
                if let Ok(report) = serde_json::from_slice::<UsageReport>(&body) {
                    self.state().used.push(((*uid).to_owned(), report.used_by));
                    self.changed.notify_waiters();
                }
                Response::builder().status(StatusCode::NO_CONTENT).body(Full::default()).unwrap_or_default()
            }
            (&Method::POST, ["signing-requests", kind, uid, "revoke"]) => {
                // As the real one: kind and UID together name a request.
                if self.state().first.get(*uid).is_none_or(|first| first.kind.as_str() != *kind) {
                    return refused(StatusCode::NOT_FOUND, "it was never asked for");
                }
                let reason = serde_json::from_slice::<RevokeRequest>(&body).ok().and_then(|request| request.reason);
                self.state().revoked.push(((*uid).to_owned(), reason));
                self.changed.notify_waiters();
                Response::builder().status(StatusCode::NO_CONTENT).body(Full::default()).unwrap_or_default()
            }
            _ => refused(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }

    async fn sign(&self, asked: SigningRequest) -> Response<Full<Bytes>> {
        // From now on no release is missed.
        let released = self.released.notified();
        tokio::pin!(released);
        released.as_mut().enable();
        let (behaviour, first) = {
            let mut state = self.state();
            state.asked.push(asked.clone());
            let first = state.first.entry(asked.uid.clone()).or_insert_with(|| asked.clone()).clone();
            (state.behaviour.clone(), first)
        };
        self.changed.notify_waiters();
        // As the real one: a UID stands for what was asked for under it first.
        let what = |of: &SigningRequest| (of.names.clone(), of.profile.clone(), of.lifetime_s);
        if what(&first) != what(&asked) {
            let message = "other names, another profile or lifetime were asked for".to_owned();
            return json(&SigningState::Refused { reason: RefusalReason::OtherRequest, message, rule: None });
        }
        match &behaviour {
            Behaviour::Status(status) => {
                return refused(StatusCode::from_u16(*status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), "as told");
            }
            Behaviour::Pending => {
                let message = "an approver has to look at it".to_owned();
                return json(&SigningState::Pending { retry_after_s: 1, message });
            }
            Behaviour::Refuse(message) => {
                let (reason, message) = (RefusalReason::Policy, message.clone());
                return json(&SigningState::Refused { reason, message, rule: Some("no-such-names".to_owned()) });
            }
            Behaviour::RefuseNames(name) if holds(&asked.csr, name) => {
                let (reason, message) = (RefusalReason::Policy, format!("{name} is refused"));
                return json(&SigningState::Refused { reason, message, rule: Some("no-such-names".to_owned()) });
            }
            Behaviour::Garbage => return json(&"garbage"),
            _ => {}
        }
        let known = self.state().issued.get(&asked.uid).cloned();
        let signed = match known {
            Some(signed) => signed,
            None => match self.certificate(&asked, &behaviour) {
                Ok(signed) => {
                    self.state().issued.insert(asked.uid.clone(), signed.clone());
                    self.changed.notify_waiters();
                    signed
                }
                Err(error) => return refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            },
        };
        if behaviour == Behaviour::Hold {
            released.await;
        }
        json(&SigningState::Issued(signed))
    }

    fn certificate(&self, asked: &SigningRequest, behaviour: &Behaviour) -> Result<SignedCertificate> {
        let mut csr = CertificateSigningRequestParams::from_pem(&asked.csr)?;
        let now = now();
        let life = Duration::from_secs(asked.lifetime_s.unwrap_or(3600));
        let minute = Duration::from_secs(60);
        let now = match behaviour {
            Behaviour::Shifted(by) if *by < 0 => now - Duration::from_secs(by.unsigned_abs()),
            Behaviour::Shifted(by) => now + Duration::from_secs(by.unsigned_abs()),
            _ => now,
        };
        csr.params.not_before = (now - minute).into();
        csr.params.not_after = (now + life).into();
        csr.params.use_authority_key_identifier_extension = true;
        match asked.kind {
            RequestKind::CertificateRequest => {}
            RequestKind::CertificateSigningRequest => as_asked(&mut csr.params, asked),
            RequestKind::PodCertificateRequest => {
                csr.params.not_after = (now - minute + life - Duration::from_secs(1)).into();
                csr.params.distinguished_name = DistinguishedName::new();
                let uri = |name: &String| Ok(SanType::URI(name.as_str().try_into()?));
                csr.params.subject_alt_names = asked.names.iter().map(uri).collect::<Result<_>>()?;
            }
        }
        if *behaviour == Behaviour::Expired {
            csr.params.not_before = (now - life - minute).into();
            csr.params.not_after = (now - minute).into();
        }
        if *behaviour == Behaviour::OtherNames {
            csr.params.subject_alt_names.push(SanType::DnsName("evil.example".try_into()?));
        }
        let middle = &self.authority.middle;
        let leaf = match behaviour {
            Behaviour::WrongKey => csr.params.signed_by(&KeyPair::generate()?, middle)?,
            Behaviour::ForeignChain => csr.params.signed_by(&csr.public_key, &self.authority.foreign)?,
            _ => csr.params.signed_by(&csr.public_key, middle)?,
        };
        let above = if *behaviour == Behaviour::TooLong { middle.pem().repeat(200) } else { middle.pem() };
        Ok(SignedCertificate {
            id: asked.uid.clone(),
            serial: "00".to_owned(),
            chain: format!("{}{above}", leaf.pem()),
            root: self.authority.root.pem(),
            not_before: String::new(),
            not_after: String::new(),
            warnings: Vec::new(),
        })
    }
}

/// Whether a CSR asks for this DNS name.
fn holds(csr: &str, name: &str) -> bool {
    CertificateSigningRequestParams::from_pem(csr).is_ok_and(|csr| {
        csr.params.subject_alt_names.iter().any(|one| matches!(one, SanType::DnsName(dns) if dns.as_str() == name))
    })
}

/// What the object says beside the CSR.
fn as_asked(params: &mut CertificateParams, asked: &SigningRequest) {
    params.is_ca = if asked.is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
    params.key_usages.clear();
    params.extended_key_usages.clear();
    for usage in &asked.usages {
        match usage.as_str() {
            "digital signature" => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
            "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
            "cert sign" => params.key_usages.push(KeyUsagePurpose::KeyCertSign),
            "server auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
            "client auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
            _ => {}
        }
    }
}

fn info(profiles: &[String], roots: &str, backdate_s: u64) -> SignerInfo {
    let profile = |name: &String| SignerProfile {
        name: name.clone(),
        keys: ["rsa2048", "rsa3072", "p256", "p384", "ed25519"].map(str::to_owned).to_vec(),
        lifetime_s: 90 * 24 * 3600,
        lifetime_min_s: 60,
        lifetime_max_s: 365 * 24 * 3600,
        backdate_s: Some(backdate_s),
    };
    SignerInfo {
        cluster: "tests".to_owned(),
        namespaces: None,
        profiles: profiles.iter().map(profile).collect(),
        roots: roots.to_owned(),
        not_issuing: Vec::new(),
        now: String::new(),
    }
}

fn json(body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    Response::builder().header("content-type", "application/json").body(Full::from(body)).unwrap_or_default()
}

fn refused(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let body = ErrorBody { code: "as-told".to_owned(), message: message.to_owned() };
    let mut answer = json(&body);
    *answer.status_mut() = status;
    answer
}

#[expect(clippy::disallowed_methods, reason = "what is signed here is held against the controller's real clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    params
}
