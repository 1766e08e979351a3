//! The ledger's folder: entry bundles and hash tiles (C2SP tlog-tiles), and how far they go.
//!
//! Plain synced files from which the inventory can be rebuilt. A file appears whole, by a rename;
//! a leaf is served only if it has the hash that its tile keeps.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use chancery_ledger::{
    Frontier, Hash, bundle,
    tile::{self, Layer, Tile, WIDTH},
};

use crate::{
    disk::{self, Disk, Synced},
    journal::{Damage, Origin, Place, ReadError},
};

/// Bundles kept in memory after a read.
const CACHED: usize = 8;
/// Folders that are remembered as synced.
const SYNCED: usize = 1024;
const STATE_MAGIC: [u8; 4] = *b"CHL1";

#[derive(Debug)]
pub(crate) struct Bundles {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    /// Leaves that are in synced bundles.
    size: AtomicU64,
    cache: Mutex<Vec<Arc<Bundle>>>,
    synced: Mutex<Synced>,
}

/// A bundle that was read, with the hashes that were kept of it.
#[derive(Debug)]
struct Bundle {
    tile: Tile,
    entries: Vec<Vec<u8>>,
    hashes: Vec<Hash>,
}

/// How far the bundles go: a synced file of its own, written last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) origin: Origin,
    pub(crate) frontier: Frontier,
    /// Where the journal went on after the last leaf in them.
    pub(crate) next: Place,
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let Self { origin, frontier, next } = self;
        let mut out = STATE_MAGIC.to_vec();
        out.extend_from_slice(&origin.store);
        out.extend_from_slice(&origin.epoch.to_le_bytes());
        out.extend_from_slice(&next.sequence.to_le_bytes());
        out.extend_from_slice(&next.previous);
        out.extend_from_slice(&frontier.to_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (sealed, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(sealed).to_le_bytes() != *crc {
            return None;
        }
        let rest = sealed.strip_prefix(&STATE_MAGIC)?;
        let (store, rest) = rest.split_first_chunk::<16>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (previous, rest) = rest.split_first_chunk::<32>()?;
        let frontier = Frontier::from_bytes(rest).ok()?;
        let next = Place { sequence: u64::from_le_bytes(*sequence), leaf: frontier.size(), previous: *previous };
        Some(Self { origin: Origin { store: *store, epoch: u64::from_le_bytes(*epoch) }, frontier, next })
    }
}

fn state_path(folder: &Path) -> PathBuf {
    folder.join("state")
}

/// How far the bundles of a folder go; `None` before the first sweep.
pub(crate) fn read_state(folder: &Path) -> Result<Option<State>, ReadError> {
    let path = state_path(folder);
    match fs::read(&path) {
        Ok(bytes) => match State::decode(&bytes) {
            Some(state) => Ok(Some(state)),
            None => Err(Damage::new(&path, "the state of the ledger's bundles does not read").into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReadError::io(&path)(error)),
    }
}

/// Writes how far the bundles go.
pub(crate) fn write_state(disk: &dyn Disk, folder: &Path, state: &State) -> io::Result<()> {
    disk::write_durably(disk, &state_path(folder), &state.encode())
}

impl Bundles {
    pub(crate) fn new(disk: &Arc<dyn Disk>, folder: &Path, size: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            disk: Arc::clone(disk),
            size: AtomicU64::new(size),
            cache: Mutex::new(Vec::new()),
            synced: Mutex::new(Synced::new()),
        }
    }

    /// One leaf, checked against its hash; `None` past the end.
    pub(crate) fn leaf(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let (number, within) = (index / u64::from(WIDTH), usize::try_from(index % u64::from(WIDTH)).unwrap_or(0));
        let Some(bundle) = self.bundle(number, index)? else { return Ok(None) };
        let (Some(entry), Some(kept)) = (bundle.entries.get(within), bundle.hashes.get(within)) else {
            return Ok(None);
        };
        if Hash::of_leaf(entry) != *kept {
            let path = self.folder.join(bundle.tile.to_string());
            return Err(Damage::new(&path, format!("leaf {index} is not the one that was recorded")).into());
        }
        Ok(Some(entry.clone()))
    }

    /// The bundle with this number, from memory or from its file.
    fn bundle(&self, number: u64, index: u64) -> Result<Option<Arc<Bundle>>, ReadError> {
        let mut last = None;
        // A sweep may replace a partial bundle by a longer one while we look.
        for _ in 0..4 {
            let size = self.size.load(Ordering::Acquire);
            if index >= size {
                return Ok(None);
            }
            let Some(tile) = Tile::in_tree(Layer::Entries, number, size) else { return Ok(None) };
            {
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(at) = cache.iter().position(|cached| cached.tile == tile) {
                    let found = cache.remove(at);
                    cache.push(Arc::clone(&found));
                    return Ok(Some(found));
                }
            }
            match read_bundle(&self.folder, tile) {
                Ok((entries, hashes)) => {
                    let found = Arc::new(Bundle { tile, entries, hashes });
                    let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                    cache.retain(|cached| cached.tile.index() != number);
                    if cache.len() >= CACHED {
                        cache.remove(0);
                    }
                    cache.push(Arc::clone(&found));
                    return Ok(Some(found));
                }
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(None), Err)
    }

    /// Puts leaves into bundles, `first` being the index of the first of them; those that are there
    /// already must be the same. Files first, then how far they go.
    pub(crate) fn append(&self, first: u64, leaves: &[Arc<[u8]>], state: &State) -> Result<(), ReadError> {
        let old = self.size.load(Ordering::Acquire);
        let new = state.frontier.size();
        if new > old {
            self.write_files(old, new, first, leaves)?;
        }
        write_state(&*self.disk, &self.folder, state).map_err(ReadError::io(&state_path(&self.folder)))?;
        self.size.store(new, Ordering::Release);
        if new > old {
            self.remove_partials(old, new);
        }
        Ok(())
    }

    fn write_files(&self, old: u64, new: u64, first: u64, leaves: &[Arc<[u8]>]) -> Result<(), ReadError> {
        let width = u64::from(WIDTH);
        let mut folders = BTreeMap::new();
        // The hashes of every level's last tile, as far as they are known: what the level above is made of.
        let mut full_below: BTreeMap<u64, Hash> = BTreeMap::new();
        for number in old / width..new.div_ceil(width) {
            let Some(tile) = Tile::in_tree(Layer::Entries, number, new) else { continue };
            let mut entries: Vec<Vec<u8>> = Vec::with_capacity(usize::from(tile.width()));
            if let Some(before) = Tile::in_tree(Layer::Entries, number, old) {
                entries = read_bundle(&self.folder, before)?.0;
            }
            while entries.len() < usize::from(tile.width()) {
                let index = number * width + u64::try_from(entries.len()).unwrap_or(u64::MAX);
                let leaf = index.checked_sub(first).and_then(|at| leaves.get(usize::try_from(at).ok()?));
                let Some(leaf) = leaf else {
                    let path = self.folder.join(tile.to_string());
                    return Err(
                        Damage::new(&path, format!("leaf {index} is neither in a bundle nor in the journal")).into()
                    );
                };
                entries.push(leaf.to_vec());
            }
            let hashes: Vec<Hash> = entries.iter().map(|entry| Hash::of_leaf(entry)).collect();
            self.agree_with_leftovers(number, &entries)?;
            let bytes = bundle::encode(&entries)
                .map_err(|error| Damage::new(&self.folder.join(tile.to_string()), error.to_string()))?;
            self.write(tile, &bytes, &mut folders)?;
            if let Some(of) = Tile::in_tree(Layer::Hashes(0), number, new) {
                self.write(of, &tile::encode(&hashes), &mut folders)?;
                if of.is_full() {
                    full_below.insert(number, tile::root_of(&hashes));
                }
            }
        }
        for level in 1..=7u8 {
            let mut full_here = BTreeMap::new();
            for grown in tile::grown(old, new).filter(|grown| grown.layer() == Layer::Hashes(level)) {
                let mut hashes = match Tile::in_tree(grown.layer(), grown.index(), old) {
                    Some(before) => self.read_hashes(before)?,
                    None => Vec::new(),
                };
                while hashes.len() < usize::from(grown.width()) {
                    let below = grown.index() * width + u64::try_from(hashes.len()).unwrap_or(u64::MAX);
                    let hash = match full_below.get(&below) {
                        Some(hash) => *hash,
                        None => {
                            let tile =
                                Tile::new(Layer::Hashes(level - 1), below, WIDTH).expect("a full tile of a level");
                            tile::root_of(&self.read_hashes(tile)?)
                        }
                    };
                    hashes.push(hash);
                }
                self.write(grown, &tile::encode(&hashes), &mut folders)?;
                if grown.is_full() {
                    full_here.insert(grown.index(), tile::root_of(&hashes));
                }
            }
            full_below = full_here;
        }
        for folder in folders.keys() {
            self.disk.sync_folder(folder).map_err(ReadError::io(folder))?;
        }
        Ok(())
    }

    fn write(&self, tile: Tile, bytes: &[u8], folders: &mut BTreeMap<PathBuf, ()>) -> Result<(), ReadError> {
        let path = self.folder.join(tile.to_string());
        let folder = disk::folder_of(&path);
        {
            let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
            if synced.len() >= SYNCED {
                synced.clear();
            }
            disk::make_folders(&*self.disk, &self.folder, folder, &mut synced).map_err(ReadError::io(folder))?;
        }
        disk::write_aside(&*self.disk, &path, bytes).map_err(ReadError::io(&path))?;
        folders.insert(folder.to_owned(), ());
        Ok(())
    }

    fn read_hashes(&self, tile: Tile) -> Result<Vec<Hash>, ReadError> {
        read_hashes(&self.folder, tile)
    }

    /// What a sweep that was interrupted left behind must say the same as we do.
    fn agree_with_leftovers(&self, number: u64, entries: &[Vec<u8>]) -> Result<(), ReadError> {
        for path in leftovers(&self.folder, Layer::Entries, number) {
            let bytes = fs::read(&path).map_err(ReadError::io(&path))?;
            for (at, (found, entry)) in bundle::entries(&bytes).zip(entries).enumerate() {
                let found = found.map_err(|error| Damage::new(&path, error.to_string()))?;
                if found != entry {
                    let index = number * u64::from(WIDTH) + u64::try_from(at).unwrap_or(u64::MAX);
                    let why = format!("leaf {index} is another one than the journal has");
                    return Err(Damage::new(&path, why).into());
                }
            }
        }
        Ok(())
    }

    /// Partial tiles that a longer or full one has replaced. Harmless where it fails: they agree.
    fn remove_partials(&self, old: u64, new: u64) {
        let layers = [Layer::Entries].into_iter().chain((0..=7).map(Layer::Hashes));
        for layer in layers {
            let Some(first) = tile_of_last(layer, old) else { continue };
            for number in first.index()..=first.index() + 1 {
                let Some(kept) = Tile::in_tree(layer, number, new) else { continue };
                let kept = self.folder.join(kept.to_string());
                for path in leftovers(&self.folder, layer, number) {
                    if path != kept {
                        drop(self.disk.remove(&path));
                    }
                }
                if let Ok(full) = Tile::new(layer, number, WIDTH)
                    && kept == self.folder.join(full.to_string())
                {
                    drop(fs::remove_dir(partial_folder(&self.folder, layer, number)));
                }
            }
        }
    }
}

/// The last tile of a layer, if it has any.
fn tile_of_last(layer: Layer, size: u64) -> Option<Tile> {
    let row = match layer {
        Layer::Entries => size,
        Layer::Hashes(level) => size >> (8 * u32::from(level)),
    };
    Tile::in_tree(layer, row.checked_sub(1)? / u64::from(WIDTH), size)
}

fn partial_folder(folder: &Path, layer: Layer, number: u64) -> PathBuf {
    let full = Tile::new(layer, number, WIDTH).expect("256 is a width").to_string();
    folder.join(format!("{full}.p"))
}

/// Every file of this tile: full and partial.
fn leftovers(folder: &Path, layer: Layer, number: u64) -> Vec<PathBuf> {
    let full = folder.join(Tile::new(layer, number, WIDTH).expect("256 is a width").to_string());
    let partial = fs::read_dir(partial_folder(folder, layer, number)).into_iter().flatten().flatten();
    let partial = partial.map(|entry| entry.path()).filter(|path| path.extension().is_none());
    partial.chain(full.is_file().then_some(full)).collect()
}

/// The entries of a bundle, and the hashes kept of them.
pub(crate) fn read_bundle(folder: &Path, tile: Tile) -> Result<(Vec<Vec<u8>>, Vec<Hash>), ReadError> {
    let path = folder.join(tile.to_string());
    let bytes = fs::read(&path).map_err(|error| ReadError::missing_or_io(&path, error))?;
    let entries: Vec<Vec<u8>> = bundle::decode(&bytes)
        .map_err(|error| Damage::new(&path, error.to_string()))?
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect();
    if entries.len() != usize::from(tile.width()) {
        let why = format!("it holds {} leaves, not {}", entries.len(), tile.width());
        return Err(Damage::new(&path, why).into());
    }
    let of = Tile::new(Layer::Hashes(0), tile.index(), tile.width()).expect("as wide as its bundle");
    Ok((entries, read_hashes(folder, of)?))
}

/// The hashes of a tile.
pub(crate) fn read_hashes(folder: &Path, tile: Tile) -> Result<Vec<Hash>, ReadError> {
    let path = folder.join(tile.to_string());
    let bytes = fs::read(&path).map_err(|error| ReadError::missing_or_io(&path, error))?;
    tile::decode(tile, &bytes).map_err(|error| Damage::new(&path, error.to_string()).into())
}
