//! What an object asks for, and the CSR in it, made as cert-manager makes it: names, usages and subject in it as the
//! object has them, usages that stand for themselves where none are said, keyCertSign added for CAs.

use std::{net::IpAddr, sync::LazyLock};

use chancery_pki::{KeyKind, Usages, profile::KeyUsage, profile::ObjectIdentifier};
use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize, SigningKey as _};

/// Attributes of one RDN: type and value.
pub(crate) type Rdn = &'static [(&'static str, &'static str)];

/// `commonName`.
pub(crate) const CN: &str = "2.5.4.3";

/// An object that asks for a certificate.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) uid: String,
    pub(crate) profile: &'static str,
    pub(crate) subject: Vec<Vec<(String, String)>>,
    /// `dns:a.test`, `ip:10.0.0.1`, `uri:…`, `email:…`, `other:OID:…`.
    pub(crate) names: Vec<String>,
    pub(crate) usages: Vec<&'static str>,
    pub(crate) is_ca: bool,
    pub(crate) seconds: Option<u64>,
    pub(crate) key: KeyKind,
    /// What the CSR says of usages, where that is not the object's.
    pub(crate) echoed: Option<Vec<&'static str>>,
    /// More extensions of the CSR: OID and value.
    pub(crate) extensions: Vec<(&'static str, Vec<u8>)>,
}

impl Asked {
    pub(crate) fn for_names(names: &[&str]) -> Self {
        Self {
            uid: "1".to_owned(),
            profile: "kubernetes",
            subject: Vec::new(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            usages: Vec::new(),
            is_ca: false,
            seconds: None,
            key: KeyKind::Rsa2048,
            echoed: None,
            extensions: Vec::new(),
        }
    }

    pub(crate) fn common_name(mut self, text: &str) -> Self {
        self.subject.push(vec![(CN.to_owned(), text.to_owned())]);
        self
    }

    pub(crate) fn subject(mut self, rdns: &[Rdn]) -> Self {
        let owned = |rdn: &Rdn| rdn.iter().map(|(kind, value)| ((*kind).to_owned(), (*value).to_owned())).collect();
        self.subject = rdns.iter().map(owned).collect();
        self
    }

    pub(crate) fn usages(mut self, words: &[&'static str]) -> Self {
        self.usages = words.to_vec();
        self
    }

    pub(crate) fn echoing(mut self, words: &[&'static str]) -> Self {
        self.echoed = Some(words.to_vec());
        self
    }

    pub(crate) fn ca(mut self) -> Self {
        self.is_ca = true;
        self
    }

    pub(crate) fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    pub(crate) fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = Some(seconds);
        self
    }

    pub(crate) fn under(mut self, profile: &'static str) -> Self {
        self.profile = profile;
        self
    }

    pub(crate) fn uid(mut self, uid: &str) -> Self {
        uid.clone_into(&mut self.uid);
        self
    }

    pub(crate) fn extension(mut self, oid: &'static str, value: Vec<u8>) -> Self {
        self.extensions.push((oid, value));
        self
    }

    /// The CSR in DER.
    pub(crate) fn csr(&self) -> Vec<u8> {
        let key = key_pair(self.key);
        let mut extensions = Vec::new();
        if !self.names.is_empty() {
            let names: Vec<u8> = self.names.iter().flat_map(|name| general_name(name)).collect();
            extensions.push(extension("2.5.29.17", self.subject.is_empty(), &tlv(0x30, &names)));
        }
        extensions.extend(self.echo());
        extensions.extend(self.extensions.iter().map(|(oid, value)| extension(oid, false, value)));
        let attributes = if extensions.is_empty() {
            Vec::new()
        } else {
            let list = tlv(0x31, &tlv(0x30, &extensions.concat()));
            tlv(0x30, &[oid("1.2.840.113549.1.9.14"), list].concat())
        };
        let subject = tlv(0x30, &self.subject.iter().flat_map(|rdn| relative_name(rdn)).collect::<Vec<u8>>());
        let info = [&[2, 1, 0][..], &subject, &key.subject_public_key_info(), &tlv(0xa0, &attributes)].concat();
        let info = tlv(0x30, &info);
        let signature = key.sign(&info).expect("signed");
        let bits = tlv(0x03, &[&[0][..], &signature].concat());
        tlv(0x30, &[info, algorithm(self.key), bits].concat())
    }

    /// keyUsage and extKeyUsage, and basicConstraints for a CA.
    fn echo(&self) -> Vec<Vec<u8>> {
        let words = self.echoed.as_ref().unwrap_or(&self.usages);
        let usages = Usages::from_words(words.iter().copied()).expect("words");
        let mut keys = usages.key_usages().to_vec();
        if words.is_empty() {
            keys.extend([KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment]);
        }
        if self.is_ca {
            keys.push(KeyUsage::KeyCertSign);
        }
        let place = |usage: &KeyUsage| match usage {
            KeyUsage::DigitalSignature => 0,
            KeyUsage::ContentCommitment => 1,
            KeyUsage::KeyEncipherment => 2,
            KeyUsage::DataEncipherment => 3,
            KeyUsage::KeyAgreement => 4,
            KeyUsage::KeyCertSign => 5,
            KeyUsage::CrlSign => 6,
            KeyUsage::EncipherOnly => 7,
            KeyUsage::DecipherOnly => 8,
        };
        let bits = keys.iter().map(place).fold(0u16, |bits, place| bits | 0x8000 >> place);
        let octets = bits.to_be_bytes();
        let octets = octets.strip_suffix(&[0]).unwrap_or(&octets).to_vec();
        let unused = octets.last().map_or(0, |last| last.trailing_zeros());
        let unused = u8::try_from(unused).expect("below 8");
        let mut echo = Vec::new();
        if !keys.is_empty() {
            echo.push(extension("2.5.29.15", true, &tlv(0x03, &[vec![unused], octets].concat())));
        }
        let purposes = usages.extended_key_usages();
        if !purposes.is_empty() {
            let oids: Vec<u8> = purposes.iter().flat_map(|usage| oid(&usage.oid().to_string())).collect();
            echo.push(extension("2.5.29.37", false, &tlv(0x30, &oids)));
        }
        if self.is_ca {
            // pathLen 5: nobody has asked the profile.
            echo.push(extension("2.5.29.19", true, &tlv(0x30, &[1, 1, 0xff, 2, 1, 5])));
        }
        echo
    }
}

pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("tests write no more than 64 KiB").to_be_bytes();
    let header: &[u8] = match length {
        [0, short @ 0..0x80] => &[tag, short],
        [0, long] => &[tag, 0x81, long],
        [high, low] => &[tag, 0x82, high, low],
    };
    [header, content].concat()
}

fn oid(text: &str) -> Vec<u8> {
    tlv(0x06, text.parse::<ObjectIdentifier>().expect("an OID").as_bytes())
}

fn extension(kind: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    tlv(0x30, &[oid(kind), flag.to_vec(), tlv(0x04, value)].concat())
}

/// Go's encoder takes PrintableString where it can, as cert-manager's CSRs have it.
fn relative_name(rdn: &[(String, String)]) -> Vec<u8> {
    let printable = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&c));
    let mut pairs: Vec<Vec<u8>> = rdn
        .iter()
        .map(|(kind, value)| {
            let string = if printable(value) { 0x13 } else { 0x0c };
            tlv(0x30, &[oid(kind), tlv(string, value.as_bytes())].concat())
        })
        .collect();
    pairs.sort_unstable();
    tlv(0x31, &pairs.concat())
}

fn general_name(name: &str) -> Vec<u8> {
    let (kind, value) = name.split_once(':').expect("a kind");
    match kind {
        "dns" => tlv(0x82, value.as_bytes()),
        "uri" => tlv(0x86, value.as_bytes()),
        "email" => tlv(0x81, value.as_bytes()),
        "ip" => match value.parse().expect("an address") {
            IpAddr::V4(address) => tlv(0x87, &address.octets()),
            IpAddr::V6(address) => tlv(0x87, &address.octets()),
        },
        "other" => {
            let (type_id, value) = value.split_once(':').expect("a type");
            let value = tlv(0xa0, &tlv(0x0c, value.as_bytes()));
            tlv(0xa0, &[oid(type_id), value].concat())
        }
        other => panic!("{other}"),
    }
}

fn algorithm(key: KeyKind) -> Vec<u8> {
    let (kind, parameters): (&str, &[u8]) = match key {
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => ("1.2.840.113549.1.1.11", &[5, 0]),
        KeyKind::P256 => ("1.2.840.10045.4.3.2", &[]),
        KeyKind::P384 => ("1.2.840.10045.4.3.3", &[]),
        KeyKind::P521 => ("1.2.840.10045.4.3.4", &[]),
        KeyKind::Ed25519 => ("1.3.101.112", &[]),
    };
    tlv(0x30, &[oid(kind), parameters.to_vec()].concat())
}

/// One key of each kind is enough, and making RSA keys is slow.
fn key_pair(kind: KeyKind) -> &'static KeyPair {
    macro_rules! of {
        ($make:expr) => {{
            static KEY: LazyLock<KeyPair> = LazyLock::new(|| $make.expect("a key"));
            &KEY
        }};
    }
    match kind {
        KeyKind::Rsa2048 => of!(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)),
        KeyKind::Rsa3072 => of!(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072)),
        KeyKind::Rsa4096 => of!(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096)),
        KeyKind::P256 => of!(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)),
        KeyKind::P384 => of!(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)),
        KeyKind::P521 => of!(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512)),
        KeyKind::Ed25519 => of!(KeyPair::generate_for(&rcgen::PKCS_ED25519)),
    }
}
