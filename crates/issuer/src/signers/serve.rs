//! Watches the objects of one kind and has them worked on, one at a time each, in the order of a [`Line`].

use std::{collections::HashMap, fmt::Debug, future::Future, sync::Arc, time::Duration};

use chancery_api::RequestKind;
use futures::StreamExt as _;
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::line::{Done, Job, Limits, Line, Next};
use crate::{
    board::{Asked, IssuerKey},
    dispatch::Desk,
    disposal::{Disposals, Signed},
    metrics::Metrics,
    origin,
    resource::RateLimit,
    watch,
};

/// Longest that one job takes.
const LONGEST: Duration = Duration::from_secs(300);
/// How often it is looked whether there is room again for objects that were left out.
const ROOM: Duration = Duration::from_secs(5);

/// What is done about the objects of one kind.
pub(crate) trait Controller: Send + Sync + 'static {
    /// The kind.
    type Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static;

    /// The same as servers know it.
    const KIND: RequestKind;

    /// The issuer whose signer this object names, whatever its state; none where that is none of ours.
    fn named(object: &Self::Object) -> Option<IssuerKey>;

    /// Whether there is a certificate in its status.
    fn has_certificate(object: &Self::Object) -> bool;

    /// The issuer that is to sign this object now; none where there is nothing to be done.
    fn issuer_of(object: &Self::Object) -> Option<IssuerKey>;

    /// Who takes turns with others.
    fn who(object: &Self::Object) -> &str;

    /// Does what is to be done about one.
    fn work(&self, job: &Job<Self::Object>) -> impl Future<Output = (Done, Asked)> + Send;

    /// Says what comes next for an object whose task broke: a fault that comes again and again must not be tried for ever.
    fn broke(&self, job: &Job<Self::Object>) -> impl Future<Output = Done> + Send;
}

/// What a kind is served with.
pub(crate) struct Serving {
    pub(crate) client: Client,
    pub(crate) desk: Arc<Desk>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) disposals: Arc<Disposals>,
    pub(crate) limits: Limits,
    /// How fast an issuer's server is asked where the issuer does not say.
    pub(crate) rate: RateLimit,
    /// What is under way.
    pub(crate) jobs: TaskTracker,
}

impl Serving {
    fn ready(&self) -> HashMap<IssuerKey, RateLimit> {
        let all = self.desk.book.all().into_iter();
        all.filter_map(|(key, known)| Some((key, known.signer?.spec.rate_limit.unwrap_or(self.rate)))).collect()
    }
}

/// Serves the objects of one kind until `stop`.
pub(crate) async fn serve<C: Controller>(controller: Arc<C>, serving: Serving, stop: CancellationToken) {
    let kind = C::Object::kind(&()).into_owned();
    let mut line = Line::new(serving.limits);
    let mut issuers = serving.desk.book.changes();
    line.ready_are(&serving.ready());
    let (ended, mut ends) = mpsc::channel(serving.limits.concurrency.max(1));
    // One clock for the whole: events do not put it off.
    let mut room = interval(ROOM);
    room.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let api: Api<C::Object> = Api::all(serving.client.clone());
        let mut events = watcher(api, watcher::Config::default().page_size(watch::PAGE)).default_backoff().boxed();
        loop {
            let until = loop {
                match line.next(Instant::now()) {
                    Next::Job(job) => start(&controller, &serving, job, ended.clone()),
                    Next::Nothing(until) => break until,
                }
            };
            serving.metrics.signers_waiting(&kind, line.len());
            let far = Instant::now() + Duration::from_secs(3600);
            let event = tokio::select! {
                () = stop.cancelled() => return,
                _ = room.tick(), if line.has_left_out() => {
                    if line.wants_listing() {
                        break;
                    }
                    continue;
                }
                Some((job, done, asked)) = ends.recv() => {
                    line.finished(&job, &done, asked, Instant::now());
                    continue;
                }
                Ok(()) = issuers.changed() => {
                    line.ready_are(&serving.ready());
                    continue;
                }
                () = sleep_until(until.unwrap_or(far)) => continue,
                event = events.next() => event,
            };
            match event {
                None => break,
                Some(Ok(Event::Init)) => line.listing_begins(),
                Some(Ok(Event::InitApply(object) | Event::Apply(object))) => {
                    if C::has_certificate(&object) {
                        // By a write of ours whose answer was lost, or by whoever led meanwhile.
                        serving.disposals.written(object.meta().uid.as_deref().unwrap_or_default());
                    }
                    observe::<C>(&mut line, object);
                }
                Some(Ok(Event::InitDone)) => {
                    for (uid, who, issuer) in line.listing_ends() {
                        let signed = Signed { kind: C::KIND, uid, who, issuer };
                        serving.disposals.unused_unless_handed_out(&serving.desk, signed);
                    }
                }
                Some(Ok(Event::Delete(object))) => {
                    let uid = object.meta().uid.as_deref().unwrap_or_default();
                    line.forget(uid);
                    if C::has_certificate(&object) {
                        serving.disposals.written(uid);
                    } else if let Some(signed) = signed::<C>(&object) {
                        serving.disposals.unused_if_signed(&serving.desk, signed);
                    }
                }
                Some(Err(error)) => watch::trouble(&serving.metrics, &kind, &error),
            }
        }
    }
}

fn observe<C: Controller>(line: &mut Line<C::Object>, mut object: C::Object) {
    // What nobody here reads is not kept.
    let metadata = object.meta_mut();
    (metadata.managed_fields, metadata.labels, metadata.owner_references) = (None, None, None);
    if let Some(annotations) = &mut metadata.annotations {
        origin::keep_what_is_passed_on(annotations);
    }
    let issuer = C::issuer_of(&object).filter(|_| object.meta().deletion_timestamp.is_none());
    match issuer {
        Some(issuer) => {
            let who = C::who(&object).to_owned();
            line.observe(object, issuer, &who);
        }
        None => line.forget(object.meta().uid.as_deref().unwrap_or_default()),
    }
}

/// How an object of ours is named where its certificate is revoked.
fn signed<C: Controller>(object: &C::Object) -> Option<Signed> {
    let (uid, issuer) = (object.meta().uid.as_deref()?.into(), C::named(object)?);
    Some(Signed { kind: C::KIND, uid, who: C::who(object).into(), issuer })
}

/// How a job has ended.
type End<K> = (Job<K>, Done, Asked);

fn start<C: Controller>(
    controller: &Arc<C>,
    serving: &Serving,
    job: Job<C::Object>,
    ended: mpsc::Sender<End<C::Object>>,
) {
    let (controller, metrics) = (Arc::clone(controller), Arc::clone(&serving.metrics));
    let disposals = Arc::clone(&serving.disposals);
    serving.jobs.spawn(async move {
        let begun = disposals.begin(&job.uid);
        let work = tokio::spawn({
            let (job, controller) = (job.clone(), Arc::clone(&controller));
            async move { timeout(LONGEST, controller.work(&job)).await }
        });
        let (done, asked) = match work.await {
            Ok(Ok(end)) => end,
            // An API server that takes a connection and says nothing.
            Ok(Err(_)) => (Done::Later(None), Asked::Not),
            Err(error) => {
                metrics.broken();
                tracing::error!(request.uid = %job.uid, error = %error, "a task broke; its object is tried again");
                let broke = tokio::spawn({
                    let job = job.clone();
                    async move { timeout(LONGEST, controller.broke(&job)).await }
                });
                (broke.await.ok().and_then(Result::ok).unwrap_or(Done::Later(None)), Asked::Not)
            }
        };
        drop(begun);
        // Nobody takes it when this process stops leading.
        let _nobody = ended.send((job, done, asked)).await;
    });
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "trouble_tests.rs"]
mod trouble_tests;
