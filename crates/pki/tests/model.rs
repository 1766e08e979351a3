//! Whatever is ordered, under whatever profile and issuer: the certificate is what a model of its
//! own says, read back by x509-parser, and OpenSSL verifies it up to the root.
#![expect(clippy::indexing_slicing, reason = "a helper that fails fails its test")]
#![expect(clippy::disallowed_methods, reason = "OpenSSL's files, signing keys of the test, and a stopwatch")]

#[path = "support/openssl.rs"]
mod openssl;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
    time::Duration,
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use chancery_pki::{
    CommonName, Content, Csr, CsrRejection, KeyKind, Lifetime, Name, NameSet, PublicKey, SerialNumber,
    SignatureAlgorithm, Timestamp, Validity,
    certificate::{self, Certificate, Difference, verify_issued},
    chain::{Chain, install},
    content::AS_PROFILE,
    distinguished_name::{Attribute, AttributeKind, RequestedSubject},
    lint::lint,
    profile::{
        CaSpec, ConstrainedKind, CrlLocation, ExtendedKeyUsage, KeyUsage, NameKind, Profile, ProfileSpec, SubjectPolicy,
    },
    tbs::{LeafRequest, Tbs},
};
use openssl::{GENPKEY, OpenSsl};
use proptest::{prelude::*, sample::subsequence};
use x509_parser::{
    extensions::{DistributionPointName, GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate, X509Version},
};

/// An issuer as a company has it: its subject and extensions, as OpenSSL's configuration writes them.
struct Company {
    what: &'static str,
    key: &'static str,
    subject: &'static str,
    /// The string types that OpenSSL may use.
    mask: &'static str,
    extensions: &'static str,
    /// A policy CA between the root and the issuer.
    three_tiers: bool,
    /// Whether every certificate above the leaf has what `-x509_strict` asks for.
    strict: bool,
}

const SKI: &str = "subjectKeyIdentifier=hash";

const COMPANIES: [Company; 11] = [
    Company {
        what: "repeated DC and OU",
        key: "P-256",
        subject: "0.DC=org\n1.DC=example\n0.OU=One\n1.OU=Two\nCN=Issuing CA 1",
        mask: "utf8only",
        extensions: SKI,
        three_tiers: false,
        strict: true,
    },
    Company {
        what: "PrintableString, three tiers",
        key: "RSA-2048",
        subject: "C=DE\nO=Beispiel AG\nOU=PKI\nCN=Issuing CA 2",
        mask: "MASK:2",
        extensions: SKI,
        three_tiers: true,
        strict: true,
    },
    Company {
        what: "T61String with umlauts",
        key: "P-384",
        subject: "C=DE\nO=Übungs-Gesellschaft für Größe\nCN=Prüfstelle",
        mask: "MASK:6",
        extensions: SKI,
        three_tiers: false,
        strict: true,
    },
    Company {
        what: "BMPString",
        key: "P-256",
        subject: "O=Beispiel\nCN=Αθήνα",
        mask: "MASK:2048",
        extensions: SKI,
        three_tiers: false,
        strict: true,
    },
    Company {
        what: "an RDN of two attributes",
        key: "P-256",
        subject: "O=Example\nOU=Operations\n+CN=Issuing CA 5",
        mask: "utf8only",
        extensions: SKI,
        three_tiers: false,
        strict: true,
    },
    Company {
        what: "a foreign, short key identifier",
        key: "P-521",
        subject: "O=Example\nCN=Foreign Identifier",
        mask: "utf8only",
        extensions: "subjectKeyIdentifier=0123456789ab",
        three_tiers: false,
        strict: true,
    },
    Company {
        what: "a long key identifier",
        key: "Ed25519",
        subject: "O=Example\nCN=Long Identifier",
        mask: "utf8only",
        extensions: "subjectKeyIdentifier=\
                     000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252627",
        three_tiers: false,
        strict: true,
    },
    Company {
        what: "no key identifier",
        key: "P-256",
        subject: "O=Example\nCN=No Identifier",
        mask: "utf8only",
        extensions: "",
        three_tiers: false,
        strict: false,
    },
    Company {
        what: "extended key usages",
        key: "RSA-4096",
        subject: "O=Example\nCN=Server and Client",
        mask: "utf8only",
        extensions: "subjectKeyIdentifier=hash\nextendedKeyUsage=serverAuth,clientAuth",
        three_tiers: true,
        strict: true,
    },
    Company {
        what: "name constraints",
        key: "P-256",
        subject: "O=Example\nCN=Constrained",
        mask: "utf8only",
        extensions: "subjectKeyIdentifier=hash\nnameConstraints=critical,permitted;DNS:example.com,\
                     permitted;IP:10.0.0.0/255.0.0.0,permitted;URI:example.com",
        three_tiers: false,
        strict: true,
    },
    Company {
        what: "policies and where to find things",
        key: "Ed25519",
        subject: "O=Example\nCN=Everything",
        mask: "utf8only",
        extensions: "subjectKeyIdentifier=hash\ncertificatePolicies=2.5.29.32.0\npolicyConstraints=critical,requireExplicitPolicy:3\n\
                     authorityInfoAccess=caIssuers;URI:http://pki.example.com/root.cer\n\
                     crlDistributionPoints=URI:http://pki.example.com/root.crl",
        three_tiers: false,
        strict: true,
    },
];

/// A company's chain, and the key that signs below it.
struct Issuer {
    company: &'static Company,
    ssl: OpenSsl,
    chain: Chain,
    pkcs8: Vec<u8>,
}

impl Issuer {
    fn new(company: &'static Company) -> Self {
        let ssl = OpenSsl::new();
        let ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
        let make = |name: &str, subject: &str, mask: &str, extensions: &str, key: &str, by: &str| {
            ssl.write(
                &format!("{name}.cnf"),
                format!("[req]\nprompt=no\nutf8=yes\nstring_mask={mask}\ndistinguished_name=dn\n[dn]\n{subject}\n[ext]\n{ca}{extensions}\n"),
            );
            ssl.generate(name, GENPKEY.iter().find(|(kind, _)| *kind == key).expect("a kind of key").1);
            ssl.run(&format!(
                "req -x509 -new -config {name}.cnf -extensions ext -key {name}.key {by} -days 3000 -out {name}.pem"
            ));
            ssl.run(&format!("x509 -in {name}.pem -outform DER"))
        };
        // Making RSA keys takes its time, so only the large companies' root has one.
        let root_key = if company.three_tiers { "RSA-4096" } else { "P-384" };
        let mut given = vec![make("root", "O=Example Holding\nCN=Offline Root", "utf8only", SKI, root_key, "")];
        let aki = "authorityKeyIdentifier=keyid\n";
        let mut above = "root";
        if company.three_tiers {
            let extensions = format!("{SKI}\n{aki}");
            given.push(make("policy", "CN=Policy CA", "MASK:2", &extensions, "P-384", "-CA root.pem -CAkey root.key"));
            above = "policy";
        }
        let by = format!("-CA {above}.pem -CAkey {above}.key");
        let extensions = format!("{aki}{}", company.extensions);
        given.push(make("issuing", company.subject, company.mask, &extensions, company.key, &by));
        ssl.run("pkcs8 -topk8 -nocrypt -in issuing.key -outform DER -out issuing.p8");
        let pkcs8 = ssl.read("issuing.p8");
        let ours = PublicKey::from_spki(&ssl.run("pkey -in issuing.key -pubout -outform DER")).expect("a key");
        let issuing = Certificate::from_der(given.last().expect("three were made")).expect("readable");
        let now = issuing.validity().not_before().after(Duration::from_secs(60));
        let chain = install(&given, &ours, now).expect(company.what);
        Self { company, ssl, chain, pkcs8 }
    }

    fn now(&self) -> Timestamp {
        self.chain.issuing().validity().not_before().after(Duration::from_secs(86_400))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::default_for(self.chain.issuing().key().kind())
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, &self.pkcs8).expect("a key");
            pair.sign(&SystemRandom::new(), bytes).expect("signed").as_ref().to_vec()
        };
        match self.chain.issuing().key().kind() {
            KeyKind::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyKind::P384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyKind::P521 => ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING),
            KeyKind::Ed25519 => Ed25519KeyPair::from_pkcs8(&self.pkcs8).expect("a key").sign(bytes).as_ref().to_vec(),
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => {
                let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).expect("a key");
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).expect("signed");
                signature
            }
        }
    }

    fn openssl_verifies(&self, der: &[u8], at: Timestamp) {
        self.ssl.write("leaf.pem", certificate::to_pem([der]));
        let strict = if self.company.strict { "-x509_strict" } else { "" };
        let policy = if self.company.three_tiers { "-untrusted policy.pem" } else { "" };
        let attime = at.unix_seconds();
        self.ssl.run(&format!(
            "verify {strict} -attime {attime} -CAfile root.pem {policy} -untrusted issuing.pem leaf.pem"
        ));
    }
}

static ISSUERS: LazyLock<Vec<Issuer>> = LazyLock::new(|| COMPANIES.iter().map(Issuer::new).collect());

/// A key of every kind, and its SubjectPublicKeyInfo as OpenSSL wrote it.
static KEYS: LazyLock<Vec<(PublicKey, Vec<u8>)>> = LazyLock::new(|| {
    let ssl = OpenSsl::new();
    let keys = GENPKEY.iter().map(|(kind, options)| {
        let spki = ssl.generate(kind, options);
        (PublicKey::from_spki(&spki).expect("a good key"), spki)
    });
    keys.collect()
});

/// What is ordered, and the profile; everything that the model may know.
#[derive(Debug, Clone)]
struct Order {
    names: BTreeSet<Text>,
    usages: Vec<KeyUsage>,
    purposes: Vec<&'static str>,
    subject: u8,
    policies: Vec<&'static str>,
    ocsp: Vec<&'static str>,
    ca_issuers: Vec<&'static str>,
    crl_shards: u16,
    must_staple: bool,
    serial: [u8; 16],
    begins: u32,
    lives: u32,
    /// A CA's, with that path length.
    ca: Option<u8>,
}

/// A name as text; the order is the one that certificates have: hosts, wildcards, addresses, URIs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Text {
    Host(String),
    Wildcard(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Spiffe(String),
    Uri(String),
    Mail(String),
    /// A user principal name.
    Principal(String),
}

/// Of user principal names.
const PRINCIPAL: &str = "1.3.6.1.4.1.311.20.2.3";

impl Text {
    fn name(&self) -> Name {
        match self {
            Self::Host(text) | Self::Wildcard(text) => Name::dns(text).expect("a host name"),
            Self::V4(address) => Name::Ip(IpAddr::V4(*address)),
            Self::V6(address) => Name::Ip(IpAddr::V6(*address)),
            Self::Spiffe(text) => Name::Spiffe(text.parse().expect("a SPIFFE ID")),
            Self::Uri(text) => Name::uri(text).expect("a URI"),
            Self::Mail(text) => Name::Email(text.parse().expect("an address")),
            Self::Principal(text) => format!("other:{PRINCIPAL}:{text}").parse().expect("a name"),
        }
    }

    /// Within permitted;DNS:example.com, permitted;IP:10.0.0.0/8, permitted;URI:example.com.
    fn is_permitted(&self) -> bool {
        match self {
            Self::Host(text) | Self::Wildcard(text) => text == "example.com" || text.ends_with(".example.com"),
            Self::V4(address) => address.octets()[0] == 10,
            Self::V6(_) => false,
            Self::Spiffe(text) => {
                text.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()) == Some("example.com")
            }
            // A URI without a host is in no subtree.
            Self::Uri(text) => text.starts_with("https://example.com/") || text.starts_with("https://example.com:"),
            Self::Mail(_) | Self::Principal(_) => true,
        }
    }

    fn is_in(&self, certificate: &GeneralName<'_>) -> bool {
        match (self, certificate) {
            (Self::Host(text) | Self::Wildcard(text), GeneralName::DNSName(there)) => text == there,
            (Self::V4(address), GeneralName::IPAddress(there)) => address.octets() == *there,
            (Self::V6(address), GeneralName::IPAddress(there)) => address.octets() == *there,
            (Self::Spiffe(text) | Self::Uri(text), GeneralName::URI(there)) => text == there,
            (Self::Mail(text), GeneralName::RFC822Name(there)) => text == there,
            (Self::Principal(text), GeneralName::OtherName(kind, there)) => {
                // [0] EXPLICIT UTF8String, both lengths in one octet.
                let length = u8::try_from(text.len()).expect("short");
                let value = [&[0xa0, length + 2, 0x0c, length], text.as_bytes()].concat();
                kind.to_id_string() == PRINCIPAL && value == *there
            }
            _ => false,
        }
    }
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        4 => "([a-z0-9]{1,9}\\.){0,3}example\\.(com|org)".prop_map(Text::Host),
        1 => "[a-z]{60}\\.[a-z]{30}\\.example\\.com".prop_map(Text::Host),
        1 => Just(Text::Host("xn--bcher-kva.example.com".to_owned())),
        2 => "\\*\\.([a-z]{1,9}\\.){0,2}example\\.com".prop_map(Text::Wildcard),
        2 => any::<[u8; 3]>().prop_map(|[a, b, c]| Text::V4(Ipv4Addr::new(10, a, b, c))),
        1 => "[a-zA-Z0-9+._-]{0,9}[a-z]@example\\.(com|org)".prop_filter("dots stand alone", |text| !text.contains("..") && !text.starts_with('.')).prop_map(Text::Mail),
        1 => "[a-z]{1,9}@example\\.com".prop_map(Text::Principal),
        1 => any::<u64>().prop_map(|low| Text::V6(Ipv6Addr::from(0x2001_0db8_0000_0000_0000_0000_0000_0000 | u128::from(low)))),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    let spiffe = proptest::option::weighted(0.2, "spiffe://example\\.(com|org)(/[A-Za-z0-9._-]{1,12}[a-z]){0,3}");
    let uris = proptest::collection::vec(
        "(https://example\\.(com|org)(:8443)?(/[a-z]{1,5}){1,3}(\\?[a-z]{1,5})?|urn:example:[a-z]{1,9})",
        0..2,
    );
    let names = (proptest::collection::btree_set(text(), 1..12), spiffe, uris);
    let usages = subsequence(vec![KeyUsage::KeyEncipherment, KeyUsage::KeyAgreement], 0..=2);
    let purposes = subsequence(vec!["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"], 1..=2);
    let policies = subsequence(vec!["2.23.140.1.2.1", "1.3.6.1.4.1.99999.1", "1.2.840.113549.1.9"], 0..=3);
    let ocsp = subsequence(vec!["http://ocsp.example.com", "http://ocsp.example.com:8080/x?y=z"], 0..=2);
    let ca_issuers = subsequence(vec!["http://pki.example.com/ca.cer", "http://[2001:db8::1]/ca.p7c"], 0..=2);
    let ca = proptest::option::weighted(0.2, 0..3u8);
    let numbers = (0..4u16, any::<bool>(), any::<[u8; 16]>(), 0..400_000u32, 3601..9_000_000u32, ca);
    ((names, usages, purposes, 0..4u8), (policies, ocsp, ca_issuers), numbers).prop_map(
        |(
            ((mut names, spiffe, uris), mut usages, purposes, subject),
            (policies, ocsp, ca_issuers),
            (crl_shards, must_staple, serial, begins, lives, ca),
        )| {
            if spiffe.is_none() {
                names.extend(uris.into_iter().map(Text::Uri));
            }
            names.extend(spiffe.map(Text::Spiffe));
            usages.insert(0, KeyUsage::DigitalSignature);
            Order {
                names,
                usages,
                purposes,
                subject,
                policies,
                ocsp,
                ca_issuers,
                crl_shards,
                must_staple,
                serial,
                begins,
                lives,
                ca,
            }
        },
    )
}

const FIXED: [(AttributeKind, &str); 4] = [
    (AttributeKind::DomainComponent, "org"),
    (AttributeKind::DomainComponent, "example"),
    (AttributeKind::OrganizationalUnit, "Ämter & Co"),
    (AttributeKind::CommonName, "web server"),
];

impl Order {
    fn profile(&self) -> Profile {
        let mut spec = ProfileSpec::server();
        spec.lifetime_max = Lifetime::from_seconds(10_000_000).expect("in range");
        spec.key_kinds.push(KeyKind::P521);
        spec.name_kinds = NameKind::ALL.to_vec();
        spec.ca = self.ca.map(|path_length| CaSpec {
            path_length,
            permitted_dns: vec!["example.com".to_owned()],
            excluded_ips: vec!["10.9.0.0/16".parse().expect("a network")],
            permitted_uris: vec!["cluster.local".to_owned(), ".example.com".to_owned()],
            forbidden: vec![ConstrainedKind::Email],
            ..CaSpec::default()
        });
        spec.key_usages.clone_from(&self.usages);
        let oid = |text: &&str| text.parse().expect("an OID");
        spec.extended_key_usages = self.purposes.iter().map(oid).map(ExtendedKeyUsage::from_oid).collect();
        spec.policies = self.policies.iter().map(oid).collect();
        spec.ocsp = self.ocsp.iter().map(ToString::to_string).collect();
        spec.ca_issuers = self.ca_issuers.iter().map(ToString::to_string).collect();
        spec.crl = (self.crl_shards > 0)
            .then(|| CrlLocation { url: "http://crl.example.com/{shard}.crl".to_owned(), shards: self.crl_shards });
        spec.must_staple = true;
        spec.subject = match self.subject {
            0 => SubjectPolicy::Empty,
            1 => SubjectPolicy::CommonNameFromFirstDnsName,
            3 => SubjectPolicy::Requested,
            _ => SubjectPolicy::Fixed(FIXED.map(|(kind, value)| Attribute::new(kind, value).expect("valid")).to_vec()),
        };
        if self.subject == 3 {
            spec.requested_attributes = ["O=Example", "OU"].map(|text| text.parse().expect("an attribute")).to_vec();
        }
        Profile::new(spec).expect("sound")
    }

    /// What is asked for beside names and key: a CA, and a subject that is kept as it is.
    fn content(&self) -> Content {
        // O=Example, then OU=One and CN=payments service in one RDN.
        const ASKED: &[u8] = b"\x30\x39\x31\x10\x30\x0e\x06\x03\x55\x04\x0a\x13\x07Example\
            \x31\x25\x30\x0a\x06\x03\x55\x04\x0b\x0c\x03One\x30\x17\x06\x03\x55\x04\x03\x0c\x10payments service";
        let subject = (self.subject == 3).then(|| RequestedSubject::read(ASKED).expect("a subject"));
        Content { subject, is_ca: self.ca.is_some(), ..Content::default() }
    }

    /// The names, with the common name that is a name of its own.
    fn name_set(&self) -> NameSet {
        let own = (self.subject == 3).then(|| CommonName::new("payments service").expect("a common name"));
        let own = own.map(Name::CommonName);
        NameSet::new(self.names.iter().map(Text::name).chain(own)).expect("about a dozen")
    }

    /// The subject: OID and text of every attribute.
    fn subject(&self) -> Vec<(&'static str, String)> {
        match self.subject {
            0 if self.ca.is_none() => Vec::new(),
            3 => {
                let asked = [("2.5.4.10", "Example"), ("2.5.4.11", "One"), ("2.5.4.3", "payments service")];
                asked.map(|(oid, text)| (oid, text.to_owned())).to_vec()
            }
            // A CA's subject is never empty.
            0 | 1 => {
                let mut hosts = self.names.iter().filter_map(|name| match name {
                    Text::Host(text) | Text::Wildcard(text) => Some(text),
                    _ => None,
                });
                let first = hosts.next().filter(|text| text.len() <= 64);
                first.into_iter().map(|text| ("2.5.4.3", text.clone())).collect()
            }
            _ => [
                ("0.9.2342.19200300.100.1.25", "org"),
                ("0.9.2342.19200300.100.1.25", "example"),
                ("2.5.4.11", "Ämter & Co"),
                ("2.5.4.3", "web server"),
            ]
            .map(|(oid, text)| (oid, text.to_owned()))
            .to_vec(),
        }
    }

    /// OIDs of the extensions that there must be, and whether each is critical.
    fn extensions(&self) -> BTreeSet<(&'static str, bool)> {
        let names_critical = self.subject().is_empty();
        let mut wanted = BTreeSet::from([
            ("2.5.29.14", false),
            ("2.5.29.15", true),
            ("2.5.29.17", names_critical),
            ("2.5.29.19", true),
            ("2.5.29.35", false),
        ]);
        wanted.insert(if self.ca.is_some() { ("2.5.29.30", true) } else { ("2.5.29.37", false) });
        if self.crl_shards > 0 {
            wanted.insert(("2.5.29.31", false));
        }
        if !self.policies.is_empty() {
            wanted.insert(("2.5.29.32", false));
        }
        if !self.ocsp.is_empty() || !self.ca_issuers.is_empty() {
            wanted.insert(("1.3.6.1.5.5.7.1.1", false));
        }
        if self.must_staple {
            wanted.insert(("1.3.6.1.5.5.7.1.24", false));
        }
        wanted
    }

    /// The bits of the key usage for a key of that kind, bit 0 the lowest.
    fn key_usage(&self, kind: KeyKind) -> u16 {
        let rsa = matches!(kind, KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096);
        let enciphers = rsa && self.usages.contains(&KeyUsage::KeyEncipherment);
        let agrees = !rsa && kind != KeyKind::Ed25519 && self.usages.contains(&KeyUsage::KeyAgreement);
        if self.ca.is_some() {
            return 1 | 1 << 5 | 1 << 6;
        }
        1 | u16::from(enciphers) << 2 | u16::from(agrees) << 4
    }

    /// Checks a certificate, part by part.
    fn check(&self, der: &[u8], issuer: &Issuer, spki: &[u8], kind: KeyKind, validity: (i64, i64)) {
        let issuer_der = issuer.chain.issuing().der();
        let (_, issuing) = X509Certificate::from_der(issuer_der).expect("readable");
        let (rest, read) = X509Certificate::from_der(der).expect("readable");
        assert!(rest.is_empty());
        assert_eq!(read.version(), X509Version::V3);
        let serial = u128::from_be_bytes(self.serial).max(1);
        assert_eq!(read.serial.to_string(), serial.to_string());
        assert_eq!(read.signature_algorithm, read.tbs_certificate.signature);
        assert_eq!(read.issuer().as_raw(), issuing.subject().as_raw(), "{}", issuer.company.what);
        assert_eq!((read.validity().not_before.timestamp(), read.validity().not_after.timestamp()), validity);
        let subject = read
            .subject()
            .iter_attributes()
            .map(|attribute| (attribute.attr_type().to_id_string(), attribute.as_str().expect("text").to_owned()));
        let wanted = self.subject();
        let wanted = wanted.iter().map(|(oid, text)| ((*oid).to_owned(), text.clone()));
        assert_eq!(subject.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        assert_eq!(read.public_key().raw, spki);

        let there: Vec<(String, bool)> =
            read.extensions().iter().map(|extension| (extension.oid.to_id_string(), extension.critical)).collect();
        let wanted: BTreeSet<(String, bool)> =
            self.extensions().into_iter().map(|(oid, critical)| (oid.to_owned(), critical)).collect();
        assert_eq!(there.len(), wanted.len());
        assert_eq!(there.into_iter().collect::<BTreeSet<_>>(), wanted);
        for extension in read.extensions() {
            self.check_extension(extension.parsed_extension(), extension.value, &issuing, &read, kind);
        }
    }

    fn check_extension(
        &self,
        extension: &ParsedExtension<'_>,
        raw: &[u8],
        issuing: &X509Certificate<'_>,
        read: &X509Certificate<'_>,
        kind: KeyKind,
    ) {
        use ParsedExtension as P;
        match extension {
            P::BasicConstraints(basic) => {
                assert_eq!((basic.ca, basic.path_len_constraint), (self.ca.is_some(), self.ca.map(u32::from)));
            }
            P::NameConstraints(constraints) => {
                let bases = |list: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| {
                    list.iter().flatten().map(|subtree| format!("{:?}", subtree.base)).collect::<Vec<_>>()
                };
                assert_eq!(
                    bases(&constraints.permitted_subtrees),
                    [
                        "DNSName(\"example.com\")",
                        "URI(\"cluster.local\")",
                        "URI(\".example.com\")",
                        "RFC822Name(\"invalid\")",
                    ]
                );
                assert_eq!(bases(&constraints.excluded_subtrees), ["IPAddress([10, 9, 0, 0, 255, 255, 0, 0])"]);
            }
            P::SubjectAlternativeName(san) => {
                assert_eq!(san.general_names.len(), self.names.len());
                for name in &self.names {
                    assert!(san.general_names.iter().any(|there| name.is_in(there)), "{name:?} is missing");
                }
            }
            P::KeyUsage(usage) => assert_eq!(usage.flags, self.key_usage(kind)),
            P::ExtendedKeyUsage(usage) => {
                assert_eq!(usage.server_auth, self.purposes.contains(&"1.3.6.1.5.5.7.3.1"));
                assert_eq!(usage.client_auth, self.purposes.contains(&"1.3.6.1.5.5.7.3.2"));
                assert!(!usage.any && !usage.ocsp_signing && usage.other.is_empty());
            }
            P::SubjectKeyIdentifier(id) => {
                let key = &read.public_key().subject_public_key.data;
                assert_eq!(id.0, &digest(&SHA256, key).as_ref()[..20]);
            }
            P::AuthorityKeyIdentifier(id) => {
                let of_issuer = issuing.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                    P::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                    _ => None,
                });
                let derived = || digest(&SHA256, &issuing.public_key().subject_public_key.data).as_ref()[..20].to_vec();
                assert_eq!(id.key_identifier.as_ref().expect("present").0, of_issuer.unwrap_or_else(derived));
                assert!(id.authority_cert_issuer.is_none() && id.authority_cert_serial.is_none());
            }
            P::CRLDistributionPoints(points) => {
                let shard = u128::from_be_bytes(self.serial).max(1) % u128::from(self.crl_shards);
                let url = format!("http://crl.example.com/{shard}.crl");
                assert_eq!(points.points.len(), 1);
                let point = &points.points[0];
                assert!(point.reasons.is_none() && point.crl_issuer.is_none());
                let name = point.distribution_point.as_ref().expect("a name");
                assert!(matches!(name, DistributionPointName::FullName(names) if *names == [GeneralName::URI(&url)]));
            }
            P::AuthorityInfoAccess(access) => {
                let there: Vec<_> = access
                    .accessdescs
                    .iter()
                    .map(|one| (one.access_method.to_id_string(), one.access_location.clone()))
                    .collect();
                let one = |method: &str, url| (method.to_owned(), GeneralName::URI(url));
                let ocsp = self.ocsp.iter().map(|url| one("1.3.6.1.5.5.7.48.1", url));
                let issuers = self.ca_issuers.iter().map(|url| one("1.3.6.1.5.5.7.48.2", url));
                assert_eq!(there, ocsp.chain(issuers).collect::<Vec<_>>());
            }
            P::CertificatePolicies(policies) => {
                let there: Vec<String> = policies.iter().map(|policy| policy.policy_id.to_id_string()).collect();
                assert_eq!(there, self.policies);
                assert!(policies.iter().all(|policy| policy.policy_qualifiers.is_none()));
            }
            // TLS feature: status_request alone (RFC 7633).
            _ => assert_eq!(raw, [0x30, 3, 2, 1, 5], "an extension that nobody asked for"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_ordered_the_certificate_is_the_model_of_order_profile_and_issuer(
        order in order(),
        issuer in 0..COMPANIES.len(),
        key in 0..GENPKEY.len(),
    ) {
        let issuer = &ISSUERS[issuer];
        let (key, spki) = &KEYS[key];
        let profile = order.profile();
        let (names, content) = (order.name_set(), order.content());
        let now = issuer.now();
        prop_assert_eq!(profile.check_names(&names), Ok(()));
        prop_assert_eq!(profile.check_key(key), Ok(()));
        let named = order.ca.is_none() || !order.subject().is_empty();
        prop_assert_eq!(profile.check_content(&content, &names, key.kind()).is_ok(), named);
        if !named {
            return Ok(());
        }
        let constrained = issuer.company.what == "name constraints";
        let permitted = !constrained || order.names.iter().all(Text::is_permitted);
        prop_assert_eq!(issuer.chain.permits(&names, &profile, &content, now).is_ok(), permitted);
        if !permitted {
            return Ok(());
        }
        let from = now.unix_seconds() - i64::from(order.begins % 3600);
        let to = from + i64::from(order.lives);
        let asked = (Some(Timestamp::from_unix_seconds(from)), Some(Timestamp::from_unix_seconds(to)));
        let granted = profile.validity(now, asked, issuer.chain.not_after()).expect("within the profile").validity();
        let serial = SerialNumber::from_random(order.serial);
        let request = LeafRequest {
            names: &names,
            profile: &profile, content: &content,
            key,
            validity: granted,
            serial,
            must_staple: order.must_staple,
            crl_shard: profile.crl_shard(serial),
        };
        let issuing = issuer.chain.issuing();
        let tbs = Tbs::build(&request, issuing, issuer.algorithm()).expect("built");
        prop_assert_eq!(lint(&tbs, &request, issuing), []);
        let der = tbs.assemble(&issuer.sign(tbs.der())).expect("assembled");
        prop_assert_eq!(verify_issued(&der, &tbs, &request, issuing), Ok(()));
        order.check(&der, issuer, spki, key.kind(), (from, to));
        issuer.openssl_verifies(&der, now);
    }
}

/// A certificate under the first company, and what it was made from.
fn with_a_certificate(check: impl Fn(&[u8], &Tbs, &LeafRequest<'_>, &Issuer)) {
    let issuer = &ISSUERS[0];
    let mut spec = ProfileSpec::server();
    spec.must_staple = true;
    let profile = Profile::new(spec).expect("sound");
    let names = NameSet::new(["a.example.com", "10.0.0.1"].map(|name| name.parse().expect("a name"))).expect("names");
    let serial = SerialNumber::from_random([0x42; 16]);
    let validity = profile.validity(issuer.now(), (None, None), issuer.chain.not_after()).expect("granted").validity();
    let key = &KEYS[3].0;
    let request = LeafRequest {
        names: &names,
        profile: &profile,
        content: &AS_PROFILE,
        key,
        validity,
        serial,
        must_staple: false,
        crl_shard: None,
    };
    let tbs = Tbs::build(&request, issuer.chain.issuing(), issuer.algorithm()).expect("built");
    let der = tbs.assemble(&issuer.sign(tbs.der())).expect("assembled");
    check(&der, &tbs, &request, issuer);
}

#[test]
fn a_certificate_that_differs_from_what_was_recorded_is_found_out() {
    with_a_certificate(|der, tbs, request, issuer| {
        let issuing = issuer.chain.issuing();
        assert_eq!(verify_issued(der, tbs, request, issuing), Ok(()));
        let differs = |der: &[u8], request: &LeafRequest<'_>| {
            verify_issued(der, tbs, request, issuing).expect_err("a difference")
        };
        for at in 0..der.len() {
            let mut flipped = der.to_vec();
            flipped[at] ^= 1;
            assert!(verify_issued(&flipped, tbs, request, issuing).is_err(), "octet {at} may be flipped");
        }
        let mut behind = der.to_vec();
        behind.push(0);
        differs(&behind, request);
        let other = tbs.assemble(&issuer.sign(b"something else")).expect("assembled");
        assert_eq!(differs(&other, request), Difference::Signature);

        let names = NameSet::new(["a.example.com".parse().expect("a name")]).expect("names");
        assert_eq!(differs(der, &LeafRequest { names: &names, ..*request }), Difference::Part("set of names"));
        let key = &KEYS[0].0;
        assert_eq!(differs(der, &LeafRequest { key, ..*request }), Difference::Part("public key"));
        let serial = SerialNumber::from_random([1; 16]);
        assert_eq!(differs(der, &LeafRequest { serial, ..*request }), Difference::Part("serial number"));
        let until = request.validity.not_after();
        let validity = Validity::new(issuer.now(), until).expect("in order");
        assert_eq!(differs(der, &LeafRequest { validity, ..*request }), Difference::Part("validity"));
        let stranger = ISSUERS[4].chain.issuing();
        assert_eq!(verify_issued(der, tbs, request, stranger), Err(Difference::Part("issuer")));
    });
}

#[test]
fn what_was_stored_and_signed_later_is_the_same_certificate() {
    with_a_certificate(|der, tbs, _, _| {
        let read = Certificate::from_der(der).expect("readable");
        let (_, parsed) = X509Certificate::from_der(der).expect("readable");
        let again = chancery_pki::tbs::assemble(tbs.der(), &parsed.signature_value.data).expect("assembled");
        assert_eq!(again, read.der());
        for junk in [&b""[..], b"\x30\x00", b"junk", &tbs.der()[1..]] {
            assert!(chancery_pki::tbs::assemble(junk, b"signature").is_err());
        }
    });
}

// Traps 5 to 7 of the dependencies, as rules.

#[test]
fn two_certificates_for_one_key_have_the_serials_that_were_drawn() {
    with_a_certificate(|_, tbs, request, issuer| {
        let serial = SerialNumber::from_random([0x43; 16]);
        let request = LeafRequest { serial, ..*request };
        let other = Tbs::build(&request, issuer.chain.issuing(), issuer.algorithm()).expect("built");
        assert_ne!(tbs, &other);
        let der = other.assemble(&issuer.sign(other.der())).expect("assembled");
        assert_eq!(Certificate::from_der(&der).expect("readable").serial_number(), Some(serial));
    });
}

#[test]
fn the_public_key_is_copied_whatever_algorithm_the_issuer_signs_with() {
    with_a_certificate(|_, _, request, _| {
        for issuer in ISSUERS.iter() {
            for (key, spki) in KEYS.iter() {
                let profile = Profile::new(ProfileSpec { key_kinds: vec![key.kind()], ..ProfileSpec::server() });
                let profile = &profile.expect("sound");
                let request = LeafRequest { key, profile, ..*request };
                let tbs = Tbs::build(&request, issuer.chain.issuing(), issuer.algorithm()).expect("built");
                let (_, read) = x509_parser::certificate::TbsCertificate::from_der(tbs.der()).expect("readable");
                assert_eq!(read.subject_pki.raw, spki);
            }
        }
    });
}

#[test]
fn no_request_can_make_a_certificate_of_a_ca() {
    with_a_certificate(|_, _, request, issuer| {
        let asking = |extensions: &str| {
            issuer.ssl.generate("req", GENPKEY[3].1);
            issuer.ssl.write(
                "req.cnf",
                format!("[req]\nprompt=no\ndistinguished_name=dn\n[dn]\nCN=a.example.com\n[ext]\n{extensions}\n"),
            );
            Csr::from_der(&issuer.ssl.run("req -new -key req.key -config req.cnf -reqexts ext -outform DER"))
        };
        let usages = "keyUsage=critical,keyCertSign,cRLSign\nextendedKeyUsage=anyExtendedKeyUsage";
        let refused = asking(&format!("basicConstraints=critical,CA:TRUE\n{usages}"));
        assert_eq!(refused, Err(CsrRejection::AsksForCa));
        // What is read and decides nothing.
        let csr = asking(&format!("basicConstraints=critical,CA:FALSE\n{usages}")).expect("accepted");
        assert_eq!(csr.requested_usages().key_usages.as_deref(), Some(&["keyCertSign", "cRLSign"][..]));
        let request = LeafRequest { key: csr.public_key(), ..*request };
        let tbs = Tbs::build(&request, issuer.chain.issuing(), issuer.algorithm()).expect("built");
        let der = tbs.assemble(&issuer.sign(tbs.der())).expect("assembled");
        let (_, read) = X509Certificate::from_der(&der).expect("readable");
        assert_eq!(read.public_key().raw, csr.public_key().spki());
        let basic = read.basic_constraints().expect("readable").expect("present");
        assert!(basic.critical && !basic.value.ca && basic.value.path_len_constraint.is_none());
        let usage = read.key_usage().expect("readable").expect("present");
        assert!(!usage.value.key_cert_sign() && !usage.value.crl_sign());
        let purposes = read.extended_key_usage().expect("readable").expect("present");
        assert!(purposes.value.server_auth && !purposes.value.any);
    });
}

#[test]
fn openssl_reads_what_the_profile_says() {
    let issuer = ISSUERS.iter().find(|issuer| issuer.company.what == "policies and where to find things");
    let issuer = issuer.expect("in the table");
    let mut spec = ProfileSpec::server();
    spec.ca_issuers = vec!["http://pki.example.com/ca.cer".to_owned()];
    spec.ocsp = vec!["http://ocsp.example.com".to_owned()];
    spec.crl = Some(CrlLocation { url: "http://crl.example.com/{shard}.crl".to_owned(), shards: 1 });
    spec.must_staple = true;
    spec.subject = SubjectPolicy::CommonNameFromFirstDnsName;
    spec.policies = vec!["1.3.6.1.4.1.99999.1".parse().expect("an OID")];
    let profile = Profile::new(spec).expect("sound");
    let names = ["b.example.com", "*.apps.example.com", "10.1.2.3", "2001:db8::1"];
    let names = NameSet::new(names.map(|name| name.parse().expect("a name"))).expect("names");
    let key = &KEYS.iter().find(|(key, _)| key.kind() == KeyKind::Rsa2048).expect("one of each").0;
    let serial = SerialNumber::from_random([0xa5; 16]);
    let granted = profile.validity(issuer.now(), (None, None), issuer.chain.not_after()).expect("granted");
    let request = LeafRequest {
        names: &names,
        profile: &profile,
        content: &AS_PROFILE,
        key,
        validity: granted.validity(),
        serial,
        must_staple: true,
        crl_shard: profile.crl_shard(serial),
    };
    let tbs = Tbs::build(&request, issuer.chain.issuing(), issuer.algorithm()).expect("built");
    let der = tbs.assemble(&issuer.sign(tbs.der())).expect("assembled");
    issuer.openssl_verifies(&der, issuer.now());
    let text = String::from_utf8(issuer.ssl.run("x509 -in leaf.pem -noout -text")).expect("text");
    for expected in [
        "Version: 3",
        "a5:a5:a5:a5:a5:a5:a5:a5:a5:a5:a5:a5:a5:a5:a5:a5",
        "Issuer: O = Example, CN = Everything",
        "Subject: CN = b.example.com",
        "DNS:b.example.com",
        "DNS:*.apps.example.com",
        "IP Address:10.1.2.3",
        "IP Address:2001:DB8:0:0:0:0:0:1",
        "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment",
        "X509v3 Extended Key Usage: \n                TLS Web Server Authentication",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "CA Issuers - URI:http://pki.example.com/ca.cer",
        "OCSP - URI:http://ocsp.example.com",
        "URI:http://crl.example.com/0.crl",
        "Policy: 1.3.6.1.4.1.99999.1",
        "status_request",
    ] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
}

#[test]
fn what_openssl_reads_back_from_pem_is_what_went_in() {
    with_a_certificate(|der, _, _, issuer| {
        let chain: Vec<&[u8]> = issuer.chain.certificates().iter().map(|one| one.der()).collect();
        let pem = certificate::to_pem([&[der], chain.as_slice()].concat());
        assert_eq!(certificate::from_pem(pem.as_bytes()).expect("readable"), [der, chain[0]]);
        issuer.ssl.write("pem.pem", &pem);
        assert_eq!(issuer.ssl.run("x509 -in pem.pem -outform DER"), der);
        assert_eq!(issuer.ssl.run("x509 -in pem.pem"), certificate::to_pem([der]).into_bytes());
    });
}
