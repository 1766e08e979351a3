//! CertificateRequests, made and watched. All times are those at which one watch saw an object, for every issuer alike.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chancery_cluster_tests::{Plane, Result, until::conditions_of};
use futures::StreamExt as _;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::site::Issuer;

/// Longest that a stage may make no progress.
const STUCK: Duration = Duration::from_secs(180);

/// When a request was seen to be what.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) approved: Option<Instant>,
    pub(crate) issued: Option<Instant>,
}

#[derive(Default)]
struct All {
    seen: HashMap<String, Seen>,
    failed: Vec<String>,
}

/// One watch over all CertificateRequests.
pub(crate) struct Watch {
    all: Arc<Mutex<All>>,
    changed: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    pub(crate) async fn start(plane: &Plane) -> Result<Self> {
        let client = plane.client().await?;
        let resource = requests(plane, "default").await?;
        let api: Api<DynamicObject> = Api::all_with(client, &resource.1);
        let all: Arc<Mutex<All>> = Arc::default();
        let (changes, mut changed) = watch::channel(());
        let seen = Arc::clone(&all);
        let task = tokio::spawn(async move {
            let mut objects = watcher(api, watcher::Config::default()).default_backoff().boxed();
            while let Some(event) = objects.next().await {
                match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => see(&seen, &object),
                    Ok(_) => {}
                    Err(error) => lock(&seen).failed.push(format!("the watch: {error}")),
                }
                let _nobody_waits = changes.send(());
            }
        });
        timeout(STUCK, changed.changed()).await??;
        Ok(Self { all, changed, task })
    }

    /// Waits until so many of a namespace's requests are so far.
    pub(crate) async fn until(&self, namespace: &str, count: usize, far: impl Fn(&Seen) -> bool) -> Result<()> {
        let mut changed = self.changed.clone();
        let beginning = format!("{namespace}/");
        loop {
            let so_far = {
                let all = lock(&self.all);
                if let Some(failure) = all.failed.first() {
                    return Err(format!("{} requests failed, the first: {failure}", all.failed.len()).into());
                }
                all.seen.iter().filter(|(key, seen)| key.starts_with(&beginning) && far(seen)).count()
            };
            if so_far >= count {
                return Ok(());
            }
            match timeout(STUCK, changed.changed()).await {
                Ok(changed) => changed?,
                Err(_) => return Err(format!("{so_far} of {count} after {} s of nothing", STUCK.as_secs()).into()),
            }
        }
    }

    /// What was seen of a namespace's requests.
    pub(crate) fn of(&self, namespace: &str) -> Vec<Seen> {
        let beginning = format!("{namespace}/");
        let all = lock(&self.all);
        all.seen.iter().filter(|(key, _)| key.starts_with(&beginning)).map(|(_, seen)| *seen).collect()
    }

    /// Forgets everything, before the next stage.
    pub(crate) fn forget(&self) {
        lock(&self.all).seen.clear();
    }
}

fn lock(all: &Mutex<All>) -> MutexGuard<'_, All> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

fn see(all: &Mutex<All>, object: &DynamicObject) {
    let now = Instant::now();
    let key = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    let is = |kind: &str| {
        conditions_of(object).find(|condition| condition["type"] == kind && condition["status"] == "True").is_some()
    };
    let failed = conditions_of(object).find(|condition| condition["reason"] == "Failed");
    let mut all = lock(all);
    if let Some(failed) = failed {
        all.failed.push(format!("{key}: {}", failed["message"]));
    }
    let seen = all.seen.entry(key).or_default();
    if is("Approved") {
        seen.approved.get_or_insert(now);
    }
    if is("Ready") {
        seen.issued.get_or_insert(now);
    }
}

async fn requests(plane: &Plane, namespace: &str) -> Result<(Api<DynamicObject>, kube::api::ApiResource)> {
    let api = plane.objects("cert-manager.io/v1", "CertificateRequest", namespace).await?;
    let kind = kube::api::GroupVersionKind::gvk("cert-manager.io", "v1", "CertificateRequest");
    Ok((api, kube::api::ApiResource::from_gvk(&kind)))
}

/// Requests that are ready to be made, each with a key and a name of its own.
pub(crate) fn prepare(count: usize, issuer: Issuer) -> Result<Vec<DynamicObject>> {
    (0..count)
        .map(|number| {
            let mut params = rcgen::CertificateParams::new([format!("n{number}.load.test")])?;
            params.distinguished_name = rcgen::DistinguishedName::new();
            let csr = params.serialize_request(&rcgen::KeyPair::generate()?)?.pem()?;
            Ok(serde_json::from_value(json!({
                "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
                "metadata": { "name": format!("n{number}") },
                "spec": {
                    "request": STANDARD.encode(csr), "issuerRef": issuer.reference(),
                    "usages": ["digital signature", "server auth"], "duration": "24h",
                },
            }))?)
        })
        .collect()
}

/// Makes them, so many at once.
pub(crate) async fn create(plane: &Plane, namespace: &str, objects: Vec<DynamicObject>, at_once: usize) -> Result<()> {
    let (api, _) = requests(plane, namespace).await?;
    let made = futures::stream::iter(objects)
        .map(|object| {
            let api = api.clone();
            async move { api.create(&PostParams::default(), &object).await }
        })
        .buffer_unordered(at_once)
        .collect::<Vec<_>>()
        .await;
    made.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(())
}

/// Makes them at a pace, whatever becomes of them.
pub(crate) async fn create_at(plane: &Plane, namespace: &str, objects: Vec<DynamicObject>, each: f64) -> Result<()> {
    let (api, _) = requests(plane, namespace).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / each));
    let mut making = Vec::with_capacity(objects.len());
    for object in objects {
        ticks.tick().await;
        let api = api.clone();
        making.push(tokio::spawn(async move { api.create(&PostParams::default(), &object).await }));
    }
    for made in making {
        made.await??;
    }
    Ok(())
}

/// Removes a namespace's requests, so that every stage begins alike.
pub(crate) async fn clear(plane: &Plane, namespace: &str) -> Result<()> {
    let (api, _) = requests(plane, namespace).await?;
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    Ok(())
}
