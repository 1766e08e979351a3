//! Who gets room in a full line.

use kube::Resource;

use super::Line;

impl<K: Resource> Line<K> {
    /// Makes room in a full line for an object that `waits` for its issuer, or does not; false if it has to be left out.
    ///
    /// What waits makes way for what can be signed: a listing finds it again once its issuer is ready. UIDs are random, so
    /// whoever has most of what waits loses most of it.
    pub(super) fn make_room(&mut self, waits: bool) -> bool {
        self.left_out += 1;
        let displaced = if waits { None } else { self.parked.pop_first() };
        self.missed += usize::from(!waits && displaced.is_none());
        displaced.is_some_and(|uid| self.rows.remove(&uid).is_some())
    }

    /// Whether objects were left out, and a new listing would find room for them now.
    pub(crate) fn wants_listing(&self) -> bool {
        let half = self.limits.active.div_ceil(2);
        // What waits makes way; but listing again and again for more of what waits would help nobody.
        let busy = self.rows.len().saturating_sub(self.parked.len());
        let there_is_room = self.rows.len() < half || (self.missed > 0 && busy < half);
        self.left_out > 0 && (there_is_room || self.turned)
    }

    /// Whether objects were left out.
    pub(crate) const fn has_left_out(&self) -> bool {
        self.left_out > 0
    }
}
