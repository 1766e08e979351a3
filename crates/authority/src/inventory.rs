//! Looking: accounts, certificates, chains, decisions, and what the ledger says of all that was ever signed.

use std::collections::BTreeMap;

use chancery_acme::{
    account::Account,
    id::{AccountId, CertificateId},
};
use chancery_ledger::{
    Leaf,
    leaf::{self, Intent},
};
use chancery_policy::Decision;

use crate::{
    failure::Failure,
    issue::{IssuedChain, issuers_of},
    leaves,
    office::Office,
    ports::CertificateQuery,
    records::{CertificateRecord, LeafRef},
};

/// Most octets of certificates in one look at the ledger; one more certificate may pass it.
const SIGHTED_OCTETS: usize = 4 << 20;

/// What the ledger says of issuances, leaf by leaf.
#[derive(Debug)]
pub struct Sighted {
    /// How far each got.
    pub issuances: Vec<Issuance>,
    /// Revocations, as they were recorded.
    pub revocations: Vec<leaf::Revocation>,
    /// The leaf to look from next.
    pub next: u64,
    /// How many leaves the ledger has.
    pub size: u64,
}

/// An issuance, from its leaves alone: its row may be gone.
#[derive(Debug)]
pub struct Issuance {
    /// The index of the intent's leaf.
    pub index: u64,
    /// What was to be signed, for whom and why.
    pub intent: Box<Intent>,
    /// What became of it.
    pub outcome: IssuanceOutcome,
}

/// What became of an intent, as far as was looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuanceOutcome {
    /// Neither its signature nor its settlement was met.
    Open,
    /// It was signed; the certificate.
    Issued(Vec<u8>),
    /// It was settled without a signature, which may exist all the same.
    PossiblyIssued,
}

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

    /// The intent of a certificate and the index of its leaf: what was decided when it was issued.
    ///
    /// # Errors
    ///
    /// [`Failure`], for a leaf that is damaged or gone too.
    pub async fn intent_of(&self, record: &CertificateRecord) -> Result<(u64, Box<Intent>), Failure> {
        let LeafRef::At(index) = record.state.intent() else {
            return Err(Failure::Internal("a loaded record names a leaf of an unfinished commit".to_owned()));
        };
        Ok((index, self.intent_at(index).await?))
    }

    /// What the ledger says of issuances in at most `limit` leaves, beginning with leaf `from`. An
    /// intent whose outcome lies further on is [`Open`](IssuanceOutcome::Open) and comes again with it.
    ///
    /// # Errors
    ///
    /// [`Failure`], for a leaf that is damaged or gone too.
    pub async fn sight(&self, from: u64, limit: usize) -> Result<Sighted, Failure> {
        let size = self.store().tree_head().await?.size;
        let mut sighted = Sighted { issuances: Vec::new(), revocations: Vec::new(), next: from, size };
        let mut open: BTreeMap<u64, Box<Intent>> = BTreeMap::new();
        let mut octets = 0_usize;
        for index in (from..size).take(limit) {
            sighted.next = index.saturating_add(1);
            let (at, outcome) = match self.leaf_at(LeafRef::At(index)).await? {
                Leaf::Intent(intent) => {
                    open.insert(index, intent);
                    continue;
                }
                Leaf::Signature(signature) => (signature.intent, Some(signature)),
                Leaf::Abandoned(abandoned) => (abandoned.intent, None),
                Leaf::Revocation(revocation) => {
                    sighted.revocations.push(revocation);
                    continue;
                }
                _ => continue,
            };
            let intent = match open.remove(&at) {
                Some(intent) => intent,
                None => self.intent_at(at).await?,
            };
            let outcome = match outcome {
                None => IssuanceOutcome::PossiblyIssued,
                Some(signature) => {
                    let id = CertificateId::from_random(signature.certificate);
                    let (intent, signature) = (Leaf::Intent(intent.clone()), Leaf::Signature(signature));
                    let certificate = leaves::certificate(id, &intent, &signature)?;
                    octets = octets.saturating_add(certificate.len());
                    IssuanceOutcome::Issued(certificate)
                }
            };
            sighted.issuances.push(Issuance { index: at, intent, outcome });
            if octets > SIGHTED_OCTETS {
                break;
            }
        }
        let open = open.into_iter();
        sighted.issuances.extend(open.map(|(index, intent)| Issuance {
            index,
            intent,
            outcome: IssuanceOutcome::Open,
        }));
        Ok(sighted)
    }

    async fn intent_at(&self, index: u64) -> Result<Box<Intent>, Failure> {
        match self.leaf_at(LeafRef::At(index)).await? {
            Leaf::Intent(intent) => Ok(intent),
            other => Err(Failure::Internal(format!("leaf {index} of the ledger is no intent but {}", other.kind()))),
        }
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
