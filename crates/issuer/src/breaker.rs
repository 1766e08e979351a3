//! A circuit breaker: a server that fails again and again is asked by one request at a time, and seldom.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff;

/// Failures in a row after which it opens.
const FAILURES: u32 = 5;

/// Whether an issuer's server is asked.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Breaker {
    failures: u32,
    /// While it is set, only one request at a time is let through, and none before then.
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether one more may be sent, `in_flight` of them being under way.
    pub(crate) fn admits(&self, in_flight: usize, now: Instant) -> bool {
        self.open_until.is_none_or(|until| now >= until && in_flight == 0)
    }

    /// When it lets the next one through, if it does not now.
    pub(crate) fn opens_at(&self) -> Option<Instant> {
        self.open_until
    }

    /// Whether it is open.
    pub(crate) const fn is_open(&self) -> bool {
        self.open_until.is_some()
    }

    /// The server answered.
    pub(crate) const fn succeeded(&mut self) {
        self.failures = 0;
        self.open_until = None;
    }

    /// The server did not answer, or is busy.
    pub(crate) fn failed(&mut self, who: &str, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            let pause = backoff::wait(self.failures - FAILURES + 1, who).max(Duration::from_millis(500));
            self.open_until = Some(now + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_and_one_probe_goes_through_later() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            breaker.failed("a", now);
        }
        assert!(breaker.admits(30, now));
        breaker.failed("a", now);
        assert!(!breaker.admits(0, now));
        now = breaker.opens_at().expect("it is open");
        assert!(breaker.admits(0, now) && !breaker.admits(1, now), "one probe");
        breaker.failed("a", now);
        assert!(!breaker.admits(0, now));
        breaker.succeeded();
        assert!(breaker.admits(30, now));
    }

    #[test]
    fn an_answer_in_between_starts_the_count_again() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            for _ in 0..4 {
                breaker.failed("a", now);
            }
            breaker.succeeded();
        }
        assert!(!breaker.is_open());
    }
}
