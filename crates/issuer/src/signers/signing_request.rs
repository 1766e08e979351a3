//! CertificateSigningRequests (`certificates.k8s.io/v1`) whose signer name means one of our issuers.
//!
//! Approved by somebody else, never here. One write: the certificate, or the condition `Failed` with the reason in
//! words. Who asks an issuer of a namespace must be allowed to refer to it there, as with cert-manager's own signers.

use std::time::Duration;

use chancery_api::{IssuerRef, Origin, RequestKind, SigningRequest};
use chancery_pki::{Csr as ParsedCsr, CsrRules, answer::Asked as Csr, csr};
use k8s_openapi::{
    ByteString,
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        certificates::v1::CertificateSigningRequest,
    },
    jiff::Timestamp,
};
use kube::{Api, Client, Resource as _, ResourceExt as _, api::PostParams, core::Status, runtime::events::EventType};
use serde_json::{Value, json};

use super::{
    asking::{Answer, Asking, BREAKS, Waiting, text_of},
    line::{Done, Job},
    registration_authority,
    serve::Controller,
    signer_name,
    status::{Telling, Untaken, tell},
};
use crate::{
    board::{Asked, IssuerKey},
    clock,
    condition::cut,
    origin::{DURATION, GROUPS, IS_CA, USUAL_LIFE_S, annotations_of},
    resource::{IssuerSpec, go_duration},
    signer::Signer,
    worker::{LEAST_TRIES, words_of},
};

/// Shortest life, in seconds: Kubernetes' own, and cert-manager's.
const LIFE_MIN_S: u64 = 600;
/// Longest message of a condition, in characters.
const MESSAGE_MAX: usize = 2048;

/// See the module.
pub(crate) struct SigningRequests {
    pub(crate) asking: Asking,
    /// From the approval to the last retry.
    pub(crate) retry_budget: Duration,
}

/// Why there will be no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A word for programs.
    reason: &'static str,
    message: String,
}

/// What is written.
pub(super) enum Outcome {
    Issued(String),
    Failed(Refusal),
}

impl Controller for SigningRequests {
    type Object = CertificateSigningRequest;

    const KIND: RequestKind = RequestKind::CertificateSigningRequest;

    fn named(object: &CertificateSigningRequest) -> Option<IssuerKey> {
        signer_name::issuer_of(&object.spec.signer_name)
    }

    fn has_certificate(object: &CertificateSigningRequest) -> bool {
        let certificate = object.status.as_ref().and_then(|status| status.certificate.as_ref());
        certificate.is_some_and(|octets| !octets.0.is_empty())
    }

    fn issuer_of(object: &CertificateSigningRequest) -> Option<IssuerKey> {
        let over = is(object, "Denied") || is(object, "Failed");
        let wanted = is(object, "Approved") && !over && !Self::has_certificate(object);
        wanted.then(|| Self::named(object)).flatten()
    }

    fn who(object: &CertificateSigningRequest) -> &str {
        object.spec.username.as_deref().unwrap_or_default()
    }

    async fn work(&self, job: &Job<CertificateSigningRequest>) -> (Done, Asked) {
        if let Some(later) = self.asking.not_leading() {
            return later;
        }
        let request = &*job.object;
        if let Some(namespace) = &job.issuer.namespace {
            match self.may_refer(request, namespace, &job.issuer.name).await {
                Ok(true) => {}
                Ok(false) => {
                    let message = format!(
                        "\"{}\" may not refer to the ChanceryIssuer \"{}\": that needs the verb \"reference\" on \
                         signers.cert-manager.io of this name in the namespace {namespace}",
                        request.spec.username.as_deref().unwrap_or_default(),
                        job.issuer
                    );
                    let refusal = Refusal { reason: "DeniedReference", message };
                    return (tell(self, job, Outcome::Failed(refusal)).await, Asked::Not);
                }
                Err(error) => {
                    tracing::warn!(request.uid = %job.uid, error = %error, "a SubjectAccessReview is not answered");
                    let message = format!(
                        "Whether \"{}\" may refer to the ChanceryIssuer \"{}\" cannot be looked up; trying again: {}",
                        request.spec.username.as_deref().unwrap_or_default(),
                        job.issuer,
                        words_of(&error)
                    );
                    let waiting = Waiting { about: request.object_ref(&()), told: job.told, message: &message };
                    self.asking.say(waiting, EventType::Warning, "RetryableError");
                    return (Done::Later(None), Asked::Not);
                }
            }
        }
        let signer = match self.asking.signer(&job.issuer) {
            Ok(signer) => signer,
            Err((reason, message)) => {
                let waiting = Waiting { about: request.object_ref(&()), told: job.told, message: &message };
                return self.asking.await_issuer(waiting, reason);
            }
        };
        let (csr, body) = match self.asked_for(request, &job.issuer, &signer.spec) {
            Ok(read) => read,
            Err(refusal) => return (tell(self, job, Outcome::Failed(refusal)).await, Asked::Not),
        };
        // The review took time.
        if let Some(later) = self.asking.not_leading() {
            return later;
        }
        self.sign(job, &signer, &csr, &body).await
    }

    async fn broke(&self, job: &Job<CertificateSigningRequest>) -> Done {
        if job.attempts < LEAST_TRIES || !is_out_of_time(&job.object, self.retry_budget, clock::now()) {
            return Done::Later(None);
        }
        // Kubernetes removes no request that is approved and has no outcome.
        let refusal = Refusal { reason: "PermanentError", message: BREAKS.to_owned() };
        tell(self, job, Outcome::Failed(refusal)).await
    }
}

impl SigningRequests {
    async fn sign(
        &self,
        job: &Job<CertificateSigningRequest>,
        signer: &Signer,
        csr: &Csr,
        body: &SigningRequest,
    ) -> (Done, Asked) {
        let request = &*job.object;
        let permanent = |message| Outcome::Failed(Refusal { reason: "PermanentError", message });
        match self.asking.ask(signer, csr, body).await {
            Answer::Issued(answered) => (tell(self, job, Outcome::Issued(answered.chain)).await, Asked::Answered),
            Answer::Refused { reason: _, message } => (tell(self, job, permanent(message)).await, Asked::Answered),
            Answer::Later { message, after, counts, asked } => {
                if counts && job.attempts >= LEAST_TRIES && is_out_of_time(request, self.retry_budget, clock::now()) {
                    let message =
                        format!("No certificate within {} s of the approval: {message}", self.retry_budget.as_secs());
                    return (tell(self, job, permanent(message)).await, asked);
                }
                let waiting = Waiting { about: request.object_ref(&()), told: job.told, message: &message };
                let (kind, reason) =
                    if counts { (EventType::Warning, "RetryableError") } else { (EventType::Normal, "Pending") };
                self.asking.say(waiting, kind, reason);
                (Done::Later(after), asked)
            }
        }
    }

    /// What a request asks for.
    fn asked_for(
        &self,
        request: &CertificateSigningRequest,
        issuer: &IssuerKey,
        settings: &IssuerSpec,
    ) -> Result<(Csr, SigningRequest), Refusal> {
        let spec = &request.spec;
        let invalid = |message| Refusal { reason: "InvalidRequest", message };
        let lifetime_s = life(request, settings)?;
        let is_ca = request.annotations().get(IS_CA).is_some_and(|value| value == "true");
        let usages = spec.usages.clone().unwrap_or_default();
        let csr = Csr::from_pem(&spec.request.0, &usages, is_ca, Some(lifetime_s))
            .map_err(|fault| invalid(format!("The request cannot be signed: {fault}")))?;
        let pem = String::from_utf8(spec.request.0.clone()).map_err(|_| invalid("The CSR is not text".to_owned()))?;
        let rule = settings.registration_authority.as_ref().filter(|_| issuer.namespace.is_none());
        if let Some(rule) = rule {
            let parsed = csr::from_pem(&pem).map_err(|error| invalid(error.to_string()))?;
            let parsed = ParsedCsr::from_der_by(&parsed, CsrRules::Object)
                .map_err(|error| invalid(format!("The request cannot be signed: {error}")))?;
            let username = spec.username.as_deref().unwrap_or_default();
            registration_authority::check(rule, username, &parsed, is_ca)
                .map_err(|message| Refusal { reason: "RegistrationAuthority", message })?;
        }
        let origin = Origin {
            // That of a namespaced issuer: whoever refers to it was reviewed there, and its credential may speak for it.
            namespace: issuer.namespace.as_deref().map(str::to_owned),
            name: request.name_any(),
            issuer: Some(IssuerRef { kind: "Signer".to_owned(), name: spec.signer_name.clone() }),
            username: spec.username.clone().filter(|name| !name.is_empty()),
            groups: spec.groups.iter().flatten().take(GROUPS).cloned().collect(),
            annotations: annotations_of(&request.metadata),
            ..Origin::default()
        };
        let body = SigningRequest {
            kind: RequestKind::CertificateSigningRequest,
            uid: request.uid().unwrap_or_default(),
            csr: pem,
            names: Vec::new(),
            profile: settings.profile.clone(),
            lifetime_s: Some(lifetime_s),
            usages,
            is_ca,
            origin,
            term: self.asking.leadership.term(),
            lease: self.asking.leadership.lease(),
        };
        Ok((csr, body))
    }

    /// Whether the requester may refer to an issuer of this namespace.
    async fn may_refer(
        &self,
        request: &CertificateSigningRequest,
        namespace: &str,
        issuer: &str,
    ) -> Result<bool, kube::Error> {
        let api: Api<SubjectAccessReview> = Api::all(self.asking.client.clone());
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("cert-manager.io".to_owned()),
                    resource: Some("signers".to_owned()),
                    verb: Some("reference".to_owned()),
                    namespace: Some(namespace.to_owned()),
                    name: Some(issuer.to_owned()),
                    version: Some("*".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed && !status.denied.unwrap_or(false)))
    }
}

impl Telling for SigningRequests {
    type Outcome = Outcome;

    fn asking(&self) -> &Asking {
        &self.asking
    }

    fn api(client: Client, _request: &CertificateSigningRequest) -> Api<CertificateSigningRequest> {
        Api::all(client)
    }

    fn signer_name(request: &CertificateSigningRequest) -> &str {
        &request.spec.signer_name
    }

    fn changes(request: &CertificateSigningRequest, outcome: &Outcome, now: Timestamp) -> Vec<Value> {
        changes(request, outcome, now)
    }

    fn hands_out(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Issued(_))
    }

    fn untaken(&self, _job: &Job<CertificateSigningRequest>, outcome: &Outcome, why: &Status) -> Untaken<Outcome> {
        match outcome {
            Outcome::Issued(_) => {
                let message = format!("The API server refuses the certificate: {}", why.message);
                Untaken::Instead(Outcome::Failed(Refusal { reason: "PermanentError", message }))
            }
            Outcome::Failed(_) => Untaken::Nothing(Done::Later(None)),
        }
    }

    fn announce(&self, request: &CertificateSigningRequest, outcome: &Outcome) {
        let about = request.object_ref(&());
        let word = match outcome {
            Outcome::Issued(_) => {
                let note = "Certificate fetched from issuer successfully";
                self.asking.publish(about, EventType::Normal, "CertificateIssued", note);
                "issued"
            }
            Outcome::Failed(Refusal { reason, message }) => {
                self.asking.publish(about, EventType::Warning, reason, message);
                "failed"
            }
        };
        self.asking.metrics.signer_outcome("CertificateSigningRequest", word);
    }
}

fn is(request: &CertificateSigningRequest, type_: &str) -> bool {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// How long the certificate shall live, in seconds: by cert-manager's annotation, by Kubernetes' own field, by the
/// issuer, or 90 days.
fn life(request: &CertificateSigningRequest, settings: &IssuerSpec) -> Result<u64, Refusal> {
    let read = |what: &str, text: &str| {
        go_duration(text).map(|duration| duration.as_secs()).ok_or_else(|| Refusal {
            reason: "ErrorParseDuration",
            message: format!("{what} says \"{}\", which is no duration such as 24h", text.escape_debug()),
        })
    };
    let annotation = request.annotations().get(DURATION);
    let seconds = match (annotation, request.spec.expiration_seconds, &settings.default_duration) {
        (Some(text), _, _) => read(&format!("The annotation {DURATION}"), text)?,
        (None, Some(seconds), _) => u64::try_from(seconds).unwrap_or(0),
        (None, None, Some(text)) => read("The issuer's defaultDuration", text)?,
        (None, None, None) => USUAL_LIFE_S,
    };
    if seconds < LIFE_MIN_S {
        let message = format!("A life of {seconds} s is asked for; ask for {LIFE_MIN_S} s or more");
        return Err(Refusal { reason: "InvalidDuration", message });
    }
    Ok(seconds)
}

/// The changes of the status.
fn changes(request: &CertificateSigningRequest, outcome: &Outcome, now: Timestamp) -> Vec<Value> {
    match outcome {
        Outcome::Issued(chain) => {
            let octets = ByteString(chain.as_bytes().to_vec());
            vec![json!({ "op": "add", "path": "/status/certificate", "value": octets })]
        }
        Outcome::Failed(Refusal { reason, message }) => {
            let now = text_of(now);
            let failed = json!({
                "type": "Failed", "status": "True", "reason": reason, "message": cut(message, MESSAGE_MAX),
                "lastUpdateTime": now, "lastTransitionTime": now,
            });
            let has_some = request.status.as_ref().is_some_and(|status| status.conditions.is_some());
            // What is approved has conditions.
            let (path, value) =
                if has_some { ("/status/conditions/-", failed) } else { ("/status/conditions", json!([failed])) };
            vec![json!({ "op": "add", "path": path, "value": value })]
        }
    }
}

/// Whether so much time has passed since the approval that an error is the last one.
fn is_out_of_time(request: &CertificateSigningRequest, budget: Duration, now: Timestamp) -> bool {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let approved = conditions.into_iter().find(|condition| condition.type_ == "Approved");
    let Some(since) = approved.and_then(|approved| approved.last_transition_time.as_ref()) else { return false };
    let since = now.duration_since(since.0);
    !since.is_negative() && since.unsigned_abs() > budget
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::http::StatusCode;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        board,
        dispatch::Desk,
        disposal::Disposals,
        events::Events,
        fake_api,
        leader::Leadership,
        metrics::Metrics,
        resource::RateLimit,
        signers::line::{Limits, Line, Next},
    };

    fn request(more: &Value) -> CertificateSigningRequest {
        let mut request = json!({
            "metadata": { "name": "web", "uid": "u-1", "resourceVersion": "1" },
            "spec": { "signerName": "chanceryclusterissuers.chancery.dev/corp", "request": "", "usages": ["server auth"] },
            "status": { "conditions": [{ "type": "Approved", "status": "True" }] },
        });
        json_patch::merge(&mut request, more);
        serde_json::from_value(request).expect("a request")
    }

    fn settings(more: &Value) -> IssuerSpec {
        let mut spec = json!({ "urls": ["https://ca.example"], "credentials": {} });
        json_patch::merge(&mut spec, more);
        serde_json::from_value(spec).expect("a spec")
    }

    #[test]
    fn only_what_is_approved_and_has_no_outcome_is_signed() {
        let issuer = |more: Value| SigningRequests::issuer_of(&request(&more));
        assert!(issuer(json!({})).is_some());
        for more in [
            json!({ "status": null }),
            json!({ "status": { "conditions": [] } }),
            json!({ "status": { "conditions": [{ "type": "Approved", "status": "False" }] } }),
            json!({ "status": { "conditions": [{ "type": "Denied", "status": "True" }] } }),
            json!({ "status": { "conditions": [
                { "type": "Approved", "status": "True" }, { "type": "Failed", "status": "True" },
            ] } }),
            json!({ "status": { "certificate": "YQ==" } }),
            json!({ "spec": { "signerName": "kubernetes.io/kube-apiserver-client" } }),
            json!({ "spec": { "signerName": "clusterissuers.cert-manager.io/corp" } }),
        ] {
            assert!(issuer(more.clone()).is_none(), "{more}");
        }
    }

    #[tokio::test]
    async fn a_review_that_the_api_server_does_not_take_is_told() {
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel::<Value>();
        let client = fake_api::client(move |_, uri, body| {
            if uri.path().ends_with("/subjectaccessreviews") {
                return fake_api::refusal_in_words(StatusCode::FORBIDDEN, "Forbidden", "reviews are forbidden");
            }
            let event: Value = serde_json::from_slice(body).unwrap_or_default();
            told.send(event.clone()).expect("the test waits");
            fake_api::object(&event)
        });
        let metrics = Arc::new(Metrics::new());
        let rate = RateLimit { requests_per_second: 10, burst: None };
        let asking = Asking {
            events: Events::start(&client, "tests".to_owned()),
            client,
            desk: Arc::new(Desk::new(board::Limits { active: 10, concurrency: 4, rate })),
            leadership: Leadership::alone(),
            disposals: Arc::new(Disposals::new(Arc::clone(&metrics))),
            metrics,
        };
        let requests = SigningRequests { asking, retry_budget: Duration::ZERO };
        let own = request(&json!({ "spec": { "signerName": "chanceryissuers.chancery.dev/shop.own" } }));
        let issuer = SigningRequests::issuer_of(&own).expect("one of ours");
        let mut line = Line::new(Limits { active: 10, concurrency: 4, each_issuer: 4 });
        line.observe(own, issuer, "alice");
        let Next::Job(job) = line.next(Instant::now()) else { panic!("nothing to do") };
        assert!(matches!(requests.work(&job).await, (Done::Later(None), Asked::Not)));
        let event = tokio::time::timeout(Duration::from_secs(60), tells.recv()).await.expect("in time");
        let event = event.expect("an event").to_string();
        assert!(event.contains("RetryableError") && event.contains("reviews are forbidden"), "{event}");
    }

    #[test]
    fn the_life_is_the_annotations_else_the_fields_else_the_issuers_else_ninety_days() {
        let named = json!({ "defaultDuration": "48h" });
        let annotation = |text: &str| json!({ "metadata": { "annotations": { DURATION: text } } });
        let mut both = annotation("1h");
        json_patch::merge(&mut both, &json!({ "spec": { "expirationSeconds": 86_400 } }));
        for (more, issuer, expected) in [
            (both, &named, Ok(3600)),
            (json!({ "spec": { "expirationSeconds": 86_400 } }), &named, Ok(86_400)),
            (json!({}), &named, Ok(48 * 3600)),
            (json!({}), &json!({}), Ok(90 * 24 * 3600)),
            (annotation("10m"), &json!({}), Ok(600)),
            (annotation("9m59s"), &json!({}), Err("InvalidDuration")),
            (annotation("soon"), &json!({}), Err("ErrorParseDuration")),
            (annotation("-1h"), &json!({}), Err("ErrorParseDuration")),
        ] {
            let life = life(&request(&more), &settings(issuer)).map_err(|refusal| refusal.reason);
            assert_eq!(life, expected, "{more}");
        }
    }

    #[test]
    fn the_budget_counts_from_the_approval() {
        let approved = json!({ "status": { "conditions": [
            { "type": "Approved", "status": "True", "lastTransitionTime": "2026-11-29T00:00:00Z" },
        ] } });
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let hour = Duration::from_secs(3600);
        assert!(!is_out_of_time(&request(&approved), hour, at("2026-11-29T01:00:00Z")));
        assert!(is_out_of_time(&request(&approved), hour, at("2026-11-29T01:00:01Z")));
        assert!(!is_out_of_time(&request(&json!({})), hour, at("2036-11-29T00:00:00Z")), "no time, no end");
    }
}
