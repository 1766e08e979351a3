use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    board::{IssuerKey, Limits},
    dispatch::dispatch,
    fake_api, fake_signer,
    origin::NamespaceLabels,
    resource::RateLimit,
    unapproved::Unapproved,
    watch::requests,
};

/// When the request was approved.
const APPROVED: &str = "2026-11-01T00:00:00Z";

/// An approved request of a Certificate, with this changed.
fn request(more: &Value) -> CertificateRequest {
    let csr = rcgen::CertificateParams::new(["web.shop.example".to_owned()]).expect("a name");
    let csr = csr.serialize_request(&rcgen::KeyPair::generate().expect("a key")).expect("a CSR").pem().expect("PEM");
    let mut request = json!({
        "metadata": {
            "name": "web-1", "namespace": "shop", "uid": "u-1", "resourceVersion": "1",
            "ownerReferences": [{
                "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "web", "uid": "c-1", "controller": true,
            }],
        },
        "spec": {
            "request": k8s_openapi::ByteString(csr.into_bytes()),
            "issuerRef": { "name": "corp", "kind": "ChanceryClusterIssuer", "group": "chancery.dev" },
        },
        "status": { "conditions": [{ "type": "Approved", "status": "True", "lastTransitionTime": APPROVED }] },
    });
    json_patch::merge(&mut request, more);
    serde_json::from_value(request).expect("a request")
}

/// The cluster issuer `corp`, which has what is not needed revoked.
fn signer() -> Arc<Signer> {
    fake_signer::signer(&json!({ "onDelete": "Revoke" }), &json!({}))
}

/// A worker of a cluster where `corp` is ready.
fn worker(client: Client, retry_budget: Duration) -> Arc<Worker> {
    let metrics = Arc::new(Metrics::new());
    let rate = RateLimit { requests_per_second: 10_000, burst: Some(10_000) };
    let desk = Arc::new(Desk::new(Limits { active: 10, concurrency: 4, rate }));
    desk.issuer_is(&IssuerKey { namespace: None, name: "corp".into() }, IssuerState::Ready, Some(signer()));
    let labels = NamespaceLabels::default();
    labels.set("shop", BTreeMap::new());
    Arc::new(Worker {
        events: Events::start(&client, "tests".to_owned()),
        leadership: Leadership::alone(),
        origins: Origins::new(client.clone(), labels),
        disposals: Arc::new(Disposals::new(Arc::clone(&metrics))),
        usages: Arc::new(Usages::new(Arc::clone(&metrics))),
        throttle: Throttle::default(),
        client,
        metrics,
        desk,
        retry_budget,
    })
}

/// A request that breaks its task whenever its Certificate is looked up, by a worker that tries so long: the tries until
/// a status was written, and that status; or so many tries, and none.
async fn broken_again_and_again(retry_budget: Duration, tries: u32) -> (u32, Option<Value>) {
    let looked_up = Arc::new(AtomicU32::new(0));
    let (written, mut writes) = mpsc::unbounded_channel();
    let (look, looks) = (Arc::clone(&looked_up), written.clone());
    let client = fake_api::client(move |method, uri, body| match (method.as_str(), uri.path()) {
        ("GET", "/apis/cert-manager.io/v1/namespaces/shop/certificates/web") => {
            if look.fetch_add(1, Ordering::SeqCst) + 1 == tries {
                looks.send(None).expect("the test waits");
            }
            std::panic::panic_any("on purpose")
        }
        ("PATCH", "/apis/cert-manager.io/v1/namespaces/shop/certificaterequests/web-1/status") => {
            written.send(serde_json::from_slice(body).ok()).expect("the test waits");
            fake_api::object(&serde_json::to_value(request(&json!({}))).expect("JSON"))
        }
        _ => fake_api::refusal(StatusCode::NOT_FOUND, "NotFound"),
    });
    let worker = worker(client, retry_budget);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    worker.desk.observe(request(&json!({})));
    let dispatching =
        tokio::spawn(dispatch(Arc::clone(&worker.desk), Arc::clone(&worker), tasks.clone(), stop.clone()));
    let first = tokio::time::timeout(Duration::from_hours(1), writes.recv()).await.expect("in time").expect("a write");
    stop.cancel();
    dispatching.await.expect("it dispatches until it is stopped");
    (looked_up.load(Ordering::SeqCst), first)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_its_task_again_and_again_fails_when_its_time_is_over() {
    let (tries, written) = broken_again_and_again(Duration::ZERO, 100).await;
    assert_eq!(tries, LEAST_TRIES + 1, "it is tried a few times, however late it is");
    let written = written.expect("a status").to_string();
    assert!(written.contains("\"Failed\"") && written.contains("failureTime"), "{written}");
    assert!(written.contains("breaks while it works on this request"), "{written}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_its_task_is_tried_on_while_its_time_lasts() {
    let (tries, written) = broken_again_and_again(Duration::from_secs(100 * 365 * 86_400), 12).await;
    assert_eq!((tries, written), (12, None));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_may_not_be_written_is_told_and_tried_rarely() {
    let (told, mut sent) = mpsc::unbounded_channel();
    let client = fake_api::client(move |method, uri, body| match (method, uri.path()) {
        (&Method::PATCH, _) => {
            told.send(None).expect("the test waits");
            fake_api::refusal(StatusCode::FORBIDDEN, "Forbidden")
        }
        (_, "/apis/events.k8s.io/v1/namespaces/shop/events") => {
            told.send(Some(String::from_utf8_lossy(body).into_owned())).expect("the test waits");
            fake_api::object(&json!({}))
        }
        _ => fake_api::refusal(StatusCode::NOT_FOUND, "NotFound"),
    });
    let worker = worker(client, Duration::ZERO);
    // No CSR: it fails without anybody being asked.
    worker.desk.observe(request(&json!({ "spec": { "request": "" } })));
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    tokio::spawn(dispatch(Arc::clone(&worker.desk), Arc::clone(&worker), tasks, stop));
    for expected in [LEAST_TRIES + 1, TOLD_EVERY - LEAST_TRIES, TOLD_EVERY] {
        let mut tries = 0;
        let event = loop {
            let next = tokio::time::timeout(Duration::from_hours(24), sent.recv()).await.expect("in time");
            let Some(event) = next.expect("the cluster is there") else {
                tries += 1;
                assert!(tries < 100, "it is tried without end, and nobody is told");
                continue;
            };
            break event;
        };
        assert!(event.contains("StatusNotWritten") && event.contains("certificaterequests/status"), "{event}");
        assert_eq!(tries, expected);
    }
}

/// Tells a request that it has its certificate, where the API server says that it looks like this meanwhile; how many
/// certificates are to be revoked then.
async fn told_of_its_certificate(meanwhile: Value) -> usize {
    let client = fake_api::client(move |method, uri, _| match (method, uri.path()) {
        (&Method::PATCH, _) => fake_api::refusal(StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
        (_, "/apis/cert-manager.io/v1/namespaces/shop/certificaterequests/web-1") => fake_api::object(&meanwhile),
        _ => fake_api::refusal(StatusCode::NOT_FOUND, "NotFound"),
    });
    let worker = worker(client, Duration::ZERO);
    assert!(matches!(worker.tell(&job(0), issued()).await, Done::Again(_)));
    worker.disposals.waiting()
}

/// That the request is to be signed, for the so many-eth time.
fn job(attempts: u32) -> Job {
    Job {
        uid: "u-1".into(),
        request: Arc::new(request(&json!({}))),
        step: Step::Sign,
        issuer: IssuerKey { namespace: None, name: "corp".into() },
        signer: Some(signer()),
        attempts,
    }
}

fn issued() -> Outcome {
    Outcome::Issued { chain: "chain".to_owned(), root: "root".to_owned(), warnings: Vec::new() }
}

fn failed() -> Outcome {
    Outcome::Failed { message: "no".to_owned() }
}

fn pending() -> Outcome {
    Outcome::Pending { why: PendingFor::Retry, message: "wait".to_owned() }
}

/// The request as the watch shows it at last: whether it has its certificate.
fn ending(ready: &str) -> CertificateRequest {
    request(&json!({ "status": { "conditions": [{ "type": "Ready", "status": ready }] } }))
}

/// The request without its Certificate, as those make them that delete them once they have the certificate.
fn nobodys(mut request: CertificateRequest) -> CertificateRequest {
    request.metadata.owner_references = None;
    request
}

/// A worker whose writes are answered with this.
fn whose_writes_are_answered(status: StatusCode) -> Arc<Worker> {
    worker(
        fake_api::client(move |method, _, _| match *method {
            Method::PATCH if status == StatusCode::OK => {
                fake_api::object(&serde_json::to_value(request(&json!({}))).expect("JSON"))
            }
            Method::PATCH => fake_api::refusal(status, "Refused"),
            _ => fake_api::refusal(StatusCode::NOT_FOUND, "NotFound"),
        }),
        Duration::ZERO,
    )
}

#[tokio::test]
async fn what_was_signed_for_a_request_that_fails_at_last_is_not_needed() {
    for (outcome, revoked) in [(failed(), 1), (Outcome::Denied, 1), (pending(), 0), (issued(), 0)] {
        let worker = whose_writes_are_answered(StatusCode::OK);
        // By an earlier try whose write was not taken, or by one whose answer is not handed on.
        worker.disposals.signed(&"u-1".into());
        worker.tell(&job(1), outcome.clone()).await;
        assert_eq!(worker.disposals.waiting(), revoked, "{outcome:?}");
    }
}

#[tokio::test]
async fn nothing_is_revoked_before_a_request_has_failed() {
    let worker = whose_writes_are_answered(StatusCode::INTERNAL_SERVER_ERROR);
    worker.disposals.signed(&"u-1".into());
    assert!(matches!(worker.tell(&job(0), failed()).await, Done::Later(..)));
    assert_eq!(worker.disposals.waiting(), 0, "the server is asked again, and is to answer the same");
    worker.disposals.deleted(&worker.desk, &ending("False"));
    assert_eq!(worker.disposals.waiting(), 1);
}

#[tokio::test]
async fn a_certificate_whose_write_has_no_answer_is_in_use_where_the_request_is_ready_at_last() {
    for (ready, revoked) in [("True", 0), ("False", 1)] {
        let worker = whose_writes_are_answered(StatusCode::INTERNAL_SERVER_ERROR);
        assert!(matches!(worker.tell(&job(0), issued()).await, Done::Later(..)));
        worker.disposals.deleted(&worker.desk, &nobodys(ending(ready)));
        assert_eq!(worker.disposals.waiting(), revoked, "{ready}");
    }
}

#[tokio::test]
async fn what_a_gap_of_the_watch_hides_is_revoked_only_if_nobody_can_have_it() {
    for (status, revoked) in [(StatusCode::INTERNAL_SERVER_ERROR, 0), (StatusCode::FORBIDDEN, 1)] {
        let worker = whose_writes_are_answered(status);
        assert!(matches!(worker.tell(&job(0), issued()).await, Done::Later(..)));
        worker.disposals.gone(&worker.desk, &nobodys(ending("False")));
        assert_eq!(worker.disposals.waiting(), revoked, "{status}");
    }
}

#[tokio::test]
async fn a_request_that_is_gone_had_its_certificate_perhaps_where_an_earlier_write_had_no_answer_and_else_never() {
    let job = Job { request: Arc::new(nobodys(request(&json!({})))), ..job(1) };
    for (lost, revoked) in [(false, 1), (true, 0)] {
        let worker = whose_writes_are_answered(StatusCode::NOT_FOUND);
        if lost {
            worker.disposals.signed(&job.uid);
            worker.disposals.handing_out(&job.uid);
        }
        let _begun = worker.disposals.begin(&job.uid);
        // While the server is asked again, the watch shows that the request has it; then whoever took it deletes it.
        worker.disposals.observe(&nobodys(ending("True")), None);
        assert!(matches!(worker.tell(&job, issued()).await, Done::Gone));
        assert_eq!(worker.disposals.waiting(), revoked, "{lost}");
    }
    let worker = whose_writes_are_answered(StatusCode::NOT_FOUND);
    worker.disposals.signed(&job.uid);
    worker.disposals.handing_out(&job.uid);
    drop(worker.disposals.begin(&job.uid));
    worker.disposals.written(&job.uid);
    assert!(matches!(worker.tell(&job, issued()).await, Done::Gone));
    assert_eq!(worker.disposals.waiting(), 1, "what a job knew ends with it");
}

/// Its name leads nowhere: as far as anybody knows it has signed, and its answer was lost.
#[tokio::test]
async fn what_a_server_may_have_signed_without_an_answer_is_not_needed_once_its_request_is_deleted() {
    let worker = whose_writes_are_answered(StatusCode::OK);
    let (done, asked) = worker.work(&job(0)).await;
    assert!(matches!(done, Done::Later(..)) && asked == Asked::Failed, "{done:?}");
    assert_eq!(worker.disposals.waiting(), 0);
    worker.disposals.deleted(&worker.desk, &ending("False"));
    assert_eq!(worker.disposals.waiting(), 1);
}

#[tokio::test]
async fn a_request_whose_certificate_may_not_be_looked_up_says_so() {
    let (written, mut writes) = mpsc::unbounded_channel::<Value>();
    let client = fake_api::client(move |method, _, body| match *method {
        Method::PATCH => {
            written.send(serde_json::from_slice(body).expect("JSON")).expect("the test waits");
            fake_api::object(&serde_json::to_value(request(&json!({}))).expect("JSON"))
        }
        Method::GET => {
            fake_api::refusal_in_words(StatusCode::FORBIDDEN, "Forbidden", "certificates \"web\" is forbidden")
        }
        _ => fake_api::refusal(StatusCode::NOT_FOUND, "NotFound"),
    });
    let worker = worker(client, Duration::ZERO);
    assert!(matches!(worker.work(&job(0)).await, (Done::Later(None, Some(_)), Asked::Not)));
    let patch = writes.try_recv().expect("a status").to_string();
    assert!(patch.contains("\"Pending\"") && patch.contains("certificates \\\"web\\\" is forbidden"), "{patch}");
    assert!(!patch.contains("failureTime"), "{patch}");
}

#[tokio::test]
async fn a_certificate_that_was_handed_out_by_a_write_whose_answer_was_lost_is_not_revoked() {
    let approved = json!({ "type": "Approved", "status": "True", "lastTransitionTime": APPROVED });
    let status = |more: Value, condition: Value| {
        let mut status = json!({ "conditions": [approved.clone(), condition] });
        json_patch::merge(&mut status, &more);
        serde_json::to_value(request(&json!({ "metadata": { "resourceVersion": "2" }, "status": status })))
            .expect("JSON")
    };
    let ready = json!({ "type": "Ready", "status": "True", "reason": "Issued" });
    assert_eq!(told_of_its_certificate(status(json!({ "certificate": "Y2hhaW4=" }), ready)).await, 0);
    // Somebody else's word came first: nobody gets the certificate.
    let denied = json!({ "type": "Denied", "status": "True", "reason": "Policy" });
    assert_eq!(told_of_its_certificate(status(json!({}), denied)).await, 1);
}

#[tokio::test]
async fn what_was_signed_and_is_deleted_while_nobody_watches_is_not_needed() {
    let (lists, watches) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (told, mut tells) = mpsc::unbounded_channel();
    let client = fake_api::client(move |_, uri, _| {
        if uri.path() != "/apis/cert-manager.io/v1/certificaterequests" {
            return fake_api::refusal(StatusCode::NOT_FOUND, "NotFound");
        }
        if uri.query().is_some_and(|query| query.contains("watch=true")) {
            if watches.fetch_add(1, Ordering::SeqCst) == 0 {
                let forgotten = json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired" });
                return fake_api::object(&json!({ "type": "ERROR", "object": forgotten }));
            }
            // The second listing has been taken in.
            told.send(()).expect("the test waits");
            return fake_api::silence();
        }
        let first = lists.fetch_add(1, Ordering::SeqCst) == 0;
        let items: Vec<_> = first.then(|| request(&json!({}))).into_iter().collect();
        fake_api::object(&json!({
            "kind": "CertificateRequestList", "apiVersion": "cert-manager.io/v1",
            "metadata": { "resourceVersion": "1" }, "items": items,
        }))
    });
    let worker = worker(client.clone(), Duration::ZERO);
    worker.disposals.signed(&"u-1".into());
    let stop = CancellationToken::new();
    let unapproved = Arc::new(Unapproved::new(Duration::from_secs(300)));
    let watching = tokio::spawn(requests(
        client,
        false,
        Arc::clone(&worker.desk),
        Arc::clone(&worker),
        unapproved,
        TaskTracker::new(),
        stop.clone(),
    ));
    tokio::time::timeout(Duration::from_secs(60), tells.recv()).await.expect("in time").expect("a second watch");
    assert_eq!(worker.disposals.waiting(), 1);
    stop.cancel();
    watching.await.expect("it watches until it is stopped");
}
