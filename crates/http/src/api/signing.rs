//! Signing for Kubernetes (`/api/v1/…`): from what travels to the use cases, and back.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chancery_api::{
    IssuerRef, LeaseRef, Origin, PodRef, RefusalReason, RequestKind, RequestQuery, RevokeRequest, SignedCertificate,
    SignerInfo, SignerProfile, SigningRequest, SigningState, UsageReport,
};
use chancery_authority::{
    Refusal,
    credential::Credential,
    issue::{IssueRejection, few_told},
    issue_once::IssueOnceRejection,
    pod_certificate::PodRejection,
    revoke::RevokeRejection,
    sign_for_request::{ObjectKind, RequestRef, SignForRequest, SignRejection, Signed, SignedFor, UsageRejection},
    terms::{Lease, Term},
};
use chancery_pki::{
    KeyKind, Lifetime, Name, NameRejection, NameSet,
    certificate::{pem_block, to_pem},
    csr::{self, CsrRejection},
    name::NAMES_MAX,
    profile::ProfileRejection,
};
use chancery_policy::{Decision, Outcome as Verdict, Reported};
use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    ApiState,
    answer::{ApiError, Json, Outcome},
    inventory,
};
use crate::request_id::RequestId;

/// Seconds after which an issuance that is under way may be done.
const SOON_S: u64 = 1;
/// Seconds after which somebody may have approved.
const APPROVAL_S: u64 = 60;
/// Most octets of a refusal's sentence: it goes into a condition.
const MESSAGE_MAX: usize = 4096;

/// Who asks; put there by [`enter`](super::clusters::enter).
type Asking = Extension<Arc<Credential>>;

pub(super) async fn sign(
    State(ApiState(api)): State<ApiState>,
    Extension(credential): Asking,
    Extension(id): Extension<RequestId>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let _working = api.clusters.at_work.enter();
    let SigningRequest { kind, uid, csr, names, profile, lifetime_s, usages, is_ca, origin, term, lease } =
        read(&body)?;
    let shown = uid.escape_debug().to_string();
    let term = term.map(|number| Term { number, lease: lease.map(|LeaseRef { name, uid }| Lease { name, uid }) });
    let asked = match asked(kind, uid, (&csr, &names), (profile, lifetime_s), (usages, is_ca), origin, term) {
        Ok(asked) => asked,
        Err(refused) => return Ok(answered(*refused, &shown)),
    };
    let state = match api.office.sign_for_request(&credential, asked).await {
        Ok(signed) => state_of(signed),
        Err(Refusal::Failed(failure)) => return Err(ApiError::of_failure(failure, &id)),
        Err(Refusal::Rejected(rejection)) => refused(&rejection)?,
    };
    Ok(answered(state, &shown))
}

pub(super) async fn state(
    State(ApiState(api)): State<ApiState>,
    Extension(credential): Asking,
    Extension(id): Extension<RequestId>,
    path: NamePath,
    query: NameQuery,
) -> Result<Response, ApiError> {
    let named = Named::of(path, query)?;
    let found = api.office.signed_for_request(&credential, named.name()).await;
    match found.map_err(|failure| ApiError::of_failure(failure, &id))? {
        Some(signed) => Ok(answered(state_of(signed), &named.uid.escape_debug().to_string())),
        None => Err(unknown()),
    }
}

pub(super) async fn report_usage(
    State(ApiState(api)): State<ApiState>,
    Extension(credential): Asking,
    Extension(id): Extension<RequestId>,
    path: NamePath,
    query: NameQuery,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let named = Named::of(path, query)?;
    let _working = api.clusters.at_work.enter();
    let UsageReport { used_by } = read(&body)?;
    match api.office.report_usage(&credential, named.name(), used_by).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(Refusal::Failed(failure)) => Err(ApiError::of_failure(failure, &id)),
        Err(Refusal::Rejected(UsageRejection::Unknown)) => Err(unknown()),
        Err(Refusal::Rejected(rejection @ UsageRejection::Places)) => Err(ApiError::invalid(rejection.to_string())),
    }
}

pub(super) async fn revoke(
    State(ApiState(api)): State<ApiState>,
    Extension(credential): Asking,
    Extension(id): Extension<RequestId>,
    path: NamePath,
    query: NameQuery,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    use RevokeRejection as R;
    let named = Named::of(path, query)?;
    let _working = api.clusters.at_work.enter();
    let RevokeRequest { reason } = if body.is_empty() { RevokeRequest::default() } else { read(&body)? };
    match api.office.revoke_for_request(&credential, named.name(), reason).await {
        Ok(()) | Err(Refusal::Rejected(R::AlreadyRevoked { .. })) => Ok(StatusCode::NO_CONTENT),
        Err(Refusal::Failed(failure)) => Err(ApiError::of_failure(failure, &id)),
        Err(Refusal::Rejected(rejection)) => Err(match rejection {
            R::BadReason { .. } => ApiError::invalid(rejection.to_string()),
            R::Expired { .. } => ApiError::not_found(rejection.to_string()),
            R::Unknown | R::Unreadable { .. } | R::NotPermitted | R::AlreadyRevoked { .. } => unknown(),
        }),
    }
}

pub(super) async fn signer(
    State(ApiState(api)): State<ApiState>,
    Extension(credential): Asking,
) -> Result<Json<SignerInfo>, ApiError> {
    let settings = api.office.settings();
    let now = api.office.now();
    let mut not_issuing = api.operator.not_issuing().await;
    let mut roots: Vec<Vec<u8>> = Vec::new();
    match settings.authority(&credential.cluster().authority) {
        None => not_issuing.push(format!("there is no authority {}", credential.cluster().authority)),
        Some(authority) => {
            // The one that issues now comes first.
            let current = authority.current(now).map(|(_, chain)| chain);
            for chain in current.into_iter().chain(&authority.chains) {
                let root = match chain.anchor() {
                    Some(anchor) => Some(anchor.der()),
                    None => chain.certificates().last().map(|certificate| certificate.der()),
                };
                if let Some(root) = root.filter(|root| !roots.iter().any(|known| known == root)) {
                    roots.push(root.to_vec());
                }
            }
        }
    }
    let profiles = credential.profiles().iter().filter_map(|name| {
        let profile = settings.profiles.get(name)?;
        let seconds = |lifetime: Lifetime| u64::from(lifetime.seconds());
        Some(SignerProfile {
            name: name.clone(),
            keys: profile.key_kinds().iter().map(|kind| configured(*kind)).collect(),
            lifetime_s: seconds(profile.lifetime()),
            lifetime_min_s: seconds(profile.lifetime_min()),
            lifetime_max_s: seconds(profile.lifetime_max()),
            backdate_s: Some(profile.backdate().as_secs()),
        })
    });
    Ok(Json(SignerInfo {
        cluster: credential.cluster().name.clone(),
        namespaces: credential.namespaces().map(|namespaces| namespaces.iter().cloned().collect()),
        profiles: profiles.collect(),
        roots: to_pem(roots.iter().map(Vec::as_slice)),
        not_issuing,
        now: now.to_string(),
    }))
}

/// A kind of key as the configuration writes it.
fn configured(kind: KeyKind) -> String {
    kind.as_str().to_lowercase().replace('-', "")
}

fn unknown() -> ApiError {
    ApiError::not_found(
        "nothing was issued under that kind, namespace and UID for this credential; the namespace that was sent with the \
         request stands behind the path, as ?namespace=…",
    )
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(format!("the body: {error}")))
}

type NamePath = Result<Path<(String, String)>, PathRejection>;
type NameQuery = Result<Query<RequestQuery>, QueryRejection>;

/// Which object's request is meant, by path and query.
struct Named {
    kind: ObjectKind,
    namespace: Option<String>,
    uid: String,
}

impl Named {
    fn of(path: NamePath, query: NameQuery) -> Result<Self, ApiError> {
        let Path((kind, uid)) = path.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
        let known = RequestKind::ALL.into_iter().find(|known| known.as_str() == kind);
        let kind = known.ok_or_else(|| {
            let kinds = RequestKind::ALL.map(RequestKind::as_str).join(", ");
            ApiError::not_found(format!("there is no kind \"{}\"; there are {kinds}", kind.escape_debug()))
        })?;
        let RequestQuery { namespace } = inventory::asked(query)?;
        Ok(Self { kind: object_kind(kind), namespace, uid })
    }

    fn name(&self) -> RequestRef<'_> {
        RequestRef { kind: self.kind, namespace: self.namespace.as_deref(), uid: &self.uid }
    }
}

const fn object_kind(kind: RequestKind) -> ObjectKind {
    match kind {
        RequestKind::CertificateRequest => ObjectKind::CertificateRequest,
        RequestKind::CertificateSigningRequest => ObjectKind::CertificateSigningRequest,
        RequestKind::PodCertificateRequest => ObjectKind::PodCertificateRequest,
    }
}

/// What is asked for, or why it cannot be.
fn asked(
    kind: RequestKind,
    uid: String,
    (csr, names): (&str, &[String]),
    (profile, lifetime_s): (Option<String>, Option<u64>),
    (usages, is_ca): (Vec<String>, bool),
    origin: Origin,
    term: Option<Term>,
) -> Result<SignForRequest, Box<SigningState>> {
    let refused = |reason, message| Box::new(refusal(reason, message, None));
    let csr = csr::from_pem(csr).map_err(|error| refused(RefusalReason::Csr, error.to_string()))?;
    let lifetime = lifetime_s.map(Lifetime::from_seconds).transpose();
    let lifetime = lifetime.map_err(|error| refused(RefusalReason::Lifetime, error.to_string()))?;
    let names = named_apart(names).map_err(|error| refused(RefusalReason::Csr, error.to_string()))?;
    let (kind, reported) = (object_kind(kind), reported(origin));
    Ok(SignForRequest { kind, uid, csr, names, profile, lifetime, usages, is_ca, reported, term })
}

/// The names that are told beside a CSR; none where none are.
fn named_apart(names: &[String]) -> Result<Option<NameSet>, NameRejection> {
    if names.is_empty() {
        return Ok(None);
    }
    // Counted before any is read.
    if names.len() > NAMES_MAX {
        return Err(NameRejection::TooManyNames { count: names.len() });
    }
    let names = names.iter().map(|name| Name::uri(name)).collect::<Result<Vec<_>, _>>()?;
    NameSet::new(names).map(Some)
}

fn reported(origin: Origin) -> Reported {
    let Origin { namespace, name, issuer, username, groups, certificate, secret, pod, namespace_labels, annotations } =
        origin;
    let (issuer_kind, issuer) = match issuer {
        Some(IssuerRef { kind, name }) => (Some(kind), Some(name)),
        None => (None, None),
    };
    let (pod, service_account, node) = match pod {
        Some(PodRef { name, uid: _, service_account, node }) => (Some(name), Some(service_account), Some(node)),
        None => (None, None, None),
    };
    Reported {
        namespace,
        name: Some(name),
        issuer_kind,
        issuer,
        username,
        certificate,
        secret,
        pod,
        service_account,
        node,
        groups,
        namespace_labels,
        annotations,
        withheld: false,
    }
}

fn state_of(signed: Signed) -> SigningState {
    match signed {
        Signed::Issued(signed) => SigningState::Issued(certificate(&signed)),
        Signed::UnderWay => pending(SOON_S, "the certificate is being issued"),
        Signed::Held => pending(APPROVAL_S, "it waits for an approval"),
        Signed::Ended { why } => refusal(RefusalReason::Denied, why, None),
        Signed::Denied { rule } => {
            let message = format!("whoever may approve it said no (rule {rule})");
            refusal(RefusalReason::Denied, message, Some(rule))
        }
    }
}

fn certificate(signed: &SignedFor) -> SignedCertificate {
    let SignedFor { record, chain, root, warnings } = signed;
    SignedCertificate {
        id: record.id.to_string(),
        serial: record.serial.to_string(),
        chain: chain.pem(),
        root: if root.is_empty() { String::new() } else { pem_block("CERTIFICATE", root) },
        not_before: record.validity.not_before().to_string(),
        not_after: record.validity.not_after().to_string(),
        warnings: warnings.clone(),
    }
}

fn pending(retry_after_s: u64, message: &str) -> SigningState {
    SigningState::Pending { retry_after_s, message: message.to_owned() }
}

fn refusal(reason: RefusalReason, mut message: String, rule: Option<String>) -> SigningState {
    if message.len() > MESSAGE_MAX {
        let cut = (0..=MESSAGE_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
        message.truncate(cut);
        message.push('…');
    }
    SigningState::Refused { reason, message, rule }
}

/// What a rejection is to the requester: an answer about the request, or an error about its controller.
fn refused(rejection: &SignRejection) -> Result<SigningState, ApiError> {
    use RefusalReason as Why;
    use SignRejection as R;
    let (reason, rule) = match rejection {
        R::StaleTerm { .. } | R::StaleLease => return Err(ApiError::stale_term(rejection.to_string())),
        R::Once(IssueOnceRejection::Name(_) | IssueOnceRejection::LifetimeTwice) => {
            return Err(ApiError::invalid(rejection.to_string()));
        }
        R::Once(IssueOnceRejection::OtherRequest { .. }) => (Why::OtherRequest, None),
        R::Once(IssueOnceRejection::Issue(rejection)) => return Ok(not_issued(rejection)),
        R::Reported(_) | R::Namespace { .. } | R::NotForPods { .. } | R::Limits(_) => (Why::Policy, None),
        R::Profile { .. } => (Why::Profile, None),
        R::Csr(CsrRejection::Key(_)) | R::Pod(PodRejection::Key { .. }) => (Why::Key, None),
        R::Pod(PodRejection::NoLife | PodRejection::Life { .. }) => (Why::Lifetime, None),
        R::Pod(PodRejection::Backdated { .. } | PodRejection::Ca) => (Why::Profile, None),
        R::Csr(_)
        | R::NoNames
        | R::NamesApart
        | R::MustStaple
        | R::Usages(_)
        | R::Echo(_)
        | R::Once(IssueOnceRejection::TooLarge { .. } | IssueOnceRejection::RecordTooLarge { .. }) => (Why::Csr, None),
    };
    Ok(refusal(reason, rejection.to_string(), rule))
}

fn not_issued(rejection: &IssueRejection) -> SigningState {
    use RefusalReason as Why;
    match rejection {
        IssueRejection::Policy(decision) if decision.outcome == Verdict::Hold => {
            pending(APPROVAL_S, &format!("it waits for an approval: {}", told(decision)))
        }
        IssueRejection::Policy(decision) => refusal(Why::Policy, told(decision), decision.rule().map(str::to_owned)),
        IssueRejection::Names(names) => {
            let (reason, rule) = match &names.policy {
                Some(decision) => (Why::Policy, decision.rule().map(str::to_owned)),
                None => (Why::Profile, None),
            };
            // The reason says that it is refused.
            refusal(reason, names.listed(), rule)
        }
        IssueRejection::Profile(ProfileRejection::KeyKind { profile, kind, allowed }) => {
            let allowed: Vec<&str> = allowed.iter().map(|kind| kind.as_str()).collect();
            let message = format!("profile {profile} takes no {kind} keys; it takes {}", allowed.join(", "));
            refusal(Why::Key, message, None)
        }
        IssueRejection::Profile(_) => refusal(Why::Profile, rejection.to_string(), None),
        IssueRejection::BlockedKey => refusal(Why::Key, rejection.to_string(), None),
        IssueRejection::Validity(_) => refusal(Why::Lifetime, rejection.to_string(), None),
    }
}

/// What policy says against a request, in one line.
fn told(decision: &Decision) -> String {
    format!("{}{}", few_told(decision.refusals()), decision.way_out())
}

/// A state as an answer, told to the log and to the metrics.
fn answered(state: SigningState, uid: &str) -> Response {
    let outcome = match &state {
        SigningState::Issued(_) => "issued",
        SigningState::Pending { .. } => "pending",
        SigningState::Refused { reason, message, rule } => {
            let rule = rule.as_deref().unwrap_or_default();
            tracing::info!(request.uid = uid, reason = word(reason), rule, message = ?message, "refused");
            "refused"
        }
    };
    let mut response = Json(state).into_response();
    response.extensions_mut().insert(Outcome(outcome));
    response
}

/// A reason as it travels.
fn word(reason: &impl Serialize) -> String {
    serde_json::to_value(reason).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
