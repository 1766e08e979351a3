//! What changes of orders do, and of what stands in an order's row: its claim, its pruning, the
//! authorizations that settled with it; and which certificates are its account's through it.

use chancery_acme::{
    authorization::{Authorization, AuthorizationState},
    id::{AuthorizationId, CertificateId, OrderId},
    order::{Order, OrderState},
};
use chancery_authority::{
    changes::{Claim, Put},
    ports::CommitError,
    records::{CertificateRecord, Job, JobKind, Version, Versioned},
};

use super::{Staging, unreadable, unstorable};
use crate::{
    key,
    record::{self, OrderRow, Owed},
};

impl Staging<'_> {
    /// An order's row with the order's version.
    fn row(&self, order: OrderId) -> Result<Option<Versioned<OrderRow>>, CommitError> {
        let key = key::order(order);
        let stored = self.get(&key)?;
        stored.map(|stored| record::decode(&key, &stored).map_err(unreadable("order"))).transpose()
    }

    fn set_row(&mut self, version: Version, row: &OrderRow) -> Result<(), CommitError> {
        self.set(key::order(row.order.id), &record::encode(version, row))
    }

    pub(super) fn put_order(&mut self, put: Put<Order>) -> Result<(), CommitError> {
        let Put { replaces, value: order } = put;
        let key = key::order(order.id);
        let old = match self.expect(&key, replaces, "order")? {
            None if !order.id.octets().starts_with(&order.account.order_prefix()) => {
                return Err(unstorable("an order's id does not begin with its account's"));
            }
            None => None,
            Some(old) => Some(record::decode::<OrderRow>(&key, &old).map_err(unreadable("order"))?.value),
        };
        let told = old.as_ref().and_then(OrderRow::certificate);
        let mut row = match old {
            None => OrderRow { order, claimed: false, pruning: None, settled: Vec::new() },
            Some(old) => OrderRow { order, ..old },
        };
        if let OrderState::Valid { .. } = row.order.state {
            self.settle_authorizations(&mut row)?;
        }
        self.set_row(self.version, &row)?;
        if told == row.certificate() {
            return Ok(());
        }
        self.list_anew(told)?;
        self.list_anew(row.certificate())
    }

    /// Takes an order's authorizations into its row, as it becomes valid.
    fn settle_authorizations(&mut self, row: &mut OrderRow) -> Result<(), CommitError> {
        for (id, name) in row.order.authorizations.iter().zip(row.order.names.iter()) {
            let key = key::authorization(*id);
            let Some(stored) = self.get(&key)? else { continue };
            let found: Versioned<Authorization> = record::decode(&key, &stored).map_err(unreadable("authorization"))?;
            let Authorization { id, account, order, name: of, state, expires: _, challenges: _ } = &found.value;
            let follows =
                id.order() == row.order.id && (account, order, of) == (&row.order.account, &row.order.id, name);
            // Any other state has no end to what it may say.
            if follows && *state == AuthorizationState::Valid {
                row.settled.push(found);
                self.unset(key);
            }
        }
        Ok(())
    }

    pub(super) fn put_authorization(&mut self, put: Put<Authorization>) -> Result<(), CommitError> {
        let key = key::authorization(put.value.id);
        if self.get(&key)?.is_none()
            && let Some((order_version, mut row, at)) = self.settled(put.value.id)?
            && let Some(held) = row.settled.get_mut(at)
        {
            if put.replaces != Some(held.version) {
                return Err(CommitError::Conflict);
            }
            *held = Versioned { value: put.value, version: self.version };
            return self.set_row(order_version, &row);
        }
        self.put(key, &put, "authorization").map(drop)
    }

    pub(super) fn remove_authorization(&mut self, id: AuthorizationId, version: Version) -> Result<(), CommitError> {
        let key = key::authorization(id);
        if self.get(&key)?.is_none()
            && let Some((order_version, mut row, at)) = self.settled(id)?
        {
            if row.settled.remove(at).version != version {
                return Err(CommitError::Conflict);
            }
            return self.set_row(order_version, &row);
        }
        self.expect(&key, Some(version), "authorization")?;
        self.unset(key);
        Ok(())
    }

    /// The row in which an authorization settled, and its place there.
    fn settled(&self, id: AuthorizationId) -> Result<Option<(Version, OrderRow, usize)>, CommitError> {
        let Some(Versioned { value: row, version }) = self.row(id.order())? else { return Ok(None) };
        let at = row.settled.iter().position(|settled| settled.value.id == id);
        Ok(at.map(|at| (version, row, at)))
    }

    pub(super) fn remove_order(&mut self, id: OrderId, version: Version) -> Result<(), CommitError> {
        let key = key::order(id);
        self.expect(&key, Some(version), "order")?;
        let Some(Versioned { value: row, .. }) = self.row(id)? else { return Ok(()) };
        self.unset(key);
        // Whoever wants these gone says so; they outlive the order until then.
        let told = row.certificate();
        for Versioned { value, version } in row.settled {
            self.set(key::authorization(value.id), &record::encode(version, &value))?;
        }
        if row.claimed {
            self.set(key::claim(&Claim::OrderCertificate(id)), &[])?;
        }
        if let Some(pruning) = row.pruning {
            self.set(key::job(&JobKind::PruneOrder { order: id }), &pruning.encode())?;
        }
        self.list_anew(told)
    }

    /// A certificate's order has changed: does it still tell of it?
    fn list_anew(&mut self, certificate: Option<CertificateId>) -> Result<(), CommitError> {
        let Some(id) = certificate else { return Ok(()) };
        let key = key::certificate(id);
        let Some(stored) = self.get(&key)? else { return Ok(()) };
        let record: CertificateRecord = record::decode(&key, &stored).map_err(unreadable("certificate record"))?.value;
        self.list(&record)
    }

    /// Puts a certificate among its account's: where its order tells of it there is nothing to do,
    /// else it has an entry of its own.
    pub(super) fn list(&mut self, record: &CertificateRecord) -> Result<(), CommitError> {
        let Some(account) = record.account else { return Ok(()) };
        let told = match record.order {
            Some(order) => self.row(order)?.is_some_and(|row| row.value.tells_of(record)),
            None => false,
        };
        if told { self.unlist(record) } else { self.set(key::account_certificate(account, record.id), &[]) }
    }

    /// Takes it out again.
    pub(super) fn unlist(&mut self, record: &CertificateRecord) -> Result<(), CommitError> {
        let Some(account) = record.account else { return Ok(()) };
        let key = key::account_certificate(account, record.id);
        if self.get(&key)?.is_some() {
            self.unset(key);
        }
        Ok(())
    }

    pub(super) fn claim(&mut self, claim: &Claim) -> Result<(), CommitError> {
        let key = key::claim(claim);
        if self.get(&key)?.is_some() {
            return Err(CommitError::Conflict);
        }
        if let Claim::OrderCertificate(order) = claim
            && let Some(Versioned { value: row, version }) = self.row(*order)?
        {
            if row.claimed {
                return Err(CommitError::Conflict);
            }
            return self.set_row(version, &OrderRow { claimed: true, ..row });
        }
        self.set(key, &[])
    }

    pub(super) fn release(&mut self, claim: &Claim) -> Result<(), CommitError> {
        if let Claim::OrderCertificate(order) = claim
            && let Some(Versioned { value: row, version }) = self.row(*order)?
            && row.claimed
        {
            self.set_row(version, &OrderRow { claimed: false, ..row })?;
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
            && let Some(Versioned { value: row, version }) = self.row(*order)?
        {
            return self.set_row(version, &OrderRow { pruning: Some(owed), ..row });
        }
        self.set(key::job(kind), &owed.encode())
    }

    pub(super) fn finish(&mut self, kind: &JobKind) -> Result<(), CommitError> {
        if let JobKind::PruneOrder { order } = kind
            && let Some(Versioned { value: row, version }) = self.row(*order)?
            && let Some(owed) = row.pruning
        {
            self.unset(key::job_due(owed.due, kind));
            self.set_row(version, &OrderRow { pruning: None, ..row })?;
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
