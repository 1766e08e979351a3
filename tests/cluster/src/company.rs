//! A company as the examples have it: the real server, cert-manager and the controller on the shared plane, and the cluster
//! issuer `company` of `deploy/examples`, whose service account proves itself to the server by tokens of the cluster.

use std::fs;

use chancery_harness::server::{Server, Setup, free_port};
use http::Request;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{Issuing, Plane, Result, chart::deploy, controller, documents, until};

/// The version of cert-manager's kinds.
const CERT_MANAGER: &str = "cert-manager.io/v1";

/// Who may have which names: each namespace its own, the company's hosts theirs over ACME, and what istiod asks for.
const POLICY: &str = r#"version: v1
rules:
  - name: the-servers-own-name
    allow: { names: [localhost] }
    for: { door: own-tls }
  - name: hosts-of-the-company
    allow: { names: ["**.hosts.example.com"] }
    for: { door: acme }
  - name: payments
    allow: { names: ["pay.apps.example.com"] }
    for: { cluster: prod-eu }
    when: requester.reported.namespace == "payments"
  - name: shop-at-the-istio-gateway
    allow: { names: ["shop.apps.example.com"] }
    for: { cluster: prod-eu }
    when: requester.reported.namespace == "istio-ingress"
  - name: news
    allow: { names: ["news.apps.example.com"] }
    for: { cluster: prod-eu }
    when: requester.reported.namespace == "news"
  - name: wiki
    allow: { names: ["wiki.apps.example.com"] }
    for: { cluster: prod-eu }
    when: requester.reported.namespace == "wiki"
  - name: workloads-of-the-mesh
    allow: { spiffe: ["spiffe://cluster.local/ns/*/sa/*"], profile: mesh }
    for: { cluster: prod-eu, door: kubernetes-signer }
    when: requester.reported.username == "system:serviceaccount:istio-system:istiod"
  - name: istiod-itself
    allow:
      names: [istiod.istio-system.svc, istiod-remote.istio-system.svc, istio-pilot.istio-system.svc]
      profile: server
    for: { cluster: prod-eu, door: kubernetes-signer }
    when: requester.reported.username == "system:serviceaccount:istio-system:istiod"
"#;

/// A server, and a cluster that asks it.
pub struct Company {
    /// The cluster.
    pub issuing: &'static Issuing,
    /// The server.
    pub server: Server,
    /// Where the server looks for http-01 of the names below hosts.example.com.
    pub http_port: u16,
}

static SHARED: OnceCell<std::result::Result<Option<Company>, String>> = OnceCell::const_new();

impl Company {
    /// The one that all tests of this process share. `None` where this machine cannot have it; that has been said then.
    pub async fn shared() -> Result<Option<&'static Self>> {
        let Some(issuing) = Issuing::shared().await? else { return Ok(None) };
        let shared =
            SHARED.get_or_init(|| async { Self::start(issuing).await.map(Some).map_err(|error| error.to_string()) });
        match shared.await {
            Ok(shared) => Ok(shared.as_ref()),
            Err(error) => Err(error.clone().into()),
        }
    }

    /// Starts the server and makes the issuer; returns once that is ready. One of them on a plane: the issuer is the
    /// cluster's. The server ends with this process, however that ends.
    pub async fn start(issuing: &'static Issuing) -> Result<Self> {
        let http_port = free_port().await?;
        let configuration = format!(
            r#"
[[zone]]
name = "hosts"
domains = ["hosts.example.com"]
allow = ["127.0.0.0/8"]
http_port = {http_port}

[zone.fixed_hosts]
"**.hosts.example.com" = ["127.0.0.1"]

[[profile]]
name = "mesh"
lifetime = "24h"
lifetime_min = "10m"
backdate = "5m"
names = ["spiffe"]
extended_key_usages = ["serverAuth", "clientAuth"]
records = "light"

[[cluster]]
name = "prod-eu"
authority = "issuing"
profiles = ["server", "mesh"]
token = {{ issuer = "https://kubernetes.default.svc", audience = "chancery/prod-eu", accounts = ["{namespace}/chancery-issuer"], keys = "clusters/prod-eu.jwks" }}
"#,
            namespace = controller::NAMESPACE,
        );
        let setup = Setup { policy: POLICY.to_owned(), configuration, ..Setup::default() };
        let mut server = Server::prepare(&setup).await?;
        let keys =
            issuing.plane.client().await?.request_text(Request::get("/openid/v1/jwks").body(Vec::new())?).await?;
        fs::create_dir_all(server.path().join("clusters"))?;
        fs::write(server.path().join("clusters/prod-eu.jwks"), keys)?;
        server.serve().await?;
        server.end_with_this_process()?;
        let company = Self { issuing, server, http_port };
        company.make_issuer().await?;
        Ok(company)
    }

    /// The plane.
    #[must_use]
    pub fn plane(&self) -> &'static Plane {
        self.issuing.plane
    }

    async fn make_issuer(&self) -> Result<()> {
        let root = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "company-root" },
            "data": { "root.pem": fs::read_to_string(self.server.root_pem()?)? },
        });
        self.plane().apply_documents(controller::NAMESPACE, vec![root]).await?;
        self.issuing.approved_by_cert_manager("company").await?;
        self.make_issuers("cluster-issuer.yaml", &["company"]).await
    }

    /// Makes the issuers that istiod asks; returns once they are ready.
    pub async fn make_mesh_issuers(&self) -> Result<()> {
        self.make_issuers("istio-mesh.yaml", &["mesh", "istiod"]).await
    }

    /// Makes the cluster issuers of a file of `deploy/examples` ask this server; returns once they are ready.
    async fn make_issuers(&self, file: &str, names: &[&str]) -> Result<()> {
        let directory = self.server.directory();
        let url = directory.split("/acme/").next().ok_or("a directory without a URL")?.to_owned();
        let mut objects = example(file)?;
        for issuer in &mut objects {
            json_patch::merge(issuer, &json!({ "spec": { "urls": [url] } }));
        }
        self.plane().apply_documents(controller::NAMESPACE, objects).await?;
        let issuers = self.plane().objects("chancery.dev/v1", "ChanceryClusterIssuer", "").await?;
        for name in names {
            until(&issuers, name, until::condition("Ready", "True")).await?;
        }
        Ok(())
    }

    /// Applies a file of `deploy/examples` as it stands, but for what `change` does to each object, and makes its
    /// namespaces.
    pub async fn apply_example(&self, file: &str, change: impl Fn(&mut Value)) -> Result<()> {
        let mut objects = example(file)?;
        objects.iter_mut().for_each(change);
        let mut namespaces: Vec<Value> = objects
            .iter()
            .filter_map(|object| object.pointer("/metadata/namespace"))
            .map(|name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))
            .collect();
        namespaces.dedup();
        self.plane().apply_documents("default", namespaces).await?;
        self.plane().apply_documents("default", objects).await?;
        Ok(())
    }

    /// Waits until a Certificate is ready; its Secret then.
    pub async fn issued(&self, namespace: &str, certificate: &str) -> Result<Secret> {
        let certificates = self.plane().objects(CERT_MANAGER, "Certificate", namespace).await?;
        let ready = until(&certificates, certificate, until::condition("Ready", "True")).await?;
        self.secret_of(namespace, &ready).await
    }

    /// Has cert-manager renew a Certificate now, as `cmctl renew` does, and waits until its Secret holds another
    /// certificate.
    pub async fn renew(&self, namespace: &str, certificate: &str) -> Result<Secret> {
        let certificates = self.plane().objects(CERT_MANAGER, "Certificate", namespace).await?;
        let before = self.issued(namespace, certificate).await?;
        let issuing = json!({
            "apiVersion": CERT_MANAGER, "kind": "Certificate", "metadata": { "name": certificate },
            "status": { "conditions": [{
                "type": "Issuing", "status": "True", "reason": "ManuallyTriggered",
                "message": "Certificate re-issuance manually triggered",
                "lastTransitionTime": now(),
            }] },
        });
        // A condition of its own field manager: cert-manager's other ones stay.
        certificates.patch_status(certificate, &PatchParams::apply("renewal").force(), &Patch::Apply(&issuing)).await?;
        let secrets: Api<Secret> = Api::namespaced(self.plane().client().await?, namespace);
        let name = before.metadata.name.clone().unwrap_or_default();
        let old = chain(&before)?.to_vec();
        let another = move |secret: Option<&Secret>| {
            secret.and_then(|secret| chain(secret).ok()).is_some_and(|chain| !chain.is_empty() && chain != old)
        };
        until(&secrets, &name, another).await
    }

    async fn secret_of(&self, namespace: &str, certificate: &DynamicObject) -> Result<Secret> {
        let name = certificate.data.pointer("/spec/secretName").and_then(Value::as_str).ok_or("no secretName")?;
        Ok(Api::namespaced(self.plane().client().await?, namespace).get(name).await?)
    }
}

/// The objects of a file of `deploy/examples`.
pub fn example(file: &str) -> Result<Vec<Value>> {
    documents(&fs::read_to_string(deploy().join("examples").join(file))?)
}

/// The chain of a Secret of the type `kubernetes.io/tls`, as PEM.
pub fn chain(secret: &Secret) -> Result<&[u8]> {
    part(secret, "tls.crt")
}

/// The private key of such a Secret, as PEM.
pub fn key(secret: &Secret) -> Result<&[u8]> {
    part(secret, "tls.key")
}

fn part<'a>(secret: &'a Secret, name: &str) -> Result<&'a [u8]> {
    let bytes =
        secret.data.as_ref().and_then(|data| data.get(name)).ok_or_else(|| format!("a Secret without {name}"))?;
    Ok(&bytes.0)
}

#[expect(clippy::disallowed_methods, reason = "a condition holds the time of day")]
fn now() -> String {
    k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
