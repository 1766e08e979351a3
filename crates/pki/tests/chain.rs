//! Chains as companies hand them over, and what they allow below them; OpenSSL is the oracle.
#![expect(clippy::disallowed_methods, reason = "OpenSSL's files, signing keys of the test, and a stopwatch")]

#[path = "support/openssl.rs"]
mod openssl;

use std::{collections::BTreeSet, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use chancery_pki::{
    Name, NameSet, PublicKey, SerialNumber, SignatureAlgorithm, Timestamp,
    certificate::{self, Certificate},
    chain::{Chain, InstallRejection, IssuerFault, IssuerRefusal, IssuingCertificate, RefusedByRustls, install},
    content::AS_PROFILE,
    distinguished_name::{Attribute, AttributeKind},
    profile::{ExtendedKeyUsage, NameKind, Profile, ProfileSpec, SubjectPolicy},
    tbs::{LeafRequest, Tbs},
};
use openssl::{GENPKEY, OpenSsl};
use rustls_pki_types::{CertificateDer, UnixTime};

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
                  subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

/// A certificate that OpenSSL makes.
struct Made<'a> {
    name: &'a str,
    issuer: Option<&'a str>,
    /// Lines of a distinguished name.
    subject: &'a str,
    extensions: &'a str,
    key: &'a str,
    days: u32,
    digest: &'a str,
    /// Which string types OpenSSL may use.
    mask: &'a str,
}

impl Default for Made<'_> {
    fn default() -> Self {
        Self {
            name: "root",
            issuer: None,
            subject: "O=Example\nCN=Root",
            extensions: CA,
            key: P256,
            days: 100,
            digest: "-sha256",
            mask: "utf8only",
        }
    }
}

impl Made<'_> {
    fn make(&self, ssl: &OpenSsl) -> Vec<u8> {
        let Self { name, issuer, subject, extensions, key, days, digest, mask } = self;
        ssl.write(
            &format!("{name}.cnf"),
            format!(
                "[req]\nprompt=no\nutf8=yes\nstring_mask={mask}\ndistinguished_name=dn\n[dn]\n{subject}\n[ext]\n{extensions}\n"
            ),
        );
        if !ssl.path(&format!("{name}.key")).exists() {
            ssl.generate(name, key);
        }
        let by = issuer.map(|issuer| format!("-CA {issuer}.pem -CAkey {issuer}.key")).unwrap_or_default();
        ssl.run(&format!(
            "req -x509 -new -config {name}.cnf -extensions ext -key {name}.key {by} -days {days} {digest} -out {name}.pem"
        ));
        der(ssl, name)
    }
}

fn der(ssl: &OpenSsl, name: &str) -> Vec<u8> {
    ssl.run(&format!("x509 -in {name}.pem -outform DER"))
}

fn key(ssl: &OpenSsl, name: &str) -> PublicKey {
    PublicKey::from_spki(&ssl.run(&format!("pkey -in {name}.key -pubout -outform DER"))).expect("a good key")
}

/// An hour after the certificate begins.
fn soon_after(der: &[u8]) -> Timestamp {
    Certificate::from_der(der).expect("readable").validity().not_before().after(Duration::from_secs(3600))
}

/// Whether OpenSSL takes `target` under `root` at `now`.
fn openssl_takes(ssl: &OpenSsl, root: &str, between: &[&str], target: &str, now: Timestamp) -> bool {
    let between: String = between.iter().map(|name| format!("-untrusted {name}.pem ")).collect();
    let attime = now.unix_seconds();
    ssl.try_run(&format!("verify -attime {attime} -CAfile {root}.pem {between} {target}.pem")).0
}

/// A root and an issuing certificate below it.
fn two_tiers(ssl: &OpenSsl) -> (Vec<u8>, Vec<u8>) {
    let root = Made::default().make(ssl);
    let issuing = Made { name: "issuing", issuer: Some("root"), subject: "CN=Issuing", ..Made::default() }.make(ssl);
    (root, issuing)
}

#[test]
fn a_chain_is_put_in_order_whatever_order_it_came_in_and_its_root_is_kept_apart() {
    let ssl = OpenSsl::new();
    let root = Made::default().make(&ssl);
    let policy = Made { name: "policy", issuer: Some("root"), subject: "CN=Policy", ..Made::default() }.make(&ssl);
    let middle = Made { name: "middle", issuer: Some("policy"), subject: "CN=Middle", ..Made::default() }.make(&ssl);
    let issuing =
        Made { name: "issuing", issuer: Some("middle"), subject: "CN=Issuing", days: 50, ..Made::default() }.make(&ssl);
    let (ours, now) = (key(&ssl, "issuing"), soon_after(&issuing));
    let wanted = [issuing.clone(), middle.clone(), policy.clone()];
    for given in [
        vec![issuing.clone(), middle.clone(), policy.clone(), root.clone()],
        vec![root.clone(), policy.clone(), middle.clone(), issuing.clone()],
        vec![middle.clone(), root, issuing.clone(), policy.clone()],
    ] {
        let chain = install(&given, &ours, now).expect("a chain");
        let sent: Vec<&[u8]> = chain.certificates().iter().map(|certificate| certificate.der()).collect();
        assert_eq!(sent, wanted);
        assert_eq!(chain.anchor().map(ToString::to_string).as_deref(), Some("O=Example, CN=Root"));
        assert_eq!(chain.not_after(), chain.issuing().validity().not_after());
    }
    let without_root = install(&wanted, &ours, now).expect("a root may be missing");
    assert!(without_root.anchor().is_none());
}

/// XCA's default CA template adds Netscape's extensions, and its export on Windows has CRLF.
const XCA: &str = "basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid,issuer\n\
                   keyUsage=keyCertSign,cRLSign\nnsCertType=sslCA,emailCA,objCA\nnsComment=xca certificate";

#[test]
fn a_chain_as_xca_makes_it_is_taken() {
    let ssl = OpenSsl::new();
    let root = Made { extensions: &XCA.replace("keyid,issuer", "none"), ..Made::default() }.make(&ssl);
    let subject = "C=DE\nO=Example\nCN=Issuing\nemailAddress=pki@example.com";
    let issuing =
        Made { name: "issuing", issuer: Some("root"), subject, extensions: XCA, ..Made::default() }.make(&ssl);
    assert!(String::from_utf8(ssl.run("x509 -in issuing.pem -noout -text")).unwrap().contains("xca certificate"));
    let text = certificate::to_pem([&*issuing, &*root]).replace('\n', "\r\n");
    let read = certificate::from_pem(text.as_bytes()).expect("CRLF is read");
    assert_eq!(read, [issuing.clone(), root]);
    let chain = install(&read, &key(&ssl, "issuing"), soon_after(&issuing)).expect("a chain");
    assert!(chain.anchor().is_some());
}

#[test]
fn an_explanation_before_pem_may_begin_with_any_character() {
    let ssl = OpenSsl::new();
    let (_, issuing) = two_tiers(&ssl);
    for first in ["0 s:O=Example, CN=Issuing\n", "0", "issued 2026\n\n"] {
        let text = format!("{first}\n{}", certificate::to_pem([&*issuing]));
        assert_eq!(certificate::from_pem(text.as_bytes()), Ok(vec![issuing.clone()]), "{first:?}");
    }
}

#[test]
fn what_is_not_pem_is_told_how_to_be_exported_as_pem() {
    let ssl = OpenSsl::new();
    two_tiers(&ssl);
    for (options, form, command) in [
        ("x509 -in issuing.pem -outform DER", "DER, not PEM", "openssl x509 -inform DER"),
        (
            "crl2pkcs7 -nocrl -certfile issuing.pem -outform DER",
            "PKCS#7 in DER",
            "openssl pkcs7 -inform DER -print_certs",
        ),
        ("crl2pkcs7 -nocrl -certfile issuing.pem", "PKCS#7", "openssl pkcs7 -print_certs"),
        ("pkcs12 -export -nokeys -in issuing.pem -passout pass:x", "PKCS#12", "openssl pkcs12 -in FILE -nokeys"),
    ] {
        let error = certificate::from_pem(&ssl.run(options)).unwrap_err().to_string();
        assert!(error.contains(&format!("it is {form}: export it as PEM")), "{error}");
        assert!(error.contains(command), "{error}");
    }
}

#[test]
fn a_self_signed_issuing_certificate_is_told_apart() {
    let ssl = OpenSsl::new();
    let root = Made::default().make(&ssl);
    let chain = install(std::slice::from_ref(&root), &key(&ssl, "root"), soon_after(&root)).expect("a chain");
    assert!(chain.is_self_signed());
    let (root, issuing) = two_tiers(&ssl);
    let chain = install(&[root, issuing.clone()], &key(&ssl, "issuing"), soon_after(&issuing)).expect("a chain");
    assert!(!chain.is_self_signed());
}

#[test]
fn what_was_given_twice_or_for_another_key_is_refused() {
    use InstallRejection as R;
    let ssl = OpenSsl::new();
    let (root, issuing) = two_tiers(&ssl);
    let (ours, now) = (key(&ssl, "issuing"), soon_after(&issuing));
    assert!(matches!(install(&[], &ours, now), Err(R::Nothing)));
    assert!(matches!(install(&vec![root.clone(); 17], &ours, now), Err(R::TooMany { count: 17 })));
    let twice = [issuing.clone(), root.clone(), issuing.clone()];
    assert_eq!(install(&twice, &ours, now), Err(R::Duplicate { first: 1, second: 3 }));
    assert!(matches!(install(std::slice::from_ref(&root), &ours, now), Err(R::OtherKey { .. })));
    let renewed = Made { name: "issuing", issuer: Some("root"), subject: "CN=Issuing", ..Made::default() }.make(&ssl);
    let both = [issuing.clone(), root.clone(), renewed];
    assert_eq!(install(&both, &ours, now), Err(R::SeveralForKey { first: 1, second: 3 }));
    let stranger = Made { name: "stranger", subject: "CN=Stranger", ..Made::default() }.make(&ssl);
    let with_stranger = install(&[issuing, root, stranger], &ours, now);
    assert!(matches!(with_stranger, Err(R::Unrelated { position: 3, .. })), "{with_stranger:?}");
}

#[test]
fn what_is_no_certificate_of_a_ca_is_refused() {
    use InstallRejection as R;
    let ssl = OpenSsl::new();
    let root = Made::default().make(&ssl);
    let try_with = |extensions: &str| {
        let made = Made { name: "issuing", issuer: Some("root"), subject: "CN=Issuing", extensions, ..Made::default() };
        let issuing = made.make(&ssl);
        install(&[issuing.clone(), root.clone()], &key(&ssl, "issuing"), soon_after(&issuing))
    };
    let ids = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    let leaf = format!("basicConstraints=critical,CA:FALSE\nkeyUsage=digitalSignature\n{ids}");
    assert!(matches!(try_with(&leaf), Err(R::NotACa { .. })));
    assert!(matches!(try_with(&format!("keyUsage=keyCertSign\n{ids}")), Err(R::NotACa { .. })));
    let no_cert_sign = format!("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,cRLSign\n{ids}");
    assert!(matches!(try_with(&no_cert_sign), Err(R::NoCertSign { .. })));
    assert!(matches!(try_with(&format!("basicConstraints=CA:TRUE\n{ids}")), Err(R::NoCertSign { .. })));
    let unknown = try_with(&format!("{CA}1.2.3.4=critical,ASN1:NULL\n"));
    let fault = IssuerFault::UnknownCritical { oid: "1.2.3.4".to_owned() };
    assert_eq!(unknown, Err(R::Unusable { position: 1, fault }));
    let odd_range = try_with(&format!("{CA}nameConstraints=critical,DER:30:0a:a0:08:30:06:87:04:0a:00:00:00\n"));
    assert!(matches!(odd_range, Err(R::Unusable { fault: IssuerFault::Constraints { .. }, .. })), "{odd_range:?}");
    assert!(try_with(CA).is_ok());
    let mut behind = root.clone();
    behind.push(0);
    let ours = key(&ssl, "root");
    for broken in [b"junk".to_vec(), behind, root.get(..200).expect("longer").to_vec()] {
        let refused = install(&[broken], &ours, soon_after(&root));
        assert!(matches!(refused, Err(R::Unusable { fault: IssuerFault::Unreadable { .. }, .. })), "{refused:?}");
    }
}

#[test]
fn a_chain_holds_only_while_each_of_its_certificates_does() {
    use InstallRejection as R;
    let ssl = OpenSsl::new();
    let root = Made { days: 10, ..Made::default() }.make(&ssl);
    let issuing =
        Made { name: "issuing", issuer: Some("root"), subject: "CN=Issuing", days: 20, ..Made::default() }.make(&ssl);
    let (ours, begin) = (key(&ssl, "issuing"), soon_after(&issuing));
    let at = |now: Timestamp| {
        let outcome = install(&[issuing.clone(), root.clone()], &ours, now);
        assert_eq!(outcome.is_ok(), openssl_takes(&ssl, "root", &[], "issuing", now), "at {now}");
        outcome
    };
    let days = |days: u64| begin.after(Duration::from_secs(days * 86_400));
    assert!(at(days(0)).is_ok());
    assert!(matches!(at(begin.before(Duration::from_secs(86_400))), Err(R::NotYetValid { .. })));
    assert!(matches!(at(days(11)), Err(R::Expired { ref subject, .. }) if subject == "O=Example, CN=Root"));
    assert!(matches!(at(days(21)), Err(R::Expired { ref subject, .. }) if subject == "CN=Issuing"));
}

#[test]
fn weak_keys_and_broken_signature_algorithms_are_refused_wherever_they_stand() {
    use InstallRejection as R;
    let ssl = OpenSsl::new();
    let small = "-algorithm RSA -pkeyopt rsa_keygen_bits:1024";
    let root = Made { name: "weak", key: small, ..Made::default() }.make(&ssl);
    let issuing = Made { name: "below", issuer: Some("weak"), subject: "CN=Issuing", ..Made::default() }.make(&ssl);
    let refused = install(&[issuing.clone(), root], &key(&ssl, "below"), soon_after(&issuing));
    assert!(matches!(refused, Err(R::Unusable { position: 2, fault: IssuerFault::Key(_) })), "{refused:?}");

    let rsa = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    // The root's own signature says nothing, so SHA-1 in it is no harm.
    let root = Made { key: rsa, digest: "-sha1", ..Made::default() }.make(&ssl);
    for (digest, accepted) in [
        ("-md5", false),
        ("-sha1", false),
        ("-sha224", false),
        ("-sha1 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1", false),
        ("-sha256", true),
        ("-sha384", true),
        ("-sha512", true),
        ("-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1", true),
        ("-sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1", true),
    ] {
        let made = Made { name: "issuing", issuer: Some("root"), subject: "CN=Issuing", digest, ..Made::default() };
        let issuing = made.make(&ssl);
        let outcome = install(&[issuing.clone(), root.clone()], &key(&ssl, "issuing"), soon_after(&issuing));
        match outcome {
            Ok(_) => assert!(accepted, "{digest} was taken"),
            Err(refused) => {
                assert!(!accepted && matches!(refused, R::WeakSignature { .. }), "{digest}: {refused}");
            }
        }
        // Nor is it accepted where the root is missing and the signature cannot be checked.
        let alone = install(std::slice::from_ref(&issuing), &key(&ssl, "issuing"), soon_after(&issuing));
        assert_eq!(alone.is_ok(), accepted, "{digest}");
    }
    let digest = "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:20";
    let made = Made { name: "issuing", issuer: Some("root"), subject: "CN=Issuing", digest, ..Made::default() };
    let issuing = made.make(&ssl);
    let odd_salt = install(&[issuing.clone(), root], &key(&ssl, "issuing"), soon_after(&issuing));
    assert!(matches!(odd_salt, Err(R::WeakSignature { .. })), "{odd_salt:?}");
}

#[test]
fn every_pair_of_root_key_and_digest_that_openssl_makes_is_verified() {
    let ssl = OpenSsl::new();
    for (kind, digest) in [
        ("P-256", "-sha384"),
        ("P-256", "-sha512"),
        ("P-384", "-sha256"),
        ("P-384", "-sha512"),
        ("P-521", "-sha256"),
        ("P-521", "-sha384"),
        ("P-521", "-sha512"),
    ] {
        let name = format!("{kind}{digest}");
        let options = GENPKEY.iter().find(|(of, _)| *of == kind).expect("a kind of key").1;
        let root = Made { name: &name, key: options, digest, ..Made::default() }.make(&ssl);
        let made = Made { name: "issuing", issuer: Some(&name), subject: "CN=Issuing", digest, ..Made::default() };
        let issuing = made.make(&ssl);
        let chain = install(&[issuing.clone(), root], &key(&ssl, "issuing"), soon_after(&issuing));
        assert!(chain.as_ref().is_ok_and(|chain| chain.anchor().is_some()), "{name}: {chain:?}");
    }
    let root = Made { name: "ed", key: "-algorithm ED25519", digest: "", ..Made::default() }.make(&ssl);
    let made = Made { name: "issuing", issuer: Some("ed"), subject: "CN=Issuing", digest: "", ..Made::default() };
    let issuing = made.make(&ssl);
    install(&[issuing.clone(), root], &key(&ssl, "issuing"), soon_after(&issuing)).expect("Ed25519");
}

#[test]
fn links_that_look_right_and_do_not_hold_are_refused() {
    use InstallRejection as R;
    let ssl = OpenSsl::new();
    let (root, issuing) = two_tiers(&ssl);
    let (ours, now) = (key(&ssl, "issuing"), soon_after(&issuing));
    let impostor = Made { name: "impostor", ..Made::default() }.make(&ssl);
    let refused = install(&[issuing.clone(), impostor.clone()], &ours, now);
    assert!(matches!(refused, Err(R::BrokenSignature { .. })), "{refused:?}");
    assert!(!openssl_takes(&ssl, "impostor", &[], "issuing", now));
    // With the true root beside it, it is the impostor that does not belong.
    let both = install(&[issuing.clone(), impostor, root], &ours, now);
    assert!(matches!(both, Err(R::Unrelated { position: 2, .. })), "{both:?}");

    let identifier = CA
        .replace("keyIdentifier=hash", "keyIdentifier=01020304")
        .replace("subjectKeyIdentifier=hash", "subjectKeyIdentifier=01020304");
    let other_identifier = Made { extensions: &identifier, ..Made::default() }.make(&ssl);
    let refused = install(&[issuing, other_identifier], &ours, now);
    assert!(matches!(refused, Err(R::KeyIdentifierDiffers { .. })), "{refused:?}");
    assert!(!openssl_takes(&ssl, "root", &[], "issuing", now));
}

#[test]
fn a_path_length_counts_the_cas_below_it() {
    let ssl = OpenSsl::new();
    let limited = |length: u8| CA.replace("CA:TRUE", &format!("CA:TRUE,pathlen:{length}"));
    for (at_root, at_middle, accepted) in [(0, 9, false), (2, 2, false), (3, 1, false), (3, 2, true), (9, 9, true)] {
        let root = Made { extensions: &limited(at_root), ..Made::default() }.make(&ssl);
        let middle = limited(at_middle);
        let made =
            Made { name: "middle", issuer: Some("root"), subject: "CN=Middle", extensions: &middle, ..Made::default() };
        let middle = made.make(&ssl);
        let lower = Made { name: "lower", issuer: Some("middle"), subject: "CN=Lower", ..Made::default() }.make(&ssl);
        let made = Made { name: "issuing", issuer: Some("lower"), subject: "CN=Issuing", ..Made::default() };
        let issuing = made.make(&ssl);
        let now = soon_after(&issuing);
        let ours = key(&ssl, "issuing");
        let outcome = install(&[issuing, lower, middle, root], &ours, now);
        // OpenSSL looks at an end entity, we at the certificate that is to issue it.
        let leaf = "basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
        Made { name: "leaf", issuer: Some("issuing"), subject: "CN=Leaf", extensions: leaf, ..Made::default() }
            .make(&ssl);
        let taken = openssl_takes(&ssl, "root", &["middle", "lower", "issuing"], "leaf", now);
        assert_eq!(taken, accepted, "openssl on root {at_root}, middle {at_middle}");
        assert_eq!(outcome.is_ok(), accepted, "root {at_root}, middle {at_middle}: {outcome:?}");
        if let Err(refused) = outcome {
            assert!(matches!(refused, InstallRejection::PathLength { .. }), "{refused}");
        }
    }
}

#[test]
fn a_ca_whose_name_one_above_does_not_permit_is_refused() {
    let ssl = OpenSsl::new();
    let constraint = "[permitted]\nO=Example\n";
    let extensions = format!("{CA}nameConstraints=critical,permitted;dirName:permitted\n{constraint}");
    let root = Made { extensions: &extensions, ..Made::default() }.make(&ssl);
    for (subject, accepted) in [("O=EXAMPLE\nCN=Issuing", true), ("O=Other\nCN=Issuing", false), ("CN=Issuing", false)]
    {
        let issuing = Made { name: "issuing", issuer: Some("root"), subject, ..Made::default() }.make(&ssl);
        let now = soon_after(&issuing);
        let outcome = install(&[issuing, root.clone()], &key(&ssl, "issuing"), now);
        assert_eq!(outcome.is_ok(), accepted, "{subject}: {outcome:?}");
        assert_eq!(openssl_takes(&ssl, "root", &[], "issuing", now), accepted, "openssl on {subject}");
        if let Err(refused) = outcome {
            assert!(matches!(refused, InstallRejection::NameConstraint { .. }), "{refused}");
        }
    }
}

/// A chain whose issuing certificate has these extensions, and the pair that signs for it.
struct Issuer {
    ssl: OpenSsl,
    chain: Chain,
    pair: EcdsaKeyPair,
    now: Timestamp,
}

impl Issuer {
    fn new(extensions: &str) -> Self {
        let ssl = OpenSsl::new();
        let root = Made::default().make(&ssl);
        let extensions = format!("{CA}{extensions}");
        let made = Made {
            name: "issuing",
            issuer: Some("root"),
            subject: "O=Example\nCN=Issuing",
            extensions: &extensions,
            ..Made::default()
        };
        let issuing = made.make(&ssl);
        ssl.run("pkcs8 -topk8 -nocrypt -in issuing.key -outform DER -out issuing.p8");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &ssl.read("issuing.p8")).expect("a key");
        let now = soon_after(&issuing);
        let chain = install(&[issuing, root], &key(&ssl, "issuing"), now).expect("a chain");
        Self { ssl, chain, pair, now }
    }

    /// Signs whatever it is told, permitted or not, and says what we and OpenSSL think of each.
    fn opinions(&self, profile: &Profile, purpose: &str, names: &[&str]) -> Vec<(bool, bool)> {
        let key = PublicKey::from_spki(&self.ssl.generate("leaf", P256)).expect("a key");
        let mut ours = Vec::new();
        let mut files = String::new();
        for (at, text) in names.iter().enumerate() {
            let set = NameSet::new([text.parse::<Name>().expect("a name")]).expect("one name");
            ours.push(self.chain.permits(&set, profile, &AS_PROFILE, self.now).is_ok());
            let issuing = self.chain.issuing();
            let validity = profile.validity(self.now, (None, None), issuing.validity().not_after()).expect("granted");
            let request = LeafRequest {
                names: &set,
                profile,
                content: &AS_PROFILE,
                key: &key,
                validity: validity.validity(),
                serial: SerialNumber::from_u128(1 << 100 | at as u128).expect("not zero"),
                must_staple: false,
                crl_shard: None,
            };
            let tbs = Tbs::build(&request, issuing, SignatureAlgorithm::EcdsaSha256).expect("built");
            let signature = self.pair.sign(&SystemRandom::new(), tbs.der()).expect("signed");
            let der = tbs.assemble(signature.as_ref()).expect("assembled");
            self.ssl.write(&format!("{at}.pem"), certificate::to_pem([der.as_slice()]));
            files.push_str(&format!(" {at}.pem"));
        }
        let attime = self.now.unix_seconds();
        let verify = format!("verify -attime {attime} {purpose} -CAfile root.pem -untrusted issuing.pem {files}");
        let output = String::from_utf8(self.ssl.try_run(&verify).1).expect("text");
        let taken: BTreeSet<&str> = output.lines().filter_map(|line| line.strip_suffix(": OK")).collect();
        let openssls = (0..names.len()).map(|at| taken.contains(format!("{at}.pem").as_str()));
        ours.into_iter().zip(openssls).collect()
    }
}

fn profile(change: impl FnOnce(&mut ProfileSpec)) -> Profile {
    let mut spec = ProfileSpec::server();
    spec.name_kinds.push(NameKind::Spiffe);
    change(&mut spec);
    Profile::new(spec).expect("sound")
}

const NAMES: [&str; 20] = [
    "example.com",
    "a.example.com",
    "a.b.example.com",
    "badexample.com",
    "example.com.evil.org",
    "example.org",
    "com.example",
    "*.example.com",
    "*.a.example.com",
    "*.example.org",
    "bad.example.com",
    "x.bad.example.com",
    "10.1.2.3",
    "11.1.2.3",
    "192.168.7.7",
    "2001:db8::1",
    "2001:db9::1",
    "spiffe://example.com/a",
    "spiffe://a.example.com/a",
    "spiffe://example.org/a",
];

const CONSTRAINTS: [&str; 24] = [
    "permitted;DNS:example.com",
    "permitted;DNS:.example.com",
    "permitted;DNS:EXAMPLE.com",
    "permitted;DNS:com",
    "permitted;DNS:a.example.com,permitted;DNS:example.org",
    "DER:30:06:a0:04:30:02:82:00", // permitted;DNS: (empty)
    "DER:30:06:a1:04:30:02:82:00", // excluded;DNS: (empty)
    "excluded;DNS:example.com",
    "excluded;DNS:.example.com",
    "permitted;DNS:example.com,excluded;DNS:a.example.com",
    "permitted;DNS:example.com,excluded;DNS:bad.example.com",
    "permitted;IP:10.0.0.0/255.0.0.0",
    "permitted;IP:10.0.0.0/255.0.0.0,permitted;IP:192.168.0.0/255.255.0.0",
    "excluded;IP:10.0.0.0/255.0.0.0",
    "excluded;IP:0.0.0.0/0.0.0.0",
    "permitted;IP:2001:db8:0:0:0:0:0:0/ffff:ffff:0:0:0:0:0:0",
    "permitted;URI:example.com",
    "permitted;URI:.example.com",
    "permitted;URI:EXAMPLE.com",
    "excluded;URI:example.com",
    "excluded;URI:.example.com",
    "permitted;email:example.com",
    "permitted;DNS:example.com,permitted;IP:10.0.0.0/255.0.0.0,permitted;URI:example.com",
    "excluded;DNS:example.org,excluded;IP:192.168.7.7/255.255.255.255",
];

#[test]
fn openssl_and_we_agree_on_every_name_under_every_constraint() {
    let profile = profile(|_| ());
    let mut stricter = 0;
    for constraint in CONSTRAINTS {
        let issuer = Issuer::new(&format!("nameConstraints=critical,{constraint}"));
        let opinions = issuer.opinions(&profile, "", &NAMES);
        for (name, (ours, openssls)) in NAMES.iter().zip(opinions) {
            // A wildcard that could stand for an excluded host: see chain::constraints.
            let covers_excluded =
                [("*.example.com", "excluded;DNS:bad.example.com"), ("*.example.com", "excluded;DNS:a.example.com")]
                    .iter()
                    .any(|(wildcard, excluded)| wildcard == name && constraint.ends_with(excluded));
            if covers_excluded {
                assert_eq!((ours, openssls), (false, true), "{name} under {constraint}");
                stricter += 1;
            } else {
                assert_eq!(ours, openssls, "{name} under {constraint}: ours and OpenSSL's opinion");
            }
        }
    }
    assert_eq!(stricter, 2);
}

#[test]
fn openssl_and_we_agree_on_subjects_under_directory_name_constraints() {
    let subject = |parts: &[(AttributeKind, &str)]| {
        let attributes = parts.iter().map(|(kind, value)| Attribute::new(*kind, *value).expect("valid"));
        SubjectPolicy::Fixed(attributes.collect())
    };
    let (organization, unit) = (AttributeKind::Organization, AttributeKind::OrganizationalUnit);
    let subjects = [
        SubjectPolicy::Empty,
        SubjectPolicy::CommonNameFromFirstDnsName,
        subject(&[(organization, "Example")]),
        subject(&[(organization, "EXAMPLE"), (unit, "Web")]),
        subject(&[(organization, "Example"), (unit, "Mesh")]),
        subject(&[(unit, "Web"), (organization, "Example")]),
        subject(&[(organization, "Other")]),
    ];
    for constraint in [
        "permitted;dirName:d\n[d]\nO=Example",
        "permitted;dirName:d\n[d]\nO=Example\nOU=web",
        "excluded;dirName:d\n[d]\nO=Example\nOU=Mesh",
        "excluded;dirName:d\n[d]\nO=example",
    ] {
        let issuer = Issuer::new(&format!("nameConstraints=critical,{constraint}"));
        for policy in &subjects {
            let profile = profile(|spec| spec.subject = policy.clone());
            let [(ours, openssls)] = issuer.opinions(&profile, "", &["a.example.com"])[..] else {
                panic!("one name was asked for");
            };
            assert_eq!(ours, openssls, "{policy:?} under {constraint}");
        }
    }
}

#[test]
fn openssl_and_we_agree_on_what_an_issuers_extended_key_usages_allow() {
    let (server, client) = (ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth);
    for (issuers, allows_server, allows_client) in [
        ("", true, true),
        ("extendedKeyUsage=serverAuth", true, false),
        ("extendedKeyUsage=clientAuth", false, true),
        ("extendedKeyUsage=serverAuth,clientAuth", true, true),
        ("extendedKeyUsage=codeSigning", false, false),
        ("extendedKeyUsage=anyExtendedKeyUsage", false, false),
    ] {
        let issuer = Issuer::new(issuers);
        for (usage, purpose, expected) in
            [(server, "-purpose sslserver", allows_server), (client, "-purpose sslclient", allows_client)]
        {
            let profile = profile(|spec| spec.extended_key_usages = vec![usage]);
            let opinions = issuer.opinions(&profile, purpose, &["a.example.com"]);
            assert_eq!(opinions, [(expected, expected)], "{usage} under \"{issuers}\"");
        }
        let both = profile(|spec| spec.extended_key_usages = vec![server, client]);
        let names = NameSet::new(["a.example.com".parse().expect("a name")]).expect("one name");
        let permitted = issuer.chain.permits(&names, &both, &AS_PROFILE, issuer.now);
        assert_eq!(permitted.is_ok(), allows_server && allows_client, "every usage must be allowed: {permitted:?}");
    }
}

#[test]
fn constraints_above_the_issuing_certificate_bind_as_well() {
    let ssl = OpenSsl::new();
    let constrained = format!("{CA}nameConstraints=critical,permitted;DNS:example.com\n");
    let root = Made { extensions: &constrained, ..Made::default() }.make(&ssl);
    let usages = format!("{CA}extendedKeyUsage=serverAuth\n");
    let made =
        Made { name: "middle", issuer: Some("root"), subject: "CN=Middle", extensions: &usages, ..Made::default() };
    let middle = made.make(&ssl);
    let made = Made { name: "issuing", issuer: Some("middle"), subject: "CN=Issuing", days: 50, ..Made::default() };
    let issuing = made.make(&ssl);
    let now = soon_after(&issuing);
    let chain = install(&[issuing, middle, root], &key(&ssl, "issuing"), now).expect("a chain");
    let names = |name: &str| NameSet::new([name.parse().expect("a name")]).expect("one name");
    let server = profile(|_| ());
    assert_eq!(chain.permits(&names("a.example.com"), &server, &AS_PROFILE, now), Ok(()));
    let outside = chain.permits(&names("a.example.org"), &server, &AS_PROFILE, now);
    assert!(matches!(outside, Err(IssuerRefusal::Names { ref refused }) if refused[0].issuer == "O=Example, CN=Root"));
    let client = profile(|spec| spec.extended_key_usages = vec![ExtendedKeyUsage::ClientAuth]);
    let unusable = chain.permits(&names("a.example.com"), &client, &AS_PROFILE, now);
    assert!(matches!(unusable, Err(IssuerRefusal::ExtendedKeyUsage { ref issuer, .. }) if issuer == "CN=Middle"));
    let late = now.after(Duration::from_secs(60 * 86_400));
    assert!(matches!(
        chain.permits(&names("a.example.com"), &server, &AS_PROFILE, late),
        Err(IssuerRefusal::Expired { .. })
    ));
    let early = now.before(Duration::from_secs(86_400));
    assert!(matches!(
        chain.permits(&names("a.example.com"), &server, &AS_PROFILE, early),
        Err(IssuerRefusal::NotYetValid { .. })
    ));
}

#[test]
fn every_name_that_any_certificate_of_the_chain_refuses_is_told_once() {
    let ssl = OpenSsl::new();
    let constrained = format!("{CA}nameConstraints=critical,permitted;DNS:example.com\n");
    let root = Made { extensions: &constrained, ..Made::default() }.make(&ssl);
    let excluding = format!("{CA}nameConstraints=critical,excluded;DNS:bad.example.com,excluded;DNS:example.net\n");
    let made = Made {
        name: "issuing",
        issuer: Some("root"),
        subject: "CN=Issuing",
        extensions: &excluding,
        ..Made::default()
    };
    let issuing = made.make(&ssl);
    let now = soon_after(&issuing);
    let chain = install(&[issuing, root], &key(&ssl, "issuing"), now).expect("a chain");
    let names = ["a.bad.example.com", "b.bad.example.com", "example.net", "example.org", "good.example.com"];
    let names = NameSet::new(names.map(|name| name.parse().expect("a name"))).expect("names");
    let Err(IssuerRefusal::Names { refused }) = chain.permits(&names, &profile(|_| ()), &AS_PROFILE, now) else {
        panic!("refused by name")
    };
    let told: Vec<(String, &str)> = refused.iter().map(|each| (each.name.to_string(), &*each.issuer)).collect();
    let expected = [
        ("a.bad.example.com", "CN=Issuing"),
        ("b.bad.example.com", "CN=Issuing"),
        ("example.net", "CN=Issuing"),
        ("example.org", "O=Example, CN=Root"),
    ];
    assert!(told.iter().map(|(name, issuer)| (&**name, *issuer)).eq(expected), "{told:?}");
}

/// Whether rustls's verifier takes a leaf with this name below the chain.
fn rustls_takes(ssl: &OpenSsl, (root, issuing): &(Vec<u8>, Vec<u8>), name: &str) -> bool {
    let extensions = &format!("subjectAltName=critical,{name}\nextendedKeyUsage=serverAuth,clientAuth\n");
    let leaf =
        Made { name: "leaf", issuer: Some("issuing"), subject: "O=Example", days: 40, extensions, ..Made::default() };
    let leaf = leaf.make(ssl);
    let at = soon_after(&leaf).unix_seconds().try_into().expect("after 1970");
    let [leaf, root, issuing] = [&leaf, root, issuing].map(|der| CertificateDer::from(der.as_slice()));
    let (anchors, between) = ([webpki::anchor_from_trusted_cert(&root).expect("a root")], [issuing]);
    let leaf = webpki::EndEntityCert::try_from(&leaf).expect("webpki reads it");
    let verified = leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &between,
        UnixTime::since_unix_epoch(Duration::from_secs(at)),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    );
    let refusal = verified.err();
    assert!(refusal.is_none() || refusal == Some(webpki::Error::NameConstraintViolation), "{refusal:?}");
    refusal.is_none()
}

#[test]
fn constraints_below_which_rustls_refuses_what_they_permit_are_told_apart_as_rustls_does_it() {
    use RefusedByRustls::{Everything, Uris};
    let directory = "dirName:d\n[d]\nO=";
    for (constraint, refused) in [
        ("permitted;DNS:example.com", None),
        ("permitted;IP:10.0.0.0/255.0.0.0", None),
        ("permitted;email:example.com", None),
        ("permitted;URI:example.com", Some(Uris)),
        ("excluded;URI:elsewhere.example", Some(Uris)),
        (&format!("permitted;{directory}Example"), Some(Everything)),
        (&format!("excluded;{directory}Elsewhere"), Some(Everything)),
    ] {
        for at_the_root in [false, true] {
            let ssl = OpenSsl::new();
            let extensions = &format!("{CA}nameConstraints=critical,{constraint}\n");
            let (above, below) = if at_the_root { (&**extensions, CA) } else { (CA, &**extensions) };
            let root = Made { extensions: above, ..Made::default() }.make(&ssl);
            let subject = "O=Example\nCN=Issuing";
            let made = Made { name: "issuing", issuer: Some("root"), subject, extensions: below, ..Made::default() };
            let chain = (root.clone(), made.make(&ssl));
            let installed =
                install(&[chain.1.clone(), root], &key(&ssl, "issuing"), soon_after(&chain.1)).expect("a chain");
            let told: Vec<RefusedByRustls> = installed.refused_by_rustls().map(|(_, refused)| refused).collect();
            assert_eq!(told, Vec::from_iter(refused), "{constraint} at the root: {at_the_root}");
            let takes = |name| rustls_takes(&ssl, &chain, name);
            assert_eq!(takes("DNS:a.example.com"), refused != Some(Everything), "{constraint}");
            assert_eq!(takes("URI:spiffe://example.com/a"), refused.is_none(), "{constraint}");
        }
    }
}

#[test]
fn a_root_of_version_1_is_trusted_for_what_it_is() {
    let ssl = OpenSsl::new();
    ssl.generate("root", P256);
    ssl.write("root.cnf", "[req]\nprompt=no\ndistinguished_name=dn\n[dn]\nO=Example\nCN=Old Root\n");
    ssl.run("req -new -config root.cnf -key root.key -out root.csr");
    ssl.run("x509 -req -in root.csr -signkey root.key -days 100 -out root.pem");
    let root = der(&ssl, "root");
    let extensions = &CA.replace("authorityKeyIdentifier=keyid", "");
    let made = Made { name: "issuing", issuer: Some("root"), subject: "CN=Issuing", extensions, ..Made::default() };
    let issuing = made.make(&ssl);
    let now = soon_after(&issuing);
    let chain = install(&[issuing, root], &key(&ssl, "issuing"), now);
    assert_eq!(chain.is_ok(), openssl_takes(&ssl, "root", &[], "issuing", now), "{chain:?}");
    assert!(chain.is_ok());
}

#[test]
fn names_link_whatever_string_types_they_are_written_in() {
    let ssl = OpenSsl::new();
    let root = Made { mask: "MASK:2", ..Made::default() }.make(&ssl);
    let issuing = Made { name: "issuing", issuer: Some("root"), subject: "CN=Issuing", ..Made::default() }.make(&ssl);
    // The same root again, its name written in UTF8String.
    let again = Made::default().make(&ssl);
    let read = |der: &[u8]| IssuingCertificate::from_der(der).expect("readable");
    assert_ne!(read(&root).subject(), read(&again).subject());
    let now = soon_after(&issuing);
    let chain = install(&[issuing, again], &key(&ssl, "issuing"), now).expect("a chain");
    assert!(chain.anchor().is_some());
    assert!(openssl_takes(&ssl, "root", &[], "issuing", now));
}
