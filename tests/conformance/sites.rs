//! Servers that tests share. Each is started by the first test that wants it and ends with this process.

use std::sync::OnceLock;

use chancery_harness::{
    Result,
    client::{Client, Target},
    dns::Dns,
    responder::Responder,
    server::{Server, Setup},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Mutex, OnceCell},
};

/// Limits that no test reaches by doing what it is about.
const ROOMY: &str = "
[limits]
new_accounts_per_address_per_hour = 4000000
pending_orders_per_account = 1000
";

/// Beside the directory `default`: one with terms of service, two that take external account bindings, of which one wants
/// them and pre-authorises orders, and a zone in which loopback may not be dialled.
const MORE: &str = "
[[zone]]
name = \"closed\"
domains = [\"closed.test\"]
resolvers = [\"{dns}\"]
http_port = {http}

[[directory]]
name = \"terms\"
authority = \"issuing\"
profiles = [\"server\"]
terms_of_service = \"https://example.test/terms-1\"
website = \"https://example.test/\"

[[directory]]
name = \"teams\"
authority = \"issuing\"
profiles = [\"server\", \"minutes\"]
external_account = \"required\"
preauthorized = true

[[directory]]
name = \"either\"
authority = \"issuing\"
profiles = [\"server\"]
external_account = \"optional\"
";

/// A server with what its validations meet.
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) responder: Responder,
    pub(crate) dns: Dns,
}

impl Site {
    async fn start(configuration: &str) -> Result<Self> {
        let (responder, dns) = (Responder::start().await?, Dns::start().await?);
        let server = Server::start(&Setup {
            http_port: responder.port(),
            resolver: Some(dns.address()),
            configuration: configuration
                .replace("{dns}", &dns.address().to_string())
                .replace("{http}", &responder.port().to_string()),
            ..Setup::default()
        })
        .await?;
        Ok(Self { server, responder, dns })
    }

    async fn start_to_share(configuration: String) -> Result<Self> {
        let mut site = Self::start(&configuration).await?;
        site.server.end_with_this_process()?;
        Ok(site)
    }

    /// A client with an account.
    pub(crate) async fn client(&self) -> Result<Client> {
        self.server.client().await
    }

    /// A client without an account.
    pub(crate) async fn stranger(&self) -> Result<Client> {
        Client::connect(self.target()?).await
    }

    /// Where the server is.
    pub(crate) fn target(&self) -> Result<Target> {
        self.server.target()
    }

    /// A client without an account, at another ACME directory of this server.
    pub(crate) async fn stranger_at(&self, directory: &str) -> Result<Client> {
        Client::connect(self.target()?.other_directory(directory)).await
    }

    /// What an operator sees of its state: accounts, certificates, the ledger's size.
    pub(crate) async fn state(&self) -> Result<String> {
        let accounts = self.server.printed(&["account", "list", "--output", "json"]).await?;
        let certificates = self.server.printed(&["certificate", "list", "--output", "json"]).await?;
        let status: serde_json::Value =
            serde_json::from_str(&self.server.printed(&["status", "--output", "json"]).await?)?;
        Ok(format!("{accounts}\n{certificates}\nledger: {}", status["ledger_size"]))
    }
}

/// The server that most tests share.
pub(crate) async fn site() -> Result<&'static Site> {
    static SHARED: OnceCell<Site> = OnceCell::const_new();
    SHARED.get_or_try_init(|| in_background(Site::start_to_share(format!("{MORE}{ROOMY}")))).await
}

/// A server on which nothing changes, since its tests send nothing that should change anything. It waits for no
/// one: every limit of time is a second.
pub(crate) async fn guarded() -> Result<&'static Guarded> {
    static SHARED: OnceCell<Guarded> = OnceCell::const_new();
    SHARED.get_or_try_init(|| in_background(Guarded::start())).await
}

/// A server of a test's own.
pub(crate) async fn own(configuration: &str) -> Result<Site> {
    Site::start(configuration).await
}

/// See [`guarded`].
pub(crate) struct Guarded {
    pub(crate) site: Site,
    /// Its one account, with an order that is open, one that is ready, and a certificate.
    pub(crate) witness: Mutex<Client>,
    pub(crate) kid: String,
    /// The URLs of its resources.
    pub(crate) resources: Vec<String>,
    before: String,
}

impl Guarded {
    async fn start() -> Result<Self> {
        let seconds = "handshake_timeout = \"1s\"\nheader_timeout = \"1s\"\nbody_timeout = \"1s\"\n";
        let site = Site::start_to_share(format!("{ROOMY}{seconds}")).await?;
        let mut witness = site.client().await?;
        let open = witness.new_order(&["open.test"]).await?.expect_status(201)?;
        let ready = crate::flow::ready(&site, &mut witness, &["ready.test"]).await?;
        let issued = crate::flow::issued(&site, &mut witness, &["issued.test"]).await?;
        let kid = witness.kid.clone().ok_or("registered")?;
        let authorization = chancery_harness::client::authorizations(&open.json()).remove(0);
        let challenge = witness.read(&authorization).await?.json()["challenges"][0]["url"].clone();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let resources = vec![
            kid.clone(),
            format!("{kid}/orders"),
            open.location()?,
            authorization,
            text(&challenge),
            text(&ready.order["finalize"]),
            issued.certificate,
            witness.resource("newAccount"),
            witness.resource("newOrder"),
            witness.resource("revokeCert"),
        ];
        let mut guarded = Self { site, witness: Mutex::new(witness), kid, resources, before: String::new() };
        guarded.before = guarded.state().await?;
        Ok(guarded)
    }

    /// That nothing has changed since the start, and that the server still serves.
    pub(crate) async fn unchanged(&self) -> Result<()> {
        assert_eq!(self.state().await?, self.before);
        Ok(())
    }

    async fn state(&self) -> Result<String> {
        let seen = self.site.state().await?;
        let mut witness = self.witness.lock().await;
        let mut seen = vec![seen];
        for url in &self.resources[..4] {
            let answer = witness.read(url).await?.expect_status(200)?;
            seen.push(String::from_utf8_lossy(&answer.body).into_owned());
        }
        Ok(seen.join("\n"))
    }
}

/// The runtime on which shared servers live: a test's own ends with the test.
fn background() -> &'static Runtime {
    static BACKGROUND: OnceLock<Runtime> = OnceLock::new();
    BACKGROUND.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"))
}

/// Starts something that outlives the test which wants it first.
async fn in_background<T: Send + 'static>(start: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    background().spawn(start).await?
}
