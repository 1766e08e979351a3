//! Waiting for what others do, by watching: never longer than [`LIMIT`], and what was seen last stands in the error.

use std::{fmt::Debug, time::Duration};

use kube::{
    Api, Resource, ResourceExt as _,
    api::DynamicObject,
    runtime::{conditions, wait::Condition, wait::await_condition},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::timeout;

use crate::Result;

/// Longest that a test waits for the cluster to do something.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits until an object is as wanted, and gives it.
pub async fn until<K>(api: &Api<K>, name: &str, wanted: impl Condition<K>) -> Result<K>
where
    K: Clone + Debug + Send + DeserializeOwned + Serialize + Resource + 'static,
{
    match timeout(LIMIT, await_condition(api.clone(), name, wanted)).await {
        Ok(Ok(Some(object))) => Ok(object),
        Ok(Ok(None)) => Err(format!("{name} is not there, as was wanted; wait with until::gone for that").into()),
        Ok(Err(error)) => Err(format!("{name} cannot be watched: {error}").into()),
        Err(_) => Err(late(api, name).await.into()),
    }
}

/// Waits until the object with this uid is not there any more; another of its name may be.
pub async fn gone<K>(api: &Api<K>, name: &str, uid: &str) -> Result<()>
where
    K: Clone + Debug + Send + DeserializeOwned + Serialize + Resource + 'static,
{
    match timeout(LIMIT, await_condition(api.clone(), name, conditions::is_deleted(uid))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{name} cannot be watched: {error}").into()),
        Err(_) => Err(late(api, name).await.into()),
    }
}

/// An object that is there, whatever it says.
pub fn there<K: Resource>() -> impl Condition<K> {
    conditions::is_created()
}

/// An object with this condition in its status, at the generation that it has.
pub fn condition(kind: &str, status: &str) -> impl Condition<DynamicObject> {
    move |object: Option<&DynamicObject>| {
        let Some(object) = object else { return false };
        conditions_of(object).any(|condition| {
            let is = |member: &str, wanted: &str| condition.get(member).and_then(Value::as_str) == Some(wanted);
            let observed = condition.get("observedGeneration").and_then(Value::as_i64);
            is("type", kind)
                && is("status", status)
                && observed.is_none_or(|observed| Some(observed) == object.metadata.generation)
        })
    }
}

/// The conditions of its status.
pub fn conditions_of(object: &DynamicObject) -> impl Iterator<Item = &Value> {
    object.data.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

async fn late<K>(api: &Api<K>, name: &str) -> String
where
    K: Clone + Debug + DeserializeOwned + Serialize + Resource,
{
    let seen = match api.get_opt(name).await {
        Ok(Some(mut object)) => {
            object.managed_fields_mut().clear();
            serde_json::to_string_pretty(&object).unwrap_or_else(|error| error.to_string())
        }
        Ok(None) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    };
    format!("{name} was not as wanted after {} s; there is:\n{seen}", LIMIT.as_secs())
}
