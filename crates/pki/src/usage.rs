//! What a key and a certificate may be used for (RFC 5280 §4.2.1.3, §4.2.1.12), and the words by which cert-manager and
//! Kubernetes ask for it.

use std::fmt;

use der::asn1::ObjectIdentifier;

use crate::{key::KeyKind, spelling::nearest};

/// Most words in one request: more than there are.
const WORDS_MAX: usize = 64;

/// What a key may be used for (RFC 5280 §4.2.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUsage {
    /// `digitalSignature`: every TLS with forward secrecy.
    DigitalSignature,
    /// `keyEncipherment`: RSA keys alone.
    KeyEncipherment,
    /// `keyAgreement`: EC keys alone.
    KeyAgreement,
    /// `nonRepudiation`, also called contentCommitment: signatures that bind who made them.
    ContentCommitment,
    /// `dataEncipherment`: RSA keys alone.
    DataEncipherment,
    /// `encipherOnly`: with keyAgreement alone.
    EncipherOnly,
    /// `decipherOnly`: with keyAgreement alone.
    DecipherOnly,
    /// `keyCertSign`: CAs alone.
    KeyCertSign,
    /// `cRLSign`: CAs alone.
    CrlSign,
}

impl KeyUsage {
    /// Each of them.
    pub const ALL: [Self; 9] = [
        Self::DigitalSignature,
        Self::KeyEncipherment,
        Self::KeyAgreement,
        Self::ContentCommitment,
        Self::DataEncipherment,
        Self::EncipherOnly,
        Self::DecipherOnly,
        Self::KeyCertSign,
        Self::CrlSign,
    ];

    /// Whether a key of that kind can be used so (RFC 3279 §2.3, RFC 5480 §3, RFC 8410 §5, RFC 8813 §3).
    #[must_use]
    pub const fn fits(self, kind: KeyKind) -> bool {
        use KeyKind as K;
        match self {
            Self::DigitalSignature | Self::ContentCommitment | Self::KeyCertSign | Self::CrlSign => true,
            Self::KeyEncipherment | Self::DataEncipherment => matches!(kind, K::Rsa2048 | K::Rsa3072 | K::Rsa4096),
            Self::KeyAgreement | Self::EncipherOnly | Self::DecipherOnly => {
                matches!(kind, K::P256 | K::P384 | K::P521)
            }
        }
    }

    /// Whether only CAs have it (RFC 5280 §4.2.1.9).
    #[must_use]
    pub const fn is_for_cas(self) -> bool {
        matches!(self, Self::KeyCertSign | Self::CrlSign)
    }

    /// As RFC 5280 writes it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::DigitalSignature => "digitalSignature",
            Self::KeyEncipherment => "keyEncipherment",
            Self::KeyAgreement => "keyAgreement",
            Self::ContentCommitment => "nonRepudiation",
            Self::DataEncipherment => "dataEncipherment",
            Self::EncipherOnly => "encipherOnly",
            Self::DecipherOnly => "decipherOnly",
            Self::KeyCertSign => "keyCertSign",
            Self::CrlSign => "cRLSign",
        }
    }

    /// As Kubernetes and cert-manager write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::DigitalSignature => "digital signature",
            Self::KeyEncipherment => "key encipherment",
            Self::KeyAgreement => "key agreement",
            Self::ContentCommitment => "content commitment",
            Self::DataEncipherment => "data encipherment",
            Self::EncipherOnly => "encipher only",
            Self::DecipherOnly => "decipher only",
            Self::KeyCertSign => "cert sign",
            Self::CrlSign => "crl sign",
        }
    }
}

/// What a certificate may be used for (RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtendedKeyUsage {
    /// `id-kp-serverAuth`: TLS servers.
    ServerAuth,
    /// `id-kp-clientAuth`: TLS clients.
    ClientAuth,
    /// Any other purpose, by its object identifier.
    Other(ObjectIdentifier),
}

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const EMAIL_PROTECTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4");
const IPSEC_END_SYSTEM: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.5");
const IPSEC_TUNNEL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.6");
const IPSEC_USER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.7");
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
const MICROSOFT_SGC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.10.3.3");
const NETSCAPE_SGC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113730.4.1");
/// `anyExtendedKeyUsage` (RFC 5280 §4.2.1.12).
pub(crate) const ANY_EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
/// `id-kp-OCSPSigning` (RFC 6960 §4.2.2.2): whoever has it speaks for the CA.
pub(crate) const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");

/// The words for purposes; of two for one purpose the first is the one that is shown.
const PURPOSES: [(&str, ObjectIdentifier); 13] = [
    ("server auth", SERVER_AUTH),
    ("client auth", CLIENT_AUTH),
    ("code signing", CODE_SIGNING),
    ("email protection", EMAIL_PROTECTION),
    ("s/mime", EMAIL_PROTECTION),
    ("ipsec end system", IPSEC_END_SYSTEM),
    ("ipsec tunnel", IPSEC_TUNNEL),
    ("ipsec user", IPSEC_USER),
    ("timestamping", TIME_STAMPING),
    ("ocsp signing", OCSP_SIGNING),
    ("microsoft sgc", MICROSOFT_SGC),
    ("netscape sgc", NETSCAPE_SGC),
    ("any", ANY_EXTENDED_KEY_USAGE),
];
/// A second word for `digital signature`.
const SIGNING: &str = "signing";

impl ExtendedKeyUsage {
    /// The object identifier.
    #[must_use]
    pub const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::ServerAuth => SERVER_AUTH,
            Self::ClientAuth => CLIENT_AUTH,
            Self::Other(oid) => oid,
        }
    }

    /// The usage that this identifier names.
    #[must_use]
    pub fn from_oid(oid: ObjectIdentifier) -> Self {
        [Self::ServerAuth, Self::ClientAuth].into_iter().find(|usage| usage.oid() == oid).unwrap_or(Self::Other(oid))
    }

    /// As Kubernetes and cert-manager write it; the object identifier where they have no word.
    #[must_use]
    pub fn word(self) -> String {
        let known = PURPOSES.iter().find(|(_, oid)| *oid == self.oid());
        known.map_or_else(|| self.oid().to_string(), |(word, _)| (*word).to_owned())
    }
}

impl fmt::Display for ExtendedKeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerAuth => f.write_str("serverAuth"),
            Self::ClientAuth => f.write_str("clientAuth"),
            Self::Other(oid) => oid.fmt(f),
        }
    }
}

/// Why words say no usages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageRejection {
    /// A word that is none of Kubernetes' and cert-manager's.
    #[error(
        "\"{}\" is no usage{}; the usages are: {}",
        word.escape_debug(),
        nearest.map(|nearest| format!(" (\"{nearest}\"?)")).unwrap_or_default(),
        words().collect::<Vec<_>>().join(", ")
    )]
    Unknown {
        /// The word, cut.
        word: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// More words than there are.
    #[error("{count} usages are more than there are; {max} are read", max = WORDS_MAX)]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// Every word that asks for a usage.
pub fn words() -> impl Iterator<Item = &'static str> {
    let keys = KeyUsage::ALL.into_iter().map(KeyUsage::word);
    keys.chain([SIGNING]).chain(PURPOSES.into_iter().map(|(word, _)| word))
}

/// Usages that are asked for; what is empty is as the profile says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Usages {
    key_usages: Vec<KeyUsage>,
    extended_key_usages: Vec<ExtendedKeyUsage>,
}

impl Usages {
    /// Nothing asked for.
    pub const NONE: Self = Self { key_usages: Vec::new(), extended_key_usages: Vec::new() };

    /// These usages, each once: those of the key in their own order, purposes in the order given.
    #[must_use]
    pub fn new(
        key_usages: impl IntoIterator<Item = KeyUsage>,
        extended_key_usages: impl IntoIterator<Item = ExtendedKeyUsage>,
    ) -> Self {
        let mut key_usages: Vec<KeyUsage> = key_usages.into_iter().collect();
        key_usages.sort_unstable();
        key_usages.dedup();
        let mut purposes: Vec<ExtendedKeyUsage> = Vec::new();
        for purpose in extended_key_usages {
            let purpose = ExtendedKeyUsage::from_oid(purpose.oid());
            if !purposes.contains(&purpose) {
                purposes.push(purpose);
            }
        }
        Self { key_usages, extended_key_usages: purposes }
    }

    /// Reads the words of Kubernetes and cert-manager: `digital signature`, `server auth`.
    ///
    /// # Errors
    ///
    /// [`UsageRejection`], with the nearest word there is.
    pub fn from_words<'a>(
        words: impl IntoIterator<Item = &'a str, IntoIter: ExactSizeIterator>,
    ) -> Result<Self, UsageRejection> {
        let words = words.into_iter();
        if words.len() > WORDS_MAX {
            return Err(UsageRejection::TooMany { count: words.len() });
        }
        let (mut keys, mut purposes) = (Vec::new(), Vec::new());
        for word in words {
            let key = KeyUsage::ALL.into_iter().find(|usage| usage.word() == word);
            let key = key.or_else(|| (word == SIGNING).then_some(KeyUsage::DigitalSignature));
            let purpose = PURPOSES.iter().find(|(known, _)| *known == word);
            match (key, purpose) {
                (Some(key), _) => keys.push(key),
                (None, Some((_, oid))) => purposes.push(ExtendedKeyUsage::from_oid(*oid)),
                (None, None) => {
                    let nearest = nearest(word, self::words());
                    return Err(UsageRejection::Unknown { word: word.chars().take(80).collect(), nearest });
                }
            }
        }
        Ok(Self::new(keys, purposes))
    }

    /// Usages of the key; empty if none is asked for.
    #[must_use]
    pub fn key_usages(&self) -> &[KeyUsage] {
        &self.key_usages
    }

    /// Purposes, in the order of the certificate; empty if none is asked for.
    #[must_use]
    pub fn extended_key_usages(&self) -> &[ExtendedKeyUsage] {
        &self.extended_key_usages
    }

    /// All of them in the words of Kubernetes and cert-manager.
    pub fn to_words(&self) -> impl Iterator<Item = String> {
        let keys = self.key_usages.iter().map(|usage| usage.word().to_owned());
        keys.chain(self.extended_key_usages.iter().map(|usage| usage.word()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_cert_manager_and_kubernetes_is_a_usage() {
        // `KeyUsage` of cert-manager.io/v1; certificates.k8s.io/v1 has the same but "any" twice.
        const WORDS: [&str; 23] = [
            "signing",
            "digital signature",
            "content commitment",
            "key encipherment",
            "key agreement",
            "data encipherment",
            "cert sign",
            "crl sign",
            "encipher only",
            "decipher only",
            "any",
            "server auth",
            "client auth",
            "code signing",
            "email protection",
            "s/mime",
            "ipsec end system",
            "ipsec tunnel",
            "ipsec user",
            "timestamping",
            "ocsp signing",
            "microsoft sgc",
            "netscape sgc",
        ];
        for word in WORDS {
            let usages = Usages::from_words([word]).unwrap_or_else(|why| panic!("{word}: {why}"));
            assert_eq!(usages.to_words().count(), 1, "{word}");
        }
        assert_eq!(words().count(), WORDS.len());
        let all = Usages::from_words(WORDS).expect("all of them");
        assert_eq!((all.key_usages().len(), all.extended_key_usages().len()), (9, 12), "two words mean the same twice");
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_nearest() {
        for (word, meant) in [
            ("sever auth", Some("server auth")),
            ("digital-signature", Some("digital signature")),
            ("ServerAuth", Some("server auth")),
            ("banana", None),
            ("", None),
        ] {
            let refused = Usages::from_words([word]).expect_err(word);
            assert!(matches!(&refused, UsageRejection::Unknown { nearest, .. } if *nearest == meant), "{refused}");
        }
        let told = Usages::from_words(["sever auth"]).expect_err("unknown").to_string();
        assert!(told.starts_with("\"sever auth\" is no usage (\"server auth\"?); the usages are: digital signature, "));
        assert!(Usages::from_words(["any"; 65]).is_err());
    }
}
