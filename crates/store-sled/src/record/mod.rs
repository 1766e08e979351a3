//! Stored records: format octet, version, then a shape of that format in postcard.
//!
//! A newer format is refused by name rather than misread. Domain types carry no serde; they are
//! converted by full destructuring, so that a new field does not compile until it is mapped.

mod v1;

use chancery_acme::{
    authorization::Authorization,
    id::CertificateId,
    order::{Order, OrderState},
};
use chancery_authority::records::{CertificateRecord, Version, Versioned};
use chancery_pki::Timestamp;
use serde::{Deserialize, Serialize};

/// The format that is written.
const FORMAT: u8 = 1;

/// Why a stored value does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Written by a newer release.
    #[error("it has format {0}, written by a newer Chancery: use that one")]
    Newer(u8),
    /// Not what we write.
    #[error("it does not read: {0}")]
    Malformed(&'static str),
}

/// An order as it is stored: with what would else take keys of its own.
#[derive(Debug)]
pub(crate) struct OrderRow {
    pub(crate) order: Order,
    /// Its one certificate is taken.
    pub(crate) claimed: bool,
    /// Its pruning is owed.
    pub(crate) pruning: Option<Owed>,
    /// The authorizations that were valid when it became so, each with its own version. Nothing but
    /// their being given up changes them any more.
    pub(crate) settled: Vec<Versioned<Authorization>>,
}

/// When a job is due, and how often it was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) due: Timestamp,
    pub(crate) attempt: u32,
}

impl Owed {
    pub(crate) fn encode(self) -> Vec<u8> {
        let attempt = encode_number(u64::from(self.attempt));
        [self.due.unix_millis().to_le_bytes().as_slice(), &attempt].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (due, attempt) = bytes.split_first_chunk::<8>().ok_or(RecordError::Malformed("it has no time"))?;
        let attempt = u32::try_from(decode_number(attempt)?);
        Ok(Self {
            due: Timestamp::from_unix_millis(i64::from_le_bytes(*due)),
            attempt: attempt.map_err(|_| RecordError::Malformed("it was tried too often"))?,
        })
    }
}

impl OrderRow {
    /// The certificate that it tells of: its account's certificates are found through its orders.
    pub(crate) const fn certificate(&self) -> Option<CertificateId> {
        match self.order.state {
            OrderState::Processing { certificate } | OrderState::Valid { certificate } => Some(certificate),
            OrderState::Pending | OrderState::Ready | OrderState::Invalid { .. } => None,
        }
    }

    /// Whether this record is that certificate's, and the order's account is its own.
    pub(crate) fn tells_of(&self, record: &CertificateRecord) -> bool {
        self.certificate() == Some(record.id)
            && record.order == Some(self.order.id)
            && record.account == Some(self.order.account)
    }
}

/// A domain type that is stored.
pub(crate) trait Record: Sized {
    /// The shape it is stored in.
    type Shape<'a>: Serialize + Deserialize<'a>
    where
        Self: 'a;

    /// Into the shape.
    fn shape(&self) -> Self::Shape<'_>;
    /// Out of the shape, and of the identity that the key has.
    fn from_shape(id: [u8; 16], shape: Self::Shape<'_>) -> Result<Self, &'static str>;
}

/// The stored bytes of a record.
pub(crate) fn encode<T: Record>(version: Version, value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(192);
    out.push(FORMAT);
    let mut rest = version.0;
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
    postcard::to_extend(&value.shape(), out).expect("shapes are made of plain data, which always serializes")
}

/// Splits stored bytes into version and shape.
fn open(bytes: &[u8]) -> Result<(Version, &[u8]), RecordError> {
    let Some((format, mut rest)) = bytes.split_first() else { return Err(RecordError::Malformed("it is empty")) };
    match *format {
        FORMAT => {}
        0 => return Err(RecordError::Malformed("there is no format 0")),
        newer => return Err(RecordError::Newer(newer)),
    }
    let mut version = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((octet, left)) = rest.split_first() else { return Err(RecordError::Malformed("its version is cut")) };
        rest = left;
        version |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Ok((Version(version), rest));
        }
    }
    Err(RecordError::Malformed("its version is too long"))
}

/// The version alone: all that a check needs.
pub(crate) fn version(bytes: &[u8]) -> Result<Version, RecordError> {
    open(bytes).map(|(version, _)| version)
}

/// The whole record, from key and value.
pub(crate) fn decode<T: Record>(key: &[u8], bytes: &[u8]) -> Result<Versioned<T>, RecordError> {
    let id = key.last_chunk::<16>().ok_or(RecordError::Malformed("its key has no identity"))?;
    let (version, shape) = open(bytes)?;
    let (shape, rest) =
        postcard::take_from_bytes(shape).map_err(|_| RecordError::Malformed("its fields do not parse"))?;
    if !rest.is_empty() {
        return Err(RecordError::Malformed("bytes follow its last field"));
    }
    let value = T::from_shape(*id, shape).map_err(RecordError::Malformed)?;
    Ok(Versioned { value, version })
}

/// A number: counters and attempts.
pub(crate) fn encode_number(number: u64) -> Vec<u8> {
    number.to_le_bytes().iter().copied().take(8 - usize::try_from(number.leading_zeros() / 8).unwrap_or(0)).collect()
}

/// What [`encode_number`] wrote.
pub(crate) fn decode_number(bytes: &[u8]) -> Result<u64, RecordError> {
    let mut octets = [0; 8];
    let place = octets.get_mut(..bytes.len()).ok_or(RecordError::Malformed("a number has at most 8 octets"))?;
    place.copy_from_slice(bytes);
    Ok(u64::from_le_bytes(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_back() {
        for number in [0, 1, 255, 256, 65_536, u64::MAX] {
            assert_eq!(decode_number(&encode_number(number)), Ok(number));
        }
    }

    #[test]
    fn what_is_owed_reads_back() {
        for attempt in [0, 7, u32::MAX] {
            let owed = Owed { due: Timestamp::from_unix_millis(1_795_600_000_123), attempt };
            assert_eq!(Owed::decode(&owed.encode()), Ok(owed));
        }
    }

    #[test]
    fn a_record_of_a_newer_format_is_refused_by_name() {
        assert_eq!(version(&[2, 1, 0]), Err(RecordError::Newer(2)));
        assert_eq!(version(&[1, 0x85, 0x01]), Ok(Version(133)));
        assert!(matches!(version(&[]), Err(RecordError::Malformed(_))));
        assert!(matches!(version(&[1, 0xff]), Err(RecordError::Malformed(_))));
    }
}
