//! CSRs made by OpenSSL, and others put together by hand and signed by OpenSSL.
#![expect(clippy::disallowed_methods, reason = "OpenSSL's files, signing keys of the test, and a stopwatch")]

#[path = "support/der.rs"]
mod der;
#[path = "support/openssl.rs"]
mod openssl;

use std::{sync::LazyLock, time::Instant};

use chancery_pki::{
    Csr, CsrRejection, CsrRules, KeyKind, KeyRejection, Name, NameRejection, NameSet, SignatureAlgorithm, csr::CSR_MAX,
};
use der::wrap;
use openssl::{GENPKEY, OpenSsl};
use proptest::prelude::*;

const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
const EXTENSION_REQUEST: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e";
const CHALLENGE_PASSWORD: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07";
const SAN: &[u8] = b"\x06\x03\x55\x1d\x11";
const EKU: &[u8] = b"\x06\x03\x55\x1d\x25";
const KEY_USAGE: &[u8] = b"\x06\x03\x55\x1d\x0f";
const EXTENDED_KEY_USAGE: &[u8] = b"\x06\x03\x55\x1d\x25";
const BASIC_CONSTRAINTS: &[u8] = b"\x06\x03\x55\x1d\x13";
const SUBJECT_KEY_IDENTIFIER: &[u8] = b"\x06\x03\x55\x1d\x0e";
const NAME_CONSTRAINTS: &[u8] = b"\x06\x03\x55\x1d\x1e";
const TLS_FEATURE: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x18";
const COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";
const ORGANIZATION: &[u8] = b"\x06\x03\x55\x04\x0a";
const CRITICAL: &[u8] = b"\x01\x01\xff";

/// A CSR in pieces; every piece is DER and can be replaced.
struct Draft {
    version: Vec<u8>,
    subject: Vec<u8>,
    attributes: Vec<u8>,
}

/// A P-256 key for all drafts.
static SIGNER: LazyLock<(OpenSsl, Vec<u8>)> = LazyLock::new(|| {
    let openssl = OpenSsl::new();
    let spki = openssl.generate("signer", GENPKEY[3].1);
    (openssl, spki)
});

impl Draft {
    /// With an empty subject and these extensions, each an `extension(...)`.
    fn asking(extensions: &[Vec<u8>]) -> Self {
        let list = wrap(0x30, &extensions.concat());
        Self { version: vec![2, 1, 0], subject: wrap(0x30, &[]), attributes: attribute(EXTENSION_REQUEST, &list) }
    }

    fn bare() -> Self {
        Self { version: vec![2, 1, 0], subject: wrap(0x30, &[]), attributes: Vec::new() }
    }

    fn named(self, kind: &[u8], tag: u8, value: &[u8]) -> Self {
        let pair = wrap(0x30, &[kind, &wrap(tag, value)].concat());
        Self { subject: wrap(0x30, &wrap(0x31, &pair)), ..self }
    }

    fn info(&self) -> Vec<u8> {
        let attributes = wrap(0xa0, &self.attributes);
        wrap(0x30, &[&self.version[..], &self.subject, &SIGNER.1, &attributes].concat())
    }

    fn sign(&self) -> Vec<u8> {
        let openssl = OpenSsl::new();
        let info = self.info();
        openssl.write("info", &info);
        let key = SIGNER.0.path("signer.key");
        openssl.run(&format!("dgst -sha256 -sign {} -out signature info", key.display()));
        assemble(&info, ECDSA_SHA256, &openssl.read("signature"))
    }

    fn read(&self) -> Result<Csr, CsrRejection> {
        Csr::from_der(&self.sign())
    }
}

fn assemble(info: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    wrap(0x30, &[info, algorithm, &wrap(0x03, &[&[0], signature].concat())].concat())
}

fn attribute(kind: &[u8], value: &[u8]) -> Vec<u8> {
    wrap(0x30, &[kind, &wrap(0x31, value)].concat())
}

fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    wrap(0x30, &[oid, &wrap(0x04, value)].concat())
}

fn critical(oid: &[u8], value: &[u8]) -> Vec<u8> {
    wrap(0x30, &[oid, CRITICAL, &wrap(0x04, value)].concat())
}

fn general_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    wrap(0x30, &names.iter().flat_map(|(tag, value)| wrap(*tag, value)).collect::<Vec<u8>>())
}

fn dns(names: &[&str]) -> Vec<u8> {
    extension(SAN, &general_names(&names.iter().map(|name| (0x82, name.as_bytes())).collect::<Vec<_>>()))
}

fn san(tag: u8, value: &[u8]) -> Result<Csr, CsrRejection> {
    Draft::asking(&[extension(SAN, &general_names(&[(tag, value)]))]).read()
}

fn texts(csr: &Csr) -> Vec<String> {
    csr.names().map(|names| names.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

/// A CSR by `openssl req` with a key of its own and these lines in its section of extensions.
fn by_openssl(openssl: &OpenSsl, options: &str, subject: &str, extensions: &str, arguments: &str) -> Vec<u8> {
    openssl.generate("req", options);
    openssl.write(
        "req.conf",
        format!("[req]\ndistinguished_name=dn\nprompt=no\nreq_extensions=ext\n[dn]\n{subject}\n[ext]\n{extensions}\n"),
    );
    openssl.run(&format!("req -new -key req.key -config req.conf -outform DER {arguments}"))
}

#[test]
fn a_csr_with_every_kind_of_key_is_taken_and_the_key_comes_out_octet_for_octet() {
    let openssl = OpenSsl::new();
    for (name, options) in GENPKEY {
        let der = by_openssl(&openssl, options, "CN=a.example", "subjectAltName=DNS:a.example,DNS:*.b.example", "");
        let csr = Csr::from_der(&der).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(csr.public_key().kind().to_string(), name);
        assert_eq!(csr.public_key().spki(), openssl.run("pkey -in req.key -pubout -outform DER"));
        assert_eq!(texts(&csr), ["a.example", "*.b.example"]);
        assert_eq!(csr.common_name(), Some("a.example"));
        assert_eq!(csr.der(), der);
        assert!(!csr.wants_must_staple() && !csr.subject_is_empty());
    }
}

#[test]
fn a_p384_key_may_sign_its_csr_with_sha_256_and_stays_a_p384_key() {
    // Trap 6.
    let openssl = OpenSsl::new();
    for (name, options) in &GENPKEY[3..6] {
        for (digest, algorithm) in [
            ("-sha256", SignatureAlgorithm::EcdsaSha256),
            ("-sha384", SignatureAlgorithm::EcdsaSha384),
            ("-sha512", SignatureAlgorithm::EcdsaSha512),
        ] {
            let csr = Csr::from_der(&by_openssl(&openssl, options, "CN=a.example", "", digest));
            let csr = csr.unwrap_or_else(|why| panic!("{name} {digest}: {why}"));
            assert_eq!(csr.signature_algorithm(), algorithm);
            assert_eq!(csr.public_key().kind().to_string(), *name);
        }
    }
}

#[test]
fn the_csr_of_cert_manager_is_taken_with_its_usages() {
    // Trap 17: keyEncipherment for an EC key too; both extensions, KU critical, and CA:FALSE.
    let openssl = OpenSsl::new();
    let extensions = "subjectAltName=DNS:web.apps.example.com,IP:10.0.0.1,IP:2001:db8::1\n\
        keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\n\
        basicConstraints=critical,CA:FALSE\nsubjectKeyIdentifier=hash";
    let csr = Csr::from_der(&by_openssl(&openssl, GENPKEY[3].1, "O=x", extensions, "")).expect("accepted");
    assert_eq!(texts(&csr), ["web.apps.example.com", "10.0.0.1", "2001:db8::1"]);
    let usages = csr.requested_usages();
    assert_eq!(usages.key_usages.as_deref(), Some(&["digitalSignature", "keyEncipherment"][..]));
    assert_eq!(usages.extended_key_usages, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    assert_eq!((csr.common_name(), csr.subject_is_empty()), (None, false));
}

#[test]
fn the_csr_of_istios_agent_with_one_empty_organization_is_taken() {
    let id = b"spiffe://cluster.local/ns/default/sa/web";
    let extensions = [critical(SAN, &general_names(&[(0x86, id)]))];
    let draft = Draft::asking(&extensions).named(ORGANIZATION, 0x13, b"");
    assert_eq!(draft.subject, b"\x30\x0b\x31\x09\x30\x07\x06\x03\x55\x04\x0a\x13\x00");
    let csr = draft.read().expect("accepted");
    assert_eq!(texts(&csr), ["spiffe://cluster.local/ns/default/sa/web"]);
    assert!(csr.subject_is_empty());
}

#[test]
fn the_csr_of_ztunnel_with_an_empty_subject_is_taken() {
    let csr = Draft::asking(&[critical(SAN, &general_names(&[(0x86, b"spiffe://td/ns/a/sa/b")]))]).read();
    let csr = csr.expect("accepted");
    assert!(csr.subject_is_empty());
    assert_eq!(csr.names().map(NameSet::len), Some(1));
}

#[test]
fn a_csr_without_any_name_has_none() {
    let csr = Draft::bare().read().expect("accepted");
    assert_eq!(csr.names(), None);
    assert_eq!(csr.requested_usages(), &chancery_pki::csr::RequestedUsages::default());
}

#[test]
fn the_common_name_counts_if_it_is_a_dns_name_or_an_address() {
    let with = |text: &str| Draft::asking(&[dns(&["b.example"])]).named(COMMON_NAME, 0x0c, text.as_bytes()).read();
    assert_eq!(texts(&with("A.Example").expect("accepted")), ["a.example", "b.example"]);
    assert_eq!(texts(&with("b.example").expect("accepted")), ["b.example"]);
    assert_eq!(texts(&with("10.0.0.1").expect("accepted")), ["b.example", "10.0.0.1"]);
    let person = with("Ada Lovelace").expect("accepted");
    assert_eq!(
        (texts(&person).as_slice(), person.common_name()),
        (&["b.example".to_owned()][..], Some("Ada Lovelace"))
    );
    let alone = Draft::bare().named(COMMON_NAME, 0x13, b"*.a.example").read().expect("accepted");
    assert_eq!(texts(&alone), ["*.a.example"]);
}

#[test]
fn a_common_name_with_nul_or_in_an_old_string_type_and_a_second_one_are_refused() {
    let bare = |tag, value: &[u8]| Draft::bare().named(COMMON_NAME, tag, value).read();
    assert_eq!(bare(0x0c, b"a.example\0.evil.example"), Err(CsrRejection::CommonName));
    assert_eq!(bare(0x0c, b"a.example\n"), Err(CsrRejection::CommonName));
    assert_eq!(bare(0x0c, b"\xff\xfe"), Err(CsrRejection::CommonName));
    assert_eq!(bare(0x1e, b"\0a\0.\0b"), Err(CsrRejection::CommonName));
    let mut draft = Draft::bare().named(COMMON_NAME, 0x0c, b"a.example");
    let one = draft.subject[2..].to_vec();
    draft.subject = wrap(0x30, &[&one[..], &one].concat());
    assert_eq!(draft.read(), Err(CsrRejection::SeveralCommonNames));
}

#[test]
fn a_csr_that_asks_for_a_ca_certificate_is_refused() {
    // Trap 5: rcgen made a CA certificate of it.
    let openssl = OpenSsl::new();
    for constraints in ["CA:TRUE", "critical,CA:TRUE", "CA:TRUE,pathlen:0"] {
        let extensions = format!("subjectAltName=DNS:a.example\nbasicConstraints={constraints}");
        let csr = by_openssl(&openssl, GENPKEY[3].1, "CN=a.example", &extensions, "");
        assert_eq!(Csr::from_der(&csr), Err(CsrRejection::AsksForCa));
    }
    let false_spelled_out = Draft::asking(&[extension(BASIC_CONSTRAINTS, b"\x30\x03\x01\x01\x00")]).read();
    assert_eq!(false_spelled_out, Err(CsrRejection::MalformedExtension { extension: "basicConstraints" }));
    let depth_alone = Draft::asking(&[extension(BASIC_CONSTRAINTS, b"\x30\x03\x02\x01\x00")]).read();
    assert_eq!(depth_alone, Err(CsrRejection::MalformedExtension { extension: "basicConstraints" }));
}

#[test]
fn must_staple_is_seen_and_other_tls_features_are_refused() {
    let openssl = OpenSsl::new();
    let staple = by_openssl(&openssl, GENPKEY[3].1, "CN=a.example", "tlsfeature=status_request", "");
    assert!(Csr::from_der(&staple).expect("accepted").wants_must_staple());
    let version_2 = by_openssl(&openssl, GENPKEY[3].1, "CN=a.example", "tlsfeature=status_request_v2", "");
    assert_eq!(Csr::from_der(&version_2), Err(CsrRejection::UnsupportedTlsFeature));
    assert!(Draft::asking(&[extension(TLS_FEATURE, b"\x30\x00")]).read().is_err());
}

#[test]
fn every_other_extension_is_refused_by_its_object_identifier() {
    let openssl = OpenSsl::new();
    for (line, oid) in [
        ("certificatePolicies=1.2.3.4", "2.5.29.32"),
        ("nameConstraints=permitted;DNS:example", "2.5.29.30"),
        ("crlDistributionPoints=URI:http://a.example/crl", "2.5.29.31"),
        ("authorityInfoAccess=OCSP;URI:http://a.example", "1.3.6.1.5.5.7.1.1"),
        ("noCheck=ignored", "1.3.6.1.5.5.7.48.1.5"),
        ("1.3.6.1.4.1.311.20.2=ASN1:BMPSTRING:WebServer", "1.3.6.1.4.1.311.20.2"),
    ] {
        let csr =
            by_openssl(&openssl, GENPKEY[3].1, "CN=a.example", &format!("subjectAltName=DNS:a.example\n{line}"), "");
        assert_eq!(Csr::from_der(&csr), Err(CsrRejection::UnsupportedExtension { oid: oid.into() }));
    }
    let critical_one = Draft::asking(&[critical(NAME_CONSTRAINTS, b"\x30\x00")]).read();
    assert_eq!(critical_one, Err(CsrRejection::UnsupportedExtension { oid: "2.5.29.30".into() }));
}

#[test]
fn two_san_extensions_are_refused_and_so_are_two_lists_of_extensions() {
    // Trap 5: rcgen merged them.
    let twice = Draft::asking(&[dns(&["a.example"]), dns(&["b.example"])]).read();
    assert_eq!(twice, Err(CsrRejection::DuplicateExtension { extension: "subjectAltName".into() }));
    let mut two_attributes = Draft::asking(&[dns(&["a.example"])]);
    two_attributes.attributes = [two_attributes.attributes.clone(), two_attributes.attributes].concat();
    assert_eq!(two_attributes.read(), Err(CsrRejection::SeveralExtensionRequests));
    let mut two_values = Draft::bare();
    let list = wrap(0x30, &dns(&["a.example"]));
    two_values.attributes = attribute(EXTENSION_REQUEST, &[&list[..], &list].concat());
    assert_eq!(two_values.read(), Err(CsrRejection::SeveralExtensionRequests));
    let mut no_value = Draft::bare();
    no_value.attributes = attribute(EXTENSION_REQUEST, &[]);
    assert_eq!(no_value.read(), Err(CsrRejection::SeveralExtensionRequests));
}

#[test]
fn several_names_in_one_set_are_sorted_as_der_has_it_or_refused() {
    let pair = |kind: &[u8], value: &[u8]| wrap(0x30, &[kind, &wrap(0x0c, value)].concat());
    let (common_name, organization) = (pair(COMMON_NAME, b"a.example"), pair(ORGANIZATION, b"Example"));
    let of = |pairs: [&[u8]; 2]| Draft { subject: wrap(0x30, &wrap(0x31, &pairs.concat())), ..Draft::bare() }.read();
    let csr = of([&organization, &common_name]).expect("sorted");
    assert_eq!(csr.common_name(), Some("a.example"));
    assert_eq!(of([&common_name, &organization]), Err(CsrRejection::NotDer { part: "subject" }));
}

#[test]
fn names_of_other_kinds_are_refused_by_the_name_of_the_kind() {
    for (tag, kind) in [
        (0x81, "rfc822Name (e-mail)"),
        (0xa0, "otherName"),
        (0xa4, "directoryName"),
        (0x88, "registeredID"),
        (0xa3, "x400Address"),
        (0xa5, "ediPartyName"),
    ] {
        assert_eq!(san(tag, b"\x30\x00"), Err(CsrRejection::UnsupportedNameKind { kind }));
    }
    assert!(matches!(
        san(0x86, b"https://a.example/"),
        Err(CsrRejection::Name { why: NameRejection::NotASpiffeId { .. }, .. })
    ));
    let openssl = OpenSsl::new();
    let email = by_openssl(&openssl, GENPKEY[3].1, "CN=a.example", "subjectAltName=email:ada@a.example", "");
    assert_eq!(Csr::from_der(&email), Err(CsrRejection::UnsupportedNameKind { kind: "rfc822Name (e-mail)" }));
}

#[test]
fn names_that_are_none_are_refused_and_shown_without_doing_harm() {
    for name in ["", "a b", "a..b", "a\0b", "*.a.*.b", "*.com", "a_b.example", "10.0.0.1", "a.example."] {
        assert!(matches!(san(0x82, name.as_bytes()), Err(CsrRejection::Name { .. })), "{name:?}");
    }
    let Err(CsrRejection::Name { name, .. }) = san(0x82, b"a\x1b[2J\r\n\0.example") else { panic!("refused") };
    assert_eq!(name, "a\\u{1b}[2J\\r\\n\\0.example");
    let Err(CsrRejection::Name { name, .. }) = san(0x82, &[b'a'; 1000]) else { panic!("refused") };
    assert!(name.len() < 110 && name.ends_with("(1000 octets)"));
    let malformed = Err(CsrRejection::MalformedExtension { extension: "subjectAltName" });
    assert_eq!(san(0x82, "bücher.example".as_bytes()), malformed);
    for octets in [&[][..], &[10, 0, 0], &[10, 0, 0, 1, 0xff, 0xff, 0xff, 0], &[0; 17]] {
        assert_eq!(san(0x87, octets), malformed);
    }
    let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 0, 0, 1]].concat();
    assert!(matches!(san(0x87, &mapped), Err(CsrRejection::Name { why: NameRejection::NotAnAddress, .. })));
    assert_eq!(Draft::asking(&[extension(SAN, b"\x30\x00")]).read(), malformed);
}

#[test]
fn a_hundred_names_are_taken_and_one_more_is_refused() {
    let names: Vec<String> = (0..101).map(|number| format!("n{number}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(texts(&Draft::asking(&[dns(&names[..100])]).read().expect("accepted")).len(), 100);
    assert_eq!(
        Draft::asking(&[dns(&names)]).read(),
        Err(CsrRejection::Names(NameRejection::TooManyNames { count: 101 }))
    );
}

#[test]
fn names_and_purposes_are_counted_before_any_is_read() {
    let mut names = vec!["a.example"; 200];
    assert_eq!(texts(&Draft::asking(&[dns(&names)]).read().expect("the same name twice is folded")).len(), 1);
    names.push("no name at all");
    assert_eq!(
        Draft::asking(&[dns(&names)]).read(),
        Err(CsrRejection::Names(NameRejection::TooManyNames { count: 201 }))
    );
    let purposes = |count: usize| {
        let each = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01".repeat(count);
        let length = u16::try_from(each.len()).expect("short").to_be_bytes();
        [&b"\x30\x82"[..], &length, &each].concat()
    };
    let read = |count| Draft::asking(&[dns(&["a.example"]), extension(EKU, &purposes(count))]).read();
    assert!(read(64).is_ok());
    assert_eq!(read(65), Err(CsrRejection::MalformedExtension { extension: "extKeyUsage" }));
}

#[test]
fn a_challenge_password_and_other_attributes_are_refused() {
    let mut draft = Draft::asking(&[dns(&["a.example"])]);
    let good = draft.attributes.clone();
    draft.attributes = [good.clone(), attribute(CHALLENGE_PASSWORD, b"\x0c\x06secret")].concat();
    assert_eq!(draft.read(), Err(CsrRejection::ChallengePassword));
    let os_version = b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x0d\x02\x03";
    draft.attributes = [good, attribute(os_version, b"\x16\x0410.0")].concat();
    assert_eq!(draft.read(), Err(CsrRejection::UnsupportedAttribute { oid: "1.3.6.1.4.1.311.13.2.3".into() }));
}

#[test]
fn octets_after_the_csr_are_refused_and_so_is_a_csr_that_is_too_large() {
    // Trap 7.
    let mut der = Draft::asking(&[dns(&["a.example"])]).sign();
    der.push(0);
    assert_eq!(Csr::from_der(&der), Err(CsrRejection::TrailingOctets));
    assert_eq!(Csr::from_der(&vec![0x30; CSR_MAX + 1]), Err(CsrRejection::TooLarge { length: CSR_MAX + 1 }));
}

#[test]
fn a_csr_that_another_key_signed_or_that_was_changed_is_refused() {
    let draft = Draft::asking(&[dns(&["a.example"])]);
    let openssl = OpenSsl::new();
    openssl.generate("other", GENPKEY[3].1);
    openssl.write("info", draft.info());
    openssl.run("dgst -sha256 -sign other.key -out signature info");
    let foreign = assemble(&draft.info(), ECDSA_SHA256, &openssl.read("signature"));
    assert_eq!(Csr::from_der(&foreign), Err(CsrRejection::BadSignature));
    let mut changed = draft.sign();
    let at = changed.windows(9).position(|window| window == b"a.example").unwrap();
    changed[at] = b'b';
    assert_eq!(Csr::from_der(&changed), Err(CsrRejection::BadSignature));
}

#[test]
fn weak_digests_and_algorithms_that_do_not_fit_the_key_are_refused() {
    let openssl = OpenSsl::new();
    for (options, digest, name) in [
        (GENPKEY[0].1, "-sha1", "SHA-1"),
        (GENPKEY[0].1, "-md5", "MD5"),
        (GENPKEY[3].1, "-sha1", "SHA-1"),
        (GENPKEY[3].1, "-sha224", "SHA-224"),
    ] {
        let csr = by_openssl(&openssl, options, "CN=a.example", "", digest);
        assert_eq!(Csr::from_der(&csr), Err(CsrRejection::WeakDigest { digest: name }));
    }
    let pss = by_openssl(&openssl, GENPKEY[0].1, "CN=a.example", "", "-sigopt rsa_padding_mode:pss");
    assert_eq!(Csr::from_der(&pss), Err(CsrRejection::UnsupportedSignature { oid: "1.2.840.113549.1.1.10".into() }));
    let draft = Draft::bare();
    let ed25519 = assemble(&draft.info(), b"\x30\x05\x06\x03\x2b\x65\x70", &[0; 64]);
    let fits = CsrRejection::AlgorithmDoesNotFit { kind: KeyKind::P256, algorithm: SignatureAlgorithm::Ed25519 };
    assert_eq!(Csr::from_der(&ed25519), Err(fits));
}

#[test]
fn weak_and_unknown_keys_in_a_csr_are_refused() {
    let openssl = OpenSsl::new();
    let small = by_openssl(&openssl, "-algorithm RSA -pkeyopt rsa_keygen_bits:1024", "CN=a.example", "", "");
    assert_eq!(Csr::from_der(&small), Err(CsrRejection::Key(KeyRejection::ModulusSize { bits: 1024 })));
    let other = by_openssl(&openssl, "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "CN=a.example", "", "");
    assert!(matches!(Csr::from_der(&other), Err(CsrRejection::Key(KeyRejection::UnsupportedCurve { .. }))));
}

#[test]
fn der_that_is_almost_right_is_refused() {
    let good = Draft::asking(&[dns(&["a.example"])]);
    assert_eq!(Draft { version: vec![2, 1, 1], ..Draft::bare() }.read(), Err(CsrRejection::Version));
    assert_eq!(Draft { version: vec![2, 2, 0, 0], ..Draft::bare() }.read(), Err(CsrRejection::Version));
    let empty_list = Draft::asking(&[]).read();
    assert_eq!(empty_list, Err(CsrRejection::NotDer { part: "extensionRequest" }));
    let critical_false = wrap(0x30, &[KEY_USAGE, b"\x01\x01\x00\x04\x04\x03\x02\x07\x80"].concat());
    assert_eq!(Draft::asking(&[critical_false]).read(), Err(CsrRejection::NotDer { part: "extensionRequest" }));
    for (oid, value) in [
        (KEY_USAGE, &b"\x03\x04\x00\xff\xff\xff"[..]),
        (KEY_USAGE, b"\x04\x01\x80"),
        // Bits beyond those that are used.
        (KEY_USAGE, b"\x03\x02\x07\xff"),
        (EXTENDED_KEY_USAGE, b"\x30\x00"),
        (EXTENDED_KEY_USAGE, b"\x30\x02\x05\x00"),
        (SUBJECT_KEY_IDENTIFIER, b"\x05\x00"),
        (SUBJECT_KEY_IDENTIFIER, b"\x04\x01\x00\x00"),
    ] {
        assert!(matches!(Draft::asking(&[extension(oid, value)]).read(), Err(CsrRejection::MalformedExtension { .. })));
    }
    // Without [0], which is not optional, and with something behind it.
    let info = wrap(0x30, &[&good.version[..], &good.subject, &SIGNER.1].concat());
    assert_eq!(
        Csr::from_der(&assemble(&info, ECDSA_SHA256, &[0; 70])),
        Err(CsrRejection::NotDer { part: "CertificationRequestInfo" })
    );
}

#[test]
fn no_octet_of_a_csr_can_be_changed_unseen() {
    let der = Draft::asking(&[dns(&["a.example"])]).named(COMMON_NAME, 0x0c, b"a.example").sign();
    for at in 0..der.len() {
        assert!(Csr::from_der(&der[..at]).is_err());
        for bit in 0..8 {
            let mut flipped = der.clone();
            flipped[at] ^= 1 << bit;
            assert!(Csr::from_der(&flipped).is_err(), "octet {at}, bit {bit}");
        }
    }
}

static MUTATED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    Draft::asking(&[
        critical(SAN, &general_names(&[(0x82, b"a.example"), (0x87, &[10, 0, 0, 1]), (0x86, b"spiffe://td/a")])),
        critical(KEY_USAGE, b"\x03\x02\x05\xa0"),
        extension(EXTENDED_KEY_USAGE, b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01"),
        extension(TLS_FEATURE, b"\x30\x03\x02\x01\x05"),
    ])
    .named(COMMON_NAME, 0x0c, b"a.example")
    .sign()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn octets_of_any_kind_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Csr::from_der(&octets);
        let _ = Csr::from_der_by(&octets, CsrRules::Object);
    }

    #[test]
    fn a_csr_with_octets_overwritten_inserted_or_cut_is_read_or_refused(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6),
    ) {
        let mut der = MUTATED.clone();
        for (at, octet, edit) in edits {
            let at = at.index(der.len());
            match edit {
                0 => der[at] = octet,
                1 => der.insert(at, octet),
                _ => { der.remove(at); }
            }
        }
        for rules in [CsrRules::Acme, CsrRules::Object] {
            if let Ok(csr) = Csr::from_der_by(&der, rules) {
                prop_assert_eq!(csr.der(), &MUTATED[..]);
            }
        }
    }
}

/// Not a bound that could fail on a busy machine: it prints what a CSR costs (`--nocapture`).
#[test]
fn what_a_csr_costs() {
    let openssl = OpenSsl::new();
    for (name, options) in GENPKEY {
        let der = by_openssl(&openssl, options, "CN=a.example", "subjectAltName=DNS:a.example,DNS:b.example", "");
        Csr::from_der(&der).expect("warms the tables up");
        let start = Instant::now();
        for _ in 0..100 {
            std::hint::black_box(Csr::from_der(std::hint::black_box(&der))).expect("accepted");
        }
        println!("{name}: {} µs", start.elapsed().as_nanos() / 100_000);
    }
}

#[test]
fn names_of_a_csr_are_the_ones_of_the_name_module() {
    let csr = Draft::asking(&[dns(&["WWW.a.example", "www.A.example"])]).read().expect("accepted");
    assert_eq!(csr.names().map(|names| names.contains(&Name::dns("www.a.example").unwrap())), Some(true));
    assert_eq!(texts(&csr), ["www.a.example"]);
}
