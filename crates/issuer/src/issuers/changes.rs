//! Whether what an issuer refers to has changed.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, Resource,
    api::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use crate::credentials::Referred;

/// Something that is referred to has changed.
pub(super) struct Changes {
    pub(super) stream: BoxStream<'static, ()>,
    watched: Vec<Arc<AtomicBool>>,
}

impl Changes {
    pub(super) fn of(client: &Client, namespace: &str, referred: &[Referred]) -> Self {
        let watched: Vec<_> = referred.iter().map(|_| Arc::new(AtomicBool::new(false))).collect();
        let streams = referred.iter().zip(&watched).map(|(one, watched)| match one {
            Referred::Secret(name) => changes::<Secret>(client, namespace, name, Arc::clone(watched)),
            Referred::ConfigMap(name) => changes::<ConfigMap>(client, namespace, name, Arc::clone(watched)),
        });
        // An empty selection would end at once.
        let stream = futures::stream::select_all(streams.chain([futures::stream::pending().boxed()])).boxed();
        Self { stream, watched }
    }

    /// Whether each of them is watched now.
    pub(super) fn are_watched(&self) -> bool {
        self.watched.iter().all(|watched| watched.load(Ordering::Relaxed))
    }
}

fn changes<K>(client: &Client, namespace: &str, name: &str, watched: Arc<AtomicBool>) -> BoxStream<'static, ()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut known: Option<Option<String>> = None;
    watcher(api, config)
        .default_backoff()
        .filter_map(move |event| {
            watched.store(event.is_ok(), Ordering::Relaxed);
            let version = match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => Some(object.metadata.resource_version),
                Ok(Event::Delete(_)) => Some(None),
                Ok(Event::Init | Event::InitDone) | Err(_) => None,
            };
            let changed = version.as_ref().is_some_and(|version| known.as_ref() != Some(version));
            if version.is_some() {
                known = version;
            }
            futures::future::ready(changed.then_some(()))
        })
        .boxed()
}
