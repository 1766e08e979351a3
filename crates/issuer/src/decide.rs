//! What is to be done about a CertificateRequest now.
//!
//! Pure: no clock, no API server, no network. The order of the questions is cert-manager's own; see
//! `docs/operations/issuer.md` for what users see of it.

use k8s_openapi::jiff::Timestamp;

use crate::{
    condition::{Outcome, PendingFor},
    resource::{CLUSTER_ISSUER, CertificateRequest, GROUP, ISSUER},
};

/// What cert-manager's own controllers say; what reads conditions may compare it.
pub(crate) const DENIED: &str = "The CertificateRequest was denied by an approval controller";

/// Longest CSR that is passed on, in octets of PEM; what is cut to one octet more is too long.
pub(crate) const CSR_MAX: usize = 64 << 10;

/// How the issuer that a request refers to is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IssuerState {
    /// There is none of that name.
    Absent,
    /// It has not been looked at in its present shape.
    Unchecked,
    /// It would not sign.
    NotReady {
        /// Why, as its own condition says.
        message: String,
    },
    /// It signs.
    Ready,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It is for somebody else.
    NotOurs,
    /// It is being deleted.
    Deleted,
    /// It has its outcome.
    Finished,
    /// Nobody has approved or denied it.
    Unapproved,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing; for good, but for [`Leave::Unapproved`].
    Leave(Leave),
    /// To write this, and nothing after it.
    Write(Outcome),
    /// To wait for the issuer; if there is something to write, that first.
    AwaitIssuer(Option<Outcome>),
    /// There is a certificate and no word about it: to look whether it is one, and to say so.
    Repair,
    /// To ask the server.
    Sign,
}

/// What is to be done about this request.
pub(crate) fn decide(request: &CertificateRequest, issuer: &IssuerState) -> Step {
    let reference = &request.spec.issuer_ref;
    if reference.group != GROUP || ![ISSUER, CLUSTER_ISSUER].contains(&reference.kind.as_str()) {
        return Step::Leave(Leave::NotOurs);
    }
    if request.metadata.deletion_timestamp.is_some() {
        return Step::Leave(Leave::Deleted);
    }
    if is_finished(request) {
        return Step::Leave(Leave::Finished);
    }
    if request.is("Denied") {
        return Step::Write(Outcome::Denied);
    }
    if !request.is("Approved") {
        return Step::Leave(Leave::Unapproved);
    }
    if request.status.as_ref().is_some_and(|status| status.certificate.is_some()) {
        return Step::Repair;
    }
    if request.spec.request.0.len() > CSR_MAX {
        return Step::Write(Outcome::Failed { message: format!("The CSR has more than {CSR_MAX} octets") });
    }
    let message = match issuer {
        IssuerState::Ready => return Step::Sign,
        // That passes within moments: whoever waits already need not be told.
        IssuerState::Unchecked if is_pending(request) => return Step::AwaitIssuer(None),
        IssuerState::Unchecked => {
            format!("The {} \"{}\" has not been checked since its last change", reference.kind, reference.name)
        }
        IssuerState::Absent => {
            let scope = if reference.kind == ISSUER { " in this namespace" } else { "" };
            format!("There is no {} named \"{}\"{scope}; waiting for it", reference.kind, reference.name)
        }
        // The same words whatever is wrong with it: each change of them would be a write to every request that waits.
        IssuerState::NotReady { .. } => {
            format!("The {} \"{}\" is not ready; its own condition says why", reference.kind, reference.name)
        }
    };
    let why = if *issuer == IssuerState::Absent { PendingFor::IssuerToExist } else { PendingFor::IssuerToBeReady };
    let outcome = Outcome::Pending { why, message };
    Step::AwaitIssuer(outcome.changes(request).then_some(outcome))
}

/// Whether the request has its outcome: nothing is ever done about it again.
pub(crate) fn is_finished(request: &CertificateRequest) -> bool {
    if request.is("InvalidRequest") {
        return true;
    }
    let Some(ready) = request.condition("Ready") else { return false };
    ready.status == "True" || matches!(ready.reason.as_deref(), Some("Failed" | "Denied"))
}

fn is_pending(request: &CertificateRequest) -> bool {
    request.condition("Ready").is_some_and(|ready| ready.reason.as_deref() == Some("Pending"))
}

/// Whether so much time has passed since the approval that an error is the last one.
pub(crate) fn is_out_of_time(request: &CertificateRequest, budget: std::time::Duration, now: Timestamp) -> bool {
    let approved = request.condition("Approved").and_then(|approved| approved.last_transition_time.as_deref());
    // A condition without a time never runs out: better late than wrongly failed.
    let Some(approved) = approved.and_then(|text| text.parse::<Timestamp>().ok()) else { return false };
    let since = now.duration_since(approved);
    !since.is_negative() && since.unsigned_abs() > budget
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
