//! The subject alternative name. Host names are checked here by rules written anew, not by the type
//! that the names came in.

use std::net::{IpAddr, Ipv6Addr};

use super::{no, repeated, rule, then};
use crate::{
    lint::{Part, Row, Subject},
    name::Name,
    profile::NameKind,
    tlv::{self, Tlv, tag},
};

const OTHER: u8 = tag::context_constructed(0);
const MAIL: u8 = tag::context(1);
const DNS: u8 = tag::context(2);
const URI: u8 = tag::context(6);
const IP: u8 = tag::context(7);

/// Longest host name and longest label, in octets (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

fn names<'s>(s: &'s Subject<'_>) -> &'s [Tlv<'s>] {
    s.view.names.as_ref().and_then(|names| names.value.as_deref()).unwrap_or_default()
}

fn of_kind<'s>(s: &'s Subject<'_>, kind: u8) -> impl Iterator<Item = &'s [u8]> {
    names(s).iter().filter_map(move |name| name.content_of(kind))
}

/// The host names, without the `*.` of a wildcard.
fn hosts<'s>(s: &'s Subject<'_>) -> impl Iterator<Item = &'s [u8]> {
    of_kind(s, DNS).map(|host| host.strip_prefix(b"*.").unwrap_or(host))
}

fn labels(host: &[u8]) -> impl Iterator<Item = &[u8]> {
    host.split(|octet| *octet == b'.')
}

fn subject_is_empty(s: &Subject<'_>) -> bool {
    s.view.subject.content.is_empty()
}

/// As the certificate holds it: kind and content; nothing for what stands in the subject.
fn encoded(name: &Name) -> Option<(u8, Vec<u8>)> {
    Some(match name {
        Name::Dns(_) | Name::Wildcard(_) => (DNS, name.to_string().into_bytes()),
        Name::Ip(IpAddr::V4(address)) => (IP, address.octets().to_vec()),
        Name::Ip(IpAddr::V6(address)) => (IP, address.octets().to_vec()),
        Name::Spiffe(id) => (URI, id.as_str().as_bytes().to_vec()),
        Name::Uri(uri) => (URI, uri.as_str().as_bytes().to_vec()),
        Name::Email(address) => (MAIL, address.as_str().as_bytes().to_vec()),
        Name::Other(name) => {
            let type_id = tlv::write(tag::OBJECT_IDENTIFIER, name.type_id().as_bytes());
            let text = tlv::write(tag::UTF8_STRING, name.value().as_bytes());
            let value = tlv::write(tag::context_constructed(0), &text);
            (OTHER, [type_id, value].concat())
        }
        Name::CommonName(_) => return None,
    })
}

/// Whether it names something beside its subject.
fn has_alternative_names(s: &Subject<'_>) -> bool {
    s.request.names.iter().any(Name::is_alternative_name)
}

/// The text of an otherName whose value is a UTF8String (RFC 5280 §4.2.1.6).
fn text_of_other(content: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = Tlv::read(content)?;
    kind.content_of(tag::OBJECT_IDENTIFIER)?;
    let explicit = Tlv::read_all(rest)?.content_of(OTHER)?;
    let text = Tlv::read_all(explicit)?.content_of(tag::UTF8_STRING)?;
    std::str::from_utf8(text).ok().map(str::as_bytes)
}

fn spiffe_ids<'s>(s: &'s Subject<'_>) -> impl Iterator<Item = &'s [u8]> {
    of_kind(s, URI).filter(|uri| uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"spiffe:")))
}

pub(super) static ROWS: &[Row] = &[
    rule(Part::Names, "names_present", "RFC 5280 §4.2.1.6, CA/B BR 7.1.2.7.12", |s| {
        no(has_alternative_names(s) && s.view.names.is_none(), "it has no subject alternative name")
    }),
    then(Part::Names, "names_readable", "RFC 5280 §4.2.1.6", |s| {
        no(s.view.names.as_ref().is_some_and(|names| names.value.is_none()), "its names are no GeneralNames")
    }),
    rule(Part::Names, "names_not_empty", "RFC 5280 §4.2.1.6 (SIZE (1..MAX))", |s| {
        let none = s.view.names.as_ref().and_then(|names| names.value.as_ref()).is_some_and(Vec::is_empty);
        no(
            none || names(s).iter().any(|name| name.content.is_empty()),
            "it names nothing, or one of its names is empty",
        )
    }),
    rule(Part::Names, "names_critical_without_subject", "RFC 5280 §4.2.1.6", |s| {
        let critical = s.view.names.as_ref().is_none_or(|names| names.critical);
        no(subject_is_empty(s) && !critical, "its subject is empty and its names are not critical")
    }),
    rule(Part::Names, "names_not_critical_with_subject", "RFC 5280 §4.2.1.6", |s| {
        let critical = s.view.names.as_ref().is_some_and(|names| names.critical);
        no(!subject_is_empty(s) && critical, "its subject is not empty and its names are critical")
    }),
    rule(Part::Names, "names_of_known_kinds", "own: DNS, IP, URI, e-mail and otherName", |s| {
        no(
            names(s).iter().any(|name| ![DNS, URI, IP, MAIL, OTHER].contains(&name.tag)),
            "it holds a name of another kind",
        )
    }),
    rule(Part::Names, "names_once", "own: a name twice is a fault somewhere", |s| {
        let raw: Vec<&[u8]> = names(s).iter().map(|name| name.raw).collect();
        no(repeated(&raw).is_some(), "it holds a name twice")
    }),
    rule(Part::Names, "dns_characters", "RFC 5280 §4.2.1.6, RFC 1034 §3.5", |s| {
        let odd = |octet: &u8| !octet.is_ascii_alphanumeric() && *octet != b'-' && *octet != b'.' && *octet != b'*';
        no(
            of_kind(s, DNS).any(|host| host.iter().any(odd)),
            "a host name holds another character than A-Z, 0-9, - and .",
        )
    }),
    rule(Part::Names, "dns_labels", "RFC 1034 §3.5", |s| {
        let odd = |label: &[u8]| label.is_empty() || label.starts_with(b"-") || label.ends_with(b"-");
        no(
            hosts(s).any(|host| !host.is_empty() && labels(host).any(odd)),
            "a label of a host name is empty or begins or ends with a hyphen",
        )
    }),
    rule(Part::Names, "dns_lengths", "RFC 1035 §2.3.4", |s| {
        let long = |host: &[u8]| host.len() > LONGEST_NAME || labels(host).any(|label| label.len() > LONGEST_LABEL);
        no(of_kind(s, DNS).any(long), "a host name or one of its labels is too long")
    }),
    rule(Part::Names, "dns_lower_case", "own: one spelling for each name", |s| {
        no(of_kind(s, DNS).any(|host| host.iter().any(u8::is_ascii_uppercase)), "a host name has upper case")
    }),
    rule(Part::Names, "dns_reserved_labels", "RFC 5890 §2.3.1, CA/B BR 7.1.2.7.12", |s| {
        let reserved = |label: &[u8]| label.get(2..4) == Some(b"--") && !label.starts_with(b"xn");
        no(hosts(s).any(|host| labels(host).any(reserved)), "a label has hyphens in places 3 and 4 and is no A-label")
    }),
    rule(Part::Names, "dns_a_labels", "RFC 5891 §4.4, CA/B BR 7.1.2.7.12", |s| {
        let false_a_label = |label: &[u8]| {
            let label = std::str::from_utf8(label).unwrap_or_default();
            label.starts_with("xn--") && {
                let (unicode, outcome) = idna::domain_to_unicode(label);
                outcome.is_err() || unicode.is_ascii()
            }
        };
        no(hosts(s).any(|host| labels(host).any(false_a_label)), "an xn-- label stands for no other")
    }),
    rule(Part::Names, "dns_not_an_address", "CA/B BR 7.1.2.7.12, WHATWG URL §3.5 (ends in a number)", |s| {
        let numeric = |host: &[u8]| {
            labels(host).last().is_some_and(|last| !last.is_empty() && last.iter().all(u8::is_ascii_digit))
        };
        no(of_kind(s, DNS).any(numeric), "a host name reads as an IP address")
    }),
    rule(Part::Names, "wildcard_place", "RFC 6125 §6.4.3, RFC 9525 §6.3", |s| {
        no(hosts(s).any(|host| host.contains(&b'*')), "a wildcard is not the whole leftmost label")
    }),
    rule(Part::Names, "wildcard_breadth", "CA/B BR 3.2.2.6", |s| {
        let broad = |host: &[u8]| host.strip_prefix(b"*.").is_some_and(|below| labels(below).count() < 2);
        no(of_kind(s, DNS).any(broad), "a wildcard stands directly below a top-level domain")
    }),
    rule(Part::Names, "ip_length", "RFC 5280 §4.2.1.6", |s| {
        let odd = |address: &[u8]| !matches!(address.len(), 0 | 4 | 16);
        no(of_kind(s, IP).any(odd), "an IP address has neither 4 nor 16 octets")
    }),
    rule(Part::Names, "ip_not_mapped", "own: one spelling for each address (RFC 4291 §2.5.5.2)", |s| {
        let mapped = |address: &[u8]| {
            <[u8; 16]>::try_from(address).is_ok_and(|octets| Ipv6Addr::from(octets).to_ipv4_mapped().is_some())
        };
        no(of_kind(s, IP).any(mapped), "an IPv4 address is written as an IPv6 one")
    }),
    rule(Part::Names, "uri_absolute", "RFC 5280 §4.2.1.6, RFC 3986 §2, §3", |s| {
        let sound = |uri: &[u8]| {
            let scheme = uri.split(|octet| *octet == b':').next().filter(|scheme| scheme.len() + 1 < uri.len());
            let letter = |octet: &u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"+-.".contains(octet);
            let odd = |octet: &u8| !octet.is_ascii_graphic() || b"\"<>\\^`{|}".contains(octet);
            scheme.is_some_and(|scheme| {
                scheme.first().is_some_and(u8::is_ascii_lowercase) && scheme.iter().all(letter) && !uri.iter().any(odd)
            })
        };
        no(
            of_kind(s, URI).any(|uri| !uri.is_empty() && !sound(uri)),
            "a URI has no scheme, nothing behind it, or holds what no URI can",
        )
    }),
    then(Part::Names, "uri_is_spiffe", "SPIFFE-ID §2", |s| {
        let sound = |uri: &[u8]| {
            let rest = uri.strip_prefix(b"spiffe://").filter(|rest| !rest.is_empty() && !rest.starts_with(b"/"));
            let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b".-_/".contains(octet);
            rest.is_some_and(|rest| rest.iter().all(plain) && !rest.ends_with(b"/"))
        };
        no(spiffe_ids(s).any(|uri| !sound(uri)), "a URI with the scheme spiffe is no SPIFFE ID")
    }),
    rule(Part::Names, "one_spiffe_id", "X509-SVID §2", |s| {
        no(spiffe_ids(s).next().is_some() && of_kind(s, URI).count() > 1, "it holds another URI beside a SPIFFE ID")
    }),
    rule(Part::Names, "email_mailbox", "RFC 5280 §4.2.1.6, RFC 5321 §4.1.2", |s| {
        let sound = |address: &[u8]| {
            let mut parts = address.split(|octet| *octet == b'@');
            let (local, host, more) = (parts.next(), parts.next(), parts.next());
            let plain = |octet: &u8| octet.is_ascii_graphic() && !b"\"(),:;<>[\\]".contains(octet);
            let of_host = |octet: &u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"-.".contains(octet);
            more.is_none()
                && local.is_some_and(|local| !local.is_empty() && local.iter().all(plain))
                && host.is_some_and(|host| !host.is_empty() && host.iter().all(of_host))
        };
        no(
            of_kind(s, MAIL).any(|address| !address.is_empty() && !sound(address)),
            "an e-mail address is no local part at a host",
        )
    }),
    rule(Part::Names, "other_name_text", "RFC 5280 §4.2.1.6", |s| {
        let sound = |content: &[u8]| text_of_other(content).is_some_and(|text| !text.is_empty());
        no(
            of_kind(s, OTHER).any(|content| !content.is_empty() && !sound(content)),
            "an otherName has no text as its value",
        )
    }),
    then(Part::Names, "names_as_ordered", "RFC 8555 §7.4: the order's names and no others", |s| {
        let wanted: Vec<_> = s.request.names.iter().filter_map(encoded).collect();
        let has = |(kind, content): &(u8, Vec<u8>)| of_kind(s, *kind).any(|there| there == content.as_slice());
        no(wanted.len() != names(s).len() || !wanted.iter().all(has), "its names are not the ones ordered")
    }),
    rule(Part::Names, "name_kinds_in_profile", "own: the profile's kinds of name", |s| {
        let kinds = s.request.profile.name_kinds();
        no(s.request.names.iter().any(|name| !kinds.contains(&NameKind::of(name))), "its profile issues no such names")
    }),
    rule(Part::Names, "names_permitted_by_issuer", "RFC 5280 §4.2.1.10", |s| {
        no(
            s.issuer.constraints().breaches(s.request.names).next().is_some(),
            "a name breaks its issuer's name constraints",
        )
    }),
];
