//! How a store behaves.

use std::time::Duration;

use chancery_authority::{
    at_work::AtWork,
    records::{CertificateRecord, Retention},
};
use chancery_pki::Timestamp;

/// Whose rows an index that is rebuilt still has: those of certificates that ended since. A leaf stays
/// for ever, but what pruning has dropped does not return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// For full records.
    pub full: Timestamp,
    /// For light ones.
    pub light: Timestamp,
}

impl Retained {
    /// All of them: what is over goes with the next pruning.
    pub const ALL: Self = Self { full: Timestamp::from_unix_millis(0), light: Timestamp::from_unix_millis(0) };

    /// Whether a record's retention is over.
    pub(crate) fn is_over(&self, record: &CertificateRecord) -> bool {
        let since = match record.retention {
            Retention::Full => self.full,
            Retention::Light => self.light,
        };
        record.validity.not_after() < since
    }
}

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest that commits wait for others to share a sync with; what is used adapts below it.
    pub linger_max: Duration,
    /// Who may come yet: where hardly anybody is at work, commits do not wait for others.
    pub at_work: AtWork,
    /// Most commits that wait; more are told that the store is busy.
    pub queue_limit: usize,
    /// Octets of overlay and leaves in memory from which on a sweep is due.
    pub sweep_bytes: usize,
    /// Octets in memory from which on commits are told that the store is busy.
    pub overlay_limit: usize,
    /// Octets of journal from which on a sweep is due.
    pub journal_sweep_bytes: u64,
    /// The longest that something stays unswept.
    pub sweep_age: Duration,
    /// Octets after which a journal segment is followed by another.
    pub segment_bytes: u64,
    /// Octets that are kept free on the disk, whatever the next sweep needs.
    pub floor_bytes: u64,
    /// How long to wait for a process that is just ending to let go of the folder.
    pub lock_wait: Duration,
    /// Whose rows a rebuild of the index brings back.
    pub retained: Retained,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            linger_max: Duration::from_millis(4),
            at_work: AtWork::default(),
            queue_limit: 4096,
            sweep_bytes: 4 << 20,
            overlay_limit: 32 << 20,
            journal_sweep_bytes: 16 << 20,
            sweep_age: Duration::from_secs(60),
            segment_bytes: 4 << 20,
            floor_bytes: 64 << 20,
            lock_wait: Duration::from_secs(5),
            retained: Retained::ALL,
        }
    }
}
