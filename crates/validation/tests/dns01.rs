//! dns-01 (RFC 8555 §8.4) against a DNS server of the test's own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::time::Duration;

use chancery_acme::{challenge::ChallengeKind::Dns01, problem::ProblemType};
use chancery_egress::ZoneSpec;
use chancery_validation::{NetworkValidator, ValidationSettings};
use hickory_proto::op::ResponseCode;
use support::{
    KEY_AUTHORIZATION, dialer,
    dns::{FakeDns, Reply, Transport, cname, txt},
    failure, look, settings, validator,
};

/// `printf %s "$KEY_AUTHORIZATION" | openssl dgst -sha256 -binary | basenc --base64url`
const DIGEST: &str = "F02_Wg8SCP1IhaPtbTIHdct6H5WDz5JmUXWwALQs-gU";

const OWNER: &str = "_acme-challenge.a.example";

fn zone(dns: &FakeDns) -> ZoneSpec {
    ZoneSpec { name: "default".to_owned(), resolvers: vec![dns.address], ..ZoneSpec::default() }
}

#[tokio::test]
async fn any_one_txt_record_may_match() {
    let dns = FakeDns::with(vec![txt(OWNER, &["other"]), txt(OWNER, &[DIGEST]), txt(OWNER, &[""])]).await;
    let evidence = look(&validator(zone(&dns)), "a.example", Dns01).await.unwrap();
    assert_eq!(evidence.summary, "dns-01: one of 3 TXT records at _acme-challenge.a.example");
}

#[tokio::test]
async fn a_wildcard_is_looked_for_at_its_base() {
    let dns = FakeDns::with(vec![txt(OWNER, &[DIGEST])]).await;
    look(&validator(zone(&dns)), "*.a.example", Dns01).await.unwrap();
    assert!(dns.seen().iter().all(|question| question.name == OWNER));
}

#[tokio::test]
async fn split_strings_are_joined_and_cnames_followed() {
    let (head, tail) = DIGEST.split_at(20);
    let records =
        vec![cname(OWNER, "b.other.test"), cname("b.other.test", "c.other.test"), txt("c.other.test", &[head, tail])];
    let dns = FakeDns::with(records).await;
    look(&validator(zone(&dns)), "a.example", Dns01).await.unwrap();
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_over_tcp() {
    let dns = FakeDns::start(|question| match question.transport {
        Transport::Udp => Reply::Truncated,
        Transport::Tcp => Reply::Records((0..300).map(|_| txt(OWNER, &["x"])).chain([txt(OWNER, &[DIGEST])]).collect()),
    })
    .await;
    look(&validator(zone(&dns)), "a.example", Dns01).await.unwrap();
}

#[tokio::test]
async fn nothing_but_the_digest_itself_matches() {
    let wrong = [
        KEY_AUTHORIZATION.to_owned(),
        format!("{DIGEST}="),
        format!(" {DIGEST}"),
        format!("{DIGEST}\n"),
        DIGEST.to_ascii_lowercase(),
        DIGEST[..42].to_owned(),
        format!("{DIGEST}{DIGEST}"),
    ];
    let records = wrong.iter().map(|value| txt(OWNER, &[value])).collect();
    // At the name itself, or at its parent's, it shows nothing.
    let elsewhere = vec![txt("a.example", &[DIGEST]), txt("_acme-challenge.example", &[DIGEST])];
    let dns = FakeDns::with([records, elsewhere].concat()).await;
    let (kind, detail) = failure(&validator(zone(&dns)), "a.example", Dns01).await;
    assert_eq!(kind, ProblemType::IncorrectResponse);
    assert!(detail.contains("has 7 TXT records") && detail.contains(DIGEST), "{detail}");
}

#[tokio::test]
async fn what_was_read_is_in_no_error() {
    let dns = FakeDns::with(vec![cname(OWNER, "s3cr3t.test"), txt("s3cr3t.test", &["s3cr3t"])]).await;
    let (_, detail) = failure(&validator(zone(&dns)), "a.example", Dns01).await;
    assert!(!detail.contains("s3cr3t"), "{detail}");
}

#[tokio::test]
async fn a_failing_server_and_a_record_that_is_not_there_yet_are_looked_at_again() {
    let dns = FakeDns::start(|question| match question.index {
        0 | 1 => Reply::Code(ResponseCode::ServFail, Vec::new()),
        2 => Reply::Code(ResponseCode::NXDomain, Vec::new()),
        3 => Reply::Records(Vec::new()),
        4 => Reply::Records(vec![txt(OWNER, &["the last challenge's"])]),
        _ => Reply::Records(vec![txt(OWNER, &[DIGEST])]),
    })
    .await;
    let settings = ValidationSettings { pauses: vec![Duration::from_millis(1); 5], ..settings() };
    let validator = NetworkValidator::new(dialer(zone(&dns)), settings).unwrap();
    look(&validator, "a.example", Dns01).await.unwrap();
    assert_eq!(validator.counters().of(Dns01).looks.value(), 5);
}

#[tokio::test]
async fn what_the_dns_says_is_a_dns_problem_in_its_own_words() {
    let dns = FakeDns::start(|question| match &*question.name {
        "_acme-challenge.none.example" => Reply::Code(ResponseCode::NXDomain, Vec::new()),
        "_acme-challenge.empty.example" => Reply::Records(Vec::new()),
        "_acme-challenge.circle.example" => Reply::Records(vec![cname(&question.name, &question.name)]),
        _ => Reply::Code(ResponseCode::ServFail, Vec::new()),
    })
    .await;
    let validator = validator(zone(&dns));
    for (name, words) in [
        ("none.example", "does not exist in DNS (NXDOMAIN)"),
        ("empty.example", "has no TXT records in DNS"),
        ("circle.example", ""),
        ("broken.example", "could not say whether _acme-challenge.broken.example has TXT records"),
    ] {
        let (kind, detail) = failure(&validator, name, Dns01).await;
        assert_eq!(kind, ProblemType::Dns, "{name}");
        assert!(detail.contains(words), "{detail}");
    }
}

#[tokio::test]
async fn an_address_cannot_be_shown_by_dns() {
    let dns = FakeDns::with(Vec::new()).await;
    let (_, detail) = failure(&validator(zone(&dns)), "127.0.0.1", Dns01).await;
    assert_eq!(detail, "dns-01 cannot show control of 127.0.0.1");
    assert!(dns.seen().is_empty());
}
