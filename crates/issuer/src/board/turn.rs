//! Whose turn it is, and what comes after a job.

use std::{cmp::Reverse, sync::Arc};

use tokio::time::Instant;

use super::{Asked, Board, Done, Job, Next, State, Uid, lane::Offer};
use crate::{backoff, decide::Step};

/// Most writes at a time that need no signature. They have places of their own: no server holds them up.
const CONTROL_MAX: usize = 16;

impl Board {
    /// What is to be done now.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        self.release(now);
        while self.writing < CONTROL_MAX
            && let Some(uid) = self.writes.pop()
        {
            if let Some(job) = self.take(&uid, State::ToWrite) {
                self.writing += 1;
                return Next::Job(job);
            }
        }
        let mut soonest = self.delayed.peek().map(|Reverse((until, _))| *until);
        while let Some(issuer) = self.first_lane(now, &mut soonest) {
            let Some(lane) = self.lanes.get_mut(&issuer) else { break };
            // Without a token the lane says so itself when it is asked again.
            let Some((namespace, uid)) = lane.take(now) else { continue };
            lane.in_flight += 1;
            self.shares.served(&namespace);
            if let Some(job) = self.take(&uid, State::ToSign) {
                self.signing += 1;
                return Next::Job(job);
            }
        }
        Next::Nothing(soonest)
    }

    /// The lane whose first namespace has waited longest for its turn, over all issuers.
    fn first_lane(&mut self, now: Instant, soonest: &mut Option<Instant>) -> Option<super::IssuerKey> {
        let free = self.limits.concurrency.saturating_sub(self.signing);
        if free == 0 {
            return None;
        }
        let (lanes, entries, shares) = (&mut self.lanes, &self.entries, &self.shares);
        let live = |uid: &Uid| entries.get(uid).is_some_and(|entry| entry.state == State::ToSign);
        let mut first = None;
        self.busy.retain(|key| {
            let Some(lane) = lanes.get_mut(key) else { return false };
            match lane.offer(now, free, shares, live) {
                Offer::Empty => return false,
                Offer::Busy => {}
                Offer::Until(until) => *soonest = Some(soonest.map_or(until, |soonest| soonest.min(until))),
                Offer::Turn(turn) => {
                    if first.as_ref().is_none_or(|(least, _)| turn < *least) {
                        first = Some((turn, key.clone()));
                    }
                }
            }
            true
        });
        first.map(|(_, key)| key)
    }

    /// A job has ended.
    pub(crate) fn finished(&mut self, job: &Job, done: Done, asked: Asked, now: Instant) {
        if job.step == Step::Sign {
            self.signing = self.signing.saturating_sub(1);
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
            entry.state = State::New;
            self.place(uid);
            return None;
        }
        let signer = self.lanes.get(&entry.issuer).and_then(|lane| lane.signer.clone());
        entry.state = State::Running { changed: false };
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
