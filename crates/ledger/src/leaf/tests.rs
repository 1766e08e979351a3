use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_pki::{SerialNumber, Timestamp};
use proptest::{collection::vec, option, prelude::*};
use serde_json::Value;

use super::*;

/// One leaf of each kind, as version 1 wrote it. These lines stay readable for ever: a change here
/// is a change of the format, and needs a new version.
const GOLDEN: &str = include_str!("golden.txt");

fn text() -> impl Strategy<Value = String> + Clone {
    // Everything JSON has an opinion about: quotes, controls, DEL, line separators, astral planes.
    prop_oneof![
        "[a-z0-9.:-]{0,20}",
        "[\\x00-\\x7f]{0,8}",
        vec(any::<char>(), 0..6).prop_map(String::from_iter),
        Just("\u{2028}\u{2029}\u{7f}\u{80}\u{feff}\u{1f600}\"\\/\u{8}\u{c}".to_owned()),
    ]
}

fn time() -> impl Strategy<Value = Timestamp> + Clone {
    any::<i64>().prop_map(Timestamp::from_unix_millis)
}

fn serial() -> impl Strategy<Value = SerialNumber> {
    prop_oneof![any::<[u8; 16]>(), any::<u8>().prop_map(|low| u128::from(low).to_be_bytes())]
        .prop_map(SerialNumber::from_random)
}

fn exact() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..1000, 0u64..1 << 53, Just((1 << 53) - 1)]
}

fn profile() -> impl Strategy<Value = ProfileRef> {
    (any::<[u8; 32]>(), text()).prop_map(|(hash, name)| ProfileRef { hash, name })
}

fn requester() -> impl Strategy<Value = Requester> {
    let claim = (text(), any::<bool>(), text()).prop_map(|(name, proven, value)| Claim { name, proven, value });
    (vec(claim, 0..3), text()).prop_map(|(claims, summary)| Requester { claims, summary })
}

fn decision() -> impl Strategy<Value = Decision> {
    let outcome = prop_oneof![Just(Outcome::Allow), Just(Outcome::Deny), Just(Outcome::Hold)];
    let name = (text(), option::of(text())).prop_map(|(name, rule)| NameRule { name, rule });
    let warning = (text(), text()).prop_map(|(because, rule)| Warning { because, rule });
    (outcome, vec(name, 0..4), option::of(text()), vec(warning, 0..3), any::<u32>()).prop_map(
        |(outcome, names, preauthorized_by, warnings, warnings_left_out)| Decision {
            names,
            outcome,
            preauthorized_by,
            warnings,
            warnings_left_out,
        },
    )
}

prop_compose! {
    fn grant()(
        accounts in exact(), directory in text(), expires in time(), owner in text(), profiles in vec(text(), 0..3),
        names in option::of((vec(text(), 0..3), vec(text(), 0..3), vec(text(), 0..3))), salt: [u8; 16],
    ) -> EabGrant {
        let names = names.map(|(addresses, names, wildcards)| EabNames { addresses, names, wildcards });
        EabGrant { accounts, directory, expires, names, owner, profiles, salt }
    }
}

prop_compose! {
    fn eab_key()(
        account: Option<[u8; 16]>, account_facts in option::of(account_facts()), at in time(), by in text(),
        binding in option::of(text()), grant in option::of(grant()), key in text(),
        action in prop::sample::select(vec![
            EabAction::Created, EabAction::Used, EabAction::Revoked, EabAction::Limited, EabAction::Stopped,
        ]),
    ) -> EabKey {
        EabKey { account, account_facts, action, at, binding, by, grant, key }
    }
}

prop_compose! {
    fn account_facts()(
        contacts in vec(text(), 0..3), created in time(), directory in text(), eab in option::of(text()),
        spki in vec(any::<u8>(), 0..60), terms in option::of(terms()),
    ) -> AccountFacts {
        AccountFacts { contacts, created, directory, eab, spki, terms }
    }
}

prop_compose! {
    fn terms()(at in time(), url in text()) -> Terms {
        Terms { at, url }
    }
}

prop_compose! {
    fn api_token_facts()(
        cluster in text(), comment in text(), expires in time(), names in option::of(vec(text(), 0..3)),
        namespaces in option::of(vec(text(), 0..3)), profiles in option::of(vec(text(), 0..3)), sha256: [u8; 32],
    ) -> ApiTokenFacts {
        ApiTokenFacts { cluster, comment, expires, names, namespaces, profiles, sha256 }
    }
}

prop_compose! {
    fn idempotency()(attempt: u32, key in text(), request: Option<[u8; 32]>) -> Idempotency {
        Idempotency { attempt, key, request }
    }
}

prop_compose! {
    fn intent()(
        (account, account_facts, at, authority) in (any::<Option<[u8; 16]>>(), option::of(account_facts()), time(), text()),
        (certificate, chain, crl_shard, decision) in (any::<[u8; 16]>(), text(), any::<Option<u32>>(), decision()),
        (door, idempotency, order, policy) in
            (text(), option::of(idempotency()), any::<Option<[u8; 16]>>(), any::<[u8; 32]>()),
        (profile, replaces, requester, retention) in (profile(), any::<Option<[u8; 16]>>(), requester(), text()),
        serial in serial(), tbs in vec(any::<u8>(), 0..200), tenant in option::of(text()),
    ) -> Intent {
        Intent {
            account, account_facts, at, authority, certificate, chain, crl_shard, decision, door, idempotency, order,
            policy, profile, replaces, requester, retention, serial, tbs, tenant,
        }
    }
}

fn id() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>()
}

fn hash() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

fn leaf() -> impl Strategy<Value = Leaf> {
    let checkpoint = (text(), hash(), exact()).prop_map(|(origin, root, size)| OldCheckpoint { origin, root, size });
    prop_oneof![
        intent().prop_map(Leaf::from),
        (time(), id(), exact(), hash(), vec(any::<u8>(), 0..80)).prop_map(
            |(at, certificate, intent, sha256, signature)| Signature { at, certificate, intent, sha256, signature }
                .into()
        ),
        (time(), id(), exact(), text()).prop_map(|(at, certificate, intent, why)| Abandoned {
            at,
            certificate,
            intent,
            why
        }
        .into()),
        (
            (time(), text(), text(), vec(text(), 0..4), any::<u32>()),
            (hash(), requester(), option::of(text()), option::of(text()))
        )
            .prop_map(|((at, because, door, names, names_left_out), (policy, requester, rule, tenant))| {
                Refusal { at, because, door, names, names_left_out, policy, requester, rule, tenant }.into()
            }),
        (time(), text(), text(), id(), any::<Option<u8>>(), serial()).prop_map(
            |(at, authority, by, certificate, reason, serial)| {
                Revocation { at, authority, by, certificate, reason, serial }.into()
            }
        ),
        (time(), text(), exact(), hash(), any::<u32>()).prop_map(|(at, authority, number, sha256, shard)| {
            CrlPublished { at, authority, number, sha256, shard }.into()
        }),
        eab_key().prop_map(Leaf::from),
        (time(), text(), hash(), vec(profile(), 0..3)).prop_map(|(at, by, policy, profiles)| PolicyActivated {
            at,
            by,
            policy,
            profiles
        }
        .into()),
        (time(), text(), hash(), hash()).prop_map(|(at, authority, certificate, key)| {
            AuthorityInstalled { at, authority, certificate, key }.into()
        }),
        (time(), text(), hash(), hash()).prop_map(|(at, authority, certificate, key)| AuthorityRetired {
            at,
            authority,
            certificate,
            key
        }
        .into()),
        (any::<bool>(), time(), text(), option::of(api_token_facts()), id()).prop_map(
            |(revoked, at, by, facts, token)| {
                let action = if revoked { TokenAction::Revoked } else { TokenAction::Created };
                ApiToken { action, at, by, facts, token }.into()
            }
        ),
        (id(), time()).prop_map(|(account, at)| AccountDeactivated { account, at }.into()),
        (id(), terms()).prop_map(|(account, terms)| AccountAgreed { account, terms }.into()),
        (id(), time(), vec(any::<u8>(), 0..60))
            .prop_map(|(account, at, spki)| AccountKeyChanged { account, at, spki }.into()),
        (time(), exact(), checkpoint, vec(hash(), 0..4), option::of(text())).prop_map(
            |(at, backup_size, checkpoint, consistency, note)| {
                Restored { at, backup_size, checkpoint, consistency, note }.into()
            }
        ),
    ]
}

/// RFC 8785 by another hand, over the JSON as an unordered value.
fn independently_canonical(json: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(json).expect("JSON");
    serde_jcs::to_vec(&value).expect("canonicalizes")
}

fn tampered(json: &str, from: &str, to: &str) -> Result<Leaf, LeafError> {
    let changed = json.replacen(from, to, 1);
    assert_ne!(changed, json, "{from} occurs");
    Leaf::decode(changed.as_bytes())
}

fn small() -> String {
    let leaf = Leaf::from(Abandoned {
        at: Timestamp::from_unix_millis(1_795_600_000_123),
        certificate: [0xfb; 16],
        intent: 41,
        why: "no-signature".to_owned(),
    });
    String::from_utf8(leaf.encode().expect("small")).expect("JSON")
}

proptest! {
    #[test]
    fn every_leaf_reads_back_and_is_canonical_by_another_hand(leaf in leaf()) {
        let bytes = leaf.encode().expect("small");
        prop_assert_eq!(independently_canonical(&bytes), bytes.clone());
        prop_assert_eq!(Leaf::decode(&bytes), Ok(leaf));
    }

    #[test]
    fn any_flipped_bit_gives_another_leaf_or_none(leaf in leaf(), at: prop::sample::Index, bit in 0..8) {
        let mut bytes = leaf.encode().expect("small");
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        if let Ok(other) = Leaf::decode(&bytes) {
            prop_assert_ne!(&other, &leaf);
            prop_assert_eq!(other.encode(), Ok(bytes));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, json in "[\\[\\]{}\",:0-9a-z. \\\\-]{0,60}") {
        let _ = Leaf::decode(&bytes);
        let _ = Leaf::decode(json.as_bytes());
        let _ = Leaf::decode(format!("{{\"body\":{json},\"kind\":\"intent\",\"v\":1}}").as_bytes());
    }
}

#[test]
fn a_leaf_looks_like_this() {
    assert_eq!(
        small(),
        r#"{"body":{"at":1795600000123,"certificate":"-_v7-_v7-_v7-_v7-_v7-w","intent":41,"why":"no-signature"},"kind":"abandoned","v":1}"#
    );
}

#[test]
fn leaves_of_every_kind_that_version_1_wrote_are_still_read() {
    let kinds: Vec<&str> = GOLDEN
        .lines()
        .map(|line| {
            let leaf = Leaf::decode(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(leaf.encode().expect("small"), line.as_bytes());
            leaf.kind()
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "intent",
            "signature",
            "abandoned",
            "refusal",
            "revocation",
            "crl-published",
            "eab-key",
            "policy-activated",
            "authority-installed",
            "authority-retired",
            "restored",
            "account-deactivated",
            "restored",
            "account-agreed",
            "intent",
            "refusal",
            "api-token",
            "eab-key",
            "eab-key",
            "eab-key",
            "intent",
            "account-key-changed"
        ]
    );
}

#[test]
fn a_newer_version_is_refused_in_words() {
    for newer in [small().replace("\"v\":1", "\"v\":2"), r#"{"body":[],"extra":1,"kind":"x","v":2}"#.to_owned()] {
        let error = Leaf::decode(newer.as_bytes()).expect_err("newer");
        assert_eq!(error, LeafError::NewerVersion { version: 2 });
        assert_eq!(
            error.to_string(),
            "leaf version 2 is newer than this program, which reads up to version 1: use a newer one"
        );
    }
    assert_eq!(tampered(&small(), "\"v\":1", "\"v\":0"), Err(LeafError::NoSuchVersion { version: 0 }));
}

#[test]
fn an_unknown_kind_is_refused_by_name() {
    let error = tampered(&small(), "\"abandoned\"", "\"approved\"").expect_err("unknown");
    assert_eq!(error, LeafError::UnknownKind { kind: "approved".to_owned() });
}

#[test]
fn unknown_missing_and_repeated_fields_are_refused() {
    let json = small();
    for (from, to) in [
        ("\"intent\":41", "\"intent\":41,\"new\":1"),
        ("\"intent\":41,", ""),
        ("\"intent\":41", "\"intent\":41,\"intent\":41"),
        ("\"v\":1}", "\"v\":1,\"w\":1}"),
        ("\"v\":1}", "\"v\":1,\"v\":1}"),
        ("\"kind\":\"abandoned\",", ""),
        ("\"intent\":41", "\"intent\":\"41\""),
        ("\"intent\":41", "\"intent\":-41"),
        ("\"intent\":41", "\"intent\":9007199254740992"),
        ("-_v7-_v7-_v7-_v7-_v7-w", "-_v7-_v7-_v7-_v7-_v7-x"),
        ("-_v7-_v7-_v7-_v7-_v7-w", "-_v7-_v7-_v7-_v7-_v7-w=="),
        ("-_v7-_v7-_v7-_v7-_v7-w", "+/v7-_v7-_v7-_v7-_v7-w"),
        ("-_v7-_v7-_v7-_v7-_v7-w", "-_v7"),
    ] {
        assert!(matches!(tampered(&json, from, to), Err(LeafError::Malformed { .. })), "{to}");
    }
}

#[test]
fn another_spelling_of_the_same_facts_is_refused() {
    let json = small();
    for (from, to) in [
        ("{\"body\"", " {\"body\""),
        ("\"v\":1}", "\"v\":1}\n"),
        ("\"v\":1}", "\"v\": 1}"),
        ("\"intent\":41", "\"intent\" :41"),
        ("no-signature", "no-signatur\\u0065"),
        ("1795600000123", "-1"),
        ("\"intent\":41,\"why\":\"no-signature\"", "\"why\":\"no-signature\",\"intent\":41"),
        ("\"kind\":\"abandoned\",\"v\":1", "\"v\":1,\"kind\":\"abandoned\""),
    ] {
        let error = tampered(&json, from, to).expect_err(to);
        assert_eq!(error, LeafError::NotCanonical { kind: "abandoned" }, "{to}");
    }
}

#[test]
fn an_absent_fact_is_left_out_and_null_is_refused() {
    let line = GOLDEN.lines().find(|line| line.contains("\"kind\":\"revocation\"")).expect("one of each");
    assert!(tampered(line, "\"reason\":1,", "").is_ok());
    assert!(tampered(line, "\"reason\":1,", "\"reason\":null,").is_err());
    let line = GOLDEN.lines().find(|line| line.contains("\"kind\":\"eab-key\"")).expect("one of each");
    assert!(tampered(line, "\"account\":\"AQEBAQEBAQEBAQEBAQEBAQ\"", "\"account\":null").is_err());
}

#[test]
fn a_leaf_is_at_most_65535_bytes_and_that_much_is_read() {
    let of = |length: usize| {
        Leaf::from(Abandoned {
            at: Timestamp::from_unix_millis(0),
            certificate: [0; 16],
            intent: 0,
            why: "x".repeat(length),
        })
    };
    let room = MAX_LEAF_BYTES - of(0).encode().expect("small").len();
    let largest = of(room).encode().expect("just fits");
    assert_eq!(largest.len(), MAX_LEAF_BYTES);
    assert_eq!(Leaf::decode(&largest), Ok(of(room)));
    assert_eq!(of(room + 1).encode(), Err(EncodeError::TooLarge { kind: "abandoned", size: MAX_LEAF_BYTES + 1 }));
    assert_eq!(Leaf::decode(&vec![b' '; 65_536]), Err(LeafError::TooLarge { size: 65_536 }));
}

#[test]
fn a_number_that_json_cannot_carry_is_not_written() {
    let leaf = Leaf::from(CrlPublished {
        at: Timestamp::from_unix_millis(0),
        authority: "issuing".to_owned(),
        number: 1 << 53,
        sha256: [0; 32],
        shard: 0,
    });
    assert_eq!(leaf.encode(), Err(EncodeError::NumberTooLarge { kind: "crl-published" }));
}

#[test]
fn a_hundred_names_of_ordinary_length_fit() {
    let mut leaf = Leaf::decode(GOLDEN.lines().next().expect("an intent").as_bytes()).expect("golden");
    let Leaf::Intent(intent) = &mut leaf else { panic!("the first is an intent") };
    intent.decision.names = (0..100)
        .map(|number| NameRule {
            name: format!("dns:{}-{number:03}.example.com", "a".repeat(100)),
            rule: Some("platform-hosts".into()),
        })
        .collect();
    intent.tbs = vec![0xff; 100 * 125 + 1500];
    assert!(leaf.encode().expect("fits").len() < MAX_LEAF_BYTES);
}

#[test]
fn binary_is_base64url_without_padding() {
    assert!(small().contains(&URL_SAFE_NO_PAD.encode([0xfb; 16])));
}

#[test]
fn the_page_about_the_ledger_names_every_kind_and_every_field() {
    fn names(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                found.push(name.clone());
                names(value, found);
            }),
            Value::Array(elements) => elements.iter().for_each(|element| names(element, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let page = include_str!("../../../../docs/ledger.md");
    for line in GOLDEN.lines() {
        let leaf: Value = serde_json::from_str(line).expect("JSON");
        let kind = leaf["kind"].as_str().expect("a kind");
        let row = page
            .lines()
            .find(|row| {
                row.starts_with("| `") && row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{kind}`")))
            })
            .unwrap_or_else(|| panic!("no row for {kind}"));
        let mut fields = Vec::new();
        names(&leaf["body"], &mut fields);
        // Profiles and requesters are spelled out once, in the row of the intent.
        fields.retain(|field| kind == "intent" || leaf["body"].get(field).is_some());
        for field in fields {
            assert!(row.contains(&format!("`{field}`")), "{kind}: {field}");
        }
    }
}
