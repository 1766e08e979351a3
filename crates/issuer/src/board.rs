//! Which requests are under way, which wait and for what, and whose turn it is.
//!
//! Only what still needs something is kept: what has its outcome is forgotten, and what nobody has approved is not
//! taken up. A request is worked on by one task at a time. Nothing here sleeps or speaks: [`Board::next`] says what to
//! do now, or until when there is nothing to do.
//!
//! A board has room for so many requests. While it is full, a namespace that has less gets room from the one that has
//! most; what is displaced, or finds no room, is found again by a later listing.

mod job;
mod lane;
mod room;
mod shares;
mod turn;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

pub(crate) use self::job::{Asked, Counts, Done, IssuerKey, Job, Limits, Next, Uid};
use self::{lane::Lane, shares::Shares};
use crate::{
    decide::{IssuerState, Leave, Step, decide},
    queue::FairQueue,
    resource::CertificateRequest,
    signer::Signer,
};

/// Issuers that are gone and whose clients are kept for what was deleted with them.
const RETIRED: usize = 128;

#[derive(Debug)]
struct Entry {
    /// None when it has its outcome, and the watch has not shown it yet.
    request: Option<Arc<CertificateRequest>>,
    namespace: Box<str>,
    issuer: IssuerKey,
    state: State,
    attempts: u32,
    listing: u64,
    cost: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nowhere yet.
    New,
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
    shares: Shares,
    lanes: HashMap<IssuerKey, Lane>,
    /// The lanes that have something in their queue.
    busy: BTreeSet<IssuerKey>,
    writes: FairQueue<Uid>,
    waiting: HashMap<IssuerKey, HashSet<Uid>>,
    delayed: BinaryHeap<Reverse<(Instant, Uid)>>,
    /// What issuers that are gone were asked with, the latest last.
    retired: VecDeque<(IssuerKey, Arc<Signer>)>,
    signing: usize,
    writing: usize,
    listing: u64,
    /// Requests that there was no room for since the last listing.
    left_out: usize,
    /// Those of them that would not have waited for their issuer.
    missed: usize,
    /// Whether an issuer has become ready since the last listing.
    turned: bool,
}

impl Board {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            shares: Shares::default(),
            lanes: HashMap::new(),
            busy: BTreeSet::new(),
            writes: FairQueue::default(),
            waiting: HashMap::new(),
            delayed: BinaryHeap::new(),
            retired: VecDeque::new(),
            signing: 0,
            writing: 0,
            listing: 0,
            left_out: 0,
            missed: 0,
            turned: false,
        }
    }

    /// The watch shows this request.
    pub(crate) fn observe(&mut self, request: CertificateRequest, now: Instant) {
        let Some(uid) = request.metadata.uid.as_deref() else { return };
        let issuer = IssuerKey::of(&request);
        let step = decide(&request, &self.issuer(&issuer));
        if matches!(step, Step::Leave(Leave::NotOurs | Leave::Deleted | Leave::Finished)) {
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
            entry.request = Some(Arc::new(request));
            if let State::Running { changed } = &mut entry.state {
                *changed = true;
                return;
            }
            let uid = Uid::from(uid_of(entry));
            // A label that changes ends no wait.
            let delayed = matches!(entry.state, State::Delayed(until) if until > now);
            if !delayed || step != Step::Sign {
                self.place(&uid);
            }
            return;
        }
        // The watch shows the approval: nothing is kept until then.
        if step == Step::Leave(Leave::Unapproved) {
            return;
        }
        let namespace: Box<str> = request.metadata.namespace.as_deref().unwrap_or_default().into();
        let cost = shares::cost(&request);
        let waits = matches!(step, Step::AwaitIssuer(_));
        if !self.make_room(&namespace, cost, waits) {
            return;
        }
        let uid = Uid::from(uid);
        self.shares.add(&namespace, &uid, cost);
        let entry = Entry {
            request: Some(Arc::new(request)),
            namespace,
            issuer,
            state: State::New,
            attempts: 0,
            listing,
            cost,
        };
        self.entries.insert(Arc::clone(&uid), entry);
        self.place(&uid);
    }

    /// The object is not there any more.
    pub(crate) fn forget(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else { return };
        self.shares.remove(&entry.namespace, uid, entry.cost);
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
        (self.left_out, self.missed, self.turned) = (0, 0, false);
    }

    /// The listing is complete; what was known, had no outcome and is gone.
    pub(crate) fn listing_ends(&mut self) -> Vec<Arc<CertificateRequest>> {
        let gone: Vec<Uid> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.listing != self.listing)
            .map(|(uid, _)| Arc::clone(uid))
            .collect();
        let without_outcome = gone.iter().filter_map(|uid| self.entries.get(uid)?.request.clone()).collect();
        for uid in gone {
            self.forget(&uid);
        }
        without_outcome
    }

    /// How an issuer is now; what waits for it is looked at again.
    pub(crate) fn issuer_is(&mut self, key: &IssuerKey, state: IssuerState, signer: Option<Arc<Signer>>) {
        let mut affected: Vec<Uid> = self.waiting.remove(key).into_iter().flatten().collect();
        if state == IssuerState::Absent {
            self.busy.remove(key);
            if let Some(mut lane) = self.lanes.remove(key) {
                affected.extend(lane.drain());
                // A namespace that goes takes issuer and requests with it, in any order.
                if let Some(last) = lane.last {
                    self.retired.retain(|(retired, _)| retired != key);
                    self.retired.push_back((key.clone(), last));
                }
                if self.retired.len() > RETIRED {
                    self.retired.pop_front();
                }
            }
        } else {
            let own = signer.as_ref().and_then(|signer| signer.spec.rate_limit);
            let rate = lane::rate(own, self.limits.rate, key.namespace.is_some());
            let lane = self.lanes.entry(key.clone()).or_insert_with(|| Lane::new(rate));
            self.turned |= self.left_out > 0 && state == IssuerState::Ready && lane.state != IssuerState::Ready;
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

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts {
            active: self.entries.len(),
            running: self.signing + self.writing,
            left_out: self.left_out,
            breakers_open: self.lanes.values().filter(|lane| lane.breaker.is_open()).count(),
            ..Counts::default()
        };
        for entry in self.entries.values() {
            match entry.state {
                State::ToSign | State::ToWrite => counts.queued += 1,
                State::Waiting | State::New => counts.waiting += 1,
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
        let before = entry.state;
        let state = match step {
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
            && let Some(waiting) = self.waiting.get_mut(&entry.issuer)
        {
            waiting.remove(uid);
        }
        match state {
            State::ToWrite if before != State::ToWrite => self.writes.push(&entry.namespace, Arc::clone(uid)),
            State::Waiting => _ = self.waiting.entry(entry.issuer.clone()).or_default().insert(Arc::clone(uid)),
            // Whoever changes a lane's state takes its queue out first, so what is queued there stays there.
            State::ToSign => {
                if let Some(lane) = self.lanes.get_mut(&entry.issuer) {
                    lane.push(&entry.namespace, uid, self.shares.turn(&entry.namespace));
                    self.busy.insert(entry.issuer.clone());
                }
            }
            _ => {}
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
