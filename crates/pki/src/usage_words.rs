//! What Kubernetes and cert-manager call the usages of a key, and what they are in a certificate.
//!
//! Source: the documentation of `KeyUsage` in `certificates.k8s.io/v1` and `cert-manager.io/v1`.

use std::collections::BTreeSet;

/// What a word stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    /// A bit of KeyUsage (RFC 5280 §4.2.1.3), counted from digitalSignature, 0.
    Key(u16),
    /// A KeyPurposeId (§4.2.1.12).
    Extended(&'static str),
}

const WORDS: [(&str, Usage); 23] = [
    ("signing", Usage::Key(0)),
    ("digital signature", Usage::Key(0)),
    ("content commitment", Usage::Key(1)),
    ("key encipherment", Usage::Key(2)),
    ("data encipherment", Usage::Key(3)),
    ("key agreement", Usage::Key(4)),
    ("cert sign", Usage::Key(5)),
    ("crl sign", Usage::Key(6)),
    ("encipher only", Usage::Key(7)),
    ("decipher only", Usage::Key(8)),
    ("any", Usage::Extended("2.5.29.37.0")),
    ("server auth", Usage::Extended("1.3.6.1.5.5.7.3.1")),
    ("client auth", Usage::Extended("1.3.6.1.5.5.7.3.2")),
    ("code signing", Usage::Extended("1.3.6.1.5.5.7.3.3")),
    ("email protection", Usage::Extended("1.3.6.1.5.5.7.3.4")),
    ("s/mime", Usage::Extended("1.3.6.1.5.5.7.3.4")),
    ("ipsec end system", Usage::Extended("1.3.6.1.5.5.7.3.5")),
    ("ipsec tunnel", Usage::Extended("1.3.6.1.5.5.7.3.6")),
    ("ipsec user", Usage::Extended("1.3.6.1.5.5.7.3.7")),
    ("timestamping", Usage::Extended("1.3.6.1.5.5.7.3.8")),
    ("ocsp signing", Usage::Extended("1.3.6.1.5.5.7.3.9")),
    ("microsoft sgc", Usage::Extended("1.3.6.1.4.1.311.10.3.3")),
    ("netscape sgc", Usage::Extended("2.16.840.1.113730.4.1")),
];

/// The usages that an object asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    key: u16,
    extended: BTreeSet<String>,
}

impl Asked {
    /// Reads the words.
    ///
    /// # Errors
    ///
    /// The first that does not exist.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut asked = Self::default();
        for word in words {
            let known = WORDS.iter().find(|(known, _)| known == word);
            match known.ok_or_else(|| word.chars().take(64).collect::<String>())?.1 {
                Usage::Key(bit) => asked.key |= 1 << bit,
                Usage::Extended(id) => _ = asked.extended.insert(id.to_owned()),
            }
        }
        Ok(asked)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.key == 0 && self.extended.is_empty()
    }

    pub(crate) const fn extended(&self) -> &BTreeSet<String> {
        &self.extended
    }

    /// Whether no bit is set that was not asked for. A CA's certificate has the two bits that make it one; where only
    /// extended usages were asked for, the bits are the CA's to choose.
    pub(crate) const fn permits_key_usage(&self, flags: u16, is_ca: bool) -> bool {
        let of_a_ca = if is_ca { 1 << 5 | 1 << 6 } else { 0 };
        self.key == 0 || flags & !(self.key | of_a_ca) == 0
    }
}
