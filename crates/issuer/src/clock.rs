//! The one real clock of this process.

use k8s_openapi::jiff::Timestamp;

/// Now, as this machine says.
#[expect(clippy::disallowed_methods, reason = "the one real clock of this process")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The same as X.509 has it.
pub(crate) fn as_x509(now: Timestamp) -> chancery_pki::Timestamp {
    chancery_pki::Timestamp::from_unix_seconds(now.as_second())
}
