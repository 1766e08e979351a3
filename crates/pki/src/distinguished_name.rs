//! Distinguished names (RFC 5280 §4.1.2.4): written for what we build, compared and shown for what others built.
//!
//! A name that we build has one attribute per RDN, in the order given, and any type as often as
//! wanted. A name that others built is kept as its bytes and never written again.

mod attribute_type;
mod requested;

use std::{collections::BTreeSet, fmt, str::FromStr};

pub use self::{
    attribute_type::{AttributeType, Escaped, NotAnAttributeType, unescaped},
    requested::{RequestedSubject, SubjectRejection},
};
use crate::tlv::{self, Tlv, tag};

/// The attribute types that a name built here can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttributeKind {
    /// `C`: two letters (ISO 3166).
    Country,
    /// `ST`.
    StateOrProvince,
    /// `L`.
    Locality,
    /// `O`.
    Organization,
    /// `OU`.
    OrganizationalUnit,
    /// `CN`.
    CommonName,
    /// `DC`: one label of a domain.
    DomainComponent,
    /// `serialNumber`, of a device or an organization.
    SerialNumber,
}

impl AttributeKind {
    const ALL: [Self; 8] = [
        Self::Country,
        Self::StateOrProvince,
        Self::Locality,
        Self::Organization,
        Self::OrganizationalUnit,
        Self::CommonName,
        Self::DomainComponent,
        Self::SerialNumber,
    ];

    /// The key that RFC 4514 §3 and OpenSSL use.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Country => "C",
            Self::StateOrProvince => "ST",
            Self::Locality => "L",
            Self::Organization => "O",
            Self::OrganizationalUnit => "OU",
            Self::CommonName => "CN",
            Self::DomainComponent => "DC",
            Self::SerialNumber => "serialNumber",
        }
    }

    /// The content octets of the type's object identifier.
    const fn oid(self) -> &'static [u8] {
        match self {
            Self::Country => &[0x55, 4, 6],
            Self::StateOrProvince => &[0x55, 4, 8],
            Self::Locality => &[0x55, 4, 7],
            Self::Organization => &[0x55, 4, 10],
            Self::OrganizationalUnit => &[0x55, 4, 11],
            Self::CommonName => COMMON_NAME,
            Self::DomainComponent => &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
            Self::SerialNumber => &[0x55, 4, 5],
        }
    }

    /// The kind of an object identifier's content octets.
    pub(crate) fn from_oid(oid: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.oid() == oid)
    }

    /// Most characters (RFC 5280 appendix A.1, `ub-…`; a DC is one DNS label).
    pub(crate) const fn longest(self) -> usize {
        match self {
            Self::Country => 2,
            Self::StateOrProvince | Self::Locality => 128,
            Self::Organization | Self::OrganizationalUnit | Self::CommonName | Self::SerialNumber => 64,
            Self::DomainComponent => 63,
        }
    }

    const fn string_tag(self) -> u8 {
        match self {
            Self::Country | Self::SerialNumber => tag::PRINTABLE_STRING,
            Self::DomainComponent => tag::IA5_STRING,
            _ => tag::UTF8_STRING,
        }
    }
}

/// `id-at-commonName`, content octets.
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// `emailAddress` (PKCS#9), content octets.
pub(crate) const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];

/// Why something is not a distinguished name that we would write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DistinguishedNameRejection {
    /// Text that is no row of `KEY=value`.
    #[error("\"{part}\" is not KEY=value with one of C, ST, L, O, OU, CN, DC, serialNumber")]
    NotAnAttribute {
        /// The part.
        part: String,
    },
    /// An attribute without a value.
    #[error("{key} has no value")]
    Empty {
        /// Which attribute.
        key: &'static str,
    },
    /// A value longer than X.520 allows.
    #[error("{key} has {length} characters, more than the {longest} that X.520 allows")]
    TooLong {
        /// Which attribute.
        key: &'static str,
        /// Characters given.
        length: usize,
        /// Characters allowed.
        longest: usize,
    },
    /// A value with a character that has no place in it.
    #[error("{key} holds a character that it cannot: {why}")]
    BadCharacter {
        /// Which attribute.
        key: &'static str,
        /// What is allowed.
        why: &'static str,
    },
}

/// One attribute of a name: checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attribute {
    kind: AttributeKind,
    value: String,
}

impl Attribute {
    /// An attribute of that kind.
    ///
    /// # Errors
    ///
    /// [`DistinguishedNameRejection`] for values that X.520 would not take, and for control
    /// characters and spaces at the ends, which look like something else than they are.
    pub fn new(kind: AttributeKind, value: impl Into<String>) -> Result<Self, DistinguishedNameRejection> {
        use DistinguishedNameRejection as R;
        let (key, value) = (kind.key(), value.into());
        let length = value.chars().count();
        if length == 0 {
            return Err(R::Empty { key });
        }
        if length > kind.longest() {
            return Err(R::TooLong { key, length, longest: kind.longest() });
        }
        if value.chars().any(char::is_control) || value.trim() != value {
            return Err(R::BadCharacter { key, why: "no control characters, no spaces at the ends" });
        }
        let why = match kind {
            AttributeKind::Country if length != 2 || !value.bytes().all(|c| c.is_ascii_uppercase()) => {
                "two capital letters (ISO 3166)"
            }
            AttributeKind::SerialNumber if !value.bytes().all(is_printable) => {
                "letters, digits, spaces and '()+,-./:=? (PrintableString)"
            }
            AttributeKind::DomainComponent
                if !value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_') =>
            {
                "one label of a domain"
            }
            _ => return Ok(Self { kind, value }),
        };
        Err(R::BadCharacter { key, why })
    }

    /// Which attribute it is.
    #[must_use]
    pub const fn kind(&self) -> AttributeKind {
        self.kind
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    fn write_rdn(&self) -> Vec<u8> {
        let oid = tlv::write(tag::OBJECT_IDENTIFIER, self.kind.oid());
        let value = tlv::write(self.kind.string_tag(), self.value.as_bytes());
        let pair = tlv::write_all(tag::SEQUENCE, [&oid[..], &value]);
        tlv::write(tag::SET, &pair)
    }
}

/// The characters of a PrintableString (X.680 §41.4).
pub(crate) const fn is_printable(c: u8) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, b' ' | b'\'' | b'(' | b')' | b'+' | b',' | b'-' | b'.' | b'/' | b':' | b'=' | b'?')
}

/// A name that we write: one attribute per RDN, in order, types repeated as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DistinguishedName {
    attributes: Vec<Attribute>,
    der: Vec<u8>,
}

impl DistinguishedName {
    /// A name of these attributes, in this order; none of them makes the empty name.
    #[must_use]
    pub fn new(attributes: Vec<Attribute>) -> Self {
        let rdns: Vec<u8> = attributes.iter().flat_map(Attribute::write_rdn).collect();
        let der = tlv::write(tag::SEQUENCE, &rdns);
        Self { attributes, der }
    }

    /// The name without attributes.
    #[must_use]
    pub fn empty() -> Self {
        Self::new(Vec::new())
    }

    /// The attributes, in order.
    #[must_use]
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// The Name in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

/// `O=Example, CN=Issuing CA 1`: in the order of the encoding, as OpenSSL prints it.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, attribute) in self.attributes.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}={}", attribute.kind.key(), Escaped(&attribute.value))?;
        }
        Ok(())
    }
}

impl FromStr for DistinguishedName {
    type Err = DistinguishedNameRejection;

    /// Reads `O=Example, CN=Issuing CA 1`, encoded in that order; `\,` is a comma in a value.
    fn from_str(text: &str) -> Result<Self, DistinguishedNameRejection> {
        let mut parts = vec![String::new()];
        let mut escaped = false;
        for c in text.chars() {
            let last = parts.last_mut().expect("starts with one and only grows");
            match c {
                '\\' if !escaped => escaped = true,
                ',' if !escaped => parts.push(String::new()),
                _ => {
                    last.push(c);
                    escaped = false;
                }
            }
        }
        let attributes = parts.iter().map(|part| {
            let not_one = || DistinguishedNameRejection::NotAnAttribute { part: part.trim().escape_debug().collect() };
            let (key, value) = part.split_once('=').ok_or_else(not_one)?;
            let kind = AttributeKind::ALL
                .into_iter()
                .find(|kind| kind.key().eq_ignore_ascii_case(key.trim()))
                .ok_or_else(not_one)?;
            Attribute::new(kind, value.trim())
        });
        attributes.collect::<Result<_, _>>().map(Self::new)
    }
}

/// A Name in DER as a person reads it, values escaped ([`Escaped`]); attribute types that we do not know appear as their
/// OIDs, values that are no text as `#` and their octets in hex (RFC 4514 §2.4).
#[must_use]
pub fn show(name: &[u8]) -> String {
    let mut text = String::new();
    for (oid, string_tag, value) in attributes(name).unwrap_or_default() {
        if !text.is_empty() {
            text.push_str(", ");
        }
        let kind = AttributeType::of(oid);
        text.push_str(&match decode(string_tag, value) {
            Some(value) => format!("{kind}={}", Escaped(&value)),
            None => format!("{kind}=#{}", hex::encode(tlv::write(string_tag, value))),
        });
    }
    if text.is_empty() { "(empty name)".to_owned() } else { text }
}

/// Type (content octets of its OID), string tag and content of an attribute, as they lie in a name.
type RawAttribute<'a> = (&'a [u8], u8, &'a [u8]);

/// Type (OID content), string tag and value content of every attribute, in order.
pub(crate) fn attributes(name: &[u8]) -> Option<Vec<RawAttribute<'_>>> {
    let mut found = Vec::new();
    for rdn in Tlv::read_all(name)?.children()? {
        if rdn.tag != tag::SET {
            return None;
        }
        for pair in rdn.children()? {
            let [oid, value] = pair.children()?[..] else {
                return None;
            };
            found.push((oid.content_of(tag::OBJECT_IDENTIFIER)?, value.tag, value.content));
        }
    }
    Some(found)
}

/// A Name for comparison (RFC 5280 §7.1, as OpenSSL does it): case folded and spaces collapsed in
/// every character string, whatever its type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ComparableName(Vec<BTreeSet<ComparableAttribute>>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum ComparableAttribute {
    /// A character string, folded.
    Text { oid: Vec<u8>, text: String },
    /// Any other value, as it lies.
    Raw { oid: Vec<u8>, value: Vec<u8> },
}

impl ComparableName {
    /// `None` if `name` is not a Name.
    pub(crate) fn read(name: &[u8]) -> Option<Self> {
        let rdns = Tlv::read_all(name).filter(|name| name.tag == tag::SEQUENCE)?.children()?;
        let rdns = rdns.iter().map(|rdn| {
            let pairs = rdn.children()?;
            let pairs = pairs.iter().map(|pair| {
                let [oid, value] = pair.children()?[..] else {
                    return None;
                };
                let oid = oid.content_of(tag::OBJECT_IDENTIFIER)?.to_vec();
                Some(match decode(value.tag, value.content) {
                    Some(text) => ComparableAttribute::Text { oid, text: fold(&text) },
                    None => ComparableAttribute::Raw { oid, value: value.raw.to_vec() },
                })
            });
            pairs.collect()
        });
        rdns.collect::<Option<_>>().map(Self)
    }

    /// Whether `self` lies in the subtree of `base` (RFC 5280 §4.2.1.10): it begins with all of it.
    pub(crate) fn is_within(&self, base: &Self) -> bool {
        self.0.starts_with(&base.0)
    }

    /// Whether there is no attribute at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether two Names are the same (RFC 5280 §7.1).
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    one == other || ComparableName::read(one).is_some_and(|name| Some(name) == ComparableName::read(other))
}

fn decode(string_tag: u8, content: &[u8]) -> Option<String> {
    match string_tag {
        tag::UTF8_STRING => String::from_utf8(content.to_vec()).ok(),
        tag::PRINTABLE_STRING | tag::TELETEX_STRING | tag::IA5_STRING | tag::VISIBLE_STRING => {
            Some(content.iter().copied().map(char::from).collect())
        }
        tag::BMP_STRING => {
            let units = content.chunks(2).map(|pair| match pair {
                [high, low] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            });
            String::from_utf16(&units.collect::<Option<Vec<_>>>()?).ok()
        }
        tag::UNIVERSAL_STRING => {
            let chars = content.chunks(4).map(|four| {
                let four: [u8; 4] = four.try_into().ok()?;
                char::from_u32(u32::from_be_bytes(four))
            });
            chars.collect()
        }
        _ => None,
    }
}

fn fold(text: &str) -> String {
    let words = text.split(|c: char| c.is_ascii_whitespace() || c == '\u{b}').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_order_and_its_repeated_types() {
        let name: DistinguishedName = "DC=org, DC=example, OU=One, OU=Two, CN=A\\, B".parse().expect("valid");
        assert_eq!(name.to_string(), "DC=org, DC=example, OU=One, OU=Two, CN=A\\, B");
        assert_eq!(show(name.der()), "DC=org, DC=example, OU=One, OU=Two, CN=A\\, B");
        assert_eq!(attributes(name.der()).expect("a name").len(), 5);
    }

    #[test]
    fn no_value_can_be_read_as_another_attribute() {
        let name = |attributes: &[(AttributeKind, &str)]| {
            let made = attributes.iter().map(|(kind, value)| Attribute::new(*kind, *value).expect("valid"));
            DistinguishedName::new(made.collect())
        };
        let (one, two) = (AttributeKind::Organization, AttributeKind::OrganizationalUnit);
        let tricky = name(&[(one, "A, OU=B+C=\"D\"")]);
        assert_ne!(show(tricky.der()), show(name(&[(one, "A"), (two, "B")]).der()));
        assert_eq!(show(tricky.der()), "O=A\\, OU\\=B\\+C\\=\\\"D\\\"");
        assert_eq!(tricky.to_string().parse::<DistinguishedName>(), Ok(tricky.clone()));
        let rdn = |value: &[u8]| {
            let pair = tlv::write_all(tag::SEQUENCE, [&tlv::write(tag::OBJECT_IDENTIFIER, COMMON_NAME)[..], value]);
            tlv::write(tag::SEQUENCE, &tlv::write(tag::SET, &pair))
        };
        assert_eq!(show(&rdn(&tlv::write(tag::BMP_STRING, b"\0r\0t"))), "CN=rt");
        assert_eq!(show(&rdn(&tlv::write(tag::UTF8_STRING, b"a\x1b[2J"))), "CN=a\\1B[2J");
        assert_eq!(show(&rdn(&[tag::INTEGER, 1, 7])), "CN=#020107");
    }

    #[test]
    fn a_value_that_looks_like_something_else_is_refused() {
        for text in ["CN=", "C=deu", "C=de", "CN=a\0b", "O=a\nb", "X=1", "no equals sign", "DC=a.b"] {
            assert!(text.parse::<DistinguishedName>().is_err(), "{text:?} was taken");
        }
        assert!(Attribute::new(AttributeKind::CommonName, "a ").is_err());
        assert!(Attribute::new(AttributeKind::CommonName, "ä".repeat(64)).is_ok());
        assert!(Attribute::new(AttributeKind::CommonName, "a".repeat(65)).is_err());
    }

    #[test]
    fn names_compare_without_case_spaces_and_string_types() {
        let ours: DistinguishedName = "O=Example Corp, CN=Root".parse().expect("valid");
        let rdn = |oid: &[u8], string_tag, value: &[u8]| {
            let oid = tlv::write(tag::OBJECT_IDENTIFIER, oid);
            let value = tlv::write(string_tag, value);
            tlv::write(tag::SET, &tlv::write_all(tag::SEQUENCE, [&oid[..], &value]))
        };
        let organization = rdn(&[0x55, 4, 10], tag::TELETEX_STRING, b"  EXAMPLE   corp ");
        let common_name = rdn(COMMON_NAME, tag::BMP_STRING, b"\0r\0O\0O\0T");
        let theirs = tlv::write_all(tag::SEQUENCE, [&organization[..], &common_name]);
        let (ours, theirs) = (ComparableName::read(ours.der()), ComparableName::read(&theirs));
        assert!(ours.is_some());
        assert_eq!(ours, theirs);
    }

    #[test]
    fn a_subtree_holds_what_begins_with_all_of_its_attributes() {
        let read =
            |text: &str| ComparableName::read(text.parse::<DistinguishedName>().expect("valid").der()).expect("a name");
        assert!(read("C=DE, O=Example, CN=x").is_within(&read("C=DE, O=example")));
        assert!(!read("C=DE, OU=a, O=Example").is_within(&read("C=DE, O=Example")));
        assert!(!read("C=DE").is_within(&read("C=DE, O=Example")));
    }
}
