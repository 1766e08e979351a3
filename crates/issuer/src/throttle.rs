//! How many certificates one Secret gets within an hour. Two Certificates, or two controllers, that write one Secret
//! undo each other's work at once and for ever; each round would be a certificate.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::board::Uid;

/// What is counted together.
const WINDOW: Duration = Duration::from_hours(1);
/// Certificates for one Secret within it, whatever their life.
const USUAL: usize = 20;
/// Further ones in each life: it is renewed at two thirds of it, and may be needed again in between.
const EACH_LIFE: u64 = 3;
/// Most Secrets that are counted; while there are more, further ones are not.
const SECRETS_MAX: usize = 20_000;

type Secret = (Box<str>, Box<str>);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<HashMap<Secret, VecDeque<(Instant, Uid)>>>);

impl Throttle {
    /// Whether a request for a Secret may be signed now; else how long it has to wait. Asked again for the same
    /// request it is counted once.
    ///
    /// # Errors
    ///
    /// The wait.
    pub(crate) fn enter(
        &self,
        namespace: &str,
        secret: &str,
        uid: &Uid,
        life: Duration,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.into(), secret.into());
        if secrets.len() >= SECRETS_MAX && !secrets.contains_key(&key) {
            secrets.retain(|_, entered| entered.back().is_some_and(|(at, _)| is_recent(*at, now)));
            if secrets.len() >= SECRETS_MAX {
                return Ok(());
            }
        }
        let entered = secrets.entry(key).or_default();
        while entered.front().is_some_and(|(at, _)| !is_recent(*at, now)) {
            entered.pop_front();
        }
        if entered.iter().any(|(_, known)| known == uid) {
            return Ok(());
        }
        if entered.len() >= allowed(life) {
            let first = entered.front().map_or(now, |(at, _)| *at);
            return Err((first + WINDOW).saturating_duration_since(now));
        }
        entered.push_back((now, Uid::clone(uid)));
        Ok(())
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < WINDOW
}

/// How many certificates of this life one Secret gets within the window.
pub(crate) fn allowed(life: Duration) -> usize {
    let lives = WINDOW.as_secs().div_ceil(life.as_secs().max(60));
    USUAL + usize::try_from(EACH_LIFE * lives).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAYS: Duration = Duration::from_hours(24 * 90);

    fn entered(throttle: &Throttle, secret: &str, life: Duration, count: usize, now: Instant) -> usize {
        let uid = |number: usize| Uid::from(format!("{secret}-{number}-{now:?}"));
        (0..count).filter(|number| throttle.enter("shop", secret, &uid(*number), life, now).is_ok()).count()
    }

    #[test]
    fn two_controllers_that_fight_over_a_secret_get_no_more_than_some_certificates_an_hour() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        assert_eq!(entered(&throttle, "web-tls", DAYS, 5000, now), 23);
        assert_eq!(throttle.enter("shop", "web-tls", &"next".into(), DAYS, now), Err(WINDOW));
        assert!(throttle.enter("shop", "web-tls", &"next".into(), DAYS, now + WINDOW).is_ok(), "and then it goes on");
        assert_eq!(entered(&throttle, "other-tls", DAYS, 20, now), 20, "another Secret");
    }

    #[test]
    fn a_request_that_is_tried_again_is_counted_once() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..100 {
            assert!(throttle.enter("shop", "web-tls", &"same".into(), DAYS, now).is_ok());
        }
    }

    #[test]
    fn short_lives_are_renewed_as_often_as_they_need() {
        // Five minutes are renewed after three and a third: eighteen times an hour.
        assert!(allowed(Duration::from_mins(5)) >= 36);
        assert_eq!(allowed(DAYS), 23);
    }
}
