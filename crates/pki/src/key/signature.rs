//! Signature algorithms (RFC 3279, RFC 4055, RFC 5758, RFC 8410) and the verification of signatures.

use std::fmt;

use aws_lc_rs::signature::{self as aws, ParsedPublicKey, VerificationAlgorithm};

use super::{KeyKind, PublicKey};

/// How a signature is made, as an AlgorithmIdentifier says it: the curve is the key's, not the signature's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 4055 §5).
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384 (RFC 4055 §5).
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512 (RFC 4055 §5).
    RsaPkcs1Sha512,
    /// ECDSA with SHA-256 (RFC 5758 §3.2); the signature is the DER of Ecdsa-Sig-Value.
    EcdsaSha256,
    /// ECDSA with SHA-384 (RFC 5758 §3.2).
    EcdsaSha384,
    /// ECDSA with SHA-512 (RFC 5758 §3.2).
    EcdsaSha512,
    /// Ed25519 (RFC 8410 §6).
    Ed25519,
}

/// The signature is not one of this key over these octets with this algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl SignatureAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 7] = [
        Self::RsaPkcs1Sha256,
        Self::RsaPkcs1Sha384,
        Self::RsaPkcs1Sha512,
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::EcdsaSha512,
        Self::Ed25519,
    ];

    /// What we sign with when the key is of this kind: for curves the hash of their strength
    /// (RFC 5480 §4), for RSA SHA-256, which everything can verify.
    #[must_use]
    pub const fn default_for(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => Self::RsaPkcs1Sha256,
            KeyKind::P256 => Self::EcdsaSha256,
            KeyKind::P384 => Self::EcdsaSha384,
            KeyKind::P521 => Self::EcdsaSha512,
            KeyKind::Ed25519 => Self::Ed25519,
        }
    }

    /// Whether a key of this kind can make such signatures.
    #[must_use]
    pub const fn fits(self, kind: KeyKind) -> bool {
        match self {
            Self::RsaPkcs1Sha256 | Self::RsaPkcs1Sha384 | Self::RsaPkcs1Sha512 => kind.is_rsa(),
            Self::EcdsaSha256 | Self::EcdsaSha384 | Self::EcdsaSha512 => {
                matches!(kind, KeyKind::P256 | KeyKind::P384 | KeyKind::P521)
            }
            Self::Ed25519 => matches!(kind, KeyKind::Ed25519),
        }
    }

    /// The AlgorithmIdentifier in DER.
    #[must_use]
    pub const fn algorithm_identifier_der(self) -> &'static [u8] {
        match self {
            Self::RsaPkcs1Sha256 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00",
            Self::RsaPkcs1Sha384 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00",
            Self::RsaPkcs1Sha512 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00",
            Self::EcdsaSha256 => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
            Self::EcdsaSha384 => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03",
            Self::EcdsaSha512 => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04",
            Self::Ed25519 => b"\x30\x05\x06\x03\x2b\x65\x70",
        }
    }

    /// From an AlgorithmIdentifier in DER. RSA may lack its NULL, since RFC 4055 §5 wants both
    /// forms read; `None` for every other algorithm, SHA-1 and MD5 among them.
    #[must_use]
    pub fn from_algorithm_identifier_der(der: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.algorithm_identifier_der() == der).or(match der {
            b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b" => Some(Self::RsaPkcs1Sha256),
            b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c" => Some(Self::RsaPkcs1Sha384),
            b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d" => Some(Self::RsaPkcs1Sha512),
            _ => None,
        })
    }

    /// The implementation for a key of this kind, if they fit.
    fn verification(self, kind: KeyKind) -> Option<&'static dyn VerificationAlgorithm> {
        use KeyKind as K;
        Some(match (self, kind) {
            (Self::RsaPkcs1Sha256, K::Rsa2048 | K::Rsa3072 | K::Rsa4096) => &aws::RSA_PKCS1_2048_8192_SHA256,
            (Self::RsaPkcs1Sha384, K::Rsa2048 | K::Rsa3072 | K::Rsa4096) => &aws::RSA_PKCS1_2048_8192_SHA384,
            (Self::RsaPkcs1Sha512, K::Rsa2048 | K::Rsa3072 | K::Rsa4096) => &aws::RSA_PKCS1_2048_8192_SHA512,
            (Self::EcdsaSha256, K::P256) => &aws::ECDSA_P256_SHA256_ASN1,
            (Self::EcdsaSha384, K::P256) => &aws::ECDSA_P256_SHA384_ASN1,
            (Self::EcdsaSha512, K::P256) => &aws::ECDSA_P256_SHA512_ASN1,
            (Self::EcdsaSha256, K::P384) => &aws::ECDSA_P384_SHA256_ASN1,
            (Self::EcdsaSha384, K::P384) => &aws::ECDSA_P384_SHA384_ASN1,
            (Self::EcdsaSha512, K::P384) => &aws::ECDSA_P384_SHA512_ASN1,
            (Self::EcdsaSha256, K::P521) => &aws::ECDSA_P521_SHA256_ASN1,
            (Self::EcdsaSha384, K::P521) => &aws::ECDSA_P521_SHA384_ASN1,
            (Self::EcdsaSha512, K::P521) => &aws::ECDSA_P521_SHA512_ASN1,
            (Self::Ed25519, K::Ed25519) => &aws::ED25519,
            _ => return None,
        })
    }
}

/// The name that RFC 4055, RFC 5758 and RFC 8410 give it.
impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RsaPkcs1Sha256 => "sha256WithRSAEncryption",
            Self::RsaPkcs1Sha384 => "sha384WithRSAEncryption",
            Self::RsaPkcs1Sha512 => "sha512WithRSAEncryption",
            Self::EcdsaSha256 => "ecdsa-with-SHA256",
            Self::EcdsaSha384 => "ecdsa-with-SHA384",
            Self::EcdsaSha512 => "ecdsa-with-SHA512",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// An algorithm of the curve, to load (and so to check) a point of it.
pub(super) fn curve(kind: KeyKind) -> Option<&'static dyn VerificationAlgorithm> {
    match kind {
        KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => SignatureAlgorithm::default_for(kind).verification(kind),
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 | KeyKind::Ed25519 => None,
    }
}

impl PublicKey {
    /// Verifies a signature over `message`.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if it does not verify, also where algorithm and key do not fit.
    pub fn verify(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let implementation = algorithm.verification(self.kind).ok_or(BadSignature)?;
        let key = ParsedPublicKey::new(implementation, &self.spki).map_err(|_| BadSignature)?;
        key.verify_sig(message, signature).map_err(|_| BadSignature)
    }
}
