//! Policies made at random, judged by a second evaluator that is written for clearness alone: no
//! index, no CEL, no code of ours. And texts made at random, which must never panic.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper that fails fails its test")]

use std::collections::BTreeSet;

use chancery_pki::{KeyKind, Lifetime, Name, NameSet, Timestamp};
use chancery_policy::{Claims, Content, Door, Fault, Format, Outcome, Policy, Request, Requester};
use proptest::{collection::vec, option, prelude::*, sample::select, sample::subsequence};

const NAME_PATTERNS: &[&str] =
    &["a.test", "a.b.test", "*.test", "**.test", "*.b.test", "**.b.test", "**.c.b.test", "d.other"];
const WILDCARDS: &[&str] = &["*.b.test", "*.c.b.test", "*.other.test"];
const RANGES: &[&str] = &["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32"];
const SPIFFE: &[&str] = &["spiffe://td/a", "spiffe://td/*", "spiffe://td/**", "spiffe://td/a/*", "spiffe://td/*/b/**"];
const EMAILS: &[&str] = &["alice@b.test", "*@b.test", "*@*.test", "*@**.test", "*@a.b.test"];
const NAMES: &[&str] = &[
    "a.test",
    "x.test",
    "a.b.test",
    "x.y.b.test",
    "q.c.b.test",
    "b.test",
    "d.other",
    "*.b.test",
    "*.c.b.test",
    "10.1.2.3",
    "10.2.0.1",
    "2001:db8::5",
    "192.0.2.1",
    "spiffe://td/a",
    "spiffe://td/a/b",
    "spiffe://td/z/b/c/d",
    "spiffe://other/a",
    "alice@b.test",
    "bob@a.b.test",
    "bob@test",
];
const PROFILES: &[&str] = &["server", "client"];
const TEAMS: &[&str] = &["red", "blue"];
const KEYS: &[KeyKind] = &[KeyKind::P256, KeyKind::P384, KeyKind::Rsa2048];

type Meaning = fn(&Asked) -> Said;

/// Conditions, each beside what it means.
const CONDITIONS: &[(&str, Meaning)] = &[
    ("request.key == 'P-256'", |asked| asked.key.map_or(Said::Maybe, |key| yes(key == KeyKind::P256))),
    ("request.lifetime <= duration('24h')", |asked| asked.lifetime.map_or(Said::Maybe, |life| yes(life <= 86_400))),
    ("requester.proven.eab == 'red'", |asked| yes(asked.eab == Some("red"))),
    ("requester.claimed.eab == 'red'", |asked| yes(asked.claimed == Some("red"))),
    ("request.names.exists(n, n.endsWith('.b.test'))", |asked| yes(asked.names.iter().any(|n| n.ends_with(".b.test")))),
    ("size(request.names) < 3", |asked| yes(asked.names.len() < 3)),
    ("request.profile == 'server' || request.key == 'P-384'", |asked| match (asked.profile, asked.key) {
        ("server", _) => Said::Yes,
        (_, None) => Said::Maybe,
        (_, Some(key)) => yes(key == KeyKind::P384),
    }),
    ("request.names[1] != ''", |asked| if asked.names.len() > 1 { Said::Yes } else { Said::Error }),
    ("request.key == 'P-256' && request.names[1] != ''", |asked| match (asked.key, asked.names.len()) {
        (None, _) => Said::Maybe,
        (Some(KeyKind::P256), 1) => Said::Error,
        (Some(key), _) => yes(key == KeyKind::P256),
    }),
    ("request.time.getDayOfWeek() in [0, 6]", |asked| {
        // The first day of the epoch was a Thursday.
        let day = (asked.seconds / 86_400 + 4) % 7;
        yes(day == 0 || day == 6)
    }),
    ("requester.door == 'acme' ? request.lifetime > duration('1h') : false", |asked| {
        match (asked.door, asked.lifetime) {
            (Door::Acme, None) => Said::Maybe,
            (Door::Acme, Some(life)) => yes(life > 3_600),
            _ => Said::No,
        }
    }),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Yes,
    No,
    Maybe,
    Error,
}

fn yes(yes: bool) -> Said {
    if yes { Said::Yes } else { Said::No }
}

#[derive(Debug, Clone)]
struct ModelRule {
    effect: &'static str,
    names: Vec<&'static str>,
    wildcards: Vec<&'static str>,
    addresses: Vec<&'static str>,
    spiffe: Vec<&'static str>,
    emails: Vec<&'static str>,
    ca: bool,
    profiles: Vec<&'static str>,
    keys: Vec<KeyKind>,
    doors: Vec<Door>,
    eab: Vec<&'static str>,
    when: Option<usize>,
}

#[derive(Debug, Clone)]
struct Asked {
    names: Vec<&'static str>,
    profile: &'static str,
    key: Option<KeyKind>,
    lifetime: Option<u64>,
    door: Door,
    eab: Option<&'static str>,
    claimed: Option<&'static str>,
    seconds: i64,
    is_ca: bool,
}

fn rule() -> impl Strategy<Value = ModelRule> {
    let some = |of: &'static [&'static str], most: usize| subsequence(of.to_vec(), 0..=most);
    let what = (some(NAME_PATTERNS, 3), some(WILDCARDS, 1), some(RANGES, 1), some(SPIFFE, 2), some(EMAILS, 1));
    let of_cas = prop::bool::weighted(0.3);
    let under = (some(PROFILES, 1), subsequence(KEYS.to_vec(), 1..=2), prop::bool::weighted(0.4));
    let whom = (subsequence(vec![Door::Acme, Door::Mesh], 0..=1), some(TEAMS, 1));
    let when = option::weighted(0.4, 0..CONDITIONS.len());
    (select(vec!["allow", "allow", "allow", "deny", "warn"]), what, of_cas, under, whom, when).prop_map(
        |(
            effect,
            (mut names, wildcards, addresses, spiffe, emails),
            ca,
            (profiles, keys, keyed),
            (doors, eab),
            when,
        )| {
            let nothing = names.is_empty() && wildcards.is_empty() && addresses.is_empty() && spiffe.is_empty();
            if effect == "allow" && nothing && emails.is_empty() {
                names.push("**.test");
            }
            let keys = if keyed { keys } else { Vec::new() };
            ModelRule { effect, names, wildcards, addresses, spiffe, emails, ca, profiles, keys, doors, eab, when }
        },
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    let life = option::weighted(0.7, select(vec![60u64, 7_200, 90_000]));
    let team = || option::of(select(TEAMS));
    (
        subsequence(NAMES.to_vec(), 1..=4),
        select(PROFILES),
        option::weighted(0.7, select(KEYS)),
        life,
        select(vec![Door::Acme, Door::Mesh]),
        team(),
        team(),
        0i64..3_000_000_000,
        prop::bool::weighted(0.3),
    )
        .prop_map(|(names, profile, key, lifetime, door, eab, claimed, seconds, is_ca)| Asked {
            names,
            profile,
            key,
            lifetime,
            door,
            eab,
            claimed,
            seconds,
            is_ca,
        })
}

// --- how a model rule is written down ---

fn quoted<T: ToString>(values: &[T]) -> String {
    let each: Vec<String> = values.iter().map(|value| format!("\"{}\"", value.to_string())).collect();
    format!("[{}]", each.join(", "))
}

/// A field and its value, as written.
type Field = (&'static str, String);

fn fields(rule: &ModelRule) -> (Vec<Field>, Vec<Field>) {
    let target = [
        ("names", quoted(&rule.names)),
        ("wildcards", quoted(&rule.wildcards)),
        ("addresses", quoted(&rule.addresses)),
        ("spiffe", quoted(&rule.spiffe)),
        ("emails", quoted(&rule.emails)),
        ("ca", if rule.ca { "true" } else { "[]" }.to_owned()),
        ("profiles", quoted(&rule.profiles)),
        ("keys", quoted(&rule.keys)),
    ];
    let whom = [("door", quoted(&rule.doors)), ("eab", quoted(&rule.eab))];
    let there = |(_, value): &(&str, String)| value != "[]";
    (target.into_iter().filter(there).collect(), whom.into_iter().filter(there).collect())
}

fn map(fields: &[(&str, String)], is: &str) -> String {
    let each: Vec<String> = fields.iter().map(|(name, value)| format!("{name}{is} {value}")).collect();
    format!("{{ {} }}", each.join(", "))
}

fn yaml(rules: &[ModelRule]) -> String {
    let mut text = format!("version: v1\nrules:{}\n", if rules.is_empty() { " []" } else { "" });
    for (at, rule) in rules.iter().enumerate() {
        let (target, whom) = fields(rule);
        text.push_str(&format!("  - name: r{at}\n    {}: {}\n", rule.effect, map(&target, ":")));
        if !whom.is_empty() {
            text.push_str(&format!("    for: {}\n", map(&whom, ":")));
        }
        if let Some(when) = rule.when {
            text.push_str(&format!("    when: \"{}\"\n", CONDITIONS[when].0));
        }
    }
    text
}

fn toml(rules: &[ModelRule]) -> String {
    let mut text = format!("version = \"v1\"\n{}", if rules.is_empty() { "rules = []\n" } else { "" });
    for (at, rule) in rules.iter().enumerate() {
        let (target, whom) = fields(rule);
        text.push_str(&format!("[[rules]]\nname = \"r{at}\"\n{} = {}\n", rule.effect, map(&target, " =")));
        if !whom.is_empty() {
            text.push_str(&format!("for = {}\n", map(&whom, " =")));
        }
        if let Some(when) = rule.when {
            text.push_str(&format!("when = \"{}\"\n", CONDITIONS[when].0));
        }
    }
    text
}

// --- the second evaluator ---

fn takes_name(pattern: &str, name: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let name: Vec<&str> = name.split('.').collect();
    match pattern[0] {
        "**" => name.len() >= pattern.len() && name.ends_with(&pattern[1..]),
        "*" => name.len() == pattern.len() && name[1..] == pattern[1..],
        _ => name == pattern,
    }
}

fn takes_path(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**"], [_, ..]) => true,
        ([first, pattern @ ..], [segment, path @ ..]) => {
            (*first == "*" || first == segment) && takes_path(pattern, path)
        }
        _ => false,
    }
}

fn takes_address(range: &str, name: &str) -> bool {
    match (range, name) {
        ("10.0.0.0/8", name) => name.starts_with("10."),
        ("10.1.0.0/16", name) => name.starts_with("10.1."),
        ("2001:db8::/32", name) => name.starts_with("2001:db8:"),
        (one, name) => one == name,
    }
}

fn takes(rule: &ModelRule, name: &str) -> bool {
    let hosts = rule.names.is_empty() && rule.wildcards.is_empty() && rule.addresses.is_empty();
    if hosts && rule.spiffe.is_empty() && rule.emails.is_empty() {
        return true;
    }
    if let Some((_, host)) = name.split_once('@') {
        let at_hosts = |pattern: &str| pattern.strip_prefix("*@").is_some_and(|hosts| takes_name(hosts, host));
        return rule.emails.iter().any(|pattern| *pattern == name || at_hosts(pattern));
    }
    if name.starts_with("spiffe://") {
        let parts = |text: &'static str| text.split('/').collect::<Vec<_>>();
        let path: Vec<&str> = name.split('/').collect();
        rule.spiffe.iter().any(|pattern| takes_path(&parts(pattern), &path))
    } else if name.starts_with("*.") {
        rule.wildcards.contains(&name)
    } else if name.contains(':') || name.chars().all(|c| c.is_ascii_digit() || c == '.') {
        rule.addresses.iter().any(|range| takes_address(range, name))
    } else {
        rule.names.iter().any(|pattern| takes_name(pattern, name))
    }
}

fn says(rule: &ModelRule, asked: &Asked) -> Said {
    let profile = rule.profiles.is_empty() || rule.profiles.contains(&asked.profile);
    let door = rule.doors.is_empty() || rule.doors.contains(&asked.door);
    let eab = rule.eab.is_empty() || asked.eab.is_some_and(|eab| rule.eab.contains(&eab));
    let speaks_of_it = if rule.effect == "allow" { rule.ca == asked.is_ca } else { asked.is_ca || !rule.ca };
    if !profile || !door || !eab || !speaks_of_it {
        return Said::No;
    }
    let key = match asked.key {
        _ if rule.keys.is_empty() => Said::Yes,
        None => Said::Maybe,
        Some(key) => yes(rule.keys.contains(&key)),
    };
    let when = rule.when.map_or(Said::Yes, |when| CONDITIONS[when].1(asked));
    match (key, when) {
        (Said::No, _) | (_, Said::No) => Said::No,
        (Said::Maybe, _) => Said::Maybe,
        (_, when) => when,
    }
}

fn judge(rules: &[ModelRule], asked: &Asked, name: &str) -> Outcome {
    let of = |effect: &str, said: Said| {
        rules.iter().any(|rule| rule.effect == effect && takes(rule, name) && says(rule, asked) == said)
    };
    let broken = ["allow", "deny", "warn"].iter().any(|effect| of(effect, Said::Error));
    let granted = of("allow", Said::Yes) || of("allow", Said::Maybe);
    if broken || of("deny", Said::Yes) || !granted {
        Outcome::Deny
    } else if of("deny", Said::Maybe) || !of("allow", Said::Yes) {
        Outcome::Undecided
    } else {
        Outcome::Allow
    }
}

fn evaluate(policy: &Policy, asked: &Asked) -> chancery_policy::Decision {
    let claims = |eab: Option<&str>| Claims { eab: eab.map(str::to_owned), ..Claims::default() };
    let requester =
        Requester { proven: claims(asked.eab), claimed: claims(asked.claimed), ..Requester::at(asked.door) };
    let names = NameSet::new(asked.names.iter().map(|name| name.parse::<Name>().unwrap())).unwrap();
    policy.evaluate(&Request {
        requester: &requester,
        names: &names,
        profile: asked.profile,
        key: asked.key,
        lifetime: asked.lifetime.map(|life| Lifetime::from_seconds(life).unwrap()),
        content: Content { is_ca: asked.is_ca, ..Content::default() },
        now: Timestamp::from_unix_seconds(asked.seconds),
    })
}

/// A policy without the rules that are refused as useless; those that stay keep their order.
fn loaded(rules: &mut Vec<ModelRule>) -> (Policy, Vec<ModelRule>) {
    let mut useless = Vec::new();
    loop {
        match Policy::parse(&yaml(rules), Format::Yaml, "model") {
            Ok(policy) => return (policy, useless),
            Err(errors) => {
                let error = errors.iter().last().unwrap();
                assert!(
                    matches!(error.fault, Fault::Covered { .. } | Fault::Repeated { .. }),
                    "{errors}\n{}",
                    yaml(rules)
                );
                let name = error.key.trim_start_matches("rule \"r").trim_end_matches('"');
                let gone = rules.remove(name.parse().unwrap());
                if matches!(error.fault, Fault::Covered { .. }) {
                    useless.push(gone);
                }
            }
        }
    }
}

fn worst(rules: &[ModelRule], asked: &Asked) -> Outcome {
    asked.names.iter().map(|name| judge(rules, asked, name)).max().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_evaluators_agree(mut rules in vec(rule(), 0..8), requests in vec(asked(), 1..12)) {
        let (policy, _) = loaded(&mut rules);
        for asked in &requests {
            let decision = evaluate(&policy, asked);
            for verdict in &decision.names {
                let name = verdict.name.to_string();
                prop_assert_eq!(verdict.outcome, judge(&rules, asked, &name), "{} {:?}\n{}", name, asked, yaml(&rules));
                // The rule that is named takes the name and does what was decided.
                if let Some(named) = &verdict.rule {
                    let rule = &rules[named.as_str()[1..].parse::<usize>().unwrap()];
                    prop_assert!(takes(rule, &name));
                    let said = says(rule, asked);
                    let fits = match verdict.outcome {
                        Outcome::Allow => rule.effect == "allow" && said == Said::Yes,
                        Outcome::Deny => said == Said::Error || (rule.effect == "deny" && said == Said::Yes),
                        Outcome::Undecided => said == Said::Maybe,
                        Outcome::Hold => false,
                    };
                    prop_assert!(fits, "{} {:?} {:?}", named, verdict, said);
                }
            }
            prop_assert_eq!(decision.outcome, worst(&rules, asked));
            let warned: BTreeSet<String> = decision.warnings.iter().map(|warning| warning.rule.to_string()).collect();
            let expected: BTreeSet<String> = rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| rule.effect == "warn" && says(rule, asked) == Said::Yes)
                .filter(|(_, rule)| asked.names.iter().any(|name| takes(rule, name)))
                .map(|(at, _)| format!("r{at}"))
                .collect();
            prop_assert_eq!(warned, expected);
        }
    }

    #[test]
    fn yaml_and_toml_spell_the_same_policy(mut rules in vec(rule(), 0..6), requests in vec(asked(), 1..6)) {
        let (policy, _) = loaded(&mut rules);
        let other = Policy::parse(&toml(&rules), Format::Toml, "model");
        let other = other.map_err(|errors| TestCaseError::fail(format!("{errors}\n{}", toml(&rules))))?;
        for asked in &requests {
            let (mut one, two) = (evaluate(&policy, asked), evaluate(&other, asked));
            // Two texts, two hashes.
            one.policy = two.policy;
            prop_assert_eq!(one, two);
        }
    }

    /// What is decided while facts are missing stays decided once they are there; what is undecided
    /// is decided then.
    #[test]
    fn a_missing_fact_never_changes_what_is_decided(mut rules in vec(rule(), 0..8), asked in asked()) {
        let (policy, _) = loaded(&mut rules);
        let early = evaluate(&policy, &Asked { key: None, lifetime: None, ..asked.clone() });
        for key in KEYS {
            for lifetime in [60, 7_200, 90_000] {
                let late = evaluate(&policy, &Asked { key: Some(*key), lifetime: Some(lifetime), ..asked.clone() });
                prop_assert!(matches!(late.outcome, Outcome::Allow | Outcome::Deny));
                for (early, late) in early.names.iter().zip(&late.names) {
                    let broke = late.because.as_ref().is_some_and(|because| because.contains("condition failed"));
                    match early.outcome {
                        Outcome::Deny => prop_assert_eq!(late.outcome, Outcome::Deny),
                        Outcome::Allow => prop_assert!(late.outcome == Outcome::Allow || broke),
                        Outcome::Undecided | Outcome::Hold => {}
                    }
                }
            }
        }
    }

    /// A rule that is refused at load as useless would have changed nothing.
    #[test]
    fn a_rule_that_is_refused_as_covered_grants_nothing(mut rules in vec(rule(), 2..10), requests in vec(asked(), 1..8)) {
        let (_, useless) = loaded(&mut rules);
        for asked in &requests {
            let complete = Asked { key: asked.key.or(Some(KeyKind::P256)), lifetime: asked.lifetime.or(Some(60)), ..asked.clone() };
            for gone in &useless {
                let with: Vec<ModelRule> = rules.iter().cloned().chain([gone.clone()]).collect();
                for name in &complete.names {
                    if judge(&with, &complete, name) == Outcome::Allow {
                        prop_assert_eq!(judge(&rules, &complete, name), Outcome::Allow);
                    }
                }
            }
        }
    }
}

const SAMPLE: &str = include_str!("../../../docs/samples/policy.yaml");
const TOML_SAMPLE: &str = include_str!("../../../docs/samples/policy.toml");

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = Policy::parse(&text, Format::Yaml, "any");
        let _ = Policy::parse(&text, Format::Toml, "any");
    }

    #[test]
    fn no_change_to_a_good_file_makes_the_reader_panic(at in 0usize..1600, cut in 0usize..12, put in "\\PC{0,6}|[\\[\\]{}:*&!|>'\"#\n\t ,-]{0,6}") {
        for (text, format) in [(SAMPLE, Format::Yaml), (TOML_SAMPLE, Format::Toml)] {
            let characters: Vec<char> = text.chars().collect();
            let at = at.min(characters.len());
            let end = (at + cut).min(characters.len());
            let changed: String = characters[..at].iter().copied().chain(put.chars()).chain(characters[end..].iter().copied()).collect();
            if let Err(errors) = Policy::parse(&changed, format, "changed") {
                let lines = changed.lines().count() + 1;
                for error in &errors {
                    prop_assert!((1..=lines).contains(&error.line) && error.column >= 1, "{} of {} lines", error, lines);
                }
            }
        }
    }

    #[test]
    fn no_condition_makes_the_reader_panic(words in vec(select(vec![
        "request.names", "request.key", "request.time", "requester.proven.eab", "request", ".all(n, ", ".map(n, ", ".exists(n,", "n",
        "(", ")", "[", "]", "{", "}", ",", ":", "?", "&&", "||", "!", "-", "+", "/", "%", "==", "<", " in ", "1", "0", "9223372036854775807",
        "1u", "1.5", "'a'", "\"", "b'x'", "null", "true", "size(", "duration('1h')", "timestamp('2026-01-01T00:00:00Z')", ".getHours()",
        "has(", ".a", "\\", "@", "int(", "string(", "r'", "//",
    ]), 1..14)) {
        let source = words.concat();
        let escaped: String = source.chars().flat_map(|c| if c == '"' || c == '\\' { vec!['\\', c] } else { vec![c] }).collect();
        let text = format!("version: v1\nrules:\n  - name: a\n    deny: {{}}\n    when: \"{escaped}\"\n");
        if let Ok(policy) = Policy::parse(&text, Format::Yaml, "condition") {
            let asked = Asked { names: vec!["a.test"], profile: "server", key: None, lifetime: None, door: Door::Acme, eab: None, claimed: None, seconds: 0, is_ca: false };
            let _ = evaluate(&policy, &asked);
        }
    }
}
