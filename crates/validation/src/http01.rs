//! http-01 (RFC 8555 §8.3), over HTTP/1.1.

use std::{collections::HashSet, net::SocketAddr, pin::pin};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use chancery_acme::{
    challenge::Token,
    problem::{Problem, ProblemType},
};
use chancery_egress::{Connection, DialError, Dialer, Host, LookupFailure, Origin};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use url::Url;

use crate::look::{Look, Miss};

/// Most redirects followed.
const REDIRECTS_MAX: usize = 10;
/// Longest body, in octets: a key authorization has 87, the rest may be white space.
const BODY_MAX: usize = 512;
/// Longest head of a response, in octets; the least that hyper's buffer can be.
const HEAD_MAX: usize = 8192;
/// Most header fields of a response.
const HEADERS_MAX: usize = 100;
/// Longest redirect target, in octets.
const LOCATION_MAX: usize = 2048;

const USER_AGENT: &str = concat!("chancery/", env!("CARGO_PKG_VERSION"), " (ACME http-01 validation)");

/// Fetches what lies at the token's path, and compares.
pub(crate) async fn look(
    dialer: &Dialer,
    connector: &TlsConnector,
    host: &Host,
    token: Token,
    key_authorization: &str,
    deadline: Instant,
) -> Look {
    let first = Url::parse(&format!("http://{host}/.well-known/acme-challenge/{token}"));
    let mut url = first.map_err(|_| Miss::wrong(format_args!("{host} cannot stand in a URL")))?;
    let target = Target::of(dialer, &url).map_err(|why| Miss::wrong(format_args!("{host} would be {why}")))?;
    let mut hop = Hop::first(host, target);
    let mut visited = HashSet::from([url.to_string()]);
    let mut peers: Vec<SocketAddr> = Vec::new();
    let body = loop {
        let connection = dial(dialer, &hop, deadline).await?;
        hop.peer = Some(connection.peer());
        peers.push(connection.peer());
        let asked = timeout_at(deadline, ask(connector, &hop, &url, connection)).await;
        let location = match asked.unwrap_or_else(|_| Err(hop.late()))? {
            Answer::Body(body) => break body,
            Answer::Redirect(location) => location,
        };
        if peers.len() > REDIRECTS_MAX {
            return Err(hop.wrong(&format!("redirects more than {REDIRECTS_MAX} times")));
        }
        url = follow(&hop, &url, &location)?;
        if !visited.insert(url.to_string()) {
            return Err(hop.wrong("redirects in a circle"));
        }
        hop = hop.onward(dialer, &url)?;
    };
    let body = body.trim_ascii_end();
    if verify_slices_are_equal(body, key_authorization.as_bytes()).is_ok() {
        let hops: Vec<_> = peers.iter().map(ToString::to_string).collect();
        return Ok(format!("key authorization served by {}", hops.join(", then ")));
    }
    let what = if body.is_empty() { "nothing" } else { "something else than this challenge's key authorization" };
    Err(match (hop.redirects, hop.peer) {
        (0, Some(peer)) => {
            Miss::wrong(format_args!("{host} ({peer}) served {what} at /.well-known/acme-challenge/{token}"))
        }
        _ => hop.wrong(&format!("served {what}")),
    })
}

/// Where a redirect leads.
pub(crate) fn follow(hop: &Hop<'_>, url: &Url, location: &str) -> Result<Url, Miss> {
    let mut url = url.join(location).map_err(|_| hop.wrong("redirects to something that is no URL"))?;
    url.set_fragment(None);
    Ok(url)
}

/// What to dial for a URL.
pub(crate) struct Target {
    pub(crate) https: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Target {
    /// `Err` says what it is instead.
    pub(crate) fn of(dialer: &Dialer, url: &Url) -> Result<Self, &'static str> {
        let https = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err("another scheme than http and https"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL with a user name");
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) => name.parse().map_err(|_| "something that is no host name")?,
            Some(url::Host::Ipv4(address)) => Host::from(std::net::IpAddr::V4(address)),
            Some(url::Host::Ipv6(address)) => Host::from(std::net::IpAddr::V6(address)),
            None => return Err("no host"),
        };
        let ports = dialer.zone_of(&host).ports();
        let port = if https { ports.https } else { ports.http };
        // The scheme's own port is never written out.
        if url.port().is_some_and(|written| written != port) {
            return Err("another port than 80 and 443");
        }
        Ok(Self { https, host, port })
    }
}

/// One request on the way.
pub(crate) struct Hop<'a> {
    /// Whose challenge it is.
    origin: &'a Host,
    target: Target,
    /// Where the origin was reached; unknown on the first hop.
    first: Option<SocketAddr>,
    /// Where this request's host was reached.
    peer: Option<SocketAddr>,
    /// How many redirects led here.
    redirects: usize,
}

impl<'a> Hop<'a> {
    pub(crate) const fn first(origin: &'a Host, target: Target) -> Self {
        Self { origin, target, first: None, peer: None, redirects: 0 }
    }

    /// The next one, which this one's redirect leads to.
    fn onward(self, dialer: &Dialer, url: &Url) -> Result<Self, Miss> {
        let target = Target::of(dialer, url).map_err(|why| self.wrong(&format!("redirects to {why}")))?;
        Ok(Self { target, first: self.first.or(self.peer), peer: None, redirects: self.redirects + 1, ..self })
    }

    /// Whether a redirect led to another host than the one whose challenge it is.
    fn is_elsewhere(&self) -> bool {
        self.target.host != *self.origin
    }

    /// Whom to speak of: the host that the client named and its address. Where a redirect led, and
    /// what is there, would be a map of what only the server can reach.
    fn subject(&self) -> String {
        let Self { origin, first, redirects, .. } = self;
        let peer = first.map(|peer| format!(" ({peer})")).unwrap_or_default();
        match redirects {
            0 => origin.to_string(),
            1 => format!("{origin}{peer}, after 1 redirect,"),
            several => format!("{origin}{peer}, after {several} redirects,"),
        }
    }

    /// What did not go well here. What another host does, a redirect's target, is for the operator's log alone; the
    /// client has one and the same sentence for all of it, and it is looked at again whatever it was: else sentences,
    /// counts and pauses would tell what there is in networks that the client cannot reach.
    fn missed(&self, transient: bool, kind: ProblemType, what: &str) -> Miss {
        if !self.is_elsewhere() {
            return Miss::of(transient, Problem::new(kind, format_args!("{} {what}", self.subject())));
        }
        let Self { origin, target: Target { host, port, .. }, first, peer, redirects } = self;
        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
        let problem = kind.token();
        tracing::debug!(name = %origin, redirects, %host, port, peer, problem, what, "nothing where a redirect led");
        let origin_peer = first.map(|peer| format!(" ({peer})")).unwrap_or_default();
        let told = "redirects to another host, where this challenge's key authorization is not found";
        Miss::Elsewhere(Problem::new(ProblemType::IncorrectResponse, format_args!("{origin}{origin_peer} {told}")))
    }

    /// A status that is not 200.
    fn status(&self, status: StatusCode) -> String {
        if self.redirects == 0 || self.is_elsewhere() {
            format!("answered with HTTP status {}, not 200", status.as_u16())
        } else {
            "answered with another HTTP status than 200".to_owned()
        }
    }

    /// A handshake that failed. Only redirects lead to TLS.
    fn unshaken(&self, error: &std::io::Error) -> Miss {
        // What the peer did wrong in TLS is final, a broken connection is not.
        let transient = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_none();
        self.missed(transient, ProblemType::Tls, "leads to a host with which a TLS handshake fails")
    }

    fn wrong(&self, what: &str) -> Miss {
        self.missed(false, ProblemType::IncorrectResponse, what)
    }

    fn broken(&self, what: &str) -> Miss {
        self.missed(true, ProblemType::Connection, what)
    }

    fn late(&self) -> Miss {
        if self.is_elsewhere() { self.broken("gave no complete answer in time") } else { Miss::late(self.origin) }
    }

    fn undialled(&self, error: DialError) -> Miss {
        if self.redirects == 0 {
            return error.into();
        }
        let transient = error.is_transient();
        let (kind, what) = match error {
            DialError::Busy { .. } => return Miss::Busy,
            // The address is the client's word, and whether it is dialled is the configuration's.
            DialError::Refused { .. } if self.redirects == 1 && matches!(self.target.host, Host::Ip(_)) => {
                let what = format_args!("{} leads to an address that is not dialled", self.subject());
                return Miss::of(transient, Problem::new(ProblemType::Connection, what));
            }
            DialError::Refused { .. } => (ProblemType::Connection, "leads to an address that is not dialled"),
            DialError::Lookup(error) => (
                ProblemType::Dns,
                match error.failure {
                    LookupFailure::NoSuchName | LookupFailure::NoRecords => "leads to a host that DNS does not know",
                    _ => "leads to a host that cannot be resolved",
                },
            ),
            DialError::Connect { .. } | DialError::Timeout { .. } => {
                (ProblemType::Connection, "leads to a host that cannot be reached")
            }
        };
        self.missed(transient, kind, what)
    }
}

pub(crate) enum Answer {
    Body(Vec<u8>),
    Redirect(String),
}

async fn dial(dialer: &Dialer, hop: &Hop<'_>, deadline: Instant) -> Result<Connection, Miss> {
    let Target { host, port, .. } = &hop.target;
    let dialled = match hop.first {
        None => dialer.dial(host, *port, deadline).await,
        Some(peer) => dialer.dial_onward(Origin { host: hop.origin, peer }, host, *port, deadline).await,
    };
    dialled.map_err(|error| hop.undialled(error))
}

/// Asks over a connection, by TLS where the URL says so.
async fn ask(connector: &TlsConnector, hop: &Hop<'_>, url: &Url, connection: Connection) -> Result<Answer, Miss> {
    let Target { https, host, .. } = &hop.target;
    let request = request(url, host).map_err(|_| hop.wrong("redirects to something that cannot be asked for"))?;
    if !https {
        return exchange(hop, connection, request).await;
    }
    let server_name = match host {
        Host::Name(name) => ServerName::try_from(name.to_string()).ok(),
        Host::Ip(address) => Some(ServerName::from(*address)),
    };
    let Some(server_name) = server_name else {
        return Err(hop.wrong("redirects to a host that cannot stand in a TLS handshake"));
    };
    let stream = Box::pin(connector.connect(server_name, connection)).await;
    let stream = stream.map_err(|error| hop.unshaken(&error))?;
    Box::pin(exchange(hop, stream, request)).await
}

pub(crate) fn request(url: &Url, host: &Host) -> Result<Request<Empty<Bytes>>, http::Error> {
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    };
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    Request::get(target)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
}

/// One request and its answer. The connection is driven by this very task and ends with it.
pub(crate) async fn exchange(
    hop: &Hop<'_>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, Miss> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX).max_header_size(HEAD_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|_| hop.broken("ended the connection at once"))?;
    let mut connection = pin!(connection);
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await.map_err(|error| unanswered(hop, &error))?;
        read(hop, response).await
    });
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            // What came before its end is still to be read.
            _ = &mut connection, if open => open = false,
        }
    }
}

fn unanswered(hop: &Hop<'_>, error: &hyper::Error) -> Miss {
    if error.is_parse_too_large() {
        hop.wrong("answered with headers longer than 8 KiB")
    } else if error.is_parse() {
        hop.wrong("answered with something that is not HTTP/1.1")
    } else {
        hop.broken("closed the connection without an answer")
    }
}

async fn read(hop: &Hop<'_>, response: hyper::Response<hyper::body::Incoming>) -> Result<Answer, Miss> {
    let status = response.status();
    match status {
        StatusCode::OK => {}
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {
            let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
            return match location {
                Some(location) if location.len() <= LOCATION_MAX => Ok(Answer::Redirect(location.to_owned())),
                _ => Err(hop.wrong("redirects without a Location that can be used")),
            };
        }
        StatusCode::TOO_MANY_REQUESTS => return Err(hop.unwell(status)),
        _ if status.is_server_error() => return Err(hop.unwell(status)),
        _ => return Err(hop.wrong(&hop.status(status))),
    }
    let mut body = response.into_body();
    let mut octets = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| hop.broken("closed the connection before its answer was complete"))?;
        let Ok(data) = frame.into_data() else { continue };
        if octets.len().saturating_add(data.len()) > BODY_MAX {
            return Err(hop.wrong("answered with more than 512 octets, where a key authorization has 87"));
        }
        octets.extend_from_slice(&data);
    }
    Ok(Answer::Body(octets))
}

impl Hop<'_> {
    /// A server that says itself that it cannot answer now.
    fn unwell(&self, status: StatusCode) -> Miss {
        self.missed(true, ProblemType::IncorrectResponse, &self.status(status))
    }
}
