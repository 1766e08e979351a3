//! Challenges (RFC 8555 §7.1.5, §8; RFC 8737).

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_pki::{Name, Timestamp};

use crate::problem::Problem;

/// How control of a name is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChallengeKind {
    /// RFC 8555 §8.3.
    Http01,
    /// RFC 8555 §8.4.
    Dns01,
    /// RFC 8737 §3.
    TlsAlpn01,
}

impl ChallengeKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Http01, Self::Dns01, Self::TlsAlpn01];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// Whether this kind can show control of `name`: wildcards by dns-01 alone (RFC 8555 §7.1.3),
    /// addresses by the other two (RFC 8738 §4), names of other kinds by none.
    #[must_use]
    pub const fn suits(self, name: &Name) -> bool {
        match name {
            Name::Dns(_) => true,
            Name::Wildcard(_) => matches!(self, Self::Dns01),
            Name::Ip(_) => matches!(self, Self::Http01 | Self::TlsAlpn01),
            Name::Spiffe(_) | Name::Uri(_) | Name::Email(_) | Name::Other(_) | Name::CommonName(_) => false,
        }
    }
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChallengeKind {
    type Err = UnknownChallengeKind;

    fn from_str(text: &str) -> Result<Self, UnknownChallengeKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownChallengeKind)
    }
}

/// No challenge type of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the challenge types are http-01, dns-01 and tls-alpn-01")]
pub struct UnknownChallengeKind;

/// A challenge's token: 128 random bits in base64url (RFC 8555 §8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

impl Token {
    /// From 16 random octets.
    #[must_use]
    pub const fn from_random(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// The 16 octets, as a store keeps them.
    #[must_use]
    pub const fn octets(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// One way to show control of an authorization's name. Its kind identifies it within the authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Which way.
    pub kind: ChallengeKind,
    /// Its token.
    pub token: Token,
    /// Where it stands.
    pub state: ChallengeState,
}

/// Where a challenge stands (RFC 8555 §7.1.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChallengeState {
    /// The client has not answered.
    Pending,
    /// The client has answered; we are looking.
    Processing {
        /// When the client answered.
        since: Timestamp,
    },
    /// Control was shown.
    Valid {
        /// When.
        validated: Timestamp,
    },
    /// Control was not shown.
    Invalid {
        /// Why.
        error: Problem,
    },
}
