//! Clients that keep what they were told, and ask for it again after a fault.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chancery_harness::{
    Result,
    client::{Answer, Client, authorizations, b64, challenge, csr_with},
    responder::Responder,
    server::{Server, Setup},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

/// Between two looks at an order that is under way.
const LOOK: Duration = Duration::from_millis(50);
/// Longest that an order may be under way after a fault: its settlement is due after five seconds.
const SETTLED: Duration = Duration::from_secs(30);
/// Downloads that are asked for again after each fault, of each client.
const AGAIN: usize = 12;

/// Room for the accounts of many rounds, and a settlement that is not waited for long.
pub(crate) const LIMITS: &str = "
[limits]
new_accounts_per_address_per_hour = 1000000
orders_per_account_per_hour = 1000000
settle_after = \"5s\"
";

/// A server for faults, and who answers its http-01 probes.
pub(crate) async fn server() -> Result<(Server, Responder)> {
    server_as(Setup::default()).await
}

/// The same in another place.
pub(crate) async fn server_as(setup: Setup) -> Result<(Server, Responder)> {
    let responder = Responder::start().await?;
    let setup = Setup { http_port: responder.port(), configuration: LIMITS.to_owned(), ..setup };
    Ok((Server::start(&setup).await?, responder))
}

/// How far an order came, by what the server answered.
enum Stage {
    /// 201.
    Placed,
    /// The challenge was answered `valid`.
    Validated,
    /// A finalize was sent; no answer came, or one that it is under way.
    Finalizing { csr: String },
    /// 200 with `valid`.
    Issued { certificate: String },
    /// The certificate was handed out.
    Downloaded { certificate: String, chain: Vec<u8> },
    /// It ended without a certificate, after a fault.
    Ended,
}

/// An order that was acknowledged.
struct Known {
    url: String,
    finalize: String,
    name: String,
    stage: Stage,
}

/// What became of the orders that a fault interrupted, and how many there were of each.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    /// Certificates that were handed out before a fault.
    pub(crate) acknowledged: usize,
    /// Finalize requests that got no final answer, and were sent again with the same CSR.
    pub(crate) interrupted: usize,
    /// Those of them whose order became valid.
    pub(crate) then_valid: usize,
    /// Those whose order became invalid: a signature may have been made, and was not handed out.
    pub(crate) then_invalid: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.interrupted += other.interrupted;
        self.then_valid += other.then_valid;
        self.then_invalid += other.then_invalid;
    }
}

/// One client: an account, and the orders that it knows of.
struct Worker {
    client: Client,
    responder: Responder,
    key: rcgen::KeyPair,
    orders: Vec<Known>,
    deaf: Arc<AtomicBool>,
}

/// Some clients at work.
pub(crate) struct Load {
    workers: Vec<JoinHandle<(Worker, String)>>,
    /// Set before a fault: from then on an error is no fault of the server's.
    struck: Arc<AtomicBool>,
    deaf: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Load {
    /// Registers so many accounts, and has each obtain one certificate after the other.
    pub(crate) async fn start(server: &Server, responder: &Responder, clients: usize, prefix: &str) -> Result<Self> {
        let mut load = Self { workers: Vec::new(), struck: Arc::default(), deaf: Arc::default(), done: Arc::default() };
        for number in 0..clients {
            let client = server.client().await?;
            let worker = Worker {
                client,
                responder: responder.clone(),
                key: rcgen::KeyPair::generate()?,
                orders: Vec::new(),
                deaf: Arc::clone(&load.deaf),
            };
            let (done, prefix) = (Arc::clone(&load.done), format!("{prefix}-{number}"));
            load.workers.push(tokio::spawn(worker.work(prefix, done)));
        }
        Ok(load)
    }

    /// Lets them work until so many certificates came, or so long.
    pub(crate) async fn until(&self, certificates: usize, most: Duration) {
        let mut looks = interval(Duration::from_millis(5));
        let reached = async {
            while self.done.load(Ordering::Relaxed) < certificates {
                looks.tick().await;
            }
        };
        // Whichever comes first is fine.
        let _ = timeout(most, reached).await;
    }

    /// Says that from now on the server is not at fault.
    pub(crate) fn strike(&self) {
        self.struck.store(true, Ordering::SeqCst);
    }

    /// The same before the power is cut: what is answered from now on is not heard, since a machine
    /// without power answers nothing, while this one still does (and its last fdatasync may succeed
    /// although the file system has gone).
    pub(crate) fn strike_and_hear_no_more(&self) {
        self.strike();
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Whether every client is still at work.
    pub(crate) fn all_at_work(&self) -> bool {
        self.workers.iter().all(|worker| !worker.is_finished())
    }

    /// Ends the work where it stands, and keeps what is known. Before a [`strike`](Self::strike) a
    /// client that had stopped by itself is an error.
    pub(crate) async fn end(self) -> Result<Witness> {
        let struck = self.struck.load(Ordering::SeqCst);
        let mut workers = Vec::new();
        for worker in self.workers {
            let (worker, why) = worker.await?;
            if !struck {
                return Err(format!("a client stopped before any fault: {why}").into());
            }
            workers.push(worker);
        }
        self.deaf.store(false, Ordering::SeqCst);
        Ok(Witness { workers })
    }
}

impl Worker {
    /// Works until something fails, and says what.
    async fn work(mut self, prefix: String, done: Arc<AtomicUsize>) -> (Self, String) {
        for number in 0.. {
            let name = format!("{prefix}-{number}.test");
            if let Err(why) = self.obtain(name).await {
                return (self, why.to_string());
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        (self, String::new())
    }

    async fn obtain(&mut self, name: String) -> Result<()> {
        let answer = self.client.new_order(&[&name]).await?.expect_status(201)?;
        let (order, finalize) = (answer.json(), answer.text("finalize")?);
        self.heard()?;
        self.orders.push(Known { url: answer.location()?, finalize, name, stage: Stage::Placed });
        let authorization = self.client.read(&authorizations(&order)[0]).await?.expect_status(200)?.json();
        let (url, token) = challenge(&authorization, "http-01")?;
        self.responder.put(&token, self.client.key_authorization(&token));
        let mut answer = self.client.post(&url, &json!({})).await?.expect_status(200)?;
        self.settle(&mut answer, &url).await?;
        if answer.text("status")? != "valid" {
            return Err(format!("the challenge is {}", String::from_utf8_lossy(&answer.body)).into());
        }
        self.responder.remove(&token);
        self.heard()?;
        self.newest()?.stage = Stage::Validated;
        let at = self.orders.len() - 1;
        self.finalize(at).await?;
        self.download(at).await
    }

    /// Whether the answer that came is heard.
    fn heard(&self) -> Result<()> {
        if self.deaf.load(Ordering::SeqCst) { Err("the power was cut".into()) } else { Ok(()) }
    }

    fn newest(&mut self) -> Result<&mut Known> {
        self.orders.last_mut().ok_or_else(|| "no order".into())
    }

    /// Sends a finalize, with the CSR of the last time if there was one, and waits until the order is settled.
    async fn finalize(&mut self, at: usize) -> Result<()> {
        let (url, finalize) = (self.orders[at].url.clone(), self.orders[at].finalize.clone());
        let csr = match &self.orders[at].stage {
            Stage::Finalizing { csr } => csr.clone(),
            _ => b64(csr_with(&self.key, &[&self.orders[at].name])?),
        };
        self.orders[at].stage = Stage::Finalizing { csr: csr.clone() };
        let mut answer = self.client.post(&finalize, &json!({ "csr": csr })).await?;
        if answer.status != 200 {
            // It may be that it had reached the server the last time (RFC 8555 §7.4).
            if (answer.status, answer.problem().as_str()) != (403, "orderNotReady") {
                return Err(format!("finalize: {} {}", answer.status, String::from_utf8_lossy(&answer.body)).into());
            }
            answer = self.client.read(&url).await?.expect_status(200)?;
        }
        self.settle(&mut answer, &url).await?;
        self.heard()?;
        self.orders[at].stage = match answer.text("status")?.as_str() {
            "valid" => Stage::Issued { certificate: answer.text("certificate")? },
            "invalid" => Stage::Ended,
            other => return Err(format!("{url} is {other} after a finalize").into()),
        };
        Ok(())
    }

    /// Looks at a resource until it is neither pending nor processing.
    async fn settle(&mut self, answer: &mut Answer, url: &str) -> Result<()> {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let looking = async {
            while matches!(answer.text("status")?.as_str(), "pending" | "processing") {
                looks.tick().await;
                *answer = self.client.read(url).await?.expect_status(200)?;
            }
            Ok(())
        };
        timeout(SETTLED, looking).await.map_err(|_| format!("{url} is not settled after {SETTLED:?}"))?
    }

    async fn download(&mut self, at: usize) -> Result<()> {
        let Stage::Issued { certificate } = &self.orders[at].stage else { return Ok(()) };
        let certificate = certificate.clone();
        let chain = self.client.read(&certificate).await?.expect_status(200)?.body.to_vec();
        self.heard()?;
        self.orders[at].stage = Stage::Downloaded { certificate, chain };
        Ok(())
    }

    /// After a fault: everything that was acknowledged is there, and what was interrupted is finished.
    async fn check(&mut self, server: &Server) -> Result<Tally> {
        // Nonces do not outlive the process that gave them.
        self.client.nonce = None;
        let mut tally = Tally::default();
        self.compare_with_inventory(server).await?;
        for at in 0..self.orders.len() {
            tally.acknowledged += usize::from(matches!(self.orders[at].stage, Stage::Downloaded { .. }));
            self.finish(at, &mut tally).await?;
        }
        self.compare_with_downloads().await?;
        self.compare_with_inventory(server).await?;
        Ok(tally)
    }

    /// The last certificates that were handed out are handed out again, byte for byte.
    async fn compare_with_downloads(&mut self) -> Result<()> {
        let downloads = self.orders.iter().rev().filter_map(|order| match &order.stage {
            Stage::Downloaded { certificate, chain } => Some((certificate.clone(), chain.clone())),
            _ => None,
        });
        for (certificate, chain) in downloads.take(AGAIN).collect::<Vec<_>>() {
            if self.client.read(&certificate).await?.expect_status(200)?.body != chain {
                return Err(format!("{certificate} is another certificate than the one that was handed out").into());
            }
        }
        Ok(())
    }

    /// Finishes an order that a fault interrupted.
    async fn finish(&mut self, at: usize, tally: &mut Tally) -> Result<()> {
        match &self.orders[at].stage {
            Stage::Downloaded { .. } | Stage::Ended => Ok(()),
            Stage::Issued { .. } => {
                // It was answered `valid`, so it must stay so.
                let order = self.client.read(&self.orders[at].url.clone()).await?.expect_status(200)?;
                if order.text("status")? != "valid" {
                    return Err(format!("{} was valid and is {}", self.orders[at].url, order.text("status")?).into());
                }
                self.download(at).await
            }
            Stage::Placed => {
                self.client.read(&self.orders[at].url.clone()).await?.expect_status(200)?;
                self.orders[at].stage = Stage::Ended;
                Ok(())
            }
            Stage::Validated => {
                let order = self.client.read(&self.orders[at].url.clone()).await?.expect_status(200)?;
                if order.text("status")? != "ready" {
                    return Err(format!("{} was ready and is {}", self.orders[at].url, order.text("status")?).into());
                }
                self.finalize(at).await?;
                self.download(at).await
            }
            Stage::Finalizing { .. } => {
                tally.interrupted += 1;
                self.finalize(at).await?;
                let valid = matches!(self.orders[at].stage, Stage::Issued { .. });
                tally.then_valid += usize::from(valid);
                tally.then_invalid += usize::from(!valid);
                self.download(at).await
            }
        }
    }

    /// Each certificate that was handed out is in the inventory as issued, and no order has two.
    async fn compare_with_inventory(&self, server: &Server) -> Result<()> {
        let account = last_segment(self.client.kid.as_deref().unwrap_or_default());
        let listed = server
            .printed(&["certificate", "list", "--account", account, "--limit", "1000000", "--output", "json"])
            .await?;
        let listed: Vec<Value> = serde_json::from_str(&listed)?;
        let text = |entry: &Value, member: &str| entry[member].as_str().unwrap_or_default().to_owned();
        let mut of_order: BTreeMap<String, String> = BTreeMap::new();
        let mut issued = HashSet::new();
        for entry in &listed {
            if let Some(other) = of_order.insert(text(entry, "order"), text(entry, "serial")) {
                return Err(format!("order {} has two certificates: {other} and {entry}", text(entry, "order")).into());
            }
            if text(entry, "state") == "issued" {
                issued.insert((text(entry, "order"), number(&text(entry, "serial")).to_owned()));
            }
        }
        for order in &self.orders {
            if let Stage::Downloaded { chain, .. } = &order.stage {
                let id = last_segment(&order.url).to_owned();
                if !issued.contains(&(id, serial(chain)?)) {
                    return Err(format!(
                        "the certificate {} of {} was handed out and is not in the inventory: {listed:?}",
                        serial(chain)?,
                        order.url
                    )
                    .into());
                }
            }
        }
        Ok(())
    }
}

/// What some clients know after they were interrupted.
pub(crate) struct Witness {
    workers: Vec<Worker>,
}

impl Witness {
    /// Asks the server, running again, for everything that was acknowledged, and finishes what was interrupted.
    pub(crate) async fn check(&mut self, server: &Server) -> Result<Tally> {
        let mut tally = Tally::default();
        for worker in &mut self.workers {
            tally.add(worker.check(server).await?);
        }
        Ok(tally)
    }

    /// A client of the witness's, to ask for more.
    pub(crate) fn first_client(&mut self) -> Result<&mut Client> {
        Ok(&mut self.workers.first_mut().ok_or("no client")?.client)
    }

    /// Whether each client can read its last certificates, and the inventory knows them.
    pub(crate) async fn is_still_handed_out(&mut self, server: &Server) -> Result<()> {
        for worker in &mut self.workers {
            worker.client.nonce = None;
            worker.compare_with_downloads().await?;
            worker.compare_with_inventory(server).await?;
        }
        Ok(())
    }

    /// Whether an order leads to a certificate before long; until then it may be refused with 503.
    pub(crate) async fn issues_again(&mut self) -> Result<()> {
        let worker = self.workers.first_mut().ok_or("no client")?;
        worker.client.nonce = None;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let again = async {
            for number in 0.. {
                looks.tick().await;
                match worker.obtain(format!("again-{number}.test")).await {
                    Err(error) if error.to_string().contains("503") => {}
                    outcome => return outcome,
                }
            }
            Ok(())
        };
        timeout(SETTLED, again).await.map_err(|_| "it does not issue again")?
    }

    /// The serial numbers of what was handed out.
    pub(crate) fn serials(&self) -> Result<Vec<String>> {
        let orders = self.workers.iter().flat_map(|worker| &worker.orders);
        let chains = orders.filter_map(|order| match &order.stage {
            Stage::Downloaded { chain, .. } => Some(chain),
            _ => None,
        });
        chains.map(|chain| serial(chain)).collect()
    }

    /// SHA-256 of each certificate that was handed out, and its order's id.
    pub(crate) fn handed_out(&self) -> Result<Vec<(String, [u8; 32])>> {
        let mut all = Vec::new();
        for order in self.workers.iter().flat_map(|worker| &worker.orders) {
            if let Stage::Downloaded { chain, .. } = &order.stage {
                let leaf = CertificateDer::from_pem_slice(chain)?;
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &leaf);
                all.push((last_segment(&order.url).to_owned(), digest.as_ref().try_into()?));
            }
        }
        Ok(all)
    }
}

fn last_segment(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

/// A certificate's serial number as the inventory prints it, read by another parser.
fn serial(chain: &[u8]) -> Result<String> {
    let leaf = CertificateDer::from_pem_slice(chain)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf)?;
    let digits: String = parsed.raw_serial().iter().map(|octet| format!("{octet:02x}")).collect();
    Ok(number(&digits).to_owned())
}

/// The digits of a number; how many zeros stand before them differs between formats.
fn number(digits: &str) -> &str {
    digits.trim_start_matches('0')
}
