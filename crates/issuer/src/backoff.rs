//! How long to wait before trying again: longer each time, and never in step with others.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// The wait before try number `attempt` (the first retry is 1). `who` spreads those that failed together over a
/// quarter of it.
pub(crate) fn wait(attempt: u32, who: &str) -> Duration {
    let doubled = FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(LONGEST);
    let mut hasher = DefaultHasher::new();
    (who, attempt).hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 256).unwrap_or(0);
    doubled - (doubled / 4).saturating_mul(share) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_differ_between_objects() {
        let waits: Vec<_> = (1..=12).map(|attempt| wait(attempt, "a")).collect();
        assert!(waits.iter().all(|wait| *wait <= LONGEST && *wait >= FIRST * 3 / 4), "{waits:?}");
        assert!(waits.get(11).expect("twelve") >= &(LONGEST * 3 / 4), "{waits:?}");
        let spread: std::collections::BTreeSet<_> = (0..50).map(|who: u32| wait(3, &who.to_string())).collect();
        assert!(spread.len() > 20, "{spread:?}");
    }

    #[test]
    fn a_long_row_of_failures_does_not_overflow() {
        assert!(wait(u32::MAX, "a") <= LONGEST);
    }
}
