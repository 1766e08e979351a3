//! Certificates as they come back: read by a parser that did not build them, and compared with what was meant.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::asn1::ObjectIdentifier;
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate},
};

use crate::{
    chain::IssuingCertificate,
    key::{PublicKey, SignatureAlgorithm},
    name::{Name, NameRejection, OtherName},
    serial::SerialNumber,
    tbs::{LeafRequest, Tbs},
    time::{Timestamp, Validity},
    tlv::{Tlv, tag},
};

/// Characters of a PEM line (RFC 7468 §2).
const PEM_LINE: usize = 64;
/// id-signedData (RFC 5652 §5.1), as DER.
const SIGNED_DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// With what PEM begins, behind what explains it (RFC 7468 §2).
const PEM_BEGIN: &[u8] = b"-----BEGIN";
/// With what the content of a PFX begins: version 3 (RFC 7292 §4), as DER. A certificate begins with a SEQUENCE.
const PFX_VERSION: &[u8] = &[0x02, 0x01, 0x03];

/// Why bytes are no certificate that we can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// Not one certificate in DER.
    #[error("not a certificate in DER: {0}")]
    Unreadable(String),
    /// It names something that no name of ours can be.
    #[error("it holds a name of a kind that is not issued here, or none of its kind: {0}")]
    Name(String),
}

/// How what came back differs from what was meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It cannot be read.
    #[error(transparent)]
    Fault(#[from] CertificateFault),
    /// A part differs.
    #[error("its {0} differs from what was recorded")]
    Part(&'static str),
    /// The signature does not verify.
    #[error("its signature does not verify with the issuer's key")]
    Signature,
}

/// A certificate that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Vec<u8>,
    serial: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    validity: Validity,
    names: Vec<Name>,
    is_ca: bool,
    authority_key_identifier: Option<Vec<u8>>,
    signature: Vec<u8>,
    algorithm: Option<SignatureAlgorithm>,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// [`CertificateFault`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateFault> {
        let unreadable = CertificateFault::Unreadable;
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(unreadable(format!("{} octets behind it", rest.len())));
        }
        let tbs = &parsed.tbs_certificate;
        // The parser stops at what it does not know in a name, and leaves the rest of it out.
        if [tbs.issuer.as_raw(), tbs.subject.as_raw()].into_iter().any(|name| Tlv::read_all(name).is_none()) {
            return Err(unreadable("a Name that is none (RFC 5280 §4.1.2.4)".to_owned()));
        }
        let seconds = |time: x509_parser::time::ASN1Time| Timestamp::from_unix_seconds(time.timestamp());
        let validity = Validity::new(seconds(tbs.validity.not_before), seconds(tbs.validity.not_after))
            .map_err(|error| unreadable(error.to_string()))?;
        let mut names = Vec::new();
        let mut is_ca = false;
        let mut authority_key_identifier = None;
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(san) => {
                    for name in &san.general_names {
                        names.push(read_name(name)?);
                    }
                }
                ParsedExtension::BasicConstraints(basic) => is_ca = basic.ca,
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    authority_key_identifier = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                _ => {}
            }
        }
        // Outside and inside must name the same algorithm (RFC 5280 §4.1.1.2).
        let same = parsed.signature_algorithm == tbs.signature;
        let algorithm = same.then(|| algorithm_of(tbs.as_ref())).flatten();
        Ok(Self {
            der: der.to_vec(),
            tbs: tbs.as_ref().to_vec(),
            serial: tbs.raw_serial().to_vec(),
            issuer: tbs.issuer.as_raw().to_vec(),
            subject: tbs.subject.as_raw().to_vec(),
            spki: tbs.subject_pki.raw.to_vec(),
            validity,
            names,
            is_ca,
            authority_key_identifier,
            signature: parsed.signature_value.data.to_vec(),
            algorithm,
        })
    }

    /// The whole certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The serial number, if it could be one of ours.
    #[must_use]
    pub fn serial_number(&self) -> Option<SerialNumber> {
        SerialNumber::from_der_content(&self.serial)
    }

    /// The issuer's Name in DER.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// The subject's Name in DER.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// From when to when it holds.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The names of its subjectAltName.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// Whether it is a CA's.
    #[must_use]
    pub const fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// The key identifier of its issuer, as it names it.
    #[must_use]
    pub fn authority_key_identifier(&self) -> Option<&[u8]> {
        self.authority_key_identifier.as_deref()
    }

    /// Whether this key signed it.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.algorithm.is_some_and(|algorithm| key.verify(algorithm, &self.tbs, &self.signature).is_ok())
    }
}

fn algorithm_of(tbs: &[u8]) -> Option<SignatureAlgorithm> {
    let fields = Tlv::read_all(tbs)?.children()?;
    SignatureAlgorithm::from_algorithm_identifier_der(fields.get(2)?.raw)
}

fn read_name(name: &GeneralName<'_>) -> Result<Name, CertificateFault> {
    let refused = |shown: String| CertificateFault::Name(shown);
    match name {
        GeneralName::DNSName(text) => Name::dns(text).map_err(|error| refused(error.to_string())),
        GeneralName::URI(text) => Name::uri(text).map_err(|error| refused(error.to_string())),
        GeneralName::RFC822Name(text) => {
            text.parse().map(Name::Email).map_err(|error: NameRejection| refused(error.to_string()))
        }
        GeneralName::OtherName(type_id, value) => {
            let kind = ObjectIdentifier::from_bytes(type_id.as_bytes()).map_err(|error| refused(error.to_string()))?;
            // The parser leaves what lies behind the type: [0] EXPLICIT UTF8String.
            let explicit = Tlv::read_all(value).and_then(|value| value.content_of(tag::context_constructed(0)));
            let text = explicit.and_then(Tlv::read_all).and_then(|value| value.content_of(tag::UTF8_STRING));
            let text = text.and_then(|text| std::str::from_utf8(text).ok());
            let text = text.ok_or_else(|| refused("an otherName whose value is no UTF8String".to_owned()))?;
            OtherName::new(kind, text).map(Name::Other).map_err(|error| refused(error.to_string()))
        }
        GeneralName::IPAddress(octets) => {
            if let Ok(v4) = <[u8; 4]>::try_from(*octets) {
                return Ok(Name::Ip(IpAddr::V4(Ipv4Addr::from(v4))));
            }
            let v6: [u8; 16] = (*octets).try_into().map_err(|_| refused("an IP address of odd length".to_owned()))?;
            Ok(Name::Ip(IpAddr::V6(Ipv6Addr::from(v6))))
        }
        _ => Err(refused("another kind of name".to_owned())),
    }
}

/// Reads what was signed with another parser than the builder, and compares it with what was
/// recorded, part by part; the signature is verified with the issuer's key.
///
/// # Errors
///
/// The first [`Difference`].
pub fn verify_issued(
    der: &[u8],
    tbs: &Tbs,
    request: &LeafRequest<'_>,
    issuer: &IssuingCertificate,
) -> Result<(), Difference> {
    let read = Certificate::from_der(der)?;
    let part = |same: bool, what: &'static str| if same { Ok(()) } else { Err(Difference::Part(what)) };
    part(read.tbs == tbs.der(), "TBSCertificate")?;
    // x509-parser lets unused bits of a signature pass, and lengths longer than needed.
    part(tbs.assemble(&read.signature).is_ok_and(|whole| whole == der), "encoding")?;
    part(read.serial_number() == Some(request.serial), "serial number")?;
    part(read.issuer == issuer.subject(), "issuer")?;
    part(read.authority_key_identifier.as_deref() == Some(&issuer.key_identifier()), "authority key identifier")?;
    part(read.spki == request.key.spki(), "public key")?;
    part(read.validity == request.validity, "validity")?;
    part(read.is_ca == request.content.is_ca, "basic constraints")?;
    part(read.subject == request.profile.subject(request.names, request.content), "subject")?;
    let names: BTreeSet<&Name> = read.names.iter().collect();
    let meant: BTreeSet<&Name> = request.names.iter().filter(|name| name.is_alternative_name()).collect();
    part(names == meant && read.names.len() == meant.len(), "set of names")?;
    if read.is_signed_by(issuer.key()) { Ok(()) } else { Err(Difference::Signature) }
}

/// Certificates as PEM (RFC 7468), one after the other, nothing between, lines ended by LF.
#[must_use]
pub fn to_pem<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut pem = String::new();
    for der in certificates {
        pem.push_str(&pem_block("CERTIFICATE", der));
    }
    pem
}

/// One PEM block (RFC 7468 §3).
#[must_use]
pub fn pem_block(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

/// What follows the tag and length of the element that these octets begin with, whole or not; in BER too, as PKCS#12
/// files have it (X.690 §8.1.3).
fn content(head: &[u8]) -> Option<&[u8]> {
    let (_tag, rest) = head.split_first()?;
    let (length, rest) = rest.split_first()?;
    match length {
        0..=0x80 => Some(rest),
        long => rest.get(usize::from(long & 0x7f)..),
    }
}

/// The certificates of a PEM text, in order.
///
/// # Errors
///
/// [`CertificateFault::Unreadable`] for text that is no PEM, and where there is no certificate in it.
pub fn from_pem(text: &[u8]) -> Result<Vec<Vec<u8>>, CertificateFault> {
    let other_form = |form: &str, command: &str| {
        CertificateFault::Unreadable(format!("it is {form}: export it as PEM, or type: openssl {command}"))
    };
    let holds = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|at| at == part);
    // DER begins with a SEQUENCE, whose tag is the character 0 too, with which an explanation of PEM may begin.
    if text.first() == Some(&tag::SEQUENCE) && !holds(text, PEM_BEGIN) {
        let head = text.get(..40).unwrap_or(text);
        return Err(if content(head).is_some_and(|content| content.starts_with(PFX_VERSION)) {
            other_form("PKCS#12", "pkcs12 -in FILE -nokeys -out FILE.pem")
        } else if holds(head, SIGNED_DATA) {
            other_form("PKCS#7 in DER", "pkcs7 -inform DER -print_certs -in FILE -out FILE.pem")
        } else {
            other_form("DER, not PEM", "x509 -inform DER -in FILE -out FILE.pem")
        });
    }
    let mut found = Vec::new();
    for block in x509_parser::pem::Pem::iter_from_buffer(text) {
        let block = block.map_err(|error| CertificateFault::Unreadable(error.to_string()))?;
        match &*block.label {
            "CERTIFICATE" => found.push(block.contents),
            "PKCS7" | "CMS" => return Err(other_form("PKCS#7", "pkcs7 -print_certs -in FILE -out FILE.pem")),
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(CertificateFault::Unreadable("there is no CERTIFICATE block in it".to_owned()));
    }
    Ok(found)
}
