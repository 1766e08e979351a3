//! CSRs that objects of Kubernetes hold, written by OpenSSL: more is read of them than of ACME's, and nothing is dropped.
#![expect(clippy::disallowed_methods, reason = "OpenSSL's files")]

#[path = "support/openssl.rs"]
mod openssl;

use chancery_pki::{Content, Csr, CsrRejection, CsrRules, Usages};
use der::{Decode as _, Encode as _};
use openssl::{GENPKEY, OpenSsl};

/// A CSR by `openssl req` with these lines of a subject and of extensions.
fn written(subject: &str, extensions: &str) -> Vec<u8> {
    let openssl = OpenSsl::new();
    openssl.generate("req", GENPKEY[3].1);
    openssl.write(
        "req.conf",
        format!(
            "[req]\ndistinguished_name=dn\nprompt=no\nutf8=yes\nstring_mask=utf8only\nreq_extensions=ext\n[dn]\n{subject}\n[ext]\n{extensions}\n"
        ),
    );
    openssl.run("req -new -key req.key -config req.conf -outform DER -out req.der");
    openssl.read("req.der")
}

fn read(subject: &str, extensions: &str) -> Result<Csr, CsrRejection> {
    Csr::from_der_by(&written(subject, extensions), CsrRules::Object)
}

fn texts(csr: &Csr) -> Vec<String> {
    csr.names().map(|names| names.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

#[test]
fn everything_that_a_certificate_of_cert_manager_asks_for_is_read() {
    let der = written(
        "O=Corp.\n1.OU=One\n2.OU=Two\n3.OU=Three\n+CN=payments service\nUID=svc",
        "subjectAltName=critical,DNS:a.example.com,IP:10.0.0.1,URI:https://example.com/a,URI:urn:example:b,\
         email:alice@example.com,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:upn@domain.test\n\
         keyUsage=critical,digitalSignature,keyCertSign\nextendedKeyUsage=clientAuth\n\
         basicConstraints=critical,CA:TRUE,pathlen:5\nnameConstraints=critical,permitted;DNS:example.com",
    );
    let csr = Csr::from_der_by(&der, CsrRules::Object).expect("taken");
    assert_eq!(
        texts(&csr),
        [
            "a.example.com",
            "10.0.0.1",
            "https://example.com/a",
            "urn:example:b",
            "alice@example.com",
            "other:1.3.6.1.4.1.311.20.2.3:upn@domain.test",
            "cn:payments service",
        ]
    );
    assert_eq!(csr.asks_for_ca(), Some(true));
    assert_eq!(csr.requested_name_constraints().to_string(), "permitted DNS:example.com");
    let subject = csr.requested_subject().expect("a subject");
    let other = x509_cert::request::CertReq::from_der(&der).expect("readable");
    assert_eq!(subject.der(), other.info.subject.to_der().expect("written"), "octet for octet");
    assert_eq!(
        subject.to_string(),
        "O=Corp., OU=One, OU=Two, OU=Three+CN=payments service, 0.9.2342.19200300.100.1.1=svc"
    );
    // ACME takes nothing of it.
    assert!(Csr::from_der(&der).is_err());
    let content =
        Content::of_object(&csr, Usages::from_words(["digital signature", "client auth"]).expect("words"), true);
    let content = content.expect("echoes the object");
    assert!(content.is_ca && content.subject.is_some());
    assert!(Content::of_object(&csr, Usages::from_words(["client auth"]).expect("words"), true).is_err());
    assert!(Content::of_object(&csr, content.usages, false).is_err());
}

#[test]
fn a_common_name_is_always_one_of_the_names() {
    for (common_name, names) in [
        ("a.example.com", &["a.example.com"][..]),
        ("A.example.com", &["a.example.com"]),
        ("b.example.com", &["a.example.com", "b.example.com"]),
        ("*.b.example.com", &["a.example.com", "*.b.example.com"]),
        ("10.0.0.1", &["a.example.com", "10.0.0.1"]),
        ("2001:db8::1", &["a.example.com", "2001:db8::1"]),
        ("payments", &["a.example.com", "cn:payments"]),
        ("localhost", &["a.example.com", "cn:localhost"]),
        ("a_b.example.com", &["a.example.com", "cn:a_b.example.com"]),
        ("127.1", &["a.example.com", "cn:127.1"]),
        ("a.example.com.", &["a.example.com", "cn:a.example.com."]),
        ("system:node:a.example.com", &["a.example.com", "cn:system:node:a.example.com"]),
        ("Müller CA", &["a.example.com", "cn:Müller CA"]),
    ] {
        let csr = read(&format!("CN={common_name}"), "subjectAltName=DNS:a.example.com").expect(common_name);
        assert_eq!(texts(&csr), names, "{common_name}");
    }
    // One label that is an alternative name too is no name of its own.
    let csr = read("CN=web", "subjectAltName=DNS:web").expect("taken");
    assert_eq!(texts(&csr), ["web"]);
    let csr = read("CN=alice@example.com", "subjectAltName=email:alice@example.com").expect("taken");
    assert_eq!(texts(&csr), ["alice@example.com"]);
    let alone = read("CN=payments", "keyUsage=digitalSignature").expect("taken");
    assert_eq!(texts(&alone), ["cn:payments"]);
    let none = read("O=Example", "keyUsage=digitalSignature").expect("taken");
    assert_eq!(texts(&none).len(), 0);
}

#[test]
fn what_cannot_be_in_a_certificate_is_refused_by_name() {
    for (extension, told) in [
        ("subjectAltName=RID:1.2.3.4", "registeredID"),
        ("subjectAltName=otherName:1.2.3;IA5:a", "otherName whose value is no UTF8String"),
        ("subjectAltName=otherName:1.2.3;UTF8:a b", "not a name of another kind"),
        ("subjectAltName=email:a b@example.com", "not an e-mail address"),
        ("subjectAltName=URI:example.com", "not a URI"),
        ("subjectAltName=URI:spiffe://Example.com/a", "not a SPIFFE ID"),
        ("subjectAltName=URI:SPIFFE://example.com/a", "not a SPIFFE ID"),
        ("nsComment=hello", "2.16.840.1.113730.1.13"),
        ("1.2.3.4=ASN1:NULL", "1.2.3.4"),
    ] {
        let refused = read("CN=a.example.com", extension).expect_err(extension).to_string();
        assert!(refused.contains(told), "{extension}: {refused}");
    }
    for (subject, told) in
        [("CN=a, b", "no quotation marks, commas and backslashes"), ("C=DE\nCN=a\n1.CN=b", "more than one common name")]
    {
        let refused = read(subject, "subjectAltName=DNS:a.example.com").expect_err(subject).to_string();
        assert!(refused.contains(told), "{subject}: {refused}");
    }
}
