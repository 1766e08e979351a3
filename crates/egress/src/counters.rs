//! What the dialer counts, for whoever exposes metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Where it stands.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The dialer's counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// DNS lookups (a pair of A and AAAA counts once).
    pub lookups: Counter,
    /// Lookups that a resolver could not answer (server failure, time-out); not those it denied.
    pub lookups_failed: Counter,
    /// Connections that were made.
    pub connected: Counter,
    /// Dials that failed at every address.
    pub failed: Counter,
    /// Addresses that the guard refused.
    pub refused: Counter,
    /// Dials turned away because their target, or the process, had too many connections.
    pub busy: Counter,
}
