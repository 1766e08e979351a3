//! Whose turn it is among the objects of one kind that ask a signer.
//!
//! Only what is to be signed now, or waits for its issuer, is kept. Each issuer has a lane with its own rate and circuit
//! breaker, and in a lane those who ask take turns. Nothing here sleeps or speaks: [`Line::next`] says what to do now, or
//! until when there is nothing to do.
//!
//! A line has room for so many. In a full one what waits for its issuer makes way for what can be signed; what is left out
//! or displaced is found again by a later listing.

mod room;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, VecDeque},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use kube::Resource;
use tokio::time::Instant;

use crate::{
    backoff,
    board::{Asked, IssuerKey, Uid},
    breaker::Breaker,
    queue::FairQueue,
    resource::RateLimit,
};

/// After how long an object is looked at again whose issuer was said to be ready, and is not.
const AGAIN: Duration = Duration::from_secs(1);

/// The limits of a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most objects that are kept.
    pub(crate) active: usize,
    /// Most that are worked on at a time.
    pub(crate) concurrency: usize,
    /// Most of one issuer's that are worked on at a time.
    pub(crate) each_issuer: usize,
}

/// One thing to do.
#[derive(Debug)]
pub(crate) struct Job<K> {
    pub(crate) uid: Uid,
    pub(crate) object: Arc<K>,
    pub(crate) issuer: IssuerKey,
    /// Which try this is, from 0.
    pub(crate) attempts: u32,
    /// Whether people have been told that it waits.
    pub(crate) told: bool,
    signs: bool,
}

// Deriving it would ask for objects that can be copied.
impl<K> Clone for Job<K> {
    fn clone(&self) -> Self {
        let Self { uid, object, issuer, attempts, told, signs } = self;
        let (uid, object, issuer) = (Arc::clone(uid), Arc::clone(object), issuer.clone());
        Self { uid, object, issuer, attempts: *attempts, told: *told, signs: *signs }
    }
}

/// What is to be done now.
#[derive(Debug)]
pub(crate) enum Next<K> {
    /// This; [`Line::finished`] is to be told of its end.
    Job(Job<K>),
    /// Nothing before then, or before something changes.
    Nothing(Option<Instant>),
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// It has its outcome, or is not there any more.
    Over,
    /// It waits for its issuer.
    AwaitIssuer,
    /// Try again after this time, or after the usual one.
    Later(Option<Duration>),
}

#[derive(Debug)]
struct Row<K> {
    /// None when it has its outcome, and the watch has not shown that yet.
    object: Option<Arc<K>>,
    issuer: IssuerKey,
    /// Who takes turns with others.
    who: Box<str>,
    state: State,
    attempts: u32,
    told: bool,
    listing: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In its issuer's lane, or among those whose issuer is not ready.
    Queued,
    /// A task has it.
    Running,
    /// For its issuer.
    Parked,
    /// For this time to come.
    Delayed(Instant),
    /// It has its outcome.
    Over,
}

#[derive(Debug)]
struct Lane {
    queue: FairQueue<Uid>,
    in_flight: usize,
    breaker: Breaker,
    rate: RateLimit,
    limiter: DefaultDirectRateLimiter,
}

impl Lane {
    fn new(rate: RateLimit) -> Self {
        let at_least_one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let each_second = at_least_one(rate.requests_per_second);
        let quota = Quota::per_second(each_second).allow_burst(at_least_one(rate.burst.unwrap_or(each_second.get())));
        let (queue, breaker, limiter) = (FairQueue::default(), Breaker::default(), RateLimiter::direct(quota));
        Self { queue, in_flight: 0, breaker, rate, limiter }
    }

    /// Whether one more may go now; if only time is missing, until when.
    fn admits(&self, each_issuer: usize, now: Instant) -> Result<bool, Instant> {
        if self.queue.is_empty() || self.in_flight >= each_issuer {
            return Ok(false);
        }
        if !self.breaker.admits(self.in_flight, now) {
            return self.breaker.opens_at().filter(|until| *until > now).map_or(Ok(false), Err);
        }
        let token = self.limiter.check().map_err(|until| now + until.wait_time_from(DefaultClock::default().now()));
        token.map(|()| true)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Line<K> {
    limits: Limits,
    rows: HashMap<Uid, Row<K>>,
    /// Of the issuers that are ready.
    lanes: HashMap<IssuerKey, Lane>,
    /// The lanes in the order of their turns.
    turns: VecDeque<IssuerKey>,
    /// Those whose issuer is not ready, and that are to be told so.
    others: FairQueue<Uid>,
    /// Those that wait for their issuer and have been told so. None of them lies in a queue.
    parked: BTreeSet<Uid>,
    delayed: BinaryHeap<Reverse<(Instant, Uid)>>,
    running: usize,
    /// Rows that have their outcome.
    over: usize,
    listing: u64,
    /// Objects that found no room, or lost it, since the last listing.
    left_out: usize,
    /// Those of them that could have been signed.
    missed: usize,
    /// Whether an issuer has become ready since something was left out.
    turned: bool,
}

impl<K: Resource> Line<K> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            rows: HashMap::new(),
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            others: FairQueue::default(),
            parked: BTreeSet::new(),
            delayed: BinaryHeap::new(),
            running: 0,
            over: 0,
            listing: 0,
            left_out: 0,
            missed: 0,
            turned: false,
        }
    }

    /// The watch shows an object that wants to be signed by this issuer, on whose behalf `who` takes turns.
    pub(crate) fn observe(&mut self, object: K, issuer: IssuerKey, who: &str) {
        let Some(uid) = object.meta().uid.as_deref() else { return };
        let listing = self.listing;
        if let Some(row) = self.rows.get_mut(uid) {
            row.listing = listing;
            // What has its outcome is shown late.
            if row.object.is_some() {
                row.object = Some(Arc::new(object));
            }
            return;
        }
        let waits = !self.lanes.contains_key(&issuer);
        if self.rows.len() >= self.limits.active && !self.make_room(waits) {
            return;
        }
        let uid = Uid::from(uid);
        let (object, who) = (Some(Arc::new(object)), who.into());
        let row = Row { object, issuer, who, state: State::Queued, attempts: 0, told: false, listing };
        self.rows.insert(Arc::clone(&uid), row);
        self.queue(&uid);
    }

    /// Nothing is to be done about this object any more.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.parked.remove(uid);
        if self.rows.remove(uid).is_some_and(|row| row.state == State::Over) {
            self.over = self.over.saturating_sub(1);
        }
    }

    /// A new listing begins: what it does not show is gone.
    pub(crate) const fn listing_begins(&mut self) {
        self.listing += 1;
        (self.left_out, self.missed, self.turned) = (0, 0, false);
    }

    /// The listing is complete; what was known, had no outcome and is gone: UID, whose it was, issuer.
    pub(crate) fn listing_ends(&mut self) -> Vec<(Uid, Box<str>, IssuerKey)> {
        let listing = self.listing;
        let gone = self.rows.extract_if(|_, row| row.listing != listing);
        let gone =
            gone.filter(|(_, row)| row.state != State::Over).map(|(uid, row)| (uid, row.who, row.issuer)).collect();
        self.over = self.rows.values().filter(|row| row.state == State::Over).count();
        self.parked.retain(|uid| self.rows.contains_key(uid));
        gone
    }

    /// How many have no outcome.
    pub(crate) fn len(&self) -> usize {
        self.rows.len().saturating_sub(self.over)
    }

    /// These issuers are ready now, and asked that fast.
    pub(crate) fn ready_are(&mut self, ready: &HashMap<IssuerKey, RateLimit>) {
        let gone: Vec<IssuerKey> = self.lanes.keys().filter(|key| !ready.contains_key(*key)).cloned().collect();
        for key in gone {
            self.turns.retain(|turn| *turn != key);
            for uid in self.lanes.remove(&key).map(|mut lane| lane.queue.drain()).into_iter().flatten() {
                self.queue(&uid);
            }
        }
        let mut new = false;
        for (key, rate) in ready {
            match self.lanes.get_mut(key) {
                Some(lane) if lane.rate == *rate => {}
                Some(lane) => {
                    let Lane { queue, in_flight, breaker, .. } = std::mem::replace(lane, Lane::new(*rate));
                    *lane = Lane { queue, in_flight, breaker, ..Lane::new(*rate) };
                }
                None => {
                    self.lanes.insert(key.clone(), Lane::new(*rate));
                    self.turns.push_back(key.clone());
                    new = true;
                }
            }
        }
        if new {
            self.turned |= self.left_out > 0;
            let has_lane = |uid: &Uid| self.rows.get(uid).is_some_and(|row| self.lanes.contains_key(&row.issuer));
            let waiting: Vec<Uid> = self.parked.iter().filter(|uid| has_lane(uid)).cloned().collect();
            for uid in waiting {
                self.queue(&uid);
            }
        }
    }

    /// What is to be done now.
    pub(crate) fn next(&mut self, now: Instant) -> Next<K> {
        self.release(now);
        let mut soonest = self.delayed.peek().map(|Reverse((until, _))| *until);
        if self.running >= self.limits.concurrency {
            return Next::Nothing(None);
        }
        while let Some(uid) = self.others.pop() {
            if let Some(job) = self.take(&uid, false) {
                return Next::Job(job);
            }
        }
        for _ in 0..self.turns.len() {
            let Some(key) = self.turns.pop_front() else { break };
            self.turns.push_back(key.clone());
            while let Some(lane) = self.lanes.get_mut(&key) {
                match lane.admits(self.limits.each_issuer, now) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(until) => {
                        soonest = Some(soonest.map_or(until, |soonest| soonest.min(until)));
                        break;
                    }
                }
                let Some(uid) = lane.queue.pop() else { break };
                if let Some(job) = self.take(&uid, true) {
                    if let Some(lane) = self.lanes.get_mut(&key) {
                        lane.in_flight += 1;
                    }
                    return Next::Job(job);
                }
            }
        }
        Next::Nothing(soonest)
    }

    /// A job has ended.
    pub(crate) fn finished(&mut self, job: &Job<K>, done: &Done, asked: Asked, now: Instant) {
        self.running = self.running.saturating_sub(1);
        if job.signs
            && let Some(lane) = self.lanes.get_mut(&job.issuer)
        {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            match asked {
                Asked::Not => {}
                Asked::Answered => lane.breaker.succeeded(),
                Asked::Failed => lane.breaker.failed(&job.uid, now),
            }
        }
        let Some(row) = self.rows.get_mut(&job.uid) else { return };
        let after = match done {
            Done::Over => {
                (row.object, row.state) = (None, State::Over);
                self.over += 1;
                return;
            }
            Done::AwaitIssuer if !self.lanes.contains_key(&job.issuer) => {
                (row.state, row.told) = (State::Parked, true);
                self.parked.insert(Arc::clone(&job.uid));
                return;
            }
            Done::AwaitIssuer => AGAIN,
            Done::Later(after) => {
                row.attempts = row.attempts.saturating_add(1);
                after.unwrap_or_else(|| backoff::wait(row.attempts, &job.uid))
            }
        };
        row.told = true;
        row.state = State::Delayed(now + after);
        self.delayed.push(Reverse((now + after, Arc::clone(&job.uid))));
    }

    /// Puts one into its issuer's lane, or among the others.
    fn queue(&mut self, uid: &Uid) {
        let Some(row) = self.rows.get_mut(uid) else { return };
        row.state = State::Queued;
        self.parked.remove(uid);
        match self.lanes.get_mut(&row.issuer) {
            Some(lane) => lane.queue.push(&row.who, Arc::clone(uid)),
            None => self.others.push(&row.who, Arc::clone(uid)),
        }
    }

    /// Makes a job of what was queued, if it is still there.
    fn take(&mut self, uid: &Uid, signs: bool) -> Option<Job<K>> {
        let row = self.rows.get_mut(uid).filter(|row| row.state == State::Queued)?;
        let object = Arc::clone(row.object.as_ref()?);
        row.state = State::Running;
        self.running += 1;
        let (issuer, attempts, told) = (row.issuer.clone(), row.attempts, row.told);
        Some(Job { uid: Arc::clone(uid), object, issuer, attempts, told, signs })
    }

    /// Whose time has come is queued again.
    fn release(&mut self, now: Instant) {
        while let Some(Reverse((until, _))) = self.delayed.peek()
            && *until <= now
        {
            let Some(Reverse((until, uid))) = self.delayed.pop() else { return };
            if self.rows.get(&uid).is_some_and(|row| row.state == State::Delayed(until)) {
                self.queue(&uid);
            }
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
