//! Token buckets: how fast one client may ask for what costs something to keep.
//!
//! The buckets are in memory and bounded. When too many keys are in use at once, all further
//! ones share a single bucket: a flood from countless addresses slows down strangers, never memory.

use std::{
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};

/// Keys with a bucket of their own; one takes some 50 octets.
const KEYS_MAX: usize = 1 << 16;
/// Checks between two looks for buckets that are full again and can go.
const PRUNE_EVERY: u32 = 1 << 10;

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many at once.
    pub burst: NonZeroU32,
    /// One more after each of these.
    pub one_each: Duration,
}

/// How fast each client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// New accounts from one address (one /64 of IPv6); `None` sets no limit.
    pub new_accounts_per_address: Option<Rate>,
    /// Requests from one address that bring their own key, each of which has to be looked at; `None` sets no limit.
    pub brought_keys_per_address: Option<Rate>,
    /// New orders of one account; `None` sets no limit.
    pub orders_per_account: Option<Rate>,
}

impl RateLimits {
    /// No limits at all.
    pub const NONE: Self =
        Self { new_accounts_per_address: None, brought_keys_per_address: None, orders_per_account: None };
}

impl Default for RateLimits {
    /// Enough for a rack that is set up at once; too little for a loop that runs wild all night.
    fn default() -> Self {
        let rate = |burst: u32, millis| Rate {
            burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
            one_each: Duration::from_millis(millis),
        };
        Self {
            new_accounts_per_address: Some(rate(100, 10_000)),
            brought_keys_per_address: Some(rate(1_000, 1_000)),
            orders_per_account: Some(rate(1_000, 500)),
        }
    }
}

type Limiter<K, C> = RateLimiter<Option<K>, DashMapStateStore<Option<K>>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// One bucket for each key, as long as they are not too many.
pub(crate) struct Buckets<K: Hash + Eq + Clone, C: Clock = DefaultClock> {
    // `None` is the bucket that is shared when there are too many keys.
    limiter: Option<Limiter<K, C>>,
    clock: C,
    keys_max: usize,
    checks: AtomicU32,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self::with(rate, DefaultClock::default(), KEYS_MAX)
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Buckets<K, C> {
    fn with(rate: Option<Rate>, clock: C, keys_max: usize) -> Self {
        let limiter = rate.map(|rate| {
            let quota = Quota::with_period(rate.one_each.max(Duration::from_nanos(1)))
                .expect("a period that is not zero")
                .allow_burst(rate.burst);
            RateLimiter::new(quota, DashMapStateStore::default(), clock.clone())
        });
        Self { limiter, clock, keys_max, checks: AtomicU32::new(0) }
    }

    /// Takes one; `Err` says after how long it is worth asking again.
    pub(crate) fn take(&self, key: K) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if self.checks.fetch_add(1, Ordering::Relaxed) % PRUNE_EVERY == PRUNE_EVERY - 1 {
            limiter.retain_recent();
        }
        let key = if limiter.len() < self.keys_max { Some(key) } else { None };
        limiter.check_key(&key).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.limiter.as_ref().map_or(0, RateLimiter::len)
    }
}

/// What stands for a client: its IPv4 address, or the /64 that an IPv6 host usually has to itself.
pub(crate) fn bucket_of(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        // The high half; no global IPv6 address begins with 32 zero bits, as the IPv4 ones here do.
        IpAddr::V6(v6) => u64::try_from(u128::from(v6) >> 64).expect("64 of 128 bits"),
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn buckets(burst: u32, keys_max: usize) -> (Buckets<u64, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rate = Rate { burst: NonZeroU32::new(burst).expect("positive"), one_each: Duration::from_secs(10) };
        (Buckets::with(Some(rate), clock.clone(), keys_max), clock)
    }

    #[test]
    fn a_burst_is_let_through_then_one_each_period_and_each_key_for_itself() {
        let (buckets, clock) = buckets(3, 100);
        for _ in 0..3 {
            buckets.take(1).expect("within the burst");
        }
        let wait = buckets.take(1).expect_err("the burst is over");
        assert!(wait > Duration::from_secs(9) && wait <= Duration::from_secs(10), "{wait:?}");
        buckets.take(2).expect("another key");
        clock.advance(Duration::from_secs(10));
        buckets.take(1).expect("one more");
        buckets.take(1).expect_err("and no other");
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let buckets: Buckets<u64> = Buckets::new(None);
        for _ in 0..10_000 {
            buckets.take(1).expect("no limit");
        }
    }

    #[test]
    fn keys_are_bounded_beyond_the_bound_strangers_share_and_idle_keys_make_room() {
        let (buckets, clock) = buckets(2, 500);
        let refused = (0..10_000).filter(|key| buckets.take(*key).is_err()).count();
        assert!(buckets.keys() <= 501, "{}", buckets.keys());
        assert!(refused > 9_000, "the crowd shares one bucket: {refused}");
        clock.advance(Duration::from_secs(60));
        for key in 0..u64::from(PRUNE_EVERY) {
            let _ = buckets.take(20_000 + key % 10);
        }
        assert!(buckets.keys() <= 12, "{}", buckets.keys());
        buckets.take(99).expect("a bucket of its own");
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_ipv4_address_is_the_ipv4_address() {
        let of = |text: &str| bucket_of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
