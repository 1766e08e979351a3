//! Profiles: what a certificate of one kind looks like, whatever its names and key.
//!
//! A [`Profile`] is checked once, when it is loaded, and never doubted again. It decides
//! everything that order and public key leave open; a request only echoes it. It does not say
//! *who* may have a certificate: that is policy's business.

mod grant;
mod life;
mod spec;

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::digest;
pub use der::asn1::ObjectIdentifier;
pub use grant::ContentRejection;
pub(crate) use grant::is_common_name;
pub use life::{GrantedValidity, ValidityRejection};
pub(crate) use spec::{ANY_POLICY, reads_as_host, url_fault};
pub use spec::{
    CaSpec, ConstrainedKind, CrlLocation, NotARequestedAttribute, ProfileError, ProfileSpec, RequestedAttribute,
    Retention, SubjectPolicy,
};

pub(crate) use crate::usage::{ANY_EXTENDED_KEY_USAGE, OCSP_SIGNING};
pub use crate::usage::{ExtendedKeyUsage, KeyUsage};
use crate::{
    content::Content,
    distinguished_name::{Attribute, AttributeKind, DistinguishedName},
    key::{KeyKind, PublicKey},
    name::{COMMON_NAME_MAX, Name, NameSet},
    serial::SerialNumber,
    time::Lifetime,
};

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
    /// Other URIs.
    Uri,
    /// E-mail addresses.
    Email,
    /// Names whose kind an object identifier says.
    Other,
    /// Common names that are none of the others.
    CommonName,
}

impl NameKind {
    /// Each of them.
    pub const ALL: [Self; 8] =
        [Self::Dns, Self::Wildcard, Self::Ip, Self::Spiffe, Self::Uri, Self::Email, Self::Other, Self::CommonName];

    /// The kind of this name.
    #[must_use]
    pub const fn of(name: &Name) -> Self {
        match name {
            Name::Dns(_) => Self::Dns,
            Name::Wildcard(_) => Self::Wildcard,
            Name::Ip(_) => Self::Ip,
            Name::Spiffe(_) => Self::Spiffe,
            Name::Uri(_) => Self::Uri,
            Name::Email(_) => Self::Email,
            Name::Other(_) => Self::Other,
            Name::CommonName(_) => Self::CommonName,
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
            Self::Uri => "uri",
            Self::Email => "email",
            Self::Other => "other",
            Self::CommonName => "common-name",
        }
    }
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
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
    /// A workload's certificate holds its SPIFFE ID and no other URI (X509-SVID §2).
    #[error("a certificate with a SPIFFE ID holds no other URI (X509-SVID §2): {uris}", uris = shown(names))]
    UriBesideSpiffeId {
        /// The other URIs.
        names: Vec<Name>,
    },
    /// What is asked for beside names and key is not given.
    #[error(transparent)]
    Content(#[from] ContentRejection),
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
            Self::SeveralSpiffeIds { names } | Self::UriBesideSpiffeId { names } => {
                names.iter().map(|name| (name.clone(), self.to_string())).collect()
            }
            Self::Content(_) | Self::KeyKind { .. } | Self::MustStaple { .. } => Vec::new(),
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
            SubjectPolicy::Empty | SubjectPolicy::CommonNameFromFirstDnsName | SubjectPolicy::Requested => None,
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

    /// What it is for, in one line for people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.spec.description.as_deref()
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

    /// What the certificates of CAs look like, if any may be asked for.
    #[must_use]
    pub const fn ca(&self) -> Option<&CaSpec> {
        self.spec.ca.as_ref()
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

    /// The subject that a certificate for these names has, a Name in DER. A CA's is never empty (RFC 5280 §4.1.2.6):
    /// where nothing else stands in it, its first DNS name does.
    #[must_use]
    pub fn subject(&self, names: &NameSet, content: &Content) -> Vec<u8> {
        if let Some(fixed) = &self.fixed_subject {
            return fixed.der().to_vec();
        }
        match (&self.spec.subject, &content.subject) {
            (SubjectPolicy::Requested, Some(subject)) if !subject.is_empty() => subject.der().to_vec(),
            (SubjectPolicy::CommonNameFromFirstDnsName, _) => named_after(first_dns_name(names)),
            _ if content.is_ca => named_after(first_dns_name(names)),
            _ => named_after(None),
        }
    }

    /// Which of these names the subject is made of; none where it is the same whatever they are.
    #[must_use]
    pub fn name_in_subject<'a>(&self, names: &'a NameSet, content: &Content) -> Option<&'a Name> {
        match self.spec.subject {
            SubjectPolicy::CommonNameFromFirstDnsName => first_dns_name(names),
            SubjectPolicy::Requested => {
                let common_name = content.subject.as_ref().and_then(|subject| subject.common_name());
                let named = common_name.and_then(|text| names.iter().find(|name| is_common_name(name, text)));
                named.or_else(|| first_dns_name(names)).or_else(|| names.iter().next())
            }
            SubjectPolicy::Empty | SubjectPolicy::Fixed(_) => first_dns_name(names).filter(|_| content.is_ca),
        }
    }

    /// Whether the profile issues these names, all of them looked at.
    ///
    /// # Errors
    ///
    /// [`ProfileRejection::NameKinds`], [`ProfileRejection::SeveralSpiffeIds`] and
    /// [`ProfileRejection::UriBesideSpiffeId`].
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
        let uris: Vec<Name> = names.iter().filter(|name| matches!(name, Name::Uri(_))).cloned().collect();
        if !spiffe.is_empty() && !uris.is_empty() {
            return Err(ProfileRejection::UriBesideSpiffeId { names: uris });
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

fn first_dns_name(names: &NameSet) -> Option<&Name> {
    names.iter().find(|name| matches!(name, Name::Dns(_) | Name::Wildcard(_)))
}

/// The name of which this is the common name, if it is not too long for one; else the empty name.
fn named_after(name: Option<&Name>) -> Vec<u8> {
    let text = name.map(ToString::to_string).filter(|text| text.len() <= COMMON_NAME_MAX);
    let attribute = text.and_then(|text| Attribute::new(AttributeKind::CommonName, text).ok());
    let name = attribute.map_or_else(DistinguishedName::empty, |cn| DistinguishedName::new(vec![cn]));
    name.der().to_vec()
}

fn shown(names: &[Name]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Removes what is repeated, keeping the first of each, or says that something was.
fn first_repeated<T: Ord + Clone>(items: &[T]) -> Option<T> {
    let mut seen = BTreeSet::new();
    items.iter().find(|item| !seen.insert(*item)).cloned()
}
