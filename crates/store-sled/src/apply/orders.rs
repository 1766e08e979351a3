//! What changes of orders do, and of what stands in an order's own index entry: its claim and its pruning.

use chancery_acme::{id::OrderId, order::Order};
use chancery_authority::{
    changes::Claim,
    ports::CommitError,
    records::{Job, JobKind, Version},
};

use super::{
    Staging,
    slot::{Owed, Slot},
    unreadable,
};
use crate::{
    key::{self, Key},
    record,
};

impl Staging<'_> {
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

    pub(super) fn remove_order(&mut self, id: OrderId, version: Version) -> Result<(), CommitError> {
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

    pub(super) fn claim(&mut self, claim: &Claim) -> Result<(), CommitError> {
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

    pub(super) fn release(&mut self, claim: &Claim) -> Result<(), CommitError> {
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

    pub(super) fn schedule(&mut self, job: &Job) -> Result<(), CommitError> {
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

    pub(super) fn finish(&mut self, kind: &JobKind) -> Result<(), CommitError> {
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
