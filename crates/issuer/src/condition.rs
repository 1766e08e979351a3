//! What a CertificateRequest is told, and the one patch that tells it.
//!
//! Each patch tests the object's UID and the conditions that it was decided upon: it can land neither on a successor
//! of the same name nor on what somebody else has changed meanwhile.

use json_patch::Patch;
use k8s_openapi::{ByteString, jiff::Timestamp};
use kube::runtime::events::EventType;
use serde_json::{Value, json};

use crate::{
    decide::DENIED,
    resource::{CertificateRequest, RequestCondition},
};

/// Longest message of a condition, in characters; longer ones are cut.
const MESSAGE_MAX: usize = 2048;

/// Why a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PendingFor {
    /// The issuer does not exist.
    IssuerToExist,
    /// The issuer would not sign now.
    IssuerToBeReady,
    /// The server has it, and there is no certificate yet.
    Server,
    /// An error that may pass.
    Retry,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It waits.
    Pending {
        /// What for.
        why: PendingFor,
        /// In words that stay the same while it waits for the same.
        message: String,
    },
    /// There will be no certificate.
    Failed {
        /// Which name, by which rule, what would be allowed.
        message: String,
    },
    /// An approver has denied it.
    Denied,
    /// Here is the certificate.
    Issued {
        /// The chain in PEM.
        chain: String,
        /// The root in PEM.
        root: String,
        /// What else there is to say.
        warnings: Vec<String>,
    },
    /// The certificate was there; only the word was missing.
    Repaired,
}

/// An event to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) kind: EventType,
    pub(crate) reason: &'static str,
    pub(crate) note: String,
}

impl Outcome {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "Pending",
            Self::Failed { .. } => "Failed",
            Self::Denied => "Denied",
            Self::Issued { .. } | Self::Repaired => "Issued",
        }
    }

    const fn status(&self) -> &'static str {
        match self {
            Self::Issued { .. } | Self::Repaired => "True",
            Self::Pending { .. } | Self::Failed { .. } | Self::Denied => "False",
        }
    }

    fn message(&self) -> String {
        let text = match self {
            Self::Pending { message, .. } | Self::Failed { message } => message.clone(),
            Self::Denied => DENIED.to_owned(),
            Self::Issued { warnings, .. } if !warnings.is_empty() => {
                format!("Certificate fetched from issuer successfully. {}", warnings.join(" "))
            }
            Self::Issued { .. } | Self::Repaired => "Certificate fetched from issuer successfully".to_owned(),
        };
        cut(&text, MESSAGE_MAX)
    }

    /// Whether nothing comes after it.
    pub(crate) const fn is_final(&self) -> bool {
        !matches!(self, Self::Pending { .. })
    }

    /// Whether the object does not say so already.
    pub(crate) fn changes(&self, request: &CertificateRequest) -> bool {
        let Some(ready) = request.condition("Ready") else { return true };
        ready.status != self.status()
            || ready.reason.as_deref() != Some(self.reason())
            || ready.message.as_deref() != Some(&self.message())
    }

    /// The event that goes with it; none where a request only waits for something else than before.
    pub(crate) fn notice(&self, request: &CertificateRequest) -> Option<Notice> {
        let was_pending = request.condition("Ready").is_some_and(|ready| ready.reason.as_deref() == Some("Pending"));
        let (kind, reason) = match self {
            Self::Pending { .. } if was_pending => return None,
            Self::Pending { why: PendingFor::IssuerToExist, .. } => (EventType::Normal, "WaitingForIssuerExist"),
            Self::Pending { why: PendingFor::IssuerToBeReady, .. } => (EventType::Normal, "WaitingForIssuerReady"),
            Self::Pending { why: PendingFor::Server, .. } => (EventType::Normal, "Pending"),
            Self::Pending { why: PendingFor::Retry, .. } => (EventType::Warning, "RetryableError"),
            Self::Failed { .. } => (EventType::Warning, "PermanentError"),
            // The approver has told it.
            Self::Denied | Self::Repaired => return None,
            Self::Issued { .. } => (EventType::Normal, "Issued"),
        };
        Some(Notice { kind, reason, note: cut(&self.message(), 1000) })
    }

    /// The patch of the status; nothing for an object without conditions, since none is decided upon.
    pub(crate) fn patch(&self, request: &CertificateRequest, now: Timestamp) -> Option<Patch> {
        let uid = request.metadata.uid.as_deref()?;
        let status = request.status.as_ref().filter(|status| !status.conditions.is_empty())?;
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let before = &status.conditions;
        let mut after = before.clone();
        let position = after.iter().position(|condition| condition.type_ == "Ready");
        let old = position.map(|position| after.remove(position));
        let since = old
            .as_ref()
            .filter(|old| old.status == self.status())
            .and_then(|old| old.last_transition_time.clone())
            .unwrap_or_else(|| now.clone());
        after.push(RequestCondition {
            type_: "Ready".to_owned(),
            status: self.status().to_owned(),
            reason: Some(self.reason().to_owned()),
            message: Some(self.message()),
            last_transition_time: Some(since),
            others: old.map(|old| old.others).unwrap_or_default(),
        });
        let mut operations = vec![
            json!({ "op": "test", "path": "/metadata/uid", "value": uid }),
            json!({ "op": "test", "path": "/status/conditions", "value": before }),
            json!({ "op": "replace", "path": "/status/conditions", "value": after }),
        ];
        match self {
            Self::Issued { chain, root, .. } => {
                let octets = |pem: &str| ByteString(pem.as_bytes().to_vec());
                operations.push(json!({ "op": "add", "path": "/status/certificate", "value": octets(chain) }));
                operations.push(json!({ "op": "add", "path": "/status/ca", "value": octets(root) }));
            }
            Self::Failed { .. } | Self::Denied if status.failure_time.is_none() => {
                operations.push(json!({ "op": "add", "path": "/status/failureTime", "value": now }));
            }
            Self::Failed { .. } | Self::Denied | Self::Pending { .. } | Self::Repaired => {}
        }
        serde_json::from_value(Value::Array(operations)).ok()
    }
}

/// Text of at most so many characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max.saturating_sub(1)) {
        Some((at, _)) if text.chars().count() > max => {
            let mut cut = text.get(..at).unwrap_or_default().to_owned();
            cut.push('…');
            cut
        }
        _ => text.to_owned(),
    }
}
