//! The store's folder: what lies where, who may look into it, and whose it is right now.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::{
    disk::{self, Disk},
    journal::{Damage, Origin},
};

/// How long between two tries to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// The newest format of the folder that we know.
const FORMAT: u32 = 1;

/// Where everything lies.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// Why a folder is not taken.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be read or made.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is a link, or no folder.
    #[error("{path} is not a folder of its own: give the real path of a folder, not a link", path = .0.display())]
    NotAFolder(PathBuf),
    /// It belongs to someone else.
    #[error("{path} belongs to another user (uid {owner}, not {ours}); chown it, or run as that user", path = path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        ours: u32,
    },
    /// Others can look into it or change it.
    #[error("{path} can be read or written by others (mode {mode:04o}); run: chmod 700 {path}", path = path.display())]
    Mode {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process has it.
    #[error("the store {path} is in use by another process{}; only one can have it", pid.map(|pid| format!(" ({pid})")).unwrap_or_default(), path = path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Which process, if it said so.
        pid: Option<u32>,
    },
    /// Something in it does not read.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A newer release made it.
    #[error("{path} has format {found}, made by a newer Chancery; this one knows up to {FORMAT}", path = path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// There is no store.
    #[error("there is no store in {path}", path = .0.display())]
    NoStore(PathBuf),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |error| FolderError::Io { path, error }
}

impl Folder {
    pub(crate) fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.0.join("journal")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.0.join("index")
    }

    /// Where a rebuilt index grows until it takes the place of the old one.
    pub(crate) fn new_index(&self) -> PathBuf {
        self.0.join("index.new")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.0.join("ledger")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// Whether matter was ever kept: a store that never began has none.
    pub(crate) fn has_blobs(&self) -> bool {
        fs::read_dir(self.blobs()).is_ok_and(|mut kept| kept.next().is_some())
    }

    pub(crate) fn blob(&self, sha256: &[u8; 32]) -> PathBuf {
        self.blobs().join(hex::encode(sha256))
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint")
    }

    pub(crate) fn header(&self) -> PathBuf {
        self.0.join("store.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Makes the folder if it is not there, and refuses one that is not ours alone.
    pub(crate) fn prepare(&self, disk: &dyn Disk) -> Result<(), FolderError> {
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(&self.0)(error)),
            _ => {}
        }
        self.check()?;
        match disk.sync_folder(disk::folder_of(&self.0)) {
            // Whoever gave us a folder below one that we cannot read has synced its name.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(io_error(&self.0)(error)),
            _ => Ok(()),
        }
    }

    /// Refuses a folder that is not ours alone.
    pub(crate) fn check(&self) -> Result<(), FolderError> {
        let path = &self.0;
        let found = fs::symlink_metadata(path).map_err(io_error(path))?;
        if !found.is_dir() {
            return Err(FolderError::NotAFolder(path.clone()));
        }
        let ours = rustix::process::geteuid().as_raw();
        if found.uid() != ours {
            return Err(FolderError::Owner { path: path.clone(), owner: found.uid(), ours });
        }
        let mode = found.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(FolderError::Mode { path: path.clone(), mode });
        }
        Ok(())
    }

    /// Takes the folder for this process; waits a little for one that is just ending.
    pub(crate) fn lock(&self, wait: Duration) -> Result<Lock, FolderError> {
        let path = self.lock_file();
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(io_error(&path))?;
        let started = Instant::now();
        while let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(io_error(&path)(error.into()));
            }
            if started.elapsed() >= wait {
                let mut holder = String::new();
                let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
                return Err(FolderError::InUse { path: self.0.clone(), pid });
            }
            thread::sleep(LOCK_PAUSE);
        }
        // For people alone: the lock is what counts.
        drop(file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())));
        Ok(Lock { _file: file })
    }

    /// Which store this is; a folder without one becomes a new one.
    pub(crate) fn origin_or_new(&self, disk: &dyn Disk) -> Result<Origin, FolderError> {
        match self.origin() {
            Err(FolderError::NoStore(_)) => {}
            known => return known,
        }
        for made in [self.journal(), self.ledger(), self.checkpoint()] {
            if made.exists() {
                return Err(Damage::new(&self.header(), "it is missing, and the folder is not empty").into());
            }
        }
        let mut store = [0; 16];
        rand::fill(&mut store).map_err(|_| io_error(&self.0)(io::Error::other("no randomness for the store's id")))?;
        let origin = Origin { store, epoch: 1 };
        self.write_origin(disk, origin)?;
        Ok(origin)
    }

    /// Which store this is.
    pub(crate) fn origin(&self) -> Result<Origin, FolderError> {
        let path = self.header();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FolderError::NoStore(self.0.clone())),
            Err(error) => return Err(io_error(&path)(error)),
        };
        let damaged = |why: String| FolderError::Damaged(Damage::new(&path, why));
        let version: HeaderFormat = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if version.format > FORMAT {
            return Err(FolderError::Newer { path, found: version.format });
        }
        let Header { format: _, store, epoch } =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let store = hex::decode(store).ok().and_then(|store| store.try_into().ok());
        let store = store.ok_or_else(|| damaged("the store's id is not 32 hexadecimal digits".to_owned()))?;
        Ok(Origin { store, epoch })
    }

    pub(crate) fn write_origin(&self, disk: &dyn Disk, origin: Origin) -> Result<(), FolderError> {
        let header = Header { format: FORMAT, store: hex::encode(origin.store), epoch: origin.epoch };
        let text = serde_json::to_string_pretty(&header).expect("plain data serializes");
        disk::write_durably(disk, &self.header(), format!("{text}\n").as_bytes()).map_err(io_error(&self.header()))
    }

    /// Makes the folders within.
    pub(crate) fn make(&self, disk: &dyn Disk) -> Result<(), FolderError> {
        let mut synced = disk::Synced::new();
        for folder in [self.journal(), self.ledger(), self.blobs()] {
            disk::make_folders(disk, &self.0, &folder, &mut synced).map_err(io_error(&folder))?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct HeaderFormat {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    store: String,
    epoch: u64,
}

/// The folder is this process's as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// The last signed checkpoint, with the size of its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptCheckpoint {
    pub(crate) tree_size: u64,
    pub(crate) note: String,
}

/// The file: a line with the tree's size and a checksum of the note, then the note as it was signed.
pub(crate) fn write_checkpoint(disk: &dyn Disk, folder: &Folder, kept: &KeptCheckpoint) -> io::Result<()> {
    let KeptCheckpoint { tree_size, note } = kept;
    let text = format!("{tree_size} {:08x}\n{note}", crc32c::crc32c(note.as_bytes()));
    disk::write_durably(disk, &folder.checkpoint(), text.as_bytes())
}

pub(crate) fn read_checkpoint(folder: &Folder) -> Result<Option<KeptCheckpoint>, FolderError> {
    read_checkpoint_at(&folder.checkpoint())
}

pub(crate) fn read_checkpoint_at(path: &Path) -> Result<Option<KeptCheckpoint>, FolderError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path)(error)),
    };
    let parsed = text.split_once('\n').and_then(|(first, note)| {
        let (size, crc) = first.split_once(' ')?;
        let sound = u32::from_str_radix(crc, 16).ok()? == crc32c::crc32c(note.as_bytes());
        sound.then_some(KeptCheckpoint { tree_size: size.parse().ok()?, note: note.to_owned() })
    });
    parsed.map(Some).ok_or_else(|| Damage::new(path, "the kept checkpoint does not read").into())
}
