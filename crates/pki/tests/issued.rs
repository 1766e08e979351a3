//! What we issue, as OpenSSL sees it, under issuers as companies have them.
#![expect(clippy::indexing_slicing, reason = "a helper that fails fails its test")]

use std::{fs, path::Path, process::Command, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use chancery_pki::{
    KeyKind, Name, NameSet, PublicKey, SerialNumber, SignatureAlgorithm, Timestamp,
    certificate::{self, Certificate, verify_issued},
    chain::{IssuingCertificate, install},
    lint::lint,
    profile::{Profile, ProfileSpec, SubjectPolicy},
    tbs::{LeafRequest, Tbs},
};

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {text}");
    text
}

/// An issuer of OpenSSL's making: `ca.pem` under `root.pem`, its key in `ca.key`.
struct Company {
    folder: tempfile::TempDir,
    kind: KeyKind,
}

impl Company {
    fn new(kind: KeyKind, subject: &str, extensions: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        openssl(
            at,
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:4096",
                "-nodes",
                "-keyout",
                "root.key",
                "-out",
                "root.pem",
                "-days",
                "3650",
                "-subj",
                "/O=Example Holding/CN=Example Offline Root",
                "-sha384",
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
            ],
        );
        let key: &[&str] = match kind {
            KeyKind::P256 => &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "ca.key"],
            KeyKind::P384 => &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "ca.key"],
            KeyKind::Ed25519 => &["genpkey", "-algorithm", "ED25519", "-out", "ca.key"],
            _ => &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "ca.key"],
        };
        openssl(at, key);
        openssl(at, &["req", "-new", "-key", "ca.key", "-subj", subject, "-out", "ca.csr"]);
        fs::write(
            at.join("ext"),
            format!(
                "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n{extensions}\n"
            ),
        )
        .expect("written");
        openssl(
            at,
            &[
                "x509",
                "-req",
                "-in",
                "ca.csr",
                "-CA",
                "root.pem",
                "-CAkey",
                "root.key",
                "-CAcreateserial",
                "-days",
                "1825",
                "-extfile",
                "ext",
                "-out",
                "ca.pem",
            ],
        );
        Self { folder, kind }
    }

    fn issuer(&self) -> IssuingCertificate {
        let pem = fs::read(self.folder.path().join("ca.pem")).expect("made");
        IssuingCertificate::from_der(&certificate::from_pem(&pem).expect("PEM")[0]).expect("an issuer")
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::default_for(self.kind)
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let at = self.folder.path();
        openssl(at, &["pkcs8", "-topk8", "-nocrypt", "-in", "ca.key", "-outform", "DER", "-out", "ca.pk8"]);
        let key = fs::read(at.join("ca.pk8")).expect("made");
        let random = SystemRandom::new();
        match self.kind {
            KeyKind::P256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key)
                .expect("a key")
                .sign(&random, bytes)
                .expect("signed")
                .as_ref()
                .to_vec(),
            KeyKind::P384 => EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &key)
                .expect("a key")
                .sign(&random, bytes)
                .expect("signed")
                .as_ref()
                .to_vec(),
            KeyKind::Ed25519 => Ed25519KeyPair::from_pkcs8(&key).expect("a key").sign(bytes).as_ref().to_vec(),
            _ => {
                let pair = RsaKeyPair::from_pkcs8(&key).expect("a key");
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).expect("signed");
                signature
            }
        }
    }
}

fn leaf_key(folder: &Path, kind: KeyKind) -> PublicKey {
    let (algorithm, option) = match kind {
        KeyKind::P256 => ("EC", "ec_paramgen_curve:P-256"),
        KeyKind::P384 => ("EC", "ec_paramgen_curve:P-384"),
        KeyKind::P521 => ("EC", "ec_paramgen_curve:P-521"),
        KeyKind::Rsa2048 => ("RSA", "rsa_keygen_bits:2048"),
        KeyKind::Rsa3072 => ("RSA", "rsa_keygen_bits:3072"),
        KeyKind::Rsa4096 => ("RSA", "rsa_keygen_bits:4096"),
        KeyKind::Ed25519 => ("ED25519", ""),
    };
    let mut arguments = vec!["genpkey", "-algorithm", algorithm, "-out", "leaf.key"];
    if !option.is_empty() {
        arguments.extend(["-pkeyopt", option]);
    }
    openssl(folder, &arguments);
    openssl(folder, &["pkey", "-in", "leaf.key", "-pubout", "-outform", "DER", "-out", "leaf.spki"]);
    PublicKey::from_spki(&fs::read(folder.join("leaf.spki")).expect("made")).expect("a good key")
}

fn profile(change: impl FnOnce(&mut ProfileSpec)) -> Profile {
    let mut spec = ProfileSpec::server();
    spec.key_kinds = vec![
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::P521,
        KeyKind::Rsa2048,
        KeyKind::Rsa3072,
        KeyKind::Rsa4096,
        KeyKind::Ed25519,
    ];
    change(&mut spec);
    Profile::new(spec).expect("a good profile")
}

fn now() -> Timestamp {
    // The oracle has no frozen clock: OpenSSL verifies at the real time, which its own certificates say.
    let folder = tempfile::tempdir().expect("a folder");
    let text = openssl(
        folder.path(),
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "k",
            "-subj",
            "/CN=now",
            "-outform",
            "DER",
            "-out",
            "now.der",
        ],
    );
    drop(text);
    let der = fs::read(folder.path().join("now.der")).expect("made");
    Certificate::from_der(&der).expect("a certificate").validity().not_before()
}

fn issue(company: &Company, profile: &Profile, names: &[&str], key: &PublicKey, must_staple: bool) -> Vec<u8> {
    let issuer = company.issuer();
    let names = NameSet::new(names.iter().map(|name| name.parse::<Name>().expect("a name"))).expect("names");
    let validity = profile.validity(now(), (None, None), issuer.validity().not_after()).expect("granted").validity();
    let serial = SerialNumber::from_random([0xa5; 16]);
    let request = LeafRequest {
        names: &names,
        profile,
        key,
        validity,
        serial,
        must_staple,
        crl_shard: profile.crl_shard(serial),
    };
    let tbs = Tbs::build(&request, &issuer, company.algorithm()).expect("built");
    let permitted = issuer.permits(&names, profile, now()).is_ok();
    let findings: Vec<&str> = lint(&tbs, &request, &issuer).into_iter().map(|finding| finding.id).collect();
    assert_eq!(findings, if permitted { vec![] } else { vec!["names_permitted_by_issuer"] });
    let der = tbs.assemble(&company.sign(tbs.der())).expect("assembled");
    verify_issued(&der, &tbs, &request, &issuer).expect("the same");
    der
}

fn openssl_accepts(company: &Company, der: &[u8]) -> String {
    let at = company.folder.path();
    fs::write(at.join("leaf.pem"), certificate::to_pem([der])).expect("written");
    openssl(at, &["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "ca.pem", "leaf.pem"]);
    openssl(at, &["x509", "-in", "leaf.pem", "-noout", "-text"])
}

const COMPANIES: [(KeyKind, &str, &str); 5] = [
    (
        KeyKind::P256,
        "/DC=org/DC=example/OU=One/OU=Two/CN=Issuing CA 1",
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid",
    ),
    (
        KeyKind::P384,
        "/O=Example/CN=Foreign Identifier",
        "subjectKeyIdentifier=0123456789abcdef0123\nauthorityKeyIdentifier=keyid",
    ),
    (
        KeyKind::Rsa2048,
        "/C=DE/O=Beispiel/OU=PKI/CN=Issuing RSA",
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nextendedKeyUsage=serverAuth,clientAuth",
    ),
    (KeyKind::Ed25519, "/O=Example/CN=Ed", "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid"),
    (
        KeyKind::P256,
        "/O=Example/CN=Constrained",
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nnameConstraints=critical,permitted;DNS:example.com,permitted;IP:10.0.0.0/255.0.0.0",
    ),
];

#[test]
fn openssl_verifies_what_is_issued_under_every_kind_of_company_issuer() {
    for (kind, subject, extensions) in COMPANIES {
        let company = Company::new(kind, subject, extensions);
        let key = leaf_key(company.folder.path(), KeyKind::P256);
        let der =
            issue(&company, &profile(|_| ()), &["www.example.com", "*.apps.example.com", "10.1.2.3"], &key, false);
        let text = openssl_accepts(&company, &der);
        for expected in [
            "DNS:www.example.com",
            "DNS:*.apps.example.com",
            "IP Address:10.1.2.3",
            "TLS Web Server Authentication",
            "CA:FALSE",
        ] {
            assert!(text.contains(expected), "{subject}: no {expected} in {text}");
        }
    }
}

#[test]
fn the_key_in_the_certificate_is_the_requesters_for_every_kind_of_key() {
    let (kind, subject, extensions) = COMPANIES[0];
    let company = Company::new(kind, subject, extensions);
    for kind in [
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::P521,
        KeyKind::Rsa2048,
        KeyKind::Rsa3072,
        KeyKind::Rsa4096,
        KeyKind::Ed25519,
    ] {
        let key = leaf_key(company.folder.path(), kind);
        let der = issue(&company, &profile(|_| ()), &["a.example.com"], &key, false);
        openssl_accepts(&company, &der);
        let at = company.folder.path();
        openssl(at, &["pkey", "-in", "leaf.key", "-pubout", "-out", "wanted.pem"]);
        let in_certificate = openssl(at, &["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
        assert_eq!(in_certificate, fs::read_to_string(at.join("wanted.pem")).expect("made"), "{kind:?}");
    }
}

#[test]
fn the_issuers_name_and_key_identifier_are_copied_byte_for_byte() {
    let company = Company::new(COMPANIES[1].0, COMPANIES[1].1, COMPANIES[1].2);
    let key = leaf_key(company.folder.path(), KeyKind::P256);
    let der = issue(&company, &profile(|_| ()), &["a.example.com"], &key, false);
    let read = Certificate::from_der(&der).expect("a certificate");
    assert_eq!(read.issuer(), company.issuer().subject());
    assert_eq!(read.authority_key_identifier(), Some(&hex::decode("0123456789abcdef0123").expect("hex")[..]));
}

#[test]
fn what_the_profile_says_stands_in_the_certificate() {
    let company = Company::new(COMPANIES[0].0, COMPANIES[0].1, COMPANIES[0].2);
    let key = leaf_key(company.folder.path(), KeyKind::Rsa2048);
    let profile = profile(|spec| {
        spec.ca_issuers = vec!["http://pki.example.com/ca.cer".to_owned()];
        spec.ocsp = vec!["http://ocsp.example.com".to_owned()];
        spec.must_staple = true;
        spec.subject = SubjectPolicy::CommonNameFromFirstDnsName;
        spec.policies = vec!["1.3.6.1.4.1.99999.1".parse().expect("an OID")];
    });
    let text =
        openssl_accepts(&company, &issue(&company, &profile, &["b.example.com", "spiffe.example.com"], &key, true));
    for expected in [
        "CA Issuers - URI:http://pki.example.com/ca.cer",
        "OCSP - URI:http://ocsp.example.com",
        "status_request",
        "CN = b.example.com",
        "Policy: 1.3.6.1.4.1.99999.1",
        "Digital Signature, Key Encipherment",
    ] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
}

#[test]
fn openssl_and_we_agree_on_which_names_an_issuer_may_have_below_it() {
    let company = Company::new(COMPANIES[4].0, COMPANIES[4].1, COMPANIES[4].2);
    let at = company.folder.path();
    let key = leaf_key(at, KeyKind::P256);
    let profile = profile(|_| ());
    for (name, expected) in [
        ("example.com", true),
        ("a.b.example.com", true),
        ("*.example.com", true),
        ("badexample.com", false),
        ("example.org", false),
        ("10.9.9.9", true),
        ("11.0.0.1", false),
    ] {
        let names = NameSet::new([name.parse().expect("a name")]).expect("names");
        assert_eq!(company.issuer().permits(&names, &profile, now()).is_ok(), expected, "{name}");
        let der = issue(&company, &profile, &[name], &key, false);
        fs::write(at.join("leaf.pem"), certificate::to_pem([der.as_slice()])).expect("written");
        let verified = Command::new("openssl")
            .args(["verify", "-CAfile", "root.pem", "-untrusted", "ca.pem", "leaf.pem"])
            .current_dir(at)
            .output()
            .expect("run");
        assert_eq!(verified.status.success(), expected, "openssl on {name}");
    }
}

#[test]
fn a_chain_is_installed_only_for_our_own_key_and_within_its_life() {
    let company = Company::new(COMPANIES[0].0, COMPANIES[0].1, COMPANIES[0].2);
    let at = company.folder.path();
    let issuer = company.issuer();
    let pem = |file: &str| certificate::from_pem(&fs::read(at.join(file)).expect("made")).expect("PEM").remove(0);
    let chain = [pem("ca.pem"), pem("root.pem")];
    let installed = install(&chain, issuer.key(), now()).expect("installed");
    assert_eq!(installed.certificates().len(), 1);
    assert!(installed.anchor().is_some());
    let other = leaf_key(at, KeyKind::P256);
    install(&chain, &other, now()).expect_err("another key");
    install(&chain, issuer.key(), issuer.validity().not_after().after(Duration::from_secs(1))).expect_err("expired");
}
