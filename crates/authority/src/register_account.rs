//! Accounts: registering, changing, ending them (RFC 8555 §7.3).

use std::fmt;

use chancery_acme::{
    account::{Account, AccountStatus, DirectoryName, ExternalAccount, TermsAgreed},
    eab::{Binding, BindingRejection},
    id::{AccountId, OrderId},
    order::{Order, OrderState},
    problem::{Problem, ProblemType},
};
use chancery_pki::{PublicKey, Timestamp};

use crate::{
    changes::{Change, Changes, Claim, Counter, Put},
    failure::{Failure, Refusal},
    leaves,
    office::{ATTEMPTS, Office},
    ports::CommitError,
    records::{EabKey, EabKeyEnded, EabKeyId, JobKind, Versioned},
    settings::{Directory, ExternalAccountRule},
};

/// Most contacts of one account.
const CONTACTS_MAX: usize = 10;
/// Longest contact URL, in octets (RFC 5321 §4.5.3.1 allows addresses of 254).
const CONTACT_LENGTH_MAX: usize = 320;

/// Most orders that become invalid in one commit when their account ends.
const CANCEL_BATCH: usize = 50;

/// What a newAccount request asks for.
#[derive(Debug, Clone)]
pub struct RegisterAccount {
    /// At which directory.
    pub directory: DirectoryName,
    /// The key that signed the request.
    pub key: PublicKey,
    /// Contact URLs as they were sent.
    pub contacts: Vec<String>,
    /// Whether the terms of service were agreed to.
    pub terms_agreed: bool,
    /// Whether only an existing account is wanted.
    pub only_existing: bool,
    /// The external account binding that came along, unread.
    pub binding: Option<PresentedBinding>,
}

/// An `externalAccountBinding` as it was sent (RFC 8555 §7.3.4). Nothing of it is proven.
#[derive(Clone, PartialEq, Eq)]
pub struct PresentedBinding {
    /// Its JSON, word for word.
    pub text: String,
    /// The URL of the newAccount request that it stands in.
    pub url: String,
}

/// The text is left out: it holds a MAC.
impl fmt::Debug for PresentedBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentedBinding").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a newAccount request led to.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The account.
    pub account: Account,
    /// Whether it was made just now.
    pub created: bool,
}

/// An account has not agreed to the terms of service that its directory has now (RFC 8555 §7.3.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this account has not agreed to the terms of service at {url}; read them, then send termsOfServiceAgreed: true \
     to newAccount or to the account's URL"
)]
pub struct TermsChanged {
    /// Where they stand.
    pub url: String,
}

/// Why an account is not made or not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterRejection {
    /// No such directory.
    #[error("there is no ACME directory named {directory}")]
    UnknownDirectory {
        /// The name asked for.
        directory: DirectoryName,
    },
    /// Only an existing one was wanted, and there is none.
    #[error("no account has this key; register one without onlyReturnExisting")]
    DoesNotExist,
    /// The terms were not agreed to.
    #[error("agree to the terms of service at {url} by sending termsOfServiceAgreed: true")]
    TermsNotAgreed {
        /// Where they stand.
        url: String,
    },
    /// A contact with another scheme than mailto.
    #[error("the contact \"{contact}\" is no mailto: URL, and only those are supported")]
    UnsupportedContact {
        /// The contact.
        contact: String,
    },
    /// A contact that is no single mail address.
    #[error("the contact \"{contact}\" is not usable: {why}")]
    InvalidContact {
        /// The contact.
        contact: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Too many contacts.
    #[error("{count} contacts are more than the {max} that an account may have", max = CONTACTS_MAX)]
    TooManyContacts {
        /// How many were sent.
        count: usize,
    },
    /// The account of this key is deactivated.
    #[error("the account of this key is deactivated; register with a new key")]
    Deactivated,
    /// The key is on the block list.
    #[error("this key is on the block list; make a new one")]
    BlockedKey,
    /// The directory wants an external account binding, and none came.
    #[error(
        "the directory {directory} makes accounts with an external account binding alone (RFC 8555 §7.3.4): ask the \
         operator of this server for an EAB key, and give your client its key identifier and its MAC key"
    )]
    ExternalAccountRequired {
        /// The directory.
        directory: DirectoryName,
    },
    /// The binding is malformed, or for another request.
    #[error(transparent)]
    Binding(#[from] BindingRejection),
    /// No key of that id, or a MAC by another one: which of the two is not told.
    #[error(
        "the external account binding is not authenticated: no EAB key of this server has that kid and makes that MAC; \
         give your client both as they were printed"
    )]
    NotAuthenticated,
    /// A good binding of a key for somewhere else.
    #[error(
        "the EAB key \"{key}\" is for another directory of this server; use the directory URL that was given with it"
    )]
    OtherDirectory {
        /// The key.
        key: EabKeyId,
    },
    /// A good binding of a key that ended.
    #[error(transparent)]
    KeyEnded(#[from] EabKeyEnded),
    /// A good binding of a key that has made all its accounts.
    #[error(
        "the EAB key \"{key}\" is used up: it has made the {accounts} accounts that it was for; use the account that you \
         have, or ask the operator of this server for another key"
    )]
    KeyUsedUp {
        /// The key.
        key: EabKeyId,
        /// How many.
        accounts: u64,
    },
    /// This account key has made an account with that EAB key, and the account has another key since.
    #[error(
        "an account with this account key was made by the EAB key \"{key}\" before, and its key was changed since; make a new \
         account key"
    )]
    KeyUsedBySame {
        /// The EAB key.
        key: EabKeyId,
    },
    /// Too many accounts without any certificate.
    #[error(
        "{limit} accounts without any certificate are registered, and no more are taken until some are used or pruned"
    )]
    TooManyUnproven {
        /// The limit.
        limit: u64,
    },
}

impl Office {
    /// Finds or makes the account of a key (RFC 8555 §7.3, §7.3.1).
    ///
    /// # Errors
    ///
    /// A [`RegisterRejection`], or [`Failure`].
    pub async fn register_account(&self, request: RegisterAccount) -> Result<Registered, Refusal<RegisterRejection>> {
        use RegisterRejection as R;
        let settings = self.settings();
        let Some(directory) = settings.directories.get(&request.directory) else {
            return Err(Refusal::Rejected(R::UnknownDirectory { directory: request.directory }));
        };
        // The EAB key as it was at the last conflict.
        let mut conflicted = None;
        for _ in 0..ATTEMPTS {
            if let Some(found) = self.account_by_key(&request.directory, &request.key.digest()).await? {
                if found.status != AccountStatus::Valid {
                    return Err(Refusal::Rejected(R::Deactivated));
                }
                let agrees = request.terms_agreed && !request.only_existing;
                // Contacts are left as they are (RFC 8555 §7.3.1); agreeing is what §7.3.3 asks clients to do.
                let account = if agrees { self.update_account(found.id, None, true).await? } else { found };
                return Ok(Registered { account, created: false });
            }
            if request.only_existing {
                return Err(Refusal::Rejected(R::DoesNotExist));
            }
            if settings.block_list.check(&request.key).is_err() {
                return Err(Refusal::Rejected(R::BlockedKey));
            }
            let contacts = check_contacts(&request.contacts).map_err(Refusal::Rejected)?;
            if let (Some(url), false) = (&directory.terms_of_service, request.terms_agreed) {
                return Err(Refusal::Rejected(R::TermsNotAgreed { url: url.clone() }));
            }
            let now = self.trusted_time()?;
            // Last, so that what is refused for another reason is not told whether its key is good.
            let bound = self.bound(directory, &request, now).await?;
            let external = bound.as_ref().map(|(_, external)| external.clone());
            let account = Account {
                id: AccountId::from_random(self.entropy().octets16()),
                directory: request.directory.clone(),
                key: request.key.clone(),
                contacts,
                status: AccountStatus::Valid,
                terms_agreed: if request.terms_agreed { agreement(directory, now) } else { None },
                created: now,
                proven: external.is_some(),
                external,
            };
            let changes = Changes::new().with(Change::Account(Put::new(account.clone())));
            let changes = match &bound {
                Some((key, external)) => used(changes, key, external, &account),
                None => changes
                    .with(Change::Count {
                        counter: Counter::UnprovenAccounts,
                        by: 1,
                        limit: Some(settings.limits.unproven_accounts),
                    })
                    .schedule(
                        JobKind::PruneAccount { account: account.id },
                        now.after(settings.limits.unproven_account_lifetime),
                    ),
            };
            match self.commit(changes).await {
                Ok(_) => return Ok(Registered { account, created: true }),
                // Somebody registered the same key, which is found then; or the EAB key changed, and is asked again. Where
                // neither is so, this account key made an account with that EAB key before, and has another one since.
                Err(CommitError::Conflict) => {
                    let met = bound.map(|(key, _)| (key.value.id, key.version));
                    match (met, conflicted) {
                        (Some((key, version)), Some(before)) if version == before => {
                            return Err(Refusal::Rejected(R::KeyUsedBySame { key }));
                        }
                        (met, _) => conflicted = met.map(|(_, version)| version),
                    }
                }
                Err(CommitError::Limit { counter: Counter::EabAccounts(key), limit: accounts }) => {
                    return Err(Refusal::Rejected(R::KeyUsedUp { key, accounts }));
                }
                Err(CommitError::Limit { limit, .. }) => return Err(Refusal::Rejected(R::TooManyUnproven { limit })),
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }

    /// The EAB key by which an account may be made, its binding verified; none where there need be none.
    async fn bound(
        &self,
        directory: &Directory,
        request: &RegisterAccount,
        now: Timestamp,
    ) -> Result<Option<(Versioned<EabKey>, ExternalAccount)>, Refusal<RegisterRejection>> {
        use RegisterRejection as R;
        let presented = match (directory.external_account, &request.binding) {
            // What was not verified is not kept, and so not reflected.
            (ExternalAccountRule::Off, _) | (ExternalAccountRule::Optional, None) => return Ok(None),
            (ExternalAccountRule::Required, None) => {
                return Err(Refusal::Rejected(R::ExternalAccountRequired { directory: directory.name.clone() }));
            }
            (ExternalAccountRule::Optional | ExternalAccountRule::Required, Some(presented)) => presented,
        };
        let PresentedBinding { text, url } = presented;
        let binding =
            Binding::parse(text, url, &request.key).map_err(|rejection| Refusal::Rejected(rejection.into()))?;
        let unknown = || Refusal::Rejected(R::NotAuthenticated);
        let id: EabKeyId = binding.key_id.parse().map_err(|_| unknown())?;
        let loaded = self.store().eab_key(&id).await?;
        // Derived and verified in any case: the time that an answer takes tells nobody which keys there are.
        let salt = loaded.as_ref().map_or([0; 16], |loaded| loaded.value.salt);
        let authentic = self.eab_secret(&id, salt)?.authenticates(&binding);
        let Some(loaded) = loaded.filter(|_| authentic) else { return Err(unknown()) };
        // From here on whoever asks is known to hold the key.
        if loaded.value.directory != directory.name {
            return Err(Refusal::Rejected(R::OtherDirectory { key: id }));
        }
        loaded.value.is_open(now).map_err(|ended| Refusal::Rejected(ended.into()))?;
        Ok(Some((loaded, ExternalAccount { key_id: id.to_string(), binding: text.clone() })))
    }

    /// Changes an account's contacts (RFC 8555 §7.3.2), where `None` leaves them, and takes its agreement to the terms
    /// of service that are in force now (§7.3.3).
    ///
    /// # Errors
    ///
    /// A [`RegisterRejection`] about contacts, or [`Failure`].
    pub async fn update_account(
        &self,
        id: AccountId,
        contacts: Option<Vec<String>>,
        terms_agreed: bool,
    ) -> Result<Account, Refusal<RegisterRejection>> {
        let settings = self.settings();
        let contacts = contacts.map(|contacts| check_contacts(&contacts)).transpose().map_err(Refusal::Rejected)?;
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.store().account(id).await? else {
                return Err(Refusal::Rejected(RegisterRejection::DoesNotExist));
            };
            let mut account = loaded.value.clone();
            if let Some(contacts) = &contacts {
                account.contacts.clone_from(contacts);
            }
            if terms_agreed
                && let Some(directory) = settings.directories.get(&account.directory)
                && must_agree(directory, &account).is_err()
            {
                account.terms_agreed = agreement(directory, self.now());
            }
            if account == loaded.value {
                return Ok(account);
            }
            if account.status != AccountStatus::Valid {
                return Err(Refusal::Rejected(RegisterRejection::Deactivated));
            }
            let mut changes = Changes::new().with(Change::Account(Put::over(&loaded, account.clone())));
            // Kept for a rebuild, as what it agreed to before is by its first intent.
            if let (true, Some(agreed)) = (account.proven, &account.terms_agreed)
                && loaded.value.terms_agreed.as_ref() != Some(agreed)
            {
                changes = changes.leaf(leaves::account_agreed(id, agreed));
            }
            match self.commit(changes).await {
                Ok(_) => return Ok(account),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }

    /// Ends an account at its holder's wish (RFC 8555 §7.3.6): its open orders become invalid, by a job
    /// that the same commit owes; its certificates stay. One that the ledger knows of (it was granted a
    /// certificate) ends there too, so that no rebuild revives it.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn deactivate_account(&self, id: AccountId) -> Result<Account, Failure> {
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.store().account(id).await? else {
                return Err(Failure::Internal(format!("account {id} is gone")));
            };
            let now = self.now();
            let account = match loaded.value.status {
                AccountStatus::Valid => {
                    Account { status: AccountStatus::Deactivated { at: now }, ..loaded.value.clone() }
                }
                AccountStatus::Deactivated { .. } | AccountStatus::Revoked { .. } => return Ok(loaded.value),
            };
            // Owed since ever: it comes before all that time makes due, which waits while the clock is in doubt.
            let mut changes = Changes::new()
                .with(Change::Account(Put::over(&loaded, account.clone())))
                .schedule(JobKind::CancelOrders { account: id }, Timestamp::from_unix_millis(0));
            if account.proven {
                changes = changes.leaf(leaves::account_deactivated(id, now));
            }
            match self.commit(changes).await {
                Ok(_) => return Ok(account),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }

    /// Open orders of an account that ended become invalid, some in each commit. The account's end is
    /// durable already, and it alone stops every further request; this makes the orders say so too. A
    /// kill in between is made up for by the next run, which finds what is still open.
    pub(crate) async fn cancel_orders(&self, account: AccountId) -> Result<(), Failure> {
        let ended = self.store().account(account).await?.map(|account| account.value.status);
        let why = match ended {
            Some(AccountStatus::Revoked { .. }) => "the account was revoked",
            Some(AccountStatus::Valid | AccountStatus::Deactivated { .. }) | None => "the account was deactivated",
        };
        let mut after = None;
        loop {
            let page = self.store().orders_of(account, after, CANCEL_BATCH).await?;
            let Some(last) = page.last().copied() else {
                let done = Change::Finish(JobKind::CancelOrders { account });
                return Ok(self.commit(Changes::new().with(done)).await.map(drop)?);
            };
            self.cancel_open(&page, why).await?;
            after = Some(last);
        }
    }

    /// Those of these orders that are open become invalid, in one commit.
    async fn cancel_open(&self, orders: &[OrderId], why: &str) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            let mut changes = Changes::new();
            for id in orders {
                let Some(loaded) = self.store().order(*id).await? else { continue };
                if matches!(loaded.value.state, OrderState::Pending | OrderState::Ready) {
                    let error = Problem::new(ProblemType::Unauthorized, why);
                    let failed = loaded.value.clone().failed(error);
                    changes.items.extend(order_changes(&loaded, failed).items);
                }
            }
            if changes.items.is_empty() {
                return Ok(());
            }
            match self.commit(changes).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }
}

/// The use of an EAB key by the account that it makes: one of as many as it grants, and only if it is still as it was.
fn used(changes: Changes, key: &Versioned<EabKey>, external: &ExternalAccount, account: &Account) -> Changes {
    let id = &key.value.id;
    let limit = Some(key.value.limits.accounts);
    changes
        .with(Change::SameEabKey(id.clone(), key.version))
        .with(Change::Claim(Claim::EabUse { key_id: id.clone(), account_key: account.key.digest() }))
        .with(Change::Count { counter: Counter::EabAccounts(id.clone()), by: 1, limit })
        .leaf(leaves::eab_key_used(id, external, account))
}

/// The changes that move an order, its place in the account's count of open orders included.
pub(crate) fn order_changes(loaded: &Versioned<Order>, after: Order) -> Changes {
    let open =
        |order: &Order| matches!(order.state, OrderState::Pending | OrderState::Ready | OrderState::Processing { .. });
    let closes = open(&loaded.value) && !open(&after);
    let account = after.account;
    let changes = Changes::new().with(Change::Order(Put::over(loaded, after)));
    if closes {
        changes.with(Change::Count { counter: Counter::PendingOrders(account), by: -1, limit: None })
    } else {
        changes
    }
}

/// That an account has agreed to the terms that its directory has now, if it has any (RFC 8555 §7.3.3).
pub(crate) fn must_agree(directory: &Directory, account: &Account) -> Result<(), TermsChanged> {
    match &directory.terms_of_service {
        Some(url) if !account.has_agreed_to(url) => Err(TermsChanged { url: url.clone() }),
        Some(_) | None => Ok(()),
    }
}

fn agreement(directory: &Directory, at: Timestamp) -> Option<TermsAgreed> {
    directory.terms_of_service.clone().map(|url| TermsAgreed { url, at })
}

/// Contacts are `mailto:` URLs with one address and no header fields (RFC 8555 §7.3, RFC 6068).
fn check_contacts(contacts: &[String]) -> Result<Vec<String>, RegisterRejection> {
    use RegisterRejection as R;
    if contacts.len() > CONTACTS_MAX {
        return Err(R::TooManyContacts { count: contacts.len() });
    }
    for contact in contacts {
        let shown: String = contact.chars().take(80).flat_map(char::escape_debug).collect();
        let invalid = |why| Err(R::InvalidContact { contact: shown.clone(), why });
        let Some(address) =
            contact.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("mailto:")).and(contact.get(7..))
        else {
            return Err(R::UnsupportedContact { contact: shown });
        };
        if contact.len() > CONTACT_LENGTH_MAX {
            return invalid("it is too long");
        }
        if address.contains('?') {
            return invalid("header fields are not allowed");
        }
        if address.contains(',') || address.to_ascii_lowercase().contains("%2c") {
            return invalid("one contact holds one address; send several contacts");
        }
        if !address.is_ascii() || address.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return invalid("an address holds printable ASCII alone");
        }
        match address.rsplit_once('@') {
            Some((local, domain)) if !local.is_empty() && domain.parse::<chancery_pki::DnsName>().is_ok() => {}
            _ => return invalid("an address has a local part, an @ and a domain"),
        }
    }
    Ok(contacts.to_vec())
}
