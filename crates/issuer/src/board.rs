//! Which requests are under way, which wait and for what, and whose turn it is.
//!
//! Only what still needs something is kept; what has its outcome is forgotten. A request is worked on by one task at a
//! time. Nothing here sleeps or speaks: [`Board::next`] says what to do now, or until when there is nothing to do.

mod lane;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use self::lane::Lane;
use crate::{
    backoff,
    decide::{IssuerState, Leave, Step, decide},
    queue::FairQueue,
    resource::{CLUSTER_ISSUER, CertificateRequest, RateLimit},
    signer::Signer,
};

/// Most writes at a time that need no signature.
const CONTROL_MAX: usize = 16;
/// Issuers that are gone and whose clients are kept for what was deleted with them.
const RETIRED: usize = 128;

/// Which issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct IssuerKey {
    /// None for a cluster issuer.
    pub(crate) namespace: Option<Box<str>>,
    pub(crate) name: Box<str>,
}

impl IssuerKey {
    /// Whom a request refers to, whether or not it exists.
    pub(crate) fn of(request: &CertificateRequest) -> Self {
        let reference = &request.spec.issuer_ref;
        let namespace = (reference.kind != CLUSTER_ISSUER)
            .then(|| request.metadata.namespace.as_deref().unwrap_or_default().into());
        Self { namespace, name: reference.name.as_str().into() }
    }
}

impl fmt::Display for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A request's UID.
pub(crate) type Uid = Arc<str>;

/// The limits of a board.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most requests that are kept.
    pub(crate) active: usize,
    /// Most that are worked on at a time.
    pub(crate) concurrency: usize,
    /// How fast an issuer's server is asked where the issuer does not say.
    pub(crate) rate: RateLimit,
}

/// What is to be done now.
#[derive(Debug)]
pub(crate) enum Next {
    /// This; [`Board::finished`] is to be told of its end.
    Job(Job),
    /// Nothing before then, or before something changes.
    Nothing(Option<Instant>),
}

/// One thing to do.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) uid: Uid,
    pub(crate) request: Arc<CertificateRequest>,
    pub(crate) step: Step,
    pub(crate) issuer: IssuerKey,
    /// What to ask with; there whenever the issuer exists and was ready once.
    pub(crate) signer: Option<Arc<Signer>>,
    /// Which try this is, from 0.
    pub(crate) attempts: u32,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// It has its outcome.
    Finished,
    /// The object is not there any more.
    Gone,
    /// It looks like this now: decide again.
    Again(Arc<CertificateRequest>),
    /// Try again after this time, or after the usual one; it looks like this now.
    Later(Option<Duration>, Option<Arc<CertificateRequest>>),
}

/// What the server made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It was not asked.
    Not,
    /// It answered.
    Answered,
    /// It did not, or was busy.
    Failed,
}

/// How many there are of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) active: usize,
    pub(crate) queued: usize,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    pub(crate) delayed: usize,
    pub(crate) left_out: usize,
    pub(crate) breakers_open: usize,
}

#[derive(Debug)]
struct Entry {
    /// None when it has its outcome, and the watch has not shown it yet.
    request: Option<Arc<CertificateRequest>>,
    issuer: IssuerKey,
    state: State,
    attempts: u32,
    listing: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody has approved it.
    Unapproved,
    /// In its issuer's queue.
    ToSign,
    /// In the queue of what only has to be written.
    ToWrite,
    /// A task has it; `changed` if another version came in.
    Running { changed: bool },
    /// For its issuer.
    Waiting,
    /// For this time to come.
    Delayed(Instant),
    /// It has its outcome.
    Finished,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Board {
    limits: Limits,
    entries: HashMap<Uid, Entry>,
    lanes: HashMap<IssuerKey, Lane>,
    /// The lanes in the order of their turns.
    turns: VecDeque<IssuerKey>,
    writes: FairQueue<Uid>,
    writing: usize,
    waiting: HashMap<IssuerKey, HashSet<Uid>>,
    delayed: BinaryHeap<Reverse<(Instant, Uid)>>,
    /// What issuers that are gone were asked with, the latest last.
    retired: VecDeque<(IssuerKey, Arc<Signer>)>,
    running: usize,
    listing: u64,
    left_out: usize,
}

impl Board {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            writes: FairQueue::default(),
            writing: 0,
            waiting: HashMap::new(),
            delayed: BinaryHeap::new(),
            retired: VecDeque::new(),
            running: 0,
            listing: 0,
            left_out: 0,
        }
    }

    /// The watch shows this request.
    pub(crate) fn observe(&mut self, request: CertificateRequest, now: Instant) {
        let Some(uid) = request.metadata.uid.as_deref() else { return };
        let over = matches!(
            decide(&request, &IssuerState::Unchecked),
            Step::Leave(Leave::NotOurs | Leave::Deleted | Leave::Finished)
        );
        if over {
            self.forget(uid);
            return;
        }
        let listing = self.listing;
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.listing = listing;
            // What has its outcome was seen late; what is older than what we know says nothing.
            let Some(known) = &entry.request else { return };
            if !is_newer(&request, known) {
                return;
            }
            let unapproved = !known.is("Approved");
            entry.request = Some(Arc::new(request));
            if let State::Running { changed } = &mut entry.state {
                *changed = true;
                return;
            }
            let uid = Uid::from(uid_of(entry));
            // A label that changes ends no wait.
            let delayed = matches!(entry.state, State::Delayed(until) if until > now);
            if !delayed || unapproved || self.step(&uid) != Some(Step::Sign) {
                self.place(&uid);
            }
            return;
        }
        if self.entries.len() >= self.limits.active {
            self.left_out += 1;
            return;
        }
        let uid = Uid::from(uid);
        let issuer = IssuerKey::of(&request);
        let entry = Entry { request: Some(Arc::new(request)), issuer, state: State::Unapproved, attempts: 0, listing };
        self.entries.insert(Arc::clone(&uid), entry);
        self.place(&uid);
    }

    /// The object is not there any more.
    pub(crate) fn forget(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else { return };
        if entry.state == State::Waiting
            && let Some(waiting) = self.waiting.get_mut(&entry.issuer)
        {
            waiting.remove(uid);
            if waiting.is_empty() {
                self.waiting.remove(&entry.issuer);
            }
        }
    }

    /// A new listing begins: what it does not show is gone.
    pub(crate) const fn listing_begins(&mut self) {
        self.listing += 1;
        self.left_out = 0;
    }

    /// The listing is complete.
    pub(crate) fn listing_ends(&mut self) {
        let gone: Vec<Uid> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.listing != self.listing)
            .map(|(uid, _)| Arc::clone(uid))
            .collect();
        for uid in gone {
            self.forget(&uid);
        }
    }

    /// Whether requests were left out for want of room, and there is room again: a new listing finds them.
    pub(crate) fn wants_listing(&self) -> bool {
        self.left_out > 0 && self.entries.len() < self.limits.active / 2
    }

    /// How an issuer is now; what waits for it is looked at again.
    pub(crate) fn issuer_is(&mut self, key: &IssuerKey, state: IssuerState, signer: Option<Arc<Signer>>) {
        let mut affected: Vec<Uid> = self.waiting.remove(key).into_iter().flatten().collect();
        if state == IssuerState::Absent {
            if let Some(mut lane) = self.lanes.remove(key) {
                affected.extend(lane.queue.drain());
                // A namespace that goes takes issuer and requests with it, in any order.
                if let Some(last) = lane.last {
                    self.retired.retain(|(retired, _)| retired != key);
                    self.retired.push_back((key.clone(), last));
                }
                if self.retired.len() > RETIRED {
                    self.retired.pop_front();
                }
            }
            self.turns.retain(|turn| turn != key);
        } else {
            let rate = signer.as_ref().and_then(|signer| signer.spec.rate_limit).unwrap_or(self.limits.rate);
            let lane = self.lanes.entry(key.clone()).or_insert_with(|| {
                self.turns.push_back(key.clone());
                Lane::new(rate)
            });
            affected.extend(lane.become_(state, signer, rate));
        }
        for uid in affected {
            if self.entries.get(&uid).is_some_and(|entry| matches!(entry.state, State::Waiting | State::ToSign)) {
                self.place(&uid);
            }
        }
    }

    /// How an issuer is.
    pub(crate) fn issuer(&self, key: &IssuerKey) -> IssuerState {
        self.lanes.get(key).map_or(IssuerState::Absent, |lane| lane.state.clone())
    }

    /// What an issuer was asked with last: it may not be ready now, or be gone a moment ago.
    pub(crate) fn last_signer(&self, key: &IssuerKey) -> Option<Arc<Signer>> {
        let retired = || self.retired.iter().find(|(retired, _)| retired == key).map(|(_, signer)| Arc::clone(signer));
        self.lanes.get(key).and_then(|lane| lane.last.clone()).or_else(retired)
    }

    /// What is to be done now.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        self.release(now);
        if self.running >= self.limits.concurrency {
            return Next::Nothing(None);
        }
        while self.writing < CONTROL_MAX
            && let Some(uid) = self.writes.pop()
        {
            if let Some(job) = self.take(&uid, State::ToWrite) {
                self.writing += 1;
                return Next::Job(job);
            }
        }
        let mut soonest = self.delayed.peek().map(|Reverse((until, _))| *until);
        for _ in 0..self.turns.len() {
            let Some(key) = self.turns.pop_front() else { break };
            self.turns.push_back(key.clone());
            while let Some(lane) = self.lanes.get_mut(&key) {
                let uid = match lane.offer(now) {
                    Ok(Some(uid)) => uid,
                    Ok(None) => break,
                    Err(until) => {
                        soonest = Some(soonest.map_or(until, |soonest| soonest.min(until)));
                        break;
                    }
                };
                let namespace = self.entries.get(&uid).and_then(namespace_of);
                let (Some(namespace), true) = (namespace, self.state(&uid) == Some(State::ToSign)) else { continue };
                let Some(lane) = self.lanes.get_mut(&key) else { break };
                if let Err(wait) = lane.token() {
                    lane.queued.insert(Arc::clone(&uid));
                    lane.queue.put_back(&namespace, uid);
                    let until = now + wait;
                    soonest = Some(soonest.map_or(until, |soonest| soonest.min(until)));
                    break;
                }
                lane.in_flight += 1;
                if let Some(job) = self.take(&uid, State::ToSign) {
                    return Next::Job(job);
                }
            }
        }
        Next::Nothing(soonest)
    }

    /// A job has ended.
    pub(crate) fn finished(&mut self, job: &Job, done: Done, asked: Asked, now: Instant) {
        self.running = self.running.saturating_sub(1);
        if job.step == Step::Sign {
            if let Some(lane) = self.lanes.get_mut(&job.issuer) {
                lane.in_flight = lane.in_flight.saturating_sub(1);
                match asked {
                    Asked::Not => {}
                    Asked::Answered => lane.breaker.succeeded(),
                    Asked::Failed => lane.breaker.failed(&job.uid, now),
                }
            }
        } else {
            self.writing = self.writing.saturating_sub(1);
        }
        let Some(entry) = self.entries.get_mut(&job.uid) else { return };
        let changed = entry.state == State::Running { changed: true };
        let fresh = match done {
            Done::Finished => {
                entry.request = None;
                entry.state = State::Finished;
                return;
            }
            Done::Gone => {
                self.forget(&job.uid);
                return;
            }
            Done::Again(fresh) => {
                entry.know(Some(fresh));
                self.place(&job.uid);
                return;
            }
            Done::Later(after, fresh) => {
                entry.attempts = entry.attempts.saturating_add(1);
                let usual = backoff::wait(entry.attempts, &job.uid);
                entry.state = State::Delayed(now + after.unwrap_or(usual));
                fresh
            }
        };
        entry.know(fresh);
        if changed && self.step(&job.uid) != Some(Step::Sign) {
            self.place(&job.uid);
        } else if let Some(State::Delayed(until)) = self.state(&job.uid) {
            self.delayed.push(Reverse((until, Arc::clone(&job.uid))));
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts {
            active: self.entries.len(),
            running: self.running,
            left_out: self.left_out,
            breakers_open: self.lanes.values().filter(|lane| lane.breaker.is_open()).count(),
            ..Counts::default()
        };
        for entry in self.entries.values() {
            match entry.state {
                State::ToSign | State::ToWrite => counts.queued += 1,
                State::Waiting | State::Unapproved => counts.waiting += 1,
                State::Delayed(_) => counts.delayed += 1,
                State::Running { .. } => {}
                State::Finished => counts.active -= 1,
            }
        }
        counts
    }

    fn state(&self, uid: &str) -> Option<State> {
        self.entries.get(uid).map(|entry| entry.state)
    }

    fn step(&self, uid: &str) -> Option<Step> {
        let entry = self.entries.get(uid)?;
        Some(decide(entry.request.as_deref()?, &self.issuer(&entry.issuer)))
    }

    /// Puts a request where it belongs now.
    fn place(&mut self, uid: &Uid) {
        let Some(step) = self.step(uid) else { return };
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let (issuer, namespace) = (entry.issuer.clone(), namespace_of(entry).unwrap_or_default());
        let before = entry.state;
        let state = match step {
            Step::Leave(Leave::Unapproved) => State::Unapproved,
            Step::Leave(_) => {
                self.forget(uid);
                return;
            }
            Step::Write(_) | Step::Repair | Step::AwaitIssuer(Some(_)) => State::ToWrite,
            Step::AwaitIssuer(None) => State::Waiting,
            Step::Sign => State::ToSign,
        };
        entry.state = state;
        if before == State::Waiting
            && state != State::Waiting
            && let Some(waiting) = self.waiting.get_mut(&issuer)
        {
            waiting.remove(uid);
        }
        match state {
            State::ToWrite if before != State::ToWrite => self.writes.push(&namespace, Arc::clone(uid)),
            State::Waiting => _ = self.waiting.entry(issuer).or_default().insert(Arc::clone(uid)),
            // Whoever changes a lane's state takes its queue out first, so what is queued there stays there.
            State::ToSign if before != State::ToSign || !self.is_queued(&issuer, uid) => {
                if let Some(lane) = self.lanes.get_mut(&issuer) {
                    lane.queue.push(&namespace, Arc::clone(uid));
                    lane.queued.insert(Arc::clone(uid));
                }
            }
            _ => {}
        }
    }

    fn is_queued(&self, issuer: &IssuerKey, uid: &str) -> bool {
        self.lanes.get(issuer).is_some_and(|lane| lane.queued.contains(uid))
    }

    /// Makes a job of a request that is where it was expected.
    fn take(&mut self, uid: &Uid, expected: State) -> Option<Job> {
        let step = self.step(uid)?;
        let entry = self.entries.get_mut(uid)?;
        if entry.state != expected {
            return None;
        }
        let lane_holds_it = expected == State::ToSign;
        let fits = match &step {
            Step::Sign => lane_holds_it,
            Step::Write(_) | Step::Repair | Step::AwaitIssuer(Some(_)) => !lane_holds_it,
            // There is nothing left to be done now: it waits, and its issuer's change finds it.
            Step::Leave(_) | Step::AwaitIssuer(None) => false,
        };
        if !fits {
            // Its issuer has changed since: it goes where it belongs now.
            if lane_holds_it && let Some(lane) = self.lanes.get_mut(&entry.issuer) {
                lane.in_flight = lane.in_flight.saturating_sub(1);
            }
            entry.state = State::Unapproved;
            self.place(uid);
            return None;
        }
        let signer = self.lanes.get(&entry.issuer).and_then(|lane| lane.signer.clone());
        entry.state = State::Running { changed: false };
        self.running += 1;
        Some(Job {
            uid: Arc::clone(uid),
            request: Arc::clone(entry.request.as_ref()?),
            step,
            issuer: entry.issuer.clone(),
            signer,
            attempts: entry.attempts,
        })
    }

    /// Whose time has come is placed again.
    fn release(&mut self, now: Instant) {
        while let Some(Reverse((until, _))) = self.delayed.peek()
            && *until <= now
        {
            let Some(Reverse((until, uid))) = self.delayed.pop() else { return };
            if self.state(&uid) == Some(State::Delayed(until)) {
                self.place(&uid);
            }
        }
    }
}

impl Entry {
    /// Takes a version of the object, unless a newer one is known.
    fn know(&mut self, fresh: Option<Arc<CertificateRequest>>) {
        if let Some(fresh) = fresh
            && self.request.as_ref().is_none_or(|known| is_newer(&fresh, known))
        {
            self.request = Some(fresh);
        }
    }
}

fn uid_of(entry: &Entry) -> &str {
    entry.request.as_ref().and_then(|request| request.metadata.uid.as_deref()).unwrap_or_default()
}

fn namespace_of(entry: &Entry) -> Option<Box<str>> {
    entry.request.as_ref()?.metadata.namespace.as_deref().map(Into::into)
}

/// Whether one version of an object is later than another. Resource versions are numbers that grow; what is none is
/// taken for later.
fn is_newer(one: &CertificateRequest, other: &CertificateRequest) -> bool {
    let version = |request: &CertificateRequest| {
        request.metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok())
    };
    match (version(one), version(other)) {
        (Some(one), Some(other)) => one > other,
        _ => true,
    }
}

#[cfg(test)]
#[path = "board/tests.rs"]
mod tests;
