//! Manifests as people write them, applied as `kubectl apply --server-side` does.

use std::path::Path;

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, TypeMeta},
    discovery::{ApiCapabilities, Scope, pinned_kind},
    runtime::conditions,
};
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use crate::{Plane, Result, until};

/// How long a kind may take to be served after its definition was established.
const SERVED: Duration = Duration::from_secs(20);

/// The documents of a YAML text; empty ones are left out.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let read: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    Ok(read.into_iter().filter(|document| !document.is_null()).collect())
}

impl Plane {
    /// Applies the documents of a YAML text as the administrator; what has no namespace goes into `default`.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.apply_in("default", yaml).await
    }

    /// The same; what has no namespace goes into this one.
    pub async fn apply_in(&self, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.apply_documents(namespace, documents(yaml)?).await
    }

    /// Applies each YAML file of a folder, or one file.
    pub async fn apply_files(&self, namespace: &str, path: &Path) -> Result<Vec<DynamicObject>> {
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            files = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
            files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"));
            files.sort();
        }
        let mut all = Vec::new();
        for file in files {
            let read = documents(&std::fs::read_to_string(&file)?);
            all.extend(read.map_err(|error| format!("{}: {error}", file.display()))?);
        }
        self.apply_documents(namespace, all).await
    }

    /// Applies documents: definitions of kinds first, and the others once those are served.
    pub async fn apply_documents(&self, namespace: &str, documents: Vec<Value>) -> Result<Vec<DynamicObject>> {
        let client = self.client().await?;
        let (definitions, others): (Vec<_>, Vec<_>) = documents
            .into_iter()
            .partition(|document| document.get("kind").and_then(Value::as_str) == Some("CustomResourceDefinition"));
        let mut applied = Vec::new();
        for document in definitions {
            applied.push(apply(&client, namespace, document).await?);
        }
        let kinds = Api::all(client.clone());
        for definition in &applied {
            let name = definition.metadata.name.as_deref().unwrap_or_default();
            until(&kinds, name, conditions::is_crd_established()).await?;
        }
        for document in others {
            applied.push(apply(&client, namespace, document).await?);
        }
        Ok(applied)
    }

    /// The objects of a kind in a namespace, as the administrator; the namespace is nothing to a kind that has none.
    pub async fn objects(&self, version: &str, kind: &str, namespace: &str) -> Result<Api<DynamicObject>> {
        objects(&self.client().await?, version, kind, namespace).await
    }
}

/// The objects of a kind, for any client. Waits a moment for a kind that is not served yet.
pub(crate) async fn objects(client: &Client, version: &str, kind: &str, namespace: &str) -> Result<Api<DynamicObject>> {
    let types = TypeMeta { api_version: version.to_owned(), kind: kind.to_owned() };
    let (resource, capabilities) = served(client, &types).await?;
    Ok(match capabilities.scope {
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
        Scope::Cluster => Api::all_with(client.clone(), &resource),
    })
}

async fn apply(client: &Client, namespace: &str, document: Value) -> Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(document)?;
    let types = object.types.as_ref().ok_or("a manifest without apiVersion and kind")?;
    let name = object.metadata.name.as_deref().ok_or("a manifest without a name")?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
    let api = objects(client, &types.api_version, &types.kind, namespace).await?;
    let applied = api.patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(&object)).await;
    applied.map_err(|error| format!("{} {name} was not applied: {error}", types.kind).into())
}

async fn served(client: &Client, types: &TypeMeta) -> Result<(ApiResource, ApiCapabilities)> {
    let kind = GroupVersionKind::try_from(types)?;
    let deadline = Instant::now() + SERVED;
    loop {
        match pinned_kind(client, &kind).await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > deadline => {
                return Err(format!("the API server has no {} {}: {error}", types.api_version, types.kind).into());
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}
