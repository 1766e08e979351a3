//! What the validator counts, for whoever exposes metrics.

use chancery_acme::challenge::ChallengeKind;
use chancery_egress::Counter;

/// Counters by challenge type.
#[derive(Debug, Default)]
pub struct Counters {
    http_01: KindCounters,
    dns_01: KindCounters,
    tls_alpn_01: KindCounters,
}

/// The counters of one challenge type.
#[derive(Debug, Default)]
pub struct KindCounters {
    /// Looks that were made, repeated ones included.
    pub looks: Counter,
    /// Validations that succeeded.
    pub valid: Counter,
    /// Validations that failed.
    pub failed: Counter,
    /// Validations turned away because too much was under way.
    pub busy: Counter,
}

impl Counters {
    /// Those of one type.
    #[must_use]
    pub const fn of(&self, kind: ChallengeKind) -> &KindCounters {
        match kind {
            ChallengeKind::Http01 => &self.http_01,
            ChallengeKind::Dns01 => &self.dns_01,
            ChallengeKind::TlsAlpn01 => &self.tls_alpn_01,
        }
    }
}
