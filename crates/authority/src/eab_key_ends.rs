//! What follows from the end of an EAB key: its accounts are stopped, if that was asked for, and one that made none is
//! dropped. Both are stored jobs.

use chancery_acme::{
    account::{Account, AccountStatus},
    id::AccountId,
};
use chancery_pki::Timestamp;

use crate::{
    changes::{Change, Changes, Counter, Put},
    failure::Failure,
    leaves,
    office::{ATTEMPTS, Office},
    ports::CommitError,
    records::{EabKeyId, JobKind},
};

/// Accounts that are looked at for one page of those to be stopped.
const STOP_PAGE: usize = 200;

impl Office {
    /// Stops the accounts that a revoked key made. A kill in between is made up for by the next run, which finds those
    /// that are still valid: none is made any more, since the key is revoked.
    pub(crate) async fn stop_accounts(&self, id: &EabKeyId) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let page = self.store().accounts(after, STOP_PAGE).await?;
            let Some(last) = page.last().map(|account| account.id) else {
                let done = Change::Finish(JobKind::StopAccounts { key: id.clone() });
                return Ok(self.commit(Changes::new().with(done)).await.map(drop)?);
            };
            let is_its =
                |account: &&Account| account.external.as_ref().is_some_and(|external| external.key_id == id.as_str());
            for account in page.iter().filter(is_its) {
                self.stop_account(account.id, id).await?;
            }
            after = Some(last);
        }
    }

    async fn stop_account(&self, account: AccountId, key: &EabKeyId) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.store().account(account).await? else { return Ok(()) };
            match loaded.value.status {
                AccountStatus::Valid => {}
                AccountStatus::Deactivated { .. } | AccountStatus::Revoked { .. } => return Ok(()),
            }
            let at = self.now();
            let stopped = Account { status: AccountStatus::Revoked { at }, ..loaded.value.clone() };
            let changes = Changes::new()
                .with(Change::Account(Put::over(&loaded, stopped)))
                .schedule(JobKind::CancelOrders { account }, Timestamp::from_unix_millis(0))
                .leaf(leaves::account_stopped(account, key, at))
                .urgently();
            match self.commit(changes).await {
                Ok(_) => {
                    tracing::info!(account.id = %account, eab.key = %key, "account stopped, since its EAB key was revoked");
                    return Ok(());
                }
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }

    /// Drops a key whose time has been over for long, and with which no account was made. One that made accounts stays,
    /// since its limits hold for them.
    pub(crate) async fn prune_eab_key(&self, id: &EabKeyId) -> Result<(), Failure> {
        let kind = JobKind::PruneEabKey { key: id.clone() };
        for _ in 0..ATTEMPTS {
            let done = Changes::new().with(Change::Finish(kind.clone()));
            let now = self.trusted_time()?;
            let changes = match self.store().eab_key(id).await? {
                None => done,
                Some(loaded) if now < self.pruned_at(&loaded.value) => {
                    Changes::new().schedule(kind.clone(), self.pruned_at(&loaded.value))
                }
                Some(_) if self.store().count(&Counter::EabAccounts(id.clone())).await? > 0 => done,
                Some(loaded) => done.with(Change::RemoveEabKey(id.clone(), loaded.version)).with(Change::Count {
                    counter: Counter::EabKeys,
                    by: -1,
                    limit: None,
                }),
            };
            match self.commit(changes).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }
}
