//! What Istio's own charts install, as far as it matters without nodes: rights, settings, and what istiod is told.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{NAMESPACE, OFF, beside};
use crate::{
    Result,
    chart::{deploy, of_kind, render},
    documents,
};

/// Who may do what.
const RIGHTS: [&str; 5] = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
/// Where istiod finds the cluster's other configuration, in its pod. There is none here, nor in most clusters.
const NOT_HERE: &str = "KUBECONFIG";

/// istiod, as its chart installs it.
pub(super) struct Istiod {
    /// Its rights and the mesh's settings.
    pub(super) objects: Vec<Value>,
    /// What its container finds in its environment.
    pub(super) environment: Vec<(String, String)>,
}

/// istiod with the values that `deploy/examples` has for it, and the company's root where they want it.
pub(super) fn istiod(program: &Path, root: &str) -> Result<Istiod> {
    let file = deploy().join("examples/values/istiod.yaml");
    let mut values = documents(&fs::read_to_string(file)?)?.pop().ok_or("no values for istiod")?;
    let off: serde_json::Map<String, Value> =
        OFF.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
    // Statistics of Istio's are another thing that only Istio's own Envoy has.
    json_patch::merge(&mut values, &json!({ "env": off, "telemetry": { "enabled": false } }));
    let pem = values.pointer_mut("/meshConfig/caCertificates/0/pem").ok_or("values without a place for the root")?;
    *pem = root.into();
    let all = render(&beside(program, "charts/istiod")?, "istiod", NAMESPACE, &values)?;
    let environment = environment(of_kind(&all, "Deployment").next().ok_or("a chart without istiod")?);
    let objects = all.into_iter().filter(|object| is_right(object) || is_settings(object)).collect();
    Ok(Istiod { objects, environment })
}

/// What the chart of gateways gives to the service account of a gateway of this name.
pub(super) fn rights_of_gateway(program: &Path, namespace: &str, name: &str) -> Result<Vec<Value>> {
    let all = render(&beside(program, "charts/gateway")?, name, namespace, &json!({}))?;
    Ok(all.into_iter().filter(is_right).collect())
}

/// The variables of a pod's container that have a value; of two with one name the later holds, as in a pod.
fn environment(deployment: &Value) -> Vec<(String, String)> {
    let variables = deployment.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
    let text = |variable: &Value, member: &str| variable.get(member).and_then(Value::as_str).map(str::to_owned);
    let variables = variables.into_iter().flatten();
    let valued = variables.filter_map(|variable| Some((text(variable, "name")?, text(variable, "value")?)));
    valued.filter(|(name, _)| name != NOT_HERE).collect()
}

fn is_right(object: &Value) -> bool {
    object.get("kind").and_then(Value::as_str).is_some_and(|kind| RIGHTS.contains(&kind))
}

/// The ConfigMap `istio` with the mesh's settings.
fn is_settings(object: &Value) -> bool {
    let is = |pointer: &str, text: &str| object.pointer(pointer).and_then(Value::as_str) == Some(text);
    is("/kind", "ConfigMap") && is("/metadata/name", "istio")
}
