//! Profiles: what a certificate of one kind looks like, whatever its names and key.
//!
//! A [`Profile`] is checked once, when it is loaded, and never doubted again. It decides
//! everything that order and public key leave open; a request only echoes it. It does not say
//! *who* may have a certificate: that is policy's business.

mod life;
mod spec;

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::digest;
pub use der::asn1::ObjectIdentifier;
pub use life::{GrantedValidity, ValidityRejection};
pub(crate) use spec::{ANY_EXTENDED_KEY_USAGE, ANY_POLICY, OCSP_SIGNING, reads_as_host, url_fault};
pub use spec::{CrlLocation, ProfileError, ProfileSpec, Retention, SubjectPolicy};

use crate::{
    distinguished_name::{Attribute, AttributeKind, DistinguishedName},
    key::{KeyKind, PublicKey},
    name::{Name, NameSet},
    serial::SerialNumber,
    time::Lifetime,
};

/// Longest common name, in characters (RFC 5280 appendix A.1, `ub-common-name`).
const COMMON_NAME_MAX: usize = 64;

/// The kinds of name that a profile may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameKind {
    /// Host names.
    Dns,
    /// Wildcards.
    Wildcard,
    /// IP addresses.
    Ip,
    /// SPIFFE IDs.
    Spiffe,
}

impl NameKind {
    /// The kind of this name.
    #[must_use]
    pub const fn of(name: &Name) -> Self {
        match name {
            Name::Dns(_) => Self::Dns,
            Name::Wildcard(_) => Self::Wildcard,
            Name::Ip(_) => Self::Ip,
            Name::Spiffe(_) => Self::Spiffe,
        }
    }

    /// As configuration writes it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Wildcard => "wildcard",
            Self::Ip => "ip",
            Self::Spiffe => "spiffe",
        }
    }
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What a key may be used for (RFC 5280 §4.2.1.3); the usages of CAs are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUsage {
    /// `digitalSignature`: every TLS with forward secrecy.
    DigitalSignature,
    /// `keyEncipherment`: RSA keys alone.
    KeyEncipherment,
    /// `keyAgreement`: EC keys alone.
    KeyAgreement,
}

impl KeyUsage {
    /// Whether a key of that kind can be used so (RFC 3279 §2.3, RFC 5480 §3, RFC 8410 §5).
    #[must_use]
    pub const fn fits(self, kind: KeyKind) -> bool {
        use KeyKind as K;
        match self {
            Self::DigitalSignature => true,
            Self::KeyEncipherment => matches!(kind, K::Rsa2048 | K::Rsa3072 | K::Rsa4096),
            Self::KeyAgreement => matches!(kind, K::P256 | K::P384 | K::P521),
        }
    }

    /// As RFC 5280 writes it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::DigitalSignature => "digitalSignature",
            Self::KeyEncipherment => "keyEncipherment",
            Self::KeyAgreement => "keyAgreement",
        }
    }
}

/// What a certificate may be used for (RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtendedKeyUsage {
    /// `id-kp-serverAuth`: TLS servers.
    ServerAuth,
    /// `id-kp-clientAuth`: TLS clients.
    ClientAuth,
    /// Any other purpose, by its object identifier.
    Other(ObjectIdentifier),
}

impl ExtendedKeyUsage {
    /// The object identifier.
    #[must_use]
    pub const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::ServerAuth => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
            Self::ClientAuth => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"),
            Self::Other(oid) => oid,
        }
    }

    /// The usage that this identifier names.
    #[must_use]
    pub fn from_oid(oid: ObjectIdentifier) -> Self {
        [Self::ServerAuth, Self::ClientAuth].into_iter().find(|usage| usage.oid() == oid).unwrap_or(Self::Other(oid))
    }
}

impl fmt::Display for ExtendedKeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerAuth => f.write_str("serverAuth"),
            Self::ClientAuth => f.write_str("clientAuth"),
            Self::Other(oid) => oid.fmt(f),
        }
    }
}

/// SHA-256 of a profile's canonical rendering: the same for the same profile, whoever loads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileHash(pub [u8; 32]);

impl fmt::Display for ProfileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Why a profile does not fit what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileRejection {
    /// The profile has no names of some kinds.
    #[error("profile \"{profile}\" issues no such names: {count} of those asked for", count = refused.len())]
    NameKinds {
        /// The profile.
        profile: String,
        /// Every name that it does not issue, with its kind.
        refused: Vec<(Name, NameKind)>,
    },
    /// A workload has one SPIFFE ID (X509-SVID §2).
    #[error("a certificate holds one SPIFFE ID (X509-SVID §2), not {count}", count = names.len())]
    SeveralSpiffeIds {
        /// Those that were asked for.
        names: Vec<Name>,
    },
    /// The profile takes no keys of that kind.
    #[error("profile \"{profile}\" takes no keys of kind {kind:?}; it takes {allowed:?}")]
    KeyKind {
        /// The profile.
        profile: String,
        /// The kind that was offered.
        kind: KeyKind,
        /// The kinds that it takes.
        allowed: Vec<KeyKind>,
    },
    /// Must-staple (RFC 7633) was asked for and the profile does not give it.
    #[error("profile \"{profile}\" issues no must-staple certificates (RFC 7633)")]
    MustStaple {
        /// The profile.
        profile: String,
    },
}

impl ProfileRejection {
    /// The names that it is about, each with what is said against it.
    #[must_use]
    pub fn refused_names(&self) -> Vec<(Name, String)> {
        match self {
            Self::NameKinds { profile, refused } => {
                let because = |kind| format!("profile \"{profile}\" issues no names of kind {kind}");
                refused.iter().map(|(name, kind)| (name.clone(), because(kind))).collect()
            }
            Self::SeveralSpiffeIds { names } => names.iter().map(|name| (name.clone(), self.to_string())).collect(),
            Self::KeyKind { .. } | Self::MustStaple { .. } => Vec::new(),
        }
    }
}

/// What a certificate of one kind looks like: checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    spec: ProfileSpec,
    fixed_subject: Option<DistinguishedName>,
    hash: ProfileHash,
}

impl Profile {
    /// Checks a profile.
    ///
    /// # Errors
    ///
    /// [`ProfileError`] for anything that no certificate could have, or that would mean something
    /// else than it says.
    pub fn new(mut spec: ProfileSpec) -> Result<Self, ProfileError> {
        spec::check(&mut spec)?;
        let fixed_subject = match &spec.subject {
            SubjectPolicy::Fixed(attributes) => Some(DistinguishedName::new(attributes.clone())),
            SubjectPolicy::Empty | SubjectPolicy::CommonNameFromFirstDnsName => None,
        };
        let digest = digest::digest(&digest::SHA256, spec::render(&spec).as_bytes());
        let hash = ProfileHash(digest.as_ref().try_into().expect("SHA-256 has 32 octets"));
        Ok(Self { spec, fixed_subject, hash })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What is given where nothing is asked for.
    #[must_use]
    pub const fn lifetime(&self) -> Lifetime {
        self.spec.lifetime
    }

    /// The longest life, counted from notBefore.
    #[must_use]
    pub const fn lifetime_max(&self) -> Lifetime {
        self.spec.lifetime_max
    }

    /// The shortest life, counted from notBefore.
    #[must_use]
    pub const fn lifetime_min(&self) -> Lifetime {
        self.spec.lifetime_min
    }

    /// How far before now a certificate begins, for clocks that are slow.
    #[must_use]
    pub const fn backdate(&self) -> std::time::Duration {
        self.spec.backdate
    }

    /// The kinds of key that it takes, in order.
    #[must_use]
    pub fn key_kinds(&self) -> &[KeyKind] {
        &self.spec.key_kinds
    }

    /// The kinds of name that it issues, in order.
    #[must_use]
    pub fn name_kinds(&self) -> &[NameKind] {
        &self.spec.name_kinds
    }

    /// The key usages that a key of that kind gets.
    pub fn key_usages(&self, kind: KeyKind) -> impl Iterator<Item = KeyUsage> {
        self.spec.key_usages.iter().copied().filter(move |usage| usage.fits(kind))
    }

    /// The extended key usages, in the order of the certificate.
    #[must_use]
    pub fn extended_key_usages(&self) -> &[ExtendedKeyUsage] {
        &self.spec.extended_key_usages
    }

    /// The certificate policies, in the order of the certificate.
    #[must_use]
    pub fn policies(&self) -> &[ObjectIdentifier] {
        &self.spec.policies
    }

    /// Where the issuer's certificate is found (RFC 5280 §4.2.2.1).
    #[must_use]
    pub fn ca_issuers(&self) -> &[String] {
        &self.spec.ca_issuers
    }

    /// Where OCSP is answered.
    #[must_use]
    pub fn ocsp(&self) -> &[String] {
        &self.spec.ocsp
    }

    /// How many CRL shards there are; none without CRLs.
    #[must_use]
    pub fn crl_shards(&self) -> Option<u16> {
        self.spec.crl.as_ref().map(|crl| crl.shards)
    }

    /// The shard that a serial number falls into: the same for ever, since its URL is in the certificate.
    #[must_use]
    pub fn crl_shard(&self, serial: SerialNumber) -> Option<u16> {
        let shards = u128::from(self.crl_shards()?);
        u16::try_from(serial.to_u128() % shards).ok()
    }

    /// The URL of a shard's CRL; `None` for a shard that does not exist.
    #[must_use]
    pub fn crl_url(&self, shard: u16) -> Option<String> {
        let crl = self.spec.crl.as_ref().filter(|crl| shard < crl.shards)?;
        Some(crl.url.replace(CrlLocation::PLACEHOLDER, &shard.to_string()))
    }

    /// Whether a request may ask for must-staple (RFC 7633).
    #[must_use]
    pub const fn may_must_staple(&self) -> bool {
        self.spec.must_staple
    }

    /// How much is kept about its certificates.
    #[must_use]
    pub const fn retention(&self) -> Retention {
        self.spec.retention
    }

    /// SHA-256 of the canonical rendering.
    #[must_use]
    pub const fn hash(&self) -> ProfileHash {
        self.hash
    }

    /// The subject that a certificate for these names has.
    #[must_use]
    pub fn subject(&self, names: &NameSet) -> DistinguishedName {
        if let Some(fixed) = &self.fixed_subject {
            return fixed.clone();
        }
        let text = self.name_in_subject(names).map(ToString::to_string).filter(|text| text.len() <= COMMON_NAME_MAX);
        let attribute = text.and_then(|text| Attribute::new(AttributeKind::CommonName, text).ok());
        attribute.map_or_else(DistinguishedName::empty, |cn| DistinguishedName::new(vec![cn]))
    }

    /// Which of these names the subject is made of; none where it is the same whatever they are.
    #[must_use]
    pub fn name_in_subject<'a>(&self, names: &'a NameSet) -> Option<&'a Name> {
        match self.spec.subject {
            SubjectPolicy::CommonNameFromFirstDnsName => {
                names.iter().find(|name| matches!(name, Name::Dns(_) | Name::Wildcard(_)))
            }
            SubjectPolicy::Empty | SubjectPolicy::Fixed(_) => None,
        }
    }

    /// Whether the profile issues these names, all of them looked at.
    ///
    /// # Errors
    ///
    /// [`ProfileRejection::NameKinds`] and [`ProfileRejection::SeveralSpiffeIds`].
    pub fn check_names(&self, names: &NameSet) -> Result<(), ProfileRejection> {
        let kinds = names.iter().map(|name| (name.clone(), NameKind::of(name)));
        let refused: Vec<(Name, NameKind)> = kinds.filter(|(_, kind)| !self.spec.name_kinds.contains(kind)).collect();
        if !refused.is_empty() {
            return Err(ProfileRejection::NameKinds { profile: self.spec.name.clone(), refused });
        }
        let spiffe: Vec<Name> = names.iter().filter(|name| matches!(name, Name::Spiffe(_))).cloned().collect();
        if spiffe.len() > 1 {
            return Err(ProfileRejection::SeveralSpiffeIds { names: spiffe });
        }
        Ok(())
    }

    /// Whether the profile takes this key.
    ///
    /// # Errors
    ///
    /// [`ProfileRejection::KeyKind`].
    pub fn check_key(&self, key: &PublicKey) -> Result<(), ProfileRejection> {
        let (kind, allowed) = (key.kind(), &self.spec.key_kinds);
        if allowed.contains(&kind) {
            return Ok(());
        }
        Err(ProfileRejection::KeyKind { profile: self.spec.name.clone(), kind, allowed: allowed.clone() })
    }

    /// Whether the profile gives must-staple where it is asked for.
    ///
    /// # Errors
    ///
    /// [`ProfileRejection::MustStaple`].
    pub fn check_must_staple(&self, asked: bool) -> Result<(), ProfileRejection> {
        if asked && !self.spec.must_staple {
            return Err(ProfileRejection::MustStaple { profile: self.spec.name.clone() });
        }
        Ok(())
    }
}

/// Removes what is repeated, keeping the first of each, or says that something was.
fn first_repeated<T: Ord + Clone>(items: &[T]) -> Option<T> {
    let mut seen = BTreeSet::new();
    items.iter().find(|item| !seen.insert(*item)).cloned()
}
