//! The store in memory: what the port means, in the plainest form.
//!
//! Written without a line of the real stores, so that the suite can hold them against it. Commits
//! can be made to fail, and to fail although they were kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use chancery_acme::{
    account::{Account, DirectoryName},
    authorization::Authorization,
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
    order::Order,
};
use chancery_authority::{
    changes::{Change, Changes, Claim, Committed, Counter, Put},
    ports::{CertificateQuery, CommitError, NotApplied, Store, StoreError, TreeHead},
    records::{
        ApiToken, ApiTokenId, AuthorityId, CertificateRecord, CertificateState, EabKey, EabKeyId, IdempotencyKey,
        IdempotencyRecord, InForce, Job, JobKind, LeafRef, Retention, Version, Versioned,
    },
};
use chancery_pki::{Name, SerialNumber, SpkiDigest, Timestamp};

/// What a commit is for, told by what it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// Makes or changes an account.
    Account,
    /// Places an order.
    Order,
    /// Changes authorizations of an order that exists.
    Challenge,
    /// Records an intent.
    Intent,
    /// Records a signature: the certificate is issued.
    Certificate,
    /// Gives an issuance up.
    Settlement,
    /// Records a revocation.
    Revocation,
    /// Anything else: jobs, leaves alone, removals.
    Other,
}

impl Commit {
    /// What these changes are for.
    #[must_use]
    pub fn of(changes: &Changes) -> Self {
        let mut kind = Self::Other;
        for item in &changes.items {
            match item {
                // An order marks the certificate that it replaces.
                Change::Certificate(_) if kind == Self::Order => {}
                Change::Certificate(put) if put.value.revocation.is_some() => return Self::Revocation,
                Change::Certificate(put) => {
                    return match put.value.state {
                        CertificateState::Intended { .. } => Self::Intent,
                        CertificateState::Issued { .. } => Self::Certificate,
                        CertificateState::PossiblyIssued { .. } => Self::Settlement,
                    };
                }
                Change::Order(put) if put.replaces.is_none() => kind = Self::Order,
                Change::Authorization(_) if kind != Self::Order => kind = Self::Challenge,
                Change::Account(_) if kind == Self::Other => kind = Self::Account,
                _ => {}
            }
        }
        kind
    }
}

/// How a commit is made to fail.
#[derive(Debug, Clone)]
pub enum Failing {
    /// Nothing is kept, and the caller is told so.
    Refused(NotApplied),
    /// Another request seems to have been first; nothing is kept.
    Conflict,
    /// Nothing is kept, and the caller is told that it may have been.
    Lost,
    /// It is kept, and the caller is told that it may not have been.
    Kept,
    /// It is kept, after others had their turn: whoever waits for it has waited.
    Late,
}

/// The store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    failures: Mutex<Vec<(Option<Commit>, Failing)>>,
    late_blob: AtomicBool,
}

#[derive(Debug, Clone, Default)]
struct State {
    sequence: u64,
    accounts: BTreeMap<AccountId, Versioned<Account>>,
    account_keys: BTreeMap<(DirectoryName, SpkiDigest), AccountId>,
    orders: BTreeMap<OrderId, Versioned<Order>>,
    authorizations: BTreeMap<AuthorizationId, Versioned<Authorization>>,
    certificates: BTreeMap<CertificateId, Versioned<CertificateRecord>>,
    serials: BTreeSet<(AuthorityId, SerialNumber)>,
    idempotency: BTreeMap<IdempotencyKey, Versioned<IdempotencyRecord>>,
    api_tokens: BTreeMap<ApiTokenId, Versioned<ApiToken>>,
    eab_keys: BTreeMap<EabKeyId, Versioned<EabKey>>,
    in_force: BTreeMap<(), Versioned<InForce>>,
    crl_numbers: BTreeMap<(AuthorityId, u32), u64>,
    claims: BTreeSet<Claim>,
    counters: BTreeMap<Counter, u64>,
    jobs: BTreeMap<JobKind, Job>,
    leaves: Vec<Vec<u8>>,
    checkpoint: Option<(u64, String)>,
    blobs: BTreeMap<[u8; 32], Vec<u8>>,
    commits: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next commit of this kind (of any, for `None`) fail. Several queue up.
    pub fn fail_next(&self, kind: impl Into<Option<Commit>>, how: Failing) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push((kind.into(), how));
    }

    /// The next blob is kept after others had their turn.
    pub fn late_blob_next(&self) {
        self.late_blob.store(true, Ordering::SeqCst);
    }

    /// Puts nonsense in the place of a leaf.
    ///
    /// # Panics
    ///
    /// If there is no such leaf.
    pub fn damage_leaf(&self, index: u64) {
        let index = usize::try_from(index).expect("a test's ledger is small");
        *self.state().leaves.get_mut(index).expect("a leaf") = b"nonsense".to_vec();
    }

    /// How many commits were kept.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.state().commits
    }

    /// Every job that is owed, due or not.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        self.state().jobs.values().cloned().collect()
    }

    /// Where a counter stands.
    #[must_use]
    pub fn counter(&self, counter: &Counter) -> u64 {
        self.state().counters.get(counter).copied().unwrap_or(0)
    }

    /// A blob that was kept.
    #[must_use]
    pub fn blob(&self, sha256: &[u8; 32]) -> Option<Vec<u8>> {
        self.state().blobs.get(sha256).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failing(&self, changes: &Changes) -> Option<Failing> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = Commit::of(changes);
        let at = failures.iter().position(|(wanted, _)| wanted.is_none_or(|wanted| wanted == kind))?;
        Some(failures.remove(at).1)
    }
}

/// Whether what is stored is what the put or removal expects.
fn expect<T>(stored: Option<&Versioned<T>>, expected: Option<Version>) -> Result<(), CommitError> {
    if stored.map(|stored| stored.version) == expected { Ok(()) } else { Err(CommitError::Conflict) }
}

fn put<K: Ord, T>(
    map: &mut BTreeMap<K, Versioned<T>>,
    key: K,
    change: Put<T>,
    version: Version,
) -> Result<Option<T>, CommitError> {
    let Put { replaces, value } = change;
    expect(map.get(&key), replaces)?;
    Ok(map.insert(key, Versioned { value, version }).map(|old| old.value))
}

fn remove<K: Ord, T>(map: &mut BTreeMap<K, Versioned<T>>, key: &K, version: Version) -> Result<T, CommitError> {
    expect(map.get(key), Some(version))?;
    map.remove(key).map(|old| old.value).ok_or(CommitError::Conflict)
}

impl State {
    fn apply(&mut self, changes: Changes) -> Result<Committed, CommitError> {
        let Changes { items, leaves, urgent: _ } = changes;
        self.sequence += 1;
        self.commits += 1;
        let version = Version(self.sequence);
        let first_leaf = u64::try_from(self.leaves.len()).expect("a test's ledger is small");
        let unstorable = |why: String| CommitError::NotApplied(NotApplied::Unstorable(why.into()));
        let count = leaves.len();
        for leaf in leaves {
            self.leaves.push(leaf.encode().map_err(|error| unstorable(error.to_string()))?);
        }
        let at = |leaf: LeafRef| match leaf {
            LeafRef::At(index) => Ok(LeafRef::At(index)),
            LeafRef::InThisCommit(nth) if nth < count => {
                Ok(LeafRef::At(first_leaf + u64::try_from(nth).expect("fits")))
            }
            LeafRef::InThisCommit(nth) => Err(unstorable(format!("this commit has no leaf {nth}"))),
        };
        for item in items {
            match item {
                Change::Account(change) => {
                    let id = change.value.id;
                    let key = (change.value.directory.clone(), change.value.key.digest());
                    if let Some(old) = put(&mut self.accounts, id, change, version)? {
                        self.account_keys.remove(&(old.directory, old.key.digest()));
                    }
                    if self.account_keys.insert(key, id).is_some() {
                        return Err(CommitError::Conflict);
                    }
                }
                Change::Order(change) => drop(put(&mut self.orders, change.value.id, change, version)?),
                Change::Authorization(change) => {
                    drop(put(&mut self.authorizations, change.value.id, change, version)?);
                }
                Change::Certificate(mut change) => {
                    let record = &mut change.value;
                    record.state = match record.state {
                        CertificateState::Intended { intent } => CertificateState::Intended { intent: at(intent)? },
                        CertificateState::Issued { intent, signature } => {
                            CertificateState::Issued { intent: at(intent)?, signature: at(signature)? }
                        }
                        CertificateState::PossiblyIssued { intent } => {
                            CertificateState::PossiblyIssued { intent: at(intent)? }
                        }
                    };
                    let serial = (record.authority.clone(), record.serial);
                    if put(&mut self.certificates, record.id, change, version)?.is_none()
                        && !self.serials.insert(serial)
                    {
                        return Err(CommitError::Conflict);
                    }
                }
                Change::Idempotency(change) => {
                    drop(put(&mut self.idempotency, change.value.key.clone(), change, version)?);
                }
                Change::ApiToken(change) => drop(put(&mut self.api_tokens, change.value.id, change, version)?),
                Change::RemoveApiToken(id, version) => drop(remove(&mut self.api_tokens, &id, version)?),
                Change::InForce(change) => drop(put(&mut self.in_force, (), change, version)?),
                Change::EabKey(change) => drop(put(&mut self.eab_keys, change.value.id.clone(), change, version)?),
                Change::SameEabKey(id, version) => expect(self.eab_keys.get(&id), Some(version))?,
                Change::RemoveEabKey(id, version) => drop(remove(&mut self.eab_keys, &id, version)?),
                Change::SameAccount(id, version) => expect(self.accounts.get(&id), Some(version))?,
                Change::CrlNumber { authority, shard, number } => {
                    let last = self.crl_numbers.insert((authority, shard), number);
                    if last.is_some_and(|last| last >= number) {
                        return Err(CommitError::Conflict);
                    }
                }
                Change::RemoveAccount(id, version) => {
                    let old = remove(&mut self.accounts, &id, version)?;
                    self.account_keys.remove(&(old.directory, old.key.digest()));
                }
                Change::RemoveOrder(id, version) => drop(remove(&mut self.orders, &id, version)?),
                Change::RemoveAuthorization(id, version) => drop(remove(&mut self.authorizations, &id, version)?),
                Change::RemoveCertificate(id, version) => {
                    let old = remove(&mut self.certificates, &id, version)?;
                    self.serials.remove(&(old.authority, old.serial));
                }
                Change::RemoveIdempotency(key, version) => drop(remove(&mut self.idempotency, &key, version)?),
                Change::Claim(claim) => {
                    if !self.claims.insert(claim) {
                        return Err(CommitError::Conflict);
                    }
                }
                Change::Release(claim) => {
                    self.claims.remove(&claim);
                }
                Change::Count { counter, by, limit } => {
                    let now = self.counters.get(&counter).copied().unwrap_or(0).saturating_add_signed(by);
                    if let Some(limit) = limit
                        && by > 0
                        && now > limit
                    {
                        return Err(CommitError::Limit { counter, limit });
                    }
                    self.counters.insert(counter, now);
                }
                Change::Schedule(job) => {
                    self.jobs.insert(job.kind.clone(), job);
                }
                Change::Finish(kind) => {
                    self.jobs.remove(&kind);
                }
            }
        }
        Ok(Committed { version, first_leaf })
    }
}

fn page<T>(all: impl Iterator<Item = T>, limit: usize) -> Vec<T> {
    all.take(limit).collect()
}

#[async_trait]
impl Store for MemoryStore {
    async fn account(&self, id: AccountId) -> Result<Option<Versioned<Account>>, StoreError> {
        Ok(self.state().accounts.get(&id).cloned())
    }

    async fn account_by_key(
        &self,
        directory: &DirectoryName,
        key: &SpkiDigest,
    ) -> Result<Option<Versioned<Account>>, StoreError> {
        let state = self.state();
        let id = state.account_keys.get(&(directory.clone(), *key));
        Ok(id.and_then(|id| state.accounts.get(id)).cloned())
    }

    async fn is_account_key(&self, key: &SpkiDigest) -> Result<bool, StoreError> {
        Ok(self.state().account_keys.keys().any(|(_, held)| held == key))
    }

    async fn accounts(&self, after: Option<AccountId>, limit: usize) -> Result<Vec<Account>, StoreError> {
        let state = self.state();
        let all = state.accounts.values().map(|held| &held.value);
        Ok(page(all.filter(|account| after.is_none_or(|after| account.id > after)).cloned(), limit))
    }

    async fn order(&self, id: OrderId) -> Result<Option<Versioned<Order>>, StoreError> {
        Ok(self.state().orders.get(&id).cloned())
    }

    async fn orders_of(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        let state = self.state();
        let all = state.orders.values().map(|held| &held.value).filter(|order| order.account == account);
        Ok(page(all.map(|order| order.id).filter(|id| after.is_none_or(|after| *id > after)), limit))
    }

    async fn authorization(&self, id: AuthorizationId) -> Result<Option<Versioned<Authorization>>, StoreError> {
        Ok(self.state().authorizations.get(&id).cloned())
    }

    async fn certificate(&self, id: CertificateId) -> Result<Option<Versioned<CertificateRecord>>, StoreError> {
        Ok(self.state().certificates.get(&id).cloned())
    }

    async fn certificates(
        &self,
        query: &CertificateQuery,
        after: Option<CertificateId>,
        limit: usize,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let state = self.state();
        let mut all: Vec<&CertificateRecord> =
            state.certificates.values().map(|held| &held.value).filter(|record| matches(query, record)).collect();
        let by_end = matches!(query, CertificateQuery::Expiring(_));
        let by_origin = matches!(query, CertificateQuery::Origin { .. });
        let place = |record: &CertificateRecord| {
            let origin = record.origin.as_ref().filter(|_| by_origin);
            let origin = origin.map(|origin| {
                let text = |part: &Option<String>| part.clone().unwrap_or_default();
                (text(&origin.namespace), text(&origin.certificate))
            });
            (origin, by_end.then(|| record.validity.not_after()), record.id)
        };
        all.sort_by_key(|record| place(record));
        let after = match after {
            None => None,
            // One that is gone, or never matched, is followed by nothing that could be told.
            Some(id) => match state.certificates.get(&id) {
                Some(held) => Some(place(&held.value)),
                None if by_end || by_origin => return Ok(Vec::new()),
                None => Some((None, None, id)),
            },
        };
        let rest = all.into_iter().filter(|record| after.as_ref().is_none_or(|after| place(record) > *after));
        Ok(page(rest.cloned(), limit))
    }

    async fn idempotency(&self, key: &IdempotencyKey) -> Result<Option<Versioned<IdempotencyRecord>>, StoreError> {
        Ok(self.state().idempotency.get(key).cloned())
    }

    async fn api_token(&self, id: ApiTokenId) -> Result<Option<Versioned<ApiToken>>, StoreError> {
        Ok(self.state().api_tokens.get(&id).cloned())
    }

    async fn api_tokens(&self, after: Option<ApiTokenId>, limit: usize) -> Result<Vec<ApiToken>, StoreError> {
        let state = self.state();
        let all = state.api_tokens.values().map(|held| &held.value);
        Ok(page(all.filter(|token| after.is_none_or(|after| token.id > after)).cloned(), limit))
    }

    async fn eab_key(&self, id: &EabKeyId) -> Result<Option<Versioned<EabKey>>, StoreError> {
        Ok(self.state().eab_keys.get(id).cloned())
    }

    async fn eab_keys(&self, after: Option<&EabKeyId>, limit: usize) -> Result<Vec<EabKey>, StoreError> {
        let state = self.state();
        let all = state.eab_keys.values().map(|held| &held.value);
        Ok(page(all.filter(|key| after.is_none_or(|after| key.id > *after)).cloned(), limit))
    }

    async fn count(&self, counter: &Counter) -> Result<u64, StoreError> {
        Ok(self.counter(counter))
    }

    async fn in_force(&self) -> Result<Option<Versioned<InForce>>, StoreError> {
        Ok(self.state().in_force.get(&()).cloned())
    }

    async fn crl_number(&self, authority: &AuthorityId, shard: u32) -> Result<Option<u64>, StoreError> {
        Ok(self.state().crl_numbers.get(&(authority.clone(), shard)).copied())
    }

    async fn due_jobs(&self, now: Timestamp, limit: usize) -> Result<Vec<Job>, StoreError> {
        let state = self.state();
        let mut due: Vec<&Job> = state.jobs.values().filter(|job| job.due <= now).collect();
        due.sort_by_key(|job| job.due);
        Ok(page(due.into_iter().cloned(), limit))
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.state().jobs.values().map(|job| job.due).min())
    }

    async fn leaf(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        Ok(self.state().leaves.get(index).cloned())
    }

    async fn leaves(&self, range: Range<u64>, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let place = |index| usize::try_from(index).unwrap_or(usize::MAX);
        let (from, to) = (place(range.start), place(range.end));
        let state = self.state();
        Ok(page(state.leaves.iter().take(to).skip(from).cloned(), limit))
    }

    async fn tree_head(&self) -> Result<TreeHead, StoreError> {
        let state = self.state();
        let size = u64::try_from(state.leaves.len()).expect("a test's ledger is small");
        Ok(TreeHead { size, root: root(&state.leaves) })
    }

    async fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        Ok(self.state().checkpoint.as_ref().map(|(_, note)| note.clone()))
    }

    async fn keep_checkpoint(&self, tree_size: u64, note: String) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.checkpoint.as_ref().is_none_or(|(size, _)| *size <= tree_size) {
            state.checkpoint = Some((tree_size, note));
        }
        Ok(())
    }

    async fn keep_blob(&self, sha256: [u8; 32], content: Vec<u8>) -> Result<(), StoreError> {
        if self.late_blob.swap(false, Ordering::SeqCst) {
            others_have_their_turn().await;
        }
        self.state().blobs.insert(sha256, content);
        Ok(())
    }

    async fn commit(&self, changes: Changes) -> Result<Committed, CommitError> {
        let failing = self.failing(&changes);
        match &failing {
            Some(Failing::Refused(why)) => return Err(CommitError::NotApplied(why.clone())),
            Some(Failing::Conflict) => return Err(CommitError::Conflict),
            Some(Failing::Lost) => return Err(CommitError::Unknown("the test lost it".into())),
            Some(Failing::Late) => others_have_their_turn().await,
            Some(Failing::Kept) | None => {}
        }
        let mut state = self.state();
        let mut next = state.clone();
        let committed = next.apply(changes)?;
        *state = next;
        if matches!(failing, Some(Failing::Kept)) {
            Err(CommitError::Unknown("the test says that it was lost".into()))
        } else {
            Ok(committed)
        }
    }
}

async fn others_have_their_turn() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

fn matches(query: &CertificateQuery, record: &CertificateRecord) -> bool {
    // A light record is found by serial, key and requester alone.
    let full = matches!(record.retention, Retention::Full);
    match query {
        CertificateQuery::All => true,
        CertificateQuery::Name(name) => full && record.names.contains(name),
        CertificateQuery::Suffix(suffix) => {
            full && record.names.iter().any(|name| match name {
                Name::Dns(dns) | Name::Wildcard(dns) => dns
                    .as_str()
                    .strip_suffix(suffix.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
                Name::Ip(_)
                | Name::Spiffe(_)
                | Name::Uri(_)
                | Name::Email(_)
                | Name::Other(_)
                | Name::CommonName(_) => false,
            })
        }
        CertificateQuery::Key(key) => record.key == *key,
        CertificateQuery::Expiring(range) => range.contains(&record.validity.not_after()),
        CertificateQuery::Account(account) => record.account == Some(*account),
        CertificateQuery::Origin { cluster, namespace, certificate } => record.origin.as_ref().is_some_and(|origin| {
            let is = |wanted: &Option<String>, found: &Option<String>| {
                wanted.as_ref().is_none_or(|wanted| *wanted == found.clone().unwrap_or_default())
            };
            origin.cluster == *cluster
                && is(namespace, &origin.namespace)
                && (namespace.is_none() || is(certificate, &origin.certificate))
        }),
    }
}

/// The Merkle root, as RFC 6962 §2.1 defines it: an oracle, so in its own words.
fn root(leaves: &[Vec<u8>]) -> [u8; 32] {
    let hash = |parts: &[&[u8]]| {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, &parts.concat()).as_ref());
        out
    };
    match leaves {
        [] => hash(&[]),
        [only] => hash(&[&[0], only]),
        many => {
            let half = many.len().next_power_of_two() / 2;
            let (left, right) = many.split_at(half);
            hash(&[&[1], &root(left), &root(right)])
        }
    }
}
