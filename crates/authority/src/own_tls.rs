//! The server's own TLS certificate, issued through the same row as everybody else's.

use std::sync::Arc;

use chancery_pki::{NameSet, PublicKey, SerialNumber, content::AS_PROFILE};
use chancery_policy::Requester;

use crate::{
    changes::Changes,
    failure::{Failure, Refusal},
    issue::{IntentContext, IssueRejection, IssueRequest, IssuedChain, PermitError, Permitted},
    office::Office,
};

impl Office {
    /// Issues a certificate for the server's own listener. Policy is asked as for everybody: its
    /// requester's door is `own-tls`.
    ///
    /// # Errors
    ///
    /// An [`IssueRejection`], or [`Failure`]; then nothing was handed out, and what may have been
    /// signed is settled by its job.
    pub async fn issue_own_tls(
        &self,
        names: &NameSet,
        key: &PublicKey,
    ) -> Result<IssuedChain, Refusal<IssueRejection>> {
        let settings = self.settings();
        let own = settings.own_tls.as_ref().ok_or_else(|| {
            Failure::Unavailable("no profile is configured for the server's own certificate".to_owned())
        })?;
        let (authority, profile) = settings.offered(&own.authority, &own.profile)?;
        let now = self.issuing_time()?;
        let request = IssueRequest {
            authority: Arc::clone(authority),
            profile: Arc::clone(profile),
            requester: Requester::own_tls(),
            names,
            key,
            not_before: None,
            not_after: None,
            lifetime: None,
            must_staple: false,
            content: &AS_PROFILE,
        };
        let permitted = match Self::ask_policy(&settings, || Permitted::ask(&settings, request, now)) {
            Ok(permitted) => permitted,
            Err(PermitError::Rejected(rejection)) => return Err(Refusal::Rejected(rejection)),
            Err(PermitError::Failed(failure)) => return Err(failure.into()),
        };
        let linted = permitted.lint(SerialNumber::from_random(self.entropy().octets16()))?;
        let context = IntentContext {
            changes: Changes::new(),
            account: None,
            account_is_new: false,
            order: None,
            replaces: None,
            tenant: None,
            idempotency: None,
            preauthorized_by: None,
            settle_at: now.after(settings.limits.settle_after),
        };
        let recorded = linted.record(self, context).await.map_err(Failure::from)?;
        let signed = recorded.sign(self).await.map_err(|error| Failure::Unavailable(error.to_string()))?;
        let released = signed.release(self, Changes::new()).await.map_err(Failure::from)?;
        Ok(released.chain)
    }
}
