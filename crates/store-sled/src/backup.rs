//! The backup of a running store, and what a restore makes of it.
//!
//! A backup is a folder: the ledger's files, an export of the index as it was at one synced
//! sequence, the checkpoint, larger matter, and last a manifest with the hash of each file. A
//! restore opens a new epoch in the same tree, whose first leaf names the last checkpoint known of
//! the old one, so that whoever kept it can tell a restore from tampering.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use chancery_acme::{
    id::AccountId,
    order::{Order, OrderState},
};
use chancery_authority::{
    changes::{Change, Changes, Counter},
    ports::{CommitError, Store as _},
    records::{Job, JobKind},
};
use chancery_ledger::{
    Checkpoint, Frontier, Hash, SignedCheckpoint, Walker,
    leaf::{Leaf, OldCheckpoint, Restored},
    tile::{Layer, Tile, Tiled},
    tree,
};
use chancery_pki::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    bundles::{self, Bundles, State},
    disk::{self, Disk, RealDisk},
    folder::{self, Folder, FolderError},
    index::{Index, Position},
    journal::{Active, Damage, Origin, Place, ReadError, Results},
    key::{self, class},
    rebuild::{Rebuilder, Stopped},
    record,
    store::{OpenError, Options, SledStore},
    sweep, walk,
};

const FORMAT: u32 = 1;
const MANIFEST: &str = "backup.json";
const EXPORT: &str = "index.export";
/// Entries of an export that go to the index at once.
const BATCH: usize = 4096;
/// Octets of an export that are written at once.
const PIECE: usize = 1 << 20;

/// What a backup holds.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    store: String,
    epoch: u64,
    /// The last sequence that is in it.
    sequence: u64,
    leaves: u64,
    root: String,
    index_entries: u64,
    files: BTreeMap<String, Sum>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Sum {
    bytes: u64,
    sha256: String,
}

/// What a backup took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// Leaves of the ledger.
    pub leaves: u64,
    /// Entries of the index.
    pub index_entries: u64,
    /// Files, without the manifest.
    pub files: usize,
    /// Their octets.
    pub bytes: u64,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The target is not an empty folder.
    #[error("{path} is not empty; give a folder that does not exist yet", path = .0.display())]
    NotEmpty(PathBuf),
    /// Something cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The store is damaged; a backup of it would be too.
    #[error("the store is damaged: {0}")]
    Damaged(#[from] Damage),
    /// The target is not taken.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl From<ReadError> for BackupError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { path, error } => Self::Io { path, error },
            ReadError::Damaged(damage) => Self::Damaged(damage),
        }
    }
}

/// What a restore brought back, and what it could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// The epoch that begins with it.
    pub epoch: u64,
    /// Leaves that were in the backup.
    pub from_backup: u64,
    /// Leaves after it that were found elsewhere.
    pub recovered: u64,
    /// Leaves that the last known checkpoint speaks of and that are lost.
    pub missing: u64,
    /// The size of the last known checkpoint, if there is one.
    pub checkpoint: Option<u64>,
    /// Orders that had no certificate on its way: they are void.
    pub void_orders: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no backup, or one that was never finished.
    #[error("{path} is no backup: {why}", path = path.display())]
    NotABackup {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The target has something in it.
    #[error("{path} is not empty; a restore goes into a folder that does not exist yet", path = .0.display())]
    NotEmpty(PathBuf),
    /// The leaves that were to be added are another ledger's.
    #[error("the ledger in {path} is not the continuation of the backup's", path = .0.display())]
    Foreign(PathBuf),
    /// The leaves do not have the root of the last known checkpoint.
    #[error(
        "the leaves do not have the root of the checkpoint of {0} leaves: they were tampered with, or it is another ledger's"
    )]
    OtherRoot(u64),
    /// Something cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What was brought together cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new epoch's first leaf was not committed.
    #[error("the new epoch could not begin: {0}")]
    Commit(CommitError),
}

impl From<ReadError> for RestoreError {
    fn from(error: ReadError) -> Self {
        Self::Open(error.into())
    }
}

impl From<FolderError> for RestoreError {
    fn from(error: FolderError) -> Self {
        Self::Open(error.into())
    }
}

fn hex_sum(context: Context) -> String {
    hex::encode(context.finish().as_ref())
}

/// Lists every file below a folder, as paths relative to it.
fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if let Ok(relative) = entry.path().strip_prefix(folder) {
                found.push(relative.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The hash tiles and bundles of a tree.
fn tiles(size: u64) -> impl Iterator<Item = Tile> {
    let layers = std::iter::once(Layer::Entries).chain((0..=7).map(Layer::Hashes));
    layers.flat_map(move |layer| (0..).map_while(move |number| Tile::in_tree(layer, number, size)))
}

fn is_empty(folder: &Path) -> bool {
    match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Copies files into a backup, or out of it, and sums them.
struct Copier<'a> {
    disk: &'a dyn Disk,
    to: &'a Path,
    sums: BTreeMap<String, Sum>,
}

impl Copier<'_> {
    fn copy(&mut self, from: &Path, relative: &str) -> io::Result<()> {
        let target = self.to.join(relative);
        disk::make_folders(self.disk, self.to, disk::folder_of(&target))?;
        let mut source = File::open(from)?;
        let file = self.disk.create(&target)?;
        let mut context = Context::new(&SHA256);
        let mut piece = vec![0; PIECE];
        let mut bytes = 0;
        loop {
            let read = source.read(&mut piece)?;
            if read == 0 {
                break;
            }
            let part = piece.get(..read).unwrap_or_default();
            context.update(part);
            self.disk.write_at(&file, &target, part, bytes)?;
            bytes += u64::try_from(read).unwrap_or(u64::MAX);
        }
        self.disk.sync(&file, &target)?;
        self.sums.insert(relative.to_owned(), Sum { bytes, sha256: hex_sum(context) });
        Ok(())
    }

    fn sync_folders(&self) -> io::Result<()> {
        let folders: HashSet<PathBuf> =
            self.sums.keys().map(|relative| disk::folder_of(&self.to.join(relative)).to_owned()).collect();
        folders.iter().try_for_each(|folder| self.disk.sync_folder(folder))
    }
}

impl SledStore {
    /// Copies the store as it is at one synced sequence into `target`, while it goes on serving.
    /// Sweeps wait for the part that must not move; everything is synced when it returns.
    ///
    /// # Errors
    ///
    /// [`BackupError`]; what stands in `target` then is no backup, for want of a manifest.
    pub fn backup(&self, target: &Path) -> Result<BackedUp, BackupError> {
        let shared = &self.shared;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| BackupError::Io { path, error }
        };
        if !is_empty(target) {
            return Err(BackupError::NotEmpty(target.to_owned()));
        }
        let into = Folder::new(target);
        into.prepare()?;
        // Read first, so that it cannot be ahead of the leaves.
        let checkpoint = folder::read_checkpoint(&shared.folder)?;
        let ledger = shared.folder.ledger();
        let mut copier = Copier { disk: &RealDisk, to: target, sums: BTreeMap::new() };
        let (state, index_entries) = {
            let _no_sweep = shared.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
            // Twice: an overlay that an earlier sweep left frozen goes first.
            sweep::sweep_held(shared)?;
            sweep::sweep_held(shared)?;
            let state = bundles::read_state(&ledger)?.unwrap_or_else(|| State {
                origin: shared.origin,
                frontier: Frontier::default(),
                next: Place::START,
            });
            let entries = export(&shared.view.index, &mut copier).map_err(|error| match error {
                ExportError::Io(error) => io(&target.join(EXPORT))(error),
                ExportError::Damaged(damage) => BackupError::Damaged(damage),
            })?;
            // Partial tiles are replaced by the next sweep; full ones never change.
            for tile in tiles(state.frontier.size()).filter(|tile| !tile.is_full()) {
                copier.copy(&ledger.join(tile.to_string()), &format!("ledger/{tile}")).map_err(io(&ledger))?;
            }
            (state, entries)
        };
        for tile in tiles(state.frontier.size()).filter(Tile::is_full) {
            let from = ledger.join(tile.to_string());
            copier.copy(&from, &format!("ledger/{tile}")).map_err(io(&from))?;
        }
        for relative in files_below(&shared.folder.blobs()).map_err(io(&shared.folder.blobs()))? {
            // What is being written has a name of its own until it is whole.
            if relative.extension().is_some() {
                continue;
            }
            let from = shared.folder.blobs().join(&relative);
            copier.copy(&from, &format!("blobs/{}", relative.display())).map_err(io(&from))?;
        }
        if let Some(kept) = &checkpoint {
            folder::write_checkpoint(&RealDisk, &into, kept).map_err(io(&into.checkpoint()))?;
            let content = fs::read(into.checkpoint()).map_err(io(&into.checkpoint()))?;
            copier.sums.insert("checkpoint".to_owned(), sum_of(&content));
        }
        copier.sync_folders().map_err(io(target))?;
        let manifest = Manifest {
            format: FORMAT,
            store: hex::encode(shared.origin.store),
            epoch: shared.origin.epoch,
            sequence: state.next.sequence - 1,
            leaves: state.frontier.size(),
            root: state.frontier.root().to_string(),
            index_entries,
            files: copier.sums,
        };
        let text = serde_json::to_string_pretty(&manifest).expect("plain data serializes");
        let path = target.join(MANIFEST);
        disk::write_durably(&RealDisk, &path, format!("{text}\n").as_bytes()).map_err(io(&path))?;
        Ok(BackedUp {
            leaves: manifest.leaves,
            index_entries,
            files: manifest.files.len(),
            bytes: manifest.files.values().map(|sum| sum.bytes).sum(),
        })
    }
}

fn sum_of(content: &[u8]) -> Sum {
    let mut context = Context::new(&SHA256);
    context.update(content);
    Sum { bytes: u64::try_from(content.len()).unwrap_or(u64::MAX), sha256: hex_sum(context) }
}

enum ExportError {
    Io(io::Error),
    Damaged(Damage),
}

impl From<Damage> for ExportError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// Writes every entry of the index: lengths in little-endian, key, value.
fn export(index: &Index, copier: &mut Copier<'_>) -> Result<u64, ExportError> {
    let path = copier.to.join(EXPORT);
    let file = copier.disk.create(&path).map_err(ExportError::Io)?;
    let mut context = Context::new(&SHA256);
    let mut pending = Vec::with_capacity(2 * PIECE);
    let mut bytes = 0;
    let mut write_out = |pending: &mut Vec<u8>| {
        context.update(pending);
        copier.disk.write_at(&file, &path, pending, bytes).map_err(ExportError::Io)?;
        bytes += u64::try_from(pending.len()).unwrap_or(u64::MAX);
        pending.clear();
        Ok::<u64, ExportError>(bytes)
    };
    let entries = index.each(|key, value| {
        for part in [key, value] {
            pending.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
        pending.extend_from_slice(key);
        pending.extend_from_slice(value);
        if pending.len() >= PIECE { write_out(&mut pending).map(drop) } else { Ok(()) }
    })?;
    let bytes = write_out(&mut pending)?;
    copier.disk.sync(&file, &path).map_err(ExportError::Io)?;
    copier.sums.insert(EXPORT.to_owned(), Sum { bytes, sha256: hex_sum(context) });
    Ok(entries)
}

/// Reads an export, entry by entry.
fn each_exported<E: From<io::Error>>(
    path: &Path,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    loop {
        let mut lengths = [0; 8];
        match file.read_exact(&mut lengths) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let [a, b, c, d, e, f, g, h] = lengths;
        for (part, length) in [(&mut key, [a, b, c, d]), (&mut value, [e, f, g, h])] {
            part.resize(usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX), 0);
            file.read_exact(part)?;
        }
        visit(&key, &value)?;
    }
}

/// What to restore, and from where.
#[derive(Debug, Clone)]
pub struct Restore<'a> {
    /// The backup.
    pub backup: &'a Path,
    /// The new store's folder: empty, or not there yet.
    pub target: &'a Path,
    /// A folder with a store whose ledger may have newer leaves: what is left of the broken one.
    pub with_bundles: Option<&'a Path>,
    /// A checkpoint that was kept elsewhere, verified by the caller.
    pub kept: Option<Checkpoint>,
    /// Now.
    pub now: Timestamp,
}

/// Makes a store of a backup, in a new epoch. Orders without a certificate on its way are void, and
/// so is every nonce. What is missing is reported.
///
/// # Errors
///
/// [`RestoreError`]; the backup stays as it is.
pub async fn restore(what: Restore<'_>, options: Options) -> Result<RestoreReport, RestoreError> {
    let Restore { backup, target, with_bundles, kept, now } = what;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| RestoreError::Io { path, error }
    };
    let manifest = read_manifest(backup)?;
    if !is_empty(target) {
        return Err(RestoreError::NotEmpty(target.to_owned()));
    }
    let folder = Folder::new(target);
    folder.prepare()?;
    let lock = folder.lock(options.lock_wait)?;
    folder.make(&*disk)?;
    copy_back(&*disk, backup, target, &manifest)?;

    // The ledger: what the backup has, then what was found elsewhere.
    let not_a_backup = |why: &str| RestoreError::NotABackup { path: backup.to_owned(), why: why.to_owned() };
    let store = hex::decode(&manifest.store).ok().and_then(|store| store.try_into().ok());
    let store = store.ok_or_else(|| not_a_backup("its store id does not read"))?;
    let origin = Origin { store, epoch: manifest.epoch + 1 };
    let from_backup = manifest.leaves;
    let frontier = frontier_of(&folder, from_backup)?;
    if frontier.root().to_string() != manifest.root {
        return Err(not_a_backup("its leaves do not have the root that it says"));
    }
    let found = match with_bundles {
        Some(path) => leaves_after(path, &frontier)?,
        None => Found::default(),
    };
    let mut grown = frontier;
    for leaf in &found.leaves {
        grown.append(Hash::of_leaf(leaf));
    }
    let size = grown.size();

    // The last checkpoint known of the old epoch.
    let own = folder::read_checkpoint(&folder)?.and_then(|kept| parse(&kept.note));
    let last = [kept, own, found.checkpoint].into_iter().flatten().max_by_key(Checkpoint::size);

    let next = Place { sequence: manifest.sequence + 1, leaf: size, previous: [0; 32] };
    let bundles = Bundles::new(&disk, &folder.ledger(), from_backup);
    bundles.append(from_backup, &found.leaves, &State { origin, frontier: grown, next })?;
    let nodes = Tiled::new(size, |tile| bundles::read_hashes(&folder.ledger(), tile));
    if let Some(checkpoint) = &last
        && checkpoint.size() <= size
    {
        let root = tree::root_at(&nodes, checkpoint.size()).map_err(|error| damaged(&folder, &error))?;
        if root != checkpoint.root() {
            return Err(RestoreError::OtherRoot(checkpoint.size()));
        }
    }

    // The index: what the backup has, without what is void, then what the newer leaves tell.
    let index = Index::open(&disk, &folder.index(), options.lock_wait).map_err(OpenError::from)?;
    let void_orders = import(&backup.join(EXPORT), &index).map_err(io(&backup.join(EXPORT)))?;
    let contents = walk::contents(&folder, false)?;
    let mut rebuilder = Rebuilder::continuing(&index, from_backup);
    walk::walk(&folder, &contents, &mut Walker::default(), &mut rebuilder).map_err(|stopped| match stopped {
        Stopped::Damage(damage) => damaged(&folder, &damage),
        Stopped::Refused(error) => damaged(&folder, &error),
    })?;
    let position = Position { origin, sequence: manifest.sequence };
    index.sweep(&rebuilder.batch, position).map_err(|damage| damaged(&folder, &damage))?;
    index.close();
    Active::begin(&*disk, &folder.journal(), origin, next).map_err(io(&folder.journal()))?;
    folder.write_origin(&*disk, origin)?;
    drop(lock);

    // The new epoch begins with a leaf that names the old one's last checkpoint.
    let consistency = match &last {
        Some(checkpoint) if checkpoint.size() < size => {
            let proof =
                tree::consistency_proof(&nodes, checkpoint.size(), size).map_err(|error| damaged(&folder, &error))?;
            proof.iter().map(Hash::octets).collect()
        }
        _ => Vec::new(),
    };
    let old = last.as_ref().map_or_else(
        || OldCheckpoint { origin: String::new(), root: Hash::of_nothing().octets(), size: 0 },
        |last| OldCheckpoint { origin: last.origin().to_owned(), root: last.root().octets(), size: last.size() },
    );
    let leaf = Leaf::from(Restored { at: now, backup_size: size, checkpoint: old, consistency });
    let opened = SledStore::open(target, options)?;
    // Pruning and checkpoints are owed at once: what the backup knew of them is old.
    let mut changes = Changes::new().leaf(leaf).urgently();
    for kind in [JobKind::PruneCertificates, JobKind::Checkpoint] {
        changes = changes.with(Change::Schedule(Job { kind, due: now, attempt: 0 }));
    }
    let committed = opened.commit(changes).await;
    opened.stop();
    committed.map_err(RestoreError::Commit)?;
    Ok(RestoreReport {
        epoch: origin.epoch,
        from_backup,
        recovered: size - from_backup,
        missing: last.as_ref().map_or(0, |last| last.size().saturating_sub(size)),
        checkpoint: last.as_ref().map(Checkpoint::size),
        void_orders,
    })
}

fn damaged(folder: &Folder, why: &dyn std::fmt::Display) -> RestoreError {
    RestoreError::Open(OpenError::Damaged(Damage::new(&folder.ledger(), why.to_string())))
}

fn parse(note: &str) -> Option<Checkpoint> {
    SignedCheckpoint::parse(note.as_bytes()).ok().map(|signed| signed.unverified().clone())
}

fn read_manifest(backup: &Path) -> Result<Manifest, RestoreError> {
    let path = backup.join(MANIFEST);
    let no = |why: String| RestoreError::NotABackup { path: backup.to_owned(), why };
    let bytes = fs::read(&path).map_err(|error| no(format!("{MANIFEST}: {error}")))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| no(format!("{MANIFEST}: {error}")))?;
    if manifest.format > FORMAT {
        return Err(no(format!("it has format {}, made by a newer Chancery", manifest.format)));
    }
    Ok(manifest)
}

/// Copies ledger, blobs and checkpoint into the new store; every file must have the hash it had.
fn copy_back(disk: &dyn Disk, backup: &Path, target: &Path, manifest: &Manifest) -> Result<(), RestoreError> {
    let mut copier = Copier { disk, to: target, sums: BTreeMap::new() };
    for (relative, sum) in &manifest.files {
        let from = backup.join(relative);
        let inside = Path::new(relative).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let changed = |why: String| RestoreError::NotABackup { path: from.clone(), why };
        if !inside {
            return Err(changed("its name leads elsewhere".to_owned()));
        }
        let copied = if relative == EXPORT {
            let mut context = Context::new(&SHA256);
            let read = sum_file(&from, &mut context);
            read.map(|bytes| Sum { bytes, sha256: hex_sum(context) })
        } else {
            copier.copy(&from, relative).map(|()| copier.sums.get(relative).cloned().unwrap_or_else(|| sum_of(&[])))
        };
        let copied = copied.map_err(|error| changed(error.to_string()))?;
        if copied != *sum {
            return Err(changed("it is not what was backed up: its hash differs".to_owned()));
        }
    }
    copier.sync_folders().map_err(|error| RestoreError::Io { path: target.to_owned(), error })
}

fn sum_file(path: &Path, context: &mut Context) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(bytes);
        }
        context.update(piece.get(..read).unwrap_or_default());
        bytes += u64::try_from(read).unwrap_or(u64::MAX);
    }
}

/// The frontier of the bundles in a folder, from their leaves.
fn frontier_of(folder: &Folder, size: u64) -> Result<Frontier, RestoreError> {
    let mut frontier = Frontier::default();
    for tile in tiles(size).take_while(|tile| tile.layer() == Layer::Entries) {
        for entry in bundles::read_bundle(&folder.ledger(), tile)?.0 {
            frontier.append(Hash::of_leaf(&entry));
        }
    }
    Ok(frontier)
}

/// What another folder has beyond the backup.
#[derive(Default)]
struct Found {
    leaves: Vec<Arc<[u8]>>,
    checkpoint: Option<Checkpoint>,
}

/// Leaves after a tree, from a store that is its continuation. What does not read ends them.
fn leaves_after(path: &Path, tree: &Frontier) -> Result<Found, RestoreError> {
    let folder = Folder::new(path);
    let (size, state) = (tree.size(), bundles::read_state(&folder.ledger())?);
    let swept = state.map_or(0, |state| state.frontier.size());
    let mut mine = Frontier::default();
    let mut found = Found::default();
    let mut take = |leaf: Arc<[u8]>| {
        if mine.size() < size {
            mine.append(Hash::of_leaf(&leaf));
            // Up to the backup's end it must be the same tree.
            mine.size() < size || mine == *tree
        } else {
            found.leaves.push(leaf);
            true
        }
    };
    let mut complete = true;
    'bundles: for tile in tiles(swept).take_while(|tile| tile.layer() == Layer::Entries) {
        let Ok((entries, hashes)) = bundles::read_bundle(&folder.ledger(), tile) else {
            complete = false;
            break;
        };
        for (entry, kept) in entries.into_iter().zip(hashes) {
            if Hash::of_leaf(&entry) != kept {
                complete = false;
                break 'bundles;
            }
            if !take(entry.into()) {
                return Err(RestoreError::Foreign(path.to_owned()));
            }
        }
    }
    // Its journal goes on where its bundles end, as far as it reads.
    let mut foreign = false;
    if complete {
        let read = crate::journal::read(&folder.journal(), true, |frame| {
            let known = usize::try_from(swept.saturating_sub(frame.first_leaf)).unwrap_or(usize::MAX);
            for leaf in frame.leaves.into_iter().skip(known) {
                foreign |= !take(leaf);
            }
            Ok(())
        });
        if let Err(error) = read {
            tracing::warn!(%error, "the journal beside the bundles reads only in part");
        }
    }
    if foreign || mine != *tree {
        return Err(RestoreError::Foreign(path.to_owned()));
    }
    found.checkpoint = folder::read_checkpoint(&folder).ok().flatten().and_then(|kept| parse(&kept.note));
    Ok(found)
}

/// Fills an index from an export, without the orders that are void; says how many those are.
fn import(path: &Path, index: &Index) -> io::Result<u64> {
    let mut void = HashSet::new();
    let mut open: BTreeMap<AccountId, i64> = BTreeMap::new();
    each_exported(path, |key, value| {
        if key.first() == Some(&class::ORDER) {
            let order: Order = record::decode(key, value).map_err(io::Error::other)?.value;
            match order.state {
                OrderState::Pending | OrderState::Ready => drop(void.insert(order.id.octets())),
                OrderState::Processing { .. } => *open.entry(order.account).or_default() += 1,
                OrderState::Valid { .. } | OrderState::Invalid { .. } => {}
            }
        }
        Ok::<(), io::Error>(())
    })?;
    let mut batch = Results::new();
    each_exported(path, |key, value| {
        if !is_void(key, value, &void)? {
            batch.insert(key.into(), Some(value.into()));
        }
        if batch.len() >= BATCH {
            index.write(&batch).map_err(io::Error::other)?;
            batch.clear();
        }
        Ok::<(), io::Error>(())
    })?;
    for (account, count) in open {
        let count = record::encode_number(count.unsigned_abs());
        batch.insert(key::counter(&Counter::PendingOrders(account)), Some(count.into()));
    }
    index.write(&batch).map_err(io::Error::other)?;
    Ok(u64::try_from(void.len()).unwrap_or(u64::MAX))
}

/// Whether an entry speaks of an order that is void.
fn is_void(key: &[u8], value: &[u8], void: &HashSet<[u8; 16]>) -> io::Result<bool> {
    let ends_in_void = || key::trailing_id(key).is_some_and(|id| void.contains(&id));
    Ok(match key.first().copied() {
        Some(class::ORDER | class::ACCOUNT_ORDER) => ends_in_void(),
        Some(class::AUTHORIZATION) => {
            let found =
                record::decode::<chancery_acme::authorization::Authorization>(key, value).map_err(io::Error::other)?;
            void.contains(&found.value.order.octets())
        }
        Some(class::JOB) => key::prunes_order(key.get(1..).unwrap_or_default()) && ends_in_void(),
        Some(class::JOB_DUE) => key::prunes_order(key.get(9..).unwrap_or_default()) && ends_in_void(),
        // Counted anew from the orders that are left.
        Some(class::COUNTER) => key::counts_pending_orders(key),
        _ => false,
    })
}
