//! The secret of an EAB key: shown once to whoever makes the key, and otherwise only used.

use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_acme::eab::{Binding, MacAlgorithm};
use zeroize::Zeroizing;

/// How many octets a secret has: as many as the longest of the MACs, so that it is long enough for each of them
/// (RFC 7518 §3.2).
pub const SECRET_OCTETS: usize = 64;

/// The secret of an EAB key. Shown by [`Self::to_base64url`] alone; overwritten when dropped.
#[derive(Clone)]
pub struct EabSecret(Zeroizing<[u8; SECRET_OCTETS]>);

impl EabSecret {
    /// From the octets that a signer derived.
    #[must_use]
    pub fn new(octets: [u8; SECRET_OCTETS]) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// Whether the MAC of a binding is this secret's, compared in constant time.
    #[must_use]
    pub fn authenticates(&self, binding: &Binding) -> bool {
        let algorithm = match binding.algorithm {
            MacAlgorithm::Hs256 => HMAC_SHA256,
            MacAlgorithm::Hs384 => HMAC_SHA384,
            MacAlgorithm::Hs512 => HMAC_SHA512,
        };
        hmac::verify(&hmac::Key::new(algorithm, self.0.as_slice()), &binding.signing_input, &binding.mac).is_ok()
    }

    /// As clients take it: base64url without padding. For whoever made the key, once.
    #[must_use]
    pub fn to_base64url(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }
}

impl fmt::Debug for EabSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EabSecret(…)")
    }
}
