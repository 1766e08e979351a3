//! From a request and its facts to a decision.
//!
//! Every name is judged for itself: a certain deny wins, then a deny that may still come, then an
//! allow, then an allow that may still come; what no rule allows is denied. What a rule says apart
//! from names is the same for all of them, so it is found once.

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::digest::{SHA256, digest};
use chancery_pki::{
    DnsName, KeyKind, Lifetime, Name, NameSet, Timestamp,
    distinguished_name::{AttributeType, Escaped},
};

use crate::{
    condition::{Condition, Facts, Missing, Truth},
    decision::{Decision, NameVerdict, Outcome, PolicyHash, Warning},
    index::{Index, RuleId},
    pattern::NamePattern,
    requester::Requester,
    rule::{Caution, Effect, Rule, RuleName},
};

/// What is asked for beside names, key and life.
#[derive(Debug, Clone, Copy, Default)]
pub struct Content<'a> {
    /// What the certificate may be used for, in Kubernetes' words.
    pub usages: &'a [String],
    /// Whether it is a CA's.
    pub is_ca: bool,
    /// The subject that is asked for, as a person reads it; empty if none is.
    pub subject: &'a str,
    /// Its attributes.
    pub attributes: &'a [SubjectAttribute],
}

impl Content<'_> {
    /// The attributes that an allow must grant, as a person reads them.
    fn to_grant(self) -> String {
        let open = self.attributes.iter().filter(|attribute| !attribute.needs_no_grant);
        open.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// An attribute of the subject that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectAttribute {
    /// Its type.
    pub kind: AttributeType,
    /// Its value.
    pub value: String,
    /// The profile gives it, or it stands for one of the names, which are judged: no allow need speak of it.
    pub needs_no_grant: bool,
}

impl fmt::Display for SubjectAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, Escaped(&self.value))
    }
}

/// What is asked, with the facts that are known.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub requester: &'a Requester,
    /// For which names.
    pub names: &'a NameSet,
    /// Under which profile.
    pub profile: &'a str,
    /// The kind of key; `None` while there is none (newOrder).
    pub key: Option<KeyKind>,
    /// How long the certificate will live; `None` while that is open.
    pub lifetime: Option<Lifetime>,
    /// What is asked for beside.
    pub content: Content<'a>,
    /// When.
    pub now: Timestamp,
}

/// A checked policy. Made by [`Policy::parse`] alone.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    index: Index,
    hash: PolicyHash,
    text: String,
}

impl Policy {
    pub(crate) fn new(rules: Vec<Rule>, text: &str) -> Self {
        let mut index = Index::default();
        for (id, rule) in rules.iter().enumerate() {
            index.insert(id, &rule.target);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self { rules, index, hash: PolicyHash(hash), text: text.to_owned() }
    }

    /// SHA-256 of the exact text.
    #[must_use]
    pub const fn hash(&self) -> PolicyHash {
        self.hash
    }

    /// The exact text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of the rules, in the file's order.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }

    /// Every profile that some rule names, for whoever knows which profiles there are.
    #[must_use]
    pub fn profiles(&self) -> BTreeSet<&str> {
        self.rules.iter().flat_map(|rule| rule.target.profiles.iter().flatten()).map(String::as_str).collect()
    }

    /// Rules that are taken and yet seldom mean what they say, in the file's order.
    pub fn cautions(&self) -> impl Iterator<Item = Caution> {
        let by_annotations =
            |rule: &&Rule| rule.effect == Effect::Allow && rule.when.as_ref().is_some_and(Condition::reads_annotations);
        self.rules.iter().filter(by_annotations).map(|rule| Caution { rule: rule.name.clone(), line: rule.at.line })
    }

    /// How many steps all conditions together can take at most. A step was measured at some 0.05 µs:
    /// above some 20,000 a decision may take a millisecond, and does not belong on a thread that
    /// others wait for.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.rules.iter().filter_map(|rule| rule.when.as_ref()).map(Condition::steps).sum()
    }

    /// What this policy says. Every name is judged, whatever the others' outcome.
    #[must_use]
    pub fn evaluate(&self, request: &Request<'_>) -> Decision {
        let mut hearing = Hearing { policy: self, request, facts: Facts::new(request), heard: Vec::new() };
        let mut warned = BTreeSet::new();
        let names: Vec<NameVerdict> = request.names.iter().map(|name| hearing.judge(name, &mut warned)).collect();
        let outcome = names.iter().map(|verdict| verdict.outcome).max().unwrap_or(Outcome::Deny);
        let warnings = warned.into_iter().filter_map(|id| self.rules.get(id));
        let warnings =
            warnings.map(|rule| Warning { rule: rule.name.clone(), because: rule.because.clone() }).collect();
        let suggestion = names
            .iter()
            .find(|verdict| verdict.outcome == Outcome::Deny)
            .and_then(|refused| hearing.suggest(&refused.name));
        Decision { outcome, names, warnings, policy: self.hash, suggestion }
    }
}

/// Every rule's word on one request, asked once each.
struct Hearing<'a> {
    policy: &'a Policy,
    request: &'a Request<'a>,
    facts: Facts<'a>,
    heard: Vec<Option<Truth>>,
}

impl<'a> Hearing<'a> {
    /// Whether a rule speaks, names aside.
    fn hear(&mut self, id: RuleId) -> Option<(&'a Rule, &Truth)> {
        let rule = self.policy.rules.get(id)?;
        if self.heard.is_empty() {
            self.heard.resize(self.policy.rules.len(), None);
        }
        let (request, facts) = (self.request, &self.facts);
        let truth = self.heard.get_mut(id)?.get_or_insert_with(|| speaks(rule, request, facts));
        Some((rule, truth))
    }

    fn judge(&mut self, name: &Name, warned: &mut BTreeSet<RuleId>) -> NameVerdict {
        let mut denied: Option<(&RuleName, Option<String>)> = None;
        let mut maybe_denied = None;
        let mut allowed = None;
        let mut maybe_allowed = None;
        for id in self.policy.index.rules_for(name) {
            let Some((rule, truth)) = self.hear(id) else { continue };
            match (truth, rule.effect) {
                (Truth::No, _) => {}
                (Truth::Failed(error), _) => {
                    let because = || Some(format!("its condition failed, which is a deny: {error}"));
                    denied = denied.or_else(|| Some((&rule.name, because())));
                }
                // A deny is no less one for whoever may not say what it asks for; of the others, none speaks.
                (Truth::Withheld, Effect::Deny) => {
                    denied = denied.or_else(|| Some((&rule.name, Some(WITHHELD.to_owned()))));
                }
                (Truth::Withheld, Effect::Allow | Effect::Warn) => {}
                (Truth::Yes, Effect::Deny) => denied = denied.or_else(|| Some((&rule.name, rule.because.clone()))),
                (Truth::Yes, Effect::Allow) => allowed = allowed.or(Some(rule)),
                (Truth::Yes, Effect::Warn) => {
                    warned.insert(id);
                }
                (Truth::Undecided(missing), Effect::Deny) => maybe_denied = maybe_denied.or(Some((rule, *missing))),
                (Truth::Undecided(missing), Effect::Allow) => maybe_allowed = maybe_allowed.or(Some((rule, *missing))),
                (Truth::Undecided(_), Effect::Warn) => {}
            }
        }
        let verdict = |outcome, rule: Option<&RuleName>, because| NameVerdict {
            name: name.clone(),
            outcome,
            rule: rule.cloned(),
            because,
        };
        let open = |(rule, missing): (&Rule, Missing)| {
            verdict(Outcome::Undecided, Some(&rule.name), Some(missing.to_string()))
        };
        match (denied, allowed, maybe_denied, maybe_allowed) {
            (Some((rule, because)), ..) => verdict(Outcome::Deny, Some(rule), because),
            (None, None, _, None) => {
                let what = if self.request.content.is_ca {
                    "no rule with \"ca: true\" allows it"
                } else {
                    "no rule allows it"
                };
                let with = self.request.content.to_grant();
                let with = if with.is_empty() { with } else { format!(" with {with} in the subject") };
                let because = format!("{what} under profile {}{with}", self.request.profile);
                verdict(Outcome::Deny, None, Some(because))
            }
            (None, _, Some(undecided), _) | (None, None, None, Some(undecided)) => open(undecided),
            (None, Some(rule), None, _) => verdict(Outcome::Allow, Some(&rule.name), rule.because.clone()),
        }
    }

    /// What this requester may have that is nearest to a refused name.
    fn suggest(&mut self, refused: &Name) -> Option<String> {
        let target = match refused {
            Name::Dns(name) | Name::Wildcard(name) => name.clone(),
            Name::Ip(_) | Name::Spiffe(_) | Name::Uri(_) | Name::Email(_) | Name::Other(_) | Name::CommonName(_) => {
                return None;
            }
        };
        let policy = self.policy;
        let mut offers = Vec::new();
        for (id, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| rule.effect == Effect::Allow) {
            // Names aside, so that a condition is not run for a hint alone.
            if !rule.who.matches(self.request.requester) || !speaks_under(rule, self.request) {
                continue;
            }
            let wildcards = rule.target.wildcards.iter().map(|base| Offer::Wildcard(base.clone()));
            let names = rule.target.names.iter().map(|pattern| Offer::Names(pattern.clone()));
            let found: Vec<Offer> =
                if refused.is_wildcard() { wildcards.chain(names).collect() } else { names.collect() };
            offers.extend(found.into_iter().map(|offer| (offer.nearness(&target, refused.is_wildcard()), id, offer)));
        }
        offers.retain(|(nearness, _, offer)| nearness.shared >= LABELS_SHARED_MIN.min(offer.base().labels().count()));
        // The nearest first; of equals the one that stands first in the file.
        offers.sort_by(|(left, one, _), (right, other, _)| right.cmp(left).then(one.cmp(other)));
        offers.into_iter().take(OFFERS_TRIED_MAX).find_map(|(_, _, offer)| {
            let example = offer.example(&target, refused.is_wildcard())?;
            let verdict = self.judge(&example, &mut BTreeSet::new());
            (verdict.outcome != Outcome::Deny).then(|| offer.in_words(&example))
        })
    }
}

/// Labels that a suggestion has in common with what was asked, at least, unless it has fewer: a
/// common last label alone is no help.
const LABELS_SHARED_MIN: usize = 2;
/// How many offers are tried for a suggestion.
const OFFERS_TRIED_MAX: usize = 8;

/// Why a deny speaks whose condition asks for what the credential may not report.
const WITHHELD: &str = "its condition asks for what only a controller of the whole cluster may report, which is a deny for \
                        a credential of namespaces";

fn speaks_under(rule: &Rule, request: &Request<'_>) -> bool {
    let profiles = rule.target.profiles.as_ref();
    // An allow grants CAs if it says so, and then nothing else; a deny or a warn without the word speaks of both.
    let speaks_of_it = match rule.effect {
        Effect::Allow => rule.target.ca == request.content.is_ca,
        Effect::Deny | Effect::Warn => request.content.is_ca || !rule.target.ca,
    };
    let patterns = &rule.target.subject;
    let matched = |attribute: &SubjectAttribute| {
        patterns.iter().any(|pattern| pattern.matches(&attribute.kind, &attribute.value))
    };
    // Whoever may have a name may not have it beside every subject: an allow grants both or nothing.
    let of_the_subject = match rule.effect {
        Effect::Allow => {
            request.content.attributes.iter().all(|attribute| attribute.needs_no_grant || matched(attribute))
        }
        Effect::Deny | Effect::Warn => patterns.is_empty() || request.content.attributes.iter().any(matched),
    };
    speaks_of_it
        && of_the_subject
        && profiles.is_none_or(|profiles| profiles.iter().any(|profile| profile == request.profile))
        && match (&rule.target.keys, request.key) {
            (None, _) | (_, None) => true,
            (Some(keys), Some(key)) => keys.contains(&key),
        }
}

fn speaks(rule: &Rule, request: &Request<'_>, facts: &Facts<'_>) -> Truth {
    if !speaks_under(rule, request) || !rule.who.matches(request.requester) {
        return Truth::No;
    }
    let said = rule.when.as_ref().map_or(Truth::Yes, |when| when.evaluate(facts));
    let key_is_open = rule.target.keys.is_some() && request.key.is_none();
    match said {
        Truth::No => Truth::No,
        said if !key_is_open => said,
        // Once the key is there, the rule may turn out not to speak at all.
        Truth::Yes | Truth::Withheld | Truth::Failed(_) => Truth::Undecided(Missing { key: true, lifetime: false }),
        Truth::Undecided(missing) => Truth::Undecided(Missing { key: true, ..missing }),
    }
}

/// Something that some rule grants.
enum Offer {
    Wildcard(DnsName),
    Names(NamePattern),
}

/// How near an offer is: labels in common, then of the kind that was asked for, then the shorter.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Nearness {
    shared: usize,
    same_kind: bool,
    shorter: std::cmp::Reverse<usize>,
}

impl Offer {
    const fn base(&self) -> &DnsName {
        match self {
            Self::Wildcard(base) => base,
            Self::Names(pattern) => pattern.base(),
        }
    }

    fn nearness(&self, asked: &DnsName, wildcard: bool) -> Nearness {
        let base = self.base();
        let shared = base.labels().rev().zip(asked.labels().rev()).take_while(|(ours, theirs)| ours == theirs).count();
        let same_kind = wildcard == matches!(self, Self::Wildcard(_));
        Nearness { shared, same_kind, shorter: std::cmp::Reverse(base.labels().count()) }
    }

    /// One name that the offer grants: with the first label of what was asked, if it takes one.
    fn example(&self, asked: &DnsName, wildcard: bool) -> Option<Name> {
        let first = asked.labels().next().filter(|_| !wildcard).unwrap_or("www");
        let above = |base: &DnsName| Name::dns(&format!("{first}.{base}")).ok();
        match self {
            Self::Wildcard(base) => Some(Name::Wildcard(base.clone())),
            Self::Names(NamePattern::Exact(name)) => Some(Name::Dns(name.clone())),
            Self::Names(NamePattern::OneAbove(base) | NamePattern::AnyAbove(base)) => above(base),
        }
    }

    fn in_words(&self, example: &Name) -> String {
        match self {
            Self::Wildcard(_) | Self::Names(NamePattern::Exact(_)) => example.to_string(),
            // Not the pattern itself: it would read as a wildcard certificate, which it does not grant.
            Self::Names(NamePattern::OneAbove(base) | NamePattern::AnyAbove(base)) => {
                format!("a name below {base}, such as {example}")
            }
        }
    }
}
