//! EAB keys (RFC 8555 §7.3.4): making, listing, limiting, revoking them, and what becomes of the accounts they made.
//!
//! Each of it has a leaf, so that a rebuild has keys, uses and revocations again. What a key grants is looked at when
//! an account is made with it, and again at every newOrder and finalize of its accounts. That a key expired or was
//! revoked ends no account: those that it made go on until they are stopped, which revoking the key can do too.

use std::time::Duration;

use chancery_acme::{
    account::{Account, AccountStatus, DirectoryName},
    order::ProfileName,
};
use chancery_pki::Timestamp;
use chancery_policy::NameScope;

use crate::{
    changes::{Change, Changes, Counter, Put},
    eab_secret::EabSecret,
    failure::{Failure, Refusal},
    leaves,
    office::{ATTEMPTS, Office},
    ports::CommitError,
    records::{EabKey, EabKeyEnded, EabKeyId, EabLimits, JobKind, NotAnEabKeyId, Versioned},
    settings::{ExternalAccountRule, Settings},
};

/// Most accounts that one key may grant.
pub const ACCOUNTS_MAX: u64 = 1_000_000;
/// Longest time for which a key may be made or prolonged: ten years.
pub const LIFE_MAX: Duration = Duration::from_secs(3_653 * 86_400);
/// Longest description of an owner, in characters.
const OWNER_MAX: usize = 200;

/// What a new EAB key shall be.
#[derive(Debug, Clone)]
pub struct MakeEabKey {
    /// Its id; one of chance without it.
    pub id: Option<EabKeyId>,
    /// Whose it is, in words.
    pub owner: String,
    /// The directory it is for.
    pub directory: DirectoryName,
    /// What it grants.
    pub limits: EabLimits,
}

/// A key that was made, with its secret: the only time that this is told.
#[derive(Debug)]
pub struct MadeEabKey {
    /// The key.
    pub key: EabKey,
    /// Its secret.
    pub secret: EabSecret,
}

/// A key and how often it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EabKeyState {
    /// The key.
    pub key: EabKey,
    /// How many accounts were made with it, those that ended too.
    pub used: u64,
}

/// Other limits for a key; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct ChangeEabLimits {
    /// The names; `Some(None)` leaves them to policy alone.
    pub names: Option<Option<NameScope>>,
    /// The profiles; an empty list leaves them to the directory alone.
    pub profiles: Option<Vec<ProfileName>>,
    /// How many accounts, in all.
    pub accounts: Option<u64>,
    /// Until when.
    pub expires: Option<Timestamp>,
}

/// Why an EAB key is not made, changed or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EabKeyRejection {
    /// Not an id.
    #[error(transparent)]
    Id(#[from] NotAnEabKeyId),
    /// There is none.
    #[error("there is no EAB key \"{id}\"")]
    Unknown {
        /// The id.
        id: EabKeyId,
    },
    /// There is one already.
    #[error("there is an EAB key \"{id}\" already, or there was one that made accounts; take another id")]
    Taken {
        /// The id.
        id: EabKeyId,
    },
    /// No such directory.
    #[error("there is no ACME directory named \"{directory}\"; there are: {}", known.join(", "))]
    UnknownDirectory {
        /// The name asked for.
        directory: String,
        /// What there is.
        known: Vec<DirectoryName>,
    },
    /// A directory that takes no bindings.
    #[error(
        "the directory \"{directory}\" takes no external account bindings; set external_account = \"required\" (or \
         \"optional\") for it and reload"
    )]
    Off {
        /// The directory.
        directory: DirectoryName,
    },
    /// A profile that the directory does not offer.
    #[error("the directory has no profile named \"{profile}\"; it has {}", known.join(", "))]
    UnknownProfile {
        /// The profile.
        profile: String,
        /// What there is.
        known: Vec<ProfileName>,
    },
    /// An owner that is not one line.
    #[error("say whose key it is, in one line of at most {OWNER_MAX} characters")]
    Owner,
    /// No names at all.
    #[error("a key that is limited to no name at all is of no use; leave the limit out, and policy alone decides")]
    NoNames,
    /// Too many accounts, or none.
    #[error("a key makes 1 to {ACCOUNTS_MAX} accounts, not {accounts}")]
    Accounts {
        /// How many were asked for.
        accounts: u64,
    },
    /// Not a time to expire.
    #[error("a key expires after now and within ten years, not at {expires}")]
    Expires {
        /// When.
        expires: Timestamp,
    },
    /// It ended.
    #[error("the EAB key \"{id}\" was revoked at {at} already")]
    Revoked {
        /// The key.
        id: EabKeyId,
        /// When.
        at: Timestamp,
    },
    /// Too many keys.
    #[error("there are {limit} EAB keys, and no more may be made (limits.eab_keys)")]
    TooMany {
        /// The limit.
        limit: u64,
    },
}

/// An account may do nothing any more because of its EAB key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EabKeyGone {
    /// The key is not known any more, so that its limits are not either.
    #[error("the EAB key \"{key}\" of this account is not known any more; register a new account with another key")]
    Unknown {
        /// The key.
        key: String,
    },
    /// The key was revoked together with its accounts.
    #[error("this account was stopped at {at}, with the EAB key \"{key}\" that it was made with")]
    Stopped {
        /// The key.
        key: String,
        /// When.
        at: Timestamp,
    },
}

impl Office {
    /// Makes an EAB key. Its secret is told here and never again.
    ///
    /// # Errors
    ///
    /// An [`EabKeyRejection`], or [`Failure`].
    pub async fn make_eab_key(&self, request: MakeEabKey, by: &str) -> Result<MadeEabKey, Refusal<EabKeyRejection>> {
        use EabKeyRejection as R;
        let settings = self.settings();
        let MakeEabKey { id, owner, directory, limits } = request;
        let now = self.trusted_time()?;
        let fits = !owner.trim().is_empty() && owner.chars().count() <= OWNER_MAX && !owner.contains(char::is_control);
        if !fits {
            return Err(Refusal::Rejected(R::Owner));
        }
        check_directory(&settings, &directory).map_err(Refusal::Rejected)?;
        check_limits(&settings, &directory, &limits, now).map_err(Refusal::Rejected)?;
        let id = match id {
            Some(id) => id,
            None => self.fresh_id()?,
        };
        let key = EabKey {
            id,
            salt: self.entropy().octets16(),
            owner,
            directory,
            limits,
            created: now,
            revoked: None,
            accounts_stopped: None,
        };
        let secret = self.eab_secret(&key.id, key.salt)?;
        let limit = settings.limits.eab_keys;
        let changes = Changes::new()
            .with(Change::EabKey(Put::new(key.clone())))
            .with(Change::Count { counter: Counter::EabKeys, by: 1, limit: Some(limit) })
            .schedule(JobKind::PruneEabKey { key: key.id.clone() }, self.pruned_at(&key))
            .leaf(leaves::eab_key_created(&key, by));
        match self.commit(changes).await {
            Ok(_) => Ok(MadeEabKey { key, secret }),
            Err(CommitError::Conflict) => Err(Refusal::Rejected(R::Taken { id: key.id })),
            Err(CommitError::Limit { .. }) => Err(Refusal::Rejected(R::TooMany { limit })),
            Err(error) => Err(Failure::from(error).into()),
        }
    }

    /// A key, ended or not, and how often it was used.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be read.
    pub async fn eab_key(&self, id: &EabKeyId) -> Result<Option<EabKeyState>, Failure> {
        match self.store().eab_key(id).await? {
            Some(found) => Ok(Some(self.with_uses(found.value).await?)),
            None => Ok(None),
        }
    }

    /// A page of keys, ended or not, in the order of their ids, after `after`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be read.
    pub async fn eab_keys(&self, after: Option<&EabKeyId>, limit: usize) -> Result<Vec<EabKeyState>, Failure> {
        let mut page = Vec::new();
        for key in self.store().eab_keys(after, limit).await? {
            page.push(self.with_uses(key).await?);
        }
        Ok(page)
    }

    /// Gives a key other limits. They hold for the accounts that it made, too, from their next newOrder or finalize on.
    ///
    /// # Errors
    ///
    /// An [`EabKeyRejection`], or [`Failure`].
    pub async fn limit_eab_key(
        &self,
        id: &EabKeyId,
        change: ChangeEabLimits,
        by: &str,
    ) -> Result<EabKeyState, Refusal<EabKeyRejection>> {
        let settings = self.settings();
        for _ in 0..ATTEMPTS {
            let loaded = self.known_key(id).await?;
            let now = self.trusted_time()?;
            let ChangeEabLimits { names, profiles, accounts, expires } = change.clone();
            // Names and profiles bind the accounts that a revoked key made, which go on; it makes no other.
            if let Some(at) = loaded.value.revoked
                && (accounts.is_some() || expires.is_some())
            {
                return Err(Refusal::Rejected(EabKeyRejection::Revoked { id: id.clone(), at }));
            }
            // What is not named stays as it was, also where the configuration has changed under it.
            let named = EabLimits {
                names: names.clone().flatten(),
                profiles: profiles.clone().unwrap_or_default(),
                accounts: accounts.unwrap_or(1),
                expires: expires.unwrap_or_else(|| now.after(LIFE_MAX)),
            };
            check_limits(&settings, &loaded.value.directory, &named, now).map_err(Refusal::Rejected)?;
            let held = loaded.value.limits.clone();
            let limits = EabLimits {
                names: names.unwrap_or(held.names),
                profiles: profiles.unwrap_or(held.profiles),
                accounts: accounts.unwrap_or(held.accounts),
                expires: expires.unwrap_or(held.expires),
            };
            let key = EabKey { limits, ..loaded.value.clone() };
            if key == loaded.value {
                return Ok(self.with_uses(key).await?);
            }
            let changes = Changes::new()
                .with(Change::EabKey(Put::over(&loaded, key.clone())))
                .schedule(JobKind::PruneEabKey { key: id.clone() }, self.pruned_at(&key))
                .leaf(leaves::eab_key_limited(&key, by, now));
            match self.commit(changes).await {
                Ok(_) => return Ok(self.with_uses(key).await?),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }

    /// Revokes a key: no account is made with it any more. With `accounts` those that it made are stopped as well, with
    /// the same commit: they can do nothing any more. A job that the commit owes says so in the record of each, and their
    /// open orders become invalid. That may also be asked for later, of a key that is revoked.
    ///
    /// # Errors
    ///
    /// An [`EabKeyRejection`], or [`Failure`].
    pub async fn revoke_eab_key(
        &self,
        id: &EabKeyId,
        accounts: bool,
        by: &str,
    ) -> Result<EabKeyState, Refusal<EabKeyRejection>> {
        for _ in 0..ATTEMPTS {
            let loaded = self.known_key(id).await?;
            let now = self.now();
            let mut changes = Changes::new();
            let mut key = loaded.value.clone();
            match key.revoked {
                Some(at) if !accounts => {
                    return Err(Refusal::Rejected(EabKeyRejection::Revoked { id: id.clone(), at }));
                }
                Some(_) => {}
                None => {
                    key.revoked = Some(now);
                    changes = changes
                        .schedule(JobKind::PruneEabKey { key: id.clone() }, self.pruned_at(&key))
                        .leaf(leaves::eab_key_revoked(id, by, now));
                }
            }
            if accounts {
                if key.accounts_stopped.is_none() {
                    key.accounts_stopped = Some(now);
                    changes = changes.leaf(leaves::eab_accounts_stopped(id, by, now));
                }
                // Owed since ever, as what an account's own end owes is.
                changes = changes.schedule(JobKind::StopAccounts { key: id.clone() }, Timestamp::from_unix_millis(0));
            }
            let changes = changes.with(Change::EabKey(Put::over(&loaded, key.clone()))).urgently();
            match self.commit(changes).await {
                Ok(_) => return Ok(self.with_uses(key).await?),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }

    /// The key that an account was made with, whose limits hold for it as long as it lives. `None` where it was made
    /// without one.
    pub(crate) async fn eab_key_of(
        &self,
        account: &Account,
    ) -> Result<Result<Option<Versioned<EabKey>>, EabKeyGone>, Failure> {
        let Some(external) = &account.external else { return Ok(Ok(None)) };
        let found = match external.key_id.parse() {
            Ok(id) => self.store().eab_key(&id).await?,
            Err(NotAnEabKeyId) => None,
        };
        let key = || external.key_id.clone();
        Ok(match found {
            None => Err(EabKeyGone::Unknown { key: key() }),
            Some(found) => match found.value.accounts_stopped {
                Some(at) => Err(EabKeyGone::Stopped { key: key(), at }),
                None => Ok(Some(found)),
            },
        })
    }

    /// An account as it counts: one whose EAB key was revoked with its accounts has ended, also where its own record does
    /// not say so yet.
    pub(crate) async fn as_it_counts(&self, account: Account) -> Result<Account, Failure> {
        if account.status != AccountStatus::Valid {
            return Ok(account);
        }
        Ok(match self.eab_key_of(&account).await? {
            Err(EabKeyGone::Stopped { at, .. }) => Account { status: AccountStatus::Revoked { at }, ..account },
            Err(EabKeyGone::Unknown { .. }) | Ok(_) => account,
        })
    }

    /// The secret of a key, for whoever checks a binding or made the key.
    pub(crate) fn eab_secret(&self, id: &EabKeyId, salt: [u8; 16]) -> Result<EabSecret, Failure> {
        self.ports().signer.eab_secret(id, salt).ok_or_else(|| {
            Failure::Unavailable("the signer has no key that EAB keys are derived from (signer.eab_key)".to_owned())
        })
    }

    /// When a key that made no account is dropped.
    pub(crate) fn pruned_at(&self, key: &EabKey) -> Timestamp {
        let end = key.revoked.map_or(key.limits.expires, |at| at.min(key.limits.expires));
        end.after(self.settings().limits.keep_ended_eab_keys)
    }

    async fn known_key(&self, id: &EabKeyId) -> Result<Versioned<EabKey>, Refusal<EabKeyRejection>> {
        let found = self.store().eab_key(id).await?;
        found.ok_or_else(|| Refusal::Rejected(EabKeyRejection::Unknown { id: id.clone() }))
    }

    async fn with_uses(&self, key: EabKey) -> Result<EabKeyState, Failure> {
        let used = self.store().count(&Counter::EabAccounts(key.id.clone())).await?;
        Ok(EabKeyState { key, used })
    }

    /// An id of chance, as plain as one that somebody thought of.
    fn fresh_id(&self) -> Result<EabKeyId, Failure> {
        let text = hex::encode(self.entropy().octets16());
        text.parse().map_err(|error: NotAnEabKeyId| Failure::Internal(error.to_string()))
    }
}

impl EabKeyState {
    /// Why no account is made with it at `now`, in words; nothing where one is.
    #[must_use]
    pub fn closed(&self, now: Timestamp) -> Option<&'static str> {
        match self.key.is_open(now) {
            Err(EabKeyEnded::Revoked { .. }) => Some("revoked"),
            Err(EabKeyEnded::Expired { .. }) => Some("expired"),
            Ok(()) => (self.used >= self.key.limits.accounts).then_some("used up"),
        }
    }
}

fn check_directory(settings: &Settings, name: &str) -> Result<(), EabKeyRejection> {
    let Some(directory) = settings.directories.get(name) else {
        return Err(EabKeyRejection::UnknownDirectory {
            directory: name.chars().take(64).flat_map(char::escape_debug).collect(),
            known: settings.directories.keys().cloned().collect(),
        });
    };
    match directory.external_account {
        ExternalAccountRule::Off => Err(EabKeyRejection::Off { directory: directory.name.clone() }),
        ExternalAccountRule::Optional | ExternalAccountRule::Required => Ok(()),
    }
}

fn check_limits(
    settings: &Settings,
    directory: &str,
    limits: &EabLimits,
    now: Timestamp,
) -> Result<(), EabKeyRejection> {
    use EabKeyRejection as R;
    let EabLimits { names, profiles, accounts, expires } = limits;
    if names.as_ref().is_some_and(NameScope::is_empty) {
        return Err(R::NoNames);
    }
    let known = settings.directories.get(directory).map(|directory| directory.profiles.clone()).unwrap_or_default();
    if let Some(profile) = profiles.iter().find(|profile| !known.contains(profile)) {
        let profile = profile.chars().take(64).flat_map(char::escape_debug).collect();
        return Err(R::UnknownProfile { profile, known });
    }
    if !(1..=ACCOUNTS_MAX).contains(accounts) {
        return Err(R::Accounts { accounts: *accounts });
    }
    if *expires <= now || *expires > now.after(LIFE_MAX) {
        return Err(R::Expires { expires: *expires });
    }
    Ok(())
}
