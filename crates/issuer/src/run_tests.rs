use std::sync::atomic::{AtomicBool, Ordering};

use axum::{http::StatusCode, response::Response};
use clap::Parser;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::fake_api;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    run: Run,
}

fn shared(client: Client) -> Shared {
    let settings = Line::parse_from(["chancery-issuer", "--no-leader-election"]).run;
    let metrics = Arc::new(Metrics::new());
    let reader =
        Reader { client: client.clone(), cluster_namespace: "system".to_owned(), audience: "chancery".to_owned() };
    let checker = Checker {
        reader,
        allowed: AllowedServers(Vec::new()),
        dialer: dialer(&settings).expect("a dialer"),
        clients: Clients::default(),
    };
    Shared {
        events: Events::start(&client, "tests".to_owned()),
        health: Arc::new(Health::default()),
        desk: Arc::new(Mutex::new(None)),
        disposals: Arc::new(Disposals::new(Arc::clone(&metrics))),
        settings,
        client,
        checker,
        metrics,
    }
}

/// A cluster with our kinds and cert-manager's, and nothing in it.
fn empty_cluster(path: &str, watch: bool) -> Response {
    let kinds = |names: &[&str]| {
        let resources: Vec<_> = names
            .iter()
            .map(|name| json!({ "name": name, "singularName": "", "namespaced": true, "kind": "X", "verbs": [] }))
            .collect();
        fake_api::object(&json!({ "kind": "APIResourceList", "groupVersion": "x/v1", "resources": resources }))
    };
    match path {
        "/apis/chancery.dev/v1" => kinds(&["chanceryissuers", "chanceryclusterissuers"]),
        "/apis/cert-manager.io/v1" => kinds(&["certificaterequests"]),
        _ if watch => fake_api::silence(),
        "/api/v1/namespaces"
        | "/apis/chancery.dev/v1/chanceryissuers"
        | "/apis/chancery.dev/v1/chanceryclusterissuers"
        | "/apis/cert-manager.io/v1/certificaterequests" => fake_api::object(
            &json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": [] }),
        ),
        _ => fake_api::refusal(StatusCode::NOT_FOUND, "NotFound"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_although_it_never_should_makes_the_term_begin_anew() {
    let broken = Arc::new(AtomicBool::new(false));
    let (listed, mut listings) = mpsc::unbounded_channel();
    let client = fake_api::client(move |_, uri, _| {
        let watch = uri.query().is_some_and(|query| query.contains("watch=true"));
        match uri.path() {
            // The task that watches namespaces breaks, once.
            "/api/v1/namespaces" if !broken.swap(true, Ordering::SeqCst) => std::panic::panic_any("on purpose"),
            path => {
                if path == "/apis/chancery.dev/v1/chanceryclusterissuers" && !watch {
                    listed.send(()).expect("the test waits");
                }
                empty_cluster(path, watch)
            }
        }
    });
    let (shared, stop) = (shared(client), CancellationToken::new());
    let looks = async {
        for _term in 0..2 {
            timeout(Duration::from_secs(60), listings.recv()).await.expect("a term begins").expect("a listing");
        }
        // Nothing is broken any more: this term lasts.
        assert!(timeout(Duration::from_hours(1), listings.recv()).await.is_err(), "one more term");
        stop.cancel();
    };
    tokio::join!(shared.lead(Leadership::alone(), stop.clone()), looks);
    assert!(shared.desk.lock().expect("no poison").is_none(), "the term has ended");
}
