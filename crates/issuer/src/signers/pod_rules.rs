//! What a PodCertificateRequest must be, and what its answer must be for the API server to take it. Pure.

use std::{collections::BTreeMap, time::Duration};

use chancery_api::SignerProfile;
use chancery_pki::KeyKind;
use k8s_openapi::{
    api::{certificates::v1::PodCertificateRequestSpec, core::v1::Pod},
    jiff::Timestamp,
};
use kube::core::Status;

use super::pod_request::Outcome;

/// The reason that Kubernetes has for a key that a signer does not take.
pub(super) const UNSUPPORTED_KEY: &str = "UnsupportedKeyType";
/// How long before its issuance a certificate may begin, in seconds: the server refuses more, so that something is left of
/// what the API server takes.
pub(super) const BACKDATE_MAX_S: u64 = 240;
/// Shortest time from the first second of a certificate to its last, in seconds.
const SPAN_MIN_S: u64 = 3600;
/// What the API server puts in where no longest life is named, in seconds.
const USUAL_MAX_S: u64 = 86_400;
/// How far from the ends of a certificate its renewal begins at least.
const REFRESH_MARGIN: Duration = Duration::from_secs(600);
/// Annotations that are named in a message, at most.
const NAMED_MAX: usize = 5;
/// The mark of a pod that a node runs on its own account and only shows to the API server.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What a request names, as it was found; none where there is no such thing.
#[derive(Debug, Default)]
pub(super) struct LookedUp {
    pub(super) pod: Option<Pod>,
    /// The UID of the service account of this name.
    pub(super) account_uid: Option<String>,
    /// The UID of the node of this name.
    pub(super) node_uid: Option<String>,
}

/// The times of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refresh {
    pub(super) not_before: Timestamp,
    pub(super) begin_refresh_at: Timestamp,
    pub(super) not_after: Timestamp,
}

/// No annotation means anything to this signer, and one that means nothing must be denied.
pub(super) fn check_annotations(annotations: Option<&BTreeMap<String, String>>) -> Option<Outcome> {
    let annotations = annotations.filter(|annotations| !annotations.is_empty())?;
    let named: Vec<&str> = annotations.keys().take(NAMED_MAX).map(String::as_str).collect();
    let more = if annotations.len() > NAMED_MAX { ", …" } else { "" };
    let message = format!("This signer knows no userAnnotations; leave out {}{more}", named.join(", "));
    Some(Outcome::Denied { reason: "InvalidUnverifiedUserAnnotations", message })
}

/// Whether pod, service account and node are those that the request names: what the API server asks of nodes
/// (NodeRestriction), and of nobody else.
pub(super) fn check_pod(spec: &PodCertificateRequestSpec, found: &LookedUp) -> Option<Outcome> {
    let denied = |message: String| Some(Outcome::Denied { reason: "PodMismatch", message });
    let PodCertificateRequestSpec { pod_name, pod_uid, service_account_name, service_account_uid, .. } = spec;
    let PodCertificateRequestSpec { node_name, node_uid, .. } = spec;
    let LookedUp { pod, account_uid, node_uid: found_node_uid } = found;
    let Some(pod) = pod.as_ref().filter(|pod| pod.metadata.uid.as_deref() == Some(pod_uid)) else {
        return denied(format!("There is no pod {pod_name} with the UID {pod_uid}"));
    };
    if pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR)) {
        return denied(format!("The pod {pod_name} is a mirror pod, and such pods have no identity of the cluster"));
    }
    let runs = pod.spec.as_ref();
    let runs_as = runs.and_then(|runs| runs.service_account_name.as_deref()).unwrap_or("default");
    if runs_as != service_account_name {
        return denied(format!("The pod {pod_name} runs as {runs_as}, not as {service_account_name}"));
    }
    let node = runs.and_then(|runs| runs.node_name.as_deref()).unwrap_or_default();
    if node != node_name {
        let where_ = if node.is_empty() { "on no node yet".to_owned() } else { format!("on the node {node}") };
        return denied(format!("The pod {pod_name} is {where_}, not on {node_name}"));
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return denied(format!("The pod {pod_name} has ended"));
    }
    if account_uid.as_ref() != Some(service_account_uid) {
        return denied(format!(
            "There is no service account {service_account_name} with the UID {service_account_uid}"
        ));
    }
    if found_node_uid.as_ref() != Some(node_uid) {
        return denied(format!("There is no node {node_name} with the UID {node_uid}"));
    }
    None
}

/// The life to ask for, in seconds: the longest that request and profile allow. A life counts its last second, too; the
/// API server counts from the first second to the last.
///
/// # Errors
///
/// A sentence for whoever runs the issuer: its profile is too short for every pod.
pub(super) fn life(max_expiration_seconds: Option<i32>, profile: &SignerProfile) -> Result<u64, String> {
    let span = max_expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(USUAL_MAX_S);
    let life = span.saturating_add(1).min(profile.lifetime_max_s);
    if life <= SPAN_MIN_S {
        return Err(format!(
            "The longest life of profile \"{}\" is {} s; Kubernetes takes {} s or more for a pod: raise its lifetime_max",
            profile.name,
            profile.lifetime_max_s,
            SPAN_MIN_S + 1
        ));
    }
    Ok(life)
}

/// Whether the API server refuses a status since the certificate does not begin within five minutes of its clock. Of the
/// rules about `notBefore` that is the only one that a status of ours can break.
pub(super) fn begins_at_another_time(why: &Status) -> bool {
    let causes = why.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.field == "status.notBefore")
}

/// When to renew: after two thirds of its life. A life that the API server would never take is not sent there.
///
/// # Errors
///
/// A sentence: which rule.
pub(super) fn refresh(
    not_before: Timestamp,
    not_after: Timestamp,
    max_expiration_seconds: Option<i32>,
) -> Result<Refresh, String> {
    let span = u64::try_from(not_after.duration_since(not_before).as_secs()).unwrap_or(0);
    let most = max_expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(USUAL_MAX_S);
    if span < SPAN_MIN_S || span > most {
        return Err(format!(
            "The certificate lasts {span} s from {not_before} on; Kubernetes takes {SPAN_MIN_S} to {most} s for this pod"
        ));
    }
    let margin = REFRESH_MARGIN.as_secs();
    let after = (span / 3 * 2).clamp(margin, span - margin);
    let begin_refresh_at = not_before.checked_add(Duration::from_secs(after)).map_err(|error| error.to_string())?;
    Ok(Refresh { not_before, begin_refresh_at, not_after })
}

/// A kind of key as servers write it in what they offer.
pub(super) fn configured(kind: KeyKind) -> String {
    kind.as_str().to_lowercase().replace('-', "")
}

/// Which `keyType` of a pod's `podCertificate` this signer takes.
pub(super) fn suggestion(keys: &[String]) -> String {
    // As Kubernetes writes them; pods have no RSA-2048.
    let known = |key: &String| match key.as_str() {
        "rsa3072" => Some("RSA3072"),
        "rsa4096" => Some("RSA4096"),
        "p256" => Some("ECDSAP256"),
        "p384" => Some("ECDSAP384"),
        "p521" => Some("ECDSAP521"),
        "ed25519" => Some("ED25519"),
        _ => None,
    };
    let known: Vec<&str> = keys.iter().filter_map(known).collect();
    if known.is_empty() {
        "the profile takes no key that pods can have".to_owned()
    } else {
        format!("set keyType to one of {}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec() -> PodCertificateRequestSpec {
        serde_json::from_value(json!({
            "signerName": "chanceryclusterissuers.chancery.dev/mesh", "podName": "web", "podUID": "p-1",
            "serviceAccountName": "shop", "serviceAccountUID": "s-1", "nodeName": "node-1", "nodeUID": "n-1",
            "stubPKCS10Request": "",
        }))
        .expect("a spec")
    }

    fn pod(more: &Value) -> Pod {
        let mut pod = json!({
            "metadata": { "name": "web", "uid": "p-1" },
            "spec": { "serviceAccountName": "shop", "nodeName": "node-1", "containers": [] },
        });
        json_patch::merge(&mut pod, more);
        serde_json::from_value(pod).expect("a pod")
    }

    fn found(more: &Value) -> LookedUp {
        LookedUp { pod: Some(pod(more)), account_uid: Some("s-1".to_owned()), node_uid: Some("n-1".to_owned()) }
    }

    fn message(outcome: Option<Outcome>) -> String {
        match outcome {
            Some(Outcome::Denied { reason: "PodMismatch", message }) => message,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_request_for_the_pod_as_it_is_passes_and_any_difference_is_denied() {
        let none = json!({});
        assert_eq!(check_pod(&spec(), &found(&none)), None);
        for (more, words) in [
            (json!({ "metadata": { "uid": "p-2" } }), "no pod web with the UID p-1"),
            (json!({ "spec": { "serviceAccountName": "other" } }), "runs as other, not as shop"),
            (json!({ "spec": { "serviceAccountName": null } }), "runs as default"),
            (json!({ "spec": { "nodeName": "node-2" } }), "on the node node-2, not on node-1"),
            (json!({ "spec": { "nodeName": null } }), "on no node yet"),
            (json!({ "status": { "phase": "Succeeded" } }), "has ended"),
            (json!({ "metadata": { "annotations": { "kubernetes.io/config.mirror": "x" } } }), "a mirror pod"),
        ] {
            let said = message(check_pod(&spec(), &found(&more)));
            assert!(said.contains(words), "{said}");
        }
        assert!(message(check_pod(&spec(), &LookedUp { pod: None, ..found(&none) })).contains("no pod web"));
        for uid in [None, Some("other".to_owned())] {
            let said = message(check_pod(&spec(), &LookedUp { account_uid: uid.clone(), ..found(&none) }));
            assert!(said.contains("no service account shop with the UID s-1"), "{said}");
            let said = message(check_pod(&spec(), &LookedUp { node_uid: uid, ..found(&none) }));
            assert!(said.contains("no node node-1 with the UID n-1"), "{said}");
        }
    }

    #[test]
    fn annotations_that_mean_nothing_here_are_denied_by_name() {
        assert_eq!(check_annotations(None), None);
        assert_eq!(check_annotations(Some(&BTreeMap::new())), None);
        let one = BTreeMap::from([("example.com/team".to_owned(), "x".to_owned())]);
        let Some(Outcome::Denied { reason, message }) = check_annotations(Some(&one)) else {
            unreachable!("it is denied");
        };
        assert_eq!(reason, "InvalidUnverifiedUserAnnotations");
        assert!(message.contains("example.com/team"), "{message}");
    }

    fn profile(lifetime_max_s: u64) -> SignerProfile {
        let (name, keys) = ("pods".to_owned(), vec!["rsa2048".to_owned(), "p256".to_owned(), "ed25519".to_owned()]);
        SignerProfile { name, keys, lifetime_s: 60, lifetime_min_s: 60, lifetime_max_s, backdate_s: Some(60) }
    }

    #[test]
    fn the_life_is_the_longest_that_request_and_profile_allow() {
        assert_eq!(life(Some(7200), &profile(1_000_000)), Ok(7201));
        assert_eq!(life(None, &profile(1_000_000)), Ok(86_401));
        assert_eq!(life(Some(86_400), &profile(7200)), Ok(7200));
        assert_eq!(life(Some(3600), &profile(1_000_000)), Ok(3601));
        assert!(life(Some(86_400), &profile(3600)).expect_err("too short").contains("raise its lifetime_max"));
    }

    #[test]
    fn a_renewal_begins_well_inside_and_what_the_api_server_would_refuse_is_not_sent() {
        let at = |seconds: i64| Timestamp::from_second(1_795_600_000 + seconds).expect("in range");
        let day = refresh(at(-60), at(86_340), Some(86_400)).expect("a day");
        assert_eq!(day.begin_refresh_at, at(-60 + 57_600));
        let hour = refresh(at(0), at(3600), Some(3600)).expect("an hour");
        assert_eq!(hour.begin_refresh_at, at(2400));
        for (not_after, words) in [(3599, "lasts 3599 s"), (86_401, "lasts 86401 s")] {
            let refused = refresh(at(0), at(not_after), Some(86_400)).expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn a_refusal_for_the_time_is_told_from_any_other() {
        let refused = |field: &str| -> Status {
            serde_json::from_value(json!({
                "code": 422, "reason": "Invalid", "details": { "causes": [{ "reason": "FieldValueInvalid", "field": field }] },
            }))
            .expect("a status")
        };
        assert!(begins_at_another_time(&refused("status.notBefore")));
        assert!(!begins_at_another_time(&refused("status.certificateChain")));
        assert!(!begins_at_another_time(&Status::failure("no causes", "Invalid")));
    }

    #[test]
    fn key_types_are_suggested_as_pods_write_them() {
        assert_eq!(suggestion(&profile(0).keys), "set keyType to one of ECDSAP256, ED25519");
        assert!(suggestion(&["rsa2048".to_owned()]).contains("no key that pods can have"));
        assert_eq!(configured(KeyKind::Ed25519), "ed25519");
    }
}
