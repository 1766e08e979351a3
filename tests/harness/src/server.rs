//! The real binary: a development authority in a folder of its own, started and stopped as an operator would.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::UnixDatagram,
    process::{Child, Command},
    time::timeout,
};

use crate::{
    Result,
    client::{Client, Target, trust},
};

pub use crate::ports::free_port;

/// Longest that a start may take before a test fails.
const START: Duration = Duration::from_secs(60);
/// Longest that a stop may take.
const STOP: Duration = Duration::from_secs(30);

/// A policy for tests: everything under `test`, and the server's own name.
pub const POLICY: &str = r#"version: v1
rules:
  - name: own
    allow: { names: [localhost] }
    for: { door: own-tls }
  - name: test-names
    allow: { names: ["**.test"], wildcards: ["*.wild.test", "*.dns.test"] }
    for: { door: acme }
  - name: not-this-one
    deny: { names: ["secret.denied.test"] }
    because: nobody gets this name (TEST-1)
"#;

/// What a server is started with.
pub struct Setup {
    /// The port at which http-01 is looked for.
    pub http_port: u16,
    /// The port at which tls-alpn-01 is looked for.
    pub tls_alpn_port: u16,
    /// The resolvers of the zone `dns.test`; without them its names stand in the table of fixed hosts.
    pub resolver: Option<SocketAddr>,
    /// The kind of the issuing key, as `chancery init --key` has it; the command's own choice without it.
    pub key: Option<String>,
    /// The policy.
    pub policy: String,
    /// More configuration, appended.
    pub configuration: String,
    /// The passphrase of the key files, put into the file `passphrase` beside the folder; one is made up without it.
    pub passphrase: Option<String>,
    /// Variables in the environment of the server and of every command on it.
    pub environment: Vec<(String, String)>,
    /// Where its folder is made, instead of where temporary files belong.
    pub within: Option<PathBuf>,
    /// Where what it prints is kept, instead of in its folder.
    pub log: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            http_port: 1,
            tls_alpn_port: 1,
            resolver: None,
            key: None,
            policy: POLICY.to_owned(),
            configuration: String::new(),
            passphrase: None,
            environment: Vec::new(),
            within: None,
            log: None,
        }
    }
}

/// A development authority: its folder, its configuration, and the process while it runs.
pub struct Server {
    folder: TempDir,
    port: u16,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    notified: Option<UnixDatagram>,
    guard: Option<std::process::ChildStdin>,
}

/// The binary under test: `CHANCERY_BIN`, else the one that was built beside this test.
///
/// # Errors
///
/// If there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CHANCERY_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let built = own.ancestors().skip(1).map(|folder| folder.join("chancery")).find(|path| path.is_file());
    built.ok_or_else(|| "there is no chancery binary beside the tests: cargo build --workspace makes it".into())
}

impl Server {
    /// Makes the folder and starts the server; returns once it is ready.
    ///
    /// # Errors
    ///
    /// What the commands printed, where they failed.
    pub async fn start(setup: &Setup) -> Result<Self> {
        let mut server = Self::prepare(setup).await?;
        server.serve().await?;
        Ok(server)
    }

    /// Makes the folder without starting anything.
    ///
    /// # Errors
    ///
    /// What `chancery init` printed, if it failed.
    pub async fn prepare(setup: &Setup) -> Result<Self> {
        let folder = match &setup.within {
            Some(within) => tempfile::tempdir_in(within)?,
            None => tempfile::tempdir()?,
        };
        let port = free_port().await?;
        let log = setup.log.clone().unwrap_or_else(|| folder.path().join("server.log"));
        let environment = setup.environment.clone();
        let server = Self { folder, port, log, environment, child: None, notified: None, guard: None };
        let ca = server.path();
        let mut init = Command::new(binary()?);
        init.args(["init", "--development", "--url", &format!("https://localhost:{port}")])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .arg(&ca);
        if let Some(key) = &setup.key {
            init.args(["--key", key]);
        }
        if let Some(passphrase) = &setup.passphrase {
            let file = server.passphrase_file();
            fs::write(&file, format!("{passphrase}\n"))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            init.arg("--passphrase-file").arg(file);
        }
        succeeded(&init.output().await?)?;
        fs::write(ca.join("policy.yaml"), &setup.policy)?;
        let (http, tls) = (setup.http_port, setup.tls_alpn_port);
        let resolved = match setup.resolver {
            Some(resolver) => format!("resolvers = [\"{resolver}\"]\n"),
            None => "\n[zone.fixed_hosts]\n\"**.dns.test\" = [\"127.0.0.1\"]\n".to_owned(),
        };
        let zones = format!(
            "\n[[zone]]\nname = \"test\"\ndomains = [\"test\"]\nallow = [\"127.0.0.0/8\"]\nhttp_port = {http}\ntls_alpn_port = {tls}\n\n\
             [zone.fixed_hosts]\n\"**.test\" = [\"127.0.0.1\"]\n\n\
             [[zone]]\nname = \"dns\"\ndomains = [\"dns.test\"]\nallow = [\"127.0.0.0/8\"]\nhttp_port = {http}\ntls_alpn_port = {tls}\n{resolved}{}",
            setup.configuration
        );
        let file = ca.join("chancery.toml");
        let configuration = fs::read_to_string(&file)? + &zones;
        fs::write(file, configuration)?;
        Ok(server)
    }

    /// Starts the server on its folder; returns once it says that it is ready.
    ///
    /// # Errors
    ///
    /// What it printed, if it ended instead.
    pub async fn serve(&mut self) -> Result<()> {
        self.serve_under(&[]).await
    }

    /// The same under another program, such as one that makes system calls fail. That program must
    /// become a process of its own, so that the process we start is the server.
    ///
    /// # Errors
    ///
    /// What it printed, if it ended instead.
    pub async fn serve_under(&mut self, wrapper: &[OsString]) -> Result<()> {
        self.serve_and_listen(wrapper).await?;
        self.notified = None;
        Ok(())
    }

    /// The same with more in its environment; what it says to its service manager is kept for [`Self::notification`].
    ///
    /// # Errors
    ///
    /// What it printed, if it ended instead.
    pub async fn serve_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        self.environment.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.serve_and_listen(&[]).await
    }

    async fn serve_and_listen(&mut self, wrapper: &[OsString]) -> Result<()> {
        let (mut child, notified) = self.begin(wrapper)?;
        let ready = async {
            loop {
                if message(&notified).await?.lines().any(|line| line == "READY=1") {
                    return Ok::<_, std::io::Error>(());
                }
            }
        };
        tokio::select! {
            ready = timeout(START, ready) => ready.map_err(|_| self.fault("did not become ready"))??,
            status = child.wait() => return Err(self.fault(&format!("ended with {}", status?)).into()),
        }
        self.child = Some(child);
        self.notified = Some(notified);
        Ok(())
    }

    /// The next that it says to its service manager (sd_notify(3)).
    ///
    /// # Errors
    ///
    /// If it says nothing, or nobody listens.
    pub async fn notification(&self) -> Result<String> {
        let notified = self.notified.as_ref().ok_or("nobody listens: start it with serve_with")?;
        Ok(timeout(STOP, message(notified)).await.map_err(|_| self.fault("said nothing more"))??)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let id = self.process().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        Ok(rustix::process::kill_process(id.ok_or("the server does not run")?, signal)?)
    }

    /// Starts the server and kills it after so long, ready or not.
    ///
    /// # Errors
    ///
    /// What it printed, if it ended by itself before.
    pub async fn serve_for(&mut self, life: Duration) -> Result<()> {
        let (mut child, _notified) = self.begin(&[])?;
        if let Ok(status) = timeout(life, child.wait()).await {
            return Err(self.fault(&format!("ended with {}", status?)).into());
        }
        child.kill().await?;
        Ok(())
    }

    fn begin(&self, wrapper: &[OsString]) -> Result<(Child, UnixDatagram)> {
        let socket = self.folder.path().join("notify");
        // One of an earlier start may lie there.
        if let Err(error) = fs::remove_file(&socket)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(format!("{} of the last start cannot be removed: {error}", socket.display()).into());
        }
        let notified = UnixDatagram::bind(&socket).map_err(|error| format!("{}: {error}", socket.display()))?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let chancery = binary()?.into_os_string();
        let mut words = wrapper.iter().chain([&chancery]);
        let child = Command::new(words.next().ok_or("nothing to start")?)
            .args(words)
            .arg("serve")
            .env("CHANCERY_CONFIG", self.configuration())
            .env("NOTIFY_SOCKET", &socket)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()?;
        Ok((child, notified))
    }

    /// How it ended, if it ends by itself within so long.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub async fn ended(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        let child = self.child.as_mut().ok_or("the server does not run")?;
        let Ok(status) = timeout(within, child.wait()).await else { return Ok(None) };
        self.child = None;
        Ok(Some(status?))
    }

    /// Has the running server ended and its folder removed when this process ends, however it does: for a server that
    /// tests share, and that none of them can drop.
    ///
    /// # Errors
    ///
    /// If it does not run, or no shell can be started.
    pub fn end_with_this_process(&mut self) -> Result<()> {
        let process = self.process().ok_or("the server does not run")?;
        // The shell waits for the end of its input, which only this process holds open.
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$0\"; rm -rf \"$1\"", &process.to_string()])
            .arg(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.guard = shell.stdin.take();
        Ok(())
    }

    fn fault(&self, what: &str) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        format!("the server {what}; it printed:\n{log}")
    }

    /// The server's folder.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("ca")
    }

    /// Its configuration.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.path().join("chancery.toml")
    }

    /// Where the passphrase of [`Setup::passphrase`] stands.
    #[must_use]
    pub fn passphrase_file(&self) -> PathBuf {
        self.folder.path().join("passphrase")
    }

    /// The folder of everything that it and its tests have written.
    #[must_use]
    pub fn everything(&self) -> &Path {
        self.folder.path()
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.log.clone()
    }

    /// A folder beside it, for what a test's clients need.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The offline root's certificate.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn root_pem(&self) -> Result<PathBuf> {
        let offline = self.folder.path().join("ca-offline-root");
        let pem = fs::read_dir(&offline)?.flatten().map(|entry| entry.path()).find(|path| has_ending(path, "pem"));
        pem.ok_or_else(|| format!("no root in {}", offline.display()).into())
    }

    /// The directory's URL.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/acme/default/directory", self.port)
    }

    /// The URL of its ACME directory of this name.
    #[must_use]
    pub fn directory_of(&self, name: &str) -> String {
        self.directory().replace("/acme/default/", &format!("/acme/{name}/"))
    }

    /// A new EAB key by `eab create` with these further arguments: its id and its MAC key.
    ///
    /// # Errors
    ///
    /// What the command printed, if it failed.
    pub async fn eab_key(&self, id: &str, arguments: &[&str]) -> Result<(String, String)> {
        let made = self.json(&[&["eab", "create", id, "--owner", "a team"], arguments].concat()).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, key) = (made.pointer("/key/id").map(text), made.get("hmac_key").map(text));
        Ok((id.ok_or("no id")?, key.ok_or("no key")?))
    }

    /// Where it is, for [`Client`].
    ///
    /// # Errors
    ///
    /// If its root cannot be read.
    pub fn target(&self) -> Result<Target> {
        Ok(Target {
            address: format!("127.0.0.1:{}", self.port),
            host: "localhost".to_owned(),
            directory: self.directory(),
            tls: trust(&fs::read(self.root_pem()?)?)?,
        })
    }

    /// A client with an account.
    ///
    /// # Errors
    ///
    /// Whatever the network or the server says.
    pub async fn client(&self) -> Result<Client> {
        let mut client = Client::connect(self.target()?).await?;
        client.register().await?;
        Ok(client)
    }

    /// The process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// A command of the binary on this server's configuration.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub async fn command(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary()?);
        command.args(arguments).env("CHANCERY_CONFIG", self.configuration()).envs(self.environment.iter().cloned());
        Ok(command.output().await?)
    }

    /// What a command printed, if it succeeded.
    ///
    /// # Errors
    ///
    /// What it printed otherwise.
    pub async fn printed(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).await?;
        succeeded(&output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same as JSON (`--output json`).
    ///
    /// # Errors
    ///
    /// What it printed otherwise.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.printed(&[arguments, &["--output", "json"]].concat()).await?)?)
    }

    /// Stops it as systemd would, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// If it does not end in time.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().ok_or("the server does not run")?;
        if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        }
        Ok(timeout(STOP, child.wait()).await.map_err(|_| self.fault("did not stop"))??)
    }

    /// kill -9.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub async fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().ok_or("the server does not run")?;
        child.kill().await?;
        Ok(())
    }
}

async fn message(socket: &UnixDatagram) -> std::io::Result<String> {
    let mut message = [0; 512];
    let length = socket.recv(&mut message).await?;
    Ok(String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned())
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

/// Nothing if a command succeeded.
///
/// # Errors
///
/// What it printed, otherwise.
pub fn succeeded(output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{}\n{out}\n{err}", output.status).into())
}
