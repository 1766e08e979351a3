//! What a certificate costs in the store: the four commits of an ACME flow, at 1, 8 and 32 at once,
//! then memory, disk and the time of a start with what is there.
//!
//! `cargo bench -p chancery-store-sled -- 20000` says how many certificates for the run at 32 at
//! once; `--dir PATH` where the store lies (a real disk, or syncs cost nothing).
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chancery_acme::{
    account::Account,
    authorization::{Authorization, AuthorizationState},
    order::{Order, OrderState},
};
use chancery_authority::{
    at_work::AtWork,
    changes::{Change, Changes, Claim, Counter, Put},
    ports::{CommitError, NotApplied, Store},
    records::{CertificateRecord, CertificateState, JobKind, LeafRef, Version, Versioned},
};
use chancery_ledger::Leaf;
use chancery_store_sled::{Options, SledStore};
use chancery_testkit::sample;

/// Ticks of the kernel's CPU accounting a second (USER_HZ on every Linux that we know).
const TICKS: u64 = 100;

fn main() {
    let mut most = 2000;
    let mut dir = std::env::temp_dir();
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--sweep-bytes" => {
                options.sweep_bytes = arguments.next().and_then(|bytes| bytes.parse().ok()).expect("a number follows");
            }
            "--dir" => dir = PathBuf::from(arguments.next().expect("a path follows --dir")),
            other => most = other.parse().unwrap_or(most),
        }
    }
    let folder = dir.join(format!("chancery-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the folder can be made");
    let path = folder.join("store");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let store = SledStore::open(&path, options.clone()).expect("a new store");
    let account = sample::account(1);
    let stored = Arc::clone(&store);
    let put = Changes::new().with(Change::Account(Put::new(account.clone())));
    runtime.block_on(async move { stored.commit(put).await }).expect("the account");
    println!("at once  certificates  per s   p50 ms  p99 ms  CPU us: all  committer  sweeper   syncs  commits/group");
    let next = Arc::new(AtomicU64::new(1));
    for (at_once, certificates) in [(1, most / 20), (8, most / 5), (32, most)] {
        run(&runtime, &store, &account, &next, &options.at_work, (at_once, certificates.max(100)));
    }
    let written = next.load(Ordering::Relaxed) - 1;
    store.sweep().expect("the sweep");
    let resident = resident_mib();
    store.stop();
    let bytes = size_of(&path);
    let count = |part: &str| size_of(&path.join(part)) / written.max(1);
    println!(
        "{written} certificates: {} octets each on the disk (ledger {}, index {}, journal {}), {resident} MiB resident",
        bytes / written.max(1),
        count("ledger"),
        count("index"),
        count("journal"),
    );
    drop(store);
    let began = Instant::now();
    let store = SledStore::open(&path, options.clone()).expect("the same store");
    println!("start: {:.0} ms, {} MiB resident", began.elapsed().as_secs_f64() * 1000.0, resident_mib());
    store.stop();
    fs::remove_dir_all(&folder).expect("our own folder");
}

fn run(
    runtime: &tokio::runtime::Runtime,
    store: &Arc<SledStore>,
    account: &Account,
    next: &Arc<AtomicU64>,
    at_work: &AtWork,
    (at_once, certificates): (u64, u64),
) {
    let metrics = store.metrics();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let before = (read(&metrics.syncs), read(&metrics.commits));
    let cpu_before = cpu_us();
    let began = Instant::now();
    let end = next.load(Ordering::Relaxed) + certificates;
    let template = Arc::new(sample::issuance(1, "host.example.com", Some(account), None, None));
    let mut times: Vec<Duration> = runtime.block_on(async {
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..at_once {
            let (store, next) = (Arc::clone(store), Arc::clone(next));
            let (account, template) = (account.clone(), Arc::clone(&template));
            let working = at_work.enter();
            workers.spawn(async move {
                let _working = working;
                let mut times = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return times;
                    }
                    let began = Instant::now();
                    flow(&*store, &account, &template, number).await;
                    times.push(began.elapsed());
                }
            });
        }
        workers.join_all().await.into_iter().flatten().collect()
    });
    next.store(end, Ordering::Relaxed);
    let took = began.elapsed();
    let cpu = cpu_us();
    times.sort();
    let percentile =
        |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let each = |part: fn(&Cpu) -> u64| (part(&cpu) - part(&cpu_before)) / certificates;
    let (syncs, commits) = (read(&metrics.syncs) - before.0, read(&metrics.commits) - before.1);
    println!(
        "{at_once:>7}  {certificates:>12}  {:>5.0}  {:>7.2} {:>7.2}  {:>11}  {:>9}  {:>7}  {:>6.2}  {:>13.1}",
        f64::from(u32::try_from(certificates).unwrap_or(0)) / took.as_secs_f64(),
        percentile(50),
        percentile(99),
        each(|cpu| cpu.all),
        each(|cpu| cpu.committer),
        each(|cpu| cpu.sweeper),
        ratio(syncs, certificates),
        ratio(commits, syncs),
    );
}

fn ratio(a: u64, b: u64) -> f64 {
    f64::from(u32::try_from(a).unwrap_or(0)) / f64::from(u32::try_from(b.max(1)).unwrap_or(1))
}

/// The four commits of an ACME flow, as `authority` makes them.
async fn flow(store: &dyn Store, account: &Account, template: &sample::Issuance, number: u64) {
    let name = format!("host{number}.example.com");
    let (order, authorization) = sample::order(number, account.id, &name);
    let pending = Counter::PendingOrders(account.id);
    let changes = Changes::new()
        .with(Change::Order(Put::new(order.clone())))
        .with(Change::Count { counter: pending.clone(), by: 1, limit: Some(100_000) })
        .with(Change::Authorization(Put::new(authorization.clone())))
        .schedule(JobKind::PruneOrder { order: order.id }, order.expires);
    let version = commit(store, changes).await.0;

    let order_at = Versioned { value: order.clone(), version };
    let authorization_at = Versioned { value: authorization.clone(), version };
    let ready = Order { state: OrderState::Ready, ..order };
    let valid = Authorization { state: AuthorizationState::Valid, ..authorization };
    let changes = Changes::new()
        .with(Change::Authorization(Put::over(&authorization_at, valid)))
        .with(Change::Order(Put::over(&order_at, ready.clone())));
    let version = commit(store, changes).await.0;

    let record = CertificateRecord {
        account: Some(account.id),
        order: Some(ready.id),
        ..sample::certificate(number, &[name.as_str()])
    };
    let Leaf::Intent(intent) = &template.intent else { return };
    let mut intent = intent.clone();
    intent.certificate = record.id.octets();
    intent.serial = record.serial;
    intent.account_facts = None;
    let order_at = Versioned { value: ready.clone(), version };
    let processing = Order { state: OrderState::Processing { certificate: record.id }, ..ready };
    let changes = Changes::new()
        .with(Change::Order(Put::over(&order_at, processing.clone())))
        .with(Change::Claim(Claim::OrderCertificate(processing.id)))
        .with(Change::Certificate(Put::new(record.clone())))
        .schedule(JobKind::Settle { certificate: record.id }, sample::now())
        .leaf(Leaf::Intent(intent));
    let (version, intent) = commit(store, changes).await;

    let order_at = Versioned { value: processing.clone(), version };
    let record_at = Versioned { value: record.clone(), version };
    let state = CertificateState::Issued { intent: LeafRef::At(intent), signature: LeafRef::InThisCommit(0) };
    let changes = Changes::new()
        .with(Change::Order(Put::over(
            &order_at,
            Order { state: OrderState::Valid { certificate: record.id }, ..processing.clone() },
        )))
        .with(Change::Count { counter: pending, by: -1, limit: None })
        .with(Change::Certificate(Put::over(&record_at, CertificateRecord { state, ..record })))
        .with(Change::Finish(JobKind::Settle { certificate: record_at.value.id }))
        .leaf(template.signature(intent))
        .urgently();
    commit(store, changes).await;
}

/// Commits; one that was turned away for want of room in memory comes again.
async fn commit(store: &dyn Store, changes: Changes) -> (Version, u64) {
    loop {
        match store.commit(changes.clone()).await {
            Ok(committed) => return (committed.version, committed.first_leaf),
            Err(CommitError::NotApplied(NotApplied::Busy)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => unreachable!("{error}"),
        }
    }
}

/// CPU time so far, in microseconds.
struct Cpu {
    all: u64,
    committer: u64,
    sweeper: u64,
}

fn cpu_us() -> Cpu {
    let mut cpu = Cpu { all: ticks(Path::new("/proc/self/stat")).1, committer: 0, sweeper: 0 };
    for task in fs::read_dir("/proc/self/task").expect("a Linux").flatten() {
        let (name, time) = ticks(&task.path().join("stat"));
        if name.starts_with("store-committe") {
            cpu.committer = time;
        } else if name.starts_with("store-sweeper") {
            cpu.sweeper = time;
        }
    }
    cpu
}

/// A task's name and its time in microseconds (proc(5): fields 2, 14 and 15).
fn ticks(stat: &Path) -> (String, u64) {
    let text = fs::read_to_string(stat).unwrap_or_default();
    let Some((name, fields)) = text.rsplit_once(") ") else { return (String::new(), 0) };
    let name = name.split_once('(').map_or("", |(_, name)| name).to_owned();
    let time: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    (name, time * 1_000_000 / TICKS)
}

fn resident_mib() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) / 256
}

/// Octets that a folder takes on the disk.
fn size_of(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size_of(&entry.path()),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
