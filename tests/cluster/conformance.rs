//! What cert-manager's conformance suite asks of an issuer, case by case, of the real controller and the real server. Of
//! the suite's optional features none is left out but renewal information (ACMEUseARI), which no external issuer can have:
//! cert-manager asks for it where it spoke ACME itself, and there it is held against the suite (`acme_issuer`).
#![expect(clippy::indexing_slicing, reason = "a helper that fails fails its test")]

mod approval;
mod cases;
mod certificates;
mod check;
mod hostile;
mod shims;

pub(super) use cases::{ACME, CASES, Case};
pub(super) use certificates::failed;
pub(super) use check::{Trust, faults};

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chancery_cluster_tests::{Issuing, Result, controller, until};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const CERT_MANAGER: &str = "cert-manager.io/v1";
/// The cluster issuer and the issuers of namespaces that ask the real server.
const NAME: &str = "conformance";

static CLUSTER_ISSUER: OnceCell<()> = OnceCell::const_new();

/// One test: a namespace, on what all share.
pub(super) struct Ground {
    pub(super) issuing: &'static Issuing,
    pub(super) namespace: String,
    certificates: Api<DynamicObject>,
    pub(super) requests: Api<DynamicObject>,
    pub(super) secrets: Api<Secret>,
}

/// What a Certificate has led to.
pub(super) struct Issued {
    /// The Certificate, ready.
    pub(super) certificate: DynamicObject,
    /// Its Secret.
    pub(super) secret: Secret,
}

impl Issued {
    /// What a key of the Secret holds.
    pub(super) fn octets(&self, key: &str) -> Result<&[u8]> {
        let data = self.secret.data.as_ref().and_then(|data| data.get(key));
        Ok(data.map(|octets| octets.0.as_slice()).ok_or_else(|| format!("no {key} in the Secret"))?)
    }
}

impl Ground {
    pub(super) async fn new(beginning: &str) -> Result<Option<Self>> {
        let Some(issuing) = Issuing::shared().await? else { return Ok(None) };
        let namespace = issuing.plane.namespace(beginning).await?;
        let objects = async |kind: &str| issuing.plane.objects(CERT_MANAGER, kind, &namespace).await;
        Ok(Some(Self {
            issuing,
            certificates: objects("Certificate").await?,
            requests: objects("CertificateRequest").await?,
            secrets: Api::namespaced(issuing.plane.client().await?, &namespace),
            namespace,
        }))
    }

    /// The cluster issuer that all tests share; cert-manager approves for it.
    pub(super) async fn cluster_issuer(&self) -> Result<Value> {
        let make = async || -> Result<()> {
            let (plane, real) = (self.issuing.plane, self.issuing.real);
            self.issuing.token(controller::NAMESPACE, NAME, real.token()).await?;
            self.issuing.approved_by_cert_manager(NAME).await?;
            let issuer = controller::issuer("ChanceryClusterIssuer", NAME, &real.url(), real.root());
            plane.apply_documents(controller::NAMESPACE, vec![issuer]).await?;
            let issuers = plane.objects("chancery.dev/v1", "ChanceryClusterIssuer", "").await?;
            until(&issuers, NAME, until::condition("Ready", "True")).await?;
            Ok(())
        };
        CLUSTER_ISSUER.get_or_try_init(make).await?;
        Ok(json!({ "group": "chancery.dev", "kind": "ChanceryClusterIssuer", "name": NAME }))
    }

    /// An issuer of this namespace; cert-manager approves for it.
    pub(super) async fn namespaced_issuer(&self) -> Result<Value> {
        let (plane, real) = (self.issuing.plane, self.issuing.real);
        self.issuing.may_read_credentials(&self.namespace).await?;
        self.issuing.token(&self.namespace, NAME, real.token()).await?;
        let signer = format!("chanceryissuers.chancery.dev/{}.{NAME}", self.namespace);
        self.issuing.may_approve(&signer, "cert-manager", "cert-manager").await?;
        let issuer = controller::issuer("ChanceryIssuer", NAME, &real.url(), real.root());
        plane.apply_documents(&self.namespace, vec![issuer]).await?;
        let issuers = plane.objects("chancery.dev/v1", "ChanceryIssuer", &self.namespace).await?;
        until(&issuers, NAME, until::condition("Ready", "True")).await?;
        Ok(json!({ "group": "chancery.dev", "kind": "ChanceryIssuer", "name": NAME }))
    }

    /// Applies a Certificate with this specification, whose Secret has its name with `-tls` behind.
    pub(super) async fn ask(&self, name: &str, issuer: &Value, spec: &Value) -> Result<()> {
        let mut whole = json!({
            "apiVersion": CERT_MANAGER, "kind": "Certificate", "metadata": { "name": name },
            "spec": { "secretName": format!("{name}-tls"), "issuerRef": issuer },
        });
        json_patch::merge(&mut whole, &json!({ "spec": spec }));
        self.issuing.plane.apply_documents(&self.namespace, vec![whole]).await?;
        Ok(())
    }

    /// Waits until a Certificate is ready at its newest generation and nothing is being issued for it; in this revision
    /// or a later one.
    pub(super) async fn issued(&self, name: &str, revision: i64) -> Result<Issued> {
        let done = move |object: Option<&DynamicObject>| {
            let is_issuing = |object: &DynamicObject| {
                until::conditions_of(object).any(|found| found["type"] == "Issuing" && found["status"] == "True")
            };
            let ready = kube::runtime::wait::Condition::matches_object(&until::condition("Ready", "True"), object);
            let reached = |object: &DynamicObject| object.data["status"]["revision"].as_i64() >= Some(revision);
            ready && object.is_some_and(|object| !is_issuing(object) && reached(object))
        };
        let certificate = match until(&self.certificates, name, done).await {
            Ok(certificate) => certificate,
            Err(error) => return Err(format!("{error}\nthe requests say: {}", self.said().await?).into()),
        };
        let secret = certificate.data["spec"]["secretName"].as_str().unwrap_or_default();
        let secret = self.secrets.get(secret).await?;
        // One controller of cert-manager tells that it is issued, another one until when, a moment later.
        let octets = secret.data.as_ref().and_then(|data| data.get("tls.crt")).ok_or("no tls.crt")?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&octets.0)?;
        let ends = pem.parse_x509()?.validity().not_after.timestamp();
        let told = move |object: Option<&DynamicObject>| {
            let text = object.and_then(|object| object.data.pointer("/status/notAfter")?.as_str());
            text.and_then(|text| text.parse::<Timestamp>().ok()).is_some_and(|told| told.as_second() == ends)
        };
        // What it says instead is found by whoever looks at the result.
        let certificate = until(&self.certificates, name, told).await.unwrap_or(certificate);
        Ok(Issued { certificate, secret })
    }

    /// Has a Certificate issued and held against everything that it asks for.
    pub(super) async fn passes(&self, name: &str, issuer: &Value, spec: &Value, trust: &Trust<'_>) -> Result<Issued> {
        self.ask(name, issuer, spec).await?;
        let issued = self.issued(name, 1).await?;
        let found = faults(&issued, trust)?;
        if found.is_empty() { Ok(issued) } else { Err(found.join("\n").into()) }
    }

    /// Has it issued again, as `cmctl renew` does.
    pub(super) async fn renew(&self, name: &str) -> Result<()> {
        loop {
            let now = self.certificates.get(name).await?;
            let mut conditions: Vec<Value> = until::conditions_of(&now).cloned().collect();
            conditions.retain(|condition| condition["type"] != "Issuing");
            conditions.push(json!({
                "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "as the test wants",
                "observedGeneration": now.metadata.generation, "lastTransitionTime": time_of_day(),
            }));
            let patch = json!({
                "metadata": { "resourceVersion": now.resource_version() }, "status": { "conditions": conditions },
            });
            match self.certificates.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the namespace's requests say, for a test that fails.
    async fn said(&self) -> Result<String> {
        let all = self.requests.list(&ListParams::default()).await?;
        let said = all.iter().map(|request| (request.name_any(), request.data["status"]["conditions"].clone()));
        Ok(serde_json::to_string_pretty(&said.collect::<BTreeMap<_, _>>())?)
    }

    /// What a Certificate's only or newest request says of itself once it says Ready in this way.
    pub(super) async fn request_of(&self, certificate: &str, reason: &'static str) -> Result<DynamicObject> {
        until(&self.requests, &format!("{certificate}-1"), ready_with(reason)).await
    }

    /// Makes a request by hand.
    pub(super) async fn request(
        &self,
        name: &str,
        csr: &str,
        issuer: &Value,
        more: &Value,
    ) -> kube::Result<DynamicObject> {
        let mut request = json!({
            "apiVersion": CERT_MANAGER, "kind": "CertificateRequest", "metadata": { "name": name },
            "spec": { "request": STANDARD.encode(csr), "issuerRef": issuer },
        });
        json_patch::merge(&mut request, more);
        let request = serde_json::from_value(request).map_err(kube::Error::SerdeError)?;
        self.requests.create(&kube::api::PostParams::default(), &request).await
    }
}

/// A Ready condition with this reason.
pub(super) fn ready_with(reason: &'static str) -> impl kube::runtime::wait::Condition<DynamicObject> {
    move |object: Option<&DynamicObject>| {
        object.is_some_and(|object| ready(object).is_some_and(|ready| ready["reason"] == reason))
    }
}

pub(super) fn ready(object: &DynamicObject) -> Option<&Value> {
    until::conditions_of(object).find(|condition| condition["type"] == "Ready")
}

/// What the Ready condition says in words.
pub(super) fn message(object: &DynamicObject) -> String {
    ready(object).and_then(|ready| ready["message"].as_str()).unwrap_or_default().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "whoever asks for a renewal writes the time of day")]
pub(super) fn time_of_day() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
