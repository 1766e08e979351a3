//! What a CSR asks for beyond its key (RFC 2985 §5.4.2): the extensions that may be there, and no others.

use std::{fmt::Write as _, net::IpAddr};

use der::{
    Decode, Tag, TagNumber, Tagged as _,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef},
};

use super::{
    CsrRejection, CsrRules, RequestedUsages,
    elements::{elements, exactly, object_identifier},
};
use crate::{
    chain::NameConstraints,
    name::{NAMES_MAX, Name, NameRejection, OtherName, SpiffeId},
};

/// Longest piece of a name that a message shows, in characters.
const SHOWN_MAX: usize = 80;

/// Most purposes of an extended key usage that are read.
const PURPOSES_MAX: usize = 64;

/// pkcs-9-at-extensionRequest (RFC 2985 §5.4.2).
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
/// pkcs-9-at-challengePassword (RFC 2985 §5.4.1).
const CHALLENGE_PASSWORD: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");
/// id-ce-subjectKeyIdentifier (RFC 5280 §4.2.1.2).
const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
/// id-ce-keyUsage (RFC 5280 §4.2.1.3).
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
/// id-ce-subjectAltName (RFC 5280 §4.2.1.6).
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
/// id-ce-basicConstraints (RFC 5280 §4.2.1.9).
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
/// id-ce-nameConstraints (RFC 5280 §4.2.1.10).
const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
/// id-ce-extKeyUsage (RFC 5280 §4.2.1.12).
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
/// id-pe-tlsfeature (RFC 7633 §6).
const TLS_FEATURE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.24");
/// A list with the one feature `status_request` (RFC 7633 §4.2.3, RFC 6066 §1.1).
const MUST_STAPLE: &[u8] = b"\x30\x03\x02\x01\x05";

/// The bits of KeyUsage, from bit 0 on (RFC 5280 §4.2.1.3).
const KEY_USAGE_NAMES: [&str; 9] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];

/// What is kept of the extensions.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) names: Vec<Name>,
    pub(super) usages: RequestedUsages,
    pub(super) must_staple: bool,
    /// What basicConstraints says.
    pub(super) ca: Option<bool>,
    pub(super) name_constraints: NameConstraints,
}

impl Extensions {
    pub(super) fn of_attributes(der: &[u8], rules: CsrRules) -> Result<Self, CsrRejection> {
        let no = |_| CsrRejection::NotDer { part: "attributes" };
        let attributes = elements(der, Tag::ContextSpecific { constructed: true, number: TagNumber(0) }).map_err(no)?;
        let mut extensions = None;
        for attribute in attributes {
            let [kind, values] = exactly(attribute, Tag::Sequence).map_err(no)?;
            match object_identifier(kind).map_err(no)? {
                EXTENSION_REQUEST => {
                    let values = elements(values, Tag::Set).map_err(no)?;
                    let [list] = values.as_slice() else {
                        return Err(CsrRejection::SeveralExtensionRequests);
                    };
                    if extensions.replace(Self::read(list, rules)?).is_some() {
                        return Err(CsrRejection::SeveralExtensionRequests);
                    }
                }
                CHALLENGE_PASSWORD => return Err(CsrRejection::ChallengePassword),
                other => return Err(CsrRejection::UnsupportedAttribute { oid: other.to_string() }),
            }
        }
        Ok(extensions.unwrap_or_default())
    }

    fn read(der: &[u8], rules: CsrRules) -> Result<Self, CsrRejection> {
        let part = "extensionRequest";
        let no = |_| CsrRejection::NotDer { part };
        let mut extensions = Self::default();
        let mut seen: Vec<ObjectIdentifier> = Vec::new();
        let list = elements(der, Tag::Sequence).map_err(no)?;
        if list.is_empty() {
            return Err(CsrRejection::NotDer { part });
        }
        for extension in list {
            let fields = elements(extension, Tag::Sequence).map_err(no)?;
            // `critical` has a default, so in DER it is there only to say TRUE (X.690 §11.5).
            let ([oid, value] | [oid, b"\x01\x01\xff", value]) = fields.as_slice() else {
                return Err(CsrRejection::NotDer { part });
            };
            let oid = object_identifier(oid).map_err(no)?;
            let value = <&OctetStringRef>::from_der(value).map_err(|_| CsrRejection::NotDer { part })?;
            if seen.contains(&oid) {
                let extension = known_extension(oid, rules).map_or_else(|| oid.to_string(), Into::into);
                return Err(CsrRejection::DuplicateExtension { extension });
            }
            seen.push(oid);
            extensions.add(oid, value.as_bytes(), rules)?;
        }
        Ok(extensions)
    }

    fn add(&mut self, oid: ObjectIdentifier, value: &[u8], rules: CsrRules) -> Result<(), CsrRejection> {
        let Some(extension) = known_extension(oid, rules) else {
            return Err(CsrRejection::UnsupportedExtension { oid: oid.to_string() });
        };
        let malformed = CsrRejection::MalformedExtension { extension };
        match oid {
            SUBJECT_ALT_NAME => {
                let names = elements(value, Tag::Sequence).map_err(|_| malformed.clone())?;
                if names.is_empty() {
                    return Err(malformed);
                }
                // Counted before any is read; the same name twice is folded later.
                if names.len() > 2 * NAMES_MAX {
                    return Err(CsrRejection::Names(NameRejection::TooManyNames { count: names.len() }));
                }
                self.names = names.into_iter().map(|name| read_general_name(name, rules)).collect::<Result<_, _>>()?;
            }
            KEY_USAGE => {
                let bits = BitStringRef::from_der(value).map_err(|_| malformed.clone())?;
                // Bits that are not used are zero in DER (X.690 §11.2.1).
                let unused = (1u8 << bits.unused_bits()) - 1;
                let last = bits.raw_bytes().last().copied().unwrap_or_default();
                if bits.bit_len() > KEY_USAGE_NAMES.len() || last & unused != 0 {
                    return Err(malformed);
                }
                let names = KEY_USAGE_NAMES.iter().zip(bits.bits());
                self.usages.key_usages = Some(names.filter(|(_, set)| *set).map(|(name, _)| *name).collect());
            }
            EXTENDED_KEY_USAGE => {
                let purposes = elements(value, Tag::Sequence).map_err(|_| malformed.clone())?;
                if purposes.len() > PURPOSES_MAX {
                    return Err(malformed);
                }
                for purpose in purposes {
                    let purpose: ObjectIdentifier =
                        ObjectIdentifier::from_der(purpose).map_err(|_| malformed.clone())?;
                    self.usages.extended_key_usages.push(purpose.to_string());
                }
                if self.usages.extended_key_usages.is_empty() {
                    return Err(malformed);
                }
            }
            // Both defaults are absent in DER, and pathLenConstraint has no place without cA (RFC 5280 §4.2.1.9).
            BASIC_CONSTRAINTS => match elements(value, Tag::Sequence).map_err(|_| malformed.clone())?.as_slice() {
                [] => self.ca = Some(false),
                [b"\x01\x01\xff", ..] if rules == CsrRules::Acme => return Err(CsrRejection::AsksForCa),
                // How long a path may follow is never the requester's to say.
                [b"\x01\x01\xff"] => self.ca = Some(true),
                [b"\x01\x01\xff", length] if u64::from_der(length).is_ok() => self.ca = Some(true),
                _ => return Err(malformed),
            },
            NAME_CONSTRAINTS => {
                self.name_constraints =
                    NameConstraints::read(value).map_err(|why| CsrRejection::Constraints { why })?;
            }
            SUBJECT_KEY_IDENTIFIER => {
                <&OctetStringRef>::from_der(value).map_err(|_| malformed)?;
            }
            TLS_FEATURE => {
                if value != MUST_STAPLE {
                    return Err(CsrRejection::UnsupportedTlsFeature);
                }
                self.must_staple = true;
            }
            _ => return Err(CsrRejection::UnsupportedExtension { oid: oid.to_string() }),
        }
        Ok(())
    }
}

/// The extensions that a CSR may hold, by RFC 5280's and RFC 7633's names.
const fn known_extension(oid: ObjectIdentifier, rules: CsrRules) -> Option<&'static str> {
    Some(match oid {
        SUBJECT_ALT_NAME => "subjectAltName",
        KEY_USAGE => "keyUsage",
        EXTENDED_KEY_USAGE => "extKeyUsage",
        BASIC_CONSTRAINTS => "basicConstraints",
        SUBJECT_KEY_IDENTIFIER => "subjectKeyIdentifier",
        TLS_FEATURE => "tlsFeature",
        NAME_CONSTRAINTS if matches!(rules, CsrRules::Object) => "nameConstraints",
        _ => return None,
    })
}

fn read_general_name(der: &[u8], rules: CsrRules) -> Result<Name, CsrRejection> {
    let malformed = || CsrRejection::MalformedExtension { extension: "subjectAltName" };
    let kind = match der.first() {
        Some(0x82) => {
            return read_name(der, Name::dns);
        }
        Some(0x86) if rules == CsrRules::Acme => {
            return read_name(der, |text| text.parse::<SpiffeId>().map(Name::Spiffe));
        }
        Some(0x86) => return read_name(der, Name::uri),
        Some(0x81) if rules == CsrRules::Object => return read_name(der, |text| text.parse().map(Name::Email)),
        Some(0xa0) if rules == CsrRules::Object => return read_other_name(der),
        Some(0x87) => {
            let octets = AnyRef::from_der(der).map_err(|_| malformed())?.value();
            let address = match (<[u8; 4]>::try_from(octets), <[u8; 16]>::try_from(octets)) {
                (Ok(four), _) => IpAddr::from(four),
                (_, Ok(sixteen)) => IpAddr::from(sixteen),
                _ => return Err(malformed()),
            };
            let text = address.to_string();
            return Name::ip(&text).map_err(|why| CsrRejection::Name { name: text, why });
        }
        Some(0xa0) => "otherName",
        Some(0x81) => "rfc822Name (e-mail)",
        Some(0xa3) => "x400Address",
        Some(0xa4) => "directoryName",
        Some(0xa5) => "ediPartyName",
        Some(0x88) => "registeredID",
        _ => return Err(malformed()),
    };
    Err(CsrRejection::UnsupportedNameKind { kind })
}

/// `[0] { type-id, [0] EXPLICIT UTF8String }` (RFC 5280 §4.2.1.6); values of other types are not issued.
fn read_other_name(der: &[u8]) -> Result<Name, CsrRejection> {
    let malformed = |_| CsrRejection::MalformedExtension { extension: "subjectAltName" };
    let zero = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
    let [type_id, value] = exactly(der, zero).map_err(malformed)?;
    let type_id = object_identifier(type_id).map_err(malformed)?;
    let [value] = exactly(value, zero).map_err(malformed)?;
    let value =
        AnyRef::from_der(value).map_err(|_| CsrRejection::MalformedExtension { extension: "subjectAltName" })?;
    let text = std::str::from_utf8(value.value()).ok().filter(|_| value.tag() == Tag::Utf8String);
    let text = text.ok_or(CsrRejection::UnsupportedNameKind { kind: "otherName whose value is no UTF8String" })?;
    let name = OtherName::new(type_id, text).map(Name::Other);
    name.map_err(|why| CsrRejection::Name { name: shown(&format!("{type_id}:{text}")), why })
}

fn read_name(der: &[u8], parse: impl FnOnce(&str) -> Result<Name, NameRejection>) -> Result<Name, CsrRejection> {
    let malformed = || CsrRejection::MalformedExtension { extension: "subjectAltName" };
    let octets = AnyRef::from_der(der).map_err(|_| malformed())?.value();
    let text = std::str::from_utf8(octets).ok().filter(|text| text.is_ascii()).ok_or_else(malformed)?;
    parse(text).map_err(|why| CsrRejection::Name { name: shown(text), why })
}

/// What a stranger wrote, so that it does no harm in a message: escaped and cut.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        // Writing into a String cannot fail.
        let _ = write!(shown, "… ({} octets)", text.len());
    }
    shown
}
