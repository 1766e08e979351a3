//! Requests that nobody approves: after a while an event says which right is missing.
//!
//! They are no work, so the board does not have them. What is kept of each is a reference and a time, of a bounded
//! number.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource as _, runtime::events::EventType};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    condition::{Notice, cut},
    events::Events,
    resource::{CLUSTER_ISSUER, CertificateRequest},
};

/// Most that are kept.
const KEPT_MAX: usize = 2048;
/// Most of one namespace that are kept: they all lack the same.
const OF_ONE_NAMESPACE: usize = 32;

#[derive(Debug)]
struct Kept {
    about: ObjectReference,
    /// None when people have been told.
    hint: Option<String>,
    due: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Unapproved {
    kept: Mutex<HashMap<Box<str>, Kept>>,
    after: Duration,
    changed: Notify,
}

impl Unapproved {
    /// People are told after so long.
    pub(crate) fn new(after: Duration) -> Self {
        Self { kept: Mutex::default(), after, changed: Notify::new() }
    }

    /// The watch shows a request of ours.
    pub(crate) fn observe(&self, request: &CertificateRequest, now: Instant) {
        let Some(uid) = request.metadata.uid.as_deref() else { return };
        let waits = !request.is("Approved")
            && !request.is("Denied")
            && !crate::decide::is_finished(request)
            && request.metadata.deletion_timestamp.is_none();
        let mut kept = self.kept();
        if !waits {
            kept.remove(uid);
            return;
        }
        let namespace = request.metadata.namespace.as_deref();
        let same = |other: &&Kept| other.about.namespace.as_deref() == namespace;
        if kept.contains_key(uid) || kept.len() >= KEPT_MAX || kept.values().filter(same).count() >= OF_ONE_NAMESPACE {
            return;
        }
        let about = request.object_ref(&());
        kept.insert(uid.into(), Kept { about, hint: Some(hint(request, self.after)), due: now + self.after });
        drop(kept);
        self.changed.notify_one();
    }

    /// The object is not there any more.
    pub(crate) fn forget(&self, uid: &str) {
        self.kept().remove(uid);
    }

    /// What people are to be told now, and when to look again.
    fn due(&self, now: Instant) -> (Vec<(ObjectReference, String)>, Option<Instant>) {
        let mut kept = self.kept();
        let due = kept.values_mut().filter(|kept| kept.due <= now);
        let told = due.filter_map(|kept| Some((kept.about.clone(), kept.hint.take()?))).collect();
        let next = kept.values().filter(|kept| kept.hint.is_some()).map(|kept| kept.due).min();
        (told, next)
    }

    /// Tells people until `stop`.
    pub(crate) async fn tell(self: Arc<Self>, events: Events, stop: CancellationToken) {
        loop {
            let (told, next) = self.due(Instant::now());
            for (about, note) in told {
                events.publish(about, Notice { kind: EventType::Warning, reason: "WaitingForApproval", note });
            }
            let far = Instant::now() + Duration::from_hours(1);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = sleep_until(next.unwrap_or(far)) => {}
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Box<str>, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is missing, to the letter.
fn hint(request: &CertificateRequest, after: Duration) -> String {
    let reference = &request.spec.issuer_ref;
    let resource = if reference.kind == CLUSTER_ISSUER {
        format!("chanceryclusterissuers.chancery.dev/{}", reference.name)
    } else {
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        format!("chanceryissuers.chancery.dev/{namespace}.{}", reference.name)
    };
    let waited = after.as_secs();
    let hint = format!(
        "Nobody has approved or denied this CertificateRequest for {waited} s, and nothing is signed before. Where \
         cert-manager shall approve, bind a ClusterRole with this rule to its service account: \
         {{apiGroups: [cert-manager.io], resources: [signers], verbs: [approve], resourceNames: [{resource}]}} (the \
         chart's approver role has it for all of these issuers). With approver-policy, a CertificateRequestPolicy must \
         select this issuer, and whoever made the request needs the verb use of it"
    );
    cut(&hint, 1000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(uid: &str, namespace: &str, kind: &str, conditions: &[&str]) -> CertificateRequest {
        let conditions: Vec<_> =
            conditions.iter().map(|kind| json!({ "type": kind, "status": "True", "reason": "x" })).collect();
        serde_json::from_value(json!({
            "metadata": { "name": uid, "namespace": namespace, "uid": uid },
            "spec": { "request": "", "issuerRef": { "name": "corp", "kind": kind, "group": "chancery.dev" } },
            "status": { "conditions": conditions },
        }))
        .expect("a request")
    }

    #[test]
    fn people_are_told_once_and_to_the_letter_what_is_missing() {
        let (unapproved, now) = (Unapproved::new(Duration::from_secs(300)), Instant::now());
        unapproved.observe(&request("a", "shop", CLUSTER_ISSUER, &[]), now);
        unapproved.observe(&request("b", "shop", "ChanceryIssuer", &[]), now);
        let later = now + Duration::from_secs(300);
        assert_eq!(unapproved.due(now), (Vec::new(), Some(later)));
        let mut hints: Vec<String> = unapproved.due(later).0.into_iter().map(|(_, hint)| hint).collect();
        hints.sort();
        let [first, second] = hints.as_slice() else { panic!("{hints:?}") };
        assert!(first.contains("resourceNames: [chanceryclusterissuers.chancery.dev/corp]"), "{first}");
        assert!(second.contains("resourceNames: [chanceryissuers.chancery.dev/shop.corp]"), "{second}");
        unapproved.observe(&request("a", "shop", CLUSTER_ISSUER, &[]), later);
        assert_eq!(unapproved.due(later), (Vec::new(), None), "a label that changes is no reason to tell it again");
    }

    #[test]
    fn who_is_approved_denied_or_gone_in_time_is_no_news() {
        let (unapproved, now) = (Unapproved::new(Duration::ZERO), Instant::now());
        for uid in ["approved", "denied", "gone"] {
            unapproved.observe(&request(uid, "shop", CLUSTER_ISSUER, &[]), now);
        }
        unapproved.observe(&request("approved", "shop", CLUSTER_ISSUER, &["Approved"]), now);
        unapproved.observe(&request("denied", "shop", CLUSTER_ISSUER, &["Denied"]), now);
        unapproved.forget("gone");
        assert_eq!(unapproved.due(now), (Vec::new(), None));
    }

    #[test]
    fn a_flood_is_not_kept() {
        let (unapproved, now) = (Unapproved::new(Duration::ZERO), Instant::now());
        for number in 0..5000 {
            unapproved.observe(&request(&number.to_string(), "flood", CLUSTER_ISSUER, &[]), now);
        }
        unapproved.observe(&request("quiet", "quiet", CLUSTER_ISSUER, &[]), now);
        assert_eq!(unapproved.due(now).0.len(), OF_ONE_NAMESPACE + 1);
    }
}
