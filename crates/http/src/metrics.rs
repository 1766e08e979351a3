//! What is counted, in the OpenMetrics form that Prometheus reads.
//!
//! Every label's values are a closed set: routes, problem types and statuses, never names,
//! accounts or addresses.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the buckets, in seconds: from a read out of memory to a client that waits for a validation.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Which requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// The resource.
    route: &'static str,
    /// `ok`, or the problem type.
    outcome: &'static str,
    /// The HTTP status.
    status: u16,
}

/// Which durations.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

/// The counters of this crate, and the registry that the server adds its own to.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let requests = Family::default();
        let seconds = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        let in_flight = Gauge::default();
        let mut registry = Registry::with_prefix("chancery");
        registry.register("http_requests", "Requests answered", Family::clone(&requests));
        registry.register("http_request_seconds", "Time from head to answer", Family::clone(&seconds));
        registry.register("http_requests_in_flight", "Signed requests being worked on", in_flight.clone());
        Self { registry: Mutex::new(registry), requests, seconds, in_flight }
    }

    /// Adds metrics of others under the same prefix.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Everything, as text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut out, &registry).expect("writing into a String does not fail");
        out
    }

    /// Counts an answered request.
    pub(crate) fn answered(&self, route: &'static str, outcome: &'static str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { route, outcome, status }).inc();
        self.seconds.get_or_create(&RouteLabels { route }).observe(took.as_secs_f64());
    }

    pub(crate) const fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_outcome_and_status_and_others_may_add_their_own() {
        let metrics = Metrics::new();
        metrics.answered("new-order", "ok", 201, Duration::from_millis(2));
        metrics.answered("new-order", "rejectedIdentifier", 400, Duration::from_millis(1));
        let mine: Gauge = Gauge::default();
        mine.set(7);
        metrics.register(|registry| registry.register("store_leaves", "Leaves", mine));
        let text = metrics.encode();
        for line in [
            r#"chancery_http_requests_total{route="new-order",outcome="ok",status="201"} 1"#,
            r#"chancery_http_requests_total{route="new-order",outcome="rejectedIdentifier",status="400"} 1"#,
            r#"chancery_http_request_seconds_count{route="new-order"} 2"#,
            "chancery_store_leaves 7",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
