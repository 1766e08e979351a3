//! Anti-replay nonces (RFC 8555 §6.5, §7.2), without a table of those that were issued.
//!
//! A nonce is a sequence number and the time it was issued, under a MAC whose key is random in
//! each process. What is remembered is one bit for each: whether it was spent. A nonce is good
//! once, for [`LIFETIME`], in the process that issued it; a restart makes all of them bad, and
//! clients are told a fresh one, as the RFC wants it.
//!
//! Memory is bounded by [`CHUNKS_MAX`]: when more nonces are issued within their lifetime than
//! the bits can tell apart, the oldest become bad early. Forgetting always means refusing.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_pki::Timestamp;

/// How long a nonce is good.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);
/// Nonces whose bits stand in one chunk (8 KiB).
const CHUNK: u64 = 1 << 16;
/// Words of 64 bits in a chunk.
const WORDS: usize = 1 << 10;
/// Most chunks kept: 67 million nonces, 8 MiB.
const CHUNKS_MAX: usize = 1 << 10;
/// Sequence number (8) and milliseconds since the Unix epoch (6).
const BODY: usize = 14;
/// Half a SHA-256, as HMAC may be truncated to (RFC 2104 §5).
const TAG: usize = 16;
/// Octets of a nonce; a multiple of three, so its text has no bits left over.
const OCTETS: usize = BODY + TAG;

/// Why a nonce is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NonceRejection {
    /// None at all.
    #[error("the protected header has no nonce; use the fresh one in Replay-Nonce")]
    Missing,
    /// Not base64url (§6.5.2).
    #[error("the nonce is not base64url without padding (RFC 8555 §6.5.2)")]
    NotBase64Url,
    /// Not one that this process issued.
    #[error("the nonce is not one of this server's; use the fresh one in Replay-Nonce")]
    Unknown,
    /// Spent already.
    #[error("the nonce was used before; use the fresh one in Replay-Nonce")]
    Spent,
    /// Too old.
    #[error("the nonce is too old; use the fresh one in Replay-Nonce")]
    Expired,
}

/// The nonces of one process.
pub(crate) struct Nonces {
    key: hmac::Key,
    next: AtomicU64,
    spent: Mutex<Spent>,
}

/// Which nonces were spent, in chunks by sequence number.
struct Spent {
    /// The number of the first chunk that is kept; what lies before it is bad.
    first: u64,
    chunks: VecDeque<Chunk>,
}

struct Chunk {
    /// When its first nonce was issued, so that its predecessor's last one is no younger.
    opened: Timestamp,
    /// One bit for each nonce; none as long as none was spent.
    bits: Option<Box<[u64; WORDS]>>,
}

impl Nonces {
    /// Nonces under a key that is random and used nowhere else.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            next: AtomicU64::new(0),
            spent: Mutex::new(Spent { first: 0, chunks: VecDeque::new() }),
        }
    }

    /// A nonce that was never issued before.
    pub(crate) fn issue(&self, now: Timestamp) -> String {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        if sequence.is_multiple_of(CHUNK) {
            self.lock().open(sequence / CHUNK, now);
        }
        let mut octets = [0; OCTETS];
        let (body, tag) = octets.split_at_mut(BODY);
        let (number, time) = body.split_at_mut(8);
        number.copy_from_slice(&sequence.to_be_bytes());
        // Timestamps end in the year 9999, below 2^48 milliseconds.
        time.copy_from_slice(now.unix_millis().to_be_bytes().last_chunk::<6>().expect("six of eight octets"));
        tag.copy_from_slice(hmac::sign(&self.key, body).as_ref().first_chunk::<TAG>().expect("SHA-256 has 32 octets"));
        URL_SAFE_NO_PAD.encode(octets)
    }

    /// Spends a nonce. Whoever calls twice is refused the second time, whatever became of the first.
    pub(crate) fn spend(&self, nonce: &str, now: Timestamp) -> Result<(), NonceRejection> {
        let mut octets = [0; OCTETS];
        match URL_SAFE_NO_PAD.decode_slice(nonce, &mut octets) {
            Ok(OCTETS) => {}
            Ok(_) => return Err(NonceRejection::Unknown),
            Err(_) if URL_SAFE_NO_PAD.decode(nonce).is_ok() => return Err(NonceRejection::Unknown), // too long
            Err(_) => return Err(NonceRejection::NotBase64Url),
        }
        let (body, tag) = octets.split_at(BODY);
        let expected = hmac::sign(&self.key, body);
        let expected = expected.as_ref().first_chunk::<TAG>().expect("SHA-256 has 32 octets");
        constant_time::verify_slices_are_equal(expected, tag).map_err(|_| NonceRejection::Unknown)?;
        let (number, time) = body.split_at(8);
        let sequence = u64::from_be_bytes(number.try_into().expect("eight octets"));
        let mut millis = [0; 8];
        millis.iter_mut().skip(2).zip(time).for_each(|(to, from)| *to = *from);
        let issued = Timestamp::from_unix_millis(i64::from_be_bytes(millis));
        let mut spent = self.lock();
        spent.forget(now);
        if now.since(issued) > LIFETIME {
            return Err(NonceRejection::Expired);
        }
        spent.mark(sequence, now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Spent> {
        // Nothing in here panics half-way; bits stay meaningful.
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn octets_kept(&self) -> usize {
        let spent = self.lock();
        spent.chunks.iter().filter(|chunk| chunk.bits.is_some()).count() * WORDS * 8
            + spent.chunks.capacity() * size_of::<Chunk>()
    }
}

impl Spent {
    /// Makes room for a chunk and those before it; drops the oldest beyond [`CHUNKS_MAX`].
    fn open(&mut self, chunk: u64, now: Timestamp) {
        while self.end() <= chunk {
            self.chunks.push_back(Chunk { opened: now, bits: None });
            if self.chunks.len() > CHUNKS_MAX {
                self.drop_first();
            }
        }
        self.forget(now);
    }

    fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    /// Drops the chunks in which every nonce has expired.
    fn forget(&mut self, now: Timestamp) {
        while self.chunks.get(1).is_some_and(|next| now.since(next.opened) > LIFETIME) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if self.chunks.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn mark(&mut self, sequence: u64, now: Timestamp) -> Result<(), NonceRejection> {
        let chunk = sequence / CHUNK;
        self.open(chunk, now);
        let index = chunk.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(chunk) = index.and_then(|index| self.chunks.get_mut(index)) else {
            return Err(NonceRejection::Expired);
        };
        let bits = chunk.bits.get_or_insert_with(|| Box::new([0; WORDS]));
        let within = sequence % CHUNK;
        let word = usize::try_from(within / 64).ok().and_then(|word| bits.get_mut(word));
        let (word, bit) = (word.expect("a chunk has a word for each 64 of its nonces"), 1 << (within % 64));
        if *word & bit != 0 {
            return Err(NonceRejection::Spent);
        }
        *word |= bit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_600_000).after(Duration::from_secs(seconds))
    }

    fn nonces() -> Nonces {
        Nonces::new(&[7; 32])
    }

    #[test]
    fn a_nonce_is_good_once() {
        let nonces = nonces();
        let nonce = nonces.issue(at(0));
        assert_eq!(nonces.spend(&nonce, at(1)), Ok(()));
        assert_eq!(nonces.spend(&nonce, at(1)), Err(NonceRejection::Spent));
        assert_eq!(nonces.spend(&nonce, at(3600)), Err(NonceRejection::Spent));
    }

    #[test]
    fn nonces_are_spent_in_any_order_each_once_and_never_again_after_they_expired_twice_over() {
        let nonces = nonces();
        let issued: Vec<String> = (0..200_000).map(|n| nonces.issue(at(n / 1000))).collect();
        assert_eq!(issued.iter().collect::<BTreeSet<_>>().len(), issued.len(), "every nonce is another");
        for nonce in issued.iter().rev().step_by(2) {
            assert_eq!(nonces.spend(nonce, at(200)), Ok(()));
        }
        for (n, nonce) in issued.iter().rev().enumerate() {
            let expected = if n % 2 == 0 { Err(NonceRejection::Spent) } else { Ok(()) };
            assert_eq!(nonces.spend(nonce, at(201)), expected);
        }
        for hours in [2, 3] {
            let later = at(3600 * hours);
            for nonce in issued.iter().step_by(999) {
                assert_eq!(nonces.spend(nonce, later), Err(NonceRejection::Expired));
            }
            let fresh = nonces.issue(later);
            assert_eq!(nonces.spend(&fresh, later), Ok(()));
            assert_eq!(nonces.spend(&fresh, later), Err(NonceRejection::Spent));
        }
    }

    #[test]
    fn a_nonce_lives_an_hour_and_no_longer() {
        let nonces = nonces();
        let (early, late) = (nonces.issue(at(0)), nonces.issue(at(0)));
        assert_eq!(nonces.spend(&early, at(3600)), Ok(()));
        assert_eq!(nonces.spend(&late, at(3601)), Err(NonceRejection::Expired));
    }

    #[test]
    fn a_clock_that_jumped_back_neither_revives_nor_kills_a_nonce() {
        let nonces = nonces();
        let (spent, fresh) = (nonces.issue(at(7200)), nonces.issue(at(7200)));
        assert_eq!(nonces.spend(&spent, at(7200)), Ok(()));
        assert_eq!(nonces.spend(&spent, at(0)), Err(NonceRejection::Spent));
        assert_eq!(nonces.spend(&fresh, at(0)), Ok(()));
    }

    #[test]
    fn a_nonce_of_another_process_or_with_any_bit_changed_is_unknown() {
        let nonces = nonces();
        let good = nonces.issue(at(0));
        assert_eq!(Nonces::new(&[8; 32]).spend(&good, at(0)), Err(NonceRejection::Unknown));
        let octets = URL_SAFE_NO_PAD.decode(&good).expect("our own");
        for bit in 0..octets.len() * 8 {
            let mut changed = octets.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(nonces.spend(&changed, at(0)), Err(NonceRejection::Unknown), "bit {bit}");
        }
        assert_eq!(nonces.spend(&good, at(0)), Ok(()), "none of that spent it");
    }

    #[test]
    fn a_nonce_that_is_not_base64url_is_malformed_and_one_of_another_length_unknown() {
        let nonces = nonces();
        for text in ["a b", "AAA=", "ä", "AAA+", "A"] {
            assert_eq!(nonces.spend(text, at(0)), Err(NonceRejection::NotBase64Url), "{text}");
        }
        for text in ["", "AAAA", &"A".repeat(44), &"A".repeat(4000)] {
            assert_eq!(nonces.spend(text, at(0)), Err(NonceRejection::Unknown), "{text}");
        }
    }

    #[test]
    fn memory_is_bounded_however_many_are_issued_and_the_oldest_go_first() {
        let nonces = nonces();
        let oldest = nonces.issue(at(0));
        let mut newest = oldest.clone();
        for chunk in 1..=2 * CHUNKS_MAX as u64 {
            // As if all nonces of the chunk before had been issued: only the number counts.
            nonces.next.store(chunk * CHUNK, Ordering::Relaxed);
            newest = nonces.issue(at(1));
            assert_eq!(nonces.spend(&newest, at(1)), Ok(()));
        }
        assert!(nonces.octets_kept() <= CHUNKS_MAX * WORDS * 8 + (1 << 17), "{}", nonces.octets_kept());
        assert_eq!(nonces.spend(&oldest, at(1)), Err(NonceRejection::Expired), "forgotten means refused");
        assert_eq!(nonces.spend(&newest, at(1)), Err(NonceRejection::Spent));
        nonces.spend(&nonces.issue(at(7300)), at(7300)).expect("fresh");
        assert!(nonces.octets_kept() <= 2 * WORDS * 8 + (1 << 17), "what expired is dropped");
    }

    #[test]
    fn threads_that_race_for_one_nonce_spend_it_once() {
        let nonces = nonces();
        for _ in 0..200 {
            let nonce = nonces.issue(at(0));
            let won = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..4).map(|_| scope.spawn(|| nonces.spend(&nonce, at(0)).is_ok())).collect();
                racers.into_iter().filter_map(|racer| racer.join().ok()).filter(|won| *won).count()
            });
            assert_eq!(won, 1);
        }
    }
}
