//! The one writer: takes what waits, checks it, writes one frame for the group, syncs once, answers.
//!
//! A group grows as long as more requests are at work than there are processors: they are busy all the same, so that
//! waiting saves syncs and costs next to nothing. Where fewer are, all would wait for nothing. A bound stands above
//! that, which follows how many came together of late: what is at work may be waiting for something slow, and who
//! leaves without a commit wakes nobody.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use chancery_authority::{
    at_work::AtWork,
    changes::{Change, Committed},
    ports::{CommitError, NotApplied},
    records::Version,
};
use chancery_ledger::{Frontier, Hash};
use tokio::sync::oneshot;

use crate::{
    apply::Staging,
    journal::{self, Active, AppendError, BeginError, Frame, Place, Results},
    metrics::{add, number, set},
    shared::Shared,
};

/// Most commits in a frame.
const GROUP_COMMITS: usize = 1000;
/// Octets of leaves and values after which a group is full.
const GROUP_BYTES: usize = 1 << 20;
/// A group that large is not waited for any longer.
const GROUP_ENOUGH: usize = 48;
/// The longest wait for each commit but the first that a group usually has. Measured with the release build on two
/// cores and whole ACME flows: 1, 2, 4, 8, 16 and 32 at once get as many certificates a second as without any wait, as
/// far as runs that differ by a tenth from each other show, and need 4.0, 3.7, 2.5, 1.1, 0.6 and 0.3 syncs a certificate
/// where it was 4.0, 3.9, 2.9, 1.9, 1.9 and 1.5.
const LINGER_PER_COMMIT: Duration = Duration::from_millis(1);
/// Over how many groups their usual size is taken.
const LINGER_MEMORY: u32 = 8;
/// The shortest wait that is worth a timer.
const LINGER_STEP: Duration = Duration::from_micros(100);
/// How much room must have come back above the floor before issuance goes on, as a divisor of the floor.
const HYSTERESIS: u64 = 8;

/// How long a disk that refused a write counts as full.
const LOW_AFTER_REFUSAL: Duration = Duration::from_secs(5);

type Answer = Result<Committed, CommitError>;

/// A commit that waits.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) items: Vec<Change>,
    pub(crate) leaves: Vec<Arc<[u8]>>,
    pub(crate) hashes: Vec<Hash>,
    pub(crate) urgent: bool,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What waits for the committer.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<Waiting>,
    arrived: Condvar,
    at_work: AtWork,
    processors: usize,
}

/// What the committer does, as far as who comes must know it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum CommitterIs {
    #[default]
    Busy,
    /// Asleep until somebody comes.
    Idle,
    /// Asleep until a group is large enough, or its time is over.
    Gathering,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    committer: CommitterIs,
    closed: Option<Arc<str>>,
    roll: bool,
}

impl Queue {
    /// An empty line, in which commits wait for others while more are at work than there are processors.
    pub(crate) fn new(at_work: AtWork, processors: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), at_work, processors }
    }

    /// Whether those at work that are not among so many in line leave a processor free.
    fn is_enough(&self, in_line: usize) -> bool {
        in_line >= GROUP_ENOUGH || self.at_work.now().saturating_sub(in_line) <= self.processors
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits in line, unless the line is too long or closed.
    pub(crate) fn push(&self, request: Request, limit: usize) -> Result<(), NotApplied> {
        let mut waiting = self.lock();
        if let Some(why) = &waiting.closed {
            return Err(NotApplied::Stopped(Arc::clone(why)));
        }
        if waiting.requests.len() >= limit {
            return Err(NotApplied::Busy);
        }
        waiting.requests.push_back(request);
        let wake = match waiting.committer {
            CommitterIs::Busy => false,
            CommitterIs::Idle => true,
            CommitterIs::Gathering => self.is_enough(waiting.requests.len()),
        };
        if wake {
            waiting.committer = CommitterIs::Busy;
            drop(waiting);
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Lets nobody in any more. What waits is still served by a committer that runs.
    pub(crate) fn close(&self, why: &Arc<str>) {
        let mut waiting = self.lock();
        waiting.closed.get_or_insert_with(|| Arc::clone(why));
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Asks for a new segment, so that the ones before it can be dropped once they are swept.
    pub(crate) fn ask_for_new_segment(&self) {
        self.lock().roll = true;
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().requests.len()
    }

    /// The next group: waits for its first commit, and then `linger` for more. `None` once the
    /// queue is closed and empty.
    fn next_group(&self, linger: Duration) -> Option<(Vec<Request>, bool)> {
        let mut waiting = self.lock();
        while waiting.requests.is_empty() {
            if waiting.closed.is_some() {
                return None;
            }
            waiting.committer = CommitterIs::Idle;
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if linger >= LINGER_STEP {
            let until = Instant::now() + linger;
            while !self.is_enough(waiting.requests.len()) && waiting.closed.is_none() {
                let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                    break;
                };
                waiting.committer = CommitterIs::Gathering;
                waiting = self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        waiting.committer = CommitterIs::Busy;
        let mut group = Vec::with_capacity(waiting.requests.len().min(GROUP_COMMITS));
        let mut bytes = 0;
        while group.len() < GROUP_COMMITS && bytes < GROUP_BYTES {
            let Some(request) = waiting.requests.pop_front() else { break };
            bytes += request.leaves.iter().map(|leaf| leaf.len()).sum::<usize>() + 256 * request.items.len();
            group.push(request);
        }
        Some((group, std::mem::take(&mut waiting.roll)))
    }

    fn drain(&self) -> Vec<Request> {
        self.lock().requests.drain(..).collect()
    }
}

/// The thread's own state.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    active: Active,
    frontier: Frontier,
    next: Place,
    linger: Duration,
    low_space: bool,
    /// The disk refused a write although it claimed to have room (a quota): believed for a while.
    low_until: Option<Instant>,
    /// The disk said that it is read-only, and has taken nothing since.
    read_only: bool,
}

/// A commit that its group keeps.
struct Accepted {
    answer: oneshot::Sender<Answer>,
    committed: Committed,
    urgent: bool,
}

/// A group as far as it is checked.
struct Group {
    accepted: Vec<Accepted>,
    refused: Vec<(oneshot::Sender<Answer>, CommitError)>,
    results: Results,
    leaves: Vec<Arc<[u8]>>,
    frontier: Frontier,
    sequence: u64,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, active: Active) -> Self {
        let (frontier, next) = (shared.view.frontier(), shared.view.next());
        Self {
            shared,
            active,
            frontier,
            next,
            linger: Duration::ZERO,
            low_space: false,
            low_until: None,
            read_only: false,
        }
    }

    /// Serves until the queue is closed and empty, or a write or sync fails. A panic, which would be
    /// a fault of ours, ends the store like a failed write: nobody is left waiting.
    pub(crate) fn run(self) {
        let shared = Arc::clone(&self.shared);
        if catch_unwind(AssertUnwindSafe(move || self.serve_all())).is_err() {
            stop(&shared, "the committer has panicked");
        }
    }

    fn serve_all(mut self) {
        while let Some((requests, roll)) = self.shared.queue.next_group(self.linger) {
            self.adapt(requests.len());
            if let Err(why) = self.serve(requests, roll) {
                return stop(&self.shared, &why);
            }
        }
    }

    /// Lets the wait follow the size of the groups.
    fn adapt(&mut self, group: usize) {
        self.linger = next_linger(self.linger, group, self.shared.options.linger_max);
        set(&self.shared.metrics.linger_us, u64::try_from(self.linger.as_micros()).unwrap_or(u64::MAX));
    }

    /// Writes one group. An error is the sentence with which the store stops.
    fn serve(&mut self, mut requests: Vec<Request>, roll: bool) -> Result<(), String> {
        self.look_at_space();
        if !self.low_space {
            let due = roll || self.active.length() > self.shared.options.segment_bytes || self.active.is_reserve();
            if due && self.active.first_sequence < self.next.sequence {
                match Active::begin(&*self.shared.disk, &self.shared.folder.journal(), self.shared.origin, self.next) {
                    Ok(active) => self.roll_to(active),
                    Err(BeginError::Untouched(error))
                        if is_no_space(&error) || error.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
                    {
                        self.read_only = !is_no_space(&error);
                        self.low_space = true;
                    }
                    Err(error) => {
                        let error = std::io::Error::from(error);
                        let why = format!("a new journal segment could not be made: {error}");
                        stopped(requests, &why);
                        return Err(why);
                    }
                }
            }
        }
        if self.low_space {
            requests = self.keep_urgent(requests);
            if !requests.is_empty() && !self.active.is_reserve() {
                match self.enter_reserve() {
                    Ok(true) => {}
                    Ok(false) => {
                        for request in requests {
                            answer(request.answer, Err(CommitError::NotApplied(NotApplied::NoSpace(self.no_space()))));
                        }
                        return Ok(());
                    }
                    Err(why) => {
                        stopped(requests, &why);
                        return Err(why);
                    }
                }
            }
        }
        if requests.is_empty() {
            return Ok(());
        }
        match self.write(requests) {
            Ok(None) => Ok(()),
            // Nothing of it was kept: the rest is refused, the urgent part may come again at once and
            // then finds the reserve.
            Ok(Some(group)) => {
                self.low_until = Some(Instant::now() + LOW_AFTER_REFUSAL);
                let why = self.no_space();
                for kept in group.accepted {
                    let refusal = if kept.urgent && !self.active.is_reserve() {
                        NotApplied::Busy
                    } else {
                        NotApplied::NoSpace(Arc::clone(&why))
                    };
                    answer(kept.answer, Err(CommitError::NotApplied(refusal)));
                }
                for (sender, error) in group.refused {
                    answer(sender, Err(error));
                }
                Ok(())
            }
            Err(why) => Err(why),
        }
    }

    /// Checks and writes; gives the group back if there was no room for it.
    fn write(&mut self, requests: Vec<Request>) -> Result<Option<Group>, String> {
        let group = self.check(requests);
        if group.accepted.is_empty() {
            // Nothing new was looked at that is not synced: these answers need no sync of their own.
            for (sender, error) in group.refused {
                add(&self.shared.metrics.refused, 1);
                answer(sender, Err(error));
            }
            return Ok(None);
        }
        let Group { accepted, refused, results, leaves, frontier, sequence } = group;
        let commits = u32::try_from(accepted.len()).unwrap_or(u32::MAX);
        let frame = Frame { first_sequence: self.next.sequence, commits, first_leaf: self.next.leaf, leaves, results };
        let (bytes, hash) = journal::encode_frame(self.shared.origin, &self.next.previous, &frame);
        match self.active.append(&*self.shared.disk, &bytes) {
            Ok(()) => {}
            Err(error @ (AppendError::NoSpace | AppendError::ReadOnly)) => {
                self.read_only = matches!(error, AppendError::ReadOnly);
                let Frame { leaves, results, .. } = frame;
                return Ok(Some(Group { accepted, refused, results, leaves, frontier, sequence }));
            }
            Err(AppendError::Failed(why)) => {
                for kept in accepted {
                    answer(kept.answer, Err(CommitError::Unknown(why.as_str().into())));
                }
                for (sender, _) in refused {
                    let why = why.as_str().into();
                    answer(sender, Err(CommitError::NotApplied(NotApplied::Stopped(why))));
                }
                return Err(why);
            }
        }
        self.read_only = false;
        self.next = Place { sequence, leaf: frontier.size(), previous: hash };
        self.frontier = frontier.clone();
        self.shared.view.apply(frame, frontier, self.next);
        let metrics = &self.shared.metrics;
        add(&metrics.groups, 1);
        add(&metrics.syncs, 1);
        add(&metrics.commits, u64::from(commits));
        add(&metrics.refused, number(refused.len()));
        add(&metrics.written_bytes, number(bytes.len()));
        add(&metrics.journal_bytes, number(bytes.len()));
        set(&metrics.queued, number(self.shared.queue.len()));
        for kept in accepted {
            answer(kept.answer, Ok(kept.committed));
        }
        for (sender, error) in refused {
            answer(sender, Err(error));
        }
        self.shared.note_growth();
        Ok(None)
    }

    fn check(&self, requests: Vec<Request>) -> Group {
        let mut group = Group {
            accepted: Vec::with_capacity(requests.len()),
            refused: Vec::new(),
            results: BTreeMap::new(),
            leaves: Vec::new(),
            frontier: self.frontier.clone(),
            sequence: self.next.sequence,
        };
        for request in requests {
            let Request { items, leaves, hashes, urgent, answer } = request;
            let (version, first_leaf) = (Version(group.sequence), group.frontier.size());
            let staging = Staging::new(&self.shared.view, &group.results, version, first_leaf, leaves.len());
            match staging.apply(items) {
                Ok(results) => {
                    group.results.extend(results);
                    group.leaves.extend(leaves);
                    for hash in hashes {
                        group.frontier.append(hash);
                    }
                    group.sequence += 1;
                    group.accepted.push(Accepted { answer, committed: Committed { version, first_leaf }, urgent });
                }
                Err(error) => group.refused.push((answer, error)),
            }
        }
        group
    }

    fn look_at_space(&mut self) {
        let free = self.shared.free_bytes();
        let floor = self.shared.floor();
        let was = self.low_space;
        let refused = self.low_until.is_some_and(|until| Instant::now() < until);
        self.low_space = refused || free < if was { floor.saturating_add(floor / HYSTERESIS) } else { floor };
        if self.low_space != was {
            set(&self.shared.metrics.low_space, u64::from(self.low_space));
            if self.low_space {
                tracing::error!(free_bytes = free, floor_bytes = floor, "{}", self.no_space());
            } else {
                tracing::info!(free_bytes = free, "there is room again; issuance goes on");
            }
        }
    }

    fn no_space(&self) -> Arc<str> {
        if self.read_only {
            let root = self.shared.folder.root().display();
            return format!(
                "the disk of {root} has become read-only, as it does after an error of the device; see the kernel's log, \
                 make it writable and start the server again"
            )
            .into();
        }
        format!(
            "the disk of {} has {} MiB left, less than the {} MiB that are kept free; make room and issuance goes on by itself",
            self.shared.folder.root().display(),
            self.shared.metrics.free_bytes.load(Ordering::Relaxed) >> 20,
            self.shared.floor() >> 20,
        )
        .into()
    }

    /// Answers what must wait for room; keeps what must not.
    fn keep_urgent(&self, requests: Vec<Request>) -> Vec<Request> {
        let (urgent, rest): (Vec<_>, Vec<_>) = requests.into_iter().partition(|request| request.urgent);
        for request in rest {
            answer(request.answer, Err(CommitError::NotApplied(NotApplied::NoSpace(self.no_space()))));
        }
        urgent
    }

    /// Goes on in the preallocated segment; `false` if there is none. An error is the sentence with
    /// which the store stops (rule 4): the reserve may already stand in the journal.
    fn enter_reserve(&mut self) -> Result<bool, String> {
        let folder = self.shared.folder.journal();
        match Active::begin_in_reserve(&*self.shared.disk, &folder, self.shared.origin, self.next) {
            Ok(active) => {
                self.roll_to(active);
                Ok(true)
            }
            Err(BeginError::Untouched(error)) => {
                tracing::error!(%error, "the journal's reserve cannot be used");
                Ok(false)
            }
            Err(BeginError::Failed(why)) => Err(why),
        }
    }

    fn roll_to(&mut self, active: Active) {
        add(&self.shared.metrics.journal_bytes, active.length());
        self.shared.segment_began(active.first_sequence, active.path.clone());
        self.active = active;
    }
}

/// The wait after a group of this size.
fn next_linger(linger: Duration, group: usize, most: Duration) -> Duration {
    let others = u32::try_from(group.saturating_sub(1)).unwrap_or(u32::MAX);
    let wanted = LINGER_PER_COMMIT.saturating_mul(others).min(most);
    (linger * (LINGER_MEMORY - 1) + wanted) / LINGER_MEMORY
}

/// Ends the store: what waits was not touched and is told so.
fn stop(shared: &Shared, why: &str) {
    let why: Arc<str> = why.into();
    shared.fail(&why);
    for request in shared.queue.drain() {
        answer(request.answer, Err(CommitError::NotApplied(NotApplied::Stopped(Arc::clone(&why)))));
    }
}

/// Whether there is no room left on the disk, or none for us.
pub(crate) fn is_no_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Answers what was not touched before the store stops.
fn stopped(requests: Vec<Request>, why: &str) {
    for request in requests {
        answer(request.answer, Err(CommitError::NotApplied(NotApplied::Stopped(why.into()))));
    }
}

fn answer(sender: oneshot::Sender<Answer>, with: Answer) {
    // Whoever asked may have gone; the commit stands all the same.
    drop(sender.send(with));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wait after so many groups of a size.
    fn after(groups: usize, size: usize, from: Duration) -> Duration {
        (0..groups).fold(from, |linger, _| next_linger(linger, size, Duration::from_millis(4)))
    }

    #[test]
    fn the_wait_for_more_follows_the_size_of_the_groups() {
        let most = Duration::from_millis(4);
        assert_eq!(after(100, 1, Duration::ZERO), Duration::ZERO, "a lone client never waits");
        assert!(after(40, 2, Duration::ZERO) <= LINGER_PER_COMMIT);
        assert!(after(40, 5, Duration::ZERO) > most * 9 / 10);
        assert!(after(40, 1000, most) <= most);
        assert!(after(32, 1, most) < LINGER_STEP, "who is alone again waits no more");
    }

    fn commit() -> Request {
        let (answer, _) = oneshot::channel();
        Request { items: Vec::new(), leaves: Vec::new(), hashes: Vec::new(), urgent: false, answer }
    }

    /// Longer than any of these tests takes.
    const LONG: Duration = Duration::from_secs(60);

    fn gathering(queue: &Queue) -> bool {
        queue.lock().committer == CommitterIs::Gathering
    }

    #[test]
    fn a_group_is_waited_for_while_more_are_at_work_than_there_are_processors() {
        let at_work = AtWork::default();
        let _working: Vec<_> = (0..5).map(|_| at_work.enter()).collect();
        let queue = Arc::new(Queue::new(at_work, 2));
        queue.push(commit(), 10).expect("room");
        let committer = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || (Instant::now(), queue.next_group(LONG).expect("open").0.len(), Instant::now())
        });
        let gathers_with = |commits| {
            while !gathering(&queue) {
                std::thread::yield_now();
            }
            assert_eq!(queue.len(), commits);
        };
        gathers_with(1);
        queue.push(commit(), 10).expect("room");
        gathers_with(2);
        queue.push(commit(), 10).expect("room");
        let (began, group, ended) = committer.join().expect("no panic");
        assert!(group == 3 && ended - began < LONG, "two are left, for two processors: {group}");
    }

    #[test]
    fn who_is_alone_or_unknown_is_not_kept_waiting() {
        let at_work = AtWork::default();
        for queue in [Queue::new(AtWork::default(), 1), Queue::new(at_work.clone(), 1)] {
            let _working = at_work.enter();
            queue.push(commit(), 10).expect("room");
            let began = Instant::now();
            let (group, _) = queue.next_group(LONG).expect("open");
            assert!(group.len() == 1 && began.elapsed() < LONG);
        }
    }
}
