//! Issuing certificates and their chains: what an authority was given, and what that lets it issue.
//!
//! An issuing certificate is read once and kept as its bytes. Its name and key identifier are
//! *copied* into what it issues, never encoded again: one octet of difference and the chain
//! breaks. [`install`] refuses a chain that does not hold; [`Chain::permits`] says, before
//! anything is signed, whether clients would accept a certificate below it.

mod constraints;
mod install;

use std::{fmt, sync::Arc};

pub(crate) use constraints::Breach;
pub use constraints::{NameConstraints, RefusedByRustls, Subtree};
pub use install::{InstallRejection, install};
use x509_parser::{
    extensions::ParsedExtension,
    prelude::{FromDer, X509Certificate, X509Version},
};

use crate::{
    content::Content,
    distinguished_name,
    key::{KeyRejection, PublicKey},
    name::{Name, NameSet},
    profile::{ExtendedKeyUsage, ObjectIdentifier, Profile},
    time::{Timestamp, Validity},
    tlv::{Tlv, tag},
};

/// The extensions that an issuer may have as critical ones: those that we act upon, and those
/// about policies, which bind only clients that ask for a policy.
const UNDERSTOOD: [&[u8]; 12] = [
    &[0x55, 29, 14], // subjectKeyIdentifier
    &[0x55, 29, 15], // keyUsage
    &[0x55, 29, 17], // subjectAltName
    &[0x55, 29, 19], // basicConstraints
    &[0x55, 29, 30], // nameConstraints
    &[0x55, 29, 31], // cRLDistributionPoints
    &[0x55, 29, 32], // certificatePolicies
    &[0x55, 29, 33], // policyMappings
    &[0x55, 29, 35], // authorityKeyIdentifier
    &[0x55, 29, 36], // policyConstraints
    &[0x55, 29, 37], // extKeyUsage
    &[0x55, 29, 54], // inhibitAnyPolicy
];

/// Why a certificate cannot be an issuer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerFault {
    /// Not one certificate in DER.
    #[error("not a certificate in DER: {why}")]
    Unreadable {
        /// What the parser says.
        why: String,
    },
    /// Its key is of no kind that we accept, or weak.
    #[error("its key is refused: {0}")]
    Key(KeyRejection),
    /// Its name is empty, so nothing could be linked to it.
    #[error("its subject is empty (RFC 5280 §4.1.2.6)")]
    EmptySubject,
    /// It has an extension twice.
    #[error("it has extension {oid} twice (RFC 5280 §4.2)")]
    RepeatedExtension {
        /// Which.
        oid: String,
    },
    /// It has a critical extension that we do not act upon.
    #[error("its critical extension {oid} is none that we know (RFC 5280 §4.2)")]
    UnknownCritical {
        /// Which.
        oid: String,
    },
    /// Its name constraints have no meaning.
    #[error("its name constraints cannot be followed: {why}")]
    Constraints {
        /// Why not.
        why: &'static str,
    },
}

/// A certificate of a CA, as it was given to us.
#[derive(Clone)]
pub struct IssuingCertificate {
    der: Vec<u8>,
    tbs: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    key: PublicKey,
    validity: Validity,
    subject_key_identifier: Option<Vec<u8>>,
    authority_key_identifier: Option<Vec<u8>>,
    version_3: bool,
    ca: Option<bool>,
    path_length: Option<u32>,
    signs_certificates: Option<bool>,
    signs_crls: Option<bool>,
    extended_key_usages: Option<Vec<ExtendedKeyUsage>>,
    constraints: NameConstraints,
    self_signed: bool,
}

impl IssuingCertificate {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// [`IssuerFault`]; whether it may *be* an issuer is [`install`]'s question.
    pub fn from_der(der: &[u8]) -> Result<Self, IssuerFault> {
        let unreadable = |why: String| IssuerFault::Unreadable { why };
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(unreadable(format!("{} octets behind it", rest.len())));
        }
        let tbs = &parsed.tbs_certificate;
        if distinguished_name::attributes(tbs.subject.as_raw()).is_none_or(|attributes| attributes.is_empty()) {
            return Err(IssuerFault::EmptySubject);
        }
        let key = PublicKey::from_spki(tbs.subject_pki.raw).map_err(IssuerFault::Key)?;
        let seconds = |time: x509_parser::time::ASN1Time| Timestamp::from_unix_seconds(time.timestamp());
        let validity = Validity::new(seconds(tbs.validity.not_before), seconds(tbs.validity.not_after))
            .map_err(|error| unreadable(error.to_string()))?;
        let mut this = Self {
            der: der.to_vec(),
            tbs: tbs.as_ref().to_vec(),
            subject: tbs.subject.as_raw().to_vec(),
            issuer: tbs.issuer.as_raw().to_vec(),
            key,
            validity,
            subject_key_identifier: None,
            authority_key_identifier: None,
            version_3: tbs.version == X509Version::V3,
            ca: None,
            path_length: None,
            signs_certificates: None,
            signs_crls: None,
            extended_key_usages: None,
            constraints: NameConstraints::default(),
            self_signed: false,
        };
        this.read_extensions(&parsed)?;
        let own_name = distinguished_name::same(&this.subject, &this.issuer);
        this.self_signed = own_name && install::is_signed_by_itself(&this);
        Ok(this)
    }

    fn read_extensions(&mut self, parsed: &X509Certificate<'_>) -> Result<(), IssuerFault> {
        let extensions = parsed.extensions();
        for (at, extension) in extensions.iter().enumerate() {
            let oid = || extension.oid.to_id_string();
            if extensions.iter().take(at).any(|other| other.oid == extension.oid) {
                return Err(IssuerFault::RepeatedExtension { oid: oid() });
            }
            if extension.critical && !UNDERSTOOD.contains(&extension.oid.as_bytes()) {
                return Err(IssuerFault::UnknownCritical { oid: oid() });
            }
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_identifier = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    self.authority_key_identifier = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::BasicConstraints(basic) => {
                    self.ca = Some(basic.ca);
                    self.path_length = basic.path_len_constraint;
                }
                ParsedExtension::KeyUsage(usage) => {
                    self.signs_certificates = Some(usage.key_cert_sign());
                    self.signs_crls = Some(usage.crl_sign());
                }
                ParsedExtension::ExtendedKeyUsage(_) => {
                    self.extended_key_usages = Some(read_usages(extension.value).ok_or_else(|| {
                        IssuerFault::Unreadable { why: "its extended key usages cannot be read".to_owned() }
                    })?);
                }
                ParsedExtension::NameConstraints(_) => {
                    let read = NameConstraints::read(extension.value);
                    self.constraints = read.map_err(|why| IssuerFault::Constraints { why })?;
                }
                ParsedExtension::ParseError { .. } if UNDERSTOOD.contains(&extension.oid.as_bytes()) => {
                    return Err(IssuerFault::Unreadable { why: format!("extension {} cannot be read", oid()) });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The certificate in DER, as it was given.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its subject, the Name in DER as it lies in the certificate.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// Its issuer's Name, likewise.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// Its public key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// From when to when it holds.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The subject key identifier, as it lies in the certificate.
    #[must_use]
    pub fn subject_key_identifier(&self) -> Option<&[u8]> {
        self.subject_key_identifier.as_deref()
    }

    /// The key identifier that certificates below it name (RFC 5280 §4.2.1.1): its own, copied;
    /// where it has none, one derived from its key.
    #[must_use]
    pub fn key_identifier(&self) -> Vec<u8> {
        self.subject_key_identifier.clone().unwrap_or_else(|| crate::tbs::key_identifier(&self.key))
    }

    /// Whether it says that it is a CA's.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.ca == Some(true)
    }

    /// How many CAs may lie between it and an end entity.
    #[must_use]
    pub const fn path_length(&self) -> Option<u32> {
        self.path_length
    }

    /// Whether its key usage allows signing certificates.
    #[must_use]
    pub fn signs_certificates(&self) -> bool {
        self.signs_certificates == Some(true)
    }

    /// Whether its key usage allows signing CRLs.
    #[must_use]
    pub fn signs_crls(&self) -> bool {
        self.signs_crls == Some(true)
    }

    /// What certificates below it may be used for; `None` is no restriction.
    #[must_use]
    pub fn extended_key_usages(&self) -> Option<&[ExtendedKeyUsage]> {
        self.extended_key_usages.as_deref()
    }

    /// Its name constraints.
    #[must_use]
    pub const fn constraints(&self) -> &NameConstraints {
        &self.constraints
    }

    /// Whether it is signed by its own key, under its own name.
    #[must_use]
    pub const fn is_self_signed(&self) -> bool {
        self.self_signed
    }

    /// Whether this one certificate lets such a certificate be issued below it now.
    ///
    /// # Errors
    ///
    /// [`IssuerRefusal`].
    pub fn permits(
        &self,
        names: &NameSet,
        profile: &Profile,
        content: &Content,
        now: Timestamp,
    ) -> Result<(), IssuerRefusal> {
        use IssuerRefusal as R;
        let issuer = || self.to_string();
        if now < self.validity.not_before() {
            return Err(R::NotYetValid { issuer: issuer(), not_before: self.validity.not_before() });
        }
        if !self.validity.contains(now) {
            return Err(R::Expired { issuer: issuer(), not_after: self.validity.not_after() });
        }
        if let Some(allowed) = &self.extended_key_usages {
            for usage in profile.granted_purposes(content) {
                if !allowed.contains(usage) {
                    return Err(R::ExtendedKeyUsage { issuer: issuer(), usage: *usage });
                }
            }
        }
        let refused: Vec<RefusedName> = self
            .constraints
            .breaches(names)
            .map(|(name, breach)| RefusedName {
                issuer: issuer(),
                name: name.clone(),
                excluded: match breach {
                    Breach::NotPermitted => None,
                    Breach::Excluded(subtree) => Some(subtree),
                },
            })
            .collect();
        if !refused.is_empty() {
            return Err(R::Names { refused });
        }
        let subject = profile.subject(names, content);
        self.constraints.check_subject(&subject).map_err(|breach| R::Subject {
            issuer: issuer(),
            subject: distinguished_name::show(&subject),
            excluded: matches!(breach, Breach::Excluded(_)),
        })
    }
}

/// Its subject, as a person reads it.
impl fmt::Display for IssuingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&distinguished_name::show(&self.subject))
    }
}

impl fmt::Debug for IssuingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuingCertificate")
            .field("subject", &self.to_string())
            .field("key", &self.key)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl PartialEq for IssuingCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for IssuingCertificate {}

fn read_usages(value: &[u8]) -> Option<Vec<ExtendedKeyUsage>> {
    let usages = Tlv::read_all(value).filter(|all| all.tag == tag::SEQUENCE)?.children()?;
    let usages = usages.iter().map(|usage| {
        let oid = ObjectIdentifier::from_bytes(usage.content_of(tag::OBJECT_IDENTIFIER)?).ok()?;
        Some(ExtendedKeyUsage::from_oid(oid))
    });
    usages.collect()
}

/// Why an issuer's own certificate, or one above it, does not let a certificate be issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerRefusal {
    /// A certificate of the chain is not valid yet.
    #[error("the certificate of \"{issuer}\" is not valid before {not_before}")]
    NotYetValid {
        /// Whose certificate.
        issuer: String,
        /// From when on it is.
        not_before: Timestamp,
    },
    /// A certificate of the chain has ended.
    #[error("the certificate of \"{issuer}\" ended at {not_after}")]
    Expired {
        /// Whose certificate.
        issuer: String,
        /// When it ended.
        not_after: Timestamp,
    },
    /// Names that the chain's constraints do not let through: all of them.
    #[error("{}", refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Names {
        /// Each once, with the first certificate from below that stands against it.
        refused: Vec<RefusedName>,
    },
    /// The profile's subject breaks a directory name constraint.
    #[error("the subject \"{subject}\" is not one that \"{issuer}\" is permitted (RFC 5280 §4.2.1.10)")]
    Subject {
        /// Whose constraint.
        issuer: String,
        /// The subject.
        subject: String,
        /// Whether it is excluded, rather than outside of what is permitted.
        excluded: bool,
    },
    /// The subject is that of a certificate of the chain: what a CA seems to have issued to itself is bound by no name
    /// constraints and no path length (RFC 5280 §6.1.3, §6.1.4), and speaks in that CA's name.
    #[error("the subject \"{subject}\" is that of the CA above itself; ask for another one")]
    OwnName {
        /// The subject.
        subject: String,
    },
    /// The chain does not allow an extended key usage of the profile.
    #[error("\"{issuer}\" may not issue certificates for {usage}: its own extended key usages do not hold it")]
    ExtendedKeyUsage {
        /// Whose certificate.
        issuer: String,
        /// Which usage.
        usage: ExtendedKeyUsage,
    },
    /// The chain allows no further CA, or not as many below it.
    #[error(
        "\"{issuer}\" allows {allowed} CAs below it (pathLen, RFC 5280 §4.2.1.9), and this CA with what may follow it would need {needed}"
    )]
    PathLength {
        /// Whose certificate.
        issuer: String,
        /// How many it allows.
        allowed: u32,
        /// How many would be needed.
        needed: u32,
    },
}

/// A name that lies outside of what a certificate of the chain permits, or in what it excludes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedName {
    /// The name.
    pub name: Name,
    /// Whose constraint.
    pub issuer: String,
    /// The subtree that is excluded, where it lies in one.
    pub excluded: Option<Subtree>,
}

impl RefusedName {
    /// What is said against it, its name aside.
    #[must_use]
    pub fn because(&self) -> String {
        let Self { name: _, issuer, excluded } = self;
        let what = match excluded {
            None => format!("lies outside the names that \"{issuer}\" is permitted"),
            Some(subtree) => format!("lies in {subtree}, which is excluded for \"{issuer}\""),
        };
        format!("{what} (RFC 5280 §4.2.1.10)")
    }
}

impl fmt::Display for RefusedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.because())
    }
}

/// An issuing certificate and what lies above it; made by [`install`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The issuing certificate first, then each one's issuer; the root is not among them unless
    /// it is the issuing certificate itself.
    certificates: Vec<Arc<IssuingCertificate>>,
    anchor: Option<Arc<IssuingCertificate>>,
}

impl Chain {
    /// The issuing certificate.
    #[must_use]
    pub fn issuing(&self) -> &Arc<IssuingCertificate> {
        self.certificates.first().expect("install makes no chain without an issuing certificate")
    }

    /// What is sent behind a certificate: the issuing certificate, then each one's issuer, without
    /// the root.
    #[must_use]
    pub fn certificates(&self) -> &[Arc<IssuingCertificate>] {
        &self.certificates
    }

    /// The root, where it was given: only then is the topmost signature verified.
    #[must_use]
    pub const fn anchor(&self) -> Option<&Arc<IssuingCertificate>> {
        self.anchor.as_ref()
    }

    /// Whether the issuing certificate is its own root: for development only.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.issuing().is_self_signed()
    }

    /// The end of whichever certificate ends first, the root included.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        let ends = self.all().map(|certificate| certificate.validity().not_after());
        ends.min().unwrap_or(Timestamp::MAX)
    }

    /// Whether such a certificate may be issued below this chain now: validity, name constraints
    /// and extended key usages of every certificate in it, the root included.
    ///
    /// # Errors
    ///
    /// [`IssuerRefusal`], which names whose certificate stands against it.
    pub fn permits(
        &self,
        names: &NameSet,
        profile: &Profile,
        content: &Content,
        now: Timestamp,
    ) -> Result<(), IssuerRefusal> {
        if let Some(ca) = profile.ca().filter(|_| content.is_ca) {
            self.carries_a_ca(u32::from(ca.path_length))?;
        }
        let subject = profile.subject(names, content);
        if self.all().any(|certificate| distinguished_name::same(certificate.subject(), &subject)) {
            return Err(IssuerRefusal::OwnName { subject: distinguished_name::show(&subject) });
        }
        let mut all: Vec<RefusedName> = Vec::new();
        for certificate in self.all() {
            match certificate.permits(names, profile, content, now) {
                Ok(()) => {}
                Err(IssuerRefusal::Names { refused }) => {
                    for name in refused {
                        if all.iter().all(|told| told.name != name.name) {
                            all.push(name);
                        }
                    }
                }
                Err(refusal) => return Err(refusal),
            }
        }
        if all.is_empty() { Ok(()) } else { Err(IssuerRefusal::Names { refused: all }) }
    }

    /// Whether a CA may lie below, with that many further ones below it (RFC 5280 §4.2.1.9).
    fn carries_a_ca(&self, path_length: u32) -> Result<(), IssuerRefusal> {
        let mut needed = path_length.saturating_add(1);
        for certificate in self.all() {
            if let Some(allowed) = certificate.path_length().filter(|allowed| *allowed < needed) {
                return Err(IssuerRefusal::PathLength { issuer: certificate.to_string(), allowed, needed });
            }
            // Certificates that a CA issued to itself do not count.
            if !distinguished_name::same(certificate.subject(), certificate.issuer()) {
                needed = needed.saturating_add(1);
            }
        }
        Ok(())
    }

    /// The certificates of the chain, the root included, below which clients built on rustls refuse what their name
    /// constraints permit.
    pub fn refused_by_rustls(&self) -> impl Iterator<Item = (&IssuingCertificate, RefusedByRustls)> {
        self.all().filter_map(|certificate| Some((&**certificate, certificate.constraints().refused_by_rustls()?)))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<IssuingCertificate>> {
        self.certificates.iter().chain(&self.anchor)
    }
}
