//! The passphrase of key files: from a file, the environment or systemd's credentials, never from
//! the command line, where every process could read it.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// Fewest octets of a passphrase: what argon2id makes costly, a shorter one makes cheap again.
const LENGTH_MIN: usize = 12;
/// Most octets that are read of a passphrase.
const LENGTH_MAX: usize = 1024;
/// Where systemd puts a service's credentials (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A passphrase. Shown nowhere, overwritten when dropped.
pub struct Passphrase(SecretString);

/// A passphrase cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// The file cannot be read.
    #[error("the passphrase file {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a plain file.
    #[error("the passphrase file {path} is not a plain file")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Someone else can read or write the file.
    #[error(
        "the passphrase file {path} can be read by everybody or written by its group (mode {mode:04o}); \
         type: chmod 600 {path}"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to someone else.
    #[error("the passphrase file {path} belongs to user {owner}, neither to us (user {us}) nor to root")]
    OtherOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Whom we run as.
        us: u32,
    },
    /// The environment has no such variable, or not as text.
    #[error("the environment variable {} is not set to a text", variable(name))]
    NotInEnvironment {
        /// The variable.
        name: String,
    },
    /// The service has no credentials.
    #[error("there are no systemd credentials: CREDENTIALS_DIRECTORY is not set (LoadCredential= in the unit)")]
    NoCredentials,
    /// The name of a credential is a path.
    #[error("what stands for the name of a systemd credential is none")]
    NotACredentialName,
    /// The service has credentials, and none of that name.
    #[error("there is no systemd credential of the name that is configured (LoadCredential= in the unit)")]
    NoSuchCredential,
    /// Too short or too long.
    #[error("a passphrase has {LENGTH_MIN} to {LENGTH_MAX} octets in one line")]
    Length,
    /// Not one line of text.
    #[error("a passphrase is one line of text without control characters")]
    NotALine,
}

/// A variable's name, if it looks like one: whoever wrote the passphrase itself in its place does not want to read
/// it in a log.
fn variable(name: &str) -> &str {
    let is_usual = |octet: u8| octet.is_ascii_uppercase() || octet.is_ascii_digit() || octet == b'_';
    if name.bytes().all(is_usual) { name } else { "that is configured" }
}

impl Passphrase {
    /// From a text in memory, such as what a person typed.
    ///
    /// # Errors
    ///
    /// [`PassphraseError::Length`] and [`PassphraseError::NotALine`].
    pub fn new(text: &str) -> Result<Self, PassphraseError> {
        if !(LENGTH_MIN..=LENGTH_MAX).contains(&text.len()) {
            return Err(PassphraseError::Length);
        }
        if text.chars().any(char::is_control) {
            return Err(PassphraseError::NotALine);
        }
        Ok(Self(SecretString::new(text.into())))
    }

    /// From the first and only line of a file that is ours or root's.
    ///
    /// The group may read it: that is how systemd's access lists show, and how Kubernetes mounts
    /// secrets for a user other than root. A symbolic link is followed for the same reason.
    ///
    /// # Errors
    ///
    /// Any [`PassphraseError`] about files and texts.
    pub fn from_file(path: &Path) -> Result<Self, PassphraseError> {
        let read = |source| PassphraseError::Read { path: path.into(), source };
        // Not to hang on a named pipe.
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(|error| read(error.into()))?;
        let file = File::from(file);
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            return Err(PassphraseError::NotAFile { path: path.into() });
        }
        let us = rustix::process::geteuid().as_raw();
        if metadata.uid() != us && metadata.uid() != 0 {
            return Err(PassphraseError::OtherOwner { path: path.into(), owner: metadata.uid(), us });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o027 != 0 {
            return Err(PassphraseError::Exposed { path: path.into(), mode });
        }
        // Room for all that is allowed, so that no part of it is left behind by a reallocation.
        let mut octets = Zeroizing::new(Vec::with_capacity(LENGTH_MAX + 3));
        file.take(LENGTH_MAX as u64 + 3).read_to_end(&mut octets).map_err(read)?;
        let text = std::str::from_utf8(&octets).map_err(|_| PassphraseError::NotALine)?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        Self::new(text.strip_suffix('\r').unwrap_or(text))
    }

    /// From an environment variable.
    ///
    /// # Errors
    ///
    /// [`PassphraseError::NotInEnvironment`] and those about texts.
    pub fn from_environment(name: &str) -> Result<Self, PassphraseError> {
        let text = std::env::var(name).map_err(|_| PassphraseError::NotInEnvironment { name: name.into() })?;
        Self::new(&Zeroizing::new(text))
    }

    /// From a credential that systemd gave the service.
    ///
    /// # Errors
    ///
    /// [`PassphraseError::NoCredentials`], [`PassphraseError::NotACredentialName`] and those about
    /// files and texts.
    pub fn from_credential(name: &str) -> Result<Self, PassphraseError> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(PassphraseError::NotACredentialName);
        }
        let folder = std::env::var_os(CREDENTIALS_DIRECTORY).ok_or(PassphraseError::NoCredentials)?;
        match Self::from_file(&Path::new(&folder).join(name)) {
            Err(PassphraseError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(PassphraseError::NoSuchCredential)
            }
            other => other,
        }
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(hidden)")
    }
}
