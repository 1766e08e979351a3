//! Tags, lengths and values as they lie in the bytes (X.690 §8.1): enough to walk DER and to splice it.
//!
//! Reading is lenient where DER is strict (lengths may be longer than needed, and the reader says
//! so), since a lint must be able to look at what it refuses. Tags above 30 and indefinite
//! lengths do not occur in a certificate and are not read.

/// UNIVERSAL tags, and the context-specific ones of a certificate, as they stand in the identifier octet.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const TELETEX_STRING: u8 = 0x14;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const VISIBLE_STRING: u8 = 0x1a;
    pub(crate) const UNIVERSAL_STRING: u8 = 0x1c;
    pub(crate) const BMP_STRING: u8 = 0x1e;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// The bit that says that the content is a row of further values.
    pub(crate) const CONSTRUCTED: u8 = 0x20;
    /// `[number]`, primitive.
    pub(crate) const fn context(number: u8) -> u8 {
        0x80 | number
    }

    /// `[number]`, constructed.
    pub(crate) const fn context_constructed(number: u8) -> u8 {
        0xa0 | number
    }
}

/// One value with its identifier and length octets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tlv<'a> {
    /// The identifier octet.
    pub(crate) tag: u8,
    /// The content octets.
    pub(crate) content: &'a [u8],
    /// Identifier, length and content.
    pub(crate) raw: &'a [u8],
    /// Whether the length is written in the fewest octets (X.690 §10.1).
    pub(crate) shortest_length: bool,
}

impl<'a> Tlv<'a> {
    /// The first value of `input`, and what lies behind it.
    pub(crate) fn read(input: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&tag, rest) = input.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest, shortest_length) = if first < 0x80 {
            (usize::from(first), rest, true)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (octets, rest) = rest.split_at_checked(count)?;
            let length = octets.iter().fold(0usize, |length, octet| length << 8 | usize::from(*octet));
            let shortest = octets.first().is_some_and(|octet| *octet != 0) && length >= 0x80;
            (length, rest, shortest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let raw = input.get(..input.len() - rest.len())?;
        Some((Self { tag, content, raw, shortest_length }, rest))
    }

    /// `input` as exactly one value.
    pub(crate) fn read_all(input: &'a [u8]) -> Option<Self> {
        match Self::read(input)? {
            (value, []) => Some(value),
            _ => None,
        }
    }

    /// The values inside; `None` if the content is not a row of values.
    pub(crate) fn children(&self) -> Option<Vec<Self>> {
        let mut children = Vec::with_capacity(8);
        let mut rest = self.content;
        while !rest.is_empty() {
            let (child, behind) = Self::read(rest)?;
            children.push(child);
            rest = behind;
        }
        Some(children)
    }

    /// The content, if the tag is `tag`.
    pub(crate) fn content_of(&self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }
}

/// Writes one value with the shortest length.
pub(crate) fn write(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = Vec::with_capacity(content.len() + 6);
    header(&mut der, tag, content.len());
    der.extend_from_slice(content);
    der
}

/// Appends identifier and length octets.
pub(crate) fn header(der: &mut Vec<u8>, tag: u8, length: usize) {
    der.push(tag);
    match u8::try_from(length) {
        Ok(short @ 0..0x80) => der.push(short),
        _ => {
            let octets = length.to_be_bytes();
            let significant: Vec<u8> = octets.iter().copied().skip_while(|octet| *octet == 0).collect();
            der.push(0x80 | u8::try_from(significant.len()).expect("a usize has at most eight octets"));
            der.extend_from_slice(&significant);
        }
    }
}

/// Writes a constructed value from the values inside.
pub(crate) fn write_all<'a>(tag: u8, children: impl IntoIterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let length = children.clone().into_iter().map(<[u8]>::len).sum();
    let mut der = Vec::with_capacity(length + 6);
    header(&mut der, tag, length);
    for child in children {
        der.extend_from_slice(child);
    }
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_at_every_width_of_length() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let der = write(tag::OCTET_STRING, &content);
            let value = Tlv::read_all(&der).expect("just written");
            assert_eq!((value.content, value.raw, value.shortest_length), (&content[..], &der[..], true));
        }
    }

    #[test]
    fn a_length_longer_than_needed_is_read_and_named() {
        for der in [&[4, 0x81, 1, 9][..], &[4, 0x82, 0, 1, 9]] {
            assert!(!Tlv::read_all(der).expect("readable").shortest_length);
        }
    }

    #[test]
    fn what_is_cut_short_is_not_read() {
        let der = write(tag::SEQUENCE, &[0; 300]);
        for length in 0..der.len() {
            assert!(Tlv::read(&der[..length]).is_none(), "{length} octets were read");
        }
        assert!(Tlv::read(&[0x30, 0x80, 0, 0]).is_none(), "an indefinite length was read");
    }
}
