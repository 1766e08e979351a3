//! Another key for an account (RFC 8555 §7.3.5), asked for by whoever holds both.

use chancery_acme::{
    account::{Account, AccountStatus},
    id::AccountId,
};
use chancery_pki::PublicKey;

use crate::{
    changes::{Change, Changes, Put},
    failure::{Failure, Refusal},
    leaves,
    office::{ATTEMPTS, Office},
    ports::CommitError,
};

/// Why an account keeps its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyChangeRejection {
    /// The account ended meanwhile.
    #[error("this account has ended")]
    Ended,
    /// The key that is to go is not the account's.
    #[error("oldKey is not the key of this account (RFC 8555 §7.3.5)")]
    OtherOldKey,
    /// The new key is on the block list.
    #[error("this key is on the block list; make a new one")]
    BlockedKey,
    /// An account of this directory has the new key already.
    #[error("an account of this directory has the new key already; a key belongs to one account (RFC 8555 §7.3.5)")]
    Taken {
        /// Which; it may be this one.
        account: AccountId,
    },
}

impl Office {
    /// Gives an account another key. The old one is nobody's from then on; orders and authorizations stay. An account
    /// that the ledger knows of has it there too, so that no rebuild brings the old one back.
    ///
    /// # Errors
    ///
    /// A [`KeyChangeRejection`], or [`Failure`].
    pub async fn change_account_key(
        &self,
        id: AccountId,
        old: &PublicKey,
        new: &PublicKey,
    ) -> Result<Account, Refusal<KeyChangeRejection>> {
        use KeyChangeRejection as R;
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.store().account(id).await? else { return Err(Refusal::Rejected(R::Ended)) };
            if self.as_it_counts(loaded.value.clone()).await?.status != AccountStatus::Valid {
                return Err(Refusal::Rejected(R::Ended));
            }
            if loaded.value.key != *old {
                return Err(Refusal::Rejected(R::OtherOldKey));
            }
            if self.settings().block_list.check(new).is_err() {
                return Err(Refusal::Rejected(R::BlockedKey));
            }
            if let Some(found) = self.account_by_key(&loaded.value.directory, &new.digest()).await? {
                return Err(Refusal::Rejected(R::Taken { account: found.id }));
            }
            let account = Account { key: new.clone(), ..loaded.value.clone() };
            let mut changes = Changes::new().with(Change::Account(Put::over(&loaded, account.clone())));
            if account.proven {
                changes = changes.leaf(leaves::account_key_changed(id, new, self.now()));
            }
            match self.commit(changes.urgently()).await {
                Ok(_) => return Ok(account),
                // The account changed meanwhile, or somebody registered the new key, who is found then.
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }
}
