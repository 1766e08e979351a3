//! `/healthz`, `/readyz` and `/metrics`, in plain HTTP.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::discovery::Found;

/// How this process is, as probes see it.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    found: Option<Found>,
    leading: bool,
    trouble: Option<String>,
}

impl Health {
    pub(crate) fn found(&self, found: Found) {
        let mut known = self.lock();
        known.found = Some(found);
        known.trouble = None;
    }

    pub(crate) fn trouble(&self, trouble: String) {
        self.lock().trouble = Some(trouble);
    }

    pub(crate) fn leading(&self, leading: bool) {
        self.lock().leading = leading;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is ready, and what is to be said.
    fn report(&self) -> (bool, String) {
        let known = self.lock();
        let mut text = String::new();
        let Some(found) = &known.found else {
            let why = known.trouble.as_deref().unwrap_or("the API server has not been asked yet");
            return (false, format!("not ready: {why}\n"));
        };
        let mut line = |what: &str, says: &str| _ = writeln!(text, "{what}: {says}");
        line("leading", if known.leading { "yes" } else { "no, another replica does, or none yet" });
        line(
            "issuers",
            if found.issuers {
                "on"
            } else {
                "off: the kinds of chancery.dev/v1 are not installed; apply what `chancery-issuer crds` prints"
            },
        );
        line(
            "certificate-requests",
            match (found.issuers, found.requests) {
                (true, true) => "on",
                (_, false) => "off: cert-manager is not installed",
                (false, true) => "off: there are no issuers",
            },
        );
        line(
            "select-by-issuer-group",
            if found.selectable {
                "on"
            } else {
                "off: cert-manager before 1.20; every CertificateRequest is looked at"
            },
        );
        for (feature, presence) in &found.others {
            line(feature.name(), presence.words());
        }
        if let Some(trouble) = &known.trouble {
            line("trouble", trouble);
        }
        (true, text)
    }
}

#[derive(Clone)]
struct Shown {
    health: Arc<Health>,
    registry: Arc<Registry>,
}

/// Answers until `stop`.
pub(crate) async fn serve(tcp: TcpListener, health: Arc<Health>, registry: Registry, stop: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Shown { health, registry: Arc::new(registry) });
    let served = axum::serve(tcp, router).with_graceful_shutdown(async move { stop.cancelled().await }).await;
    if let Err(error) = served {
        tracing::error!(error = %error, "probes and metrics are not served any more");
    }
}

async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    let (ready, text) = shown.health.report();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shown.registry) {
        Ok(()) => {
            (StatusCode::OK, [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [("content-type", "text/plain")], String::new()),
    }
}
