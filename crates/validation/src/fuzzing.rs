//! What reads a remote's bytes, for tests/fuzz, which stands outside. Nothing else may use it.

use chancery_egress::{Dialer, Host};
use chancery_pki::Name;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use crate::{
    http01::{Answer, Hop, Target, exchange, follow, request},
    look::Miss,
    tls_alpn01,
};

/// What a web server's answer is to http-01.
#[derive(Debug)]
pub enum Read {
    /// A body.
    Body(Vec<u8>),
    /// A redirect, to what is dialled next.
    Redirect {
        /// The whole URL.
        url: Url,
        /// Whether by TLS.
        https: bool,
        /// The host.
        host: Host,
        /// The port.
        port: u16,
    },
}

/// Asks for `url` over a stream that stands for a connection, and reads what comes back as http-01 does.
///
/// # Errors
///
/// What the challenge's problem document would say.
pub async fn http_01(
    dialer: &Dialer,
    origin: &Host,
    url: &Url,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Read, String> {
    let read = async {
        let hop = Hop::first(origin, Target::of(dialer, url).map_err(Miss::wrong)?);
        let request = request(url, origin).map_err(|_| Miss::wrong("cannot be asked for"))?;
        match exchange(&hop, stream, request).await? {
            Answer::Body(body) => Ok(Read::Body(body)),
            Answer::Redirect(location) => {
                let url = follow(&hop, url, &location)?;
                let Target { https, host, port } = Target::of(dialer, &url).map_err(Miss::wrong)?;
                Ok(Read::Redirect { url, https, host, port })
            }
        }
    };
    read.await.map_err(|miss| match miss {
        Miss::Passing(problem) | Miss::Final(problem) | Miss::Elsewhere(problem) => problem.detail,
        Miss::Busy => "busy".to_owned(),
    })
}

/// Examines the certificate that a tls-alpn-01 handshake showed.
///
/// # Errors
///
/// What is wrong with it.
pub fn tls_alpn_01(certificate: &[u8], name: &Name, key_authorization: &str) -> Result<(), &'static str> {
    tls_alpn01::examine(certificate, name, key_authorization)
}
