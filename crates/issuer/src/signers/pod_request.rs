//! PodCertificateRequests (`certificates.k8s.io/v1`, KEP-4317) whose signer name means one of our cluster issuers.
//!
//! Nobody approves them. The API server holds a node to its own pods, and nobody else who may create such requests: so
//! the pod, its service account and its node are looked up again, and have to be those of the request. What the
//! certificate names is decided here: the SPIFFE ID of the service account, and nothing that the pod says. A request ends
//! in exactly one of `Issued`, `Denied` (it may not have this) and `Failed`; to the kubelet either of the last two is
//! final, also when it renews what a running pod has. So what time alone has spoiled gets no outcome: a UID has one
//! certificate at the server, and the API server takes none that begins more than five minutes from its own clock.
//! Kubernetes' cleaner removes such a request after a quarter of an hour, and the kubelet makes a new one.

use std::time::Duration;

use chancery_api::{IssuerRef, Origin, PodRef, RefusalReason, RequestKind, SignerProfile, SigningRequest};
use chancery_pki::{
    KeyKind,
    answer::{Answered, Asked as Csr, RequestFault},
    certificate::pem_block,
};
use k8s_openapi::{
    api::{
        certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec},
        core::v1::{Namespace, Node, Pod, ServiceAccount},
    },
    jiff::Timestamp,
};
use kube::{Api, Client, Resource as _, ResourceExt as _, core::Status, runtime::events::EventType};
use serde_json::{Value, json};

use super::{
    asking::{Answer, Asking, BREAKS, Waiting, as_kubernetes, text_of},
    line::{Done, Job},
    pod_rules::{self, BACKDATE_MAX_S, LookedUp, Refresh},
    serve::Controller,
    signer_name,
    status::{Telling, Untaken, tell},
};
use crate::{
    board::{Asked, IssuerKey},
    condition::cut,
    origin::NamespaceLabels,
    resource::PodCertificates,
    signer::Signer,
    worker::{LEAST_TRIES, words_of},
};

/// Longest message of a condition, in characters.
const MESSAGE_MAX: usize = 2048;
/// How long a request waits for whoever runs the issuer.
const OPERATOR: Duration = Duration::from_secs(15);
/// How long a request waits whose certificate does not begin now: clocks may be set right.
const CLOCKS: Duration = Duration::from_secs(300);
/// How long a request waits over which the controller breaks again and again: Kubernetes removes it before long.
const BROKEN: Duration = Duration::from_secs(300);

/// See the module.
pub(crate) struct PodRequests {
    pub(crate) asking: Asking,
    pub(crate) labels: NamespaceLabels,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Here it is.
    Issued { chain: String, refresh: Refresh },
    /// It may not have this.
    Denied { reason: &'static str, message: String },
    /// It could not be done.
    Failed { reason: &'static str, message: String },
}

/// Why nothing is asked of the server now.
enum Unasked {
    /// For good.
    Outcome(Outcome),
    /// The API server did not answer.
    Api(kube::Error),
    /// The issuer's settings do not fit; whoever runs it has to mend them.
    Settings(String),
}

impl From<Outcome> for Unasked {
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}

impl Controller for PodRequests {
    type Object = PodCertificateRequest;

    const KIND: RequestKind = RequestKind::PodCertificateRequest;

    fn named(object: &PodCertificateRequest) -> Option<IssuerKey> {
        signer_name::issuer_of(&object.spec.signer_name)
    }

    fn has_certificate(object: &PodCertificateRequest) -> bool {
        object.status.as_ref().is_some_and(|status| status.certificate_chain.is_some())
    }

    fn issuer_of(object: &PodCertificateRequest) -> Option<IssuerKey> {
        let over = object.status.as_ref().is_some_and(|status| !status.conditions.iter().flatten().count().eq(&0));
        if over { None } else { Self::named(object) }
    }

    fn who(object: &PodCertificateRequest) -> &str {
        object.metadata.namespace.as_deref().unwrap_or_default()
    }

    async fn work(&self, job: &Job<PodCertificateRequest>) -> (Done, Asked) {
        if let Some(later) = self.asking.not_leading() {
            return later;
        }
        let request = &*job.object;
        if job.issuer.namespace.is_some() {
            let message = format!("Pods ask signers of the cluster ({}/…) alone", signer_name::CLUSTER_ISSUERS);
            let denied = Outcome::Denied { reason: "UnknownSigner", message };
            return (tell(self, job, denied).await, Asked::Not);
        }
        let signer = match self.asking.signer(&job.issuer) {
            Ok(signer) => signer,
            Err((reason, message)) => {
                let waiting = Waiting { about: request.object_ref(&()), told: job.told, message: &message };
                return self.asking.await_issuer(waiting, reason);
            }
        };
        let (csr, body) = match self.asked_for(request, &job.issuer, &signer).await {
            Ok(asked) => asked,
            Err(Unasked::Outcome(outcome)) => return (tell(self, job, outcome).await, Asked::Not),
            Err(Unasked::Api(error)) => {
                tracing::warn!(request.uid = %job.uid, error = %error, "whom a pod's request is for cannot be looked up");
                let message =
                    format!("Whom the request is for cannot be looked up; trying again: {}", words_of(&error));
                let waiting = Waiting { about: request.object_ref(&()), told: job.told, message: &message };
                self.asking.say(waiting, EventType::Warning, "RetryableError");
                return (Done::Later(None), Asked::Not);
            }
            Err(Unasked::Settings(message)) => {
                let waiting = Waiting { about: request.object_ref(&()), told: job.told, message: &message };
                self.asking.say(waiting, EventType::Warning, "IssuerNotReady");
                return (Done::Later(Some(OPERATOR)), Asked::Not);
            }
        };
        // Looking up took time.
        if let Some(later) = self.asking.not_leading() {
            return later;
        }
        match self.asking.ask(&signer, &csr, &body).await {
            Answer::Issued(answered) => {
                let outcome = issued(answered, &request.spec);
                self.asking.disposals.signed(&job.uid);
                (tell(self, job, outcome).await, Asked::Answered)
            }
            Answer::Refused { reason, message } => {
                let outcome = refused(reason, message, profile(&signer).ok());
                (tell(self, job, outcome).await, Asked::Answered)
            }
            Answer::Later { message, after, counts: _, asked } => {
                let waiting = Waiting { about: request.object_ref(&()), told: job.told, message: &message };
                self.asking.say(waiting, EventType::Warning, "RetryableError");
                (Done::Later(after), asked)
            }
        }
    }

    async fn broke(&self, job: &Job<PodCertificateRequest>) -> Done {
        if job.attempts < LEAST_TRIES {
            return Done::Later(None);
        }
        // To the kubelet `Failed` is final, and a fault here is no pod's.
        self.asking.publish(job.object.object_ref(&()), EventType::Warning, "RetryableError", BREAKS);
        Done::Later(Some(BROKEN))
    }
}

impl PodRequests {
    /// What is asked of the server, once the request is found to be what it says.
    async fn asked_for(
        &self,
        request: &PodCertificateRequest,
        issuer: &IssuerKey,
        signer: &Signer,
    ) -> Result<(Csr, SigningRequest), Unasked> {
        let spec = &request.spec;
        let Some(pods) = &signer.spec.pod_certificates else {
            let message =
                format!("The ChanceryClusterIssuer \"{issuer}\" signs for no pods: it has no podCertificates");
            return Err(Outcome::Denied { reason: "UnknownSigner", message }.into());
        };
        if let Some(outcome) = pod_rules::check_annotations(spec.unverified_user_annotations.as_ref()) {
            return Err(outcome.into());
        }
        let profile = profile(signer).map_err(Unasked::Settings)?;
        let pem = pem_block("CERTIFICATE REQUEST", &spec.stub_pkc_s10_request.0);
        let csr = Csr::from_pem(pem.as_bytes(), &[], false, None).map_err(|fault| unreadable(&fault, profile))?;
        if let Some(outcome) = unsupported(csr.key().kind(), profile) {
            return Err(outcome.into());
        }
        let lifetime_s = pod_rules::life(spec.max_expiration_seconds, profile).map_err(Unasked::Settings)?;
        if let Some(backdate) = profile.backdate_s.map(|most| most.min(lifetime_s / 20))
            && backdate > BACKDATE_MAX_S
        {
            return Err(Unasked::Settings(format!(
                "The profile \"{}\" lets certificates begin {backdate} s before they are issued, and for a pod's that may be \
                 {BACKDATE_MAX_S} s at most: set its backdate to 4m or less, or name another one in podCertificates.profile",
                profile.name
            )));
        }
        let namespace = request.namespace().unwrap_or_default();
        let found = self.look_up(&namespace, spec).await.map_err(Unasked::Api)?;
        if let Some(outcome) = pod_rules::check_pod(spec, &found) {
            return Err(outcome.into());
        }
        let id = spiffe_id(pods, &namespace, &spec.service_account_name);
        let namespace_labels = match self.labels.get(&namespace) {
            Some(labels) => labels,
            // The watch has not shown it yet.
            None => {
                let api: Api<Namespace> = Api::all(self.asking.client.clone());
                let found = api.get_metadata_opt(&namespace).await.map_err(Unasked::Api)?;
                found.and_then(|found| found.metadata.labels).unwrap_or_default()
            }
        };
        let origin = Origin {
            namespace: Some(namespace),
            name: request.name_any(),
            issuer: Some(IssuerRef { kind: "Signer".to_owned(), name: spec.signer_name.clone() }),
            pod: Some(PodRef {
                name: spec.pod_name.clone(),
                uid: spec.pod_uid.clone(),
                service_account: spec.service_account_name.clone(),
                node: spec.node_name.clone(),
            }),
            namespace_labels,
            ..Origin::default()
        };
        let body = SigningRequest {
            kind: RequestKind::PodCertificateRequest,
            uid: request.uid().unwrap_or_default(),
            csr: pem,
            names: vec![id.clone()],
            profile: Some(profile.name.clone()),
            lifetime_s: Some(lifetime_s),
            usages: Vec::new(),
            is_ca: false,
            origin,
            term: self.asking.leadership.term(),
            lease: self.asking.leadership.lease(),
        };
        Ok((csr.naming([id.as_str()]), body))
    }

    /// What a request names, as it is now.
    async fn look_up(&self, namespace: &str, spec: &PodCertificateRequestSpec) -> Result<LookedUp, kube::Error> {
        let client = &self.asking.client;
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let nodes: Api<Node> = Api::all(client.clone());
        let (pod, account, node) = tokio::try_join!(
            pods.get_opt(&spec.pod_name),
            accounts.get_metadata_opt(&spec.service_account_name),
            nodes.get_metadata_opt(&spec.node_name),
        )?;
        let account_uid = account.and_then(|account| account.metadata.uid);
        Ok(LookedUp { pod, account_uid, node_uid: node.and_then(|node| node.metadata.uid) })
    }
}

impl Telling for PodRequests {
    type Outcome = Outcome;

    fn asking(&self) -> &Asking {
        &self.asking
    }

    fn api(client: Client, request: &PodCertificateRequest) -> Api<PodCertificateRequest> {
        Api::namespaced(client, &request.namespace().unwrap_or_default())
    }

    fn signer_name(request: &PodCertificateRequest) -> &str {
        &request.spec.signer_name
    }

    fn changes(request: &PodCertificateRequest, outcome: &Outcome, now: Timestamp) -> Vec<Value> {
        changes(request, outcome, now)
    }

    fn hands_out(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Issued { .. })
    }

    fn untaken(&self, job: &Job<PodCertificateRequest>, outcome: &Outcome, why: &Status) -> Untaken<Outcome> {
        let Outcome::Issued { refresh, .. } = outcome else { return Untaken::Nothing(Done::Later(None)) };
        if !pod_rules::begins_at_another_time(why) {
            let message = format!("The API server refuses the certificate: {}", why.message);
            return Untaken::Instead(Outcome::Failed { reason: "CertificateRefused", message });
        }
        let message = format!(
            "The certificate for this request begins at {}, and Kubernetes takes none that begins more than 5 minutes \
             before or after now: it could not be written in time, or clocks differ. Kubernetes removes the request a \
             quarter of an hour after it was made, and the kubelet makes a new one",
            text_of(refresh.not_before)
        );
        // What it waited for before was something else.
        self.asking.publish(job.object.object_ref(&()), EventType::Warning, "CertificateNotTaken", &message);
        Untaken::Nothing(Done::Later(Some(CLOCKS)))
    }

    fn announce(&self, request: &PodCertificateRequest, outcome: &Outcome) {
        let about = request.object_ref(&());
        let word = match outcome {
            // The kubelet tells of it, and a mesh would fill the list of events.
            Outcome::Issued { .. } => "issued",
            Outcome::Denied { reason, message } => {
                self.asking.publish(about, EventType::Warning, reason, message);
                "denied"
            }
            Outcome::Failed { reason, message } => {
                self.asking.publish(about, EventType::Warning, reason, message);
                "failed"
            }
        };
        self.asking.metrics.signer_outcome("PodCertificateRequest", word);
    }
}

/// The profile that pods get, as the server describes it.
fn profile(signer: &Signer) -> Result<&SignerProfile, String> {
    let pods = signer.spec.pod_certificates.as_ref();
    let wanted = pods.and_then(|pods| pods.profile.as_ref()).or(signer.spec.profile.as_ref());
    let mut offered = signer.info.profiles.iter();
    match wanted {
        None => offered.next().ok_or_else(|| "The credential may ask for no profile".to_owned()),
        Some(wanted) => offered
            .find(|profile| profile.name == *wanted)
            .ok_or_else(|| format!("The profile \"{wanted}\" is not among those that the credential may ask for")),
    }
}

/// What a pod is called.
fn spiffe_id(pods: &PodCertificates, namespace: &str, service_account: &str) -> String {
    format!("spiffe://{}/ns/{namespace}/sa/{service_account}", pods.trust_domain)
}

/// A CSR that is none, or whose key is none.
fn unreadable(fault: &RequestFault, profile: &SignerProfile) -> Outcome {
    match fault {
        RequestFault::Key(_) => {
            let message = format!("{fault}; {}", pod_rules::suggestion(&profile.keys));
            Outcome::Denied { reason: pod_rules::UNSUPPORTED_KEY, message }
        }
        _ => Outcome::Failed { reason: "InvalidRequest", message: format!("The request cannot be signed: {fault}") },
    }
}

/// A kind of key that the profile does not take.
fn unsupported(kind: KeyKind, profile: &SignerProfile) -> Option<Outcome> {
    let taken = profile.keys.iter().any(|known| *known == pod_rules::configured(kind));
    (!taken).then(|| {
        let message = format!("This signer takes no {kind} keys; {}", pod_rules::suggestion(&profile.keys));
        Outcome::Denied { reason: pod_rules::UNSUPPORTED_KEY, message }
    })
}

/// What the server's refusal is to a pod.
fn refused(reason: Option<RefusalReason>, message: String, profile: Option<&SignerProfile>) -> Outcome {
    use RefusalReason as R;
    match reason {
        Some(R::Key) => {
            let suggestion = profile.map(|profile| pod_rules::suggestion(&profile.keys)).unwrap_or_default();
            Outcome::Denied { reason: pod_rules::UNSUPPORTED_KEY, message: format!("{message}; {suggestion}") }
        }
        Some(R::Policy | R::Denied) => Outcome::Denied { reason: "DeniedByPolicy", message },
        Some(R::Csr | R::Profile | R::Lifetime | R::OtherRequest) | None => {
            Outcome::Failed { reason: "PermanentError", message }
        }
    }
}

/// A certificate with its times, if the API server would ever take them. Whether it begins now, by the API server's own
/// clock, that one says.
fn issued(answered: Answered, spec: &PodCertificateRequestSpec) -> Outcome {
    let Answered { chain, not_before, not_after, .. } = answered;
    match pod_rules::refresh(as_kubernetes(not_before), as_kubernetes(not_after), spec.max_expiration_seconds) {
        Ok(refresh) => Outcome::Issued { chain, refresh },
        Err(message) => Outcome::Failed { reason: "CertificateRefused", message },
    }
}

/// The changes of the status: all of it at once, since nothing of it can be changed later.
fn changes(request: &PodCertificateRequest, outcome: &Outcome, now: Timestamp) -> Vec<Value> {
    let condition = |type_: &str, reason: &str, message: &str| {
        json!([{
            "type": type_, "status": "True", "reason": reason, "message": cut(message, MESSAGE_MAX),
            "lastTransitionTime": text_of(now), "observedGeneration": request.metadata.generation,
        }])
    };
    let status = match outcome {
        Outcome::Issued { chain, refresh } => json!({
            "conditions": condition("Issued", "Issued", "Certificate fetched from issuer successfully"),
            "certificateChain": chain,
            "notBefore": text_of(refresh.not_before),
            "beginRefreshAt": text_of(refresh.begin_refresh_at),
            "notAfter": text_of(refresh.not_after),
        }),
        Outcome::Denied { reason, message } => json!({ "conditions": condition("Denied", reason, message) }),
        Outcome::Failed { reason, message } => json!({ "conditions": condition("Failed", reason, message) }),
    };
    vec![json!({ "op": "add", "path": "/status", "value": status })]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::http::StatusCode;
    use rcgen::{CertificateParams, DistinguishedName, KeyPair};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::{
        board,
        decide::IssuerState,
        dispatch::Desk,
        disposal::Disposals,
        events::Events,
        fake_api, fake_signer,
        leader::Leadership,
        metrics::Metrics,
        resource::RateLimit,
        signers::line::{Limits, Line, Next},
    };

    fn request() -> PodCertificateRequest {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let stub = params.serialize_request(&KeyPair::generate().expect("a key")).expect("a CSR");
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "1" },
            "spec": {
                "signerName": "chanceryclusterissuers.chancery.dev/corp", "podName": "web", "podUID": "p-1",
                "serviceAccountName": "web", "serviceAccountUID": "s-1", "nodeName": "node", "nodeUID": "n-1",
                "maxExpirationSeconds": 86_400,
                "stubPKCS10Request": k8s_openapi::ByteString(stub.der().to_vec()),
            },
        }))
        .expect("a request")
    }

    #[tokio::test]
    async fn a_pod_that_may_not_be_looked_up_is_told() {
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel::<Value>();
        let client = fake_api::client(move |_, uri, body| {
            if uri.path().ends_with("/events") {
                let event: Value = serde_json::from_slice(body).expect("JSON");
                told.send(event.clone()).expect("the test waits");
                return fake_api::object(&event);
            }
            fake_api::refusal_in_words(StatusCode::FORBIDDEN, "Forbidden", "pods are forbidden")
        });
        let metrics = Arc::new(Metrics::new());
        let rate = RateLimit { requests_per_second: 10, burst: None };
        let desk = Arc::new(Desk::new(board::Limits { active: 10, concurrency: 4, rate }));
        let issuer = PodRequests::issuer_of(&request()).expect("one of ours");
        let profiles = json!([{
            "name": "pod", "keys": ["p256"], "lifetime_s": 86_400, "lifetime_min_s": 60, "lifetime_max_s": 864_000,
        }]);
        let signer = fake_signer::signer(
            &json!({ "podCertificates": { "trustDomain": "cluster.local" } }),
            &json!({ "profiles": profiles }),
        );
        desk.issuer_is(&issuer, IssuerState::Ready, Some(signer));
        let asking = Asking {
            events: Events::start(&client, "tests".to_owned()),
            client,
            desk,
            leadership: Leadership::alone(),
            disposals: Arc::new(Disposals::new(Arc::clone(&metrics))),
            metrics,
        };
        let requests = PodRequests { asking, labels: NamespaceLabels::default() };
        let mut line = Line::new(Limits { active: 10, concurrency: 4, each_issuer: 4 });
        line.observe(request(), issuer, "shop");
        let Next::Job(job) = line.next(Instant::now()) else { panic!("nothing to do") };
        assert!(matches!(requests.work(&job).await, (Done::Later(None), Asked::Not)));
        let event = timeout(Duration::from_secs(60), tells.recv()).await.expect("in time").expect("an event");
        let event = event.to_string();
        assert!(event.contains("RetryableError") && event.contains("pods are forbidden"), "{event}");
    }
}
