//! Which Certificates are to be renewed, and how far each is. Pure: it is told what was seen, and says whose turn it is.
//!
//! Nothing is kept but what the cluster says itself: a Certificate is renewed when the request of its present revision was
//! made at or after the time that the campaign names. So whoever begins again with the same time goes on.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use crate::resource::{CLUSTER_ISSUER, GROUP, ISSUER};

/// A Certificate, by namespace and name.
pub(crate) type Key = (String, String);

/// An issuer of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// Every issuer of ours.
    All,
    /// A ChanceryClusterIssuer.
    Cluster(String),
    /// A ChanceryIssuer: namespace and name.
    Namespaced(String, String),
}

/// cert-manager's Certificate, as far as a renewal looks at it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Certificate {
    pub(crate) spec: Spec,
    pub(crate) status: Status,
}

/// What it wants.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Spec {
    pub(crate) issuer_ref: IssuerRef,
}

/// Whom it asks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IssuerRef {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// How it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) revision: Option<i64>,
    pub(crate) last_failure_time: Option<Timestamp>,
    pub(crate) conditions: Vec<Condition>,
}

/// One of its conditions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) message: String,
}

impl Certificate {
    fn issuing(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == "Issuing")
    }

    fn is_issuing(&self) -> bool {
        self.issuing().is_some_and(|issuing| issuing.status == "True")
    }

    /// Whether one of these issuers is the one that it asks.
    pub(crate) fn asks(&self, namespace: &str, chosen: &[Chosen]) -> bool {
        let IssuerRef { group, kind, name } = &self.spec.issuer_ref;
        group == GROUP
            && chosen.iter().any(|chosen| match chosen {
                Chosen::All => kind == ISSUER || kind == CLUSTER_ISSUER,
                Chosen::Cluster(wanted) => kind == CLUSTER_ISSUER && name == wanted,
                Chosen::Namespaced(of, wanted) => kind == ISSUER && of == namespace && name == wanted,
            })
    }
}

/// How far one Certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its turn has not come; its revision when it was looked at.
    Waiting { revision: i64 },
    /// It is being issued; since when we wait, and what its revision and its last failure were. Times of objects are
    /// whole seconds, so that a failure is told by its being another one and not by its being later. `ours` is whether it
    /// is issued because we asked for it, and not because of what came before.
    UnderWay { since: Timestamp, revision: i64, failed: Option<Timestamp>, ours: bool },
    /// It has a certificate that was asked for after the campaign's time.
    Renewed,
    /// In words.
    Failed(String),
}

/// How many are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) all: usize,
    pub(crate) renewed: usize,
    pub(crate) under_way: usize,
    pub(crate) failed: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Campaign {
    steps: BTreeMap<Key, Step>,
}

impl Campaign {
    /// Takes a Certificate in. `asked` is when the request of its present revision was made, if that request is still
    /// there; without one it counts as old. One that was never issued is left out: it gets its first certificate anyway.
    pub(crate) fn add(&mut self, key: Key, seen: &Certificate, asked: Option<Timestamp>, before: Timestamp) {
        let Some(revision) = seen.status.revision else { return };
        let step = if asked.is_some_and(|asked| asked >= before) { Step::Renewed } else { Step::Waiting { revision } };
        self.steps.insert(key, step);
    }

    /// What has become of a Certificate; whether its step has changed.
    pub(crate) fn see(&mut self, key: &Key, seen: &Certificate) -> bool {
        let Some(step) = self.steps.get_mut(key) else { return false };
        let Step::UnderWay { revision, failed, ours, .. } = *step else { return false };
        if seen.status.revision.is_some_and(|now| now > revision) && !seen.is_issuing() {
            // What others have asked for may have been asked for before the campaign's time.
            *step = if ours { Step::Renewed } else { Step::Waiting { revision } };
        } else if !seen.is_issuing() && seen.status.last_failure_time.is_some_and(|now| Some(now) != failed) {
            let why = seen.issuing().map(|issuing| issuing.message.clone()).unwrap_or_default();
            *step = Step::Failed(if why.is_empty() { "cert-manager says that it failed".to_owned() } else { why });
        } else {
            return false;
        }
        true
    }

    /// A Certificate that is not there any more needs no renewal.
    pub(crate) fn gone(&mut self, key: &Key) -> bool {
        self.steps.remove(key).is_some()
    }

    /// Whose turn it is, where fewer than so many are under way. Namespaces take turns, so that a large one does not
    /// come before all others.
    pub(crate) fn next(&self, at_once: usize) -> Option<Key> {
        if self.progress().under_way >= at_once {
            return None;
        }
        let mut begun = BTreeMap::<&str, usize>::new();
        let mut first = BTreeMap::<&str, &Key>::new();
        for (key, step) in &self.steps {
            if matches!(step, Step::Waiting { .. }) {
                first.entry(&key.0).or_insert(key);
            } else {
                *begun.entry(&key.0).or_default() += 1;
            }
        }
        let next = first.into_iter().min_by_key(|(namespace, _)| begun.get(namespace).copied().unwrap_or_default());
        next.map(|(_, key)| key.clone())
    }

    /// It was asked to be issued; or was being issued already, and that is not `ours`.
    pub(crate) fn begun(&mut self, key: &Key, now: Timestamp, seen: &Certificate, ours: bool) {
        let Status { revision, last_failure_time, .. } = &seen.status;
        let revision = revision.unwrap_or_default();
        self.set(key, Step::UnderWay { since: now, revision, failed: *last_failure_time, ours });
    }

    /// Whether it has got another certificate while it waited for its turn.
    pub(crate) fn has_another(&self, key: &Key, seen: &Certificate) -> bool {
        let Some(Step::Waiting { revision }) = self.steps.get(key) else { return false };
        seen.status.revision.is_some_and(|now| now > *revision)
    }

    /// Its certificate was asked for after the campaign's time.
    pub(crate) fn renewed(&mut self, key: &Key) {
        self.set(key, Step::Renewed);
    }

    /// It cannot be renewed.
    pub(crate) fn failed(&mut self, key: &Key, why: String) {
        self.set(key, Step::Failed(why));
    }

    fn set(&mut self, key: &Key, step: Step) {
        if let Some(held) = self.steps.get_mut(key) {
            *held = step;
        }
    }

    /// Gives up waiting for what was begun before this time; their keys.
    pub(crate) fn late(&mut self, before: Timestamp) -> Vec<Key> {
        let mut late = Vec::new();
        for (key, step) in &mut self.steps {
            if matches!(step, Step::UnderWay { since, .. } if *since < before) {
                *step = Step::Failed("it has no new certificate yet; cert-manager goes on with it".to_owned());
                late.push(key.clone());
            }
        }
        late
    }

    /// How far all are.
    pub(crate) fn progress(&self) -> Progress {
        let mut progress = Progress { all: self.steps.len(), ..Progress::default() };
        for step in self.steps.values() {
            match step {
                Step::Waiting { .. } => {}
                Step::UnderWay { .. } => progress.under_way += 1,
                Step::Renewed => progress.renewed += 1,
                Step::Failed(_) => progress.failed += 1,
            }
        }
        progress
    }

    /// Whether nothing is left to do or to wait for.
    pub(crate) fn is_over(&self) -> bool {
        self.steps.values().all(|step| matches!(step, Step::Renewed | Step::Failed(_)))
    }

    /// How far one is.
    pub(crate) fn step(&self, key: &Key) -> Option<&Step> {
        self.steps.get(key)
    }

    /// Those whose turn has not come.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Key> {
        self.steps.iter().filter(|(_, step)| matches!(step, Step::Waiting { .. })).map(|(key, _)| key)
    }

    /// Those that failed, and why.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&Key, &str)> {
        self.steps.iter().filter_map(|(key, step)| match step {
            Step::Failed(why) => Some((key, why.as_str())),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).expect("a time")
    }

    fn certificate(status: &Value) -> Certificate {
        let issuer = json!({ "group": "chancery.dev", "kind": "ChanceryClusterIssuer", "name": "company" });
        serde_json::from_value(json!({ "spec": { "issuerRef": issuer }, "status": status })).expect("a Certificate")
    }

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    fn issuing(status: &str, message: &str) -> Value {
        json!([{ "type": "Issuing", "status": status, "message": message }])
    }

    #[test]
    fn only_certificates_of_the_chosen_issuers_are_meant() {
        let one = certificate(&json!({}));
        for (chosen, meant) in [
            (Chosen::All, true),
            (Chosen::Cluster("company".to_owned()), true),
            (Chosen::Cluster("other".to_owned()), false),
            (Chosen::Namespaced("shop".to_owned(), "company".to_owned()), false),
        ] {
            assert_eq!(one.asks("shop", std::slice::from_ref(&chosen)), meant, "{chosen:?}");
        }
        let mut own = one.clone();
        own.spec.issuer_ref.kind = ISSUER.to_owned();
        let chosen = [Chosen::Namespaced("shop".to_owned(), "company".to_owned())];
        assert!(own.asks("shop", &chosen) && !own.asks("web", &chosen));
        let mut foreign = one;
        foreign.spec.issuer_ref.group = "cert-manager.io".to_owned();
        assert!(!foreign.asks("shop", &[Chosen::All]));
    }

    #[test]
    fn what_was_asked_for_since_the_named_time_is_renewed_already_and_what_was_never_issued_is_left_out() {
        let mut campaign = Campaign::default();
        let issued = certificate(&json!({ "revision": 3 }));
        campaign.add(key("a", "old"), &issued, Some(at(-1)), at(0));
        campaign.add(key("a", "unknown"), &issued, None, at(0));
        campaign.add(key("a", "new"), &issued, Some(at(0)), at(0));
        campaign.add(key("a", "never"), &certificate(&json!({})), None, at(0));
        assert_eq!(campaign.progress(), Progress { all: 3, renewed: 1, ..Progress::default() });
        assert_eq!(campaign.step(&key("a", "new")), Some(&Step::Renewed));
    }

    #[test]
    fn namespaces_take_turns_and_no_more_are_under_way_than_may_be() {
        let mut campaign = Campaign::default();
        let issued = certificate(&json!({ "revision": 1 }));
        for name in ["1", "2", "3"] {
            campaign.add(key("large", name), &issued, None, at(0));
        }
        campaign.add(key("small", "1"), &issued, None, at(0));
        let mut order = Vec::new();
        while let Some(next) = campaign.next(3) {
            campaign.begun(&next, at(1), &issued, true);
            order.push(next);
        }
        assert_eq!(order, [key("large", "1"), key("small", "1"), key("large", "2")]);
        assert!(campaign.see(&key("large", "1"), &certificate(&json!({ "revision": 2 }))));
        assert_eq!(campaign.next(3), Some(key("large", "3")));
    }

    #[test]
    fn a_renewal_is_over_with_the_next_revision_or_a_failure_of_its_own() {
        for (status, after) in [
            (json!({ "revision": 1, "conditions": issuing("True", "") }), None),
            (json!({ "revision": 2, "conditions": issuing("True", "") }), None),
            (json!({ "revision": 2 }), Some(Step::Renewed)),
            // Of an earlier attempt.
            (json!({ "revision": 1, "lastFailureTime": at(-1) }), None),
            (
                json!({ "revision": 1, "lastFailureTime": at(0), "conditions": issuing("False", "policy refuses") }),
                Some(Step::Failed("policy refuses".to_owned())),
            ),
        ] {
            let mut campaign = Campaign::default();
            let before = certificate(&json!({ "revision": 1, "lastFailureTime": at(-1) }));
            campaign.add(key("a", "web"), &before, None, at(0));
            campaign.begun(&key("a", "web"), at(1), &before, true);
            assert_eq!(campaign.see(&key("a", "web"), &certificate(&status)), after.is_some(), "{status}");
            assert_eq!(campaign.is_over(), after.is_some(), "{status}");
            if let Some(after) = after {
                assert_eq!(campaign.step(&key("a", "web")), Some(&after));
            }
        }
    }

    #[test]
    fn what_was_issued_meanwhile_by_others_is_looked_at_again_and_not_taken_for_ours() {
        let (mut campaign, web) = (Campaign::default(), key("a", "web"));
        let [first, second] = [1, 2].map(|revision| certificate(&json!({ "revision": revision })));
        campaign.add(web.clone(), &first, Some(at(-1)), at(0));
        assert!(!campaign.has_another(&web, &first));
        // It was being issued when its turn came.
        campaign.begun(&web, at(1), &first, false);
        assert!(campaign.see(&web, &second));
        assert_eq!((campaign.next(1), campaign.has_another(&web, &second)), (Some(web.clone()), true));
        campaign.renewed(&web);
        assert!(campaign.is_over());
    }

    #[test]
    fn what_takes_too_long_frees_its_place() {
        let mut campaign = Campaign::default();
        let before = certificate(&json!({ "revision": 1 }));
        campaign.add(key("a", "web"), &before, None, at(0));
        campaign.begun(&key("a", "web"), at(1), &before, true);
        assert!(campaign.late(at(1)).is_empty());
        assert_eq!(campaign.late(at(2)), [key("a", "web")]);
        assert!(campaign.is_over() && campaign.failures().count() == 1);
    }
}
