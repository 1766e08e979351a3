//! Numbers for whoever runs it, as Prometheus reads them.

use std::{sync::Arc, time::Instant};

use chancery_api::{RemoteError, SigningState};
use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    board::IssuerKey,
    clock,
    condition::Outcome,
    discovery::{Found, Presence},
    dispatch::Desk,
    events::Events,
    resource::CertificateRequest,
};

/// Upper bounds of times, in seconds.
const SECONDS: [f64; 14] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByIssuer {
    namespace: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKindAndOutcome {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFeature {
    feature: &'static str,
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    outcomes: Family<ByOutcome, Counter>,
    answers: Family<ByOutcome, Histogram, fn() -> Histogram>,
    untrusted: Counter,
    revoked: Counter,
    disposals_dropped: Counter,
    broken: Counter,
    usages_dropped: Counter,
    throttled: Counter,
    writes_failed: Counter,
    since_approval: Histogram,
    signers: Family<ByKindAndOutcome, Counter>,
    signers_waiting: Family<ByKind, Gauge>,
    roots_written: Family<ByKindAndOutcome, Counter>,
    issuers: Family<ByIssuer, Gauge>,
    features: Family<ByFeature, Gauge>,
    watches_expired: Family<ByKind, Counter>,
    leading: Gauge<i64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            outcomes: Family::default(),
            answers: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            untrusted: Counter::default(),
            revoked: Counter::default(),
            disposals_dropped: Counter::default(),
            broken: Counter::default(),
            usages_dropped: Counter::default(),
            throttled: Counter::default(),
            writes_failed: Counter::default(),
            since_approval: Histogram::new(SECONDS),
            signers: Family::default(),
            signers_waiting: Family::default(),
            roots_written: Family::default(),
            issuers: Family::default(),
            features: Family::default(),
            watches_expired: Family::default(),
            leading: Gauge::default(),
        }
    }

    /// Everything, for whoever collects.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("chancery_issuer");
        registry.register("requests", "CertificateRequests by their outcome", self.outcomes.clone());
        registry.register("answer_seconds", "How long servers took to answer, by answer", self.answers.clone());
        registry.register(
            "untrusted_answers",
            "Answers of servers that were not what was asked for; any is a reason for alarm",
            self.untrusted.clone(),
        );
        registry.register("revoked", "Certificates revoked because they are not needed any more", self.revoked.clone());
        registry.register(
            "revocations_dropped",
            "Certificates that were to be revoked and stay valid until they end",
            self.disposals_dropped.clone(),
        );
        registry.register(
            "usages_dropped",
            "Certificates of which no server was told where they are used",
            self.usages_dropped.clone(),
        );
        registry.register(
            "throttled",
            "Requests that wait since their Secret has had too many certificates",
            self.throttled.clone(),
        );
        registry.register("broken_tasks", "Tasks that ended by a fault of the program", self.broken.clone());
        registry.register(
            "status_writes_failed",
            "Statuses that the API server did not take",
            self.writes_failed.clone(),
        );
        registry.register(
            "approval_to_issued_seconds",
            "From the approval of a request, known to the second, to its certificate",
            self.since_approval.clone(),
        );
        registry.register(
            "signer_requests",
            "CertificateSigningRequests and PodCertificateRequests by their outcome",
            self.signers.clone(),
        );
        registry.register(
            "signer_requests_waiting",
            "CertificateSigningRequests and PodCertificateRequests without an outcome",
            self.signers_waiting.clone(),
        );
        registry.register("roots_written", "Writes of published roots, by outcome", self.roots_written.clone());
        registry.register("issuer_ready", "Whether an issuer would sign", self.issuers.clone());
        registry.register("feature", "What of the cluster is served", self.features.clone());
        registry.register(
            "watches_expired",
            "Watches that the API server had forgotten (410 Gone), so that all of the kind was listed anew",
            self.watches_expired.clone(),
        );
        registry.register("leading", "Whether this process leads", self.leading.clone());
    }

    pub(crate) fn outcome(&self, outcome: &Outcome, request: &CertificateRequest) {
        let outcome = match outcome {
            Outcome::Pending { .. } => "pending",
            Outcome::Failed { .. } => "failed",
            Outcome::Denied => "denied",
            Outcome::Issued { .. } => {
                self.issued(request);
                "issued"
            }
            Outcome::Repaired => "repaired",
        };
        self.outcomes.get_or_create(&ByOutcome { outcome }).inc();
    }

    fn issued(&self, request: &CertificateRequest) {
        let approved = request.condition("Approved").and_then(|one| one.last_transition_time.as_deref());
        let approved = approved.and_then(|text| text.parse::<Timestamp>().ok());
        if let Some(approved) = approved {
            self.since_approval.observe(clock::now().duration_since(approved).as_secs_f64().max(0.0));
        }
    }

    pub(crate) fn signer_outcome(&self, kind: &'static str, outcome: &'static str) {
        self.signers.get_or_create(&ByKindAndOutcome { kind, outcome }).inc();
    }

    pub(crate) fn roots_written(&self, kind: &'static str, outcome: &'static str) {
        self.roots_written.get_or_create(&ByKindAndOutcome { kind, outcome }).inc();
    }

    pub(crate) fn signers_waiting(&self, kind: &str, waiting: usize) {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.signers_waiting.get_or_create(&ByKind { kind: kind.to_owned() }).set(waiting);
    }

    pub(crate) fn watch_expired(&self, kind: &str) {
        self.watches_expired.get_or_create(&ByKind { kind: kind.to_owned() }).inc();
    }

    pub(crate) fn untrusted_answer(&self) {
        self.untrusted.inc();
    }

    pub(crate) fn revoked(&self) {
        self.revoked.inc();
    }

    pub(crate) fn disposal_dropped(&self) {
        self.disposals_dropped.inc();
    }

    pub(crate) fn usage_dropped(&self) {
        self.usages_dropped.inc();
    }

    pub(crate) fn throttled(&self) {
        self.throttled.inc();
    }

    /// A task broke. Alarm on any.
    pub(crate) fn broken(&self) {
        self.broken.inc();
    }

    pub(crate) fn write_failed(&self) {
        self.writes_failed.inc();
    }

    pub(crate) fn issuer(&self, key: &IssuerKey, ready: bool) {
        self.issuers.get_or_create(&labels(key)).set(i64::from(ready));
    }

    pub(crate) fn issuer_gone(&self, key: &IssuerKey) {
        self.issuers.remove(&labels(key));
    }

    pub(crate) fn leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }

    pub(crate) fn found(&self, found: &Found) {
        let Found { issuers, requests, selectable, ref others } = *found;
        for (feature, presence) in others {
            let on = i64::from(issuers && *presence == Presence::On);
            self.features.get_or_create(&ByFeature { feature: feature.name() }).set(on);
        }
        for (feature, there) in [
            ("issuers", issuers),
            ("certificate-requests", issuers && requests),
            ("select-by-issuer-group", selectable),
        ] {
            self.features.get_or_create(&ByFeature { feature }).set(i64::from(there));
        }
    }

    pub(crate) fn signing(&self) -> Signing<'_> {
        Signing { metrics: self, began: Instant::now() }
    }
}

/// The time that a server takes.
pub(crate) struct Signing<'a> {
    metrics: &'a Metrics,
    began: Instant,
}

impl Signing<'_> {
    pub(crate) fn end(self, answer: &Result<SigningState, RemoteError>) {
        let outcome = match answer {
            Ok(SigningState::Issued(_)) => "issued",
            Ok(SigningState::Pending { .. }) => "pending",
            Ok(SigningState::Refused { .. }) => "refused",
            Err(error) => error.code(),
        };
        self.metrics.answers.get_or_create(&ByOutcome { outcome }).observe(self.began.elapsed().as_secs_f64());
    }
}

fn labels(key: &IssuerKey) -> ByIssuer {
    ByIssuer { namespace: key.namespace.as_deref().unwrap_or_default().to_owned(), name: key.name.to_string() }
}

/// What a board holds, counted when someone looks.
#[derive(Debug)]
pub(crate) struct DeskNumbers {
    pub(crate) desk: Arc<std::sync::Mutex<Option<Arc<Desk>>>>,
    pub(crate) events: Events,
}

impl Collector for DeskNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let desk = self.desk.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let counts = desk.map(|desk| desk.counts()).unwrap_or_default();
        for (name, help, number) in [
            ("active_requests", "Requests without an outcome", counts.active),
            ("queued_requests", "Requests whose turn will come", counts.queued),
            ("running_requests", "Requests that are worked on", counts.running),
            ("waiting_requests", "Requests that wait for an approval or an issuer", counts.waiting),
            ("delayed_requests", "Requests that are tried again later", counts.delayed),
            ("left_out_requests", "Requests left out for want of room", counts.left_out),
            ("open_breakers", "Issuers whose server fails again and again", counts.breakers_open),
            (
                "events_dropped",
                "Events that were not written",
                usize::try_from(self.events.dropped()).unwrap_or(usize::MAX),
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
            let name = format!("chancery_issuer_{name}");
            gauge.encode(encoder.encode_descriptor(&name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
