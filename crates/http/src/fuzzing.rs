//! The reader of signed requests, for tests/fuzz, which stands outside. Nothing else may use it.

use chancery_pki::PublicKey;

use crate::acme::jws::{Jws, SignedBy};

/// A request body that is well formed.
#[derive(Debug)]
pub struct Read {
    /// The `alg`.
    pub algorithm: &'static str,
    /// The `nonce`.
    pub nonce: Option<String>,
    /// The `url`.
    pub url: String,
    /// The `kid`.
    pub kid: Option<String>,
    /// The key in `jwk`, or why it is refused.
    pub key: Option<Result<PublicKey, String>>,
    /// The payload.
    pub payload: Vec<u8>,
    /// What the signature is over.
    pub signing_input: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Reads a request body as the front does, and the key in it.
///
/// # Errors
///
/// Why it is refused, in words.
pub fn jws(body: &[u8]) -> Result<Read, String> {
    let Jws { algorithm, nonce, url, by, payload, signing_input, signature } =
        Jws::parse(body).map_err(|rejection| rejection.to_string())?;
    let (kid, key) = match by {
        SignedBy::Kid(kid) => (Some(kid), None),
        SignedBy::Jwk(jwk) => (None, Some(jwk.public_key().map_err(|rejection| rejection.to_string()))),
    };
    Ok(Read { algorithm: algorithm.as_str(), nonce, url, kid, key, payload, signing_input, signature })
}
