use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};

use super::*;
use crate::{board, decide::IssuerState, fake_api, fake_signer};

const RATE: RateLimit = RateLimit { requests_per_second: 10_000, burst: Some(10_000) };

fn corp() -> IssuerKey {
    IssuerKey { namespace: None, name: "corp".into() }
}

/// What a kind is served with in a cluster without issuers, where so many objects are kept.
pub(super) fn serving(client: Client, active: usize) -> Serving {
    let metrics = Arc::new(Metrics::new());
    Serving {
        client,
        desk: Arc::new(Desk::new(board::Limits { active: 10, concurrency: 4, rate: RATE })),
        disposals: Arc::new(Disposals::new(Arc::clone(&metrics))),
        metrics,
        limits: Limits { active, concurrency: 4, each_issuer: 2 },
        rate: RATE,
        jobs: TaskTracker::new(),
    }
}

/// Signs for the pods of `shop`: what its work on one comes to.
struct Works<W>(W);

impl<W: Fn(&Job<Pod>) -> (Done, Asked) + Send + Sync + 'static> Controller for Works<W> {
    type Object = Pod;

    const KIND: RequestKind = RequestKind::PodCertificateRequest;

    fn named(object: &Pod) -> Option<IssuerKey> {
        (object.metadata.namespace.as_deref() == Some("shop")).then(corp)
    }

    fn has_certificate(_object: &Pod) -> bool {
        false
    }

    fn issuer_of(object: &Pod) -> Option<IssuerKey> {
        Self::named(object)
    }

    fn who(_object: &Pod) -> &str {
        "shop"
    }

    async fn work(&self, job: &Job<Pod>) -> (Done, Asked) {
        (self.0)(job)
    }

    async fn broke(&self, _job: &Job<Pod>) -> Done {
        Done::Later(None)
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_task_breaks_is_tried_again_and_the_fault_is_counted() {
    let client = fake_api::client(|_, uri, _| {
        if uri.query().is_some_and(|query| query.contains("watch=true")) {
            return fake_api::silence();
        }
        fake_api::object(&json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": [pod("shop", "p-1")],
        }))
    });
    let serving = serving(client, 10);
    let metrics = Arc::clone(&serving.metrics);
    let (over, mut ended) = mpsc::unbounded_channel();
    let (works, stop) = (Arc::new(AtomicU32::new(0)), CancellationToken::new());
    let counted = Arc::clone(&works);
    let breaks_once = Works(move |_: &Job<Pod>| {
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            std::panic::panic_any("on purpose");
        }
        over.send(()).expect("the test waits");
        (Done::Over, Asked::Not)
    });
    let serves = tokio::spawn(serve(Arc::new(breaks_once), serving, stop.clone()));
    timeout(Duration::from_secs(60), ended.recv()).await.expect("in time").expect("an outcome");
    stop.cancel();
    serves.await.expect("it serves until it is stopped");
    assert_eq!(works.load(Ordering::SeqCst), 2);
    let (mut registry, mut text) = (Registry::default(), String::new());
    metrics.register(&mut registry);
    encode(&mut text, &registry).expect("text");
    assert!(text.contains("chancery_issuer_broken_tasks_total 1\n"), "{text}");
}

fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "uid": name, "resourceVersion": "1" },
    })
}

#[tokio::test(start_paused = true)]
async fn what_was_left_out_is_found_however_much_happens_to_what_is_not_ours() {
    // Those that are there; what has its outcome is deleted.
    let there = Arc::new(Mutex::new(BTreeSet::from(["p-1", "p-2", "p-3"].map(str::to_owned))));
    let (over, mut ended) = mpsc::unbounded_channel();
    let (left, listed) = (Arc::clone(&there), Arc::clone(&there));
    let (deleted, deletions) = mpsc::unbounded_channel::<String>();
    let deletions = Arc::new(tokio::sync::Mutex::new(deletions));
    let client = fake_api::client(move |_, uri, _| {
        if uri.query().is_some_and(|query| query.contains("watch=true")) {
            let deletions = Arc::clone(&deletions);
            // Somebody else's pod changes each second, a deletion of ours is shown at once.
            return fake_api::watch(stream::unfold((), move |()| {
                let deletions = Arc::clone(&deletions);
                async move {
                    let mut deletions = deletions.lock().await;
                    let event = match timeout(Duration::from_secs(1), deletions.recv()).await {
                        Ok(Some(name)) => json!({ "type": "DELETED", "object": pod("shop", &name) }),
                        _ => json!({ "type": "MODIFIED", "object": pod("elsewhere", "busy") }),
                    };
                    Some((event, ()))
                }
            }));
        }
        let items: Vec<Value> = listed.lock().expect("nobody broke").iter().map(|name| pod("shop", name)).collect();
        fake_api::object(&json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items,
        }))
    });
    let serving = serving(client, 2);
    serving.desk.issuer_is(&corp(), IssuerState::Ready, Some(fake_signer::signer(&json!({}), &json!({}))));
    let stop = CancellationToken::new();
    let ends = Works(move |job: &Job<Pod>| {
        over.send(job.uid.to_string()).expect("the test waits");
        (Done::Over, Asked::Answered)
    });
    let serves = tokio::spawn(serve(Arc::new(ends), serving, stop.clone()));
    let mut seen = BTreeSet::new();
    while seen.len() < 3 {
        let name = timeout(Duration::from_secs(60), ended.recv()).await.expect("in time").expect("an outcome");
        left.lock().expect("nobody broke").remove(&name);
        deleted.send(name.clone()).expect("it is watched");
        seen.insert(name);
    }
    stop.cancel();
    serves.await.expect("it serves until it is stopped");
}
