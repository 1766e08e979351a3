//! What a commit's changes do to keys and values, checked against synced state and what the group
//! accepted before it. A commit that fails adds nothing.

mod orders;

use std::{collections::BTreeMap, sync::Arc};

use chancery_acme::account::Account;
use chancery_authority::{
    changes::{Change, Put},
    ports::{CommitError, NotApplied},
    records::{CertificateRecord, CertificateState, LeafRef, Version},
};

use crate::{
    index::VALUE_MAX,
    journal::{Damage, Results},
    key::{self, Key},
    record::{self, Record, RecordError},
    view::View,
};

/// Reads under what is staged: the synced state.
pub(crate) trait Base {
    fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, Damage>;
}

impl Base for View {
    fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, Damage> {
        Self::get(self, key)
    }
}

/// One commit on top of its group on top of the synced state.
pub(crate) struct Staging<'a> {
    base: &'a dyn Base,
    group: &'a Results,
    own: Results,
    version: Version,
    first_leaf: u64,
    leaves: usize,
}

/// A fault that is ours: something stored does not read, or cannot be stored.
fn unstorable(why: impl Into<Arc<str>>) -> CommitError {
    CommitError::NotApplied(NotApplied::Unstorable(why.into()))
}

fn unreadable(what: &str) -> impl FnOnce(RecordError) -> CommitError {
    move |error| unstorable(format!("a stored {what} is damaged: {error}"))
}

impl<'a> Staging<'a> {
    pub(crate) fn new(
        base: &'a dyn Base,
        group: &'a Results,
        version: Version,
        first_leaf: u64,
        leaves: usize,
    ) -> Self {
        Self { base, group, own: BTreeMap::new(), version, first_leaf, leaves }
    }

    /// Stages all changes, or says why none may be.
    pub(crate) fn apply(mut self, items: Vec<Change>) -> Result<Results, CommitError> {
        for item in items {
            self.stage(item)?;
        }
        Ok(self.own)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, CommitError> {
        match self.own.get(key).or_else(|| self.group.get(key)) {
            Some(staged) => Ok(staged.clone()),
            None => self.base.get(key).map_err(|damage| unstorable(damage.to_string())),
        }
    }

    fn set(&mut self, key: Key, value: &[u8]) -> Result<(), CommitError> {
        if value.len() > VALUE_MAX {
            return Err(unstorable(format!("a record of {} octets is larger than {VALUE_MAX}", value.len())));
        }
        if u16::try_from(key.len()).is_err() {
            return Err(unstorable("a key is too long"));
        }
        self.own.insert(key, Some(Arc::from(value)));
        Ok(())
    }

    fn unset(&mut self, key: Key) {
        self.own.insert(key, None);
    }

    /// Takes a key that only one may have.
    fn take(&mut self, key: Key, value: &[u8]) -> Result<(), CommitError> {
        if self.get(&key)?.is_some() { Err(CommitError::Conflict) } else { self.set(key, value) }
    }

    /// What is stored under `key`, which must have the version expected.
    fn expect(&self, key: &[u8], expected: Option<Version>, what: &str) -> Result<Option<Arc<[u8]>>, CommitError> {
        let stored = self.get(key)?;
        let version = stored.as_deref().map(record::version).transpose().map_err(unreadable(what))?;
        if version == expected { Ok(stored) } else { Err(CommitError::Conflict) }
    }

    fn put<T: Record>(&mut self, key: Key, put: &Put<T>, what: &str) -> Result<Option<Arc<[u8]>>, CommitError> {
        let old = self.expect(&key, put.replaces, what)?;
        let value = record::encode(self.version, &put.value);
        self.set(key, &value)?;
        Ok(old)
    }

    fn stage(&mut self, item: Change) -> Result<(), CommitError> {
        match item {
            Change::Account(put) => self.put_account(&put),
            Change::Order(put) => self.put_order(put),
            Change::Authorization(put) => self.put_authorization(put),
            Change::Certificate(put) => self.put_certificate(put),
            Change::Idempotency(put) => {
                self.put(key::idempotency(&put.value.key), &put, "idempotency outcome").map(drop)
            }
            Change::ApiToken(put) => self.put(key::api_token(put.value.id), &put, "API token").map(drop),
            Change::RemoveApiToken(id, version) => {
                let key = key::api_token(id);
                self.expect(&key, Some(version), "API token")?;
                self.unset(key);
                Ok(())
            }
            Change::InForce(put) => self.put(key::in_force(), &put, "record of what is in force").map(drop),
            Change::EabKey(put) => self.put(key::eab_key(&put.value.id), &put, "EAB key").map(drop),
            Change::SameEabKey(id, version) => self.expect(&key::eab_key(&id), Some(version), "EAB key").map(drop),
            Change::SameAccount(id, version) => self.expect(&key::account(id), Some(version), "account").map(drop),
            Change::CrlNumber { authority, shard, number } => {
                let key = key::crl_number(&authority, shard);
                let last = self.get(&key)?.as_deref().map(record::decode_number).transpose();
                if last.map_err(unreadable("CRL number"))?.is_some_and(|last| last >= number) {
                    return Err(CommitError::Conflict);
                }
                self.set(key, &record::encode_number(number))
            }
            Change::RemoveAccount(id, version) => {
                let key = key::account(id);
                if let Some(old) = self.expect(&key, Some(version), "account")? {
                    let account: Account = record::decode(&key, &old).map_err(unreadable("account"))?.value;
                    self.unset(key::account_key(&account.key.digest(), &account.directory));
                }
                self.unset(key);
                Ok(())
            }
            Change::RemoveOrder(id, version) => self.remove_order(id, version),
            Change::RemoveAuthorization(id, version) => self.remove_authorization(id, version),
            Change::RemoveCertificate(id, version) => {
                let key = key::certificate(id);
                if let Some(old) = self.expect(&key, Some(version), "certificate record")? {
                    let record: CertificateRecord =
                        record::decode(&key, &old).map_err(unreadable("certificate record"))?.value;
                    self.unlist(&record)?;
                    for index in key::certificate_index(&record) {
                        self.unset(index);
                    }
                }
                self.unset(key);
                Ok(())
            }
            Change::RemoveIdempotency(of, version) => {
                let key = key::idempotency(&of);
                self.expect(&key, Some(version), "idempotency outcome")?;
                self.unset(key);
                Ok(())
            }
            Change::RemoveEabKey(id, version) => {
                let key = key::eab_key(&id);
                self.expect(&key, Some(version), "EAB key")?;
                self.unset(key);
                Ok(())
            }
            Change::Claim(claim) => self.claim(&claim),
            Change::Release(claim) => self.release(&claim),
            Change::Count { counter, by, limit } => {
                let key = key::counter(&counter);
                let stored = self.get(&key)?;
                let before = stored.as_deref().map_or(Ok(0), record::decode_number).map_err(unreadable("counter"))?;
                let after = before.saturating_add_signed(by);
                match limit {
                    Some(limit) if by > 0 && after > limit => return Err(CommitError::Limit { counter, limit }),
                    _ if after == 0 => self.unset(key),
                    _ => self.set(key, &record::encode_number(after))?,
                }
                Ok(())
            }
            Change::Schedule(job) => self.schedule(&job),
            Change::Finish(kind) => self.finish(&kind),
        }
    }

    fn put_account(&mut self, put: &Put<Account>) -> Result<(), CommitError> {
        let account = &put.value;
        let index = key::account_key(&account.key.digest(), &account.directory);
        let key = key::account(account.id);
        if let Some(old) = self.put(key.clone(), put, "account")? {
            let old: Account = record::decode(&key, &old).map_err(unreadable("account"))?.value;
            let held = key::account_key(&old.key.digest(), &old.directory);
            if held == index {
                return Ok(());
            }
            self.unset(held);
        }
        self.take(index, &account.id.octets())
    }

    fn put_certificate(&mut self, mut put: Put<CertificateRecord>) -> Result<(), CommitError> {
        let state = match put.value.state {
            CertificateState::Intended { intent } => CertificateState::Intended { intent: self.leaf(intent)? },
            CertificateState::Issued { intent, signature } => {
                CertificateState::Issued { intent: self.leaf(intent)?, signature: self.leaf(signature)? }
            }
            CertificateState::PossiblyIssued { intent } => {
                CertificateState::PossiblyIssued { intent: self.leaf(intent)? }
            }
        };
        put.value.state = state;
        let record = &put.value;
        let index = key::certificate_index(record);
        let serial = key::serial(&record.authority, record.serial);
        let key = key::certificate(record.id);
        match self.put(key.clone(), &put, "certificate record")? {
            None => {
                for key in index {
                    if key == serial {
                        self.take(key, &[])?;
                    } else {
                        self.set(key, &[])?;
                    }
                }
                self.list(record)?;
            }
            Some(old) => {
                let old: CertificateRecord =
                    record::decode(&key, &old).map_err(unreadable("certificate record"))?.value;
                let held = key::certificate_index(&old);
                if held != index {
                    for key in held {
                        self.unset(key);
                    }
                    for key in index {
                        self.set(key, &[])?;
                    }
                }
                if (old.account, old.order) != (record.account, record.order) {
                    self.unlist(&old)?;
                    self.list(record)?;
                }
            }
        }
        Ok(())
    }

    /// The index of a leaf, now that it is known.
    fn leaf(&self, leaf: LeafRef) -> Result<LeafRef, CommitError> {
        match leaf {
            LeafRef::At(index) => Ok(LeafRef::At(index)),
            LeafRef::InThisCommit(nth) if nth < self.leaves => {
                Ok(LeafRef::At(self.first_leaf.saturating_add(u64::try_from(nth).unwrap_or(u64::MAX))))
            }
            LeafRef::InThisCommit(nth) => Err(unstorable(format!("a record names leaf {nth} of a commit without it"))),
        }
    }
}
