//! Every way in.

mod acme;
mod cluster;
mod jws;
mod ledger;
mod local;
mod pki;
mod policy;
mod request;
mod validation;

use crate::{Form, Target, Verdict};

/// Octets that are no more than any reader here takes, a little over what the larger ones take.
const LONGEST: usize = 70_000;
/// Memory that is enough for most readers.
const MEMORY: u64 = 16 << 20;

/// What targets have in common.
const PLAIN: Target = Target {
    name: "",
    read: |_| Verdict::Taken,
    form: Form::Octets,
    words: &[],
    mutations: 20_000,
    longest: LONGEST,
    memory: MEMORY,
};

/// All of them.
#[must_use]
pub fn all() -> Vec<Target> {
    [
        acme::TARGETS,
        cluster::TARGETS,
        jws::TARGETS,
        ledger::TARGETS,
        local::TARGETS,
        pki::TARGETS,
        policy::TARGETS,
        validation::TARGETS,
    ]
    .concat()
}

/// The target of this name.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn named(name: &str) -> Target {
    all().into_iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target {name}"))
}
