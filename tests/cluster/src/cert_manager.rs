//! cert-manager on a plane: its kinds, roles and webhook configurations from its own chart, its controllers and its
//! webhook under the service accounts that the chart makes.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chancery_harness::server::free_port;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

use crate::{
    NameServer, Plane, Result,
    chart::render,
    process::Process,
    programs::{self, skipped},
};

/// Where it is installed, as its chart has it.
const NAMESPACE: &str = CertManager::NAMESPACE;
/// How long the API server may take to ask a webhook that has been registered.
const REGISTERED: Duration = Duration::from_secs(30);
/// The chart's objects that are not pods and what surrounds them.
const KINDS: [&str; 8] = [
    "CustomResourceDefinition",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
];

/// A Certificate's `privateKey` for tests that count its revisions: the key stays. Where each renewal makes a new one,
/// cert-manager 1.21 may see its own new revision before the Secret of it, finds "a private key that does not match the
/// current CertificateRequest" there, and renews once more.
#[must_use]
pub fn kept_key() -> Value {
    json!({ "algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never" })
}

/// How cert-manager is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long it waits after the first request that failed. cert-manager's own value is an hour.
    pub minimum_backoff: Duration,
    /// How long it waits at most after a request that failed. cert-manager's own value is 32 hours.
    pub maximum_backoff: Duration,
    /// Whether the Gateway API's kinds are installed and gateway-shim runs, for Gateways and for ListenerSets.
    pub gateway_api: bool,
    /// Signers that cert-manager may approve requests for, beside its own: `KINDS.GROUP/*` (its chart's
    /// `approveSignerNames`).
    pub approves: Vec<String>,
    /// Name servers (`ADDRESS:PORT`) that tell whether a dns-01 record is there; no other is asked then.
    pub name_servers: Vec<String>,
    /// Its controllers' feature gates, as `NAME=true,NAME=false`.
    pub feature_gates: String,
}

impl Default for Options {
    /// What failed is tried again after a second, and everything that needs no pods is on.
    fn default() -> Self {
        Self {
            minimum_backoff: Duration::from_secs(1),
            maximum_backoff: Duration::from_secs(8),
            gateway_api: true,
            approves: Vec::new(),
            name_servers: Vec::new(),
            feature_gates: "ListenerSets=true".to_owned(),
        }
    }
}

/// cert-manager while it runs. Dropping it ends its processes and leaves what it installed.
pub struct CertManager {
    controllers: Process,
    webhook: Process,
}

static SHARED: OnceCell<std::result::Result<Option<CertManager>, String>> = OnceCell::const_new();

impl CertManager {
    /// Where it is installed, as its chart has it; issuers of the whole cluster have their Secrets there.
    pub const NAMESPACE: &str = "cert-manager";

    /// The one that runs on the plane that all tests of this process share, with [`Options::default`] and, where there is
    /// one, the real name server; it asks for renewal information (RFC 9773). `None` where this machine has no cert-manager; that has been said then.
    pub async fn shared(plane: &'static Plane) -> Result<Option<&'static Self>> {
        let shared = SHARED.get_or_init(|| async {
            if programs::cert_manager().is_none() || programs::helm().is_none() {
                return Ok(None);
            }
            Self::install_shared(plane).await.map(Some).map_err(|error| error.to_string())
        });
        match shared.await {
            Ok(Some(cert_manager)) => Ok(Some(cert_manager)),
            Ok(None) => {
                skipped(
                    "there is no cert-manager, or no Helm to render its chart, on this machine (tests/run builds both \
                     where there is Go; CHANCERY_CERT_MANAGER and CHANCERY_HELM name others)",
                );
                Ok(None)
            }
            Err(error) => Err(error.clone().into()),
        }
    }

    async fn install_shared(plane: &'static Plane) -> Result<Self> {
        let mut options = Options::default();
        options.feature_gates.push_str(",ACMEUseARI=true");
        if let Some(server) = NameServer::shared(plane).await? {
            options.name_servers.push(server.address().to_string());
        }
        Self::install(plane, &options).await
    }

    /// Installs cert-manager and starts it; returns once its webhook is asked and its caches are filled.
    pub async fn install(plane: &Plane, options: &Options) -> Result<Self> {
        let program = programs::cert_manager().ok_or("there is no cert-manager on this machine")?;
        let port = free_port().await?;
        let (webhooks, others): (Vec<_>, Vec<_>) = chart(&program, options, port)?
            .into_iter()
            .partition(|object| kind(object).ends_with("WebhookConfiguration"));
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        plane.apply_documents(NAMESPACE, vec![namespace]).await?;
        plane.apply_documents(NAMESPACE, others).await?;
        if options.gateway_api {
            plane.apply_files(NAMESPACE, &beside(&program, "gateway-api")?).await?;
        }
        let webhook = start_webhook(plane, &program, port).await?;
        plane.apply_documents(NAMESPACE, webhooks.into_iter().map(|object| trusting(plane, object)).collect()).await?;
        until_asked(plane).await?;
        let mut cert_manager = Self { controllers: start_controllers(plane, &program, options).await?, webhook };
        cert_manager.controllers.until_printed("ready").await?;
        Ok(cert_manager)
    }

    /// Its controllers.
    #[must_use]
    pub fn controllers(&self) -> &Process {
        &self.controllers
    }

    /// Its webhook.
    #[must_use]
    pub fn webhook(&self) -> &Process {
        &self.webhook
    }
}

/// What its chart makes, as Helm renders it.
fn chart(program: &Path, options: &Options, port: u16) -> Result<Vec<Value>> {
    let mut signers = vec!["issuers.cert-manager.io/*".to_owned(), "clusterissuers.cert-manager.io/*".to_owned()];
    signers.extend(options.approves.iter().cloned());
    let values = json!({
        "crds": { "enabled": true },
        "webhook": { "url": { "host": format!("127.0.0.1:{port}") } },
        "approveSignerNames": signers,
        "startupapicheck": { "enabled": false },
        "cainjector": { "enabled": false },
    });
    let mut objects = render(&beside(program, "chart")?, "cert-manager", NAMESPACE, &values)?;
    objects.retain(|object| KINDS.contains(&kind(object)));
    Ok(objects)
}

/// What `deploy/lib.sh` has put beside the program, out of cert-manager's modules.
fn beside(program: &Path, name: &str) -> Result<PathBuf> {
    let path = program.parent().map(|folder| folder.join(name)).filter(|path| path.exists());
    path.ok_or_else(|| format!("there is no {name} beside {}; tests/run makes both", program.display()).into())
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// Has the API server trust the webhook, as cert-manager's cainjector would.
fn trusting(plane: &Plane, mut configuration: Value) -> Value {
    let webhooks = configuration.get_mut("webhooks").and_then(Value::as_array_mut);
    for webhook in webhooks.into_iter().flatten() {
        if let Some(how) = webhook.get_mut("clientConfig").and_then(Value::as_object_mut) {
            how.insert("caBundle".to_owned(), STANDARD.encode(plane.ca()).into());
        }
    }
    configuration
}

async fn start_webhook(plane: &Plane, program: &Path, port: u16) -> Result<Process> {
    let pair = plane.authority().server("cert-manager-webhook", &[])?;
    let (certificate, key) = plane.authority().write("cert-manager-webhook", &pair)?;
    let mut command = Command::new(program);
    command
        .args(["webhook", "--secure-port", &port.to_string(), "--kubeconfig"])
        .arg(plane.kubeconfig_of_service_account(NAMESPACE, "cert-manager-webhook").await?)
        .arg("--tls-cert-file")
        .arg(certificate)
        .arg("--tls-private-key-file")
        .arg(key);
    let mut webhook = plane.run("cert-manager-webhook", command)?;
    webhook.until_printed("ready").await?;
    Ok(webhook)
}

async fn start_controllers(plane: &Plane, program: &Path, options: &Options) -> Result<Process> {
    let mut command = Command::new(program);
    command
        .args(["controllers", "--kubeconfig"])
        .arg(plane.kubeconfig_of_service_account(NAMESPACE, "cert-manager").await?)
        .arg(format!("--certificate-request-minimum-backoff-duration={}ms", options.minimum_backoff.as_millis()))
        .arg(format!("--certificate-request-maximum-backoff-duration={}ms", options.maximum_backoff.as_millis()))
        .arg(format!("--enable-gateway-api={}", options.gateway_api))
        .arg(format!("--enable-gateway-api-listenerset={}", options.gateway_api))
        .arg(format!("--feature-gates={}", options.feature_gates));
    if !options.name_servers.is_empty() {
        command
            .arg("--dns01-recursive-nameservers-only")
            .arg(format!("--dns01-recursive-nameservers={}", options.name_servers.join(",")));
    }
    plane.run("cert-manager", command)
}

/// Asks until the webhook refuses what only the webhook refuses: an issuer of no kind.
async fn until_asked(plane: &Plane) -> Result<()> {
    let issuers = plane.objects("cert-manager.io/v1", "Issuer", "default").await?;
    let nothing = serde_json::from_value(json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": { "name": "of-no-kind" }, "spec": {},
    }))?;
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    let deadline = Instant::now() + REGISTERED;
    loop {
        let said = match issuers.create(&tried, &nothing).await {
            Err(kube::Error::Api(refused)) if refused.message.contains("denied the request") => return Ok(()),
            Err(error) => error.to_string(),
            Ok(_) => "it was not asked".to_owned(),
        };
        if Instant::now() > deadline {
            return Err(format!("cert-manager's webhook refuses nothing: {said}").into());
        }
        sleep(Duration::from_millis(100)).await;
    }
}
