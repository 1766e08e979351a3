//! The part of a certificate that is signed (RFC 5280 §4.1), built from order, profile and the
//! requester's public key alone, and from what else is asked for and was granted.
//!
//! rcgen encodes the extensions; it is an encoder here and no guard (it would take names, serials
//! and validities that no certificate may have). The issuer's name and key identifier are copied
//! from its certificate byte for byte, the public key from the CSR: rcgen would encode them anew,
//! and reads the kind of key off the CSR's signature.

use std::cell::RefCell;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName as RcgenName, DnType,
    IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, OtherNameValue, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SigningKey,
};
use time::OffsetDateTime;

use crate::{
    chain::{IssuingCertificate, NameConstraints, Subtree},
    content::Content,
    key::{PublicKey, SignatureAlgorithm},
    name::{Name, NameSet},
    profile::{ExtendedKeyUsage, KeyUsage, Profile},
    serial::SerialNumber,
    time::{Timestamp, Validity},
    tlv::{self, Tlv, tag},
};

/// Octets of a key identifier: a truncated SHA-256 of the key (RFC 7093 §2, method 1).
const KEY_IDENTIFIER_OCTETS: usize = 20;

const AUTHORITY_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 35];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const CERTIFICATE_POLICIES: &[u64] = &[2, 5, 29, 32];
const AUTHORITY_INFORMATION_ACCESS: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
/// RFC 7633 §6.
const TLS_FEATURE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 24];
/// `id-ad-ocsp` and `id-ad-caIssuers` (RFC 5280 §4.2.2.1), content octets.
const OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1];
const CA_ISSUERS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 2];
/// `SEQUENCE { INTEGER 5 }`: status_request (RFC 7633 §4.1).
const STATUS_REQUEST: &[u8] = &[0x30, 3, 2, 1, 5];

/// What a certificate is made from, beside its issuer.
#[derive(Debug, Clone, Copy)]
pub struct LeafRequest<'a> {
    /// Its names.
    pub names: &'a NameSet,
    /// What it looks like.
    pub profile: &'a Profile,
    /// What is asked for beside names and key; [`AS_PROFILE`](crate::content::AS_PROFILE) where nothing is.
    pub content: &'a Content,
    /// Its key.
    pub key: &'a PublicKey,
    /// From when to when it holds.
    pub validity: Validity,
    /// Its serial number.
    pub serial: SerialNumber,
    /// Whether it says that its server staples (RFC 7633).
    pub must_staple: bool,
    /// The CRL shard whose URL it names.
    pub crl_shard: Option<u16>,
}

/// Why no TBSCertificate was built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TbsError {
    /// The encoder refused it.
    #[error("the encoder refused it: {0}")]
    Encoder(String),
    /// What the encoder wrote cannot be read.
    #[error("what the encoder wrote cannot be read")]
    Unreadable,
}

/// Stored bytes are no TBSCertificate, as far as they were read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a TBSCertificate in DER")]
pub struct NotATbs;

/// A TBSCertificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tbs {
    der: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

impl Tbs {
    /// Builds one.
    ///
    /// # Errors
    ///
    /// [`TbsError`]: a fault of ours, since everything in a [`LeafRequest`] was checked before.
    pub fn build(
        request: &LeafRequest<'_>,
        issuer: &IssuingCertificate,
        algorithm: SignatureAlgorithm,
    ) -> Result<Self, TbsError> {
        let LeafRequest { names, profile, content, .. } = *request;
        let subject = profile.subject(names, content);
        let params = params_of(request, issuer, is_empty_name(&subject))?;
        let encoded = encode(&params)?;
        let with = Replaced {
            algorithm: algorithm.algorithm_identifier_der(),
            issuer: issuer.subject(),
            subject: &subject,
            spki: request.key.spki(),
        };
        Ok(Self { der: replace(&encoded, &with).ok_or(TbsError::Unreadable)?, algorithm })
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// How they are to be signed.
    #[must_use]
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The certificate that these bytes and a signature make.
    ///
    /// # Errors
    ///
    /// [`NotATbs`] cannot happen for bytes that [`Self::build`] made.
    pub fn assemble(&self, signature: &[u8]) -> Result<Vec<u8>, NotATbs> {
        assemble(&self.der, signature)
    }
}

/// The certificate that TBS bytes and a signature make; the algorithm stands in the TBS (RFC 5280 §4.1.1.2). Nothing
/// else in them is judged.
///
/// # Errors
///
/// [`NotATbs`] where no algorithm can be found in `tbs`.
pub fn assemble(tbs: &[u8], signature: &[u8]) -> Result<Vec<u8>, NotATbs> {
    let (_, algorithm) = beginning(tbs)?;
    let mut bits = Vec::with_capacity(signature.len() + 1);
    bits.push(0); // none of the last bits are unused
    bits.extend_from_slice(signature);
    let bits = tlv::write(tag::BIT_STRING, &bits);
    Ok(tlv::write_all(tag::SEQUENCE, [tbs, algorithm.raw, &bits]))
}

/// The serial number in a TBSCertificate; `None` where it is none of ours.
///
/// # Errors
///
/// [`NotATbs`] where none can be found in `tbs`.
pub fn serial(tbs: &[u8]) -> Result<Option<SerialNumber>, NotATbs> {
    beginning(tbs).map(|(serial, _)| SerialNumber::from_der_content(serial.content))
}

/// serialNumber and signature of a TBSCertificate (RFC 5280 §4.1).
fn beginning(tbs: &[u8]) -> Result<(Tlv<'_>, Tlv<'_>), NotATbs> {
    let all = Tlv::read_all(tbs).filter(|all| all.tag == tag::SEQUENCE).ok_or(NotATbs)?;
    let next = |content| Tlv::read(content).ok_or(NotATbs);
    let (mut serial, mut rest) = next(all.content)?;
    if serial.tag == tag::context_constructed(0) {
        (serial, rest) = next(rest)?; // behind the version
    }
    let (algorithm, _) = next(rest)?;
    match (serial.tag, algorithm.tag) {
        (tag::INTEGER, tag::SEQUENCE) => Ok((serial, algorithm)),
        _ => Err(NotATbs),
    }
}

/// The key identifier of a key (RFC 7093 §2, method 1): the leftmost 160 bits of the SHA-256 of the BIT STRING.
#[must_use]
pub fn key_identifier(key: &PublicKey) -> Vec<u8> {
    let mut octets = digest(&SHA256, key.subject_public_key()).as_ref().to_vec();
    octets.truncate(KEY_IDENTIFIER_OCTETS);
    octets
}

fn params_of(
    request: &LeafRequest<'_>,
    issuer: &IssuingCertificate,
    subject_is_empty: bool,
) -> Result<CertificateParams, TbsError> {
    let encoder = |error: rcgen::Error| TbsError::Encoder(error.to_string());
    let LeafRequest { profile, content, .. } = *request;
    let mut params = CertificateParams::default();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&request.serial.der_content()));
    params.not_before = instant(request.validity.not_before())?;
    params.not_after = instant(request.validity.not_after())?;
    // A subject that is not empty stands here only so that rcgen marks the names critical or not
    // (RFC 5280 §4.2.1.6); its bytes are replaced.
    params.distinguished_name = RcgenName::new();
    if !subject_is_empty {
        params.distinguished_name.push(DnType::CommonName, "replaced");
    }
    params.subject_alt_names =
        request.names.iter().filter_map(|name| san(name).transpose()).collect::<Result<_, _>>().map_err(encoder)?;
    params.is_ca = match profile.ca().filter(|_| content.is_ca) {
        None => IsCa::ExplicitNoCa,
        Some(ca) => IsCa::Ca(BasicConstraints::Constrained(ca.path_length)),
    };
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_identifier(request.key));
    let usages = profile.granted_key_usages(content, request.key.kind());
    params.key_usages = usages.into_iter().map(key_usage).collect();
    params.extended_key_usages = profile.granted_purposes(content).iter().map(extended_key_usage).collect();
    if let Some(url) = request.crl_shard.and_then(|shard| profile.crl_url(shard)) {
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url] }];
    }
    params.custom_extensions = custom_extensions(request, issuer);
    if let Some(ca) = profile.ca().filter(|_| content.is_ca) {
        params.custom_extensions.extend(constraints(&ca.constraints())?);
    }
    Ok(params)
}

fn is_empty_name(name: &[u8]) -> bool {
    Tlv::read_all(name).is_none_or(|name| name.content.is_empty())
}

/// `None` for a name that stands in the subject alone.
fn san(name: &Name) -> Result<Option<SanType>, rcgen::Error> {
    Ok(Some(match name {
        Name::Dns(_) | Name::Wildcard(_) => SanType::DnsName(name.to_string().try_into()?),
        Name::Ip(address) => SanType::IpAddress(*address),
        Name::Spiffe(id) => SanType::URI(id.as_str().to_owned().try_into()?),
        Name::Uri(uri) => SanType::URI(uri.as_str().to_owned().try_into()?),
        Name::Email(address) => SanType::Rfc822Name(address.as_str().to_owned().try_into()?),
        Name::Other(name) => SanType::OtherName((
            name.type_id().arcs().map(u64::from).collect(),
            OtherNameValue::Utf8String(name.value().to_owned()),
        )),
        Name::CommonName(_) => return Ok(None),
    }))
}

/// `None` for none; those of kinds that no profile sets cannot be written. rcgen knows no URIs among them.
fn constraints(of: &NameConstraints) -> Result<Option<CustomExtension>, TbsError> {
    let subtree = |subtree: &Subtree| {
        let base = match subtree {
            Subtree::Mail(base) => tlv::write(tag::context(1), base.as_bytes()),
            Subtree::Dns(base) => tlv::write(tag::context(2), base.as_bytes()),
            Subtree::Uri(base) => tlv::write(tag::context(6), base.as_bytes()),
            Subtree::Ip { address, mask } => tlv::write(tag::context(7), &[address.as_slice(), mask].concat()),
            Subtree::Directory(_) | Subtree::OtherNames | Subtree::Other(_) => {
                return Err(TbsError::Encoder(format!("no name constraint {subtree} is written here")));
            }
        };
        Ok(tlv::write(tag::SEQUENCE, &base))
    };
    if of.is_empty() {
        return Ok(None);
    }
    let mut value = Vec::new();
    for (list, subtrees) in [(0, of.permitted()), (1, of.excluded())] {
        if !subtrees.is_empty() {
            let written = subtrees.iter().map(subtree).collect::<Result<Vec<_>, TbsError>>()?;
            value.extend(tlv::write(tag::context_constructed(list), &written.concat()));
        }
    }
    let mut extension = CustomExtension::from_oid_content(NAME_CONSTRAINTS, tlv::write(tag::SEQUENCE, &value));
    // RFC 5280 §4.2.1.10.
    extension.set_criticality(true);
    Ok(Some(extension))
}

const fn key_usage(usage: KeyUsage) -> KeyUsagePurpose {
    match usage {
        KeyUsage::DigitalSignature => KeyUsagePurpose::DigitalSignature,
        KeyUsage::KeyEncipherment => KeyUsagePurpose::KeyEncipherment,
        KeyUsage::KeyAgreement => KeyUsagePurpose::KeyAgreement,
        KeyUsage::ContentCommitment => KeyUsagePurpose::ContentCommitment,
        KeyUsage::DataEncipherment => KeyUsagePurpose::DataEncipherment,
        KeyUsage::EncipherOnly => KeyUsagePurpose::EncipherOnly,
        KeyUsage::DecipherOnly => KeyUsagePurpose::DecipherOnly,
        KeyUsage::KeyCertSign => KeyUsagePurpose::KeyCertSign,
        KeyUsage::CrlSign => KeyUsagePurpose::CrlSign,
    }
}

fn extended_key_usage(usage: &ExtendedKeyUsage) -> rcgen::ExtendedKeyUsagePurpose {
    rcgen::ExtendedKeyUsagePurpose::Other(usage.oid().arcs().map(u64::from).collect())
}

fn custom_extensions(request: &LeafRequest<'_>, issuer: &IssuingCertificate) -> Vec<CustomExtension> {
    let profile = request.profile;
    let key_identifier = tlv::write(tag::context(0), &issuer.key_identifier());
    let mut extensions =
        vec![CustomExtension::from_oid_content(AUTHORITY_KEY_IDENTIFIER, tlv::write(tag::SEQUENCE, &key_identifier))];
    if !profile.policies().is_empty() {
        let policies: Vec<Vec<u8>> = profile
            .policies()
            .iter()
            .map(|policy| tlv::write(tag::SEQUENCE, &tlv::write(tag::OBJECT_IDENTIFIER, policy.as_bytes())))
            .collect();
        let all = tlv::write_all(tag::SEQUENCE, policies.iter().map(Vec::as_slice));
        extensions.push(CustomExtension::from_oid_content(CERTIFICATE_POLICIES, all));
    }
    let access: Vec<Vec<u8>> = profile
        .ocsp()
        .iter()
        .map(|url| access_description(OCSP, url))
        .chain(profile.ca_issuers().iter().map(|url| access_description(CA_ISSUERS, url)))
        .collect();
    if !access.is_empty() {
        let all = tlv::write_all(tag::SEQUENCE, access.iter().map(Vec::as_slice));
        extensions.push(CustomExtension::from_oid_content(AUTHORITY_INFORMATION_ACCESS, all));
    }
    if request.must_staple {
        extensions.push(CustomExtension::from_oid_content(TLS_FEATURE, STATUS_REQUEST.to_vec()));
    }
    extensions
}

fn access_description(method: &[u8], url: &str) -> Vec<u8> {
    let method = tlv::write(tag::OBJECT_IDENTIFIER, method);
    // uniformResourceIdentifier [6] IA5String
    let location = tlv::write(tag::context(6), url.as_bytes());
    tlv::write_all(tag::SEQUENCE, [method.as_slice(), location.as_slice()])
}

fn instant(at: Timestamp) -> Result<OffsetDateTime, TbsError> {
    OffsetDateTime::from_unix_timestamp(at.unix_seconds()).map_err(|error| TbsError::Encoder(error.to_string()))
}

/// A key that keeps what it is asked to sign.
struct RecordingKey(RefCell<Vec<u8>>);

impl PublicKeyData for RecordingKey {
    fn der_bytes(&self) -> &[u8] {
        &[]
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for RecordingKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.replace(message.to_vec());
        Ok(Vec::new())
    }
}

fn encode(params: &CertificateParams) -> Result<Vec<u8>, TbsError> {
    let mut issuer_params = CertificateParams::default();
    issuer_params.distinguished_name = RcgenName::new();
    let issuer = Issuer::new(issuer_params, RecordingKey(RefCell::default()));
    params.signed_by(issuer.key(), &issuer).map_err(|error| TbsError::Encoder(error.to_string()))?;
    Ok(issuer.key().0.take())
}

struct Replaced<'a> {
    algorithm: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    spki: &'a [u8],
}

/// Puts the copied parts in place of what the encoder wrote.
fn replace(tbs: &[u8], with: &Replaced<'_>) -> Option<Vec<u8>> {
    let fields = Tlv::read_all(tbs)?.children()?;
    let [version, serial, _algorithm, _issuer, validity, _subject, _spki, extensions] = fields.as_slice() else {
        return None;
    };
    Some(tlv::write_all(
        tag::SEQUENCE,
        [version.raw, serial.raw, with.algorithm, with.issuer, validity.raw, with.subject, with.spki, extensions.raw],
    ))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;

    use super::*;

    // Made and taken apart by OpenSSL 3.0: `req -x509 -set_serial 0x9f3c…`, `asn1parse -strparse`.
    const TBS: &str = "MIIBHKADAgECAhEAnzwqd4HgS1Wm0cD/7hI0VjAKBggqhkjOPQQDAjASMRAwDgYDVQQDDAdGaXh0dXJlMB4XDTI2MTEyNTExMTcyNVoXDTI2MTIyNTExMTcyNVowEjEQMA4GA1UEAwwHRml4dHVyZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCvNfN/6aGp+lWoaItnKFAAJafwuKfXyuduKadpveKNRVPuzwMkZHo7jBVAKrK24t7rh68tgAh77HU7Yte+ZC72jUzBRMB0GA1UdDgQWBBSESN5O2pMfSDnM+jmwZFjGGq0nRTAfBgNVHSMEGDAWgBSESN5O2pMfSDnM+jmwZFjGGq0nRTAPBgNVHRMBAf8EBTADAQH/";
    const SIGNATURE: &str =
        "MEQCIHvgl+9B4IL0V9LImbvGsVPJKMPfvGROF5yevXhJ+ECmAiAQD3yujP64cmOi21Hm8HuiIN5lCFMVk2elZVSMiUoPYw==";
    const CERTIFICATE_SHA256: &str = "6055b37029b9b7788d309f4c8a968c1007a3733aa06b503d2e6cdbe8569433e2";

    fn fixture(text: &str) -> Vec<u8> {
        STANDARD.decode(text).expect("a fixture")
    }

    #[test]
    fn tbs_and_signature_give_the_certificate_that_openssl_made() {
        let certificate = assemble(&fixture(TBS), &fixture(SIGNATURE)).expect("a real TBS");
        assert_eq!(hex::encode(digest(&SHA256, &certificate)), CERTIFICATE_SHA256);
    }

    #[test]
    fn the_serial_is_read_from_the_tbs() {
        let serial = serial(&fixture(TBS)).expect("a real TBS").expect("128 bits");
        assert_eq!(serial.to_string(), "9f3c2a7781e04b55a6d1c0ffee123456");
    }

    #[test]
    fn a_tbs_that_is_cut_or_has_a_tail_is_refused() {
        let tbs = fixture(TBS);
        for length in 0..tbs.len() {
            assert_eq!(assemble(&tbs[..length], b"x"), Err(NotATbs), "{length} bytes");
        }
        assert_eq!(assemble(&[tbs, vec![0]].concat(), b"x"), Err(NotATbs));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, at: prop::sample::Index, octet: u8) {
            let _ = assemble(&bytes, &bytes);
            let _ = serial(&bytes);
            let mut tbs = fixture(TBS);
            let at = at.index(tbs.len());
            tbs[at] = octet;
            let _ = assemble(&tbs, b"x");
        }
    }
}
