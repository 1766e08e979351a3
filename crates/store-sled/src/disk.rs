//! Everything that must reach the disk goes through here, so that a test can fail it, or cut the power.
//!
//! Reads are not part of it: what was written and synced is read by plain means.

use std::{
    collections::HashSet,
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The writing half of a file system.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Makes a file that must not exist yet, for its owner alone.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all bytes at an offset.
    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts a file.
    fn truncate(&self, file: &File, path: &Path, length: u64) -> io::Result<()>;
    /// fdatasync.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;
    /// fsync of a folder: the names in it.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Renames, over what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Bytes that an unprivileged process can still write.
    fn free(&self, path: &Path) -> io::Result<u64>;
}

/// The real one.
#[derive(Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    fn write_at(&self, file: &File, _: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn truncate(&self, file: &File, _: &Path, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync(&self, file: &File, _: &Path) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// Writes a whole file: aside, synced, then renamed into place. The folder is the caller's to sync.
pub(crate) fn write_aside(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = aside(path);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&aside)?;
    let written = disk.write_at(&file, &aside, bytes, 0).and_then(|()| disk.sync(&file, &aside));
    if let Err(error) = written {
        // What is left of it is in the way of nobody, but takes room.
        drop(fs::remove_file(&aside));
        return Err(error);
    }
    disk.rename(&aside, path)
}

/// The same, with its folder synced: durable when it returns.
pub(crate) fn write_durably(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_aside(disk, path, bytes)?;
    disk.sync_folder(folder_of(path))
}

/// Copies a file in pieces, synced. The folder is the caller's to sync.
pub(crate) fn copy_synced(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = disk.create(to)?;
    let mut piece = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let read = source.read_at(&mut piece, offset)?;
        if read == 0 {
            break;
        }
        disk.write_at(&target, to, piece.get(..read).unwrap_or_default(), offset)?;
        offset += u64::try_from(read).unwrap_or(u64::MAX);
    }
    disk.sync(&target, to)
}

/// Folders whose names this process has synced.
pub(crate) type Synced = HashSet<PathBuf>;

/// Makes folders down to `path`, for their owner alone, each synced into the one above; one that is
/// there already too, unless this process has: a kill may have come between its making and that sync.
pub(crate) fn make_folders(disk: &dyn Disk, root: &Path, path: &Path, synced: &mut Synced) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path == root || !path.starts_with(root) || synced.contains(path) && path.is_dir() {
        return Ok(());
    }
    make_folders(disk, root, folder_of(path), synced)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    disk.sync_folder(folder_of(path))?;
    synced.insert(path.to_owned());
    Ok(())
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
