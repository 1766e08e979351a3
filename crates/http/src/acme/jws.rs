//! The front of every signed request: the envelope of RFC 8555 §6.2, read strictly.
//!
//! What is taken is the flattened JSON serialization with `protected`, `payload` and `signature`
//! and nothing else; every header parameter stands in the protected header, each once; the
//! header names exactly one of `jwk` and `kid` and nothing critical. Whatever two readers could
//! understand in two ways is malformed. A key in `jwk` is canonical or refused, so that one key
//! has one thumbprint and one account (RFC 7638).
//!
//! Parsing proves nothing about who sent the request; [`super::verify`] does.

use chancery_acme::{
    jwk::{self, JwkRejection},
    wire::{
        self,
        json::{self, Object, Text},
    },
};
use chancery_pki::{
    PublicKey,
    key::{KeyKind, KeyRejection},
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;

/// Longest `nonce`, in characters; ours have 40.
const NONCE_MAX: usize = 128;
/// Longest `url` and `kid`, in characters.
const URL_MAX: usize = 2048;
/// Longest protected header, in characters; an RSA key of 4096 bits needs some 1,100.
const PROTECTED_MAX: usize = 8192;
/// Longest signature, in characters; RSA of 4096 bits has 683.
const SIGNATURE_MAX: usize = 700;

/// The signature algorithms that are taken (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Algorithm {
    Es256,
    Es384,
    Es512,
    Rs256,
    EdDsa,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 5] = [Self::Es256, Self::Es384, Self::Es512, Self::Rs256, Self::EdDsa];

    /// The `alg` value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The one algorithm for a kind of key.
    pub(crate) const fn of(kind: KeyKind) -> Self {
        match kind {
            KeyKind::P256 => Self::Es256,
            KeyKind::P384 => Self::Es384,
            KeyKind::P521 => Self::Es512,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => Self::Rs256,
            KeyKind::Ed25519 => Self::EdDsa,
        }
    }
}

/// Why a request body is not a signed request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JwsRejection {
    /// Not the envelope.
    #[error("the body is not a flattened JWS with protected, payload and signature alone (RFC 8555 §6.2): {0}")]
    Envelope(#[source] json::NotThisJson),
    /// A member too long to be what it is said to be.
    #[error("{member} is longer than {max} characters")]
    TooLong { member: &'static str, max: usize },
    /// Padding, white space or another alphabet.
    #[error(transparent)]
    NotBase64Url(#[from] wire::NotBase64Url),
    /// Not a header.
    #[error("the protected header cannot be read: {0}")]
    Header(#[from] json::NotThisJson),
    /// Something that changes the meaning of the rest.
    #[error("the header parameter {parameter} is not supported in ACME (RFC 8555 §6.2)")]
    Critical { parameter: &'static str },
    /// `none`, a MAC, or something unknown.
    #[error("the signature algorithm is not supported; the algorithms are ES256, ES384, ES512, RS256 and EdDSA")]
    UnsupportedAlgorithm,
    /// An algorithm for another kind of key.
    #[error("a key of this kind signs with {expected}, not {given}", expected = expected.as_str(), given = given.as_str())]
    AlgorithmDoesNotFit { expected: Algorithm, given: Algorithm },
    /// Both or neither.
    #[error("the protected header names exactly one of jwk and kid (RFC 8555 §6.2)")]
    NotOneKey,
    /// Not a key.
    #[error("the jwk cannot be read: {0}")]
    NotAJwk(&'static str),
    /// A kind of key that we do not know.
    #[error("keys of this kind are not supported: {0}")]
    UnsupportedKey(&'static str),
    /// A private or symmetric key.
    #[error("the jwk holds private members; this key is no longer secret, make a new one")]
    PrivateJwk,
    /// A key that is not taken.
    #[error("the key in jwk is not accepted: {0}")]
    BadKey(#[from] KeyRejection),
    /// Signed with another key, or not over these bytes.
    #[error("the signature does not fit the request and the key that it names")]
    BadSignature,
}

/// Who says to have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SignedBy {
    /// The account with this URL.
    Kid(String),
    /// The holder of this key.
    Jwk(Jwk),
}

/// A key as it was sent, not looked at yet: weak keys cost time to tell, so that is done where it does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jwk(Box<str>);

/// A request that is well formed. Whether it is genuine is not known yet.
#[derive(Debug)]
pub(crate) struct Jws {
    pub(crate) algorithm: Algorithm,
    /// Absent is not malformed but a bad nonce (RFC 8555 §6.5).
    pub(crate) nonce: Option<String>,
    pub(crate) url: String,
    pub(crate) by: SignedBy,
    pub(crate) payload: Vec<u8>,
    /// What the signature is over: protected header, dot, payload, as they were sent.
    pub(crate) signing_input: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    // Base64url needs no escapes, so plain borrowed strings do; derive refuses duplicates.
    protected: &'a str,
    payload: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    nonce: Option<Text<'a>>,
    #[serde(borrow)]
    url: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    jwk: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    kid: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<IgnoredAny>,
}

/// A member that is there, be it `null`, is `Some` or an error.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Jws {
    /// Reads a request body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, JwsRejection> {
        let Object(Envelope { protected, payload, signature }) =
            serde_json::from_slice(body).map_err(|error| JwsRejection::Envelope(error.into()))?;
        bounded("protected", protected, PROTECTED_MAX)?;
        bounded("signature", signature, SIGNATURE_MAX)?;
        let decoded = wire::base64url("protected", protected)?;
        let Header { alg, nonce, url, jwk, kid, crit, b64 } = json::payload(&decoded)?;
        if crit.is_some() {
            return Err(JwsRejection::Critical { parameter: "crit" });
        }
        if b64.is_some() {
            return Err(JwsRejection::Critical { parameter: "b64" });
        }
        let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == alg.0);
        let algorithm = algorithm.ok_or(JwsRejection::UnsupportedAlgorithm)?;
        let nonce = nonce.map(|nonce| nonce.0.into_owned());
        bounded("nonce", nonce.as_deref().unwrap_or_default(), NONCE_MAX)?;
        bounded("url", &url.0, URL_MAX)?;
        let by = match (kid, jwk) {
            (Some(kid), None) => {
                bounded("kid", &kid.0, URL_MAX)?;
                SignedBy::Kid(kid.0.into_owned())
            }
            (None, Some(jwk)) => SignedBy::Jwk(Jwk(jwk.get().into())),
            (Some(_), Some(_)) | (None, None) => return Err(JwsRejection::NotOneKey),
        };
        let payload_octets = wire::base64url("payload", payload)?;
        let signature = wire::base64url("signature", signature)?;
        Ok(Self {
            algorithm,
            nonce,
            url: url.0.into_owned(),
            by,
            payload: payload_octets,
            signing_input: [protected.as_bytes(), b".", payload.as_bytes()].concat(),
            signature,
        })
    }
}

fn bounded(member: &'static str, text: &str, max: usize) -> Result<(), JwsRejection> {
    if text.len() > max { Err(JwsRejection::TooLong { member, max }) } else { Ok(()) }
}

/// Whether the algorithm is the key's.
pub(crate) fn fits(given: Algorithm, key: &PublicKey) -> Result<(), JwsRejection> {
    let expected = Algorithm::of(key.kind());
    if expected == given { Ok(()) } else { Err(JwsRejection::AlgorithmDoesNotFit { expected, given }) }
}

impl Jwk {
    /// The key (RFC 7517, RFC 7518 §6, RFC 8037 §2), in its one canonical form or refused.
    pub(crate) fn public_key(&self) -> Result<PublicKey, JwsRejection> {
        // The header as a whole was checked for duplicates.
        Ok(jwk::public_key(&self.0)?)
    }
}

impl From<JwkRejection> for JwsRejection {
    fn from(rejection: JwkRejection) -> Self {
        match rejection {
            JwkRejection::NotAJwk(why) => Self::NotAJwk(why),
            JwkRejection::NotBase64Url(error) => Self::NotBase64Url(error),
            JwkRejection::Unsupported(why) => Self::UnsupportedKey(why),
            JwkRejection::Private => Self::PrivateJwk,
            JwkRejection::BadKey(rejection) => Self::BadKey(rejection),
        }
    }
}

#[cfg(test)]
#[path = "jws_tests.rs"]
mod tests;
