//! Policy files. They come from those who run the server, through merge requests of people who do not.

use chancery_pki::{KeyKind, Lifetime, NameSet};
use chancery_policy::{Claims, Content, Door, Format, Outcome, Policy, Request, Requester};
use chancery_testkit::ports::TestClock;

use super::PLAIN;
use crate::{Form, Target, Verdict};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "policy-yaml",
        read: yaml,
        form: Form::Lines,
        words: WORDS,
        mutations: 6_000,
        memory: 64 << 20,
        ..PLAIN
    },
    Target {
        name: "policy-toml",
        read: toml,
        form: Form::Lines,
        words: WORDS,
        mutations: 6_000,
        memory: 64 << 20,
        ..PLAIN
    },
];

const WORDS: &[&[u8]] = &[
    b"version: v1",
    b"version = \"v1\"",
    b"rules:",
    b"[[rules]]",
    b"  - name: x",
    b"name = \"x\"",
    b"allow",
    b"deny",
    b"warn",
    b"for",
    b"when",
    b"because",
    b"names",
    b"wildcards",
    b"addresses",
    b"spiffe",
    b"profile",
    b"profiles",
    b"keys",
    b"{ names: [\"**\"] }",
    b"\"**.test\"",
    b"\"*.a.test\"",
    b"\"a*b.test\"",
    b"\"*\"",
    b"\"**\"",
    b"10.0.0.0/8",
    b"\"::/0\"",
    b"RSA-2048",
    b"P-256",
    b"door: acme",
    b"door = \"acme\"",
    b"&a",
    b"*a",
    b"<<: *a",
    b"!!binary",
    b"!!str",
    b"|",
    b">",
    b"---",
    b"...",
    b"? ",
    b"%YAML 1.1",
    b"null",
    b"~",
    b"yes",
    b"0x10",
    b"1e3",
    b".inf",
    b"2026-11-25",
    b"'",
    b"\"\"\"",
    b"true",
    b"request.names",
    b"request.time",
    b"request.lifetime",
    b"size(request.names) == 1",
    b"request.names.all(a, a == 'x')",
    b"request.names.map(a, request.names.map(b, a + b))",
    b"matches('(a+)+$')",
    b"[1].all(a, [1].all(b, [1].all(c, true)))",
    b"duration('24h')",
    b"1 / 0",
    b"!",
    b"&&",
    b"||",
    b"((((((((",
    b"in [",
];

fn yaml(octets: &[u8]) -> Verdict {
    policy(octets, Format::Yaml)
}

fn toml(octets: &[u8]) -> Verdict {
    policy(octets, Format::Toml)
}

fn policy(octets: &[u8], format: Format) -> Verdict {
    const FILE: &str = "the-policy-file";
    let Ok(text) = std::str::from_utf8(octets) else { return Verdict::refused("not UTF-8") };
    let policy = match Policy::parse(text, format, FILE) {
        Ok(policy) => policy,
        Err(errors) => {
            // YAML ends a line at a carriage return too.
            let lines = text.bytes().filter(|octet| matches!(octet, b'\n' | b'\r')).count() + 1;
            for error in &errors {
                let shown = error.to_string();
                assert!(shown.starts_with(&format!("{FILE}:{}:{}: ", error.line, error.column)), "{shown}");
                assert!((1..=lines).contains(&error.line) && error.column >= 1, "{shown} is no place in {lines} lines");
                assert!(shown.len() < 4_000, "a sentence of {} octets: {shown}", shown.len());
            }
            return Verdict::refused(errors.iter().next().expect("never empty").fault.to_string());
        }
    };
    assert_eq!(policy.text(), text);
    for requester in requesters() {
        for names in ["a.test", "*.wild.test", "pay.apps.example.com", "10.20.0.1", "spiffe://cluster.local/ns/a/sa/b"]
        {
            let names = NameSet::new([names.parse().expect("a name")]).expect("one name");
            for key in [None, Some(KeyKind::P256)] {
                let decision = policy.evaluate(&Request {
                    requester: &requester,
                    names: &names,
                    profile: "server",
                    key,
                    lifetime: Lifetime::from_seconds(3_600).ok(),
                    content: Content::default(),
                    now: TestClock::START,
                });
                assert!(!decision.explain().is_empty());
                if decision.outcome == Outcome::Allow {
                    // Default deny: every name has a rule that allows it, and no rule may be made up.
                    assert!(decision.names.iter().all(|verdict| verdict.rule.is_some()), "{decision:?}");
                    assert_ne!(policy.rules().len(), 0);
                }
            }
        }
    }
    Verdict::Taken
}

fn requesters() -> [Requester; 3] {
    let mesh = Requester {
        claimed: Claims { namespace: Some("a".to_owned()), ..Claims::default() },
        ..Requester::at(Door::Mesh)
    };
    [Requester::acme("internal", "account", Some("platform-team")), Requester::own_tls(), mesh]
}
