//! What sled surely does not have: a Bloom filter over the keys that are looked up to be absent.
//!
//! Every new order, authorization and certificate is first looked for, and not found; in a large
//! index each of these would read a page from the disk. The filter is made behind a start and kept
//! by the sweeps; until it is there, sled is asked.

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use crate::key::class;

/// Bits for each key that it is made for: with six probes one answer in some fifty is "perhaps" in vain.
const BITS_PER_KEY: u64 = 10;
const PROBES: u64 = 6;
/// It is made for at least so many keys.
const KEYS_MIN: u64 = 200_000;

/// The filter, once it is made.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    made: RwLock<Option<Filter>>,
}

#[derive(Debug)]
struct Filter {
    bits: Vec<AtomicU64>,
    keys: AtomicU64,
    /// More keys than that, and it is made anew, larger.
    most: u64,
}

/// Whether keys of this class are in the filter.
pub(crate) const fn covers(key_class: u8) -> bool {
    matches!(
        key_class,
        class::ACCOUNT
            | class::ACCOUNT_CERTIFICATE
            | class::ACCOUNT_KEY
            | class::AUTHORIZATION
            | class::CERTIFICATE
            | class::CLAIM
            | class::COUNTER
            | class::IDEMPOTENCY
            | class::JOB
            | class::JOB_DUE
            | class::ORDER
            | class::SERIAL
    )
}

/// The classes that it covers, in order.
pub(crate) const COVERED: [u8; 12] = [
    class::COUNTER,
    class::ACCOUNT,
    class::CERTIFICATE,
    class::JOB_DUE,
    class::IDEMPOTENCY,
    class::JOB,
    class::CLAIM,
    class::ORDER,
    class::ACCOUNT_CERTIFICATE,
    class::SERIAL,
    class::AUTHORIZATION,
    class::ACCOUNT_KEY,
];

impl Absent {
    /// Whether a key is surely not in sled.
    pub(crate) fn is_surely(&self, key: &[u8]) -> bool {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        let (Some(filter), Some(of)) = (&*made, key.first()) else { return false };
        covers(*of) && !filter.may_have(key)
    }

    /// Takes in a key before it is written to sled.
    pub(crate) fn add(&self, key: &[u8]) {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        if let (Some(filter), Some(of)) = (&*made, key.first())
            && covers(*of)
        {
            filter.add(key);
        }
    }

    /// Whether it must be made, or made larger.
    pub(crate) fn is_due(&self) -> bool {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        made.as_ref().is_none_or(|filter| filter.keys.load(Ordering::Relaxed) > filter.most)
    }

    /// Makes it anew. Nothing may be written to sled meanwhile; `count` keys come from `each`, which
    /// is asked twice: first to count them.
    pub(crate) fn make<E>(&self, each: impl Fn(&mut dyn FnMut(&[u8])) -> Result<(), E>) -> Result<(), E> {
        let mut count = 0u64;
        each(&mut |_| count += 1)?;
        let most = count.saturating_mul(2).max(KEYS_MIN);
        let words = usize::try_from(most * BITS_PER_KEY / 64).unwrap_or(0).max(1);
        let mut bits = Vec::with_capacity(words);
        bits.resize_with(words, AtomicU64::default);
        let filter = Filter { bits, keys: AtomicU64::new(0), most };
        each(&mut |key| filter.add(key))?;
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = Some(filter);
        Ok(())
    }

    /// Forgets everything: sled has changed in a way that it was not told.
    pub(crate) fn forget(&self) {
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Filter {
    fn probes(&self, key: &[u8]) -> impl Iterator<Item = (usize, u64)> {
        // Two independent halves make all probes (Kirsch and Mitzenmacher, 2008).
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for octet in key {
            hash = (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let (one, two) = (mix(hash), mix(hash ^ 0x9e37_79b9_7f4a_7c15) | 1);
        let bits = u64::try_from(self.bits.len()).unwrap_or(1) * 64;
        (0..PROBES).map(move |probe| {
            let bit = one.wrapping_add(probe.wrapping_mul(two)) % bits;
            (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
        })
    }

    fn add(&self, key: &[u8]) {
        let mut new = false;
        for (word, bit) in self.probes(key) {
            if let Some(word) = self.bits.get(word) {
                new |= word.fetch_or(bit, Ordering::Relaxed) & bit == 0;
            }
        }
        self.keys.fetch_add(u64::from(new), Ordering::Relaxed);
    }

    fn may_have(&self, key: &[u8]) -> bool {
        self.probes(key)
            .all(|(word, bit)| self.bits.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0))
    }
}

/// The finalizer of splitmix64: every bit of the input moves every bit of the output.
const fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Vec<u8> {
        [[class::ORDER].as_slice(), &mix(number).to_be_bytes(), &mix(!number).to_be_bytes()].concat()
    }

    #[test]
    fn a_key_that_is_there_is_never_surely_absent_and_most_others_are() {
        let absent = Absent::default();
        assert!(absent.is_due() && !absent.is_surely(&key(1)), "before it is made nothing is sure");
        let made = absent.make(|each| {
            (0..100_000).for_each(|number| each(&key(number)));
            Ok::<(), ()>(())
        });
        made.expect("nothing fails");
        (100_000..200_000).for_each(|number| absent.add(&key(number)));
        assert!((0..200_000).all(|number| !absent.is_surely(&key(number))));
        let in_vain = (300_000..400_000).filter(|number| !absent.is_surely(&key(*number))).count();
        assert!(in_vain < 3_000, "{in_vain} of 100,000");
        assert!(!absent.is_surely(&[class::CERTIFICATE_NAME, 1]), "a class that it does not cover");
        assert!(!absent.is_due());
        (400_000..500_000).for_each(|number| absent.add(&key(number)));
        assert!(absent.is_due(), "it is too full");
    }

    #[test]
    fn the_list_of_classes_is_what_is_covered() {
        assert!(COVERED.into_iter().all(covers));
        assert_eq!((0..=255).filter(|of| covers(*of)).count(), COVERED.len());
        assert!(COVERED.is_sorted());
    }
}
