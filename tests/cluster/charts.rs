//! The charts: what they make is taken by a real API server, gives no more rights than are needed, and runs under the
//! restricted pod security standard; values that do not fit are refused in words.

mod readme;
mod rights;
mod values;

use std::{fs, process::Command};

use chancery_cluster_tests::{
    CertManager, Plane, Result,
    chart::{Chart, deploy, of_kind},
    documents,
};
use chancery_harness::server::{binary, succeeded};
use k8s_openapi::{ByteString, api::core::v1::Pod};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// Every chart with each of its files of values, rendered, with words that tell which it is.
fn rendered(namespace: &str, more: &[&str]) -> Result<Vec<(Chart, String, Vec<Value>)>> {
    let mut all = Vec::new();
    for chart in Chart::all()? {
        for file in chart.values_files()? {
            let values = format!("--values={}", file.display());
            let arguments: Vec<&str> = more.iter().copied().chain([values.as_str()]).collect();
            let objects = chart.objects(namespace, &arguments)?;
            let which = format!("{} with {}", chart.name(), file.file_name().unwrap_or_default().display());
            assert!(!objects.is_empty(), "{which} makes nothing");
            all.push((chart.clone(), which, objects));
        }
    }
    Ok(all)
}

fn name(object: &Value) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> Vec<&'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten().collect()
}

/// The pods that a chart's workloads would start.
fn pods(objects: &[Value]) -> Vec<&Value> {
    let workloads = objects.iter().filter(|object| matches!(text(object, "/kind"), "Deployment" | "StatefulSet"));
    workloads.filter_map(|object| object.pointer("/spec/template")).collect()
}

/// The pods that its Jobs would start: those of maintenance.
fn maintenance(objects: &[Value]) -> Vec<&Value> {
    of_kind(objects, "Job").filter_map(|job| job.pointer("/spec/template")).collect()
}

async fn tried(plane: &Plane, namespace: &str, object: &Value) -> Result<()> {
    let api =
        plane.objects(text(object, "/apiVersion"), text(object, "/kind"), namespace_of(object, namespace)).await?;
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    let name = object.metadata.name.as_deref().ok_or("an object without a name")?;
    api.patch(name, &PatchParams::apply("tests").force().dry_run(), &Patch::Apply(&object)).await?;
    Ok(())
}

fn namespace_of<'a>(object: &'a Value, namespace: &'a str) -> &'a str {
    object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(namespace)
}

async fn namespaces(plane: &Plane, names: &[&str]) -> Result<()> {
    let all = names.iter().map(|name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }));
    plane.apply_documents("default", all.collect()).await?;
    Ok(())
}

/// Our kinds, from the chart.
async fn our_kinds(plane: &Plane, chart: &Chart) -> Result<()> {
    let kinds = chart.objects("default", &[])?;
    let kinds: Vec<Value> = of_kind(&kinds, "CustomResourceDefinition").cloned().collect();
    assert_eq!(kinds.len(), 2);
    plane.apply_documents("default", kinds).await?;
    Ok(())
}

#[test]
fn helm_lint_has_nothing_against_the_charts() -> Result<()> {
    for chart in Chart::all()? {
        for file in chart.values_files()? {
            let output = chart.lint(&file)?;
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{}: {said}", file.display());
            assert!(!said.contains("[WARNING]"), "{}: {said}", file.display());
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_api_server_takes_every_object_with_each_file_of_values() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    // For the kinds of the Gateway API.
    let Some(_) = CertManager::shared(plane).await? else { return Ok(()) };
    namespaces(plane, &["payments", "news"]).await?;
    let namespace = plane.namespace("charts").await?;
    for (_, which, objects) in rendered(&namespace, &["--api-versions=gateway.networking.k8s.io/v1/TLSRoute"])? {
        for object in &objects {
            tried(plane, &namespace, object).await.map_err(|error| format!("{which}, {}: {error}", name(object)))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_api_server_takes_every_example() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let Some(_) = CertManager::shared(plane).await? else { return Ok(()) };
    let Some(chart) = Chart::named("chancery-issuer")? else { return Ok(()) };
    our_kinds(plane, &chart).await?;
    namespaces(plane, &["payments", "news", "wiki", "istio-ingress"]).await?;
    let mut seen = 0;
    let mut files: Vec<_> = fs::read_dir(deploy().join("examples"))?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    for file in &files {
        for mut object in documents(&fs::read_to_string(file)?)? {
            // cert-manager's webhook refuses a bundle without a certificate, and so nobody forgets to put the root there.
            if object.pointer("/spec/acme/caBundle").is_some() {
                let refused = tried(plane, "default", &object).await.err().ok_or("a bundle of words was taken")?;
                assert!(refused.to_string().contains("caBundle"), "{refused}");
                object["spec"]["acme"]["caBundle"] = json!(ByteString(plane.ca().into_bytes()));
            }
            // Istio's kinds are not on this plane.
            if text(&object, "/apiVersion").starts_with("networking.istio.io/") {
                assert_eq!(text(&object, "/spec/servers/0/tls/credentialName"), "shop-tls");
                continue;
            }
            let taken = tried(plane, "default", &object).await;
            taken.map_err(|error| format!("{}, {}: {error}", file.display(), name(&object)))?;
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen} objects in {} files", files.len());
    Ok(())
}

#[test]
fn every_example_is_in_the_list_of_examples() -> Result<()> {
    let list = fs::read_to_string(deploy().join("examples/README.md"))?;
    for file in fs::read_dir(deploy().join("examples"))?.flatten().map(|entry| entry.path()) {
        let name = file.file_name().unwrap_or_default().display().to_string();
        assert!(!name.ends_with(".yaml") || list.contains(&format!("]({name})")), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn the_pods_pass_restricted_pod_security() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let namespace = plane.namespace("restricted").await?;
    let label = json!([{
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": namespace, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
    }]);
    plane.apply_documents(&namespace, label.as_array().cloned().unwrap_or_default()).await?;
    let api = Api::<Pod>::namespaced(plane.client().await?, &namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for (_, which, objects) in rendered(&namespace, &[])? {
        for template in pods(&objects).into_iter().chain(maintenance(&objects)) {
            let mut pod = json!({ "metadata": { "name": "tried" }, "spec": template["spec"] });
            let has_data = list(&pod, "/spec/volumes").iter().any(|volume| volume["name"] == "data");
            if let Some(volumes) = pod.pointer_mut("/spec/volumes").and_then(Value::as_array_mut)
                && !has_data
            {
                // What the StatefulSet adds.
                volumes.push(json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data-chancery-0" } }));
            }
            api.create(&dry, &serde_json::from_value(pod.clone())?)
                .await
                .map_err(|error| format!("{which}: {error}"))?;
            // It is looked at: a pod that may do one thing more is refused.
            pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
            let refused = api.create(&dry, &serde_json::from_value(pod)?).await.err().ok_or("nobody looked")?;
            assert!(refused.to_string().contains("violates PodSecurity"), "{which}: {refused}");
        }
    }
    Ok(())
}

#[test]
fn every_container_is_not_root_reads_only_and_has_no_capability() -> Result<()> {
    for (_, which, objects) in rendered("chancery", &[])? {
        let (pods, maintenance) = (pods(&objects), maintenance(&objects));
        assert_eq!(pods.len(), 1, "{which}");
        for pod in pods.iter().chain(&maintenance) {
            assert_eq!(pod.pointer("/spec/securityContext/runAsNonRoot"), Some(&json!(true)), "{which}");
            assert_eq!(text(pod, "/spec/securityContext/seccompProfile/type"), "RuntimeDefault", "{which}");
            assert!(pod.pointer("/spec/hostNetwork").is_none(), "{which}");
            for container in list(pod, "/spec/containers") {
                let context = &container["securityContext"];
                assert_eq!(context["readOnlyRootFilesystem"], true, "{which}");
                assert_eq!(context["allowPrivilegeEscalation"], false, "{which}");
                assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }), "{which}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{which}");
                // What ends by itself is not asked how it is.
                let probed = pods.contains(pod);
                for probe in ["readinessProbe", "livenessProbe"] {
                    assert_eq!(container.get(probe).is_some(), probed, "{which}: {probe}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_chart_has_the_kinds_as_they_are_generated() -> Result<()> {
    let Some(chart) = Chart::named("chancery-issuer")? else { return Ok(()) };
    for file in fs::read_dir(deploy().join("crds"))?.flatten() {
        let copy = chart.folder().join("files/crds").join(file.file_name());
        let same = fs::read(&copy).ok() == Some(fs::read(file.path())?);
        assert!(same, "type: cp {} {}", file.path().display(), copy.display());
    }
    Ok(())
}

#[test]
fn the_programs_need_no_library_that_their_images_lack() -> Result<()> {
    let server = binary()?;
    let controller = server.with_file_name("chancery-issuer");
    let programs = [server, controller].into_iter().filter(|program| program.is_file());
    let check = deploy().join("container/check-libraries");
    succeeded(&Command::new("sh").arg(check).args(programs).output()?)
}
