//! The loop that keeps what is published as it should be.

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    fmt::Debug,
    hash::BuildHasher as _,
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::{
    api::{
        certificates::v1::{ClusterTrustBundle, ClusterTrustBundleSpec},
        core::v1::{ConfigMap, Namespace},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    api::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        events::EventType,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    ASKS, CA_CRT, PUBLISHED,
    listed::{Key, Listed},
    roots::{Roots, Standing},
    write::{Held, Written, change, create, remove},
};
use crate::{
    condition::Notice, dispatch::Desk, events::Events, leader::Leadership, metrics::Metrics,
    signers::of_cluster_issuer, watch::trouble,
};

/// After how long a write is tried again that was not taken.
const AGAIN: Duration = Duration::from_secs(10);
/// After how long it is looked whether somebody else's object is still in the way: no watch shows it, and there may be one
/// in each namespace.
const FOREIGN: Duration = Duration::from_secs(300);

/// What is published, and with what.
pub(crate) struct Publishing {
    pub(crate) client: Client,
    pub(crate) desk: Arc<Desk>,
    pub(crate) events: Events,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether ClusterTrustBundles are written.
    pub(crate) bundles: bool,
    /// The name of the ConfigMaps; none, where none are written.
    pub(crate) config_map: Option<String>,
    /// Whether all cluster issuers have been seen.
    pub(crate) listed: watch::Receiver<bool>,
}

/// Publishes until `stop`.
pub(crate) async fn publish(publishing: Publishing, stop: CancellationToken) {
    let mut watched = Watched::new(publishing);
    tokio::select! {
        () = stop.cancelled() => {}
        () = watched.run() => {}
    }
}

type Events_<K> = BoxStream<'static, watcher::Result<Event<K>>>;

/// A namespace that asks: for the roots of which issuer, or none if it is going.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asks(Option<String>);

/// What is looked at again later, all at once.
struct Later {
    bundles: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    after: Duration,
    at: Option<Instant>,
}

impl Later {
    const fn after(after: Duration) -> Self {
        Self { bundles: BTreeSet::new(), namespaces: BTreeSet::new(), after, at: None }
    }

    fn bundle(&mut self, name: &str) {
        self.bundles.insert(name.to_owned());
        self.at.get_or_insert_with(|| Instant::now() + self.after);
    }

    fn namespace(&mut self, name: &str) {
        self.namespaces.insert(name.to_owned());
        self.at.get_or_insert_with(|| Instant::now() + self.after);
    }

    /// Bundles and namespaces, if their time has come.
    fn take(&mut self, now: Instant) -> (BTreeSet<String>, BTreeSet<String>) {
        if self.at.is_none_or(|at| at > now) {
            return (BTreeSet::new(), BTreeSet::new());
        }
        self.at = None;
        (std::mem::take(&mut self.bundles), std::mem::take(&mut self.namespaces))
    }
}

struct Watched {
    with: Publishing,
    digests: RandomState,
    roots: Roots,
    bundles: Listed<Held>,
    maps: Listed<Held>,
    namespaces: Listed<Asks>,
    /// The names of bundles that are to be looked at.
    due_bundles: BTreeSet<String>,
    /// The namespaces that are to be looked at.
    due_namespaces: BTreeSet<String>,
    /// What was not taken.
    failed: Later,
    /// What somebody else's object is in the way of.
    foreign: Later,
    /// Foreign objects that people have been told of.
    told: BTreeSet<Key>,
}

impl Watched {
    fn new(with: Publishing) -> Self {
        Self {
            with,
            digests: RandomState::new(),
            roots: Roots::default(),
            bundles: Listed::default(),
            maps: Listed::default(),
            namespaces: Listed::default(),
            due_bundles: BTreeSet::new(),
            due_namespaces: BTreeSet::new(),
            failed: Later::after(AGAIN),
            foreign: Later::after(FOREIGN),
            told: BTreeSet::new(),
        }
    }

    async fn run(&mut self) {
        let client = self.with.client.clone();
        let (bundles_on, maps_on) = (self.with.bundles, self.with.config_map.is_some());
        let mut bundles: Events_<ClusterTrustBundle> = events(bundles_on, &client, PUBLISHED);
        let mut maps: Events_<ConfigMap> = events(maps_on, &client, PUBLISHED);
        let mut namespaces: Events_<PartialObjectMeta<Namespace>> = events(maps_on, &client, ASKS);
        let mut issuers = self.with.desk.book.changes();
        let mut listed = self.with.listed.clone();
        self.take_issuers();
        loop {
            self.write_what_is_due().await;
            let far = Instant::now() + Duration::from_secs(3600);
            let again = [self.failed.at, self.foreign.at].into_iter().flatten().min();
            tokio::select! {
                Some(event) = bundles.next() => {
                    let digests = &self.digests;
                    let changed = taken(&self.with.metrics, event, &mut self.bundles, |bundle| {
                        held(bundle, digests.hash_one(bundle.spec.trust_bundle.as_str()))
                    });
                    self.due_bundles.extend(changed.into_iter().map(|(_, name)| name));
                }
                Some(event) = maps.next() => {
                    let digests = &self.digests;
                    let changed = taken(&self.with.metrics, event, &mut self.maps, |map| held(map, digest(digests, map)));
                    self.due_namespaces.extend(changed.into_iter().map(|(namespace, _)| namespace));
                }
                Some(event) = namespaces.next() => {
                    let changed = taken(&self.with.metrics, event, &mut self.namespaces, asks);
                    self.due_namespaces.extend(changed.into_iter().map(|(_, name)| name));
                }
                Ok(()) = issuers.changed() => self.take_issuers(),
                Ok(()) = listed.changed() => self.take_issuers(),
                () = sleep_until(again.unwrap_or(far)) => {}
            }
        }
    }

    fn take_issuers(&mut self) {
        let listed = *self.with.listed.borrow();
        let changed = self.roots.take(&self.with.desk.book.all(), listed);
        if changed.is_empty() {
            return;
        }
        if self.with.bundles {
            self.due_bundles.extend(changed.iter().map(|name| bundle_name(name)));
            // Those of issuers that are gone.
            self.due_bundles.extend(self.bundles.keys().map(|(_, name)| name.clone()));
        }
        let asking = self.namespaces.keys().filter(|key| {
            let asks = self.namespaces.get(key).and_then(|Asks(issuer)| issuer.as_ref());
            asks.is_some_and(|issuer| changed.contains(issuer))
        });
        self.due_namespaces.extend(asking.map(|(_, name)| name.clone()));
    }

    async fn write_what_is_due(&mut self) {
        let now = Instant::now();
        for (bundles, namespaces) in [self.failed.take(now), self.foreign.take(now)] {
            self.due_bundles.extend(bundles);
            self.due_namespaces.extend(namespaces);
        }
        if self.bundles.is_complete() {
            for name in std::mem::take(&mut self.due_bundles) {
                if let Err(error) = self.write_bundle(&name).await {
                    self.say_failed("ClusterTrustBundle", &name, &error);
                    self.failed.bundle(&name);
                }
            }
        }
        if self.maps.is_complete() && self.namespaces.is_complete() {
            for name in std::mem::take(&mut self.due_namespaces) {
                if let Err(error) = self.write_maps(&name).await {
                    self.say_failed("ConfigMap", &name, &error);
                    self.failed.namespace(&name);
                }
            }
        }
    }

    async fn write_bundle(&mut self, name: &str) -> Result<(), kube::Error> {
        let Some(issuer) = issuer_of_bundle(name) else { return Ok(()) };
        let api: Api<ClusterTrustBundle> = Api::all(self.with.client.clone());
        let there = self.bundles.get(&(String::new(), name.to_owned()));
        let written = match (self.roots.of(&issuer), there) {
            (Standing::Unknown, _) | (Standing::Off, None) => return Ok(()),
            _ if !self.with.leadership.holds() => return Ok(()),
            (Standing::Published(pem), None) => {
                let spec = ClusterTrustBundleSpec {
                    signer_name: Some(of_cluster_issuer(&issuer)),
                    trust_bundle: pem.to_string(),
                };
                create(&api, &ClusterTrustBundle { metadata: published(name), spec }).await?
            }
            (Standing::Published(pem), Some(held)) => {
                if self.digests.hash_one(&*pem) == held.content {
                    return Ok(());
                }
                let new = json!({ "op": "replace", "path": "/spec/trustBundle", "value": &*pem });
                change(&api, name, held, new).await?
            }
            (Standing::Off, Some(held)) => remove(&api, name, held).await?,
        };
        if let Written::Foreign(_) = &written {
            self.foreign.bundle(name);
        }
        self.end("ClusterTrustBundle", &(String::new(), name.to_owned()), written);
        Ok(())
    }

    /// Writes the ConfigMap of a namespace, and removes what should not be there.
    async fn write_maps(&mut self, namespace: &str) -> Result<(), kube::Error> {
        let Some(wanted_name) = self.with.config_map.clone() else { return Ok(()) };
        let api: Api<ConfigMap> = Api::namespaced(self.with.client.clone(), namespace);
        let asks = self.namespaces.get(&(String::new(), namespace.to_owned())).cloned();
        let standing = match asks {
            // What is in a namespace that goes, goes with it.
            Some(Asks(None)) => return Ok(()),
            Some(Asks(Some(issuer))) => self.roots.of(&issuer),
            None => Standing::Off,
        };
        if standing == Standing::Unknown || !self.with.leadership.holds() {
            return Ok(());
        }
        let there: Vec<(String, Held)> =
            self.maps.of_namespace(namespace).map(|(name, held)| (name.to_owned(), held.clone())).collect();
        let mut missing = true;
        for (name, held) in there {
            let key = (namespace.to_owned(), name.clone());
            let written = match &standing {
                Standing::Published(pem) if name == wanted_name => {
                    missing = false;
                    if self.digests.hash_one(&**pem) == held.content {
                        continue;
                    }
                    let new = json!({ "op": "add", "path": "/data", "value": { CA_CRT: &**pem } });
                    change(&api, &name, &held, new).await?
                }
                _ => remove(&api, &name, &held).await?,
            };
            self.end("ConfigMap", &key, written);
        }
        if let (Standing::Published(pem), true) = (&standing, missing) {
            let data = Some([(CA_CRT.to_owned(), pem.to_string())].into());
            let map = ConfigMap { metadata: published(&wanted_name), data, ..ConfigMap::default() };
            let written = create(&api, &map).await?;
            if let Written::Foreign(_) = &written {
                self.foreign.namespace(namespace);
            }
            self.end("ConfigMap", &(namespace.to_owned(), wanted_name), written);
        }
        Ok(())
    }

    fn end<K: Resource<DynamicType = ()>>(&mut self, kind: &'static str, key: &Key, written: Written<K>) {
        match written {
            Written::Yes => {
                self.with.metrics.roots_written(kind, "written");
                tracing::info!(kind, namespace = %key.0, name = %key.1, "published roots are as they should be");
                self.told.remove(key);
            }
            Written::Behind => {}
            Written::Foreign(there) => {
                self.with.metrics.roots_written(kind, "foreign");
                if self.told.insert(key.clone()) {
                    let note = format!(
                        "This {kind} is not chancery-issuer's, and is left as it is: roots cannot be published under \
                         its name; rename or remove it"
                    );
                    tracing::warn!(kind, namespace = %key.0, name = %key.1, "{note}");
                    let notice = Notice { kind: EventType::Warning, reason: "RootsNotPublished", note };
                    self.with.events.publish(there.object_ref(&()), notice);
                }
            }
        }
    }

    fn say_failed(&self, kind: &'static str, name: &str, error: &kube::Error) {
        self.with.metrics.roots_written(kind, "failed");
        tracing::warn!(
            kind, name, error = %error,
            "roots are not published; trying again; does this service account have the rights of the feature?"
        );
    }
}

/// The objects of a kind with a label; none ever where the feature is off.
fn events<K>(on: bool, client: &Client, label: &str) -> Events_<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    if !on {
        return stream::pending().boxed();
    }
    watcher(Api::<K>::all(client.clone()), watcher::Config::default().labels(label)).default_backoff().boxed()
}

fn taken<K: Resource<DynamicType = ()>, V>(
    metrics: &Metrics,
    event: watcher::Result<Event<K>>,
    listed: &mut Listed<V>,
    read: impl Fn(&K) -> (Key, V),
) -> BTreeSet<Key> {
    match event {
        Ok(event) => listed.take(event, read),
        Err(error) => {
            trouble(metrics, &K::kind(&()), &error);
            BTreeSet::new()
        }
    }
}

fn key<K: Resource>(object: &K) -> Key {
    let metadata = object.meta();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn held<K: Resource>(object: &K, content: u64) -> (Key, Held) {
    let metadata = object.meta();
    let (uid, version) =
        (metadata.uid.clone().unwrap_or_default(), metadata.resource_version.clone().unwrap_or_default());
    (key(object), Held { uid, version, content })
}

/// What a ConfigMap holds: the roots alone, or something else.
fn digest(digests: &RandomState, map: &ConfigMap) -> u64 {
    let data: Vec<(&String, &String)> = map.data.iter().flatten().collect();
    let binary = map.binary_data.iter().flatten().count();
    match data.as_slice() {
        [(key, pem)] if *key == CA_CRT && binary == 0 => digests.hash_one(pem.as_str()),
        _ => digests.hash_one((&data, binary)),
    }
}

fn asks(namespace: &PartialObjectMeta<Namespace>) -> (Key, Asks) {
    let metadata = &namespace.metadata;
    let issuer = metadata.labels.as_ref().and_then(|labels| labels.get(ASKS));
    (key(namespace), Asks(issuer.cloned().filter(|_| metadata.deletion_timestamp.is_none())))
}

fn published(name: &str) -> ObjectMeta {
    let labels = [
        (PUBLISHED.to_owned(), "true".to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "chancery-issuer".to_owned()),
    ];
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels.into()), ..ObjectMeta::default() }
}

/// The name of an issuer's bundle: the API server wants the signer name in front of it.
fn bundle_name(issuer: &str) -> String {
    format!("{}:roots", of_cluster_issuer(issuer).replace('/', ":"))
}

/// The issuer whose bundle this is.
fn issuer_of_bundle(name: &str) -> Option<String> {
    let path = name.strip_suffix(":roots")?;
    let (_, issuer) = path.rsplit_once(':')?;
    (bundle_name(issuer) == name).then(|| issuer.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::http::{Method, StatusCode};
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use serde_json::Value;
    use tokio::{sync::mpsc, time::timeout};

    use super::*;
    use crate::{
        board::{IssuerKey, Limits},
        decide::IssuerState,
        fake_api, fake_signer,
        resource::RateLimit,
    };

    fn root() -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root").pem()
    }

    /// Publishes maps in a cluster where `corp` is ready and publishes these roots.
    fn publishing(client: Client, roots: &str) -> Publishing {
        let rate = RateLimit { requests_per_second: 10_000, burst: Some(10_000) };
        let desk = Arc::new(Desk::new(Limits { active: 10, concurrency: 4, rate }));
        let signer = fake_signer::signer(&json!({ "publishRoots": true }), &json!({ "roots": roots }));
        desk.issuer_is(&IssuerKey { namespace: None, name: "corp".into() }, IssuerState::Ready, Some(signer));
        Publishing {
            events: Events::start(&client, "tests".to_owned()),
            client,
            desk,
            leadership: Leadership::alone(),
            metrics: Arc::new(Metrics::new()),
            bundles: false,
            config_map: Some("roots".to_owned()),
            listed: watch::channel(true).1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_else_removes_is_in_the_way_no_more() {
        const MAPS: &str = "/api/v1/namespaces/shop/configmaps";
        let (made, mut makes) = mpsc::unbounded_channel();
        let in_the_way = Arc::new(AtomicBool::new(true));
        let list = |items: Value| {
            fake_api::object(
                &json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": items }),
            )
        };
        let client = fake_api::client(move |method, uri, body| match (method, uri.path()) {
            _ if uri.query().is_some_and(|query| query.contains("watch=true")) => fake_api::silence(),
            (&Method::GET, "/api/v1/namespaces") => {
                list(json!([{ "metadata": { "name": "shop", "uid": "n-1", "labels": { ASKS: "corp" } } }]))
            }
            (&Method::POST, MAPS) if in_the_way.load(Ordering::SeqCst) => {
                fake_api::refusal(StatusCode::CONFLICT, "AlreadyExists")
            }
            (&Method::POST, MAPS) => {
                made.send(String::from_utf8_lossy(body).into_owned()).expect("the test waits");
                fake_api::object(&json!({ "metadata": { "name": "roots" } }))
            }
            (&Method::GET, "/api/v1/namespaces/shop/configmaps/roots") => {
                fake_api::object(&json!({ "metadata": { "name": "roots", "namespace": "shop", "uid": "theirs" } }))
            }
            (&Method::POST, "/apis/events.k8s.io/v1/namespaces/shop/events") => {
                // Who is told to remove it does so.
                in_the_way.store(false, Ordering::SeqCst);
                fake_api::object(&json!({}))
            }
            _ => list(json!([])),
        });
        let (roots, stop) = (root(), CancellationToken::new());
        let publishes = tokio::spawn(publish(publishing(client, &roots), stop.clone()));
        let made = timeout(Duration::from_hours(1), makes.recv()).await.expect("in time").expect("a map");
        assert!(made.contains("BEGIN CERTIFICATE") && made.contains(PUBLISHED), "{made}");
        stop.cancel();
        publishes.await.expect("it publishes until it is stopped");
    }

    #[test]
    fn a_bundle_is_named_after_its_signer_and_nothing_else_is_taken_for_one() {
        assert_eq!(bundle_name("corp"), "chanceryclusterissuers.chancery.dev:corp:roots");
        assert_eq!(issuer_of_bundle("chanceryclusterissuers.chancery.dev:corp:roots").as_deref(), Some("corp"));
        for other in ["example.com:corp:roots", "chanceryclusterissuers.chancery.dev:corp:other", "corp:roots", ""] {
            assert_eq!(issuer_of_bundle(other), None, "{other}");
        }
    }

    #[test]
    fn a_map_that_holds_more_than_the_roots_is_not_as_it_should_be() {
        let digests = RandomState::new();
        let map = |data: &[(&str, &str)]| ConfigMap {
            data: Some(data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
            ..ConfigMap::default()
        };
        assert_eq!(digest(&digests, &map(&[(CA_CRT, "x")])), digests.hash_one("x"));
        for other in [map(&[(CA_CRT, "y")]), map(&[(CA_CRT, "x"), ("more", "z")]), map(&[("other", "x")]), map(&[])] {
            assert_ne!(digest(&digests, &other), digests.hash_one("x"));
        }
    }
}
