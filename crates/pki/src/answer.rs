//! What came back from a CA, held against the CSR that it answers.
//!
//! For whoever asks another process for a certificate and is about to hand the answer on. Nothing here knows our own
//! profiles: the answer is compared with what was asked, octet by octet where a name is of a kind that this crate
//! has no type for.

use std::{collections::BTreeSet, time::Duration};

use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::ParsedExtension,
    oid_registry,
    prelude::{FromDer, X509Certificate},
    x509::X509Name,
};

use crate::{
    KeyRejection, PublicKey, SignatureAlgorithm, Timestamp,
    certificate::{self, CertificateFault},
    chain::{InstallRejection, install},
    tlv::{self, Tlv, tag},
    usage::{KeyUsage, UsageRejection, Usages},
};

/// Longest chain that cert-manager reads, in octets of PEM (its internal/pem).
pub const CHAIN_PEM_MAX: usize = 95_000;
/// Longest certificate that cert-manager reads, in octets of PEM.
pub const LEAF_PEM_MAX: usize = 36_500;
/// Most certificates of a chain.
const CHAIN_MAX: usize = 10;
/// How much shorter than asked a life may be, in seconds: what cert-manager tolerates.
const LIFE_TOLERANCE_S: u64 = 30;

/// Why a CSR cannot be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// No PEM with one CSR.
    #[error("the request is not one CSR in PEM")]
    NotPem,
    /// Not DER of the right shape.
    #[error("the CSR cannot be read: {part} is not as RFC 2986 has it")]
    NotDer {
        /// Which part.
        part: &'static str,
    },
    /// The key.
    #[error("the key of the CSR is refused: {0}")]
    Key(#[from] KeyRejection),
    /// Signed with an algorithm that we do not know, or that such a key does not have.
    #[error("the CSR is signed with an algorithm that is not accepted; sign it with SHA-256 or better")]
    Algorithm,
    /// The signature is not the key's: no proof of possession.
    #[error("the signature of the CSR does not verify with the key in it")]
    BadSignature,
    /// A usage that does not exist.
    #[error(transparent)]
    Usage(#[from] UsageRejection),
}

/// Why an answer must not be handed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// It is not PEM with certificates.
    #[error("the chain cannot be read: {0}")]
    Unreadable(#[from] CertificateFault),
    /// More octets than cert-manager reads.
    #[error("the {what} has {length} octets of PEM, more than the {max} that cert-manager reads")]
    TooLong {
        /// Chain or certificate.
        what: &'static str,
        /// Octets.
        length: usize,
        /// Most.
        max: usize,
    },
    /// More certificates than any chain has.
    #[error("the chain has {count} certificates, more than {CHAIN_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A certificate for somebody else's key.
    #[error("the certificate is for another key than the CSR's")]
    OtherKey,
    /// It has ended.
    #[error("the certificate ended at {0}")]
    Expired(Timestamp),
    /// It begins later than clocks may differ.
    #[error("the certificate is not valid before {0}; are the clocks of both machines right?")]
    NotYetValid(Timestamp),
    /// It lives shorter than asked.
    #[error("the certificate lives {is} s, and {asked} s were asked for")]
    ShorterLife {
        /// Seconds that it lives.
        is: u64,
        /// Seconds that were asked for.
        asked: u64,
    },
    /// It lives longer than asked.
    #[error("the certificate ends at {ends}, later than the {asked} s that were asked for")]
    LongerLife {
        /// Its last second.
        ends: Timestamp,
        /// Seconds that were asked for.
        asked: u64,
    },
    /// Its names are not the CSR's.
    #[error("the names of the certificate are not those of the CSR")]
    Names,
    /// A common name that nobody asked for.
    #[error("the certificate has a common name that the CSR does not have")]
    CommonName,
    /// A CA where none was asked for, or the other way round.
    #[error("the certificate is {} a CA's, and the request says otherwise", if *.0 { "" } else { "not" })]
    Ca(bool),
    /// Usages that were not asked for, or not all that were.
    #[error("the usages of the certificate are not those that were asked for")]
    Usages,
    /// The chain is not one path.
    #[error("the chain is not one path to its root: {0}")]
    Chain(#[from] InstallRejection),
    /// The chain is not in order, or the certificate is not signed by the one behind it.
    #[error("the certificate is not signed by the one behind it, or the chain is not in order")]
    Order,
    /// There is no self-signed root.
    #[error("the root that came with the chain is not a self-signed certificate")]
    Root,
}

/// A CSR whose key has signed it, with what an answer is held against.
#[derive(Debug, Clone)]
pub struct Asked {
    key: PublicKey,
    names: BTreeSet<Vec<u8>>,
    common_names: BTreeSet<String>,
    usages: Usages,
    is_ca: bool,
    life_s: Option<u64>,
}

/// A chain that answers a CSR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The certificate first, then what lies above it, without the root.
    pub chain: String,
    /// The root, or the highest certificate that is known.
    pub root: String,
    /// The first second of the certificate.
    pub not_before: Timestamp,
    /// The last second of the certificate.
    pub not_after: Timestamp,
}

impl Asked {
    /// Reads a CSR in PEM; `usages` and `is_ca` are what the object around it says.
    ///
    /// # Errors
    ///
    /// [`RequestFault`]: nobody can sign this, now or later.
    pub fn from_pem(pem: &[u8], usages: &[String], is_ca: bool, life_s: Option<u64>) -> Result<Self, RequestFault> {
        let usages = Usages::from_words(usages.iter().map(String::as_str))?;
        let mut blocks = x509_parser::pem::Pem::iter_from_buffer(pem);
        let block = blocks.next().and_then(Result::ok).ok_or(RequestFault::NotPem)?;
        if !matches!(&*block.label, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") || blocks.next().is_some() {
            return Err(RequestFault::NotPem);
        }
        let der = &block.contents;
        let no = |part| RequestFault::NotDer { part };
        let (rest, parsed) = X509CertificationRequest::from_der(der).map_err(|_| no("the whole"))?;
        let whole = Tlv::read_all(der).filter(|_| rest.is_empty()).ok_or_else(|| no("the whole"))?;
        let parts = whole.children().ok_or_else(|| no("the whole"))?;
        let [info, algorithm, _signature] = parts.as_slice() else { return Err(no("the whole")) };
        let info_parts = info.children().ok_or_else(|| no("CertificationRequestInfo"))?;
        let spki = info_parts.get(2).ok_or_else(|| no("SubjectPublicKeyInfo"))?;
        let key = PublicKey::from_spki(spki.raw)?;
        let algorithm = SignatureAlgorithm::from_algorithm_identifier_der(algorithm.raw)
            .filter(|algorithm| algorithm.fits(key.kind()))
            .ok_or(RequestFault::Algorithm)?;
        key.verify(algorithm, info.raw, &parsed.signature_value.data).map_err(|_| RequestFault::BadSignature)?;
        let mut names = BTreeSet::new();
        for attribute in parsed.certification_request_info.iter_attributes() {
            let x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(requested) =
                attribute.parsed_attribute()
            else {
                continue;
            };
            for extension in &requested.extensions {
                if extension.oid == oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME {
                    names.extend(general_names(extension.value).ok_or_else(|| no("subjectAltName"))?);
                }
            }
        }
        let common_names = common_names(&parsed.certification_request_info.subject);
        Ok(Self { key, names, common_names, usages, is_ca, life_s })
    }

    /// The same for a CSR that is but a stub for its key, as a PodCertificateRequest has it: the certificate names these
    /// URIs, and nothing that the CSR names.
    #[must_use]
    pub fn naming<'a>(self, uris: impl IntoIterator<Item = &'a str>) -> Self {
        // uniformResourceIdentifier is [6] (RFC 5280 §4.2.1.6).
        let names = uris.into_iter().map(|uri| tlv::write(tag::context(6), uri.as_bytes())).collect();
        Self { names, common_names: BTreeSet::new(), ..self }
    }

    /// The key that has signed the CSR.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Holds an answer against this request: one certificate for this key with these names and no others, in force,
    /// and one path from it to a self-signed root. A server that does not know its root sends none: then the path ends
    /// where its chain does.
    ///
    /// `skew` is how far clocks may differ.
    ///
    /// # Errors
    ///
    /// The first [`AnswerFault`].
    pub fn check(&self, chain: &str, root: &str, now: Timestamp, skew: Duration) -> Result<Answered, AnswerFault> {
        if chain.len() > CHAIN_PEM_MAX {
            return Err(AnswerFault::TooLong { what: "chain", length: chain.len(), max: CHAIN_PEM_MAX });
        }
        let blocks = certificate::from_pem(chain.as_bytes())?;
        if blocks.len() > CHAIN_MAX {
            return Err(AnswerFault::TooMany { count: blocks.len() });
        }
        let unreadable = |why: &str| CertificateFault::Unreadable(why.to_owned());
        let (leaf, above) = blocks.split_first().ok_or_else(|| unreadable("it is empty"))?;
        let leaf_pem = certificate::to_pem([leaf.as_slice()]);
        if leaf_pem.len() > LEAF_PEM_MAX {
            return Err(AnswerFault::TooLong { what: "certificate", length: leaf_pem.len(), max: LEAF_PEM_MAX });
        }
        let (not_before, not_after) = self.check_leaf(leaf, now, skew)?;

        let root = match root.trim() {
            "" => None,
            pem => {
                let roots = certificate::from_pem(pem.as_bytes()).map_err(|_| AnswerFault::Root)?;
                let [root] = <[_; 1]>::try_from(roots).map_err(|_| AnswerFault::Root)?;
                Some(root)
            }
        };
        // A root that came in the chain, too, is left out of it: cert-manager wants it apart.
        let above: Vec<&Vec<u8>> = above.iter().filter(|der| Some(*der) != root.as_ref()).collect();
        let issuer = above.first().copied().or(root.as_ref()).ok_or(AnswerFault::Order)?;
        let issuer_key = issuer_key(issuer).ok_or(AnswerFault::Order)?;
        if !signed_by(leaf, issuer, &issuer_key) {
            return Err(AnswerFault::Order);
        }
        let candidates: Vec<Vec<u8>> = above.iter().copied().chain(&root).cloned().collect();
        let path = match install(&candidates, &issuer_key, now) {
            // Clocks differ: a CA that is younger than the difference is no fault of the chain's.
            Err(InstallRejection::NotYetValid { .. }) => install(&candidates, &issuer_key, now.after(skew))?,
            path => path?,
        };
        let self_signed_issuer = above.is_empty();
        let ordered = self_signed_issuer
            || path
                .certificates()
                .iter()
                .map(|certificate| certificate.der())
                .eq(above.iter().map(|der| der.as_slice()));
        if !ordered {
            return Err(AnswerFault::Order);
        }
        let anchored = if self_signed_issuer { path.is_self_signed() } else { path.anchor().is_some() };
        if root.is_some() && !anchored {
            return Err(AnswerFault::Root);
        }
        let chain = [leaf.as_slice()].into_iter().chain(above.iter().map(|der| der.as_slice()));
        let highest = root.as_ref().or(above.last().copied()).ok_or(AnswerFault::Order)?;
        let (chain, root) = (certificate::to_pem(chain), certificate::to_pem([highest.as_slice()]));
        Ok(Answered { chain, root, not_before, not_after })
    }

    /// Its first and its last second.
    fn check_leaf(&self, der: &[u8], now: Timestamp, skew: Duration) -> Result<(Timestamp, Timestamp), AnswerFault> {
        let unreadable = |why: String| AnswerFault::Unreadable(CertificateFault::Unreadable(why));
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(unreadable(format!("{} octets behind the certificate", rest.len())));
        }
        if parsed.public_key().raw != self.key.spki() {
            return Err(AnswerFault::OtherKey);
        }
        let seconds = |time: x509_parser::time::ASN1Time| Timestamp::from_unix_seconds(time.timestamp());
        let (not_before, not_after) = (seconds(parsed.validity().not_before), seconds(parsed.validity().not_after));
        if not_after <= now {
            return Err(AnswerFault::Expired(not_after));
        }
        if not_before > now.after(skew) {
            return Err(AnswerFault::NotYetValid(not_before));
        }
        let is = not_after.since(not_before).as_secs();
        if let Some(asked) = self.life_s.filter(|asked| is + LIFE_TOLERANCE_S < *asked) {
            return Err(AnswerFault::ShorterLife { is, asked });
        }
        // Backdating makes a life longer and its end no later.
        let latest = |asked: u64| now.after(skew).after(Duration::from_secs(asked.saturating_add(LIFE_TOLERANCE_S)));
        if let Some(asked) = self.life_s.filter(|asked| not_after > latest(*asked)) {
            return Err(AnswerFault::LongerLife { ends: not_after, asked });
        }
        self.check_names(&parsed)?;
        self.check_usages(&parsed)?;
        Ok((not_before, not_after))
    }

    fn check_names(&self, parsed: &X509Certificate<'_>) -> Result<(), AnswerFault> {
        let mut names = BTreeSet::new();
        for extension in parsed.extensions() {
            if extension.oid == oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME {
                names.extend(general_names(extension.value).ok_or(AnswerFault::Names)?);
            }
        }
        // A host that the CSR has as common name alone may become a SAN (RFC 6125 §6.4.4 has clients look only there).
        let from_subject: BTreeSet<Vec<u8>> =
            self.common_names.iter().filter_map(|name| host_as_general_name(name)).collect();
        let asked_all = self.names.is_subset(&names);
        let nothing_else = names.iter().all(|name| self.names.contains(name) || from_subject.contains(name));
        if !asked_all || !nothing_else {
            return Err(AnswerFault::Names);
        }
        let granted = |name: &String| {
            self.common_names.contains(name)
                || host_as_general_name(name).is_some_and(|general| self.names.contains(&general))
        };
        if common_names(parsed.subject()).iter().all(granted) { Ok(()) } else { Err(AnswerFault::CommonName) }
    }

    /// Whether no bit is set that was not asked for. A CA's certificate has the two bits that make it one; where only
    /// extended usages were asked for, the bits are the CA's to choose.
    fn permits_key_usage(&self, flags: u16) -> bool {
        let of_a_ca = if self.is_ca { bit(KeyUsage::KeyCertSign) | bit(KeyUsage::CrlSign) } else { 0 };
        let asked = self.usages.key_usages().iter().fold(0, |bits, usage| bits | bit(*usage));
        asked == 0 || flags & !(asked | of_a_ca) == 0
    }

    fn check_usages(&self, parsed: &X509Certificate<'_>) -> Result<(), AnswerFault> {
        let (mut is_ca, mut key_usage, mut extended) = (false, None, BTreeSet::new());
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(basic) => is_ca = basic.ca,
                ParsedExtension::KeyUsage(usage) => key_usage = Some(usage.flags),
                ParsedExtension::ExtendedKeyUsage(_) => {
                    extended = object_identifiers(extension.value).ok_or(AnswerFault::Usages)?;
                }
                _ => {}
            }
        }
        if is_ca != self.is_ca {
            return Err(AnswerFault::Ca(is_ca));
        }
        if self.usages == Usages::NONE {
            return Ok(());
        }
        let flags_fit = key_usage.is_none_or(|flags| self.permits_key_usage(flags));
        let asked: BTreeSet<String> =
            self.usages.extended_key_usages().iter().map(|usage| usage.oid().to_string()).collect();
        // Where key usages alone were asked for (as cert-manager does for Ingresses and Gateways), the profile's purposes
        // narrow what a certificate without any could be used for.
        let extended_fit = asked.is_empty() || extended == asked;
        if flags_fit && extended_fit { Ok(()) } else { Err(AnswerFault::Usages) }
    }
}

/// Where a usage stands in KeyUsage (RFC 5280 §4.2.1.3), as x509-parser counts.
const fn bit(usage: KeyUsage) -> u16 {
    match usage {
        KeyUsage::DigitalSignature => 1,
        KeyUsage::ContentCommitment => 1 << 1,
        KeyUsage::KeyEncipherment => 1 << 2,
        KeyUsage::DataEncipherment => 1 << 3,
        KeyUsage::KeyAgreement => 1 << 4,
        KeyUsage::KeyCertSign => 1 << 5,
        KeyUsage::CrlSign => 1 << 6,
        KeyUsage::EncipherOnly => 1 << 7,
        KeyUsage::DecipherOnly => 1 << 8,
    }
}

/// The GeneralNames of a subjectAltName as they lie there; host names in lower case.
fn general_names(san: &[u8]) -> Option<Vec<Vec<u8>>> {
    let names = Tlv::read_all(san)?.children()?;
    Some(names.into_iter().map(|name| canonical(name.raw)).collect())
}

fn canonical(general_name: &[u8]) -> Vec<u8> {
    let mut octets = general_name.to_vec();
    // dNSName is [2] (RFC 5280 §4.2.1.6) and compared without regard to case (§7.2).
    if octets.first() == Some(&tag::context(2)) {
        octets.make_ascii_lowercase();
    }
    octets
}

/// A host name or address as the GeneralName that it would be.
fn host_as_general_name(text: &str) -> Option<Vec<u8>> {
    let (number, content) = match text.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => (7, address.octets().to_vec()),
        Ok(std::net::IpAddr::V6(address)) => (7, address.octets().to_vec()),
        Err(_) => {
            let host = crate::Name::dns(text).ok()?.to_string();
            (2, host.into_bytes())
        }
    };
    let length = u8::try_from(content.len()).ok()?;
    let mut octets = vec![tag::context(number)];
    if length >= 0x80 {
        octets.push(0x81);
    }
    octets.push(length);
    octets.extend(content);
    Some(octets)
}

fn common_names(name: &X509Name<'_>) -> BTreeSet<String> {
    name.iter_common_name().filter_map(|value| value.as_str().ok()).map(str::to_owned).collect()
}

/// The object identifiers of an ExtKeyUsageSyntax, in dotted form.
fn object_identifiers(value: &[u8]) -> Option<BTreeSet<String>> {
    let ids = Tlv::read_all(value)?.children()?;
    ids.iter()
        .map(|id| x509_parser::der_parser::oid::Oid::from_der(id.raw).ok().map(|(_, oid)| oid.to_id_string()))
        .collect()
}

fn issuer_key(der: &[u8]) -> Option<PublicKey> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    PublicKey::from_spki(parsed.public_key().raw).ok()
}

fn signed_by(der: &[u8], issuer: &[u8], key: &PublicKey) -> bool {
    let signed = || {
        let (_, below) = X509Certificate::from_der(der).ok()?;
        let (_, above) = X509Certificate::from_der(issuer).ok()?;
        if below.issuer().as_raw() != above.subject().as_raw() {
            return None;
        }
        let whole = Tlv::read_all(der)?.children()?;
        let [tbs, algorithm, _signature] = whole.as_slice() else { return None };
        // Outside and inside must name the same algorithm (RFC 5280 §4.1.1.2).
        let inside = tbs.children()?.get(2)?.raw;
        if inside != algorithm.raw {
            return None;
        }
        let algorithm = SignatureAlgorithm::from_algorithm_identifier_der(algorithm.raw)?;
        key.verify(algorithm, tbs.raw, &below.signature_value.data).ok()
    };
    signed().is_some()
}
