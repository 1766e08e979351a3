//! Subjects as requesters write them: looked at, and kept octet for octet.

use std::fmt;

use der::asn1::ObjectIdentifier;

use super::{AttributeKind, AttributeType, COMMON_NAME, EMAIL_ADDRESS, Escaped, is_printable};
use crate::{
    name::hides,
    tlv::{Tlv, tag},
};

/// Most octets of a subject.
const OCTETS_MAX: usize = 4096;
/// Most attributes.
const ATTRIBUTES_MAX: usize = 32;
/// Most characters of a value of which X.520 says nothing to us.
const VALUE_MAX: usize = 256;

/// Why a requester's subject is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectRejection {
    /// Not a Name in DER.
    #[error("the subject is not a Name in DER (RFC 5280 §4.1.2.4)")]
    NotAName,
    /// More than we read.
    #[error("the subject has {octets} octets and {attributes} attributes; {OCTETS_MAX} and {ATTRIBUTES_MAX} are read")]
    TooLarge {
        /// Octets given.
        octets: usize,
        /// Attributes given.
        attributes: usize,
    },
    /// A value of another type than a UTF8String, PrintableString or IA5String, or not of its type.
    #[error("the subject's {key} is no UTF8String, PrintableString or IA5String, or holds what its type cannot")]
    StringType {
        /// Which attribute.
        key: String,
    },
    /// A value that looks like something else than it is.
    #[error("the subject's {key} is empty, has spaces at its ends, or holds a character that cannot be seen")]
    Characters {
        /// Which attribute.
        key: String,
    },
    /// A value longer than X.520 allows.
    #[error("the subject's {key} has {length} characters, more than {longest}")]
    TooLong {
        /// Which attribute.
        key: String,
        /// Characters given.
        length: usize,
        /// Characters allowed.
        longest: usize,
    },
    /// A country that is none.
    #[error("the subject's C is not two capital letters (ISO 3166)")]
    Country,
    /// More than one common name.
    #[error("the subject has more than one common name")]
    SeveralCommonNames,
}

/// A subject as a requester wrote it: attributes of any type, several in one RDN too, in their order and encoding.
///
/// It says nothing about who it is for: a common name in it must be among the names that policy judges.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestedSubject {
    der: Box<[u8]>,
    attributes: Vec<(AttributeType, Box<str>)>,
    common_name: Option<Box<str>>,
    email_addresses: Vec<Box<str>>,
}

impl RequestedSubject {
    /// Looks at a Name in DER.
    ///
    /// # Errors
    ///
    /// [`SubjectRejection`].
    pub fn read(name: &[u8]) -> Result<Self, SubjectRejection> {
        use SubjectRejection as R;
        let rdns = Tlv::read_all(name).filter(|name| name.tag == tag::SEQUENCE).and_then(|name| name.children());
        let mut attributes = Vec::new();
        for rdn in rdns.ok_or(R::NotAName)? {
            let pairs = rdn.children().filter(|pairs| rdn.tag == tag::SET && !pairs.is_empty()).ok_or(R::NotAName)?;
            // A SET OF is sorted in DER (X.690 §11.6).
            if !pairs.is_sorted_by_key(|pair| pair.raw) || !rdn.shortest_length {
                return Err(R::NotAName);
            }
            for pair in pairs {
                match pair.children().as_deref() {
                    Some([oid, value]) if pair.tag == tag::SEQUENCE && pair.shortest_length => {
                        attributes.push((oid.content_of(tag::OBJECT_IDENTIFIER).ok_or(R::NotAName)?, *value));
                    }
                    _ => return Err(R::NotAName),
                }
            }
        }
        if name.len() > OCTETS_MAX || attributes.len() > ATTRIBUTES_MAX {
            return Err(R::TooLarge { octets: name.len(), attributes: attributes.len() });
        }
        let mut subject =
            Self { der: name.into(), attributes: Vec::new(), common_name: None, email_addresses: Vec::new() };
        for (oid, value) in attributes {
            let text = checked(oid, &value)?;
            subject.attributes.push((AttributeType::of(oid), text.into()));
            if oid == COMMON_NAME && subject.common_name.replace(text.into()).is_some() {
                return Err(R::SeveralCommonNames);
            }
            if oid == EMAIL_ADDRESS {
                subject.email_addresses.push(text.into());
            }
        }
        Ok(subject)
    }

    /// The Name, as it came.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The common name.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Every attribute with its value, in their order.
    pub fn attributes(&self) -> impl Iterator<Item = (&AttributeType, &str)> {
        self.attributes.iter().map(|(kind, value)| (kind, &**value))
    }

    /// The attributes that no name stands for: all but the common name and e-mail addresses, each of which must be among
    /// the names that policy judges.
    pub fn attributes_beside_names(&self) -> impl Iterator<Item = (&AttributeType, &str)> {
        self.attributes().filter(|(kind, _)| !kind.stands_for_a_name())
    }

    /// The e-mail addresses in it (PKCS#9 emailAddress).
    pub fn email_addresses(&self) -> impl Iterator<Item = &str> {
        self.email_addresses.iter().map(|address| &**address)
    }

    /// Whether there are no attributes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Tlv::read_all(&self.der).is_none_or(|name| name.content.is_empty())
    }
}

/// `O=Example\, Inc., OU=One+CN=payments`: in the order of the encoding, attributes of one RDN joined by `+`. Whatever
/// could be taken for the beginning of another attribute is escaped in a value, so that conditions cannot be misled.
impl fmt::Display for RequestedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rdns = Tlv::read_all(&self.der).and_then(|name| name.children()).unwrap_or_default();
        for (at, rdn) in rdns.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            for (at, pair) in rdn.children().unwrap_or_default().iter().enumerate() {
                if at > 0 {
                    f.write_str("+")?;
                }
                let parts = pair.children().unwrap_or_default();
                let [oid, value] = parts.as_slice() else { continue };
                write!(f, "{}={}", AttributeType::of(oid.content), Escaped(&String::from_utf8_lossy(value.content)))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RequestedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestedSubject({self})")
    }
}

fn checked<'a>(oid: &[u8], value: &Tlv<'a>) -> Result<&'a str, SubjectRejection> {
    use SubjectRejection as R;
    let kind = AttributeKind::from_oid(oid);
    let key = || AttributeType::of(oid).to_string();
    if ObjectIdentifier::from_bytes(oid).is_err() || !value.shortest_length {
        return Err(R::NotAName);
    }
    let fits = match value.tag {
        tag::UTF8_STRING => true,
        tag::PRINTABLE_STRING => value.content.iter().copied().all(is_printable),
        tag::IA5_STRING => value.content.is_ascii(),
        _ => false,
    };
    let text = std::str::from_utf8(value.content).ok().filter(|_| fits).ok_or_else(|| R::StringType { key: key() })?;
    if text.is_empty() || text.trim() != text || text.chars().any(hides) {
        return Err(R::Characters { key: key() });
    }
    let (length, longest) = (text.chars().count(), kind.map_or(VALUE_MAX, AttributeKind::longest));
    if length > longest {
        return Err(R::TooLong { key: key(), length, longest });
    }
    if kind == Some(AttributeKind::Country) && !(length == 2 && text.bytes().all(|c| c.is_ascii_uppercase())) {
        return Err(R::Country);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlv;

    const CN: &[u8] = &[0x55, 4, 3];
    const OU: &[u8] = &[0x55, 4, 11];
    const USER_ID: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1];

    fn pair(oid: &[u8], string: u8, value: &[u8]) -> Vec<u8> {
        let (oid, value) = (tlv::write(tag::OBJECT_IDENTIFIER, oid), tlv::write(string, value));
        tlv::write_all(tag::SEQUENCE, [oid.as_slice(), &value])
    }

    fn name(rdns: &[&[Vec<u8>]]) -> Vec<u8> {
        let rdns: Vec<Vec<u8>> =
            rdns.iter().map(|pairs| tlv::write_all(tag::SET, pairs.iter().map(Vec::as_slice))).collect();
        tlv::write_all(tag::SEQUENCE, rdns.iter().map(Vec::as_slice))
    }

    fn utf8(oid: &[u8], value: &str) -> Vec<u8> {
        pair(oid, tag::UTF8_STRING, value.as_bytes())
    }

    #[test]
    fn a_subject_is_kept_as_it_came_with_its_order_and_its_rdns_of_several() {
        let several = [utf8(USER_ID, "jsmith"), pair(CN, tag::PRINTABLE_STRING, b"J. Smith")];
        let mut several = several.to_vec();
        several.sort_unstable();
        let der = name(&[
            &[utf8(OU, "Two")],
            &[utf8(OU, "One")],
            &several,
            &[pair(EMAIL_ADDRESS, tag::IA5_STRING, b"j@x.test")],
        ]);
        let subject = RequestedSubject::read(&der).expect("a subject");
        assert_eq!((subject.der(), subject.common_name()), (&der[..], Some("J. Smith")));
        assert_eq!(subject.email_addresses().collect::<Vec<_>>(), ["j@x.test"]);
        assert!(subject.to_string().starts_with("OU=Two, OU=One, "), "{subject}");
        several.reverse();
        assert_eq!(RequestedSubject::read(&name(&[&several])), Err(SubjectRejection::NotAName), "no SET in DER");
        assert!(RequestedSubject::read(&name(&[])).expect("an empty subject").is_empty());
    }

    #[test]
    fn a_value_cannot_be_read_as_another_attribute() {
        let shown = |rdns: &[&[Vec<u8>]]| RequestedSubject::read(&name(rdns)).expect("a subject").to_string();
        let one = shown(&[&[utf8(OU, "a, CN=b+O=c\\")]]);
        assert_eq!(one, "OU=a\\, CN\\=b\\+O\\=c\\\\");
        let mut pair = [utf8(OU, "a"), utf8(CN, "bb")];
        pair.sort_unstable();
        assert_eq!(shown(&[&pair, &[utf8(USER_ID, "x")]]), "OU=a+CN=bb, 0.9.2342.19200300.100.1.1=x");
    }

    #[test]
    fn a_subject_that_looks_like_something_else_is_refused() {
        use SubjectRejection as R;
        let read = |pairs: &[Vec<u8>]| {
            RequestedSubject::read(&name(&pairs.iter().map(std::slice::from_ref).collect::<Vec<_>>()))
        };
        for value in ["", " a", "a ", "a\0b", "a\u{202e}b", "a\nb"] {
            assert!(matches!(read(&[utf8(CN, value)]), Err(R::Characters { .. })), "{value:?} was taken");
        }
        assert!(matches!(read(&[utf8(CN, &"x".repeat(65))]), Err(R::TooLong { .. })));
        assert!(matches!(read(&[utf8(USER_ID, &"x".repeat(257))]), Err(R::TooLong { .. })));
        assert!(matches!(read(&[pair(CN, tag::BMP_STRING, b"\0a")]), Err(R::StringType { .. })));
        assert!(matches!(read(&[pair(CN, tag::PRINTABLE_STRING, b"a@b")]), Err(R::StringType { .. })));
        assert!(matches!(read(&[pair(CN, tag::UTF8_STRING, b"\xff")]), Err(R::StringType { .. })));
        assert_eq!(read(&[utf8(CN, "a"), utf8(CN, "b")]), Err(R::SeveralCommonNames));
        assert_eq!(read(&[pair(&[0x55, 4, 6], tag::PRINTABLE_STRING, b"de")]), Err(R::Country));
        assert!(matches!(read(&vec![utf8(OU, "x"); 33]), Err(R::TooLarge { .. })));
        for bytes in [&b""[..], b"\x30", b"\x31\x00", b"\x30\x02\x31\x00", b"\x30\x80\x00\x00"] {
            assert_eq!(RequestedSubject::read(bytes), Err(R::NotAName));
        }
    }
}
