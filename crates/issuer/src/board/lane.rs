//! What waits for one issuer, and how fast its server is asked.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use tokio::time::Instant;

use super::{Uid, shares::Shares};
use crate::{breaker::Breaker, decide::IssuerState, resource::RateLimit, signer::Signer};

/// One issuer's queue.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) state: IssuerState,
    pub(super) signer: Option<Arc<Signer>>,
    /// The signer that there was last.
    pub(super) last: Option<Arc<Signer>>,
    pub(super) in_flight: usize,
    pub(super) breaker: Breaker,
    /// One row for each namespace.
    rows: HashMap<Box<str>, VecDeque<Uid>>,
    /// The rows by the turn that their namespaces had when it was looked last.
    order: BTreeSet<(u64, Box<str>)>,
    /// What lies in the rows.
    queued: HashSet<Uid>,
    rate: RateLimit,
    limiter: DefaultDirectRateLimiter,
    /// There is no token before then.
    throttled: Option<Instant>,
}

/// What a lane has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// A request of the namespace whose turn this is.
    Turn(u64),
    /// Nothing before then.
    Until(Instant),
    /// Nothing before one that is under way has ended.
    Busy,
    /// Nothing at all.
    Empty,
}

impl Lane {
    pub(super) fn new(rate: RateLimit) -> Self {
        Self {
            state: IssuerState::Unchecked,
            signer: None,
            last: None,
            in_flight: 0,
            breaker: Breaker::default(),
            rows: HashMap::new(),
            order: BTreeSet::new(),
            queued: HashSet::new(),
            rate,
            limiter: limiter(rate),
            throttled: None,
        }
    }

    /// Takes another state; what was queued comes out, to be placed anew, unless it may stay.
    pub(super) fn become_(&mut self, state: IssuerState, signer: Option<Arc<Signer>>, rate: RateLimit) -> Vec<Uid> {
        if rate != self.rate {
            self.rate = rate;
            self.limiter = limiter(rate);
            self.throttled = None;
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
        if stays { Vec::new() } else { self.drain() }
    }

    /// Puts a request at the end of its namespace's row, unless it lies there.
    pub(super) fn push(&mut self, namespace: &str, uid: &Uid, turn: u64) {
        if !self.queued.insert(Arc::clone(uid)) {
            return;
        }
        if let Some(row) = self.rows.get_mut(namespace) {
            row.push_back(Arc::clone(uid));
        } else {
            self.rows.insert(namespace.into(), VecDeque::from([Arc::clone(uid)]));
            self.order.insert((turn, namespace.into()));
        }
    }

    /// What there is to do. `free` places are left; one lane gets no more than there are left for others, so that a
    /// server that hangs never has them all.
    pub(super) fn offer(&mut self, now: Instant, free: usize, shares: &Shares, live: impl Fn(&Uid) -> bool) -> Offer {
        let Some(turn) = self.head(shares, live) else { return Offer::Empty };
        if self.in_flight >= free {
            return Offer::Busy;
        }
        if !self.breaker.admits(self.in_flight, now) {
            // With one under way, its end says more than any time.
            return self.breaker.opens_at().filter(|until| *until > now).map_or(Offer::Busy, Offer::Until);
        }
        self.throttled = self.throttled.filter(|until| *until > now);
        self.throttled.map_or(Offer::Turn(turn), Offer::Until)
    }

    /// The turn of the first row; rows without anything live are dropped.
    fn head(&mut self, shares: &Shares, live: impl Fn(&Uid) -> bool) -> Option<u64> {
        loop {
            let (known, namespace) = self.order.first()?.clone();
            let row = self.rows.get_mut(&namespace)?;
            while let Some(uid) = row.front()
                && !live(uid)
            {
                self.queued.remove(uid);
                row.pop_front();
            }
            let (empty, turn) = (row.is_empty(), shares.turn(&namespace));
            if !empty && turn == known {
                return Some(turn);
            }
            // The namespace had its turn at another issuer, or has nothing left here.
            self.order.pop_first();
            if empty {
                self.rows.remove(&namespace);
            } else {
                self.order.insert((turn, namespace));
            }
        }
    }

    /// Takes what was offered, with a token for it; the namespace is told with it.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Box<str>, Uid)> {
        if let Err(until) = self.limiter.check() {
            let wait = until.wait_time_from(DefaultClock::default().now());
            self.throttled = Some(now + wait.max(Duration::from_micros(1)));
            return None;
        }
        let (_, namespace) = self.order.first()?.clone();
        let uid = self.rows.get_mut(&namespace)?.pop_front()?;
        self.queued.remove(&uid);
        Some((namespace, uid))
    }

    /// Takes all out.
    pub(super) fn drain(&mut self) -> Vec<Uid> {
        self.order.clear();
        self.queued.clear();
        self.rows.drain().flat_map(|(_, row)| row).collect()
    }
}

fn limiter(rate: RateLimit) -> DefaultDirectRateLimiter {
    let at_least_one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let each_second = at_least_one(rate.requests_per_second);
    let quota = Quota::per_second(each_second).allow_burst(at_least_one(rate.burst.unwrap_or(each_second.get())));
    RateLimiter::direct(quota)
}

/// An issuer's own limit under the controller's. An issuer of a namespace is a tenant's: it only lowers it.
pub(super) fn rate(of_issuer: Option<RateLimit>, of_controller: RateLimit, is_tenants: bool) -> RateLimit {
    let Some(own) = of_issuer else { return of_controller };
    if !is_tenants {
        return own;
    }
    let burst = |rate: RateLimit| rate.burst.unwrap_or(rate.requests_per_second);
    RateLimit {
        requests_per_second: own.requests_per_second.min(of_controller.requests_per_second),
        burst: Some(burst(own).min(burst(of_controller))),
    }
}
