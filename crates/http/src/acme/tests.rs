//! The ACME routes against a whole authority in memory: each test is a rule of RFC 8555, named in
//! words. [`Door::send`] checks on every answer what every answer must have.

mod accounts;
mod certificates;
mod eab;
mod hostile;
mod orders;
mod renewal_info;
mod transport;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use axum::body::Body;
use chancery_acme::urls::Urls;
use chancery_authority::{Authority, Directory, Limits, Settings, ports::Signer as _};
use chancery_pki::{
    SerialNumber,
    ceremony::development_root,
    chain::install,
    distinguished_name::{Attribute, AttributeKind, DistinguishedName},
    profile::{NameKind, Profile, ProfileSpec},
};
use chancery_testkit::{
    office::{ISSUER_LIFE, POLICY, TestOffice, csr},
    ports::TestClock,
};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{AcmeSettings, AcmeState, ClientAddress, RateLimits, router};
use crate::{acme::testing::ClientKey, metrics::Metrics};

const EXTERNAL: &str = "https://ca.example:14000";

/// An authority with its ACME door.
struct Door {
    test: TestOffice,
    router: axum::Router,
    metrics: Arc<Metrics>,
    urls: Urls,
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A client with a key, an account if it registered, and its last nonce.
struct Client<'a> {
    door: &'a Door,
    key: ClientKey,
    kid: Option<String>,
    nonce: Mutex<Option<String>>,
}

fn unlimited() -> AcmeSettings {
    AcmeSettings { rates: RateLimits::NONE, ..AcmeSettings::at(EXTERNAL) }
}

impl Door {
    fn new() -> Self {
        Self::with(unlimited(), Limits::default())
    }

    fn with(settings: AcmeSettings, limits: Limits) -> Self {
        Self::over(TestOffice::new(POLICY, limits), settings)
    }

    fn over(test: TestOffice, settings: AcmeSettings) -> Self {
        let metrics = Arc::new(Metrics::new());
        let router = router(AcmeState::new(test.office.clone(), Arc::clone(&metrics), settings), axum::Router::new());
        Self { test, router, metrics, urls: Urls::new(EXTERNAL, "default") }
    }

    /// The same door with its directory changed, as a reload of the configuration does it.
    async fn reload(&self, change: impl FnOnce(&mut Directory)) {
        let old = self.test.office.settings();
        let mut directory = Directory::clone(&old.directories["default"]);
        change(&mut directory);
        self.put(&old, directory, old.authorities.clone()).await;
    }

    /// Gives the authority another chain: a certificate of its key under this name.
    async fn add_chain(&self, issuer: &str, serial: [u8; 16]) {
        let old = self.test.office.settings();
        let authority = &old.authorities[0];
        let key = self.test.signer.public_key(&authority.key).expect("a key");
        let name = Attribute::new(AttributeKind::CommonName, issuer).expect("a plain name");
        let serial = SerialNumber::from_random(serial);
        let name = DistinguishedName::new(vec![name]);
        let document = development_root(&name, &key, serial, TestClock::START, ISSUER_LIFE);
        let certificate = document.assemble(&self.test.signer.sign_directly(&authority.key.0, document.body()));
        let chain = install(&[certificate], &key, TestClock::START).expect("a chain");
        let authority = Authority {
            id: authority.id.clone(),
            key: authority.key.clone(),
            algorithm: authority.algorithm,
            chains: authority.chains.iter().cloned().chain([Arc::new(chain)]).collect(),
        };
        let directory = Directory::clone(&old.directories["default"]);
        self.put(&old, directory, vec![Arc::new(authority)]).await;
    }

    /// The same door with this profile in place of its only one.
    async fn put_profile(&self, profile: Profile) {
        let old = self.test.office.settings();
        let (directories, authorities) = (old.directories.clone(), old.authorities.clone());
        self.put_all(&old, directories, authorities, [("server".to_owned(), Arc::new(profile))].into()).await;
    }

    async fn put(&self, old: &Settings, directory: Directory, authorities: Vec<Arc<Authority>>) {
        let directories = [("default".to_owned(), Arc::new(directory))].into();
        self.put_all(old, directories, authorities, old.profiles.clone()).await;
    }

    async fn put_all(
        &self,
        old: &Settings,
        directories: BTreeMap<String, Arc<Directory>>,
        authorities: Vec<Arc<Authority>>,
        profiles: BTreeMap<String, Arc<Profile>>,
    ) {
        let settings = Settings {
            authorities,
            directories,
            clusters: old.clusters.clone(),
            profiles,
            policy: Arc::clone(&old.policy),
            block_list: Arc::clone(&old.block_list),
            own_tls: old.own_tls.clone(),
            ledger: old.ledger.clone(),
            limits: old.limits.clone(),
        };
        self.test.office.replace_settings(settings, "a test").await.expect("replaced");
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.expect("the router does not fail");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes().to_vec();
        let reply = Reply { status: parts.status, headers: parts.headers, body };
        reply.check_what_every_answer_has(&method, &path);
        reply
    }

    async fn get(&self, url: &str) -> Reply {
        self.plain(Method::GET, url).await
    }

    async fn plain(&self, method: Method, url: &str) -> Reply {
        let path = url.strip_prefix(EXTERNAL).expect("a URL of ours");
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
        self.send(request).await
    }

    /// Posts a body as it is.
    async fn post_raw(&self, url: &str, body: impl Into<Body>) -> Reply {
        let path = url.strip_prefix(EXTERNAL).expect("a URL of ours");
        let mut request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/jose+json")
            .header(header::HOST, "evil.example")
            .body(body.into())
            .expect("a request");
        request.extensions_mut().insert(ClientAddress(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
        self.send(request).await
    }

    async fn nonce(&self) -> String {
        let reply = self.plain(Method::HEAD, &self.urls.new_nonce()).await;
        reply.header("replay-nonce").expect("a nonce").to_owned()
    }

    /// A client without an account.
    fn stranger(&self) -> Client<'_> {
        Client { door: self, key: ClientKey::p256(), kid: None, nonce: Mutex::default() }
    }

    /// A client with an account.
    async fn client(&self) -> Client<'_> {
        self.client_with(ClientKey::p256()).await
    }

    async fn client_with(&self, key: ClientKey) -> Client<'_> {
        let mut client = Client { key, ..self.stranger() };
        let reply = client.post(&self.urls.new_account(), json!({"termsOfServiceAgreed": true})).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
        client.kid = Some(reply.location().to_owned());
        client
    }
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("visible"))
    }

    fn location(&self) -> &str {
        self.header("location").expect("a Location")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The targets of the links with this relation.
    fn links(&self, relation: &str) -> Vec<String> {
        let suffix = format!(">;rel=\"{relation}\"");
        let links = self.headers.get_all("link").iter().map(|link| link.to_str().expect("visible"));
        links.filter_map(|link| Some(link.strip_prefix('<')?.strip_suffix(&suffix)?.to_owned())).collect()
    }

    fn check_what_every_answer_has(&self, method: &Method, path: &str) {
        assert!(self.header("x-request-id").is_some_and(|id| id.len() == 22), "{self:?}");
        assert_eq!(self.header("access-control-allow-origin"), Some("*"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        if method == Method::POST {
            assert_eq!(self.header("replay-nonce").map(str::len), Some(40), "{self:?}");
        }
        if path.starts_with("/acme/default/") && !path.ends_with("/directory") {
            assert_eq!(self.links("index"), [format!("{EXTERNAL}/acme/default/directory")], "{self:?}");
        }
        if let Some(seconds) = self.header("retry-after") {
            assert!(seconds.parse::<u64>().expect("seconds") >= 1);
        }
        assert_ne!(self.status, StatusCode::INTERNAL_SERVER_ERROR, "{self:?}");
        if !self.status.is_success() {
            assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
            if method != Method::HEAD {
                let problem = self.json();
                assert_eq!(problem["status"], self.status.as_u16());
                let kind = problem["type"].as_str().expect("a type");
                let token = kind.strip_prefix("urn:ietf:params:acme:error:").expect("the namespace of the RFC");
                assert!(chancery_acme::problem::ProblemType::from_token(token).is_some(), "{kind}");
                assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{problem}");
                assert_eq!(problem.get("identifier"), None, "identifiers stand in subproblems alone");
            }
        }
    }

    /// That it is this problem; returns the document.
    #[track_caller]
    fn problem(&self, status: u16, kind: &str) -> Value {
        let problem = self.json();
        let expected = (status, format!("urn:ietf:params:acme:error:{kind}"));
        assert_eq!(
            (self.status.as_u16(), problem["type"].as_str().unwrap_or_default().to_owned()),
            expected,
            "{problem}"
        );
        problem
    }

    #[track_caller]
    fn is(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

impl Client<'_> {
    fn kid(&self) -> &str {
        self.kid.as_deref().expect("registered")
    }

    async fn nonce(&self) -> String {
        let kept = self.nonce.lock().expect("no panic").take();
        match kept {
            Some(nonce) => nonce,
            None => self.door.nonce().await,
        }
    }

    /// Signs and posts these payload octets; keeps the nonce of the answer.
    async fn post_octets(&self, url: &str, payload: &[u8]) -> Reply {
        let nonce = self.nonce().await;
        let reply = self.door.post_raw(url, self.key.jws(url, &nonce, self.kid.as_deref(), payload)).await;
        *self.nonce.lock().expect("no panic") = reply.header("replay-nonce").map(str::to_owned);
        reply
    }

    async fn post(&self, url: &str, payload: Value) -> Reply {
        self.post_octets(url, payload.to_string().as_bytes()).await
    }

    /// POST-as-GET.
    async fn read(&self, url: &str) -> Reply {
        self.post_octets(url, b"").await
    }

    /// Places an order for these DNS names; returns its URL and the order.
    async fn order(&self, names: &[&str]) -> (String, Value) {
        let identifiers: Vec<Value> = names.iter().map(|name| json!({"type": "dns", "value": name})).collect();
        let reply = self.post(&self.door.urls.new_order(), json!({"identifiers": identifiers})).await;
        let order = reply.is(201);
        (reply.location().to_owned(), order)
    }

    /// Answers the first challenge of every authorization of an order.
    async fn fulfil(&self, order: &Value) {
        for authorization in order["authorizations"].as_array().expect("a list") {
            let authorization = self.read(authorization.as_str().expect("a URL")).await.is(200);
            let challenge = authorization["challenges"][0]["url"].as_str().expect("a URL").to_owned();
            assert_eq!(self.post(&challenge, json!({})).await.is(200)["status"], "valid");
        }
    }

    /// An order that is ready.
    async fn ready_order(&self, names: &[&str]) -> (String, Value) {
        let (url, order) = self.order(names).await;
        self.fulfil(&order).await;
        let order = self.read(&url).await.is(200);
        assert_eq!(order["status"], "ready");
        (url, order)
    }

    async fn finalize(&self, order: &Value, csr: &[u8]) -> Reply {
        let csr = crate::acme::testing::b64(csr);
        self.post(order["finalize"].as_str().expect("a URL"), json!({"csr": csr})).await
    }

    /// A certificate for these names: its URL and its PEM.
    async fn certificate(&self, names: &[&str]) -> (String, String) {
        self.certificate_with(names, csr(names).der()).await
    }

    async fn certificate_with(&self, names: &[&str], csr: &[u8]) -> (String, String) {
        let (_, order) = self.ready_order(names).await;
        let order = self.finalize(&order, csr).await.is(200);
        let url = order["certificate"].as_str().expect("issued").to_owned();
        let reply = self.read(&url).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        (url, String::from_utf8(reply.body).expect("PEM"))
    }
}
