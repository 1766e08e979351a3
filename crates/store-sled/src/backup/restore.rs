//! What a restore makes of a backup.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use chancery_authority::{
    changes::Change,
    records::{Job, JobKind},
};
use chancery_ledger::{
    Frontier, Hash, SignedCheckpoint, VerifierKey, Walker,
    leaf::{Leaf, OldCheckpoint, PolicyActivated, Restored},
    tile::{Layer, Tiled},
    tree,
    verify::RestoreName,
};
use chancery_pki::Timestamp;

use super::{Copier, EXPORT, FORMAT, MANIFEST, Manifest, PIECE, Sum, export::import, hex_sum, is_empty, sum_of, tiles};
use crate::{
    bundles::{self, Bundles, State},
    disk::{self, Disk, RealDisk},
    folder::{self, Folder, FolderError, KeptCheckpoint},
    index::{Index, Position},
    journal::{self, Active, Damage, Origin, Place, ReadError},
    opening::OpenError,
    options::Options,
    rebuild::{Rebuilder, Stopped},
    walk,
};

/// Longest signed note that goes into the leaf of a restore, in octets: the rest of the leaf must fit beside it.
const NOTE_MAX: usize = 16 << 10;

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
    /// Where the texts of policies belong that neither the backup nor the other folder has.
    pub missing_policies: Vec<PathBuf>,
    /// Checkpoints that were found and not believed: the ledger's key has not signed them, or they are too long.
    pub disbelieved: Vec<PathBuf>,
    /// The record that tells of this restore.
    pub record: RestoreName,
    /// Every restore of this ledger that lost records, this one too: what whoever verifies it must accept.
    pub lossy: Vec<RestoreName>,
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
    /// The checkpoint that was kept elsewhere does not fit into the record of the restore.
    #[error(
        "the checkpoint has a note of {0} octets; at most {NOTE_MAX} fit into the record of a restore: drop signatures of others from it"
    )]
    NoteTooLong(usize),
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
    pub kept: Option<SignedCheckpoint>,
    /// The key that signs this ledger's checkpoints: others that lie about are believed only with its signature.
    pub key: Option<VerifierKey>,
    /// Now.
    pub now: Timestamp,
}

/// Makes a store of a backup, in a new epoch. Orders without a certificate on its way are void, and
/// so is every nonce. What is missing is reported.
///
/// The target is a store from the moment on at which it is all there, the new epoch's first leaf
/// included: its header is written last, and without it nothing opens.
///
/// # Errors
///
/// [`RestoreError`]; the backup stays as it is.
pub fn restore(what: Restore<'_>, options: &Options) -> Result<RestoreReport, RestoreError> {
    restore_on(what, options, &(Arc::new(RealDisk) as Arc<dyn Disk>))
}

pub(crate) fn restore_on(
    what: Restore<'_>,
    options: &Options,
    disk: &Arc<dyn Disk>,
) -> Result<RestoreReport, RestoreError> {
    let Restore { backup, target, with_bundles, kept, key, now } = what;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| RestoreError::Io { path, error }
    };
    if let Some(length) = kept.as_ref().map(|kept| kept.to_string().len()).filter(|length| *length > NOTE_MAX) {
        return Err(RestoreError::NoteTooLong(length));
    }
    let manifest = read_manifest(backup)?;
    if !is_empty(target) {
        return Err(RestoreError::NotEmpty(target.to_owned()));
    }
    let folder = Folder::new(target);
    folder.prepare(&**disk)?;
    let _lock = folder.lock(options.lock_wait)?;
    folder.make(&**disk)?;
    copy_back(&**disk, backup, target, &manifest)?;

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
        None => Vec::new(),
    };
    let mut grown = frontier;
    for leaf in &found {
        grown.append(Hash::of_leaf(leaf));
    }
    let size = grown.size();
    let bundles = Bundles::new(disk, &folder.ledger(), from_backup);
    let recovered = Place { sequence: manifest.sequence + 1, leaf: size, previous: [0; 32] };
    bundles.append(from_backup, &found, &State { origin, frontier: grown.clone(), next: recovered })?;
    let missing_policies = match with_bundles {
        Some(path) => copy_policies(&**disk, &Folder::new(path), &folder, &found)?,
        None => Vec::new(),
    };

    // The new epoch begins with a leaf that names the old one's last checkpoint.
    let (elsewhere, own) = (with_bundles.map(|path| Folder::new(path).checkpoint()), folder.checkpoint());
    let mut disbelieved = Vec::new();
    let mut known = Vec::new();
    for path in elsewhere.iter().chain([&own]) {
        match folder::read_checkpoint_at(path) {
            Ok(None) => {}
            Ok(Some(kept)) if let Some(signed) = believed(&kept, key.as_ref()) => known.push(signed),
            _ => disbelieved.push(path.clone()),
        }
    }
    if disbelieved.last() == Some(&own) {
        // The store signs one of its own as soon as it runs.
        disk.remove(&own).map_err(io(&own))?;
        disbelieved.pop();
        disbelieved.push(Folder::new(backup).checkpoint());
    }
    // Of two that cover as much the caller's.
    let last = known.into_iter().chain(kept).max_by_key(|last| last.unverified().size());
    let first = first_leaf(&folder, size, last.as_ref(), now)?.encode();
    let first: Arc<[u8]> = first.map_err(|error| damaged(&folder, &error))?.into();
    let record = RestoreName { index: size, hash: Hash::of_leaf(&first) };
    grown.append(record.hash);
    let next = Place { leaf: size + 1, ..recovered };
    bundles.append(size, &[first], &State { origin, frontier: grown, next })?;

    // The index: what the backup has, without what is void, then what the newer leaves tell.
    let index = Index::open(disk, &folder.index(), options.lock_wait).map_err(OpenError::from)?;
    let void_orders = import(&backup.join(EXPORT), &index).map_err(io(&backup.join(EXPORT)))?;
    let contents = walk::contents(&folder, false)?;
    let mut rebuilder = Rebuilder::continuing(&index, from_backup, options.retained);
    let stopped = |stopped| match stopped {
        Stopped::Damage(damage) => damaged(&folder, &damage),
        Stopped::Refused(error) => damaged(&folder, &error),
    };
    let mut walker = Walker::default();
    walk::walk(&folder, &contents, &mut walker, &mut rebuilder).map_err(stopped)?;
    // Pruning and checkpoints are owed at once: what the backup knew of them is old.
    let owed = [JobKind::PruneCertificates, JobKind::Checkpoint];
    let owed = owed.map(|kind| Change::Schedule(Job { kind, due: now, attempt: 0 }));
    rebuilder.stage(owed.into()).map_err(stopped)?;
    let position = Position { origin, sequence: manifest.sequence };
    index.sweep(&rebuilder.batch, position).map_err(|damage| damaged(&folder, &damage))?;
    index.close();
    Active::begin(&**disk, &folder.journal(), origin, next).map_err(|error| io(&folder.journal())(error.into()))?;
    folder.write_origin(&**disk, origin)?;
    let last = last.as_ref().map(|last| last.unverified().size());
    let restores = walker.finish().restores;
    Ok(RestoreReport {
        epoch: origin.epoch,
        from_backup,
        recovered: size - from_backup,
        missing: last.map_or(0, |last| last.saturating_sub(size)),
        checkpoint: last,
        void_orders,
        missing_policies,
        disbelieved,
        record,
        lossy: restores.iter().filter(|restore| restore.lost() > 0).map(|restore| restore.name).collect(),
    })
}

/// The first leaf of the new epoch. The leaves before it must be those of the last checkpoint known.
fn first_leaf(
    folder: &Folder,
    size: u64,
    last: Option<&SignedCheckpoint>,
    now: Timestamp,
) -> Result<Leaf, RestoreError> {
    let Some(signed) = last else {
        let checkpoint = OldCheckpoint { origin: String::new(), root: Hash::of_nothing().octets(), size: 0 };
        return Ok(Restored { at: now, backup_size: size, checkpoint, consistency: Vec::new(), note: None }.into());
    };
    let last = signed.unverified();
    let nodes = Tiled::new(size, |tile| bundles::read_hashes(&folder.ledger(), tile));
    let mut consistency = Vec::new();
    if last.size() <= size {
        let root = tree::root_at(&nodes, last.size()).map_err(|error| damaged(folder, &error))?;
        if root != last.root() {
            return Err(RestoreError::OtherRoot(last.size()));
        }
        let proof = tree::consistency_proof(&nodes, last.size(), size).map_err(|error| damaged(folder, &error))?;
        consistency = proof.iter().map(Hash::octets).collect();
    }
    let checkpoint = OldCheckpoint { origin: last.origin().to_owned(), root: last.root().octets(), size: last.size() };
    Ok(Restored { at: now, backup_size: size, checkpoint, consistency, note: Some(signed.to_string()) }.into())
}

/// A checkpoint that lies about, if it is evidence.
fn believed(kept: &KeptCheckpoint, key: Option<&VerifierKey>) -> Option<SignedCheckpoint> {
    SignedCheckpoint::parse(kept.note.as_bytes())
        .ok()
        .filter(|signed| kept.note.len() <= NOTE_MAX && key.is_none_or(|key| signed.verify(key).is_ok()))
}

/// Copies the policies' texts that recovered leaves name; says where those belong that are not there or are others.
fn copy_policies(
    disk: &dyn Disk,
    from: &Folder,
    to: &Folder,
    leaves: &[Arc<[u8]>],
) -> Result<Vec<PathBuf>, RestoreError> {
    let named: HashSet<[u8; 32]> = leaves
        .iter()
        .filter_map(|leaf| match Leaf::decode(leaf) {
            Ok(Leaf::PolicyActivated(PolicyActivated { policy, .. })) => Some(policy),
            _ => None,
        })
        .collect();
    let mut missing = Vec::new();
    for policy in named {
        let target = to.blob(&policy);
        if target.exists() {
            continue;
        }
        match fs::read(from.blob(&policy)) {
            Ok(text) if journal::sha256(&text) == policy => {
                disk::write_durably(disk, &target, &text).map_err(|error| RestoreError::Io { path: target, error })?;
            }
            _ => missing.push(target),
        }
    }
    Ok(missing)
}

fn damaged(folder: &Folder, why: &dyn std::fmt::Display) -> RestoreError {
    RestoreError::Open(OpenError::Damaged(Damage::new(&folder.ledger(), why.to_string())))
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
    let mut copier = Copier::new(disk, target);
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

/// Leaves after a tree, from a store that is its continuation. What does not read ends them.
fn leaves_after(path: &Path, tree: &Frontier) -> Result<Vec<Arc<[u8]>>, RestoreError> {
    let folder = Folder::new(path);
    let (size, state) = (tree.size(), bundles::read_state(&folder.ledger())?);
    let swept = state.map_or(0, |state| state.frontier.size());
    let mut mine = Frontier::default();
    let mut found = Vec::new();
    let mut take = |leaf: Arc<[u8]>| {
        if mine.size() < size {
            mine.append(Hash::of_leaf(&leaf));
            // Up to the backup's end it must be the same tree.
            mine.size() < size || mine == *tree
        } else {
            found.push(leaf);
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
        let read = journal::read(&folder.journal(), true, |frame| {
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
    Ok(found)
}
