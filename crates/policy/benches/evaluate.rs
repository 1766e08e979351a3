//! What a decision costs: `cargo bench -p chancery-policy`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and fails loudly")]
#![expect(clippy::disallowed_methods, reason = "a bench takes the time")]

use std::{hint::black_box, time::Instant};

use chancery_pki::{KeyKind, Lifetime, Name, NameSet, Timestamp};
use chancery_policy::{Content, Decision, Format, Outcome, Policy, Request, Requester};

fn parse(rules: &str) -> Policy {
    Policy::parse(&format!("version: v1\nrules:\n{rules}"), Format::Yaml, "bench.yaml").unwrap()
}

fn plain(count: usize) -> String {
    (0..count)
        .map(|at| {
            format!(
                "  - name: r{at}\n    allow: {{ names: [\"*.team{at}.example.com\", \"**.svc{at}.example.com\"], profile: server }}\n    for: {{ eab: team-{at} }}\n"
            )
        })
        .collect()
}

fn same_names(count: usize) -> String {
    (0..count)
        .map(|at| format!("  - name: r{at}\n    allow: {{ names: [\"**.example.com\"], profile: server }}\n    for: {{ eab: team-{at} }}\n"))
        .collect()
}

fn ask(policy: &Policy, team: &str, names: &NameSet) -> Decision {
    let requester = Requester::acme("default", "account", Some(team));
    policy.evaluate(&Request {
        requester: &requester,
        names,
        profile: "server",
        key: Some(KeyKind::P256),
        lifetime: Lifetime::from_seconds(86_400).ok(),
        content: Content::default(),
        now: Timestamp::from_unix_seconds(1_795_600_000),
    })
}

fn measure(what: &str, policy: &Policy, team: &str, names: &[String], outcome: Outcome) {
    let names = NameSet::new(names.iter().map(|name| name.parse::<Name>().unwrap())).unwrap();
    assert_eq!(ask(policy, team, &names).outcome, outcome, "{what}");
    let start = Instant::now();
    let mut rounds = 0u32;
    while start.elapsed().as_millis() < 400 {
        black_box(ask(black_box(policy), team, &names));
        rounds += 1;
    }
    let each = start.elapsed() / rounds;
    println!("{what:<64} {:>10.2} µs", each.as_secs_f64() * 1e6);
}

fn main() {
    let name = |text: &str| vec![text.to_owned()];
    let hundred: Vec<String> = (0..100).map(|at| format!("h{at}.team7.example.com")).collect();
    measure("1 rule, 1 name", &parse(&plain(1)), "team-0", &name("a.team0.example.com"), Outcome::Allow);
    let thousand = parse(&plain(1_000));
    measure("1,000 rules, 1 name", &thousand, "team-7", &name("a.team7.example.com"), Outcome::Allow);
    measure("1,000 rules, 1 name of 8 labels", &thousand, "team-7", &name("a.b.c.d.svc7.example.com"), Outcome::Allow);
    measure("1,000 rules, 100 names", &thousand, "team-7", &hundred, Outcome::Allow);
    measure(
        "1,000 rules, 1 name, refused with a suggestion",
        &thousand,
        "team-7",
        &name("a.team8.example.com"),
        Outcome::Deny,
    );
    let same = parse(&same_names(1_000));
    measure("1,000 rules for the same names, 1 name", &same, "team-999", &name("a.team7.example.com"), Outcome::Allow);
    measure("1,000 rules for the same names, 100 names", &same, "team-999", &hundred, Outcome::Allow);
    for when in [
        "request.time.getDayOfWeek() in [0, 1, 2, 3, 4, 5, 6]",
        "request.names.all(n, n.endsWith('.example.com'))",
        "request.key in ['P-256', 'P-384'] && requester.proven.eab.startsWith('team-')",
        "request.names.all(a, request.names.all(b, a == b || a.size() > 0))",
    ] {
        let policy = parse(&format!("  - name: a\n    allow: {{ names: [\"**.example.com\"] }}\n    when: {when}\n"));
        let steps = policy.steps();
        measure(
            &format!("1 name, {steps} steps: {}", &when[..30]),
            &policy,
            "team-0",
            &name("a.team0.example.com"),
            Outcome::Allow,
        );
        measure(&format!("100 names, {steps} steps: {}", &when[..30]), &policy, "team-0", &hundred, Outcome::Allow);
    }
    for count in [1_000, 10_000] {
        let text = format!("version: v1\nrules:\n{}", plain(count));
        let start = Instant::now();
        let known = text.len() <= 1024 * 1024;
        assert_eq!(Policy::parse(&text, Format::Yaml, "bench.yaml").is_ok(), known);
        println!(
            "{:<64} {:>10.2} ms",
            format!("reading {count} rules, {} bytes{}", text.len(), if known { "" } else { " (refused)" }),
            start.elapsed().as_secs_f64() * 1e3
        );
    }
}
