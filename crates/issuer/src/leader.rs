//! Which of several controllers works: a Lease, taken by whoever comes first and renewed by whoever holds it.
//!
//! A holder stops before others may take over: it counts from when it last *began* a renewal that succeeded, by a
//! clock that does not jump. Others count from when they last saw a change, so clocks that differ do no harm. The
//! number of the Lease's transitions is the term that goes into each request to a server, with the Lease's UID.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chancery_api::LeaseRef;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock;

/// For how long a Lease is held by one renewal.
const DURATION: Duration = Duration::from_secs(15);
/// After how long without a renewal its holder stops.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, or looked at.
const PERIOD: Duration = Duration::from_secs(3);
/// Longest that one try takes: an API server that is gone without a word says nothing for a long time.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How often a renewal is tried again at once after somebody else has changed the Lease: enough for whoever labels it a
/// hundred times a second.
const CONFLICTS: usize = 24;

/// Whether this process works, and in which term.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leadership(Option<Arc<Held>>);

#[derive(Debug, Default)]
struct Held {
    until: Mutex<Option<Instant>>,
    term: AtomicU64,
    lease: Mutex<Option<LeaseRef>>,
}

impl Leadership {
    /// That of a process that is alone.
    pub(crate) const fn alone() -> Self {
        Self(None)
    }

    /// Whether this process may work now.
    pub(crate) fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|held| held.until().is_some_and(|until| Instant::now() < until))
    }

    /// The term; none for a process that is alone.
    pub(crate) fn term(&self) -> Option<u64> {
        self.0.as_ref().map(|held| held.term.load(Ordering::Acquire))
    }

    /// The Lease; none for a process that is alone.
    pub(crate) fn lease(&self) -> Option<LeaseRef> {
        self.0.as_ref()?.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Held {
    fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Ours,
    Theirs,
    /// Somebody else wrote it meanwhile.
    Conflict,
}

/// Takes and renews a Lease.
#[derive(Debug)]
pub(crate) struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    held: Arc<Held>,
    /// What the Lease said last, and since when.
    seen: Option<(Option<LeaseSpec>, Instant)>,
    /// The Lease as we wrote it last, while nobody is known to have written it since: then it need not be read.
    written: Option<Lease>,
}

impl Elector {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), identity, held: Arc::default(), seen: None, written: None }
    }

    /// Waits until the Lease is ours; false if `stop` came first.
    pub(crate) async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        while !stop.is_cancelled() {
            let attempt = tokio::select! {
                () = stop.cancelled() => return false,
                attempt = tokio::time::timeout(ATTEMPT, self.attempt()) => attempt,
            };
            match attempt {
                Ok(Ok(Attempt::Ours)) => {
                    tracing::info!(lease.name = %self.name, lease.term = self.held.term.load(Ordering::Acquire), "leading");
                    return true;
                }
                Ok(Ok(Attempt::Theirs | Attempt::Conflict)) => {}
                Ok(Err(error)) => tracing::warn!(lease.name = %self.name, error = %error, "the lease cannot be taken"),
                Err(_) => tracing::warn!(lease.name = %self.name, "the API server does not say who leads"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(PERIOD) => {}
            }
        }
        false
    }

    /// Ours, as long as it is renewed.
    pub(crate) fn leadership(&self) -> Leadership {
        Leadership(Some(Arc::clone(&self.held)))
    }

    /// Renews the Lease until it is lost, or `stop`.
    pub(crate) async fn keep(&mut self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(PERIOD) => {}
            }
            let left =
                self.held.until().map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(Attempt::Ours)) => {}
                Ok(Ok(Attempt::Theirs)) => break,
                Ok(Ok(Attempt::Conflict)) => {
                    tracing::warn!(lease.name = %self.name, "others change the lease all the time");
                }
                Ok(Err(error)) => tracing::warn!(lease.name = %self.name, error = %error, "the lease is not renewed"),
                Err(_) => break,
            }
            if self.held.until().is_none_or(|until| Instant::now() >= until) {
                break;
            }
        }
        self.held.set(None);
        tracing::warn!(lease.name = %self.name, "not leading any more");
    }

    /// Gives the Lease back, so that others need not wait.
    pub(crate) async fn release(&mut self) {
        if self.held.until().is_none() {
            return;
        }
        self.held.set(None);
        let released = async {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = None;
                spec.acquire_time = None;
                spec.renew_time = None;
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), released).await {
            tracing::debug!(error = %error, "the lease is not given back");
        }
    }

    /// Takes or renews the Lease. Who only labels it ends no term.
    async fn attempt(&mut self) -> Result<Attempt, kube::Error> {
        for _ in 0..CONFLICTS {
            let attempt = self.attempt_once().await?;
            if attempt != Attempt::Conflict {
                return Ok(attempt);
            }
        }
        Ok(Attempt::Conflict)
    }

    async fn attempt_once(&mut self) -> Result<Attempt, kube::Error> {
        let began = Instant::now();
        let now = MicroTime(clock::now());
        let found = match self.written.take() {
            Some(written) => Some(written),
            None => self.api.get_opt(&self.name).await?,
        };
        let Some(mut lease) = found else {
            let spec = self.spec(now.clone(), Some(now), next_term(0, clock::now()));
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(spec) };
            let created = self.api.create(&PostParams::default(), &lease).await;
            return self.wrote(created, began);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or(0);
        if holder == self.identity {
            lease.spec = Some(self.spec(now, spec.acquire_time.clone(), transitions));
        } else {
            if self.seen.as_ref().is_none_or(|(seen, _)| *seen != lease.spec) {
                self.seen = Some((lease.spec.clone(), began));
            }
            let duration = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0).clamp(1, 3600);
            let since = self.seen.as_ref().map_or(began, |(_, since)| *since);
            if !holder.is_empty() && began.saturating_duration_since(since) <= Duration::from_secs(duration) {
                return Ok(Attempt::Theirs);
            }
            lease.spec = Some(self.spec(now.clone(), Some(now), next_term(transitions, clock::now())));
        }
        // The resource version goes with it: of two that try, one is refused.
        let replaced = self.api.replace(&self.name, &PostParams::default(), &lease).await;
        self.wrote(replaced, began)
    }

    fn spec(&self, now: MicroTime, acquired: Option<MicroTime>, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            acquire_time: acquired,
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(transitions),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    fn wrote(&mut self, written: Result<Lease, kube::Error>, began: Instant) -> Result<Attempt, kube::Error> {
        match written {
            Ok(lease) => {
                let term = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
                self.held.term.store(u64::try_from(term).unwrap_or(0), Ordering::Release);
                *self.held.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease_ref(&lease);
                self.held.set(Some(began + DEADLINE));
                self.written = Some(lease);
                Ok(Attempt::Ours)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Attempt::Conflict),
            Err(error) => Err(error),
        }
    }
}

fn lease_ref(lease: &Lease) -> Option<LeaseRef> {
    let (namespace, name, uid) = (&lease.metadata.namespace, &lease.metadata.name, &lease.metadata.uid);
    Some(LeaseRef { name: format!("{}/{}", namespace.as_deref()?, name.as_deref()?), uid: uid.clone()? })
}

/// The term after one of so many transitions. Servers take no lower term than they have seen, and a Lease may have
/// been made anew, by hand or by a chart: minutes since 1970 never lie below.
fn next_term(transitions: i32, now: Timestamp) -> i32 {
    transitions.saturating_add(1).max(i32::try_from(now.as_second() / 60).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_above_the_last_one_and_above_those_of_a_lease_that_was_made_anew() {
        let now = Timestamp::from_second(1_700_000_000).expect("a time");
        assert_eq!(next_term(0, now), 28_333_333);
        assert_eq!(next_term(5, now), 28_333_333, "a Lease made by hand");
        assert_eq!(next_term(40_000_000, now), 40_000_001);
        assert_eq!(next_term(i32::MAX, now), i32::MAX);
    }
}
