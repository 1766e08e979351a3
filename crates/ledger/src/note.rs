//! Signed notes (C2SP signed-note): a text, a blank line, and who signed it.
//!
//! Ed25519 (signature type 0x01) and nothing else: the specification advises one algorithm, every
//! log tool reads this one, and what a signature says is settled by the key alone. A ledger key on
//! P-256 is therefore not possible.
//!
//! Signing is elsewhere: a text goes out, 64 octets come back ([`Checkpoint::attach`](crate::Checkpoint::attach)).

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The example that golang.org/x/mod/sumdb/note publishes in its documentation and tests.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const LINE: &str =
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn key() -> VerifierKey {
        KEY.parse().expect("the published key")
    }

    fn note(text: &str, lines: &[&str]) -> Vec<u8> {
        format!("{text}\n{}", lines.concat()).into_bytes()
    }

    #[test]
    fn the_published_note_verifies_with_the_published_key() {
        let note = note(TEXT, &[LINE]);
        let read = Note::parse(&note).expect("well formed");
        assert_eq!(read.verify(&key()), Ok(TEXT));
        assert_eq!(read.to_string().into_bytes(), note);
        assert_eq!(read.signers().collect::<Vec<_>>(), [("PeterNeumann", 0xc74f_20a3)]);
    }

    #[test]
    fn a_verifier_key_reads_back_and_its_hash_is_checked() {
        assert_eq!(key().to_string(), KEY);
        for (wrong, error) in [
            (KEY.replace("c74f20a3", "c74f20a4"), "hash"),
            (KEY.replace("c74f20a3", "C74F20A3"), "hash"),
            (KEY.replace("Peter", "Pete"), "hash"),
            (KEY.replace("PeterNeumann", ""), "cannot name"),
            (KEY.replace("PeterNeumann", "Peter Neumann"), "cannot name"),
            (KEY.replace("+AR", "+ZR"), "signature type 0x65"),
            (KEY.replace("10TW", "10T"), "not base64"),
            ("PeterNeumann+c74f20a3+AQ==".to_owned(), "32 octets"),
            ("PeterNeumann+c74f20a3+".to_owned(), "32 octets"),
            ("PeterNeumann".to_owned(), "name+hash+key"),
        ] {
            let said = wrong.parse::<VerifierKey>().expect_err(&wrong).to_string();
            assert!(said.contains(error), "{wrong}: {said}");
        }
    }

    #[test]
    fn a_changed_text_is_not_verified() {
        let changed = Note::parse(&note(&TEXT.replace("your", "my"), &[LINE])).expect("well formed");
        assert!(matches!(changed.verify(&key()), Err(NotVerified::WrongSignature { .. })));
    }

    #[test]
    fn signatures_of_unknown_keys_are_passed_over() {
        let other = LINE.replace("PeterNeumann", "EnochRoot");
        let read = Note::parse(&note(TEXT, &[&other, LINE])).expect("well formed");
        assert_eq!(read.verify(&key()), Ok(TEXT));
        let only_other = Note::parse(&note(TEXT, &[&other])).expect("well formed");
        assert!(matches!(only_other.verify(&key()), Err(NotVerified::NotSigned { .. })));
    }

    #[test]
    fn one_wrong_signature_of_a_known_key_spoils_the_note() {
        let wrong = LINE.replace("nAM=", "nAI=");
        let read = Note::parse(&note(TEXT, &[LINE, &wrong])).expect("well formed");
        assert!(matches!(read.verify(&key()), Err(NotVerified::WrongSignature { .. })));
    }

    #[test]
    fn a_text_may_have_blank_lines_of_its_own() {
        let text = "one\n\ntwo\n";
        let read = Note::parse(&note(text, &[LINE])).expect("well formed");
        assert_eq!(read.unverified_text(), text);
    }

    #[test]
    fn malformed_notes_are_refused_with_their_place() {
        assert_eq!(Note::parse(TEXT.as_bytes()), Err(NoteError::NoBlankLine));
        assert_eq!(Note::parse(&note(TEXT, &[])), Err(NoteError::Signatures(0)));
        assert_eq!(Note::parse(&note(TEXT, &[LINE.trim_end()])), Err(NoteError::SignatureLine { line: 4 }));
        assert_eq!(Note::parse(&note(TEXT, &[LINE, "- Peter AAAAAAAA\n"])), Err(NoteError::SignatureLine { line: 5 }));
        assert_eq!(Note::parse(&note("a\tb\n", &[LINE])), Err(NoteError::Characters { offset: 1 }));
        assert_eq!(Note::parse(b"ab\xff\n\n"), Err(NoteError::Characters { offset: 2 }));
        assert_eq!(Note::parse(&note(TEXT, &[LINE; 65])), Err(NoteError::Signatures(65)));
        assert_eq!(Note::parse(&vec![b'a'; 300_000]), Err(NoteError::TooLarge(300_000)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_verify(bytes: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
            let _ = Note::parse(&bytes);
            let _ = String::from_utf8_lossy(&bytes).parse::<VerifierKey>();
            let mut changed = note(TEXT, &[LINE]);
            let at = at.index(changed.len());
            changed[at] ^= flip;
            if let Ok(read) = Note::parse(&changed) {
                prop_assert!(read.verify(&key()).is_err());
            }
        }
    }
}
