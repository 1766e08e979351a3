//! The ceremony's documents: the intermediate's CSR (RFC 2986), and for development alone a
//! throw-away root and the intermediate's certificate under it. Bytes to be signed go out, a
//! signature comes in.

use std::time::Duration;

use crate::{
    distinguished_name::DistinguishedName,
    key::{PublicKey, SignatureAlgorithm},
    serial::SerialNumber,
    tbs::key_identifier,
    time::{Timestamp, Validity},
    tlv::{self, tag},
};

/// The first year that UTCTime cannot write (RFC 5280 §4.1.2.5).
const YEAR_2050: i64 = 2_524_608_000;

/// A document of the ceremony whose body is to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToSign {
    body: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

impl ToSign {
    /// The bytes to be signed.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// By which algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The document with its signature, in DER.
    #[must_use]
    pub fn assemble(&self, signature: &[u8]) -> Vec<u8> {
        let mut bits = vec![0];
        bits.extend_from_slice(signature);
        let bits = tlv::write(tag::BIT_STRING, &bits);
        tlv::write_all(tag::SEQUENCE, [self.body.as_slice(), self.algorithm.algorithm_identifier_der(), &bits])
    }
}

/// The CSR for an intermediate: subject and key, nothing else. What the certificate will allow is the root's to say.
#[must_use]
pub fn csr(subject: &DistinguishedName, key: &PublicKey) -> ToSign {
    let version = tlv::write(tag::INTEGER, &[0]);
    let attributes = tlv::write(tag::context_constructed(0), &[]);
    let body = tlv::write_all(tag::SEQUENCE, [version.as_slice(), subject.der(), key.spki(), &attributes]);
    ToSign { body, algorithm: SignatureAlgorithm::default_for(key.kind()) }
}

/// A throw-away root for development: self-signed, one CA below it.
#[must_use]
pub fn development_root(
    subject: &DistinguishedName,
    key: &PublicKey,
    serial: SerialNumber,
    now: Timestamp,
    life: Duration,
) -> ToSign {
    ca_certificate(&CaCertificate {
        subject,
        key,
        issuer: subject,
        issuer_key: key,
        path_length: 1,
        serial,
        validity: from_now(now, life),
    })
}

/// The intermediate's certificate under a development root: no CA below it.
#[must_use]
pub fn development_intermediate(
    subject: &DistinguishedName,
    key: &PublicKey,
    root: (&DistinguishedName, &PublicKey),
    serial: SerialNumber,
    now: Timestamp,
    life: Duration,
) -> ToSign {
    ca_certificate(&CaCertificate {
        subject,
        key,
        issuer: root.0,
        issuer_key: root.1,
        path_length: 0,
        serial,
        validity: from_now(now, life),
    })
}

fn from_now(now: Timestamp, life: Duration) -> Validity {
    Validity::new(now, now.after(life)).expect("a duration does not go back")
}

struct CaCertificate<'a> {
    subject: &'a DistinguishedName,
    key: &'a PublicKey,
    issuer: &'a DistinguishedName,
    issuer_key: &'a PublicKey,
    path_length: u8,
    serial: SerialNumber,
    validity: Validity,
}

fn ca_certificate(certificate: &CaCertificate<'_>) -> ToSign {
    let algorithm = SignatureAlgorithm::default_for(certificate.issuer_key.kind());
    let version = tlv::write(tag::context_constructed(0), &tlv::write(tag::INTEGER, &[2]));
    let serial = tlv::write(tag::INTEGER, &certificate.serial.der_content());
    let validity = tlv::write_all(
        tag::SEQUENCE,
        [time(certificate.validity.not_before()).as_slice(), time(certificate.validity.not_after()).as_slice()],
    );
    let path_length = tlv::write(tag::INTEGER, &[certificate.path_length]);
    let ca = tlv::write(tag::BOOLEAN, &[0xff]);
    let constraints = tlv::write_all(tag::SEQUENCE, [ca.as_slice(), path_length.as_slice()]);
    // keyCertSign and cRLSign: bits 5 and 6 of one octet, one bit unused (RFC 5280 §4.2.1.3).
    let usage = tlv::write(tag::BIT_STRING, &[1, 0x06]);
    let own = tlv::write(tag::OCTET_STRING, &key_identifier(certificate.key));
    let above = tlv::write(tag::SEQUENCE, &tlv::write(tag::context(0), &key_identifier(certificate.issuer_key)));
    let extensions = [
        extension(&[0x55, 29, 19], true, &constraints),
        extension(&[0x55, 29, 15], true, &usage),
        extension(&[0x55, 29, 14], false, &own),
        extension(&[0x55, 29, 35], false, &above),
    ];
    let extensions = tlv::write_all(tag::SEQUENCE, extensions.iter().map(Vec::as_slice));
    let extensions = tlv::write(tag::context_constructed(3), &extensions);
    let body = tlv::write_all(
        tag::SEQUENCE,
        [
            version.as_slice(),
            &serial,
            algorithm.algorithm_identifier_der(),
            certificate.issuer.der(),
            &validity,
            certificate.subject.der(),
            certificate.key.spki(),
            &extensions,
        ],
    );
    ToSign { body, algorithm }
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let oid = tlv::write(tag::OBJECT_IDENTIFIER, oid);
    let flag = tlv::write(tag::BOOLEAN, &[0xff]);
    let value = tlv::write(tag::OCTET_STRING, value);
    if critical {
        tlv::write_all(tag::SEQUENCE, [oid.as_slice(), &flag, &value])
    } else {
        tlv::write_all(tag::SEQUENCE, [oid.as_slice(), &value])
    }
}

/// UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280 §4.1.2.5).
fn time(at: Timestamp) -> Vec<u8> {
    let digits: String = at.to_string().chars().filter(char::is_ascii_digit).collect();
    if at.unix_seconds() < YEAR_2050 {
        let short = digits.get(2..).unwrap_or_default();
        tlv::write(tag::UTC_TIME, format!("{short}Z").as_bytes())
    } else {
        tlv::write(tag::GENERALIZED_TIME, format!("{digits}Z").as_bytes())
    }
}
