//! What Istio runs in a pod: its agent, which gets the pod's certificate from istiod, and in a gateway an Envoy.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use chancery_harness::server::free_port;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{ISTIOD, Istio, beside, installed};
use crate::{Door, Process, Result, until};

/// What a pod is, and what it says that it is.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// The service account whose token it has.
    pub account: &'a str,
    /// The service account whose identity its agent asks for.
    pub claimed: &'a str,
}

impl Istio {
    /// Starts an ingress gateway in a namespace: the service account and the Service of this name, and what its pod would
    /// run. `labels` are the pod's. The Service's port 443 leads to it.
    pub async fn ingress_gateway(&self, namespace: &str, name: &str, labels: &Value) -> Result<IngressGateway> {
        let port = free_port().await?;
        let made = vec![
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
                "spec": { "selector": labels, "ports": [{ "name": "https", "port": 443, "targetPort": port }] },
            }),
        ];
        self.plane.apply_documents(namespace, made).await?;
        // A refusal would be remembered, so rights come before the agent.
        let rights = installed::rights_of_gateway(&self.program, namespace, name)?;
        self.plane.apply_documents(namespace, rights).await?;

        let folder = self.plane.scratch("gateway")?;
        // What Envoy begins with, but for the addresses of its own status and metrics.
        let bootstrap = folder.path().join("envoy_bootstrap.json");
        let template = fs::read_to_string(beside(&self.program, "envoy_bootstrap.json")?)?;
        fs::write(&bootstrap, template.replace("{{ .wildcard }}", "{{ .localhost }}"))?;
        let envoy = json!({
            "binaryPath": self.envoy, "configPath": folder.path().join("etc"), "concurrency": 2,
            "proxyAdminPort": free_port().await?,
        });
        let identity = Identity { namespace, account: name, claimed: name };
        let mut command = self.agent("router", identity, folder.path(), &envoy).await?;
        command
            .env("ISTIO_BOOTSTRAP", bootstrap)
            .env("ISTIO_METAJSON_LABELS", labels.to_string())
            .env("ENVOY_STATUS_PORT", free_port().await?.to_string())
            .env("ENVOY_PROMETHEUS_PORT", free_port().await?.to_string());
        let agent = self.plane.run(&format!("{namespace}.{name}"), command)?;
        Ok(IngressGateway { agent, port, _folder: folder })
    }

    /// Starts the agent of a pod of the mesh, without an Envoy: it keeps the pod's certificate in files.
    pub async fn workload(&self, identity: Identity<'_>) -> Result<Workload> {
        let folder = self.plane.scratch("workload")?;
        let certificates = folder.path().join("certificates");
        fs::create_dir(&certificates)?;
        let mut command = self.agent("sidecar", identity, folder.path(), &json!({})).await?;
        command.env("DISABLE_ENVOY", "true").env("OUTPUT_CERTS", &certificates);
        let agent = self.plane.run(&format!("{}.{}", identity.namespace, identity.account), command)?;
        Ok(Workload { agent, certificates, _folder: folder })
    }

    /// A command that starts an agent in a folder that has what a pod finds below its root.
    async fn agent(&self, role: &str, pod: Identity<'_>, folder: &Path, envoy: &Value) -> Result<Command> {
        let Identity { namespace, account, claimed } = pod;
        self.mount(folder, namespace, account).await?;
        let mut configuration = json!({
            "discoveryAddress": format!("127.0.0.1:{}", self.port), "statusPort": free_port().await?,
        });
        json_patch::merge(&mut configuration, envoy);
        let mut command = Command::new(&self.program);
        command
            .args(["pilot-agent", "proxy", role, "--domain", &format!("{namespace}.svc.cluster.local")])
            .current_dir(folder)
            .env("POD_NAME", format!("{account}-0"))
            .env("POD_NAMESPACE", namespace)
            .env("SERVICE_ACCOUNT", claimed)
            .env("PROXY_CONFIG", configuration.to_string())
            .envs([("ISTIOD_SAN", ISTIOD), ("TRUST_DOMAIN", "cluster.local"), ("INSTANCE_IP", "127.0.0.1")])
            .env("ISTIO_META_CLUSTER_ID", "Kubernetes");
        Ok(command)
    }

    /// What a pod finds below its root: its token, and the root that istiod publishes.
    async fn mount(&self, folder: &Path, namespace: &str, account: &str) -> Result<()> {
        let secrets = folder.join("var/run/secrets");
        fs::create_dir_all(secrets.join("tokens"))?;
        fs::create_dir_all(secrets.join("istio"))?;
        fs::write(secrets.join("tokens/istio-token"), self.plane.token(namespace, account, &["istio-ca"]).await?)?;
        let maps = Api::<ConfigMap>::namespaced(self.plane.client().await?, namespace);
        let map = until(&maps, "istio-ca-root-cert", until::there()).await?;
        let root =
            map.data.and_then(|data| data.get("root-cert.pem").cloned()).ok_or("an istio-ca-root-cert without one")?;
        fs::write(secrets.join("istio/root-cert.pem"), root)?;
        Ok(())
    }
}

/// An ingress gateway while it runs.
pub struct IngressGateway {
    agent: Process,
    port: u16,
    // Goes last.
    _folder: TempDir,
}

impl IngressGateway {
    /// Waits until it listens, which it does once istiod has given it a Gateway and its certificate.
    pub async fn until_it_listens(&mut self) -> Result<()> {
        let port = self.port;
        self.agent.until(async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()).await
    }

    /// Where it serves a host.
    #[must_use]
    pub fn door(&self, name: &str) -> Door {
        Door { name: name.to_owned(), address: (Ipv4Addr::LOCALHOST, self.port).into() }
    }
}

/// A pod's agent while it runs.
pub struct Workload {
    agent: Process,
    certificates: PathBuf,
    // Goes last.
    _folder: TempDir,
}

impl Workload {
    /// Its agent.
    #[must_use]
    pub const fn agent(&self) -> &Process {
        &self.agent
    }

    /// Waits until it has its certificate; the file with the chain, leaf first, and the file with the mesh's root.
    pub async fn until_certified(&mut self) -> Result<(PathBuf, PathBuf)> {
        let (chain, root) = (self.certificates.join("cert-chain.pem"), self.certificates.join("root-cert.pem"));
        // It writes each whole.
        self.agent.until(async || chain.is_file() && root.is_file()).await?;
        Ok((chain, root))
    }
}
