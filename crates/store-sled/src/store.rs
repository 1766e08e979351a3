//! The store itself: opens the folder, starts the committer and the sweeper, answers reads.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    num::NonZero,
    ops::Range,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering},
    thread::{JoinHandle, available_parallelism},
};

use async_trait::async_trait;
use chancery_acme::{
    account::{Account, DirectoryName},
    authorization::Authorization,
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
    order::Order,
};
use chancery_authority::{
    changes::{Changes, Committed, Counter},
    ports::{CertificateQuery, CommitError, NotApplied, Store, StoreError, TreeHead},
    records::{
        ApiToken, ApiTokenId, AuthorityId, CertificateRecord, EabKey, EabKeyId, IdempotencyKey, IdempotencyRecord,
        InForce, Job, Version, Versioned,
    },
};
use chancery_ledger::Hash;
use chancery_pki::{SpkiDigest, Timestamp};
use tokio::sync::{oneshot, watch};

use crate::{
    bundles::Bundles,
    committer::{Committer, Queue, Request, is_no_space},
    disk::{self, Disk, RealDisk},
    folder::{self, Folder, KeptCheckpoint, Lock},
    journal, key,
    metrics::{Metrics, add, set},
    opening::{OpenError, Opened, at, open_files, replay},
    options::Options,
    queries::{damaged, decoded},
    record::{self, OrderRow},
    shared::{Shared, Watched},
    sweep::{self, Signal},
    view::View,
};

/// Accounts that are kept decoded: each request looks one up, and checking its key again costs.
const CACHED_ACCOUNTS: usize = 4096;
/// Leaves that one call returns at most.
const LEAVES_MAX: usize = 4096;

/// The store of one process, in one folder.
#[derive(Debug)]
pub struct SledStore {
    pub(crate) shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
    sweeper: Mutex<Option<JoinHandle<()>>>,
    accounts: Mutex<HashMap<AccountId, Versioned<Account>>>,
    lock: Mutex<Option<Lock>>,
}

impl SledStore {
    /// Opens the store in `path`, or makes a new one; replays what the index has not got yet.
    ///
    /// An index that is missing or stale is rebuilt from the ledger on the way.
    ///
    /// # Errors
    ///
    /// [`OpenError`], a sentence that says what to do.
    pub fn open(path: &Path, options: Options) -> Result<Arc<Self>, OpenError> {
        Self::open_on(path, options, Arc::new(RealDisk))
    }

    pub(crate) fn open_on(path: &Path, options: Options, disk: Arc<dyn Disk>) -> Result<Arc<Self>, OpenError> {
        let folder = Folder::new(path);
        folder.prepare(&*disk)?;
        let lock = folder.lock(options.lock_wait)?;
        let origin = folder.origin_or_new(&*disk)?;
        folder.make(&*disk)?;
        let Opened { index, journal, active, frames, frontier, rebuilt } =
            open_files(&folder, &disk, origin, &options)?;
        if let Some(report) = rebuilt {
            tracing::warn!(certificates = report.certificates, accounts = report.accounts, "the index is rebuilt");
        }
        let size = frontier.size();
        let shared = Arc::new(Shared {
            bundles: Bundles::new(&disk, &folder.ledger(), size),
            view: View::new(index, frontier, journal.first),
            queue: Queue::new(options.at_work.clone(), available_parallelism().map_or(1, NonZero::get)),
            signal: Signal::default(),
            metrics: Metrics::default(),
            sweeping: Mutex::new(()),
            segments: Mutex::new(journal.segments),
            failed: watch::Sender::new(None),
            stopped: OnceLock::new(),
            folder,
            disk,
            options,
            origin,
        });
        replay(&shared, frames, journal.next)?;
        set(&shared.metrics.journal_bytes, journal.bytes);
        shared.note_growth();
        if let Err(error) = journal::make_reserve(&*shared.disk, &shared.folder.journal()) {
            tracing::warn!(%error, "the journal's reserve cannot be made: when the disk is full, nothing at all can be committed");
        }
        let committer = Committer::new(Arc::clone(&shared), active);
        let watched = Watched { shared: Arc::clone(&shared), thread: "committer" };
        let committer = std::thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || {
                let _watched = watched;
                committer.run();
            })
            .map_err(at(path))?;
        let sweeper = sweep::spawn(&shared).map_err(at(path))?;
        Ok(Arc::new(Self {
            shared,
            committer: Mutex::new(Some(committer)),
            sweeper: Mutex::new(Some(sweeper)),
            accounts: Mutex::new(HashMap::new()),
            lock: Mutex::new(Some(lock)),
        }))
    }

    /// Ends it: serves what waits, sweeps once more, lets go of the folder. Later commits and reads
    /// are told that it has stopped. Blocks for as long as that takes.
    pub fn stop(&self) {
        if self.shared.failed.borrow().is_none() {
            self.end("the server is stopping", true);
        } else {
            self.end("the store has failed", false);
        }
    }

    pub(crate) fn end(&self, why: &str, last_sweep: bool) {
        let why: Arc<str> = why.into();
        self.shared.queue.close(&why);
        self.shared.signal.stop();
        for thread in [&self.committer, &self.sweeper] {
            let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread
                && thread.join().is_err()
            {
                tracing::error!("a thread of the store has panicked");
            }
        }
        if self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return;
        }
        if last_sweep && let Err(error) = sweep::sweep(&self.shared) {
            tracing::error!(%error, "the last sweep failed; the next start repeats it");
        }
        drop(self.shared.stopped.set(why));
        self.shared.view.index.close();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Resolves when the store can acknowledge nothing any more, with the sentence that says why.
    /// The process should end then: its next start finds what is on the disk.
    pub async fn failed(&self) -> Arc<str> {
        let mut failed = self.shared.failed.subscribe();
        loop {
            if let Some(why) = &*failed.borrow_and_update() {
                return Arc::clone(why);
            }
            if failed.changed().await.is_err() {
                // Cannot happen while `self` lives, and then nobody waits.
                return "the store is gone".into();
            }
        }
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Sweeps now: for tests, and before a backup.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is lost, and it is tried again.
    pub fn sweep(&self) -> Result<(), StoreError> {
        sweep::sweep(&self.shared).map_err(|error| damaged(&error))
    }
}

/// Why a file of its own was not kept.
fn not_kept(error: &io::Error, why: String) -> StoreError {
    if is_no_space(error) { StoreError::NoSpace(why.into()) } else { StoreError::Stopped(why.into()) }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // Without a last sweep: whoever wants one stops the store first.
        self.end("the store is gone", false);
    }
}

#[async_trait]
impl Store for SledStore {
    async fn account(&self, id: AccountId) -> Result<Option<Versioned<Account>>, StoreError> {
        let key = key::account(id);
        let Some(found) = self.running()?.view.get(&key).map_err(|error| damaged(&error))? else { return Ok(None) };
        let version: Version = record::version(&found).map_err(|error| damaged(&error))?;
        {
            let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(cached) = accounts.get(&id).filter(|cached| cached.version == version) {
                return Ok(Some(cached.clone()));
            }
        }
        let account: Versioned<Account> = decoded(&key, &found)?;
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= CACHED_ACCOUNTS {
            accounts.clear();
        }
        accounts.insert(id, account.clone());
        Ok(Some(account))
    }

    async fn account_by_key(
        &self,
        directory: &DirectoryName,
        key: &SpkiDigest,
    ) -> Result<Option<Versioned<Account>>, StoreError> {
        let index = key::account_key(key, directory);
        let found = self.running()?.view.get(&index).map_err(|error| damaged(&error))?;
        let Some(id) = found.and_then(|id| (*id).try_into().ok()) else { return Ok(None) };
        self.account(AccountId::from_random(id)).await
    }

    async fn is_account_key(&self, key: &SpkiDigest) -> Result<bool, StoreError> {
        let found = self.running()?.view.scan(&key::account_keys(key), None, 1).map_err(|error| damaged(&error))?;
        Ok(!found.is_empty())
    }

    async fn accounts(&self, after: Option<AccountId>, limit: usize) -> Result<Vec<Account>, StoreError> {
        let after = after.map(key::account);
        let found = self
            .running()?
            .view
            .scan(&[key::class::ACCOUNT], after.as_deref(), limit)
            .map_err(|error| damaged(&error))?;
        found.iter().map(|(key, value)| decoded(key, value).map(|account: Versioned<Account>| account.value)).collect()
    }

    async fn order(&self, id: OrderId) -> Result<Option<Versioned<Order>>, StoreError> {
        let found: Option<Versioned<OrderRow>> = self.record(&key::order(id))?;
        Ok(found.map(|Versioned { value, version }| Versioned { value: value.order, version }))
    }

    async fn orders_of(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        let mut found = Vec::new();
        self.each_order(account, after, limit, |row| {
            found.push(row.order.id);
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    async fn authorization(&self, id: AuthorizationId) -> Result<Option<Versioned<Authorization>>, StoreError> {
        let found = self.record(&key::authorization(id))?;
        if found.is_some() {
            return Ok(found);
        }
        let row: Option<Versioned<OrderRow>> = self.record(&key::order(id.order()))?;
        Ok(row.and_then(|row| row.value.settled.into_iter().find(|settled| settled.value.id == id)))
    }

    async fn certificate(&self, id: CertificateId) -> Result<Option<Versioned<CertificateRecord>>, StoreError> {
        self.record(&key::certificate(id))
    }

    async fn certificates(
        &self,
        query: &CertificateQuery,
        after: Option<CertificateId>,
        limit: usize,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        match query {
            CertificateQuery::All => {
                let after = after.map(key::certificate);
                let found = self
                    .running()?
                    .view
                    .scan(&[key::class::CERTIFICATE], after.as_deref(), limit)
                    .map_err(|error| damaged(&error))?;
                found.iter().map(|(key, value)| decoded(key, value).map(|record: Versioned<_>| record.value)).collect()
            }
            CertificateQuery::Name(name) => {
                let after = after.map(|id| id.octets());
                self.certificates_by(&key::certificates_named(name), after, limit, |record| record.names.contains(name))
            }
            // What is no name has nothing below it.
            CertificateQuery::Suffix(suffix) => match suffix.parse() {
                Ok(suffix) => self.certificates_below(&suffix, after, limit),
                Err(_) => Ok(Vec::new()),
            },
            CertificateQuery::Key(digest) => {
                let after = after.map(|id| id.octets());
                self.certificates_by(&key::certificate_keys(digest), after, limit, |record| record.key == *digest)
            }
            CertificateQuery::Expiring(range) => self.certificates_expiring(range, after, limit),
            CertificateQuery::Account(account) => self.certificates_of(*account, after, limit),
            CertificateQuery::Origin { cluster, namespace, certificate } => {
                self.certificates_from((cluster, namespace.as_deref(), certificate.as_deref()), after, limit)
            }
        }
    }

    async fn idempotency(&self, key: &IdempotencyKey) -> Result<Option<Versioned<IdempotencyRecord>>, StoreError> {
        let found: Option<Versioned<IdempotencyRecord>> = self.record(&key::idempotency(key))?;
        Ok(found.filter(|found| found.value.key == *key))
    }

    async fn api_token(&self, id: ApiTokenId) -> Result<Option<Versioned<ApiToken>>, StoreError> {
        self.record(&key::api_token(id))
    }

    async fn api_tokens(&self, after: Option<ApiTokenId>, limit: usize) -> Result<Vec<ApiToken>, StoreError> {
        let after = after.map(key::api_token);
        let class = [key::class::API_TOKEN];
        let found = self.running()?.view.scan(&class, after.as_deref(), limit).map_err(|error| damaged(&error))?;
        found.iter().map(|(key, value)| decoded(key, value).map(|token: Versioned<ApiToken>| token.value)).collect()
    }

    async fn eab_key(&self, id: &EabKeyId) -> Result<Option<Versioned<EabKey>>, StoreError> {
        self.record(&key::eab_key(id))
    }

    async fn eab_keys(&self, after: Option<&EabKeyId>, limit: usize) -> Result<Vec<EabKey>, StoreError> {
        let after = after.map(key::eab_key);
        let found = self
            .running()?
            .view
            .scan(&[key::class::EAB_KEY], after.as_deref(), limit)
            .map_err(|error| damaged(&error))?;
        found.iter().map(|(key, value)| decoded(key, value).map(|found: Versioned<EabKey>| found.value)).collect()
    }

    async fn count(&self, counter: &Counter) -> Result<u64, StoreError> {
        let found = self.running()?.view.get(&key::counter(counter)).map_err(|error| damaged(&error))?;
        found.map_or(Ok(0), |number| record::decode_number(&number)).map_err(|error| damaged(&error))
    }

    async fn in_force(&self) -> Result<Option<Versioned<InForce>>, StoreError> {
        self.record(&key::in_force())
    }

    async fn crl_number(&self, authority: &AuthorityId, shard: u32) -> Result<Option<u64>, StoreError> {
        let found = self.running()?.view.get(&key::crl_number(authority, shard)).map_err(|error| damaged(&error))?;
        found.map(|number| record::decode_number(&number)).transpose().map_err(|error| damaged(&error))
    }

    async fn due_jobs(&self, now: Timestamp, limit: usize) -> Result<Vec<Job>, StoreError> {
        let found = self.running()?.view.scan(&[key::class::JOB_DUE], None, limit).map_err(|error| damaged(&error))?;
        let mut jobs = Vec::with_capacity(found.len());
        for (key, value) in found {
            let attempt = record::decode_number(&value).ok().and_then(|attempt| u32::try_from(attempt).ok());
            let Some(((due, kind), attempt)) = key::due_job(&key).zip(attempt) else {
                return Err(damaged(&format!("the job {} does not read", hex::encode(&key))));
            };
            if due > now {
                break;
            }
            jobs.push(Job { kind, due, attempt });
        }
        Ok(jobs)
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let found = self.running()?.view.scan(&[key::class::JOB_DUE], None, 1).map_err(|error| damaged(&error))?;
        Ok(found.first().and_then(|(key, _)| key::due_job(key)).map(|(due, _)| due))
    }

    async fn leaf(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let shared = self.running()?;
        match shared.view.leaf(index) {
            Ok(found) => Ok(found.map(|leaf| leaf.to_vec())),
            Err(_) => shared.bundles.leaf(index).map_err(|error| damaged(&error)),
        }
    }

    async fn leaves(&self, range: Range<u64>, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut found = Vec::new();
        for index in range.take(limit.min(LEAVES_MAX)) {
            match self.leaf(index).await? {
                Some(leaf) => found.push(leaf),
                None => break,
            }
        }
        Ok(found)
    }

    async fn tree_head(&self) -> Result<TreeHead, StoreError> {
        let (size, root) = self.running()?.view.head();
        Ok(TreeHead { size, root: root.octets() })
    }

    async fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        let kept = folder::read_checkpoint(&self.running()?.folder).map_err(|error| damaged(&error))?;
        Ok(kept.map(|kept| kept.note))
    }

    async fn keep_checkpoint(&self, tree_size: u64, note: String) -> Result<(), StoreError> {
        let shared = self.running()?;
        // Whoever signed an older tree comes late; the newer one stays.
        let kept = folder::read_checkpoint(&shared.folder).map_err(|error| damaged(&error))?;
        if kept.is_some_and(|kept| kept.tree_size > tree_size) {
            return Ok(());
        }
        if tree_size > shared.view.head().0 {
            return Err(damaged(&"a checkpoint of a tree larger than what is synced was to be kept"));
        }
        folder::write_checkpoint(&*shared.disk, &shared.folder, &KeptCheckpoint { tree_size, note })
            .map_err(|error| not_kept(&error, format!("the checkpoint cannot be written: {error}")))
    }

    async fn keep_blob(&self, sha256: [u8; 32], content: Vec<u8>) -> Result<(), StoreError> {
        let shared = self.running()?;
        let path = shared.folder.blob(&sha256);
        if journal::sha256(&content) != sha256 {
            return Err(damaged(&"matter was to be kept under another hash than its own"));
        }
        let kept = if fs::read(&path).is_ok_and(|kept| kept == content) {
            // A kill may have come before it, or its name, was synced.
            File::open(&path)
                .and_then(|file| shared.disk.sync(&file, &path))
                .and_then(|()| shared.disk.sync_folder(disk::folder_of(&path)))
        } else {
            disk::write_durably(&*shared.disk, &path, &content)
        };
        kept.map_err(|error| not_kept(&error, format!("{}: {error}", path.display())))
    }

    async fn commit(&self, changes: Changes) -> Result<Committed, CommitError> {
        let refused = |why| Err(CommitError::NotApplied(why));
        let shared = &self.shared;
        if let Some(why) = shared.stopped.get() {
            return refused(NotApplied::Stopped(Arc::clone(why)));
        }
        let Changes { items, leaves, urgent } = changes;
        let mut entries: Vec<Arc<[u8]>> = Vec::with_capacity(leaves.len());
        let mut hashes = Vec::with_capacity(leaves.len());
        // Encoded and hashed here, so that the one committer has less to do.
        for leaf in &leaves {
            match leaf.encode() {
                Ok(entry) => {
                    hashes.push(Hash::of_leaf(&entry));
                    entries.push(entry.into());
                }
                Err(error) => return refused(NotApplied::Unstorable(error.to_string().into())),
            }
        }
        let held = usize::try_from(shared.metrics.overlay_bytes.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let limit = if urgent { shared.options.overlay_limit.saturating_mul(2) } else { shared.options.overlay_limit };
        if held > limit {
            add(&shared.metrics.busy, 1);
            shared.signal.due();
            return refused(NotApplied::Busy);
        }
        let (sender, receiver) = oneshot::channel();
        let request = Request { items, leaves: entries, hashes, urgent, answer: sender };
        if let Err(why) = shared.queue.push(request, shared.options.queue_limit) {
            add(&shared.metrics.busy, u64::from(matches!(why, NotApplied::Busy)));
            return refused(why);
        }
        match receiver.await {
            Ok(answer) => answer,
            // The committer died with it in hand: it may have been written.
            Err(_) => Err(CommitError::Unknown("the store's committer is gone".into())),
        }
    }
}
