//! Finalizing an order (RFC 8555 §7.4): the CSR is judged, and the certificate goes down the one path.

use std::sync::Arc;

use chancery_acme::{
    account::{Account, AccountStatus},
    id::{CertificateId, OrderId},
    order::{FinalizeRejection, Order},
    problem::{Problem, ProblemType},
    renewal_info::UniqueIdentifier,
};
use chancery_pki::{SerialNumber, content::AS_PROFILE, csr::Csr};
use tokio::sync::oneshot;

use crate::{
    changes::{Change, Claim, Counter, Put},
    eab_keys::EabKeyGone,
    failure::{Failure, Refusal},
    issue::{IntentContext, IssueRejection, IssueRequest, IssuedChain, PermitError, Permitted, Recorded, RefusedNames},
    office::{ATTEMPTS, Office},
    place_order::{acme_requester, directory_of, names_beyond_key, who},
    ports::CommitError,
    records::{EabKey, EabKeyId, JobKind, Versioned},
    register_account::{TermsChanged, must_agree, order_changes},
};

/// Why a CSR is not taken. The order stays as it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FinalizeOrderRejection {
    /// No such order of this account.
    #[error("there is no such order")]
    NotFound,
    /// The account was given up while this request was under way.
    #[error("this account is no longer valid; register a new key")]
    AccountEnded,
    /// The terms of service changed.
    #[error(transparent)]
    Terms(#[from] TermsChanged),
    /// The order does not take it.
    #[error(transparent)]
    Order(#[from] FinalizeRejection),
    /// The CSR names nothing.
    #[error("the CSR names no host; put the order's names into its subject alternative names")]
    NoNames,
    /// The CSR holds an account's key (RFC 8555 §11.1).
    #[error("the CSR holds the key of an ACME account; make a key of its own for the certificate")]
    AccountKey,
    /// The account's EAB key is gone.
    #[error(transparent)]
    KeyGone(#[from] EabKeyGone),
    /// The account's EAB key no longer permits the order's profile.
    #[error(
        "the EAB key \"{key}\" of this account does not permit the profile \"{profile}\" any more; place a new order"
    )]
    ProfileNotPermitted {
        /// The key.
        key: EabKeyId,
        /// The profile.
        profile: String,
    },
    /// The order was pre-authorised, and its directory pre-authorises nothing any more.
    #[error("this directory pre-authorises no orders any more; place a new one and show control of its names")]
    NoLongerPreauthorized,
    /// Policy, profile or issuer say no.
    #[error(transparent)]
    Issue(IssueRejection),
}

impl Office {
    /// Finalizes an order. Returns the order `valid`, or `processing` if the certificate was not
    /// out within the wait.
    ///
    /// # Errors
    ///
    /// A [`FinalizeOrderRejection`], or [`Failure`].
    pub async fn finalize_order(
        &self,
        account: &Account,
        id: OrderId,
        csr: Csr,
    ) -> Result<Order, Refusal<FinalizeOrderRejection>> {
        let (office, holder) = (self.clone(), account.clone());
        let (tell, told) = oneshot::channel();
        // A client that goes away in the middle neither keeps an intent from being signed nor costs it its order. The
        // settlement job that commit 1 stores owes the end of this work, whatever becomes of the task.
        let mut work = self.work(async move {
            match office.record_intent(&holder, id, &csr).await {
                Ok((recorded, order)) => {
                    // Nobody may be there to hear it.
                    let _ = tell.send(order.value.clone());
                    office.sign_and_release(recorded, order).await.map_err(Refusal::from)
                }
                Err(refusal) => Err(refusal),
            }
        })?;
        let ended = |ended: Result<_, tokio::task::JoinError>| {
            let lost = |_| Failure::Internal(format!("finalizing order {id} ended without a result")).into();
            ended.map_err(lost).flatten()
        };
        // Until commit 1 there is nothing to answer but what comes of it; from then on the wait is bounded.
        let Ok(processing) = told.await else { return ended(work.await) };
        match self.wait_for(account.id, &mut work).await {
            Some(done) => ended(done),
            None => Ok(processing),
        }
    }

    /// From the load to commit 1; runs again from the load where another request was first.
    async fn record_intent(
        &self,
        account: &Account,
        id: OrderId,
        csr: &Csr,
    ) -> Result<(Recorded, Versioned<Order>), Refusal<FinalizeOrderRejection>> {
        use FinalizeOrderRejection as R;
        let settings = self.settings();
        let directory = directory_of(&settings, account)?;
        must_agree(&directory, account).map_err(|changed| Refusal::Rejected(changed.into()))?;
        let authority = settings
            .authority(&directory.authority)
            .cloned()
            .ok_or_else(|| Failure::Internal(format!("no authority named {}", directory.authority)))?;
        for _ in 0..ATTEMPTS {
            let loaded = self.own_order(account.id, id).await?.ok_or(Refusal::Rejected(R::NotFound))?;
            let now = self.issuing_time()?;
            let serial = SerialNumber::from_random(self.entropy().octets16());
            let certificate = crate::issue::certificate_id(serial);
            // The order's state comes first: a CSR sent to an order that is not ready is not judged.
            let names = csr.names().ok_or(R::NoNames);
            let order = match names {
                Ok(names) => loaded.value.clone().finalize(names, certificate, now),
                Err(rejection) => match loaded.value.status(now) {
                    chancery_acme::order::OrderStatus::Ready => return Err(Refusal::Rejected(rejection)),
                    status => Err(FinalizeRejection::NotReady { status }),
                },
            }
            .map_err(|rejection| Refusal::Rejected(rejection.into()))?;
            let key = csr.public_key();
            if key.digest() == account.key.digest() || self.store().is_account_key(&key.digest()).await? {
                return Err(Refusal::Rejected(R::AccountKey));
            }
            let profile = settings.profiles.get(&order.profile).cloned().ok_or_else(|| {
                Failure::Unavailable(format!("the profile {} of this order is no longer offered", order.profile))
            })?;
            let key_of_account = self.eab_key_of(account).await?.map_err(|gone| Refusal::Rejected(R::KeyGone(gone)))?;
            let preauthorized_by = match &key_of_account {
                Some(eab) => {
                    within_key(&eab.value, &order).map_err(Refusal::Rejected)?;
                    self.is_preauthorized(&order).await?.then(|| eab.value.id.clone())
                }
                None => None,
            };
            if preauthorized_by.is_some() && !directory.preauthorized {
                return Err(Refusal::Rejected(R::NoLongerPreauthorized));
            }
            let requester = acme_requester(account);
            let request = IssueRequest {
                authority: Arc::clone(&authority),
                profile,
                requester: requester.clone(),
                names: &order.names,
                key,
                not_before: order.not_before,
                not_after: order.not_after,
                lifetime: None,
                content: &AS_PROFILE,
                must_staple: csr.wants_must_staple(),
            };
            let permitted = match Self::ask_policy(&settings, || Permitted::ask(&settings, request, now)) {
                Ok(permitted) => permitted,
                Err(PermitError::Rejected(rejection)) => {
                    if let Some(decision) = rejection.policy() {
                        let (who, tenant) = (who(account, &requester), directory.tenant.as_ref());
                        self.record_refusal(&who, tenant, &requester, decision, now).await;
                    }
                    return Err(Refusal::Rejected(R::Issue(rejection)));
                }
                Err(PermitError::Failed(failure)) => return Err(failure.into()),
            };
            let linted = permitted.lint(serial)?;

            let changes = order_changes(&loaded, order.clone()).with(Change::Claim(Claim::OrderCertificate(id)));
            // Not as the request's signature found it: it may have been given up since.
            let stored =
                self.store().account(account.id).await?.filter(|stored| stored.value.status == AccountStatus::Valid);
            let Some(stored) = stored else { return Err(Refusal::Rejected(R::AccountEnded)) };
            let account_is_new = !stored.value.proven;
            // What was looked at above still holds when the intent is durable.
            let changes = match &key_of_account {
                Some(eab) => changes.with(Change::SameEabKey(eab.value.id.clone(), eab.version)),
                None => changes,
            };
            let changes = if account_is_new {
                let proven = Account { proven: true, ..stored.value.clone() };
                changes
                    .with(Change::Account(Put::over(&stored, proven)))
                    .with(Change::Count { counter: Counter::UnprovenAccounts, by: -1, limit: None })
                    .with(Change::Finish(JobKind::PruneAccount { account: account.id }))
            } else {
                changes.with(Change::SameAccount(account.id, stored.version))
            };
            let context = IntentContext {
                changes,
                // What it agreed to and how it can be reached may have changed since, too.
                account: Some(&stored.value),
                account_is_new,
                order: Some(id),
                replaces: order.replaces.as_ref().and_then(UniqueIdentifier::serial).map(crate::issue::certificate_id),
                tenant: order.tenant.clone(),
                idempotency: None,
                preauthorized_by,
                settle_at: now.after(settings.limits.settle_after),
            };
            match linted.record(self, context).await {
                Ok(recorded) => {
                    let version = recorded.version();
                    return Ok((recorded, Versioned { value: order, version }));
                }
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }

    /// Whether an order's names were pre-authorised: its authorizations are valid, and no challenge made them so.
    async fn is_preauthorized(&self, order: &Order) -> Result<bool, Failure> {
        let authorizations = self.authorizations_of(order).await?;
        Ok(authorizations.iter().any(|authorization| authorization.value.is_preauthorized()))
    }

    /// From the recorded intent to the released certificate.
    async fn sign_and_release(&self, recorded: Recorded, order: Versioned<Order>) -> Result<Order, Failure> {
        let signed = match recorded.sign(self).await {
            Ok(signed) => signed,
            Err(error) => {
                tracing::error!(order.id = %order.value.id, %error, "an intent was not signed; its job settles it");
                return Ok(order.value);
            }
        };
        let valid = match order.value.state {
            chancery_acme::order::OrderState::Processing { certificate } => order.value.clone().issued(certificate),
            _ => return Err(Failure::Internal(format!("order {} left processing on its way", order.value.id))),
        };
        // From now on it goes with its certificate's record and owes nothing of its own.
        let changes =
            order_changes(&order, valid.clone()).with(Change::Finish(JobKind::PruneOrder { order: valid.id }));
        match signed.release(self, changes).await {
            Ok(_released) => Ok(valid),
            Err(error) => {
                tracing::error!(order.id = %order.value.id, %error, "a signature was not stored; its job settles it");
                Ok(order.value)
            }
        }
    }

    /// A certificate that this account's order led to, with its chain. `None` if it is unknown,
    /// another account's, or not issued.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn certificate(
        &self,
        account: chancery_acme::id::AccountId,
        id: CertificateId,
    ) -> Result<Option<IssuedChain>, Failure> {
        let Some(found) = self.store().certificate(id).await? else {
            return Ok(None);
        };
        if found.value.account != Some(account) {
            return Ok(None);
        }
        self.issued_chain(&found.value).await
    }
}

/// Whether an order is within the limits that its account's EAB key has now.
fn within_key(key: &EabKey, order: &Order) -> Result<(), FinalizeOrderRejection> {
    if !key.permits_profile(&order.profile) {
        let (key, profile) = (key.id.clone(), order.profile.clone());
        return Err(FinalizeOrderRejection::ProfileNotPermitted { key, profile });
    }
    let others = names_beyond_key(key, &order.names);
    if others.is_empty() {
        return Ok(());
    }
    Err(FinalizeOrderRejection::Issue(IssueRejection::Names(RefusedNames { policy: None, others })))
}

/// What an order says whose certificate will never come.
pub(crate) fn settled_problem() -> Problem {
    Problem::new(
        ProblemType::ServerInternal,
        "issuance was interrupted and the order is given up, so that it can never lead to two certificates; place a new order",
    )
}
