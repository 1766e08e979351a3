//! The subject's name and its public key.

use super::{no, rule, then};
use crate::{
    distinguished_name::{self, AttributeKind, is_printable},
    key::PublicKey,
    lint::{Part, Row, Subject},
    profile::reads_as_host,
    tlv::tag,
};

/// The subject's attributes: kind if it is one of ours, string tag, content.
fn attributes<'s>(s: &'s Subject<'_>) -> impl Iterator<Item = (Option<AttributeKind>, u8, &'s [u8])> {
    let found = distinguished_name::attributes(s.view.subject.raw).unwrap_or_default();
    found.into_iter().map(|(oid, string, content)| (AttributeKind::from_oid(oid), string, content))
}

/// Whether the subject is the requester's, octet for octet.
fn is_requested(s: &Subject<'_>) -> bool {
    s.request.content.subject.as_ref().is_some_and(|subject| subject.der() == s.view.subject.raw)
}

/// The common names, as text.
fn common_names<'s>(s: &'s Subject<'_>) -> impl Iterator<Item = &'s str> {
    attributes(s)
        .filter(|(kind, ..)| *kind == Some(AttributeKind::CommonName))
        .filter_map(|(_, _, content)| std::str::from_utf8(content).ok())
}

fn text(content: &[u8]) -> String {
    String::from_utf8_lossy(content).into_owned()
}

pub(super) static ROWS: &[Row] = &[
    then(Part::Subject, "subject_readable", "RFC 5280 §4.1.2.6", |s| {
        no(distinguished_name::attributes(s.view.subject.raw).is_none(), "its subject is no Name")
    }),
    rule(Part::Subject, "subject_attributes_known", "own: the attributes that a profile can give", |s| {
        let unknown = attributes(s).any(|(kind, ..)| kind.is_none());
        no(!is_requested(s) && unknown, "its subject has an attribute that no profile gives")
    }),
    rule(Part::Subject, "subject_string_types", "RFC 5280 §4.1.2.4, §4.1.2.6, appendix A.1", |s| {
        // A requester's encoding is kept, as long as it is text (Go writes a domainComponent as PrintableString).
        let requested = is_requested(s);
        let wrong = |(kind, string, _): (Option<AttributeKind>, u8, &[u8])| match kind {
            _ if requested => ![tag::UTF8_STRING, tag::PRINTABLE_STRING, tag::IA5_STRING].contains(&string),
            Some(AttributeKind::Country | AttributeKind::SerialNumber) => string != tag::PRINTABLE_STRING,
            Some(AttributeKind::DomainComponent) => string != tag::IA5_STRING,
            None => false,
            Some(_) => string != tag::UTF8_STRING && string != tag::PRINTABLE_STRING,
        };
        no(attributes(s).any(wrong), "a value of its subject has a string type that it must not have")
    }),
    rule(Part::Subject, "subject_characters", "X.680 §41.4, RFC 3629", |s| {
        let wrong = |(_, string, content): (Option<AttributeKind>, u8, &[u8])| match string {
            tag::PRINTABLE_STRING => !content.iter().copied().all(is_printable),
            tag::IA5_STRING => !content.is_ascii(),
            _ => std::str::from_utf8(content).is_err(),
        };
        no(attributes(s).any(wrong), "a value of its subject holds what its string type cannot")
    }),
    rule(Part::Subject, "subject_no_controls", "own: a name shows what it is", |s| {
        let odd = |content: &[u8]| text(content).chars().any(char::is_control);
        no(attributes(s).any(|(_, _, content)| odd(content)), "its subject holds a control character")
    }),
    rule(Part::Subject, "subject_no_outer_spaces", "own: a name shows what it is", |s| {
        let odd = |content: &[u8]| !content.is_empty() && text(content).trim() != text(content);
        no(attributes(s).any(|(_, _, content)| odd(content)), "a value of its subject begins or ends with a space")
    }),
    rule(Part::Subject, "subject_values", "X.520, RFC 5280 appendix A.1 (SIZE (1..ub))", |s| {
        no(attributes(s).any(|(_, _, content)| content.is_empty()), "a value of its subject is empty")
    }),
    rule(Part::Subject, "subject_value_lengths", "RFC 5280 appendix A.1 (ub-...)", |s| {
        let long = |(kind, _, content): (Option<AttributeKind>, u8, &[u8])| {
            kind.is_some_and(|kind| text(content).chars().count() > kind.longest())
        };
        no(attributes(s).any(long), "a value of its subject is longer than X.520 allows")
    }),
    rule(Part::Subject, "subject_country", "RFC 5280 appendix A.1, ISO 3166", |s| {
        let country =
            |content: &[u8]| content.len() > 2 || content.len() == 2 && content.iter().all(u8::is_ascii_uppercase);
        let mut countries = attributes(s).filter(|(kind, ..)| *kind == Some(AttributeKind::Country));
        no(countries.any(|(_, _, content)| !country(content)), "its country is not two capital letters")
    }),
    rule(Part::Subject, "common_name_once", "CA/B BR 7.1.4.3", |s| {
        no(common_names(s).count() > 1, "its subject has several common names")
    }),
    rule(Part::Subject, "common_name_in_names", "CA/B BR 7.1.4.3", |s| {
        let stray = common_names(s).find(|common| {
            reads_as_host(common) && !s.request.names.iter().any(|name| name.to_string().eq_ignore_ascii_case(common))
        });
        stray.map(|stray| format!("its common name {stray} is none of its names"))
    }),
    rule(Part::Subject, "ca_subject_not_empty", "RFC 5280 §4.1.2.6", |s| {
        no(s.request.content.is_ca && s.view.subject.content.is_empty(), "it is a CA's and its subject is empty")
    }),
    then(Part::Subject, "subject_as_profile", "own: what the profile gives of what is asked, and nothing else", |s| {
        let granted = s.request.profile.subject(s.request.names, s.request.content);
        no(s.view.subject.raw != granted, "its subject is not the one granted")
    }),
    rule(Part::Subject, "subject_permitted_by_issuer", "RFC 5280 §4.2.1.10", |s| {
        no(
            s.issuer.constraints().check_subject(s.view.subject.raw).is_err(),
            "its subject breaks its issuer's name constraints",
        )
    }),
    rule(Part::Key, "public_key_strong", "CA/B BR 6.1.1.3, RFC 3279 §2.3, RFC 5480 §2, RFC 8410 §4", |s| {
        // The requester's key was checked when it came; only another one need be looked at.
        if s.view.spki.raw == s.request.key.spki() {
            return None;
        }
        PublicKey::from_spki(s.view.spki.raw).err().map(|error| error.to_string())
    }),
    then(
        Part::Key,
        "public_key_copied",
        "RFC 5280 §4.1.2.7: rcgen reads the kind of key off the CSR's signature",
        |s| no(s.view.spki.raw != s.request.key.spki(), "its public key is not the requester's, byte for byte"),
    ),
    rule(Part::Key, "key_kind_in_profile", "own: the profile's kinds of key", |s| {
        no(s.request.profile.check_key(s.request.key).is_err(), "its profile takes no keys of that kind")
    }),
    rule(
        Part::Key,
        "key_not_the_issuers",
        "own: an issuer's key signs and does nothing else (NIST SP 800-57 §5.2)",
        |s| no(s.view.spki.raw == s.issuer.key().spki(), "its public key is its issuer's"),
    ),
];
