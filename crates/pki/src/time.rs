//! Points in time and how long things live (RFC 5280 §4.1.2.5).
//!
//! Nothing here reads a clock: `now` is always an argument.

use std::{fmt, str::FromStr, time::Duration};

/// Milliseconds in a second.
const MILLIS: i64 = 1000;

/// A point in time: whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 9999-12-31T23:59:59Z, the last second that X.509 and RFC 3339 can write.
    pub const MAX: Self = Self(253_402_300_799_000);

    /// From milliseconds since the Unix epoch; clamped to the years 1970 to 9999.
    #[must_use]
    pub const fn from_unix_millis(millis: i64) -> Self {
        if millis < 0 {
            Self(0)
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// From seconds since the Unix epoch; clamped to the years 1970 to 9999.
    #[must_use]
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self::from_unix_millis(seconds.saturating_mul(MILLIS))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.0 / MILLIS
    }

    /// The same point with its fraction of a second cut off.
    #[must_use]
    pub const fn whole_seconds(self) -> Self {
        Self(self.0 - self.0 % MILLIS)
    }

    /// This point moved forward; the year 9999 is the end.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_millis(self.0.saturating_add(millis))
    }

    /// This point moved back; 1970 is the beginning.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_millis(self.0.saturating_sub(millis))
    }

    /// How long it is from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC with whole seconds, as RFC 8555 §7.1.3 writes `expires`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::from_second(self.unix_seconds())
            .expect("clamped to the years 1970 to 9999 by every constructor");
        write!(f, "{at}")
    }
}

/// The text is not an RFC 3339 date and time between 1970 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 date and time between 1970 and 9999, such as 2026-11-25T10:00:00Z")]
pub struct NotATimestamp;

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        let at: jiff::Timestamp = text.parse().map_err(|_| NotATimestamp)?;
        let millis = at.as_millisecond();
        if !(0..=Self::MAX.0).contains(&millis) {
            return Err(NotATimestamp);
        }
        Ok(Self(millis))
    }
}

/// How long a certificate may live: whole seconds, at least one, end included (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lifetime(u32);

/// A lifetime must be at least one second and at most some 136 years.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a lifetime is at least one second and at most {max} seconds, not {seconds}", max = u32::MAX)]
pub struct LifetimeOutOfRange {
    /// What was asked for, in seconds.
    pub seconds: u64,
}

impl Lifetime {
    /// A lifetime of so many seconds.
    ///
    /// # Errors
    ///
    /// [`LifetimeOutOfRange`] for zero and for more than `u32::MAX` seconds.
    pub fn from_seconds(seconds: u64) -> Result<Self, LifetimeOutOfRange> {
        match u32::try_from(seconds) {
            Ok(whole) if whole > 0 => Ok(Self(whole)),
            _ => Err(LifetimeOutOfRange { seconds }),
        }
    }

    /// In seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// As a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        match s {
            _ if s.is_multiple_of(86_400) => write!(f, "{}d", s / 86_400),
            _ if s.is_multiple_of(3_600) => write!(f, "{}h", s / 3_600),
            _ if s.is_multiple_of(60) => write!(f, "{}m", s / 60),
            _ => write!(f, "{s}s"),
        }
    }
}

/// From when to when a certificate holds: whole seconds, both ends included (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Validity {
    not_before: Timestamp,
    not_after: Timestamp,
}

/// The end lies before the beginning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("notAfter {not_after} is before notBefore {not_before}")]
pub struct ValidityReversed {
    /// The beginning.
    pub not_before: Timestamp,
    /// The end.
    pub not_after: Timestamp,
}

impl Validity {
    /// From `not_before` to `not_after`, both included, fractions of a second cut off.
    ///
    /// # Errors
    ///
    /// [`ValidityReversed`] if the end lies before the beginning.
    pub fn new(not_before: Timestamp, not_after: Timestamp) -> Result<Self, ValidityReversed> {
        let (not_before, not_after) = (not_before.whole_seconds(), not_after.whole_seconds());
        if not_after < not_before {
            return Err(ValidityReversed { not_before, not_after });
        }
        Ok(Self { not_before, not_after })
    }

    /// `lifetime` seconds counted from `not_before`, the last one included: a lifetime of one
    /// second ends where it begins.
    #[must_use]
    pub fn starting(not_before: Timestamp, lifetime: Lifetime) -> Self {
        let not_before = not_before.whole_seconds();
        let not_after = not_before.after(Duration::from_secs(u64::from(lifetime.seconds()) - 1));
        Self { not_before, not_after }
    }

    /// The first second in which the certificate holds.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second in which the certificate holds.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether the certificate holds at `now`.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        self.not_before <= now && now.whole_seconds() <= self.not_after
    }

    /// Seconds from beginning to end, both included.
    #[must_use]
    pub fn lifetime_seconds(&self) -> u64 {
        self.not_after.since(self.not_before).as_secs() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_of_ninety_days_ends_one_second_before_the_ninety_first_begins() {
        let start = Timestamp::from_unix_seconds(1_700_000_000);
        let ninety_days = Lifetime::from_seconds(90 * 86_400).expect("in range");
        let validity = Validity::starting(start, ninety_days);
        assert_eq!(validity.not_after().unix_seconds(), 1_700_000_000 + 90 * 86_400 - 1);
        assert_eq!(validity.lifetime_seconds(), 90 * 86_400);
        assert!(validity.contains(validity.not_after().after(Duration::from_millis(999))));
        assert!(!validity.contains(validity.not_after().after(Duration::from_secs(1))));
    }

    #[test]
    fn a_timestamp_reads_back_what_it_writes() {
        let at = Timestamp::from_unix_seconds(1_795_600_000);
        assert_eq!(at.to_string().parse(), Ok(at));
        assert_eq!(at.to_string(), "2026-11-25T09:46:40Z");
    }

    #[test]
    fn times_outside_the_four_digit_years_are_refused() {
        assert_eq!("1969-12-31T23:59:59Z".parse::<Timestamp>(), Err(NotATimestamp));
        assert_eq!("-000001-01-01T00:00:00Z".parse::<Timestamp>(), Err(NotATimestamp));
    }
}
