//! The controller on a real control plane: the observable states of an external issuer, one test or more for each.

mod contract;
mod ending;
mod faults;
mod health;
mod killed;
mod older;
mod once;
mod renewal;
mod tenants;
mod whole;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chancery_cluster_tests::{Issuing, Result, SigningServer, controller, until};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// One test: a namespace, a cluster issuer of the namespace's name, its server.
struct Test {
    issuing: &'static Issuing,
    namespace: String,
    server: SigningServer,
    requests: Api<DynamicObject>,
}

impl Test {
    /// With an issuer that is not there yet.
    async fn without_issuer(beginning: &str) -> Result<Option<Self>> {
        let Some(issuing) = Issuing::shared().await? else { return Ok(None) };
        let namespace = issuing.plane.namespace(beginning).await?;
        let requests = issuing.plane.objects("cert-manager.io/v1", "CertificateRequest", &namespace).await?;
        Ok(Some(Self { issuing, namespace, server: SigningServer::start("token")?, requests }))
    }

    /// With an issuer that is ready.
    async fn ready(beginning: &str) -> Result<Option<Self>> {
        let Some(test) = Self::without_issuer(beginning).await? else { return Ok(None) };
        test.issuing.ready_cluster_issuer(&test.namespace, &test.server).await?;
        Ok(Some(test))
    }

    fn issuer_ref(&self) -> Value {
        json!({ "group": "chancery.dev", "kind": "ChanceryClusterIssuer", "name": self.namespace })
    }

    /// From now on the issuer wants revoked what is deleted with its Certificate, or was never handed out.
    async fn revoke_what_is_deleted(&self) -> Result<()> {
        let revoke = json!({ "spec": { "onDelete": "Revoke" } });
        let issuers = self.issuers().await?;
        issuers.patch(&self.namespace, &PatchParams::default(), &Patch::Merge(&revoke)).await?;
        until(&issuers, &self.namespace, until::condition("Ready", "True")).await?;
        Ok(())
    }

    async fn issuers(&self) -> Result<Api<DynamicObject>> {
        self.issuing.plane.objects("chancery.dev/v1", "ChanceryClusterIssuer", "").await
    }

    /// A request for this test's issuer, with a key of its own; its UID.
    async fn ask(&self, name: &str) -> Result<String> {
        self.ask_with(name, &pem(&format!("{name}.example.test"))?, &json!({})).await
    }

    async fn ask_with(&self, name: &str, csr: &str, more: &Value) -> Result<String> {
        let mut request = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest", "metadata": { "name": name },
            "spec": { "request": STANDARD.encode(csr), "issuerRef": self.issuer_ref() },
        });
        json_patch::merge(&mut request, more);
        let made = self.requests.create(&PostParams::default(), &serde_json::from_value(request)?).await?;
        Ok(made.uid().ok_or("an object without a UID")?)
    }

    /// Asks, approves, and waits for the certificate.
    async fn issue(&self, name: &str) -> Result<String> {
        let uid = self.ask(name).await?;
        self.approve(name).await?;
        self.until_ready(name, "True", "Issued").await?;
        Ok(uid)
    }

    /// When this returns, the controller has seen everything that was there before.
    async fn barrier(&self) -> Result<()> {
        let beside = SigningServer::start("token")?;
        let name = format!("{}-barrier-{}", self.namespace, beside.url().rsplit(':').next().unwrap_or_default());
        self.issuing.ready_cluster_issuer(&name, &beside).await?;
        let issuer = json!({ "spec": { "issuerRef": { "name": name } } });
        self.ask_with(&name, &pem("barrier.example.test")?, &issuer).await?;
        self.approve(&name).await?;
        self.until_ready(&name, "True", "Issued").await?;
        Ok(())
    }

    async fn approve(&self, name: &str) -> Result<()> {
        self.add_condition(name, "Approved", "True", "Tests").await
    }

    async fn deny(&self, name: &str) -> Result<()> {
        self.add_condition(name, "Denied", "True", "Tests").await
    }

    async fn add_condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> Result<()> {
        loop {
            let now = self.requests.get(name).await?;
            let mut conditions: Vec<Value> = until::conditions_of(&now).cloned().collect();
            let time = time_of_day();
            conditions.push(json!({
                "type": kind, "status": status, "reason": reason, "message": "as the test wants",
                "lastTransitionTime": time,
            }));
            let patch = json!({
                "metadata": { "resourceVersion": now.resource_version() }, "status": { "conditions": conditions },
            });
            match self.requests.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a Ready condition.
    async fn until_ready(&self, name: &str, status: &str, reason: &str) -> Result<DynamicObject> {
        let wanted = |object: Option<&DynamicObject>| {
            object
                .and_then(|object| ready(object))
                .is_some_and(|ready| ready["status"] == status && ready["reason"] == reason)
        };
        until(&self.requests, name, wanted).await
    }

    async fn delete(&self, name: &str, uid: &str) -> Result<()> {
        self.requests.delete(name, &DeleteParams::default()).await?;
        until::gone(&self.requests, name, uid).await
    }
}

/// Waits for an event about an object that the controller has written.
async fn until_event(client: Client, namespace: &str, uid: &str) -> Result<Event> {
    let events: Api<Event> = Api::namespaced(client, namespace);
    until::any(&events, "event of the controller", |event| controller::tells(event, uid)).await
}

#[expect(clippy::disallowed_methods, reason = "an approver writes the time of day")]
fn time_of_day() -> String {
    k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The Ready condition.
fn ready(object: &DynamicObject) -> Option<&Value> {
    until::conditions_of(object).find(|condition| condition["type"] == "Ready")
}

fn message(object: &DynamicObject) -> String {
    ready(object).and_then(|ready| ready["message"].as_str()).unwrap_or_default().to_owned()
}

/// A CSR with a new key.
fn pem(name: &str) -> Result<String> {
    pem_with(&rcgen::KeyPair::generate()?, name)
}

fn pem_with(key: &rcgen::KeyPair, name: &str) -> Result<String> {
    let mut params = rcgen::CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(key)?.pem()?)
}

/// The chain in a request's status.
fn chain(object: &DynamicObject) -> Result<String> {
    let encoded = object.data.pointer("/status/certificate").and_then(Value::as_str).ok_or("no certificate")?;
    Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
}

/// The public key of the first certificate of a chain.
fn public_key(chain: &str) -> Result<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes())?;
    Ok(pem.parse_x509()?.public_key().raw.to_vec())
}

async fn label(api: &Api<DynamicObject>, name: &str, value: &str) -> Result<DynamicObject> {
    let patch = json!({ "metadata": { "labels": { "touched": value } } });
    Ok(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?)
}

/// Where Secrets of cluster issuers lie.
const SECRETS: &str = controller::NAMESPACE;
