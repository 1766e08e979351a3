//! A real Istio on a plane: istiod, and ingress gateways as Istio runs them in pods, which are Istio's agent and an Envoy.

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
use tokio::{net::TcpStream, sync::OnceCell};

use crate::{Door, Plane, Process, Result, programs, until};

/// Where istiod lives, as its chart has it.
const NAMESPACE: &str = "istio-system";
/// The name that istiod's own certificate holds.
const ISTIOD: &str = "istiod.istio-system.svc";
/// What Istio's own build of Envoy has and others do not, switched off in what istiod configures; and deployments of
/// gateways, which would need nodes.
const OFF: [(&str, &str); 6] = [
    ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
    ("PILOT_ENABLE_TELEMETRY_LABEL", "false"),
    ("PILOT_ENDPOINT_TELEMETRY_LABEL", "false"),
    ("PILOT_ENABLE_ALPN_FILTER", "false"),
    ("PILOT_DISABLE_MX_ALPN", "true"),
    ("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", "false"),
];

/// istiod while it runs.
pub struct Istio {
    plane: &'static Plane,
    program: PathBuf,
    envoy: PathBuf,
    /// Where it configures Envoys and signs the agents' certificates.
    port: u16,
    // In the order in which they are dropped.
    _istiod: Process,
    _folder: TempDir,
}

static SHARED: OnceCell<std::result::Result<Istio, String>> = OnceCell::const_new();

impl Istio {
    /// The one that runs on the plane that all tests of this process share. `None` where this machine has none; that has
    /// been said then.
    pub async fn shared(plane: &'static Plane) -> Result<Option<&'static Self>> {
        let Some((program, envoy)) = programs::istio() else { return Ok(None) };
        let shared = SHARED
            .get_or_init(|| async { Self::start(plane, program, envoy).await.map_err(|error| error.to_string()) })
            .await;
        match shared {
            Ok(istio) => Ok(Some(istio)),
            Err(error) => Err(error.clone().into()),
        }
    }

    async fn start(plane: &'static Plane, program: PathBuf, envoy: PathBuf) -> Result<Self> {
        let (port, http) = (free_port().await?, free_port().await?);
        let mesh = json!({
            "trustDomain": "cluster.local", "rootNamespace": NAMESPACE,
            "defaultConfig": { "discoveryAddress": format!("127.0.0.1:{port}") },
        });
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        let mesh = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "istio" },
            "data": { "mesh": mesh.to_string(), "meshNetworks": json!({ "networks": {} }).to_string() },
        });
        plane.apply_documents(NAMESPACE, vec![namespace]).await?;
        plane.apply_files(NAMESPACE, &beside(&program, "crds")?).await?;
        plane.apply_documents(NAMESPACE, vec![mesh, only_on_loopback()]).await?;

        let folder = plane.scratch("istiod")?;
        let mut command = Command::new(&program);
        command
            .args(["pilot-discovery", "discovery", "--domain", "cluster.local", "--ctrlz_port", "0", "--kubeconfig"])
            .arg(plane.kubeconfig())
            .args(["--httpAddr", &format!("127.0.0.1:{http}"), "--secureGRPCAddr", &format!("127.0.0.1:{port}")])
            .args(["--grpcAddr", "127.0.0.1:0", "--httpsAddr", "127.0.0.1:0", "--monitoringAddr", "127.0.0.1:0"])
            // What it writes without being asked goes below its own folder.
            .current_dir(folder.path())
            .envs([("POD_NAME", "istiod"), ("POD_NAMESPACE", NAMESPACE)])
            .envs([("PILOT_CERT_PROVIDER", "istiod"), ("CLUSTER_ID", "Kubernetes")])
            .envs(OFF);
        let mut istiod = plane.run("istiod", command)?;
        istiod.until(async || is_ready(http, "/ready").await).await?;
        Ok(Self { plane, program, envoy, port, _istiod: istiod, _folder: folder })
    }

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
            // What the chart of the gateway gives it. A refusal would be remembered, so it comes first.
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": name },
                "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"] }],
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": name },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
                "subjects": [{ "kind": "ServiceAccount", "namespace": namespace, "name": name }],
            }),
        ];
        self.plane.apply_documents(namespace, made).await?;

        let folder = self.plane.scratch("gateway")?;
        self.mount(folder.path(), namespace, name).await?;
        // What Envoy begins with, but for the addresses of its own status and metrics.
        let bootstrap = folder.path().join("envoy_bootstrap.json");
        let template = fs::read_to_string(beside(&self.program, "envoy_bootstrap.json")?)?;
        fs::write(&bootstrap, template.replace("{{ .wildcard }}", "{{ .localhost }}"))?;
        let configuration = json!({
            "discoveryAddress": format!("127.0.0.1:{}", self.port),
            "binaryPath": self.envoy, "configPath": folder.path().join("etc"), "concurrency": 2,
            "statusPort": free_port().await?, "proxyAdminPort": free_port().await?,
        });
        let mut command = Command::new(&self.program);
        command
            .args(["pilot-agent", "proxy", "router", "--domain", &format!("{namespace}.svc.cluster.local")])
            .current_dir(folder.path())
            .env("POD_NAME", format!("{name}-0"))
            .env("POD_NAMESPACE", namespace)
            .env("SERVICE_ACCOUNT", name)
            .env("PROXY_CONFIG", configuration.to_string())
            .env("CA_ADDR", format!("127.0.0.1:{}", self.port))
            .env("ISTIO_BOOTSTRAP", bootstrap)
            .env("ISTIO_METAJSON_LABELS", labels.to_string())
            .env("ENVOY_STATUS_PORT", free_port().await?.to_string())
            .env("ENVOY_PROMETHEUS_PORT", free_port().await?.to_string())
            .envs([("ISTIOD_SAN", ISTIOD), ("TRUST_DOMAIN", "cluster.local"), ("INSTANCE_IP", "127.0.0.1")])
            .env("ISTIO_META_CLUSTER_ID", "Kubernetes");
        let agent = self.plane.run(&format!("{namespace}.{name}"), command)?;
        Ok(IngressGateway { agent, port, _folder: folder })
    }

    /// What a pod finds below its root: its token, and the root of istiod's certificate.
    async fn mount(&self, folder: &Path, namespace: &str, name: &str) -> Result<()> {
        let secrets = folder.join("var/run/secrets");
        fs::create_dir_all(secrets.join("tokens"))?;
        fs::create_dir_all(secrets.join("istio"))?;
        fs::write(secrets.join("tokens/istio-token"), self.plane.token(namespace, name, &["istio-ca"]).await?)?;
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

/// What `deploy/lib.sh` has put beside the program, out of Istio's modules.
fn beside(program: &Path, name: &str) -> Result<PathBuf> {
    let path = program.parent().map(|folder| folder.join(name)).filter(|path| path.exists());
    path.ok_or_else(|| format!("there is no {name} beside {}; tests/run makes both", program.display()).into())
}

/// A gateway listens on all addresses of its pod. Here that would be the whole machine's.
fn only_on_loopback() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": { "name": "only-on-loopback" },
        "spec": { "configPatches": [{
            "applyTo": "LISTENER", "match": { "context": "GATEWAY" },
            "patch": {
                "operation": "MERGE",
                "value": { "address": { "socket_address": { "address": "127.0.0.1" } } },
            },
        }] },
    })
}

async fn is_ready(port: u16, path: &str) -> bool {
    answered(port, path).await.is_ok_and(|status| status == 200)
}

async fn answered(port: u16, path: &str) -> Result<u16> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", "localhost").body(String::new())?;
    Ok(sender.send_request(request).await?.status().as_u16())
}
