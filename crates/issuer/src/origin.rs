//! What the server is told of a request: what it asks for, and where it comes from.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard},
    time::{Duration, Instant},
};

use chancery_api::{IssuerRef, LeaseRef, Origin, RequestKind, SigningRequest};
use chancery_pki::answer::Asked as Csr;
use k8s_openapi::{
    api::core::v1::Namespace,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Api, Client};

use crate::{
    condition::cut,
    resource::{Certificate, CertificateRequest, IssuerSpec, go_duration},
};

/// What cert-manager gives to a request that names no duration: 90 days.
pub(crate) const USUAL_LIFE_S: u64 = 90 * 24 * 3600;
/// Owners that are known early, at most.
const EARLY_MAX: usize = 1024;
/// For how long what was known early is believed.
const EARLY_FOR: Duration = Duration::from_secs(5);
/// Annotations that are passed on, at most.
const ANNOTATIONS: usize = 64;
/// Longest annotation that is passed on, key and value, in octets.
const ANNOTATION_MAX: usize = 1024;
/// Groups of the requester that are passed on, at most.
pub(crate) const GROUPS: usize = 64;
/// Longest owner that is taken for one, in octets of its texts: a name has at most 253 (RFC 1123 subdomain), a UID 36.
const OWNER_MAX: usize = 1024;
/// Longest name of a Secret that is kept.
const NAME_MAX: usize = 253;
/// Annotations that controllers and tools write; the API server lets nobody change cert-manager's.
const OF_TOOLS: [&str; 7] = [
    "kubectl.kubernetes.io/",
    "cert-manager.io/",
    "acme.cert-manager.io/",
    "experimental.cert-manager.io/",
    "fluxcd.io/",
    "argocd.argoproj.io/",
    "meta.helm.sh/",
];
const REVISION: &str = "cert-manager.io/certificate-revision";
/// Of a CertificateSigningRequest: how long the certificate shall live, in Go's notation (cert-manager's experimental API).
pub(crate) const DURATION: &str = "experimental.cert-manager.io/request-duration";
/// Of a CertificateSigningRequest: whether it shall be a CA's.
pub(crate) const IS_CA: &str = "experimental.cert-manager.io/request-is-ca";
/// Annotations that are read here.
const READ: [&str; 3] = [REVISION, DURATION, IS_CA];

fn is_passed_on(key: &str, value: &str) -> bool {
    !OF_TOOLS.iter().any(|prefix| key.starts_with(prefix)) && key.len() + value.len() <= ANNOTATION_MAX
}

/// Drops the annotations that no server is sent, but for those that are read here: the revision tells what has become of
/// a Certificate, and two say what a CertificateSigningRequest is for. A value that is too long stays none that means
/// anything.
pub(crate) fn keep_what_is_passed_on(annotations: &mut BTreeMap<String, String>) {
    let mut passed_on = 0;
    annotations.retain(|key, value| {
        let passes = passed_on < ANNOTATIONS && is_passed_on(key, value);
        passed_on += usize::from(passes);
        if READ.contains(&key.as_str()) {
            *value = cut(value, ANNOTATION_MAX);
            return true;
        }
        passes
    });
}

/// A body without its origin.
#[derive(Debug)]
pub(crate) struct Body(SigningRequest);

impl Body {
    /// How long the certificate shall live.
    pub(crate) fn life(&self) -> Duration {
        Duration::from_secs(self.0.lifetime_s.unwrap_or(USUAL_LIFE_S))
    }

    /// The whole.
    pub(crate) fn with(mut self, origin: Origin, term: Option<u64>, lease: Option<LeaseRef>) -> SigningRequest {
        self.0.origin = origin;
        (self.0.term, self.0.lease) = (term, lease);
        self.0
    }
}

/// What a request asks for. The object decides; the CSR only echoes it.
///
/// # Errors
///
/// A sentence: nobody can sign this, now or later.
pub(crate) fn asked_for(request: &CertificateRequest, issuer: &IssuerSpec) -> Result<(Csr, Body), String> {
    let spec = &request.spec;
    let duration = spec.duration.as_deref().or(issuer.default_duration.as_deref());
    let lifetime_s = match duration {
        None => USUAL_LIFE_S,
        Some(text) => go_duration(text)
            .map(|duration| duration.as_secs())
            .filter(|seconds| *seconds > 0)
            .ok_or_else(|| format!("The duration \"{text}\" is none above one second"))?,
    };
    let csr = Csr::from_pem(&spec.request.0, &spec.usages, spec.is_ca, Some(lifetime_s))
        .map_err(|fault| format!("The request cannot be signed: {fault}"))?;
    let pem = String::from_utf8(spec.request.0.clone()).map_err(|_| "The CSR is not text".to_owned())?;
    let body = SigningRequest {
        kind: RequestKind::CertificateRequest,
        uid: request.metadata.uid.clone().unwrap_or_default(),
        csr: pem,
        names: Vec::new(),
        profile: issuer.profile.clone(),
        lifetime_s: Some(lifetime_s),
        usages: spec.usages.clone(),
        is_ca: spec.is_ca,
        origin: Origin::default(),
        term: None,
        lease: None,
    };
    Ok((csr, Body(body)))
}

/// The annotations that are passed on.
pub(crate) fn annotations_of(metadata: &ObjectMeta) -> BTreeMap<String, String> {
    let annotations = metadata.annotations.iter().flatten();
    annotations
        .filter(|(key, value)| is_passed_on(key, value))
        .take(ANNOTATIONS)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// What has become of what a deleted request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its Certificate has a newer certificate.
    Superseded,
    /// Its Certificate is gone.
    Deleted,
    /// Its Certificate is there, and has no newer one yet; the revision that it has.
    InUse { revision: Option<i64> },
}

/// Whom a request is for.
#[derive(Debug)]
pub(crate) struct LookedUp {
    /// What the server is told.
    pub(crate) origin: Origin,
    /// For how long before its end cert-manager renews the certificate, if the Certificate says so.
    pub(crate) renew_before: Option<Duration>,
}

/// The Certificate that a request was made for, as the request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whose {
    pub(crate) namespace: Box<str>,
    pub(crate) certificate: Box<str>,
    pub(crate) uid: Box<str>,
    pub(crate) revision: Option<i64>,
}

impl Whose {
    /// Nothing where a request was made without one.
    pub(crate) fn of(request: &CertificateRequest) -> Option<Self> {
        let owner = owner_reference(request)?;
        let annotations = request.metadata.annotations.as_ref();
        Some(Self {
            namespace: request.metadata.namespace.as_deref().unwrap_or_default().into(),
            certificate: owner.name.as_str().into(),
            uid: owner.uid.as_str().into(),
            revision: annotations.and_then(|all| all.get(REVISION)?.parse().ok()),
        })
    }
}

/// The labels of each namespace, as a watch has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamespaceLabels(Arc<RwLock<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    /// Whether the watch may have missed something.
    behind: bool,
    namespaces: HashMap<Box<str>, Labels>,
}

type Labels = BTreeMap<String, String>;

impl NamespaceLabels {
    pub(crate) fn set(&self, namespace: &str, labels: Labels) {
        self.write().namespaces.insert(namespace.into(), labels);
    }

    pub(crate) fn remove(&self, namespace: &str) {
        self.write().namespaces.remove(namespace);
    }

    /// What is not shown from now on is gone.
    pub(crate) fn listing_begins(&self) {
        let mut watched = self.write();
        (watched.behind, watched.namespaces) = (true, HashMap::new());
    }

    /// The watch may miss something, until it shows anything again: what it shows comes in order.
    pub(crate) fn is_behind(&self, behind: bool) {
        self.write().behind = behind;
    }

    /// The labels; nothing where they are to be looked up, since the watch has not shown them, or may be behind.
    pub(crate) fn get(&self, namespace: &str) -> Option<Labels> {
        let watched = self.0.read().unwrap_or_else(PoisonError::into_inner);
        watched.namespaces.get(namespace).filter(|_| !watched.behind).cloned()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Watched> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told of the Certificate that a request is for.
#[derive(Debug)]
struct Owner {
    name: String,
    secret: Option<String>,
    renew_before: Option<Duration>,
}

impl Owner {
    fn of(certificate: Certificate) -> Self {
        let spec = certificate.spec;
        Self {
            name: certificate.metadata.name.unwrap_or_default(),
            // There is no Secret of a longer name.
            secret: Some(spec.secret_name).filter(|name| name.len() <= NAME_MAX),
            renew_before: spec.renew_before.as_deref().and_then(go_duration),
        }
    }
}

/// Owners that were looked up while their requests waited for an approval, by the UID of the request. A Certificate as a
/// whole may have more than a megabyte.
type Early = HashMap<Box<str>, (Instant, Option<Owner>)>;

/// Looks up where requests come from.
#[derive(Clone)]
pub(crate) struct Origins {
    client: Client,
    labels: NamespaceLabels,
    early: Arc<Mutex<Early>>,
}

impl Origins {
    pub(crate) fn new(client: Client, labels: NamespaceLabels) -> Self {
        Self { client, labels, early: Arc::default() }
    }

    /// Looks up whom a request is for before it is approved, since the approval is about to come: then there is one
    /// round trip less. What goes wrong goes wrong again later, and is told then.
    pub(crate) async fn prepare(&self, request: &CertificateRequest) {
        let Some(uid) = request.metadata.uid.as_deref() else { return };
        let Ok(owner) = self.look_up(request).await else { return };
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        if early.len() >= EARLY_MAX {
            early.retain(|_, (at, _)| at.elapsed() < EARLY_FOR);
        }
        if early.len() < EARLY_MAX {
            early.insert(uid.into(), (Instant::now(), owner));
        }
    }

    /// Where a request comes from. Its Certificate is named only if it owns the request and is alive: annotations that
    /// say so can be written by anyone.
    ///
    /// # Errors
    ///
    /// The API server's.
    pub(crate) async fn of(&self, request: &CertificateRequest) -> Result<LookedUp, kube::Error> {
        let metadata = &request.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let owner = self.owner(request).await?;
        let namespace_labels = match self.labels.get(&namespace) {
            Some(labels) => labels,
            // The watch has not shown it yet.
            None => {
                let api: Api<Namespace> = Api::all(self.client.clone());
                api.get_metadata_opt(&namespace).await?.and_then(|found| found.metadata.labels).unwrap_or_default()
            }
        };
        let annotations = annotations_of(metadata);
        let spec = &request.spec;
        let renew_before = owner.as_ref().and_then(|owner| owner.renew_before);
        let (certificate, secret) = owner.map_or((None, None), |owner| (Some(owner.name), owner.secret));
        let origin = Origin {
            namespace: Some(namespace),
            name: metadata.name.clone().unwrap_or_default(),
            issuer: Some(IssuerRef { kind: spec.issuer_ref.kind.clone(), name: spec.issuer_ref.name.clone() }),
            username: (!spec.username.is_empty()).then(|| spec.username.clone()),
            groups: spec.groups.iter().take(GROUPS).cloned().collect(),
            secret,
            certificate,
            pod: None,
            namespace_labels,
            annotations,
        };
        Ok(LookedUp { origin, renew_before })
    }

    /// What has become of the Certificate of a request that was deleted.
    ///
    /// # Errors
    ///
    /// The API server's.
    pub(crate) async fn fate(&self, whose: &Whose) -> Result<Fate, kube::Error> {
        let Some(certificate) = self.certificate(&whose.namespace, &whose.certificate, &whose.uid).await? else {
            return Ok(Fate::Deleted);
        };
        let now_at = certificate.status.and_then(|status| status.revision);
        let superseded = now_at.zip(whose.revision).is_some_and(|(now_at, revision)| now_at > revision);
        Ok(if superseded { Fate::Superseded } else { Fate::InUse { revision: now_at } })
    }

    async fn owner(&self, request: &CertificateRequest) -> Result<Option<Owner>, kube::Error> {
        let uid = request.metadata.uid.as_deref().unwrap_or_default();
        let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        match early.filter(|(at, _)| at.elapsed() < EARLY_FOR) {
            Some((_, owner)) => Ok(owner),
            None => self.look_up(request).await,
        }
    }

    async fn look_up(&self, request: &CertificateRequest) -> Result<Option<Owner>, kube::Error> {
        let Some(reference) = owner_reference(request) else { return Ok(None) };
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        Ok(self.certificate(namespace, &reference.name, &reference.uid).await?.map(Owner::of))
    }

    /// A Certificate that is there and is not being deleted.
    async fn certificate(&self, namespace: &str, name: &str, uid: &str) -> Result<Option<Certificate>, kube::Error> {
        let api: Api<Certificate> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await?;
        Ok(found
            .filter(|found| found.metadata.uid.as_deref() == Some(uid) && found.metadata.deletion_timestamp.is_none()))
    }
}

/// Who owns a request, if that says to be a Certificate.
pub(crate) fn owner_reference(request: &CertificateRequest) -> Option<&OwnerReference> {
    request.metadata.owner_references.iter().flatten().find(|owner| is_certificate(owner))
}

/// Keeps no other owners than that.
pub(crate) fn keep_owner(metadata: &mut ObjectMeta) {
    if let Some(owners) = &mut metadata.owner_references {
        owners.retain(is_certificate);
        owners.truncate(1);
        owners.shrink_to_fit();
    }
}

fn is_certificate(owner: &OwnerReference) -> bool {
    owner.controller == Some(true)
        && owner.kind == "Certificate"
        && owner.api_version.starts_with("cert-manager.io/")
        && owner.api_version.len() + owner.name.len() + owner.uid.len() <= OWNER_MAX
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(more: &serde_json::Value) -> CertificateRequest {
        let params = rcgen::CertificateParams::new(["web.shop.example".to_owned()]).expect("a name");
        let csr = params.serialize_request(&rcgen::KeyPair::generate().expect("a key")).expect("a CSR");
        let mut request = json!({
            "metadata": { "name": "web-1", "namespace": "shop", "uid": "u-1" },
            "spec": {
                "request": k8s_openapi::ByteString(csr.pem().expect("PEM").into_bytes()),
                "issuerRef": { "name": "corp", "kind": "ChanceryClusterIssuer", "group": "chancery.dev" },
            },
        });
        json_patch::merge(&mut request, more);
        serde_json::from_value(request).expect("a request")
    }

    fn issuer(more: &serde_json::Value) -> IssuerSpec {
        let mut spec = json!({ "urls": ["https://ca.example"], "credentials": {} });
        json_patch::merge(&mut spec, more);
        serde_json::from_value(spec).expect("a spec")
    }

    fn body(request: &CertificateRequest, issuer: &IssuerSpec) -> Result<SigningRequest, String> {
        asked_for(request, issuer).map(|(_, body)| {
            let lease = LeaseRef { name: "chancery/issuer".to_owned(), uid: "l-1".to_owned() };
            body.with(Origin::default(), Some(7), Some(lease))
        })
    }

    #[test]
    fn the_life_is_the_requests_else_the_issuers_else_ninety_days() {
        let named = json!({ "defaultDuration": "48h" });
        for (duration, issuer_says, seconds) in [
            (json!("1h30m"), &named, Some(5400)),
            (json!("2160h0m0s"), &json!({}), Some(90 * 24 * 3600)),
            (json!(null), &named, Some(48 * 3600)),
            (json!(null), &json!({}), Some(90 * 24 * 3600)),
            (json!("0s"), &json!({}), None),
            (json!("-1h"), &json!({}), None),
            (json!("soon"), &json!({}), None),
        ] {
            let request = request(&json!({ "spec": { "duration": duration } }));
            let body = body(&request, &issuer(issuer_says));
            assert_eq!(body.ok().and_then(|body| body.lifetime_s), seconds, "{duration}");
        }
    }

    #[test]
    fn the_object_decides_what_is_asked_for_and_the_issuer_the_profile() {
        let request = request(&json!({
            "metadata": { "annotations": { "chancery.dev/profile": "intermediate" } },
            "spec": { "usages": ["server auth"] },
        }));
        let body = body(&request, &issuer(&json!({ "profile": "server" }))).expect("it can be asked");
        assert_eq!((body.uid.as_str(), body.profile.as_deref(), body.is_ca), ("u-1", Some("server"), false));
        assert_eq!((body.usages, body.term), (vec!["server auth".to_owned()], Some(7)));
        assert_eq!(body.lease.map(|lease| lease.uid).as_deref(), Some("l-1"));
    }

    #[test]
    fn a_usage_that_does_not_exist_fails_before_anybody_is_asked() {
        let request = request(&json!({ "spec": { "usages": ["flying"] } }));
        assert!(body(&request, &issuer(&json!({}))).expect_err("no such usage").contains("flying"));
    }

    #[test]
    fn what_is_read_here_is_kept_and_never_becomes_something_else() {
        let long = format!("{}1h", "1s".repeat(1000));
        let mut annotations = BTreeMap::from(
            [("large", "x".repeat(2000)), ("team", "web".to_owned()), (IS_CA, "true".to_owned()), (DURATION, long)]
                .map(|(key, value)| (key.to_owned(), value)),
        );
        keep_what_is_passed_on(&mut annotations);
        assert_eq!(annotations.keys().collect::<Vec<_>>(), [DURATION, IS_CA, "team"]);
        let duration = annotations.get(DURATION).expect("it is read");
        assert!(duration.len() < 2000 && go_duration(duration).is_none(), "{duration}");
    }

    #[test]
    fn only_a_controlling_certificate_is_an_owner() {
        let owned = |owner: serde_json::Value| request(&json!({ "metadata": { "ownerReferences": [owner] } }));
        let certificate = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "web", "uid": "c-1", "controller": true,
        });
        assert!(owner_reference(&owned(certificate.clone())).is_some());
        for (member, value) in [
            ("controller", json!(false)),
            ("kind", json!("Pod")),
            ("apiVersion", json!("v1")),
            ("apiVersion", json!("cert-manager.io.evil.example/v1")),
            ("name", json!("x".repeat(2000))),
        ] {
            let mut other = certificate.clone();
            other[member] = value;
            assert!(owner_reference(&owned(other)).is_none(), "{member}");
        }
    }
}
