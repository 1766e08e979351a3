//! Watches issuers, checks each of them, and says how it is: on its status, and to the board.
//!
//! One small task for each issuer. It looks again when the issuer changes, when a Secret or ConfigMap that it refers
//! to changes, when its server fails a request, and on a timer.

mod changes;
mod checks;
mod status;

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::checks::Checks;
use self::{changes::Changes, status::tell_people};
use crate::{
    backoff,
    board::IssuerKey,
    check::{Checked, Checker, Made},
    credentials::{Referred, Trouble, referred, wait_until},
    decide::IssuerState,
    dispatch::Desk,
    events::Events,
    leader::Leadership,
    metrics::Metrics,
    resource::{ChanceryClusterIssuer, ChanceryIssuer, IssuerSpec, IssuerStatus},
    signer::Signer,
    watch::PAGE,
};

/// Most issuers that are looked after.
const ISSUERS_MAX: usize = 10_000;
/// How long a change is left alone: several often come together.
const SETTLE: Duration = Duration::from_millis(50);
/// Most issuers of one namespace that are looked after.
const OF_ONE_NAMESPACE: usize = 64;
/// Least time between two looks at one issuer.
const PAUSE: Duration = Duration::from_secs(1);

/// Either of our kinds.
pub(crate) trait Issuer:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static
{
    fn spec(&self) -> &IssuerSpec;
    fn status(&self) -> Option<&IssuerStatus>;
    fn api(client: Client, namespace: Option<&str>) -> Api<Self>;
}

impl Issuer for ChanceryIssuer {
    fn spec(&self) -> &IssuerSpec {
        &self.spec.issuer
    }
    fn status(&self) -> Option<&IssuerStatus> {
        self.status.as_ref()
    }
    fn api(client: Client, namespace: Option<&str>) -> Api<Self> {
        namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
    }
}

impl Issuer for ChanceryClusterIssuer {
    fn spec(&self) -> &IssuerSpec {
        &self.spec.issuer
    }
    fn status(&self) -> Option<&IssuerStatus> {
        self.status.as_ref()
    }
    fn api(client: Client, _namespace: Option<&str>) -> Api<Self> {
        Api::all(client)
    }
}

/// What the tasks share.
#[derive(Clone)]
pub(crate) struct Tending {
    pub(crate) client: Client,
    pub(crate) checker: Checker,
    pub(crate) desk: Arc<Desk>,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) leadership: Leadership,
    pub(crate) checks: Arc<Checks>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// An issuer as its task has it.
#[derive(Debug, Clone)]
struct Seen {
    uid: Option<String>,
    generation: Option<i64>,
    reference: ObjectReference,
    /// Whoever asks with it shares it: it may hold a bundle of CAs.
    spec: Arc<IssuerSpec>,
    /// All of its status.
    conditions: Vec<Condition>,
    /// It is not looked after any more.
    gone: bool,
}

impl Seen {
    fn of<I: Issuer>(issuer: &I) -> Self {
        let conditions = issuer.status().map(|status| status.conditions.clone()).unwrap_or_default();
        let metadata = issuer.meta();
        Self {
            uid: metadata.uid.clone(),
            generation: metadata.generation,
            reference: issuer.object_ref(&()),
            spec: Arc::new(issuer.spec().clone()),
            conditions,
            gone: false,
        }
    }
}

struct Tended {
    seen: watch::Sender<Seen>,
    stop: CancellationToken,
    listing: u64,
}

/// Looks after every issuer of one kind until `stop`; `listed` is told once the first listing is complete.
pub(crate) async fn tend_all<I: Issuer>(tending: Tending, listed: watch::Sender<bool>) {
    let api = I::api(tending.client.clone(), None);
    let mut events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff().boxed();
    let mut tended: HashMap<IssuerKey, Tended> = HashMap::new();
    let mut listing = 0;
    // Issuers that are beyond a limit; the next listing looks at them again.
    let mut beyond = 0_usize;
    loop {
        let event = tokio::select! {
            () = tending.stop.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            Some(Ok(Event::Init)) => {
                listing += 1;
                beyond = 0;
            }
            Some(Ok(Event::InitApply(issuer) | Event::Apply(issuer))) => {
                beyond += usize::from(!observe(&tending, &mut tended, &issuer, listing));
            }
            Some(Ok(Event::Delete(issuer))) => {
                let key = key_of(issuer.meta());
                drop_one(&tending, &mut tended, &key);
                if beyond > 0 {
                    let api = I::api(tending.client.clone(), None);
                    events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff().boxed();
                }
            }
            Some(Ok(Event::InitDone)) => {
                let gone: Vec<_> =
                    tended.iter().filter(|(_, one)| one.listing != listing).map(|(key, _)| key.clone()).collect();
                for key in gone {
                    drop_one(&tending, &mut tended, &key);
                }
                listed.send_replace(true);
            }
            Some(Err(error)) => crate::watch::trouble(&tending.metrics, &I::kind(&()), &error),
        }
    }
}

fn key_of(metadata: &ObjectMeta) -> IssuerKey {
    IssuerKey {
        namespace: metadata.namespace.as_deref().map(Into::into),
        name: metadata.name.as_deref().unwrap_or_default().into(),
    }
}

fn drop_one(tending: &Tending, tended: &mut HashMap<IssuerKey, Tended>, key: &IssuerKey) {
    if let Some(one) = tended.remove(key) {
        one.stop.cancel();
        // From here on its task says nothing more of it.
        one.seen.send_modify(|seen| seen.gone = true);
        tending.desk.issuer_is(key, IssuerState::Absent, None);
        tending.metrics.issuer_gone(key);
    }
}

/// Takes in what an issuer is like; false if there is no room for it.
fn observe<I: Issuer>(tending: &Tending, tended: &mut HashMap<IssuerKey, Tended>, issuer: &I, listing: u64) -> bool {
    let key = key_of(issuer.meta());
    let seen = Seen::of(issuer);
    if let Some(one) = tended.get_mut(&key) {
        one.listing = listing;
        let known = one.seen.borrow().clone();
        if known.uid == seen.uid {
            // Labels do not matter. A status that somebody else wrote is mended.
            if known.generation != seen.generation {
                // In one: its task says nothing of what it was once it has this, nor anything of what it is before.
                one.seen.send_modify(|held| {
                    *held = seen;
                    tending.desk.issuer_is(&key, IssuerState::Unchecked, None);
                });
            } else if known.conditions != seen.conditions {
                one.seen.send_replace(Seen { spec: known.spec, ..seen });
            }
            return true;
        }
        drop_one(tending, tended, &key);
    }
    let of_namespace = || tended.keys().filter(|other| other.namespace == key.namespace).count();
    let too_many = if tended.len() >= ISSUERS_MAX {
        Some(format!("there are more than {ISSUERS_MAX} issuers; this one is not looked after"))
    } else if key.namespace.is_some() && of_namespace() >= OF_ONE_NAMESPACE {
        Some(format!("this namespace has more than {OF_ONE_NAMESPACE} issuers; this one is not looked after"))
    } else {
        None
    };
    if let Some(message) = too_many {
        tracing::error!(issuer = %key, "{message}");
        let tending = tending.clone();
        tending.tasks.clone().spawn(async move {
            let mut conditions = seen.conditions.clone();
            tell_people::<I>(&tending, &key, &seen, &Err(Trouble::settings(message)), &mut conditions).await;
        });
        return false;
    }
    tending.desk.issuer_is(&key, IssuerState::Unchecked, None);
    let (sender, receiver) = watch::channel(seen);
    let stop = tending.stop.child_token();
    tended.insert(key.clone(), Tended { seen: sender, stop: stop.clone(), listing });
    let (tending, tasks) = (tending.clone(), tending.tasks.clone());
    let first = tending.desk.first_checks.clone().token();
    tasks.spawn(async move {
        let (term, metrics, name) = (tending.stop.clone(), Arc::clone(&tending.metrics), key.to_string());
        let tend = std::panic::AssertUnwindSafe(tend::<I>(tending, key, receiver, first)).catch_unwind();
        tokio::select! {
            () = stop.cancelled() => {}
            ended = tend => if ended.is_err() {
                // An issuer that nobody looks at would stay as it is for ever.
                tracing::error!(issuer = name, "the task that looks after an issuer broke; beginning anew");
                metrics.broken();
                term.cancel();
            },
        }
    });
    true
}

/// Looks after one issuer.
async fn tend<I: Issuer>(
    tending: Tending,
    key: IssuerKey,
    mut seen: watch::Receiver<Seen>,
    first: tokio_util::task::task_tracker::TaskTrackerToken,
) {
    let trouble = Arc::new(Notify::new());
    let mut first = Some(first);
    let mut made = None;
    let mut failures: u32 = 0;
    let mut was_ready = false;
    let mut refers: Vec<Referred> = Vec::new();
    let mut changes = Changes::of(&tending.client, "", &[]);
    let mut reread = true;
    // For which generation what is referred to was read last.
    let mut read_for = None;
    loop {
        let now = seen.borrow_and_update().clone();
        if now.gone {
            return;
        }
        let mut conditions = now.conditions.clone();
        if read_for != now.generation {
            // How it was says nothing about what it is now.
            (was_ready, reread) = (false, true);
        }
        let wanted = referred(&now.spec);
        if wanted != refers {
            changes = Changes::of(&tending.client, tending.checker.reader.namespace(&key), &wanted);
            refers = wanted;
            reread = true;
        }
        tending.checks.turn(&key).await;
        let began = Instant::now();
        let outcome = tending.checker.check(&key, &now.spec, &mut made, reread).await;
        read_for = now.generation;
        // One failure of a server that was well may be a moment's; the circuit breaker guards what is sent meanwhile.
        let passing = outcome.as_ref().err().is_some_and(|trouble| trouble.transient) && was_ready && failures == 0;
        let is_current = unless_changed(&seen, now.generation, || {
            if !passing {
                tell_board(&tending, &key, &now, &outcome, &trouble);
                tending.metrics.issuer(&key, outcome.is_ok());
            }
        });
        if !is_current {
            // What was found out is about what it was.
            failures = 0;
            continue;
        }
        failures = if outcome.is_ok() { 0 } else { failures.saturating_add(1) };
        if !passing {
            was_ready = outcome.is_ok();
            tell_people::<I>(&tending, &key, &now, &outcome, &mut conditions).await;
        }
        drop(first.take());
        let interval = now.spec.check_interval();
        let usual = interval - backoff::wait(3, &key.name).min(interval / 10);
        let pause = if failures == 0 { usual } else { backoff::wait(failures, &key.name).min(usual) };
        // A token that is due hastens nothing while it cannot be had.
        let due = made.as_ref().and_then(Made::until).filter(|_| failures == 0);
        let pause = due.map_or(pause, |until| pause.min(wait_until(until)));
        // Without leave to watch what is referred to, it is read on the timer.
        reread = failures > 0 || !changes.are_watched();
        let timer = sleep(pause.max(PAUSE));
        tokio::pin!(timer);
        loop {
            tokio::select! {
                changed = seen.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let fresh = seen.borrow().clone();
                    if fresh.gone {
                        return;
                    }
                    if fresh.generation == now.generation {
                        // Whoever wrote its status, ours stands in the end.
                        seen.mark_unchanged();
                        conditions = fresh.conditions;
                        if !passing {
                            tell_people::<I>(&tending, &key, &now, &outcome, &mut conditions).await;
                        }
                        continue;
                    }
                }
                () = &mut timer => {}
                () = trouble.notified() => {
                    reread = true;
                    sleep(PAUSE.saturating_sub(began.elapsed())).await;
                }
                Some(()) = changes.stream.next() => {
                    reread = true;
                    sleep(SETTLE).await;
                }
            }
            break;
        }
    }
}

/// Says something of an issuer, unless it has changed or is gone; neither comes to pass before that is said. False if it
/// has.
fn unless_changed(seen: &watch::Receiver<Seen>, generation: Option<i64>, say: impl FnOnce()) -> bool {
    let held = seen.borrow();
    let is_current = !held.gone && held.generation == generation;
    if is_current {
        say();
    }
    is_current
}

fn tell_board(
    tending: &Tending,
    key: &IssuerKey,
    now: &Seen,
    outcome: &Result<Checked, Trouble>,
    trouble: &Arc<Notify>,
) {
    let (state, signer) = match outcome {
        Ok(Checked { client, info }) => {
            let (client, info, trouble) = (Arc::clone(client), Arc::clone(info), Arc::clone(trouble));
            let signer = Signer { client, spec: Arc::clone(&now.spec), info, trouble };
            (IssuerState::Ready, Some(Arc::new(signer)))
        }
        Err(Trouble { message, .. }) => (IssuerState::NotReady { message: message.clone() }, None),
    };
    tending.desk.issuer_is(key, state, signer);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(generation: i64) -> Seen {
        let spec = json!({ "urls": ["https://ca.example"], "credentials": {} });
        Seen {
            uid: None,
            generation: Some(generation),
            reference: ObjectReference::default(),
            spec: Arc::new(serde_json::from_value(spec).expect("a spec")),
            conditions: Vec::new(),
            gone: false,
        }
    }

    #[test]
    fn what_was_found_out_of_an_issuer_is_not_said_once_it_has_changed_or_is_gone() {
        let (sender, receiver) = watch::channel(seen(1));
        let says = |generation| {
            let mut said = false;
            assert_eq!(unless_changed(&receiver, Some(generation), || said = true), said);
            said
        };
        assert!(says(1));
        sender.send_replace(seen(2));
        assert!(!says(1) && says(2));
        sender.send_modify(|seen| seen.gone = true);
        assert!(!says(2));
    }

    #[test]
    fn an_issuer_does_not_change_while_something_is_said_of_it() {
        let (sender, receiver) = watch::channel(seen(1));
        let (changed, changes) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            unless_changed(&receiver, Some(1), || {
                scope.spawn(|| {
                    sender.send_replace(seen(2));
                    changed.send(()).expect("the test waits");
                });
                let early = changes.recv_timeout(Duration::from_millis(200));
                assert!(early.is_err(), "it changes only after that");
            });
            changes.recv().expect("it changes then");
        });
        assert!(!unless_changed(&receiver, Some(1), || {}));
    }
}
