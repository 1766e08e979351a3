//! Signed requests under way: so many in all, and of those that are still arriving so many from one address.
//!
//! A request has its place from before its body is read, so one that sends its body slowly holds it for as long as
//! a body may take: without a share of its own for each address, one could take all places. The share is about that
//! alone. Who was let in gives it back and keeps only its place among all: many clients stand behind one address, and
//! what holds some of them up (slow targets) must not turn the others away.
//!
//! Nor may an address hold more than a quarter of what is free while its requests arrive, so that few addresses do
//! not take all: each leaves four fifths of what it finds. What remains: some thirty addresses (a /59 of IPv6) that
//! send slowly do, for as long as a body may take, and as long as they go on. Nothing here tells them from thirty
//! slow clients; the limits on connections are what else stands against them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What part of the free places one address may hold while its requests arrive: one in so many.
const ARRIVING_OF_FREE: usize = 4;

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
            let share = self.most_arriving_from_one.min((self.most - now.all) / ARRIVING_OF_FREE).max(1);
            if own >= share {
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
        let under_way = UnderWay::new(16, 2);
        let first = under_way.enter(Some(1)).expect("a place");
        let second = under_way.enter(Some(1)).expect("a place");
        assert!(under_way.enter(Some(1)).is_none(), "this address has its share");
        let let_in = first.let_in();
        let third = under_way.enter(Some(1)).expect("who was let in left the share");
        let others: Vec<_> = (0..13).map(|_| under_way.enter(None).expect("without an address no share")).collect();
        assert!(under_way.enter(Some(2)).is_none(), "and all together are bounded");
        drop(let_in);
        let last = under_way.enter(Some(2)).expect("a place is free again");
        drop((second, third, others, last));
        assert!(under_way.now().arriving_from.is_empty() && under_way.now().all == 0);
    }

    #[test]
    fn few_addresses_that_arrive_slowly_leave_places_for_everybody_else() {
        let under_way = UnderWay::new(2048, 512);
        let mut held = Vec::new();
        for greedy in 0..8 {
            held.extend(std::iter::from_fn(|| under_way.enter(Some(greedy))));
        }
        let free = 2048 - held.len();
        assert!(free > 300, "{free}");
        let lone: Vec<_> = (100..200).map(|client| under_way.enter(Some(client)).expect("a place")).collect();
        drop((held, lone));
        let full: Vec<_> = (0..2047).map(|_| under_way.enter(None).expect("a place")).collect();
        let last = under_way.enter(Some(1));
        assert!(last.is_some(), "the last free place is anybody's");
        drop(full);
    }
}
