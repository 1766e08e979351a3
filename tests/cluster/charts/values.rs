//! What the charts' values lead to, and which are refused.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use chancery_cluster_tests::{
    Result,
    chart::{Chart, of_kind},
};
use chancery_harness::server::{binary, succeeded};
use serde_json::{Value, json};

use super::{list, maintenance, pods, text};

/// Where the chart's ServiceMonitors and TLSRoutes are known.
const ALL_KINDS: [&str; 2] =
    ["--api-versions=monitoring.coreos.com/v1/ServiceMonitor", "--api-versions=gateway.networking.k8s.io/v1/TLSRoute"];

#[test]
fn the_image_is_named_by_its_digest_where_there_is_one() -> Result<()> {
    let digest = format!("sha256:{}", "0a".repeat(32));
    for chart in Chart::all()? {
        let image = |arguments: &[&str]| -> Result<String> {
            let objects = chart.objects("chancery", arguments)?;
            Ok(text(pods(&objects)[0], "/spec/containers/0/image").to_owned())
        };
        let repository = format!("registry.example.com/{}", chart.name());
        assert_eq!(image(&[])?, format!("{repository}:{}", env!("CARGO_PKG_VERSION")));
        assert_eq!(image(&["--set-string=image.tag=7"])?, format!("{repository}:7"));
        let by_digest = image(&["--set-string=image.tag=7", &format!("--set=image.digest={digest}")])?;
        assert_eq!(by_digest, format!("{repository}@{digest}"));
    }
    Ok(())
}

#[test]
fn values_that_do_not_fit_are_refused_each_in_words() -> Result<()> {
    let server = "--set=url=https://ca.example.com";
    let image = "--set=image.repository=registry.example.com/chancery";
    let table: [(&str, &[&str], &str); 28] = [
        ("chancery", &[image], "set url"),
        ("chancery", &[server], "set image.repository"),
        ("chancery", &[image, "--set=url=http://ca.example.com"], "url"),
        ("chancery", &[image, "--set=url=https://ca.example.com/acme"], "url"),
        ("chancery", &[image, "--set=url=https://me@ca.example.com"], "url"),
        ("chancery", &[server, image, "--set=replicas=2"], "replicas"),
        ("chancery", &[server, image, "--set=passphrase.value=hunter2hunter2"], "value"),
        ("chancery", &[server, image, "--set=image.digest=sha256:12"], "digest"),
        ("chancery", &[server, image, "--set=service.type=ExternalName"], "service"),
        ("chancery", &[server, image, "--set=podSecurityContext.runAsUser=0"], "runAsUser"),
        ("chancery", &[server, image, "--set=podSecurityContext.privileged=true"], "privileged"),
        ("chancery", &[server, image, "--set=persistence.accessMode=ReadWriteMany"], "accessMode"),
        ("chancery", &[server, image, "--set=authorities=null"], "authorities"),
        ("chancery", &[server, image, "--set=log.format=xml"], "format"),
        ("chancery", &[server, image, "--set-string=config="], "config"),
        (
            "chancery",
            &[server, image, "--set-string=config=[[directory]]\n[ledger]\nkey = 1"],
            "config has a table [ledger]",
        ),
        (
            "chancery",
            &[server, image, "--set-string=config=[[directory]]\n[[authority]]\nid = 1"],
            "config has [[authority]]",
        ),
        ("chancery", &[server, image, "--set-string=config=version = 1\n[[directory]]"], "outside any table"),
        ("chancery", &[server, image, "--set=tls.secretName=web", "--set=tls.profile=server"], "leave out tls.names"),
        ("chancery", &[server, image, "--set=tlsRoute.enabled=true"], "tlsRoute.parentRefs"),
        ("chancery", &[server, image, "--set=tls.authority=Issuing"], "authority"),
        ("chancery", &[server, image, "--set=maintenance.args=rebuild"], "maintenance/args"),
        ("chancery-issuer", &[], "set image.repository"),
        ("chancery-issuer", &[image, "--set=allowedServers[0]=http://ca.example.com"], "allowedServers"),
        ("chancery-issuer", &[image, "--set=replicaCount=0"], "replicaCount"),
        (
            "chancery-issuer",
            &[image, "--set=secretAccess.clusterWide=true", "--set=secretAccess.namespaces[0]=a"],
            "leave out secretAccess.namespaces",
        ),
        ("chancery-issuer", &[image, "--set=approval.subjects=null"], "approval"),
        ("chancery-issuer", &[image, "--set=secretAccess.everywhere=true"], "everywhere"),
    ];
    if Chart::all()?.is_empty() {
        return Ok(());
    }
    for (chart, arguments, words) in table {
        let chart = Chart::named(chart)?.ok_or("no such chart")?;
        let said = chart.refusal(arguments)?;
        assert!(said.contains(words), "{} with {arguments:?}: {said}", chart.name());
    }
    Ok(())
}

#[test]
fn several_authorities_need_one_for_the_servers_own_certificate() -> Result<()> {
    let Some(chart) = Chart::named("chancery")? else { return Ok(()) };
    let two = [
        "--set-json=authorities=[{\"id\":\"a\",\"key\":\"a.key\",\"chains\":[\"a.pem\"]},{\"id\":\"b\",\"key\":\"b.key\",\"chains\":[\"b.pem\"]}]",
    ];
    let arguments = chart.needed(&two);
    let said = chart.refusal(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    assert!(said.contains("say in tls.authority"), "{said}");
    let objects = chart.objects("chancery", &[two[0], "--set=tls.authority=b"])?;
    let mounts = list(pods(&objects)[0], "/spec/containers/0/volumeMounts");
    let keys: Vec<&str> =
        mounts.iter().filter(|mount| mount["name"] == "keys").map(|mount| text(mount, "/subPath")).collect();
    assert_eq!(keys, ["ledger.key", "a.key", "b.key"]);
    Ok(())
}

#[test]
fn maintenance_takes_the_servers_place_with_all_that_the_server_has() -> Result<()> {
    const REBUILD: &str = "--set=maintenance.args={store,rebuild,--yes}";
    let Some(chart) = Chart::named("chancery")? else { return Ok(()) };
    let everything = format!("--values={}", chart.folder().join("ci/everything-values.yaml").display());
    let serving = chart.objects("chancery", &[&everything])?;
    let mut stopped = chart.objects("chancery", &[&everything, REBUILD])?;

    let of_maintenance = |object: &Value| text(object, "/metadata/name").contains("-maintenance");
    let more: Vec<Value> = stopped.extract_if(.., |object| of_maintenance(object)).collect();
    let replicas = |objects: &mut Vec<Value>| {
        let server = objects.iter_mut().find(|object| object["kind"] == "StatefulSet");
        server.and_then(|server| server.pointer_mut("/spec/replicas")).map(Value::take)
    };
    let mut as_before = serving.clone();
    assert_eq!((replicas(&mut as_before), replicas(&mut stopped)), (Some(json!(1)), Some(json!(0))));
    assert_eq!(as_before, stopped, "the server's own objects stay as they are");

    let kinds: Vec<&str> = more.iter().map(|object| text(object, "/kind")).collect();
    assert_eq!(kinds, ["NetworkPolicy", "Job"]);
    let job = of_kind(&more, "Job").next().ok_or("no Job")?;
    assert_eq!(job.pointer("/spec/backoffLimit"), Some(&json!(0)));
    let (servers, jobs) = (pods(&serving), maintenance(&more));
    let ([server], [pod]) = (&*servers, &*jobs) else { return Err("not one pod each".into()) };

    // All that the server's container has but what makes it a server.
    let mut expected = server["spec"]["containers"][0].clone();
    let container = expected.as_object_mut().ok_or("no container")?;
    for of_servers in ["ports", "startupProbe", "livenessProbe", "readinessProbe"] {
        assert!(container.remove(of_servers).is_some(), "{of_servers}");
    }
    container.insert("args".to_owned(), json!(["store", "rebuild", "--yes"]));
    assert_eq!(pod["spec"]["containers"], json!([expected]));

    let mut expected = server["spec"].clone();
    let spec = expected.as_object_mut().ok_or("no pod")?;
    spec.insert("restartPolicy".to_owned(), json!("Never"));
    let data = json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data-chancery-0" } });
    let volumes = spec.get_mut("volumes").and_then(Value::as_array_mut).ok_or("no volumes")?;
    volumes.insert(0, data);
    // It waits for the end of the server's pod, wherever else it may run.
    let selector = of_kind(&serving, "StatefulSet").next().map(|server| server["spec"]["selector"].clone());
    let apart = json!([{ "topologyKey": "kubernetes.io/hostname", "labelSelector": selector }]);
    spec["affinity"]["podAntiAffinity"] = json!({ "requiredDuringSchedulingIgnoredDuringExecution": apart });
    let mut given = pod["spec"].clone();
    for pod in [&mut given, &mut expected] {
        pod["containers"].take();
    }
    assert_eq!(given, expected);

    // No Service leads to it, no policy or budget of the server's counts it; its own lets nothing in or out.
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object).ok_or("no labels")?;
    let selects = |selector: &Value| {
        let wanted = selector["matchLabels"].as_object();
        wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
    };
    assert!(!selector.is_some_and(|selector| selects(&selector)));
    let policy = of_kind(&more, "NetworkPolicy").next().ok_or("no policy")?;
    assert!(selects(&policy["spec"]["podSelector"]), "{policy}");
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert!(policy["spec"].get("ingress").is_none() && policy["spec"].get("egress").is_none(), "{policy}");
    Ok(())
}

#[test]
fn another_pod_of_maintenance_has_a_job_of_another_name_that_kubernetes_takes() -> Result<()> {
    let Some(chart) = Chart::named("chancery")? else { return Ok(()) };
    let job = |arguments: &[&str]| -> Result<String> {
        let objects = chart.objects("chancery", arguments)?;
        Ok(text(of_kind(&objects, "Job").next().ok_or("no Job")?, "/metadata/name").to_owned())
    };
    let (rebuild, verify) = ("--set=maintenance.args={store,rebuild,--yes}", "--set=maintenance.args={ledger,verify}");
    let first = job(&[rebuild])?;
    assert_eq!(job(&[rebuild])?, first, "nothing is done twice");
    assert!(first.starts_with("chancery-maintenance-"), "{first}");
    assert_ne!(job(&[verify])?, first);
    assert_ne!(job(&[rebuild, "--set-string=image.tag=7"])?, first);
    let long = job(&[rebuild, &format!("--set=fullnameOverride={}", "a".repeat(52))])?;
    assert!(long.len() <= 63, "{long}");
    Ok(())
}

/// Puts the files of a development authority where the chart's configuration would have them.
fn moved(from: &Path, to: &Path, configuration: &str) -> Result<String> {
    for (folder, mode) in [("keys", 0o600), ("chains", 0o644)] {
        fs::create_dir(to.join(folder))?;
        for file in fs::read_dir(from.join(folder))?.flatten() {
            let moved = to.join(folder).join(file.file_name());
            fs::copy(file.path(), &moved)?;
            fs::set_permissions(&moved, fs::Permissions::from_mode(mode))?;
        }
    }
    // What Kubernetes mounts for a service account.
    fs::create_dir(to.join("account"))?;
    fs::copy(from.join("chains/issuing.pem"), to.join("account/ca.crt"))?;
    fs::write(to.join("account/token"), "token")?;
    fs::create_dir(to.join("passphrase"))?;
    fs::copy(from.join("passphrase"), to.join("passphrase/passphrase"))?;
    let here = to.to_str().ok_or("a folder with an odd name")?;
    Ok(configuration
        .replace("/var/run/secrets/kubernetes.io/serviceaccount/", &format!("{here}/account/"))
        .replace("/run/chancery/", &format!("{here}/"))
        .replace("/etc/chancery/", &format!("{here}/"))
        .replace("/var/lib/chancery/", &format!("{here}/")))
}

#[test]
fn the_server_takes_the_configuration_that_the_chart_writes() -> Result<()> {
    let Some(chart) = Chart::named("chancery")? else { return Ok(()) };
    for values in ["minimal", "everything", "cluster"] {
        let values = format!("--values={}", chart.folder().join(format!("ci/{values}-values.yaml")).display());
        let objects = chart.objects("chancery", &[&values])?;
        let map =
            of_kind(&objects, "ConfigMap").find(|map| !text(map, "/data/chancery.toml").is_empty()).ok_or("no map")?;
        let folder = tempfile::tempdir()?;
        let (authority, cluster) = (folder.path().join("authority"), folder.path().join("cluster"));
        let init = Command::new(binary()?)
            .arg("init")
            .arg(&authority)
            .args(["--development", "--url", "https://ca.example.com"])
            .output()?;
        succeeded(&init)?;
        fs::create_dir(&cluster)?;
        let configuration = moved(&authority, &cluster, text(map, "/data/chancery.toml"))?
            .replace("id = \"issuing\"", "id = \"issuing\"\ndevelopment = true");
        fs::write(cluster.join("chancery.toml"), &configuration)?;
        fs::write(cluster.join("policy.yaml"), text(map, "/data/policy.yaml"))?;
        fs::create_dir(cluster.join("data"))?;
        fs::set_permissions(cluster.join("data"), fs::Permissions::from_mode(0o700))?;
        let check = Command::new(binary()?).arg("check").arg("--config").arg(cluster.join("chancery.toml")).output()?;
        succeeded(&check).map_err(|error| format!("{values}: {error}\n{configuration}"))?;
    }
    Ok(())
}

#[test]
fn the_kinds_stay_when_the_release_goes_unless_they_shall_not() -> Result<()> {
    let Some(chart) = Chart::named("chancery-issuer")? else { return Ok(()) };
    let policy = |arguments: &[&str]| -> Result<Vec<String>> {
        let objects = chart.objects("chancery", arguments)?;
        let kinds = of_kind(&objects, "CustomResourceDefinition");
        Ok(kinds.map(|kind| text(kind, "/metadata/annotations/helm.sh~1resource-policy").to_owned()).collect())
    };
    assert_eq!(policy(&[])?, ["keep", "keep"]);
    assert_eq!(policy(&["--set=crds.keep=false"])?, ["", ""]);
    assert!(policy(&["--set=crds.enabled=false"])?.is_empty());
    Ok(())
}

#[test]
fn a_platform_may_choose_the_user_itself() -> Result<()> {
    for chart in Chart::all()? {
        let user = |arguments: &[&str]| -> Result<Option<Value>> {
            let objects = chart.objects("chancery", arguments)?;
            Ok(pods(&objects)[0].pointer("/spec/securityContext/runAsUser").cloned())
        };
        assert_eq!(user(&[])?, Some(json!(65_532)));
        assert_eq!(user(&["--set=podSecurityContext.runAsUser=1000650000"])?, Some(json!(1_000_650_000)));
        assert_eq!(user(&["--set=podSecurityContext.runAsUser=null"])?, None, "{}", chart.name());
    }
    Ok(())
}

#[test]
fn the_charts_make_what_a_cluster_does_not_know_only_where_it_does() -> Result<()> {
    let unknown = |objects: &[Value]| {
        let kinds = ["ServiceMonitor", "TLSRoute"];
        objects.iter().filter(|object| kinds.contains(&text(object, "/kind"))).count()
    };
    for chart in Chart::all()? {
        let values = format!("--values={}", chart.folder().join("ci/everything-values.yaml").display());
        assert_eq!(unknown(&chart.objects("chancery", &[&values])?), 0, "{}", chart.name());
        let all: Vec<&str> = ALL_KINDS.into_iter().chain([values.as_str()]).collect();
        assert!(unknown(&chart.objects("chancery", &all)?) > 0, "{}", chart.name());
    }
    Ok(())
}
