//! DER taken apart one level at a time, each element kept whole.

use der::{
    Decode, Reader, SliceReader, Tag, Tagged,
    asn1::{AnyRef, ObjectIdentifier},
};

/// The octets are not what was expected.
pub(super) struct Unreadable;

/// The first element of `octets`, whole, and what follows it.
pub(super) fn first(octets: &[u8]) -> Result<(&[u8], &[u8]), Unreadable> {
    let mut reader = SliceReader::new(octets).map_err(|_| Unreadable)?;
    let element = reader.tlv_bytes().map_err(|_| Unreadable)?;
    Ok((element, octets.get(element.len()..).unwrap_or_default()))
}

/// The elements, each whole, of the one constructed element that `der` is.
pub(super) fn elements(der: &[u8], tag: Tag) -> Result<Vec<&[u8]>, Unreadable> {
    let outer = AnyRef::from_der(der).map_err(|_| Unreadable)?;
    if outer.tag() != tag {
        return Err(Unreadable);
    }
    let mut rest = outer.value();
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (element, after) = first(rest)?;
        elements.push(element);
        rest = after;
    }
    Ok(elements)
}

/// As [`elements`], when their number is known.
pub(super) fn exactly<const N: usize>(der: &[u8], tag: Tag) -> Result<[&[u8]; N], Unreadable> {
    elements(der, tag)?.try_into().map_err(|_| Unreadable)
}

pub(super) fn object_identifier(der: &[u8]) -> Result<ObjectIdentifier, Unreadable> {
    ObjectIdentifier::from_der(der).map_err(|_| Unreadable)
}
