//! `chancery-issuer run`: finds out what the cluster has, leads or waits, and stops in good order.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chancery_egress::{DialSettings, Dialer, ZoneSpec, ZoneTable};
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch as channel,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    board::Limits,
    check::Checker,
    cli::{LogFormat, Run},
    clients::Clients,
    credentials::{AllowedServers, Reader},
    discovery::{self, Feature, Found, Presence},
    dispatch::{Desk, dispatch},
    disposal::Disposals,
    events::Events,
    issuers::{Checks, Tending, tend_all},
    leader::{Elector, Leadership},
    metrics::{DeskNumbers, Metrics},
    origin::{NamespaceLabels, Origins},
    probes::{self, Health},
    resource::{ChanceryClusterIssuer, ChanceryIssuer},
    signers::{self, Asking, PodRequests, Serving, SigningRequests},
    throttle::Throttle,
    trust::{Publishing, publish},
    unapproved::Unapproved,
    usage::Usages,
    watch,
    worker::Worker,
};

/// How often it is looked for what is missing.
const MISSING: Duration = Duration::from_secs(20);
/// How often it is looked whether the cluster has changed.
const CHANGED: Duration = Duration::from_secs(300);
/// Longest wait at the start for each issuer to be checked.
const FIRST_CHECKS: Duration = Duration::from_secs(5);
/// Most connections to servers at a time.
const CONNECTIONS: usize = 1024;
/// Longest wait for what is under way when this process stops.
const DRAIN: Duration = Duration::from_secs(20);

/// Runs until a signal.
///
/// # Errors
///
/// A sentence: what cannot be, and what to do.
pub(crate) fn run(settings: Run) -> Result<(), String> {
    start_logging(&settings)?;
    // kube asks for the process's provider; it is an error only if there is one already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(Box::pin(serve(settings)))
}

/// What each time of leading shares.
struct Shared {
    settings: Run,
    client: Client,
    checker: Checker,
    events: Events,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    desk: Arc<Mutex<Option<Arc<Desk>>>>,
    /// What is to be revoked outlives a term: who leads again after a pause finds what was deleted in between.
    disposals: Arc<Disposals>,
}

async fn serve(settings: Run) -> Result<(), String> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let config = Config::infer().await.map_err(|error| {
        format!("there is neither a kubeconfig nor a pod's service account: {error}; set KUBECONFIG")
    })?;
    let namespace = settings.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| format!("the kubeconfig cannot be used: {error}"))?;
    let identity = identity(settings.identity.as_deref());
    let events = Events::start(&client, identity.clone());
    let metrics = Arc::new(Metrics::new());
    let health = Arc::new(Health::default());
    let desk = Arc::new(Mutex::new(None));

    let mut registry = Registry::default();
    metrics.register(&mut registry);
    registry.register_collector(Box::new(DeskNumbers { desk: Arc::clone(&desk), events: events.clone() }));
    let tcp = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| format!("{} cannot be listened on: {error}; choose another --listen", settings.listen))?;
    if let Some(file) = &settings.listen_file {
        let address = tcp.local_addr().map_err(|error| error.to_string())?;
        std::fs::write(file, address.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let probes = tokio::spawn(probes::serve(tcp, Arc::clone(&health), registry, stop.child_token()));

    let checker = Checker {
        reader: Reader {
            client: client.clone(),
            cluster_namespace: settings.cluster_resource_namespace.clone().unwrap_or_else(|| namespace.clone()),
            audience: settings.token_audience.clone(),
        },
        allowed: AllowedServers(settings.allowed_servers.clone()),
        dialer: dialer(&settings)?,
        clients: Clients::default(),
    };
    let disposals = Arc::new(Disposals::new(Arc::clone(&metrics)));
    let shared = Shared { settings, client, checker, events, metrics, health, desk, disposals };
    if shared.settings.no_leader_election {
        shared.lead(Leadership::alone(), stop.clone()).await;
    } else {
        shared.elect(&namespace, identity, &stop).await;
    }
    let _ended = probes.await;
    Ok(())
}

impl Shared {
    async fn elect(&self, namespace: &str, identity: String, stop: &CancellationToken) {
        let name = &self.settings.lease_name;
        let mut elector = Elector::new(self.client.clone(), namespace, name, identity);
        // Probes of a replica that waits say what the cluster has, too. A pod whose network is not there yet looks again:
        // a rollout waits until it is ready, and the one before it keeps the Lease until then.
        let mut looking = Box::pin(self.look_until_found(stop));
        let mut looked = false;
        loop {
            let acquired = {
                let acquire = elector.acquire(stop);
                tokio::pin!(acquire);
                loop {
                    tokio::select! {
                        acquired = &mut acquire => break acquired,
                        () = &mut looking, if !looked => looked = true,
                    }
                }
            };
            if !acquired {
                return;
            }
            let leading = stop.child_token();
            let lead = self.lead(elector.leadership(), leading.clone());
            tokio::pin!(lead);
            let lost = tokio::select! {
                () = &mut lead => false,
                () = elector.keep(&leading) => true,
            };
            leading.cancel();
            if lost {
                lead.await;
            }
            elector.release().await;
        }
    }

    async fn look_until_found(&self, stop: &CancellationToken) {
        while self.look().await.is_none() && !stop.is_cancelled() {
            pause(stop, Duration::from_secs(2)).await;
        }
    }

    /// Serves requests until `stop`; begins anew where the cluster has got or lost something.
    async fn lead(&self, leadership: Leadership, stop: CancellationToken) {
        self.health.leading(true);
        self.metrics.leading(true);
        while !stop.is_cancelled() {
            let Some(found) = self.look().await else {
                pause(&stop, Duration::from_secs(2)).await;
                continue;
            };
            if found.issuers {
                self.serve(found, leadership.clone(), stop.child_token()).await;
                pause(&stop, Duration::from_secs(1)).await;
            } else {
                tracing::warn!(
                    "the kinds of chancery.dev/v1 are not installed; apply what `chancery-issuer crds` prints"
                );
                pause(&stop, MISSING).await;
            }
        }
        self.health.leading(false);
        self.metrics.leading(false);
    }

    async fn look(&self) -> Option<Found> {
        let look = discovery::look(&self.client, &self.settings.features);
        match timeout(Duration::from_secs(30), look).await {
            Ok(Ok(found)) => {
                self.health.found(found.clone());
                self.metrics.found(&found);
                Some(found)
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the API server does not say what it has; trying again");
                self.health.trouble(format!("the API server does not say what it has: {error}"));
                None
            }
            Err(_) => {
                self.health.trouble("the API server does not answer".to_owned());
                None
            }
        }
    }

    /// Serves what was found until `stop`, or until something else is found.
    async fn serve(&self, found: Found, leadership: Leadership, stop: CancellationToken) {
        let settings = &self.settings;
        let limits = Limits {
            active: usize::try_from(settings.max_active).unwrap_or(usize::MAX),
            concurrency: usize::from(settings.concurrency),
            rate: settings.rate(),
        };
        let desk = Arc::new(Desk::new(limits));
        *self.desk.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&desk));
        let (tasks, jobs) = (TaskTracker::new(), TaskTracker::new());
        // None of these ends before it is asked to.
        let mut lasting = JoinSet::new();
        let tending = Tending {
            client: self.client.clone(),
            checker: self.checker.clone(),
            desk: Arc::clone(&desk),
            events: self.events.clone(),
            metrics: Arc::clone(&self.metrics),
            leadership: leadership.clone(),
            checks: Arc::new(Checks::new()),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let (of_namespaces, mut first) = channel::channel(false);
        let (of_cluster, mut second) = channel::channel(false);
        lasting.spawn(tend_all::<ChanceryIssuer>(tending.clone(), of_namespaces));
        lasting.spawn(tend_all::<ChanceryClusterIssuer>(tending, of_cluster));
        self.publish_roots(&found, &desk, &leadership, second.clone(), &mut lasting, &stop);
        let checked = async {
            let listed = async {
                first.wait_for(|listed| *listed).await.is_ok() && second.wait_for(|listed| *listed).await.is_ok()
            };
            if listed.await {
                desk.first_checks.close();
                desk.first_checks.wait().await;
            }
        };
        // So that nobody is told to wait for an issuer that is about to be found well.
        tokio::select! {
            () = stop.cancelled() => {}
            _ = timeout(FIRST_CHECKS, checked) => {}
        }
        let labels = NamespaceLabels::default();
        if found.requests || found.serves(Feature::PodCertificateRequests) {
            let metrics = Arc::clone(&self.metrics);
            lasting.spawn(watch::namespaces(self.client.clone(), labels.clone(), metrics, stop.clone()));
        }
        let origins = Origins::new(self.client.clone(), labels.clone());
        let disposals = Arc::clone(&self.disposals);
        let dispose =
            Arc::clone(&disposals).work_off(Arc::clone(&desk), origins.clone(), leadership.clone(), stop.clone());
        lasting.spawn(dispose);
        self.serve_signers(&found, &desk, &leadership, &labels, (&mut lasting, &jobs), &stop);
        if found.requests {
            let unapproved = Arc::new(Unapproved::new(settings.unapproved_after));
            lasting.spawn(Arc::clone(&unapproved).tell(self.events.clone(), stop.clone()));
            let usages = Arc::new(Usages::new(Arc::clone(&self.metrics)));
            lasting.spawn(Arc::clone(&usages).send(stop.clone()));
            let worker = Arc::new(Worker {
                client: self.client.clone(),
                events: self.events.clone(),
                leadership,
                metrics: Arc::clone(&self.metrics),
                origins,
                disposals,
                usages,
                throttle: Throttle::default(),
                desk: Arc::clone(&desk),
                retry_budget: settings.retry_budget,
            });
            lasting.spawn(watch::requests(
                self.client.clone(),
                found.selectable,
                Arc::clone(&desk),
                Arc::clone(&worker),
                unapproved,
                jobs.clone(),
                stop.clone(),
            ));
            lasting.spawn(dispatch(Arc::clone(&desk), worker, jobs.clone(), stop.clone()));
            tracing::info!(select = found.selectable, "serving CertificateRequests");
        } else {
            tracing::warn!("cert-manager is not installed; CertificateRequests are not served");
        }
        loop {
            tokio::select! {
                () = pause(&stop, if found.requests { CHANGED } else { MISSING }) => {}
                Some(ended) = lasting.join_next() => {
                    if !stop.is_cancelled() {
                        let error = ended.err().map(|error| error.to_string());
                        tracing::error!(error, "a task ended that never should; beginning anew");
                        self.metrics.broken();
                    }
                    break;
                }
            }
            if stop.is_cancelled() {
                break;
            }
            if self.look().await.is_some_and(|now| now != found) {
                tracing::info!("the cluster has changed; beginning anew");
                break;
            }
        }
        stop.cancel();
        tasks.close();
        jobs.close();
        let ended = async { while lasting.join_next().await.is_some() {} };
        if timeout(DRAIN, async { tokio::join!(ended, tasks.wait(), jobs.wait()) }).await.is_err() {
            tracing::warn!("some requests are still under way; they are taken up by whoever leads next");
        }
        *self.desk.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Shared {
    /// Serves Kubernetes' own kinds, those that are switched on and that the cluster has.
    fn serve_signers(
        &self,
        found: &Found,
        desk: &Arc<Desk>,
        leadership: &Leadership,
        labels: &NamespaceLabels,
        (lasting, jobs): (&mut JoinSet<()>, &TaskTracker),
        stop: &CancellationToken,
    ) {
        let settings = &self.settings;
        let asking = Asking {
            client: self.client.clone(),
            desk: Arc::clone(desk),
            events: self.events.clone(),
            leadership: leadership.clone(),
            metrics: Arc::clone(&self.metrics),
            disposals: Arc::clone(&self.disposals),
        };
        let serving = || Serving {
            client: self.client.clone(),
            desk: Arc::clone(desk),
            metrics: Arc::clone(&self.metrics),
            disposals: Arc::clone(&self.disposals),
            limits: signers::Limits {
                active: usize::try_from(settings.max_active).unwrap_or(usize::MAX),
                concurrency: usize::from(settings.concurrency),
                // So that a slow server does not take all.
                each_issuer: usize::from(settings.concurrency).div_ceil(2),
            },
            rate: settings.rate(),
            jobs: jobs.clone(),
        };
        if found.serves(Feature::CertificateSigningRequests) {
            let requests = SigningRequests { asking: asking.clone(), retry_budget: settings.retry_budget };
            lasting.spawn(signers::serve(Arc::new(requests), serving(), stop.clone()));
        }
        if found.serves(Feature::PodCertificateRequests) {
            let requests = PodRequests { asking, labels: labels.clone() };
            lasting.spawn(signers::serve(Arc::new(requests), serving(), stop.clone()));
        }
        for (feature, presence) in &found.others {
            match presence {
                Presence::On => tracing::info!("serving {}", feature.name()),
                Presence::Lacking => tracing::warn!("{} is {}", feature.name(), presence.words()),
                Presence::Off => {}
            }
        }
    }
}

impl Shared {
    /// Publishes the roots of issuers, where that is switched on; `listed` says whether all cluster issuers are known.
    fn publish_roots(
        &self,
        found: &Found,
        desk: &Arc<Desk>,
        leadership: &Leadership,
        listed: channel::Receiver<bool>,
        lasting: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let bundles = found.serves(Feature::ClusterTrustBundles);
        let maps = found.serves(Feature::RootConfigMaps);
        if !bundles && !maps {
            return;
        }
        let publishing = Publishing {
            client: self.client.clone(),
            desk: Arc::clone(desk),
            events: self.events.clone(),
            leadership: leadership.clone(),
            metrics: Arc::clone(&self.metrics),
            bundles,
            config_map: maps.then(|| self.settings.root_config_map.clone()),
            listed,
        };
        lasting.spawn(publish(publishing, stop.clone()));
    }
}

async fn pause(stop: &CancellationToken, for_: Duration) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = sleep(for_) => {}
    }
}

fn dialer(settings: &Run) -> Result<Dialer, String> {
    let mut fixed_hosts = BTreeMap::<String, Vec<IpAddr>>::new();
    for (name, address) in &settings.fixed_hosts {
        fixed_hosts.entry(name.clone()).or_default().push(*address);
    }
    let zone = ZoneSpec {
        name: "default".to_owned(),
        allow: settings.allow_addresses.clone(),
        fixed_hosts,
        resolvers: settings.resolvers.clone(),
        ..ZoneSpec::default()
    };
    let zones = ZoneTable::new([zone]).map_err(|error| format!("--allow-address or --fixed-host: {error}"))?;
    // All issuers may have one server: what is allowed in all is allowed to one.
    let all = DialSettings { connections: CONNECTIONS, connections_per_target: CONNECTIONS, ..DialSettings::default() };
    Ok(Dialer::new(zones, all))
}

/// A name that no other process has, also not this one after a restart.
fn identity(given: Option<&str>) -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{}_{random:016x}", given.unwrap_or("chancery-issuer"))
}

fn stop_on_signal(stop: CancellationToken) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be listened for: {error}"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(())
}

fn start_logging(settings: &Run) -> Result<(), String> {
    use tracing_subscriber::{EnvFilter, util::SubscriberInitExt as _};
    let filter = EnvFilter::builder().parse(&settings.log_level).map_err(|error| format!("--log-level: {error}"))?;
    // A line that cannot be written is lost. To say so on the same stream would panic, and take whoever logged with it.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let started = match settings.log_format {
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr())
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            builder.with_ansi(colour).with_target(false).finish().try_init()
        }
    };
    started.map_err(|error| format!("logging cannot be started: {error}"))
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
