//! Commands on the state of a running server: under load, and what they print.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chancery_acme::order::OrderState;
use chancery_api::{BackedUp, Reloaded, Status};
use chancery_harness::{
    Result,
    client::Client,
    responder::Responder,
    server::{POLICY, Server, Setup},
    wire::{RawAnswer, Wire},
};
use chancery_http::{
    api::{ApiState, Caller, OperationError, Operator, router},
    metrics::Metrics,
};
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{TestOffice, csr},
};
use serde_json::Value;
use tokio::{net::UnixListener, sync::watch, task::JoinSet, time::timeout};

/// Clients that obtain certificates all the time.
const CLIENTS: usize = 3;
/// Places at the HTTPS door for one address: the clients', and one that is held.
const PLACES: usize = CLIENTS + 1;
/// Longest that the clients may take to obtain one certificate more, and somebody else to be turned away.
const PATIENCE: Duration = Duration::from_secs(30);
const GET: &str = "GET /acme/default/directory HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What goes on at the HTTPS door until the test has seen enough.
#[derive(Default)]
struct Load {
    enough: AtomicBool,
    seen: watch::Sender<Seen>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    obtained: usize,
    turned_away: usize,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.enough.load(Ordering::SeqCst)
    }

    /// How much it is now, once it is more than it was; of both.
    async fn goes_on_from(&self, was: Seen) -> Result<Seen> {
        let mut watched = self.seen.subscribe();
        let more = watched.wait_for(|now| now.obtained > was.obtained && now.turned_away > was.turned_away);
        let now = timeout(PATIENCE, more).await.map_err(|_| format!("nothing goes on: {was:?}"))??;
        Ok(*now)
    }

    /// A client that obtains one certificate after the other on its one connection.
    async fn obtain(self: Arc<Self>, mut client: Client, responder: Responder, number: usize) -> Result<()> {
        for count in 0.. {
            if !self.goes_on() {
                break;
            }
            client.obtain(&responder, &format!("n{count}.c{number}.test")).await?;
            self.seen.send_modify(|seen| seen.obtained += 1);
        }
        Ok(())
    }

    /// One who has no place and comes again and again.
    async fn knock(self: Arc<Self>, server: Arc<Server>) -> Result<()> {
        while self.goes_on() {
            // The one place for being told may still be taken by the last try; then it is closed without a word.
            let Ok(mut wire) = Wire::connect(&server.target()?, &["http/1.1"]).await else { continue };
            wire.write(GET.as_bytes()).await;
            let Some(answer) = RawAnswer::parse(&wire.rest().await?) else { continue };
            assert_eq!(answer.status, 503, "{answer:?}");
            self.seen.send_modify(|seen| seen.turned_away += 1);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_work_while_clients_are_at_work_and_the_https_door_turns_others_away() -> Result<()> {
    let responder = Responder::start().await?;
    let configuration = format!("\n[limits]\nconnections_per_address = {PLACES}\n");
    let server = Server::start(&Setup { http_port: responder.port(), configuration, ..Setup::default() }).await?;
    let server = Arc::new(server);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(server.client().await?);
    }
    clients.first_mut().ok_or("there are some")?.obtain(&responder, "first.test").await?;
    // The last place: from now on nobody else is served.
    let mut held = Wire::connect(&server.target()?, &["http/1.1"]).await?;
    held.write(GET.as_bytes()).await;
    assert_eq!(held.answer().await?.status, 200);

    let load = Arc::new(Load::default());
    let mut tasks = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        tasks.spawn(Arc::clone(&load).obtain(client, responder.clone(), number));
    }
    tasks.spawn(Arc::clone(&load).knock(Arc::clone(&server)));
    let seen = load.goes_on_from(Seen::default()).await?;

    let status = server.printed(&["status"]).await?;
    assert!(status.contains(&server.directory()), "{status}");
    let seen = load.goes_on_from(seen).await?;
    fs::write(server.path().join("policy.yaml"), POLICY.replace("secret.denied.test", "fresh.test"))?;
    let reloaded = server.printed(&["reload"]).await?;
    assert!(reloaded.contains("policy"), "{reloaded}");
    let seen = load.goes_on_from(seen).await?;
    let accounts = server.json(&["account", "list"]).await?;
    assert_eq!(accounts.as_array().map(Vec::len), Some(CLIENTS), "{accounts}");
    // Those of the load, the first, and the server's own.
    let listed = server.json(&["certificate", "list", "--limit", "1000000"]).await?;
    assert!(listed.as_array().is_some_and(|all| all.len() >= seen.obtained + 2), "{seen:?}: {listed}");
    let first = server.json(&["certificate", "list", "--name", "first.test"]).await?;
    let serial = first.pointer("/0/serial").and_then(Value::as_str).ok_or("it was issued")?;
    let shown = server.printed(&["certificate", "show", serial]).await?;
    assert!(shown.contains("state       issued") && shown.contains("BEGIN CERTIFICATE"), "{shown}");
    let seen = load.goes_on_from(seen).await?;
    let revoked = server.printed(&["certificate", "revoke", serial, "--reason", "superseded", "--yes"]).await?;
    assert!(revoked.contains(&format!("revoked {serial}")), "{revoked}");
    let seen = load.goes_on_from(seen).await?;
    let exported = server.printed(&["certificate", "export"]).await?;
    assert!(exported.matches("BEGIN CERTIFICATE").count() >= seen.obtained + 2, "{seen:?}: {exported}");
    assert!(exported.contains(&format!("# serial {serial} was revoked at ")), "{exported}");
    load.goes_on_from(seen).await?;

    load.enough.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// The process around an office that is served to the command line: nothing is asked of it.
struct Nobody;

#[async_trait]
impl Operator for Nobody {
    fn external_url(&self) -> String {
        "https://ca.example".to_owned()
    }

    async fn not_issuing(&self) -> Vec<String> {
        Vec::new()
    }

    async fn status(&self) -> std::result::Result<Status, OperationError> {
        Err(OperationError::Refused("there is no process".to_owned()))
    }

    async fn reload(&self, _: &str) -> std::result::Result<Reloaded, OperationError> {
        Err(OperationError::Refused("there is no process".to_owned()))
    }

    async fn backup(&self, _: &Path) -> std::result::Result<BackedUp, OperationError> {
        Err(OperationError::Refused("there is no process".to_owned()))
    }

    async fn observe(&self) {}
}

/// A certificate of the office in memory: its PEM.
async fn issued(ca: &TestOffice, name: &str) -> Result<String> {
    let account = ca.account().await;
    let order = ca.ready_order(&account, &[name]).await;
    let order = ca.office.finalize_order(&account, order.id, csr(&[name])).await.map_err(|why| format!("{why:?}"))?;
    let OrderState::Valid { certificate } = order.state else { return Err(format!("{order:?}").into()) };
    let chain = ca.office.certificate(account.id, certificate).await?.ok_or("it was issued")?;
    let pem = chain.pem();
    let (leaf, _) = pem.split_at(pem.find("-----END").map_or(0, |end| end + "-----END CERTIFICATE-----\n".len()));
    Ok(leaf.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_says_of_each_serial_whether_it_was_issued_revoked_or_may_have_been_issued() -> Result<()> {
    let ca = TestOffice::default();
    let kept = issued(&ca, "kept.test").await?;
    let revoked = issued(&ca, "revoked.test").await?;
    // One whose signature was lost on its way into the store, and that its job settled.
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["lost-a.test", "lost-b.test"]).await;
    ca.store.fail_next(Commit::Certificate, Failing::Lost);
    let csr = csr(&["lost-a.test", "lost-b.test"]);
    ca.office.finalize_order(&account, order.id, csr).await.map_err(|why| format!("{why:?}"))?;
    ca.clock.advance(Duration::from_secs(61));
    ca.run_due_jobs().await;

    // The real command, over a local socket that leads to this office.
    let server = Server::prepare(&Setup::default()).await?;
    let socket = UnixListener::bind(server.path().join("chancery.sock"))?;
    let caller = axum::Extension(Caller::Local { uid: 0 });
    let state = ApiState::new(ca.office.clone(), Arc::new(Nobody), Arc::new(Metrics::new()));
    tokio::spawn(async move { axum::serve(socket, router(state).layer(caller)).await });
    let serial_of = async |name: &str| {
        let found = server.json(&["certificate", "list", "--name", name]).await?;
        let serial = found.pointer("/0/serial").and_then(Value::as_str).ok_or("it is known")?;
        Ok::<_, chancery_harness::Error>(serial.to_owned())
    };
    let serials = (serial_of("kept.test").await?, serial_of("revoked.test").await?, serial_of("lost-a.test").await?);
    server.printed(&["certificate", "revoke", &serials.1, "--reason", "keyCompromise", "--yes"]).await?;
    let (kept_serial, revoked_serial, lost_serial) = &serials;
    let at = server.json(&["certificate", "show", revoked_serial]).await?;
    let at = at.pointer("/revoked/at").and_then(Value::as_str).ok_or("it was revoked")?;

    let exported = server.printed(&["certificate", "export"]).await?;
    assert_eq!(
        exported,
        format!(
            "# serial {kept_serial} issued, ledger record 0: kept.test\n{kept}\
             # serial {revoked_serial} issued, ledger record 2: revoked.test\n{revoked}\
             # serial {lost_serial} possibly issued, ledger record 4: lost-a.test lost-b.test\n\
             # no signature is known; one may exist, so this serial can be revoked\n\
             # serial {revoked_serial} was revoked at {at} (keyCompromise)\n"
        )
    );
    // As it says.
    server.printed(&["certificate", "revoke", lost_serial, "--yes"]).await?;
    let exported = server.printed(&["certificate", "export"]).await?;
    assert!(exported.contains(&format!("# serial {lost_serial} was revoked at ")), "{exported}");
    Ok(())
}
