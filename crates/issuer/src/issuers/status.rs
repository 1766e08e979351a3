//! What stands in an issuer's status.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    api::{Patch, PatchParams},
    runtime::events::EventType,
};
use serde_json::json;
use tokio::time::timeout;

use super::{Issuer, Seen, Tending};
use crate::{
    board::IssuerKey,
    check::Checked,
    clock,
    condition::{Notice, cut},
    credentials::Trouble,
    resource::IssuerStatus,
    worker::FIELD_MANAGER,
};

/// Longest that a write of a status takes.
const WRITE: Duration = Duration::from_secs(10);

fn ready_of(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|one| one.type_ == "Ready")
}

/// Writes the issuer's status, where it says something new.
pub(super) async fn tell_people<I: Issuer>(
    tending: &Tending,
    key: &IssuerKey,
    now: &Seen,
    outcome: &Result<Checked, Trouble>,
    conditions: &mut Vec<Condition>,
) {
    let (status, reason, message) = match outcome {
        Ok(_) => ("True", "Checked", "Succeeded checking the issuer".to_owned()),
        Err(Trouble { reason, message, .. }) => ("False", *reason, cut(message, 2048)),
    };
    let ready = ready_of(conditions);
    let same = ready.is_some_and(|ready| {
        ready.status == status
            && ready.reason == reason
            && ready.message == message
            && ready.observed_generation == now.generation
    });
    // One that leads no more would overwrite what the next one has found out.
    if same || !tending.leadership.holds() {
        return;
    }
    let turned = ready.is_none_or(|ready| ready.status != status);
    let since =
        ready.filter(|_| !turned).map_or_else(|| Time(clock::now()), |ready| ready.last_transition_time.clone());
    let condition = Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.clone(),
        last_transition_time: since,
        observed_generation: now.generation,
    };
    let mut after: Vec<Condition> = conditions.iter().filter(|one| one.type_ != "Ready").cloned().collect();
    after.push(condition);
    let operations = json!([
        { "op": "test", "path": "/metadata/uid", "value": now.uid },
        { "op": "add", "path": "/status", "value": IssuerStatus { conditions: after.clone() } },
    ]);
    let Ok(patch) = serde_json::from_value(operations) else { return };
    let api = I::api(tending.client.clone(), key.namespace.as_deref());
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match timeout(WRITE, api.patch_status(&key.name, &parameters, &Patch::<()>::Json(patch))).await {
        Ok(Ok(_)) => *conditions = after,
        // The next look tries again, and only what was written is told.
        Ok(Err(error)) => {
            tracing::warn!(issuer = %key, error = %error, "the issuer's status is not written");
            return;
        }
        Err(_) => {
            tracing::warn!(issuer = %key, "the API server does not take the issuer's status");
            return;
        }
    }
    if turned {
        let (kind, reason) = match (outcome, reason) {
            (Ok(_), _) => (EventType::Normal, "Checked"),
            (Err(_), "Failed") => (EventType::Warning, "PermanentError"),
            (Err(_), _) => (EventType::Warning, "RetryableError"),
        };
        tracing::info!(issuer = %key, issuer.ready = status, "{message}");
        tending.events.publish(now.reference.clone(), Notice { kind, reason, note: cut(&message, 1000) });
    }
}
