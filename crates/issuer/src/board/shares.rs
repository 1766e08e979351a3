//! How much of the board each namespace has, and whose turn it is.

use std::collections::{BTreeSet, HashMap};

use super::Uid;
use crate::resource::CertificateRequest;

/// So many octets count as one request: what one with an RSA key and its metadata has.
pub(super) const UNIT: usize = 4096;
/// What an object weighs beside its texts, in octets.
const OVERHEAD: usize = 1024;

/// What a text costs beside its octets: its place in a list, and what an allocator adds.
const TEXT: usize = 56;

/// What a request weighs on the board: 1 for a usual one, more for a large one. Each text counts whose length whoever
/// makes the object chooses.
pub(super) fn cost(request: &CertificateRequest) -> usize {
    let (metadata, spec, status) = (&request.metadata, &request.spec, request.status.as_ref());
    let annotations = metadata.annotations.iter().flatten().map(|(key, value)| key.len() + value.len());
    let owners = metadata.owner_references.iter().flatten();
    let owners = owners.map(|owner| owner.api_version.len() + owner.kind.len() + owner.name.len() + owner.uid.len());
    let conditions = status.iter().flat_map(|status| &status.conditions);
    let conditions = conditions.map(|one| {
        let words = [one.message.as_deref(), one.reason.as_deref(), one.last_transition_time.as_deref()];
        words.into_iter().flatten().chain([&*one.type_]).map(str::len).sum::<usize>() + 128
    });
    let octets = [status.and_then(|status| status.certificate.as_ref()), status.and_then(|status| status.ca.as_ref())];
    let octets = octets.into_iter().flatten().map(|octets| octets.0.len());
    let listed = spec.groups.iter().chain(&spec.usages).map(|text| text.len() + TEXT);
    // The name of the issuer is kept beside the request as well, twice.
    let texts = spec.issuer_ref.name.len() * 3 + spec.username.len() + spec.duration.as_deref().map_or(0, str::len);
    let octets = OVERHEAD
        + spec.request.0.len()
        + annotations.sum::<usize>()
        + owners.sum::<usize>()
        + conditions.sum::<usize>()
        + listed.sum::<usize>()
        + octets.sum::<usize>()
        + texts;
    octets.div_ceil(UNIT)
}

/// See the module. Only namespaces that have something on the board are known.
#[derive(Debug, Default)]
pub(super) struct Shares {
    namespaces: HashMap<Box<str>, Share>,
    by_cost: BTreeSet<(usize, Box<str>)>,
    cost: usize,
    last_turn: u64,
}

#[derive(Debug, Default)]
struct Share {
    cost: usize,
    uids: BTreeSet<Uid>,
    /// The lower, the sooner.
    turn: u64,
}

impl Shares {
    pub(super) fn add(&mut self, namespace: &str, uid: &Uid, cost: usize) {
        if !self.namespaces.contains_key(namespace) {
            // Whoever comes new is the last of this round.
            self.last_turn += 1;
            let share = Share { turn: self.last_turn, ..Share::default() };
            self.namespaces.insert(namespace.into(), share);
        }
        let Some(share) = self.namespaces.get_mut(namespace) else { return };
        share.uids.insert(uid.clone());
        self.by_cost.remove(&(share.cost, namespace.into()));
        share.cost += cost;
        self.by_cost.insert((share.cost, namespace.into()));
        self.cost += cost;
    }

    pub(super) fn remove(&mut self, namespace: &str, uid: &str, cost: usize) {
        let Some(share) = self.namespaces.get_mut(namespace) else { return };
        share.uids.remove(uid);
        self.by_cost.remove(&(share.cost, namespace.into()));
        share.cost = share.cost.saturating_sub(cost);
        self.cost = self.cost.saturating_sub(cost);
        if share.uids.is_empty() {
            self.namespaces.remove(namespace);
        } else {
            self.by_cost.insert((share.cost, namespace.into()));
        }
    }

    /// Of all namespaces.
    pub(super) const fn cost(&self) -> usize {
        self.cost
    }

    /// Of one.
    pub(super) fn of(&self, namespace: &str) -> usize {
        self.namespaces.get(namespace).map_or(0, |share| share.cost)
    }

    /// The namespace that has most.
    pub(super) fn largest(&self) -> Option<(&str, usize)> {
        self.by_cost.last().map(|(cost, namespace)| (&**namespace, *cost))
    }

    /// What a namespace has on the board.
    pub(super) fn uids(&self, namespace: &str) -> impl Iterator<Item = &Uid> {
        self.namespaces.get(namespace).into_iter().flat_map(|share| &share.uids)
    }

    /// A namespace's place in the round.
    pub(super) fn turn(&self, namespace: &str) -> u64 {
        self.namespaces.get(namespace).map_or(u64::MAX, |share| share.turn)
    }

    /// A namespace had its turn, whichever issuer it was for.
    pub(super) fn served(&mut self, namespace: &str) {
        self.last_turn += 1;
        if let Some(share) = self.namespaces.get_mut(namespace) {
            share.turn = self.last_turn;
        }
    }
}
