//! Why a call to a server over HTTPS did not succeed, told apart by who can do something about it.

use std::{error::Error, io, time::Duration};

use http::StatusCode;

/// Longest text of a server's that is passed on, in characters.
const WORDS_MAX: usize = 1024;

/// What a client is made of does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteSetupError {
    /// No server, or more than are tried.
    #[error("{count} server URLs are given; give 1 to {max}")]
    Servers {
        /// How many were given.
        count: usize,
        /// Most.
        max: usize,
    },
    /// A URL that is none of ours.
    #[error("the server URL {url} cannot be used: {why}")]
    Url {
        /// The URL, without user information.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The CA bundle.
    #[error("the CA bundle cannot be used: {why}")]
    Roots {
        /// What is wrong.
        why: String,
    },
    /// The client certificate or its key.
    #[error("the client certificate cannot be used: {why}")]
    ClientCertificate {
        /// What is wrong.
        why: String,
    },
    /// The bearer token.
    #[error("the token cannot be used: it is empty, or holds characters that no HTTP header can hold")]
    Token,
}

/// A call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// Nobody answered in time, or the connection broke. Trying again may help.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// Which server: host and port.
        server: String,
        /// Why.
        why: String,
    },
    /// The TLS handshake failed: a certificate that is not trusted, or a client certificate that is not taken.
    #[error("no TLS connection with {server}: {why}; is its CA in the issuer's CA bundle?")]
    Tls {
        /// Which server.
        server: String,
        /// Why.
        why: String,
    },
    /// The credential is missing, wrong, or not valid any more.
    #[error("{server} does not accept the credential: {message}")]
    Unauthorized {
        /// Which server.
        server: String,
        /// Its words.
        message: String,
    },
    /// The credential is known and may not do this.
    #[error("{server} does not allow this: {message}")]
    Forbidden {
        /// Which server.
        server: String,
        /// Its words.
        message: String,
    },
    /// The server is busy or cannot work now.
    #[error("{server} is busy: {message}")]
    Busy {
        /// Which server.
        server: String,
        /// Its words.
        message: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// A redirect. None is followed: the credential must not go elsewhere.
    #[error("{server} answers with a redirect, which is not followed; give the URL of the Chancery server itself")]
    Redirected {
        /// Which server.
        server: String,
    },
    /// There is no such request there.
    #[error("{server} does not know it")]
    NotFound {
        /// Which server.
        server: String,
    },
    /// The server says that what was sent is wrong.
    #[error("{server} refuses it ({code}): {message}")]
    Refused {
        /// Which server.
        server: String,
        /// Its status.
        status: u16,
        /// A word for programs.
        code: String,
        /// Its words.
        message: String,
    },
    /// What came back is no answer of a Chancery server.
    #[error("{server} gives an answer that cannot be read: {why}; is it a Chancery server, of this version?")]
    Unreadable {
        /// Which server.
        server: String,
        /// What is wrong.
        why: String,
    },
}

impl RemoteError {
    /// A short word for metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { .. } => "tls",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::Busy { .. } => "busy",
            Self::Redirected { .. } => "redirected",
            Self::NotFound { .. } => "not-found",
            Self::Refused { .. } => "refused",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// Whether the next server may do better.
    pub(super) const fn may_differ_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Tls { .. }
                | Self::Busy { .. }
                | Self::Unreadable { .. }
                | Self::Redirected { .. }
        )
    }

    /// Whether the server is left aside for a while.
    pub(super) const fn marks_down(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Tls { .. })
    }

    /// What broke a connection, told apart: TLS, or the network.
    pub(super) fn of_transport(server: &str, error: &(dyn Error + 'static)) -> Self {
        let server = server.to_owned();
        let mut next = Some(error);
        let mut deepest = String::new();
        while let Some(error) = next {
            if let Some(tls) = tls_error(error) {
                return Self::Tls { server, why: words(&tls.to_string()) };
            }
            deepest = error.to_string();
            next = error.source();
        }
        Self::Unreachable { server, why: words(&deepest) }
    }

    /// What a status that is no success means.
    pub(super) fn of_status(server: &str, status: StatusCode, retry_after: Option<Duration>, body: Words) -> Self {
        let server = server.to_owned();
        let Words { code, message } = body;
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized { server, message },
            StatusCode::FORBIDDEN => Self::Forbidden { server, message },
            StatusCode::NOT_FOUND => Self::NotFound { server },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Self::Busy { server, message, retry_after: retry_after.unwrap_or(Duration::from_secs(1)) }
            }
            status if status.is_redirection() => Self::Redirected { server },
            // A proxy in front of a server that restarts.
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                Self::Unreachable { server, why: format!("a proxy in front of it answers {status}") }
            }
            status if status.is_server_error() => Self::Busy {
                server,
                message: format!("it failed ({status}): {message}"),
                retry_after: retry_after.unwrap_or(Duration::from_secs(5)),
            },
            _ => Self::Refused { server, status: status.as_u16(), code, message },
        }
    }
}

/// What a server says beside its status.
pub(super) struct Words {
    pub(super) code: String,
    pub(super) message: String,
}

/// Text that is fit for a log line and a condition: bounded, without control characters.
pub(super) fn words(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(WORDS_MAX).collect()
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    inner.downcast_ref().or_else(|| tls_error(inner.downcast_ref::<io::Error>()?))
}
