//! Kubernetes' own kinds on a real control plane: CertificateSigningRequests, PodCertificateRequests, and the roots that
//! are published. Every status is one that the real API server has taken.

mod content;
mod disposal;
mod once;
mod pods;
mod pods_refused;
mod registration;
mod requests;
mod small;
mod trust;
mod whole;

use chancery_cluster_tests::{Issuing, Process, Result, SigningServer, controller, signing_server::Behaviour, until};
use k8s_openapi::api::{
    certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    events::v1::Event,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use serde_json::{Value, json};
use tokio::sync::RwLockReadGuard;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Where Secrets of cluster issuers lie.
const SECRETS: &str = controller::NAMESPACE;

/// One test: a namespace, a cluster issuer of the namespace's name, its server.
struct Test {
    issuing: &'static Issuing,
    namespace: String,
    server: SigningServer,
}

impl Test {
    /// With an issuer that is not there yet.
    async fn without_issuer(beginning: &str) -> Result<Option<Self>> {
        let Some(issuing) = Issuing::shared().await? else { return Ok(None) };
        let namespace = issuing.plane.namespace(beginning).await?;
        Ok(Some(Self { issuing, namespace, server: SigningServer::start("token")? }))
    }

    /// With an issuer that is ready and has this beside the usual settings.
    async fn ready(beginning: &str, more: &Value) -> Result<Option<Self>> {
        let Some(test) = Self::without_issuer(beginning).await? else { return Ok(None) };
        test.make_issuer(more).await?;
        Ok(Some(test))
    }

    /// Makes the issuer, and waits until it is ready.
    async fn make_issuer(&self, more: &Value) -> Result<()> {
        self.issuing.token(SECRETS, &self.namespace, "token").await?;
        let mut issuer =
            controller::issuer("ChanceryClusterIssuer", &self.namespace, &self.server.url(), &self.server.root());
        json_patch::merge(&mut issuer, &json!({ "spec": { "checkInterval": "10s" } }));
        json_patch::merge(&mut issuer, &json!({ "spec": more }));
        self.issuing.plane.apply_documents(SECRETS, vec![issuer]).await?;
        until(&self.issuers().await?, &self.namespace, until::condition("Ready", "True")).await?;
        Ok(())
    }

    /// Makes an issuer of the test's namespace, named `own`, whose server is [`Issuing::allowed`]; its signer name.
    async fn make_own_issuer(&self) -> Result<String> {
        let (issuing, namespace) = (self.issuing, &self.namespace);
        issuing.may_read_credentials(namespace).await?;
        issuing.token(namespace, "own", "allowed").await?;
        let issuer = controller::issuer("ChanceryIssuer", "own", &issuing.allowed.url(), &issuing.allowed.root());
        issuing.plane.apply_documents(namespace, vec![issuer]).await?;
        let issuers = issuing.plane.objects("chancery.dev/v1", "ChanceryIssuer", namespace).await?;
        until(&issuers, "own", until::condition("Ready", "True")).await?;
        Ok(format!("chanceryissuers.chancery.dev/{namespace}.own"))
    }

    /// The controller dies while the server holds its answer, and another one comes.
    async fn controller_dies_before_the_answer(&self, next: &str) -> Result<()> {
        let mut controller = self.issuing.controller.write().await;
        controller.kill();
        self.server.behave(Behaviour::Sign);
        self.server.release();
        *controller = self.issuing.another_controller(next).await?;
        Ok(())
    }

    /// The controller dies while the server holds its answer, the issuer is changed, and another controller comes. That one
    /// lives as long as what is given here.
    async fn issuer_changes_before_the_answer(
        &self,
        spec: &Value,
        next: &str,
    ) -> Result<RwLockReadGuard<'static, Process>> {
        let mut controller = self.issuing.controller.write().await;
        controller.kill();
        let changed = Patch::Merge(json!({ "spec": spec }));
        self.issuers().await?.patch(&self.namespace, &PatchParams::default(), &changed).await?;
        self.server.behave(Behaviour::Sign);
        self.server.release();
        *controller = self.issuing.another_controller(next).await?;
        Ok(controller.downgrade())
    }

    async fn issuers(&self) -> Result<Api<DynamicObject>> {
        self.issuing.plane.objects("chancery.dev/v1", "ChanceryClusterIssuer", "").await
    }

    fn signer_name(&self) -> String {
        format!("chanceryclusterissuers.chancery.dev/{}", self.namespace)
    }

    async fn client(&self) -> Result<Client> {
        self.issuing.plane.client().await
    }

    async fn requests(&self) -> Result<Api<CertificateSigningRequest>> {
        Ok(Api::all(self.client().await?))
    }

    /// The name that a request of this test has: they lie in no namespace.
    fn named(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    /// A request by the administrator, with this changed; its UID.
    async fn ask(&self, name: &str, csr: &str, more: &Value) -> Result<String> {
        self.ask_as(&self.client().await?, name, csr, more).await
    }

    /// The same by somebody else.
    async fn ask_as(&self, client: &Client, name: &str, csr: &str, more: &Value) -> Result<String> {
        let mut request = json!({
            "metadata": { "name": self.named(name) },
            "spec": {
                "signerName": self.signer_name(), "request": k8s_openapi::ByteString(csr.as_bytes().to_vec()),
                "usages": ["digital signature", "server auth"],
            },
        });
        json_patch::merge(&mut request, more);
        let api: Api<CertificateSigningRequest> = Api::all(client.clone());
        let made = api.create(&PostParams::default(), &serde_json::from_value(request)?).await?;
        Ok(made.uid().ok_or("an object without a UID")?)
    }

    async fn approve(&self, name: &str) -> Result<()> {
        self.decide(name, "Approved").await
    }

    async fn decide(&self, name: &str, decision: &str) -> Result<()> {
        let condition =
            json!({ "type": decision, "status": "True", "reason": "Tests", "message": "as the test wants" });
        let patch = json!({ "status": { "conditions": [condition] } });
        let parameters = PatchParams::default();
        self.requests().await?.patch_approval(&self.named(name), &parameters, &Patch::Merge(&patch)).await?;
        Ok(())
    }

    /// Asks, approves, and waits for the chain.
    async fn issue(&self, name: &str, csr: &str, more: &Value) -> Result<String> {
        self.ask(name, csr, more).await?;
        self.approve(name).await?;
        self.until_issued(name).await
    }

    async fn until_issued(&self, name: &str) -> Result<String> {
        let ended = self.until_ended(name).await?;
        chain(&ended).ok_or_else(|| format!("{name} has no certificate: {:?}", ended.status).into())
    }

    /// Waits for `Failed`: reason and message.
    async fn until_failed(&self, name: &str) -> Result<(String, String)> {
        let ended = self.until_ended(name).await?;
        let failed = condition(&ended, "Failed").ok_or_else(|| format!("{name} did not fail: {:?}", ended.status))?;
        assert!(chain(&ended).is_none(), "{ended:?}");
        Ok((failed.reason.clone().unwrap_or_default(), failed.message.clone().unwrap_or_default()))
    }

    /// Waits for an outcome.
    async fn until_ended(&self, name: &str) -> Result<CertificateSigningRequest> {
        let ended = |object: Option<&CertificateSigningRequest>| {
            object.is_some_and(|object| chain(object).is_some() || condition(object, "Failed").is_some())
        };
        until(&self.requests().await?, &self.named(name), ended).await
    }

    /// When this returns, the controller has seen every request that was there before.
    async fn barrier(&self, name: &str) -> Result<()> {
        let beside = Self {
            issuing: self.issuing,
            namespace: format!("{}-{name}", self.namespace),
            server: SigningServer::start("token")?,
        };
        beside.make_issuer(&json!({})).await?;
        beside.issue("barrier", &pem(&["barrier.example.test"])?, &json!({})).await?;
        Ok(())
    }

    /// Waits until the controller has written an event of this reason about an object.
    async fn until_told(&self, uid: &str, reason: &str) -> Result<()> {
        let events: Api<Event> = Api::all(self.client().await?);
        let wanted = |event: &Event| controller::tells(event, uid) && event.reason.as_deref() == Some(reason);
        until::any(&events, &format!("event {reason}"), wanted).await?;
        Ok(())
    }
}

fn condition<'a>(
    request: &'a CertificateSigningRequest,
    type_: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    request.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

/// The chain in a request's status.
fn chain(request: &CertificateSigningRequest) -> Option<String> {
    let octets = request.status.as_ref()?.certificate.as_ref()?;
    String::from_utf8(octets.0.clone()).ok().filter(|text| !text.is_empty())
}

/// The names of a CSR, by what they look like.
fn params(names: &[&str]) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for name in names {
        params.subject_alt_names.push(match (name.parse(), name) {
            (Ok(address), _) => SanType::IpAddress(address),
            (_, name) if name.contains("://") => SanType::URI((*name).try_into()?),
            (_, name) if name.contains('@') => SanType::Rfc822Name((*name).try_into()?),
            (_, name) => SanType::DnsName((*name).try_into()?),
        });
    }
    Ok(params)
}

/// A CSR with a new key.
fn pem(names: &[&str]) -> Result<String> {
    pem_by(&KeyPair::generate()?, names)
}

fn pem_by(key: &KeyPair, names: &[&str]) -> Result<String> {
    Ok(params(names)?.serialize_request(key)?.pem()?)
}

/// The public key of the first certificate of a chain.
fn public_key(chain: &str) -> Result<Vec<u8>> {
    let der = leaf(chain)?;
    Ok(X509Certificate::from_der(&der)?.1.public_key().raw.to_vec())
}

/// The first certificate of a chain, in DER.
fn leaf(chain: &str) -> Result<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes())?;
    Ok(pem.contents)
}
