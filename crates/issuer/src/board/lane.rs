//! What waits for one issuer, and how fast its server is asked.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use tokio::time::Instant;

use super::Uid;
use crate::{breaker::Breaker, decide::IssuerState, queue::FairQueue, resource::RateLimit, signer::Signer};

/// One issuer's queue.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) state: IssuerState,
    pub(super) signer: Option<Arc<Signer>>,
    /// The signer that there was last.
    pub(super) last: Option<Arc<Signer>>,
    pub(super) queue: FairQueue<Uid>,
    /// What lies in `queue`.
    pub(super) queued: HashSet<Uid>,
    pub(super) in_flight: usize,
    pub(super) breaker: Breaker,
    rate: RateLimit,
    limiter: DefaultDirectRateLimiter,
}

impl Lane {
    pub(super) fn new(rate: RateLimit) -> Self {
        Self {
            state: IssuerState::Unchecked,
            signer: None,
            last: None,
            queue: FairQueue::default(),
            queued: HashSet::new(),
            in_flight: 0,
            breaker: Breaker::default(),
            rate,
            limiter: limiter(rate),
        }
    }

    /// Takes another state; what was queued comes out, to be placed anew, unless it may stay.
    pub(super) fn become_(&mut self, state: IssuerState, signer: Option<Arc<Signer>>, rate: RateLimit) -> Vec<Uid> {
        if rate != self.rate {
            self.rate = rate;
            self.limiter = limiter(rate);
        }
        let stays = self.state == IssuerState::Ready && state == IssuerState::Ready;
        if state == IssuerState::Ready && !stays {
            self.breaker.succeeded();
        }
        self.state = state;
        if signer.is_some() {
            self.last.clone_from(&signer);
        }
        self.signer = signer;
        if stays {
            return Vec::new();
        }
        self.queued.clear();
        self.queue.drain()
    }

    /// The next one, if the breaker lets one through: none if nothing waits, or when to ask again.
    pub(super) fn offer(&mut self, now: Instant) -> Result<Option<Uid>, Instant> {
        if self.queue.len() == 0 {
            return Ok(None);
        }
        if !self.breaker.admits(self.in_flight, now) {
            // With one under way, its end says more than any time.
            return match self.breaker.opens_at().filter(|until| *until > now) {
                Some(until) => Err(until),
                None => Ok(None),
            };
        }
        let uid = self.queue.pop();
        if let Some(uid) = &uid {
            self.queued.remove(uid);
        }
        Ok(uid)
    }

    /// Takes a token, or says how long there is none.
    pub(super) fn token(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

fn limiter(rate: RateLimit) -> DefaultDirectRateLimiter {
    let at_least_one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let each_second = at_least_one(rate.requests_per_second);
    let quota = Quota::per_second(each_second).allow_burst(at_least_one(rate.burst.unwrap_or(each_second.get())));
    RateLimiter::direct(quota)
}
