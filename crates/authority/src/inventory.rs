//! Looking: accounts, certificates, chains, decisions.

use chancery_acme::{
    account::Account,
    id::{AccountId, CertificateId},
};
use chancery_ledger::Leaf;
use chancery_policy::Decision;

use crate::{
    failure::Failure,
    issue::{IssuedChain, issuers_of},
    office::Office,
    ports::CertificateQuery,
    records::{CertificateRecord, LeafRef},
};

impl Office {
    /// Accounts in the order of their ids, after `after`.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn accounts(&self, after: Option<AccountId>, limit: usize) -> Result<Vec<Account>, Failure> {
        Ok(self.store().accounts(after, limit).await?)
    }

    /// Certificate records that match, after `after`.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn certificates(
        &self,
        query: &CertificateQuery,
        after: Option<CertificateId>,
        limit: usize,
    ) -> Result<Vec<CertificateRecord>, Failure> {
        Ok(self.store().certificates(query, after, limit).await?)
    }

    /// What policy would say, and why.
    #[must_use]
    pub fn explain(&self, request: &chancery_policy::Request<'_>) -> Decision {
        self.settings().policy.evaluate(request)
    }

    /// A certificate with the certificates above it; `None` for one without a durable signature.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn issued_chain(&self, record: &CertificateRecord) -> Result<Option<IssuedChain>, Failure> {
        let Some(certificate) = self.issued(record).await? else {
            return Ok(None);
        };
        let settings = self.settings();
        let authority = settings.authority(&record.authority).ok_or_else(|| {
            Failure::Unavailable(format!("the authority {} is no longer configured", record.authority))
        })?;
        let issuers = issuers_of(authority, record.chain, &certificate);
        Ok(Some(IssuedChain { certificate, issuers }))
    }

    pub(crate) async fn leaf_at(&self, leaf: LeafRef) -> Result<Leaf, Failure> {
        let LeafRef::At(index) = leaf else {
            return Err(Failure::Internal("a loaded record names a leaf of an unfinished commit".to_owned()));
        };
        let bytes = self
            .store()
            .leaf(index)
            .await?
            .ok_or_else(|| Failure::Internal(format!("leaf {index} of the ledger is missing")))?;
        Leaf::decode(&bytes).map_err(|error| Failure::Internal(format!("leaf {index} of the ledger: {error}")))
    }
}
