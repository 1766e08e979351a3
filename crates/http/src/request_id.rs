//! Request ids: what a person quotes and an operator finds in the log.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_authority::ports::Entropy;

/// The header that carries it.
pub const HEADER: http::HeaderName = http::HeaderName::from_static("x-request-id");

/// A random id of one request; never taken from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// A new one.
    #[must_use]
    pub fn new(entropy: &dyn Entropy) -> Self {
        Self(entropy.octets16())
    }

    /// As a header's value.
    #[must_use]
    pub fn header_value(&self) -> http::HeaderValue {
        http::HeaderValue::from_str(&self.to_string()).expect("base64url is visible ASCII")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}
