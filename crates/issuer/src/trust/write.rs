//! Makes, changes and removes one published object, and nothing that is somebody else's.

use std::fmt::Debug;

use kube::{
    Api, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::PUBLISHED;
use crate::worker::FIELD_MANAGER;

/// An object of ours, as a watch has shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) uid: String,
    pub(super) version: String,
    /// A digest of what it holds.
    pub(super) content: u64,
}

/// What became of a write.
#[derive(Debug)]
pub(super) enum Written<K> {
    /// It is so; the watch will show it.
    Yes,
    /// The watch is behind; it will show something else soon.
    Behind,
    /// There is an object of this name, and it is not ours.
    Foreign(Box<K>),
}

/// Makes one.
pub(super) async fn create<K>(api: &Api<K>, object: &K) -> Result<Written<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&parameters, object).await {
        Ok(_) => Ok(Written::Yes),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let name = object.meta().name.as_deref().unwrap_or_default();
            let there = api.get_opt(name).await?;
            let ours = |there: &K| there.meta().labels.as_ref().is_some_and(|labels| labels.contains_key(PUBLISHED));
            Ok(match there {
                Some(there) if !ours(&there) => Written::Foreign(Box::new(there)),
                _ => Written::Behind,
            })
        }
        Err(error) => Err(error),
    }
}

/// Changes one that is still as the watch has shown it.
pub(super) async fn change<K>(api: &Api<K>, name: &str, held: &Held, change: Value) -> Result<Written<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let operations = json!([
        { "op": "test", "path": "/metadata/uid", "value": held.uid },
        { "op": "test", "path": "/metadata/resourceVersion", "value": held.version },
        change,
    ]);
    let patch: json_patch::Patch = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(name, &parameters, &Patch::<()>::Json(patch)).await {
        Ok(_) => Ok(Written::Yes),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Behind),
        Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
            let there = api.get_metadata_opt(name).await?;
            let same = there.is_some_and(|there| there.metadata.resource_version.as_deref() == Some(&held.version));
            // Nobody has changed it: the API server will not have this.
            if same { Err(kube::Error::Api(status)) } else { Ok(Written::Behind) }
        }
        Err(error) => Err(error),
    }
}

/// Removes one that is still as the watch has shown it.
pub(super) async fn remove<K>(api: &Api<K>, name: &str, held: &Held) -> Result<Written<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let preconditions = Preconditions { uid: Some(held.uid.clone()), resource_version: Some(held.version.clone()) };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(Written::Yes),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Written::Behind),
        Err(error) => Err(error),
    }
}
