//! Waiting for what others do, by watching: never longer than [`LIMIT`], and what was seen last stands in the error.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kube::{
    Api, Resource, ResourceExt as _,
    api::DynamicObject,
    runtime::{WatchStreamExt as _, conditions, wait::Condition, wait::await_condition, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::Result;

/// Longest that a test waits for the cluster to do something.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Between two questions, where nothing can be watched.
const ASK: Duration = Duration::from_millis(50);

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

/// Waits until one of these objects is as wanted, and gives it; what was waited for stands in the error.
pub async fn any<K>(api: &Api<K>, what: &str, wanted: impl Fn(&K) -> bool) -> Result<K>
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
{
    let mut objects = watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects().boxed();
    let found = async {
        while let Some(object) = objects.next().await {
            // What cannot be watched for a moment is watched again.
            if let Some(object) = object.ok().filter(|object| wanted(object)) {
                return Some(object);
            }
        }
        None
    };
    match timeout(LIMIT, found).await {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(format!("the watch for {what} has ended").into()),
        Err(_) => Err(format!("there is no {what} after {} s", LIMIT.as_secs()).into()),
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

/// Asks until the answer is not 403 any more: an API server takes a right in a moment after it was given.
pub async fn allowed<T>(mut ask: impl AsyncFnMut() -> kube::Result<T>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match ask().await {
            Err(kube::Error::Api(status)) if status.code == 403 && Instant::now() < deadline => sleep(ASK).await,
            answer => return Ok(answer?),
        }
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

/// A Certificate of this revision that cert-manager is not issuing anew.
pub fn revision(revision: i64) -> impl Condition<DynamicObject> {
    move |object: Option<&DynamicObject>| {
        object.is_some_and(|object| {
            object.data.pointer("/status/revision").and_then(Value::as_i64) == Some(revision)
                && conditions_of(object).all(|condition| condition["type"] != "Issuing")
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
