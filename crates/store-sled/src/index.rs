//! sled, kept at arm's length: an index that can be rebuilt, never what an answer relies on.
//!
//! It panics on some damage and reports other damage late, so every call is caught; its `flush` is
//! no fsync, so its file is synced through a descriptor of our own. Plain inserts alone: batches
//! and transactions pin memory.

use std::{
    fs::{self, File},
    io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    absent::{self, Absent},
    disk::{self, Disk},
    journal::{Damage, Origin, Results},
    key::{self, Key},
};

/// Memory for sled's pages, in bytes as it counts them; it takes two to three times that. Its own default is 1 GiB.
/// Measured with 20,000 and 100,000 certificates: 1, 2, 4 and 8 MiB cost the same time a certificate, and 8 MiB take 8
/// to 20 MiB more memory than 2.
const CACHE_BYTES: u64 = 2 << 20;
/// Pieces in which sled frees its file, in bytes. Measured: its own 512 KiB take more room and more memory.
const SEGMENT_BYTES: usize = 64 << 10;
/// How long between two tries to get sled's lock; it lingers for some milliseconds after a kill.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Values above this would leave the one file that is synced, in bytes.
pub(crate) const VALUE_MAX: usize = 64 << 10;

/// How far sled has come, and of which store it is the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) origin: Origin,
    /// The last sequence that was swept into it.
    pub(crate) sequence: u64,
}

/// The index of one folder.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    open: RwLock<Option<Opened>>,
    absent: Absent,
    /// A sync failed: the system tells of that once, and then says that all is well.
    unsound: AtomicBool,
}

#[derive(Debug)]
struct Opened {
    db: sled::Db,
    /// sled's file, to sync it.
    file: File,
}

/// Why sled was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("another process holds the index {path}", path = .0.display())]
    Locked(PathBuf),
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// A key with its value.
pub(crate) type Entry = (Key, Arc<[u8]>);

impl Index {
    /// Opens the index, or makes an empty one. Waits for a lock that lingers.
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path, wait: Duration) -> Result<Self, IndexError> {
        finish_copy(&**disk, path)
            .map_err(|error| Damage::new(&path.join("db"), format!("the index cannot be copied: {error}")))?;
        let opened = open_patiently(path, wait)?;
        let file = path.join("db");
        disk.sync(&opened.file, &file)
            .and_then(|()| disk.sync_folder(path))
            .and_then(|()| disk.sync_folder(disk::folder_of(path)))
            .map_err(|error| Damage::new(&file, format!("the index cannot be synced: {error}")))?;
        Ok(Self {
            path: path.to_owned(),
            disk: Arc::clone(disk),
            open: RwLock::new(Some(opened)),
            absent: Absent::default(),
            unsound: AtomicBool::new(false),
        })
    }

    /// The file that holds everything.
    pub(crate) fn file(&self) -> PathBuf {
        self.path.join("db")
    }

    fn with<T>(&self, what: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, Damage> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Opened { db, file: _ }) = &*open else {
            return Err(Damage::new(&self.file(), "the index is closed"));
        };
        match catch_unwind(AssertUnwindSafe(|| what(db))) {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(Damage::new(&self.file(), format!("the index does not read: {error}"))),
            Err(_) => Err(Damage::new(&self.file(), "the index does not read: sled panicked")),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, Damage> {
        if self.absent.is_surely(key) {
            return Ok(None);
        }
        self.with(|db| db.get(key)).map(|found| found.map(|value| Arc::from(&*value)))
    }

    /// Entries of a range in order, at most `limit`.
    pub(crate) fn range(&self, range: (Bound<&[u8]>, Bound<&[u8]>), limit: usize) -> Result<Vec<Entry>, Damage> {
        self.with(|db| {
            db.range::<&[u8], _>(range)
                .take(limit)
                .map(|entry| entry.map(|(key, value)| (Box::from(&*key), Arc::from(&*value))))
                .collect()
        })
    }

    /// Learns which keys it has not, unless it knows. Nothing may be written meanwhile.
    pub(crate) fn learn(&self) -> Result<(), Damage> {
        if !self.absent.is_due() {
            return Ok(());
        }
        self.absent.make(|each| {
            for of in absent::COVERED {
                let mut after: Key = Box::from([of].as_slice());
                let end = [of + 1];
                loop {
                    let page = self.range((Bound::Excluded(&after), Bound::Excluded(&end)), 256)?;
                    let Some((last, _)) = page.last() else { break };
                    after.clone_from(last);
                    page.iter().for_each(|(key, _)| each(key));
                }
            }
            Ok(())
        })
    }

    /// Hands on every entry but the position; stops at the first that does not read.
    pub(crate) fn each<E: From<Damage>>(&self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<u64, E> {
        let mut count = 0;
        let mut after: Key = Box::from([key::class::META, 0xff].as_slice());
        loop {
            let page = self.range((Bound::Excluded(&after), Bound::Unbounded), 256)?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            after.clone_from(last);
            for (key, value) in &page {
                visit(key, value)?;
                count += 1;
            }
        }
    }

    /// How far it has come; `None` if it is new, or its position does not read.
    pub(crate) fn position(&self) -> Result<Option<Position>, Damage> {
        Ok(self.get(&key::position())?.and_then(|value| {
            let (store, rest) = value.split_first_chunk::<16>()?;
            let (epoch, rest) = rest.split_first_chunk::<8>()?;
            let origin = Origin { store: *store, epoch: u64::from_le_bytes(*epoch) };
            Some(Position { origin, sequence: u64::from_le_bytes(rest.try_into().ok()?) })
        }))
    }

    /// Writes without syncing: for an index that is being built.
    pub(crate) fn write(&self, results: &Results) -> Result<(), Damage> {
        for (key, value) in results {
            if value.is_some() {
                self.absent.add(key);
            } else if self.absent.is_surely(key) {
                // What came and went between two sweeps never was in here.
                continue;
            }
            self.with(|db| match value {
                Some(value) => db.insert(key, &**value).map(drop),
                None => db.remove(key).map(drop),
            })?;
        }
        Ok(())
    }

    /// Writes what a sweep brings, and only when that is on the disk the position, so that the
    /// position never speaks of more than is there.
    pub(crate) fn sweep(&self, results: &Results, position: Position) -> Result<(), Damage> {
        self.write(results)?;
        self.sync()?;
        let Position { origin, sequence } = position;
        let value = [origin.store.as_slice(), &origin.epoch.to_le_bytes(), &sequence.to_le_bytes()].concat();
        self.with(|db| db.insert(key::position(), value).map(drop))?;
        self.sync()
    }

    /// sled's `flush` is `sync_file_range`; this makes it durable.
    fn sync(&self) -> Result<(), Damage> {
        self.with(|db| db.flush().map(drop))?;
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Opened { file, .. }) = &*open else { return Ok(()) };
        let path = self.file();
        self.disk.sync(file, &path).map_err(|error| {
            self.unsound.store(true, Ordering::Relaxed);
            Damage::new(&path, format!("syncing failed: {error}"))
        })
    }

    /// Whether the last sweep left it so that it must be healed before the next.
    pub(crate) fn is_ailing(&self) -> bool {
        self.unsound.load(Ordering::Relaxed) || self.open.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Makes it usable again after a sweep that failed: sled refuses everything once a write of its
    /// failed, and after a failed sync the page cache may hold what the disk never got, so that every
    /// file is written anew. Where that fails too it can still be read.
    pub(crate) fn heal(&self) -> Result<(), IndexError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        self.absent.forget();
        if let Some(opened) = open.take() {
            // Our descriptor has seen every error since it was opened, those that sled ignored too.
            if self.disk.sync(&opened.file, &self.file()).is_err() {
                self.unsound.store(true, Ordering::Relaxed);
            }
            close(opened);
        }
        let marked = if self.unsound.load(Ordering::Relaxed) {
            disk::write_durably(&*self.disk, &suspect_mark(&self.path), &[])
        } else {
            Ok(())
        };
        let healed = marked.and_then(|()| finish_copy(&*self.disk, &self.path));
        *open = Some(open_patiently(&self.path, Duration::from_secs(5))?);
        healed.map_err(|error| Damage::new(&self.file(), format!("the index cannot be copied: {error}")))?;
        self.unsound.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Gives sled's lock back.
    pub(crate) fn close(&self) {
        let opened = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(opened) = opened {
            close(opened);
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.close();
    }
}

fn close(opened: Opened) {
    // sled flushes when it is dropped, and may find its damage then.
    drop(catch_unwind(AssertUnwindSafe(move || drop(opened))));
}

fn open_patiently(path: &Path, wait: Duration) -> Result<Opened, IndexError> {
    let started = Instant::now();
    let file = path.join("db");
    loop {
        let opened = catch_unwind(|| {
            sled::Config::new()
                .path(path)
                .cache_capacity(CACHE_BYTES)
                .segment_size(SEGMENT_BYTES)
                .flush_every_ms(None)
                .open()
        });
        let refused = match opened {
            Ok(Ok(db)) => {
                let file = File::open(&file)
                    .map_err(|error| Damage::new(&file, format!("the index cannot be opened: {error}")))?;
                return Ok(Opened { db, file });
            }
            Ok(Err(sled::Error::Io(error))) if is_locked(&error) => IndexError::Locked(path.to_owned()),
            Ok(Err(error)) => return Err(Damage::new(&file, format!("the index cannot be opened: {error}")).into()),
            Err(_) => return Err(Damage::new(&file, "the index cannot be opened: sled panicked").into()),
        };
        if started.elapsed() >= wait {
            return Err(refused);
        }
        thread::sleep(LOCK_PAUSE);
    }
}

/// sled tells of its lock by an error of kind `Other` with the lock's own error in its text.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

/// Says that the index on the disk may not be what the page cache shows.
fn suspect_mark(path: &Path) -> PathBuf {
    path.with_extension("suspect")
}

/// Ends what a crash interrupted: a swap half done, a copy not made.
fn finish_copy(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let old = path.with_extension("old");
    if old.exists() {
        if path.exists() {
            fs::remove_dir_all(&old)?;
        } else {
            disk.rename(&old, path)?;
        }
    }
    if suspect_mark(path).exists() {
        if path.exists() {
            copy_anew(disk, path)?;
        } else {
            disk.remove(&suspect_mark(path))?;
        }
    }
    Ok(())
}

/// Writes every file of the index anew, synced, and puts the copy in its place.
fn copy_anew(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let (new, old) = (path.with_extension("copy"), path.with_extension("old"));
    discard(&new)?;
    copy_folder(disk, path, &new)?;
    disk.rename(path, &old)?;
    disk.rename(&new, path)?;
    disk.sync_folder(disk::folder_of(path))?;
    discard(&old)?;
    disk.remove(&suspect_mark(path))
}

fn copy_folder(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    disk::make_folders(disk, disk::folder_of(to), to, &mut disk::Synced::new())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(disk, &entry.path(), &target)?;
        } else {
            disk::copy_synced(disk, &entry.path(), &target)?;
        }
    }
    disk.sync_folder(to)
}

/// Removes an index, so that another can take its place.
pub(crate) fn discard(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
