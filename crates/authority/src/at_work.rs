//! How many requests the doors are working on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How many requests the doors are working on now: they count, and a store that lets commits share a sync asks
/// whether there is anybody to wait for. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct AtWork(Arc<AtomicUsize>);

/// One request, counted until this is dropped.
#[derive(Debug)]
pub struct Working(Arc<AtomicUsize>);

impl AtWork {
    /// Counts one more.
    #[must_use]
    pub fn enter(&self) -> Working {
        self.0.fetch_add(1, Ordering::Relaxed);
        Working(Arc::clone(&self.0))
    }

    /// How many there are now.
    #[must_use]
    pub fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
