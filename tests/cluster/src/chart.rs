//! Charts, rendered by Helm as an installation renders them: our own, and other people's.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use chancery_harness::server::succeeded;
use serde_json::Value;

use crate::{Result, documents, helm, skipped};

/// What a chart needs to be told, whatever else it is told.
const NEEDED: [(&str, &[&str]); 2] = [
    ("chancery", &["--set=url=https://ca.example.com", "--set=image.repository=registry.example.com/chancery"]),
    ("chancery-issuer", &["--set=image.repository=registry.example.com/chancery-issuer"]),
];

/// A chart below `deploy/helm`.
#[derive(Debug, Clone)]
pub struct Chart {
    name: &'static str,
    helm: PathBuf,
}

impl Chart {
    /// Each of them; none where this machine has no Helm, which has been said then.
    pub fn all() -> Result<Vec<Self>> {
        let Some(helm) = helm() else {
            skipped(
                "there is no Helm on this machine (tests/run builds one where there is Go; CHANCERY_HELM names another)",
            );
            return Ok(Vec::new());
        };
        Ok(NEEDED.iter().map(|&(name, _)| Self { name, helm: helm.clone() }).collect())
    }

    /// The one of this name; `None` where this machine has no Helm, which has been said then.
    pub fn named(name: &str) -> Result<Option<Self>> {
        Ok(Self::all()?.into_iter().find(|chart| chart.name == name))
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        deploy().join("helm").join(self.name)
    }

    /// The files of values that it is tried with, beside none at all.
    pub fn values_files(&self) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.folder().join("ci"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        Ok(files)
    }

    /// What Helm says to it, as a release of its name.
    pub fn template(&self, namespace: &str, arguments: &[String]) -> Result<Output> {
        let mut command = Command::new(&self.helm);
        command
            .arg("template")
            .arg(self.name)
            .arg(self.folder())
            .args(["--namespace", namespace, "--kube-version", "1.37.2"])
            .args(arguments);
        Ok(command.output()?)
    }

    /// Its objects, with what it needs to be told and these arguments.
    pub fn objects(&self, namespace: &str, arguments: &[&str]) -> Result<Vec<Value>> {
        let output = self.template(namespace, &self.needed(arguments))?;
        succeeded(&output)?;
        documents(&String::from_utf8(output.stdout)?)
    }

    /// What Helm says against it, if it refuses.
    pub fn refusal(&self, arguments: &[&str]) -> Result<String> {
        let output =
            self.template("chancery", &arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>())?;
        if output.status.success() {
            return Err(format!("{} was rendered with {arguments:?}", self.name).into());
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// What `helm lint --strict` says.
    pub fn lint(&self, values: &Path) -> Result<Output> {
        let mut command = Command::new(&self.helm);
        command.args(["lint", "--strict", "--kube-version", "1.37.2"]).arg(self.folder()).arg("--values").arg(values);
        Ok(command.output()?)
    }

    /// The arguments behind those that it needs.
    #[must_use]
    pub fn needed(&self, arguments: &[&str]) -> Vec<String> {
        let needed = NEEDED.iter().find(|(name, _)| *name == self.name).map_or(&[] as &[&str], |(_, needed)| *needed);
        needed.iter().chain(arguments).map(|&argument| argument.to_owned()).collect()
    }
}

/// The objects of somebody else's chart, as a release of this name with these values.
pub(crate) fn render(chart: &Path, release: &str, namespace: &str, values: &Value) -> Result<Vec<Value>> {
    let helm = helm().ok_or("there is no Helm on this machine")?;
    let file = tempfile::NamedTempFile::new()?;
    serde_json::to_writer(&file, values)?;
    let output = Command::new(helm)
        .args(["template", release])
        .arg(chart)
        .args(["--namespace", namespace, "--values"])
        .arg(file.path())
        .output()?;
    succeeded(&output)?;
    documents(&String::from_utf8(output.stdout)?)
}

/// The folder `deploy` of the repository.
#[must_use]
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// Those of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object.get("kind").and_then(Value::as_str) == Some(kind))
}
