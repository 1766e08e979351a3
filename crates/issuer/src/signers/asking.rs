//! Asks an issuer's server on behalf of an object, and tells apart what comes back.

use std::{sync::Arc, time::Duration};

use chancery_api::{RefusalReason, RemoteError, RequestKind, RequestRef, SigningRequest, SigningState};
use chancery_pki::answer::{Answered, Asked as Csr};
use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{Client, runtime::events::EventType};

use super::line::Done;
use crate::{
    board::{Asked, IssuerKey},
    clock,
    condition::{Notice, cut},
    decide::IssuerState,
    dispatch::Desk,
    disposal::Disposals,
    events::Events,
    leader::Leadership,
    metrics::Metrics,
    signer::Signer,
    worker::{may_have_signed, refusal},
};

/// How far the clocks of this machine and the server's may differ.
const SKEW: Duration = Duration::from_secs(300);
/// Longest text of an event, in characters.
const NOTE_MAX: usize = 1000;
/// What people are told where a task breaks again and again.
pub(super) const BREAKS: &str = "The controller breaks while it works on this request; its log says where";
/// When a process looks again that does not lead.
const NOT_LEADING: Duration = Duration::from_secs(1);

/// What the controllers of Kubernetes' own kinds share.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) client: Client,
    pub(crate) desk: Arc<Desk>,
    pub(crate) events: Events,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) disposals: Arc<Disposals>,
}

/// What a server has answered, as far as an object is concerned.
pub(crate) enum Answer {
    /// A certificate that is what was asked for.
    Issued(Answered),
    /// There will be none, in words.
    Refused {
        /// The server's reason; none where the answer itself was at fault.
        reason: Option<RefusalReason>,
        /// Words for people.
        message: String,
    },
    /// Not now.
    Later {
        /// What for, in words.
        message: String,
        /// After which time; none, after the usual one.
        after: Option<Duration>,
        /// Whether the time counts that a request may take.
        counts: bool,
        /// What the server made of it.
        asked: Asked,
    },
}

/// What is said about an object while it waits.
pub(crate) struct Waiting<'a> {
    pub(crate) about: ObjectReference,
    /// Whether it has been said already.
    pub(crate) told: bool,
    pub(crate) message: &'a str,
}

impl Asking {
    /// When to look again, unless this process leads.
    pub(crate) fn not_leading(&self) -> Option<(Done, Asked)> {
        (!self.leadership.holds()).then_some((Done::Later(Some(NOT_LEADING)), Asked::Not))
    }

    /// The issuer's signer, or in words why there is none now.
    pub(crate) fn signer(&self, key: &IssuerKey) -> Result<Arc<Signer>, (&'static str, String)> {
        let kind = if key.namespace.is_some() { "ChanceryIssuer" } else { "ChanceryClusterIssuer" };
        let known = self.desk.book.get(key);
        match (known.state, known.signer) {
            (IssuerState::Ready, Some(signer)) => Ok(signer),
            (IssuerState::Absent, _) => {
                Err(("IssuerNotFound", format!("There is no {kind} \"{key}\"; waiting for it")))
            }
            (IssuerState::NotReady { message }, _) => {
                Err(("IssuerNotReady", format!("The {kind} \"{key}\" is not ready: {message}")))
            }
            (IssuerState::Unchecked | IssuerState::Ready, _) => {
                Err(("IssuerNotReady", format!("The {kind} \"{key}\" has not been checked yet")))
            }
        }
    }

    /// Says that an object waits for its issuer.
    pub(crate) fn await_issuer(&self, waiting: Waiting<'_>, reason: &'static str) -> (Done, Asked) {
        self.say(waiting, EventType::Normal, reason);
        (Done::AwaitIssuer, Asked::Not)
    }

    /// Says something about an object that waits, once.
    pub(crate) fn say(&self, waiting: Waiting<'_>, kind: EventType, reason: &'static str) {
        let Waiting { about, told, message } = waiting;
        if !told {
            self.publish(about, kind, reason, message);
        }
    }

    /// Writes an event.
    pub(crate) fn publish(&self, about: ObjectReference, kind: EventType, reason: &'static str, note: &str) {
        self.events.publish(about, Notice { kind, reason, note: cut(note, NOTE_MAX) });
    }

    /// Asks the server, and holds its answer against what was asked.
    pub(crate) async fn ask(&self, signer: &Signer, csr: &Csr, body: &SigningRequest) -> Answer {
        let timer = self.metrics.signing();
        let answer = signer.client.sign(body).await;
        timer.end(&answer);
        match answer {
            Ok(SigningState::Issued(signed)) => {
                match csr.check(&signed.chain, &signed.root, clock::as_x509(clock::now()), SKEW) {
                    Ok(answered) => Answer::Issued(answered),
                    Err(fault) => {
                        self.metrics.untrusted_answer();
                        tracing::error!(
                            request.uid = %body.uid, certificate.serial = %signed.serial, fault = %fault,
                            "the server's answer is not what was asked for; it is not handed on"
                        );
                        self.disposals.signed(&body.uid.as_str().into());
                        let message = format!("The server's answer is not what was asked for: {fault}");
                        Answer::Refused { reason: None, message }
                    }
                }
            }
            Ok(SigningState::Pending { retry_after_s, message }) => {
                let after = Some(Duration::from_secs(retry_after_s.clamp(1, 3600)));
                Answer::Later { message: cut(&message, NOTE_MAX), after, counts: false, asked: Asked::Answered }
            }
            Ok(SigningState::Refused { reason: RefusalReason::OtherRequest, message, .. }) => {
                self.asked_before(signer, body, &message).await
            }
            Ok(SigningState::Refused { reason, message, rule }) => {
                let message = refusal(reason, &message, rule.as_deref());
                Answer::Refused { reason: Some(reason), message }
            }
            Err(error) => {
                if may_have_signed(&error) {
                    self.disposals.signed(&body.uid.as_str().into());
                }
                failed(signer, &body.uid, &error)
            }
        }
    }

    /// The server knows the UID and was asked something else for it: settings of the issuer or of its profile have been
    /// edited since. What it has issued or holds for this request is this request's.
    async fn asked_before(&self, signer: &Signer, body: &SigningRequest, message: &str) -> Answer {
        // Nobody has it yet: if the object ends without it, it is not forgotten.
        self.disposals.signed(&body.uid.as_str().into());
        let reason = RefusalReason::OtherRequest;
        let refused = || Answer::Refused { reason: Some(reason), message: refusal(reason, message, None) };
        let named = RequestRef { kind: body.kind, namespace: body.origin.namespace.as_deref(), uid: &body.uid };
        match signer.client.signing_state(named).await {
            Ok(SigningState::Issued(signed)) => {
                // How long it was to live then is not known here any more; the server has kept to it.
                let read = Csr::from_pem(body.csr.as_bytes(), &body.usages, body.is_ca, None);
                let checked = read.map_err(|fault| fault.to_string()).and_then(|csr| {
                    let is_stub = body.kind == RequestKind::PodCertificateRequest;
                    let csr = if is_stub { csr.naming(body.names.iter().map(String::as_str)) } else { csr };
                    csr.check(&signed.chain, &signed.root, clock::as_x509(clock::now()), SKEW)
                        .map_err(|fault| fault.to_string())
                });
                match checked {
                    Ok(answered) => Answer::Issued(answered),
                    Err(fault) => {
                        tracing::warn!(request.uid = %body.uid, fault, "what was issued before does not answer the request");
                        refused()
                    }
                }
            }
            Ok(SigningState::Pending { retry_after_s, message }) => {
                let after = Some(Duration::from_secs(retry_after_s.clamp(1, 3600)));
                Answer::Later { message: cut(&message, NOTE_MAX), after, counts: false, asked: Asked::Answered }
            }
            Ok(SigningState::Refused { .. }) | Err(RemoteError::NotFound { .. }) => refused(),
            Err(error) => failed(signer, &body.uid, &error),
        }
    }
}

/// The server did not answer, or not as hoped.
fn failed(signer: &Signer, uid: &str, error: &RemoteError) -> Answer {
    use RemoteError as E;
    tracing::warn!(request.uid = %uid, error = %error, "the server was asked in vain");
    let later = |message: String, after, counts, asked| Answer::Later { message, after, counts, asked };
    match error {
        // The issuer's trouble: no request is to blame, and none runs out of time by it.
        E::Unauthorized { .. } | E::Forbidden { .. } | E::Tls { .. } | E::Redirected { .. } => {
            signer.report_trouble();
            later(format!("The issuer's server cannot be used: {error}"), None, false, Asked::Failed)
        }
        E::Unreachable { .. } => {
            signer.report_trouble();
            later("The issuer's server cannot be reached; trying again".to_owned(), None, true, Asked::Failed)
        }
        E::Busy { retry_after, .. } => {
            let message = "The issuer's server is busy; trying again".to_owned();
            later(message, Some(*retry_after), true, Asked::Failed)
        }
        E::Unreadable { .. } | E::NotFound { .. } => {
            let message = format!("The issuer's server gives no usable answer; trying again: {error}");
            later(message, None, true, Asked::Failed)
        }
        // Another leader has taken over, or a server of another version reads requests otherwise.
        E::Refused { status, .. } if !matches!(status, 413 | 422) => {
            let message = format!("The issuer's server does not take the request; trying again: {error}");
            later(message, None, true, Asked::Answered)
        }
        E::Refused { .. } => {
            Answer::Refused { reason: None, message: format!("The issuer's server refuses the request: {error}") }
        }
    }
}

/// A time of X.509 as Kubernetes has it.
pub(crate) fn as_kubernetes(time: chancery_pki::Timestamp) -> Timestamp {
    Timestamp::from_second(time.unix_seconds()).unwrap_or(Timestamp::MAX)
}

/// A time as the API server writes it, to the second.
pub(crate) fn text_of(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
