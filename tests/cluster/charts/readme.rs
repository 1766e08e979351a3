//! The lines of the README and of a guide, as a user types them: Helm installs both charts by them, and what pods want is
//! there then; the server is stopped for maintenance, and comes back.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use chancery_cluster_tests::{Plane, Programs, Result, chart::deploy, documents, helm, skipped, until};
use chancery_harness::server::{binary, succeeded};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{ConfigMap, PodSpec, Secret},
    },
};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

/// The heading in the README.
const HEADING: &str = "## Install on Kubernetes in five lines\n";

/// The lines of the first block behind a heading.
fn lines_of(text: &str, heading: &str) -> Result<Vec<String>> {
    let behind = text.split_once(heading).ok_or_else(|| format!("there is no {heading}"))?.1;
    let block = behind.split("```\n").nth(1).ok_or("no block of commands")?;
    Ok(block.lines().map(str::to_owned).collect())
}

/// Does what a line says that begins with `helm`, in a folder with what it names.
fn run_helm(helm: &Path, plane: &Plane, folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(helm);
    command.current_dir(folder).args(arguments).env("KUBECONFIG", plane.kubeconfig());
    // What it keeps for itself.
    for place in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(place, folder.join("helm"));
    }
    succeeded(&command.output()?)
}

/// Who types: a folder with what the lines want, a cluster, and Helm.
struct Typist {
    plane: Plane,
    helm: PathBuf,
    folder: tempfile::TempDir,
}

impl Typist {
    /// With keys made and the files that `docs/operations/install-on-kubernetes.md` names.
    async fn ready() -> Result<Option<Self>> {
        let (Some(programs), Some(helm)) = (Programs::find(), helm()) else {
            skipped("there is no Kubernetes control plane, or no Helm, on this machine (tests/run builds both)");
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let mut init = Command::new(binary()?);
        init.current_dir(folder.path()).args(["init", "ca", "--development", "--url", "https://ca.example.com"]);
        succeeded(&init.output()?)?;
        symlink(fs::canonicalize(deploy())?, at("deploy"))?;
        fs::rename(at("ca/passphrase"), at("passphrase"))?;
        let root = fs::read_dir(at("ca-offline-root"))?.flatten().map(|entry| entry.path());
        let root = root.into_iter().find(|file| file.extension().is_some_and(|ending| ending == "pem"));
        fs::copy(root.ok_or("no root")?, at("root.pem"))?;
        fs::copy(deploy().join("helm/chancery/ci/cluster-values.yaml"), at("values.yaml"))?;
        Ok(Some(Self { plane: Plane::start(programs).await?, helm, folder }))
    }

    /// Does what a line says.
    async fn types(&self, line: &str) -> Result<()> {
        for command in line.split(" && ") {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || " -_./:=,".contains(letter);
            assert!(command.chars().all(plain), "a shell would read more into this: {command}");
            let words: Vec<&str> = command.split(' ').collect();
            match words.split_first() {
                Some((&"helm", arguments)) => self.helm(arguments)?,
                Some((&"kubectl", arguments)) => self.kubectl(arguments).await?,
                _ => return Err(format!("neither helm nor kubectl: {command}").into()),
            }
        }
        Ok(())
    }

    fn helm(&self, arguments: &[&str]) -> Result<()> {
        run_helm(&self.helm, &self.plane, self.folder.path(), arguments)
    }

    /// What kubectl would do. There is none on this machine, so no word may mean anything else.
    async fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        let (namespace, what) = match arguments {
            ["-n", namespace, what @ ..] => (*namespace, what),
            what => ("default", what),
        };
        let object = |kind: &str, name: &str, data: Value| {
            json!({
                "apiVersion": "v1", "kind": kind, "metadata": { "name": name }, "data": data,
            })
        };
        let made = match what {
            ["create", "namespace", name] => {
                vec![json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })]
            }
            ["create", "secret", "generic", name, from] => {
                let files = self.files(from)?.into_iter().map(|(key, octets)| (key, json!(ByteString(octets))));
                vec![object("Secret", name, files.collect())]
            }
            ["create", "configmap", name, from] => {
                let files = self.files(from)?.into_iter();
                let files = files.map(|(key, octets)| Ok((key, String::from_utf8(octets)?.into())));
                vec![object("ConfigMap", name, files.collect::<Result<serde_json::Map<_, _>>>()?.into())]
            }
            ["apply", "-f", file] => documents(&fs::read_to_string(self.folder.path().join(file))?)?,
            other => return Err(format!("nobody here knows kubectl {}", other.join(" ")).into()),
        };
        self.plane.apply_documents(namespace, made).await?;
        Ok(())
    }

    /// The files of `--from-file`: the one that it names, or each of a folder.
    fn files(&self, from: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let path = from.strip_prefix("--from-file=").ok_or_else(|| format!("not --from-file: {from}"))?;
        let path = self.folder.path().join(path);
        let mut files = vec![path.clone()];
        if path.is_dir() {
            files = fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        }
        let named = |file: &Path| file.file_name().map(|name| name.to_string_lossy().into_owned());
        let read = |file: PathBuf| Ok((named(&file).ok_or("a file without a name")?, fs::read(&file)?));
        files.into_iter().map(read).collect()
    }

    /// That each Secret and ConfigMap that a pod mounts is there, with what the pod takes of it.
    async fn has_what_it_mounts(&self, namespace: &str, pod: &PodSpec) -> Result<usize> {
        let client = self.plane.client().await?;
        let (secrets, maps) =
            (Api::<Secret>::namespaced(client.clone(), namespace), Api::<ConfigMap>::namespaced(client, namespace));
        let mut looked_at = 0;
        for volume in pod.volumes.iter().flatten() {
            let (keys, items) = if let Some(from) = &volume.secret {
                let name = from.secret_name.as_deref().unwrap_or_default();
                let there = secrets.get(name).await.map_err(|error| format!("Secret {name}: {error}"))?;
                (there.data.unwrap_or_default().into_keys().collect::<Vec<_>>(), &from.items)
            } else if let Some(from) = &volume.config_map {
                let there = maps.get(&from.name).await.map_err(|error| format!("ConfigMap {}: {error}", from.name))?;
                (there.data.unwrap_or_default().into_keys().collect(), &from.items)
            } else {
                continue;
            };
            let mounts = pod.containers.iter().flat_map(|container| container.volume_mounts.iter().flatten());
            let parts = mounts.filter(|mount| mount.name == volume.name).filter_map(|mount| mount.sub_path.as_ref());
            for key in items.iter().flatten().map(|item| &item.key).chain(parts) {
                assert!(keys.contains(key), "{}: no {key} among {keys:?}", volume.name);
            }
            looked_at += 1;
        }
        Ok(looked_at)
    }
}

#[tokio::test]
async fn the_five_lines_of_the_readme_install_both_charts_and_make_the_issuer() -> Result<()> {
    let readme = fs::read_to_string(deploy().join("../README.md"))?;
    let lines = lines_of(&readme, HEADING)?;
    assert_eq!(lines.len(), 5, "{lines:?}");
    let guide = fs::read_to_string(deploy().join("../docs/operations/install-on-kubernetes.md"))?;
    assert_eq!(lines_of(&guide, "# Install on Kubernetes\n")?, lines, "README and guide differ");

    let Some(typist) = Typist::ready().await? else { return Ok(()) };
    for line in &lines {
        typist.types(line).await.map_err(|error| format!("{line}: {error}"))?;
    }
    let client = typist.plane.client().await?;
    let server = Api::<StatefulSet>::namespaced(client.clone(), "chancery").get("chancery").await?;
    let pod = server.spec.template.spec.ok_or("no pods")?;
    assert_eq!(typist.has_what_it_mounts("chancery", &pod).await?, 4);
    let controller = Api::<Deployment>::namespaced(client, "chancery-issuer").get("chancery-issuer").await?;
    let pod = controller.spec.template.spec.ok_or("no pods")?;
    typist.has_what_it_mounts("chancery-issuer", &pod).await?;

    // What the issuer refers to lies where the controller looks, and its account is the controller's.
    let issuers = typist.plane.objects("chancery.dev/v1", "ChanceryClusterIssuer", "").await?;
    let issuer = until(&issuers, "company", until::there()).await?;
    let text = |pointer: &str| issuer.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let maps = typist.plane.objects("v1", "ConfigMap", "chancery-issuer").await?;
    let map = maps.get(text("/spec/caBundle/configMapRef/name")).await?;
    assert!(map.data.pointer("/data").and_then(|data| data.get(text("/spec/caBundle/configMapRef/key"))).is_some());
    assert_eq!(pod.service_account_name.as_deref(), Some(text("/spec/credentials/serviceAccount/name")));
    Ok(())
}

#[tokio::test]
async fn the_guides_lines_stop_the_server_for_maintenance_and_bring_it_back() -> Result<()> {
    let guide = fs::read_to_string(deploy().join("../docs/operations/backup.md"))?;
    let lines = lines_of(&guide, "What needs a stopped server")?;
    let [stop, look, back] = &*lines else { return Err(format!("not three lines: {lines:?}").into()) };
    let Some(helm) = helm() else {
        skipped("there is no Helm on this machine (tests/run builds one where there is Go)");
        return Ok(());
    };
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let namespace = plane.namespace("maintenance").await?;
    let folder = tempfile::tempdir()?;
    symlink(fs::canonicalize(deploy())?, folder.path().join("deploy"))?;
    let types = |line: &str| {
        let line = line.replace(" -n chancery ", &format!(" -n {namespace} "));
        // The only quotes are those around a value without a space.
        let words: Vec<&str> = line.split(' ').map(|word| word.trim_matches('\'')).collect();
        assert_eq!(words.first(), Some(&"helm"), "{line}");
        run_helm(&helm, plane, folder.path(), words.get(1..).unwrap_or_default())
    };
    let client = plane.client().await?;
    let servers = Api::<StatefulSet>::namespaced(client.clone(), &namespace);
    let jobs = Api::<Job>::namespaced(client, &namespace);
    let servers_and_jobs = async || -> Result<(Option<i32>, Vec<Job>)> {
        let server = servers.get("chancery").await?;
        Ok((server.spec.replicas, jobs.list(&ListParams::default()).await?.items))
    };
    let arguments = |job: &Job| {
        let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        pod.and_then(|pod| pod.containers.first()).and_then(|container| container.args.clone()).unwrap_or_default()
    };

    let values = "deploy/helm/chancery/ci/minimal-values.yaml";
    types(&format!("helm -n chancery install chancery deploy/helm/chancery -f {values}"))?;
    let (replicas, none) = servers_and_jobs().await?;
    assert_eq!((replicas, none.len()), (Some(1), 0));

    types(stop)?;
    let (replicas, first) = servers_and_jobs().await?;
    assert_eq!(replicas, Some(0));
    let [first] = &*first else { return Err(format!("not one Job: {first:?}").into()) };
    assert_eq!(arguments(first), ["store", "rebuild", "--yes"]);
    let pod = first.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()).ok_or("no pod")?;
    let label = pod.labels.iter().flatten().find(|(key, _)| *key == "app.kubernetes.io/component");
    let (key, value) = label.ok_or("no component")?;
    assert!(look.ends_with(&format!(" -l {key}={value}")), "{look}");

    // A Job's pod cannot be changed: other arguments make another Job.
    types(&stop.replace(r#"["store","rebuild","--yes"]"#, r#"["ledger","verify"]"#))?;
    let (replicas, second) = servers_and_jobs().await?;
    assert_eq!(replicas, Some(0));
    let [second] = &*second else { return Err(format!("not one Job: {second:?}").into()) };
    assert_eq!(arguments(second), ["ledger", "verify"]);
    assert_ne!(first.name_any(), second.name_any());

    types(back)?;
    let (replicas, none) = servers_and_jobs().await?;
    assert_eq!((replicas, none.len()), (Some(1), 0));
    Ok(())
}
