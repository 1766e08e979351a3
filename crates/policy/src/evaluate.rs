//! Evaluating a request: every name by every rule; deny wins; what no rule allows is denied.

use chancery_pki::{KeyKind, Lifetime, Name, NameSet, Timestamp};

use crate::{
    condition::Verdict,
    decision::{Decision, NameVerdict, Outcome, Warning},
    language::{Effect, Policy, Rule, What},
    requester::Requester,
};

/// What is asked, with the facts that are known.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub requester: &'a Requester,
    /// For which names.
    pub names: &'a NameSet,
    /// Under which profile.
    pub profile: &'a str,
    /// The kind of key, once it is known.
    pub key: Option<KeyKind>,
    /// The life, once it is known.
    pub lifetime: Option<Lifetime>,
    /// When.
    pub now: Timestamp,
}

/// Whether a rule speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Speaks {
    Yes,
    /// It would, if a fact that is missing says so.
    Perhaps,
    /// Its condition failed to evaluate.
    Broken(String),
}

impl Policy {
    /// What this policy says. All names are judged.
    #[must_use]
    pub fn evaluate(&self, request: &Request<'_>) -> Decision {
        let speaking: Vec<(&Rule, Speaks)> =
            self.rules.iter().filter_map(|rule| speaks(rule, request).map(|speaks| (rule, speaks))).collect();
        let names: Vec<NameVerdict> = request.names.iter().map(|name| judge(name, &speaking)).collect();
        let outcome = names.iter().map(|verdict| verdict.outcome).max().unwrap_or(Outcome::Deny);
        let warnings = speaking
            .iter()
            .filter(|(rule, speaks)| {
                rule.effect == Effect::Warn
                    && *speaks == Speaks::Yes
                    && request.names.iter().any(|name| takes(&rule.what, name))
            })
            .map(|(rule, _)| Warning { rule: rule.name.clone(), because: rule.because.clone() })
            .collect();
        let suggestion = (outcome == Outcome::Deny).then(|| suggestion(&names, &speaking)).flatten();
        Decision { outcome, names, warnings, policy: self.hash(), suggestion }
    }
}

/// Whether a rule speaks on this request, names aside; `None` if it does not.
fn speaks(rule: &Rule, request: &Request<'_>) -> Option<Speaks> {
    if !rule.who.is(request.requester) {
        return None;
    }
    if !rule.what.profiles.is_empty() && !rule.what.profiles.iter().any(|profile| profile == request.profile) {
        return None;
    }
    if !rule.what.takes_all_names() && !request.names.iter().any(|name| takes(&rule.what, name)) {
        // Kept for the suggestion alone; it speaks on none of these names.
        return (rule.effect == Effect::Allow).then_some(Speaks::Yes);
    }
    let mut speaks = Speaks::Yes;
    if !rule.what.keys.is_empty() {
        match request.key {
            Some(key) if rule.what.keys.contains(&key) => {}
            Some(_) => return None,
            None => speaks = Speaks::Perhaps,
        }
    }
    match rule.when.as_ref().map(|when| when.evaluate(request)) {
        None | Some(Verdict::Holds) => Some(speaks),
        Some(Verdict::Fails) => None,
        Some(Verdict::Undecided) => Some(Speaks::Perhaps),
        Some(Verdict::Error(error)) => Some(Speaks::Broken(error)),
    }
}

fn takes(what: &What, name: &Name) -> bool {
    if what.takes_all_names() {
        return true;
    }
    match name {
        Name::Dns(name) => what.names.iter().any(|pattern| pattern.matches(name)),
        Name::Wildcard(base) => what.wildcards.contains(base),
        Name::Ip(address) => what.addresses.iter().any(|range| range.contains(address)),
        Name::Spiffe(id) => what.spiffe.iter().any(|pattern| pattern.matches(id)),
    }
}

fn judge(name: &Name, speaking: &[(&Rule, Speaks)]) -> NameVerdict {
    let verdict = |outcome, rule: Option<&Rule>, because: Option<String>| NameVerdict {
        name: name.clone(),
        outcome,
        rule: rule.map(|rule| rule.name.clone()),
        because,
    };
    let mut allowed: Option<&Rule> = None;
    let mut undecided: Option<&Rule> = None;
    for (rule, speaks) in speaking.iter().filter(|(rule, _)| takes(&rule.what, name)) {
        match (rule.effect, speaks) {
            (Effect::Deny, Speaks::Yes) => return verdict(Outcome::Deny, Some(rule), rule.because.clone()),
            (Effect::Allow | Effect::Deny, Speaks::Broken(error)) => {
                let because = format!("its condition could not be evaluated, which is a deny: {error}");
                return verdict(Outcome::Deny, Some(rule), Some(because));
            }
            (Effect::Deny, Speaks::Perhaps) => undecided = Some(rule),
            (Effect::Allow, Speaks::Yes) => allowed = allowed.or(Some(rule)),
            (Effect::Allow, Speaks::Perhaps) => undecided = undecided.or(Some(rule)),
            (Effect::Warn, _) => {}
        }
    }
    // A deny that may still speak leaves it open, whatever allows it.
    let open_deny = undecided.filter(|rule| rule.effect == Effect::Deny);
    match (allowed, open_deny, undecided) {
        (_, Some(rule), _) | (None, None, Some(rule)) => verdict(Outcome::Undecided, Some(rule), rule.because.clone()),
        (Some(rule), None, _) => verdict(Outcome::Allow, Some(rule), rule.because.clone()),
        (None, None, None) => verdict(Outcome::Deny, None, None),
    }
}

/// What this requester may have that is nearest to what was refused.
fn suggestion(names: &[NameVerdict], speaking: &[(&Rule, Speaks)]) -> Option<String> {
    let allows: Vec<&Rule> = speaking
        .iter()
        .filter(|(rule, speaks)| rule.effect == Effect::Allow && *speaks == Speaks::Yes)
        .map(|(rule, _)| *rule)
        .collect();
    let refused = names.iter().find(|verdict| verdict.outcome == Outcome::Deny)?;
    let patterns: Vec<String> = match &refused.name {
        Name::Wildcard(_) => allows
            .iter()
            .flat_map(|rule| rule.what.wildcards.iter().map(|base| format!("*.{base}")))
            .chain(allows.iter().flat_map(|rule| rule.what.names.iter().map(ToString::to_string)))
            .collect(),
        Name::Dns(_) => allows.iter().flat_map(|rule| rule.what.names.iter().map(ToString::to_string)).collect(),
        Name::Ip(_) => allows.iter().flat_map(|rule| rule.what.addresses.iter().map(ToString::to_string)).collect(),
        Name::Spiffe(_) => allows.iter().flat_map(|rule| rule.what.spiffe.iter().map(ToString::to_string)).collect(),
    };
    let text = refused.name.to_string();
    let near =
        |pattern: &String| pattern.rsplit('.').zip(text.rsplit('.')).take_while(|(one, other)| one == other).count();
    let best = patterns.iter().map(near).max()?;
    let nearest: Vec<&str> =
        patterns.iter().filter(|pattern| near(pattern) == best).map(String::as_str).take(3).collect();
    Some(nearest.join(" or "))
}
