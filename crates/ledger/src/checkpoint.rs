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

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use proptest::prelude::*;

    use super::*;

    // Key, signature and key id made by OpenSSL 3.0 (`pkeyutl -sign -rawin`, `dgst -sha256`).
    const KEY: &str = "ledger.example.com+af650322+AVnDTj3WwYN6nwYG8m5mSMa1+P0BKlGICCZ2yMdwG1FN";
    const CHECKPOINT: &str = "ledger.example.com\n3\nLXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=\n\n— ledger.example.com r2UDIuES9bVmZrBT8oQfNoZimnDDFMX5N1SiPsdjaDJ1/vS/KnJj9ld4mW9DormY3PLGdmDM0xPlHwXMgSccYwstNgs=\n";

    fn signer() -> (Ed25519KeyPair, VerifierKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
        let public = pair.public_key().as_ref().try_into().expect("32 octets");
        (pair, VerifierKey::new("ledger.example.com", public).expect("a name"))
    }

    #[test]
    fn a_checkpoint_that_openssl_signed_verifies() {
        let signed = SignedCheckpoint::parse(CHECKPOINT.as_bytes()).expect("well formed");
        let checkpoint = signed.verify(&KEY.parse().expect("a key")).expect("signed by it");
        assert_eq!((checkpoint.origin(), checkpoint.size()), ("ledger.example.com", 3));
        assert_eq!(checkpoint.root().to_string(), "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=");
        assert_eq!(signed.to_string(), CHECKPOINT);
        assert!(CHECKPOINT.starts_with(&format!("{}\n", checkpoint.body())));
    }

    #[test]
    fn a_signature_made_elsewhere_is_joined_and_a_wrong_one_is_not() {
        let (pair, key) = signer();
        let checkpoint = Checkpoint::new("ledger.example.com", 0, Hash::of_nothing()).expect("an origin");
        let signature = pair.sign(checkpoint.body().as_bytes());
        let signed = checkpoint.clone().attach(&key, signature.as_ref()).expect("its own");
        let read = SignedCheckpoint::parse(signed.to_string().as_bytes()).expect("our own");
        assert_eq!(read.verify(&key), Ok(&checkpoint));
        assert_eq!(read, signed);
        let other = pair.sign(b"something else");
        assert!(checkpoint.attach(&key, other.as_ref()).is_err());
    }

    #[test]
    fn another_key_of_the_same_name_did_not_sign_it() {
        let signed = SignedCheckpoint::parse(CHECKPOINT.as_bytes()).expect("well formed");
        assert!(matches!(signed.verify(&signer().1), Err(NotVerified::NotSigned { .. })));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let root = "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=";
        let parse = |body: &str| Checkpoint::parse_body(body).map(|_| ());
        assert_eq!(parse(&format!("o\n3\n{root}\n")), Ok(()));
        assert_eq!(parse(&format!("o\n3\n{root}\nextension\n")), Ok(()));
        assert_eq!(parse("o\n3\n"), Err(CheckpointError::Lines));
        assert_eq!(parse(&format!("\n3\n{root}\n")), Err(CheckpointError::Lines));
        assert_eq!(parse(&format!("o\n3\n{root}\n\n")), Err(CheckpointError::Lines));
        for size in ["03", "+3", "-3", "3 ", "18446744073709551616", "three"] {
            assert!(matches!(parse(&format!("o\n{size}\n{root}\n")), Err(CheckpointError::Size(_))), "{size}");
        }
        for root in
            ["LXEW", "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE", "LXEWQrcmsEQBYnyp-6wy9chTD7GQPMTbAiWHF5IaSIE="]
        {
            assert!(matches!(parse(&format!("o\n3\n{root}\n")), Err(CheckpointError::Root(_))), "{root}");
        }
        for origin in ["", "two\nlines", "tab\t"] {
            assert!(
                matches!(Checkpoint::new(origin, 0, Hash::of_nothing()), Err(CheckpointError::Origin)),
                "{origin:?}"
            );
        }
    }

    #[test]
    fn extension_lines_are_kept_because_they_are_signed() {
        let (pair, key) = signer();
        let body = "ledger.example.com\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nan extension\n";
        let note = Note::signed(body.to_owned(), &key, pair.sign(body.as_bytes()).as_ref()).expect("its own");
        let read = SignedCheckpoint::parse(note.to_string().as_bytes()).expect("well formed");
        let checkpoint = read.verify(&key).expect("signed");
        assert_eq!(checkpoint.extensions(), ["an extension"]);
        assert_eq!(checkpoint.body(), body);
        assert_eq!(checkpoint.root(), Hash::of_nothing());
    }

    proptest! {
        #[test]
        fn a_checkpoint_changed_anywhere_is_not_verified(at: prop::sample::Index, flip in 1u8..) {
            let mut changed = CHECKPOINT.as_bytes().to_vec();
            let at = at.index(changed.len());
            changed[at] ^= flip;
            if let Ok(read) = SignedCheckpoint::parse(&changed) {
                prop_assert!(read.verify(&KEY.parse().expect("a key")).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = SignedCheckpoint::parse(&bytes);
        }
    }
}
