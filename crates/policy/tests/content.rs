//! Names of every kind, usages and CAs: what grants them, and that nothing else does.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use chancery_pki::{Name, NameSet, Timestamp};
use chancery_policy::{Content, Decision, Format, Outcome, Policy, Request, Requester, SubjectAttribute};

fn read(rules: &str) -> Policy {
    Policy::parse(&format!("version: v1\nrules:\n{rules}"), Format::Yaml, "policy.yaml").unwrap()
}

fn refused(rules: &str) -> String {
    Policy::parse(&format!("version: v1\nrules:\n{rules}"), Format::Yaml, "policy.yaml").unwrap_err().to_string()
}

fn ask(policy: &Policy, name: &str, content: Content<'_>) -> Decision {
    let names = NameSet::new([name.parse::<Name>().unwrap()]).unwrap();
    policy.evaluate(&Request {
        requester: &Requester::own_tls(),
        names: &names,
        profile: "server",
        key: None,
        lifetime: None,
        content,
        now: Timestamp::from_unix_seconds(1_795_600_000),
    })
}

fn outcome(policy: &Policy, name: &str) -> Outcome {
    ask(policy, name, Content::default()).outcome
}

#[test]
fn each_kind_of_name_is_granted_by_its_own_selector_and_by_no_other() {
    let selectors = [
        ("names", "**.example.com", "a.example.com"),
        ("wildcards", "*.example.com", "*.example.com"),
        ("addresses", "10.0.0.0/8", "10.0.0.1"),
        ("spiffe", "spiffe://example.com/**", "spiffe://example.com/a"),
        ("uris", "https://example.com/**", "https://example.com/a"),
        ("uris", "urn:example:*", "urn:example:a"),
        ("emails", "*@example.com", "alice@example.com"),
        ("other_names", "1.3.6.1.4.1.311.20.2.3:*@example.com", "other:1.3.6.1.4.1.311.20.2.3:alice@example.com"),
        ("common_names", "Payments*", "cn:Payments CA"),
    ];
    for (field, pattern, granted) in selectors {
        let policy = read(&format!("  - {{ name: one, allow: {{ {field}: [\"{pattern}\"] }} }}\n"));
        for (_, _, name) in selectors {
            let expected = if name == granted { Outcome::Allow } else { Outcome::Deny };
            assert_eq!(outcome(&policy, name), expected, "{field}: {pattern} and {name}");
        }
        // A deny without a selector speaks of every kind.
        let allow = format!("allow: {{ {field}: [\"{pattern}\"], profile: server }}");
        let all = format!("  - {{ name: one, {allow} }}\n  - {{ name: two, deny: {{ profile: server }} }}\n");
        assert!(refused(&all).contains("denied"), "{field}");
        let some = all.replace(
            "deny: { profile: server } }",
            "deny: { profile: server }, when: \"request.profile == 'server'\" }",
        );
        assert_eq!(outcome(&read(&some), granted), Outcome::Deny, "{field}");
    }
}

#[test]
fn a_pattern_of_the_wrong_kind_is_refused_with_what_was_probably_meant() {
    for (target, told) in [
        ("emails: [example.com]", "did you mean \"*@example.com\"?"),
        ("emails: [\"a*@example.com\"]", "did you mean \"*@example.com\"?"),
        ("uris: [\"spiffe://example.com/a\"]", "a SPIFFE ID belongs under spiffe"),
        ("uris: [\"https://*.example.com/\"]", "scheme and host, or a trust domain, are written out"),
        ("other_names: [\"upn:*\"]", "a name of another kind is written OBJECT-IDENTIFIER:VALUE"),
        ("common_names: [\"*CA\"]", "in a common name a star stands once, at the end"),
        ("names: [a.example.com], ca: false", "true, or no ca at all: without it an allow grants no CA"),
        ("names: [a.example.com], ca: \"true\"", "true, or no ca at all"),
        ("names: [a.example.com], cas: true", "did you mean \"ca\"?"),
        ("ca: true", "an allow says for which names"),
    ] {
        let errors = refused(&format!("  - {{ name: one, allow: {{ {target} }} }}\n"));
        assert!(errors.contains(told), "{target}: {errors}");
    }
}

#[test]
fn an_allow_that_a_deny_covers_is_found_for_every_kind_of_name_and_for_cas() {
    let covered = |allow: &str, deny: &str| {
        let text = format!("  - {{ name: one, allow: {{ {allow} }} }}\n  - {{ name: two, deny: {{ {deny} }} }}\n");
        Policy::parse(&format!("version: v1\nrules:\n{text}"), Format::Yaml, "policy.yaml").is_err()
    };
    for (allow, deny) in [
        ("emails: [a@example.com]", "emails: [\"*@example.com\"]"),
        ("emails: [\"*@a.example.com\"]", "emails: [\"*@**.example.com\"]"),
        ("uris: [\"https://a.test/b\"]", "uris: [\"https://a.test/*\"]"),
        ("other_names: [\"1.2.3:a@b\"]", "other_names: [\"1.2.3:*\"]"),
        ("common_names: [\"Payments CA\"]", "common_names: [\"Pay*\"]"),
        ("common_names: [\"Payments*\"]", "common_names: [\"*\"]"),
        ("names: [a.test], ca: true", "names: [a.test]"),
        ("names: [a.test], ca: true", "names: [a.test], ca: true"),
    ] {
        assert!(covered(allow, deny), "{allow} / {deny}");
    }
    for (allow, deny) in [
        ("emails: [a@example.com]", "emails: [\"*@*.example.com\"]"),
        ("uris: [\"https://a.test/b?c\"]", "uris: [\"https://a.test/*\"]"),
        ("common_names: [\"a_b.test\"]", "common_names: [\"*\"]"),
        ("names: [a.test]", "names: [a.test], ca: true"),
    ] {
        assert!(!covered(allow, deny), "{allow} / {deny}");
    }
}

#[test]
fn a_common_name_that_could_be_a_host_is_granted_letter_for_letter_alone() {
    let policy = read("  - { name: one, allow: { common_names: [\"*\", \"a_b.example.com\"] } }\n");
    for (name, expected) in [
        ("cn:Payments CA", Outcome::Allow),
        ("cn:payments", Outcome::Allow),
        ("cn:a_b.example.com", Outcome::Allow),
        ("cn:c_d.example.com", Outcome::Deny),
        ("cn:127.1", Outcome::Deny),
        ("cn:localhost", Outcome::Deny),
        ("cn:*.example.com", Outcome::Deny),
    ] {
        assert_eq!(outcome(&policy, name), expected, "{name}");
    }
}

#[test]
fn a_ca_is_granted_by_an_allow_with_the_word_alone() {
    let ca = Content { is_ca: true, ..Content::default() };
    let policy = read(
        "  - { name: leaves, allow: { names: [a.test, b.test] } }\n  - { name: cas, allow: { names: [a.test], ca: true } }\n",
    );
    let decision = ask(&policy, "a.test", ca);
    assert_eq!((decision.outcome, decision.rule()), (Outcome::Allow, Some("cas")));
    let decision = ask(&policy, "a.test", Content::default());
    assert_eq!((decision.outcome, decision.rule()), (Outcome::Allow, Some("leaves")));
    let decision = ask(&policy, "b.test", ca);
    assert_eq!((decision.outcome, decision.rule()), (Outcome::Deny, None));
    assert_eq!(decision.because(), Some("no rule with \"ca: true\" allows it under profile server"));
    // TOML has the word too.
    let toml = "version = \"v1\"\n[[rules]]\nname = \"cas\"\nallow = { names = [\"a.test\"], ca = true }\n";
    let policy = Policy::parse(toml, Format::Toml, "policy.toml").unwrap();
    assert_eq!(ask(&policy, "a.test", ca).outcome, Outcome::Allow);
    assert_eq!(outcome(&policy, "a.test"), Outcome::Deny);
}

#[test]
fn conditions_see_usages_ca_and_subject() {
    let usages = ["digital signature".to_owned(), "client auth".to_owned(), "1.2.3".to_owned()];
    let content = Content { usages: &usages, subject: "O=Example, CN=a.test", ..Content::default() };
    for (condition, said) in [
        ("'client auth' in request.usages", true),
        ("'server auth' in request.usages", false),
        ("'1.2.3' in request.usages", true),
        ("size(request.usages) == 3", true),
        ("request.usages.all(u, u != 'server auth')", true),
        ("request.usages.exists(u, u.startsWith('digital'))", true),
        ("request.is_ca", false),
        ("!request.is_ca && request.subject.startsWith('O=Example, ')", true),
        ("request.subject == ''", false),
    ] {
        let policy = read(&format!("  - {{ name: one, allow: {{ names: [a.test] }}, when: \"{condition}\" }}\n"));
        let expected = if said { Outcome::Allow } else { Outcome::Deny };
        assert_eq!(ask(&policy, "a.test", content).outcome, expected, "{condition}");
    }
    for (condition, told) in [
        ("'sever auth' in request.usages", "did you mean \"server auth\"?"),
        ("request.usage == 'x'", "did you mean \"request.usages\"?"),
        ("request.is_ca == 'x' && request.isca", "request.is"),
    ] {
        let errors = refused(&format!("  - {{ name: one, allow: {{ names: [a.test] }}, when: \"{condition}\" }}\n"));
        assert!(errors.contains(told), "{condition}: {errors}");
    }
}

#[test]
fn an_attribute_of_the_subject_is_granted_by_an_allow_that_says_so_together_with_the_name_and_by_nothing_else() {
    let attribute = |kind: &str, value: &str, needs_no_grant| SubjectAttribute {
        kind: kind.parse().unwrap(),
        value: value.to_owned(),
        needs_no_grant,
    };
    let policy = read(
        "  - { name: plain, allow: { names: [a.test, b.test] } }\n  - { name: teams, allow: { names: [a.test], subject: [\"O=Example\\\\, Inc.\", \"OU=team-*\"] } }\n",
    );
    let judged = |name: &str, attributes: &[SubjectAttribute]| {
        ask(&policy, name, Content { subject: "some", attributes, ..Content::default() })
    };
    let (masters, own) = (attribute("O", "system:masters", false), attribute("O", "Example, Inc.", false));
    let (team, given) = (attribute("OU", "team-red", false), attribute("O", "system:masters", true));
    for (name, attributes, rule) in [
        ("a.test", vec![], Some("plain")),
        ("b.test", vec![given.clone()], Some("plain")),
        ("a.test", vec![own.clone()], Some("teams")),
        ("a.test", vec![own.clone(), team.clone(), given], Some("teams")),
        ("a.test", vec![masters.clone()], None),
        ("a.test", vec![own.clone(), masters.clone()], None),
        ("b.test", vec![own.clone()], None),
        ("a.test", vec![attribute("2.5.4.9", "Example, Inc.", false)], None),
    ] {
        let decision = judged(name, &attributes);
        assert_eq!(decision.rule(), rule, "{name} {attributes:?}");
        assert_eq!(decision.outcome == Outcome::Allow, rule.is_some(), "{name} {attributes:?}");
    }
    let told = judged("b.test", &[own, masters.clone()]);
    assert_eq!(
        told.because(),
        Some("no rule allows it under profile server with O=Example\\, Inc., O=system:masters in the subject")
    );
    // A deny speaks where one of its attributes is asked for, given by the profile or not.
    let policy = read(
        "  - { name: all, allow: { names: [a.test], subject: [\"O=*\"] } }\n  - { name: groups, deny: { subject: [\"O=system:*\"] } }\n",
    );
    let denied = |attributes: &[SubjectAttribute]| {
        ask(&policy, "a.test", Content { attributes, ..Content::default() }).rule().map(str::to_owned)
    };
    assert_eq!(denied(std::slice::from_ref(&masters)).as_deref(), Some("groups"));
    assert_eq!(denied(&[SubjectAttribute { needs_no_grant: true, ..masters }]).as_deref(), Some("groups"));
    assert_eq!(denied(&[team]), None, "refused since no rule allows it");
    assert_eq!(denied(&[attribute("O", "Example", false)]).as_deref(), Some("all"));
    assert_eq!(denied(&[]).as_deref(), Some("all"));
    for (target, told) in [
        ("names: [a.test], subject: [\"CN=a\"]", "they belong under common_names"),
        ("names: [a.test], subject: [\"Org=a\"]", "none of C, ST, L, O, OU"),
        ("names: [a.test], subject: [\"O=a*b\"]", "a star stands once, at the end"),
        ("subject: [\"O=a\"]", "an allow says for which names"),
    ] {
        let errors = refused(&format!("  - {{ name: one, allow: {{ {target} }} }}\n"));
        assert!(errors.contains(told), "{target}: {errors}");
    }
}
