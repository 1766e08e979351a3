//! A real authoritative name server that takes updates (RFC 2136): Debian's knot, for one zone.

use std::{env, fs, net::SocketAddr, path::PathBuf, process::Command};

use chancery_harness::server::free_port;
use tokio::{net::TcpStream, sync::OnceCell};

use crate::{Plane, Process, Result};

/// The key by which it is updated, and its secret.
pub const UPDATE_KEY: (&str, &str) = ("cert-manager", "c2VjcmV0LW9mLXRoZS1jbHVzdGVyLXRlc3RzLTAwMDE=");

const ZONE: &str = "$ORIGIN dns.test.\n$TTL 1\n\
    @ SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n";

/// The name server of the zone `dns.test`.
pub struct NameServer {
    address: SocketAddr,
    /// Ends with it.
    _knot: Process,
}

static SHARED: OnceCell<std::result::Result<Option<NameServer>, String>> = OnceCell::const_new();

impl NameServer {
    /// The one that all tests of this process share, started by the first that asks. `None` where this machine has no
    /// knot.
    pub async fn shared(plane: &'static Plane) -> Result<Option<&'static Self>> {
        let shared = SHARED.get_or_init(|| async {
            let Some(program) = program() else { return Ok(None) };
            Self::start(plane, program).await.map(Some).map_err(|error| error.to_string())
        });
        shared.await.as_ref().map(Option::as_ref).map_err(|error| error.clone().into())
    }

    async fn start(plane: &Plane, program: PathBuf) -> Result<Self> {
        let folder = plane.folder("knot")?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().await?));
        // It makes no folder for its journal, and takes no update without one.
        fs::create_dir(folder.join("db"))?;
        fs::write(folder.join("dns.test.zone"), ZONE)?;
        let (name, secret) = UPDATE_KEY;
        let (at, port, path) = (address.ip(), address.port(), folder.display());
        let configuration = folder.join("knot.conf");
        fs::write(
            &configuration,
            format!(
                "server:\n    rundir: \"{path}\"\n    listen: {at}@{port}\n\
                 log:\n  - target: stderr\n    any: info\n\
                 database:\n    storage: \"{path}/db\"\n\
                 key:\n  - id: {name}\n    algorithm: hmac-sha256\n    secret: {secret}\n\
                 acl:\n  - id: updates\n    key: {name}\n    action: update\n\
                 zone:\n  - domain: dns.test\n    storage: \"{path}\"\n    file: dns.test.zone\n    acl: updates\n    \
                 zonefile-sync: -1\n    journal-content: changes\n"
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("--config").arg(configuration);
        let mut knot = plane.run("knotd", command)?;
        knot.until(async || TcpStream::connect(address).await.is_ok()).await?;
        Ok(Self { address, _knot: knot })
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Debian puts it where only root's path leads.
fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("knotd")).find(|file| file.is_file())
}
