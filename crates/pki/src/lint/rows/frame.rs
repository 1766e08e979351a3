//! Encoding, version, serial number, signature algorithm, issuer, validity, and which extensions there are.

use x509_parser::{certificate::TbsCertificate, prelude::FromDer as _};

use super::{no, repeated, rule, then};
use crate::{
    key::SignatureAlgorithm,
    lint::{
        Part, Row,
        view::{has_the_type_of_its_year, oid},
    },
    tbs::LeafRequest,
    tlv::tag,
};

/// Most octets of a serial number (RFC 5280 §4.1.2.2).
const SERIAL_OCTETS: usize = 20;
/// Fewest octets of a serial number with 64 random bits (CA/B BR 7.1): fewer come once in 2^64 numbers.
const SERIAL_OCTETS_MIN: usize = 8;

/// The extensions that a certificate may have; the rows of each say whose.
const ALLOWED: [&[u8]; 11] = [
    oid::SUBJECT_KEY_IDENTIFIER,
    oid::KEY_USAGE,
    oid::SUBJECT_ALT_NAME,
    oid::BASIC_CONSTRAINTS,
    oid::NAME_CONSTRAINTS,
    oid::CRL_DISTRIBUTION_POINTS,
    oid::CERTIFICATE_POLICIES,
    oid::AUTHORITY_KEY_IDENTIFIER,
    oid::EXTENDED_KEY_USAGE,
    oid::AUTHORITY_INFORMATION_ACCESS,
    oid::TLS_FEATURE,
];

pub(super) static ROWS: &[Row] = &[
    rule(Part::Encoding, "nothing_behind", "RFC 5280 §4.1", |s| {
        no(!s.view.behind.is_empty(), "there is something behind it")
    }),
    rule(Part::Encoding, "der_throughout", "X.690 §8.1", |s| {
        no(s.view.values.is_none(), "a value in it or in an extension is no DER")
    }),
    rule(Part::Encoding, "shortest_lengths", "X.690 §10.1", |s| {
        let values = s.view.values.as_deref().unwrap_or_default();
        no(values.iter().any(|value| !value.shortest_length), "a length has more octets than it needs")
    }),
    rule(Part::Encoding, "booleans", "X.690 §11.1", |s| {
        let values = s.view.values.as_deref().unwrap_or_default();
        let booleans = values.iter().filter_map(|value| value.content_of(tag::BOOLEAN));
        no(booleans.into_iter().any(|content| content != [0xff] && content != [0]), "a BOOLEAN is neither 00 nor ff")
    }),
    rule(Part::Encoding, "defaults_left_out", "X.690 §11.5", |s| {
        // Both BOOLEANs of a certificate, critical and cA, are FALSE by default.
        let values = s.view.values.as_deref().unwrap_or_default();
        no(values.iter().any(|value| value.content_of(tag::BOOLEAN) == Some(&[0])), "a default FALSE is written")
    }),
    rule(Part::Encoding, "integers", "X.690 §8.3.2", |s| {
        let values = s.view.values.as_deref().unwrap_or_default();
        let padded = |content: &[u8]| matches!(content, [] | [0, 0..0x80, ..] | [0xff, 0x80..=0xff, ..]);
        no(
            values.iter().filter_map(|value| value.content_of(tag::INTEGER)).any(padded),
            "an INTEGER is empty or has more octets than it needs",
        )
    }),
    then(Part::Encoding, "second_parser", "own: what a second parser cannot read is not signed", |s| {
        let whole = s.view.whole.raw;
        match TbsCertificate::from_der(whole) {
            Ok(([], _)) => None,
            Ok(_) => Some("x509-parser leaves something of it".to_owned()),
            Err(error) => Some(format!("x509-parser cannot read it: {error}")),
        }
    }),
    rule(Part::Version, "version_3", "RFC 5280 §4.1.2.1", |s| no(s.view.version != [2], "it is not of version 3")),
    rule(Part::Serial, "serial_positive", "RFC 5280 §4.1.2.2", |s| {
        let serial = s.view.serial;
        let negative = serial.first().is_some_and(|first| first & 0x80 != 0);
        no(negative || serial.iter().all(|octet| *octet == 0), "its serial number is negative or zero")
    }),
    rule(Part::Serial, "serial_length", "RFC 5280 §4.1.2.2", |s| {
        no(s.view.serial.len() > SERIAL_OCTETS, "its serial number has more than 20 octets")
    }),
    rule(Part::Serial, "serial_random", "CA/B BR 7.1", |s| {
        let significant = s.view.serial.iter().skip_while(|octet| **octet == 0).count();
        no((1..SERIAL_OCTETS_MIN).contains(&significant), "its serial number is too small to be 64 random bits")
    }),
    then(Part::Serial, "serial_as_recorded", "own: the inventory finds each certificate by its serial", |s| {
        no(s.view.serial != s.request.serial.der_content(), "its serial number is not the one recorded")
    }),
    rule(Part::Algorithm, "algorithm_known", "RFC 5280 §4.1.2.3, CA/B BR 7.1.3.2", |s| {
        let known =
            SignatureAlgorithm::ALL.iter().any(|known| known.algorithm_identifier_der() == s.view.algorithm.raw);
        no(!known, "its signature algorithm is none of ours, parameters included")
    }),
    then(Part::Algorithm, "algorithm_fits_issuer_key", "RFC 5280 §4.1.1.3", |s| {
        let known = SignatureAlgorithm::from_algorithm_identifier_der(s.view.algorithm.raw);
        let fits = known.is_some_and(|known| known.fits(s.issuer.key().kind()));
        no(!fits, "its issuer's key cannot make such signatures")
    }),
    then(Part::Algorithm, "algorithm_as_meant", "RFC 5280 §4.1.1.2", |s| {
        let meant = s.algorithm.algorithm_identifier_der();
        no(s.view.algorithm.raw != meant, "its signature algorithm is not the one that signs it")
    }),
    rule(Part::Issuer, "issuer_not_empty", "RFC 5280 §4.1.2.4", |s| {
        no(s.view.issuer.content.is_empty(), "its issuer is empty")
    }),
    then(Part::Issuer, "issuer_bytes_copied", "RFC 5280 §4.1.2.4, §6.1.3 (a) (4)", |s| {
        no(s.view.issuer.raw != s.issuer.subject(), "its issuer is not its issuer's subject, byte for byte")
    }),
    rule(Part::Validity, "time_type", "RFC 5280 §4.1.2.5", |s| {
        let all = s.view.times.iter().all(has_the_type_of_its_year);
        no(!all, "a time is not UTCTime until 2049 and GeneralizedTime from 2050 on")
    }),
    rule(Part::Validity, "time_syntax", "RFC 5280 §4.1.2.5.1, §4.1.2.5.2", |s| {
        let readable = |time: &Option<i64>| time.is_some();
        no(!s.view.seconds.iter().all(readable), "a time is no date and time to the second in UTC")
    }),
    rule(Part::Validity, "validity_in_order", "RFC 5280 §4.1.2.5", |s| match s.view.seconds {
        [Some(from), Some(to)] => no(to < from, "it ends before it begins"),
        _ => None,
    }),
    rule(
        Part::Validity,
        "lifetime_max",
        "own: the profile's longest life; both ends count (RFC 5280 §4.1.2.5)",
        |s| {
            let max = i64::from(s.request.profile.lifetime_max().seconds());
            match s.view.seconds {
                [Some(from), Some(to)] => no(to - from + 1 > max, "it lives longer than its profile allows"),
                _ => None,
            }
        },
    ),
    rule(Part::Validity, "lifetime_min", "own: the profile's shortest life", |s| {
        let min = i64::from(s.request.profile.lifetime_min().seconds());
        match s.view.seconds {
            [Some(from), Some(to)] if from <= to => no(to - from + 1 < min, "it lives shorter than its profile allows"),
            _ => None,
        }
    }),
    rule(Part::Validity, "ends_within_issuer", "own: a certificate beyond its issuer's end breaks unannounced", |s| {
        let end = s.issuer.validity().not_after().unix_seconds();
        no(s.view.seconds.iter().flatten().any(|time| *time > end), "it begins or ends after its issuer's end")
    }),
    then(Part::Validity, "validity_as_granted", "RFC 8555 §7.4: granted or refused, never changed", |s| {
        let granted = [s.request.validity.not_before(), s.request.validity.not_after()];
        let granted = granted.map(|time| Some(time.unix_seconds()));
        no(s.view.seconds != granted, "its validity is not the one granted")
    }),
    then(Part::Extensions, "no_unique_identifiers", "RFC 5280 §4.1.2.8", |s| {
        no(s.view.unique_identifiers, "it has a unique identifier")
    }),
    rule(Part::Extensions, "extensions_once", "RFC 5280 §4.2", |s| {
        let oids: Vec<&[u8]> = s.view.extensions.iter().map(|extension| extension.oid).collect();
        let twice = repeated(&oids)?;
        s.view
            .extensions
            .iter()
            .find(|extension| extension.oid == *twice)
            .map(|twice| format!("it has {} twice", twice.shown()))
    }),
    rule(Part::Extensions, "extensions_allowed", "own: the extensions that a profile can give, and no other", |s| {
        let other = s.view.extensions.iter().find(|extension| !ALLOWED.contains(&extension.oid));
        other.map(|other| format!("it has extension {}", other.shown()))
    }),
    rule(
        Part::Extensions,
        "content_in_profile",
        "own: what the profile gives, with a common name that policy judged",
        |s| {
            let LeafRequest { names, profile, content, key, .. } = *s.request;
            profile.check_content(content, names, key.kind()).err().map(|rejection| rejection.to_string())
        },
    ),
];
