//! A profile as it is written down, and the checks that make a [`Profile`](super::Profile) of it.

mod ca;

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
    str::FromStr,
    time::Duration,
};

pub use self::ca::{CaSpec, ConstrainedKind};
use super::{
    ANY_EXTENDED_KEY_USAGE, ExtendedKeyUsage, KeyUsage, NameKind, OCSP_SIGNING, ObjectIdentifier, first_repeated,
};
use crate::{
    distinguished_name::{Attribute, AttributeKind, AttributeType, Escaped, NotAnAttributeType, unescaped},
    key::KeyKind,
    name::DnsName,
    time::Lifetime,
};

/// Longest name of a profile, in octets.
const NAME_MAX: usize = 64;
/// Longest description of a profile, in characters.
const DESCRIPTION_MAX: usize = 200;
/// Longest URL, in octets.
const URL_MAX: usize = 1024;
/// Most items in any list of a profile.
const LIST_MAX: usize = 16;
/// Furthest that a certificate may begin before now.
const BACKDATE_MAX: Duration = Duration::from_secs(24 * 3600);
/// One day, in seconds.
const DAY: u64 = 86_400;
/// One hour, in seconds.
const HOUR: u64 = 3_600;

/// `anyPolicy` (RFC 5280 §4.2.1.4).
pub(crate) const ANY_POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.32.0");

/// What the subject of a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectPolicy {
    /// Nothing: the names are in the SAN, which is critical then.
    Empty,
    /// The first DNS name as common name, if it has at most 64 octets; else nothing.
    CommonNameFromFirstDnsName,
    /// These attributes, in this order, in every certificate.
    Fixed(Vec<Attribute>),
    /// What is asked for, octet for octet; nothing if nothing is. A common name in it is one of the names that policy
    /// judges; the other attributes are those that [`ProfileSpec::requested_attributes`] lists.
    Requested,
}

/// An attribute that may be asked for in a subject: `O=Example Corporation` is given to everybody who may have the
/// profile, `O` with the values that policy allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestedAttribute {
    /// Its type.
    pub kind: AttributeType,
    /// The value that the profile gives; none, where policy says which.
    pub value: Option<String>,
}

/// Why a text is no [`RequestedAttribute`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARequestedAttribute {
    /// Its type is none.
    #[error(transparent)]
    Type(#[from] NotAnAttributeType),
    /// Its value is none.
    #[error("{kind} has no value behind its \"=\", or one that ends in a backslash")]
    Value {
        /// The type.
        kind: AttributeType,
    },
}

impl FromStr for RequestedAttribute {
    type Err = NotARequestedAttribute;

    fn from_str(text: &str) -> Result<Self, NotARequestedAttribute> {
        let Some((kind, value)) = text.split_once('=') else {
            return Ok(Self { kind: text.parse()?, value: None });
        };
        let kind: AttributeType = kind.parse()?;
        match unescaped(value).filter(|value| !value.is_empty()) {
            Some(value) => Ok(Self { kind, value: Some(value) }),
            None => Err(NotARequestedAttribute::Value { kind }),
        }
    }
}

impl fmt::Display for RequestedAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={}", self.kind, Escaped(value)),
            None => write!(f, "{}", self.kind),
        }
    }
}

/// How much is kept about the certificates of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Retention {
    /// The whole record, for audits.
    Full,
    /// A light record: mesh certificates, many and short-lived.
    Light,
}

impl Retention {
    /// As configuration writes it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Light => "light",
        }
    }
}

/// Where CRLs are found (RFC 5280 §4.2.1.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlLocation {
    /// The URL, with [`Self::PLACEHOLDER`] where the shard's number goes.
    pub url: String,
    /// How many shards there are; at least one.
    pub shards: u16,
}

impl CrlLocation {
    /// Stands for the shard's number.
    pub const PLACEHOLDER: &'static str = "{shard}";
}

/// A profile as it is written down: not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileSpec {
    /// Its name, in lower case.
    pub name: String,
    /// What it is for, in one line for people; none says how long its certificates live.
    pub description: Option<String>,
    /// What is given where nothing is asked for.
    pub lifetime: Lifetime,
    /// The longest life, counted from notBefore.
    pub lifetime_max: Lifetime,
    /// The shortest life, counted from notBefore.
    pub lifetime_min: Lifetime,
    /// How far before now a certificate begins.
    pub backdate: Duration,
    /// The kinds of key that it takes.
    pub key_kinds: Vec<KeyKind>,
    /// The kinds of name that it issues.
    pub name_kinds: Vec<NameKind>,
    /// The key usages; each is given to the keys that it fits.
    pub key_usages: Vec<KeyUsage>,
    /// The extended key usages.
    pub extended_key_usages: Vec<ExtendedKeyUsage>,
    /// The key usages that may be asked for, beside those that are given where nothing is asked for.
    pub requested_key_usages: Vec<KeyUsage>,
    /// The extended key usages that may be asked for, likewise.
    pub requested_extended_key_usages: Vec<ExtendedKeyUsage>,
    /// What the certificates of CAs look like, if any may be asked for.
    pub ca: Option<CaSpec>,
    /// The subject.
    pub subject: SubjectPolicy,
    /// The attributes that may be asked for in a subject, beside common names and e-mail addresses, which are names.
    pub requested_attributes: Vec<RequestedAttribute>,
    /// The certificate policies.
    pub policies: Vec<ObjectIdentifier>,
    /// Where the issuer's certificate is found.
    pub ca_issuers: Vec<String>,
    /// Where OCSP is answered.
    pub ocsp: Vec<String>,
    /// Where CRLs are found.
    pub crl: Option<CrlLocation>,
    /// Whether a request may ask for must-staple.
    pub must_staple: bool,
    /// How much is kept.
    pub retention: Retention,
}

impl ProfileSpec {
    /// The default profile: TLS servers, 90 days.
    ///
    /// The longest life is 90 days and one hour, so that a client that asks for an end 90 days
    /// from its own now (cert-manager does) gets it although its clock and ours differ and the
    /// certificate begins a little before now.
    #[must_use]
    pub fn server() -> Self {
        let seconds = |seconds| Lifetime::from_seconds(seconds).expect("between one second and 136 years");
        Self {
            name: "server".to_owned(),
            description: None,
            lifetime: seconds(90 * DAY),
            lifetime_max: seconds(90 * DAY + HOUR),
            lifetime_min: seconds(HOUR),
            backdate: Duration::from_secs(HOUR),
            key_kinds: vec![
                KeyKind::Rsa2048,
                KeyKind::Rsa3072,
                KeyKind::Rsa4096,
                KeyKind::P256,
                KeyKind::P384,
                KeyKind::Ed25519,
            ],
            name_kinds: vec![NameKind::Dns, NameKind::Wildcard, NameKind::Ip],
            key_usages: vec![KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment],
            extended_key_usages: vec![ExtendedKeyUsage::ServerAuth],
            requested_key_usages: Vec::new(),
            requested_extended_key_usages: Vec::new(),
            ca: None,
            subject: SubjectPolicy::Empty,
            requested_attributes: Vec::new(),
            policies: Vec::new(),
            ca_issuers: Vec::new(),
            ocsp: Vec::new(),
            crl: None,
            must_staple: false,
            retention: Retention::Full,
        }
    }
}

/// What is wrong with a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The name cannot be a profile's.
    #[error(
        "a profile's name has 1 to 64 lower-case letters, digits, dots, hyphens and underscores, unlike \"{name}\""
    )]
    Name {
        /// The name, unprintable characters escaped.
        name: String,
    },
    /// The description is no line.
    #[error("a description is one line of 1 to {DESCRIPTION_MAX} characters")]
    Description,
    /// The lives are in the wrong order.
    #[error("lifetime_min {min}, lifetime {given}, lifetime_max {max}: each must be at most the next")]
    Lifetimes {
        /// The shortest.
        min: Lifetime,
        /// The default.
        given: Lifetime,
        /// The longest.
        max: Lifetime,
    },
    /// A certificate would begin too long ago, or be over before it is given.
    #[error(
        "backdate is whole seconds, at most a day, and no longer than lifetime_min, shorter than lifetime; it is {seconds} s"
    )]
    Backdate {
        /// What was given, in seconds.
        seconds: u64,
    },
    /// A list that must say something is empty.
    #[error("{list} is empty")]
    EmptyList {
        /// Which list.
        list: &'static str,
    },
    /// A list is longer than any certificate needs.
    #[error("{list} has {count} items, more than {LIST_MAX}")]
    LongList {
        /// Which list.
        list: &'static str,
        /// How many items.
        count: usize,
    },
    /// Something is there twice.
    #[error("{list} has {item} twice")]
    Repeated {
        /// Which list.
        list: &'static str,
        /// What is repeated.
        item: String,
    },
    /// A key of an allowed kind would have no usage at all.
    #[error("keys of kind {kind:?} would have no key usage: none of key_usages fits them")]
    NoUsage {
        /// The kind of key.
        kind: KeyKind,
    },
    /// An extended key usage that no end entity may have.
    #[error("extended key usage {usage} is not for certificates of this authority: {why}")]
    ExtendedKeyUsage {
        /// Which one.
        usage: ExtendedKeyUsage,
        /// Why not.
        why: &'static str,
    },
    /// A key usage that only CAs have.
    #[error("key usage {usage} is for CAs alone; it is given to those that `ca` describes, without being listed", usage = usage.code())]
    KeyUsageOfCas {
        /// Which one.
        usage: KeyUsage,
    },
    /// A key usage that says nothing without another.
    #[error("key usage {usage} says nothing without keyAgreement (RFC 5280 §4.2.1.3)", usage = usage.code())]
    KeyUsageAlone {
        /// Which one.
        usage: KeyUsage,
    },
    /// A name constraint that is none.
    #[error("ca: {list}: \"{value}\" is no {expected}")]
    Constraint {
        /// Which list.
        list: &'static str,
        /// The value, unprintable characters escaped.
        value: String,
        /// What is expected.
        expected: &'static str,
    },
    /// A kind of name of which a CA that is constrained in others may name everything, without anybody's having said so.
    #[error(
        "ca: other kinds of name are constrained and nothing is said of {kind}, so that this CA could name all there are (RFC 5280 §4.2.1.10); give permitted_{kind}s or excluded_{kind}s, or put \"{kind}\" into forbidden or into unconstrained"
    )]
    Unsaid {
        /// Which kind.
        kind: ConstrainedKind,
    },
    /// A kind of name of which two things are said.
    #[error("ca: {kind} stands in two of forbidden, unconstrained and the lists of its own; keep one")]
    SaidTwice {
        /// Which kind.
        kind: ConstrainedKind,
    },
    /// `anyPolicy` is for CAs.
    #[error("anyPolicy (2.5.29.32.0) says nothing in an end entity's certificate")]
    AnyPolicy,
    /// A fixed common name that reads as a host.
    #[error("the fixed common name \"{value}\" reads as a host name or address; every certificate would claim it")]
    HostAsCommonName {
        /// The common name.
        value: String,
    },
    /// Attributes for subjects that nobody may ask for.
    #[error("requested_attributes says what may be asked for, and only with subject = \"requested\" may a subject be")]
    AttributesUnasked,
    /// An attribute that is a name.
    #[error(
        "{kind} stands for a name that policy judges as one: it may be asked for without being among the requested_attributes"
    )]
    AttributeIsName {
        /// Its type.
        kind: AttributeType,
    },
    /// A URL that cannot stand in a certificate.
    #[error("{list}: \"{url}\" is no http:// URL for a certificate: {why}")]
    Url {
        /// Which list.
        list: &'static str,
        /// The URL, unprintable characters escaped.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Shards and placeholder do not go together.
    #[error("crl: {shards} shards and {placeholders} times {{shard}} in the URL; several shards need it once")]
    Shards {
        /// How many shards.
        shards: u16,
        /// How many placeholders.
        placeholders: usize,
    },
}

/// Checks `spec` and brings the lists whose order says nothing into order.
pub(super) fn check(spec: &mut ProfileSpec) -> Result<(), ProfileError> {
    use ProfileError as E;
    let name_char = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
    if spec.name.is_empty() || spec.name.len() > NAME_MAX || !spec.name.bytes().all(name_char) {
        return Err(E::Name { name: spec.name.escape_debug().collect() });
    }
    let is_line =
        |text: &String| (1..=DESCRIPTION_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if spec.description.as_ref().is_some_and(|text| !is_line(text)) {
        return Err(E::Description);
    }
    let (min, given, max) = (spec.lifetime_min, spec.lifetime, spec.lifetime_max);
    if min > given || given > max {
        return Err(E::Lifetimes { min, given, max });
    }
    let backdate = spec.backdate;
    let over_at_once = backdate > min.duration() || backdate >= given.duration();
    if backdate > BACKDATE_MAX || over_at_once || backdate.subsec_nanos() != 0 {
        return Err(E::Backdate { seconds: backdate.as_secs() });
    }
    check_list("key_kinds", &spec.key_kinds, 1, |kind| format!("{kind:?}"))?;
    check_list("name_kinds", &spec.name_kinds, 1, NameKind::to_string)?;
    check_list("key_usages", &spec.key_usages, 1, |usage| usage.code().to_owned())?;
    check_list("extended_key_usages", &spec.extended_key_usages, 1, ExtendedKeyUsage::to_string)?;
    check_list("requested_key_usages", &spec.requested_key_usages, 0, |usage| usage.code().to_owned())?;
    check_list("requested_extended_key_usages", &spec.requested_extended_key_usages, 0, ExtendedKeyUsage::to_string)?;
    check_list("policies", &spec.policies, 0, ObjectIdentifier::to_string)?;
    check_list("ca_issuers", &spec.ca_issuers, 0, String::clone)?;
    check_list("ocsp", &spec.ocsp, 0, String::clone)?;
    spec.key_kinds.sort_unstable();
    spec.name_kinds.sort_unstable();
    spec.key_usages.sort_unstable();
    spec.requested_key_usages.sort_unstable();
    for usage in spec.key_usages.iter().chain(&spec.requested_key_usages) {
        if usage.is_for_cas() {
            return Err(E::KeyUsageOfCas { usage: *usage });
        }
    }
    for usage in &spec.key_usages {
        let needs_agreement = matches!(usage, KeyUsage::EncipherOnly | KeyUsage::DecipherOnly);
        if needs_agreement && !spec.key_usages.contains(&KeyUsage::KeyAgreement) {
            return Err(E::KeyUsageAlone { usage: *usage });
        }
    }
    for kind in &spec.key_kinds {
        if !spec.key_usages.iter().any(|usage| usage.fits(*kind)) {
            return Err(E::NoUsage { kind: *kind });
        }
    }
    check_purposes(&mut spec.extended_key_usages)?;
    check_purposes(&mut spec.requested_extended_key_usages)?;
    if let Some(ca) = &mut spec.ca {
        ca::check(ca)?;
    }
    if spec.policies.contains(&ANY_POLICY) {
        return Err(E::AnyPolicy);
    }
    if let SubjectPolicy::Fixed(attributes) = &spec.subject {
        check_subject(attributes)?;
    }
    check_list("requested_attributes", &spec.requested_attributes, 0, RequestedAttribute::to_string)?;
    if spec.subject != SubjectPolicy::Requested && !spec.requested_attributes.is_empty() {
        return Err(E::AttributesUnasked);
    }
    if let Some(attribute) = spec.requested_attributes.iter().find(|attribute| attribute.kind.stands_for_a_name()) {
        return Err(E::AttributeIsName { kind: attribute.kind.clone() });
    }
    spec.requested_attributes.sort_unstable();
    for url in &spec.ca_issuers {
        check_url("ca_issuers", url)?;
    }
    for url in &spec.ocsp {
        check_url("ocsp", url)?;
    }
    if let Some(CrlLocation { url, shards }) = &spec.crl {
        let placeholders = url.matches(CrlLocation::PLACEHOLDER).count();
        if *shards == 0 || placeholders > 1 || (*shards > 1 && placeholders == 0) {
            return Err(E::Shards { shards: *shards, placeholders });
        }
        check_url("crl", &url.replace(CrlLocation::PLACEHOLDER, "0"))?;
    }
    Ok(())
}

fn check_purposes(purposes: &mut [ExtendedKeyUsage]) -> Result<(), ProfileError> {
    for usage in purposes {
        *usage = ExtendedKeyUsage::from_oid(usage.oid());
        let why = match usage.oid() {
            ANY_EXTENDED_KEY_USAGE => "it stands for every usage there is",
            OCSP_SIGNING => "whoever has it answers OCSP for the authority",
            _ => continue,
        };
        return Err(ProfileError::ExtendedKeyUsage { usage: *usage, why });
    }
    Ok(())
}

fn check_list<T: Ord + Clone>(
    list: &'static str,
    items: &[T],
    least: usize,
    show: impl Fn(&T) -> String,
) -> Result<(), ProfileError> {
    if items.len() < least {
        return Err(ProfileError::EmptyList { list });
    }
    if items.len() > LIST_MAX {
        return Err(ProfileError::LongList { list, count: items.len() });
    }
    match first_repeated(items) {
        Some(item) => Err(ProfileError::Repeated { list, item: show(&item) }),
        None => Ok(()),
    }
}

fn check_subject(attributes: &[Attribute]) -> Result<(), ProfileError> {
    if attributes.is_empty() {
        return Err(ProfileError::EmptyList { list: "subject" });
    }
    if attributes.len() > LIST_MAX {
        return Err(ProfileError::LongList { list: "subject", count: attributes.len() });
    }
    let common_names = || attributes.iter().filter(|attribute| attribute.kind() == AttributeKind::CommonName);
    if common_names().count() > 1 {
        return Err(ProfileError::Repeated { list: "subject", item: AttributeKind::CommonName.key().to_owned() });
    }
    for attribute in common_names() {
        if reads_as_host(attribute.value()) {
            return Err(ProfileError::HostAsCommonName { value: attribute.value().to_owned() });
        }
    }
    Ok(())
}

/// Whether clients that look at the common name could take it for a host name or an address.
pub(crate) fn reads_as_host(common_name: &str) -> bool {
    let host = common_name.strip_prefix("*.").unwrap_or(common_name);
    host.parse::<IpAddr>().is_ok() || (host.contains('.') && host.parse::<DnsName>().is_ok())
}

/// What is wrong with a URL in a certificate; plain http, since fetching it must not need a
/// certificate (RFC 5280 §8).
pub(crate) fn url_fault(url: &str) -> Option<&'static str> {
    let Some(rest) = url.strip_prefix("http://") else {
        return Some("it begins with http://");
    };
    if url.len() > URL_MAX {
        return Some("it has more than 1024 octets");
    }
    if !url.bytes().all(|c| c.is_ascii_graphic()) || url.contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}']) {
        return Some("it holds a character that a URL cannot (RFC 3986 §2)");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.starts_with(':') {
        return Some("it has no host");
    }
    if authority.contains('@') || url.contains('#') {
        return Some("it holds a user or a fragment");
    }
    None
}

fn check_url(list: &'static str, url: &str) -> Result<(), ProfileError> {
    match url_fault(url) {
        Some(why) => Err(ProfileError::Url { list, url: url.escape_debug().collect(), why }),
        None => Ok(()),
    }
}

/// One line a field, in the order of the type: what [`Profile::hash`](super::Profile::hash) hashes.
pub(super) fn render(spec: &ProfileSpec) -> String {
    let ProfileSpec {
        name,
        // What it says to people changes no certificate.
        description: _,
        lifetime,
        lifetime_max,
        lifetime_min,
        backdate,
        key_kinds,
        name_kinds,
        key_usages,
        extended_key_usages,
        requested_key_usages,
        requested_extended_key_usages,
        ca,
        subject,
        requested_attributes,
        policies,
        ca_issuers,
        ocsp,
        crl,
        must_staple,
        retention,
    } = spec;
    let mut text = String::from("chancery profile v1\n");
    let mut line = |key: &str, value: &dyn fmt::Display| {
        writeln!(text, "{key} {value}").expect("writing to a string does not fail");
    };
    line("name", name);
    line("lifetime", &lifetime.seconds());
    line("lifetime_max", &lifetime_max.seconds());
    line("lifetime_min", &lifetime_min.seconds());
    line("backdate", &backdate.as_secs());
    for kind in key_kinds {
        line("key_kind", &format_args!("{kind:?}"));
    }
    for kind in name_kinds {
        line("name_kind", kind);
    }
    for usage in key_usages {
        line("key_usage", &usage.code());
    }
    for usage in extended_key_usages {
        line("extended_key_usage", &usage.oid());
    }
    // What nobody may ask for is not rendered: profiles keep the hash that they had before this could be said.
    for usage in requested_key_usages {
        line("requested_key_usage", &usage.code());
    }
    for usage in requested_extended_key_usages {
        line("requested_extended_key_usage", &usage.oid());
    }
    if let Some(ca) = ca {
        line("ca", &ca.path_length);
        let constraints = ca.constraints();
        for subtree in constraints.permitted() {
            line("ca_permitted", subtree);
        }
        for subtree in constraints.excluded() {
            line("ca_excluded", subtree);
        }
        for usage in &ca.extended_key_usages {
            line("ca_extended_key_usage", &usage.oid());
        }
    }
    match subject {
        SubjectPolicy::Requested => line("subject", &"requested"),
        SubjectPolicy::Empty => line("subject", &"empty"),
        SubjectPolicy::CommonNameFromFirstDnsName => line("subject", &"common-name-from-first-dns-name"),
        SubjectPolicy::Fixed(attributes) => {
            for attribute in attributes {
                line("subject", &format_args!("{} {}", attribute.kind().key(), attribute.value()));
            }
        }
    }
    for attribute in requested_attributes {
        line("requested_attribute", attribute);
    }
    for policy in policies {
        line("policy", policy);
    }
    for url in ca_issuers {
        line("ca_issuers", url);
    }
    for url in ocsp {
        line("ocsp", url);
    }
    if let Some(CrlLocation { url, shards }) = crl {
        line("crl", &format_args!("{shards} {url}"));
    }
    line("must_staple", must_staple);
    line("retention", &retention.code());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    fn with(change: impl FnOnce(&mut ProfileSpec)) -> Result<Profile, ProfileError> {
        let mut spec = ProfileSpec::server();
        change(&mut spec);
        Profile::new(spec)
    }

    #[test]
    fn the_default_profile_is_sound() {
        let profile = with(|_| ()).expect("sound");
        assert_eq!((profile.name(), profile.lifetime().to_string()), ("server", "90d".to_owned()));
        assert_eq!(profile.key_usages(KeyKind::P256).collect::<Vec<_>>(), [KeyUsage::DigitalSignature]);
        assert_eq!(profile.key_usages(KeyKind::Rsa2048).count(), 2, "keyEncipherment is for RSA");
    }

    #[test]
    fn a_profile_that_no_certificate_could_have_is_refused() {
        use ProfileError as E;
        let oid = |text: &str| text.parse::<ObjectIdentifier>().expect("an OID");
        let life = |seconds| Lifetime::from_seconds(seconds).expect("in range");
        assert!(matches!(with(|s| s.name = "A b".into()), Err(E::Name { .. })));
        for text in ["", "a\nb", &"x".repeat(201)] {
            assert!(matches!(with(|s| s.description = Some(text.to_owned())), Err(E::Description)), "{text:?}");
        }
        let plain = with(|_| ()).expect("sound").hash();
        assert_eq!(with(|s| s.description = Some("Für Server".into())).expect("sound").hash(), plain);
        assert!(matches!(with(|s| s.lifetime = life(91 * DAY)), Err(E::Lifetimes { .. })));
        assert!(matches!(with(|s| s.lifetime_min = life(99 * DAY)), Err(E::Lifetimes { .. })));
        assert!(matches!(with(|s| s.backdate = Duration::from_secs(DAY + 1)), Err(E::Backdate { .. })));
        assert!(matches!(with(|s| s.lifetime_min = life(60)), Err(E::Backdate { .. })));
        let as_long_as_its_life = |s: &mut ProfileSpec| (s.lifetime_min, s.lifetime) = (life(HOUR), life(HOUR));
        assert!(matches!(with(as_long_as_its_life), Err(E::Backdate { .. })));
        assert!(matches!(with(|s| s.key_kinds.clear()), Err(E::EmptyList { list: "key_kinds" })));
        assert!(matches!(with(|s| s.key_kinds.push(KeyKind::P256)), Err(E::Repeated { .. })));
        assert!(matches!(with(|s| s.key_usages = vec![KeyUsage::KeyEncipherment]), Err(E::NoUsage { .. })));
        let any = ExtendedKeyUsage::Other(ANY_EXTENDED_KEY_USAGE);
        assert!(matches!(with(|s| s.extended_key_usages.push(any)), Err(E::ExtendedKeyUsage { .. })));
        let ocsp = ExtendedKeyUsage::Other(OCSP_SIGNING);
        assert!(matches!(with(|s| s.extended_key_usages.push(ocsp)), Err(E::ExtendedKeyUsage { .. })));
        assert!(matches!(with(|s| s.policies = vec![ANY_POLICY]), Err(E::AnyPolicy)));
        assert!(matches!(with(|s| s.policies = vec![oid("1.2.3"); 2]), Err(E::Repeated { .. })));
        assert!(matches!(
            with(|s| s.policies = (0..17).map(|n| oid(&format!("1.2.{n}"))).collect()),
            Err(E::LongList { .. })
        ));
    }

    #[test]
    fn a_fixed_common_name_that_reads_as_a_host_is_refused() {
        let fixed = |value: &str| {
            let attribute = Attribute::new(AttributeKind::CommonName, value).expect("valid");
            with(|s| s.subject = SubjectPolicy::Fixed(vec![attribute]))
        };
        for host in ["www.example.com", "*.example.com", "10.0.0.1", "2001:db8::1", "WWW.example.com"] {
            assert!(matches!(fixed(host), Err(ProfileError::HostAsCommonName { .. })), "{host} was taken");
        }
        assert!(fixed("mesh workload").is_ok());
        let twice = ["one", "two"].map(|value| Attribute::new(AttributeKind::CommonName, value).expect("valid"));
        let several = with(|s| s.subject = SubjectPolicy::Fixed(twice.to_vec()));
        assert!(matches!(several, Err(ProfileError::Repeated { list: "subject", .. })));
    }

    #[test]
    fn a_ca_that_is_constrained_in_one_kind_of_name_says_what_of_each_other() {
        use ConstrainedKind as K;
        let ca = |change: fn(&mut CaSpec)| {
            let mut ca = CaSpec::default();
            change(&mut ca);
            with(|s| s.ca = Some(ca)).map(|profile| profile.ca().expect("it has one").constraints().to_string())
        };
        assert_eq!(ca(|_| ()).as_deref(), Ok("none"), "as free as it says");
        let alone = ca(|ca| ca.permitted_dns = vec!["team.test".to_owned()]);
        assert_eq!(alone, Err(ProfileError::Unsaid { kind: K::Ip }));
        let some = ca(|ca| {
            (ca.permitted_dns, ca.forbidden) = (vec!["team.test".to_owned()], vec![K::Ip, K::Email]);
        });
        assert_eq!(some, Err(ProfileError::Unsaid { kind: K::Uri }));
        let all = ca(|ca| {
            ca.permitted_dns = vec!["team.test".to_owned()];
            (ca.forbidden, ca.unconstrained) = (vec![K::Email, K::Ip], vec![K::Uri]);
        });
        assert_eq!(all.as_deref(), Ok("permitted DNS:team.test, email:invalid; excluded IP:0.0.0.0/0.0.0.0, IP:::/::"));
        let uris = ca(|ca| {
            (ca.permitted_uris, ca.excluded_uris) = (vec![".test".to_owned()], vec!["cluster.local".to_owned()]);
            ca.forbidden = vec![K::Dns, K::Ip, K::Email];
        });
        assert_eq!(
            uris.as_deref(),
            Ok("permitted URI:.test, email:invalid; excluded URI:cluster.local, DNS:, IP:0.0.0.0/0.0.0.0, IP:::/::")
        );
        let twice = ca(|ca| {
            (ca.permitted_uris, ca.forbidden) = (vec!["a.test".to_owned()], K::ALL.to_vec());
        });
        assert_eq!(twice, Err(ProfileError::SaidTwice { kind: K::Uri }));
        let both = ca(|ca| (ca.forbidden, ca.unconstrained) = (K::ALL.to_vec(), vec![K::Dns]));
        assert_eq!(both, Err(ProfileError::SaidTwice { kind: K::Dns }));
        for value in ["A.test", "https://a.test/", "a.test:1", ""] {
            let told = with(|s| {
                let ca = CaSpec {
                    permitted_uris: vec![value.to_owned()],
                    unconstrained: vec![K::Dns, K::Ip, K::Email],
                    ..CaSpec::default()
                };
                s.ca = Some(ca);
            });
            assert!(matches!(told, Err(ProfileError::Constraint { list: "permitted_uris", .. })), "{value}");
        }
    }

    #[test]
    fn attributes_that_may_be_asked_for_are_listed_once_and_only_where_a_subject_may_be_asked_for() {
        let listed = |attributes: &[&str], subject: SubjectPolicy| {
            with(|s| {
                s.subject = subject;
                s.requested_attributes = attributes.iter().map(|text| text.parse().expect("an attribute")).collect();
            })
        };
        let plain = listed(&[], SubjectPolicy::Requested).expect("sound").hash();
        let some = listed(&["O=Example\\, Inc.", "OU"], SubjectPolicy::Requested).expect("sound");
        assert_eq!(some.spec.requested_attributes[0].value.as_deref(), Some("Example, Inc."));
        assert_ne!(some.hash(), plain);
        assert_eq!(listed(&["OU", "O=Example\\, Inc."], SubjectPolicy::Requested).expect("sound").hash(), some.hash());
        assert!(matches!(listed(&["O", "2.5.4.10"], SubjectPolicy::Requested), Err(ProfileError::Repeated { .. })));
        assert!(matches!(listed(&["CN"], SubjectPolicy::Requested), Err(ProfileError::AttributeIsName { .. })));
        let mail = listed(&["1.2.840.113549.1.9.1=a@b.test"], SubjectPolicy::Requested);
        assert!(matches!(mail, Err(ProfileError::AttributeIsName { .. })));
        assert_eq!(listed(&["O"], SubjectPolicy::Empty), Err(ProfileError::AttributesUnasked));
        for text in ["", "X", "O=", "O=a\\", "organization=a"] {
            assert!(text.parse::<RequestedAttribute>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn urls_in_certificates_are_plain_http() {
        for url in ["https://a/", "http://", "http://u@a/", "http://a/#b", "http://a b/", "http://a/\u{e4}", "ldap://a"]
        {
            assert!(matches!(with(|s| s.ocsp = vec![url.into()]), Err(ProfileError::Url { .. })), "{url} was taken");
        }
        assert!(with(|s| s.ocsp = vec!["http://ocsp.example:8080/a?b=c".into()]).is_ok());
    }

    #[test]
    fn several_shards_need_their_place_in_the_url() {
        let crl = |url: &str, shards| with(|s| s.crl = Some(CrlLocation { url: url.into(), shards }));
        assert!(matches!(crl("http://a/crl", 2), Err(ProfileError::Shards { .. })));
        assert!(matches!(crl("http://a/{shard}", 0), Err(ProfileError::Shards { .. })));
        assert!(matches!(crl("http://a/{shard}/{shard}", 2), Err(ProfileError::Shards { .. })));
        let profile = crl("http://a/{shard}.crl", 16).expect("sound");
        assert_eq!(profile.crl_url(15).as_deref(), Some("http://a/15.crl"));
        assert_eq!(profile.crl_url(16), None);
        assert!(crl("http://a/crl", 1).is_ok());
    }

    #[test]
    fn the_hash_depends_on_what_the_profile_says_and_not_on_how_it_was_written() {
        let plain = with(|_| ()).expect("sound").hash();
        assert_eq!(with(|s| s.key_kinds.reverse()).expect("sound").hash(), plain);
        let changes: [fn(&mut ProfileSpec); 7] = [
            |s| s.name = "other".into(),
            |s| s.must_staple = true,
            |s| s.retention = Retention::Light,
            |s| s.ocsp = vec!["http://a/".into()],
            |s| s.ca_issuers = vec!["http://a/".into()],
            |s| s.subject = SubjectPolicy::CommonNameFromFirstDnsName,
            |s| s.backdate = Duration::ZERO,
        ];
        for change in changes {
            assert_ne!(with(change).expect("sound").hash(), plain);
        }
    }
}
