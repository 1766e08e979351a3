//! What the certificate may be used for: key usage, extended key usage.

use super::{no, repeated, rule, then};
use crate::{
    key::KeyKind,
    lint::{Part, Row, Subject},
    profile::{ANY_EXTENDED_KEY_USAGE, ExtendedKeyUsage, KeyUsage, OCSP_SIGNING, ObjectIdentifier},
};

// The bits of a key usage (RFC 5280 §4.2.1.3), bit 0 the highest.
const DIGITAL_SIGNATURE: u16 = 0x8000;
const CONTENT_COMMITMENT: u16 = 0x4000;
const KEY_ENCIPHERMENT: u16 = 0x2000;
const DATA_ENCIPHERMENT: u16 = 0x1000;
const KEY_AGREEMENT: u16 = 0x0800;
const KEY_CERT_SIGN: u16 = 0x0400;
const CRL_SIGN: u16 = 0x0200;
const ENCIPHER_ONLY: u16 = 0x0100;
const DECIPHER_ONLY: u16 = 0x0080;

fn key_usage(s: &Subject<'_>) -> Option<u16> {
    s.view.key_usage.as_ref()?.value.as_ref().map(|usage| usage.bits)
}

fn extended_key_usage<'s>(s: &'s Subject<'_>) -> &'s [ObjectIdentifier] {
    s.view.extended_key_usage.as_ref().and_then(|usage| usage.value.as_deref()).unwrap_or_default()
}

pub(super) static ROWS: &[Row] = &[
    rule(Part::KeyUsage, "key_usage_present", "CA/B BR 7.1.2.7.11, RFC 5280 §4.2.1.3", |s| {
        no(s.view.key_usage.is_none(), "it has no key usage")
    }),
    then(Part::KeyUsage, "key_usage_readable", "RFC 5280 §4.2.1.3, X.690 §11.2.2", |s| {
        let unreadable = s.view.key_usage.as_ref().is_some_and(|usage| usage.value.is_none());
        no(unreadable, "its key usage is no bit list without zero bits at its end")
    }),
    rule(Part::KeyUsage, "key_usage_critical", "RFC 5280 §4.2.1.3", |s| {
        no(s.view.key_usage.as_ref().is_some_and(|usage| !usage.critical), "its key usage is not critical")
    }),
    rule(Part::KeyUsage, "key_usage_not_empty", "RFC 5280 §4.2.1.3", |s| {
        no(key_usage(s) == Some(0), "its key usage allows nothing")
    }),
    rule(Part::KeyUsage, "key_usage_no_ca_bits", "RFC 5280 §4.2.1.3, §4.2.1.9", |s| {
        let of_a_ca = key_usage(s).is_some_and(|bits| bits & (KEY_CERT_SIGN | CRL_SIGN) != 0);
        no(!s.request.content.is_ca && of_a_ca, "its key usage is a CA's")
    }),
    rule(Part::KeyUsage, "key_usage_of_a_ca", "RFC 5280 §4.2.1.3, CA/B BR 7.1.2.10.7", |s| {
        let of_a_ca = |bits: u16| {
            bits & (KEY_CERT_SIGN | CRL_SIGN) == KEY_CERT_SIGN | CRL_SIGN
                && bits & !(DIGITAL_SIGNATURE | KEY_CERT_SIGN | CRL_SIGN) == 0
        };
        let bits = key_usage(s).filter(|bits| s.request.content.is_ca && *bits != 0);
        no(bits.is_some_and(|bits| !of_a_ca(bits)), "its key usage is not a CA's, or more than a CA's")
    }),
    rule(Part::KeyUsage, "key_usage_fits_key", "RFC 3279 §2.3.1, RFC 5480 §3, RFC 8410 §5, RFC 8813 §3", |s| {
        const ENCIPHERS: u16 = KEY_ENCIPHERMENT | DATA_ENCIPHERMENT;
        const AGREES: u16 = KEY_AGREEMENT | ENCIPHER_ONLY | DECIPHER_ONLY;
        let unfit = match s.request.key.kind() {
            _ if s.request.content.is_ca => return None,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => AGREES,
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => ENCIPHERS,
            KeyKind::Ed25519 => ENCIPHERS | AGREES,
        };
        no(key_usage(s).is_some_and(|bits| bits & unfit != 0), "its key cannot be used as its key usage says")
    }),
    rule(Part::KeyUsage, "key_usage_only_with_agreement", "RFC 5280 §4.2.1.3", |s| {
        let alone = |bits: u16| bits & (ENCIPHER_ONLY | DECIPHER_ONLY) != 0 && bits & KEY_AGREEMENT == 0;
        let is_ec = matches!(s.request.key.kind(), KeyKind::P256 | KeyKind::P384 | KeyKind::P521);
        no(is_ec && key_usage(s).is_some_and(alone), "encipherOnly or decipherOnly stands without keyAgreement")
    }),
    then(
        Part::KeyUsage,
        "key_usage_as_profile",
        "own: what the profile gives of what is asked, and nothing else",
        |s| {
            let bit = |usage| match usage {
                KeyUsage::DigitalSignature => DIGITAL_SIGNATURE,
                KeyUsage::KeyEncipherment => KEY_ENCIPHERMENT,
                KeyUsage::KeyAgreement => KEY_AGREEMENT,
                KeyUsage::ContentCommitment => CONTENT_COMMITMENT,
                KeyUsage::DataEncipherment => DATA_ENCIPHERMENT,
                KeyUsage::EncipherOnly => ENCIPHER_ONLY,
                KeyUsage::DecipherOnly => DECIPHER_ONLY,
                KeyUsage::KeyCertSign => KEY_CERT_SIGN,
                KeyUsage::CrlSign => CRL_SIGN,
            };
            let wanted = s.request.profile.granted_key_usages(s.request.content, s.request.key.kind());
            let wanted = wanted.into_iter().map(bit).fold(0, |bits, bit| bits | bit);
            no(key_usage(s) != Some(wanted), "its key usage is not the one granted")
        },
    ),
    rule(Part::ExtendedKeyUsage, "extended_key_usage_present", "CA/B BR 7.1.2.7.10", |s| {
        no(!s.request.content.is_ca && s.view.extended_key_usage.is_none(), "it has no extended key usage")
    }),
    then(Part::ExtendedKeyUsage, "extended_key_usage_readable", "RFC 5280 §4.2.1.12 (SIZE (1..MAX))", |s| {
        let usage = s.view.extended_key_usage.as_ref();
        let unreadable = usage.is_some_and(|usage| usage.value.as_ref().is_none_or(Vec::is_empty));
        no(unreadable, "its extended key usage is empty or cannot be read")
    }),
    rule(Part::ExtendedKeyUsage, "extended_key_usage_not_critical", "CA/B BR 7.1.2.7.6", |s| {
        no(s.view.extended_key_usage.as_ref().is_some_and(|usage| usage.critical), "its extended key usage is critical")
    }),
    rule(Part::ExtendedKeyUsage, "extended_key_usage_once", "own: a usage twice is a fault somewhere", |s| {
        repeated(extended_key_usage(s)).map(|usage| format!("it has extended key usage {usage} twice"))
    }),
    rule(Part::ExtendedKeyUsage, "extended_key_usage_not_any", "CA/B BR 7.1.2.7.10", |s| {
        no(extended_key_usage(s).contains(&ANY_EXTENDED_KEY_USAGE), "it may be used for anything")
    }),
    rule(Part::ExtendedKeyUsage, "extended_key_usage_not_ocsp", "RFC 6960 §4.2.2.2, CA/B BR 7.1.2.7.10", |s| {
        no(extended_key_usage(s).contains(&OCSP_SIGNING), "it may answer OCSP for its issuer")
    }),
    rule(
        Part::ExtendedKeyUsage,
        "extended_key_usage_of_issuer",
        "own: OpenSSL and Windows hold issuers to their own usages",
        |s| {
            let beyond = |allowed: &[ExtendedKeyUsage]| {
                let granted = s.request.profile.granted_purposes(s.request.content);
                granted.iter().any(|usage| !allowed.contains(usage))
            };
            no(s.issuer.extended_key_usages().is_some_and(beyond), "its issuer's own usages do not hold its own")
        },
    ),
    then(
        Part::ExtendedKeyUsage,
        "extended_key_usage_as_profile",
        "own: what the profile gives of what is asked, and nothing else",
        |s| {
            let wanted = s.request.profile.granted_purposes(s.request.content).iter().map(|usage| usage.oid());
            no(!wanted.eq(extended_key_usage(s).iter().copied()), "its extended key usages are not those granted")
        },
    ),
];
