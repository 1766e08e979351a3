//! Each row beside a certificate that fails it and no other.
#![expect(clippy::disallowed_methods, reason = "the tests sign")]

use std::time::Duration;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

use super::*;
use crate::{
    Content, KeyKind, Name, NameSet, PublicKey, SerialNumber, SignatureAlgorithm, Timestamp, Usages, Validity,
    ceremony::development_root,
    content::AS_PROFILE,
    distinguished_name::{Attribute, AttributeKind, DistinguishedName, RequestedSubject},
    profile::{
        CaSpec, ConstrainedKind, CrlLocation, ExtendedKeyUsage, KeyUsage, NameKind, Profile, ProfileSpec, SubjectPolicy,
    },
    tlv::{self, Tlv, tag},
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_600_000);
const DAY: i64 = 86_400;
/// How long the issuer lives.
const ISSUER_DAYS: i64 = 3650;

const DNS: u8 = tag::context(2);
const URI: u8 = tag::context(6);
const IP: u8 = tag::context(7);
const MAIL: u8 = tag::context(1);

fn key() -> (EcdsaKeyPair, PublicKey) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let public = PublicKey::from_ec(KeyKind::P256, &point[1..33], &point[33..]).unwrap();
    (pair, public)
}

fn organization(name: &str) -> DistinguishedName {
    DistinguishedName::new(vec![Attribute::new(AttributeKind::Organization, name).unwrap()])
}

/// A certificate that passes, and what is done to it so that it fails one row.
struct Case {
    id: &'static str,
    names: &'static [&'static str],
    profile: fn(&mut ProfileSpec),
    content: fn() -> Content,
    issuer: fn(&mut Parts),
    must_staple: bool,
    issuers_own_key: bool,
    change: fn(&mut Parts),
}

const fn case(id: &'static str) -> Case {
    Case {
        id,
        names: &["a.example.com", "10.0.0.1"],
        profile: |_| (),
        content: Content::default,
        issuer: |_| (),
        must_staple: false,
        issuers_own_key: false,
        change: |_| (),
    }
}

impl Case {
    const fn names(self, names: &'static [&'static str]) -> Self {
        Self { names, ..self }
    }

    const fn profile(self, profile: fn(&mut ProfileSpec)) -> Self {
        Self { profile, ..self }
    }

    const fn content(self, content: fn() -> Content) -> Self {
        Self { content, ..self }
    }

    /// A CA's, for what lies below example.com.
    const fn of_a_ca(self) -> Self {
        let of_cas = |spec: &mut ProfileSpec| {
            let permitted_dns = vec!["example.com".to_owned()];
            let unconstrained = vec![ConstrainedKind::Ip, ConstrainedKind::Email, ConstrainedKind::Uri];
            spec.ca = Some(CaSpec { permitted_dns, unconstrained, ..CaSpec::default() });
        };
        self.profile(of_cas).content(|| Content { is_ca: true, ..Content::default() })
    }

    /// With a subject that is asked for: a common name that is a name of its own, and two attributes in one RDN.
    const fn with_requested_subject(self) -> Self {
        let requested = |spec: &mut ProfileSpec| {
            spec.subject = SubjectPolicy::Requested;
            spec.requested_attributes =
                ["OU", "0.9.2342.19200300.100.1.1"].map(|kind| kind.parse().expect("a type")).to_vec();
            spec.name_kinds.push(NameKind::CommonName);
        };
        self.names(&["a.example.com", "cn:Payments"])
            .profile(requested)
            .content(|| Content { subject: Some(requested_subject("Payments")), ..Content::default() })
    }

    const fn issuer(self, issuer: fn(&mut Parts)) -> Self {
        Self { issuer, ..self }
    }

    const fn must_staple(self) -> Self {
        Self { must_staple: true, ..self }
    }

    const fn by(self, change: fn(&mut Parts)) -> Self {
        Self { change, ..self }
    }

    /// The subject is O=Example.
    const fn with_subject(self) -> Self {
        self.profile(|spec| {
            spec.subject = SubjectPolicy::Fixed(organization("Example").attributes().to_vec());
        })
    }

    fn findings(&self) -> Vec<&'static str> {
        self.look(|tbs| {
            let mut parts = Parts::of(tbs);
            (self.change)(&mut parts);
            vec![parts.write()]
        })
        .concat()
    }

    /// What is found in each of the TBSs that `change` makes of the one that passes.
    fn look(&self, change: impl FnOnce(&[u8]) -> Vec<Vec<u8>>) -> Vec<Vec<&'static str>> {
        let (pair, issuer_key) = key();
        let document = development_root(
            &organization("Lint Issuer"),
            &issuer_key,
            SerialNumber::from_random([7; 16]),
            NOW,
            Duration::from_secs(86_400 * ISSUER_DAYS.unsigned_abs()),
        );
        let mut parts = Parts::of(document.body());
        (self.issuer)(&mut parts);
        let body = parts.write();
        let signature = pair.sign(&SystemRandom::new(), &body).unwrap();
        let issuer = crate::tbs::assemble(&body, signature.as_ref()).unwrap();
        let issuer = IssuingCertificate::from_der(&issuer).unwrap();

        let mut spec = ProfileSpec::server();
        spec.crl = Some(CrlLocation { url: "http://crl.example.com/{shard}.crl".to_owned(), shards: 4 });
        spec.ca_issuers = vec!["http://pki.example.com/ca.cer".to_owned()];
        spec.ocsp = vec!["http://ocsp.example.com".to_owned()];
        spec.policies = vec!["1.3.6.1.4.1.99999.1".parse().unwrap()];
        spec.must_staple = true;
        (self.profile)(&mut spec);
        let profile = Profile::new(spec).unwrap();
        let content = (self.content)();
        let names = NameSet::new(self.names.iter().map(|name| name.parse::<Name>().unwrap())).unwrap();
        let key = if self.issuers_own_key { issuer_key } else { key().1 };
        let serial = SerialNumber::from_random([0x51; 16]);
        let request = LeafRequest {
            names: &names,
            profile: &profile,
            content: &content,
            key: &key,
            validity: Validity::starting(NOW, profile.lifetime()),
            serial,
            must_staple: self.must_staple,
            crl_shard: profile.crl_shard(serial),
        };
        let tbs = Tbs::build(&request, &issuer, SignatureAlgorithm::default_for(KeyKind::P256)).unwrap();
        let changed = change(tbs.der());
        let ids = |der: &Vec<u8>| {
            lint_der(der, &request, &issuer, tbs.algorithm()).into_iter().map(|finding| finding.id).collect()
        };
        changed.iter().map(ids).collect()
    }
}

/// A TBS taken apart: its fields, and its extensions as (oid, critical, value).
struct Parts {
    fields: Vec<Vec<u8>>,
    unique_identifier: Vec<u8>,
    extensions: Vec<Extension>,
    behind: Vec<u8>,
}

#[derive(Clone)]
struct Extension {
    oid: Vec<u8>,
    flag: Vec<u8>,
    value: Vec<u8>,
}

// The last octet of id-ce-…
const SKI: u8 = 14;
const KU: u8 = 15;
const SAN: u8 = 17;
const BC: u8 = 19;
const NC: u8 = 30;
const CRL: u8 = 31;
const POLICIES: u8 = 32;
const AKI: u8 = 35;
const EKU: u8 = 37;
const AIA: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
const TLS_FEATURE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 24];

impl Parts {
    fn of(der: &[u8]) -> Self {
        let fields = Tlv::read_all(der).unwrap().children().unwrap();
        let list = fields[7].children().unwrap()[0].children().unwrap();
        let extensions = list
            .iter()
            .map(|extension| {
                let parts = extension.children().unwrap();
                let flag = if parts.len() == 3 { parts[1].raw.to_vec() } else { Vec::new() };
                Extension { oid: parts[0].content.to_vec(), flag, value: parts.last().unwrap().content.to_vec() }
            })
            .collect();
        Self {
            fields: fields.iter().take(7).map(|field| field.raw.to_vec()).collect(),
            unique_identifier: Vec::new(),
            extensions,
            behind: Vec::new(),
        }
    }

    fn write(&self) -> Vec<u8> {
        let list: Vec<Vec<u8>> = self
            .extensions
            .iter()
            .map(|extension| {
                let oid = tlv::write(tag::OBJECT_IDENTIFIER, &extension.oid);
                let value = tlv::write(tag::OCTET_STRING, &extension.value);
                tlv::write(tag::SEQUENCE, &[oid, extension.flag.clone(), value].concat())
            })
            .collect();
        let list = tlv::write(tag::SEQUENCE, &list.concat());
        let mut content = self.fields.concat();
        content.extend_from_slice(&self.unique_identifier);
        content.extend_from_slice(&tlv::write(tag::context_constructed(3), &list));
        [tlv::write(tag::SEQUENCE, &content), self.behind.clone()].concat()
    }

    fn find(&mut self, oid: &[u8]) -> &mut Extension {
        self.extensions.iter_mut().find(|extension| extension.oid == oid).unwrap()
    }

    fn extension(&mut self, last: u8) -> &mut Extension {
        self.find(&[0x55, 29, last])
    }

    fn value(&mut self, last: u8, value: Vec<u8>) {
        self.extension(last).value = value;
    }

    fn drop(&mut self, last: u8) {
        self.extensions.retain(|extension| extension.oid != [0x55, 29, last]);
    }

    fn add(&mut self, oid: &[u8], value: Vec<u8>) {
        self.extensions.push(Extension { oid: oid.to_vec(), flag: Vec::new(), value });
    }

    fn names(&mut self, names: &[(u8, &[u8])]) {
        let names: Vec<Vec<u8>> = names.iter().map(|(kind, content)| tlv::write(*kind, content)).collect();
        self.value(SAN, tlv::write(tag::SEQUENCE, &names.concat()));
    }

    fn host(&mut self, host: &str) {
        self.names(&[(DNS, host.as_bytes())]);
    }

    fn serial(&mut self, content: &[u8]) {
        self.fields[1] = tlv::write(tag::INTEGER, content);
    }

    fn validity(&mut self, from: Vec<u8>, to: Vec<u8>) {
        self.fields[4] = sequence(&[from, to]);
    }

    /// From and to, in seconds from now.
    fn lives(&mut self, from: i64, to: i64) {
        self.validity(utc(from), utc(to));
    }

    fn subject(&mut self, attributes: &[(&[u8], u8, &[u8])]) {
        let rdns: Vec<Vec<u8>> = attributes
            .iter()
            .map(|(oid, string, value)| tlv::write(tag::SET, &sequence(&[oid_(oid), tlv::write(*string, value)])))
            .collect();
        self.fields[5] = sequence(&rdns);
    }

    fn usage(&mut self, bits: &[u8]) {
        self.value(KU, tlv::write(tag::BIT_STRING, bits));
    }

    fn purposes(&mut self, oids: &[&[u8]]) {
        let oids: Vec<Vec<u8>> = oids.iter().map(|oid| oid_(oid)).collect();
        self.value(EKU, sequence(&oids));
    }

    fn policies(&mut self, oids: &[&[u8]]) {
        let policies: Vec<Vec<u8>> = oids.iter().map(|oid| sequence(&[oid_(oid)])).collect();
        self.value(POLICIES, sequence(&policies));
    }

    fn crl(&mut self, url: &str) {
        let full = tlv::write(0xa0, &tlv::write(0xa0, &tlv::write(URI, url.as_bytes())));
        self.value(CRL, sequence(&[sequence(&[full])]));
    }

    fn access(&mut self, descriptions: &[(u8, &str)]) {
        let all: Vec<Vec<u8>> = descriptions
            .iter()
            .map(|(method, url)| {
                sequence(&[oid_(&[0x2b, 6, 1, 5, 5, 7, 48, *method]), tlv::write(URI, url.as_bytes())])
            })
            .collect();
        self.find(AIA).value = sequence(&all);
    }

    /// nameConstraints of an issuer: one permitted subtree.
    fn permit(&mut self, kind: u8, base: &[u8]) {
        let permitted = tlv::write(0xa0, &sequence(&[tlv::write(kind, base)]));
        self.add(&[0x55, 29, 30], sequence(&[permitted]));
    }
}

fn requested_subject(common_name: &str) -> RequestedSubject {
    // OU and UID, in the order of DER.
    let unit = sequence(&[oid_(&[0x55, 4, 11]), tlv::write(tag::PRINTABLE_STRING, b"One")]);
    let user = sequence(&[
        oid_(&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1]),
        tlv::write(tag::UTF8_STRING, b"payments"),
    ]);
    let mut both = [unit, user];
    both.sort_unstable();
    let name = sequence(&[oid_(COMMON_NAME), tlv::write(tag::UTF8_STRING, common_name.as_bytes())]);
    let rdns = [tlv::write(tag::SET, &both.concat()), tlv::write(tag::SET, &name)];
    RequestedSubject::read(&sequence(&rdns)).unwrap()
}

fn sequence(children: &[Vec<u8>]) -> Vec<u8> {
    tlv::write(tag::SEQUENCE, &children.concat())
}

fn oid_(content: &[u8]) -> Vec<u8> {
    tlv::write(tag::OBJECT_IDENTIFIER, content)
}

fn critical() -> Vec<u8> {
    tlv::write(tag::BOOLEAN, &[0xff])
}

/// Digits of a time, in seconds from now.
fn digits(seconds: i64) -> String {
    let at = Timestamp::from_unix_seconds(NOW.unix_seconds() + seconds);
    at.to_string().chars().filter(char::is_ascii_digit).collect()
}

fn utc(seconds: i64) -> Vec<u8> {
    tlv::write(tag::UTC_TIME, format!("{}Z", &digits(seconds)[2..]).as_bytes())
}

const ORGANIZATION: &[u8] = &[0x55, 4, 10];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
const POLICY: &[u8] = &[0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, 1];

#[rustfmt::skip]
static CASES: &[Case] = &[
    case("nothing_behind").by(|p| p.behind = vec![0]),
    case("der_throughout").by(|p| p.find(AIA).value = vec![0x30, 2, 0x30, 5]),
    case("shortest_lengths").by(|p| p.fields[5] = vec![tag::SEQUENCE, 0x81, 0]),
    case("booleans").by(|p| p.extension(KU).flag = tlv::write(tag::BOOLEAN, &[1])),
    case("defaults_left_out").by(|p| p.extension(SKI).flag = tlv::write(tag::BOOLEAN, &[0])),
    case("integers").by(|p| p.serial(&[&[0][..], &[0x51; 16]].concat())),
    case("second_parser").by(|p| p.unique_identifier = tlv::write(tag::context(1), &[])),
    case("version_3").by(|p| p.fields[0] = tlv::write(0xa0, &tlv::write(tag::INTEGER, &[1]))),
    case("serial_positive").by(|p| p.serial(&[0x80; 16])),
    case("serial_length").by(|p| p.serial(&[1; 21])),
    case("serial_random").by(|p| p.serial(&[1; 7])),
    case("serial_as_recorded").by(|p| p.serial(&[0x52; 16])),
    // sha1WithRSAEncryption
    case("algorithm_known").by(|p| {
        p.fields[2] = sequence(&[oid_(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5]), vec![5, 0]]);
    }),
    case("algorithm_fits_issuer_key").by(|p| {
        p.fields[2] = SignatureAlgorithm::Ed25519.algorithm_identifier_der().to_vec();
    }),
    case("algorithm_as_meant").by(|p| {
        p.fields[2] = SignatureAlgorithm::EcdsaSha384.algorithm_identifier_der().to_vec();
    }),
    case("issuer_not_empty").by(|p| p.fields[3] = sequence(&[])),
    case("issuer_bytes_copied").by(|p| p.fields[3] = organization("LINT ISSUER").der().to_vec()),
    case("time_type").by(|p| {
        p.validity(tlv::write(tag::GENERALIZED_TIME, format!("{}Z", digits(0)).as_bytes()), utc(90 * DAY - 1));
    }),
    case("time_syntax").by(|p| p.validity(tlv::write(tag::UTC_TIME, b"261125094640+0000"), utc(90 * DAY - 1))),
    case("validity_in_order").by(|p| p.lives(DAY, 0)),
    case("lifetime_max").by(|p| p.lives(0, 91 * DAY)),
    case("lifetime_min").by(|p| p.lives(0, 60)),
    case("ends_within_issuer").by(|p| p.lives(ISSUER_DAYS * DAY - 7200, ISSUER_DAYS * DAY + 1)),
    case("validity_as_granted").by(|p| p.lives(1, 90 * DAY)),
    case("no_unique_identifiers").by(|p| p.unique_identifier = tlv::write(tag::context(1), &[0, 1])),
    case("extensions_once").by(|p| p.extensions.push(p.extensions[0].clone())),
    case("extensions_allowed").by(|p| p.add(&[0x2a, 3, 4], vec![5, 0])),
    case("content_in_profile").with_requested_subject().content(|| Content {
        subject: Some(requested_subject("Another")),
        ..Content::default()
    }).names(&["a.example.com"]),
    case("content_in_profile").content(|| Content {
        usages: Usages::from_words(["server auth", "client auth"]).unwrap(),
        ..Content::default()
    }),

    case("subject_readable").with_subject().by(|p| {
        let pair = sequence(&[oid_(ORGANIZATION), tlv::write(tag::UTF8_STRING, b"Example"), vec![5, 0]]);
        p.fields[5] = sequence(&[tlv::write(tag::SET, &pair)]);
    }),
    // emailAddress
    case("subject_attributes_known").with_subject().by(|p| {
        p.subject(&[(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], tag::IA5_STRING, b"a@example.com")]);
    }),
    case("subject_string_types").with_subject().by(|p| p.subject(&[(ORGANIZATION, tag::TELETEX_STRING, b"Example")])),
    case("subject_characters").with_subject().by(|p| p.subject(&[(ORGANIZATION, tag::PRINTABLE_STRING, b"A&B")])),
    case("subject_no_controls").with_subject().by(|p| p.subject(&[(ORGANIZATION, tag::UTF8_STRING, b"A\0B")])),
    case("subject_no_outer_spaces").with_subject().by(|p| p.subject(&[(ORGANIZATION, tag::UTF8_STRING, b"Example ")])),
    case("subject_values").with_subject().by(|p| p.subject(&[(ORGANIZATION, tag::UTF8_STRING, b"")])),
    case("subject_value_lengths").with_subject().by(|p| p.subject(&[(ORGANIZATION, tag::UTF8_STRING, &[b'a'; 65])])),
    case("subject_country").with_subject().by(|p| p.subject(&[(&[0x55, 4, 6], tag::PRINTABLE_STRING, b"de")])),
    case("common_name_once").with_subject().by(|p| {
        p.subject(&[(COMMON_NAME, tag::UTF8_STRING, b"one"), (COMMON_NAME, tag::UTF8_STRING, b"two")]);
    }),
    case("common_name_in_names").with_subject().by(|p| p.subject(&[(COMMON_NAME, tag::UTF8_STRING, b"b.example.com")])),
    case("subject_as_profile").with_subject().by(|p| p.subject(&[(ORGANIZATION, tag::UTF8_STRING, b"Other")])),
    case("subject_as_profile").with_requested_subject().by(|p| p.subject(&[(COMMON_NAME, tag::UTF8_STRING, b"Payments")])),
    case("ca_subject_not_empty").of_a_ca().by(|p| {
        p.fields[5] = sequence(&[]);
        p.extension(SAN).flag = critical();
    }),
    case("subject_permitted_by_issuer").with_subject().issuer(|p| p.permit(0xa4, organization("Other").der())),
    case("public_key_strong").by(|p| {
        let last = p.fields[6].len() - 1;
        p.fields[6][last] ^= 1; // a point that is not on the curve
    }),
    case("public_key_copied").by(|p| p.fields[6] = key().1.spki().to_vec()),
    case("key_kind_in_profile").profile(|spec| spec.key_kinds = vec![KeyKind::P384]),
    Case { issuers_own_key: true, ..case("key_not_the_issuers") },

    case("names_present").by(|p| p.drop(SAN)),
    case("names_readable").by(|p| p.value(SAN, tlv::write(tag::SET, &[]))),
    case("names_not_empty").by(|p| p.names(&[])),
    case("names_not_empty").by(|p| p.names(&[(DNS, b"")])),
    case("names_critical_without_subject").by(|p| p.extension(SAN).flag.clear()),
    case("names_not_critical_with_subject").with_subject().by(|p| p.extension(SAN).flag = critical()),
    case("names_of_known_kinds").by(|p| p.names(&[(tag::context(8), &[0x2a, 3])])),
    case("names_once").by(|p| p.names(&[(DNS, b"a.example.com"), (DNS, b"a.example.com")])),
    case("dns_characters").by(|p| p.host("a_b.example.com")),
    case("dns_characters").by(|p| p.host("a b")),
    case("dns_characters").by(|p| p.host("a.example.com\0")),
    case("dns_labels").by(|p| p.host("a..example.com")),
    case("dns_labels").by(|p| p.host("-a.example.com")),
    case("dns_labels").by(|p| p.host("a.example.com.")),
    case("dns_lengths").by(|p| p.host(&format!("{}.example.com", "a".repeat(64)))),
    case("dns_lengths").by(|p| p.host(&format!("{}com", "abcdefg.".repeat(32)))),
    case("dns_lower_case").by(|p| p.host("A.example.com")),
    case("dns_reserved_labels").by(|p| p.host("ab--cd.example.com")),
    case("dns_a_labels").by(|p| p.host("xn--a.example.com")),
    case("dns_not_an_address").by(|p| p.host("10.0.0.1")),
    case("wildcard_place").by(|p| p.host("*.a.*.example.com")),
    case("wildcard_place").by(|p| p.host("a*.example.com")),
    case("wildcard_breadth").by(|p| p.host("*.com")),
    case("ip_length").by(|p| p.names(&[(IP, &[10, 0, 0])])),
    case("ip_not_mapped").by(|p| p.names(&[(IP, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1])])),
    case("uri_absolute").by(|p| p.names(&[(URI, b"example.com")])),
    case("uri_absolute").by(|p| p.names(&[(URI, b"https:")])),
    case("uri_absolute").by(|p| p.names(&[(URI, b"https://a b")])),
    case("uri_is_spiffe").by(|p| p.names(&[(URI, b"spiffe:///a")])),
    case("uri_is_spiffe").by(|p| p.names(&[(URI, b"spiffe://example.com/a?b")])),
    case("email_mailbox").by(|p| p.names(&[(MAIL, b"example.com")])),
    case("email_mailbox").by(|p| p.names(&[(MAIL, b"a@b@example.com")])),
    case("email_mailbox").by(|p| p.names(&[(MAIL, b"a@Example.com")])),
    case("other_name_text").by(|p| {
        let value = tlv::write(0xa0, &tlv::write(tag::IA5_STRING, b"a@example.com"));
        p.names(&[(0xa0, &[oid_(&[0x2a, 3]), value].concat())]);
    }),
    case("one_spiffe_id").by(|p| p.names(&[(URI, b"spiffe://example.com/a"), (URI, b"spiffe://example.com/b")])),
    case("one_spiffe_id").by(|p| p.names(&[(URI, b"spiffe://example.com/a"), (URI, b"https://example.com/b")])),
    case("names_as_ordered").by(|p| p.names(&[(DNS, b"b.example.com"), (IP, &[10, 0, 0, 1])])),
    case("names_as_ordered").by(|p| p.names(&[(DNS, b"a.example.com")])),
    case("names_as_ordered").by(|p| {
        p.names(&[(DNS, b"a.example.com"), (IP, &[10, 0, 0, 1]), (DNS, b"b.example.com")]);
    }),
    case("name_kinds_in_profile").names(&["spiffe://example.com/a"]),
    case("names_permitted_by_issuer").issuer(|p| p.permit(DNS, b"example.org")),

    case("basic_constraints_present").by(|p| p.drop(BC)),
    case("basic_constraints_readable").by(|p| p.value(BC, sequence(&[vec![5, 0]]))),
    case("basic_constraints_critical").by(|p| p.extension(BC).flag.clear()),
    case("not_a_ca").by(|p| p.value(BC, sequence(&[critical()]))),
    case("no_path_length").by(|p| p.value(BC, sequence(&[tlv::write(tag::INTEGER, &[0])]))),
    case("ca_as_asked").of_a_ca().by(|p| p.value(BC, sequence(&[]))),
    case("path_length_as_profile").of_a_ca().by(|p| {
        p.value(BC, sequence(&[critical(), tlv::write(tag::INTEGER, &[1])]));
    }),
    case("path_length_as_profile").of_a_ca().by(|p| p.value(BC, sequence(&[critical()]))),
    case("path_length_of_issuer").of_a_ca().issuer(|p| {
        p.value(BC, sequence(&[critical(), tlv::write(tag::INTEGER, &[0])]));
    }),
    case("name_constraints_of_cas").by(|p| p.permit(DNS, b"example.com")),
    case("name_constraints_readable").of_a_ca().by(|p| p.value(NC, tlv::write(tag::SET, &[]))),
    case("name_constraints_critical").of_a_ca().by(|p| p.extension(NC).flag.clear()),
    case("name_constraints_as_profile").of_a_ca().by(|p| {
        let flag = critical();
        p.drop(NC);
        p.permit(DNS, b"example.org");
        p.extension(NC).flag = flag;
    }),
    case("name_constraints_as_profile").of_a_ca().by(|p| p.drop(NC)),
    case("key_usage_of_a_ca").of_a_ca().by(|p| p.usage(&[2, 0x84])),
    case("key_usage_of_a_ca").of_a_ca().by(|p| p.usage(&[1, 0xa6])),
    case("key_usage_present").by(|p| p.drop(KU)),
    case("key_usage_readable").by(|p| p.usage(&[0, 0x80])),
    case("key_usage_critical").by(|p| p.extension(KU).flag.clear()),
    case("key_usage_not_empty").by(|p| p.usage(&[0])),
    case("key_usage_no_ca_bits").by(|p| p.usage(&[2, 0x84])),
    case("key_usage_no_ca_bits").by(|p| p.usage(&[1, 0x82])),
    case("key_usage_fits_key").by(|p| p.usage(&[5, 0xa0])),
    case("key_usage_only_with_agreement").by(|p| p.usage(&[0, 0x81])),
    case("key_usage_as_profile").by(|p| p.usage(&[6, 0xc0])),
    case("extended_key_usage_present").by(|p| p.drop(EKU)),
    case("extended_key_usage_readable").by(|p| p.purposes(&[])),
    case("extended_key_usage_not_critical").by(|p| p.extension(EKU).flag = critical()),
    case("extended_key_usage_once").by(|p| p.purposes(&[SERVER_AUTH, SERVER_AUTH])),
    case("extended_key_usage_not_any").by(|p| p.purposes(&[SERVER_AUTH, &[0x55, 29, 37, 0]])),
    case("extended_key_usage_not_ocsp").by(|p| p.purposes(&[SERVER_AUTH, OCSP_SIGNING])),
    case("extended_key_usage_of_issuer").issuer(|p| p.add(&[0x55, 29, EKU], sequence(&[oid_(CLIENT_AUTH)]))),
    case("extended_key_usage_as_profile").by(|p| p.purposes(&[SERVER_AUTH, CLIENT_AUTH])),

    case("authority_key_present").by(|p| p.drop(AKI)),
    case("authority_key_readable").by(|p| {
        let name = tlv::write(0xa1, &tlv::write(0xa4, organization("Lint Issuer").der()));
        p.value(AKI, sequence(&[name, tlv::write(tag::context(2), &[1])]));
    }),
    case("authority_key_not_critical").by(|p| p.extension(AKI).flag = critical()),
    case("authority_key_copied").by(|p| p.value(AKI, sequence(&[tlv::write(tag::context(0), &[1, 2, 3])]))),
    case("subject_key_present").by(|p| p.drop(SKI)),
    case("subject_key_readable").by(|p| p.value(SKI, vec![5, 0])),
    case("subject_key_not_critical").by(|p| p.extension(SKI).flag = critical()),
    case("subject_key_of_its_key").by(|p| p.value(SKI, tlv::write(tag::OCTET_STRING, &[1; 20]))),
    case("crl_readable").by(|p| {
        let issuer = tlv::write(0xa2, &tlv::write(0xa4, organization("Lint Issuer").der()));
        p.value(CRL, sequence(&[sequence(&[issuer])]));
    }),
    case("crl_not_critical").by(|p| p.extension(CRL).flag = critical()),
    case("crl_urls_http").by(|p| p.crl("ldap://crl.example.com/1.crl")),
    case("crl_url_as_profile").by(|p| p.crl("http://crl.example.com/3.crl")),
    case("crl_url_as_profile").by(|p| p.drop(CRL)),
    case("access_readable").by(|p| p.find(AIA).value = sequence(&[])),
    case("access_not_critical").by(|p| p.find(AIA).flag = critical()),
    case("access_methods_known").by(|p| p.access(&[(3, "http://time.example.com")])),
    case("access_urls_http").by(|p| p.access(&[(2, "https://pki.example.com/ca.cer")])),
    case("access_as_profile").by(|p| p.access(&[(1, "http://ocsp.example.org"), (2, "http://pki.example.com/ca.cer")])),
    case("policies_readable").by(|p| {
        let qualifiers = sequence(&[sequence(&[oid_(&[0x2b, 6, 1, 5, 5, 7, 2, 1]), tlv::write(tag::IA5_STRING, b"http://a")])]);
        p.value(POLICIES, sequence(&[sequence(&[oid_(POLICY), qualifiers])]));
    }),
    case("policies_not_critical").by(|p| p.extension(POLICIES).flag = critical()),
    case("policies_once").by(|p| p.policies(&[POLICY, POLICY])),
    case("policies_not_any").by(|p| p.policies(&[POLICY, &[0x55, 29, 32, 0]])),
    case("policies_as_profile").by(|p| p.policies(&[&[0x2a, 3]])),
    case("tls_feature_readable").must_staple().by(|p| {
        p.find(TLS_FEATURE).value = sequence(&[tlv::write(tag::INTEGER, &[17])]);
    }),
    case("tls_feature_not_critical").must_staple().by(|p| p.find(TLS_FEATURE).flag = critical()),
    case("must_staple_as_asked").by(|p| p.add(TLS_FEATURE, sequence(&[tlv::write(tag::INTEGER, &[5])]))),
    case("must_staple_as_asked").must_staple().by(|p| p.extensions.retain(|extension| extension.oid != TLS_FEATURE)),
    case("must_staple_in_profile").must_staple().profile(|spec| spec.must_staple = false),
];

#[test]
fn what_we_build_passes_every_row() {
    const NOTHING: [&str; 0] = [];
    assert_eq!(case("none").findings(), NOTHING);
    assert_eq!(case("none").with_subject().findings(), NOTHING);
    assert_eq!(case("none").must_staple().findings(), NOTHING);
    let common_name = case("none").profile(|spec| spec.subject = SubjectPolicy::CommonNameFromFirstDnsName);
    assert_eq!(common_name.findings(), NOTHING);
    assert_eq!(case("none").of_a_ca().findings(), NOTHING);
    assert_eq!(case("none").with_requested_subject().findings(), NOTHING);
    let every_kind = |spec: &mut ProfileSpec| spec.name_kinds = NameKind::ALL.to_vec();
    let names = &["a.example.com", "https://example.com/a", "urn:example:a", "a@example.com", "other:1.2.3:a@b"];
    assert_eq!(case("none").names(names).profile(every_kind).findings(), NOTHING);
    let asked = case("none").profile(|spec| {
        spec.requested_key_usages = vec![KeyUsage::KeyAgreement, KeyUsage::EncipherOnly];
        spec.requested_extended_key_usages = vec![ExtendedKeyUsage::ClientAuth];
    });
    let asked = asked.content(|| Content {
        usages: Usages::from_words(["key agreement", "encipher only", "key encipherment", "client auth"]).unwrap(),
        ..Content::default()
    });
    assert_eq!(asked.findings(), NOTHING);
}

#[test]
fn every_row_has_a_certificate_that_fails_it_and_no_other() {
    let wrong: Vec<_> =
        CASES.iter().map(|case| (case.id, case.findings())).filter(|(id, found)| *found != [*id]).collect();
    assert!(wrong.is_empty(), "rows and what was found instead: {wrong:#?}");
    for row in rows() {
        assert!(CASES.iter().any(|case| case.id == row.id), "no certificate fails {}", row.id);
    }
}

#[test]
fn no_octet_can_change_without_a_finding() {
    let alone = case("none").with_requested_subject().names(&["cn:Payments"]);
    for case in [case("none").must_staple(), case("none").with_subject(), case("none").of_a_ca(), alone] {
        for mask in [0x01, 0x20, 0x80, 0xff] {
            let findings = case.look(|tbs| {
                let flipped = |at: usize| {
                    let mut flipped = tbs.to_vec();
                    flipped[at] ^= mask;
                    flipped
                };
                (0..tbs.len()).map(flipped).collect()
            });
            for (at, found) in findings.iter().enumerate() {
                assert!(!found.is_empty(), "octet {at} may be changed by {mask:02x}");
            }
        }
    }
}

#[test]
fn a_tbs_that_was_cut_short_is_found_out() {
    let findings = case("none").look(|tbs| (0..tbs.len()).map(|length| tbs[..length].to_vec()).collect());
    assert!(findings.iter().all(|found| !found.is_empty()));
}

#[test]
fn every_row_names_its_source_and_has_an_id_of_its_own() {
    let mut ids: Vec<&str> = rows().map(|row| row.id).collect();
    assert!(rows().all(|row| !row.source.is_empty()));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id stands twice");
}

#[test]
fn bytes_that_are_no_tbs_are_found_out() {
    let (pair, public) = key();
    let serial = SerialNumber::from_random([7; 16]);
    let document = development_root(&organization("Lint Issuer"), &public, serial, NOW, Duration::from_secs(86_400));
    let signature = pair.sign(&SystemRandom::new(), document.body()).unwrap();
    let issuer = IssuingCertificate::from_der(&document.assemble(signature.as_ref())).unwrap();
    let profile = Profile::new(ProfileSpec::server()).unwrap();
    let names = NameSet::new(["a.example.com".parse::<Name>().unwrap()]).unwrap();
    let validity = Validity::starting(NOW, profile.lifetime());
    let request = LeafRequest {
        names: &names,
        profile: &profile,
        content: &AS_PROFILE,
        key: &public,
        validity,
        serial,
        must_staple: false,
        crl_shard: None,
    };
    for bytes in [&b""[..], b"\x30\x00", b"not DER at all", document.body().get(..40).unwrap()] {
        let found: Vec<_> = lint_der(bytes, &request, &issuer, SignatureAlgorithm::EcdsaSha256)
            .into_iter()
            .map(|finding| finding.id)
            .collect();
        assert_eq!(found, ["tbs_frame"]);
    }
}
