//! Who may depend on whom (docs/architecture.md), held over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Each crate of ours with what it may depend on, dev-dependencies aside.
const EDGES: &[(&str, &[&str])] = &[
    ("pki", &[]),
    ("egress", &[]),
    ("acme", &["pki"]),
    ("policy", &["pki"]),
    ("ledger", &["pki"]),
    ("api", &["egress"]),
    ("authority", &["pki", "acme", "policy", "ledger"]),
    ("store-sled", &["authority", "pki", "acme", "policy", "ledger"]),
    ("signer", &["authority", "pki", "acme", "policy", "ledger"]),
    ("validation", &["authority", "pki", "acme", "policy", "ledger", "egress"]),
    ("http", &["authority", "pki", "acme", "policy", "ledger", "api", "egress"]),
    ("cluster", &["authority", "pki", "acme", "policy", "ledger"]),
    ("issuer", &["api", "pki", "egress"]),
    (
        "server",
        &[
            "pki",
            "acme",
            "policy",
            "ledger",
            "authority",
            "store-sled",
            "signer",
            "egress",
            "validation",
            "api",
            "http",
            "cluster",
        ],
    ),
    ("testkit", &["authority", "pki", "acme", "policy", "ledger"]),
];

/// Crates whose tests do without the testkit: they lie below it, and a cycle gives two copies of the
/// same types.
const NO_TESTKIT: &[&str] = &["pki", "acme", "policy", "ledger", "egress", "api"];

/// Heavy crates, and who of ours may name them.
const FIREWALLS: &[(&str, &[&str])] = &[
    ("sled", &["store-sled"]),
    ("axum", &["http", "server", "issuer"]),
    ("josekit", &["http", "cluster", "harness", "load"]),
    ("clap", &["server", "issuer", "load"]),
    ("hickory-resolver", &["egress"]),
    ("kube", &["cluster", "issuer", "cluster-tests", "load"]),
    ("tokio-rustls", &["server", "validation", "api", "harness", "load", "cluster-tests"]),
];

/// Crates without I/O, clock and chance: an async runtime or a TLS library has no place there.
const PURE: &[&str] = &["pki", "acme", "policy", "ledger"];
const IMPURE: &[&str] = &["tokio", "rustls", "tokio-rustls", "hyper", "axum", "rustix", "socket2", "rand", "sled"];

fn short(name: &str) -> Option<&str> {
    name.strip_prefix("chancery-")
}

fn ours() -> BTreeMap<String, Package> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata runs");
    metadata
        .packages
        .into_iter()
        .filter_map(|package| short(&package.name).map(str::to_owned).map(|name| (name, package)))
        .collect()
}

fn dependencies<'a>(package: &'a Package, kinds: &'a [DependencyKind]) -> impl Iterator<Item = &'a str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| kinds.contains(&dependency.kind))
        .map(|dependency| dependency.name.as_str())
}

const REAL: &[DependencyKind] = &[DependencyKind::Normal, DependencyKind::Build];
const ALL: &[DependencyKind] = &[DependencyKind::Normal, DependencyKind::Build, DependencyKind::Development];

#[test]
fn nothing_depends_on_what_it_must_not_see() {
    let ours = ours();
    for (name, package) in &ours {
        let in_crates = package.manifest_path.as_str().contains("/crates/");
        let Some((_, allowed)) = EDGES.iter().find(|(crate_name, _)| crate_name == name) else {
            assert!(!in_crates, "{name} stands in crates/ but not in the table of who may depend on whom");
            continue;
        };
        for dependency in dependencies(package, REAL).filter_map(short) {
            assert!(allowed.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn every_crate_of_the_table_exists() {
    let ours = ours();
    for (name, _) in EDGES {
        assert!(ours.contains_key(*name), "{name} is in the table and not in the workspace");
    }
}

#[test]
fn the_crates_below_the_testkit_do_without_it() {
    let ours = ours();
    for name in NO_TESTKIT {
        let package = ours.get(*name).expect("in the workspace");
        assert!(
            dependencies(package, ALL).all(|dependency| dependency != "chancery-testkit"),
            "{name} uses the testkit"
        );
    }
}

#[test]
fn heavy_crates_stay_behind_their_walls() {
    for (name, package) in &ours() {
        for dependency in dependencies(package, REAL) {
            if let Some((_, allowed)) = FIREWALLS.iter().find(|(heavy, _)| *heavy == dependency) {
                assert!(allowed.contains(&name.as_str()), "{name} must not depend on {dependency}");
            }
        }
    }
}

#[test]
fn the_pure_crates_have_no_runtime_no_sockets_and_no_chance() {
    let ours = ours();
    for name in PURE {
        let package = ours.get(*name).expect("in the workspace");
        let found: BTreeSet<&str> =
            dependencies(package, REAL).filter(|dependency| IMPURE.contains(dependency)).collect();
        assert!(found.is_empty(), "{name} is pure and depends on {found:?}");
    }
}

#[test]
fn the_pure_crates_have_one_wall_and_it_holds_what_the_workspace_forbids() {
    let read = |path: &str| {
        let path = format!("{}/../../{path}.clippy.toml", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let [first, others @ ..] = PURE else { panic!("there are pure crates") };
    let wall = read(&format!("crates/{first}/"));
    for other in others {
        assert_eq!(read(&format!("crates/{other}/")), wall, "{other}'s .clippy.toml is not {first}'s");
    }
    for line in read("").lines() {
        assert!(wall.lines().any(|other| other == line), "the wall of the pure crates leaves out: {line}");
    }
}

#[test]
fn every_member_takes_the_workspace_lints() {
    for (name, package) in &ours() {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("cargo has just read it");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} does not take the workspace's lints");
    }
}
