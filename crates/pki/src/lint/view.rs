//! A TBSCertificate as the lints see it: walked by a reader of its own that is lenient where DER is
//! strict, so that a rule can look at what it refuses.

use crate::{
    chain::NameConstraints,
    profile::ObjectIdentifier,
    time::Timestamp,
    tlv::{Tlv, tag},
};

/// The extensions that a certificate of ours may have, by the content octets of their OIDs.
pub(super) mod oid {
    pub(in crate::lint) const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 29, 14];
    pub(in crate::lint) const KEY_USAGE: &[u8] = &[0x55, 29, 15];
    pub(in crate::lint) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];
    pub(in crate::lint) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
    pub(in crate::lint) const NAME_CONSTRAINTS: &[u8] = &[0x55, 29, 30];
    pub(in crate::lint) const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 29, 31];
    pub(in crate::lint) const CERTIFICATE_POLICIES: &[u8] = &[0x55, 29, 32];
    pub(in crate::lint) const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 29, 35];
    pub(in crate::lint) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 29, 37];
    pub(in crate::lint) const AUTHORITY_INFORMATION_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
    pub(in crate::lint) const TLS_FEATURE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 24];
}

/// An extension whose value was read, or could not be.
pub(super) struct Read<T> {
    pub(super) critical: bool,
    /// `None` if the value has another form than its type.
    pub(super) value: Option<T>,
}

/// basicConstraints (RFC 5280 §4.2.1.9).
pub(super) struct BasicConstraints {
    pub(super) ca: bool,
    /// The content of the path length's INTEGER.
    pub(super) path_length: Option<Vec<u8>>,
}

/// keyUsage (RFC 5280 §4.2.1.3): bit 0 is the highest of the first octet.
pub(super) struct KeyUsage {
    pub(super) bits: u16,
}

/// One access description (RFC 5280 §4.2.2.1), its location a URI.
pub(super) struct Access<'a> {
    pub(super) method: &'a [u8],
    pub(super) url: &'a [u8],
}

/// One extension as it lies there.
pub(super) struct Extension<'a> {
    pub(super) oid: &'a [u8],
    pub(super) critical: bool,
    pub(super) value: &'a [u8],
}

impl Extension<'_> {
    /// Its OID for people.
    pub(super) fn shown(&self) -> String {
        ObjectIdentifier::from_bytes(self.oid).map_or_else(|_| hex::encode(self.oid), |oid| oid.to_string())
    }
}

/// A TBSCertificate, taken apart.
pub(super) struct View<'a> {
    pub(super) whole: Tlv<'a>,
    /// Every value in it, and every value inside the extensions; `None` where one of them is no DER.
    pub(super) values: Option<Vec<Tlv<'a>>>,
    pub(super) behind: &'a [u8],
    /// Content of the version INTEGER; empty if there is none.
    pub(super) version: &'a [u8],
    pub(super) serial: &'a [u8],
    pub(super) algorithm: Tlv<'a>,
    pub(super) issuer: Tlv<'a>,
    pub(super) times: [Tlv<'a>; 2],
    /// Both times in seconds since 1970, where they can be read.
    pub(super) seconds: [Option<i64>; 2],
    pub(super) subject: Tlv<'a>,
    pub(super) spki: Tlv<'a>,
    pub(super) unique_identifiers: bool,
    pub(super) extensions: Vec<Extension<'a>>,
    pub(super) basic: Option<Read<BasicConstraints>>,
    pub(super) names: Option<Read<Vec<Tlv<'a>>>>,
    pub(super) constraints: Option<Read<NameConstraints>>,
    pub(super) key_usage: Option<Read<KeyUsage>>,
    pub(super) extended_key_usage: Option<Read<Vec<ObjectIdentifier>>>,
    pub(super) authority_key: Option<Read<&'a [u8]>>,
    pub(super) subject_key: Option<Read<&'a [u8]>>,
    pub(super) crl_urls: Option<Read<Vec<&'a [u8]>>>,
    pub(super) access: Option<Read<Vec<Access<'a>>>>,
    pub(super) policies: Option<Read<Vec<ObjectIdentifier>>>,
    pub(super) tls_feature: Option<Read<()>>,
}

impl<'a> View<'a> {
    /// `None` if the bytes have not the frame of a TBSCertificate (RFC 5280 §4.1).
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let (whole, behind) = Tlv::read(der)?;
        let fields = sequence(&whole)?;
        let mut rest = fields.as_slice();
        let mut next = |wanted: u8| {
            let (first, others) = rest.split_first().filter(|(first, _)| first.tag == wanted)?;
            rest = others;
            Some(*first)
        };
        let version = match next(tag::context_constructed(0)) {
            Some(version) => Tlv::read_all(version.content)?.content_of(tag::INTEGER)?,
            None => &[],
        };
        let serial = next(tag::INTEGER)?.content;
        let algorithm = next(tag::SEQUENCE)?;
        let issuer = next(tag::SEQUENCE)?;
        let times: [Tlv<'a>; 2] = sequence(&next(tag::SEQUENCE)?)?.try_into().ok()?;
        let subject = next(tag::SEQUENCE)?;
        let spki = next(tag::SEQUENCE)?;
        let unique_identifiers = [next(tag::context(1)), next(tag::context(2))].iter().any(Option::is_some);
        let extensions = match next(tag::context_constructed(3)) {
            Some(explicit) => {
                sequence(&Tlv::read_all(explicit.content)?)?.iter().map(extension).collect::<Option<_>>()?
            }
            None => Vec::new(),
        };
        if !rest.is_empty() {
            return None;
        }
        let extensions: Vec<Extension<'a>> = extensions;
        Some(Self {
            values: every_value(whole, &extensions),
            whole,
            behind,
            version,
            serial,
            algorithm,
            issuer,
            times,
            seconds: times.map(|time| seconds_of(&time)),
            subject,
            spki,
            unique_identifiers,
            basic: find(&extensions, oid::BASIC_CONSTRAINTS, basic_constraints),
            names: find(&extensions, oid::SUBJECT_ALT_NAME, list),
            constraints: find(&extensions, oid::NAME_CONSTRAINTS, |value| NameConstraints::read(value.raw).ok()),
            key_usage: find(&extensions, oid::KEY_USAGE, key_usage),
            extended_key_usage: find(&extensions, oid::EXTENDED_KEY_USAGE, oids),
            authority_key: find(&extensions, oid::AUTHORITY_KEY_IDENTIFIER, authority_key),
            subject_key: find(&extensions, oid::SUBJECT_KEY_IDENTIFIER, subject_key),
            crl_urls: find(&extensions, oid::CRL_DISTRIBUTION_POINTS, crl_urls),
            access: find(&extensions, oid::AUTHORITY_INFORMATION_ACCESS, access),
            policies: find(&extensions, oid::CERTIFICATE_POLICIES, policies),
            tls_feature: find(&extensions, oid::TLS_FEATURE, status_request),
            extensions,
        })
    }
}

fn every_value<'a>(whole: Tlv<'a>, extensions: &[Extension<'a>]) -> Option<Vec<Tlv<'a>>> {
    let mut all = Vec::with_capacity(160);
    walk(whole, &mut all)?;
    for extension in extensions {
        walk(Tlv::read_all(extension.value)?, &mut all)?;
    }
    Some(all)
}

fn walk<'a>(value: Tlv<'a>, all: &mut Vec<Tlv<'a>>) -> Option<()> {
    all.push(value);
    if value.tag & tag::CONSTRUCTED != 0 {
        let mut rest = value.content;
        while !rest.is_empty() {
            let (child, behind) = Tlv::read(rest)?;
            walk(child, all)?;
            rest = behind;
        }
    }
    Some(())
}

fn sequence<'a>(value: &Tlv<'a>) -> Option<Vec<Tlv<'a>>> {
    if value.tag == tag::SEQUENCE { value.children() } else { None }
}

fn extension<'a>(value: &Tlv<'a>) -> Option<Extension<'a>> {
    let parts = sequence(value)?;
    let (oid, flag, value) = match parts[..] {
        [oid, value] => (oid, None, value),
        [oid, flag, value] => (oid, Some(flag.content_of(tag::BOOLEAN)?), value),
        _ => return None,
    };
    Some(Extension {
        oid: oid.content_of(tag::OBJECT_IDENTIFIER)?,
        critical: flag.is_some_and(|flag| flag != [0]),
        value: value.content_of(tag::OCTET_STRING)?,
    })
}

fn find<'a, T>(extensions: &[Extension<'a>], oid: &[u8], read: impl Fn(&Tlv<'a>) -> Option<T>) -> Option<Read<T>> {
    let extension = extensions.iter().find(|extension| extension.oid == oid)?;
    let value = Tlv::read_all(extension.value).and_then(|value| read(&value));
    Some(Read { critical: extension.critical, value })
}

fn basic_constraints(value: &Tlv<'_>) -> Option<BasicConstraints> {
    let parts = sequence(value)?;
    let mut rest = parts.as_slice();
    let mut ca = false;
    if let [first, others @ ..] = rest
        && let Some(flag) = first.content_of(tag::BOOLEAN)
    {
        ca = flag != [0];
        rest = others;
    }
    match rest {
        [] => Some(BasicConstraints { ca, path_length: None }),
        [length] => {
            let length = length.content_of(tag::INTEGER)?.to_vec();
            Some(BasicConstraints { ca, path_length: Some(length) })
        }
        _ => None,
    }
}

fn key_usage(value: &Tlv<'_>) -> Option<KeyUsage> {
    // A named bit list has no zero bits at its end (X.690 §11.2.2).
    let (unused, octets) = value.content_of(tag::BIT_STRING)?.split_first()?;
    let bits = match octets {
        [] => 0,
        [first] => u16::from(*first) << 8,
        [first, second] => u16::from_be_bytes([*first, *second]),
        _ => return None,
    };
    let last = octets.last().copied().unwrap_or_default();
    let shortest =
        if octets.is_empty() { *unused == 0 } else { last != 0 && last.trailing_zeros() == u32::from(*unused) };
    shortest.then_some(KeyUsage { bits })
}

fn list<'a>(value: &Tlv<'a>) -> Option<Vec<Tlv<'a>>> {
    sequence(value)
}

fn oids(value: &Tlv<'_>) -> Option<Vec<ObjectIdentifier>> {
    sequence(value)?.iter().map(oid_of).collect()
}

fn oid_of(value: &Tlv<'_>) -> Option<ObjectIdentifier> {
    ObjectIdentifier::from_bytes(value.content_of(tag::OBJECT_IDENTIFIER)?).ok()
}

fn authority_key<'a>(value: &Tlv<'a>) -> Option<&'a [u8]> {
    // keyIdentifier [0] alone: the issuer's name and serial would bind us to one certificate of its key.
    match sequence(value)?[..] {
        [identifier] => identifier.content_of(tag::context(0)),
        _ => None,
    }
}

fn subject_key<'a>(value: &Tlv<'a>) -> Option<&'a [u8]> {
    value.content_of(tag::OCTET_STRING)
}

fn crl_urls<'a>(value: &Tlv<'a>) -> Option<Vec<&'a [u8]>> {
    let mut urls = Vec::new();
    for point in sequence(value)? {
        // distributionPoint [0] { fullName [0] { uniformResourceIdentifier [6] … } }, neither reasons nor cRLIssuer.
        let [name] = sequence(&point)?[..] else {
            return None;
        };
        let full = Tlv::read_all(name.content_of(tag::context_constructed(0))?)?;
        full.content_of(tag::context_constructed(0))?;
        for url in full.children()? {
            urls.push(url.content_of(tag::context(6))?);
        }
    }
    (!urls.is_empty()).then_some(urls)
}

fn access<'a>(value: &Tlv<'a>) -> Option<Vec<Access<'a>>> {
    let descriptions = sequence(value)?;
    let read = descriptions.iter().map(|description| match sequence(description)?[..] {
        [method, location] => Some(Access {
            method: method.content_of(tag::OBJECT_IDENTIFIER)?,
            url: location.content_of(tag::context(6))?,
        }),
        _ => None,
    });
    read.collect::<Option<Vec<_>>>().filter(|read| !read.is_empty())
}

fn policies(value: &Tlv<'_>) -> Option<Vec<ObjectIdentifier>> {
    let policies = sequence(value)?;
    // policyIdentifier alone: qualifiers are discouraged (RFC 5280 §4.2.1.4).
    let read = policies.iter().map(|policy| match sequence(policy)?[..] {
        [identifier] => oid_of(&identifier),
        _ => None,
    });
    read.collect::<Option<Vec<_>>>().filter(|read| !read.is_empty())
}

fn status_request(value: &Tlv<'_>) -> Option<()> {
    // Features { status_request(5) } (RFC 7633 §4.1).
    match sequence(value)?[..] {
        [feature] if feature.content_of(tag::INTEGER) == Some(&[5]) => Some(()),
        _ => None,
    }
}

/// The year from which on times are GeneralizedTime (RFC 5280 §4.1.2.5).
const GENERALIZED_FROM: &str = "2050";

/// Whether a time has the type that RFC 5280 §4.1.2.5 gives its year.
pub(super) fn has_the_type_of_its_year(time: &Tlv<'_>) -> bool {
    match time.tag {
        tag::UTC_TIME => true,
        tag::GENERALIZED_TIME => time.content >= GENERALIZED_FROM.as_bytes(),
        _ => false,
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5.1, §4.1.2.5.2) in seconds since 1970.
fn seconds_of(time: &Tlv<'_>) -> Option<i64> {
    let text = std::str::from_utf8(time.content).ok()?;
    let long = match time.tag {
        tag::UTC_TIME => {
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        tag::GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let digits =
        long.strip_suffix('Z').filter(|digits| digits.len() == 14 && digits.bytes().all(|c| c.is_ascii_digit()))?;
    let (date, clock) = digits.split_at(8);
    let (year, day) = date.split_at(4);
    let (month, day) = day.split_at(2);
    let (hour, minute) = clock.split_at(2);
    let (minute, second) = minute.split_at(2);
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    // A leap second is read as the one after it, so it does not come back.
    text.parse::<Timestamp>().ok().filter(|at| at.to_string() == text).map(Timestamp::unix_seconds)
}
