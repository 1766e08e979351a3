//! What the cluster shows: requests, and the labels of namespaces.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, DefaultBackoff, Event, watcher},
    },
};
use tokio::{
    sync::Semaphore,
    time::{Duration, Instant, MissedTickBehavior, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    board::{Board, IssuerKey},
    decide::CSR_MAX,
    dispatch::Desk,
    metrics::Metrics,
    origin::{self, NamespaceLabels, owner_reference},
    resource::{CLUSTER_ISSUER, CertificateRequest, GROUP, ISSUER},
    unapproved::Unapproved,
    worker::Worker,
};

/// Requests that are prepared at a time.
const PREPARING: usize = 16;
/// Objects that are listed at a time: each may have more than a megabyte.
pub(crate) const PAGE: u32 = 50;
/// How often it is looked whether there is room again for requests that were left out.
const ROOM: Duration = Duration::from_secs(5);
/// The wait before a broken watch begins anew, where the backoff names none.
const AGAIN: Duration = Duration::from_secs(30);

/// A watch is in trouble; it goes on by itself.
pub(crate) fn trouble(metrics: &Metrics, kind: &str, error: &watcher::Error) {
    if is_forgotten(error) {
        metrics.watch_expired(kind);
        tracing::info!(kind, "the API server has forgotten what was seen last (410); all are listed anew");
    } else {
        tracing::warn!(kind, error = %error, "objects cannot be watched; trying again");
    }
}

/// Whether the API server says that it does not know any more what has changed since (410, Gone).
fn is_forgotten(error: &watcher::Error) -> bool {
    use watcher::Error as E;
    match error {
        E::WatchError(status) => status.code == 410,
        E::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        E::WatchStartFailed(_) | E::InitialListFailed(_) | E::WatchFailed(_) | E::NoResourceVersion => false,
    }
}

/// What nobody here reads, and what no server is sent, is not kept.
pub(crate) fn slim(mut request: CertificateRequest) -> CertificateRequest {
    let metadata = &mut request.metadata;
    (metadata.managed_fields, metadata.labels, metadata.finalizers) = (None, None, None);
    if let Some(annotations) = &mut metadata.annotations {
        origin::keep_what_is_passed_on(annotations);
    }
    origin::keep_owner(metadata);
    let spec = &mut request.spec;
    // One octet too many tells that there were more.
    spec.request.0.truncate(CSR_MAX + 1);
    spec.request.0.shrink_to_fit();
    spec.groups.truncate(origin::GROUPS);
    spec.groups.shrink_to_fit();
    request
}

/// Watches requests until `stop`. Where the API server can select by issuer group, it shows only ours.
pub(crate) async fn requests(
    client: Client,
    selectable: bool,
    desk: Arc<Desk>,
    worker: Arc<Worker>,
    unapproved: Arc<Unapproved>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    // One clock for the whole: events do not put it off.
    let mut room = tokio::time::interval(ROOM);
    room.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let preparing = Arc::new(Semaphore::new(PREPARING));
    loop {
        let config = watcher::Config::default().page_size(PAGE);
        let config = if selectable { config.fields(&format!("spec.issuerRef.group={GROUP}")) } else { config };
        let api: Api<CertificateRequest> = Api::all(client.clone());
        let mut events = watcher(api, config).default_backoff().boxed();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                // Only while requests were left out does this wake anything up.
                _ = room.tick(), if desk.left_out() > 0 => {
                    if desk.with(|board| board.wants_listing()) {
                        break;
                    }
                    continue;
                }
                event = events.next() => event,
            };
            match event {
                None => break,
                Some(Ok(Event::Init)) => {
                    desk.with(Board::listing_begins);
                    worker.disposals.listing_begins();
                }
                Some(Ok(Event::InitApply(request))) => {
                    remember(&desk, &worker, &unapproved, &request);
                    desk.observe(slim(request));
                }
                Some(Ok(Event::Apply(request))) => {
                    remember(&desk, &worker, &unapproved, &request);
                    let request = slim(request);
                    prepare(&worker, &tasks, &preparing, &request);
                    desk.observe(request);
                }
                Some(Ok(Event::InitDone)) => {
                    for request in desk.with(Board::listing_ends) {
                        worker.disposals.gone(&desk, &request);
                    }
                    worker.disposals.listing_ends(&desk);
                }
                Some(Ok(Event::Delete(request))) => {
                    if let Some(uid) = &request.metadata.uid {
                        desk.with(|board| board.forget(uid));
                        unapproved.forget(uid);
                    }
                    if is_ours(&request) {
                        worker.disposals.deleted(&desk, &request);
                    }
                }
                Some(Err(error)) => trouble(&worker.metrics, "CertificateRequest", &error),
            }
        }
    }
}

fn is_ours(request: &CertificateRequest) -> bool {
    let reference = &request.spec.issuer_ref;
    reference.group == GROUP && [ISSUER, CLUSTER_ISSUER].contains(&reference.kind.as_str())
}

/// What has its certificate is remembered, where its issuer wants it revoked one day; and what nobody approves.
fn remember(desk: &Desk, worker: &Worker, unapproved: &Unapproved, request: &CertificateRequest) {
    if !is_ours(request) {
        return;
    }
    unapproved.observe(request, Instant::now());
    if request.is("Ready") {
        let signer = desk.with(|board| board.last_signer(&IssuerKey::of(request)));
        worker.disposals.observe(request, signer.as_deref());
    }
}

/// A request that is new will be approved in a moment.
fn prepare(worker: &Arc<Worker>, tasks: &TaskTracker, room: &Arc<Semaphore>, request: &CertificateRequest) {
    let new = request.status.is_none() && request.spec.issuer_ref.group == GROUP && owner_reference(request).is_some();
    let Some(room) = new.then(|| Arc::clone(room).try_acquire_owned().ok()).flatten() else { return };
    let (worker, request) = (Arc::clone(worker), request.clone());
    tasks.spawn(async move {
        worker.origins.prepare(&request).await;
        drop(room);
    });
}

/// Watches the labels of namespaces until `stop`. What broke begins anew with a listing: a watch that goes on where it was
/// tells that nothing was missed only with the next namespace that somebody changes.
pub(crate) async fn namespaces(
    client: Client,
    labels: NamespaceLabels,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let begin = || watcher(api.clone(), watcher::Config::default()).boxed();
    let mut backoff = DefaultBackoff::default();
    let mut events = begin();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(event)) => {
                take_in(&labels, event);
                continue;
            }
            // Labels are policy's: meanwhile they are looked up one by one.
            Some(Err(error)) => {
                labels.is_behind(true);
                trouble(&metrics, "Namespace", &error);
            }
            None => labels.is_behind(true),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(backoff.next().unwrap_or(AGAIN)) => events = begin(),
        }
    }
}

fn take_in(labels: &NamespaceLabels, event: Event<PartialObjectMeta<Namespace>>) {
    let whole = !matches!(event, Event::Init | Event::InitApply(_));
    match event {
        Event::Init => labels.listing_begins(),
        Event::InitApply(namespace) | Event::Apply(namespace) => {
            let metadata = namespace.metadata;
            labels.set(metadata.name.as_deref().unwrap_or_default(), metadata.labels.unwrap_or_default());
        }
        Event::Delete(namespace) => labels.remove(namespace.metadata.name.as_deref().unwrap_or_default()),
        Event::InitDone => {}
    }
    if whole {
        labels.is_behind(false);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicU32, Ordering},
    };

    use axum::{
        http::{StatusCode, Uri},
        response::Response,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
    use serde_json::json;

    use super::*;
    use crate::{fake_api, resource::CertificateRequestSpec};

    #[test]
    fn what_is_kept_of_a_request_is_what_a_server_is_sent() {
        let mut annotations: BTreeMap<String, String> =
            (0..200).map(|number| (format!("team-{number:03}"), "web".to_owned())).collect();
        annotations.insert("kubectl.kubernetes.io/last-applied-configuration".to_owned(), "x".repeat(200_000));
        annotations.insert("large".to_owned(), "x".repeat(20_000));
        annotations.insert("cert-manager.io/certificate-revision".to_owned(), "7".to_owned());
        let mut request = CertificateRequest::new("web", CertificateRequestSpec::default());
        request.metadata.annotations = Some(annotations);
        request.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "web".to_owned())]));
        request.spec.request.0 = vec![b'x'; 900_000];
        let owner = |kind: &str, name: &str| OwnerReference {
            api_version: "cert-manager.io/v1".to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            controller: Some(kind == "Certificate"),
            ..OwnerReference::default()
        };
        let mut owners = vec![owner("Pod", "a"); 5000];
        // There is no object of such a name.
        owners.extend([owner("Certificate", &"x".repeat(100_000)), owner("Certificate", "web")]);
        request.metadata.owner_references = Some(owners);
        let kept = slim(request);
        let annotations = kept.metadata.annotations.expect("some");
        assert_eq!(annotations.len(), 65, "64, and the revision");
        assert!(annotations.contains_key("cert-manager.io/certificate-revision"));
        assert!(kept.metadata.labels.is_none());
        assert_eq!(kept.metadata.owner_references, Some(vec![owner("Certificate", "web")]));
        assert_eq!(kept.spec.request.0.len(), CSR_MAX + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_of_namespaces_that_broke_is_whole_again_before_anybody_changes_one() {
        let (listed, watched) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let answer = {
            let (listed, watched) = (Arc::clone(&listed), Arc::clone(&watched));
            move |uri: &Uri| -> Response {
                if !uri.query().is_some_and(|query| query.contains("watch=true")) {
                    let listing = listed.fetch_add(1, Ordering::SeqCst);
                    return fake_api::object(&json!({
                        "metadata": { "resourceVersion": "7" },
                        "items": [{ "metadata": {
                            "name": "shop", "resourceVersion": "7", "labels": { "team": format!("of listing {listing}") },
                        } }],
                    }));
                }
                match watched.fetch_add(1, Ordering::SeqCst) {
                    0 => fake_api::refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
                    _ => fake_api::silence(),
                }
            }
        };
        let (labels, stop) = (NamespaceLabels::default(), CancellationToken::new());
        let metrics = Arc::new(Metrics::new());
        let client = fake_api::client(move |_, uri, _| answer(uri));
        let watch = tokio::spawn(namespaces(client, labels.clone(), metrics, stop.clone()));
        // The clock is moved on when nothing else is to be done: past the first wait, and not so far that a silent watch
        // is asked for again.
        sleep(Duration::from_secs(60)).await;
        let team = labels.get("shop").and_then(|labels| labels.get("team").cloned());
        assert_eq!(team.as_deref(), Some("of listing 1"), "known without looking it up");
        assert_eq!((listed.load(Ordering::SeqCst), watched.load(Ordering::SeqCst)), (2, 2));
        stop.cancel();
        watch.await.expect("it ends when it is told to");
    }

    #[test]
    fn labels_that_the_watch_may_have_missed_are_looked_up() {
        let labels = NamespaceLabels::default();
        let namespace = |name: &str, team: &str| PartialObjectMeta::<Namespace> {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([("team".to_owned(), team.to_owned())])),
                ..ObjectMeta::default()
            },
            ..PartialObjectMeta::default()
        };
        let team = |name: &str| labels.get(name).and_then(|labels| labels.get("team").cloned());
        for event in [Event::Init, Event::InitApply(namespace("shop", "web")), Event::InitApply(namespace("bank", "a"))]
        {
            take_in(&labels, event);
            assert_eq!(team("shop"), None, "before the listing is whole");
        }
        take_in(&labels, Event::InitDone);
        assert_eq!(team("shop").as_deref(), Some("web"));
        labels.is_behind(true);
        assert_eq!(team("shop"), None, "it may have been changed");
        // What it shows comes in order: nothing before this was missed.
        take_in(&labels, Event::Apply(namespace("bank", "b")));
        assert_eq!((team("shop").as_deref(), team("bank").as_deref()), (Some("web"), Some("b")));
        labels.is_behind(true);
        take_in(&labels, Event::Init);
        take_in(&labels, Event::InitApply(namespace("bank", "b")));
        take_in(&labels, Event::InitDone);
        assert_eq!((team("shop"), team("bank").as_deref()), (None, Some("b")), "deleted meanwhile");
    }
}
