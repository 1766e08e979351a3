//! CSRs that cert-manager's own code made of Certificates (`cert_manager/write.go`, v1.21.2, which says how to make them
//! again), read and judged as those that OpenSSL and our own tests write.

use chancery_pki::{Content, Csr, CsrRules, KeyKind, Usages, csr::from_pem, profile::KeyUsage};
use der::{DecodePem as _, Encode as _};

macro_rules! made {
    ($($name:literal),*) => { &[$(($name, include_str!(concat!("cert_manager/", $name, ".pem")))),*] };
}

const MADE: &[(&str, &str)] = made![
    "rsa",
    "every-kind-of-name",
    "workload",
    "ed25519",
    "subject",
    "literal-subject",
    "ca",
    "ca-of-no-usages",
    "without-usages",
    "many-usages"
];

fn pem(name: &str) -> &'static str {
    MADE.iter().find(|(made, _)| *made == name).expect("one of those that were made").1
}

fn csr(name: &str) -> Csr {
    Csr::from_der_by(&from_pem(pem(name)).expect("PEM"), CsrRules::Object).expect(name)
}

fn usages(words: &[&str]) -> Usages {
    Usages::from_words(words.iter().copied()).expect("words")
}

fn texts(csr: &Csr) -> Vec<String> {
    csr.names().map(|names| names.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

/// What the Certificate says beside names: its usages, and whether it is a CA's.
type Object = (&'static [&'static str], bool);

/// A CSR, its names, its kind of key, its object.
const CASES: [(&str, &[&str], KeyKind, Object); 10] = [
    ("rsa", &["a.example.com", "*.b.example.com"], KeyKind::Rsa2048, (&[], false)),
    (
        "every-kind-of-name",
        &[
            "a.example.com",
            "10.0.0.1",
            "2001:db8::1",
            "https://example.com/a",
            "urn:example:b",
            "alice@example.com",
            "other:1.3.6.1.4.1.311.20.2.3:upn@example.com",
        ],
        KeyKind::P256,
        (&["digital signature", "server auth", "client auth"], false),
    ),
    (
        "workload",
        &["spiffe://example.com/ns/shop/sa/web"],
        KeyKind::P384,
        (&["digital signature", "client auth"], false),
    ),
    ("ed25519", &["a.example.com"], KeyKind::Ed25519, (&["signing"], false)),
    ("subject", &["a.example.com", "cn:Müller GmbH"], KeyKind::P256, (&[], false)),
    ("literal-subject", &["a.example.com", "cn:payments service"], KeyKind::P256, (&[], false)),
    ("ca", &["cn:Team CA"], KeyKind::P384, (&["digital signature", "cert sign", "crl sign"], true)),
    ("ca-of-no-usages", &["cn:Team CA"], KeyKind::P256, (&[], true)),
    ("without-usages", &["a.example.com"], KeyKind::P256, (&["server auth"], false)),
    (
        "many-usages",
        &["a.example.com"],
        KeyKind::Rsa3072,
        (
            &[
                "signing",
                "content commitment",
                "key encipherment",
                "data encipherment",
                "server auth",
                "code signing",
                "email protection",
                "timestamping",
                "any",
            ],
            false,
        ),
    ),
];

#[test]
fn what_cert_manager_makes_of_a_certificate_echoes_it_and_is_read_whole() {
    for (name, names, key, (words, is_ca)) in CASES {
        let csr = csr(name);
        let mut found = texts(&csr);
        let mut wanted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{name}");
        assert_eq!(csr.public_key().kind(), key, "{name}");
        let content = Content::of_object(&csr, usages(words), is_ca).expect(name);
        assert_eq!((content.is_ca, &content.usages), (is_ca, &usages(words)), "{name}: the object decides");
    }
}

#[test]
fn a_subject_is_what_the_certificate_says_octet_for_octet() {
    for (name, text) in [
        ("subject", "C=DE, O=Second+O=Example\\, Inc., OU=Payments, CN=Müller GmbH, serialNumber=7"),
        // Go puts several values of one attribute into one relative name; a literal subject has one for each.
        ("literal-subject", "DC=example, DC=corp, O=Corp., OU=One, OU=Two, CN=payments service"),
        ("ca", "CN=Team CA"),
    ] {
        let csr = csr(name);
        let subject = csr.requested_subject().expect("a subject");
        let other = x509_cert::request::CertReq::from_pem(pem(name)).expect("another reader reads it");
        assert_eq!(subject.der(), other.info.subject.to_der().expect("written"), "{name}");
        assert_eq!(subject.to_string(), text);
    }
    for name in ["rsa", "workload", "ed25519"] {
        assert!(csr(name).requested_subject().is_none(), "{name}");
    }
}

#[test]
fn a_ca_and_its_constraints_are_asked_for_by_the_object_and_never_by_its_csr_alone() {
    let ca = csr("ca");
    assert_eq!(ca.asks_for_ca(), Some(true));
    assert_eq!(
        ca.requested_name_constraints().to_string(),
        "permitted DNS:team.example.com, IP:10.1.0.0/255.255.0.0; excluded email:example.com"
    );
    let words = ["digital signature", "cert sign", "crl sign"];
    let content = Content::of_object(&ca, usages(&words), true).expect("echoes the object");
    assert_eq!(&content.name_constraints, ca.requested_name_constraints());
    let refused = Content::of_object(&ca, usages(&words), false).expect_err("no CA is asked for").to_string();
    assert!(refused.contains("basicConstraints"), "{refused}");
    // cert-manager adds keyCertSign, and the other two where none are said.
    let content = Content::of_object(&csr("ca-of-no-usages"), usages(&[]), true).expect("echoes the object");
    assert!(content.usages.key_usages().is_empty());
    let leaf = Content::of_object(&csr("rsa"), usages(&[]), true);
    assert!(leaf.expect_err("the CSR says CA:FALSE").to_string().contains("basicConstraints"));
}

#[test]
fn usages_that_differ_from_the_objects_are_told_by_the_part_that_differs() {
    for (name, words, part) in [
        ("rsa", &["digital signature"][..], "keyUsage"),
        ("every-kind-of-name", &["digital signature", "server auth"], "extKeyUsage"),
        ("every-kind-of-name", &["key encipherment", "server auth", "client auth"], "keyUsage"),
        ("ed25519", &["signing", "key encipherment"], "keyUsage"),
        ("ca", &["digital signature", "cert sign"], "keyUsage"),
        ("many-usages", &["signing", "server auth"], "keyUsage"),
    ] {
        let is_ca = name == "ca";
        let refused = Content::of_object(&csr(name), usages(words), is_ca).expect_err(name).to_string();
        assert!(refused.contains(part), "{name}: {refused}");
    }
    // A CSR that says nothing differs from nothing.
    let silent = csr("without-usages");
    for words in [&["server auth"][..], &["client auth", "key agreement"], &[]] {
        let content = Content::of_object(&silent, usages(words), false).expect("says nothing");
        assert_eq!(content.usages, usages(words));
    }
    let many = Content::of_object(&csr("many-usages"), usages(CASES[9].3.0), false).expect("echoes the object");
    assert!(many.usages.key_usages().contains(&KeyUsage::DataEncipherment));
    assert_eq!(many.usages.extended_key_usages().len(), 5);
}

#[test]
fn acme_takes_no_name_that_is_no_hosts() {
    for name in ["every-kind-of-name", "ca"] {
        assert!(Csr::from_der(&from_pem(pem(name)).expect("PEM")).is_err(), "{name}");
    }
    assert!(Csr::from_der(&from_pem(pem("rsa")).expect("PEM")).is_ok());
}
