//! Revocation (RFC 8555 §7.6).

use serde::Deserialize;
use serde_json::Value;

use super::NotBase64Url;

/// The payload of revokeCert.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Revoke {
    certificate: String,
    #[serde(default)]
    reason: Option<Value>,
}

/// The reason is not a whole number that could be a CRLReason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a reason is a whole number")]
pub struct NotAReason;

impl Revoke {
    /// The certificate in DER.
    ///
    /// # Errors
    ///
    /// [`NotBase64Url`].
    pub fn certificate(&self) -> Result<Vec<u8>, NotBase64Url> {
        super::base64url("certificate", &self.certificate)
    }

    /// The CRLReason code, if one is given.
    ///
    /// # Errors
    ///
    /// [`NotAReason`] for anything but a whole number that is not negative.
    pub fn reason(&self) -> Result<Option<u64>, NotAReason> {
        self.reason.as_ref().map(|reason| reason.as_u64().ok_or(NotAReason)).transpose()
    }
}
