//! Trouble that does not pass by itself, as objects of both kinds meet it.

use axum::{http::StatusCode, response::Response};
use serde_json::{Value, json};
use tokio_util::sync::DropGuard;

use super::{tests::serving, *};
use crate::{
    events::Events,
    fake_api,
    leader::Leadership,
    origin::NamespaceLabels,
    signers::{Asking, PodRequests, SigningRequests},
    worker::{LEAST_TRIES, TOLD_EVERY},
};

/// A long time, for a test whose clock does not run.
const LONG: Duration = Duration::from_hours(24);
/// Longer than any request is tried.
const EVER: Duration = Duration::from_hours(24 * 365 * 100);

/// So often, and it does not end.
const ENDLESS: u32 = 100;

/// What the API server is sent: a review, a status or an event.
type Sent = (&'static str, Value);

/// A cluster with one object, and what its API server is sent about it; `answer` is what it says to that.
fn cluster(
    object: &Value,
    answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static,
) -> (Client, mpsc::UnboundedReceiver<Sent>) {
    let (told, sent) = mpsc::unbounded_channel();
    let list = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": [object],
    });
    let client = fake_api::client(move |method, uri, body| {
        let what = match (method.as_str(), uri.path()) {
            ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews") => "review",
            ("POST", path) if path.starts_with("/apis/events.k8s.io/v1/") => "event",
            ("PATCH", path) if path.ends_with("/status") => "status",
            _ if uri.query().is_some_and(|query| query.contains("watch=true")) => return fake_api::silence(),
            _ => return fake_api::object(&list),
        };
        // The test may have seen enough.
        let _seen = told.send((what, serde_json::from_slice(body).unwrap_or_default()));
        answer(what)
    });
    (client, sent)
}

/// An approved request to an issuer of a namespace.
fn signing_request() -> Value {
    json!({
        "metadata": { "name": "web", "uid": "u-1", "resourceVersion": "1" },
        "spec": { "signerName": "chanceryissuers.chancery.dev/shop.own", "request": "", "usages": ["server auth"] },
        "status": { "conditions": [
            { "type": "Approved", "status": "True", "lastTransitionTime": "2026-11-01T00:00:00Z" },
        ] },
    })
}

/// A pod's request that is denied: it is one to an issuer of a namespace.
fn pod_request() -> Value {
    json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "1" },
        "spec": {
            "signerName": "chanceryissuers.chancery.dev/shop.own", "stubPKCS10Request": "", "podName": "web",
            "podUID": "p-1", "serviceAccountName": "shop", "serviceAccountUID": "s-1", "nodeName": "node-1",
            "nodeUID": "n-1",
        },
    })
}

fn asking(serving: &Serving) -> Asking {
    Asking {
        client: serving.client.clone(),
        desk: Arc::clone(&serving.desk),
        events: Events::start(&serving.client, "tests".to_owned()),
        leadership: Leadership::alone(),
        metrics: Arc::clone(&serving.metrics),
        disposals: Arc::clone(&serving.disposals),
    }
}

/// Serves CertificateSigningRequests, each for so long from its approval, until this is dropped.
fn serve_signing_requests(client: Client, retry_budget: Duration) -> DropGuard {
    let serving = serving(client, 10);
    let controller = SigningRequests { asking: asking(&serving), retry_budget };
    let stop = CancellationToken::new();
    tokio::spawn(serve(Arc::new(controller), serving, stop.clone()));
    stop.drop_guard()
}

/// Serves PodCertificateRequests until this is dropped.
fn serve_pod_requests(client: Client) -> DropGuard {
    let serving = serving(client, 10);
    let controller = PodRequests { asking: asking(&serving), labels: NamespaceLabels::default() };
    let stop = CancellationToken::new();
    tokio::spawn(serve(Arc::new(controller), serving, stop.clone()));
    stop.drop_guard()
}

/// How much of one thing is sent before another, and that.
async fn before(sent: &mut mpsc::UnboundedReceiver<Sent>, counted: &str, awaited: &str) -> (u32, Value) {
    let mut count = 0;
    loop {
        let (what, body) = timeout(LONG, sent.recv()).await.expect("in time").expect("the cluster is there");
        if what == awaited {
            return (count, body);
        }
        count += u32::from(what == counted);
        assert!(count < ENDLESS, "{counted} without end, and no {awaited}");
    }
}

/// Breaks the task that sends this.
fn breaks_at(which: &'static str) -> impl Fn(&str) -> Response + Clone {
    move |what| if what == which { std::panic::panic_any("on purpose") } else { fake_api::object(&signing_request()) }
}

#[tokio::test(start_paused = true)]
async fn a_signing_request_that_breaks_its_task_again_and_again_fails_when_its_time_is_over() {
    let (client, mut sent) = cluster(&signing_request(), breaks_at("review"));
    let _serves = serve_signing_requests(client, Duration::ZERO);
    let (tries, status) = before(&mut sent, "review", "status").await;
    assert_eq!(tries, LEAST_TRIES + 1, "it is tried a few times, however late it is");
    let status = status.to_string();
    assert!(status.contains("\"Failed\"") && status.contains("breaks while it works on this request"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn a_signing_request_that_breaks_its_task_is_tried_on_while_its_time_lasts() {
    let (client, mut sent) = cluster(&signing_request(), breaks_at("review"));
    let _serves = serve_signing_requests(client, EVER);
    for _ in 0..2 * LEAST_TRIES {
        let (what, _) = timeout(LONG, sent.recv()).await.expect("in time").expect("the cluster is there");
        assert_eq!(what, "review");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pods_request_that_breaks_its_task_again_and_again_says_so_and_has_no_outcome() {
    let (client, mut sent) = cluster(&pod_request(), breaks_at("status"));
    let _serves = serve_pod_requests(client);
    let (tries, event) = before(&mut sent, "status", "event").await;
    assert_eq!(tries, LEAST_TRIES + 1);
    assert!(event.to_string().contains("breaks while it works on this request"), "{event}");
    // It is denied, and never failed, however often.
    let (_, status) = before(&mut sent, "event", "status").await;
    assert!(status.to_string().contains("\"Denied\""), "{status}");
}

/// A review says no, and no status may be written.
fn forbids(what: &str) -> Response {
    match what {
        "status" => fake_api::refusal(StatusCode::FORBIDDEN, "Forbidden"),
        "review" => fake_api::object(&json!({ "spec": {}, "status": { "allowed": false } })),
        _ => fake_api::object(&json!({})),
    }
}

/// Serves one object whose status may not be written: what people are told, and how often it was tried before they were
/// told once more.
async fn told_what_is_forbidden(mut sent: mpsc::UnboundedReceiver<Sent>) -> (String, u32) {
    let (tries, event) = before(&mut sent, "status", "event").await;
    assert_eq!(tries, LEAST_TRIES + 1, "a right that was just given is taken in a moment");
    (event.to_string(), before(&mut sent, "status", "event").await.0)
}

#[tokio::test(start_paused = true)]
async fn a_status_that_may_not_be_written_is_told_with_verb_and_signer_and_tried_rarely() {
    let (client, sent) = cluster(&signing_request(), forbids);
    let _serves = serve_signing_requests(client, Duration::ZERO);
    let (event, tries) = told_what_is_forbidden(sent).await;
    for words in ["certificatesigningrequests/status", "sign\\\"", "chanceryissuers.chancery.dev/shop.own", "Warning"] {
        assert!(event.contains(words), "{words}: {event}");
    }
    assert_eq!(tries, TOLD_EVERY - LEAST_TRIES);
    let (client, sent) = cluster(&pod_request(), forbids);
    let _serves = serve_pod_requests(client);
    let (event, tries) = told_what_is_forbidden(sent).await;
    assert!(event.contains("podcertificaterequests/status") && event.contains("u-1"), "{event}");
    assert_eq!(tries, TOLD_EVERY - LEAST_TRIES);
}
