//! What lies in the folder, opened, checked against itself, and brought to where the journal ends.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chancery_ledger::{
    Frontier, Hash,
    tile::{Layer, Tile},
};

use crate::{
    bundles,
    disk::Disk,
    folder::{self, Folder, FolderError},
    index::{Index, IndexError},
    journal::{self, Active, Damage, Found, Journal, Origin, Place, ReadError},
    metrics::number,
    options::Options,
    rebuild,
    shared::Shared,
};

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

impl OpenError {
    /// Whether something that was stored is known to be damaged or lost. Else it is only out of reach: it belongs to
    /// somebody else, cannot be read, is in use.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_)
            | Self::IndexDamaged(_)
            | Self::JournalLost { .. }
            | Self::ShorterThanCheckpoint { .. }
            | Self::Folder(FolderError::Damaged(_)) => true,
            Self::Io { .. } | Self::Folder(_) => false,
        }
    }
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

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path, error }
}

/// What lies in the folder, opened and brought together.
pub(crate) struct Opened {
    pub(crate) index: Index,
    pub(crate) journal: Journal,
    pub(crate) active: Active,
    pub(crate) frames: Vec<journal::Frame>,
    pub(crate) frontier: Frontier,
    pub(crate) rebuilt: Option<rebuild::Rebuilt>,
}

pub(crate) fn open_files(
    folder: &Folder,
    disk: &Arc<dyn Disk>,
    origin: Origin,
    options: &Options,
) -> Result<Opened, OpenError> {
    let lock_wait = options.lock_wait;
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
        Found::Journal(journal) => {
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
        Found::Nothing | Found::Unbegun(_)
            if state.is_some()
                || checkpoint.is_some()
                || folder.has_blobs()
                || folder.index().join("db").exists() && index_has_position(folder, disk, lock_wait)? =>
        {
            return Err(OpenError::Damaged(Damage::new(&path, "the journal is missing, or its header is")));
        }
        Found::Nothing | Found::Unbegun(_) => {
            let active = Active::begin_first(&**disk, &path, origin).map_err(at(&path))?;
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
            let (index, report) = rebuild::rebuild_index(folder, disk, origin, first - 1, options)?;
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
pub(crate) fn replay(shared: &Shared, frames: Vec<journal::Frame>, next: Place) -> Result<(), OpenError> {
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
