//! How long a certificate may live: what is asked for is granted exactly or refused in words.

use std::time::Duration;

use super::Profile;
use crate::time::{Lifetime, Timestamp, Validity};

/// A validity that was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedValidity {
    validity: Validity,
    cut_by_issuer: bool,
}

impl GrantedValidity {
    /// From when to when.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether it ends with the issuer, earlier than the profile would have it: time to renew the issuer.
    #[must_use]
    pub const fn is_cut_by_issuer(&self) -> bool {
        self.cut_by_issuer
    }
}

/// Why a validity is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidityRejection {
    /// X.509 has whole seconds, so a fraction could only be changed silently.
    #[error("{field} has a fraction of a second, and a certificate's times are whole seconds")]
    Fraction {
        /// `notBefore` or `notAfter`.
        field: &'static str,
    },
    /// notBefore lies further back than the profile allows.
    #[error("notBefore {asked} is too long ago; the earliest is {earliest}")]
    BeginsTooEarly {
        /// What was asked for.
        asked: Timestamp,
        /// The earliest that would be granted.
        earliest: Timestamp,
    },
    /// notAfter lies before notBefore.
    #[error("notAfter {not_after} is before notBefore {not_before}")]
    Reversed {
        /// The beginning.
        not_before: Timestamp,
        /// The end.
        not_after: Timestamp,
    },
    /// The end has passed.
    #[error("notAfter {asked} has passed")]
    Over {
        /// What was asked for.
        asked: Timestamp,
    },
    /// The life is longer than the profile allows.
    #[error("from {not_before} to {not_after} is longer than {max}; the latest notAfter is {latest}")]
    TooLong {
        /// The beginning.
        not_before: Timestamp,
        /// The end.
        not_after: Timestamp,
        /// The longest life.
        max: Lifetime,
        /// The latest end that would be granted.
        latest: Timestamp,
    },
    /// The life is shorter than the profile allows.
    #[error("from {not_before} to {not_after} is shorter than {min}")]
    TooShort {
        /// The beginning.
        not_before: Timestamp,
        /// The end.
        not_after: Timestamp,
        /// The shortest life.
        min: Lifetime,
    },
    /// A life was asked for that is longer than the profile allows.
    #[error("a life of {asked} is longer than {max}, the longest that this profile gives")]
    LifeTooLong {
        /// What was asked for.
        asked: Lifetime,
        /// The longest life.
        max: Lifetime,
    },
    /// A life was asked for that is shorter than the profile allows, or over when it is given.
    #[error("a life of {asked} is shorter than {min}, the shortest that this profile gives")]
    LifeTooShort {
        /// What was asked for.
        asked: Lifetime,
        /// The shortest life.
        min: Lifetime,
    },
    /// What was asked for ends after the issuer.
    #[error("notAfter {not_after} is after {issuer_not_after}, when the issuer's own certificate ends")]
    BeyondIssuer {
        /// The end.
        not_after: Timestamp,
        /// The issuer's end.
        issuer_not_after: Timestamp,
    },
    /// The issuer ends too soon for any certificate of this profile.
    #[error("the issuer's own certificate ends at {issuer_not_after}, too soon for a life of {min}")]
    IssuerEnds {
        /// The issuer's end.
        issuer_not_after: Timestamp,
        /// The shortest life.
        min: Lifetime,
    },
}

impl Profile {
    /// The validity of a certificate that is issued now.
    ///
    /// What is asked for (`notBefore`, `notAfter`; RFC 8555 §7.4) is granted to the second or
    /// refused. A beginning that was not asked for is [`Self::backdate`] ago, later where the end
    /// asked for would otherwise be too far away, but never later than now. An end that was not
    /// asked for is [`Self::lifetime`] after the beginning, or the issuer's end where that is earlier.
    /// A beginning in the future is granted as long as the end is one that could be had today.
    ///
    /// # Errors
    ///
    /// [`ValidityRejection`], which says what would have been granted.
    pub fn validity(
        &self,
        now: Timestamp,
        asked: (Option<Timestamp>, Option<Timestamp>),
        issuer_not_after: Timestamp,
    ) -> Result<GrantedValidity, ValidityRejection> {
        use ValidityRejection as R;
        let (now, issuer_not_after) = (now.whole_seconds(), issuer_not_after.whole_seconds());
        let (min, max) = (self.lifetime_min(), self.lifetime_max());
        for (field, time) in [("notBefore", asked.0), ("notAfter", asked.1)] {
            if time.is_some_and(|time| time != time.whole_seconds()) {
                return Err(R::Fraction { field });
            }
        }
        let earliest = now.before(self.backdate());
        let not_before = match asked {
            (Some(not_before), _) if not_before < earliest => {
                return Err(R::BeginsTooEarly { asked: not_before, earliest });
            }
            (Some(not_before), _) => not_before,
            (None, Some(not_after)) => now.min(earliest.max(not_after.before(span(max)))),
            (None, None) => earliest,
        };
        let Some(not_after) = asked.1 else {
            return self.until_default_end(now, not_before, issuer_not_after);
        };
        if not_after < now {
            return Err(R::Over { asked: not_after });
        }
        let validity = Validity::new(not_before, not_after).map_err(|_| R::Reversed { not_before, not_after })?;
        self.within_maximum(now, &validity)?;
        if validity.lifetime_seconds() < u64::from(min.seconds()) {
            return Err(R::TooShort { not_before, not_after, min });
        }
        if not_after > issuer_not_after {
            return Err(R::BeyondIssuer { not_after, issuer_not_after });
        }
        Ok(GrantedValidity { validity, cut_by_issuer: false })
    }

    /// The validity of a certificate that is issued now and for which a life is asked, as Kubernetes' requesters do: it
    /// is granted to the second, counted from a beginning [`Self::backdate`] ago, or refused. It is never cut. Of a short
    /// life at most a twentieth has passed when it is given: whoever renews by what is left would renew at once.
    ///
    /// # Errors
    ///
    /// [`ValidityRejection`], which says what would have been granted.
    pub fn validity_of_life(
        &self,
        now: Timestamp,
        asked: Lifetime,
        issuer_not_after: Timestamp,
    ) -> Result<GrantedValidity, ValidityRejection> {
        use ValidityRejection as R;
        let now = now.whole_seconds();
        let (min, max) = (self.lifetime_min(), self.lifetime_max());
        if asked > max {
            return Err(R::LifeTooLong { asked, max });
        }
        if asked < min {
            return Err(R::LifeTooShort { asked, min });
        }
        let backdate = self.backdate().min(Duration::from_secs(u64::from(asked.seconds()) / 20));
        let validity = Validity::starting(now.before(backdate), asked);
        let (not_after, issuer_not_after) = (validity.not_after(), issuer_not_after.whole_seconds());
        if not_after > issuer_not_after {
            return Err(R::BeyondIssuer { not_after, issuer_not_after });
        }
        Ok(GrantedValidity { validity, cut_by_issuer: false })
    }

    fn until_default_end(
        &self,
        now: Timestamp,
        not_before: Timestamp,
        issuer_not_after: Timestamp,
    ) -> Result<GrantedValidity, ValidityRejection> {
        let min = self.lifetime_min();
        let full = Validity::starting(not_before, self.lifetime());
        self.within_maximum(now, &full)?;
        let issuer_ends = || ValidityRejection::IssuerEnds { issuer_not_after, min };
        if full.not_after() <= issuer_not_after {
            return Ok(GrantedValidity { validity: full, cut_by_issuer: false });
        }
        if issuer_not_after < now {
            return Err(issuer_ends());
        }
        let validity = Validity::new(not_before, issuer_not_after).map_err(|_| issuer_ends())?;
        if validity.lifetime_seconds() < u64::from(min.seconds()) {
            return Err(issuer_ends());
        }
        Ok(GrantedValidity { validity, cut_by_issuer: true })
    }

    /// No longer than the profile allows, and no later than what could be had by asking now.
    fn within_maximum(&self, now: Timestamp, validity: &Validity) -> Result<(), ValidityRejection> {
        let (not_before, not_after) = (validity.not_before(), validity.not_after());
        let max = self.lifetime_max();
        let latest = not_before.min(now).after(span(max));
        if not_after > latest {
            return Err(ValidityRejection::TooLong { not_before, not_after, max, latest });
        }
        Ok(())
    }
}

/// From the first second of a life to its last.
fn span(lifetime: Lifetime) -> Duration {
    Duration::from_secs(u64::from(lifetime.seconds()) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::ProfileSpec;

    const NOW: i64 = 1_795_600_000;
    const DAY: i64 = 86_400;
    const HOUR: i64 = 3_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(NOW + seconds)
    }

    fn server() -> Profile {
        Profile::new(ProfileSpec::server()).expect("the default profile is sound")
    }

    fn ask(asked: (Option<i64>, Option<i64>), issuer_ends: i64) -> Result<(i64, i64, bool), ValidityRejection> {
        let now = Timestamp::from_unix_millis(NOW * 1000 + 700);
        let granted = server().validity(now, (asked.0.map(at), asked.1.map(at)), at(issuer_ends))?;
        let validity = granted.validity();
        let relative = |time: Timestamp| time.unix_seconds() - NOW;
        Ok((relative(validity.not_before()), relative(validity.not_after()), granted.is_cut_by_issuer()))
    }

    #[test]
    fn where_nothing_is_asked_the_profiles_life_is_counted_from_not_before_with_its_end_included() {
        assert_eq!(ask((None, None), 999 * DAY), Ok((-HOUR, 90 * DAY - HOUR - 1, false)));
    }

    #[test]
    fn where_nothing_is_asked_the_life_ends_with_the_issuer_and_says_so() {
        assert_eq!(ask((None, None), 30 * DAY), Ok((-HOUR, 30 * DAY, true)));
        assert_eq!(ask((None, None), 90 * DAY - HOUR - 1), Ok((-HOUR, 90 * DAY - HOUR - 1, false)));
        assert_eq!(ask((Some(0), None), 30 * DAY), Ok((0, 30 * DAY, true)));
        assert!(matches!(ask((None, None), -1), Err(ValidityRejection::IssuerEnds { .. })));
    }

    #[test]
    fn what_is_asked_is_granted_to_the_second() {
        for asked in [(0, HOUR), (-HOUR, 90 * DAY - 1), (0, 90 * DAY - 1), (-5, 7 * DAY), (DAY, 2 * DAY)] {
            assert_eq!(ask((Some(asked.0), Some(asked.1)), 999 * DAY), Ok((asked.0, asked.1, false)));
        }
    }

    #[test]
    fn an_end_that_cert_manager_asks_for_by_default_is_granted_whatever_the_latency_or_a_fast_clock() {
        for skew in [-HOUR, -60, -1, 0, 1, 60, HOUR - 1] {
            let asked = 90 * DAY + skew;
            let (not_before, not_after, _) = ask((None, Some(asked)), 999 * DAY).expect("granted");
            assert!(not_before <= 0, "not valid now");
            assert_eq!(not_after, asked);
        }
    }

    #[test]
    fn what_cannot_be_granted_is_refused_and_never_changed() {
        use ValidityRejection as R;
        let late = 999 * DAY;
        assert!(matches!(ask((Some(-HOUR - 1), None), late), Err(R::BeginsTooEarly { .. })));
        assert!(matches!(ask((Some(DAY), Some(HOUR)), late), Err(R::Reversed { .. })));
        assert!(matches!(ask((Some(-HOUR), Some(-1)), late), Err(R::Over { .. })));
        assert!(matches!(ask((None, Some(-DAY)), late), Err(R::Over { .. })));
        assert!(matches!(ask((Some(-HOUR), Some(90 * DAY)), late), Err(R::TooLong { .. })));
        assert!(matches!(ask((None, Some(91 * DAY)), late), Err(R::TooLong { .. })));
        assert!(matches!(ask((Some(0), Some(HOUR - 2)), late), Err(R::TooShort { .. })));
        assert!(matches!(ask((None, Some(31 * DAY)), 30 * DAY), Err(R::BeyondIssuer { .. })));
        let half = Timestamp::from_unix_millis((NOW + DAY) * 1000 + 500);
        assert!(matches!(server().validity(at(0), (None, Some(half)), at(late)), Err(R::Fraction { .. })));
    }

    #[test]
    fn a_life_that_is_asked_for_is_granted_to_the_second_or_refused_in_words() {
        use ValidityRejection as R;
        let life = |seconds| Lifetime::from_seconds(seconds).expect("in range");
        let ask = |seconds, issuer_end| server().validity_of_life(at(0), life(seconds), at(issuer_end));
        // An hour before now, and never more than a twentieth of the life.
        for (seconds, before) in
            [(3600, 180), (2 * 3600, 360), (896 * 3600, HOUR), (90 * 86_400, HOUR), (90 * 86_400 + 3600, HOUR)]
        {
            let granted = ask(seconds, 999 * DAY).expect("granted");
            assert_eq!(granted.validity().lifetime_seconds(), seconds);
            assert_eq!(granted.validity().not_before(), at(-before));
            assert!(!granted.is_cut_by_issuer());
        }
        assert!(matches!(ask(90 * 86_400 + 3601, 999 * DAY), Err(R::LifeTooLong { .. })));
        assert!(matches!(ask(3599, 999 * DAY), Err(R::LifeTooShort { .. })));
        assert!(ask(30 * 86_400, 30 * DAY - HOUR - 1).is_ok());
        let cut = ask(30 * 86_400, 30 * DAY - HOUR - 2).expect_err("longer than the issuer");
        assert!(matches!(cut, R::BeyondIssuer { .. }), "{cut}");
        assert_eq!(
            ask(999 * 86_400, 999 * DAY).expect_err("too long").to_string(),
            "a life of 999d is longer than 90d1h, the longest that this profile gives"
        );
    }

    #[test]
    fn a_beginning_in_the_future_buys_no_later_end() {
        assert!(matches!(ask((Some(2 * DAY), None), 999 * DAY), Err(ValidityRejection::TooLong { .. })));
        assert!(matches!(ask((Some(80 * DAY), Some(120 * DAY)), 999 * DAY), Err(ValidityRejection::TooLong { .. })));
    }
}
