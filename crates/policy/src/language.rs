//! The policy file, `v1`, in YAML or TOML.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{SHA256, digest};
use chancery_pki::{DnsName, KeyKind};
use ipnet::IpNet;
use serde::Deserialize;

use crate::{
    condition::Condition,
    decision::{PolicyHash, RuleName},
    pattern::{self, NamePattern, PatternRejection, SpiffePattern},
    requester::{Claims, Door, Requester},
};

/// Largest policy file, in octets.
const FILE_MAX: usize = 1024 * 1024;
/// Most rules.
const RULES_MAX: usize = 10_000;

/// In which notation a policy is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML.
    Yaml,
    /// TOML.
    Toml,
}

impl Format {
    /// By a file's ending: `.toml` is TOML, everything else YAML.
    #[must_use]
    pub fn of_file(name: &str) -> Self {
        if name.ends_with(".toml") { Self::Toml } else { Self::Yaml }
    }
}

/// One thing that is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.what)
    }
}

/// All that is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors(pub Vec<PolicyError>);

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSpec {
    version: String,
    rules: Vec<RuleSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSpec {
    name: String,
    allow: Option<MatchSpec>,
    deny: Option<MatchSpec>,
    warn: Option<MatchSpec>,
    #[serde(rename = "for")]
    who: Option<WhoSpec>,
    when: Option<String>,
    because: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchSpec {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    wildcards: Vec<String>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    spiffe: Vec<String>,
    #[serde(default)]
    profile: OneOrMany,
    #[serde(default)]
    keys: OneOrMany,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhoSpec {
    #[serde(default)]
    door: OneOrMany,
    #[serde(default)]
    directory: OneOrMany,
    #[serde(default)]
    account: OneOrMany,
    #[serde(default)]
    eab: OneOrMany,
    #[serde(default)]
    cluster: OneOrMany,
    #[serde(default)]
    namespace: OneOrMany,
    #[serde(default, rename = "service-account")]
    service_account: OneOrMany,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
    Warn,
}

/// A checked rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: RuleName,
    pub(crate) effect: Effect,
    pub(crate) who: Who,
    pub(crate) what: What,
    pub(crate) when: Option<Condition>,
    pub(crate) because: Option<String>,
}

/// Which requesters; an empty list takes all.
#[derive(Debug, Default)]
pub(crate) struct Who {
    doors: Vec<Door>,
    directories: Vec<String>,
    /// By claim, in the order of [`Claims::NAMES`].
    claims: Vec<(&'static str, Vec<String>)>,
}

impl Who {
    pub(crate) fn is(&self, requester: &Requester) -> bool {
        (self.doors.is_empty() || self.doors.contains(&requester.door))
            && (self.directories.is_empty()
                || requester.directory.as_ref().is_some_and(|directory| self.directories.contains(directory)))
            && self.claims.iter().all(|(name, values)| {
                requester.proven.claim(name).is_some_and(|claim| values.iter().any(|value| value == claim))
            })
    }

    fn covers(&self, other: &Self) -> bool {
        let covers = |mine: &[String], others: &[String]| {
            mine.is_empty() || (!others.is_empty() && others.iter().all(|value| mine.contains(value)))
        };
        let doors = self.doors.is_empty()
            || (!other.doors.is_empty() && other.doors.iter().all(|door| self.doors.contains(door)));
        doors
            && covers(&self.directories, &other.directories)
            && self.claims.iter().all(|(name, values)| {
                other.claims.iter().any(|(theirs, others)| theirs == name && covers(values, others))
            })
    }
}

/// Which names under which profile; a deny or warn without names takes all.
#[derive(Debug)]
pub(crate) struct What {
    pub(crate) names: Vec<NamePattern>,
    pub(crate) wildcards: Vec<DnsName>,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) spiffe: Vec<SpiffePattern>,
    pub(crate) profiles: Vec<String>,
    pub(crate) keys: Vec<KeyKind>,
}

impl What {
    pub(crate) fn takes_all_names(&self) -> bool {
        self.names.is_empty() && self.wildcards.is_empty() && self.addresses.is_empty() && self.spiffe.is_empty()
    }

    fn covers(&self, other: &Self) -> bool {
        let listed = |mine: &[String], others: &[String]| {
            mine.is_empty() || (!others.is_empty() && others.iter().all(|value| mine.contains(value)))
        };
        let keys =
            self.keys.is_empty() || (!other.keys.is_empty() && other.keys.iter().all(|key| self.keys.contains(key)));
        let names = self.takes_all_names()
            || (other.names.iter().all(|theirs| self.names.iter().any(|mine| mine.covers(theirs)))
                && other.wildcards.iter().all(|theirs| self.wildcards.contains(theirs))
                && other.addresses.iter().all(|theirs| self.addresses.iter().any(|mine| mine.contains(theirs)))
                && other.spiffe.iter().all(|theirs| self.spiffe.contains(theirs)));
        names && keys && listed(&self.profiles, &other.profiles)
    }
}

/// A checked policy.
#[derive(Debug)]
pub struct Policy {
    pub(crate) rules: Vec<Rule>,
    hash: PolicyHash,
    text: String,
}

impl Policy {
    /// Reads a policy from its text. `file` names it in errors.
    ///
    /// # Errors
    ///
    /// All [`PolicyErrors`] that were found, each with its place.
    pub fn parse(text: &str, format: Format, file: &str) -> Result<Self, PolicyErrors> {
        let place = Place { text, file };
        if text.len() > FILE_MAX {
            return Err(place.start(format!("the file has {} octets, more than {FILE_MAX}", text.len())));
        }
        let spec = place.read(format)?;
        if spec.version != "v1" {
            return Err(PolicyErrors(vec![place.error(None, &spec.version, "the version is \"v1\"".to_owned())]));
        }
        if spec.rules.len() > RULES_MAX {
            return Err(place.start(format!("{} rules are more than {RULES_MAX}", spec.rules.len())));
        }
        let mut errors = Vec::new();
        let mut rules: Vec<Rule> = Vec::new();
        for rule in spec.rules {
            let name = rule.name.clone();
            if rules.iter().any(|other| other.name == name) {
                errors.push(place.error(
                    Some(&name),
                    &name,
                    format!("there are two rules named \"{name}\"; give one another name"),
                ));
            }
            let checked = check_rule(rule, &mut |at, what| errors.push(place.error(Some(&name), at, what)));
            rules.extend(checked);
        }
        errors.extend(useless(&rules).into_iter().map(|(name, what)| place.error(Some(name), name, what)));
        if !errors.is_empty() {
            return Err(PolicyErrors(errors));
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Ok(Self { rules, hash: PolicyHash(hash), text: text.to_owned() })
    }

    /// SHA-256 of its text.
    #[must_use]
    pub const fn hash(&self) -> PolicyHash {
        self.hash
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of its rules, in their order.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }
}

/// Where in a file something stands.
struct Place<'a> {
    text: &'a str,
    file: &'a str,
}

impl Place<'_> {
    fn read(&self, format: Format) -> Result<FileSpec, PolicyErrors> {
        match format {
            Format::Yaml => serde_saphyr::from_str(self.text).map_err(|error| {
                let (line, column) = error.location().map_or((1, 1), |at| (number(at.line()), number(at.column())));
                let what = error.to_string();
                let what = what.lines().next().unwrap_or_default().to_owned();
                PolicyErrors(vec![PolicyError { file: self.file.to_owned(), line, column, what }])
            }),
            Format::Toml => toml::from_str(self.text).map_err(|error| {
                let (line, column) = self.position(error.span().map_or(0, |span| span.start));
                let what = error.message().to_owned();
                PolicyErrors(vec![PolicyError { file: self.file.to_owned(), line, column, what }])
            }),
        }
    }

    fn start(&self, what: String) -> PolicyErrors {
        PolicyErrors(vec![PolicyError { file: self.file.to_owned(), line: 1, column: 1, what }])
    }

    /// The place of `at` behind the name of a rule; the rule itself where it cannot be found.
    fn error(&self, rule: Option<&str>, at: &str, what: String) -> PolicyError {
        let from = rule.and_then(|rule| self.rule_start(rule)).unwrap_or_default();
        let inside = self.text.get(from..).and_then(|rest| rest.find(at)).map_or(from, |found| from + found);
        let (line, column) = self.position(inside);
        PolicyError { file: self.file.to_owned(), line, column, what }
    }

    fn rule_start(&self, rule: &str) -> Option<usize> {
        self.text
            .match_indices(rule)
            .map(|(at, _)| at)
            .filter(|at| {
                let before = self.text.get(..*at).unwrap_or_default();
                let before = before.trim_end_matches(['"', '\'', ' ', '=', ':']);
                before.ends_with("name")
            })
            .last()
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

fn number(of: u64) -> usize {
    usize::try_from(of).unwrap_or(usize::MAX)
}

fn check_rule(rule: RuleSpec, report: &mut dyn FnMut(&str, String)) -> Option<Rule> {
    let RuleSpec { name, allow, deny, warn, who, when, because } = rule;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
        report(
            &name,
            format!("the rule's name \"{name}\" has more than letters, digits, hyphens, dots and underscores"),
        );
        return None;
    }
    let (effect, what) = match (allow, deny, warn) {
        (Some(what), None, None) => (Effect::Allow, what),
        (None, Some(what), None) => (Effect::Deny, what),
        (None, None, Some(what)) => (Effect::Warn, what),
        _ => {
            report(&name, format!("rule {name} must have exactly one of allow, deny and warn"));
            return None;
        }
    };
    let what = check_what(what, report);
    if effect == Effect::Allow && what.takes_all_names() {
        report(&name, format!("rule {name} allows no names: list some under names, wildcards, addresses or spiffe"));
    }
    let who = who.map(|who| check_who(who, report)).unwrap_or_default();
    let when = when.and_then(|source| match Condition::compile(&source) {
        Ok(condition) => Some(condition),
        Err(error) => {
            report("when", format!("rule {name}: the condition is refused: {error}"));
            None
        }
    });
    Some(Rule { name, effect, who, what, when, because })
}

fn check_what(what: MatchSpec, report: &mut dyn FnMut(&str, String)) -> What {
    let MatchSpec { names, wildcards, addresses, spiffe, profile, keys } = what;
    fn each<T>(
        texts: Vec<String>,
        parse: impl Fn(&str) -> Result<T, PatternRejection>,
        report: &mut dyn FnMut(&str, String),
    ) -> Vec<T> {
        let mut parsed = Vec::new();
        for text in texts {
            match parse(&text) {
                Ok(value) => parsed.push(value),
                Err(error) => report(&text, error.to_string()),
            }
        }
        parsed
    }
    let mut kinds = Vec::new();
    for text in keys.into_vec() {
        match KeyKind::from_str(&text) {
            Ok(kind) => kinds.push(kind),
            Err(error) => report(&text, format!("\"{text}\": {error}")),
        }
    }
    What {
        names: each(names, NamePattern::parse, report),
        wildcards: each(wildcards, pattern::wildcard, report),
        addresses: each(addresses, pattern::range, report),
        spiffe: each(spiffe, SpiffePattern::parse, report),
        profiles: profile.into_vec(),
        keys: kinds,
    }
}

fn check_who(who: WhoSpec, report: &mut dyn FnMut(&str, String)) -> Who {
    let WhoSpec { door, directory, account, eab, cluster, namespace, service_account } = who;
    let mut doors = Vec::new();
    for text in door.into_vec() {
        match text.parse() {
            Ok(door) => doors.push(door),
            Err(error) => report(&text, format!("\"{text}\" is no door: {error}")),
        }
    }
    let claims = [account, eab, cluster, namespace, service_account];
    let claims =
        Claims::NAMES.iter().copied().zip(claims.map(OneOrMany::into_vec)).filter(|(_, values)| !values.is_empty());
    Who { doors, directories: directory.into_vec(), claims: claims.collect() }
}

/// Allows that can never matter, since an unconditional deny covers all that they grant, and
/// allows that say what an earlier one said.
fn useless(rules: &[Rule]) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    for rule in rules.iter().filter(|rule| rule.effect == Effect::Allow && !rule.what.takes_all_names()) {
        let covering = rules.iter().find(|other| {
            other.effect == Effect::Deny
                && other.when.is_none()
                && other.who.covers(&rule.who)
                && other.what.covers(&rule.what)
        });
        if let Some(other) = covering {
            let (name, other) = (&rule.name, &other.name);
            found
                .push((name.as_str(), format!("rule {name} can never matter: rule {other} denies all that it allows")));
        }
    }
    found
}
