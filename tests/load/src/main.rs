//! Full ACME flows by our own client (http-01 through a real listener), and what they cost the server.
//!
//! A flow is five signed POSTs (newOrder, authorization, challenge, finalize, certificate) on a
//! kept-alive connection, one account a worker. Where the server answers `processing` the flow
//! polls, and the polls are counted.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::{
    collections::HashMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chancery_harness::{
    Result,
    client::{Answer, Client, Target, authorizations, b64, challenge, csr_with, trust},
    dns::Dns,
    responder::Responder,
};
use chancery_load::{memory_mib, percentile_ms, round, usage};
use clap::Parser;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long a flow may poll before it counts as failed.
const POLL_FOR: Duration = Duration::from_secs(60);
/// The pause between two polls where the server names none.
const POLL_PAUSE: Duration = Duration::from_millis(10);

#[derive(Parser)]
struct Arguments {
    /// The directory's URL.
    #[arg(long)]
    directory: String,
    /// The PEM file with the root that the server's certificate comes from.
    #[arg(long)]
    ca: PathBuf,
    /// `host:port` to connect to; by default what the directory's URL says.
    #[arg(long)]
    address: Option<String>,
    /// The port at which the responder must listen, as the server's validator is configured.
    #[arg(long)]
    http01_port: u16,
    /// The port at which a DNS server knows every name, as the server's zone is configured; without it the zone has
    /// a table of fixed hosts.
    #[arg(long)]
    dns_port: Option<u16>,
    /// Flows at once.
    #[arg(long, default_value_t = 8)]
    concurrency: usize,
    /// Certificates to obtain.
    #[arg(long, default_value_t = 400)]
    certs: usize,
    /// Certificates before the measuring begins.
    #[arg(long, default_value_t = 32)]
    warmup: usize,
    /// Names are `n….SUFFIX`.
    #[arg(long, default_value = "load.test")]
    suffix: String,
    /// The server's process, whose CPU time and memory are read.
    #[arg(long)]
    server_pid: u32,
    /// The server's data folder, whose size is read.
    #[arg(long)]
    data: PathBuf,
    /// `host:port` of the server's plain listener, whose /metrics say how often it synced.
    #[arg(long)]
    metrics: Option<String>,
    /// One line of JSON instead of a table row.
    #[arg(long)]
    json: bool,
}

/// What the server has counted so far, by name; nothing where it was not said where to ask.
async fn counted(address: Option<&str>) -> Result<HashMap<String, f64>> {
    let Some(address) = address else { return Ok(HashMap::new()) };
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    // A histogram's lines have labels and are of no interest here.
    Ok(answer
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect())
}

fn folder_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => std::os::unix::fs::MetadataExt::blocks(&metadata) * 512,
            Err(_) => 0,
        })
        .sum()
}

/// What one worker saw.
#[derive(Default)]
struct Seen {
    latencies_us: Vec<u64>,
    polls: usize,
    failures: Vec<String>,
}

struct Shared {
    responder: Responder,
    dns: Option<Dns>,
    suffix: String,
    next: AtomicUsize,
    until: AtomicUsize,
}

async fn poll(client: &mut Client, url: &str, mut answer: Answer, done: &[&str], polls: &mut usize) -> Result<Answer> {
    let begin = Instant::now();
    loop {
        let status = answer.text("status")?;
        if done.contains(&status.as_str()) {
            return Ok(answer);
        }
        if (status != "pending" && status != "processing") || begin.elapsed() > POLL_FOR {
            return Err(format!("{url} is {status}: {}", String::from_utf8_lossy(&answer.body)).into());
        }
        *polls += 1;
        let named = answer.header("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        tokio::time::sleep(named.unwrap_or(POLL_PAUSE)).await;
        answer = client.read(url).await?.expect_status(200)?;
    }
}

async fn flow(client: &mut Client, shared: &Shared, name: &str, key: &rcgen::KeyPair, polls: &mut usize) -> Result<()> {
    let order = client.new_order(&[name]).await?.expect_status(201)?;
    let order_url = order.location()?;
    let order_json = order.json();
    for url in authorizations(&order_json) {
        let authorization = client.read(&url).await?.expect_status(200)?.json();
        let (challenge_url, token) = challenge(&authorization, "http-01")?;
        shared.responder.put(&token, client.key_authorization(&token));
        let answer = client.post(&challenge_url, &json!({})).await?.expect_status(200)?;
        poll(client, &challenge_url, answer, &["valid"], polls).await?;
        shared.responder.remove(&token);
    }
    let finalize = order_json.get("finalize").and_then(Value::as_str).ok_or("no finalize URL")?.to_owned();
    let csr = csr_with(key, &[name])?;
    let answer = client.post(&finalize, &json!({ "csr": b64(csr) })).await?.expect_status(200)?;
    let valid = poll(client, &order_url, answer, &["valid"], polls).await?;
    let certificate = client.read(&valid.text("certificate")?).await?.expect_status(200)?;
    if !certificate.body.starts_with(b"-----BEGIN CERTIFICATE-----") {
        return Err("no certificate came".into());
    }
    Ok(())
}

async fn worker(target: Target, shared: Arc<Shared>) -> Result<Seen> {
    let mut client = Client::connect(target).await?;
    client.register().await?;
    let key = rcgen::KeyPair::generate()?;
    let mut seen = Seen::default();
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= shared.until.load(Ordering::Relaxed) {
            return Ok(seen);
        }
        let name = format!("n{number}-{}.{}", std::process::id(), shared.suffix);
        if let Some(dns) = &shared.dns {
            dns.address_of(&name, Ipv4Addr::LOCALHOST.into());
        }
        let begin = Instant::now();
        match flow(&mut client, &shared, &name, &key, &mut seen.polls).await {
            Ok(()) => seen.latencies_us.push(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX)),
            Err(error) => seen.failures.push(error.to_string()),
        }
        if let Some(dns) = &shared.dns {
            dns.remove(&name);
        }
    }
}

async fn run(target: &Target, shared: &Arc<Shared>, concurrency: usize, certs: usize) -> Result<Seen> {
    let from = shared.next.load(Ordering::Relaxed);
    shared.until.store(from + certs, Ordering::Relaxed);
    let workers: Vec<_> = (0..concurrency).map(|_| tokio::spawn(worker(target.clone(), Arc::clone(shared)))).collect();
    let mut all = Seen::default();
    for worker in workers {
        let seen = worker.await??;
        all.latencies_us.extend(seen.latencies_us);
        all.polls += seen.polls;
        all.failures.extend(seen.failures);
    }
    shared.next.store(from + certs, Ordering::Relaxed);
    all.latencies_us.sort_unstable();
    Ok(all)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let host = arguments.directory.split('/').nth(2).ok_or("the directory is no URL")?.to_owned();
    let target = Target {
        address: arguments.address.clone().unwrap_or_else(|| host.clone()),
        host: host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host).to_owned(),
        directory: arguments.directory.clone(),
        tls: trust(&fs::read(&arguments.ca)?)?,
    };
    let responder = Responder::start_on(arguments.http01_port).await?;
    let dns = match arguments.dns_port {
        Some(port) => Some(Dns::start_on(port).await?),
        None => None,
    };
    let shared = Arc::new(Shared {
        responder,
        dns,
        suffix: arguments.suffix.clone(),
        next: AtomicUsize::new(0),
        until: AtomicUsize::new(0),
    });
    if arguments.warmup > 0 {
        let warm = run(&target, &shared, arguments.concurrency, arguments.warmup).await?;
        if let Some(failure) = warm.failures.first() {
            return Err(format!("the first flows failed already: {failure}").into());
        }
    }
    let metrics = arguments.metrics.as_deref();
    let counted_before = counted(metrics).await?;
    let before = usage(arguments.server_pid)?;
    let bytes_before = folder_bytes(&arguments.data);
    let own_before = usage(std::process::id())?;
    let begin = Instant::now();
    let seen = run(&target, &shared, arguments.concurrency, arguments.certs).await?;
    let wall = begin.elapsed().as_secs_f64();
    let after = usage(arguments.server_pid)?;
    let own_after = usage(std::process::id())?;
    let counted_after = counted(metrics).await?;
    let done = seen.latencies_us.len();
    let per_certificate = |name: &str| {
        let grown = counted_after.get(name).zip(counted_before.get(name)).map(|(after, before)| after - before);
        #[expect(clippy::cast_precision_loss, reason = "a count of certificates")]
        match (grown, metrics) {
            (Some(grown), _) => Ok(Some(grown / done as f64)),
            (None, None) => Ok(None),
            (None, Some(address)) => Err(format!("{address} has no metric {name}")),
        }
    };
    let syncs = per_certificate("chancery_store_syncs_total")?;
    let written = after.written.zip(before.written).map(|(after, before)| after - before);
    let journal_bytes = per_certificate("chancery_store_written_bytes_total")?;
    #[expect(clippy::cast_precision_loss, reason = "counts of certificates and bytes")]
    let report = json!({
        "concurrency": arguments.concurrency,
        "certificates": done,
        "failures": seen.failures.len(),
        "cpu_ms_per_certificate": round((after.cpu_ms - before.cpu_ms) / done as f64),
        "client_cpu_ms_per_certificate": round((own_after.cpu_ms - own_before.cpu_ms) / done as f64),
        "certificates_per_second": round(done as f64 / wall),
        "p50_ms": round(percentile_ms(&seen.latencies_us, 50)),
        "p99_ms": round(percentile_ms(&seen.latencies_us, 99)),
        "polls_per_certificate": round(seen.polls as f64 / done as f64),
        "syncs_per_certificate": syncs.map(round),
        "journal_kib_per_certificate": journal_bytes.map(|bytes| round(bytes / 1024.0)),
        "written_kib_per_certificate": written.map(|written| round(written as f64 / 1024.0 / done as f64)),
        "disk_kib_per_certificate": round(folder_bytes(&arguments.data).saturating_sub(bytes_before) as f64 / 1024.0 / done as f64),
        "memory_mib": round(memory_mib(arguments.server_pid, "VmRSS")?),
        "peak_memory_mib": round(memory_mib(arguments.server_pid, "VmHWM")?),
    });
    if arguments.json {
        println!("{report}");
    } else {
        println!("{report:#}");
    }
    match seen.failures.first() {
        None => Ok(()),
        Some(first) => {
            Err(format!("{} of {} flows failed, the first: {first}", seen.failures.len(), arguments.certs).into())
        }
    }
}
