//! Answers that wait for work under way: so many in all, so many of one account.
//!
//! A waiting answer holds a place among the requests that a door lets in at once, so whoever makes answers wait
//! (slow targets, asked about again and again) must not be able to take all of them. An answer without a place
//! here does not wait: it says `processing`, and its client polls.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chancery_acme::id::AccountId;
use tokio::time::timeout;

use crate::{office::Office, settings::Limits};

/// Who waits.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    all: usize,
    of: HashMap<AccountId, usize>,
}

impl Waits {
    fn enter(&self, account: AccountId, limits: &Limits) -> Option<Place<'_>> {
        let mut waiting = self.waiting();
        let own = waiting.of.get(&account).copied().unwrap_or(0);
        if waiting.all >= limits.waiting_answers || own >= limits.waiting_answers_per_account {
            return None;
        }
        waiting.all += 1;
        waiting.of.insert(account, own + 1);
        Some(Place { waits: self, account })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one waiting answer; free again when it is dropped.
struct Place<'a> {
    waits: &'a Waits,
    account: AccountId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waits.waiting();
        waiting.all = waiting.all.saturating_sub(1);
        let own = waiting.of.get(&self.account).copied().unwrap_or(0);
        if own > 1 {
            waiting.of.insert(self.account, own - 1);
        } else {
            waiting.of.remove(&self.account);
        }
    }
}

impl Office {
    /// What work under way comes to within the bounded wait of an answer to this account. `None` if the wait ended
    /// first, or if too many answers wait already.
    pub(crate) async fn wait_for<T>(&self, account: AccountId, work: impl Future<Output = T>) -> Option<T> {
        let limits = &self.settings().limits;
        let _place = self.waits().enter(account, limits)?;
        timeout(limits.answer_wait, work).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_account_and_free_again_when_the_wait_ends() {
        let waits = Waits::default();
        let limits = Limits { waiting_answers: 3, waiting_answers_per_account: 2, ..Limits::default() };
        let [one, two, three] = [1, 2, 3].map(|number| AccountId::from_random([number; 16]));
        let first = waits.enter(one, &limits).expect("a place");
        let second = waits.enter(one, &limits).expect("a place");
        assert!(waits.enter(one, &limits).is_none(), "this account has its share");
        let third = waits.enter(two, &limits).expect("another account has its own");
        assert!(waits.enter(three, &limits).is_none(), "and all together are bounded");
        drop(first);
        let fourth = waits.enter(three, &limits).expect("a place is free again");
        drop((second, third, fourth));
        assert!(waits.waiting().of.is_empty() && waits.waiting().all == 0);
    }
}
