//! The JSON of RFC 8555 §7.1, word for word: what the RFC prints is the oracle.

use chancery_acme::{
    authorization,
    challenge::{self, ChallengeKind, ChallengeState, Token},
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
    order::{self, OrderState},
    problem::{self, ProblemType},
    urls::Urls,
    wire::{
        self, Account, Authorization, Finalize, Identifier, IdentifierRejection, NewAccount, NewOrder,
        NewOrderRejection, Order, Revoke, json,
    },
};
use chancery_pki::{Name, NameSet, Timestamp};
use serde_json::{Value, json};

const ID: [u8; 16] = [0; 16];
const ID_TEXT: &str = "AAAAAAAAAAAAAAAAAAAAAA";

fn urls() -> Urls {
    Urls::new("https://ca.example", "default")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn order(state: OrderState) -> order::Order {
    order::Order {
        id: OrderId::from_octets(ID),
        account: AccountId::from_random(ID),
        directory: "default".into(),
        tenant: None,
        names: NameSet::new([name("www.example.org"), name("*.example.org"), name("192.0.2.7")]).expect("names"),
        profile: "server".into(),
        not_before: None,
        not_after: Some(at("2026-12-01T00:00:00Z")),
        replaces: Some("AQI.AP8".parse().expect("an identifier")),
        authorizations: vec![AuthorizationId::from_octets(ID)],
        state,
        created: at("2026-11-25T10:00:00Z"),
        expires: at("2026-11-26T10:00:00Z"),
    }
}

fn order_json(state: OrderState, now: &str) -> Value {
    serde_json::to_value(Order::of(&order(state), at(now), &urls())).expect("serializes")
}

fn authorization(text: &str, challenges: Vec<challenge::Challenge>) -> authorization::Authorization {
    authorization::Authorization {
        id: AuthorizationId::from_octets(ID),
        account: AccountId::from_random(ID),
        order: OrderId::from_octets(ID),
        name: name(text),
        state: authorization::AuthorizationState::Pending,
        expires: at("2026-11-26T10:00:00Z"),
        challenges,
    }
}

#[test]
fn an_order_has_the_members_of_section_7_1_3_and_no_certificate_until_it_is_valid() {
    let pending = order_json(OrderState::Pending, "2026-11-25T11:00:00Z");
    assert_eq!(
        pending,
        json!({
            "status": "pending",
            "expires": "2026-11-26T10:00:00Z",
            "identifiers": [
                {"type": "dns", "value": "www.example.org"},
                {"type": "dns", "value": "*.example.org"},
                {"type": "ip", "value": "192.0.2.7"},
            ],
            "notAfter": "2026-12-01T00:00:00Z",
            "profile": "server",
            "replaces": "AQI.AP8",
            "authorizations": [format!("https://ca.example/acme/default/authorization/{ID_TEXT}")],
            "finalize": format!("https://ca.example/acme/default/order/{ID_TEXT}/finalize"),
        })
    );
    let certificate = CertificateId::from_random(ID);
    let processing = order_json(OrderState::Processing { certificate }, "2026-11-25T11:00:00Z");
    assert_eq!((&processing["status"], processing.get("certificate")), (&json!("processing"), None));
    let valid = order_json(OrderState::Valid { certificate }, "2036-11-25T11:00:00Z");
    assert_eq!(valid["status"], "valid");
    assert_eq!(valid["certificate"], format!("https://ca.example/acme/default/certificate/{ID_TEXT}"));
    let read: Order = serde_json::from_value(valid.clone()).expect("reads back");
    assert_eq!(serde_json::to_value(read).expect("serializes"), valid);
}

#[test]
fn an_invalid_order_says_why_and_an_expired_one_is_invalid() {
    let subproblem = problem::Subproblem {
        kind: ProblemType::Dns,
        detail: "no such name".into(),
        name: Some(name("www.example.org")),
    };
    let error =
        problem::Problem::new(ProblemType::Dns, "www.example.org: no such name").with_subproblems(vec![subproblem]);
    let invalid = order_json(OrderState::Invalid { error }, "2026-11-25T11:00:00Z");
    assert_eq!(invalid["status"], "invalid");
    assert_eq!(
        invalid["error"],
        json!({
            "type": "urn:ietf:params:acme:error:dns",
            "detail": "www.example.org: no such name",
            "status": 400,
            "subproblems": [{
                "type": "urn:ietf:params:acme:error:dns",
                "detail": "no such name",
                "identifier": {"type": "dns", "value": "www.example.org"},
            }],
        })
    );
    let expired = order_json(OrderState::Ready, "2026-11-26T10:00:00Z");
    assert_eq!(expired["status"], "invalid");
    assert!(expired["error"]["detail"].as_str().expect("a detail").contains("expired at 2026-11-26T10:00:00Z"));
}

#[test]
fn a_wildcard_authorization_shows_its_base_and_wildcard_true_and_others_no_wildcard_at_all() {
    let now = at("2026-11-25T11:00:00Z");
    let token = Token::from_random([0xff; 16]);
    let pending = challenge::Challenge { kind: ChallengeKind::Dns01, token, state: ChallengeState::Pending };
    let wildcard = Authorization::of(&authorization("*.example.org", vec![pending]), now, &urls());
    assert_eq!(
        serde_json::to_value(&wildcard).expect("serializes"),
        json!({
            "identifier": {"type": "dns", "value": "example.org"},
            "status": "pending",
            "expires": "2026-11-26T10:00:00Z",
            "challenges": [{
                "type": "dns-01",
                "url": format!("https://ca.example/acme/default/challenge/{ID_TEXT}/dns-01"),
                "status": "pending",
                "token": "_____________________w",
            }],
            "wildcard": true,
        })
    );
    let plain = serde_json::to_value(Authorization::of(&authorization("example.org", vec![]), now, &urls()));
    assert_eq!(plain.expect("serializes").get("wildcard"), None);
}

#[test]
fn a_valid_challenge_has_validated_and_an_invalid_one_its_error() {
    let urls = urls();
    let show = |state| {
        let token = Token::from_random(ID);
        let challenge = challenge::Challenge { kind: ChallengeKind::Http01, token, state };
        serde_json::to_value(wire::Challenge::of(&challenge, AuthorizationId::from_octets(ID), &urls)).expect("json")
    };
    let validated = at("2026-11-25T10:30:00Z");
    let valid = show(ChallengeState::Valid { validated });
    assert_eq!((&valid["status"], &valid["validated"]), (&json!("valid"), &json!("2026-11-25T10:30:00Z")));
    let error = problem::Problem::new(ProblemType::Connection, "nobody answered at 192.0.2.1:80");
    let invalid = show(ChallengeState::Invalid { error });
    assert_eq!(invalid["error"]["type"], "urn:ietf:params:acme:error:connection");
    assert_eq!(invalid.get("validated"), None);
    assert_eq!(show(ChallengeState::Processing { since: validated })["status"], "processing");
}

#[test]
fn an_account_always_has_orders_and_reflects_neither_only_return_existing_nor_unknown_members() {
    let payload: NewAccount = json::payload(
        br#"{"contact":["mailto:a@example.org"],"termsOfServiceAgreed":true,"onlyReturnExisting":false,
            "orders":"https://evil.example/","planted":{"x":[1]},"externalAccountBinding":{"protected":"e30"}}"#,
    )
    .expect("unknown members are ignored");
    assert_eq!(payload.contact.as_deref(), Some(&["mailto:a@example.org".to_owned()][..]));
    assert_eq!((payload.terms_of_service_agreed, payload.only_return_existing), (Some(true), Some(false)));
    let account: Account = serde_json::from_value(json!({
        "status": "valid", "contact": ["mailto:a@example.org"], "orders": urls().orders(AccountId::from_random(ID)),
    }))
    .expect("reads");
    assert_eq!(
        serde_json::to_value(account).expect("serializes"),
        json!({
            "status": "valid",
            "contact": ["mailto:a@example.org"],
            "orders": format!("https://ca.example/acme/default/account/{ID_TEXT}/orders"),
        })
    );
}

fn new_order(text: &str) -> NewOrder {
    json::payload(text.as_bytes()).expect("a newOrder payload")
}

#[test]
fn an_order_refuses_every_identifier_that_cannot_be_read_not_only_the_first() {
    let request = new_order(
        r#"{"identifiers":[{"type":"dns","value":"ok.example"},{"type":"dns","value":"a..b"},
            {"type":"email","value":"a@b.example"},{"type":"ip","value":"2001:DB8::1"}]}"#,
    );
    let Err(NewOrderRejection::Identifiers { count: 4, refused }) = request.names() else { panic!("taken") };
    let values: Vec<&str> = refused.iter().map(|(identifier, _)| identifier.value.as_str()).collect();
    assert_eq!(values, ["a..b", "a@b.example", "2001:DB8::1"]);
    assert!(matches!(refused[1].1, IdentifierRejection::UnsupportedType { .. }));
}

#[test]
fn duplicate_identifiers_are_folded_case_aside_and_empty_or_endless_lists_are_refused() {
    let twice = r#"{"identifiers":[{"type":"dns","value":"A.example"},{"type":"dns","value":"a.EXAMPLE"}]}"#;
    assert_eq!(new_order(twice).names().expect("names").len(), 1);
    assert_eq!(new_order(r#"{"identifiers":[]}"#).names(), Err(NewOrderRejection::NoIdentifiers));
    let many: Vec<String> = (0..101).map(|n| format!(r#"{{"type":"dns","value":"h{n}.example"}}"#)).collect();
    let many = format!(r#"{{"identifiers":[{}]}}"#, many.join(","));
    assert_eq!(new_order(&many).names(), Err(NewOrderRejection::TooManyIdentifiers { count: 101 }));
    let label = "a".repeat(60);
    let long: Vec<String> = (0..100)
        .map(|n| format!(r#"{{"type":"dns","value":"{n:03}.{label}.{label}.{label}.{label}.long"}}"#))
        .collect();
    let long = format!(r#"{{"identifiers":[{}]}}"#, long.join(","));
    let octets = 100 * (4 + 4 * 61 + 4);
    assert_eq!(new_order(&long).names(), Err(NewOrderRejection::IdentifiersTooLong { octets }));
}

#[test]
fn an_order_needs_identifiers_that_are_objects() {
    for text in [r#"{}"#, r#"{"identifiers":[["dns","a.example"]]}"#, r#"{"identifiers":{"type":"dns"}}"#, r#"[[]]"#] {
        assert!(json::payload::<NewOrder>(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn times_are_read_as_rfc_3339_or_refused() {
    let order = new_order(r#"{"identifiers":[],"notBefore":"2026-11-25T10:00:00+01:00","notAfter":"tomorrow"}"#);
    assert_eq!(order.not_before(), Ok(Some(at("2026-11-25T09:00:00Z"))));
    assert_eq!(order.not_after(), Err(NewOrderRejection::NotATime { member: "notAfter" }));
}

#[test]
fn a_csr_with_padding_is_refused() {
    assert_eq!(Finalize::parse(br#"{"csr":"AQI"}"#).expect("a payload").csr(), Ok(vec![1, 2]));
    assert!(Finalize::parse(br#"{"csr":"AQI="}"#).expect("a payload").csr().is_err());
}

#[test]
fn a_revocation_reason_is_a_whole_number_or_absent() {
    let reason = |text: &str| json::payload::<Revoke>(text.as_bytes()).expect("a payload").reason();
    assert_eq!(reason(r#"{"certificate":"AQI"}"#), Ok(None));
    assert_eq!(reason(r#"{"certificate":"AQI","reason":4}"#), Ok(Some(4)));
    for odd in ["\"4\"", "4.5", "-1", "[]", "true"] {
        assert!(reason(&format!(r#"{{"certificate":"AQI","reason":{odd}}}"#)).is_err(), "{odd}");
    }
}

#[test]
fn a_problem_keeps_its_type_status_and_words_and_is_never_longer_than_a_page() {
    for kind in ProblemType::ALL {
        let document = wire::Problem::of(&problem::Problem::new(*kind, "words"));
        assert_eq!(document.kind, format!("urn:ietf:params:acme:error:{}", kind.token()));
        assert_eq!(document.status, kind.status());
    }
    let long = wire::Problem::of(&problem::Problem::new(ProblemType::Malformed, "ü".repeat(50_000)));
    assert!(long.detail.len() < 2100 && long.detail.starts_with('ü') && long.detail.ends_with('…'));
}

#[test]
fn identifiers_stand_in_subproblems_alone() {
    let subproblem = problem::Subproblem {
        kind: ProblemType::RejectedIdentifier,
        detail: "refused by rule no-apex-wildcards".into(),
        name: Some(name("*.example.org")),
    };
    let rejected = problem::Problem::new(ProblemType::RejectedIdentifier, "1 of 1 names is refused")
        .with_subproblems(vec![subproblem]);
    let document = serde_json::to_value(wire::Problem::of(&rejected)).expect("serializes");
    assert_eq!(document.get("identifier"), None);
    assert_eq!(document["subproblems"][0]["identifier"], json!({"type": "dns", "value": "*.example.org"}));
}

#[test]
fn every_identifier_that_is_written_is_read_back() {
    for text in ["a.example", "*.a.example", "10.0.0.1", "2001:db8::1"] {
        let identifier = Identifier::of(&name(text));
        assert_eq!(identifier.name(), Ok(name(text)));
    }
}
