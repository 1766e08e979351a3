//! Signed notes (C2SP signed-note): a text, a blank line, and who signed it.
//!
//! Ed25519 (signature type 0x01) and nothing else: the specification advises one algorithm, every
//! log tool reads this one, and what a signature says is settled by the key alone. A ledger key on
//! P-256 is therefore not possible.
//!
//! Signing is elsewhere: a text goes out, 64 octets come back ([`Note::signed`]).

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::tree::sha256;

/// Signature type identifier of Ed25519 (C2SP signed-note, signature types).
const ED25519_TYPE: u8 = 0x01;

/// Most signatures that are read; the specification asks for at least 16.
const MAX_SIGNATURES: usize = 64;

/// Longest note that is read, in bytes: 16 signatures of nearly 5 kB must fit (C2SP signed-note).
const MAX_NOTE_BYTES: usize = 256 * 1024;

/// What a signature line begins with: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// A public key that notes are verified with, and its name.
///
/// Its text form is the usual `name+hash+base64`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: [u8; 32],
}

/// Why a text or a name makes no verifier key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifierKeyError {
    /// Not three parts.
    #[error("a verifier key is name+hash+key, such as ledger.example.com+1a2b3c4d+AbCd...")]
    Form,
    /// The name cannot name a key.
    #[error("{0:?} cannot name a note's key: it is empty, or has a space, a plus or a control character")]
    Name(String),
    /// The key is no base64.
    #[error("the key in a verifier key is not base64")]
    Base64,
    /// Another algorithm.
    #[error("the key is of signature type {0:#04x}; only Ed25519 (0x01) is supported")]
    Algorithm(u8),
    /// Not 32 octets.
    #[error("an Ed25519 key has 32 octets, not {0}")]
    Length(usize),
    /// The hash belongs to another name or key.
    #[error("the hash in the verifier key is {found}, but this name and key give {expected:08x}")]
    Hash {
        /// What stands there.
        found: String,
        /// What it should be.
        expected: u32,
    },
}

impl VerifierKey {
    /// From a name and a raw Ed25519 public key (RFC 8032 §5.1.5).
    ///
    /// # Errors
    ///
    /// [`VerifierKeyError::Name`] where the name is empty or has a space, a plus or a control
    /// character.
    pub fn new(name: impl Into<String>, key: [u8; 32]) -> Result<Self, VerifierKeyError> {
        let name = name.into();
        if is_key_name(&name) { Ok(Self { name, key }) } else { Err(VerifierKeyError::Name(name)) }
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The raw public key.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The key id: the first four octets of SHA-256(name || newline || type || key).
    #[must_use]
    pub fn id(&self) -> u32 {
        let hash = sha256(&[self.name.as_bytes(), b"\n", &[ED25519_TYPE], &self.key]);
        let [a, b, c, d, ..] = hash.octets();
        u32::from_be_bytes([a, b, c, d])
    }

    /// Whether this key made this signature over this text.
    #[must_use]
    pub fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.key).verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![ED25519_TYPE];
        typed.extend_from_slice(&self.key);
        write!(f, "{}+{:08x}+{}", self.name, self.id(), STANDARD.encode(typed))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl FromStr for VerifierKey {
    type Err = VerifierKeyError;

    fn from_str(text: &str) -> Result<Self, VerifierKeyError> {
        // The base64 may hold a plus of its own, so the first two count.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(VerifierKeyError::Form);
        };
        let typed = STANDARD.decode(key).map_err(|_| VerifierKeyError::Base64)?;
        let Some((kind, key)) = typed.split_first() else {
            return Err(VerifierKeyError::Length(0));
        };
        if *kind != ED25519_TYPE {
            return Err(VerifierKeyError::Algorithm(*kind));
        }
        let raw: [u8; 32] = key.try_into().map_err(|_| VerifierKeyError::Length(key.len()))?;
        let key = Self::new(name, raw)?;
        let expected = key.id();
        if hash != format!("{expected:08x}") {
            return Err(VerifierKeyError::Hash { found: hash.chars().take(16).collect(), expected });
        }
        Ok(key)
    }
}

/// A text and its signatures, not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NoteSignature {
    name: String,
    id: u32,
    signature: Vec<u8>,
}

/// Why bytes are no signed note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than any note.
    #[error("{0} bytes are too many for a signed note: at most {MAX_NOTE_BYTES}")]
    TooLarge(usize),
    /// Not UTF-8, or a control character other than newline.
    #[error("a signed note is UTF-8 without control characters; see byte {offset}")]
    Characters {
        /// Where.
        offset: usize,
    },
    /// No blank line between text and signatures.
    #[error("a signed note needs a blank line between its text and its signatures")]
    NoBlankLine,
    /// A signature line is malformed.
    #[error("line {line} of the note is no signature: em dash, space, name, space, base64")]
    SignatureLine {
        /// Which line, from 1.
        line: usize,
    },
    /// No signatures, or very many.
    #[error("a signed note has 1 to {MAX_SIGNATURES} signatures, not {0}")]
    Signatures(usize),
}

/// Why a note is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// The key did not sign it.
    #[error("not signed by {name} (key {id:08x})")]
    NotSigned {
        /// The key's name.
        name: String,
        /// The key's id.
        id: u32,
    },
    /// A signature claims to be the key's and is not.
    #[error("the signature of {name} (key {id:08x}) is wrong: text or signature was changed")]
    WrongSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        id: u32,
    },
}

impl Note {
    /// A text signed by one key, the signature made elsewhere and checked here.
    ///
    /// # Errors
    ///
    /// [`NotVerified::WrongSignature`] where `key` did not make `signature` over `text`.
    pub(crate) fn signed(text: String, key: &VerifierKey, signature: &[u8]) -> Result<Self, NotVerified> {
        if !key.verifies(&text, signature) {
            return Err(NotVerified::WrongSignature { name: key.name.clone(), id: key.id() });
        }
        let signature = NoteSignature { name: key.name.clone(), id: key.id(), signature: signature.to_vec() };
        Ok(Self { text, signatures: vec![signature] })
    }

    /// Reads a signed note.
    ///
    /// # Errors
    ///
    /// [`NoteError`] where it is not in the form of the specification.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge(bytes.len()));
        }
        let note = std::str::from_utf8(bytes).map_err(|error| NoteError::Characters { offset: error.valid_up_to() })?;
        if let Some(offset) = note.bytes().position(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Characters { offset });
        }
        // The last blank line separates; the text keeps its own newline.
        let blank = note.rfind("\n\n").ok_or(NoteError::NoBlankLine)?;
        let (text, lines) = note.split_at(blank + 1);
        let lines = lines.strip_prefix('\n').ok_or(NoteError::NoBlankLine)?;
        let first_line = text.matches('\n').count() + 2;
        let Some(lines) = lines.strip_suffix('\n') else {
            // A last line without its newline, or no line at all.
            return Err(if lines.is_empty() {
                NoteError::Signatures(0)
            } else {
                NoteError::SignatureLine { line: first_line + lines.matches('\n').count() }
            });
        };
        let count = lines.split('\n').count();
        if count > MAX_SIGNATURES {
            return Err(NoteError::Signatures(count));
        }
        let signatures = lines
            .split('\n')
            .enumerate()
            .map(|(number, line)| {
                NoteSignature::parse(line).ok_or(NoteError::SignatureLine { line: first_line + number })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text, if this key signed it.
    ///
    /// # Errors
    ///
    /// [`NotVerified`]: signatures of other keys are passed over, and one that claims to be this
    /// key's must verify, even if there is another one that does.
    pub fn verify(&self, key: &VerifierKey) -> Result<&str, NotVerified> {
        let (name, id) = (key.name.clone(), key.id());
        let mut ours = self.signatures.iter().filter(|line| line.name == key.name && line.id == id).peekable();
        if ours.peek().is_none() {
            return Err(NotVerified::NotSigned { name, id });
        }
        if ours.all(|line| key.verifies(&self.text, &line.signature)) {
            Ok(&self.text)
        } else {
            Err(NotVerified::WrongSignature { name, id })
        }
    }

    /// The text, whoever signed it. For showing, never for believing.
    #[must_use]
    pub fn unverified_text(&self) -> &str {
        &self.text
    }

    /// Names and ids of the keys that claim to have signed.
    pub fn signers(&self) -> impl Iterator<Item = (&str, u32)> {
        self.signatures.iter().map(|line| (line.name.as_str(), line.id))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for line in &self.signatures {
            let mut blob = line.id.to_be_bytes().to_vec();
            blob.extend_from_slice(&line.signature);
            writeln!(f, "{SIGNATURE_PREFIX}{} {}", line.name, STANDARD.encode(blob))?;
        }
        Ok(())
    }
}

impl NoteSignature {
    fn parse(line: &str) -> Option<Self> {
        let (name, blob) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
        let blob = STANDARD.decode(blob).ok()?;
        let (id, signature) = blob.split_first_chunk::<4>()?;
        let whole = is_key_name(name) && !signature.is_empty();
        whole.then(|| Self { name: name.to_owned(), id: u32::from_be_bytes(*id), signature: signature.to_vec() })
    }
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}
