//! What is not given is refused in words, before anything is recorded but the refusal, and never given in part.

use chancery_pki::{
    KeyKind, NameSet,
    profile::{CaSpec, NameKind, ProfileSpec, SubjectPolicy},
};

use super::{
    CLUSTER_POLICY, Held,
    asked::{Asked, tlv},
    held, issue, kubernetes, office, office_with, set, texts,
};
use crate::certificates;

/// What is asked for, and pieces of the sentence that refuses it, in their order.
type Refusal = (Asked, &'static str);

fn host() -> Asked {
    Asked::for_names(&["dns:a.test"])
}

fn refusals() -> Vec<Refusal> {
    let long = format!("dns:{}a.test", "abcdefg.".repeat(32));
    vec![
        // Names.
        (Asked::for_names(&["dns:denied.test"]), "nobody gets this name"),
        (Asked::for_names(&["email:bob@example.com"]), "bob@example.com … refused … no rule allows it"),
        (Asked::for_names(&["uri:https://id.test/other"]), "https://id.test/other … refused … no rule allows it"),
        (Asked::for_names(&["other:1.2.3:upn@domain.test"]), "other:1.2.3:upn@domain.test"),
        (Asked::for_names(&["email:a b@example.com"]), "not an e-mail address for a certificate"),
        (Asked::for_names(&["uri:https://ID.test/teams/a"]), "its host is a host name in lower case"),
        (Asked::for_names(&[&long]), "more than the 253 that are allowed"),
        (
            Asked::for_names(&["uri:spiffe://cluster.local/ns/a/sa/b", "uri:https://id.test/teams/a"]),
            "a certificate with a SPIFFE ID holds no other URI",
        ),
        // A common name is judged, whatever it reads as.
        (host().common_name("b.else"), "b.else … refused … no rule allows it"),
        (host().common_name("10.200.0.1.else"), "10.200.0.1.else"),
        (host().common_name("192.168.0.1"), "192.168.0.1"),
        (host().common_name("*.test.else"), "*.test.else"),
        (host().common_name("Somebody Else"), "cn:Somebody Else … refused … no rule allows it"),
        (host().common_name("a_b.test"), "cn:a_b.test … refused … no rule allows it"),
        (host().common_name("test-common-name-a.else.com"), "test-common-name-a.else.com"),
        (host().common_name(&"x".repeat(65)), "the subject's CN has 65 characters, more than 64"),
        (host().subject(&[&[("2.5.4.3", "a.test")], &[("2.5.4.3", "b.test")]]), "more than one common name"),
        (
            host().subject(&[&[("1.2.840.113549.1.9.1", "root@example.com")]]),
            "the e-mail address \"root@example.com\" in the subject is not among the names",
        ),
        (host().subject(&[&[("2.5.4.6", "de")]]), "not two capital letters"),
        (
            host().under("server").subject(&[&[("2.5.4.10", "Acme")]]),
            "the subject \"O=Acme\" is asked for, and certificates of profile \"server\" have the subject \"(empty name)\"",
        ),
        // Attributes that the profile does not list, and values that neither it nor policy gives.
        (
            host().subject(&[&[("2.5.4.10", "system:masters")]]),
            "a.test … no rule allows it under profile kubernetes with O=system:masters in the subject",
        ),
        (host().subject(&[&[("2.5.4.10", "Corp., OU=Dept.")]]), "with O=Corp.\\, OU\\=Dept. in the subject"),
        (host().subject(&[&[("2.5.4.6", "FR")]]), "gives no C=FR in a subject; it gives C=DE, O, OU beside"),
        (host().subject(&[&[("2.5.4.7", "Paris")]]), "gives no L=Paris in a subject"),
        (
            host().subject(&[&[("0.9.2342.19200300.100.1.3", "root@example.com")]]),
            "gives no 0.9.2342.19200300.100.1.3=root@example.com in a subject",
        ),
        (host().subject(&[&[("1.2.840.113549.1.9.2", "b.else")]]), "gives no 1.2.840.113549.1.9.2=b.else in a subject"),
        // Usages.
        (
            host().usages(&["code signing"]),
            "profile \"kubernetes\" does not give: code signing; it gives: digital signature",
        ),
        (host().usages(&["any"]), "does not give: any"),
        (host().usages(&["ocsp signing", "server auth"]), "does not give: ocsp signing"),
        (host().usages(&["cert sign"]), "cert sign is for CAs alone"),
        (host().usages(&["crl sign", "digital signature"]), "crl sign is for CAs alone"),
        (host().under("server").usages(&["client auth"]), "profile \"server\" does not give: client auth"),
        (
            host().key(KeyKind::Ed25519).usages(&["data encipherment"]),
            "a key of kind Ed25519 cannot be used for data encipherment",
        ),
        (host().usages(&["key agreement"]), "a key of kind RSA-2048 cannot be used for key agreement"),
        (
            host().key(KeyKind::P256).usages(&["key encipherment"]),
            "a key of kind P-256 cannot be used for key encipherment, and nothing else is asked for",
        ),
        (Asked::for_names(&["dns:b.test"]).usages(&["client auth"]), "rule no-client-certificates-for-b"),
        // An echo that differs.
        (
            host().usages(&["client auth"]).echoing(&["server auth"]),
            "the CSR asks for extKeyUsage \"1.3.6.1.5.5.7.3.1\", and the object that it is in for \"1.3.6.1.5.5.7.3.2\"",
        ),
        (
            host().usages(&["digital signature"]).echoing(&["digital signature", "data encipherment"]),
            "the CSR asks for keyUsage \"dataEncipherment, digitalSignature\"",
        ),
        (
            host().extension("2.5.29.19", tlv(0x30, &[1, 1, 0xff])),
            "the CSR asks for basicConstraints \"CA:TRUE\", and the object that it is in for \"CA:FALSE\"",
        ),
        (host().extension("1.2.3", vec![5, 0]), "the extension 1.2.3 is not granted"),
        // CAs.
        (Asked::for_names(&["dns:a.test"]).under("server").ca(), "profile \"server\" makes no certificates of CAs"),
        (
            Asked::for_names(&["ip:10.0.0.1"]).ca().common_name("test-common-name-ca"),
            "no rule with \"ca: true\" allows it under profile kubernetes",
        ),
        (Asked::for_names(&["ip:10.0.0.1"]).ca(), "a CA's subject is never empty"),
        (Asked::for_names(&["dns:ca.test"]).ca().usages(&["data encipherment"]), "does not give: data encipherment"),
        (
            // permitted DNS:else
            Asked::for_names(&["dns:ca.test"]).ca().extension("2.5.29.30", permitted(b"else")),
            "name constraints are set by profile \"kubernetes\" (permitted DNS:test, IP:10.0.0.0/255.0.0.0), and permitted DNS:else are asked for",
        ),
        (host().extension("2.5.29.30", permitted(b"test")), "name constraints are for CAs alone"),
        // Lives.
        (host().seconds(91 * 86_400), "a life of 91d is longer than 90d, the longest that this profile gives"),
        (host().seconds(60), "a life of 1m is shorter than"),
        // Keys.
        (host().under("server").key(KeyKind::P521), "profile \"server\" takes no keys of kind P521"),
    ]
}

/// nameConstraints with one permitted host.
fn permitted(host: &[u8]) -> Vec<u8> {
    tlv(0x30, &tlv(0xa0, &tlv(0x30, &tlv(0x82, host))))
}

#[tokio::test]
async fn what_is_not_given_is_refused_in_words_and_leaves_no_certificate() {
    let ca = office().await;
    let mut wrong = Vec::new();
    for (at, (asked, because)) in refusals().into_iter().enumerate() {
        let told = issue(&ca, &asked.uid(&at.to_string())).await.expect_err(because);
        let mut rest = told.as_str();
        for piece in because.split(" … ") {
            match rest.split_once(piece) {
                Some((_, after)) => rest = after,
                None => wrong.push(format!("{told:?} instead of {because:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!((ca.signer.signatures(), certificates(&ca).await.len()), (0, 0));
}

#[tokio::test]
async fn no_allow_without_the_word_grants_a_ca_and_none_with_it_grants_anything_else() {
    let names = "allow: { names: [\"**.test\"]";
    for (rule, leaf, ca_certificate) in
        [(format!("{names} }}"), true, false), (format!("{names}, ca: true }}"), false, true)]
    {
        let policy = format!("version: v1\nrules:\n  - name: hosts\n    {rule}\n");
        let ca = office_with(&policy, kubernetes()).await;
        assert_eq!(issue(&ca, &host()).await.is_ok(), leaf, "{rule}");
        assert_eq!(issue(&ca, &host().ca().uid("2")).await.is_ok(), ca_certificate, "{rule}");
    }
    // A deny speaks of both, unless it says CAs.
    for (rule, leaf, ca_certificate) in [
        ("deny: { names: [a.test] }", false, false),
        ("deny: { names: [a.test], ca: true }", true, false),
        ("warn: { names: [a.test], ca: true }", true, true),
    ] {
        let policy = format!(
            "version: v1\nrules:\n  - name: hosts\n    {names} }}\n  - name: cas\n    {names}, ca: true }}\n  - name: more\n    {rule}\n"
        );
        let ca = office_with(&policy, kubernetes()).await;
        assert_eq!(issue(&ca, &host()).await.is_ok(), leaf, "{rule}");
        assert_eq!(issue(&ca, &host().ca().uid("2")).await.is_ok(), ca_certificate, "{rule}");
    }
}

#[tokio::test]
async fn a_ca_holds_the_profiles_path_length_and_constraints_and_nothing_of_the_csrs() {
    let ca = office().await;
    let asked = Asked::for_names(&["dns:ca.test"]).common_name("Payments CA").ca();
    let asked = asked.usages(&["cert sign", "crl sign", "digital signature", "key encipherment"]);
    let der = issue(&ca, &asked).await.expect("allowed");
    let (_, read) = x509_parser::parse_x509_certificate(&der).expect("readable");
    let constraints = read.name_constraints().expect("readable").expect("there");
    assert!(constraints.critical);
    let permitted = constraints.value.permitted_subtrees.as_deref().expect("some");
    assert_eq!(permitted.len(), 2, "test and 10.0.0.0/8");
    let wanted = Held {
        subject: "CN=Payments CA".to_owned(),
        names: texts(&["dns:ca.test"]),
        critical_names: Some(false),
        usages: set(&["digitalSignature", "keyCertSign", "cRLSign"]),
        purposes: texts(&[]),
        ca: Some(Some(0)),
        seconds: 90 * 86_400,
    };
    assert_eq!(held(&der), wanted);
    // The same constraints may be asked for, and a profile may say more.
    let deep = ProfileSpec { ca: Some(CaSpec { path_length: 1, ..CaSpec::default() }), ..kubernetes() };
    let ca = office_with(CLUSTER_POLICY, deep).await;
    let told = issue(&ca, &Asked::for_names(&["dns:ca.test"]).ca()).await.expect_err("the issuer allows one CA below");
    assert!(told.contains("allows 1 CAs below it (pathLen, RFC 5280 §4.2.1.9)"), "{told}");
}

#[tokio::test]
async fn a_key_encipherment_that_a_key_cannot_do_is_left_out_and_everything_else_is_given() {
    let ca = office().await;
    let asked = host().key(KeyKind::P384).usages(&["digital signature", "key encipherment", "server auth"]);
    let held = held(&issue(&ca, &asked).await.expect("allowed"));
    assert_eq!(held.usages, set(&["digitalSignature"]));
    let profile = ca.office.settings().profiles["kubernetes"].clone();
    let usages = chancery_pki::Usages::from_words(asked.usages.iter().copied()).expect("words");
    let content = chancery_pki::Content { usages, ..chancery_pki::Content::default() };
    let left: Vec<_> = profile.left_out(&content, KeyKind::P384).iter().map(|usage| usage.word()).collect();
    assert_eq!(left, ["key encipherment"], "a door can say so");
}

#[tokio::test]
async fn keys_of_every_kind_are_certified_as_they_are() {
    let ca = office().await;
    for (at, kind) in KeyKind::ALL.into_iter().enumerate() {
        let asked = host().key(kind).uid(&at.to_string());
        let csr = chancery_pki::Csr::from_der_by(&asked.csr(), chancery_pki::CsrRules::Object).expect("a CSR");
        assert_eq!(csr.public_key().kind(), kind);
        let der = issue(&ca, &asked).await.unwrap_or_else(|why| panic!("{kind}: {why}"));
        let (_, read) = x509_parser::parse_x509_certificate(&der).expect("readable");
        assert_eq!(read.public_key().raw, csr.public_key().spki(), "{kind}");
        let enciphers = kind.is_rsa();
        assert_eq!(held(&der).usages.contains("keyEncipherment"), enciphers, "{kind}");
    }
    let told = issue(&ca, &host().under("server").key(KeyKind::P521).uid("p521")).await.expect_err("not P-521");
    assert!(told.contains("takes no keys of kind"), "{told}");
}

#[tokio::test]
async fn a_life_that_is_asked_for_is_never_cut_by_the_issuers_end() {
    let ca = office().await;
    ca.clock.advance(chancery_testkit::office::ISSUER_LIFE - crate::DAY * 30);
    let told = issue(&ca, &host().seconds(60 * 86_400)).await.expect_err("longer than the issuer");
    assert!(told.contains("when the issuer's own certificate ends"), "{told}");
    let der = issue(&ca, &host().seconds(29 * 86_400).uid("2")).await.expect("shorter than the issuer");
    assert_eq!(held(&der).seconds, 29 * 86_400);
}

#[tokio::test]
async fn a_certificate_too_long_for_cert_manager_is_refused_before_anything_is_recorded() {
    // Names of 16,384 octets are as long as they may be; the subject and the URLs of a profile come to them.
    let url = |at: usize| format!("http://pki.test/{at}/{}", "u".repeat(1000));
    let spec = ProfileSpec {
        ca_issuers: (0..8).map(url).collect(),
        ocsp: (8..16).map(url).collect(),
        name_kinds: vec![NameKind::Dns],
        subject: SubjectPolicy::Empty,
        requested_attributes: Vec::new(),
        ..kubernetes()
    };
    let ca = office_with(CLUSTER_POLICY, spec).await;
    let names: Vec<String> = (0..80)
        .map(|at| format!("dns:n{at:02}.{}.test", ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join(".")))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let asked = Asked::for_names(&names);
    let csr = chancery_pki::Csr::from_der_by(&asked.csr(), chancery_pki::CsrRules::Object).expect("a CSR");
    assert_eq!(csr.names().map(NameSet::len), Some(80));
    let told = issue(&ca, &asked).await.expect_err("too long");
    assert!(told.contains("at most 36500 and 95000 are read by cert-manager"), "{told}");
    assert_eq!((ca.signer.signatures(), certificates(&ca).await.len()), (0, 0));
}

#[tokio::test]
async fn a_certificate_whose_record_the_ledger_could_not_keep_is_refused_before_anything_is_recorded() {
    // The longest names that fit into PEM, a rule of the longest name that stands beside each, the longest subject, and
    // facts that take twice their octets in JSON.
    let rule = "r".repeat(100);
    let mut policy = format!(
        "version: v1\nrules:\n  - {{ name: {rule}, allow: {{ names: [\"**.test\"], subject: [\"OU=*\"] }} }}\n"
    );
    for at in 0..5 {
        let because = "w".repeat(400);
        let warns =
            format!("  - {{ name: w{at}, warn: {{ names: [\"**.test\", \"x{at}.test\"] }}, because: {because} }}\n");
        policy.push_str(&warns);
    }
    let ca = office_with(&policy, kubernetes()).await;
    let names: Vec<String> = (0..100)
        .map(|at| format!("dns:n{at:02}.{}.{}.{}.test", "a".repeat(50), "b".repeat(50), "c".repeat(46)))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    const UNIT: super::asked::Rdn = &[("2.5.4.11", "uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu")];
    let asked = Asked::for_names(&names).subject(&[UNIT; 32]);
    let quotes = || Some("\"".repeat(512));
    let reported = chancery_policy::Reported {
        namespace: Some("shop".to_owned()),
        name: quotes(),
        issuer_kind: quotes(),
        issuer: quotes(),
        username: quotes(),
        certificate: quotes(),
        secret: quotes(),
        pod: quotes(),
        service_account: quotes(),
        node: quotes(),
        ..chancery_policy::Reported::default()
    };
    let told = super::issue_reporting(&ca, &asked, reported).await.expect_err("too long");
    assert!(
        told.contains("the ledger's record of the certificate would have ") && told.contains("65535 at most"),
        "{told}"
    );
    assert_eq!((ca.signer.signatures(), certificates(&ca).await.len()), (0, 0));
}

#[tokio::test]
async fn something_else_asked_for_beside_names_and_key_is_another_request() {
    let ca = office().await;
    let asked = Asked::for_names(&["dns:c.a.test"]).key(KeyKind::P256);
    issue(&ca, &asked).await.expect("allowed");
    issue(&ca, &asked).await.expect("the same again");
    for other in [
        asked.clone().common_name("c.a.test"),
        asked.clone().usages(&["client auth"]),
        asked.clone().seconds(86_400),
        asked.clone().ca(),
    ] {
        let told = issue(&ca, &other).await.expect_err("another request");
        assert!(told.contains("asked for something else"), "{told}");
    }
    assert_eq!(ca.signer.signatures(), 1);
}
