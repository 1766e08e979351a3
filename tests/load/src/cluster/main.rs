//! What a certificate costs that comes through cert-manager: a real control plane, cert-manager's own CA issuer as the
//! yardstick, and ours (controller and server, policy, durable commits, ledger) beside it in the same run.
#![expect(clippy::print_stdout, reason = "the table is this program's output")]

mod requests;
mod site;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chancery_cluster_tests::{Result, skipped};
use chancery_load::{Machine, memory_mib, percentile_ms, usage};
use clap::Parser;
use requests::{Seen, Watch, clear, create, create_at, prepare};
use rustix::process::Signal;
use site::{Issuer, Site};

#[derive(Parser)]
struct Arguments {
    /// Requests a second in the steady stage.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Requests in the steady stage.
    #[arg(long, default_value_t = 600)]
    steady: usize,
    /// Requests at once in the bulk stage.
    #[arg(long, default_value_t = 2000)]
    bulk: usize,
    /// Requests that are approved before the controller starts, most of them in one namespace.
    #[arg(long, default_value_t = 10_000)]
    pending: usize,
    /// Seconds of looking at what an idle cluster is asked.
    #[arg(long, default_value_t = 30)]
    idle: u64,
}

/// How many clients make requests at once in bulk.
const CREATORS: usize = 32;
/// Namespaces beside the large one.
const SMALL: usize = 20;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let Some(mut site) = Site::start().await? else {
        skipped("there is no Kubernetes control plane on this machine; tests/run builds one where there is Go");
        return Ok(());
    };
    let watch = Watch::start(&site.plane).await?;
    println!(
        "  {:<18} {:<16} {:>9}  {:>7} {:>7} {:>7}  {:>8} {:>8}  {:>6} {:>6}  {:>5} {:>5}",
        "issuer",
        "stage",
        "requests",
        "p50 ms",
        "p99 ms",
        "cert/s",
        "issuer",
        "server",
        "status",
        "events",
        "MiB",
        "peak"
    );
    let both = [Issuer::CertManagersCa, Issuer::Chancery];
    for issuer in both {
        // What is compiled, cached or connected at the first request is not measured.
        stage(&site, &watch, issuer, "warm-up", prepare(arguments.bulk.min(40), issuer)?, None).await?;
    }
    for issuer in both {
        let requests = prepare(arguments.steady, issuer)?;
        stage(&site, &watch, issuer, &format!("{}/s", arguments.rate), requests, Some(arguments.rate)).await?;
    }
    for issuer in both {
        stage(&site, &watch, issuer, "at once", prepare(arguments.bulk, issuer)?, None).await?;
    }
    approved_before(&mut site, &watch, arguments.pending).await?;
    idle(&mut site, Duration::from_secs(arguments.idle)).await
}

/// What a stage began with.
struct Before {
    begin: Instant,
    issuer: f64,
    server: f64,
    around: Vec<(&'static str, f64)>,
    machine: Machine,
    answered: BTreeMap<String, u64>,
}

fn issuing_process(site: &Site, issuer: Issuer) -> Result<u32> {
    match issuer {
        Issuer::CertManagersCa => Ok(site.cert_manager.controllers().id()),
        Issuer::Chancery => site.controller(),
    }
}

/// The processor time of everything that is neither our controller nor our server.
fn around(site: &Site) -> Result<Vec<(&'static str, f64)>> {
    let mut all = vec![
        ("API server", site.plane.api_server().id()),
        ("etcd", site.plane.etcd().id()),
        ("cert-manager", site.cert_manager.controllers().id()),
        ("its webhook", site.cert_manager.webhook().id()),
        ("this client", std::process::id()),
    ];
    all.extend(site.plane.controller_manager().map(|manager| ("controller manager", manager.id())));
    all.into_iter().map(|(name, process)| Ok((name, usage(process)?.cpu_ms))).collect()
}

impl Before {
    async fn now(site: &Site, issuer: Issuer) -> Result<Self> {
        Ok(Self {
            issuer: usage(issuing_process(site, issuer)?)?.cpu_ms,
            server: usage(site.server()?)?.cpu_ms,
            around: around(site)?,
            machine: Machine::now()?,
            answered: site.answered().await?,
            begin: Instant::now(),
        })
    }
}

/// Makes requests in a namespace of their own, waits for their certificates, prints a line.
async fn stage(
    site: &Site,
    watch: &Watch,
    issuer: Issuer,
    name: &str,
    objects: Vec<kube::api::DynamicObject>,
    rate: Option<f64>,
) -> Result<()> {
    let count = objects.len();
    let namespace = site.plane.namespace("load").await?;
    let before = Before::now(site, issuer).await?;
    match rate {
        Some(rate) => create_at(&site.plane, &namespace, objects, rate).await?,
        None => create(&site.plane, &namespace, objects, CREATORS).await?,
    }
    watch.until(&namespace, count, |seen| seen.issued.is_some()).await?;
    report(site, issuer, name, &watch.of(&namespace), &before).await?;
    once_each(site, issuer, &namespace, count).await?;
    clear(&site.plane, &namespace).await?;
    watch.forget();
    Ok(())
}

async fn once_each(site: &Site, issuer: Issuer, namespace: &str, count: usize) -> Result<()> {
    if issuer == Issuer::Chancery {
        let signed = site.signed(namespace).await?;
        if signed != count {
            return Err(format!("{count} requests of {namespace} led to {signed} certificates").into());
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
async fn report(site: &Site, issuer: Issuer, name: &str, all: &[Seen], before: &Before) -> Result<()> {
    let wall = before.begin.elapsed().as_secs_f64();
    let count = all.len() as f64;
    let mut latencies: Vec<u64> = all
        .iter()
        .filter_map(|seen| Some(seen.issued?.saturating_duration_since(seen.approved?)))
        .map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX))
        .collect();
    latencies.sort_unstable();
    let after = site.answered().await?;
    let grown = |key: &str| {
        let of = |counts: &BTreeMap<String, u64>| counts.get(key).copied().unwrap_or_default();
        of(&after).saturating_sub(of(&before.answered)) as f64
    };
    let process = issuing_process(site, issuer)?;
    let (of_issuer, of_server) =
        (usage(process)?.cpu_ms - before.issuer, usage(site.server()?)?.cpu_ms - before.server);
    // cert-manager writes a status with PUT and an event of the core group; its approver does so for both.
    let ours = issuer == Issuer::Chancery;
    let (status, events) = if ours {
        (
            grown("PATCH certificaterequests.cert-manager.io/status"),
            grown("POST events.events.k8s.io") + grown("PATCH events.events.k8s.io"),
        )
    } else {
        (grown("PUT certificaterequests.cert-manager.io/status"), grown("POST events.") + grown("PATCH events."))
    };
    println!(
        "  {:<18} {:<16} {:>9}  {:>7.1} {:>7.1} {:>7.1}  {:>8.2} {:>8}  {:>6.2} {:>6.2}  {:>5.0} {:>5.0}",
        if ours { "Chancery" } else { "cert-manager's CA" },
        name,
        all.len(),
        percentile_ms(&latencies, 50),
        percentile_ms(&latencies, 99),
        count / wall,
        of_issuer / count,
        if ours { format!("{:.2}", of_server / count) } else { "-".to_owned() },
        status / count,
        events / count,
        memory_mib(process, "VmRSS")?,
        memory_mib(process, "VmHWM")?,
    );
    let parts: Vec<_> = before
        .around
        .iter()
        .zip(around(site)?)
        .map(|((name, before), (_, after))| format!("{name} {:.1}", (after - before) / count))
        .collect();
    println!("    CPU ms each: {}; {:.0} % of the machine was busy", parts.join(", "), before.machine.busy_since()?);
    Ok(())
}

/// Requests that were approved while no controller ran: nearly all of one namespace, a few of each of many others.
async fn approved_before(site: &mut Site, watch: &Watch, count: usize) -> Result<()> {
    let few = (count / 100).max(1);
    let many = count.saturating_sub(few * SMALL);
    site.stop_controller().await?;
    let large = site.plane.namespace("load-large").await?;
    create(&site.plane, &large, prepare(many, Issuer::Chancery)?, CREATORS).await?;
    let mut small = Vec::new();
    for _ in 0..SMALL {
        let namespace = site.plane.namespace("load-small").await?;
        create(&site.plane, &namespace, prepare(few, Issuer::Chancery)?, CREATORS).await?;
        small.push(namespace);
    }
    for (namespace, count) in small.iter().map(|name| (name, few)).chain([(&large, many)]) {
        watch.until(namespace, count, |seen| seen.approved.is_some()).await?;
    }
    site.start_controller().await?;
    let before = Before::now(site, Issuer::Chancery).await?;
    let mut all = Vec::new();
    let mut last_of_small = Duration::ZERO;
    for (namespace, count) in small.iter().map(|name| (name, few)).chain([(&large, many)]) {
        watch.until(namespace, count, |seen| seen.issued.is_some()).await?;
        let seen = watch.of(namespace);
        if *namespace != large {
            let last = seen.iter().filter_map(|seen| seen.issued).max().unwrap_or(before.begin);
            last_of_small = last_of_small.max(last.saturating_duration_since(before.begin));
        }
        all.extend(seen);
    }
    let whole = before.begin.elapsed();
    report(site, Issuer::Chancery, "approved before", &all, &before).await?;
    for (namespace, count) in small.iter().map(|name| (name, few)).chain([(&large, many)]) {
        once_each(site, Issuer::Chancery, namespace, count).await?;
        clear(&site.plane, namespace).await?;
    }
    println!(
        "    {SMALL} namespaces with {few} requests each had all of theirs after {:.1} s, the one with {many} after {:.1} s",
        last_of_small.as_secs_f64(),
        whole.as_secs_f64()
    );
    watch.forget();
    Ok(())
}

/// What the API server is asked while nothing happens, with our controller and without it; nobody else runs meanwhile.
async fn idle(site: &mut Site, time: Duration) -> Result<()> {
    let mut others = vec![site.cert_manager.controllers().id(), site.cert_manager.webhook().id()];
    others.extend(site.plane.controller_manager().map(chancery_cluster_tests::Process::id));
    for other in &others {
        signal(*other, Signal::STOP)?;
    }
    let with = asked_in(site, time).await?;
    let cpu = usage(site.controller()?)?.cpu_ms;
    tokio::time::sleep(time).await;
    let cpu = usage(site.controller()?)?.cpu_ms - cpu;
    site.stop_controller().await?;
    let without = asked_in(site, time).await?;
    for other in &others {
        signal(*other, Signal::CONT)?;
    }
    println!("  idle for {} s, the controller asked the API server for:", time.as_secs());
    for (what, count) in with {
        let count = count.saturating_sub(without.get(&what).copied().unwrap_or_default());
        if count > 0 {
            println!("    {count:>4} {what}");
        }
    }
    println!("    and took {cpu:.0} ms of CPU");
    Ok(())
}

async fn asked_in(site: &Site, time: Duration) -> Result<BTreeMap<String, u64>> {
    let before = site.answered().await?;
    tokio::time::sleep(time).await;
    let mut after = site.answered().await?;
    for (what, count) in &mut after {
        *count = count.saturating_sub(before.get(what).copied().unwrap_or_default());
    }
    Ok(after)
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(process: u32, signal: Signal) -> Result<()> {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw).ok_or("no process")?;
    Ok(rustix::process::kill_process(process, signal)?)
}
