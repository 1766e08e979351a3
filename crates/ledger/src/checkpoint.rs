//! Checkpoints (C2SP tlog-checkpoint): a tree's size and root, signed as a note.
//!
//! ```text
//! ledger.example.com
//! 20852163
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — ledger.example.com Az3grlgtzPICa5OS8npVmf1Myq/5IZ…
//! ```
//!
//! Here a checkpoint is made, read and verified; when to sign one, and that the records it covers
//! are synced first, is the signer's affair.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    note::{NotVerified, Note, NoteError, VerifierKey},
    tree::{Frontier, Hash},
};

/// A tree head: whose, how large, and which root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
    extensions: Vec<String>,
}

/// Why a text is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note.
    #[error("not a checkpoint")]
    Note(#[from] NoteError),
    /// Fewer than three lines, or an empty one.
    #[error("a checkpoint has an origin, a size and a root, each on a line of its own, and no empty line")]
    Lines,
    /// The origin is empty or more than one line.
    #[error("a checkpoint's origin is one line that is not empty")]
    Origin,
    /// The size is no plain decimal number.
    #[error("{0:?} is no tree size: a decimal number without leading zeros")]
    Size(String),
    /// The root is no base64 of 32 octets.
    #[error("{0:?} is no root hash: base64 of 32 octets")]
    Root(String),
}

impl Checkpoint {
    /// A checkpoint of a tree.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Origin`] unless the origin is one line that is not empty.
    pub fn new(origin: impl Into<String>, size: u64, root: Hash) -> Result<Self, CheckpointError> {
        let origin = origin.into();
        if origin.is_empty() || origin.chars().any(char::is_control) {
            return Err(CheckpointError::Origin);
        }
        Ok(Self { origin, size, root, extensions: Vec::new() })
    }

    /// A checkpoint of the tree that a frontier stands for.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Origin`] as [`new`](Self::new).
    pub fn of(origin: impl Into<String>, frontier: &Frontier) -> Result<Self, CheckpointError> {
        Self::new(origin, frontier.size(), frontier.root())
    }

    /// Which log.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root of these leaves.
    #[must_use]
    pub const fn root(&self) -> Hash {
        self.root
    }

    /// Lines after the root, which mean nothing to us. Ours have none.
    #[must_use]
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// The text whose bytes are signed.
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = format!("{}\n{}\n{}\n", self.origin, self.size, self.root);
        for line in &self.extensions {
            body.push_str(line);
            body.push('\n');
        }
        body
    }

    /// Joins the text with a signature that was made elsewhere over the bytes of [`body`](Self::body).
    ///
    /// # Errors
    ///
    /// [`NotVerified::WrongSignature`] where `key` did not make it: a wrong one never goes out.
    pub fn attach(self, key: &VerifierKey, signature: &[u8]) -> Result<SignedCheckpoint, NotVerified> {
        let note = Note::signed(self.body(), key, signature)?;
        Ok(SignedCheckpoint { checkpoint: self, note })
    }

    fn parse_body(body: &str) -> Result<Self, CheckpointError> {
        let lines = body.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        if lines.split('\n').any(str::is_empty) {
            return Err(CheckpointError::Lines);
        }
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Lines);
        };
        let plain = size.bytes().all(|digit| digit.is_ascii_digit()) && (size == "0" || !size.starts_with('0'));
        let size = match size.parse() {
            Ok(number) if plain => number,
            _ => return Err(CheckpointError::Size(size.chars().take(40).collect())),
        };
        let root = STANDARD
            .decode(root)
            .ok()
            .and_then(|octets| Hash::from_slice(&octets))
            .ok_or_else(|| CheckpointError::Root(root.chars().take(60).collect()))?;
        let extensions = lines.map(str::to_owned).collect();
        Ok(Self { extensions, ..Self::new(origin, size, root)? })
    }
}

/// A checkpoint with its signatures, which may or may not be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Reads a signed checkpoint. Nothing is verified yet.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] where it is not in the form of the specification.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        Ok(Self { checkpoint: Checkpoint::parse_body(note.unverified_text())?, note })
    }

    /// The checkpoint, if this key signed it.
    ///
    /// # Errors
    ///
    /// [`NotVerified`] as [`Note::verify`].
    pub fn verify(&self, key: &VerifierKey) -> Result<&Checkpoint, NotVerified> {
        self.note.verify(key).map(|_| &self.checkpoint)
    }

    /// The checkpoint, whoever signed it. For showing, never for believing.
    #[must_use]
    pub const fn unverified(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Names and ids of the keys that claim to have signed.
    pub fn signers(&self) -> impl Iterator<Item = (&str, u32)> {
        self.note.signers()
    }
}

/// The text of the file and of the answer to `GET <prefix>/checkpoint`.
impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}
