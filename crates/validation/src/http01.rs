//! http-01 (RFC 8555 §8.3): port 80 on the first hop, redirects followed, each through the guard anew.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::{Bytes, BytesMut};
use chancery_acme::problem::ProblemType;
use chancery_authority::ports::{Evidence, Validation};
use chancery_egress::{Dialer, Host};
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_rustls::TlsConnector;

use crate::{Miss, host_of};

/// Most redirects that are followed.
const REDIRECTS_MAX: usize = 10;
/// Longest body: a key authorization has some 87 octets; white space may follow (§8.3).
const BODY_MAX: usize = 512;
/// Largest header section that is read, in octets.
const HEADERS_MAX: usize = 16 * 1024;
const USER_AGENT: &str = "chancery (acme http-01)";

/// One place to fetch from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hop {
    https: bool,
    host: Host,
    /// `None` is the zone's port for the scheme.
    port: Option<u16>,
    path: String,
}

impl Hop {
    fn shown(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}", self.host)
    }
}

pub(crate) async fn look(
    dialer: &Dialer,
    tls: &Arc<rustls::ClientConfig>,
    validation: &Validation,
    deadline: Instant,
) -> Result<Evidence, Miss> {
    let mut hop = Hop {
        https: false,
        host: host_of(&validation.name)?,
        port: None,
        path: format!("/.well-known/acme-challenge/{}", validation.token),
    };
    let mut seen = Vec::new();
    let mut dialled = Vec::new();
    for _ in 0..=REDIRECTS_MAX {
        if seen.contains(&hop) {
            return Err(Miss::is_final(ProblemType::Connection, format_args!("{} redirects in a circle", hop.shown())));
        }
        seen.push(hop.clone());
        let ports = dialer.zone_of(&hop.host).ports();
        let port = hop.port.unwrap_or(if hop.https { ports.https } else { ports.http });
        let connection = dialer.dial(&hop.host, port, deadline).await.map_err(|error| Miss::dial(&error))?;
        dialled.push(connection.peer().to_string());
        let response = if hop.https {
            let name = match &hop.host {
                Host::Name(name) => ServerName::try_from(name.to_string()).map_err(|_| unusable(&hop))?,
                Host::Ip(address) => ServerName::IpAddress((*address).into()),
            };
            let stream = TlsConnector::from(Arc::clone(tls))
                .connect(name, connection)
                .await
                .map_err(|_| Miss::passing(ProblemType::Tls, format_args!("TLS with {} failed", hop.shown())))?;
            fetch(stream, &hop).await?
        } else {
            fetch(connection, &hop).await?
        };
        match response.status() {
            StatusCode::OK => {
                compare(response, &hop, &validation.key_authorization).await?;
                return Ok(Evidence { summary: format!("http-01 from {}", dialled.join(" then ")) });
            }
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => hop = next(&hop, &response, dialer)?,
            status if status.is_server_error() => {
                return Err(Miss::passing(
                    ProblemType::IncorrectResponse,
                    format_args!("{} answered with status {}", hop.shown(), status.as_u16()),
                ));
            }
            status => {
                return Err(Miss::is_final(
                    ProblemType::IncorrectResponse,
                    format_args!(
                        "{} answered with status {} instead of the key authorization under /.well-known/acme-challenge/",
                        hop.shown(),
                        status.as_u16()
                    ),
                ));
            }
        }
    }
    Err(Miss::is_final(
        ProblemType::Connection,
        format_args!("{} redirects more than {REDIRECTS_MAX} times", validation.name),
    ))
}

fn unusable(hop: &Hop) -> Miss {
    Miss::is_final(ProblemType::Connection, format_args!("{} redirects to a place that is not fetched", hop.shown()))
}

async fn fetch<S>(stream: S, hop: &Hop) -> Result<Response<Incoming>, Miss>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken =
        |_| Miss::passing(ProblemType::Connection, format_args!("{} broke off or speaks no HTTP", hop.shown()));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEADERS_MAX).max_headers(64);
    let (mut sender, connection) = builder.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends when sender and body are dropped, at the end of this try at the latest.
    tokio::spawn(async move {
        let _closed_either_way = connection.await;
    });
    let host = match (&hop.host, hop.port) {
        (Host::Ip(std::net::IpAddr::V6(address)), None) => format!("[{address}]"),
        (Host::Ip(std::net::IpAddr::V6(address)), Some(port)) => format!("[{address}]:{port}"),
        (host, None) => host.to_string(),
        (host, Some(port)) => format!("{host}:{port}"),
    };
    let request = Request::get(hop.path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|_| unusable(hop))?;
    sender.send_request(request).await.map_err(broken)
}

async fn compare(response: Response<Incoming>, hop: &Hop, expected: &str) -> Result<(), Miss> {
    let mut body = response.into_body();
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Miss::passing(ProblemType::Connection, format_args!("{} broke off within its answer", hop.shown()))
        })?;
        if let Some(data) = frame.data_ref() {
            if read.len() + data.len() > BODY_MAX {
                return Err(Miss::is_final(
                    ProblemType::IncorrectResponse,
                    format_args!(
                        "{} answered with more than a key authorization (over {BODY_MAX} octets)",
                        hop.shown()
                    ),
                ));
            }
            read.extend_from_slice(data);
        }
    }
    let end = read.iter().rposition(|octet| !octet.is_ascii_whitespace()).map_or(0, |at| at + 1);
    read.truncate(end);
    if verify_slices_are_equal(&read, expected.as_bytes()).is_ok() {
        return Ok(());
    }
    Err(Miss::is_final(
        ProblemType::IncorrectResponse,
        format_args!(
            "{} answered with something else than the key authorization of this account's challenge",
            hop.shown()
        ),
    ))
}

/// Where a redirect leads: the scheme's own port alone, the zone's ports apart.
fn next(hop: &Hop, response: &Response<Incoming>, dialer: &Dialer) -> Result<Hop, Miss> {
    let location =
        response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).ok_or_else(|| unusable(hop))?;
    let uri: Uri = location.parse().map_err(|_| unusable(hop))?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let Some(host) = uri.host() else {
        // A relative one stays where it is.
        return if path.starts_with('/') { Ok(Hop { path, ..hop.clone() }) } else { Err(unusable(hop)) };
    };
    let https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(unusable(hop)),
    };
    let host: Host = host.parse().map_err(|_| unusable(hop))?;
    let ports = dialer.zone_of(&host).ports();
    let port = match uri.port_u16() {
        None => None,
        Some(port) if [80, 443, ports.http, ports.https].contains(&port) => Some(port),
        Some(port) => {
            return Err(Miss::is_final(
                ProblemType::Connection,
                format_args!("{} redirects to port {port}; only ports 80 and 443 are followed", hop.shown()),
            ));
        }
    };
    Ok(Hop { https, host, port, path })
}

/// TLS for redirects. The certificate is not looked at: what is looked for is a key authorization
/// that only the account's holder can make, and a host that is about to get its first certificate
/// has none that could be verified (RFC 8555 §8.3 asks for no verification).
pub(crate) fn redirect_client() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    Ok(Arc::new(any_certificate()?))
}

/// A client configuration that takes any certificate and still verifies that the handshake was
/// signed with its key.
pub(crate) fn any_certificate() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(config)
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
