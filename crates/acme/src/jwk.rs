//! Public keys as JWK (RFC 7517, RFC 7518 §6, RFC 8037 §2), each in its one canonical form or refused, so that one
//! key has one thumbprint (RFC 7638) and one account.

use std::collections::BTreeMap;

use chancery_pki::{
    PublicKey,
    key::{KeyKind, KeyRejection},
};
use serde_json::Value;

use crate::wire::{self, NotBase64Url};

/// Members of private and symmetric keys (RFC 7518 §6.2.2, §6.3.2, §6.4).
const PRIVATE: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// Why a JWK is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwkRejection {
    /// Not a key.
    #[error("the jwk cannot be read: {0}")]
    NotAJwk(&'static str),
    /// A number that is not base64url.
    #[error(transparent)]
    NotBase64Url(#[from] NotBase64Url),
    /// A kind of key that we do not know.
    #[error("keys of this kind are not supported: {0}")]
    Unsupported(&'static str),
    /// A private or symmetric key.
    #[error("the jwk holds private members; this key is no longer secret, make a new one")]
    Private,
    /// A key that is not taken.
    #[error("the key in jwk is not accepted: {0}")]
    BadKey(#[from] KeyRejection),
}

/// The key that a JSON object is. Whether a member appears twice in it is the caller's to have checked
/// ([`json::check`](crate::wire::json::check)).
///
/// # Errors
///
/// [`JwkRejection`].
pub fn public_key(jwk: &str) -> Result<PublicKey, JwkRejection> {
    let members: BTreeMap<String, Value> =
        serde_json::from_str(jwk).map_err(|_| JwkRejection::NotAJwk("it is not a JSON object"))?;
    if PRIVATE.iter().any(|member| members.contains_key(*member)) {
        return Err(JwkRejection::Private);
    }
    let text = |member, missing| members.get(member).and_then(Value::as_str).ok_or(JwkRejection::NotAJwk(missing));
    let octets = |member, missing| text(member, missing).and_then(|text| Ok(wire::base64url(member, text)?));
    match text("kty", "kty is missing")? {
        "RSA" => Ok(PublicKey::from_rsa(&octets("n", "n is missing")?, &octets("e", "e is missing")?)?),
        "EC" => {
            let kind = match text("crv", "crv is missing")? {
                "P-256" => KeyKind::P256,
                "P-384" => KeyKind::P384,
                "P-521" => KeyKind::P521,
                _ => return Err(JwkRejection::Unsupported("the curves are P-256, P-384 and P-521")),
            };
            Ok(PublicKey::from_ec(kind, &octets("x", "x is missing")?, &octets("y", "y is missing")?)?)
        }
        "OKP" => match text("crv", "crv is missing")? {
            "Ed25519" => Ok(PublicKey::from_ed25519(&octets("x", "x is missing")?)?),
            _ => Err(JwkRejection::Unsupported("the one curve of kty OKP is Ed25519")),
        },
        _ => Err(JwkRejection::Unsupported("the key types are EC, RSA and OKP")),
    }
}
