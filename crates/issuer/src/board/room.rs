//! Who gets room on a full board.

use super::{Board, State, Uid};

/// Requests of a namespace that are looked at for one that waits, before any other is taken.
const LOOKED_AT: usize = 64;

impl Board {
    /// Makes room for a request that `waits` for its issuer, or does not; false if it has to be left out.
    pub(super) fn make_room(&mut self, namespace: &str, cost: usize, waits: bool) -> bool {
        while self.shares.cost() + cost > self.limits.active {
            let victim = match self.shares.largest() {
                Some((largest, its)) if largest != namespace && self.shares.of(namespace) + cost < its => {
                    self.waiting_of(largest).or_else(|| self.idle_of(largest))
                }
                // Within one namespace what can be signed comes before what waits.
                Some(_) if !waits => self.waiting_of(namespace),
                _ => None,
            };
            self.left_out += 1;
            let Some(victim) = victim else {
                self.missed += usize::from(!waits);
                return false;
            };
            self.missed += usize::from(self.state(&victim) != Some(State::Waiting));
            self.forget(&victim);
        }
        true
    }

    /// One of a namespace's requests that waits for its issuer.
    fn waiting_of(&self, namespace: &str) -> Option<Uid> {
        let mut first = self.shares.uids(namespace).take(LOOKED_AT);
        first.find(|uid| self.state(uid) == Some(State::Waiting)).cloned()
    }

    /// One that nobody works on.
    fn idle_of(&self, namespace: &str) -> Option<Uid> {
        let mut all = self.shares.uids(namespace);
        all.find(|uid| !matches!(self.state(uid), Some(State::Running { .. }))).cloned()
    }

    /// How many requests found no room since the last listing.
    pub(crate) const fn left_out(&self) -> usize {
        self.left_out
    }

    /// Whether requests were left out, and a new listing would find room for them now.
    pub(crate) fn wants_listing(&self) -> bool {
        let waiting: usize = self.waiting.values().map(std::collections::HashSet::len).sum();
        let busy = self.entries.len().saturating_sub(waiting);
        let there_is_room = self.missed > 0 && busy < self.limits.active / 2;
        // What waited may not have to wait any more.
        self.left_out > 0 && (there_is_room || self.turned)
    }
}
