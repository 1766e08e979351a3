//! The controller as a process, with the rights that `deploy/issuer-rbac.yaml` gives it and no others.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::events::v1::Event;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use tokio::sync::{OnceCell, RwLock};

use crate::{CertManager, Plane, Process, RealServer, Result, SigningServer, documents, until};

/// Where the controller lives.
pub const NAMESPACE: &str = "chancery-system";
/// Everything that can be switched on.
pub const FEATURES: &str =
    "certificate-signing-requests,pod-certificate-requests,cluster-trust-bundles,root-config-maps";
/// Its service account.
const ACCOUNT: &str = "chancery-issuer";

/// cert-manager and our controller on the shared plane.
pub struct Issuing {
    /// The plane.
    pub plane: &'static Plane,
    /// The controller that serves all tests. Whoever kills it takes it for writing, and starts it again; a test that
    /// needs it to see each moment, such as a deletion, takes it for reading as long.
    pub controller: RwLock<Process>,
    /// The server that does as it is told and that issuers of a namespace may name. It knows the token `allowed`.
    pub allowed: SigningServer,
    /// The real server; issuers of a namespace may name it, too.
    pub real: &'static RealServer,
}

static SHARED: OnceCell<std::result::Result<Option<Issuing>, String>> = OnceCell::const_new();

impl Issuing {
    /// What all tests of this process share. `None` where this machine cannot have it; that has been said then.
    pub async fn shared() -> Result<Option<&'static Self>> {
        let Some(plane) = Plane::shared().await? else { return Ok(None) };
        let Some(_) = CertManager::shared(plane).await? else { return Ok(None) };
        let shared =
            SHARED.get_or_init(|| async { Self::start(plane).await.map(Some).map_err(|error| error.to_string()) });
        match shared.await {
            Ok(shared) => Ok(shared.as_ref()),
            Err(error) => Err(error.clone().into()),
        }
    }

    async fn start(plane: &'static Plane) -> Result<Self> {
        let allowed = SigningServer::start("allowed")?;
        give_rights(plane).await?;
        plane.apply_files(NAMESPACE, &definitions()).await?;
        let real = RealServer::shared(plane).await?;
        let first = controller(plane, &[&allowed.url(), &real.url()], "first").await?;
        let issuing = Self { plane, controller: RwLock::new(first), allowed, real };
        issuing.may_read_credentials(NAMESPACE).await?;
        issuing.controller.read().await.until_it_prints(|line| line.contains("serving CertificateRequests")).await?;
        Ok(issuing)
    }

    /// Lets the controller read what the issuers of a namespace refer to.
    pub async fn may_read_credentials(&self, namespace: &str) -> Result<()> {
        may_read_credentials(self.plane, namespace).await
    }

    /// One more controller, of the same lease.
    pub async fn another_controller(&self, identity: &str) -> Result<Process> {
        controller(self.plane, &[&self.allowed.url(), &self.real.url()], identity).await
    }

    /// A Secret with a token, and a cluster issuer of this name that asks a server with it.
    pub async fn cluster_issuer(&self, name: &str, server: &SigningServer, token: &str) -> Result<()> {
        self.token(NAMESPACE, name, token).await?;
        let mut issuer = issuer("ChanceryClusterIssuer", name, &server.url(), &server.root());
        if let Some(spec) = issuer.get_mut("spec").and_then(serde_json::Value::as_object_mut) {
            spec.insert("checkInterval".to_owned(), json!("10s"));
        }
        self.plane.apply_documents(NAMESPACE, vec![issuer]).await?;
        Ok(())
    }

    /// The same, and it is ready.
    pub async fn ready_cluster_issuer(&self, name: &str, server: &SigningServer) -> Result<()> {
        self.cluster_issuer(name, server, "token").await?;
        let issuers = self.plane.objects("chancery.dev/v1", "ChanceryClusterIssuer", NAMESPACE).await?;
        until(&issuers, name, until::condition("Ready", "True")).await?;
        Ok(())
    }

    /// Lets cert-manager approve what refers to this cluster issuer; nobody approves for the others but the tests.
    pub async fn approved_by_cert_manager(&self, name: &str) -> Result<()> {
        let signer = format!("chanceryclusterissuers.chancery.dev/{name}");
        self.may_approve(&signer, "cert-manager", "cert-manager").await
    }

    /// Lets a service account approve and deny what refers to these signers, written as cert-manager's webhook looks them
    /// up: `KINDS.GROUP/NAME`, `KINDS.GROUP/NAMESPACE.NAME` or `KINDS.GROUP/*`.
    pub async fn may_approve(&self, signer: &str, namespace: &str, account: &str) -> Result<()> {
        let role = format!("approve:{namespace}.{account}:{}", signer.replace(['/', '*'], ":"));
        let documents = [
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": role },
                "rules": [{
                    "apiGroups": ["cert-manager.io"], "resources": ["signers"], "verbs": ["approve"],
                    "resourceNames": [signer],
                }],
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": role },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
                "subjects": [{ "kind": "ServiceAccount", "namespace": namespace, "name": account }],
            }),
        ];
        self.plane.apply_documents(NAMESPACE, documents.to_vec()).await?;
        Ok(())
    }

    /// Writes a token into a Secret.
    pub async fn token(&self, namespace: &str, name: &str, token: &str) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": namespace },
            "stringData": { "token": token },
        });
        self.plane.apply_documents(namespace, vec![secret]).await?;
        Ok(())
    }
}

/// An issuer that takes the token out of the Secret of its own name.
#[must_use]
pub fn issuer(kind: &str, name: &str, url: &str, root: &str) -> serde_json::Value {
    json!({
        "apiVersion": "chancery.dev/v1", "kind": kind, "metadata": { "name": name },
        "spec": {
            "urls": [url],
            "caBundle": { "inline": root },
            "credentials": { "tokenSecretRef": { "name": name } },
        },
    })
}

/// Our custom resource definitions.
#[must_use]
pub fn definitions() -> PathBuf {
    deploy().join("crds/chancery-issuer.yaml")
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// Makes the controller's namespace, and the roles that `deploy/issuer-rbac.yaml` has for it.
pub async fn give_rights(plane: &Plane) -> Result<()> {
    give_these_rights(plane, roles()?).await
}

/// The roles that `deploy/issuer-rbac.yaml` has.
pub fn roles() -> Result<Vec<serde_json::Value>> {
    documents(&fs::read_to_string(deploy().join("issuer-rbac.yaml"))?)
}

/// The same with roles that a test has changed.
pub async fn give_these_rights(plane: &Plane, roles: Vec<serde_json::Value>) -> Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    plane.apply_documents(NAMESPACE, vec![namespace]).await?;
    plane.apply_documents(NAMESPACE, roles).await?;
    let documents = vec![
        binding("ClusterRoleBinding", "chancery-issuer", ""),
        binding("ClusterRoleBinding", "chancery-issuer-signing-requests", ""),
        binding("ClusterRoleBinding", "chancery-issuer-pod-certificates", ""),
        binding("ClusterRoleBinding", "chancery-issuer-trust-bundles", ""),
        binding("ClusterRoleBinding", "chancery-issuer-root-config-maps", ""),
        binding("RoleBinding", "chancery-issuer-leader", NAMESPACE),
    ];
    plane.apply_documents(NAMESPACE, documents).await?;
    Ok(())
}

/// Lets the controller read what the issuers of a namespace refer to.
pub async fn may_read_credentials(plane: &Plane, namespace: &str) -> Result<()> {
    let documents = vec![binding("RoleBinding", "chancery-issuer-credentials", namespace)];
    plane.apply_documents(namespace, documents).await?;
    Ok(())
}

fn binding(kind: &str, role: &str, namespace: &str) -> serde_json::Value {
    let mut metadata = json!({ "name": role });
    if let (false, Some(metadata)) = (namespace.is_empty(), metadata.as_object_mut()) {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "kind": "ServiceAccount", "namespace": NAMESPACE, "name": ACCOUNT }],
    })
}

async fn controller(plane: &Plane, allowed: &[&str], identity: &str) -> Result<Process> {
    let allowed = allowed.join(",");
    let arguments = ["--listen", "127.0.0.1:0", "--feature", FEATURES, "--allowed-server", &allowed];
    start(plane, identity, &arguments).await
}

/// Starts a controller with these arguments beside the usual ones.
pub async fn start(plane: &Plane, identity: &str, arguments: &[&str]) -> Result<Process> {
    prepare(plane, identity, arguments).await?.start(plane)
}

/// A controller that can be started while the API server does not answer.
pub struct Prepared {
    name: String,
    command: Command,
}

impl Prepared {
    /// Starts it.
    pub fn start(self, plane: &Plane) -> Result<Process> {
        plane.run(&self.name, self.command)
    }
}

/// Prepares a controller: its token comes from the API server.
pub async fn prepare(plane: &Plane, identity: &str, arguments: &[&str]) -> Result<Prepared> {
    let mut command = Command::new(binary()?);
    command
        .arg("run")
        .args(["--namespace", NAMESPACE, "--identity", identity, "--allow-address", "127.0.0.0/8"])
        .args(["--fixed-host", "localhost=127.0.0.1", "--log-level", "info"])
        .args(arguments)
        .env("KUBECONFIG", plane.kubeconfig_of_service_account(NAMESPACE, ACCOUNT).await?);
    Ok(Prepared { name: format!("chancery-issuer-{identity}"), command })
}

/// Whether the controller has ever written to an object.
pub fn touched(object: &impl ResourceExt) -> bool {
    object.managed_fields().iter().any(|entry| entry.manager.as_deref() == Some("chancery-issuer"))
}

/// Whether an event is one that the controller has written about the object with this UID.
#[must_use]
pub fn tells(event: &Event, uid: &str) -> bool {
    event.reporting_controller.as_deref() == Some("chancery.dev/issuer")
        && event.regarding.as_ref().is_some_and(|about| about.uid.as_deref() == Some(uid))
}

/// The reasons of the events that the controller has written about an object.
pub async fn reasons_told(plane: &Plane, uid: &str) -> Result<Vec<String>> {
    let events: Api<Event> = Api::all(plane.client().await?);
    let all = events.list(&ListParams::default()).await?.items.into_iter();
    Ok(all.filter(|event| tells(event, uid)).filter_map(|event| event.reason).collect())
}

/// The binary under test: `CHANCERY_ISSUER_BIN`, else the one that was built beside this test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CHANCERY_ISSUER_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let built = own.ancestors().skip(1).map(|folder| folder.join("chancery-issuer")).find(|path| path.is_file());
    built.ok_or_else(|| "there is no chancery-issuer beside the tests: cargo build --workspace makes it".into())
}
