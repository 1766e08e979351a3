//! Does what was decided about a CertificateRequest: asks the server, writes the status, tells people.

use std::{sync::Arc, time::Duration};

use chancery_api::{RefusalReason, RemoteError, RequestKind, RequestRef, SigningState};
use chancery_pki::answer::{Answered, Asked as Csr};
use kube::{
    Api, Client, Resource as _,
    api::{Patch, PatchParams},
    runtime::events::EventType,
};
use tokio::time::Instant;

use crate::{
    board::{Asked, Done, Job},
    clock,
    condition::{Notice, Outcome, PendingFor},
    decide::{IssuerState, Step, decide, is_out_of_time},
    dispatch::Desk,
    disposal::{Disposals, HandedOut, Signed},
    events::Events,
    leader::Leadership,
    metrics::Metrics,
    origin::{LookedUp, Origins},
    resource::CertificateRequest,
    signer::Signer,
    throttle::{Throttle, allowed},
    usage::Usages,
};

/// Fewest tries before a request is given up, whatever time has passed, and before people are told of what may pass.
pub(crate) const LEAST_TRIES: u32 = 5;

/// The reason of an event about a status that is not taken.
pub(crate) const NOT_WRITTEN: &str = "StatusNotWritten";
/// Who we are in `managedFields`.
pub(crate) const FIELD_MANAGER: &str = "chancery-issuer";
/// How far the clocks of this machine and the server's may differ.
const SKEW: Duration = Duration::from_secs(300);
/// How soon a request that was throttled is looked at again, at the latest.
const THROTTLED: Duration = Duration::from_secs(600);
/// How soon a status is written again that this service account may not write.
pub(crate) const FORBIDDEN: Duration = Duration::from_secs(300);
/// Every so many tries people are told of it.
pub(crate) const TOLD_EVERY: u32 = 12;
/// How often a result is written again after a conflict before the request is decided anew.
const CONFLICTS: usize = 5;

/// Does jobs.
pub(crate) struct Worker {
    pub(crate) client: Client,
    pub(crate) events: Events,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) origins: Origins,
    pub(crate) disposals: Arc<Disposals>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) usages: Arc<Usages>,
    pub(crate) throttle: Throttle,
    /// From the approval to the last retry.
    pub(crate) retry_budget: Duration,
}

/// What became of a write.
enum Written {
    /// It is there; the object looks like this now.
    Yes(Box<CertificateRequest>),
    /// Somebody else has changed the object; it looks like this now.
    Conflict(Box<CertificateRequest>),
    /// The object is not there any more, or another one has its name.
    Gone,
    /// The API server did not take it.
    No(kube::Error),
}

impl Worker {
    /// Does a job. Whatever happens ends in something to do next.
    pub(crate) async fn work(&self, job: &Job) -> (Done, Asked) {
        let _begun = self.disposals.begin(&job.uid);
        if !self.leadership.holds() {
            return (Done::Later(Some(Duration::from_secs(1)), None), Asked::Not);
        }
        match &job.step {
            // Boards make no job of these; nothing is forgotten if one did.
            Step::Leave(_) | Step::AwaitIssuer(None) => (Done::Again(Arc::clone(&job.request)), Asked::Not),
            Step::Write(outcome) | Step::AwaitIssuer(Some(outcome)) => {
                (self.tell(job, outcome.clone()).await, Asked::Not)
            }
            Step::Repair => (self.repair(job).await, Asked::Not),
            Step::Sign => self.sign(job).await,
        }
    }

    /// A job broke its task. If it does so again and again, its request fails as with any other error.
    pub(crate) async fn broke(&self, job: &Job) -> Done {
        self.metrics.broken();
        if job.attempts < LEAST_TRIES || !is_out_of_time(&job.request, self.retry_budget, clock::now()) {
            return Done::Later(None, None);
        }
        let message = "The controller breaks while it works on this request; its log says where".to_owned();
        self.tell(job, Outcome::Failed { message }).await
    }

    async fn sign(&self, job: &Job) -> (Done, Asked) {
        let request = &*job.request;
        let Some(signer) = &job.signer else {
            return (Done::Later(None, None), Asked::Not);
        };
        let asked_for = crate::origin::asked_for(request, &signer.spec);
        let (csr, body) = match asked_for {
            Ok(read) => read,
            Err(message) => return (self.tell(job, Outcome::Failed { message }).await, Asked::Not),
        };
        let LookedUp { origin, renew_before } = match self.origins.of(request).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(request.uid = %job.uid, error = %error, "whom a request is for cannot be looked up");
                let message =
                    format!("Whom the request is for cannot be looked up; trying again: {}", words_of(&error));
                let outcome = Outcome::Pending { why: PendingFor::Retry, message };
                return (self.wait(job, outcome, None).await, Asked::Not);
            }
        };
        // Looking up took time.
        if !self.leadership.holds() {
            return (Done::Later(Some(Duration::from_secs(1)), None), Asked::Not);
        }
        let place = origin.namespace.clone().zip(origin.secret.clone());
        let life = body.life();
        if let Some((namespace, secret)) = &place
            && let Err(wait) = self.throttle.enter(namespace, secret, &job.uid, life, Instant::now())
        {
            self.metrics.throttled();
            let message = format!(
                "The Secret \"{secret}\" has had {} certificates within an hour; do two Certificates or controllers \
                 write it? The next one follows later",
                allowed(life)
            );
            let outcome = Outcome::Pending { why: PendingFor::Retry, message };
            return (self.wait(job, outcome, Some(wait.min(THROTTLED))).await, Asked::Not);
        }
        let body = body.with(origin, self.leadership.term(), self.leadership.lease());
        let timer = self.metrics.signing();
        let answer = signer.client.sign(&body).await;
        timer.end(&answer);
        match answer {
            Ok(SigningState::Issued(signed)) => {
                let checked = csr.check(&signed.chain, &signed.root, clock::as_x509(clock::now()), SKEW);
                let left = |not_after: chancery_pki::Timestamp| not_after.since(clock::as_x509(clock::now()));
                let outcome = match checked {
                    Ok(Answered { not_after, .. })
                        if renew_before.is_some_and(|before| before < life && left(not_after) <= before) =>
                    {
                        // Revoked once the request has failed: a retry before that is to find it as it is.
                        self.disposals.signed(&job.uid);
                        Outcome::Failed { message: too_short(left(not_after), renew_before.unwrap_or_default()) }
                    }
                    Ok(Answered { chain, root, .. }) => Outcome::Issued { chain, root, warnings: signed.warnings },
                    Err(fault) => {
                        self.metrics.untrusted_answer();
                        tracing::error!(
                            request.uid = %job.uid, issuer = %job.issuer, certificate.serial = %signed.serial,
                            fault = %fault, "the server's answer is not what was asked for; it is not handed on"
                        );
                        self.disposals.signed(&job.uid);
                        Outcome::Failed { message: format!("The server's answer is not what was asked for: {fault}") }
                    }
                };
                let is_issued = matches!(outcome, Outcome::Issued { .. });
                let done = self.tell(job, outcome).await;
                if let (Done::Finished, true, Some((namespace, secret))) = (&done, is_issued, &place) {
                    self.usages.is_in_secret(signer, &job.uid, namespace, secret);
                }
                (done, Asked::Answered)
            }
            Ok(SigningState::Pending { retry_after_s, message }) => {
                let after = Duration::from_secs(retry_after_s.clamp(1, 3600));
                let outcome =
                    Outcome::Pending { why: PendingFor::Server, message: crate::condition::cut(&message, 1024) };
                (self.wait(job, outcome, Some(after)).await, Asked::Answered)
            }
            Ok(SigningState::Refused { reason: RefusalReason::OtherRequest, message, .. }) => {
                (self.asked_before(job, signer, message).await, Asked::Answered)
            }
            Ok(SigningState::Refused { reason, message, rule }) => {
                let message = refusal(reason, &message, rule.as_deref());
                (self.tell(job, Outcome::Failed { message }).await, Asked::Answered)
            }
            Err(error) => self.failed(job, signer, &error).await,
        }
    }

    /// The server knows the UID and was asked something else for it: the issuer's profile or default duration has been
    /// edited since. What it has issued or holds for this request is this request's.
    async fn asked_before(&self, job: &Job, signer: &Signer, message: String) -> Done {
        let spec = &job.request.spec;
        let failed = Outcome::Failed { message: refusal(RefusalReason::OtherRequest, &message, None) };
        let namespace = job.request.metadata.namespace.as_deref();
        let named = RequestRef { kind: RequestKind::CertificateRequest, namespace, uid: &job.uid };
        match signer.client.signing_state(named).await {
            Ok(SigningState::Issued(signed)) => {
                // How long it was to live then is not known here any more; the server has kept to it.
                let read = Csr::from_pem(&spec.request.0, &spec.usages, spec.is_ca, None);
                let checked = read.map_err(|fault| fault.to_string()).and_then(|csr| {
                    csr.check(&signed.chain, &signed.root, clock::as_x509(clock::now()), SKEW)
                        .map_err(|fault| fault.to_string())
                });
                let outcome = match checked {
                    Ok(Answered { chain, root, .. }) => Outcome::Issued { chain, root, warnings: signed.warnings },
                    Err(fault) => {
                        tracing::warn!(request.uid = %job.uid, fault, "what was issued before does not answer the request");
                        self.disposals.signed(&job.uid);
                        failed
                    }
                };
                self.tell(job, outcome).await
            }
            Ok(SigningState::Pending { retry_after_s, message }) => {
                let after = Duration::from_secs(retry_after_s.clamp(1, 3600));
                let message = crate::condition::cut(&message, 1024);
                self.wait(job, Outcome::Pending { why: PendingFor::Server, message }, Some(after)).await
            }
            Ok(SigningState::Refused { .. }) | Err(RemoteError::NotFound { .. }) => self.tell(job, failed).await,
            Err(error) => self.failed(job, signer, &error).await.0,
        }
    }

    /// The server did not answer, or not as hoped.
    async fn failed(&self, job: &Job, signer: &Signer, error: &RemoteError) -> (Done, Asked) {
        use RemoteError as E;
        tracing::warn!(request.uid = %job.uid, issuer = %job.issuer, error = %error, "the server was asked in vain");
        if may_have_signed(error) {
            self.disposals.signed(&job.uid);
        }
        let retry = |message| Outcome::Pending { why: PendingFor::Retry, message };
        let (outcome, after, asked) = match error {
            // The issuer's trouble: no request is to blame, and none runs out of time by it.
            E::Unauthorized { .. } | E::Forbidden { .. } | E::Tls { .. } | E::Redirected { .. } => {
                signer.report_trouble();
                let message = "The issuer's server does not let it ask; the issuer's condition says why".to_owned();
                let outcome = Outcome::Pending { why: PendingFor::IssuerToBeReady, message };
                return (self.wait(job, outcome, None).await, Asked::Failed);
            }
            E::Unreachable { .. } => {
                signer.report_trouble();
                (retry("The issuer's server cannot be reached; trying again".to_owned()), None, Asked::Failed)
            }
            E::Busy { retry_after, .. } => {
                (retry("The issuer's server is busy; trying again".to_owned()), Some(*retry_after), Asked::Failed)
            }
            E::Unreadable { .. } | E::NotFound { .. } => {
                let message = format!("The issuer's server gives no usable answer; trying again: {error}");
                (retry(message), None, Asked::Failed)
            }
            // Another leader has taken over, or a server of another version reads requests otherwise.
            E::Refused { status, .. } if !matches!(status, 413 | 422) => (
                retry(format!("The issuer's server does not take the request; trying again: {error}")),
                None,
                Asked::Answered,
            ),
            E::Refused { .. } => {
                let message = format!("The issuer's server refuses the request: {error}");
                return (self.tell(job, Outcome::Failed { message }).await, Asked::Answered);
            }
        };
        // Who waited long for the issuer, and not for an answer, has not been tried yet.
        let was_tried = job.attempts >= LEAST_TRIES;
        if was_tried && is_out_of_time(&job.request, self.retry_budget, clock::now()) {
            let message = format!("No certificate within {} s of the approval: {error}", self.retry_budget.as_secs());
            return (self.tell(job, Outcome::Failed { message }).await, asked);
        }
        (self.wait(job, outcome, after).await, asked)
    }

    /// Says what a request waits for, where that is new, and tries again later.
    async fn wait(&self, job: &Job, outcome: Outcome, after: Option<Duration>) -> Done {
        let request = &*job.request;
        let waits_already = request.condition("Ready").is_some_and(|ready| ready.reason.as_deref() == Some("Pending"));
        // Words that change with each try would be a write each time: at first, and then now and then.
        let worth_it = !waits_already || job.attempts.is_multiple_of(8);
        if !worth_it || !outcome.changes(request) {
            return Done::Later(after, None);
        }
        match self.write(request, &outcome).await {
            Written::Yes(fresh) => {
                self.announce(request, &outcome);
                Done::Later(after, Some(Arc::from(fresh)))
            }
            Written::Conflict(fresh) => Done::Again(Arc::from(fresh)),
            Written::Gone => {
                // What was deleted before anybody knew that it may have been signed.
                self.disposals.gone(&self.desk, request);
                Done::Gone
            }
            Written::No(error) => Done::Later(self.refused(job, &error).or(after), None),
        }
    }

    /// Writes an outcome; what was signed is written again after a conflict rather than signed again. What was signed and
    /// is handed out to nobody is revoked, where the issuer wants it.
    async fn tell(&self, job: &Job, outcome: Outcome) -> Done {
        let mut request = Arc::clone(&job.request);
        let is_issued = matches!(outcome, Outcome::Issued { .. });
        if is_issued {
            // Whatever becomes of the write: if the object goes first, the certificate is not forgotten.
            self.disposals.signed(&job.uid);
        }
        for _ in 0..CONFLICTS {
            if !self.leadership.holds() {
                return Done::Later(Some(Duration::from_secs(1)), None);
            }
            let before = if is_issued { self.disposals.handing_out(&job.uid) } else { HandedOut::No };
            match self.write(&request, &outcome).await {
                Written::Yes(fresh) => {
                    self.announce(&request, &outcome);
                    match outcome {
                        Outcome::Issued { .. } | Outcome::Repaired => self.disposals.written(&job.uid),
                        Outcome::Failed { .. } | Outcome::Denied => self.unused_if_signed(&request),
                        Outcome::Pending { .. } => {}
                    }
                    if !outcome.is_final() {
                        return Done::Again(Arc::from(fresh));
                    }
                    self.metrics.outcome(&outcome, &request);
                    return Done::Finished;
                }
                Written::Conflict(fresh) => {
                    let same = decide(&fresh, &IssuerState::Ready) == Step::Sign && job.step == Step::Sign;
                    request = Arc::from(fresh);
                    let handed_out = request.status.as_ref().is_some_and(|status| status.certificate.is_some());
                    if is_issued && !handed_out {
                        self.disposals.not_taken(&job.uid, HandedOut::No);
                    }
                    if !same {
                        match (is_issued, handed_out) {
                            // Denied, or being deleted: nobody will ever have the certificate.
                            (true, false) => self.unused(&request),
                            // By a write of ours whose answer was lost.
                            (true, true) => self.disposals.written(&job.uid),
                            (false, _) => {}
                        }
                        return Done::Again(request);
                    }
                }
                Written::Gone => {
                    if is_issued {
                        tracing::info!(request.uid = %job.uid, "a request was deleted while it was signed");
                    }
                    // What an earlier try wrote may have been taken in, and the request be deleted for that.
                    if is_issued && before == HandedOut::No {
                        self.unused(&request);
                    } else {
                        self.disposals.gone(&self.desk, &request);
                    }
                    return Done::Gone;
                }
                Written::No(error) => {
                    if is_issued && is_refusal(&error) {
                        self.disposals.not_taken(&job.uid, before);
                    }
                    return Done::Later(self.refused(job, &error), None);
                }
            }
        }
        Done::Again(request)
    }

    /// There is a certificate, and no word about it.
    async fn repair(&self, job: &Job) -> Done {
        let status = job.request.status.clone().unwrap_or_default();
        let text = |octets: Option<k8s_openapi::ByteString>| {
            octets.and_then(|octets| String::from_utf8(octets.0).ok()).unwrap_or_default()
        };
        let (chain, root) = (text(status.certificate), text(status.ca));
        let read = Csr::from_pem(&job.request.spec.request.0, &job.request.spec.usages, job.request.spec.is_ca, None);
        let checked = read.map_err(|fault| fault.to_string()).and_then(|csr| {
            csr.check(&chain, &root, clock::as_x509(clock::now()), SKEW).map_err(|fault| fault.to_string())
        });
        let outcome = match checked {
            Ok(_) => Outcome::Repaired,
            Err(fault) => {
                self.metrics.untrusted_answer();
                Outcome::Failed {
                    message: format!("The certificate in the status does not answer the request: {fault}"),
                }
            }
        };
        self.tell(job, outcome).await
    }

    /// Nobody will ever have what was signed for this request.
    fn unused(&self, request: &CertificateRequest) {
        if let Some(signed) = Signed::of(request) {
            self.disposals.unused(&self.desk, signed);
        }
    }

    /// The request has ended without a certificate.
    fn unused_if_signed(&self, request: &CertificateRequest) {
        if let Some(signed) = Signed::of(request) {
            self.disposals.unused_if_signed(&self.desk, signed);
        }
    }

    fn announce(&self, request: &CertificateRequest, outcome: &Outcome) {
        if let Some(notice) = outcome.notice(request) {
            self.events.publish(request.object_ref(&()), notice);
        }
    }

    /// The API server did not take a status; when it is written again, if that is not soon.
    fn refused(&self, job: &Job, error: &kube::Error) -> Option<Duration> {
        self.metrics.write_failed();
        tracing::warn!(
            request.uid = %job.uid, request.namespace = job.request.metadata.namespace, error = %error,
            "the API server did not take a status; may this service account patch certificaterequests/status?"
        );
        let why = forbidden(error).filter(|_| job.attempts >= LEAST_TRIES)?;
        if !is_told(job.attempts) {
            return Some(FORBIDDEN);
        }
        let note = format!(
            "The API server does not let the controller write the status of this request; is there a role by which it may \
             patch certificaterequests/status? It is tried again every five minutes, and when the controller starts. The API \
             server says: {why}"
        );
        let notice = Notice { kind: EventType::Warning, reason: NOT_WRITTEN, note: crate::condition::cut(&note, 1000) };
        self.events.publish(job.request.object_ref(&()), notice);
        Some(FORBIDDEN)
    }

    async fn write(&self, request: &CertificateRequest, outcome: &Outcome) -> Written {
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let api: Api<CertificateRequest> = Api::namespaced(self.client.clone(), namespace);
        let Some(patch) = outcome.patch(request, clock::now()) else { return Written::Gone };
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_status(name, &parameters, &Patch::<()>::Json(patch)).await {
            Ok(fresh) => Written::Yes(Box::new(crate::watch::slim(fresh))),
            Err(kube::Error::Api(status)) if status.code == 404 => Written::Gone,
            // A test of the patch failed, or two writes met.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                match api.get_opt(name).await {
                    Ok(Some(fresh)) if fresh.metadata.uid == request.metadata.uid => {
                        let same = fresh.status.as_ref().map(|status| &status.conditions)
                            == request.status.as_ref().map(|status| &status.conditions);
                        if same {
                            // Nobody has changed what was tested: the API server will not have this status.
                            return Written::No(kube::Error::Api(status));
                        }
                        Written::Conflict(Box::new(crate::watch::slim(fresh)))
                    }
                    Ok(_) => Written::Gone,
                    Err(error) => Written::No(error),
                }
            }
            Err(error) => Written::No(error),
        }
    }
}

/// What went wrong with the API server, in its own words where it has any: of a right that is missing they say which.
pub(crate) fn words_of(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// Whether people are told at this try that a status may not be written: about once an hour, as long as an event lasts.
pub(crate) const fn is_told(attempts: u32) -> bool {
    attempts == LEAST_TRIES || attempts.is_multiple_of(TOLD_EVERY)
}

/// Whether the API server says that it has not taken a write. Of what it says when it fails itself, nothing is known.
pub(crate) fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code))
}

/// Whether a server may have signed, although it gave no answer that says so. Where it has not, there is nothing to be
/// revoked, and that is found out then.
pub(crate) const fn may_have_signed(error: &RemoteError) -> bool {
    use RemoteError as E;
    match error {
        E::Unreachable { .. } | E::Busy { .. } | E::Unreadable { .. } => true,
        E::Tls { .. }
        | E::Unauthorized { .. }
        | E::Forbidden { .. }
        | E::Redirected { .. }
        | E::NotFound { .. }
        | E::Refused { .. } => false,
    }
}

/// The API server's words, if it says that this service account may not do this.
pub(crate) fn forbidden(error: &kube::Error) -> Option<&str> {
    match error {
        kube::Error::Api(status) if status.code == 403 => Some(&status.message),
        _ => None,
    }
}

/// cert-manager would renew such a certificate as soon as it has it, and the next one, and so on.
fn too_short(left: Duration, renew_before: Duration) -> String {
    format!(
        "The certificate would end in {} s, within the {} s of its Certificate's renewBefore, and be renewed at once; ask \
         for a longer duration or a shorter renewBefore",
        left.as_secs(),
        renew_before.as_secs()
    )
}

/// A refusal in words: the rule, and what would be allowed.
pub(crate) fn refusal(reason: RefusalReason, message: &str, rule: Option<&str>) -> String {
    let what = match reason {
        RefusalReason::Csr => "The CSR is refused",
        RefusalReason::Key => "The key is refused",
        RefusalReason::Profile => "The profile is refused",
        RefusalReason::Policy => "Policy refuses the request",
        RefusalReason::Lifetime => "The duration is refused",
        RefusalReason::OtherRequest => "The request differs from what was asked under its UID before",
        RefusalReason::Denied => "An approver at the server has denied the request",
    };
    match rule {
        Some(rule) if !message.contains(rule) => format!("{what} (rule \"{rule}\"): {message}"),
        _ => format!("{what}: {message}"),
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
