//! Public keys in their one canonical form (RFC 5280 §4.1.2.7); weak ones are refused.
//!
//! A [`PublicKey`] that exists has one encoding only, so that "the same key" is "the same octets":
//! one account per key, block lists and RFC 7638 thumbprints cannot be evaded by writing a key in
//! another way. It is of a size and form that we accept, lies on its curve, and shows none of the
//! weaknesses that can be told from the public half. Keys that are known to others
//! are the business of a configured [`BlockList`].

mod block_list;
mod signature;
mod weakness;

use std::{fmt, str::FromStr};

use aws_lc_rs::{digest, signature::ParsedPublicKey};
use der::{
    Decode, Sequence,
    asn1::{AnyRef, ObjectIdentifier, UintRef},
};
use x509_cert::spki::SubjectPublicKeyInfoRef;

pub use self::{
    block_list::{BlockList, BlockListError},
    signature::{BadSignature, SignatureAlgorithm},
};

/// rsaEncryption (RFC 3279 §2.3.1).
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-RSASSA-PSS (RFC 4055 §3.1).
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
/// id-ecPublicKey (RFC 5480 §2.1.1).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1 (RFC 5480 §2.1.1.1).
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// secp384r1 (RFC 5480 §2.1.1.1).
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// secp521r1 (RFC 5480 §2.1.1.1).
const SECP521R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
/// id-Ed25519 (RFC 8410 §3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The one public exponent, 65537: large enough for every padding, small enough to verify fast
/// (NIST SP 800-56B §6.2, CA/B BR 6.1.6).
const EXPONENT: [u8; 3] = [0x01, 0x00, 0x01];

/// The kinds of key that Chancery accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521.
    P521,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::P256, Self::P384, Self::P521, Self::Ed25519];

    /// Its name in configuration and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
            Self::Rsa4096 => "RSA-4096",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// Whether it is RSA: the only keys that may encipher (keyEncipherment, RFC 5480 §3).
    #[must_use]
    pub const fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }

    /// The template of this kind's SubjectPublicKeyInfo: everything before the part that differs.
    const fn layout(self) -> Layout {
        match self {
            Self::Rsa2048 => Layout {
                // SEQUENCE, AlgorithmIdentifier { rsaEncryption, NULL }, BIT STRING, SEQUENCE, INTEGER
                prefix: b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x01\x0f\x00\x30\x82\x01\x0a\x02\x82\x01\x01\x00",
                width: 256,
                count: 1,
            },
            Self::Rsa3072 => Layout {
                prefix: b"\x30\x82\x01\xa2\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x01\x8f\x00\x30\x82\x01\x8a\x02\x82\x01\x81\x00",
                width: 384,
                count: 1,
            },
            Self::Rsa4096 => Layout {
                prefix: b"\x30\x82\x02\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x02\x0f\x00\x30\x82\x02\x0a\x02\x82\x02\x01\x00",
                width: 512,
                count: 1,
            },
            Self::P256 => Layout {
                // SEQUENCE, AlgorithmIdentifier { id-ecPublicKey, curve }, BIT STRING, uncompressed point
                prefix: b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04",
                width: 32,
                count: 2,
            },
            Self::P384 => Layout {
                prefix: b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04",
                width: 48,
                count: 2,
            },
            Self::P521 => Layout {
                prefix: b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00\x04",
                width: 66,
                count: 2,
            },
            Self::Ed25519 => Layout {
                prefix: b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
                width: 32,
                count: 1,
            },
        }
    }
}

/// How the SubjectPublicKeyInfo of one kind of key is put together. Size, exponent and parameters
/// are fixed for each kind, so nothing but the numbers themselves can differ.
struct Layout {
    prefix: &'static [u8],
    /// Octets of one number.
    width: usize,
    /// How many numbers follow the prefix.
    count: usize,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no kind of key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of key: RSA-2048, RSA-3072, RSA-4096, P-256, P-384, P-521 or Ed25519")]
pub struct NotAKeyKind;

impl FromStr for KeyKind {
    type Err = NotAKeyKind;

    /// Reads a name as [`Self::as_str`] gives it; upper and lower case are the same.
    fn from_str(text: &str) -> Result<Self, NotAKeyKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text)).ok_or(NotAKeyKind)
    }
}

/// Why a public key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRejection {
    /// Not ASN.1 of the right shape, or something follows it.
    #[error("the key is not a SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7)")]
    NotDer,
    /// Readable, but not written in the one way that DER and RFC 5280 leave.
    #[error("the key is not in its canonical encoding")]
    NotCanonical,
    /// Some other algorithm.
    #[error("keys of algorithm {oid} are not accepted; use P-256, P-384, P-521, RSA or Ed25519")]
    UnsupportedAlgorithm {
        /// Its object identifier.
        oid: String,
    },
    /// An RSA key that is bound to RSASSA-PSS.
    #[error("keys bound to RSASSA-PSS are not accepted; use rsaEncryption (RFC 3279 §2.3.1)")]
    RsaPss,
    /// An elliptic curve other than the NIST ones.
    #[error("keys on the curve {oid} are not accepted; use P-256, P-384 or P-521")]
    UnsupportedCurve {
        /// The curve's object identifier.
        oid: String,
    },
    /// The kind of key has no coordinates.
    #[error("{kind} is not an elliptic curve with two coordinates")]
    NotACurve {
        /// The kind that was named.
        kind: KeyKind,
    },
    /// Curve parameters other than one object identifier.
    #[error("an elliptic curve is named by its object identifier, nothing else (RFC 5480 §2.1.1)")]
    CurveNotNamed,
    /// Parameters that the algorithm does not have, or lacks.
    #[error("an RSA key has NULL parameters and an Ed25519 key has none (RFC 3279 §2.3.1, RFC 8410 §3)")]
    Parameters,
    /// A point in compressed or hybrid form, or the point at infinity.
    #[error("an elliptic curve point is written uncompressed (RFC 5480 §2.2) and is not infinity")]
    PointForm,
    /// A number with octets in front that say nothing.
    #[error("the {number} has leading zero octets")]
    LeadingZero {
        /// Which number.
        number: &'static str,
    },
    /// A coordinate with too few or too many octets.
    #[error("a coordinate of {kind} has {expected} octets, not {found}")]
    CoordinateLength {
        /// The kind of key.
        kind: KeyKind,
        /// Octets that it has.
        expected: usize,
        /// Octets that were given.
        found: usize,
    },
    /// The numbers are not those of a point on the curve.
    #[error("the point does not lie on {kind}")]
    NotOnCurve {
        /// The curve.
        kind: KeyKind,
    },
    /// A point of small order: everybody can sign for it.
    #[error("the Ed25519 point has small order, so anybody could sign for it")]
    SmallOrder,
    /// A modulus of a size that we do not take.
    #[error("an RSA modulus has 2048, 3072 or 4096 bits, not {bits}")]
    ModulusSize {
        /// Its size in bits.
        bits: usize,
    },
    /// A public exponent other than 65537.
    #[error("the RSA exponent is 65537, no other")]
    Exponent,
    /// The modulus has a factor that anybody finds.
    #[error("the RSA modulus is divisible by {factor}")]
    SmallFactor {
        /// A prime that divides it.
        factor: u32,
    },
    /// A key of the generator that CVE-2017-15361 is about.
    #[error("the RSA key was made by a broken generator (ROCA, CVE-2017-15361); make a new one elsewhere")]
    Roca,
    /// Fermat's method factors the modulus.
    #[error("the two primes of the RSA key are too close to each other (CVE-2022-26320); make a new one elsewhere")]
    ClosePrimes,
    /// The key is on the block list.
    #[error("the key is on the block list, since others know its private half; make a new one")]
    Blocked,
}

/// SHA-256 of a key's SubjectPublicKeyInfo in DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpkiDigest(pub [u8; 32]);

impl fmt::Display for SpkiDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SpkiDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpkiDigest({self})")
    }
}

/// A public key: checked, and in the one encoding that it can have.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    kind: KeyKind,
    spki: Box<[u8]>,
    digest: SpkiDigest,
}

/// The numbers of a public key, as JSON Web Keys hold them (RFC 7518 §6, RFC 8037 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyParts<'a> {
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa {
        /// The modulus.
        n: &'a [u8],
        /// The exponent.
        e: &'a [u8],
    },
    /// The coordinates, big-endian, as many octets as the curve has.
    Ec {
        /// The x coordinate.
        x: &'a [u8],
        /// The y coordinate.
        y: &'a [u8],
    },
    /// The encoded point (RFC 8032 §5.1.2).
    Ed25519 {
        /// The 32 octets.
        x: &'a [u8],
    },
}

/// RSAPublicKey (RFC 8017 §A.1.1).
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo; what comes out encodes to exactly `der` again.
    ///
    /// # Errors
    ///
    /// Any [`KeyRejection`] but [`KeyRejection::Blocked`].
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyRejection> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| KeyRejection::NotDer)?;
        let parameters = spki.algorithm.parameters;
        let content = spki.subject_public_key.as_bytes().ok_or(KeyRejection::NotDer)?;
        let key = match spki.algorithm.oid {
            RSA_ENCRYPTION => {
                if !parameters.is_some_and(AnyRef::is_null) {
                    return Err(KeyRejection::Parameters);
                }
                let rsa = RsaPublicKey::from_der(content).map_err(|_| KeyRejection::NotDer)?;
                Self::from_rsa(rsa.modulus.as_bytes(), rsa.public_exponent.as_bytes())?
            }
            EC_PUBLIC_KEY => {
                let curve = parameters.ok_or(KeyRejection::CurveNotNamed)?;
                let kind = match curve.decode_as::<ObjectIdentifier>().map_err(|_| KeyRejection::CurveNotNamed)? {
                    SECP256R1 => KeyKind::P256,
                    SECP384R1 => KeyKind::P384,
                    SECP521R1 => KeyKind::P521,
                    other => return Err(KeyRejection::UnsupportedCurve { oid: other.to_string() }),
                };
                let Some((0x04, coordinates)) = content.split_first().map(|(form, rest)| (*form, rest)) else {
                    return Err(KeyRejection::PointForm);
                };
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                Self::from_ec(kind, x, y)?
            }
            ED25519 => {
                if parameters.is_some() {
                    return Err(KeyRejection::Parameters);
                }
                Self::from_ed25519(content)?
            }
            RSASSA_PSS => return Err(KeyRejection::RsaPss),
            other => return Err(KeyRejection::UnsupportedAlgorithm { oid: other.to_string() }),
        };
        // The readers above are strict; this is what the promise rests on even where they are not.
        if *key.spki != *der {
            return Err(KeyRejection::NotCanonical);
        }
        Ok(key)
    }

    /// From the modulus and the exponent, big-endian.
    ///
    /// # Errors
    ///
    /// [`KeyRejection::LeadingZero`] and whatever else concerns RSA keys.
    pub fn from_rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyRejection> {
        for (number, octets) in [("modulus", n), ("exponent", e)] {
            if octets.first() == Some(&0) {
                return Err(KeyRejection::LeadingZero { number });
            }
        }
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        let kind = match bits {
            2048 => KeyKind::Rsa2048,
            3072 => KeyKind::Rsa3072,
            4096 => KeyKind::Rsa4096,
            _ => return Err(KeyRejection::ModulusSize { bits }),
        };
        if e != EXPONENT {
            return Err(KeyRejection::Exponent);
        }
        weakness::check_modulus(n)?;
        Ok(Self::assemble(kind, &[n, b"\x02\x03", &EXPONENT]))
    }

    /// From the coordinates of a point, big-endian, each as wide as the curve has it (RFC 7518 §6.2.1.2).
    ///
    /// # Errors
    ///
    /// [`KeyRejection::NotACurve`], [`KeyRejection::CoordinateLength`], [`KeyRejection::NotOnCurve`].
    pub fn from_ec(kind: KeyKind, x: &[u8], y: &[u8]) -> Result<Self, KeyRejection> {
        let Some(algorithm) = signature::curve(kind) else {
            return Err(KeyRejection::NotACurve { kind });
        };
        let expected = kind.layout().width;
        for coordinate in [x, y] {
            if coordinate.len() != expected {
                return Err(KeyRejection::CoordinateLength { kind, expected, found: coordinate.len() });
            }
        }
        let key = Self::assemble(kind, &[x, y]);
        ParsedPublicKey::new(algorithm, &key.spki).map_err(|_| KeyRejection::NotOnCurve { kind })?;
        Ok(key)
    }

    /// From the encoded point (RFC 8032 §5.1.2).
    ///
    /// # Errors
    ///
    /// [`KeyRejection::CoordinateLength`], [`KeyRejection::NotOnCurve`], [`KeyRejection::SmallOrder`].
    pub fn from_ed25519(x: &[u8]) -> Result<Self, KeyRejection> {
        let kind = KeyKind::Ed25519;
        let point: &[u8; 32] = x.try_into().map_err(|_| KeyRejection::CoordinateLength {
            kind,
            expected: kind.layout().width,
            found: x.len(),
        })?;
        weakness::check_edwards_point(point)?;
        Ok(Self::assemble(kind, &[point]))
    }

    /// INVARIANT: called with numbers of exactly the width that the layout says, after all checks.
    fn assemble(kind: KeyKind, rest: &[&[u8]]) -> Self {
        let prefix = kind.layout().prefix;
        let mut spki = Vec::with_capacity(prefix.len() + rest.iter().map(|part| part.len()).sum::<usize>());
        spki.extend_from_slice(prefix);
        for part in rest {
            spki.extend_from_slice(part);
        }
        let mut octets = [0; 32];
        octets.copy_from_slice(digest::digest(&digest::SHA256, &spki).as_ref());
        Self { kind, spki: spki.into_boxed_slice(), digest: SpkiDigest(octets) }
    }

    /// Which kind of key it is.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`Self::spki`].
    #[must_use]
    pub const fn digest(&self) -> SpkiDigest {
        self.digest
    }

    /// The content of the BIT STRING subjectPublicKey: what RFC 5280 §4.2.1.2 (1) hashes into a key identifier.
    #[must_use]
    pub fn subject_public_key(&self) -> &[u8] {
        let Layout { prefix, .. } = self.kind.layout();
        // Before the numbers stand, inside the BIT STRING: nothing (Ed25519), the form octet (EC),
        // or the headers of SEQUENCE and INTEGER and its sign octet, 4 + 4 + 1 octets (RSA).
        let inside = match self.kind {
            KeyKind::Ed25519 => 0,
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => 1,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => 9,
        };
        self.spki.get(prefix.len() - inside..).unwrap_or_default()
    }

    /// The numbers of the key.
    #[must_use]
    pub fn parts(&self) -> KeyParts<'_> {
        let Layout { prefix, width, count } = self.kind.layout();
        let numbers = self.spki.get(prefix.len()..prefix.len() + width * count).unwrap_or_default();
        match self.kind {
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => KeyParts::Rsa { n: numbers, e: &EXPONENT },
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => {
                let (x, y) = numbers.split_at(width);
                KeyParts::Ec { x, y }
            }
            KeyKind::Ed25519 => KeyParts::Ed25519 { x: numbers },
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kind", &self.kind).field("digest", &self.digest).finish_non_exhaustive()
    }
}
