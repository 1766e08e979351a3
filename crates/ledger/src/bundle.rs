//! Entry bundles (C2SP tlog-tiles, log entries): up to 256 leaves, each behind its length.
//!
//! `u16` big-endian, then as many bytes, again and again; nothing before, between or after. Where a
//! bundle lies is told by [`Tile`](crate::tile::Tile) with [`Layer::Entries`](crate::tile::Layer).

use crate::{leaf::MAX_LEAF_BYTES, tile::WIDTH};

/// Why entries do not make a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// An entry is longer than its length can say.
    #[error("entry {entry} has {size} bytes: at most {MAX_LEAF_BYTES} fit a bundle")]
    EntryTooLarge {
        /// Which entry of the bundle.
        entry: usize,
        /// Its length in bytes.
        size: usize,
    },
    /// More entries than a bundle has.
    #[error("a bundle holds 1 to {WIDTH} entries, not {count}")]
    Count {
        /// How many there are.
        count: usize,
    },
}

/// Why bytes are no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The bytes end within an entry's length.
    #[error("bundle ends at byte {offset}, within the length of entry {entry}")]
    LengthCut {
        /// Where the length begins.
        offset: usize,
        /// Which entry of the bundle.
        entry: usize,
    },
    /// The bytes end within an entry.
    #[error("entry {entry} at byte {offset} says {length} bytes, but {left} are left in the bundle")]
    EntryCut {
        /// Where the entry's length begins.
        offset: usize,
        /// Which entry of the bundle.
        entry: usize,
        /// What its length says.
        length: usize,
        /// What is left after the length.
        left: usize,
    },
    /// More than a full bundle.
    #[error("bytes from {offset} on come after the {WIDTH} entries of a full bundle")]
    TooMany {
        /// Where the 257th entry begins.
        offset: usize,
    },
    /// Nothing at all: empty bundles do not exist.
    #[error("bundle is empty")]
    Empty,
}

/// Writes a bundle of 1 to 256 entries.
///
/// # Errors
///
/// [`PackError`] where there are fewer or more, or one is longer than 65,535 bytes.
pub fn encode<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, PackError> {
    if entries.is_empty() || entries.len() > usize::from(WIDTH) {
        return Err(PackError::Count { count: entries.len() });
    }
    let mut bytes = Vec::with_capacity(entries.iter().map(|entry| 2 + entry.as_ref().len()).sum());
    for (number, entry) in entries.iter().enumerate() {
        let entry = entry.as_ref();
        let Ok(length) = u16::try_from(entry.len()) else {
            return Err(PackError::EntryTooLarge { entry: number, size: entry.len() });
        };
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// The entries of a bundle, full or partial.
///
/// # Errors
///
/// [`BundleError`], which says at which byte.
pub fn decode(bytes: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    if bytes.is_empty() {
        return Err(BundleError::Empty);
    }
    entries(bytes).collect()
}

/// The entries of a bundle one by one; the first error is the last item. Nothing for no bytes.
#[must_use]
pub const fn entries(bytes: &[u8]) -> Entries<'_> {
    Entries { rest: bytes, offset: 0, entry: 0 }
}

/// The entries of a bundle, made by [`entries`].
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
    offset: usize,
    entry: usize,
}

impl<'a> Entries<'a> {
    /// At which byte the next entry's length begins.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    fn cut(&mut self, error: BundleError) -> Option<Result<&'a [u8], BundleError>> {
        self.rest = &[];
        Some(Err(error))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], BundleError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (offset, entry) = (self.offset, self.entry);
        if self.rest.is_empty() {
            return None;
        }
        if entry == usize::from(WIDTH) {
            return self.cut(BundleError::TooMany { offset });
        }
        let Some((length, rest)) = self.rest.split_first_chunk::<2>() else {
            return self.cut(BundleError::LengthCut { offset, entry });
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((found, rest)) = rest.split_at_checked(length) else {
            let left = rest.len();
            return self.cut(BundleError::EntryCut { offset, entry, length, left });
        };
        self.rest = rest;
        self.offset += 2 + length;
        self.entry += 1;
        Some(Ok(found))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_stands_behind_its_length_in_two_octets() {
        assert_eq!(encode(&[b"abc".as_slice(), b""]), Ok(b"\x00\x03abc\x00\x00".to_vec()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_byte() {
        assert_eq!(decode(b""), Err(BundleError::Empty));
        assert_eq!(decode(b"\x00\x01a\x00"), Err(BundleError::LengthCut { offset: 3, entry: 1 }));
        assert_eq!(
            decode(b"\x00\x01a\x01\x00bc"),
            Err(BundleError::EntryCut { offset: 3, entry: 1, length: 256, left: 2 })
        );
        let full = encode(&[b"x"; 256]).expect("fits");
        assert_eq!(decode(&full).map(|entries| entries.len()), Ok(256));
        assert_eq!(decode(&[full, vec![0]].concat()), Err(BundleError::TooMany { offset: 768 }));
    }

    #[test]
    fn a_bundle_has_at_most_256_entries_of_at_most_65535_bytes() {
        assert_eq!(encode::<&[u8]>(&[]), Err(PackError::Count { count: 0 }));
        assert_eq!(encode(&[b"x"; 257]), Err(PackError::Count { count: 257 }));
        assert_eq!(encode(&[vec![0; 65_536]]), Err(PackError::EntryTooLarge { entry: 0, size: 65_536 }));
        assert!(encode(&[vec![0; 65_535]]).is_ok());
    }

    proptest! {
        #[test]
        fn a_bundle_reads_back(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..=256)) {
            let bytes = encode(&entries).expect("fits");
            let read: Vec<Vec<u8>> = decode(&bytes).expect("our own").into_iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(read, entries);
        }

        #[test]
        fn whatever_decodes_is_spelled_as_it_would_be_encoded(bytes in prop::collection::vec(0u8..4, 0..60)) {
            if let Ok(entries) = decode(&bytes) {
                prop_assert_eq!(encode(&entries), Ok(bytes.clone()));
            }
        }
    }
}
