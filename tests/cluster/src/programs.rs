//! Where the programs are: named by a variable, by envtest's variables, or left in the cache by an earlier run of
//! `tests/run`.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

/// The programs of a control plane.
#[derive(Debug, Clone)]
pub struct Programs {
    /// etcd.
    pub etcd: Program,
    /// kube-apiserver.
    pub api_server: Program,
    /// kube-controller-manager. envtest has none: then nothing is collected, and nothing is made in new namespaces but
    /// what [`crate::Plane::namespace`] makes.
    pub controller_manager: Option<Program>,
}

/// A program, and the argument that chooses it where several are one.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    part: Option<&'static str>,
}

impl Program {
    fn alone(path: PathBuf) -> Self {
        Self { path, part: None }
    }

    /// A command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(self.part);
        command
    }
}

impl Programs {
    /// Those of this machine, in envtest's order: a variable for each program, a folder for all, ours. `None` where
    /// there are none.
    #[must_use]
    pub fn find() -> Option<Self> {
        let ours = provided("CHANCERY_KUBE", "kube", "kube");
        let one = |name: &'static str, variable: &str| {
            named(variable)
                .or_else(|| named("KUBEBUILDER_ASSETS").map(|folder| folder.join(name)).filter(|file| file.is_file()))
                .map(Program::alone)
                .or_else(|| ours.clone().map(|path| Program { path, part: Some(name) }))
        };
        Some(Self {
            etcd: one("etcd", "TEST_ASSET_ETCD")?,
            api_server: one("kube-apiserver", "TEST_ASSET_KUBE_APISERVER")?,
            controller_manager: one("kube-controller-manager", "TEST_ASSET_KUBE_CONTROLLER_MANAGER"),
        })
    }
}

/// cert-manager, with its chart and the Gateway API's kinds in the same folder.
pub(crate) fn cert_manager() -> Option<PathBuf> {
    provided("CHANCERY_CERT_MANAGER", "certmanager", "certmanager")
}

/// Helm: `CHANCERY_HELM`, or the one of an earlier run.
#[must_use]
pub fn helm() -> Option<PathBuf> {
    provided("CHANCERY_HELM", "helm", "helm")
}

/// Istio (istiod and its agent), with its kinds, its charts and Envoy's bootstrap in the same folder; and Envoy. `None` where this
/// machine lacks one of them; that has been said then.
pub(crate) fn istio() -> Option<(PathBuf, PathBuf)> {
    let istio = provided("CHANCERY_ISTIO", "istio", "istio");
    let envoy = named("CHANCERY_ENVOY").or_else(|| newest(&cache()?, "envoy-", "envoy"));
    if istio.is_none() || envoy.is_none() {
        skipped(
            "there is no Istio, or no Envoy, on this machine (tests/run provides both where there is Go; CHANCERY_ISTIO \
             and CHANCERY_ENVOY name others)",
        );
    }
    istio.zip(envoy)
}

/// nginx: `CHANCERY_NGINX`, or the system's. `None` where there is none; that has been said then.
pub(crate) fn nginx() -> Option<PathBuf> {
    // Where Debian has it, and where a user's PATH does not look.
    let found = named("CHANCERY_NGINX").or_else(|| in_path("nginx")).or_else(|| {
        let debian = PathBuf::from("/usr/sbin/nginx");
        debian.is_file().then_some(debian)
    });
    if found.is_none() {
        skipped("there is no nginx on this machine (tests/run installs it; CHANCERY_NGINX names another)");
    }
    found
}

/// certbot: `CHANCERY_CERTBOT`, or the system's. `None` where there is none; that has been said then.
pub(crate) fn certbot() -> Option<PathBuf> {
    let found = named("CHANCERY_CERTBOT").or_else(|| in_path("certbot"));
    if found.is_none() {
        skipped("there is no certbot on this machine (tests/run provides it; CHANCERY_CERTBOT names another)");
    }
    found
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Says loudly that the calling test is skipped, and why.
pub fn skipped(why: &str) {
    // Straight to the stream: what a passing test prints through the macro is kept from everybody.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {why}");
}

fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// What a variable names, else the newest of its kind in the cache that `deploy/lib.sh` keeps.
fn provided(variable: &str, kind: &str, program: &str) -> Option<PathBuf> {
    named(variable).or_else(|| newest(&cache()?, &format!("go-{kind}-"), program))
}

fn cache() -> Option<PathBuf> {
    named("CHANCERY_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|folder| folder.join("chancery")))
        .or_else(|| named("HOME").map(|folder| folder.join(".cache/chancery")))
}

fn newest(cache: &Path, beginning: &str, program: &str) -> Option<PathBuf> {
    fs::read_dir(cache)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().strip_prefix(beginning).is_some_and(is_digest))
        .map(|entry| entry.path().join(program))
        .filter_map(|path| Some((made(&path)?, path)))
        .max()
        .map(|(_, path)| path)
}

/// Anything else of this name is a build under way.
fn is_digest(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn made(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
