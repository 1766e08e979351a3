//! `chancery serve`: everything put together, started, and stopped again.

use std::{num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{Router, extract::State, routing::get};
use chancery_acme::urls::Urls;
use chancery_api::SOCKET_NAME;
use chancery_authority::{
    Failure, Office, Ports,
    at_work::AtWork,
    ports::{Clock as _, Store, StoreError},
};
use chancery_cluster::Identity;
use chancery_egress::{DialSettings, Dialer, ZoneTable};
use chancery_http::{
    acme::{self, AcmeSettings, AcmeState, Rate, RateLimits},
    api::{self, ApiState, ClusterSettings, Operator as _},
    metrics::Metrics,
};
use chancery_pki::Timestamp;
use chancery_store_sled::{Options, SledStore};
use chancery_validation::{NetworkValidator, Pool, ValidationSettings};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout, timeout_at},
};

use crate::{
    cli::ServeArgs,
    config::{
        Config,
        v1::{self, LogFormat},
    },
    exit::{Exit, Failed, Outcome},
    files,
    listeners::{Connections, Https, Local, Plain, Stop, Timeouts, bind},
    observations,
    operator::{Process, load_config},
    output::line,
    service::{self, Watchdog},
    system::{SystemClock, SystemEntropy, TrustedClock, raise_open_files},
    telemetry,
    tls::{self, Keeper, Served},
    wiring::{identity::identities, keys, settings},
    workers::{Counts, Workers},
};

/// Name of the store's folder in the data folder.
pub(crate) const STORE: &str = "store";
/// Most connections to the listener for health and metrics.
const PLAIN_CONNECTIONS: usize = 64;
/// Between two times that alarms are logged.
const ALARMS_EVERY: Duration = Duration::from_secs(6 * 3_600);
/// How long the checkpoint at the end may take.
const LAST_CHECKPOINT: Duration = Duration::from_secs(5);
/// Between two tries to record what is in force, when the disk was full at the start.
const RECORD_AGAIN: Duration = Duration::from_secs(30);
/// Files that may be open beside connections and lookups: the store's, listeners, the log.
const OTHER_FILES: u64 = 128;

pub(crate) fn run(args: ServeArgs, config: Option<&Path>) -> Outcome {
    let config = load_config(config, &args)?;
    telemetry::start_logging(&config.log)?;
    if args.make_data_folder
        && files::make_missing_folder(&config.data)
            .map_err(|error| Failed::failed(format_args!("{}: {error}", config.data.display())))?
    {
        tracing::warn!(folder = %config.data.display(), "there was no data folder; this start begins a new ledger");
    }
    files::check_private_folder(&config.data).map_err(Failed::refused)?;
    // As many workers as cores is tokio's own choice.
    let runtime = Builder::new_multi_thread().enable_all().thread_name("chancery").build()?;
    let outcome = runtime.block_on(serve(config, args));
    // What still runs on blocking threads must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(config: Config, args: ServeArgs) -> Outcome {
    let mut signals = Signals::new()?;
    let limits = config.limits.clone();
    if let Some(warning) = too_few_files(&config.limits, &config.validation, raise_open_files()) {
        tracing::warn!("{warning}");
    }
    // Bound first: where another server runs, nothing else need be touched.
    let https = bind(config.listen.https).await.map_err(Failed::failed)?;
    let plain = match config.listen.plain {
        Some(address) => Some(bind(address).await.map_err(Failed::failed)?),
        None => None,
    };
    let at_work = AtWork::default();
    let options = Options { at_work: at_work.clone(), ..super::store::options(&config) };
    let path = config.data.join(STORE);
    let store = blocking(move || SledStore::open(&path, options)).await?.map_err(Failed::failed)?;
    let stopped = async {
        let running = start(config, args, &store, at_work, https, plain).await?;
        let why = running.until_stopped(&mut signals, &store).await;
        running.stop(&limits).await;
        why
    };
    let outcome = stopped.await;
    let closing = Arc::clone(&store);
    blocking(move || closing.stop()).await?;
    tracing::info!("stopped");
    outcome
}

/// The running server.
struct Running {
    process: Arc<Process>,
    stop: Stop,
    workers: JoinHandle<()>,
    stop_workers: watch::Sender<bool>,
}

async fn start(
    config: Config,
    args: ServeArgs,
    store: &Arc<SledStore>,
    at_work: AtWork,
    https: TcpListener,
    plain: Option<TcpListener>,
) -> Result<Running, Failed> {
    let started = SystemClock.now();
    let loading = config.clone();
    let in_use =
        if args.new_eab_key { None } else { keys::eab_key_in_use(&**store, started).await.map_err(Failed::failed)? };
    let keys = blocking(move || keys::make_eab_key(&loading, in_use.as_ref()).and_then(|()| keys::load(&loading)))
        .await?
        .map_err(Failed::refused)?;
    let settings = settings::settings(&config, &keys.issuing, &keys.ledger, started).map_err(Failed::refused)?;
    let identity = Arc::new(Identity::new(identities(&config).map_err(Failed::refused)?));
    settings::own_certificate_is_allowed(&config, &settings, started).map_err(Failed::refused)?;
    let dialer = dialer(&config, &https, plain.as_ref())?;
    let validator = NetworkValidator::new(dialer.clone(), validation(&config.validation)).map_err(Failed::failed)?;
    let validated = validator.counters();
    let clock = Arc::new(TrustedClock::new(last_recorded(&**store).await.map_err(Failed::damaged)?));
    if let Some(doubt) = clock.doubt() {
        tracing::error!("{doubt}");
    }
    let ports = Ports {
        store: Arc::clone(store) as _,
        signer: Arc::new(keys.signer),
        validator: Arc::new(validator),
        clock: Arc::clone(&clock) as _,
        entropy: Arc::new(SystemEntropy),
    };
    let office = Office::new(ports, settings);
    record_start(&office).await?;

    let served = Served::nothing();
    let keeper = Keeper::new(Arc::clone(&served), office.clone(), &config).map_err(Failed::refused)?;
    let keeper = Arc::new(keeper);
    keeper.take(config.tls.clone()).await.map_err(Failed::refused)?;

    let connections = Connections::new(config.limits.connections, config.limits.connections_per_address);
    let metrics = Arc::new(Metrics::new());
    let jobs = Arc::new(Counts::default());
    let process = Arc::new(Process {
        office: office.clone(),
        store: Arc::clone(store),
        clock,
        dialer: dialer.clone(),
        identity: Arc::clone(&identity),
        keeper: Arc::clone(&keeper),
        served: Arc::clone(&served),
        connections: Arc::clone(&connections),
        jobs: Arc::clone(&jobs),
        issuing: keys.issuing,
        ledger: keys.ledger,
        binds: keys.binds,
        args,
        config: ArcSwap::from_pointee(config.clone()),
        started,
        scrubbed: ArcSwap::default(),
        requests_at_once: config.limits.places.requests_at_once,
        reloading: tokio::sync::Mutex::new(()),
    });
    metrics.register(|registry| {
        registry.register_collector(Box::new(observations::of(&process, &dialer, &validated)));
    });

    let stop = Stop::new();
    let timeouts = Timeouts { handshake: config.limits.handshake_timeout, head: config.limits.header_timeout };
    let clusters = cluster_settings(&config, Arc::clone(&identity), at_work.clone());
    let state = ApiState::for_clusters(office.clone(), Arc::clone(&process) as _, Arc::clone(&metrics), clusters);
    let api = api::router(state.clone());
    let local = Local::bind(&config.data.join(SOCKET_NAME)).map_err(Failed::failed)?;
    let front = Router::new().route("/", get(front_page)).with_state(Arc::clone(&process));
    let front = front.merge(api::cluster_router(state));
    let acme =
        acme::router(AcmeState::new(office.clone(), Arc::clone(&metrics), acme_settings(&config, at_work)), front);
    let https = Https {
        tcp: https,
        tls: tls::server_config(served, Arc::clone(&identity)).map_err(Failed::failed)?,
        router: acme,
        connections,
        timeouts,
    };
    if let Some(stopping) = stop.listener() {
        tokio::spawn(local.run(api.clone(), timeouts, stopping));
    }
    if let Some(stopping) = stop.listener() {
        tokio::spawn(https.run(stopping));
    }
    if let (Some(tcp), Some(stopping)) = (plain, stop.listener()) {
        let connections = Connections::new(PLAIN_CONNECTIONS, PLAIN_CONNECTIONS);
        tokio::spawn(Plain { tcp, router: api, connections, timeouts }.run(stopping));
    }
    let (stop_workers, stopped) = watch::channel(false);
    let workers = Workers { office, keeper, validations_at_once: config.validation.at_once, counts: jobs };
    let workers = tokio::spawn(workers.run(stopped, config.limits.stop_timeout));
    tell(&config)?;
    tokio::spawn(Arc::clone(&process).scrub_patiently());
    Ok(Running { process, stop, workers, stop_workers })
}

impl Running {
    /// Waits for the end, taking reloads meanwhile.
    async fn until_stopped(&self, signals: &mut Signals, store: &SledStore) -> Outcome {
        service::ready();
        let mut watchdog = Watchdog::from_environment();
        let mut alarms = interval(ALARMS_EVERY);
        loop {
            tokio::select! {
                why = store.failed() => {
                    return Err(Failed::failed(format_args!(
                        "the store has stopped, so nothing more can be acknowledged: {why}\n\
                         what was acknowledged is on the disk; start the server again once the cause is gone"
                    )));
                }
                asked = signals.next() => match asked {
                    Asked::Stop(signal) => {
                        tracing::info!(signal, "stopping");
                        return Ok(Exit::Ok);
                    }
                    Asked::Reload => {
                        let process = Arc::clone(&self.process);
                        // Not awaited here, where the service manager is told that we live. What comes of it is in
                        // the log.
                        tokio::spawn(async move { process.reload("SIGHUP").await });
                    }
                },
                _ = alarms.tick() => {
                    for alarm in self.process.alarms() {
                        tracing::warn!("{alarm}");
                    }
                }
                () = watchdog.tick() => watchdog.alive(),
            }
        }
    }

    /// Finishes the requests and jobs under way.
    async fn stop(self, limits: &v1::Limits) {
        service::stopping();
        self.stop_workers.send_replace(true);
        let office = &self.process.office;
        finish(self.stop, self.workers, office, limits.stop_timeout).await;
        // So that everything up to the end is sealed.
        if let Some(ledger) = &office.settings().ledger
            && let Ok(Err(error)) = timeout(LAST_CHECKPOINT, office.checkpoint_now(ledger)).await
        {
            tracing::debug!(%error, "no last checkpoint");
        }
    }
}

/// Lets requests, jobs, and what goes on whose request is gone come to their end; all of it within one time.
async fn finish(stop: Stop, workers: JoinHandle<()>, office: &Office, within: Duration) {
    let until = Instant::now() + within;
    let (finished, _) = tokio::join!(stop.stop(within), workers);
    if !finished {
        tracing::warn!("some requests took too long and were cut off");
    }
    // A signature between its two commits is not cut off; what takes longer is a job of the next start.
    if timeout_at(until, office.finished()).await.is_err() {
        tracing::warn!("a validation or an issuance took too long; its job goes on with the next start");
    }
}

/// What a signal asks for.
enum Asked {
    Stop(&'static str),
    Reload,
}

/// The signals that matter.
struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failed> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
    tokio::task::spawn_blocking(work).await.map_err(Failed::failed)
}

/// The latest time that is known to have been recorded: a clock that is behind it is wrong.
///
/// Revocations and a new policy are recorded by a wrong clock too, and must not make it the right one. Nothing is
/// issued by it, so the last intent and all that follows it are enough to look at.
async fn last_recorded(store: &dyn Store) -> Result<Option<Timestamp>, StoreError> {
    let size = store.tree_head().await?.size;
    let mut latest = None;
    for index in (0..size).rev() {
        let leaf = match store.leaf(index).await {
            Ok(leaf) => leaf,
            // The scrub names it; nothing is issued then.
            Err(_) if latest.is_some() => break,
            Err(error) => return Err(error),
        };
        // Leaves are JSON, and each says when it was recorded.
        let leaf: serde_json::Value = leaf.and_then(|leaf| serde_json::from_slice(&leaf).ok()).unwrap_or_default();
        let at = leaf.get("body").and_then(|body| body.get("at")?.as_i64()).map(Timestamp::from_unix_millis);
        latest = latest.max(at);
        if leaf.get("kind").is_some_and(|kind| kind == "intent") {
            break;
        }
    }
    Ok(latest)
}

/// Records what is in force, and owes the jobs that come round by themselves. Where the disk is too
/// full for that now, it is tried again beside serving what can still be read.
async fn record_start(office: &Office) -> Result<(), Failed> {
    async fn record(office: &Office) -> Result<(), Failure> {
        office.record_start().await?;
        office.owe_standing_jobs().await
    }
    match record(office).await {
        Ok(()) => Ok(()),
        Err(Failure::NoSpace(why)) => {
            tracing::error!(why, "what is in force could not be recorded; nothing is issued before it is");
            let office = office.clone();
            tokio::spawn(async move {
                while record(&office).await.is_err() {
                    sleep(RECORD_AGAIN).await;
                }
            });
            Ok(())
        }
        Err(failure) => Err(Failed::failed(failure)),
    }
}

/// What to say where fewer files may be open than the limits allow connections.
fn too_few_files(limits: &v1::Limits, validation: &v1::Validation, may_open: u64) -> Option<String> {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    // An eighth more connections is answered 503; a validation has connections and lookups of its own, see `dialer`.
    let connections = number(limits.connections).saturating_add(number(limits.connections / 8));
    let validations = number(validation.at_once).saturating_mul(6);
    let others = number(PLAIN_CONNECTIONS).saturating_add(OTHER_FILES);
    let needed = connections.saturating_add(validations).saturating_add(others);
    (needed > may_open).then(|| {
        format!(
            "this process may open {may_open} files, but limits.connections = {} and validation.at_once = {} may take \
             {needed}: when they do, connections are refused and files cannot be read; allow more (LimitNOFILE= of the \
             service, or ulimit -Hn), or lower limits.connections",
            limits.connections, validation.at_once
        )
    })
}

fn dialer(config: &Config, https: &TcpListener, plain: Option<&TcpListener>) -> Result<Dialer, Failed> {
    let zones = ZoneTable::new(config.zones.iter().cloned()).map_err(Failed::refused)?;
    let v1::Validation { at_once, at_once_per_target, connect_timeout, lookup_timeout, .. } = config.validation;
    let settings = DialSettings {
        // Some room for the connections of redirects that are just closing.
        connections: at_once.saturating_mul(2),
        connections_per_target: at_once_per_target,
        lookups: at_once.saturating_mul(4),
        lookup_timeout,
        connect_timeout,
    };
    let dialer = Dialer::new(zones, settings);
    let own = [Some(https), plain].into_iter().flatten().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    dialer.guard().set_own(own);
    Ok(dialer)
}

fn validation(config: &v1::Validation) -> ValidationSettings {
    let pool = Pool { at_once: config.at_once, waiting: config.at_once.saturating_mul(16) };
    ValidationSettings {
        http_01: pool,
        dns_01: pool,
        tls_alpn_01: pool,
        look: ValidationSettings::default().look.min(config.time),
        ..ValidationSettings::default()
    }
}

fn acme_settings(config: &Config, at_work: AtWork) -> AcmeSettings {
    // A quarter of an hour's worth at once, the rest spread over the hour.
    let rate = |per_hour: u32| Rate {
        burst: NonZeroU32::new(per_hour / 4).unwrap_or(NonZeroU32::MIN),
        one_each: Duration::from_secs(3_600) / per_hour.max(1),
    };
    AcmeSettings {
        rates: RateLimits {
            new_accounts_per_address: Some(rate(config.limits.new_accounts_per_address_per_hour)),
            // A client may look for its account more often than it makes one.
            brought_keys_per_address: Some(rate(config.limits.new_accounts_per_address_per_hour.saturating_mul(10))),
            orders_per_account: Some(rate(config.limits.orders_per_account_per_hour)),
        },
        in_flight: config.limits.places.requests_at_once,
        arriving_per_address: config.limits.places.arriving_requests_per_address,
        documentation: config.limits.documentation.clone(),
        body_time: config.limits.body_timeout,
        at_work,
        ..AcmeSettings::at(config.listen.url.clone())
    }
}

fn cluster_settings(config: &Config, identity: Arc<Identity>, at_work: AtWork) -> ClusterSettings {
    let each = config.limits.requests_per_credential_per_second;
    ClusterSettings {
        requests_per_credential: Some(Rate {
            burst: NonZeroU32::new(each.saturating_mul(4)).unwrap_or(NonZeroU32::MIN),
            one_each: Duration::from_secs(1) / each.max(1),
        }),
        in_flight: config.limits.cluster_requests_at_once,
        body_time: config.limits.body_timeout,
        at_work,
        ..ClusterSettings::new(identity)
    }
}

/// For whoever opens the URL in a browser.
async fn front_page(State(process): State<Arc<Process>>) -> String {
    let url = process.config.load().listen.url.clone();
    let mut page = String::from("Chancery, a certificate authority (ACME, RFC 8555)\n\n");
    for name in process.office.settings().directories.keys() {
        page.push_str(&format!("directory  {}\n", Urls::new(&url, name).directory()));
    }
    page
}

/// Says where everything is and what to type next.
fn tell(config: &Config) -> Result<(), Failed> {
    let directories: Vec<String> =
        config.directories.keys().map(|name| Urls::new(&config.listen.url, name).directory()).collect();
    tracing::info!(url = config.listen.url, listen = %config.listen.https, directories = directories.join(" "), "serving");
    if config.log.format == LogFormat::Json {
        return Ok(());
    }
    line(format!("Chancery {} serves {}", env!("CARGO_PKG_VERSION"), config.listen.url))?;
    for directory in &directories {
        line(format!("  directory  {directory}"))?;
    }
    if let Some(first) = directories.first() {
        line(format!("  certbot    certbot certonly --server {first} --standalone -d NAME"))?;
        line("             (clients must trust the root: REQUESTS_CA_BUNDLE=root.pem)")?;
    }
    line(format!("  status     chancery status --config {}", config.file.display()))
}

#[cfg(test)]
mod tests {
    use chancery_testkit::office::TestOffice;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_jobs_and_what_goes_on_without_a_request_end_within_one_time() {
        let ca = TestOffice::default();
        let account = ca.account().await;
        let order = ca.order(&account, &["a.test"]).await;
        let authorization = ca.authorizations(&order).await.remove(0);
        let kind = authorization.challenges.first().expect("a challenge").kind;
        ca.validator.hold();
        // A validation that does not end, and a request that does not either.
        ca.office.answer_challenge(&account, authorization.id, kind).await.expect("it is under way");
        let stop = Stop::new();
        let _request = stop.listener().expect("not stopped");
        let (began, within) = (Instant::now(), Duration::from_secs(30));
        let workers = tokio::spawn(sleep(within));
        finish(stop, workers, &ca.office, within).await;
        assert!(began.elapsed() < within + Duration::from_secs(1), "it took {:?}", began.elapsed());
    }

    #[test]
    fn connections_that_do_not_fit_under_the_limit_of_open_files_are_a_warning_in_words() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/samples/chancery.toml");
        let config = crate::config::load(Some(&sample)).expect("the sample is taken");
        let (limits, validation) = (&config.limits, &config.validation);
        assert_eq!(too_few_files(limits, validation, 65_536), None, "the unit's LimitNOFILE");
        let warning = too_few_files(limits, validation, 1_024).expect("a warning");
        assert!(warning.contains("may open 1024 files") && warning.contains("limits.connections = 8192"), "{warning}");
    }
}
