//! Looking things up in the view: records by key, and certificates by each index.

use std::{
    collections::BTreeSet,
    ops::{Bound, Range},
    sync::Arc,
};

use chancery_acme::id::{AccountId, CertificateId, OrderId};
use chancery_authority::{
    ports::StoreError,
    records::{CertificateRecord, Versioned},
};
use chancery_pki::{DnsName, Timestamp};

use crate::{
    key::{self, Key},
    record::{self, OrderRow, Record},
    shared::Shared,
    store::SledStore,
};

impl SledStore {
    pub(crate) fn running(&self) -> Result<&Shared, StoreError> {
        match self.shared.stopped.get() {
            Some(why) => Err(StoreError::Stopped(Arc::clone(why))),
            None => Ok(&self.shared),
        }
    }

    pub(crate) fn record<T: Record>(&self, key: &[u8]) -> Result<Option<Versioned<T>>, StoreError> {
        self.running()?.view.get(key).map_err(|error| damaged(&error))?.map(|found| decoded(key, &found)).transpose()
    }

    pub(crate) fn ids(&self, prefix: &Key, after: Option<[u8; 16]>, limit: usize) -> Result<Vec<[u8; 16]>, StoreError> {
        let after = after.map(|id| [prefix, id.as_slice()].concat());
        let found = self.running()?.view.scan(prefix, after.as_deref(), limit).map_err(|error| damaged(&error))?;
        Ok(found.iter().filter_map(|(key, _)| key::trailing_id(key)).collect())
    }

    /// Records by the ids of an index, those that `wanted` takes, until there are enough.
    pub(crate) fn certificates_by(
        &self,
        prefix: &Key,
        mut after: Option<[u8; 16]>,
        limit: usize,
        wanted: impl Fn(&CertificateRecord) -> bool,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let mut found = Vec::new();
        while found.len() < limit {
            let page = self.ids(prefix, after, limit.saturating_sub(found.len()).max(16))?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            for id in page {
                let Some(record) =
                    self.record::<CertificateRecord>(&key::certificate(CertificateId::from_random(id)))?
                else {
                    continue;
                };
                if wanted(&record.value) && found.len() < limit {
                    found.push(record.value);
                }
            }
        }
        Ok(found)
    }

    /// By suffix: names are in the order of names, so a page is in the order of ids only after sorting.
    pub(crate) fn certificates_below(
        &self,
        suffix: &DnsName,
        after: Option<CertificateId>,
        limit: usize,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let prefix = key::certificates_below(suffix);
        let view = &self.running()?.view;
        let mut ids = BTreeSet::new();
        let mut last: Option<Key> = None;
        loop {
            let page = view.scan(&prefix, last.as_deref(), 512).map_err(|error| damaged(&error))?;
            for (key, _) in &page {
                if let Some(id) = key::trailing_id(key).filter(|id| after.is_none_or(|after| *id > after.octets())) {
                    ids.insert(id);
                    // The smallest are wanted.
                    if ids.len() > limit {
                        ids.pop_last();
                    }
                }
            }
            match page.into_iter().next_back() {
                Some((key, _)) => last = Some(key),
                None => break,
            }
        }
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(record) = self.record(&key::certificate(CertificateId::from_random(id)))? {
                found.push(record.value);
            }
        }
        Ok(found)
    }

    /// Visits the orders of an account in the order of their ids, after `after`, until it is told to stop.
    pub(crate) fn each_order(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        page: usize,
        mut visit: impl FnMut(OrderRow) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        if page == 0 {
            return Ok(());
        }
        let view = &self.running()?.view;
        let prefix = key::orders_of(account);
        let mut last = after.map(key::order);
        loop {
            let page = view.scan(&prefix, last.as_deref(), page.clamp(1, 512)).map_err(|error| damaged(&error))?;
            for (key, value) in &page {
                let row: Versioned<OrderRow> = decoded(key, value)?;
                if row.value.order.account == account && !visit(row.value)? {
                    return Ok(());
                }
            }
            match page.into_iter().next_back() {
                Some((key, _)) => last = Some(key),
                None => return Ok(()),
            }
        }
    }

    /// Those of an account: first those that its orders tell of, in the order of the orders' ids,
    /// then the others.
    pub(crate) fn certificates_of(
        &self,
        account: AccountId,
        after: Option<CertificateId>,
        limit: usize,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let mut found = Vec::new();
        let mut after_entry = None;
        let mut after_order = None;
        if let Some(id) = after {
            let entry = key::account_certificate(account, id);
            if self.running()?.view.get(&entry).map_err(|error| damaged(&error))?.is_some() {
                after_entry = Some(id.octets());
            } else {
                let record: Option<Versioned<CertificateRecord>> = self.record(&key::certificate(id))?;
                // One that is gone is followed by nothing that could be told.
                let Some(order) = record.and_then(|record| record.value.order) else { return Ok(found) };
                after_order = Some(order);
            }
        }
        if after_entry.is_none() {
            self.each_order(account, after_order, limit, |row| {
                if let Some(id) = row.certificate()
                    && let Some(record) = self.record::<CertificateRecord>(&key::certificate(id))?
                    && row.tells_of(&record.value)
                {
                    found.push(record.value);
                }
                Ok(found.len() < limit)
            })?;
        }
        if found.len() < limit {
            let left = limit - found.len();
            found.extend(self.certificates_by(&key::certificates_of(account), after_entry, left, |_| true)?);
        }
        Ok(found)
    }

    /// Those of a cluster, or of a part of it: in the order of namespaces, Certificates and ids.
    pub(crate) fn certificates_from(
        &self,
        (cluster, namespace, certificate): (&str, Option<&str>, Option<&str>),
        after: Option<CertificateId>,
        limit: usize,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let prefix = key::certificates_from(cluster, namespace, certificate);
        let mut last = None;
        if let Some(id) = after {
            let record: Option<Versioned<CertificateRecord>> = self.record(&key::certificate(id))?;
            // One that is gone is followed by nothing that could be told.
            let Some(origin) = record.and_then(|record| record.value.origin) else { return Ok(Vec::new()) };
            last = Some(key::certificate_from(&origin, id));
        }
        let page = self.running()?.view.scan(&prefix, last.as_deref(), limit).map_err(|error| damaged(&error))?;
        let mut found = Vec::with_capacity(page.len());
        for (key, _) in page {
            let Some(id) = key::trailing_id(&key) else { continue };
            if let Some(record) = self.record(&key::certificate(CertificateId::from_random(id)))? {
                found.push(record.value);
            }
        }
        Ok(found)
    }

    pub(crate) fn certificates_expiring(
        &self,
        range: &Range<Timestamp>,
        after: Option<CertificateId>,
        limit: usize,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let view = &self.running()?.view;
        let first = key::certificate_end(range.start, None);
        let end = key::certificate_end(range.end, None);
        let mut start = Bound::Included(first);
        if let Some(id) = after {
            let Some(last) = self.record::<CertificateRecord>(&key::certificate(id))? else { return Ok(Vec::new()) };
            start = Bound::Excluded(key::certificate_end(last.value.validity.not_after(), Some(id)));
        }
        let mut found = Vec::new();
        let page = view
            .range(start.as_ref().map(|key| &**key), Bound::Excluded(&end), limit)
            .map_err(|error| damaged(&error))?;
        for (key, _) in page {
            let Some(id) = key::trailing_id(&key) else { continue };
            if let Some(record) = self.record(&key::certificate(CertificateId::from_random(id)))? {
                found.push(record.value);
            }
        }
        Ok(found)
    }
}

pub(crate) fn damaged(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string().into())
}

pub(crate) fn decoded<T: Record>(key: &[u8], value: &[u8]) -> Result<Versioned<T>, StoreError> {
    record::decode(key, value).map_err(|error| damaged(&format!("the record {}: {error}", hex::encode(key))))
}
