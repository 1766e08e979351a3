//! What stands in a key file: who the key is, and the key itself under a passphrase.
//!
//! The passphrase becomes a key by argon2id (RFC 9106); that key encrypts PKCS#8 by AES-256-GCM.
//! Everything else in the file is authenticated with it, so that neither name nor role nor cost
//! can be exchanged. Salt and nonce are new for every file.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use chancery_pki::PublicKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    passphrase::Passphrase,
    private_key::{KeyRole, Pair},
};

/// The one format there is; a later one gets another name.
pub(crate) const FORMAT: &str = "chancery-key-v1";
/// The one derivation of this format.
const DERIVATION: &str = "argon2id";
/// The one cipher of this format.
const CIPHER: &str = "AES-256-GCM";
/// Octets of salt (RFC 9106 §3.1 recommends 16).
const SALT_LEN: usize = 16;
/// Octets of an AES-256 key.
const KEY_LEN: usize = 32;

/// Least memory, in KiB (RFC 9106 §3.1: eight for each lane).
const MEMORY_MIN_KIB: u32 = 8;
/// Most memory that a file can make us take, in KiB: 1 GiB.
const MEMORY_MAX_KIB: u32 = 1024 * 1024;
/// Most passes that a file can make us do.
const PASSES_MAX: u32 = 16;

/// What one guess at the passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
}

/// A cost outside of what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "argon2id takes {MEMORY_MIN_KIB} to {MEMORY_MAX_KIB} KiB and 1 to {PASSES_MAX} passes here, not {memory_kib} KiB and {passes}"
)]
pub struct CostOutOfRange {
    /// Memory asked for, in KiB.
    pub memory_kib: u32,
    /// Passes asked for.
    pub passes: u32,
}

impl Cost {
    /// 64 MiB and three passes (RFC 9106 §4, the second recommended option, with one lane).
    pub const STANDARD: Self = Self { memory_kib: 64 * 1024, passes: 3 };

    /// Some other cost. Tests take a small one.
    ///
    /// # Errors
    ///
    /// [`CostOutOfRange`].
    pub const fn new(memory_kib: u32, passes: u32) -> Result<Self, CostOutOfRange> {
        if memory_kib < MEMORY_MIN_KIB || memory_kib > MEMORY_MAX_KIB || passes == 0 || passes > PASSES_MAX {
            return Err(CostOutOfRange { memory_kib, passes });
        }
        Ok(Self { memory_kib, passes })
    }
}

/// What a file says of its key; true only once the key has been decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) name: Box<str>,
    pub(crate) role: KeyRole,
    pub(crate) public_key: PublicKey,
}

/// A key file's content, checked as far as that goes without the passphrase.
pub(crate) struct Envelope {
    pub(crate) description: Description,
    cost: Cost,
    salt: [u8; SALT_LEN],
    nonce: [u8; NONCE_LEN],
    ciphertext: Vec<u8>,
}

/// A file is not such an envelope.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Json { line: usize, column: usize },
    Format,
    Field(&'static str),
    Cost(CostOutOfRange),
}

/// The key cannot be had out of the envelope, or put into it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CryptoError {
    /// Argon2 could not have its memory.
    Memory,
    /// The library failed.
    Library,
    /// Another passphrase, or an altered file: which of the two cannot be told.
    Authentication,
    /// What was encrypted is not the key that the file speaks of.
    OtherKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    name: String,
    role: String,
    kind: String,
    public_key: String,
    derivation: StoredDerivation,
    cipher: StoredCipher,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredDerivation {
    algorithm: String,
    memory_kib: u32,
    passes: u32,
    salt: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCipher {
    algorithm: String,
    nonce: String,
    ciphertext: String,
}

impl Envelope {
    pub(crate) fn seal(
        description: Description,
        pair: &Pair,
        passphrase: &Passphrase,
        cost: Cost,
    ) -> Result<Self, CryptoError> {
        let mut salt = [0; SALT_LEN];
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut salt).map_err(|_| CryptoError::Library)?;
        rand::fill(&mut nonce).map_err(|_| CryptoError::Library)?;
        let mut envelope = Self { description, cost, salt, nonce, ciphertext: Vec::new() };
        let key = envelope.derive(passphrase)?;
        let mut octets = pair.to_pkcs8().map_err(|_| CryptoError::Library)?;
        // Room for the tag, so that no plain octets are left behind by a reallocation.
        let mut sealed = Zeroizing::new(Vec::with_capacity(octets.len() + AES_256_GCM.tag_len()));
        sealed.append(&mut octets);
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(envelope.authenticated()),
            &mut *sealed,
        )
        .map_err(|_| CryptoError::Library)?;
        envelope.ciphertext = sealed.to_vec();
        Ok(envelope)
    }

    pub(crate) fn open(&self, passphrase: &Passphrase) -> Result<Pair, CryptoError> {
        let key = self.derive(passphrase)?;
        let mut octets = Zeroizing::new(self.ciphertext.clone());
        let plain = key
            .open_in_place(Nonce::assume_unique_for_key(self.nonce), Aad::from(self.authenticated()), &mut octets)
            .map_err(|_| CryptoError::Authentication)?;
        let expected = &self.description.public_key;
        let pair = Pair::from_pkcs8(expected.kind(), plain).ok_or(CryptoError::OtherKey)?;
        if pair.public_key().as_ref() != Some(expected) {
            return Err(CryptoError::OtherKey);
        }
        Ok(pair)
    }

    fn derive(&self, passphrase: &Passphrase) -> Result<LessSafeKey, CryptoError> {
        let Cost { memory_kib, passes } = self.cost;
        let params = Params::new(memory_kib, passes, 1, Some(KEY_LEN)).expect("a cost lies within what argon2 accepts");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        argon2.hash_password_into(passphrase.expose(), &self.salt, &mut *key).map_err(|_| CryptoError::Memory)?;
        UnboundKey::new(&AES_256_GCM, &*key).map(LessSafeKey::new).map_err(|_| CryptoError::Library)
    }

    /// All that is not secret, each part with its length before it, so that no two files that
    /// differ give the same octets.
    fn authenticated(&self) -> Vec<u8> {
        let Self { description, cost, salt, nonce, ciphertext: _ } = self;
        let Description { name, role, public_key } = description;
        let parts: [&[u8]; 10] = [
            FORMAT.as_bytes(),
            name.as_bytes(),
            role.as_str().as_bytes(),
            public_key.kind().as_str().as_bytes(),
            public_key.spki(),
            DERIVATION.as_bytes(),
            &[cost.memory_kib.to_be_bytes(), cost.passes.to_be_bytes()].concat(),
            salt,
            CIPHER.as_bytes(),
            nonce,
        ];
        let mut octets = Vec::new();
        for part in parts {
            let length = u32::try_from(part.len()).expect("the longest part is a public key");
            octets.extend_from_slice(&length.to_be_bytes());
            octets.extend_from_slice(part);
        }
        octets
    }

    pub(crate) fn to_json(&self) -> String {
        let Self { description, cost, salt, nonce, ciphertext } = self;
        let Description { name, role, public_key } = description;
        let stored = Stored {
            format: FORMAT.into(),
            name: name.to_string(),
            role: role.to_string(),
            kind: public_key.kind().to_string(),
            public_key: BASE64_STANDARD.encode(public_key.spki()),
            derivation: StoredDerivation {
                algorithm: DERIVATION.into(),
                memory_kib: cost.memory_kib,
                passes: cost.passes,
                salt: BASE64_STANDARD.encode(salt),
            },
            cipher: StoredCipher {
                algorithm: CIPHER.into(),
                nonce: BASE64_STANDARD.encode(nonce),
                ciphertext: BASE64_STANDARD.encode(ciphertext),
            },
        };
        let mut text = serde_json::to_string_pretty(&stored).expect("texts and numbers alone are always JSON");
        text.push('\n');
        text
    }

    /// Reads a file. What it says in words is never repeated in an error: it might be some other
    /// file, one that holds secrets.
    pub(crate) fn from_json(text: &[u8]) -> Result<Self, Unreadable> {
        let stored: Stored = serde_json::from_slice(text)
            .map_err(|error| Unreadable::Json { line: error.line(), column: error.column() })?;
        let Stored { format, name, role, kind, public_key, derivation, cipher } = stored;
        if format != FORMAT {
            return Err(Unreadable::Format);
        }
        if !is_name(&name) {
            return Err(Unreadable::Field("name"));
        }
        let role: KeyRole = role.parse().map_err(|_| Unreadable::Field("role"))?;
        let spki = decode(&public_key, "public_key")?;
        let public_key = PublicKey::from_spki(&spki).map_err(|_| Unreadable::Field("public_key"))?;
        if public_key.kind().as_str() != kind {
            return Err(Unreadable::Field("kind"));
        }
        let StoredDerivation { algorithm, memory_kib, passes, salt } = derivation;
        if algorithm != DERIVATION {
            return Err(Unreadable::Field("derivation.algorithm"));
        }
        let cost = Cost::new(memory_kib, passes).map_err(Unreadable::Cost)?;
        let salt = decode(&salt, "derivation.salt")?;
        let StoredCipher { algorithm, nonce, ciphertext } = cipher;
        if algorithm != CIPHER {
            return Err(Unreadable::Field("cipher.algorithm"));
        }
        let nonce = decode(&nonce, "cipher.nonce")?;
        Ok(Self {
            description: Description { name: name.into(), role, public_key },
            cost,
            salt: salt.try_into().map_err(|_| Unreadable::Field("derivation.salt"))?,
            nonce: nonce.try_into().map_err(|_| Unreadable::Field("cipher.nonce"))?,
            ciphertext: decode(&ciphertext, "cipher.ciphertext")?,
        })
    }
}

/// Names of keys appear in configuration, logs and file names.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"-_.".contains(&octet))
        && !name.starts_with('.')
}

fn decode(text: &str, field: &'static str) -> Result<Vec<u8>, Unreadable> {
    BASE64_STANDARD.decode(text).map_err(|_| Unreadable::Field(field))
}
