//! Files that must not be half there, and that must not be others' to read.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// For the owner alone.
pub(crate) const PRIVATE: u32 = 0o600;
/// For everybody to read.
pub(crate) const PUBLIC: u32 = 0o644;

/// A folder that is not safe to work in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderFault {
    /// It is not there.
    #[error("there is no folder {}; make one with `chancery init`", .0.display())]
    Missing(PathBuf),
    /// It cannot be looked at.
    #[error("the folder {}: {source}", path.display())]
    Look {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no folder.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// It is someone else's.
    #[error("the folder {} belongs to user {owner}, but this runs as user {us}", path.display())]
    OtherOwner {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whom we run as.
        us: u32,
    },
    /// Others can look into it or write to it.
    #[error("the folder {path} can be entered by others (mode {mode:04o}); type: chmod 700 {path}", path = path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Looks whether a folder is ours alone.
pub(crate) fn check_private_folder(path: &Path) -> Result<(), FolderFault> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FolderFault::Missing(path.to_owned())),
        Err(source) => return Err(FolderFault::Look { path: path.to_owned(), source }),
    };
    if !metadata.is_dir() {
        return Err(FolderFault::NotAFolder(path.to_owned()));
    }
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us {
        return Err(FolderFault::OtherOwner { path: path.to_owned(), owner: metadata.uid(), us });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FolderFault::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Makes a folder for us alone, and those above it; an empty one that is there is taken.
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if fs::read_dir(path)?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty"));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Makes a folder for us alone if there is none; says whether it did. Those above it must be there, so that a volume that
/// is not mounted is not taken for an empty one.
pub(crate) fn make_missing_folder(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            sync_folder_of(path)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a file that is not there yet, whole and synced.
pub(crate) fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    sync_folder_of(path)
}

/// Writes a file in place of another, whole and synced: whoever reads sees the old or the new one.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write_new(&fresh, content, mode)?;
    fs::rename(&fresh, path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_can_enter_is_refused_with_what_to_type() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let fault = check_private_folder(folder.path()).unwrap_err().to_string();
        assert!(fault.contains("0750") && fault.contains("chmod 700"), "{fault}");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        check_private_folder(folder.path()).unwrap();
    }

    #[test]
    fn a_missing_folder_is_made_for_us_alone_where_its_volume_is_mounted() {
        let volume = tempfile::tempdir().unwrap();
        // As Kubernetes hands a volume to a group.
        fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o2775)).unwrap();
        let data = volume.path().join("data");
        assert!(make_missing_folder(&data).unwrap());
        check_private_folder(&data).unwrap();
        fs::write(data.join("kept"), b"").unwrap();
        assert!(!make_missing_folder(&data).unwrap());
        assert!(data.join("kept").exists());
        assert!(make_missing_folder(&volume.path().join("not-mounted/data")).is_err());
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_a_new_one_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        write_new(&file, b"one", PRIVATE).unwrap();
        assert!(write_new(&file, b"two", PRIVATE).is_err());
        replace(&file, b"three", PRIVATE).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"three");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, PRIVATE);
    }
}
