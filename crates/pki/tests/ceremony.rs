//! The ceremony's documents as OpenSSL sees them: an offline root signs our CSR, and a development
//! root signs our intermediate.
#![expect(clippy::disallowed_methods, reason = "OpenSSL's files, signing keys of the test, and a stopwatch")]

#[path = "support/openssl.rs"]
mod openssl;

use std::time::Duration;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use chancery_pki::{
    KeyKind, PublicKey, SerialNumber, SignatureAlgorithm, Timestamp,
    ceremony::{ToSign, csr, development_intermediate, development_root},
    certificate,
    chain::install,
    distinguished_name::DistinguishedName,
};
use openssl::{GENPKEY, OpenSsl};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_600_000);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A key that OpenSSL made.
struct Pair {
    public: PublicKey,
    pkcs8: Vec<u8>,
}

fn pair(ssl: &OpenSsl, name: &str, kind: &str) -> Pair {
    let options = GENPKEY.iter().find(|(of, _)| *of == kind).expect("a kind of key").1;
    let public = PublicKey::from_spki(&ssl.generate(name, options)).expect("a good key");
    ssl.run(&format!("pkcs8 -topk8 -nocrypt -in {name}.key -outform DER -out {name}.p8"));
    Pair { public, pkcs8: ssl.read(&format!("{name}.p8")) }
}

impl Pair {
    fn sign(&self, document: &ToSign) -> Vec<u8> {
        assert_eq!(document.algorithm(), SignatureAlgorithm::default_for(self.public.kind()));
        let (random, body) = (SystemRandom::new(), document.body());
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, &self.pkcs8).expect("a key");
            pair.sign(&random, body).expect("signed").as_ref().to_vec()
        };
        let signature = match self.public.kind() {
            KeyKind::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyKind::P384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyKind::P521 => ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING),
            KeyKind::Ed25519 => Ed25519KeyPair::from_pkcs8(&self.pkcs8).expect("a key").sign(body).as_ref().to_vec(),
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => {
                let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).expect("a key");
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, body, &mut signature).expect("signed");
                signature
            }
        };
        document.assemble(&signature)
    }
}

fn name(text: &str) -> DistinguishedName {
    text.parse().expect("a name")
}

#[test]
fn openssl_takes_our_csr_for_every_kind_of_key() {
    for (kind, _) in GENPKEY {
        let ssl = OpenSsl::new();
        let ours = pair(&ssl, "issuing", kind);
        let request = ours.sign(&csr(&name("C=DE, O=Beispiel\\, AG, OU=One, OU=Two, CN=Issuing"), &ours.public));
        ssl.write("issuing.csr", certificate::pem_block("CERTIFICATE REQUEST", &request));
        ssl.run("req -in issuing.csr -verify -noout");
        let subject = String::from_utf8(ssl.run("req -in issuing.csr -noout -subject")).expect("text");
        assert!(
            subject.contains("C = DE, O = \"Beispiel, AG\", OU = One, OU = Two, CN = Issuing"),
            "{kind}: {subject}"
        );
    }
}

#[test]
fn what_an_offline_root_of_openssl_signs_for_our_csr_can_be_installed() {
    let ssl = OpenSsl::new();
    let ours = pair(&ssl, "issuing", "P-256");
    let request = ours.sign(&csr(&name("O=Example, CN=Issuing"), &ours.public));
    ssl.write("issuing.csr", certificate::pem_block("CERTIFICATE REQUEST", &request));
    ssl.write(
        "ca.cnf",
        "[req]\nprompt=no\ndistinguished_name=dn\n[dn]\nO=Example\nCN=Root\n\
         [root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n\
         [issuing]\nbasicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
         subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
    );
    ssl.generate("root", GENPKEY[0].1);
    ssl.run("req -x509 -new -config ca.cnf -extensions root -key root.key -days 10 -out root.pem");
    ssl.run(
        "x509 -req -in issuing.csr -CA root.pem -CAkey root.key -CAcreateserial -days 5 -extfile ca.cnf -extensions issuing -out issuing.pem",
    );
    let pem = [ssl.read("issuing.pem"), ssl.read("root.pem")].concat();
    let given = certificate::from_pem(&pem).expect("PEM");
    let begins = certificate::Certificate::from_der(&given[0]).expect("readable").validity().not_before();
    let chain = install(&given, &ours.public, begins.after(Duration::from_secs(60))).expect("a chain");
    assert_eq!(chain.issuing().path_length(), Some(0));
    assert_eq!(chain.issuing().subject(), name("O=Example, CN=Issuing").der());
}

#[test]
fn a_development_root_and_its_intermediate_are_a_chain_that_openssl_takes() {
    for kind in ["P-256", "P-384", "P-521", "RSA-2048", "Ed25519"] {
        let ssl = OpenSsl::new();
        let (root, issuing) = (pair(&ssl, "root", kind), pair(&ssl, "issuing", kind));
        let (above, below) = (name("O=Example, CN=Development Root"), name("O=Example, CN=Issuing"));
        let serial = |octet| SerialNumber::from_random([octet; 16]);
        let root_der = root.sign(&development_root(&above, &root.public, serial(1), NOW, 10 * YEAR));
        let document =
            development_intermediate(&below, &issuing.public, (&above, &root.public), serial(0xff), NOW, 5 * YEAR);
        let issuing_der = root.sign(&document);
        ssl.write("root.pem", certificate::to_pem([root_der.as_slice()]));
        ssl.write("issuing.pem", certificate::to_pem([issuing_der.as_slice()]));
        let attime = NOW.unix_seconds() + 1;
        ssl.run(&format!("verify -x509_strict -attime {attime} -CAfile root.pem issuing.pem"));
        let text = String::from_utf8(ssl.run("x509 -in issuing.pem -noout -text")).expect("text");
        for expected in ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "ff:ff:ff"] {
            assert!(text.contains(expected), "{kind}: no {expected} in {text}");
        }
        let chain = install(&[issuing_der, root_der.clone()], &issuing.public, NOW).expect("a chain");
        assert!(!chain.is_self_signed() && chain.anchor().is_some());
        assert!(chain.issuing().signs_certificates() && chain.issuing().signs_crls());
        let alone = install(&[root_der], &root.public, NOW).expect("a chain");
        assert!(alone.is_self_signed());
    }
}

#[test]
fn a_root_that_ends_after_2049_says_so_in_generalized_time() {
    let ssl = OpenSsl::new();
    let root = pair(&ssl, "root", "P-256");
    let subject = name("CN=Development Root");
    let document = development_root(&subject, &root.public, SerialNumber::from_random([1; 16]), NOW, 40 * YEAR);
    ssl.write("root.pem", certificate::to_pem([root.sign(&document).as_slice()]));
    let dates = String::from_utf8(ssl.run("x509 -in root.pem -noout -dates")).expect("text");
    assert_eq!(dates, "notBefore=Nov 25 09:46:40 2026 GMT\nnotAfter=Nov 15 09:46:40 2066 GMT\n");
    let parsed = String::from_utf8(ssl.run("asn1parse -in root.pem")).expect("text");
    assert!(parsed.contains("UTCTIME           :261125094640Z"), "{parsed}");
    assert!(parsed.contains("GENERALIZEDTIME   :20661115094640Z"), "{parsed}");
}
