//! A host of the company: certbot obtains its certificate over http-01 and keeps it; nginx serves it from there.

use std::{fs, path::PathBuf};

use chancery_harness::server::succeeded;
use tokio::{process::Command, sync::Mutex};

use crate::{Company, Result, nginx::Site, programs};

/// Held while certbot answers http-01: there is one port for it.
static ANSWERING: Mutex<()> = Mutex::const_new(());

/// certbot with folders of its own, for one host.
pub struct Host {
    program: PathBuf,
    folder: PathBuf,
    root: PathBuf,
    directory: String,
    http_port: u16,
    name: String,
}

impl Host {
    /// Has certbot obtain a certificate. The name stands below hosts.example.com. `None` where this machine has
    /// no certbot; that has been said then.
    pub async fn certified(company: &Company, name: &str) -> Result<Option<Self>> {
        let Some(program) = programs::certbot() else { return Ok(None) };
        let host = Self {
            program,
            folder: company.server.scratch(name)?,
            root: company.server.root_pem()?,
            directory: company.server.directory(),
            http_port: company.http_port,
            name: name.to_owned(),
        };
        let port = host.http_port.to_string();
        host.run(&[
            "certonly",
            "--agree-tos",
            "-m",
            "hosts@example.com",
            "--no-eff-email",
            "--standalone",
            "--http-01-port",
            &port,
            "--http-01-address",
            "127.0.0.1",
            "-d",
            name,
        ])
        .await?;
        Ok(Some(host))
    }

    /// Has certbot renew it now, and run a command once it has.
    pub async fn renew(&self, hook: &str) -> Result<()> {
        self.run(&["renew", "--force-renewal", "--no-random-sleep-on-renew", "--deploy-hook", hook]).await
    }

    /// What certbot keeps, for nginx.
    #[must_use]
    pub fn site(&self) -> Site {
        let live = self.folder.join("etc/live").join(&self.name);
        Site { name: self.name.clone(), certificate: live.join("fullchain.pem"), key: live.join("privkey.pem") }
    }

    /// The chain that certbot keeps, as PEM.
    pub fn chain(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.site().certificate)?)
    }

    async fn run(&self, arguments: &[&str]) -> Result<()> {
        let _answering = ANSWERING.lock().await;
        let output = Command::new(&self.program)
            .args(arguments)
            .args(["--non-interactive", "--server", &self.directory])
            .arg("--config-dir")
            .arg(self.folder.join("etc"))
            .arg("--work-dir")
            .arg(self.folder.join("work"))
            .arg("--logs-dir")
            .arg(self.folder.join("log"))
            .env("REQUESTS_CA_BUNDLE", &self.root)
            .output()
            .await?;
        succeeded(&output)
    }
}
