//! Points in time and how long things live (RFC 5280 §4.1.2.5).
//!
//! Nothing here reads a clock: `now` is always an argument.

use std::{fmt, ops::Range, str::FromStr, time::Duration};

use jiff::{Span, civil::Date};

/// Milliseconds in a second.
const MILLIS: i64 = 1000;
/// Seconds in a day.
const DAY: i64 = 86_400;
/// The Unix epoch's day.
const EPOCH: Date = Date::constant(1970, 1, 1);

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
        const FITS: &str = "clamped to the years 1970 to 9999 by every constructor";
        let (days, second) = (self.unix_seconds() / DAY, self.unix_seconds() % DAY);
        // By the calendar alone: jiff's own timestamps end a day before the year 9999 does.
        let date = EPOCH.checked_add(Span::new().try_days(days).expect(FITS)).expect(FITS);
        write!(f, "{date}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

/// The text is not an RFC 3339 date and time between 1970 and 9999, to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 date and time between 1970 and 9999, to the millisecond, such as 2026-11-25T10:00:00Z")]
pub struct NotATimestamp;

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    /// Reads what RFC 3339 §5.6 writes and nothing else. A leap second and what is finer than a millisecond are
    /// refused, since they could only be changed silently.
    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        date_time(text.as_bytes()).filter(|millis| (0..=Self::MAX.0).contains(millis)).map(Self).ok_or(NotATimestamp)
    }
}

/// Milliseconds since the Unix epoch of a `date-time` (RFC 3339 §5.6), if it is one.
fn date_time(text: &[u8]) -> Option<i64> {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let of_form = |(found, form): (&u8, &u8)| match form {
        b'0' => found.is_ascii_digit(),
        form => found.eq_ignore_ascii_case(form),
    };
    let (date_time, rest) = text.split_at_checked(FORM.len())?;
    let number = |range: Range<usize>| date_time.get(range).and_then(number_of);
    let [year, month, day, hour, minute, second] =
        [number(0..4)?, number(5..7)?, number(8..10)?, number(11..13)?, number(14..16)?, number(17..19)?];
    if !date_time.iter().zip(FORM).all(of_form) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let (fraction, zone) = match rest.strip_prefix(b".") {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
            let (digits, zone) = rest.split_at(digits);
            let (kept, lost) = digits.split_at(digits.len().min(3));
            if kept.is_empty() || lost.iter().any(|digit| *digit != b'0') {
                return None;
            }
            (number_of(kept)? * [1000, 100, 10, 1].get(kept.len())?, zone)
        }
    };
    let offset = match zone {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number_of(&[*h1, *h2])?, number_of(&[*m1, *m2])?);
            let ahead = (hours <= 23 && minutes <= 59).then_some(hours * 3600 + minutes * 60)?;
            if *sign == b'+' { ahead } else { -ahead }
        }
        _ => return None,
    };
    let days = date.duration_since(EPOCH).as_secs() / DAY;
    Some((days * DAY + hour * 3600 + minute * 60 + second - offset) * MILLIS + fraction)
}

/// A decimal number of a few digits.
fn number_of(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
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
    fn the_last_seconds_of_the_year_9999_are_times_as_all_others_are() {
        // RFC 5280 §4.1.2.5: the end of what has no end.
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!("9999-12-31T23:59:59Z".parse(), Ok(Timestamp::MAX));
        for text in ["1970-01-01T00:00:00Z", "2024-02-29T23:59:59Z", "2100-03-01T00:00:00Z", "9999-12-30T22:00:01Z"] {
            let at: Timestamp = text.parse().expect("a time");
            assert_eq!(at.to_string(), text);
        }
        assert_eq!("10000-01-01T00:00:00+00:01".parse::<Timestamp>(), Err(NotATimestamp));
        assert_eq!("9999-12-31T23:59:00-00:01".parse::<Timestamp>(), Err(NotATimestamp));
    }

    #[test]
    fn times_outside_the_four_digit_years_are_refused() {
        assert_eq!("1969-12-31T23:59:59Z".parse::<Timestamp>(), Err(NotATimestamp));
        assert_eq!("-000001-01-01T00:00:00Z".parse::<Timestamp>(), Err(NotATimestamp));
    }

    #[test]
    fn times_that_rfc_3339_does_not_write_are_refused_and_not_guessed_at() {
        for text in [
            "2026-11-25 10:00:00Z",
            "2026-11-25T10:00Z",
            "2026-11-25T10Z",
            "20261125T100000Z",
            "2026-11-25T10:00:00",
            "2026-11-25T10:00:00,5Z",
            "2026-11-25T10:00:00.Z",
            "2026-11-25T10:00:00+0100",
            "2026-11-25T10:00:00+24:00",
            "2026-11-25T10:00:00+01:00:30",
            "2026-11-25T10:00:00Z[UTC]",
            "+002026-11-25T10:00:00Z",
            "2026-02-29T10:00:00Z",
            " 2026-11-25T10:00:00Z",
            "2026-11-25T10:00:00Z\n",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(NotATimestamp), "{text:?}");
        }
        let at = Timestamp::from_unix_seconds(1_795_600_000);
        for text in ["2026-11-25t09:46:40z", "2026-11-25T10:46:40+01:00", "2026-11-24T09:47:40-23:59"] {
            assert_eq!(text.parse(), Ok(at), "{text}");
        }
    }

    #[test]
    fn a_time_that_could_only_be_changed_silently_is_refused() {
        for text in ["2026-11-25T23:59:60Z", "2026-11-25T10:00:00.0004Z", "2026-11-25T10:00:00.1230001Z"] {
            assert_eq!(text.parse::<Timestamp>(), Err(NotATimestamp), "{text}");
        }
        assert_eq!("2026-11-25T09:46:40.500000Z".parse(), Ok(Timestamp::from_unix_millis(1_795_600_000_500)));
    }
}
