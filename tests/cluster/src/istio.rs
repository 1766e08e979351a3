//! A real Istio on a plane: istiod, and what Istio runs in pods, which is its agent and, in gateways, an Envoy.
//!
//! istiod signs nothing itself here. It is the company's registration authority, as `docs/operations/signers.md` has it:
//! with the values of `deploy/examples/values/istiod.yaml`, the rights that its own chart gives it and no others, and the
//! issuers of `deploy/examples/istio-mesh.yaml`.

mod agent;
mod installed;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use chancery_harness::server::free_port;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::OnceCell};

pub use self::agent::{Identity, IngressGateway, Workload};
use crate::{Company, Door, Plane, Process, Result, programs};

/// Where istiod lives, as its chart has it.
pub const NAMESPACE: &str = "istio-system";
/// The name that istiod's own certificate holds.
pub const ISTIOD: &str = "istiod.istio-system.svc";
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
    /// Where it configures Envoys and takes the agents' requests for certificates.
    port: u16,
    // In the order in which they are dropped.
    _istiod: Process,
    _folder: TempDir,
}

static SHARED: OnceCell<std::result::Result<Istio, String>> = OnceCell::const_new();

impl Istio {
    /// The one that runs on the plane that all tests of this process share, and asks that company. `None` where this
    /// machine has none; that has been said then.
    pub async fn shared(company: &'static Company) -> Result<Option<&'static Self>> {
        let Some((program, envoy)) = programs::istio() else { return Ok(None) };
        let shared = SHARED
            .get_or_init(|| async { Self::start(company, program, envoy).await.map_err(|error| error.to_string()) })
            .await;
        match shared {
            Ok(istio) => Ok(Some(istio)),
            Err(error) => Err(error.clone().into()),
        }
    }

    async fn start(company: &'static Company, program: PathBuf, envoy: PathBuf) -> Result<Self> {
        let plane = company.plane();
        let root = fs::read_to_string(company.server.root_pem()?)?;
        let installed = installed::istiod(&program, &root)?;
        // It asks for its own certificate before it listens.
        company.make_mesh_issuers().await?;
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        plane.apply_documents(NAMESPACE, vec![namespace]).await?;
        plane.apply_files(NAMESPACE, &beside(&program, "crds")?).await?;
        plane.apply_documents(NAMESPACE, installed.objects).await?;
        plane.apply_documents(NAMESPACE, vec![only_on_loopback()]).await?;

        let folder = plane.scratch("istiod")?;
        // What the values mount there.
        let mounted = folder.path().join("etc/external-ca-cert");
        fs::create_dir_all(&mounted)?;
        fs::write(mounted.join("root-cert.pem"), root)?;
        let (port, http) = (free_port().await?, free_port().await?);
        let mut command = Command::new(&program);
        command
            .args(["pilot-discovery", "discovery", "--domain", "cluster.local", "--ctrlz_port", "0", "--kubeconfig"])
            .arg(plane.kubeconfig_of_service_account(NAMESPACE, "istiod").await?)
            .args(["--httpAddr", &format!("127.0.0.1:{http}"), "--secureGRPCAddr", &format!("127.0.0.1:{port}")])
            .args(["--grpcAddr", "127.0.0.1:0", "--httpsAddr", "127.0.0.1:0", "--monitoringAddr", "127.0.0.1:0"])
            // What it writes without being asked goes below its own folder.
            .current_dir(folder.path())
            .envs(installed.environment)
            .envs([("POD_NAME", "istiod"), ("POD_NAMESPACE", NAMESPACE), ("SERVICE_ACCOUNT", "istiod")]);
        let mut istiod = plane.run("istiod", command)?;
        istiod.until(async || is_ready(http, "/ready").await).await?;
        Ok(Self { plane, program, envoy, port, _istiod: istiod, _folder: folder })
    }

    /// Where it serves its own certificate.
    #[must_use]
    pub fn door(&self) -> Door {
        Door { name: ISTIOD.to_owned(), address: (Ipv4Addr::LOCALHOST, self.port).into() }
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
