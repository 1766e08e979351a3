//! What a commit's changes do to keys and values, checked against synced state and what the group
//! accepted before it. A commit that fails adds nothing.

use std::{collections::BTreeMap, sync::Arc};

use chancery_acme::{account::Account, id::OrderId, order::Order};
use chancery_authority::{
    changes::{Change, Claim, Put},
    ports::{CommitError, NotApplied},
    records::{CertificateRecord, CertificateState, Job, JobKind, LeafRef, Version},
};
use chancery_pki::Timestamp;

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
            Change::Order(put) => {
                let order = &put.value;
                let index = key::account_order(order.account, order.id);
                if self.put(key::order(order.id), &put, "order")?.is_none() {
                    self.set(index, &[])?;
                }
                Ok(())
            }
            Change::Authorization(put) => self.put(key::authorization(put.value.id), &put, "authorization").map(drop),
            Change::Certificate(put) => self.put_certificate(put),
            Change::Idempotency(put) => {
                self.put(key::idempotency(&put.value.key), &put, "idempotency outcome").map(drop)
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
            Change::RemoveAuthorization(id, version) => {
                let key = key::authorization(id);
                self.expect(&key, Some(version), "authorization")?;
                self.unset(key);
                Ok(())
            }
            Change::RemoveCertificate(id, version) => {
                let key = key::certificate(id);
                if let Some(old) = self.expect(&key, Some(version), "certificate record")? {
                    let record: CertificateRecord =
                        record::decode(&key, &old).map_err(unreadable("certificate record"))?.value;
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

    /// What an order's own index entry holds beside the order: one key less each for its claim and
    /// for its pruning, and every order has both.
    fn slot(&self, order: OrderId) -> Result<Option<(Key, Slot)>, CommitError> {
        let key = key::order(order);
        let Some(stored) = self.get(&key)? else { return Ok(None) };
        let held: Order = record::decode(&key, &stored).map_err(unreadable("order"))?.value;
        let key = key::account_order(held.account, order);
        let Some(value) = self.get(&key)? else { return Ok(None) };
        let slot = Slot::decode(&value).map_err(unreadable("order's index entry"))?;
        Ok(Some((key, slot)))
    }

    fn remove_order(&mut self, id: OrderId, version: Version) -> Result<(), CommitError> {
        let key = key::order(id);
        self.expect(&key, Some(version), "order")?;
        if let Some((entry, Slot { claimed, pruning })) = self.slot(id)? {
            self.unset(entry);
            self.unset(key);
            // Whoever wants these gone says so; they outlive the order until then.
            if claimed {
                self.set(key::claim(&Claim::OrderCertificate(id)), &[])?;
            }
            if let Some(pruning) = pruning {
                self.set(key::job(&JobKind::PruneOrder { order: id }), &pruning.encode())?;
            }
        }
        Ok(())
    }

    fn claim(&mut self, claim: &Claim) -> Result<(), CommitError> {
        let key = key::claim(claim);
        if self.get(&key)?.is_some() {
            return Err(CommitError::Conflict);
        }
        if let Claim::OrderCertificate(order) = claim
            && let Some((entry, slot)) = self.slot(*order)?
        {
            if slot.claimed {
                return Err(CommitError::Conflict);
            }
            return self.set(entry, &Slot { claimed: true, ..slot }.encode());
        }
        self.set(key, &[])
    }

    fn release(&mut self, claim: &Claim) -> Result<(), CommitError> {
        if let Claim::OrderCertificate(order) = claim
            && let Some((entry, slot)) = self.slot(*order)?
            && slot.claimed
        {
            self.set(entry, &Slot { claimed: false, ..slot }.encode())?;
        }
        let key = key::claim(claim);
        if self.get(&key)?.is_some() {
            self.unset(key);
        }
        Ok(())
    }

    fn schedule(&mut self, job: &Job) -> Result<(), CommitError> {
        let Job { kind, due, attempt } = job;
        self.finish(kind)?;
        let owed = Owed { due: *due, attempt: *attempt };
        self.set(key::job_due(*due, kind), &record::encode_number(u64::from(*attempt)))?;
        if let JobKind::PruneOrder { order } = kind
            && let Some((entry, slot)) = self.slot(*order)?
        {
            return self.set(entry, &Slot { pruning: Some(owed), ..slot }.encode());
        }
        self.set(key::job(kind), &owed.encode())
    }

    fn finish(&mut self, kind: &JobKind) -> Result<(), CommitError> {
        if let JobKind::PruneOrder { order } = kind
            && let Some((entry, slot)) = self.slot(*order)?
            && let Some(owed) = slot.pruning
        {
            self.unset(key::job_due(owed.due, kind));
            self.set(entry, &Slot { pruning: None, ..slot }.encode())?;
        }
        let key = key::job(kind);
        if let Some(old) = self.get(&key)? {
            let owed = Owed::decode(&old).map_err(unreadable("job"))?;
            self.unset(key::job_due(owed.due, kind));
            self.unset(key);
        }
        Ok(())
    }
}

/// When a job is due, and how often it was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owed {
    due: Timestamp,
    attempt: u32,
}

impl Owed {
    fn encode(self) -> Vec<u8> {
        let attempt = record::encode_number(u64::from(self.attempt));
        [self.due.unix_millis().to_le_bytes().as_slice(), &attempt].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (due, attempt) = bytes.split_first_chunk::<8>().ok_or(RecordError::Malformed("it has no time"))?;
        let attempt = u32::try_from(record::decode_number(attempt)?);
        Ok(Self {
            due: Timestamp::from_unix_millis(i64::from_le_bytes(*due)),
            attempt: attempt.map_err(|_| RecordError::Malformed("it was tried too often"))?,
        })
    }
}

/// What stands in an order's index entry: nothing at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// The order's one certificate is taken.
    claimed: bool,
    /// Its pruning is owed.
    pruning: Option<Owed>,
}

impl Slot {
    fn encode(self) -> Vec<u8> {
        match self {
            Self { claimed: false, pruning: None } => Vec::new(),
            Self { claimed, pruning } => {
                let mut out = vec![u8::from(claimed)];
                out.extend(pruning.into_iter().flat_map(Owed::encode));
                out
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let Some((claimed, pruning)) = bytes.split_first() else {
            return Ok(Self { claimed: false, pruning: None });
        };
        let pruning = if pruning.is_empty() { None } else { Some(Owed::decode(pruning)?) };
        Ok(Self { claimed: *claimed == 1, pruning })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_s_entry_reads_back() {
        let owed = |attempt| Owed { due: Timestamp::from_unix_millis(1_795_600_000_123), attempt };
        for pruning in [None, Some(owed(0)), Some(owed(7)), Some(owed(u32::MAX))] {
            for claimed in [false, true] {
                let slot = Slot { claimed, pruning };
                assert_eq!(Slot::decode(&slot.encode()), Ok(slot));
            }
        }
    }
}
