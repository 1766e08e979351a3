//! Signed requests under way: so many in all, and of those so many from one address.
//!
//! A request has its place from before its body is read, so one that sends its body slowly holds it for as long as
//! a body may take: without a share of its own for each address, one could take all places.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Who is under way.
pub(crate) struct UnderWay {
    most: usize,
    most_from_one: usize,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    all: usize,
    from: HashMap<u64, usize>,
}

/// The place of one request; free again when it is dropped.
pub(crate) struct Place<'a> {
    under_way: &'a UnderWay,
    from: Option<u64>,
}

impl UnderWay {
    pub(crate) fn new(most: usize, most_from_one: usize) -> Self {
        Self { most, most_from_one, now: Mutex::default() }
    }

    /// A place for a request from this client, where its address is known. `None` if there is none left for it.
    pub(crate) fn enter(&self, from: Option<u64>) -> Option<Place<'_>> {
        let mut now = self.now();
        if now.all >= self.most {
            return None;
        }
        if let Some(client) = from {
            let own = now.from.get(&client).copied().unwrap_or(0);
            if own >= self.most_from_one {
                return None;
            }
            now.from.insert(client, own + 1);
        }
        now.all += 1;
        Some(Place { under_way: self, from })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut now = self.under_way.now();
        now.all = now.all.saturating_sub(1);
        if let Some(client) = self.from {
            let own = now.from.get(&client).copied().unwrap_or(0);
            if own > 1 {
                now.from.insert(client, own - 1);
            } else {
                now.from.remove(&client);
            }
        }
    }
}
