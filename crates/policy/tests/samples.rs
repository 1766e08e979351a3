//! The sample policies of the documentation load, say the same in YAML and TOML, and decide as the
//! documentation tells.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use chancery_pki::{KeyKind, Lifetime, Name, NameSet, Timestamp};
use chancery_policy::{Claims, Content, Decision, Door, Format, Outcome, Policy, Request, Requester};

const YAML: &str = include_str!("../../../docs/samples/policy.yaml");
const TOML: &str = include_str!("../../../docs/samples/policy.toml");
const PAGE: &str = include_str!("../../../docs/policy.md");

fn yaml() -> Policy {
    Policy::parse(YAML, Format::of_file("policy.yaml"), "policy.yaml").unwrap()
}

fn toml() -> Policy {
    Policy::parse(TOML, Format::of_file("policy.toml"), "policy.toml").unwrap()
}

fn eab(team: &str) -> Requester {
    Requester::acme("internal", "Ab12", Some(team))
}

fn at(door: Door, proven: Claims) -> Requester {
    Requester { proven, ..Requester::at(door) }
}

fn ask(policy: &Policy, requester: &Requester, profile: &str, names: &[&str], key: Option<KeyKind>) -> Decision {
    let names = NameSet::new(names.iter().map(|name| name.parse::<Name>().unwrap())).unwrap();
    // A Wednesday.
    let now = "2026-11-25T10:00:00Z".parse::<Timestamp>().unwrap();
    let lifetime = key.and_then(|_| Lifetime::from_seconds(43_200).ok());
    policy.evaluate(&Request { requester, names: &names, profile, key, lifetime, content: Content::default(), now })
}

/// Who asks under which profile for which names with which key; what comes of it, and by which rule.
type Row<'a> = (Requester, &'a str, &'a [&'a str], Option<KeyKind>, Outcome, Option<&'a str>);

#[test]
fn yaml_and_toml_decide_alike() {
    let ingress = Claims {
        cluster: Some("prod-eu".to_owned()),
        namespace: Some("istio-ingress".to_owned()),
        ..Claims::default()
    };
    let other_namespace = Claims { namespace: Some("default".to_owned()), ..ingress.clone() };
    let p256 = Some(KeyKind::P256);
    let table: &[Row<'_>] = &[
        (eab("platform-team"), "server", &["pay.apps.example.com"], p256, Outcome::Allow, Some("platform-hosts")),
        (eab("platform-team"), "server", &["a.b.svc.example.com"], p256, Outcome::Allow, Some("platform-hosts")),
        (eab("platform-team"), "server", &["a.b.apps.example.com"], p256, Outcome::Deny, None),
        (eab("platform-team"), "client", &["pay.apps.example.com"], p256, Outcome::Deny, None),
        (eab("other-team"), "server", &["pay.apps.example.com"], p256, Outcome::Deny, None),
        (eab("edge-team"), "server", &["*.apps.example.com"], p256, Outcome::Allow, Some("edge-wildcards")),
        (eab("edge-team"), "server", &["*.svc.example.com"], p256, Outcome::Deny, None),
        (eab("edge-team"), "server", &["*.example.com"], p256, Outcome::Deny, Some("no-apex-wildcards")),
        (
            at(Door::CertManager, ingress.clone()),
            "gateway",
            &["x.example.com"],
            p256,
            Outcome::Allow,
            Some("istio-gateways"),
        ),
        (at(Door::CertManager, other_namespace), "gateway", &["x.example.com"], p256, Outcome::Deny, None),
        (at(Door::Api, ingress), "gateway", &["x.example.com"], p256, Outcome::Deny, None),
        (eab("any"), "client", &["10.20.3.4", "2001:db8:20::1"], p256, Outcome::Allow, Some("databases-by-address")),
        (eab("any"), "client", &["10.21.3.4"], p256, Outcome::Deny, None),
        (
            at(Door::Mesh, Claims::default()),
            "mesh",
            &["spiffe://cluster.local/ns/a/sa/b"],
            p256,
            Outcome::Allow,
            Some("mesh-workloads"),
        ),
        (at(Door::Mesh, Claims::default()), "mesh", &["spiffe://cluster.local/ns/a"], p256, Outcome::Deny, None),
        (eab("any"), "server", &["job.ci.example.com"], p256, Outcome::Allow, Some("short-lived-builds")),
        (eab("any"), "server", &["job.ci.example.com"], None, Outcome::Undecided, Some("no-rsa-2048")),
        (eab("any"), "server", &["job.ci.example.com", "b.ci.example.com"], p256, Outcome::Deny, None),
        (
            eab("platform-team"),
            "server",
            &["pay.apps.example.com"],
            Some(KeyKind::Rsa2048),
            Outcome::Deny,
            Some("no-rsa-2048"),
        ),
        (Requester::own_tls(), "server", &["ca.example.com"], p256, Outcome::Allow, Some("own-listener")),
        (eab("any"), "server", &["ca.example.com"], p256, Outcome::Deny, None),
    ];
    let (yaml, toml) = (yaml(), toml());
    assert_eq!(yaml.rules().collect::<Vec<_>>(), toml.rules().collect::<Vec<_>>());
    for (requester, profile, names, key, outcome, rule) in table {
        for policy in [&yaml, &toml] {
            let decision = ask(policy, requester, profile, names, *key);
            assert_eq!((decision.outcome, decision.rule()), (*outcome, *rule), "{requester} {names:?}\n{decision}");
            assert_eq!(decision.policy, policy.hash());
        }
    }
}

#[test]
fn a_refusal_says_what_was_asked_which_rule_spoke_why_and_the_way_out() {
    let asked = ["pay.apps.example.com", "*.example.com", "shop.apps.example.com"];
    let decision = ask(&yaml(), &eab("platform-team"), "server", &asked, Some(KeyKind::P256));
    insta::assert_snapshot!("refusal", decision);
    let shown = decision.to_string();
    assert!(PAGE.contains(&shown), "docs/policy.md does not show\n{shown}");
}

#[test]
fn every_kind_of_decision_reads_well() {
    let p256 = Some(KeyKind::P256);
    let policy = yaml();
    let mut shown = String::new();
    let mut show = |decision: Decision| shown.push_str(&format!("{decision}\n\n"));
    show(ask(&policy, &eab("platform-team"), "server", &["pay.apps.example.com"], p256));
    show(ask(&policy, &eab("platform-team"), "server", &["pay.apps.example.com", "a.svc.example.com"], None));
    show(ask(&policy, &eab("platform-team"), "server", &["x.example.com"], p256));
    show(ask(&policy, &eab("platform-team"), "server", &["pay.apps.example.com"], Some(KeyKind::Rsa2048)));
    show(ask(&policy, &eab("nobody"), "server", &["www.example.org"], p256));
    let ingress = Claims {
        cluster: Some("prod-eu".to_owned()),
        namespace: Some("istio-ingress".to_owned()),
        ..Claims::default()
    };
    show(ask(&policy, &at(Door::CertManager, ingress), "gateway", &["shop.new.example.com"], p256));
    insta::assert_snapshot!("decisions", shown.trim_end());
}

#[test]
fn the_hash_is_that_of_the_exact_text() {
    // Made with `printf 'version: v1\nrules: []\n' | sha256sum`.
    let policy = Policy::parse("version: v1\nrules: []\n", Format::Yaml, "policy.yaml").unwrap();
    assert_eq!(policy.hash().to_string(), "9eaa3a6be7ba4ce56840534a72bdf786ae5fac2c86cf247c7e2ec891fcdb9700");
    assert_eq!(policy.text(), "version: v1\nrules: []\n");
    let decision = ask(&policy, &eab("a"), "server", &["a.example.com"], Some(KeyKind::P256));
    assert_eq!((decision.outcome, decision.rule()), (Outcome::Deny, None));
}

#[test]
fn every_condition_that_the_page_shows_is_taken() {
    let block = PAGE.split("```cel\n").nth(1).unwrap().split("```").next().unwrap();
    let conditions: Vec<&str> = block.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(conditions.len() >= 5);
    for condition in conditions {
        let text = format!(
            "version: v1\nrules:\n  - name: a\n    allow: {{ names: [a.b] }}\n    when: >-\n      {condition}\n"
        );
        Policy::parse(&text, Format::Yaml, "page").unwrap();
    }
}

#[test]
fn the_pages_first_example_gives_whoever_copies_it_a_certificate_at_the_acme_door() {
    let block = PAGE.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let policy = Policy::parse(block, Format::Yaml, "page").unwrap();
    let anybody = Requester::acme("default", "AbC", None);
    let key = Some(KeyKind::P256);
    for (name, outcome, rule) in [
        ("pay.apps.example.com", Outcome::Allow, Some("platform-hosts")),
        ("a.b.svc.example.com", Outcome::Allow, Some("platform-hosts")),
        ("*.example.com", Outcome::Deny, Some("no-apex-wildcards")),
        ("other.example.com", Outcome::Deny, None),
    ] {
        let decision = ask(&policy, &anybody, "server", &[name], key);
        assert_eq!((decision.outcome, decision.rule()), (outcome, rule), "{name}");
    }
}
