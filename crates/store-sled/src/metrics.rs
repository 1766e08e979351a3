//! What the store counts, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters and gauges of a store; each only ever read and written whole.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Groups written: frames of the journal.
    pub groups: AtomicU64,
    /// Commits kept.
    pub commits: AtomicU64,
    /// Commits refused: conflicts and limits.
    pub refused: AtomicU64,
    /// Commits turned away because too much was waiting.
    pub busy: AtomicU64,
    /// Syncs of the journal.
    pub syncs: AtomicU64,
    /// Octets written to the journal, ever.
    pub written_bytes: AtomicU64,
    /// Octets of the journal's segments now.
    pub journal_bytes: AtomicU64,
    /// Octets of overlays and leaves in memory now.
    pub overlay_bytes: AtomicU64,
    /// Commits waiting now.
    pub queued: AtomicU64,
    /// Sweeps finished.
    pub sweeps: AtomicU64,
    /// Sweeps that failed and are tried again.
    pub failed_sweeps: AtomicU64,
    /// Milliseconds spent in sweeps, ever.
    pub sweep_ms: AtomicU64,
    /// Microseconds that commits may wait for others, as it adapted last.
    pub linger_us: AtomicU64,
    /// Octets that can still be written to the disk, as seen last.
    pub free_bytes: AtomicU64,
    /// 1 while the disk is too full for issuance.
    pub low_space: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

pub(crate) fn set(gauge: &AtomicU64, to: u64) {
    gauge.store(to, Ordering::Relaxed);
}

pub(crate) fn number(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
