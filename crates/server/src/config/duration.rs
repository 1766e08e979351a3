//! Durations as people write them: `90d`, `1h30m`, `250ms`.

use std::{fmt, time::Duration};

/// The units, the longest first. A day has 24 hours and a week seven days.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotADuration;

/// Reads whole numbers with a unit each, the longest unit first.
pub(crate) fn parse(text: &str) -> Result<Duration, NotADuration> {
    let mut rest = text.trim();
    let mut millis: u64 = 0;
    let mut below = u64::MAX;
    if rest.is_empty() {
        return Err(NotADuration);
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| NotADuration)?;
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(NotADuration)?;
        if *size >= below {
            return Err(NotADuration);
        }
        below = *size;
        millis = number.checked_mul(*size).and_then(|part| millis.checked_add(part)).ok_or(NotADuration)?;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// A duration as it is written in the file.
pub(crate) struct Written(pub(crate) Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS.iter().filter(|(unit, _)| *unit != "w") {
            if left >= *size {
                write!(f, "{}{unit}", left / size)?;
                left %= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("90d", 7_776_000_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("2w1d", 1_296_000_000),
            ("0s", 0),
            (" 5m ", 300_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "90", "d", "-1d", "1.5h", "1m1h", "1d1d", "1 d", "1y", "99999999999999999999d", "584942417356w"]
        {
            assert_eq!(parse(text), Err(NotADuration), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for millis in [0, 1, 1_000, 61_000, 5_400_000, 7_776_000_001] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&Written(duration).to_string()), Ok(duration));
        }
    }
}
