//! Each row beside a certificate that fails it.

use std::time::Duration;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

use super::*;
use crate::{
    KeyKind, Name, NameSet, PublicKey, SerialNumber, SignatureAlgorithm, Timestamp, Validity,
    ceremony::development_root,
    distinguished_name::{Attribute, AttributeKind, DistinguishedName},
    profile::{CrlLocation, Profile, ProfileSpec, SubjectPolicy},
    tlv::{self, tag},
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_600_000);

fn key() -> (EcdsaKeyPair, PublicKey) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let public = PublicKey::from_ec(KeyKind::P256, &point[1..33], &point[33..]).unwrap();
    (pair, public)
}

struct World {
    issuer: IssuingCertificate,
    key: PublicKey,
    profile: Profile,
    names: NameSet,
}

impl World {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut ProfileSpec)) -> Self {
        let (pair, public) = key();
        let subject = DistinguishedName::new(vec![Attribute::new(AttributeKind::CommonName, "Lint Issuer").unwrap()]);
        let serial = SerialNumber::from_random([7; 16]);
        let document = development_root(&subject, &public, serial, NOW, Duration::from_secs(86_400 * 3650));
        let signature = pair.sign(&SystemRandom::new(), document.body()).unwrap();
        let issuer = IssuingCertificate::from_der(&document.assemble(signature.as_ref())).unwrap();
        let mut spec = ProfileSpec::server();
        spec.crl = Some(CrlLocation { url: "http://crl.example.com/1.crl".to_owned(), shards: 1 });
        spec.ca_issuers = vec!["http://pki.example.com/ca.cer".to_owned()];
        spec.must_staple = true;
        change(&mut spec);
        let names = NameSet::new(["a.example.com", "10.0.0.1"].map(|name| name.parse::<Name>().unwrap())).unwrap();
        Self { issuer, key: key().1, profile: Profile::new(spec).unwrap(), names }
    }

    fn request(&self) -> LeafRequest<'_> {
        let serial = SerialNumber::from_random([0x51; 16]);
        LeafRequest {
            names: &self.names,
            profile: &self.profile,
            key: &self.key,
            validity: Validity::starting(NOW, self.profile.lifetime()),
            serial,
            must_staple: false,
            crl_shard: self.profile.crl_shard(serial),
        }
    }

    /// The ids of what is found in a TBS that was changed field by field.
    fn findings(&self, change: impl FnOnce(&mut Parts)) -> Vec<&'static str> {
        let request = self.request();
        let tbs = Tbs::build(&request, &self.issuer, SignatureAlgorithm::default_for(KeyKind::P256)).unwrap();
        let mut parts = Parts::of(tbs.der());
        change(&mut parts);
        lint_der(&parts.write(), &request, &self.issuer).into_iter().map(|finding| finding.id).collect()
    }
}

/// A TBS taken apart: its fields, and its extensions as (oid, critical, value).
struct Parts {
    fields: Vec<Vec<u8>>,
    extensions: Vec<Extension>,
    behind: Vec<u8>,
}

#[derive(Clone)]
struct Extension {
    oid: Vec<u8>,
    flag: Option<Vec<u8>>,
    value: Vec<u8>,
}

impl Parts {
    fn of(der: &[u8]) -> Self {
        let fields = Tlv::read_all(der).unwrap().children().unwrap();
        let list = fields[7].children().unwrap()[0].children().unwrap();
        let extensions = list
            .iter()
            .map(|extension| {
                let parts = extension.children().unwrap();
                let flag = (parts.len() == 3).then(|| parts[1].raw.to_vec());
                Extension { oid: parts[0].content.to_vec(), flag, value: parts.last().unwrap().content.to_vec() }
            })
            .collect();
        Self { fields: fields.iter().map(|field| field.raw.to_vec()).collect(), extensions, behind: Vec::new() }
    }

    fn extension(&mut self, last: u8) -> &mut Extension {
        self.extensions.iter_mut().find(|extension| extension.oid == [0x55, 29, last]).unwrap()
    }

    fn drop(&mut self, oid: &[u8]) {
        self.extensions.retain(|extension| extension.oid != oid);
    }

    fn names(&mut self, names: &[(u8, &[u8])]) {
        let names: Vec<Vec<u8>> =
            names.iter().map(|(kind, content)| tlv::write(tag::context(*kind), content)).collect();
        self.extension(17).value = tlv::write_all(tag::SEQUENCE, names.iter().map(Vec::as_slice));
    }

    fn write(&self) -> Vec<u8> {
        let list: Vec<Vec<u8>> = self
            .extensions
            .iter()
            .map(|extension| {
                let oid = tlv::write(tag::OBJECT_IDENTIFIER, &extension.oid);
                let value = tlv::write(tag::OCTET_STRING, &extension.value);
                let flag = extension.flag.clone().unwrap_or_default();
                tlv::write(tag::SEQUENCE, &[oid, flag, value].concat())
            })
            .collect();
        let list = tlv::write_all(tag::SEQUENCE, list.iter().map(Vec::as_slice));
        let mut fields: Vec<&[u8]> = self.fields.iter().take(7).map(Vec::as_slice).collect();
        let wrapped = tlv::write(tag::context_constructed(3), &list);
        fields.push(&self.behind);
        fields.push(&wrapped);
        tlv::write_all(tag::SEQUENCE, fields)
    }
}

fn critical() -> Option<Vec<u8>> {
    Some(tlv::write(tag::BOOLEAN, &[0xff]))
}

fn time(text: &str, kind: u8) -> Vec<u8> {
    tlv::write(kind, text.as_bytes())
}

fn validity(from: Vec<u8>, to: Vec<u8>) -> Vec<u8> {
    tlv::write_all(tag::SEQUENCE, [from.as_slice(), to.as_slice()])
}

/// The basicConstraints of a CA, with a path length or without.
fn constraints(path_length: bool) -> Vec<u8> {
    let ca = tlv::write(tag::BOOLEAN, &[0xff]);
    let length = if path_length { tlv::write(tag::INTEGER, &[0]) } else { Vec::new() };
    tlv::write(tag::SEQUENCE, &[ca, length].concat())
}

fn usage(bits: &[u8]) -> Vec<u8> {
    tlv::write(tag::BIT_STRING, bits)
}

type Change = fn(&mut Parts);

#[expect(clippy::too_many_lines, reason = "a table, one entry a row")]
fn failing() -> Vec<(&'static str, Change)> {
    let aia: fn(&mut Parts) = |p| {
        let description = tlv::write_all(
            tag::SEQUENCE,
            [
                tlv::write(tag::OBJECT_IDENTIFIER, &[0x2b, 6, 1, 5, 5, 7, 48, 2]).as_slice(),
                &tlv::write(tag::context(6), b"ldap://pki.example.com"),
            ],
        );
        let extension = p.extensions.iter_mut().find(|extension| extension.oid == [0x2b, 6, 1, 5, 5, 7, 1, 1]).unwrap();
        extension.value = tlv::write(tag::SEQUENCE, &description);
    };
    vec![
        ("version_3", |p| p.fields[0] = tlv::write(tag::context_constructed(0), &tlv::write(tag::INTEGER, &[1]))),
        ("serial_positive", |p| p.fields[1] = tlv::write(tag::INTEGER, &[0x80, 1])),
        ("serial_not_zero", |p| p.fields[1] = tlv::write(tag::INTEGER, &[0])),
        ("serial_length", |p| p.fields[1] = tlv::write(tag::INTEGER, &[1; 21])),
        ("serial_as_recorded", |p| p.fields[1] = tlv::write(tag::INTEGER, &[1])),
        ("signature_algorithm_known", |p| {
            p.fields[2] = SignatureAlgorithm::Ed25519.algorithm_identifier_der().to_vec();
        }),
        ("issuer_bytes_copied", |p| p.fields[3] = tlv::write(tag::SEQUENCE, &[])),
        ("validity_in_order", |p| {
            p.fields[4] = validity(time("270101000000Z", tag::UTC_TIME), time("260101000000Z", tag::UTC_TIME));
        }),
        ("validity_within_issuer", |p| {
            p.fields[4] = validity(time("270101000000Z", tag::UTC_TIME), time("490101000000Z", tag::UTC_TIME));
        }),
        ("validity_within_profile", |p| {
            p.fields[4] = validity(time("270101000000Z", tag::UTC_TIME), time("280101000000Z", tag::UTC_TIME));
        }),
        ("time_encoding", |p| {
            p.fields[4] =
                validity(time("20270101000000Z", tag::GENERALIZED_TIME), time("270201000000Z", tag::UTC_TIME));
        }),
        ("public_key_copied", |p| p.fields[6] = key().1.spki().to_vec()),
        ("public_key_strong", |p| {
            let last = p.fields[6].len() - 1;
            p.fields[6][last] ^= 1; // a point that is not on the curve
        }),
        ("extensions_allowed", |p| {
            p.extensions.push(Extension {
                oid: vec![0x2a, 3, 4],
                flag: None,
                value: tlv::write(tag::OCTET_STRING, &[]),
            });
        }),
        ("extensions_once", |p| {
            let first = p.extensions[0].clone();
            p.extensions.push(first);
        }),
        ("extensions_readable", |p| p.extension(15).value = vec![4, 0]),
        ("critical_flag_der", |p| p.extension(14).flag = Some(tlv::write(tag::BOOLEAN, &[0]))),
        ("shortest_lengths", |p| p.fields[3] = [&[tag::SEQUENCE, 0x81, 0][..], &[]].concat()),
        ("no_unique_identifiers", |p| p.behind = tlv::write(tag::context(1), &[0, 1])),
        ("not_a_ca", |p| p.extension(19).value = constraints(false)),
        ("no_path_length", |p| p.extension(19).value = constraints(true)),
        ("key_usage_present", |p| p.drop(&[0x55, 29, 15])),
        ("key_usage_critical", |p| p.extension(15).flag = None),
        ("key_usage_not_empty", |p| p.extension(15).value = usage(&[0])),
        ("key_usage_no_ca_bits", |p| p.extension(15).value = usage(&[1, 0x86])),
        ("key_encipherment_rsa_only", |p| p.extension(15).value = usage(&[5, 0xa0])),
        ("extended_key_usage_present", |p| p.drop(&[0x55, 29, 37])),
        ("extended_key_usage_not_any", |p| {
            p.extension(37).value = tlv::write(tag::SEQUENCE, &tlv::write(tag::OBJECT_IDENTIFIER, &[0x55, 29, 37, 0]));
        }),
        ("extended_key_usage_as_profile", |p| {
            let client = tlv::write(tag::OBJECT_IDENTIFIER, &[0x2b, 6, 1, 5, 5, 7, 3, 2]);
            p.extension(37).value = tlv::write(tag::SEQUENCE, &client);
        }),
        ("names_present", |p| p.drop(&[0x55, 29, 17])),
        ("names_as_ordered", |p| p.names(&[(2, b"b.example.com"), (7, &[10, 0, 0, 1])])),
        ("names_critical_without_subject", |p| p.extension(17).flag = None),
        ("names_not_critical_with_subject", |p| {
            let name = DistinguishedName::new(vec![Attribute::new(AttributeKind::Organization, "Example").unwrap()]);
            p.fields[5] = name.der().to_vec();
        }),
        ("dns_name_syntax", |p| p.names(&[(2, b"*.a.*.example.com")])),
        ("dns_name_lower_case", |p| p.names(&[(2, b"A.example.com")])),
        ("ip_address_length", |p| p.names(&[(7, &[10, 0, 0])])),
        ("ip_address_not_mapped", |p| p.names(&[(7, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1])])),
        ("common_name_in_names", |p| {
            let name =
                DistinguishedName::new(vec![Attribute::new(AttributeKind::CommonName, "other.example.com").unwrap()]);
            p.fields[5] = name.der().to_vec();
        }),
        ("subject_as_profile", |p| {
            let name = DistinguishedName::new(vec![Attribute::new(AttributeKind::Organization, "Example").unwrap()]);
            p.fields[5] = name.der().to_vec();
        }),
        ("authority_key_identifier_copied", |p| {
            p.extension(35).value = tlv::write(tag::SEQUENCE, &tlv::write(tag::context(0), &[1, 2, 3]));
        }),
        ("authority_key_identifier_not_critical", |p| p.extension(35).flag = critical()),
        ("subject_key_identifier_not_critical", |p| p.extension(14).flag = critical()),
        ("urls_http", aia),
        ("crl_url_as_profile", |p| p.drop(&[0x55, 29, 31])),
        ("must_staple_as_asked", |p| {
            p.extensions.push(Extension {
                oid: vec![0x2b, 6, 1, 5, 5, 7, 1, 24],
                flag: None,
                value: vec![0x30, 3, 2, 1, 5],
            });
        }),
    ]
}

#[test]
fn what_we_build_passes_every_row() {
    assert_eq!(World::new().findings(|_| ()), Vec::<&str>::new());
    let with_subject = World::with(|spec| spec.subject = SubjectPolicy::CommonNameFromFirstDnsName);
    assert_eq!(with_subject.findings(|_| ()), Vec::<&str>::new());
}

#[test]
fn every_row_has_a_certificate_that_fails_it() {
    let world = World::new();
    let failing = failing();
    for row in ROWS {
        let Some((_, change)) = failing.iter().find(|(id, _)| *id == row.id) else {
            panic!("no certificate fails {}", row.id);
        };
        let found = world.findings(change);
        assert!(found.contains(&row.id), "{} is not among {found:?}", row.id);
    }
    assert_eq!(failing.len(), ROWS.len());
}

#[test]
fn every_row_names_its_source_and_has_an_id_of_its_own() {
    for (at, row) in ROWS.iter().enumerate() {
        assert!(!row.source.is_empty());
        assert!(ROWS.iter().take(at).all(|other| other.id != row.id), "{} twice", row.id);
    }
}

#[test]
fn bytes_that_are_no_tbs_are_found_out() {
    let world = World::new();
    for bytes in [&b""[..], b"\x30\x00", b"not DER at all"] {
        let found = lint_der(bytes, &world.request(), &world.issuer);
        assert_eq!(found[0].id, "tbs_readable");
    }
}
