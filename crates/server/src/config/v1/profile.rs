//! `[[profile]]`: what certificates of one kind look like. What is left out is as in
//! [`pki::ProfileSpec::server`].

use std::time::Duration;

use chancery_pki::{
    KeyKind, Lifetime,
    distinguished_name::{Attribute, DistinguishedName, DistinguishedNameRejection},
    profile as pki,
    profile::{
        ConstrainedKind, CrlLocation, ExtendedKeyUsage, KeyUsage, NameKind, NotARequestedAttribute, ObjectIdentifier,
        Profile, Retention, SubjectPolicy,
    },
};
use ipnet::IpNet;
use toml::Spanned;

use super::{
    check::between,
    spec::{CaSpec, CrlSpec, ProfileSpec, Text},
};
use crate::config::{ConfigError, Source};

type Checked<T> = Result<T, Box<ConfigError>>;

/// One second.
const SECOND: Duration = Duration::from_secs(1);
/// As long as any certificate may live here: 30 years, RFC 5280 sets no bound.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The key kinds by their names.
const KEYS: [(&str, KeyKind); 7] = [
    ("p256", KeyKind::P256),
    ("p384", KeyKind::P384),
    ("p521", KeyKind::P521),
    ("ed25519", KeyKind::Ed25519),
    ("rsa2048", KeyKind::Rsa2048),
    ("rsa3072", KeyKind::Rsa3072),
    ("rsa4096", KeyKind::Rsa4096),
];

pub(super) fn profile(source: &Source, spec: Spanned<ProfileSpec>) -> Checked<Profile> {
    let ProfileSpec {
        name,
        description,
        lifetime,
        lifetime_max,
        lifetime_min,
        backdate,
        keys,
        names,
        key_usages,
        extended_key_usages,
        requested_key_usages,
        requested_extended_key_usages,
        ca,
        subject,
        subject_attributes,
        requested_attributes,
        policies,
        ca_issuers,
        ocsp,
        crl,
        must_staple,
        records,
    } = spec.into_inner();
    let usual = pki::ProfileSpec::server();
    let place = name.span();
    let life = |text: &Option<Text>, usual: Lifetime| life(source, text.as_ref(), usual);
    let given = life(&lifetime, usual.lifetime)?;
    // Where only the usual life is written, it is also the longest, and the shortest follows it down.
    let lifetime_max = life(&lifetime_max, if lifetime.is_some() { given } else { usual.lifetime_max })?;
    let lifetime_min = life(&lifetime_min, usual.lifetime_min.min(given))?;
    let backdate = match &backdate {
        None => usual.backdate.min(lifetime_min.duration() / 2).max(Duration::ZERO),
        text => between(source, text.as_ref(), usual.backdate, Duration::ZERO, Duration::from_secs(86_400))?,
    };
    let backdate = Duration::from_secs(backdate.as_secs());
    let checked = pki::ProfileSpec {
        name: name.into_inner(),
        description: description.map(Spanned::into_inner),
        lifetime: given,
        lifetime_max,
        lifetime_min,
        backdate,
        key_kinds: list(keys, usual.key_kinds, |text| word(source, text, "a kind of key", &KEYS))?,
        name_kinds: list(names, usual.name_kinds, |text| {
            word(source, text, "a kind of name", &NameKind::ALL.map(|kind| (kind.code(), kind)))
        })?,
        key_usages: list(key_usages, usual.key_usages, |text| key_usage(source, text))?,
        extended_key_usages: list(extended_key_usages, usual.extended_key_usages, |text| {
            extended_key_usage(source, text)
        })?,
        requested_key_usages: all(&requested_key_usages, |text| key_usage(source, text))?,
        requested_extended_key_usages: all(&requested_extended_key_usages, |text| extended_key_usage(source, text))?,
        ca: ca.map(|ca| of_cas(source, &ca)).transpose()?,
        subject: subject_policy(source, subject, subject_attributes, usual.subject)?,
        requested_attributes: all(&requested_attributes, |text| {
            text.get_ref().parse().map_err(|error: NotARequestedAttribute| source.say(text.span(), error.to_string()))
        })?,
        policies: list(policies, usual.policies, |text| oid(source, text))?,
        ca_issuers: list(ca_issuers, usual.ca_issuers, |text| Ok(text.get_ref().clone()))?,
        ocsp: list(ocsp, usual.ocsp, |text| Ok(text.get_ref().clone()))?,
        crl: crl.map(|CrlSpec { url, shards }| CrlLocation { url: url.into_inner(), shards: shards.unwrap_or(1) }),
        must_staple,
        retention: match records {
            None => usual.retention,
            Some(text) => {
                let kinds = [Retention::Full, Retention::Light].map(|kind| (kind.code(), kind));
                word(source, &text, "how much is kept", &kinds)?
            }
        },
    };
    Profile::new(checked).map_err(|error| source.say(place, error.to_string()))
}

fn life(source: &Source, text: Option<&Text>, usual: Lifetime) -> Checked<Lifetime> {
    let Some(text) = text else {
        return Ok(usual);
    };
    let found = between(source, Some(text), usual.duration(), SECOND, LONGEST)?;
    let whole = Lifetime::from_seconds(found.as_secs()).ok().filter(|_| found.subsec_nanos() == 0);
    whole.ok_or_else(|| source.fault(text.span(), format_args!("\"{}\"", text.get_ref()), "whole seconds"))
}

fn list<T>(found: Option<Vec<Text>>, usual: Vec<T>, read: impl Fn(&Text) -> Checked<T>) -> Checked<Vec<T>> {
    found.map_or(Ok(usual), |found| found.iter().map(read).collect())
}

fn all<T>(found: &[Text], read: impl Fn(&Text) -> Checked<T>) -> Checked<Vec<T>> {
    found.iter().map(read).collect()
}

fn of_cas(source: &Source, spec: &CaSpec) -> Checked<pki::CaSpec> {
    let CaSpec {
        path_len,
        permitted_dns,
        excluded_dns,
        permitted_ips,
        excluded_ips,
        permitted_emails,
        excluded_emails,
        permitted_uris,
        excluded_uris,
        forbidden,
        unconstrained,
        extended_key_usages,
    } = spec;
    let kinds = ConstrainedKind::ALL.map(|kind| (kind.code(), kind));
    let kind = |text: &Text| word(source, text, "a kind of name that is constrained", &kinds);
    let texts = |texts: &[Text]| texts.iter().map(|text| text.get_ref().clone()).collect();
    let network = |text: &Text| {
        text.get_ref().parse::<IpNet>().map_err(|_| {
            source.fault(text.span(), format_args!("\"{}\"", text.get_ref()), "a network, like \"10.0.0.0/8\"")
        })
    };
    Ok(pki::CaSpec {
        path_length: *path_len,
        permitted_dns: texts(permitted_dns),
        excluded_dns: texts(excluded_dns),
        permitted_ips: all(permitted_ips, network)?,
        excluded_ips: all(excluded_ips, network)?,
        permitted_emails: texts(permitted_emails),
        excluded_emails: texts(excluded_emails),
        permitted_uris: texts(permitted_uris),
        excluded_uris: texts(excluded_uris),
        forbidden: all(forbidden, kind)?,
        unconstrained: all(unconstrained, kind)?,
        extended_key_usages: all(extended_key_usages, |text| extended_key_usage(source, text))?,
    })
}

fn key_usage(source: &Source, text: &Text) -> Checked<KeyUsage> {
    let usages: Vec<(&str, KeyUsage)> =
        KeyUsage::ALL.into_iter().filter(|usage| !usage.is_for_cas()).map(|usage| (usage.code(), usage)).collect();
    word(source, text, "a key usage", &usages)
}

fn word<T: Copy>(source: &Source, text: &Text, kind: &str, known: &[(&str, T)]) -> Checked<T> {
    known.iter().find(|(name, _)| name == text.get_ref()).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        source.unknown(text.span(), text.get_ref(), kind, &names)
    })
}

fn extended_key_usage(source: &Source, text: &Text) -> Checked<ExtendedKeyUsage> {
    /// As RFC 5280 §4.2.1.12 writes them.
    const NAMED: [(&str, &str); 5] = [
        ("serverAuth", "1.3.6.1.5.5.7.3.1"),
        ("clientAuth", "1.3.6.1.5.5.7.3.2"),
        ("codeSigning", "1.3.6.1.5.5.7.3.3"),
        ("emailProtection", "1.3.6.1.5.5.7.3.4"),
        ("timeStamping", "1.3.6.1.5.5.7.3.8"),
    ];
    let found: &str = text.get_ref();
    if found.starts_with(|c: char| c.is_ascii_digit()) {
        return oid(source, text).map(ExtendedKeyUsage::from_oid);
    }
    let named = NAMED.iter().find(|(name, _)| *name == found).and_then(|(_, oid)| ObjectIdentifier::new(oid).ok());
    named.map(ExtendedKeyUsage::from_oid).ok_or_else(|| {
        let names = NAMED.map(|(name, _)| name);
        source.unknown(text.span(), found, "an extended key usage or an object identifier", &names)
    })
}

fn oid(source: &Source, text: &Text) -> Checked<ObjectIdentifier> {
    ObjectIdentifier::new(text.get_ref()).map_err(|_| {
        source.fault(
            text.span(),
            format_args!("\"{}\"", text.get_ref()),
            "an object identifier, like \"1.3.6.1.4.1.99999.1\"",
        )
    })
}

fn subject_policy(
    source: &Source,
    subject: Option<Text>,
    attributes: Option<Spanned<Vec<Text>>>,
    usual: SubjectPolicy,
) -> Checked<SubjectPolicy> {
    match (subject, attributes) {
        (None, None) => Ok(usual),
        (Some(subject), None) => match &**subject.get_ref() {
            "empty" => Ok(SubjectPolicy::Empty),
            "first-dns-name" => Ok(SubjectPolicy::CommonNameFromFirstDnsName),
            "requested" => Ok(SubjectPolicy::Requested),
            other => Err(source.unknown(subject.span(), other, "a subject", &["empty", "first-dns-name", "requested"])),
        },
        (None, Some(attributes)) => attributes
            .get_ref()
            .iter()
            .map(|text| attribute(source, text))
            .collect::<Checked<_>>()
            .map(SubjectPolicy::Fixed),
        (Some(_), Some(attributes)) => Err(source
            .say(attributes.span(), "either subject or subject_attributes says what the subject is; leave one out")),
    }
}

fn attribute(source: &Source, text: &Text) -> Checked<Attribute> {
    let name: DistinguishedName = text
        .get_ref()
        .parse()
        .map_err(|error: DistinguishedNameRejection| source.say(text.span(), error.to_string()))?;
    match name.attributes() {
        [one] => Ok(one.clone()),
        _ => Err(source.fault(
            text.span(),
            format_args!("\"{}\"", text.get_ref()),
            "one attribute and its value, like \"O=Example Corporation\"",
        )),
    }
}
