//! Taking the backup of a running store.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use chancery_ledger::{Frontier, tile::Tile};

use super::{
    Copier, EXPORT, FORMAT, MANIFEST, Manifest,
    export::{ExportError, export},
    is_empty, sum_of, tiles,
};
use crate::{
    bundles::{self, State},
    disk::{self, RealDisk},
    folder::{self, Folder, FolderError},
    journal::{Damage, Place, ReadError},
    store::SledStore,
    sweep,
};

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
        into.prepare(&RealDisk)?;
        // Read first, so that it cannot be ahead of the leaves.
        let checkpoint = folder::read_checkpoint(&shared.folder)?;
        let ledger = shared.folder.ledger();
        let mut copier = Copier::new(&RealDisk, target);
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
