//! The real server as tests share it: under a root of its own with room for CAs below it, with a cluster, a directory for
//! teams, and a zone whose name server is a real one.

use std::{fs, path::Path, process::Command};

use chancery_harness::server::{Server, Setup, succeeded};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{NameServer, Plane, Result};

/// Who may have which names: clusters below `cluster.test`, teams below `teams.test`, anybody who proves it below
/// `dns.test`.
const POLICY: &str = r#"version: v1
rules:
  - name: own
    allow: { names: [localhost] }
    for: { door: own-tls }
  - name: cluster-names
    allow:
      names: ["**.cluster.test"]
      wildcards: ["*.wild.cluster.test"]
      addresses: [127.0.0.0/8]
      spiffe: ["spiffe://cluster.local/ns/*/sa/*"]
      emails: ["*@cluster.test"]
      other_names: ["1.3.6.1.4.1.311.20.2.3:*@cluster.test"]
      common_names: ["test-common-name-*"]
      subject: ["OU=*", "O=Corp."]
    for: { cluster: plane }
  - name: cluster-cas
    allow: { names: ["**.ca.cluster.test"], ca: true }
    for: { cluster: plane }
  - name: team-names
    allow: { names: ["**.teams.test"], wildcards: ["*.wild.teams.test"], addresses: [127.0.0.0/8] }
    for: { directory: teams }
  - name: proven-names
    allow: { names: ["**.dns.test"] }
    for: { directory: default }
"#;

/// The cluster may ask for whatever cert-manager's Certificates ask for.
const CONFIGURATION: &str = r#"
[[directory]]
name = "teams"
authority = "issuing"
profiles = ["teams", "minutes"]
external_account = "required"
preauthorized = true

[[cluster]]
name = "plane"
authority = "issuing"
profiles = ["kubernetes"]

[[profile]]
name = "kubernetes"
lifetime = "90d"
lifetime_min = "10m"
backdate = "1m"
keys = ["p256", "p384", "p521", "ed25519", "rsa2048", "rsa3072", "rsa4096"]
names = ["dns", "wildcard", "ip", "spiffe", "uri", "email", "other", "common-name"]
key_usages = ["digitalSignature", "keyEncipherment"]
requested_key_usages = ["dataEncipherment", "keyAgreement"]
extended_key_usages = ["serverAuth"]
requested_extended_key_usages = ["clientAuth"]
subject = "requested"
requested_attributes = ["O", "OU"]
ca = { path_len = 0 }

[[profile]]
name = "teams"
lifetime = "90d"
lifetime_max = "90d1h"
lifetime_min = "10m"
backdate = "10s"
keys = ["p256", "p384", "ed25519", "rsa2048", "rsa3072", "rsa4096"]
names = ["dns", "wildcard", "ip"]
"#;

/// What makes a CA of a certificate request, as a company's offline root signs it.
const EXTENSIONS: &str = "basicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign,cRLSign\n\
    subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
/// The same of the root's own.
const ROOT_EXTENSIONS: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";

/// The real server that all tests of this process share.
pub struct RealServer {
    server: Server,
    root: String,
    token: String,
}

static SHARED: OnceCell<std::result::Result<RealServer, String>> = OnceCell::const_new();

impl RealServer {
    /// The one that all tests of this process share, started by the first that asks.
    pub async fn shared(plane: &'static Plane) -> Result<&'static Self> {
        let shared = SHARED.get_or_init(|| async { Self::start(plane).await.map_err(|error| error.to_string()) });
        shared.await.as_ref().map_err(|error| error.clone().into())
    }

    async fn start(plane: &'static Plane) -> Result<Self> {
        let setup = Setup {
            policy: POLICY.to_owned(),
            configuration: CONFIGURATION.to_owned(),
            resolver: NameServer::shared(plane).await?.map(NameServer::address),
            ..Setup::default()
        };
        let mut server = Server::prepare(&setup).await?;
        let root = under_a_root_of_its_own(&server).await?;
        server.serve().await?;
        server.end_with_this_process()?;
        let made = server.json(&["cluster", "token", "create", "plane"]).await?;
        let token = made.pointer("/secret").and_then(Value::as_str).ok_or("no secret")?.to_owned();
        Ok(Self { server, root, token })
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Its URL, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        let directory = self.server.directory();
        directory.split("/acme/").next().unwrap_or_default().to_owned()
    }

    /// The root above what it issues and above its own certificate, in PEM.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The token by which the cluster `plane` asks.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }
}

/// Makes a root with OpenSSL and has it sign the issuing key, as in a company: the root of a development authority leaves
/// no room for CAs below. The root's PEM.
async fn under_a_root_of_its_own(server: &Server) -> Result<String> {
    let folder = server.scratch("root")?;
    let openssl = |arguments: &[&str]| -> Result<()> {
        succeeded(&Command::new("openssl").args(arguments).current_dir(&folder).output()?)
    };
    fs::write(folder.join("root.ext"), ROOT_EXTENSIONS)?;
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "root.key"])?;
    openssl(&[
        "req",
        "-new",
        "-key",
        "root.key",
        "-subj",
        "/O=Cluster Tests/CN=Cluster Tests Root",
        "-out",
        "root.csr",
    ])?;
    openssl(&[
        "x509", "-req", "-in", "root.csr", "-signkey", "root.key", "-days", "3650", "-extfile", "root.ext", "-out",
        "root.pem",
    ])?;
    let path = |name: &str| -> Result<String> { text(&folder.join(name)) };
    let subject = "O=Cluster Tests, CN=Cluster Tests Issuing";
    server.printed(&["authority", "csr", "--subject", subject, "--out", &path("issuing.csr")?]).await?;
    fs::write(folder.join("issuing.ext"), EXTENSIONS)?;
    openssl(&[
        "x509",
        "-req",
        "-in",
        "issuing.csr",
        "-CA",
        "root.pem",
        "-CAkey",
        "root.key",
        "-days",
        "1825",
        "-extfile",
        "issuing.ext",
        "-out",
        "issuing.pem",
    ])?;
    let (chain, root) = (path("issuing.pem")?, path("root.pem")?);
    server.printed(&["authority", "install", "--chain", &chain, "--root", &root, "--yes"]).await?;
    Ok(fs::read_to_string(root)?)
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().ok_or("a path that is no text")?.to_owned())
}
