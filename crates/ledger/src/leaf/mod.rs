//! Leaves: what the ledger records, and their one encoding.
//!
//! A leaf is canonical JSON (RFC 8785): `{"body":{…},"kind":"intent","v":1}`. Binary is base64url
//! without padding, times are milliseconds since 1970, a fact that does not exist is left out.
//! [`Leaf::decode`] accepts exactly what [`Leaf::encode`] writes and nothing else, so a leaf has one
//! spelling and its hash stands for its meaning.
//!
//! Leaves hold no secrets. They are the input of a rebuild years later, so a field is never given
//! another meaning: a new one gets a new name or a new version.

mod kinds;
mod text;

pub use kinds::{
    Abandoned, AccountAgreed, AccountDeactivated, AccountFacts, AccountKeyChanged, ApiToken, ApiTokenFacts,
    AuthorityInstalled, AuthorityRetired, Claim, CrlPublished, Decision, EabAction, EabGrant, EabKey, EabNames,
    Idempotency, Intent, NameRule, OldCheckpoint, Outcome, PolicyActivated, ProfileRef, Refusal, Requester, Restored,
    Revocation, Signature, Terms, TokenAction, Warning,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Longest leaf in bytes: a bundle entry's length is 16 bits wide (C2SP tlog-tiles, log entries).
pub const MAX_LEAF_BYTES: usize = 65_535;

/// The version that is written, and the newest that is read.
pub const VERSION: u64 = 1;

/// Why a leaf cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Longer than a bundle entry can be.
    #[error("a {kind} leaf of {size} bytes is too large: at most {MAX_LEAF_BYTES}")]
    TooLarge {
        /// The leaf's kind.
        kind: &'static str,
        /// How long it would be.
        size: usize,
    },
    /// A number that JSON cannot carry exactly (RFC 8785 §3.2.2.3: beyond 2^53 - 1).
    #[error("a {kind} leaf holds a number beyond 2^53 - 1")]
    NumberTooLarge {
        /// The leaf's kind.
        kind: &'static str,
    },
}

/// Why bytes are no leaf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Longer than any leaf.
    #[error("{size} bytes are too many for a leaf: at most {MAX_LEAF_BYTES}")]
    TooLarge {
        /// How long it is.
        size: usize,
    },
    /// Written by a newer release.
    #[error("leaf version {version} is newer than this program, which reads up to version {VERSION}: use a newer one")]
    NewerVersion {
        /// The version found.
        version: u64,
    },
    /// A version that never existed.
    #[error("leaf version {version} does not exist")]
    NoSuchVersion {
        /// The version found.
        version: u64,
    },
    /// A kind this program does not know.
    #[error("leaf kind {kind:?} is unknown to this program: a newer one may read it")]
    UnknownKind {
        /// The kind found, shortened.
        kind: String,
    },
    /// Not JSON, or not the fields of its kind.
    #[error("not a leaf: {reason}")]
    Malformed {
        /// What the parser found.
        reason: String,
    },
    /// The same facts, spelled otherwise than they are written.
    #[error("a {kind} leaf that is not in canonical form")]
    NotCanonical {
        /// The leaf's kind.
        kind: &'static str,
    },
}

/// The outside of a leaf.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    body: &'a RawValue,
    kind: &'a str,
    v: u64,
}

/// What of the outside can be read whatever else is there.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

macro_rules! leaf_kinds {
    ($($(#[$doc:meta])* $variant:ident($holder:ty) = $kind:literal,)*) => {
        /// One record of the ledger.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Leaf {
            $($(#[$doc])* $variant($holder),)*
        }

        impl Leaf {
            /// The kind, as it is written.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)*
                }
            }

            fn write_body(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
                match self {
                    $(Self::$variant(body) => body.serialize(&mut serde_json::Serializer::new(out)),)*
                }
            }

            fn read_body(kind: &str, body: &str) -> Result<Self, LeafError> {
                match kind {
                    $($kind => serde_json::from_str::<kinds::$variant>(body)
                        .map(Self::from)
                        .map_err(|error| LeafError::Malformed { reason: error.to_string() }),)*
                    _ => Err(LeafError::UnknownKind { kind: kind.chars().take(40).collect() }),
                }
            }
        }

        $(
            impl From<kinds::$variant> for Leaf {
                fn from(body: kinds::$variant) -> Self {
                    Self::$variant(body.into())
                }
            }
        )*
    };
}

leaf_kinds! {
    /// A certificate is about to be signed.
    Intent(Box<Intent>) = "intent",
    /// It was signed.
    Signature(Signature) = "signature",
    /// It was given up; its serial may have been signed all the same.
    Abandoned(Abandoned) = "abandoned",
    /// Policy refused a request.
    Refusal(Refusal) = "refusal",
    /// A certificate was revoked, or its revocation got another reason.
    Revocation(Revocation) = "revocation",
    /// A CRL got its number.
    CrlPublished(CrlPublished) = "crl-published",
    /// Something happened to an external account binding key.
    EabKey(EabKey) = "eab-key",
    /// Something happened to an API token.
    ApiToken(ApiToken) = "api-token",
    /// An account agreed to new terms of service.
    AccountAgreed(AccountAgreed) = "account-agreed",
    /// An account ended at its holder's wish.
    AccountDeactivated(AccountDeactivated) = "account-deactivated",
    /// An account has another key.
    AccountKeyChanged(AccountKeyChanged) = "account-key-changed",
    /// A policy took effect.
    PolicyActivated(PolicyActivated) = "policy-activated",
    /// An issuing authority's certificate was installed.
    AuthorityInstalled(AuthorityInstalled) = "authority-installed",
    /// An issuing authority's certificate was retired.
    AuthorityRetired(AuthorityRetired) = "authority-retired",
    /// A backup was restored: a new epoch begins.
    Restored(Restored) = "restored",
}

impl Leaf {
    /// The canonical bytes (RFC 8785), which are what the tree hashes.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] beyond [`MAX_LEAF_BYTES`], and [`EncodeError::NumberTooLarge`] for a
    /// number that JSON cannot carry exactly.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let kind = self.kind();
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(b"{\"body\":");
        // The only thing that can fail in memory is a field's own refusal: `text::number`.
        self.write_body(&mut out).map_err(|_| EncodeError::NumberTooLarge { kind })?;
        out.extend_from_slice(b",\"kind\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"v\":1}");
        if out.len() > MAX_LEAF_BYTES {
            return Err(EncodeError::TooLarge { kind, size: out.len() });
        }
        Ok(out)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// [`LeafError`] for anything else: other versions and kinds, unknown or missing fields, and
    /// the same facts in another spelling.
    pub fn decode(bytes: &[u8]) -> Result<Self, LeafError> {
        if bytes.len() > MAX_LEAF_BYTES {
            return Err(LeafError::TooLarge { size: bytes.len() });
        }
        let envelope: Envelope<'_> = match serde_json::from_slice(bytes) {
            Ok(envelope) => envelope,
            Err(error) => {
                // A later version may have other members outside; say so rather than "unknown field".
                return Err(match serde_json::from_slice::<Version>(bytes) {
                    Ok(Version { v }) if v > VERSION => LeafError::NewerVersion { version: v },
                    _ => LeafError::Malformed { reason: error.to_string() },
                });
            }
        };
        match envelope.v {
            VERSION => {}
            version if version > VERSION => return Err(LeafError::NewerVersion { version }),
            version => return Err(LeafError::NoSuchVersion { version }),
        }
        let leaf = Self::read_body(envelope.kind, envelope.body.get())?;
        match leaf.encode() {
            Ok(canonical) if canonical == bytes => Ok(leaf),
            _ => Err(LeafError::NotCanonical { kind: leaf.kind() }),
        }
    }
}

#[cfg(test)]
mod tests;
