//! What is measured: a control plane, cert-manager with an issuer of its own kind, our server and our controller.

use std::{collections::BTreeMap, fs};

use chancery_cluster_tests::{CertManager, Options, Plane, Process, Programs, Result, controller, until};
use chancery_harness::server::{POLICY, Server, Setup};
use http::Request;
use serde_json::{Value, json};

/// The cluster's name at our server.
const CLUSTER: &str = "plane";
/// Our issuer's name.
const OURS: &str = "company";
/// The name of cert-manager's own issuer.
const THEIRS: &str = "yardstick";

/// See the module.
pub(crate) struct Site {
    pub(crate) plane: Plane,
    pub(crate) cert_manager: CertManager,
    pub(crate) server: Server,
    controller: Option<Process>,
    url: String,
    terms: usize,
}

/// An issuer that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Issuer {
    /// cert-manager's CA issuer, which signs in cert-manager's own process and stores nothing.
    CertManagersCa,
    /// Ours.
    Chancery,
}

impl Issuer {
    pub(crate) fn reference(self) -> Value {
        match self {
            Self::CertManagersCa => json!({ "group": "cert-manager.io", "kind": "ClusterIssuer", "name": THEIRS }),
            Self::Chancery => json!({ "group": "chancery.dev", "kind": "ChanceryClusterIssuer", "name": OURS }),
        }
    }
}

impl Site {
    /// Starts everything; `None` where this machine has no control plane.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let Some(programs) = Programs::find() else { return Ok(None) };
        let plane = Plane::start(programs).await?;
        // cert-manager's own approver approves for both, so that an approval costs both the same.
        let options =
            Options { approves: vec!["chanceryclusterissuers.chancery.dev/*".to_owned()], ..Options::default() };
        let cert_manager = CertManager::install(&plane, &options).await?;
        yardstick(&plane).await?;

        let rule = "  - name: cluster-names\n    allow: { names: [\"**.load.test\"] }\n    for: { cluster: plane }\n";
        let configuration = format!(
            "\n[limits]\nrequests_per_credential_per_second = 10000\n\n\
             [[cluster]]\nname = \"{CLUSTER}\"\nauthority = \"issuing\"\nprofiles = [\"server\"]\n"
        );
        let setup = Setup { policy: format!("{POLICY}{rule}"), configuration, ..Setup::default() };
        let mut server = Server::prepare(&setup).await?;
        server.serve().await?;
        server.end_with_this_process()?;

        controller::give_rights(&plane).await?;
        plane.apply_files(controller::NAMESPACE, &controller::definitions()).await?;
        controller::may_read_credentials(&plane, controller::NAMESPACE).await?;
        let url = server.directory().split("/acme/").next().ok_or("no URL")?.to_owned();
        let mut site = Self { plane, cert_manager, server, controller: None, url, terms: 0 };
        site.start_controller().await?;
        site.our_issuer().await?;
        Ok(Some(site))
    }

    async fn our_issuer(&self) -> Result<()> {
        let made = self.server.json(&["cluster", "token", "create", CLUSTER]).await?;
        let token = made.pointer("/secret").and_then(Value::as_str).ok_or("no secret")?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": OURS }, "stringData": { "token": token },
        });
        let root = fs::read_to_string(self.server.root_pem()?)?;
        let mut issuer = controller::issuer("ChanceryClusterIssuer", OURS, &self.url, &root);
        if let Some(spec) = issuer.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("profile".to_owned(), json!("server"));
            spec.insert("rateLimit".to_owned(), json!({ "requestsPerSecond": 10_000 }));
        }
        self.plane.apply_documents(controller::NAMESPACE, vec![secret, issuer]).await?;
        let issuers = self.plane.objects("chancery.dev/v1", "ChanceryClusterIssuer", "").await?;
        until(&issuers, OURS, until::condition("Ready", "True")).await?;
        Ok(())
    }

    /// Starts our controller, and waits until it leads.
    pub(crate) async fn start_controller(&mut self) -> Result<()> {
        self.terms += 1;
        let identity = format!("load-{}", self.terms);
        let started =
            controller::start(&self.plane, &identity, &["--listen", "127.0.0.1:0", "--allowed-server", &self.url])
                .await?;
        started.until_it_prints(|line| line.contains("serving CertificateRequests")).await?;
        self.controller = Some(started);
        Ok(())
    }

    /// Ends our controller as an operator would, so that the next one need not wait for its Lease.
    pub(crate) async fn stop_controller(&mut self) -> Result<()> {
        self.controller.take().ok_or("the controller does not run")?.stop().await
    }

    /// The controller's process.
    pub(crate) fn controller(&self) -> Result<u32> {
        Ok(self.controller.as_ref().ok_or("the controller does not run")?.id())
    }

    /// The server's process.
    pub(crate) fn server(&self) -> Result<u32> {
        Ok(self.server.process().ok_or("the server does not run")?)
    }

    /// How many certificates our server has signed for a namespace.
    pub(crate) async fn signed(&self, namespace: &str) -> Result<usize> {
        let arguments = ["certificate", "list", "--cluster", CLUSTER, "--namespace", namespace, "--limit", "100000"];
        Ok(self.server.json(&arguments).await?.as_array().map_or(0, Vec::len))
    }

    /// The requests that the API server has answered so far, by what was asked: `PATCH certificaterequests/status`.
    pub(crate) async fn answered(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.plane.client().await?.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        let mut all = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
            let Some((labels, count)) = line.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let begin = format!("{name}=\"");
                labels.split(',').find_map(|one| one.strip_prefix(&begin)?.strip_suffix('"')).unwrap_or_default()
            };
            let (group, part) = (label("group"), label("subresource"));
            let slash = if part.is_empty() { "" } else { "/" };
            let key = format!("{} {}.{group}{slash}{part}", label("verb"), label("resource"));
            let count = count.trim().parse::<f64>()?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let count = count as u64;
            *all.entry(key).or_default() += count;
        }
        Ok(all)
    }
}

/// A root of its own and cert-manager's CA issuer with it.
async fn yardstick(plane: &Plane) -> Result<()> {
    let manifests = format!(
        r#"
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {{ name: self-signed }}
spec: {{ selfSigned: {{}} }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {{ name: {THEIRS} }}
spec:
  isCA: true
  commonName: Yardstick Root
  secretName: {THEIRS}
  privateKey: {{ algorithm: ECDSA, size: 256 }}
  issuerRef: {{ name: self-signed, kind: ClusterIssuer }}
---
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {{ name: {THEIRS} }}
spec: {{ ca: {{ secretName: {THEIRS} }} }}
"#
    );
    plane.apply_in(CertManager::NAMESPACE, &manifests).await?;
    let issuers = plane.objects("cert-manager.io/v1", "ClusterIssuer", "").await?;
    until(&issuers, THEIRS, until::condition("Ready", "True")).await?;
    Ok(())
}
