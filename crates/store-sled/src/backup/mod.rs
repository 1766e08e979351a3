//! The backup of a running store, and what a restore makes of it.
//!
//! A backup is a folder: the ledger's files, an export of the index as it was at one synced
//! sequence, the checkpoint, larger matter, and last a manifest with the hash of each file. A
//! restore opens a new epoch in the same tree, whose first leaf names the last checkpoint known of
//! the old one, so that whoever kept it can tell a restore from tampering.

mod export;
mod restore;
mod take;

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use chancery_ledger::tile::{Layer, Tile};
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use self::restore::restore_on;
pub use self::{
    restore::{Restore, RestoreError, RestoreReport, restore},
    take::{BackedUp, BackupError},
};
use crate::disk::{self, Disk, Synced};

const FORMAT: u32 = 1;
const MANIFEST: &str = "backup.json";
const EXPORT: &str = "index.export";
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

fn hex_sum(context: Context) -> String {
    hex::encode(context.finish().as_ref())
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
    synced: Synced,
}

impl<'a> Copier<'a> {
    fn new(disk: &'a dyn Disk, to: &'a Path) -> Self {
        Self { disk, to, sums: BTreeMap::new(), synced: Synced::new() }
    }
}

impl Copier<'_> {
    fn copy(&mut self, from: &Path, relative: &str) -> io::Result<()> {
        let target = self.to.join(relative);
        disk::make_folders(self.disk, self.to, disk::folder_of(&target), &mut self.synced)?;
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

fn sum_of(content: &[u8]) -> Sum {
    let mut context = Context::new(&SHA256);
    context.update(content);
    Sum { bytes: u64::try_from(content.len()).unwrap_or(u64::MAX), sha256: hex_sum(context) }
}
