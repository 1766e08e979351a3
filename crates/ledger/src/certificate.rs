//! A certificate, put together from what the ledger holds: the TBS of its intent and the signature.
//!
//! Certificate bytes stand nowhere else (one copy), so this is how they are read. Just enough DER
//! for that; it never judges what is in the TBS.

use chancery_pki::SerialNumber;

/// DER tags that occur on the way (X.690 §8; RFC 5280 §4.1).
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const BIT_STRING: u8 = 0x03;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const VERSION: u8 = 0xa0;
}

/// The bytes are no TBSCertificate, as far as they were read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a TBSCertificate in DER")]
pub struct NotATbs;

/// The certificate in DER: `SEQUENCE { tbs, the algorithm that the tbs names, signature }`
/// (RFC 5280 §4.1.1; §4.1.1.2 demands that the two algorithms be the same).
///
/// # Errors
///
/// [`NotATbs`] where no algorithm can be found in `tbs`.
pub fn assemble(tbs: &[u8], signature: &[u8]) -> Result<Vec<u8>, NotATbs> {
    let algorithm = Tbs::read(tbs)?.algorithm;
    let bits = signature.len() + 1; // BIT STRING: one octet says that none of the last bits are unused
    let content = tbs.len() + algorithm.len() + header_length(bits) + bits;
    let mut certificate = Vec::with_capacity(header_length(content) + content);
    push_header(&mut certificate, tag::SEQUENCE, content);
    certificate.extend_from_slice(tbs);
    certificate.extend_from_slice(algorithm);
    push_header(&mut certificate, tag::BIT_STRING, bits);
    certificate.push(0);
    certificate.extend_from_slice(signature);
    Ok(certificate)
}

/// The serial number in a TBSCertificate; `None` where it is none of ours.
///
/// # Errors
///
/// [`NotATbs`] where none can be found in `tbs`.
pub fn serial(tbs: &[u8]) -> Result<Option<SerialNumber>, NotATbs> {
    Tbs::read(tbs).map(|tbs| SerialNumber::from_der_content(tbs.serial))
}

/// The beginning of a TBSCertificate (RFC 5280 §4.1).
struct Tbs<'a> {
    /// Content octets of the serial.
    serial: &'a [u8],
    /// The whole AlgorithmIdentifier.
    algorithm: &'a [u8],
}

impl<'a> Tbs<'a> {
    fn read(der: &'a [u8]) -> Result<Self, NotATbs> {
        let (tbs, after) = take(der, tag::SEQUENCE)?;
        if !after.is_empty() {
            return Err(NotATbs);
        }
        let rest =
            if tbs.content.first() == Some(&tag::VERSION) { take(tbs.content, tag::VERSION)?.1 } else { tbs.content };
        let (serial, rest) = take(rest, tag::INTEGER)?;
        let (algorithm, _) = take(rest, tag::SEQUENCE)?;
        Ok(Self { serial: serial.content, algorithm: algorithm.whole })
    }
}

/// One DER element.
struct Element<'a> {
    whole: &'a [u8],
    content: &'a [u8],
}

/// The element with this tag at the beginning of `der`, and what follows it.
fn take(der: &[u8], tag: u8) -> Result<(Element<'_>, &[u8]), NotATbs> {
    let [found, first, rest @ ..] = der else { return Err(NotATbs) };
    if *found != tag {
        return Err(NotATbs);
    }
    let (length, header) = match *first {
        short @ 0..=0x7f => (usize::from(short), 2),
        // Long form, at most four octets; definite lengths only (X.690 §10.1).
        long @ 0x81..=0x84 => {
            let octets = usize::from(long & 0x7f);
            let number = rest.get(..octets).ok_or(NotATbs)?;
            (number.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), 2 + octets)
        }
        _ => return Err(NotATbs),
    };
    let end = header.checked_add(length).ok_or(NotATbs)?;
    let (whole, after) = der.split_at_checked(end).ok_or(NotATbs)?;
    let content = whole.get(header..).ok_or(NotATbs)?;
    Ok((Element { whole, content }, after))
}

fn push_header(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    let octets = length.to_be_bytes();
    let first = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len() - 1);
    let octets = octets.get(first..).unwrap_or_default();
    match octets {
        [short @ 0..=0x7f] => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8)); // at most the eight of a usize
            out.extend_from_slice(long);
        }
    }
}

fn header_length(length: usize) -> usize {
    let mut header = Vec::with_capacity(10);
    push_header(&mut header, 0, length);
    header.len()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;

    use super::*;
    use crate::tree::sha256;

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
        assert_eq!(hex::encode(sha256(&[&certificate]).as_slice()), CERTIFICATE_SHA256);
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
