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
    let mut known = Known::default();
    watcher(api, config)
        .default_backoff()
        .filter_map(move |event| {
            watched.store(event.is_ok(), Ordering::Relaxed);
            let changed = event.is_ok_and(|event| known.takes_in(event));
            futures::future::ready(changed.then_some(()))
        })
        .boxed()
}

/// What a watch has shown of one object.
#[derive(Debug, Default)]
struct Known {
    /// Its version, or that it is not there.
    version: Option<Option<String>>,
    /// Whether the listing that is under way has shown it.
    listed: bool,
}

impl Known {
    /// Takes in what is shown next; whether that is new.
    fn takes_in<K: Resource>(&mut self, event: Event<K>) -> bool {
        let version = match event {
            Event::Init => {
                self.listed = false;
                return false;
            }
            Event::InitApply(object) => {
                self.listed = true;
                object.meta().resource_version.clone()
            }
            Event::Apply(object) => object.meta().resource_version.clone(),
            Event::InitDone if self.listed => return false,
            // Deleted, or deleted while nobody watched.
            Event::Delete(_) | Event::InitDone => None,
        };
        let version = Some(version);
        let changed = self.version != version;
        self.version = version;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(version: &str) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.resource_version = Some(version.to_owned());
        secret
    }

    #[test]
    fn a_secret_that_is_deleted_while_nobody_watches_is_missed_by_the_next_listing() {
        let mut known = Known::default();
        for (event, is_new) in [
            (Event::Init, false),
            (Event::InitApply(secret("1")), true),
            (Event::InitDone, false),
            (Event::Apply(secret("2")), true),
            // The same again, after a gap.
            (Event::Init, false),
            (Event::InitApply(secret("2")), false),
            (Event::InitDone, false),
            // Gone, after a gap.
            (Event::Init, false),
            (Event::InitDone, true),
            (Event::Init, false),
            (Event::InitDone, false),
            (Event::Apply(secret("3")), true),
            (Event::Delete(secret("4")), true),
        ] {
            let what = format!("{event:?}");
            assert_eq!(known.takes_in(event), is_new, "{what}");
        }
    }
}
