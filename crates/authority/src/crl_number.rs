//! CRL numbers (RFC 5280 §5.2.3): they never go back, whatever was restored (durability, rule 12).
//!
//! Pure. Whoever publishes a CRL first commits its number with the leaf that says so; the store keeps
//! the last one of each authority's shard and refuses one that is not larger.

use chancery_pki::Timestamp;

/// The number of the next CRL: above the last one known, and never below the time in Unix seconds, so
/// that it is above numbers which a restored backup no longer knows.
#[must_use]
pub fn next(last: Option<u64>, now: Timestamp) -> u64 {
    let seconds = u64::try_from(now.unix_seconds()).unwrap_or(0);
    last.map_or(0, |last| last.saturating_add(1)).max(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_600_000);

    #[test]
    fn the_first_number_is_the_time() {
        assert_eq!(next(None, NOW), 1_795_600_000);
    }

    #[test]
    fn two_within_a_second_differ_and_a_clock_that_jumped_back_takes_no_number_back() {
        assert_eq!(next(Some(1_795_600_000), NOW), 1_795_600_001);
        assert_eq!(next(Some(1_795_699_999), NOW), 1_795_700_000);
        assert_eq!(next(Some(3), Timestamp::from_unix_seconds(-5)), 4);
    }

    #[test]
    fn after_a_restore_of_an_old_backup_the_next_number_is_above_those_that_were_lost() {
        let before = next(Some(1_795_500_000), NOW);
        let restored = Some(1_795_500_000);
        assert!(next(restored, NOW.after(std::time::Duration::from_secs(1))) > before);
    }
}
