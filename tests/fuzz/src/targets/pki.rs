//! Names, times, keys, CSRs, certificates.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::OnceLock,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use chancery_egress::Host;
use chancery_pki::{
    Content, Csr, CsrRules, Name, NameRejection, NameSet, PublicKey, SpiffeId, Timestamp, Usages,
    certificate::Certificate,
    chain::{self, IssuingCertificate},
    content::AS_PROFILE,
    distinguished_name::RequestedSubject,
    profile::{Profile, ProfileSpec},
};
use chancery_testkit::ports::TestClock;
use der::{Decode as _, Encode as _};
use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    error::X509Error,
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Extension},
    x509::SubjectPublicKeyInfo,
};

use super::PLAIN;
use crate::{Form, Target, Verdict};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "name", read: name, form: Form::Text, words: NAME_WORDS, mutations: 60_000, ..PLAIN },
    Target { name: "time", read: time, form: Form::Text, words: TIME_WORDS, mutations: 100_000, longest: 200, ..PLAIN },
    Target { name: "key", read: key, form: Form::Der, words: DER_WORDS, ..PLAIN },
    Target { name: "csr", read: csr, form: Form::Der, words: DER_WORDS, mutations: 8_000, ..PLAIN },
    Target { name: "csr-signed", read: csr_signed, form: Form::Der, words: DER_WORDS, mutations: 8_000, ..PLAIN },
    Target { name: "certificate", read: certificate, form: Form::Der, words: DER_WORDS, ..PLAIN },
    Target { name: "issuer", read: issuer, form: Form::Der, words: DER_WORDS, mutations: 3_000, ..PLAIN },
];

const NAME_WORDS: &[&[u8]] = &[
    b".",
    b"*.",
    b"xn--",
    b"xn--bcher-kva",
    b"xn--a",
    b"--",
    b"_acme-challenge.",
    b"example",
    b"localhost",
    b"127.0.0.1",
    b"127.1",
    b"0x7f000001",
    b"0177.0.0.1",
    b"2130706433",
    b"::1",
    b"::ffff:127.0.0.1",
    b"fe80::1%eth0",
    b"2001:db8::1",
    b"[::1]",
    b"spiffe://",
    b"spiffe:",
    b"https://",
    b"cluster.local",
    b"/ns/a/sa/b",
    b"/../",
    b"//",
    b"?",
    b"#",
    b"@",
    b":80",
    b"%41",
    b"\xc3\xbc",
    b"0",
    b"1",
    b"a",
];
const TIME_WORDS: &[&[u8]] = &[
    b"2026-11-25T10:00:00Z",
    b"T",
    b"t",
    b"Z",
    b"z",
    b"+00:00",
    b"-00:00",
    b"+23:59",
    b"-24:00",
    b".5",
    b".000",
    b".0001",
    b",5",
    b":60",
    b":59",
    b"24:00",
    b"-02-29",
    b"-02-30",
    b"[UTC]",
    b"[u-ca=hebrew]",
    b"+0100",
    b"9999",
    b"1969",
    b"0000",
];
const DER_WORDS: &[&[u8]] = &[
    b"\x05\x00",
    b"\x01\x01\xff",
    b"\x01\x01\x00",
    b"\x01\x01\x01",
    b"\x02\x01\x00",
    b"\x02\x01\x80",
    b"\x02\x02\x00\x80",
    b"\x30\x00",
    b"\x30\x80",
    b"\x00\x00",
    b"\x31\x00",
    b"\x04\x00",
    b"\x03\x01\x00",
    b"\x03\x02\x07\x80",
    b"\x06\x03\x55\x1d\x11",
    b"\x06\x03\x55\x1d\x13",
    b"\x06\x03\x55\x1d\x0f",
    b"\x06\x03\x55\x1d\x25",
    b"\x06\x03\x55\x1d\x1e",
    b"\x06\x03\x55\x1d\x0e",
    b"\x06\x03\x55\x1d\x23",
    b"\x06\x03\x55\x04\x03",
    b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x1f",
    b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x18",
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e",
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01",
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a",
    b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
    b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01",
    b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
    b"\x06\x05\x2b\x81\x04\x00\x22",
    b"\x82\x06a.test",
    b"\x82\x08*.a.test",
    b"\x82\x00",
    b"\x82\x03a\x00b",
    b"\x87\x04\x7f\x00\x00\x01",
    b"\x86\x12spiffe://a.test/b/",
    b"\x81\x05a@b.c",
    b"\x0c\x06a.test",
    b"\x16\x06a.test",
    b"\x1e\x02\x00a",
    b"\x17\x0d261125104640Z",
    b"\x17\x0d991125104640Z",
    b"\x18\x0f99991231235959Z",
    b"\x18\x0f00000000000000Z",
];

/// A text that a client gives as a name.
fn name(octets: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(octets) else { return Verdict::refused("not UTF-8") };
    if let Ok(host) = text.parse::<Host>() {
        assert_eq!(host.to_string().parse::<Host>(), Ok(host), "{text:?} is another host when it is shown");
    }
    type Read = fn(&str) -> Result<Name, NameRejection>;
    let kinds: [Read; 7] = [
        Name::dns,
        Name::ip,
        Name::uri,
        |text| text.parse().map(Name::Spiffe),
        |text| text.parse().map(Name::Email),
        |text| text.parse().map(Name::Other),
        |text| {
            text.parse::<Name>().and_then(|name| match name {
                own @ Name::CommonName(_) => Ok(own),
                _ => Err(NameRejection::Empty),
            })
        },
    ];
    for read in kinds {
        let Ok(name) = read(text) else { continue };
        let shown = name.to_string();
        assert_eq!(read(&shown), Ok(name.clone()), "{text:?} is another name when it is shown");
        assert_eq!(shown.parse::<Name>(), Ok(name.clone()), "{text:?} is of another kind when it is shown");
        name_is_what_others_see(&name, &shown);
    }
    match text.parse::<Name>() {
        Ok(_) => Verdict::Taken,
        Err(why) => Verdict::refused(why),
    }
}

fn name_is_what_others_see(name: &Name, shown: &str) {
    assert!(shown.is_ascii() || matches!(name, Name::CommonName(_)));
    assert!(!shown.contains(char::is_control), "{shown:?} moves a terminal's cursor");
    match name {
        Name::Dns(host) | Name::Wildcard(host) => {
            let host = host.as_str();
            assert_eq!(shown, if name.is_wildcard() { format!("*.{host}") } else { host.to_owned() });
            assert!(host.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-".contains(&c)), "{host}");
            assert!(rustls_pki_types::DnsName::try_from(host).is_ok(), "rustls has no such name: {host}");
            assert!(hickory_proto::rr::Name::from_ascii(host).is_ok(), "DNS has no such name: {host}");
            assert!(host.parse::<IpAddr>().is_err());
            // A browser sees the same host, and no address.
            assert_eq!(url::Host::parse(host), Ok(url::Host::Domain(host.to_owned())), "URLs have another host");
        }
        Name::Ip(address) => assert_eq!(shown.parse::<IpAddr>().ok(), Some(*address)),
        Name::Spiffe(id) => id_is_what_others_see(id),
        Name::Uri(uri) => {
            // What others take for a URL has the same host, and nothing in it is spelled otherwise but an empty path.
            if let (Ok(url), Some(host)) = (url::Url::parse(uri.as_str()), uri.host()) {
                assert_eq!((url.scheme(), url.username(), url.password()), (uri.scheme(), "", None));
                assert_eq!(url.host_str(), Some(host), "{uri} leads elsewhere");
            }
        }
        Name::Email(address) => {
            assert_eq!(shown.matches('@').count(), 1);
            assert!(matches!(Name::dns(address.host()), Ok(Name::Dns(host)) if host.as_str() == address.host()));
            assert!(!shown.contains([' ', ',', '<', '>', '"']), "{shown:?} is no one address");
        }
        Name::Other(other) => assert!(!other.value().contains([' ', ',', '"', '\\']), "{shown:?}"),
        Name::CommonName(own) => {
            assert!(own.as_str().chars().count() <= 64 && own.as_str().trim() == own.as_str());
            let host = Name::dns(own.as_str()).is_ok() && own.as_str().contains('.');
            assert!(!host || own.reads_as_host(), "{own} is a host");
        }
    }
}

fn id_is_what_others_see(id: &SpiffeId) {
    let url = url::Url::parse(id.as_str()).expect("a SPIFFE ID is a URL");
    assert_eq!(url.as_str(), id.as_str(), "URLs have another spelling");
    assert_eq!((url.scheme(), url.username(), url.password(), url.port()), ("spiffe", "", None, None));
    assert_eq!(
        (url.host_str(), url.path(), url.query(), url.fragment()),
        (Some(id.trust_domain()), id.path(), None, None)
    );
}

/// A time that a client asks for.
fn time(octets: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(octets) else { return Verdict::refused("not UTF-8") };
    match text.parse::<Timestamp>() {
        Ok(time) => {
            let whole = time.whole_seconds();
            assert_eq!(whole.to_string().parse::<Timestamp>(), Ok(whole), "{text} is another time when it is shown");
            let other = chrono::DateTime::parse_from_rfc3339(text).expect("chrono reads a time of RFC 3339");
            let nanos = other.timestamp_nanos_opt().map(i128::from);
            let ours = i128::from(time.unix_millis()) * 1_000_000;
            assert!(nanos.is_none_or(|nanos| nanos == ours), "{text} was changed silently");
            assert_eq!(other.timestamp_millis(), time.unix_millis());
            Verdict::Taken
        }
        Err(why) => Verdict::refused(why),
    }
}

/// A SubjectPublicKeyInfo.
fn key(der: &[u8]) -> Verdict {
    match PublicKey::from_spki(der) {
        Ok(key) => {
            assert_eq!(key.spki(), der);
            key_is_what_others_see(&key);
            Verdict::Taken
        }
        Err(why) => Verdict::refused(why),
    }
}

pub(super) fn key_is_what_others_see(key: &PublicKey) {
    let (rest, parsed) = SubjectPublicKeyInfo::from_der(key.spki()).expect("x509-parser reads the key");
    assert!(rest.is_empty() && parsed.parsed().is_ok(), "x509-parser does not know the key");
    let strict = x509_cert::spki::SubjectPublicKeyInfoOwned::from_der(key.spki()).expect("x509-cert reads the key");
    assert_eq!(strict.to_der().expect("written"), key.spki(), "x509-cert writes the key otherwise");
    assert_eq!(strict.subject_public_key.raw_bytes(), key.subject_public_key());
}

/// A CSR, by each door's rules.
fn csr(der: &[u8]) -> Verdict {
    let by = |rules| Csr::from_der_by(der, rules);
    let (acme, object) = (by(CsrRules::Acme), by(CsrRules::Object));
    if let Ok(csr) = &object {
        csr_is_what_others_see(der, csr, CsrRules::Object);
        for ca in [false, true] {
            let content = Content::of_object(csr, Usages::NONE, ca);
            assert!(
                content.is_err() || csr.asks_for_ca().is_none_or(|asked| asked == ca),
                "another CA than the object's"
            );
        }
    }
    match acme {
        Ok(csr) => {
            csr_is_what_others_see(der, &csr, CsrRules::Acme);
            Verdict::Taken
        }
        Err(why) => Verdict::refused(why),
    }
}

fn csr_is_what_others_see(der: &[u8], csr: &Csr, rules: CsrRules) {
    assert_eq!(csr.der(), der);
    key_is_what_others_see(csr.public_key());
    let strict = x509_cert::request::CertReq::from_der(der).expect("x509-cert reads the CSR");
    assert_eq!(strict.to_der().expect("written"), der, "x509-cert writes the CSR otherwise");
    let (rest, parsed) = X509CertificationRequest::from_der(der).expect("x509-parser reads the CSR");
    assert!(rest.is_empty());
    let info = &parsed.certification_request_info;
    assert_eq!(info.subject_pki.raw, csr.public_key().spki(), "another key");
    match parsed.verify_signature() {
        // P-521, and P-384 with SHA-256.
        Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm) => {}
        Err(error) => panic!("x509-parser does not verify the signature: {error}"),
    }
    let mut names = BTreeSet::new();
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
            panic!("the attribute {} was taken", attribute.oid);
        };
        for extension in &requested.extensions {
            requested_extension(extension, csr, rules, &mut names);
        }
    }
    let common_names: Vec<&str> = info.subject.iter_common_name().filter_map(|name| name.as_str().ok()).collect();
    if rules == CsrRules::Object {
        let subject = csr.requested_subject().map(RequestedSubject::der);
        assert!(subject.is_none_or(|subject| subject == info.subject.as_raw()), "another subject");
        let ours: BTreeSet<Name> = csr.names().map(|names| names.iter().cloned().collect()).unwrap_or_default();
        assert!(ours.is_superset(&names), "a name of the CSR was dropped");
        for text in common_names.into_iter().filter(|text| !text.is_empty()) {
            let judged = |name: &Name| match name {
                Name::CommonName(own) => own.as_str() == text,
                other => other.to_string().eq_ignore_ascii_case(text),
            };
            assert!(ours.iter().any(judged), "policy does not see the common name {text:?}");
        }
        return;
    }
    for text in common_names {
        names.extend(Name::ip(text).or_else(|_| Name::dns(text)));
    }
    let ours: BTreeSet<Name> = csr.names().map(|names| names.iter().cloned().collect()).unwrap_or_default();
    assert_eq!(ours, names, "x509-parser sees other names");
}

/// What may be asked for, and nothing else (trap 17).
fn requested_extension(extension: &X509Extension<'_>, csr: &Csr, rules: CsrRules, names: &mut BTreeSet<Name>) {
    match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(found) => {
            names.extend(found.general_names.iter().map(|name| match name {
                GeneralName::DNSName(text) => Name::dns(text).expect("a DNS name"),
                GeneralName::IPAddress(octets) => Name::Ip(address(octets).expect("an address")),
                GeneralName::URI(text) if rules == CsrRules::Acme => Name::Spiffe(text.parse().expect("a SPIFFE ID")),
                GeneralName::URI(text) => Name::uri(text).expect("a URI"),
                GeneralName::RFC822Name(text) if rules == CsrRules::Object => {
                    Name::Email(text.parse().expect("an e-mail address"))
                }
                GeneralName::OtherName(kind, value) if rules == CsrRules::Object => {
                    // [0] EXPLICIT UTF8String, both lengths in one octet or in the long form.
                    let value = der::asn1::AnyRef::from_der(value).expect("a value");
                    let text = der::asn1::Utf8StringRef::from_der(value.value()).expect("a text");
                    format!("other:{kind}:{}", text.as_str()).parse().expect("a name of another kind")
                }
                other => panic!("the name {other:?} was taken"),
            }));
        }
        ParsedExtension::BasicConstraints(basic) => {
            assert!(!basic.ca || rules == CsrRules::Object, "CA:TRUE was taken");
            assert_eq!(csr.asks_for_ca(), Some(basic.ca));
        }
        ParsedExtension::NameConstraints(_) => assert_eq!(rules, CsrRules::Object, "name constraints were taken"),
        ParsedExtension::KeyUsage(_)
        | ParsedExtension::ExtendedKeyUsage(_)
        | ParsedExtension::SubjectKeyIdentifier(_) => {}
        _ => {
            let tls_feature = "1.3.6.1.5.5.7.1.24";
            assert_eq!(extension.oid.to_id_string(), tls_feature, "another extension was taken");
        }
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))).ok()
}

/// The input is a CertificationRequestInfo, which is signed with the key that the kept samples hold.
fn csr_signed(info: &[u8]) -> Verdict {
    static KEY: OnceLock<EcdsaKeyPair> = OnceLock::new();
    // Worth nothing: it signs the CSRs of this test.
    const PKCS8: &[u8] = include_bytes!("../../csr-signed.pk8");
    let key = KEY.get_or_init(|| {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, PKCS8).expect("the key of this test")
    });
    let signature = key.sign(&SystemRandom::new(), info).expect("signed");
    csr(&signed(info, signature.as_ref()))
}

/// A certificate, as revokeCert takes it.
fn certificate(der: &[u8]) -> Verdict {
    let ours = match Certificate::from_der(der) {
        Ok(certificate) => certificate,
        Err(why) => return Verdict::refused(why),
    };
    assert_eq!(ours.der(), der);
    let _ = ours.serial_number();
    if let Ok(strict) = x509_cert::Certificate::from_der(der) {
        let tbs = strict.tbs_certificate();
        let written = |part: Result<Vec<u8>, der::Error>| part.expect("written");
        assert_eq!(ours.issuer(), written(tbs.issuer().to_der()), "another issuer");
        assert_eq!(ours.subject(), written(tbs.subject().to_der()), "another subject");
        assert_eq!(ours.spki(), written(tbs.subject_public_key_info().to_der()), "another key");
        if let Some(serial) = ours.serial_number() {
            assert_eq!(serial.der_content(), tbs.serial_number().as_bytes(), "another serial");
        }
    }
    Verdict::Taken
}

/// An issuing certificate. No client sends one, but a root that others run made it.
fn issuer(der: &[u8]) -> Verdict {
    let certificate = match IssuingCertificate::from_der(der) {
        Ok(certificate) => certificate,
        Err(why) => return Verdict::refused(why),
    };
    assert_eq!(certificate.der(), der);
    let constraints = certificate.constraints();
    let _ = constraints.refused_by_rustls();
    for subtree in constraints.permitted().iter().chain(constraints.excluded()) {
        assert!(!subtree.to_string().contains(char::is_control), "{subtree:?} moves a terminal's cursor");
    }
    match chain::install(&[der.to_vec()], certificate.key(), TestClock::START) {
        Ok(chain) => {
            let profile = Profile::new(ProfileSpec::server()).expect("sound");
            for name in ["a.test", "*.a.test", "10.0.0.1", "2001:db8::1", "spiffe://a.test/b"] {
                let names = NameSet::new([name.parse().expect("a name")]).expect("one name");
                let _ = chain.permits(&names, &profile, &AS_PROFILE, TestClock::START);
            }
            Verdict::Taken
        }
        Err(why) => Verdict::refused(why),
    }
}

/// `SEQUENCE { info, ecdsa-with-SHA256, signature }`.
fn signed(info: &[u8], signature: &[u8]) -> Vec<u8> {
    const ECDSA_WITH_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    let bits = der::asn1::BitString::from_bytes(signature).and_then(|bits| bits.to_der()).expect("a BIT STRING");
    let content = [info, ECDSA_WITH_SHA256, &bits].concat();
    der::asn1::Any::new(der::Tag::Sequence, content).and_then(|whole| whole.to_der()).expect("a SEQUENCE")
}
