//! Certificate signing requests (PKCS#10, RFC 2986): parsed, and the possession of the key proven.
//!
//! A [`Csr`] that exists is DER from its first to its last octet, its key is a [`PublicKey`] that
//! we accept, and that key has signed it. What it may ask for is bounded: names of the kinds that
//! [`Name`] has, key usages, `CA:FALSE`, a subject key identifier and OCSP must-staple. Everything
//! else is refused by name and not dropped in silence (RFC 8555 §7.4).
//!
//! Doors whose requesters' objects say what they want ([`CsrRules::Object`]) read more: every kind of name, `CA:TRUE`,
//! name constraints and the whole subject, each to be compared with the object or judged by profile and policy.
//!
//! A CSR decides nothing. A certificate is built from order, policy and profile; from the CSR comes
//! the public key alone, octet for octet, and never by way of the signature's algorithm.
//!
//! Attributes other than extensionRequest are refused: a challengePassword is a secret that has no
//! use here, and the others (Microsoft's enrolment hints, names in unstructured form) ask for
//! things that would not be granted.

mod elements;
mod extensions;
mod pem;

use der::{
    Decode, Tag, Tagged,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier},
};

pub use self::pem::{NotPem, from_pem};
use self::{
    elements::{elements, exactly, first, object_identifier},
    extensions::Extensions,
};
use crate::{
    chain::NameConstraints,
    distinguished_name::{RequestedSubject, SubjectRejection},
    key::{KeyKind, KeyRejection, PublicKey, SignatureAlgorithm},
    name::{CommonName, Name, NameRejection, NameSet},
    profile::is_common_name,
};

/// Largest CSR that is read, in octets: a hundred names of full length and an RSA-4096 key need less.
pub const CSR_MAX: usize = 64 * 1024;

/// id-at-commonName (RFC 5280 §A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// The digests that nobody should sign with any more, by the OID of their signature algorithms.
const BROKEN_DIGESTS: [(&str, &str); 6] = [
    ("1.2.840.113549.1.1.2", "MD2"),
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
    ("1.2.840.113549.1.1.14", "SHA-224"),
    ("1.2.840.10045.4.3.1", "SHA-224"),
];

/// Why a CSR is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrRejection {
    /// More octets than we read.
    #[error("the CSR has {length} octets, more than the {max} that are read", max = CSR_MAX)]
    TooLarge {
        /// Octets given.
        length: usize,
    },
    /// Not DER of the right shape.
    #[error("the CSR is not DER as RFC 2986 has it: {part} cannot be read")]
    NotDer {
        /// Which part.
        part: &'static str,
    },
    /// Something follows the CSR.
    #[error("octets follow the end of the CSR")]
    TrailingOctets,
    /// Some other version of the format.
    #[error("the CSR is not of version 1 (RFC 2986 §4.1)")]
    Version,
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyRejection),
    /// Signed with a digest that has been broken, or is too short.
    #[error("the CSR is signed with {digest}; sign it with SHA-256 or better")]
    WeakDigest {
        /// The digest.
        digest: &'static str,
    },
    /// Signed with an algorithm that we do not know.
    #[error("the CSR is signed with an algorithm that is not accepted ({oid})")]
    UnsupportedSignature {
        /// Its object identifier.
        oid: String,
    },
    /// A signature algorithm that such a key does not have.
    #[error("a {kind} key cannot sign with {algorithm}")]
    AlgorithmDoesNotFit {
        /// The kind of the key.
        kind: KeyKind,
        /// The algorithm that the CSR names.
        algorithm: SignatureAlgorithm,
    },
    /// The signature is not the key's: no proof of possession.
    #[error("the signature of the CSR does not verify with the key in it")]
    BadSignature,
    /// The attribute that holds a password.
    #[error("the CSR holds a challengePassword; make it without one, nothing here asks for it")]
    ChallengePassword,
    /// Some other attribute.
    #[error("the CSR holds the attribute {oid}; only extensionRequest is read")]
    UnsupportedAttribute {
        /// Its object identifier.
        oid: String,
    },
    /// More than one list of extensions.
    #[error("the CSR has more than one list of extensions")]
    SeveralExtensionRequests,
    /// One extension twice.
    #[error("the extension {extension} is there more than once")]
    DuplicateExtension {
        /// Its name, or its object identifier.
        extension: String,
    },
    /// An extension that will not be in the certificate.
    #[error("the extension {oid} is not granted; ask without it")]
    UnsupportedExtension {
        /// Its object identifier.
        oid: String,
    },
    /// The content of an extension is not what RFC 5280 says.
    #[error("the extension {extension} cannot be read")]
    MalformedExtension {
        /// Its name.
        extension: &'static str,
    },
    /// A CA certificate is asked for.
    #[error("the CSR asks for a CA certificate (basicConstraints CA:TRUE), which is not issued here")]
    AsksForCa,
    /// TLS features other than OCSP must-staple.
    #[error("of the TLS features only status_request (OCSP must-staple) can be asked for")]
    UnsupportedTlsFeature,
    /// A name of a kind that certificates here do not have.
    #[error("names of the kind {kind} are not issued; ask for DNS names, IP addresses or SPIFFE IDs")]
    UnsupportedNameKind {
        /// The kind, as RFC 5280 calls it.
        kind: &'static str,
    },
    /// A name that is none.
    #[error("the name \"{name}\" is refused: {why}")]
    Name {
        /// The name, escaped and cut.
        name: String,
        /// What is wrong with it.
        why: NameRejection,
    },
    /// Too many names.
    #[error(transparent)]
    Names(NameRejection),
    /// More than one common name.
    #[error("the subject has more than one common name")]
    SeveralCommonNames,
    /// A common name that is not text, or text with control characters.
    #[error("the common name is not printable text")]
    CommonName,
    /// A subject that cannot stand in a certificate.
    #[error(transparent)]
    Subject(#[from] SubjectRejection),
    /// Name constraints that cannot be followed.
    #[error("the name constraints cannot be followed: {why}")]
    Constraints {
        /// Why not.
        why: &'static str,
    },
}

/// What a CSR may hold, by the door that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CsrRules {
    /// RFC 8555 §7.4: DNS names, addresses and SPIFFE IDs; of the subject the common name counts; never a CA.
    Acme,
    /// The CSR is part of an object that says what is wanted: names of every kind, a subject that is kept as it is, CA
    /// and name constraints. The object decides.
    Object,
}

/// What a CSR says about the use of the key: an echo for people and for doors that compare it with
/// what they were told. It decides nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RequestedUsages {
    /// Key usages, by RFC 5280's names; `None` without the extension.
    pub key_usages: Option<Vec<&'static str>>,
    /// Extended key usages, as dotted object identifiers; empty without the extension.
    pub extended_key_usages: Vec<String>,
}

/// A certificate signing request whose key has signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    der: Box<[u8]>,
    public_key: PublicKey,
    signature_algorithm: SignatureAlgorithm,
    subject: Subject,
    requested_subject: Option<RequestedSubject>,
    names: Option<NameSet>,
    usages: RequestedUsages,
    must_staple: bool,
    ca: Option<bool>,
    name_constraints: NameConstraints,
}

/// What is kept of the subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Subject {
    says_something: bool,
    common_name: Option<Box<str>>,
}

impl Csr {
    /// Reads a CSR by ACME's rules and verifies that its key has signed it.
    ///
    /// # Errors
    ///
    /// Any [`CsrRejection`]; the costly check, the signature, comes last.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrRejection> {
        Self::from_der_by(der, CsrRules::Acme)
    }

    /// Reads a CSR and verifies that its key has signed it.
    ///
    /// # Errors
    ///
    /// Any [`CsrRejection`]; the costly check, the signature, comes last.
    pub fn from_der_by(der: &[u8], rules: CsrRules) -> Result<Self, CsrRejection> {
        if der.len() > CSR_MAX {
            return Err(CsrRejection::TooLarge { length: der.len() });
        }
        let no = |part| move |_| CsrRejection::NotDer { part };
        let (whole, rest) = first(der).map_err(no("the CSR"))?;
        if !rest.is_empty() {
            return Err(CsrRejection::TrailingOctets);
        }
        let [info, algorithm, signature] = exactly(whole, Tag::Sequence).map_err(no("CertificationRequest"))?;
        let signature = BitStringRef::from_der(signature).map_err(|_| CsrRejection::NotDer { part: "signature" })?;
        let signature = signature.as_bytes().ok_or(CsrRejection::NotDer { part: "signature" })?;
        let [version, subject, spki, attributes] =
            exactly(info, Tag::Sequence).map_err(no("CertificationRequestInfo"))?;
        if version != b"\x02\x01\x00" {
            return Err(CsrRejection::Version);
        }
        let subject_der = subject;
        let subject = Subject::read(subject_der)?;
        let extensions = Extensions::of_attributes(attributes, rules)?;
        let (requested_subject, named) = match rules {
            CsrRules::Acme => (None, subject.names().collect()),
            CsrRules::Object if !subject.says_something => (None, Vec::new()),
            CsrRules::Object => {
                let requested = RequestedSubject::read(subject_der)?;
                let named = named_by(requested.common_name(), &extensions.names)?;
                (Some(requested), named)
            }
        };
        let names = named.into_iter().chain(extensions.names).collect::<Vec<Name>>();
        let names = match NameSet::new(names) {
            Ok(names) => Some(names),
            Err(NameRejection::NoNames) => None,
            Err(why) => return Err(CsrRejection::Names(why)),
        };

        let public_key = PublicKey::from_spki(spki)?;
        let signature_algorithm = read_algorithm(algorithm)?;
        if !signature_algorithm.fits(public_key.kind()) {
            return Err(CsrRejection::AlgorithmDoesNotFit { kind: public_key.kind(), algorithm: signature_algorithm });
        }
        public_key.verify(signature_algorithm, info, signature).map_err(|_| CsrRejection::BadSignature)?;
        Ok(Self {
            der: der.into(),
            public_key,
            signature_algorithm,
            subject,
            requested_subject,
            names,
            usages: extensions.usages,
            must_staple: extensions.must_staple,
            ca: extensions.ca,
            name_constraints: extensions.name_constraints,
        })
    }

    /// The CSR as it came.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key, which has signed the CSR.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The algorithm of the CSR's own signature. It says nothing about the key: a P-384 key may
    /// sign its CSR with SHA-256.
    #[must_use]
    pub const fn signature_algorithm(&self) -> SignatureAlgorithm {
        self.signature_algorithm
    }

    /// The names of the SAN extension and the common name, if that is a DNS name or an IP address
    /// (RFC 8555 §7.4); by [`CsrRules::Object`] any other common name as well, unless it is one of the alternative names
    /// again. `None` if there are none.
    #[must_use]
    pub const fn names(&self) -> Option<&NameSet> {
        self.names.as_ref()
    }

    /// The subject's common name, whether or not it is a name that counts.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.subject.common_name.as_deref()
    }

    /// Whether the subject says nothing: it is empty, as ztunnel sends it, or all its values are,
    /// as Istio's agent sends them.
    #[must_use]
    pub const fn subject_is_empty(&self) -> bool {
        !self.subject.says_something
    }

    /// The subject as it is, by [`CsrRules::Object`]; `None` if it says nothing.
    #[must_use]
    pub const fn requested_subject(&self) -> Option<&RequestedSubject> {
        self.requested_subject.as_ref()
    }

    /// What it says about being a CA's, if it says something.
    #[must_use]
    pub const fn asks_for_ca(&self) -> Option<bool> {
        self.ca
    }

    /// The name constraints that it asks for.
    #[must_use]
    pub const fn requested_name_constraints(&self) -> &NameConstraints {
        &self.name_constraints
    }

    /// Which usages of the key the CSR mentions.
    #[must_use]
    pub const fn requested_usages(&self) -> &RequestedUsages {
        &self.usages
    }

    /// Whether the certificate shall say that OCSP responses must be stapled (RFC 7633).
    #[must_use]
    pub const fn wants_must_staple(&self) -> bool {
        self.must_staple
    }
}

impl Subject {
    fn read(der: &[u8]) -> Result<Self, CsrRejection> {
        let no = |_| CsrRejection::NotDer { part: "subject" };
        let mut subject = Self::default();
        for relative in elements(der, Tag::Sequence).map_err(no)? {
            let pairs = elements(relative, Tag::Set).map_err(no)?;
            // A SET OF is sorted in DER (X.690 §11.6).
            if pairs.is_empty() || !pairs.is_sorted() {
                return Err(CsrRejection::NotDer { part: "subject" });
            }
            for pair in pairs {
                let [kind, value] = exactly(pair, Tag::Sequence).map_err(no)?;
                let kind = object_identifier(kind).map_err(no)?;
                let value = AnyRef::from_der(value).map_err(|_| CsrRejection::NotDer { part: "subject" })?;
                if value.value().is_empty() {
                    continue;
                }
                subject.says_something = true;
                if kind == COMMON_NAME {
                    let text = read_common_name(value)?;
                    if subject.common_name.replace(text.into()).is_some() {
                        return Err(CsrRejection::SeveralCommonNames);
                    }
                }
            }
        }
        Ok(subject)
    }

    /// The common name, if it is one that counts.
    fn names(&self) -> impl Iterator<Item = Name> {
        let text = self.common_name.as_deref().unwrap_or_default();
        Name::ip(text).or_else(|_| Name::dns(text)).ok().into_iter()
    }
}

/// The name that a common name is, where it is none of the alternative names again.
fn named_by(common_name: Option<&str>, alternative_names: &[Name]) -> Result<Vec<Name>, CsrRejection> {
    let Some(text) = common_name else { return Ok(Vec::new()) };
    if alternative_names.iter().any(|name| is_common_name(name, text)) {
        return Ok(Vec::new());
    }
    // One label alone is no host: "payments-ca" is a name of its own.
    let host = Name::ip(text).or_else(|_| Name::dns(text)).ok().filter(|_| text.contains(['.', ':']));
    let own = || CommonName::new(text).map(Name::CommonName);
    let name = host.map_or_else(own, Ok);
    name.map(|name| vec![name]).map_err(|why| CsrRejection::Name { name: text.escape_debug().collect(), why })
}

fn read_common_name(value: AnyRef<'_>) -> Result<&str, CsrRejection> {
    let text = match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => std::str::from_utf8(value.value()).ok(),
        _ => None,
    };
    text.filter(|text| !text.chars().any(char::is_control)).ok_or(CsrRejection::CommonName)
}

fn read_algorithm(der: &[u8]) -> Result<SignatureAlgorithm, CsrRejection> {
    if let Some(algorithm) = SignatureAlgorithm::from_algorithm_identifier_der(der) {
        return Ok(algorithm);
    }
    let part = "signatureAlgorithm";
    let fields = elements(der, Tag::Sequence).map_err(|_| CsrRejection::NotDer { part })?;
    let oid =
        fields.first().and_then(|oid| object_identifier(oid).ok()).ok_or(CsrRejection::NotDer { part })?.to_string();
    match BROKEN_DIGESTS.iter().find(|(broken, _)| *broken == oid) {
        Some((_, digest)) => Err(CsrRejection::WeakDigest { digest }),
        None => Err(CsrRejection::UnsupportedSignature { oid }),
    }
}
