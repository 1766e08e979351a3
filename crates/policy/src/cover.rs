//! Rules that can never matter: what they say is said already, or denied whatever they say.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    condition::Condition,
    index::{Index, RuleId},
    requester::ClaimKind,
    rule::{Effect, Rule, Target, Who},
};

/// An allow everything of which is denied without condition, and the rules that deny it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    pub(crate) rule: RuleId,
    pub(crate) by: BTreeSet<RuleId>,
}

/// Allows that can never matter, since unconditional denies cover all that they grant.
pub(crate) fn covered(rules: &[Rule]) -> Vec<Covered> {
    let mut denies = Index::default();
    for (id, rule) in rules.iter().enumerate() {
        if rule.effect == Effect::Deny && rule.when.is_none() {
            denies.insert(id, &rule.target);
        }
    }
    let of = |(id, rule): (RuleId, &Rule)| covered_by(rules, &denies, rule).map(|by| Covered { rule: id, by });
    rules.iter().enumerate().filter(|(_, rule)| rule.effect == Effect::Allow).filter_map(of).collect()
}

/// The denies that cover an allow, if together they cover each of its selectors.
fn covered_by(rules: &[Rule], denies: &Index, allow: &Rule) -> Option<BTreeSet<RuleId>> {
    let Target {
        names,
        wildcards,
        addresses,
        spiffe,
        uris,
        emails,
        other_names,
        common_names,
        subject: _,
        ca: _,
        profiles: _,
        keys: _,
    } = &allow.target;
    let mut by = BTreeSet::new();
    let selectors = names
        .iter()
        .map(|pattern| denies.covering_names(pattern))
        .chain(wildcards.iter().map(|base| denies.covering_wildcard(base)))
        .chain(addresses.iter().map(|range| denies.covering_range(range)))
        .chain(spiffe.iter().map(|pattern| denies.covering_spiffe(pattern)))
        .chain(uris.iter().map(|pattern| denies.covering_uri(pattern)))
        .chain(emails.iter().map(|pattern| denies.covering_email(pattern)))
        .chain(other_names.iter().map(|pattern| denies.covering_other_name(pattern)))
        .chain(common_names.iter().map(|pattern| denies.covering_common_name(pattern)));
    let mut any = false;
    for candidates in selectors {
        any = true;
        let covering =
            candidates.into_iter().find(|id| rules.get(*id).is_some_and(|deny| speaks_whenever(deny, allow)))?;
        by.insert(covering);
    }
    any.then_some(by)
}

/// Whether `deny` speaks for every requester, profile and key for which `allow` does.
fn speaks_whenever(deny: &Rule, allow: &Rule) -> bool {
    // One that speaks of some subjects alone lets requests without them pass.
    deny.target.subject.is_empty()
        && (!deny.target.ca || allow.target.ca)
        && listed(deny.target.profiles.as_deref(), allow.target.profiles.as_deref())
        && listed(deny.target.keys.as_deref(), allow.target.keys.as_deref())
        && who_covers(&deny.who, &allow.who)
}

/// Whether everything that `theirs` lets pass is let pass by `ours`; absent lets everything pass.
fn listed<T: PartialEq>(ours: Option<&[T]>, theirs: Option<&[T]>) -> bool {
    match (ours, theirs) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(ours), Some(theirs)) => theirs.iter().all(|value| ours.contains(value)),
    }
}

fn who_covers(ours: &Who, theirs: &Who) -> bool {
    let claim = |who: &Who, kind: ClaimKind| -> Option<Vec<String>> {
        who.claims.iter().find(|(found, _)| *found == kind).map(|(_, values)| values.clone())
    };
    listed(ours.doors.as_deref(), theirs.doors.as_deref())
        && listed(ours.directories.as_deref(), theirs.directories.as_deref())
        && ours.claims.iter().all(|(kind, values)| listed(Some(values), claim(theirs, *kind).as_deref()))
}

/// Rules that say exactly what an earlier rule says, with that earlier rule.
pub(crate) fn repeated(rules: &[Rule]) -> Vec<(RuleId, RuleId)> {
    let mut first = BTreeMap::new();
    let mut found = Vec::new();
    for (id, rule) in rules.iter().enumerate() {
        let Rule { name: _, at: _, effect, target, who, when, because: _ } = rule;
        let said = format!("{effect:?} {target:?} {who:?} {:?}", when.as_ref().map(Condition::source));
        match first.get(&said) {
            None => {
                first.insert(said, id);
            }
            Some(earlier) => found.push((id, *earlier)),
        }
    }
    found
}
