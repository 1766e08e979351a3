//! The client over HTTPS: one or more servers, the first that answers is asked.
//!
//! It follows no redirect, reads a bounded answer in bounded time, and remembers for a short while which server did
//! not answer. It never retries by itself beyond trying the next server: whoever calls it knows when to ask again.
//! Servers of one list must share their records: what one has signed the other must know.

mod connector;
mod error;
mod tls;

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chancery_egress::Dialer;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use secrecy::ExposeSecret as _;
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::time::Instant;
use url::Url;

pub use error::{RemoteError, RemoteSetupError};
pub use tls::{Credential, Roots};

use self::{
    connector::Connector,
    error::{Words, words},
};
use crate::{
    ErrorBody, RequestRef, RevokeRequest, SignerInfo, SigningRequest, SigningState, UsageReport, client::path_segment,
};

/// Most servers that are tried.
pub const SERVERS_MAX: usize = 8;
/// Longest answer that is read, in octets: a chain of 95,000 octets, a root, and some words.
const ANSWER_MAX: usize = 512 << 10;
/// Longest answer that is read where it is no success, in octets.
const REFUSAL_MAX: usize = 16 << 10;
/// For how long a server that did not answer is tried last.
const DOWN_FOR: Duration = Duration::from_secs(15);
/// Longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Idle connections that are kept to each server.
const IDLE_MAX: usize = 16;

/// Whom to ask, whom to trust, who asks.
#[derive(Debug, Clone)]
pub struct RemoteSettings {
    /// The servers' URLs, tried in this order; `https` only. A path is put in front of `/api/v1`.
    pub servers: Vec<Url>,
    /// Whom to trust.
    pub roots: Roots,
    /// What proves who asks.
    pub credential: Credential,
    /// Longest that dialling may take.
    pub connect_timeout: Duration,
    /// Longest that one server may take to answer.
    pub timeout: Duration,
}

/// Asks Chancery servers over HTTPS.
pub struct RemoteClient {
    http: legacy::Client<HttpsConnector<Connector>, Full<Bytes>>,
    servers: Vec<Server>,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

struct Server {
    /// Ends without a slash.
    base: String,
    /// Host and port, for people.
    name: String,
    down_until: Mutex<Option<Instant>>,
}

impl fmt::Debug for RemoteClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.servers.iter().map(|server| &server.name);
        f.debug_struct("RemoteClient").field("servers", &servers.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl RemoteClient {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`RemoteSetupError`], in words for whoever wrote the settings.
    pub fn new(settings: &RemoteSettings, dialer: Dialer) -> Result<Self, RemoteSetupError> {
        let count = settings.servers.len();
        if count == 0 || count > SERVERS_MAX {
            return Err(RemoteSetupError::Servers { count, max: SERVERS_MAX });
        }
        let servers = settings.servers.iter().map(Server::new).collect::<Result<_, _>>()?;
        let tls = tls::client_config(&settings.roots, &settings.credential)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_all_versions()
            .wrap_connector(Connector { dialer, timeout: settings.connect_timeout });
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(IDLE_MAX)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .build(connector);
        let authorization = match &settings.credential {
            Credential::Token(token) => Some(bearer(token.expose_secret())?),
            Credential::Certificate { .. } => None,
        };
        Ok(Self { http, servers, authorization, timeout: settings.timeout })
    }

    /// Asks for a certificate. Asked again with the same kind and UID, the answer holds the same certificate.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] as for every call: that of the last server that was tried.
    pub async fn sign(&self, request: &SigningRequest) -> Result<SigningState, RemoteError> {
        self.post("/signing-requests", request).await
    }

    /// What has become of a request.
    ///
    /// # Errors
    ///
    /// [`RemoteError::NotFound`] if the server has never heard of it.
    pub async fn signing_state(&self, named: RequestRef<'_>) -> Result<SigningState, RemoteError> {
        self.call(Method::GET, &request_path(named, ""), Bytes::new()).await
    }

    /// Reports where a certificate is used.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] as for every call.
    pub async fn report_usage(&self, named: RequestRef<'_>, report: &UsageReport) -> Result<(), RemoteError> {
        self.post::<IgnoredAny>(&request_path(named, "/usage"), report).await.map(|IgnoredAny| ())
    }

    /// Revokes what was issued for a request; a second time changes nothing.
    ///
    /// # Errors
    ///
    /// [`RemoteError::NotFound`] if nothing was issued for it.
    pub async fn revoke(&self, named: RequestRef<'_>, request: &RevokeRequest) -> Result<(), RemoteError> {
        self.post::<IgnoredAny>(&request_path(named, "/revoke"), request).await.map(|IgnoredAny| ())
    }

    /// What the credential may ask for, and whether it would get it now.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] as for every call.
    pub async fn signer(&self) -> Result<SignerInfo, RemoteError> {
        self.call(Method::GET, "/signer", Bytes::new()).await
    }

    async fn post<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A, RemoteError> {
        let body = serde_json::to_vec(body).map_err(|error| RemoteError::Unreadable {
            server: "what is to be sent".to_owned(),
            why: error.to_string(),
        })?;
        self.call(Method::POST, path, body.into()).await
    }

    /// Asks one server after the other, those that did not answer lately last.
    async fn call<A: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<A, RemoteError> {
        let now = Instant::now();
        let (up, down): (Vec<_>, Vec<_>) = self.servers.iter().partition(|server| !server.is_down(now));
        let mut last = None;
        for server in up.into_iter().chain(down) {
            match self.ask(server, method.clone(), path, body.clone()).await {
                Ok(answer) => {
                    server.mark(None);
                    return Ok(answer);
                }
                Err(error) => {
                    server.mark(error.marks_down().then(|| Instant::now() + DOWN_FOR));
                    if !error.may_differ_elsewhere() {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| RemoteError::Unreachable {
            server: "no server".to_owned(),
            why: "none is configured".to_owned(),
        }))
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        server: &Server,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<A, RemoteError> {
        let name = &server.name;
        let asked = tokio::time::timeout(self.timeout, self.exchange(server, method, path, body));
        asked.await.unwrap_or_else(|_| {
            let why = format!("it did not answer within {} s", self.timeout.as_secs());
            Err(RemoteError::Unreachable { server: name.clone(), why })
        })
    }

    async fn exchange<A: DeserializeOwned>(
        &self,
        server: &Server,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<A, RemoteError> {
        let name = &server.name;
        let unreadable = |why: String| RemoteError::Unreadable { server: name.clone(), why: words(&why) };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1{path}", server.base))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("chancery/", env!("CARGO_PKG_VERSION")));
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body)).map_err(|error| unreadable(error.to_string()))?;
        let answer = self.http.request(request).await.map_err(|error| RemoteError::of_transport(name, &error))?;
        let (head, body) = answer.into_parts();
        let limit = if head.status.is_success() { ANSWER_MAX } else { REFUSAL_MAX };
        let read = Limited::new(body, limit).collect().await;
        if head.status.is_success() {
            let octets = match read {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    return Err(unreadable(format!("it is longer than {limit} octets")));
                }
                Err(error) => return Err(RemoteError::of_transport(name, &*error)),
            };
            // 204 has no octets. The parser's message names place and kind, never the text: a proxy's page shows nowhere.
            let octets: &[u8] = if octets.is_empty() { b"null" } else { &octets };
            return serde_json::from_slice(octets).map_err(|error| unreadable(error.to_string()));
        }
        // A refusal without words is still one.
        let said = read.ok().and_then(|body| serde_json::from_slice::<ErrorBody>(&body.to_bytes()).ok());
        let said = said.map_or_else(
            || Words { code: "none".to_owned(), message: format!("status {}", head.status) },
            |body| Words { code: words(&body.code), message: words(&body.message) },
        );
        let retry_after = head
            .headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(|seconds: u64| Duration::from_secs(seconds.max(1)).min(RETRY_AFTER_MAX));
        Err(RemoteError::of_status(name, head.status, retry_after, said))
    }
}

impl Server {
    fn new(url: &Url) -> Result<Self, RemoteSetupError> {
        let shown = || {
            let mut shown = url.clone();
            let _no_host = shown.set_username("").and_then(|()| shown.set_password(None));
            shown.set_query(None);
            shown.to_string()
        };
        let unusable = |why| RemoteSetupError::Url { url: shown(), why };
        if url.scheme() != "https" {
            return Err(unusable("only https is spoken"));
        }
        let Some(host) = url.host_str() else { return Err(unusable("it names no host")) };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable("it holds a user or a password; credentials are configured apart"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(unusable("it holds a query or a fragment"));
        }
        let port = url.port_or_known_default().unwrap_or(443);
        Ok(Self {
            base: url.as_str().trim_end_matches('/').to_owned(),
            name: format!("{host}:{port}"),
            down_until: Mutex::new(None),
        })
    }

    fn is_down(&self, now: Instant) -> bool {
        self.down_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| until > now)
    }

    fn mark(&self, down_until: Option<Instant>) {
        *self.down_until.lock().unwrap_or_else(PoisonError::into_inner) = down_until;
    }
}

fn bearer(token: &str) -> Result<HeaderValue, RemoteSetupError> {
    // Secrets are often made by commands that end in a newline.
    let token = token.trim();
    if token.is_empty() {
        return Err(RemoteSetupError::Token);
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| RemoteSetupError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// UIDs and namespaces are the API server's; what is none is encoded, so that it cannot lead elsewhere.
fn request_path(named: RequestRef<'_>, tail: &str) -> String {
    let RequestRef { kind, namespace, uid } = named;
    let path = format!("/signing-requests/{}/{}{tail}", kind.as_str(), path_segment(uid));
    match namespace {
        None => path,
        Some(namespace) => format!("{path}?namespace={}", path_segment(namespace)),
    }
}

#[cfg(test)]
mod tests;
