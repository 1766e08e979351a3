//! The 22 cases of certificates in cert-manager's conformance suite (its `conformance/certificates/tests.go`), as far as
//! a signer decides them: what the Certificate asks for is what the certificate holds, and each field that cert-manager's
//! validations look at is looked at here.

use chancery_pki::KeyKind;

use super::{
    Held,
    asked::{Asked, CN},
    held, issue, office, set, texts,
};

const DAYS_90: i64 = 90 * 86_400;

/// A case: its name upstream, what is asked for, and what the certificate must hold.
type Case = (&'static str, Asked, Held);

/// What is held where nothing but names is asked for.
fn usual(names: &[&str], subject: &str) -> Held {
    Held {
        subject: subject.to_owned(),
        names: texts(names),
        critical_names: (!names.is_empty()).then_some(subject.is_empty()),
        usages: set(&["digitalSignature", "keyEncipherment"]),
        purposes: texts(&["serverAuth"]),
        ca: None,
        seconds: DAYS_90,
    }
}

/// The same for keys that cannot encipher (RFC 8813 §3, RFC 8410 §5).
fn signing(names: &[&str], subject: &str) -> Held {
    Held { usages: set(&["digitalSignature"]), ..usual(names, subject) }
}

fn cases() -> Vec<Case> {
    let dns = |name: &str| Asked::for_names(&[&format!("dns:{name}")]);
    let long = format!("dns:{}.a.test", "l".repeat(63));
    vec![
        (
            "a basic, defaulted certificate for a single distinct DNS Name",
            dns("one.a.test"),
            usual(&["dns:one.a.test"], ""),
        ),
        (
            "a CA certificate with the CA basicConstraint set",
            dns("ca.a.test").ca(),
            Held {
                usages: set(&["digitalSignature", "keyCertSign", "cRLSign"]),
                purposes: texts(&[]),
                ca: Some(Some(0)),
                // A CA's subject is never empty; the validation takes one of the DNS names there.
                ..usual(&["dns:ca.a.test"], "CN=ca.a.test")
            },
        ),
        (
            "an ECDSA, defaulted certificate for a single distinct DNS Name",
            dns("ec.a.test").key(KeyKind::P256),
            signing(&["dns:ec.a.test"], ""),
        ),
        (
            "an Ed25519, defaulted certificate for a single distinct DNS Name",
            dns("ed.a.test").key(KeyKind::Ed25519),
            signing(&["dns:ed.a.test"], ""),
        ),
        (
            "a basic, defaulted certificate for a single Common Name",
            Asked::for_names(&[]).common_name("test-common-name-rsa"),
            usual(&[], "CN=test-common-name-rsa"),
        ),
        (
            "a couple valid otherName SAN values set as well as an emailAddress",
            Asked::for_names(&[
                "email:email@domain.test",
                "other:1.3.6.1.4.1.311.20.2.3:upn@domain.test",
                "other:1.3.6.1.4.1.311.20.2.3:upn@domain2.test",
            ])
            .common_name("someCN"),
            usual(
                &[
                    "email:email@domain.test",
                    "other:1.3.6.1.4.1.311.20.2.3:upn@domain.test",
                    "other:1.3.6.1.4.1.311.20.2.3:upn@domain2.test",
                ],
                "CN=someCN",
            ),
        ),
        (
            "a single distinct DNS Name with a literal subject",
            // In the order of the encoding, which is that of the literal subject read from its end.
            dns("*.b.foo-long.bar.com").subject(&[
                &[("2.5.4.10", "Corp.")],
                &[("2.5.4.11", "Dept.")],
                &[("2.5.4.11", "Baz")],
                &[("2.5.4.11", "Bar")],
                &[("2.5.4.11", "FooLong")],
                &[(CN, "*.b.foo-long.bar.com")],
            ]),
            usual(
                &["dns:*.b.foo-long.bar.com"],
                "O=Corp., OU=Dept., OU=Baz, OU=Bar, OU=FooLong, CN=*.b.foo-long.bar.com",
            ),
        ),
        (
            "an ECDSA, defaulted certificate for a single Common Name",
            Asked::for_names(&[]).common_name("test-common-name-ec").key(KeyKind::P256),
            signing(&[], "CN=test-common-name-ec"),
        ),
        (
            "an Ed25519, defaulted certificate for a single Common Name",
            Asked::for_names(&[]).common_name("test-common-name-ed").key(KeyKind::Ed25519),
            signing(&[], "CN=test-common-name-ed"),
        ),
        ("an IP Address", Asked::for_names(&["ip:127.0.0.1"]), usual(&["ip:[127, 0, 0, 1]"], "")),
        (
            "a DNS Name and IP Address",
            Asked::for_names(&["dns:both.a.test", "ip:127.0.0.1"]),
            usual(&["dns:both.a.test", "ip:[127, 0, 0, 1]"], ""),
        ),
        (
            "a Common Name and IP Address",
            Asked::for_names(&["ip:127.0.0.1"]).common_name("test-common-name-ip"),
            usual(&["ip:[127, 0, 0, 1]"], "CN=test-common-name-ip"),
        ),
        ("an Email Address", Asked::for_names(&["email:alice@example.com"]), usual(&["email:alice@example.com"], "")),
        (
            "a Common Name and URI SAN",
            Asked::for_names(&["uri:spiffe://cluster.local/ns/sandbox/sa/foo"]).common_name("test-common-name-uri"),
            usual(&["uri:spiffe://cluster.local/ns/sandbox/sa/foo"], "CN=test-common-name-uri"),
        ),
        (
            "2 distinct DNS Names with one copied to the Common Name",
            Asked::for_names(&["dns:first.a.test", "dns:second.a.test"]).common_name("first.a.test"),
            usual(&["dns:first.a.test", "dns:second.a.test"], "CN=first.a.test"),
        ),
        (
            "a distinct DNS Name and another distinct Common Name",
            dns("name.a.test").common_name("other.a.test"),
            // The validation takes more DNS names than were asked for; a host that stands in the subject alone is one
            // that no client looks at any more.
            usual(&["dns:name.a.test", "dns:other.a.test"], "CN=other.a.test"),
        ),
        (
            "a DNS Name and sets a duration",
            dns("long.a.test").seconds(896 * 3600),
            Held { seconds: 896 * 3600, ..usual(&["dns:long.a.test"], "") },
        ),
        ("a wildcard DNS Name", dns("*.a.test"), usual(&["dns:*.a.test"], "")),
        (
            "only a URISANs name",
            Asked::for_names(&["uri:spiffe://cluster.local/ns/sandbox/sa/foo"]),
            usual(&["uri:spiffe://cluster.local/ns/sandbox/sa/foo"], ""),
        ),
        (
            "arbitrary key usages",
            dns("usages.a.test").usages(&["signing", "data encipherment", "server auth", "client auth"]),
            Held {
                usages: set(&["digitalSignature", "dataEncipherment"]),
                purposes: texts(&["serverAuth", "clientAuth"]),
                ..usual(&["dns:usages.a.test"], "")
            },
        ),
        ("a long domain", Asked::for_names(&[&long]), usual(&[&long], "")),
        (
            "a wildcard DNS Name and its apex DNS Name",
            Asked::for_names(&["dns:*.a.test", "dns:a.test"]),
            usual(&["dns:*.a.test", "dns:a.test"], ""),
        ),
    ]
}

#[tokio::test]
async fn each_certificate_of_cert_managers_conformance_suite_holds_what_is_asked_for() {
    let ca = office().await;
    let cases = cases();
    assert_eq!(cases.len(), 22);
    for (at, (name, asked, wanted)) in cases.into_iter().enumerate() {
        let asked = asked.uid(&at.to_string());
        let der = issue(&ca, &asked).await.unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(held(&der), wanted, "{name}");
    }
    crate::ledger_is_clean(&ca).await;
}
