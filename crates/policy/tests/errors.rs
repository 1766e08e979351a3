//! What a policy file is refused for, and how that reads.
#![expect(clippy::panic, reason = "a helper that fails fails its test")]

use chancery_policy::{Fault, Format, Policy, PolicyErrors};

fn yaml(text: &str) -> PolicyErrors {
    match Policy::parse(text, Format::Yaml, "policy.yaml") {
        Ok(_) => panic!("taken:\n{text}"),
        Err(errors) => errors,
    }
}

/// A policy of rules in JSON, which is YAML on one line each; the first is on line 3.
fn rules(rules: &[&str]) -> String {
    let lines: String = rules.iter().map(|rule| format!("  - {rule}\n")).collect();
    format!("version: v1\nrules:\n{lines}")
}

/// The faults of a policy of such rules, without their places.
fn faults(of: &[&str]) -> Vec<Fault> {
    yaml(&rules(of)).iter().map(|error| error.fault.clone()).collect()
}

fn taken(of: &[&str]) {
    let text = rules(of);
    if let Err(errors) = Policy::parse(&text, Format::Yaml, "policy.yaml") {
        panic!("{errors}\n{text}");
    }
}

#[test]
fn every_error_is_found_at_once_with_its_place_and_the_nearest_spelling() {
    let text = r#"version: v1
rules:
  - name: one
    alow: { names: ["*.example.com"] }
  - name: two words
    allow: { names: ["web*.example.com", "a.*.example.com"], profil: server }
    for: { door: cert-manger, eab: team-*, acount: x }
  - name: three
    allow: { wildcards: [apps.example.com], addresses: [10.0.0.1/8], spiffe: ["spiffe://td/**/a"] }
    deny: { keys: [p256] }
  - name: four
    deny: { names: [] }
    because: 42
  - name: five
    allow: { profile: server }
    when: |
      request.profile == "server" &&
      request.nmaes == []
  - name: six
    allow: { names: ["exаmple.com", Example.com, example.com.] }
    when: request.key == "P256"
  - allow: { names: [a.example.com] }
  - just a text
ruels: []
"#;
    insta::assert_snapshot!("yaml", yaml(text));
}

#[test]
fn toml_errors_have_the_same_words_and_their_own_places() {
    let text = r#"version = "v1"
rulez = []

[[rules]]
name = "one"
alow = { names = ["*.example.com"] }

[[rules]]
name = "two"
allow = { names = ["a*.example.com"], keys = ["p256"] }
for = { door = "acmee" }
when = "request.names.all(n, request.names.all(m, request.names.all(o, true)))"
because = 3
"#;
    insta::assert_snapshot!("toml", Policy::parse(text, Format::Toml, "policy.toml").unwrap_err());
}

#[test]
fn what_is_not_yaml_or_toml_is_said_with_its_place() {
    let mut shown = String::new();
    for text in [
        "version: v1\nrules:\n  - name: a\n   deny: {}\n",
        "version: v1\nrules: [\n",
        "version: v1\nversion: v1\nrules: []\n",
        "version: v1\nrules: []\n---\nversion: v1\nrules: []\n",
        "version: v1\nrules:\n  - &r { name: a, deny: {} }\n  - *r\n",
        "a: &a [x, x]\n<<: {b: c}\n",
        "",
        "- 1\n",
        "version: v2\nrules: 7\n",
        "rules: nothing\n",
    ] {
        shown.push_str(&format!("{}\n", yaml(text)));
    }
    for text in ["version = v1\n", "version = \"v1\"\nversion = \"v1\"\nrules = []\n", "[rules\n"] {
        shown.push_str(&format!("{}\n", Policy::parse(text, Format::Toml, "policy.toml").unwrap_err()));
    }
    insta::assert_snapshot!("syntax", shown);
}

#[test]
fn the_place_of_a_word_inside_a_condition_is_its_own() {
    for (when, column) in [
        ("request.profile == requst.profile", 14 + 19),
        ("\"request.profile == requst.profile\"", 14 + 20),
        ("'request.profile == requst.profile'", 14 + 20),
    ] {
        let text = format!("version: v1\nrules:\n- name: a\n  deny: {{}}\n  when:      {when}\n");
        let errors = yaml(&text);
        let error = errors.iter().next().unwrap();
        // `when` begins in column 14; the word is where CEL found it, or at the dot that selects from it.
        assert_eq!(error.line, 5, "{errors}");
        assert!((column..=column + 6).contains(&error.column), "{errors}, not {column}");
    }
}

#[test]
fn a_condition_that_says_what_it_may_not_is_refused() {
    let mut shown = String::new();
    for when in [
        "",
        "request.profile ==",
        "1",
        "request.profile",
        "requests.names == []",
        "request",
        "request.proven.eab == ''",
        "requester.eab == ''",
        "requester.proven == 1",
        "requester.proven.service-account == ''",
        "requester.proven.serviceaccount == ''",
        "has(request.key)",
        "has(requester.proven.eab)",
        "request['key'] == 'P-256'",
        "request.key == 'p256'",
        "request.key in ['P-256', 'P-265']",
        "requester.door != 'ACME'",
        "request.names.all(request, request == '')",
        "request.names.all(n, n.length > 3)",
        "request.names.all(a, request.names.all(b, request.names.all(c, a == b && b == c)))",
        "(request.names + request.names).all(a, a == '')",
        "request.profile.matches('^a')",
        "request.profile.startWith('a')",
        "request.profile < 3",
        "1 / 0 == 1",
        "request.names[99] == ''",
        "request.profile == 'sеrver'",
        "request.names.map(a, request.names.map(b, request.names)) == []",
        "type(request.names) == list",
        "request.?key.orValue('') == ''",
        "Foo{a: 1} == 2",
        "request.profile + 1 == 'a'",
        "timestamp('x') == request.time",
    ] {
        let text = rules(&[&format!("{{name: a, deny: {{}}, when: {when:?}}}")]);
        let errors = yaml(&text);
        assert_eq!(errors.iter().count(), 1, "{errors}");
        let fault = &errors.iter().next().unwrap().fault;
        assert!(matches!(fault, Fault::Condition { .. }), "{errors}");
        shown.push_str(&format!("{when}\n    {fault}\n"));
    }
    insta::assert_snapshot!("conditions", shown);
}

#[test]
fn conditions_are_bounded() {
    let ones = ["1"; 129].join(",");
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    let long = format!("request.profile == '{}'", "a".repeat(4096));
    for when in [format!("1 in [{ones}]"), deep, long] {
        let text = rules(&[&format!("{{name: a, deny: {{}}, when: {when:?}}}")]);
        assert!(yaml(&text).to_string().contains("the condition "), "{when}");
    }
    // Every name with every name is the most that one needs.
    let pairs = "request.names.all(a, request.names.all(b, a == b || a.size() > 0))";
    taken(&[&format!("{{name: a, deny: {{}}, when: {pairs:?}}}")]);
}

#[test]
fn all_conditions_together_are_bounded() {
    let pairs = "request.names.all(a, request.names.all(b, a == b))";
    let many: Vec<String> =
        (0..100).map(|at| format!("{{name: r{at}, deny: {{profile: p{at}}}, when: {pairs:?}}}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let errors = yaml(&rules(&many)).to_string();
    assert!(errors.contains("steps in all conditions together"), "{errors}");
}

#[test]
fn files_rules_and_texts_are_bounded() {
    let large = format!("version: v1\nrules: []\n#{}\n", "x".repeat(1024 * 1024));
    assert!(matches!(yaml(&large).iter().next().unwrap().fault, Fault::TooLarge { max: 1_048_576, .. }));
    let rule = vec!["{name: a, deny: {}}"; 10_001];
    assert!(matches!(faults(&rule).as_slice(), [Fault::TooMany { what: "rules", max: 10_000, .. }]));
    let because = format!("{{name: a, deny: {{}}, because: {}}}", "b".repeat(501));
    assert!(matches!(faults(&[&because]).as_slice(), [Fault::BadText { max: 500, .. }]));
    for because in [r#""a\u001b[2Jb""#, r#""a\u202eb""#, r#""""#, r#"" a""#] {
        let rule = format!("{{name: a, deny: {{}}, because: {because}}}");
        assert!(matches!(faults(&[&rule]).as_slice(), [Fault::BadText { .. }]), "{because}");
    }
    let nested = format!("version: v1\nrules: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    assert!(yaml(&nested).to_string().contains("not valid YAML"));
}

#[test]
fn a_rule_has_exactly_one_effect_and_an_allow_has_names() {
    assert!(matches!(faults(&["{name: a}"]).as_slice(), [Fault::Effects { .. }]));
    assert!(matches!(faults(&["{name: a, deny: {}, warn: {}}"]).as_slice(), [Fault::Effects { .. }]));
    assert!(matches!(faults(&["{name: a, allow: {}}"]).as_slice(), [Fault::NothingAllowed]));
    assert!(matches!(faults(&["{name: a, allow: {profile: server}}"]).as_slice(), [Fault::NothingAllowed]));
    let both = "{name: a, deny: {profile: a, profiles: [b]}}";
    assert!(matches!(faults(&[both]).as_slice(), [Fault::ProfileTwice]));
    for empty in ["names: []", "wildcards: []", "addresses: []", "spiffe: []", "profiles: []", "keys: []"] {
        let rule = format!("{{name: a, deny: {{{empty}}}}}");
        assert!(matches!(faults(&[&rule]).as_slice(), [Fault::EmptyList]), "{empty}");
    }
    for empty in ["door: []", "directory: []", "eab: []"] {
        let rule = format!("{{name: a, deny: {{}}, for: {{{empty}}}}}");
        assert!(matches!(faults(&[&rule]).as_slice(), [Fault::EmptyList]), "{empty}");
    }
    taken(&["{name: a, deny: {}}", "{name: b, warn: {profile: x}}"]);
}

#[test]
fn a_name_taken_and_a_rule_said_twice_are_refused() {
    let one = "{name: a, allow: {names: [a.test], profile: p}}";
    assert!(matches!(
        faults(&[one, "{name: a, allow: {names: [b.test]}}"]).as_slice(),
        [Fault::DuplicateName { line: 3, .. }]
    ));
    let again = "{name: b, because: another, allow: {names: [a.test], profile: p}}";
    assert!(matches!(faults(&[one, again]).as_slice(), [Fault::Repeated { line: 3, .. }]));
    taken(&[one, "{name: b, allow: {names: [a.test], profile: q}}"]);
    taken(&[one, "{name: b, allow: {names: [a.test], profile: p}, for: {eab: x}}"]);
}

#[test]
fn an_allow_all_of_which_is_denied_without_condition_is_refused() {
    let allow =
        "{name: a, allow: {names: ['*.x.test', y.test], profile: p, keys: [P-256]}, for: {door: acme, eab: [e, f]}}";
    for denies in [
        &["{name: d, deny: {}}"][..],
        &["{name: d, deny: {names: ['**.test']}}"],
        &["{name: d, deny: {names: ['**.x.test', y.test]}}"],
        &["{name: d, deny: {names: ['*.x.test']}}", "{name: e, deny: {names: ['*.test']}}"],
        &["{name: d, deny: {names: ['**.test'], profiles: [p, q]}}"],
        &["{name: d, deny: {keys: [P-256, P-384]}}"],
        &["{name: d, deny: {}, for: {door: [acme, api]}}"],
        &["{name: d, deny: {}, for: {eab: [e, f, g], door: acme}}"],
    ] {
        let all: Vec<&str> = std::iter::once(allow).chain(denies.iter().copied()).collect();
        assert!(matches!(faults(&all).as_slice(), [Fault::Covered { .. }]), "{denies:?}");
    }
    for denies in [
        "{name: d, deny: {}, when: request.profile == 'p'}",
        "{name: d, deny: {names: ['*.test']}}",
        "{name: d, deny: {names: ['**.x.test']}}",
        "{name: d, deny: {wildcards: ['*.x.test']}}",
        "{name: d, deny: {profile: q}}",
        "{name: d, deny: {keys: [P-384]}}",
        "{name: d, deny: {}, for: {door: api}}",
        "{name: d, deny: {}, for: {eab: e}}",
        "{name: d, deny: {}, for: {account: z}}",
        "{name: d, warn: {}}",
    ] {
        taken(&[allow, denies]);
    }
    let addresses =
        "{name: a, allow: {addresses: [10.1.0.0/16], spiffe: ['spiffe://td/a/*'], wildcards: ['*.b.test']}}";
    let all = "{name: d, deny: {addresses: [10.0.0.0/8], spiffe: ['spiffe://td/**'], wildcards: ['*.b.test']}}";
    assert!(matches!(faults(&[addresses, all]).as_slice(), [Fault::Covered { .. }]));
    taken(&[
        addresses,
        "{name: d, deny: {addresses: [10.1.0.0/17], spiffe: ['spiffe://td/**'], wildcards: ['*.b.test']}}",
    ]);
    taken(&[
        addresses,
        "{name: d, deny: {addresses: [10.0.0.0/8], spiffe: ['spiffe://td/a/b'], wildcards: ['*.b.test']}}",
    ]);
}

#[test]
fn a_text_of_nothing_but_mistakes_is_told_of_by_its_first_ones_however_long_its_line() {
    let text = format!("version = \"v1\"\nrules {}", "=".repeat(200_000));
    let Err(errors) = Policy::parse(&text, Format::Toml, "policy.toml") else { panic!("taken") };
    assert_eq!(errors.iter().count(), 20);
    assert!(errors.iter().all(|error| error.line == 2 && (8..=30).contains(&error.column)), "{errors}");
}

#[test]
fn a_column_is_counted_in_characters_on_a_line_longer_than_any_screen() {
    let line = format!(
        "rules = [{{ name = \"x\", because = \"{}\", alow = {{ names = [\"a.test\"] }} }}]",
        "ü€😀".repeat(100)
    );
    let text = format!("version = \"v1\" # ü\n{line}\n");
    let Err(errors) = Policy::parse(&text, Format::Toml, "policy.toml") else { panic!("taken") };
    let column = line.split_once("alow").map(|(before, _)| before.chars().count() + 1);
    let found = errors.iter().find(|error| error.to_string().contains("alow")).expect("the misspelt field");
    assert_eq!((found.line, Some(found.column)), (2, column));
}
