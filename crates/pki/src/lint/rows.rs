//! The rows.

use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    x509::X509Version,
};

use super::{Row, Subject};
use crate::{
    key::{KeyKind, PublicKey, SignatureAlgorithm},
    name::Name,
    profile::{ExtendedKeyUsage, ObjectIdentifier},
    tlv::{Tlv, tag},
};

const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 29, 14];
const KEY_USAGE: &[u8] = &[0x55, 29, 15];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 29, 31];
const CERTIFICATE_POLICIES: &[u8] = &[0x55, 29, 32];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 29, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 29, 37];
const AUTHORITY_INFORMATION_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
const TLS_FEATURE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 24];
const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 29, 37, 0];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The extensions that a leaf may have.
const ALLOWED: [&[u8]; 10] = [
    SUBJECT_KEY_IDENTIFIER,
    KEY_USAGE,
    SUBJECT_ALT_NAME,
    BASIC_CONSTRAINTS,
    CRL_DISTRIBUTION_POINTS,
    CERTIFICATE_POLICIES,
    AUTHORITY_KEY_IDENTIFIER,
    EXTENDED_KEY_USAGE,
    AUTHORITY_INFORMATION_ACCESS,
    TLS_FEATURE,
];

/// Most octets of a serial number (RFC 5280 §4.1.2.2).
const SERIAL_OCTETS: usize = 20;
/// 2050-01-01T00:00:00Z: from then on times are GeneralizedTime (RFC 5280 §4.1.2.5).
const YEAR_2050: i64 = 2_524_608_000;

fn no(wrong: bool, what: &str) -> Option<String> {
    wrong.then(|| what.to_owned())
}

fn names<'s>(subject: &'s Subject<'_>) -> Vec<&'s GeneralName<'s>> {
    match subject.parsed(SUBJECT_ALT_NAME) {
        Some(ParsedExtension::SubjectAlternativeName(san)) => san.general_names.iter().collect(),
        _ => Vec::new(),
    }
}

fn dns_names<'s>(subject: &'s Subject<'_>) -> impl Iterator<Item = &'s str> {
    names(subject).into_iter().filter_map(|name| match name {
        GeneralName::DNSName(text) => Some(*text),
        _ => None,
    })
}

fn usage_bits(subject: &Subject<'_>) -> Option<u16> {
    match subject.parsed(KEY_USAGE) {
        Some(ParsedExtension::KeyUsage(usage)) => Some(usage.flags),
        _ => None,
    }
}

fn is_rsa(kind: KeyKind) -> bool {
    kind.is_rsa()
}

fn urls<'s>(subject: &'s Subject<'_>) -> Vec<&'s str> {
    let mut found = Vec::new();
    if let Some(ParsedExtension::CRLDistributionPoints(points)) = subject.parsed(CRL_DISTRIBUTION_POINTS) {
        for point in points.iter() {
            if let Some(x509_parser::extensions::DistributionPointName::FullName(names)) = &point.distribution_point {
                found.extend(names.iter().filter_map(|name| match name {
                    GeneralName::URI(url) => Some(*url),
                    _ => None,
                }));
            }
        }
    }
    if let Some(ParsedExtension::AuthorityInfoAccess(access)) = subject.parsed(AUTHORITY_INFORMATION_ACCESS) {
        found.extend(access.accessdescs.iter().filter_map(|description| match &description.access_location {
            GeneralName::URI(url) => Some(*url),
            _ => None,
        }));
    }
    found
}

/// All lints.
pub static ROWS: &[Row] = &[
    Row {
        id: "version_3",
        source: "RFC 5280 §4.1.2.1",
        check: |s| no(s.tbs.version != X509Version::V3, "it is not of version 3"),
    },
    Row {
        id: "serial_positive",
        source: "RFC 5280 §4.1.2.2",
        check: |s| {
            no(
                s.tbs.raw_serial().first().is_none_or(|first| first & 0x80 != 0),
                "its serial number is negative or empty",
            )
        },
    },
    Row {
        id: "serial_not_zero",
        source: "RFC 5280 §4.1.2.2",
        check: |s| no(s.tbs.raw_serial().iter().all(|octet| *octet == 0), "its serial number is zero"),
    },
    Row {
        id: "serial_length",
        source: "RFC 5280 §4.1.2.2",
        check: |s| no(s.tbs.raw_serial().len() > SERIAL_OCTETS, "its serial number has more than 20 octets"),
    },
    Row {
        id: "serial_as_recorded",
        source: "own: the inventory knows each certificate by its serial",
        check: |s| {
            no(s.tbs.raw_serial() != s.request.serial.der_content(), "its serial number is not the one recorded")
        },
    },
    Row {
        id: "signature_algorithm_known",
        source: "RFC 5280 §4.1.2.3, CA/B BR 7.1.3.2",
        check: |s| {
            let known = s.fields.get(2).and_then(|field| SignatureAlgorithm::from_algorithm_identifier_der(field.raw));
            no(
                known.is_none_or(|known| !known.fits(s.issuer.key().kind())),
                "its signature algorithm is none that its issuer's key has",
            )
        },
    },
    Row {
        id: "issuer_bytes_copied",
        source: "RFC 5280 §4.1.2.4, §6.1.3 (a) (4)",
        check: |s| {
            no(s.tbs.issuer.as_raw() != s.issuer.subject(), "its issuer is not its issuer's subject, byte for byte")
        },
    },
    Row {
        id: "validity_in_order",
        source: "RFC 5280 §4.1.2.5",
        check: |s| {
            no(s.tbs.validity.not_after.timestamp() < s.tbs.validity.not_before.timestamp(), "it ends before it begins")
        },
    },
    Row {
        id: "validity_within_issuer",
        source: "own: a certificate beyond its issuer's end breaks unannounced",
        check: |s| {
            let end = s.issuer.validity().not_after().unix_seconds();
            no(s.tbs.validity.not_after.timestamp() > end, "it ends after its issuer")
        },
    },
    Row {
        id: "validity_within_profile",
        source: "own: the profile's longest life; inclusive end by RFC 5280 §4.1.2.5",
        check: |s| {
            let seconds = s.tbs.validity.not_after.timestamp() - s.tbs.validity.not_before.timestamp() + 1;
            no(
                seconds > i64::from(s.request.profile.lifetime_max().seconds()),
                "it lives longer than its profile allows",
            )
        },
    },
    Row {
        id: "time_encoding",
        source: "RFC 5280 §4.1.2.5",
        check: |s| {
            let wrong = s.fields.get(4).and_then(Tlv::children).is_none_or(|times| {
                times
                    .iter()
                    .zip([&s.tbs.validity.not_before, &s.tbs.validity.not_after])
                    .any(|(field, time)| (field.tag == tag::UTC_TIME) != (time.timestamp() < YEAR_2050))
            });
            no(wrong, "a time before 2050 is not UTCTime, or one after it is")
        },
    },
    Row {
        id: "public_key_copied",
        source: "RFC 5280 §4.1.2.7; rcgen reads the kind of key off the CSR's signature",
        check: |s| {
            no(s.tbs.subject_pki.raw != s.request.key.spki(), "its public key is not the requester's, byte for byte")
        },
    },
    Row {
        id: "public_key_strong",
        source: "CA/B BR 6.1.1.3",
        check: |s| PublicKey::from_spki(s.tbs.subject_pki.raw).err().map(|error| error.to_string()),
    },
    Row {
        id: "extensions_allowed",
        source: "own: only extensions that a profile can give",
        check: |s| {
            let other = s.tbs.extensions().iter().find(|extension| !ALLOWED.contains(&extension.oid.as_bytes()));
            other.map(|extension| format!("it has extension {}", extension.oid.to_id_string()))
        },
    },
    Row {
        id: "extensions_once",
        source: "RFC 5280 §4.2",
        check: |s| {
            let all = s.tbs.extensions();
            let twice = all.iter().enumerate().find(|(at, one)| all.iter().take(*at).any(|other| other.oid == one.oid));
            twice.map(|(_, extension)| format!("it has extension {} twice", extension.oid.to_id_string()))
        },
    },
    Row {
        id: "extensions_readable",
        source: "RFC 5280 §4.2",
        check: |s| {
            let bad = s
                .tbs
                .extensions()
                .iter()
                .find(|extension| matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. }));
            bad.map(|extension| format!("extension {} cannot be read", extension.oid.to_id_string()))
        },
    },
    Row {
        id: "critical_flag_der",
        source: "X.690 §11.5: a default value is not written",
        check: |s| {
            let list = s.fields.get(7).and_then(Tlv::children).and_then(|inner| inner.into_iter().next());
            let wrong = list.and_then(|list| list.children()).unwrap_or_default().iter().any(|extension| {
                extension
                    .children()
                    .unwrap_or_default()
                    .get(1)
                    .is_some_and(|flag| flag.tag == tag::BOOLEAN && flag.content != [0xff])
            });
            no(wrong, "a critical flag is written although it is false")
        },
    },
    Row {
        id: "shortest_lengths",
        source: "X.690 §10.1",
        check: |s| {
            no(
                s.fields.iter().any(|field| !field.shortest_length),
                "a length is written with more octets than it needs",
            )
        },
    },
    Row {
        id: "no_unique_identifiers",
        source: "RFC 5280 §4.1.2.8",
        check: |s| no(s.tbs.issuer_uid.is_some() || s.tbs.subject_uid.is_some(), "it has a unique identifier"),
    },
    Row {
        id: "not_a_ca",
        source: "RFC 5280 §4.2.1.9",
        check: |s| match s.parsed(BASIC_CONSTRAINTS) {
            Some(ParsedExtension::BasicConstraints(basic)) => no(basic.ca, "it is a CA's"),
            _ => None,
        },
    },
    Row {
        id: "no_path_length",
        source: "RFC 5280 §4.2.1.9",
        check: |s| match s.parsed(BASIC_CONSTRAINTS) {
            Some(ParsedExtension::BasicConstraints(basic)) => {
                no(basic.path_len_constraint.is_some(), "it has a path length")
            }
            _ => None,
        },
    },
    Row {
        id: "key_usage_present",
        source: "CA/B BR 7.1.2.7.11, RFC 5280 §4.2.1.3",
        check: |s| no(s.extension(KEY_USAGE).is_none(), "it has no key usage"),
    },
    Row {
        id: "key_usage_critical",
        source: "RFC 5280 §4.2.1.3",
        check: |s| {
            no(s.extension(KEY_USAGE).is_some_and(|extension| !extension.critical), "its key usage is not critical")
        },
    },
    Row {
        id: "key_usage_not_empty",
        source: "RFC 5280 §4.2.1.3",
        check: |s| no(usage_bits(s) == Some(0), "its key usage allows nothing"),
    },
    Row {
        id: "key_usage_no_ca_bits",
        source: "RFC 5280 §4.2.1.3",
        // keyCertSign is bit 5, cRLSign bit 6.
        check: |s| no(usage_bits(s).is_some_and(|bits| bits & 0b110_0000 != 0), "its key usage is a CA's"),
    },
    Row {
        id: "key_encipherment_rsa_only",
        source: "RFC 3279 §2.3.1, RFC 5480 §3",
        check: |s| {
            let enciphers = usage_bits(s).is_some_and(|bits| bits & 0b100 != 0);
            no(enciphers && !is_rsa(s.request.key.kind()), "its key cannot encipher keys")
        },
    },
    Row {
        id: "extended_key_usage_present",
        source: "CA/B BR 7.1.2.7.10",
        check: |s| {
            let wanted = !s.request.profile.extended_key_usages().is_empty();
            no(wanted && s.extension(EXTENDED_KEY_USAGE).is_none(), "it has no extended key usage")
        },
    },
    Row {
        id: "extended_key_usage_not_any",
        source: "CA/B BR 7.1.2.7.10",
        check: |s| {
            let any = s
                .extension(EXTENDED_KEY_USAGE)
                .and_then(|extension| Tlv::read_all(extension.value))
                .and_then(|all| all.children());
            no(
                any.unwrap_or_default().iter().any(|usage| usage.content == ANY_EXTENDED_KEY_USAGE),
                "it may be used for anything",
            )
        },
    },
    Row {
        id: "extended_key_usage_as_profile",
        source: "own: what the profile says and nothing else",
        check: |s| {
            let read = s
                .extension(EXTENDED_KEY_USAGE)
                .and_then(|extension| Tlv::read_all(extension.value))
                .and_then(|all| all.children());
            let usages: Option<Vec<_>> = read
                .unwrap_or_default()
                .iter()
                .map(|usage| ObjectIdentifier::from_bytes(usage.content).ok().map(ExtendedKeyUsage::from_oid))
                .collect();
            no(
                usages.as_deref() != Some(s.request.profile.extended_key_usages()),
                "its extended key usages are not its profile's",
            )
        },
    },
    Row {
        id: "names_present",
        source: "RFC 5280 §4.2.1.6, CA/B BR 7.1.2.7.12",
        check: |s| no(names(s).is_empty(), "it names nothing in its subject alternative name"),
    },
    Row {
        id: "names_as_ordered",
        source: "RFC 8555 §7.4: the order's names and no others",
        check: |s| {
            let in_certificate = names(s).len();
            let missing = s.request.names.iter().find(|name| !names(s).iter().any(|there| same_name(name, there)));
            match missing {
                Some(name) => Some(format!("it does not name {name}")),
                None => no(in_certificate != s.request.names.len(), "it names more than what was ordered"),
            }
        },
    },
    Row {
        id: "names_critical_without_subject",
        source: "RFC 5280 §4.2.1.6",
        check: |s| {
            let empty = s.tbs.subject.iter().next().is_none();
            let critical = s.extension(SUBJECT_ALT_NAME).is_some_and(|extension| extension.critical);
            no(empty && !critical, "its subject is empty and its names are not critical")
        },
    },
    Row {
        id: "names_not_critical_with_subject",
        source: "RFC 5280 §4.2.1.6",
        check: |s| {
            let empty = s.tbs.subject.iter().next().is_none();
            let critical = s.extension(SUBJECT_ALT_NAME).is_some_and(|extension| extension.critical);
            no(!empty && critical, "its subject is not empty and its names are critical")
        },
    },
    Row {
        id: "dns_name_syntax",
        source: "RFC 5280 §4.2.1.6, RFC 1034 §3.5, RFC 5890",
        check: |s| {
            dns_names(s).find_map(|text| Name::dns(text).err().map(|error| format!("{}: {error}", text.escape_debug())))
        },
    },
    Row {
        id: "dns_name_lower_case",
        source: "own: one spelling for each name",
        check: |s| {
            dns_names(s)
                .find(|text| text.bytes().any(|c| c.is_ascii_uppercase()))
                .map(|text| format!("{text} has upper case"))
        },
    },
    Row {
        id: "ip_address_length",
        source: "RFC 5280 §4.2.1.6",
        check: |s| {
            let odd = names(s)
                .into_iter()
                .any(|name| matches!(name, GeneralName::IPAddress(octets) if octets.len() != 4 && octets.len() != 16));
            no(odd, "an IP address has neither 4 nor 16 octets")
        },
    },
    Row {
        id: "ip_address_not_mapped",
        source: "own: one spelling for each address (RFC 4291 §2.5.5.2)",
        check: |s| {
            let mapped = names(s).into_iter().any(|name| matches!(name, GeneralName::IPAddress(octets) if octets.len() == 16 && octets.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])));
            no(mapped, "an IPv4 address is written as an IPv6 one")
        },
    },
    Row {
        id: "common_name_in_names",
        source: "CA/B BR 7.1.4.3",
        check: |s| {
            let common =
                s.tbs.subject.iter_attributes().filter(|attribute| attribute.attr_type().as_bytes() == COMMON_NAME);
            let stray = common.filter_map(|attribute| attribute.as_str().ok()).find(|text| {
                crate::profile::reads_as_host(text) && !s.request.names.iter().any(|name| name.to_string() == *text)
            });
            stray.map(|text| format!("its common name {text} is none of its names"))
        },
    },
    Row {
        id: "subject_as_profile",
        source: "own: the subject comes from the profile alone",
        check: |s| {
            no(
                s.tbs.subject.as_raw() != s.request.profile.subject(s.request.names).der(),
                "its subject is not its profile's",
            )
        },
    },
    Row {
        id: "authority_key_identifier_copied",
        source: "RFC 5280 §4.2.1.1",
        check: |s| match s.parsed(AUTHORITY_KEY_IDENTIFIER) {
            Some(ParsedExtension::AuthorityKeyIdentifier(id)) => no(
                id.key_identifier.as_ref().map(|id| id.0) != Some(s.issuer.key_identifier().as_slice()),
                "it names another key identifier than its issuer's",
            ),
            _ => Some("it does not name its issuer's key identifier".to_owned()),
        },
    },
    Row {
        id: "authority_key_identifier_not_critical",
        source: "RFC 5280 §4.2.1.1",
        check: |s| {
            no(
                s.extension(AUTHORITY_KEY_IDENTIFIER).is_some_and(|extension| extension.critical),
                "its authority key identifier is critical",
            )
        },
    },
    Row {
        id: "subject_key_identifier_not_critical",
        source: "RFC 5280 §4.2.1.2",
        check: |s| {
            no(
                s.extension(SUBJECT_KEY_IDENTIFIER).is_some_and(|extension| extension.critical),
                "its subject key identifier is critical",
            )
        },
    },
    Row {
        id: "urls_http",
        source: "RFC 5280 §4.2.1.13, §4.2.2.1, CA/B BR 7.1.2.11.2",
        check: |s| {
            urls(s).into_iter().find(|url| !url.starts_with("http://")).map(|url| format!("{url} is no http URL"))
        },
    },
    Row {
        id: "crl_url_as_profile",
        source: "own: the shard is fixed when the certificate is issued",
        check: |s| {
            let wanted = s.request.crl_shard.and_then(|shard| s.request.profile.crl_url(shard));
            no(
                wanted.is_some() != s.extension(CRL_DISTRIBUTION_POINTS).is_some(),
                "it names a CRL where its profile does not, or the other way round",
            )
        },
    },
    Row {
        id: "must_staple_as_asked",
        source: "RFC 7633 §4",
        check: |s| {
            no(
                s.request.must_staple != s.extension(TLS_FEATURE).is_some(),
                "it says must-staple unasked, or not although asked",
            )
        },
    },
];

fn same_name(wanted: &Name, there: &GeneralName<'_>) -> bool {
    match (wanted, there) {
        (Name::Dns(_) | Name::Wildcard(_), GeneralName::DNSName(text)) => wanted.to_string() == *text,
        (Name::Ip(std::net::IpAddr::V4(address)), GeneralName::IPAddress(octets)) => address.octets() == *octets,
        (Name::Ip(std::net::IpAddr::V6(address)), GeneralName::IPAddress(octets)) => address.octets() == *octets,
        (Name::Spiffe(id), GeneralName::URI(text)) => id.as_str() == *text,
        _ => false,
    }
}
