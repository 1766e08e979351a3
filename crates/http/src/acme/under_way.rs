//! Signed requests under way: so many in all, and of those that are still arriving so many from one address.
//!
//! A request has its place from before its body is read, so one that sends its body slowly holds it for as long as
//! a body may take: without a share of its own for each address, one could take all places. The share is about that
//! alone. Who was let in gives it back and keeps only its place among all: many clients stand behind one address, and
//! what holds some of them up (slow targets) must not turn the others away.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Who is under way.
pub(crate) struct UnderWay {
    most: usize,
    most_arriving_from_one: usize,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    all: usize,
    arriving_from: HashMap<u64, usize>,
}

/// The place of a request that is not let in yet; free again when it is dropped.
pub(crate) struct Arriving<'a> {
    _share: Option<Share<'a>>,
    place: Place<'a>,
}

/// The place of one request; free again when it is dropped.
pub(crate) struct Place<'a>(&'a UnderWay);

/// One of the places that an address may hold while its requests arrive.
struct Share<'a> {
    under_way: &'a UnderWay,
    of: u64,
}

impl UnderWay {
    pub(crate) fn new(most: usize, most_arriving_from_one: usize) -> Self {
        Self { most, most_arriving_from_one, now: Mutex::default() }
    }

    /// A place for a request from this client, where its address is known. `None` if there is none left for it.
    pub(crate) fn enter(&self, from: Option<u64>) -> Option<Arriving<'_>> {
        let mut now = self.now();
        if now.all >= self.most {
            return None;
        }
        if let Some(client) = from {
            let own = now.arriving_from.get(&client).copied().unwrap_or(0);
            if own >= self.most_arriving_from_one {
                return None;
            }
            now.arriving_from.insert(client, own + 1);
        }
        now.all += 1;
        Some(Arriving { _share: from.map(|of| Share { under_way: self, of }), place: Place(self) })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Arriving<'a> {
    /// The request is genuine: it leaves its address's share.
    pub(crate) fn let_in(self) -> Place<'a> {
        self.place
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut now = self.0.now();
        now.all = now.all.saturating_sub(1);
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut now = self.under_way.now();
        let own = now.arriving_from.get(&self.of).copied().unwrap_or(0);
        if own > 1 {
            now.arriving_from.insert(self.of, own - 1);
        } else {
            now.arriving_from.remove(&self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_address_that_arrives_and_nobody_is_remembered() {
        let under_way = UnderWay::new(4, 2);
        let first = under_way.enter(Some(1)).expect("a place");
        let second = under_way.enter(Some(1)).expect("a place");
        assert!(under_way.enter(Some(1)).is_none(), "this address has its share");
        let let_in = first.let_in();
        let third = under_way.enter(Some(1)).expect("who was let in left the share");
        let fourth = under_way.enter(None).expect("without an address there is no share");
        assert!(under_way.enter(Some(2)).is_none(), "and all together are bounded");
        drop(let_in);
        let fifth = under_way.enter(Some(2)).expect("a place is free again");
        drop((second, third, fourth, fifth));
        assert!(under_way.now().arriving_from.is_empty() && under_way.now().all == 0);
    }
}
