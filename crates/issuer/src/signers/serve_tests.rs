use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::Pod;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;

use super::*;
use crate::{board, fake_api};

const RATE: RateLimit = RateLimit { requests_per_second: 10_000, burst: Some(10_000) };

/// Breaks its task the first time, and has its outcome the second.
struct Breaks {
    works: AtomicU32,
    over: mpsc::Sender<()>,
}

impl Controller for Breaks {
    type Object = Pod;

    const KIND: RequestKind = RequestKind::PodCertificateRequest;

    fn named(_object: &Pod) -> Option<IssuerKey> {
        Some(IssuerKey { namespace: None, name: "corp".into() })
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

    async fn work(&self, _job: &Job<Pod>) -> (Done, Asked) {
        if self.works.fetch_add(1, Ordering::SeqCst) == 0 {
            std::panic::panic_any("on purpose");
        }
        self.over.send(()).await.expect("the test waits");
        (Done::Over, Asked::Not)
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_task_breaks_is_tried_again_and_the_fault_is_counted() {
    let client = fake_api::client(|_, uri, _| {
        if uri.query().is_some_and(|query| query.contains("watch=true")) {
            return fake_api::silence();
        }
        let pod = json!({ "metadata": { "name": "web", "namespace": "shop", "uid": "p-1", "resourceVersion": "1" } });
        fake_api::object(&json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": [pod],
        }))
    });
    let metrics = Arc::new(Metrics::new());
    let serving = Serving {
        client,
        desk: Arc::new(Desk::new(board::Limits { active: 10, concurrency: 4, rate: RATE })),
        disposals: Arc::new(Disposals::new(Arc::clone(&metrics))),
        metrics: Arc::clone(&metrics),
        limits: Limits { active: 10, concurrency: 4, each_issuer: 2 },
        rate: RATE,
        jobs: TaskTracker::new(),
    };
    let (over, mut ended) = mpsc::channel(1);
    let (controller, stop) = (Arc::new(Breaks { works: AtomicU32::new(0), over }), CancellationToken::new());
    let serves = tokio::spawn(serve(Arc::clone(&controller), serving, stop.clone()));
    timeout(Duration::from_secs(60), ended.recv()).await.expect("in time").expect("an outcome");
    stop.cancel();
    serves.await.expect("it serves until it is stopped");
    assert_eq!(controller.works.load(Ordering::SeqCst), 2);
    let (mut registry, mut text) = (Registry::default(), String::new());
    metrics.register(&mut registry);
    encode(&mut text, &registry).expect("text");
    assert!(text.contains("chancery_issuer_broken_tasks_total 1\n"), "{text}");
}
