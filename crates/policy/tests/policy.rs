//! What a policy says, and what it refuses to be.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use chancery_pki::{KeyKind, Name, NameSet, Timestamp};
use chancery_policy::{Content, Decision, Format, Outcome, Policy, Request, Requester};

const POLICY: &str = r#"version: v1
rules:
  - name: platform-hosts
    allow: { names: ["*.apps.example.com", "**.svc.example.com"], profile: server }
    for: { eab: platform-team }
  - name: edge-wildcards
    allow: { wildcards: ["*.apps.example.com"], profile: server }
    for: { eab: [platform-team, edge-team] }
  - name: no-apex-wildcards
    deny: { wildcards: ["*.example.com"] }
    because: wildcards below the apex only (PKI-112)
  - name: office-hours
    warn: { names: ["**.apps.example.com"] }
    when: request.time.getDayOfWeek() in [0, 6]
    because: it is the weekend
  - name: strong-keys
    allow: { names: ["pay.example.com"], keys: [P-384] }
  - name: nobody-has-secrets
    deny: { names: ["secret.apps.example.com"] }
"#;

fn policy() -> Policy {
    Policy::parse(POLICY, Format::Yaml, "policy.yaml").unwrap()
}

fn names(texts: &[&str]) -> NameSet {
    NameSet::new(texts.iter().map(|text| text.parse::<Name>().unwrap())).unwrap()
}

fn ask(policy: &Policy, eab: Option<&str>, texts: &[&str], key: Option<KeyKind>) -> Decision {
    let requester = Requester::acme("default", "account", eab);
    // 2026-11-28 is a Saturday.
    let now = "2026-11-28T10:00:00Z".parse::<Timestamp>().unwrap();
    policy.evaluate(&Request {
        requester: &requester,
        names: &names(texts),
        profile: "server",
        key,
        lifetime: None,
        content: Content::default(),
        now,
    })
}

#[test]
fn an_allow_that_looks_at_annotations_is_taken_with_a_caution_and_nothing_else_is() {
    let reads = r#"requester.reported.annotations["team"] == "web""#;
    let held = r#"request.names.all(n, "ticket" in requester.reported.annotations)"#;
    let labels = r#"requester.reported.namespace_labels["team"] == "web""#;
    let rule = |name: &str, effect: &str, when: &str| {
        format!("  - name: {name}\n    {effect}: {{ names: [{name}.example.com] }}\n    when: '{when}'\n")
    };
    let rules = [
        rule("reads", "allow", reads),
        rule("labels", "allow", labels),
        rule("denies", "deny", reads),
        rule("warns", "warn", held),
        rule("beside", "allow", &format!("{labels} && {held}")),
    ];
    let text = format!("version: v1\nrules:\n{}", rules.concat());
    let policy = Policy::parse(&text, Format::Yaml, "policy.yaml").unwrap();
    let cautions: Vec<_> = policy.cautions().map(|caution| (caution.rule.to_string(), caution.line)).collect();
    assert_eq!(cautions, [("reads".to_owned(), 3), ("beside".to_owned(), 15)]);
    let said = policy.cautions().next().unwrap().to_string();
    assert!(said.starts_with("rule reads (line 3) allows by annotations"), "{said}");
}

fn errors(text: &str, format: Format) -> String {
    Policy::parse(text, format, "policy").unwrap_err().to_string()
}

#[test]
fn what_no_rule_allows_is_denied() {
    let decision = ask(&policy(), None, &["a.apps.example.com"], None);
    assert_eq!((decision.outcome, decision.rule()), (Outcome::Deny, None));
}

#[test]
fn an_allow_names_its_rule_and_a_warning_stands_beside_it() {
    let decision = ask(&policy(), Some("platform-team"), &["a.apps.example.com"], None);
    assert_eq!((decision.outcome, decision.rule()), (Outcome::Allow, Some("platform-hosts")));
    assert_eq!(decision.warnings[0].rule, "office-hours");
}

#[test]
fn deny_wins_over_allow() {
    let decision = ask(&policy(), Some("platform-team"), &["secret.apps.example.com"], None);
    assert_eq!((decision.outcome, decision.rule()), (Outcome::Deny, Some("nobody-has-secrets")));
}

#[test]
fn every_name_has_its_own_verdict_and_one_refused_refuses_all() {
    let decision =
        ask(&policy(), Some("platform-team"), &["pay.apps.example.com", "*.example.com", "a.b.svc.example.com"], None);
    assert_eq!(decision.outcome, Outcome::Deny);
    assert_eq!(decision.refused().count(), 1);
    let text = decision.explain();
    for line in [
        "refused: 1 of 3 names",
        "no-apex-wildcards: wildcards below the apex only (PKI-112)",
        "ask for: *.apps.example.com",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
}

#[test]
fn a_pattern_never_grants_a_wildcard() {
    let decision = ask(&policy(), Some("platform-team"), &["*.svc.example.com"], None);
    assert_eq!(decision.outcome, Outcome::Deny);
    assert_eq!(ask(&policy(), Some("edge-team"), &["*.apps.example.com"], None).outcome, Outcome::Allow);
}

#[test]
fn what_needs_the_key_is_undecided_until_there_is_one() {
    for (key, outcome) in
        [(None, Outcome::Undecided), (Some(KeyKind::P384), Outcome::Allow), (Some(KeyKind::P256), Outcome::Deny)]
    {
        assert_eq!(ask(&policy(), None, &["pay.example.com"], key).outcome, outcome, "{key:?}");
    }
}

#[test]
fn a_condition_that_cannot_be_evaluated_is_a_deny_that_says_so() {
    let later = Policy::parse(
        "version: v1\nrules:\n  - name: later\n    allow: { names: [\"*.example.com\"] }\n    when: 'request.names[0] == \"a.example.com\" || request.names[5] == \"x\"'\n",
        Format::Yaml,
        "policy",
    )
    .unwrap();
    let decision = ask(&later, None, &["b.example.com"], None);
    assert_eq!((decision.outcome, decision.rule()), (Outcome::Deny, Some("later")));
    assert!(decision.explain().contains("its condition failed, which is a deny: there is no element 5"), "{decision}");
}

#[test]
fn yaml_and_toml_say_the_same() {
    let toml = "version = \"v1\"\n[[rules]]\nname = \"a\"\nallow = { names = [\"*.example.com\"] }\nfor = { door = \"acme\" }\n";
    let toml = Policy::parse(toml, Format::Toml, "policy.toml").unwrap();
    assert_eq!(ask(&toml, None, &["x.example.com"], None).rule(), Some("a"));
}

#[test]
fn errors_name_file_line_column_and_what_would_be_right() {
    let text = "version: v1\nrules:\n  - name: a\n    allow: { names: [\"ok.example.com\", \"a*.example.com\"] }\n";
    let error = errors(text, Format::Yaml);
    assert!(error.starts_with("policy:4:40: "), "{error}");
    let unknown = errors("version: v1\nrules:\n  - name: a\n    alow: { names: [a.b] }\n", Format::Yaml);
    assert!(unknown.starts_with("policy:4:"), "{unknown}");
    assert!(unknown.contains("alow") && unknown.contains("allow"), "{unknown}");
    let toml = errors("version = \"v1\"\n[[rules]]\nname = \"a\"\nalow = {}\n", Format::Toml);
    assert!(toml.starts_with("policy:4:1: ") && toml.contains("alow"), "{toml}");
}

#[test]
fn an_allow_wholly_covered_by_an_unconditional_deny_is_refused() {
    let text = "version: v1\nrules:\n  - name: a\n    allow: { names: [\"*.x.example.com\"] }\n  - name: b\n    deny: { names: [\"**.example.com\"] }\n";
    assert!(
        errors(text, Format::Yaml)
            .contains("this allow can never matter: everything it grants is denied by rule \"b\"")
    );
    let conditional = format!("{text}    when: request.profile == 'other'\n");
    Policy::parse(&conditional, Format::Yaml, "policy").unwrap();
}

#[test]
fn conditions_without_bounds_are_refused() {
    let nested = "request.names.all(a, request.names.all(b, request.names.all(c, a == b || b == c)))";
    let text = format!("version: v1\nrules:\n  - name: a\n    allow: {{ names: [a.b] }}\n    when: {nested}\n");
    assert!(errors(&text, Format::Yaml).contains("nests macros more than 2 deep"));
    let unknown = "version: v1\nrules:\n  - name: a\n    allow: { names: [a.b] }\n    when: requests.names == []\n";
    assert!(errors(unknown, Format::Yaml).contains("requests"));
}

/// Every rule is the only one of its kind; what it says is each combination of two facts.
#[test]
fn what_a_rule_says_of_key_and_condition_is_three_valued() {
    use Outcome::{Allow, Deny, Undecided};
    let (p256, p384) = (Some(KeyKind::P256), Some(KeyKind::P384));
    let yes = "request.profile == 'server'";
    let no = "request.profile == 'other'";
    let open = "request.lifetime < duration('1h')";
    let broken = "request.names[1] == ''";
    let saved = "request.profile == 'server' || request.lifetime < duration('1h')";
    let lost = "request.lifetime < duration('1h') && request.profile == 'other'";
    // As an allow, then as a deny beside an allow that is certain.
    for (when, key, allow, deny) in [
        (yes, None, Undecided, Undecided),
        (yes, p256, Allow, Deny),
        (yes, p384, Deny, Allow),
        (no, None, Deny, Allow),
        (no, p256, Deny, Allow),
        (open, None, Undecided, Undecided),
        (open, p256, Undecided, Undecided),
        (open, p384, Deny, Allow),
        (broken, None, Undecided, Undecided),
        (broken, p256, Deny, Deny),
        (broken, p384, Deny, Allow),
        (saved, p256, Allow, Deny),
        (lost, None, Deny, Allow),
        (lost, p256, Deny, Allow),
    ] {
        let rule = |effect: &str, names: &str| {
            format!("  - name: it\n    {effect}: {{ {names} keys: [P-256] }}\n    when: \"{when}\"\n")
        };
        let certain = "  - name: certain\n    allow: { names: [a.test] }\n";
        for (rules, expected) in [
            (rule("allow", "names: [a.test],"), allow),
            (format!("{}{certain}", rule("deny", "")), deny),
            // A warning decides nothing, unless it is broken.
            (format!("{}{certain}", rule("warn", "")), if when == broken && key == p256 { Deny } else { Allow }),
            // An allow that may come adds nothing to one that is there, unless it is broken.
            (
                format!("{}{certain}", rule("allow", "names: [a.test],")),
                if when == broken && key == p256 { Deny } else { Allow },
            ),
        ] {
            let policy = Policy::parse(&format!("version: v1\nrules:\n{rules}"), Format::Yaml, "policy").unwrap();
            assert_eq!(ask(&policy, None, &["a.test"], key).outcome, expected, "{when} {key:?}\n{rules}");
        }
    }
}

#[test]
fn a_claim_without_proof_never_satisfies_for() {
    let policy = "version: v1\nrules:\n  - name: a\n    allow: { names: [a.test] }\n    for: { eab: team }\n";
    let policy = Policy::parse(policy, Format::Yaml, "policy").unwrap();
    let mut requester = Requester::acme("default", "account", None);
    requester.claimed.eab = Some("team".to_owned());
    let asked = |requester: &Requester| {
        policy
            .evaluate(&Request {
                requester,
                names: &names(&["a.test"]),
                profile: "server",
                key: None,
                lifetime: None,
                content: Content::default(),
                now: Timestamp::from_unix_seconds(0),
            })
            .outcome
    };
    assert_eq!(asked(&requester), Outcome::Deny);
    requester.proven.eab = Some("team".to_owned());
    assert_eq!(asked(&requester), Outcome::Allow);
}

#[test]
fn time_is_utc_and_a_condition_may_name_a_zone() {
    // 23:30 on Saturday in UTC is Sunday in Berlin.
    let now = "2026-11-28T23:30:00Z".parse::<Timestamp>().unwrap();
    for (when, outcome) in [
        ("request.time.getDayOfWeek() == 6", Outcome::Allow),
        ("request.time.getHours() == 23 && request.time.getMinutes() == 30", Outcome::Allow),
        ("request.time.getDayOfWeek('Europe/Berlin') == 0", Outcome::Allow),
        ("request.time < timestamp('2026-11-28T23:30:00Z')", Outcome::Deny),
        ("request.time - duration('30m') >= timestamp('2026-11-28T23:00:00Z')", Outcome::Allow),
    ] {
        let text =
            format!("version: v1\nrules:\n  - name: a\n    allow: {{ names: [a.test] }}\n    when: \"{when}\"\n");
        let policy = Policy::parse(&text, Format::Yaml, "policy").unwrap();
        let requester = Requester::own_tls();
        let names = names(&["a.test"]);
        let request = Request {
            requester: &requester,
            names: &names,
            profile: "tls",
            key: None,
            lifetime: None,
            content: Content::default(),
            now,
        };
        assert_eq!(policy.evaluate(&request).outcome, outcome, "{when}");
    }
}

#[test]
fn a_suggestion_is_something_that_would_not_be_refused() {
    let asked = |rules: &str, text: &str| {
        let policy = Policy::parse(&format!("version: v1\nrules:\n{rules}"), Format::Yaml, "policy").unwrap();
        ask(&policy, Some("team"), &[text], None).suggestion
    };
    let near = "  - name: a\n    allow: { names: [\"*.a.example.com\"] }\n";
    let far = "  - name: f\n    allow: { names: [\"**.b.example.com\"] }\n";
    let denied = "  - name: d\n    deny: { names: [\"x.a.example.com\"] }\n";
    let others = "  - name: o\n    allow: { names: [\"*.c.example.com\"] }\n    for: { eab: other }\n";
    let below = |base: &str| Some(format!("a name below {base}.example.com, such as x.{base}.example.com"));
    assert_eq!(asked(near, "x.example.com"), below("a"));
    assert_eq!(asked(&format!("{near}{far}"), "x.b.b.example.org"), None);
    assert_eq!(asked(&format!("{far}{near}"), "x.y.a.example.com"), below("a"));
    assert_eq!(asked(&format!("{near}{denied}{far}"), "x.a.example.com"), below("b"));
    assert_eq!(asked(others, "x.example.com"), None);
    let zone = "  - name: z\n    allow: { names: [\"*.internal\"] }\n";
    assert_eq!(asked(zone, "a.b.internal").as_deref(), Some("a name below internal, such as a.internal"));
    assert_eq!(asked(near, "*.example.com"), Some("a name below a.example.com, such as www.a.example.com".to_owned()));
}

#[test]
fn a_policy_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Policy>();
    shared::<Decision>();
}

#[test]
fn the_profiles_that_rules_name_are_known() {
    let text =
        "version: v1\nrules:\n  - name: a\n    deny: { profiles: [z, b] }\n  - name: b\n    warn: { profile: b }\n";
    let policy = Policy::parse(text, Format::Yaml, "policy").unwrap();
    assert_eq!(policy.profiles().into_iter().collect::<Vec<_>>(), ["b", "z"]);
    assert_eq!(policy.steps(), 0);
}
