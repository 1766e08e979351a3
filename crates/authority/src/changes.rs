//! What one commit changes: a value, not an open transaction, so that it fits memory, sled and PostgreSQL.

use chancery_acme::{
    account::Account,
    authorization::Authorization,
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
    order::Order,
};
use chancery_ledger::Leaf;
use chancery_pki::{SpkiDigest, Timestamp};

use crate::records::{
    ApiToken, ApiTokenId, AuthorityId, CertificateRecord, EabKey, EabKeyId, IdempotencyKey, IdempotencyRecord, InForce,
    Job, JobKind, Version, Versioned,
};

/// All or nothing: what becomes durable together.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The records, claims, counters and jobs.
    pub items: Vec<Change>,
    /// The ledger's leaves, in order; their indexes are known only after the commit.
    pub leaves: Vec<Leaf>,
    /// Settlement, revocation and CRL numbers may still commit when issuance is stopped for want of space.
    pub urgent: bool,
}

/// One change.
#[derive(Debug, Clone)]
pub enum Change {
    /// Writes an account. A new one also claims its key within its directory.
    Account(Put<Account>),
    /// Writes an order.
    Order(Put<Order>),
    /// Writes an authorization.
    Authorization(Put<Authorization>),
    /// Writes a certificate's record. A new one claims authority + serial.
    Certificate(Put<CertificateRecord>),
    /// Writes an idempotency outcome.
    Idempotency(Put<IdempotencyRecord>),
    /// Writes an API token.
    ApiToken(Put<ApiToken>),
    /// Writes what is in force, in the commit of the leaves that say so.
    InForce(Put<InForce>),
    /// Writes an EAB key.
    EabKey(Put<EabKey>),
    /// Changes nothing; the commit is a conflict if the account has another version by now.
    SameAccount(AccountId, Version),
    /// The same of an EAB key.
    SameEabKey(EabKeyId, Version),
    /// Uses up a CRL number of an authority's shard, in the commit of the leaf that says so; a conflict unless
    /// it is larger than every one before.
    CrlNumber {
        /// The authority.
        authority: AuthorityId,
        /// The shard.
        shard: u32,
        /// The number.
        number: u64,
    },
    /// Drops an account, and gives its key back.
    RemoveAccount(AccountId, Version),
    /// Drops an order.
    RemoveOrder(OrderId, Version),
    /// Drops an authorization.
    RemoveAuthorization(AuthorizationId, Version),
    /// Drops a certificate's record with its index entries (the ledger keeps its leaves).
    RemoveCertificate(CertificateId, Version),
    /// Drops an idempotency outcome.
    RemoveIdempotency(IdempotencyKey, Version),
    /// Drops an API token.
    RemoveApiToken(ApiTokenId, Version),
    /// Drops an EAB key.
    RemoveEabKey(EabKeyId, Version),
    /// Takes something that only one may have; the commit is a conflict if it is taken.
    Claim(Claim),
    /// Gives a claim back.
    Release(Claim),
    /// Moves a counter; the commit is refused if it would pass the limit. Counters never go below zero.
    Count {
        /// Which.
        counter: Counter,
        /// By how much.
        by: i64,
        /// The most that it may reach.
        limit: Option<u64>,
    },
    /// Owes a job; one of the same kind is replaced.
    Schedule(Job),
    /// The job is done.
    Finish(JobKind),
}

/// A versioned write.
#[derive(Debug, Clone)]
pub struct Put<T> {
    /// The version it replaces; `None` if there must be none.
    pub replaces: Option<Version>,
    /// The new value.
    pub value: T,
}

/// Something that only one may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// The one certificate of an order.
    OrderCertificate(OrderId),
    /// The use of an EAB key by an account key, which makes one account with it.
    EabUse {
        /// The EAB key.
        key_id: EabKeyId,
        /// The account key that used it.
        account_key: SpkiDigest,
    },
}

/// Something that is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// Pending and ready orders of an account.
    PendingOrders(AccountId),
    /// Accounts that have no certificate yet (strangers), in all.
    UnprovenAccounts,
    /// API tokens that are kept, ended ones included.
    ApiTokens,
    /// Accounts made with an EAB key, those that ended too.
    EabAccounts(EabKeyId),
    /// EAB keys, in all.
    EabKeys,
}

/// What a commit led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The version of every record written by it.
    pub version: Version,
    /// Index of its first leaf; the others follow. The tree's size if it had none.
    pub first_leaf: u64,
}

impl Changes {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change.
    #[must_use]
    pub fn with(mut self, change: Change) -> Self {
        self.items.push(change);
        self
    }

    /// Adds a leaf.
    #[must_use]
    pub fn leaf(mut self, leaf: Leaf) -> Self {
        self.leaves.push(leaf);
        self
    }

    /// Lets it commit although issuance is stopped for want of space.
    #[must_use]
    pub fn urgently(mut self) -> Self {
        self.urgent = true;
        self
    }

    /// Owes a job.
    #[must_use]
    pub fn schedule(self, kind: JobKind, due: Timestamp) -> Self {
        self.with(Change::Schedule(Job { kind, due, attempt: 0 }))
    }
}

impl<T> Put<T> {
    /// A value that must not exist yet.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self { replaces: None, value }
    }

    /// A value in place of the one that was loaded.
    #[must_use]
    pub fn over<U>(loaded: &Versioned<U>, value: T) -> Self {
        Self { replaces: Some(loaded.version), value }
    }
}
