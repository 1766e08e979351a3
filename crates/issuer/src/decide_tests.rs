use std::time::Duration;

use k8s_openapi::ByteString;
use serde_json::json;

use super::*;
use crate::resource::CertificateRequest;

/// A request with these conditions: type, status, reason.
fn request(conditions: &[(&str, &str, &str)]) -> CertificateRequest {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|(type_, status, reason)| {
            json!({ "type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z" })
        })
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "CertificateRequest",
        "metadata": { "name": "web-1", "namespace": "shop", "uid": "u-1" },
        "spec": {
            "request": ByteString(b"pem".to_vec()),
            "issuerRef": { "name": "corp", "kind": "ChanceryClusterIssuer", "group": "chancery.dev" },
        },
        "status": { "conditions": conditions },
    }))
    .expect("a request")
}

const APPROVED: (&str, &str, &str) = ("Approved", "True", "cert-manager.io");
const DENIAL: (&str, &str, &str) = ("Denied", "True", "policy");

fn message(step: &Step) -> String {
    match step {
        Step::AwaitIssuer(Some(Outcome::Pending { message, .. })) => message.clone(),
        other => panic!("{other:?} has no message"),
    }
}

#[test]
fn a_reference_that_is_not_exactly_ours_is_left_alone() {
    for (group, kind) in [
        ("cert-manager.io", "ChanceryIssuer"),
        ("", "ChanceryIssuer"),
        ("", ""),
        ("chancery.dev", "Issuer"),
        ("chancery.dev", "ClusterIssuer"),
        ("chancery.dev", ""),
        ("Chancery.dev", "ChanceryIssuer"),
        ("chancery.dev ", "ChanceryIssuer"),
        ("x.chancery.dev", "ChanceryClusterIssuer"),
    ] {
        let mut request = request(&[APPROVED]);
        request.spec.issuer_ref.group = group.to_owned();
        request.spec.issuer_ref.kind = kind.to_owned();
        assert_eq!(decide(&request, &IssuerState::Ready), Step::Leave(Leave::NotOurs), "{group}/{kind}");
    }
}

#[test]
fn a_request_that_is_being_deleted_is_left_alone() {
    let mut request = request(&[APPROVED]);
    request.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-11-01T00:00:00Z")).expect("a time"));
    assert_eq!(decide(&request, &IssuerState::Ready), Step::Leave(Leave::Deleted));
}

#[test]
fn what_has_its_outcome_is_never_touched_again() {
    for ready in [("Ready", "True", "Issued"), ("Ready", "False", "Failed"), ("Ready", "False", "Denied")] {
        for others in [vec![APPROVED], vec![APPROVED, DENIAL], vec![]] {
            let all: Vec<_> = others.iter().copied().chain([ready]).collect();
            assert_eq!(decide(&request(&all), &IssuerState::Ready), Step::Leave(Leave::Finished), "{all:?}");
        }
    }
    let invalid = request(&[APPROVED, ("InvalidRequest", "True", "InvalidRequest")]);
    assert_eq!(decide(&invalid, &IssuerState::Ready), Step::Leave(Leave::Finished));
}

#[test]
fn a_denial_alone_is_answered_whatever_stood_there_before() {
    for conditions in [
        vec![DENIAL],
        vec![DENIAL, APPROVED],
        vec![DENIAL, ("Ready", "Unknown", "Initializing")],
        vec![DENIAL, ("Ready", "False", "Pending")],
    ] {
        for issuer in [IssuerState::Absent, IssuerState::Ready] {
            assert_eq!(decide(&request(&conditions), &issuer), Step::Write(Outcome::Denied), "{conditions:?}");
        }
    }
}

#[test]
fn nothing_is_done_before_approval() {
    for conditions in [vec![], vec![("Approved", "False", "x")], vec![("Ready", "False", "Pending")]] {
        assert_eq!(decide(&request(&conditions), &IssuerState::Ready), Step::Leave(Leave::Unapproved));
    }
}

#[test]
fn an_absent_issuer_is_waited_for_and_named() {
    let request = request(&[APPROVED]);
    let step = decide(&request, &IssuerState::Absent);
    assert!(message(&step).contains("ChanceryClusterIssuer named \"corp\""), "{step:?}");
}

#[test]
fn an_issuer_that_is_not_ready_is_waited_for_with_its_own_words() {
    let step = decide(&request(&[APPROVED]), &IssuerState::NotReady { message: "the token is refused".to_owned() });
    assert!(message(&step).contains("its own condition says why"), "{step:?}");
    let other = decide(&request(&[APPROVED]), &IssuerState::NotReady { message: "it is down".to_owned() });
    assert_eq!(other, step, "what is wrong with it now is no reason to write to each request");
}

#[test]
fn what_a_request_is_told_already_is_not_written_again() {
    let mut request = request(&[APPROVED]);
    let Step::AwaitIssuer(Some(outcome)) = decide(&request, &IssuerState::Absent) else { panic!("it waits") };
    let mut whole = serde_json::to_value(&request).expect("JSON");
    let patch = outcome.patch(&request, "2026-11-02T00:00:00Z".parse().expect("a time")).expect("a patch");
    json_patch::patch(&mut whole, &patch).expect("it applies");
    request = serde_json::from_value(whole).expect("a request");
    assert_eq!(decide(&request, &IssuerState::Absent), Step::AwaitIssuer(None));
}

#[test]
fn an_approved_request_with_a_ready_issuer_is_signed() {
    for conditions in [vec![APPROVED], vec![APPROVED, ("Ready", "False", "Pending")]] {
        assert_eq!(decide(&request(&conditions), &IssuerState::Ready), Step::Sign);
    }
}

#[test]
fn a_certificate_without_a_word_about_it_is_looked_at_and_not_signed_again() {
    let mut request = request(&[APPROVED]);
    request.status.as_mut().expect("a status").certificate = Some(ByteString(b"pem".to_vec()));
    assert_eq!(decide(&request, &IssuerState::Ready), Step::Repair);
}

#[test]
fn the_time_for_retries_counts_from_the_approval() {
    let mut request = request(&[APPROVED]);
    request.metadata.creation_timestamp = Some(serde_json::from_value(json!("2020-01-01T00:00:00Z")).expect("a time"));
    let at = |text: &str| text.parse::<Timestamp>().expect("a time");
    let hour = Duration::from_secs(3600);
    assert!(!is_out_of_time(&request, hour, at("2026-11-01T00:59:59Z")));
    assert!(is_out_of_time(&request, hour, at("2026-11-01T01:00:01Z")));
    assert!(!is_out_of_time(&request, hour, at("2026-10-31T00:00:00Z")), "a clock that goes back fails nothing");
}

#[test]
fn a_failure_has_its_time_once_and_a_patch_tests_what_it_was_decided_upon() {
    let request = request(&[APPROVED]);
    let now: Timestamp = "2026-11-02T00:00:00Z".parse().expect("a time");
    for outcome in [Outcome::Failed { message: "no".to_owned() }, Outcome::Denied] {
        let patch = serde_json::to_value(outcome.patch(&request, now)).expect("JSON");
        assert_eq!(patch[0], json!({ "op": "test", "path": "/metadata/uid", "value": "u-1" }));
        assert_eq!(patch[1]["path"], "/status/conditions");
        assert_eq!(patch[1]["op"], "test");
        assert_eq!(patch[3], json!({ "op": "add", "path": "/status/failureTime", "value": "2026-11-02T00:00:00Z" }));
        let mut again = request.clone();
        again.status.as_mut().expect("a status").failure_time = Some("2026-11-01T00:00:00Z".to_owned());
        assert_eq!(serde_json::to_value(outcome.patch(&again, now)).expect("JSON")[3], serde_json::Value::Null);
    }
}

#[test]
fn a_patch_lands_on_nobody_elses_object_and_on_no_changed_conditions() {
    let request = request(&[APPROVED]);
    let now: Timestamp = "2026-11-02T00:00:00Z".parse().expect("a time");
    let issued = Outcome::Issued { chain: "c".to_owned(), root: "r".to_owned(), warnings: Vec::new() };
    let patch = issued.patch(&request, now).expect("a patch");
    let whole = serde_json::to_value(&request).expect("JSON");
    let mut successor = whole.clone();
    successor["metadata"]["uid"] = json!("u-2");
    json_patch::patch(&mut successor, &patch).expect_err("another UID");
    let mut denied = whole.clone();
    denied["status"]["conditions"]
        .as_array_mut()
        .expect("conditions")
        .push(json!({ "type": "Denied", "status": "True" }));
    json_patch::patch(&mut denied, &patch).expect_err("denied meanwhile");
    let mut same = whole;
    json_patch::patch(&mut same, &patch).expect("it applies");
    assert_eq!(same["status"]["conditions"][1]["reason"], "Issued");
}
