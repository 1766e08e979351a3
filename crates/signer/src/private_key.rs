//! Private keys in memory: made, loaded, used, never shown.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    encoding::{AsBigEndian, AsDer, Curve25519SeedBin, Pkcs8V1Der, PublicKeyX509Der},
    error::Unspecified,
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaKeyPair},
};
use chancery_pki::{KeyKind, PublicKey, SignatureAlgorithm};
use zeroize::Zeroizing;

/// What a key is for. Each key has one role, so that no signature of one kind can pass for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyRole {
    /// Signs certificates, and the CSR by which its own authority is certified.
    Issuing,
    /// Signs the ledger's checkpoints.
    Ledger,
    /// Signs intermediates: the throw-away root of a development machine.
    Root,
    /// Signs nothing: the secrets of EAB keys are derived from it.
    Eab,
}

impl KeyRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Issuing, Self::Ledger, Self::Root, Self::Eab];

    /// Its name in files and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issuing => "issuing",
            Self::Ledger => "ledger",
            Self::Root => "root",
            Self::Eab => "eab",
        }
    }
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the role of a key: issuing, ledger, root or eab")]
pub struct NotAKeyRole;

impl FromStr for KeyRole {
    type Err = NotAKeyRole;

    fn from_str(text: &str) -> Result<Self, NotAKeyRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NotAKeyRole)
    }
}

/// A private key that is ready to sign.
pub struct LoadedKey {
    name: Box<str>,
    role: KeyRole,
    public_key: PublicKey,
    pair: Pair,
}

impl LoadedKey {
    pub(crate) const fn new(name: Box<str>, role: KeyRole, public_key: PublicKey, pair: Pair) -> Self {
        Self { name, role, public_key, pair }
    }

    /// The name by which it is asked for.
    #[must_use]
    pub const fn name(&self) -> &str {
        &self.name
    }

    /// What it is for.
    #[must_use]
    pub const fn role(&self) -> KeyRole {
        self.role
    }

    /// Its public half.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Whether a signature takes so long that it must not be made on a thread that serves others:
    /// RSA takes 0.8 ms and more, the curves take 20 to 120 µs.
    pub(crate) const fn is_slow(&self) -> bool {
        self.public_key.kind().is_rsa()
    }

    /// Whether it makes such signatures: a curve only with the hash of its strength.
    pub(crate) fn makes(&self, algorithm: SignatureAlgorithm) -> bool {
        use SignatureAlgorithm as A;
        match &self.pair {
            Pair::Ecdsa(_, its_own) => algorithm == *its_own,
            Pair::Rsa(_) => matches!(algorithm, A::RsaPkcs1Sha256 | A::RsaPkcs1Sha384 | A::RsaPkcs1Sha512),
            Pair::Ed25519(_) => algorithm == A::Ed25519,
        }
    }

    /// What secrets are derived from: the seed of an Ed25519 key (RFC 8032 §5.1.5). `None` for other keys.
    pub(crate) fn seed(&self) -> Option<Zeroizing<[u8; 32]>> {
        let Pair::Ed25519(pair) = &self.pair else { return None };
        let seed: Curve25519SeedBin<'static> = pair.seed().ok()?.as_be_bytes().ok()?;
        Some(Zeroizing::new(seed.as_ref().try_into().ok()?))
    }

    /// `None` if such a key does not make such signatures, or the library fails.
    pub(crate) fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
        self.pair.sign(algorithm, message)
    }
}

impl fmt::Debug for LoadedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedKey")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("public_key", &self.public_key)
            .finish_non_exhaustive()
    }
}

/// The implementation of each kind; the memory is overwritten by the library when it is freed.
pub(crate) enum Pair {
    Ecdsa(EcdsaKeyPair, SignatureAlgorithm),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Keys of this kind are not made here.
#[derive(Debug)]
pub(crate) enum MakeError {
    Kind,
    Library,
}

impl From<Unspecified> for MakeError {
    fn from(_: Unspecified) -> Self {
        Self::Library
    }
}

impl Pair {
    /// Makes a new key; the library draws from the operating system's generator.
    pub(crate) fn generate(kind: KeyKind) -> Result<Self, MakeError> {
        Ok(match kind {
            KeyKind::Rsa2048 => Self::Rsa(RsaKeyPair::generate(rsa::KeySize::Rsa2048)?),
            KeyKind::Rsa3072 => Self::Rsa(RsaKeyPair::generate(rsa::KeySize::Rsa3072)?),
            KeyKind::Rsa4096 => Self::Rsa(RsaKeyPair::generate(rsa::KeySize::Rsa4096)?),
            KeyKind::P256 | KeyKind::P384 => {
                let (implementation, algorithm) = ecdsa(kind).ok_or(MakeError::Kind)?;
                Self::Ecdsa(EcdsaKeyPair::generate(implementation)?, algorithm)
            }
            KeyKind::Ed25519 => Self::Ed25519(Ed25519KeyPair::generate()?),
            KeyKind::P521 => return Err(MakeError::Kind),
        })
    }

    /// Reads PKCS#8; `None` if it is not such a key.
    pub(crate) fn from_pkcs8(kind: KeyKind, pkcs8: &[u8]) -> Option<Self> {
        Some(match kind {
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => Self::Rsa(RsaKeyPair::from_pkcs8(pkcs8).ok()?),
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => {
                let (implementation, algorithm) = ecdsa(kind)?;
                Self::Ecdsa(EcdsaKeyPair::from_pkcs8(implementation, pkcs8).ok()?, algorithm)
            }
            KeyKind::Ed25519 => Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8).ok()?),
        })
    }

    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
        Ok(Zeroizing::new(match self {
            Self::Ecdsa(pair, _) => pair.to_pkcs8v1()?.as_ref().to_vec(),
            Self::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair)?.as_ref().to_vec(),
            Self::Ed25519(pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
        }))
    }

    /// The public half, checked as strictly as a stranger's.
    pub(crate) fn public_key(&self) -> Option<PublicKey> {
        let spki: PublicKeyX509Der<'_> = match self {
            Self::Ecdsa(pair, _) => pair.public_key().as_der(),
            Self::Rsa(pair) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
        }
        .ok()?;
        PublicKey::from_spki(spki.as_ref()).ok()
    }

    fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
        use SignatureAlgorithm as A;
        let random = SystemRandom::new();
        match (self, algorithm) {
            (Self::Ecdsa(pair, its_own), asked) if *its_own == asked => {
                pair.sign(&random, message).ok().map(|signature| signature.as_ref().to_vec())
            }
            (Self::Ed25519(pair), A::Ed25519) => {
                pair.try_sign(message).ok().map(|signature| signature.as_ref().to_vec())
            }
            (Self::Rsa(pair), A::RsaPkcs1Sha256 | A::RsaPkcs1Sha384 | A::RsaPkcs1Sha512) => {
                let padding: &'static dyn signature::RsaEncoding = match algorithm {
                    A::RsaPkcs1Sha384 => &signature::RSA_PKCS1_SHA384,
                    A::RsaPkcs1Sha512 => &signature::RSA_PKCS1_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).ok().map(|()| signature)
            }
            _ => None,
        }
    }
}

/// The curves that we sign with, each with the one hash of its strength (RFC 5480 §4).
fn ecdsa(kind: KeyKind) -> Option<(&'static EcdsaSigningAlgorithm, SignatureAlgorithm)> {
    let implementation = match kind {
        KeyKind::P256 => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        KeyKind::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        _ => return None,
    };
    Some((implementation, SignatureAlgorithm::default_for(kind)))
}
