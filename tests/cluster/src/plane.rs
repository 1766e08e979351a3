//! etcd, kube-apiserver and kube-controller-manager as processes of this machine.

use std::{fs, path::PathBuf, process::Command, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chancery_harness::server::free_port;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::{client::legacy, rt::TokioExecutor};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::{Api, ResourceExt as _, api::PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{
    Result,
    authority::Authority,
    guard::Guard,
    identity,
    process::Process,
    programs::{Program, Programs, skipped},
    until,
};

/// The controllers that matter without nodes: what makes and clears namespaces, collects what is owned, adds up roles,
/// and tidies requests for certificates.
const CONTROLLERS: &str = "namespace-controller,serviceaccount-controller,serviceaccount-token-controller,\
    garbage-collector-controller,clusterrole-aggregation-controller,root-ca-certificate-publisher-controller,\
    certificatesigningrequest-cleaner-controller,podcertificaterequest-cleaner-controller";

/// A control plane. Dropping it ends its processes and removes its folder.
pub struct Plane {
    // In the order in which they are dropped.
    controller_manager: Option<Process>,
    api_server: Process,
    etcd: Process,
    programs: Programs,
    authority: Authority,
    administrator: Value,
    etcd_port: u16,
    port: u16,
    /// What the API server is told beside the usual.
    flags: Vec<String>,
    guard: Arc<Guard>,
    folder: TempDir,
}

static SHARED: OnceCell<std::result::Result<Option<Plane>, String>> = OnceCell::const_new();

impl Plane {
    /// The plane that all tests of this process share, started by the first that asks. `None` where this machine has no
    /// control plane; that has been said then.
    pub async fn shared() -> Result<Option<&'static Self>> {
        let shared = SHARED.get_or_init(|| async {
            let Some(programs) = Programs::find() else { return Ok(None) };
            Self::start(programs).await.map(Some).map_err(|error| error.to_string())
        });
        match shared.await {
            Ok(Some(plane)) => Ok(Some(plane)),
            Ok(None) => {
                skipped(
                    "there is no Kubernetes control plane on this machine (tests/run builds one where there is Go; \
                     KUBEBUILDER_ASSETS or CHANCERY_KUBE names another)",
                );
                Ok(None)
            }
            Err(error) => Err(error.clone().into()),
        }
    }

    /// Starts a plane of one's own.
    pub async fn start(programs: Programs) -> Result<Self> {
        Self::start_with(programs, &[]).await
    }

    /// The same with an API server that is told this, too.
    pub async fn start_with(programs: Programs, flags: &[&str]) -> Result<Self> {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let folder = tempfile::Builder::new().prefix("chancery-plane.").tempdir()?;
        let guard = Arc::new(Guard::over(folder.path())?);
        let authority = Authority::create(folder.path())?;
        let (etcd_port, port) = (free_port().await?, free_port().await?);

        let etcd = start_etcd(&guard, &programs.etcd, &authority, etcd_port)?;
        let api_server = start_api_server(&guard, &programs.api_server, &authority, (etcd_port, port), &flags)?;
        let mut plane = Self {
            controller_manager: None,
            api_server,
            etcd,
            programs,
            authority,
            administrator: Value::Null,
            etcd_port,
            port,
            flags,
            guard,
            folder,
        };
        plane.administrator = plane.kubeconfig_of_pair(&plane.authority.user("administrator", &["system:masters"])?);
        fs::write(plane.kubeconfig(), serde_json::to_vec(&plane.administrator)?)?;
        plane.until_ready().await?;
        plane.start_controller_manager()?;
        Ok(plane)
    }

    /// Where the API server is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate that clients of the API server trust, as PEM.
    #[must_use]
    pub fn ca(&self) -> String {
        self.authority.certificate()
    }

    /// etcd.
    #[must_use]
    pub fn etcd(&self) -> &Process {
        &self.etcd
    }

    /// The API server.
    #[must_use]
    pub fn api_server(&self) -> &Process {
        &self.api_server
    }

    /// The controller manager; envtest's binaries have none.
    #[must_use]
    pub fn controller_manager(&self) -> Option<&Process> {
        self.controller_manager.as_ref()
    }

    /// The minor version of the API server: 37 of 1.37.
    pub async fn minor_version(&self) -> Result<u32> {
        let version = self.client().await?.apiserver_version().await?;
        Ok(version.minor.trim_end_matches('+').parse()?)
    }

    /// Makes a namespace with a name of its own that begins like this, and waits until the controller manager has filled
    /// it.
    pub async fn namespace(&self, beginning: &str) -> Result<String> {
        let client = self.client().await?;
        let namespace: Namespace = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "generateName": format!("{beginning}-") },
        }))?;
        let name = Api::all(client.clone()).create(&PostParams::default(), &namespace).await?.name_any();
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &name);
        let maps = Api::<ConfigMap>::namespaced(client, &name);
        if self.controller_manager.is_none() {
            let account = json!({ "metadata": { "name": "default" } });
            accounts.create(&PostParams::default(), &serde_json::from_value(account)?).await?;
            let map = json!({ "metadata": { "name": "kube-root-ca.crt" }, "data": { "ca.crt": self.ca() } });
            maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
        }
        until(&accounts, "default", until::there()).await?;
        until(&maps, "kube-root-ca.crt", until::there()).await?;
        Ok(name)
    }

    /// Kills the API server, as a node that fails does; every watch ends. Told to end it would take as long as its
    /// clients keep their connections.
    pub fn kill_api_server(&mut self) {
        self.api_server.kill();
    }

    /// Has etcd forget how everything came to be: who watches on from an earlier version is told that it is gone (410).
    pub async fn compact(&self) -> Result<()> {
        // Whoever has seen the last change has missed nothing; two more, and he has.
        for change in ["one", "two"] {
            self.ask_etcd("put", &json!({ "key": STANDARD.encode("tests"), "value": STANDARD.encode(change) })).await?;
        }
        let range = self.ask_etcd("range", &json!({ "key": STANDARD.encode("/") })).await?;
        let revision = range.pointer("/header/revision").cloned().ok_or("etcd names no revision")?;
        self.ask_etcd("compaction", &json!({ "revision": revision, "physical": true })).await?;
        Ok(())
    }

    /// etcd's own gateway from JSON to what it speaks.
    async fn ask_etcd(&self, what: &str, body: &Value) -> Result<Value> {
        let client = legacy::Client::builder(TokioExecutor::new()).build_http();
        let request = Request::post(format!("http://127.0.0.1:{}/v3/kv/{what}", self.etcd_port))
            .body(Full::new(Bytes::from(serde_json::to_vec(body)?)))?;
        let answer = client.request(request).await?;
        let status = answer.status();
        let octets = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(format!("etcd answers {status} to {what}: {}", String::from_utf8_lossy(&octets)).into());
        }
        Ok(serde_json::from_slice(&octets)?)
    }

    /// Starts the API server again, where it was and on what etcd holds; returns once it is ready.
    pub async fn start_api_server(&mut self) -> Result<()> {
        self.api_server.kill();
        let (program, ports) = (&self.programs.api_server, (self.etcd_port, self.port));
        self.api_server = start_api_server(&self.guard, program, &self.authority, ports, &self.flags)?;
        self.until_ready().await
    }

    pub(crate) fn administrator(&self) -> &Value {
        &self.administrator
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A folder that goes with the plane, if not before.
    pub(crate) fn scratch(&self, beginning: &str) -> Result<TempDir> {
        Ok(tempfile::Builder::new().prefix(&format!("{beginning}.")).tempdir_in(self.folder.path())?)
    }

    /// Starts another program of this plane.
    pub(crate) fn run(&self, name: &str, mut command: Command) -> Result<Process> {
        // What it leaves behind goes with the plane.
        command.env("TMPDIR", self.folder.path());
        Process::start(&self.guard, name, command, self.folder.path().join(format!("{name}.log")))
    }

    /// A folder of this name for what one of its programs keeps; it goes with the plane.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    async fn until_ready(&mut self) -> Result<()> {
        let client = identity::client(self.administrator.clone()).await?;
        let ready = async || {
            let Ok(request) = Request::get("/readyz").body(Vec::new()) else { return false };
            client.request_text(request).await.is_ok_and(|answer| answer == "ok")
        };
        let Err(error) = self.api_server.until(ready).await else { return Ok(()) };
        // Without etcd the API server ends, too, and speaks of deadlines.
        Err(self.etcd.ended()?.map_or(error, Into::into))
    }

    fn start_controller_manager(&mut self) -> Result<()> {
        let Some(program) = &self.programs.controller_manager else { return Ok(()) };
        let mut command = program.command();
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg(format!("--controllers={CONTROLLERS}"))
            .arg("--service-account-private-key-file")
            .arg(self.authority.file("service-accounts.key"))
            .arg("--root-ca-file")
            .arg(self.authority.file("ca.crt"))
            .args(["--leader-elect=false", "--secure-port=0"]);
        self.controller_manager = Some(self.run("kube-controller-manager", command)?);
        Ok(())
    }
}

fn start_etcd(guard: &Arc<Guard>, program: &Program, authority: &Authority, port: u16) -> Result<Process> {
    let url = format!("http://127.0.0.1:{port}");
    let mut command = program.command();
    command
        .arg("--data-dir")
        .arg(authority.file("etcd"))
        // Nobody cuts the power of a test's cluster.
        .arg("--unsafe-no-fsync")
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", "http://127.0.0.1:0", "--log-level", "warn"]);
    Process::start(guard, "etcd", command, authority.file("etcd.log"))
}

fn start_api_server(
    guard: &Arc<Guard>,
    program: &Program,
    authority: &Authority,
    (etcd_port, port): (u16, u16),
    flags: &[String],
) -> Result<Process> {
    let mut command = program.command();
    command
        .args(flags)
        .args(["--etcd-servers", &format!("http://127.0.0.1:{etcd_port}")])
        .args(["--bind-address", "127.0.0.1", "--secure-port", &port.to_string()])
        .args(["--service-cluster-ip-range", "10.0.0.0/24", "--authorization-mode", "RBAC"])
        // Pods get no tokens mounted: there are no nodes to run them.
        .args(["--disable-admission-plugins", "ServiceAccount"])
        .args(["--service-account-issuer", "https://kubernetes.default.svc"])
        .args(["--allow-privileged=true", "--profiling=false"]);
    for (flag, file) in [
        ("--tls-cert-file", "apiserver.crt"),
        ("--tls-private-key-file", "apiserver.key"),
        ("--client-ca-file", "ca.crt"),
        ("--service-account-key-file", "service-accounts.pub"),
        ("--service-account-signing-key-file", "service-accounts.key"),
    ] {
        command.arg(flag).arg(authority.file(file));
    }
    Process::start(guard, "kube-apiserver", command, authority.file("kube-apiserver.log"))
}
