//! The ports: what the use cases need from the world. Each says what it promises.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use chancery_acme::{
    account::{Account, DirectoryName},
    authorization::Authorization,
    challenge::{ChallengeKind, Token},
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
    order::Order,
    problem::Problem,
};
use chancery_pki::{Name, PublicKey, SpkiDigest, Timestamp, key::SignatureAlgorithm};
use secrecy::SecretString;

use crate::{
    changes::{Changes, Committed, Counter},
    eab_secret::EabSecret,
    records::{
        ApiToken, ApiTokenId, AuthorityId, CertificateRecord, EabKey, EabKeyId, IdempotencyKey, IdempotencyRecord,
        InForce, Job, Versioned,
    },
};

/// The time.
pub trait Clock: Send + Sync {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;
    /// Why the clock is not to be trusted, in words; then nothing is issued, ended or dropped by it (threat model TM15).
    fn doubt(&self) -> Option<String> {
        None
    }
}

/// Chance.
pub trait Entropy: Send + Sync {
    /// 16 octets from a cryptographic source.
    fn octets16(&self) -> [u8; 16];
    /// 32 octets from a cryptographic source.
    fn octets32(&self) -> [u8; 32];
}

/// Where everything is kept.
///
/// Whoever reads sees synced state only: nothing that a power cut could still undo.
#[async_trait]
pub trait Store: Send + Sync {
    /// An account.
    async fn account(&self, id: AccountId) -> Result<Option<Versioned<Account>>, StoreError>;
    /// The account of a key at a directory, whatever its status.
    async fn account_by_key(
        &self,
        directory: &DirectoryName,
        key: &SpkiDigest,
    ) -> Result<Option<Versioned<Account>>, StoreError>;
    /// Whether any account at any directory has this key (RFC 8555 §11.1).
    async fn is_account_key(&self, key: &SpkiDigest) -> Result<bool, StoreError>;
    /// Accounts in the order of their ids, after `after`.
    async fn accounts(&self, after: Option<AccountId>, limit: usize) -> Result<Vec<Account>, StoreError>;
    /// An order.
    async fn order(&self, id: OrderId) -> Result<Option<Versioned<Order>>, StoreError>;
    /// The orders of an account in the order of their ids, after `after`.
    async fn orders_of(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError>;
    /// An authorization.
    async fn authorization(&self, id: AuthorizationId) -> Result<Option<Versioned<Authorization>>, StoreError>;
    /// A certificate's record.
    async fn certificate(&self, id: CertificateId) -> Result<Option<Versioned<CertificateRecord>>, StoreError>;
    /// Certificate records that match, in the order that the query implies, after `after`.
    async fn certificates(
        &self,
        query: &CertificateQuery,
        after: Option<CertificateId>,
        limit: usize,
    ) -> Result<Vec<CertificateRecord>, StoreError>;
    /// What became of a request that may be repeated.
    async fn idempotency(&self, key: &IdempotencyKey) -> Result<Option<Versioned<IdempotencyRecord>>, StoreError>;
    /// An API token, ended or not.
    async fn api_token(&self, id: ApiTokenId) -> Result<Option<Versioned<ApiToken>>, StoreError>;
    /// API tokens in the order of their ids, after `after`.
    async fn api_tokens(&self, after: Option<ApiTokenId>, limit: usize) -> Result<Vec<ApiToken>, StoreError>;
    /// An EAB key, ended or not.
    async fn eab_key(&self, id: &EabKeyId) -> Result<Option<Versioned<EabKey>>, StoreError>;
    /// EAB keys in the order of their ids, after `after`.
    async fn eab_keys(&self, after: Option<&EabKeyId>, limit: usize) -> Result<Vec<EabKey>, StoreError>;
    /// Where a counter stands.
    async fn count(&self, counter: &Counter) -> Result<u64, StoreError>;
    /// What was in force last; nothing before the first start.
    async fn in_force(&self) -> Result<Option<Versioned<InForce>>, StoreError>;
    /// The last CRL number of an authority's shard; none before its first CRL.
    async fn crl_number(&self, authority: &AuthorityId, shard: u32) -> Result<Option<u64>, StoreError>;
    /// Jobs that are due at `now`, the longest due first.
    async fn due_jobs(&self, now: Timestamp, limit: usize) -> Result<Vec<Job>, StoreError>;
    /// When the next job is due.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;
    /// One leaf's bytes; `None` past the end. A damaged one is an error that names it.
    async fn leaf(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError>;
    /// Leaves in order, at most `limit` of the range.
    async fn leaves(&self, range: Range<u64>, limit: usize) -> Result<Vec<Vec<u8>>, StoreError>;
    /// Size and root of the synced tree.
    async fn tree_head(&self) -> Result<TreeHead, StoreError>;
    /// The last signed checkpoint, as a signed note.
    async fn checkpoint(&self) -> Result<Option<String>, StoreError>;
    /// Keeps a signed checkpoint, in a synced file of its own.
    async fn keep_checkpoint(&self, tree_size: u64, note: String) -> Result<(), StoreError>;
    /// Keeps larger matter (a policy's text) under its SHA-256, synced before this returns.
    async fn keep_blob(&self, sha256: [u8; 32], content: Vec<u8>) -> Result<(), StoreError>;
    /// All or nothing, and durable when it returns.
    async fn commit(&self, changes: Changes) -> Result<Committed, CommitError>;
}

/// Which certificates are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateQuery {
    /// All, in the order of their ids.
    All,
    /// Those that hold this name, letter for letter.
    Name(Name),
    /// Those that hold a DNS name at or below this one.
    Suffix(String),
    /// Those with this key.
    Key(SpkiDigest),
    /// Those whose last second lies in the range, the earliest first.
    Expiring(Range<Timestamp>),
    /// Those that an account asked for, in an order of the store's own.
    Account(AccountId),
    /// Those that a cluster asked for, or a namespace of it, or a Certificate there: in the order of namespaces,
    /// Certificates and ids.
    Origin {
        /// The cluster.
        cluster: String,
        /// The namespace; the empty one is that of what has none.
        namespace: Option<String>,
        /// The Certificate; only within a namespace.
        certificate: Option<String>,
    },
}

/// Size and root of the ledger's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// How many leaves.
    pub size: u64,
    /// The Merkle root (RFC 6962 §2.1).
    pub root: [u8; 32],
}

/// A read failed, or a file of its own could not be kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store has stopped.
    #[error("the store has stopped: {0}")]
    Stopped(Arc<str>),
    /// Something stored is damaged; it is named and not served.
    #[error("the store is damaged: {0}")]
    Damaged(Arc<str>),
    /// There is no room for what was to be kept.
    #[error("{0}")]
    NoSpace(Arc<str>),
}

/// A commit failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A version or a claim was not as expected: load again, decide again.
    #[error("another request changed the same thing first")]
    Conflict,
    /// A counter would pass its limit.
    #[error("the limit of {limit} is reached")]
    Limit {
        /// The counter.
        counter: Counter,
        /// Its limit.
        limit: u64,
    },
    /// Nothing was kept, and nothing will be.
    #[error("nothing was stored: {0}")]
    NotApplied(NotApplied),
    /// It may have been kept: settle, never repeat blindly.
    #[error("whether it was stored is not known: {0}")]
    Unknown(Arc<str>),
}

/// Why nothing was kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotApplied {
    /// Too much is waiting; try again soon.
    #[error("the store is busy")]
    Busy,
    /// The disk is too full for issuance.
    #[error("{0}")]
    NoSpace(Arc<str>),
    /// The store has stopped.
    #[error("the store has stopped: {0}")]
    Stopped(Arc<str>),
    /// The changes themselves cannot be stored (a leaf too large): a fault of ours.
    #[error("{0}")]
    Unstorable(Arc<str>),
}

/// Which key of the signer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub Box<str>);

/// What a signature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A certificate whose intent is recorded.
    Certificate,
    /// A checkpoint of the ledger.
    Checkpoint,
    /// A ceremony: the intermediate's CSR, a development root.
    Ceremony,
}

/// Bytes that may be signed, for one purpose. Made in this crate alone, so that holding a signer
/// is not enough to sign.
#[derive(Debug, Clone)]
pub struct ToBeSigned {
    purpose: Purpose,
    algorithm: SignatureAlgorithm,
    bytes: Vec<u8>,
}

impl ToBeSigned {
    pub(crate) const fn new(purpose: Purpose, algorithm: SignatureAlgorithm, bytes: Vec<u8>) -> Self {
        Self { purpose, algorithm, bytes }
    }

    /// What for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// By which algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whoever holds the private keys.
#[async_trait]
pub trait Signer: Send + Sync {
    /// The public half of a key; `None` if it holds none of that name.
    fn public_key(&self, key: &KeyId) -> Option<PublicKey>;
    /// Signs. Each key is for one purpose and refuses others.
    async fn sign(&self, key: &KeyId, what: &ToBeSigned) -> Result<Vec<u8>, SignerError>;
    /// The secret of an EAB key, derived from its id, its salt and a private key that is for this alone: the same at
    /// every call. `None` where there is no such private key.
    fn eab_secret(&self, id: &EabKeyId, salt: [u8; 16]) -> Option<EabSecret> {
        let _ = (id, salt);
        None
    }
}

/// A signature was not had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignerError {
    /// Too much is waiting; nothing was signed.
    #[error("the signer is busy")]
    Busy,
    /// The signer will not: wrong purpose, no such key.
    #[error("the signer refused: {0}")]
    Refused(Arc<str>),
    /// The signer cannot be reached; nothing was signed.
    #[error("the signer is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// It may have signed.
    #[error("whether the signer signed is not known: {0}")]
    Unknown(Arc<str>),
}

/// Whoever knows whom a credential from a cluster speaks for.
#[async_trait]
pub trait WorkloadIdentity: Send + Sync {
    /// Whom a Kubernetes service-account token speaks for: one that is meant for us, of a cluster that we know, and
    /// that holds at `now`.
    async fn service_account(&self, token: &SecretString, now: Timestamp) -> Result<ServiceAccount, IdentityError>;
    /// On whose behalf somebody else must be asked about this token, in words that tell one account from the others: that
    /// is counted before. None where nobody is asked, and so a look costs little. What nobody has signed whom the
    /// cluster knows is refused here: no stranger's words are counted against an account.
    async fn asks(&self, token: &SecretString, now: Timestamp) -> Result<Option<String>, IdentityError> {
        let _ = (token, now);
        Ok(None)
    }
    /// Whom a client certificate speaks for; in DER, its issuers behind it. Whoever presents it has proved that it
    /// holds the key.
    fn certificate_holder(&self, chain: &[Vec<u8>], now: Timestamp) -> Result<CertificateHolder, IdentityError>;
}

/// A service account of a cluster, proven by its token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceAccount {
    /// The cluster, as the configuration names it.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The holder of a client certificate that a cluster's client authority issued.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateHolder {
    /// The cluster, as the configuration names it.
    pub cluster: String,
    /// What the certificate names: its subject's common name and its alternative names.
    pub names: Vec<String>,
}

/// Nobody is known by that credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It speaks for nobody here. Why, is for our log alone.
    #[error("the credential is not taken: {0}")]
    Unknown(String),
    /// It could not be looked at now.
    #[error("credentials cannot be looked at now: {0}")]
    Unavailable(String),
}

/// One look at whether a challenge is fulfilled.
#[derive(Debug, Clone)]
pub struct Validation {
    /// The name: a wildcard is looked for at its base.
    pub name: Name,
    /// How.
    pub kind: ChallengeKind,
    /// The challenge's token.
    pub token: Token,
    /// Token, dot, thumbprint of the account key (RFC 8555 §8.1).
    pub key_authorization: String,
    /// How long it may take in all, retries included.
    pub within: Duration,
}

/// What a validation saw: for the record, without the remote's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// In one line: addresses asked and dialled, redirects followed.
    pub summary: String,
}

/// Why a validation did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ValidationError {
    /// The name's holder has not shown control: final, and what the client is told.
    #[error("{}", .0.detail)]
    Failed(Problem),
    /// We were too busy to look; try again later.
    #[error("too many validations are under way")]
    Busy,
}

/// Whoever looks whether challenges are fulfilled.
#[async_trait]
pub trait Validator: Send + Sync {
    /// Looks, retrying passing faults within the time given.
    async fn validate(&self, validation: &Validation) -> Result<Evidence, ValidationError>;
    /// Whether a name could be looked at at all (its zone is not refused by the guard): asked at newOrder.
    fn may_validate(&self, name: &Name, kind: ChallengeKind) -> bool {
        let _ = (name, kind);
        true
    }
}
