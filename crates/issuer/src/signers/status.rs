//! Writes statuses of Kubernetes' own kinds, such that none lands on a successor of the same name or on what somebody
//! else has changed meanwhile: each patch tests UID and version.

use std::fmt::Debug;

use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::worker::FIELD_MANAGER;

/// What became of a write.
pub(crate) enum Written<K> {
    /// It is there.
    Yes,
    /// Somebody else has changed the object; it looks like this now.
    Conflict(Box<K>),
    /// The object is not there any more, or another one has its name.
    Gone,
    /// The API server will never take this status.
    Invalid(String),
    /// The API server did not take it now.
    No(kube::Error),
}

/// Writes a status.
pub(crate) async fn write<K>(api: &Api<K>, object: &K, changes: Vec<Value>) -> Written<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let metadata = object.meta();
    let (Some(name), Some(uid)) = (&metadata.name, &metadata.uid) else { return Written::Gone };
    let mut operations = vec![
        json!({ "op": "test", "path": "/metadata/uid", "value": uid }),
        json!({ "op": "test", "path": "/metadata/resourceVersion", "value": metadata.resource_version }),
    ];
    operations.extend(changes);
    let patch: json_patch::Patch = match serde_json::from_value(Value::Array(operations)) {
        Ok(patch) => patch,
        Err(error) => return Written::Invalid(error.to_string()),
    };
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_status(name, &parameters, &Patch::<()>::Json(patch)).await {
        Ok(_) => Written::Yes,
        Err(kube::Error::Api(status)) if status.code == 404 => Written::Gone,
        // A test of the patch failed, or two writes met, or the status is none that the API server takes.
        Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => match api.get_opt(name).await {
            Ok(Some(fresh)) if fresh.meta().uid == metadata.uid => {
                if fresh.meta().resource_version == metadata.resource_version {
                    Written::Invalid(status.message.clone())
                } else {
                    Written::Conflict(Box::new(fresh))
                }
            }
            Ok(_) => Written::Gone,
            Err(error) => Written::No(error),
        },
        Err(error) => Written::No(error),
    }
}
