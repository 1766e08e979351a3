//! How fast issuers are looked at, all together: tenants do not keep the operator's waiting.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use tokio::time::sleep;

use crate::board::IssuerKey;

/// Looks at cluster issuers each second, and as many at once after a pause.
const OF_CLUSTER: NonZeroU32 = NonZeroU32::new(50).expect("not zero");
/// The same for all issuers of namespaces together.
const OF_NAMESPACES: NonZeroU32 = NonZeroU32::new(100).expect("not zero");

/// See the module.
#[derive(Debug)]
pub(crate) struct Checks {
    of_cluster: DefaultDirectRateLimiter,
    of_namespaces: DefaultDirectRateLimiter,
}

impl Checks {
    pub(crate) fn new() -> Self {
        let [of_cluster, of_namespaces] =
            [OF_CLUSTER, OF_NAMESPACES].map(|rate| RateLimiter::direct(Quota::per_second(rate)));
        Self { of_cluster, of_namespaces }
    }

    /// Waits until one more may be looked at.
    pub(super) async fn turn(&self, key: &IssuerKey) {
        let limiter = if key.namespace.is_none() { &self.of_cluster } else { &self.of_namespaces };
        while let Err(until) = limiter.check() {
            sleep(until.wait_time_from(DefaultClock::default().now()).max(Duration::from_millis(1))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::FutureExt as _;

    use super::*;

    fn key(namespace: Option<&str>) -> IssuerKey {
        IssuerKey { namespace: namespace.map(Into::into), name: "corp".into() }
    }

    /// How many turns come at once, and how many more the time that this took would have let through.
    fn at_once(checks: &Checks, key: &IssuerKey, rate: NonZeroU32) -> (u32, u32) {
        let began = Instant::now();
        let mut turns = 0;
        while turns < 10_000 && checks.turn(key).now_or_never().is_some() {
            turns += 1;
        }
        let more = u32::try_from(began.elapsed().as_millis()).expect("a short time") * rate.get() / 1000;
        (turns, more + 1)
    }

    #[tokio::test]
    async fn a_flood_of_tenants_issuers_waits_and_the_clusters_do_not_wait_for_it() {
        let checks = Checks::new();
        let (turns, more) = at_once(&checks, &key(Some("flood")), OF_NAMESPACES);
        assert!(turns >= 100 && turns <= 100 + more, "{turns} at once, {more} by time");
        // Another namespace shares them; the operator's have their own.
        let (turns, more) = at_once(&checks, &key(Some("other")), OF_NAMESPACES);
        assert!(turns <= more, "{turns} at once, {more} by time");
        let (turns, more) = at_once(&checks, &key(None), OF_CLUSTER);
        assert!(turns >= 50 && turns <= 50 + more, "{turns} at once, {more} by time");
        // Whose turn has not come waits, and gets it.
        tokio::time::timeout(Duration::from_secs(5), checks.turn(&key(Some("flood")))).await.expect("its turn");
    }
}
