//! Tokens whose holder is known: bounded, brief, and never longer than the token itself holds.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::Instant;

/// Most tokens that are known at once.
const KNOWN_MAX: usize = 4096;
/// How long a holder is known before the token is looked at again: so late a revoked token is refused at most.
pub(crate) const KNOWN_FOR: Duration = Duration::from_secs(30);

/// Holders by their token's digest.
pub(crate) struct Known<T> {
    holders: Mutex<HashMap<[u8; 32], (T, Instant)>>,
}

impl<T: Clone> Known<T> {
    pub(crate) fn new() -> Self {
        Self { holders: Mutex::default() }
    }

    pub(crate) fn find(&self, digest: &[u8; 32]) -> Option<T> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.get(digest).filter(|(_, until)| Instant::now() < *until).map(|(holder, _)| holder.clone())
    }

    /// Knows a holder for a while, but for `at_most`.
    pub(crate) fn keep(&self, digest: [u8; 32], holder: T, at_most: Duration) {
        let now = Instant::now();
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.len() >= KNOWN_MAX && !holders.contains_key(&digest) {
            holders.retain(|_, (_, until)| now < *until);
            if holders.len() >= KNOWN_MAX {
                return;
            }
        }
        holders.insert(digest, (holder, now + KNOWN_FOR.min(at_most)));
    }
}

/// What a token is known by.
pub(crate) fn digest_of(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_holder_is_known_for_a_while_never_longer_than_the_token_and_there_are_never_too_many() {
        let known = Known::new();
        known.keep([1; 32], 1, Duration::from_secs(3_600));
        known.keep([2; 32], 2, Duration::from_secs(5));
        assert_eq!((known.find(&[1; 32]), known.find(&[2; 32]), known.find(&[3; 32])), (Some(1), Some(2), None));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!((known.find(&[1; 32]), known.find(&[2; 32])), (Some(1), None));
        tokio::time::advance(KNOWN_FOR).await;
        assert_eq!(known.find(&[1; 32]), None);
        for number in 0..KNOWN_MAX + 100 {
            known.keep(digest_of(&number.to_string()), 3, KNOWN_FOR);
        }
        let count = known.holders.lock().unwrap().len();
        assert!(count <= KNOWN_MAX, "{count}");
    }
}
