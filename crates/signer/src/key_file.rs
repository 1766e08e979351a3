//! Key files: made once, whole and synced, or not at all; opened only if nobody else can touch them.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use chancery_pki::{KeyKind, PublicKey};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

use crate::{
    envelope::{Cost, CostOutOfRange, CryptoError, Description, Envelope, FORMAT, Unreadable, is_name},
    passphrase::Passphrase,
    private_key::{KeyRole, LoadedKey, MakeError, Pair},
};

/// Most octets of a key file; one with an RSA-4096 key has about 5,000.
const SIZE_MAX: u64 = 16 * 1024;

/// A key file that has been read but not decrypted.
pub struct KeyFile {
    path: PathBuf,
    envelope: Envelope,
}

/// A key file cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is none.
    #[error("there is no key file {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is one already.
    #[error("the key file {path} is there already; a key is never overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A symbolic link.
    #[error("the key file {path} is a symbolic link, which is not followed")]
    SymbolicLink {
        /// The file.
        path: PathBuf,
    },
    /// A folder, a device, a pipe.
    #[error("the key file {path} is not a plain file")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Someone else's.
    #[error("the key file {path} belongs to user {owner}, not to us (user {us})")]
    OtherOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Whom we run as.
        us: u32,
    },
    /// Others can change it.
    #[error(
        "the key file {path} can be written by its group or by others (mode {mode:04o}); see whether it is still yours, then type: chmod 600 {path}"
    )]
    WritableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others can read it.
    #[error("the key file {path} can be read by its group or by others (mode {mode:04o}); type: chmod 600 {path}")]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too many octets.
    #[error("{path} is too large to be a key file")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Reading failed.
    #[error("the key file {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing failed; nothing is left under the file's name.
    #[error("the key file {path} cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Some other file, or a damaged one.
    #[error("{path} is not a key file: {what}")]
    NotAKeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A derivation that would cost too much, or nothing.
    #[error("the key file {path} asks for too much or too little: {cost}")]
    Cost {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        cost: CostOutOfRange,
    },
    /// The passphrase does not open it.
    #[error("the key file {path} does not open: the passphrase is another one, or the file was altered")]
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// It opens, but to something else than it says.
    #[error("the key file {path} holds another key than the one it names")]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// A name that cannot be used.
    #[error("\"{name}\" is not the name of a key: up to 64 lower-case letters, digits, dots, hyphens, underscores")]
    Name {
        /// What was given.
        name: String,
    },
    /// A kind that is not made here.
    #[error("keys of the kind {kind} are not made here; take P-256, P-384, RSA-2048, RSA-3072, RSA-4096 or Ed25519")]
    Kind {
        /// The kind.
        kind: KeyKind,
    },
    /// Not enough memory for argon2id.
    #[error("there is not enough memory to derive the key of {path} from its passphrase")]
    Memory {
        /// The file.
        path: PathBuf,
    },
    /// The cryptographic library failed.
    #[error("the cryptographic library failed while working on {path}")]
    Library {
        /// The file.
        path: PathBuf,
    },
}

impl KeyFile {
    /// Makes a key and a file that holds it; returns the public half. Takes some tenths of a
    /// second for argon2id, and seconds for RSA: not for a thread that serves others.
    ///
    /// The file appears under its name only when it is whole and synced, with mode 0600, and never
    /// in the place of another.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Exists`], [`KeyFileError::Write`], [`KeyFileError::Name`],
    /// [`KeyFileError::Kind`], [`KeyFileError::Memory`], [`KeyFileError::Library`].
    pub fn create(
        path: &Path,
        name: &str,
        role: KeyRole,
        kind: KeyKind,
        passphrase: &Passphrase,
        cost: Cost,
    ) -> Result<PublicKey, KeyFileError> {
        if !is_name(name) {
            return Err(KeyFileError::Name { name: name.escape_debug().take(80).collect() });
        }
        // Asked before the costly work as well; what counts is the answer when it is put in place.
        if path.symlink_metadata().is_ok() {
            return Err(KeyFileError::Exists { path: path.into() });
        }
        let pair = Pair::generate(kind).map_err(|error| match error {
            MakeError::Kind => KeyFileError::Kind { kind },
            MakeError::Library => KeyFileError::Library { path: path.into() },
        })?;
        let public_key = pair.public_key().ok_or_else(|| KeyFileError::Library { path: path.into() })?;
        let description = Description { name: name.into(), role, public_key: public_key.clone() };
        let envelope =
            Envelope::seal(description, &pair, passphrase, cost).map_err(|error| crypto_error(error, path))?;
        write_new(path, envelope.to_json().as_bytes()).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.into() },
            _ => KeyFileError::Write { path: path.into(), source },
        })?;
        Ok(public_key)
    }

    /// Reads a key file and says what it claims to be. Nothing it says is proven before
    /// [`Self::unlock`].
    ///
    /// # Errors
    ///
    /// Any [`KeyFileError`] that needs no passphrase.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let text = read_guarded(path)?;
        let envelope = Envelope::from_json(&text).map_err(|unreadable| {
            let path = path.into();
            let what = match unreadable {
                Unreadable::Cost(cost) => return KeyFileError::Cost { path, cost },
                Unreadable::Json { line, column } => format!("its JSON breaks off at line {line}, column {column}"),
                Unreadable::Format => format!("its format is not {FORMAT}"),
                Unreadable::Field(field) => format!("its member {field} cannot be read"),
            };
            KeyFileError::NotAKeyFile { path, what }
        })?;
        Ok(Self { path: path.into(), envelope })
    }

    /// Decrypts the key. Takes some tenths of a second: not for a thread that serves others.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Passphrase`], [`KeyFileError::OtherKey`], [`KeyFileError::Memory`],
    /// [`KeyFileError::Library`].
    pub fn unlock(self, passphrase: &Passphrase) -> Result<LoadedKey, KeyFileError> {
        let pair = self.envelope.open(passphrase).map_err(|error| crypto_error(error, &self.path))?;
        let Description { name, role, public_key } = self.envelope.description;
        Ok(LoadedKey::new(name, role, public_key, pair))
    }

    /// Reads and decrypts.
    ///
    /// # Errors
    ///
    /// As [`Self::read`] and [`Self::unlock`].
    pub fn open(path: &Path, passphrase: &Passphrase) -> Result<LoadedKey, KeyFileError> {
        Self::read(path)?.unlock(passphrase)
    }

    /// The key's name, as the file claims.
    #[must_use]
    pub const fn name(&self) -> &str {
        &self.envelope.description.name
    }

    /// The key's role, as the file claims.
    #[must_use]
    pub const fn role(&self) -> KeyRole {
        self.envelope.description.role
    }

    /// The public half, as the file claims.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.envelope.description.public_key
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("path", &self.path)
            .field("description", &self.envelope.description)
            .finish_non_exhaustive()
    }
}

fn crypto_error(error: CryptoError, path: &Path) -> KeyFileError {
    let path = path.into();
    match error {
        CryptoError::Memory => KeyFileError::Memory { path },
        CryptoError::Library => KeyFileError::Library { path },
        CryptoError::Authentication => KeyFileError::Passphrase { path },
        CryptoError::OtherKey => KeyFileError::OtherKey { path },
    }
}

/// Reads the file if it is ours alone. Everything is asked of the open file, so that what was
/// checked is what is read.
fn read_guarded(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let read = |source| KeyFileError::Read { path: path.into(), source };
    // NONBLOCK, not to hang on a named pipe.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Err(KeyFileError::Missing { path: path.into() }),
        Err(Errno::LOOP) => return Err(KeyFileError::SymbolicLink { path: path.into() }),
        Err(error) => return Err(read(error.into())),
    };
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile { path: path.into() });
    }
    ours_alone(path, metadata.uid(), rustix::process::geteuid().as_raw(), metadata.mode() & 0o7777)?;
    let mut content = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut content).map_err(read)?;
    if content.len() as u64 > SIZE_MAX {
        return Err(KeyFileError::TooLarge { path: path.into() });
    }
    Ok(content)
}

/// Whether a file is ours alone, or root's and readable for our group.
///
/// Kubernetes mounts a Secret so for a user other than root: it belongs to root, and the group of the pod may read it.
fn ours_alone(path: &Path, owner: u32, us: u32, mode: u32) -> Result<(), KeyFileError> {
    let lent = owner == 0 && us != 0;
    if owner != us && !lent {
        return Err(KeyFileError::OtherOwner { path: path.into(), owner, us });
    }
    if mode & 0o022 != 0 {
        return Err(KeyFileError::WritableByOthers { path: path.into(), mode });
    }
    if mode & if lent { 0o004 } else { 0o044 } != 0 {
        return Err(KeyFileError::ReadableByOthers { path: path.into(), mode });
    }
    Ok(())
}

/// Writes a file that is not there yet: beside its place, synced, moved there, the folder synced.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let file_name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(file_name);
    beside.push(format!(".{:016x}.new", u64::from_be_bytes(random)));
    let beside = folder.join(beside);

    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(&beside, flags, Mode::RUSR | Mode::WUSR)?);
    let written =
        file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| move_without_replacing(&beside, path));
    if let Err(error) = written {
        // The error that matters is the first; what is left over holds nothing in the clear.
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

fn move_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system without that flag (NFS): a hard link never replaces either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())?;
            std::fs::remove_file(from)
        }
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Us, who are not root.
    const US: u32 = 65_532;

    fn judged(owner: u32, mode: u32) -> Result<(), KeyFileError> {
        ours_alone(Path::new("issuing.key"), owner, US, mode)
    }

    #[test]
    fn a_key_file_of_root_may_be_read_by_our_group_as_kubernetes_mounts_secrets() {
        assert!(judged(0, 0o440).is_ok());
        assert!(judged(0, 0o400).is_ok());
        for mode in [0o444, 0o404, 0o640 | 0o004] {
            assert!(matches!(judged(0, mode), Err(KeyFileError::ReadableByOthers { .. })), "{mode:o}");
        }
        for mode in [0o460, 0o442] {
            assert!(matches!(judged(0, mode), Err(KeyFileError::WritableByOthers { .. })), "{mode:o}");
        }
    }

    #[test]
    fn our_own_key_file_is_for_no_group_and_that_of_another_user_is_refused() {
        assert!(judged(US, 0o600).is_ok());
        assert!(matches!(judged(US, 0o440), Err(KeyFileError::ReadableByOthers { .. })));
        assert!(matches!(judged(1_000, 0o400), Err(KeyFileError::OtherOwner { owner: 1_000, us: US, .. })));
    }

    #[test]
    fn root_lends_nothing_to_itself() {
        let path = Path::new("issuing.key");
        assert!(ours_alone(path, 0, 0, 0o600).is_ok());
        assert!(matches!(ours_alone(path, 0, 0, 0o440), Err(KeyFileError::ReadableByOthers { .. })));
    }
}
