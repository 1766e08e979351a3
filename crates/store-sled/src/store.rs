//! The store itself: opens the folder, starts the committer and the sweeper, answers reads.

use std::{
    collections::HashMap,
    fs, io,
    ops::{Bound, Range},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chancery_acme::{
    account::{Account, DirectoryName},
    authorization::Authorization,
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
    order::Order,
};
use chancery_authority::{
    changes::{Changes, Committed},
    ports::{CertificateQuery, CommitError, NotApplied, Store, StoreError, TreeHead},
    records::{CertificateRecord, IdempotencyKey, IdempotencyRecord, Job, Version, Versioned},
};
use chancery_ledger::{
    Frontier, Hash,
    tile::{Layer, Tile},
};
use chancery_pki::{DnsName, SpkiDigest, Timestamp};
use tokio::sync::{oneshot, watch};

use crate::{
    bundles::{self, Bundles},
    committer::{Committer, Queue, Request},
    disk::{self, Disk, RealDisk},
    folder::{self, Folder, FolderError, KeptCheckpoint, Lock},
    index::{Index, IndexError},
    journal::{self, Active, Damage, Journal, Origin, Place, ReadError},
    key::{self, Key},
    metrics::{Metrics, add, number, set},
    rebuild,
    record::{self, Record},
    sweep::{self, Signal},
    view::View,
};

/// Accounts that are kept decoded: each request looks one up, and checking its key again costs.
const CACHED_ACCOUNTS: usize = 4096;
/// Leaves that one call returns at most.
const LEAVES_MAX: usize = 4096;

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest that commits wait for others to share a sync with; what is used adapts below it.
    pub linger_max: Duration,
    /// Most commits that wait; more are told that the store is busy.
    pub queue_limit: usize,
    /// Octets of overlay and leaves in memory from which on a sweep is due.
    pub sweep_bytes: usize,
    /// Octets in memory from which on commits are told that the store is busy.
    pub overlay_limit: usize,
    /// Octets of journal from which on a sweep is due.
    pub journal_sweep_bytes: u64,
    /// The longest that something stays unswept.
    pub sweep_age: Duration,
    /// Octets after which a journal segment is followed by another.
    pub segment_bytes: u64,
    /// Octets that are kept free on the disk, whatever the next sweep needs.
    pub floor_bytes: u64,
    /// How long to wait for a process that is just ending to let go of the folder.
    pub lock_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            linger_max: Duration::from_millis(4),
            queue_limit: 4096,
            sweep_bytes: 4 << 20,
            overlay_limit: 32 << 20,
            journal_sweep_bytes: 16 << 20,
            sweep_age: Duration::from_secs(60),
            segment_bytes: 4 << 20,
            floor_bytes: 64 << 20,
            lock_wait: Duration::from_secs(5),
        }
    }
}

/// Why a store was not opened. Each is a sentence for whoever starts the server.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is not taken.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Something cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Journal or ledger are damaged: only a backup heals that.
    #[error(
        "the store is damaged: {0}; what was acknowledged is in there, so restore it from a backup (chancery restore)"
    )]
    Damaged(Damage),
    /// The index is damaged: it can be rebuilt.
    #[error("the store's index is damaged: {0}; rebuild it from the ledger: chancery store rebuild")]
    IndexDamaged(Damage),
    /// The index or the ledger knows of commits that the journal does not have.
    #[error("the journal {path} ends at {journal}, but {what} has come to {position}: its end is lost; restore it from a backup (chancery restore)", path = path.display())]
    JournalLost {
        /// The journal's folder.
        path: PathBuf,
        /// The last sequence in the journal.
        journal: u64,
        /// What knows more: the index, the ledger.
        what: &'static str,
        /// How far that has come.
        position: u64,
    },
    /// The tree is smaller than a checkpoint that was signed.
    #[error(
        "the ledger has {leaves} leaves, but a checkpoint of {checkpoint} was signed: its end is lost; restore it from a backup (chancery restore)"
    )]
    ShorterThanCheckpoint {
        /// Leaves found.
        leaves: u64,
        /// Leaves of the checkpoint.
        checkpoint: u64,
    },
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { path, error } => Self::Io { path, error },
            ReadError::Damaged(damage) => Self::Damaged(damage),
        }
    }
}

impl From<IndexError> for OpenError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Locked(path) => Self::Folder(FolderError::InUse { path, pid: None }),
            IndexError::Damaged(damage) => Self::IndexDamaged(damage),
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path, error }
}

/// What the threads and the readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) folder: Folder,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) origin: Origin,
    pub(crate) view: View,
    pub(crate) bundles: Bundles,
    pub(crate) queue: Queue,
    pub(crate) signal: Signal,
    pub(crate) metrics: Metrics,
    /// Held by a sweep, and by a backup that wants none meanwhile.
    pub(crate) sweeping: Mutex<()>,
    segments: Mutex<Vec<(u64, PathBuf)>>,
    failed: watch::Sender<Option<Arc<str>>>,
    stopped: OnceLock<Arc<str>>,
}

impl Shared {
    /// Nothing is acknowledged any more.
    pub(crate) fn fail(&self, why: &Arc<str>) {
        tracing::error!("the store stops: {why}");
        self.queue.close(why);
        self.failed.send_replace(Some(Arc::clone(why)));
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        // A file system that cannot say is not a full one.
        let free = self.disk.free(self.folder.root()).unwrap_or(u64::MAX);
        set(&self.metrics.free_bytes, free);
        free
    }

    /// Octets that must stay free: enough for the next sweep, which rewrites in sled and in bundles
    /// what journal and overlay hold.
    pub(crate) fn floor(&self) -> u64 {
        let held = self
            .metrics
            .journal_bytes
            .load(Ordering::Relaxed)
            .saturating_add(self.metrics.overlay_bytes.load(Ordering::Relaxed));
        self.options.floor_bytes.max(held.saturating_mul(3))
    }

    /// A group was applied: is a sweep due?
    pub(crate) fn note_growth(&self) {
        set(&self.metrics.overlay_bytes, number(self.view.bytes()));
        let journal = self.metrics.journal_bytes.load(Ordering::Relaxed);
        let first = self.segments.lock().unwrap_or_else(PoisonError::into_inner).len();
        if self.view.fresh_bytes() > self.options.sweep_bytes
            || (journal > self.options.journal_sweep_bytes && first > 1)
        {
            self.signal.due();
        }
    }

    pub(crate) fn segment_began(&self, first: u64, path: PathBuf) {
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        if segments.last().is_none_or(|(last, _)| *last != first) {
            segments.push((first, path));
        }
    }

    /// Segments whose frames all come before `sequence`; the last one stays, it is written to.
    pub(crate) fn swept_segments(&self, sequence: u64) -> Vec<PathBuf> {
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = segments.iter().skip(1).take_while(|(first, _)| *first <= sequence).count();
        segments.drain(..ends).map(|(_, path)| path).collect()
    }
}

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
        folder.prepare()?;
        let lock = folder.lock(options.lock_wait)?;
        let origin = folder.origin_or_new(&*disk)?;
        folder.make(&*disk)?;
        let Opened { index, journal, active, frames, frontier, rebuilt } =
            open_files(&folder, &disk, origin, options.lock_wait)?;
        if let Some(report) = rebuilt {
            tracing::warn!(certificates = report.certificates, accounts = report.accounts, "the index is rebuilt");
        }
        let size = frontier.size();
        let shared = Arc::new(Shared {
            bundles: Bundles::new(&disk, &folder.ledger(), size),
            view: View::new(index, frontier, journal.first),
            queue: Queue::default(),
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
        let committer = std::thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || committer.run())
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

    fn running(&self) -> Result<&Shared, StoreError> {
        match self.shared.stopped.get() {
            Some(why) => Err(StoreError::Stopped(Arc::clone(why))),
            None => Ok(&self.shared),
        }
    }

    fn record<T: Record>(&self, key: &[u8]) -> Result<Option<Versioned<T>>, StoreError> {
        self.running()?.view.get(key).map_err(|error| damaged(&error))?.map(|found| decoded(key, &found)).transpose()
    }

    fn ids(&self, prefix: &Key, after: Option<[u8; 16]>, limit: usize) -> Result<Vec<[u8; 16]>, StoreError> {
        let after = after.map(|id| [prefix, id.as_slice()].concat());
        let found = self.running()?.view.scan(prefix, after.as_deref(), limit).map_err(|error| damaged(&error))?;
        Ok(found.iter().filter_map(|(key, _)| key::trailing_id(key)).collect())
    }

    /// Records by the ids of an index, those that `wanted` takes, until there are enough.
    fn certificates_by(
        &self,
        prefix: &Key,
        after: Option<CertificateId>,
        limit: usize,
        wanted: impl Fn(&CertificateRecord) -> bool,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let mut found = Vec::new();
        let mut after = after.map(|id| id.octets());
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
    fn certificates_below(
        &self,
        suffix: &DnsName,
        after: Option<CertificateId>,
        limit: usize,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let prefix = key::certificates_below(suffix);
        let view = &self.running()?.view;
        let mut ids = std::collections::BTreeSet::new();
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

    fn certificates_expiring(
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

impl Drop for SledStore {
    fn drop(&mut self) {
        // Without a last sweep: whoever wants one stops the store first.
        self.end("the store is gone", false);
    }
}

pub(crate) fn damaged(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string().into())
}

fn decoded<T: Record>(key: &[u8], value: &[u8]) -> Result<Versioned<T>, StoreError> {
    record::decode(key, value).map_err(|error| damaged(&format!("the record {}: {error}", hex::encode(key))))
}

/// What lies in the folder, opened and brought together.
struct Opened {
    index: Index,
    journal: Journal,
    active: Active,
    frames: Vec<journal::Frame>,
    frontier: Frontier,
    rebuilt: Option<rebuild::Rebuilt>,
}

fn open_files(folder: &Folder, disk: &Arc<dyn Disk>, origin: Origin, lock_wait: Duration) -> Result<Opened, OpenError> {
    let state = bundles::read_state(&folder.ledger())?;
    let checkpoint = folder::read_checkpoint(folder)?;
    let (mut frontier, mut swept) = (Frontier::default(), Place::START);
    if let Some(state) = &state {
        if state.origin.store != origin.store {
            return Err(OpenError::Damaged(Damage::new(&folder.ledger(), "the ledger belongs to another store")));
        }
        (frontier, swept) = (state.frontier.clone(), state.next);
        check_edge(folder, &frontier)?;
    }
    let mut frames = Vec::new();
    let path = folder.journal();
    let read = journal::read(&path, false, |frame| {
        frames.push(frame);
        Ok(())
    })?;
    let (journal, active) = match read {
        Some(journal) => {
            if journal.origin != origin {
                return Err(OpenError::Damaged(Damage::new(&path, "the journal belongs to another store")));
            }
            let size = journal.next.leaf;
            if let Some(kept) = checkpoint.filter(|kept| kept.tree_size > size) {
                return Err(OpenError::ShorterThanCheckpoint { leaves: size, checkpoint: kept.tree_size });
            }
            // Only now may the tail be cut.
            if journal.tail.torn > 0 {
                tracing::warn!(
                    path = %journal.tail.path.display(), offset = journal.tail.sound, bytes = journal.tail.torn,
                    "the journal's last frame was torn, nothing in it was acknowledged: it is cut"
                );
            }
            let active = Active::take_over(&**disk, &path, &journal).map_err(at(&journal.tail.path))?;
            (journal, active)
        }
        None if state.is_some()
            || checkpoint.is_some()
            || folder.index().join("db").exists() && index_has_position(folder, disk, lock_wait)? =>
        {
            return Err(OpenError::Damaged(Damage::new(&path, "the journal is missing")));
        }
        None => {
            let active = Active::begin(&**disk, &path, origin, Place::START).map_err(at(&path))?;
            let tail = journal::Tail { path: active.path.clone(), sound: active.length(), torn: 0 };
            let segments = vec![(Place::START.sequence, active.path.clone())];
            let bytes = active.length();
            (Journal { origin, first: Place::START, next: Place::START, tail, segments, bytes }, active)
        }
    };
    let lost = |what, position| OpenError::JournalLost {
        path: path.clone(),
        journal: journal.next.sequence - 1,
        what,
        position,
    };
    if swept.leaf > journal.next.leaf || swept.sequence > journal.next.sequence {
        return Err(lost("the ledger", swept.sequence - 1));
    }
    if swept.leaf < journal.first.leaf {
        let why = format!("it begins at leaf {}, but the ledger's bundles end at {}", journal.first.leaf, swept.leaf);
        return Err(OpenError::Damaged(Damage::new(&path, why)));
    }
    overlap(folder, &frames, &frontier)?;

    // sled's position against the journal (rule 5).
    let index_path = folder.index();
    let missing = !index_path.join("db").exists() && !index_path.with_extension("old").exists();
    let opened = if missing { None } else { Some(Index::open(disk, &index_path, lock_wait)?) };
    let position = match &opened {
        Some(index) => index.position().map_err(OpenError::IndexDamaged)?,
        None => None,
    };
    let first = journal.first.sequence;
    if opened.is_some() && position.is_none() && first > 1 {
        // What was swept is not in the journal any more, and its position came with it: it was there.
        let why = "it has lost its position, and with it who knows what else";
        return Err(OpenError::IndexDamaged(Damage::new(&index_path.join("db"), why)));
    }
    let current = match position {
        Some(position) if position.origin == origin && position.sequence >= journal.next.sequence => {
            return Err(lost("the index", position.sequence));
        }
        Some(position) => position.origin == origin && position.sequence + 1 >= first,
        // Nothing was ever swept: everything is in the journal.
        None => first == 1 && (!missing || state.is_none()),
    };
    let (index, swept_to, rebuilt) = match opened {
        Some(index) if current => (index, position.map_or(0, |position| position.sequence), None),
        None if current => (Index::open(disk, &index_path, lock_wait)?, 0, None),
        stale => {
            tracing::warn!(
                path = %index_path.display(), ?position, journal.first = first,
                "the index is missing, stale or another store's; it is rebuilt from the ledger"
            );
            drop(stale);
            let (index, report) = rebuild::rebuild_index(folder, disk, origin, first - 1, lock_wait)?;
            (index, first - 1, Some(report))
        }
    };
    // What was swept is in the index, and what came after in it too: only leaves may be missing in bundles.
    for frame in &mut frames {
        if frame.last_sequence() <= swept_to {
            frame.results.clear();
        }
    }
    Ok(Opened { index, journal, active, frames, frontier, rebuilt })
}

/// A folder whose journal is gone is a new one only if its index has seen nothing.
fn index_has_position(folder: &Folder, disk: &Arc<dyn Disk>, lock_wait: Duration) -> Result<bool, OpenError> {
    let index = Index::open(disk, &folder.index(), lock_wait)?;
    Ok(index.position().map_err(OpenError::IndexDamaged)?.is_some())
}

/// The tail of the bundles, checked at every start: the last bundle's leaves have the hashes of
/// their tile, and those are the tree's right edge. The whole of it is the scrub's to check.
fn check_edge(folder: &Folder, frontier: &Frontier) -> Result<(), OpenError> {
    let size = frontier.size();
    let Some(last) = size.checked_sub(1).and_then(|last| Tile::in_tree(Layer::Entries, last / 256, size)) else {
        return Ok(());
    };
    let (entries, hashes) = bundles::read_bundle(&folder.ledger(), last)?;
    let path = folder.ledger().join(last.to_string());
    for (at, (entry, kept)) in entries.iter().zip(&hashes).enumerate() {
        if Hash::of_leaf(entry) != *kept {
            let index = last.index() * 256 + number(at);
            return Err(OpenError::Damaged(Damage::new(
                &path,
                format!("leaf {index} is not the one that was recorded"),
            )));
        }
    }
    // The peaks of the last, partial tile are the last peaks of the tree.
    let mut edge = Frontier::default();
    for hash in &hashes {
        edge.append(*hash);
    }
    let tail = edge.to_bytes().get(8..).unwrap_or_default().to_vec();
    if !last.is_full() && !frontier.to_bytes().ends_with(&tail) {
        return Err(OpenError::Damaged(Damage::new(&path, "its hashes are not those of the tree")));
    }
    Ok(())
}

/// Leaves that are both in bundles and in the journal must be the same.
fn overlap(folder: &Folder, frames: &[journal::Frame], frontier: &Frontier) -> Result<(), OpenError> {
    let size = frontier.size();
    let mut tile: Option<(Tile, Vec<Hash>)> = None;
    for frame in frames {
        for (nth, leaf) in frame.leaves.iter().enumerate() {
            let index = frame.first_leaf + number(nth);
            if index >= size {
                return Ok(());
            }
            let Some(wanted) = Tile::in_tree(Layer::Hashes(0), index / 256, size) else { continue };
            if tile.as_ref().is_none_or(|(tile, _)| *tile != wanted) {
                tile = Some((wanted, bundles::read_hashes(&folder.ledger(), wanted)?));
            }
            let kept = tile.as_ref().and_then(|(_, hashes)| hashes.get(usize::try_from(index % 256).ok()?));
            if kept != Some(&Hash::of_leaf(leaf)) {
                let path = folder.ledger().join(wanted.to_string());
                let why = format!("leaf {index} has another hash than in the journal");
                return Err(OpenError::Damaged(Damage::new(&path, why)));
            }
        }
    }
    Ok(())
}

/// Brings memory to where the journal ends. What is in the bundles already is not taken again.
fn replay(shared: &Shared, frames: Vec<journal::Frame>, next: Place) -> Result<(), OpenError> {
    let mut frontier = shared.view.frontier();
    for mut frame in frames {
        let known = usize::try_from(frontier.size().saturating_sub(frame.first_leaf)).unwrap_or(usize::MAX);
        frame.leaves.drain(..known.min(frame.leaves.len()));
        for leaf in &frame.leaves {
            frontier.append(Hash::of_leaf(leaf));
        }
        shared.view.apply(frame, frontier.clone(), next);
    }
    shared.view.apply(journal::Frame::nothing(), frontier.clone(), next);
    if frontier.size() == next.leaf {
        Ok(())
    } else {
        let why = format!("its frames lead to {} leaves, not {}", frontier.size(), next.leaf);
        Err(OpenError::Damaged(Damage::new(&shared.folder.journal(), why)))
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
        self.record(&key::order(id))
    }

    async fn orders_of(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        let ids = self.ids(&key::orders_of(account), after.map(|id| id.octets()), limit)?;
        Ok(ids.into_iter().map(OrderId::from_random).collect())
    }

    async fn authorization(&self, id: AuthorizationId) -> Result<Option<Versioned<Authorization>>, StoreError> {
        self.record(&key::authorization(id))
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
                self.certificates_by(&key::certificates_named(name), after, limit, |record| record.names.contains(name))
            }
            // What is no name has nothing below it.
            CertificateQuery::Suffix(suffix) => match suffix.parse() {
                Ok(suffix) => self.certificates_below(&suffix, after, limit),
                Err(_) => Ok(Vec::new()),
            },
            CertificateQuery::Key(digest) => {
                self.certificates_by(&key::certificate_keys(digest), after, limit, |record| record.key == *digest)
            }
            CertificateQuery::Expiring(range) => self.certificates_expiring(range, after, limit),
            CertificateQuery::Account(account) => {
                self.certificates_by(&key::certificates_of(*account), after, limit, |_| true)
            }
        }
    }

    async fn idempotency(&self, key: &IdempotencyKey) -> Result<Option<Versioned<IdempotencyRecord>>, StoreError> {
        let found: Option<Versioned<IdempotencyRecord>> = self.record(&key::idempotency(key))?;
        Ok(found.filter(|found| found.value.key == *key))
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
            .map_err(|error| StoreError::Stopped(format!("the checkpoint cannot be written: {error}").into()))
    }

    async fn keep_blob(&self, sha256: [u8; 32], content: Vec<u8>) -> Result<(), StoreError> {
        let shared = self.running()?;
        let path = shared.folder.blob(&sha256);
        if journal::sha256(&content) != sha256 {
            return Err(damaged(&"matter was to be kept under another hash than its own"));
        }
        if fs::read(&path).is_ok_and(|kept| kept == content) {
            return Ok(());
        }
        disk::write_durably(&*shared.disk, &path, &content)
            .map_err(|error| StoreError::Stopped(format!("{}: {error}", path.display()).into()))
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
        let request = Request { items, leaves: entries, hashes, urgent, answer: sender, arrived: Instant::now() };
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
