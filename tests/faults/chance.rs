//! Chance that can be had again: every test says its seed.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::tell;

/// What decides when and where a fault strikes.
pub(crate) struct Chance(ChaCha8Rng);

impl Chance {
    /// From `CHANCERY_FAULT_SEED`, else from the machine's own chance; says which.
    pub(crate) fn of(test: &str) -> Self {
        let set = std::env::var("CHANCERY_FAULT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = set.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        tell(&format!("{test}: CHANCERY_FAULT_SEED={seed}"));
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A time between two.
    pub(crate) fn time_ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.0.random_range(from..=to))
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end.max(1))
    }
}
