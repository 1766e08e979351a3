//! What readers see: the overlay over the frozen overlay over sled, and the leaves that no bundle has yet.
//!
//! Everything in here is synced. Nothing else reads sled.

use std::{
    collections::VecDeque,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use chancery_ledger::{Frontier, Hash};

use crate::{
    index::{Entry, Index},
    journal::{Damage, Frame, Place, Results},
    key::Key,
};

/// Entries that one look at each layer takes from it.
const CHUNK: usize = 128;
/// What an entry costs in memory beside its octets, about: the map's node, the reference count.
const ENTRY_BYTES: usize = 64;

#[derive(Debug)]
pub(crate) struct View {
    memory: RwLock<Memory>,
    pub(crate) index: Index,
}

#[derive(Debug)]
struct Memory {
    live: Results,
    live_bytes: usize,
    frozen: Option<Arc<Frozen>>,
    /// Leaves from `first_leaf` on, to the end of the tree.
    leaves: VecDeque<Arc<[u8]>>,
    first_leaf: u64,
    leaf_bytes: usize,
    frontier: Frontier,
    next: Place,
}

/// An overlay that is being swept: it changes no more.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) results: Results,
    bytes: usize,
    /// The tree at its end.
    pub(crate) frontier: Frontier,
    /// Where the journal went on after it.
    pub(crate) next: Place,
    /// The leaves that no bundle has yet, from the frontier of the bundles on.
    pub(crate) leaves: Vec<Arc<[u8]>>,
    pub(crate) first_leaf: u64,
}

impl View {
    /// Over an index, with the tree as the bundles have it, where the journal goes on.
    pub(crate) fn new(index: Index, frontier: Frontier, next: Place) -> Self {
        let memory = Memory {
            live: Results::new(),
            live_bytes: 0,
            frozen: None,
            leaves: VecDeque::new(),
            first_leaf: frontier.size(),
            leaf_bytes: 0,
            frontier,
            next,
        };
        Self { memory: RwLock::new(memory), index }
    }

    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, Damage> {
        {
            let memory = self.read();
            let in_memory = memory.live.get(key).or_else(|| memory.frozen.as_ref()?.results.get(key));
            if let Some(found) = in_memory {
                return Ok(found.clone());
            }
        }
        self.index.get(key)
    }

    /// Entries whose keys begin with `prefix`, after the key `after` (or all), at most `limit`.
    pub(crate) fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, Damage> {
        let end = after_prefix(prefix);
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let start = after.filter(|after| *after > prefix).map_or(Bound::Included(prefix), Bound::Excluded);
        self.range(start, end, limit)
    }

    /// Entries between two keys, at most `limit`: for each key the topmost layer that speaks of it.
    pub(crate) fn range(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, limit: usize) -> Result<Vec<Entry>, Damage> {
        if is_empty(start, end) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut start: Bound<Key> = start.map(Box::from);
        loop {
            let from = start.as_ref().map(|key| &**key);
            if is_empty(from, end) {
                return Ok(found);
            }
            // The memory first: what a sweep moves meanwhile is then seen twice, never missed.
            let mut merged = Results::new();
            let mut horizon: Option<Key> = None;
            {
                let memory = self.read();
                let layers = [memory.frozen.as_ref().map(|frozen| &frozen.results), Some(&memory.live)];
                for layer in layers.into_iter().flatten() {
                    let mut last = None;
                    let mut taken = 0;
                    for (key, value) in layer.range::<[u8], _>((from, end)).take(CHUNK) {
                        merged.insert(key.clone(), value.clone());
                        last = Some(key);
                        taken += 1;
                    }
                    if taken == CHUNK
                        && let Some(last) = last
                    {
                        nearer(&mut horizon, last);
                    }
                }
            }
            let swept = self.index.range((from, end), CHUNK)?;
            if swept.len() == CHUNK
                && let Some((last, _)) = swept.last()
            {
                nearer(&mut horizon, last);
            }
            for (key, value) in swept {
                merged.entry(key).or_insert(Some(value));
            }
            for (key, value) in merged {
                // Past the horizon some layer has not been asked yet.
                if horizon.as_ref().is_some_and(|horizon| key > *horizon) {
                    break;
                }
                if let Some(value) = value {
                    found.push((key, value));
                    if found.len() >= limit {
                        return Ok(found);
                    }
                }
            }
            match horizon {
                Some(horizon) => start = Bound::Excluded(horizon),
                None => return Ok(found),
            }
        }
    }

    /// Takes in what a group led to. The caller has synced it.
    pub(crate) fn apply(&self, frame: Frame, frontier: Frontier, next: Place) {
        let Frame { leaves, results, .. } = frame;
        let mut memory = self.write();
        for (key, value) in results {
            let added = key.len() + value.as_ref().map_or(0, |value| value.len()) + ENTRY_BYTES;
            let (keys, replaced) = (key.len() + ENTRY_BYTES, memory.live.insert(key, value));
            memory.live_bytes += added;
            if let Some(replaced) = replaced {
                memory.live_bytes -= keys + replaced.map_or(0, |value| value.len());
            }
        }
        for leaf in leaves {
            memory.leaf_bytes += leaf.len() + ENTRY_BYTES;
            memory.leaves.push_back(leaf);
        }
        memory.frontier = frontier;
        memory.next = next;
    }

    /// The tree's size and root.
    pub(crate) fn head(&self) -> (u64, Hash) {
        let frontier = self.read().frontier.clone();
        (frontier.size(), frontier.root())
    }

    pub(crate) fn frontier(&self) -> Frontier {
        self.read().frontier.clone()
    }

    /// Where the next frame goes.
    pub(crate) fn next(&self) -> Place {
        self.read().next
    }

    /// A leaf that no bundle has yet. `Err` says from which index on they are here.
    pub(crate) fn leaf(&self, index: u64) -> Result<Option<Arc<[u8]>>, u64> {
        let memory = self.read();
        let Some(at) = index.checked_sub(memory.first_leaf) else { return Err(memory.first_leaf) };
        Ok(usize::try_from(at).ok().and_then(|at| memory.leaves.get(at)).cloned())
    }

    /// Octets in memory: both overlays and the leaves.
    pub(crate) fn bytes(&self) -> usize {
        let memory = self.read();
        memory.live_bytes + memory.leaf_bytes + memory.frozen.as_ref().map_or(0, |frozen| frozen.bytes)
    }

    /// Octets that no sweep has begun to move.
    pub(crate) fn fresh_bytes(&self) -> usize {
        let memory = self.read();
        memory.live_bytes + memory.leaf_bytes
    }

    /// Freezes the overlay for a sweep. One that is frozen already comes first; `None` if there is nothing.
    pub(crate) fn freeze(&self) -> Option<Arc<Frozen>> {
        let mut memory = self.write();
        if let Some(frozen) = &memory.frozen {
            return Some(Arc::clone(frozen));
        }
        if memory.live.is_empty() && memory.leaves.is_empty() {
            return None;
        }
        let frozen = Arc::new(Frozen {
            results: std::mem::take(&mut memory.live),
            bytes: std::mem::take(&mut memory.live_bytes),
            frontier: memory.frontier.clone(),
            next: memory.next,
            leaves: memory.leaves.iter().cloned().collect(),
            first_leaf: memory.first_leaf,
        });
        memory.frozen = Some(Arc::clone(&frozen));
        Some(frozen)
    }

    /// Lets go of what a sweep has moved.
    pub(crate) fn thaw(&self, frozen: &Frozen) {
        let mut memory = self.write();
        memory.frozen = None;
        while memory.first_leaf < frozen.frontier.size() {
            let Some(leaf) = memory.leaves.pop_front() else { break };
            memory.leaf_bytes -= leaf.len() + ENTRY_BYTES;
            memory.first_leaf += 1;
        }
    }
}

fn nearer(horizon: &mut Option<Key>, key: &Key) {
    if horizon.as_ref().is_none_or(|horizon| key < horizon) {
        *horizon = Some(key.clone());
    }
}

/// Whether no key can lie between: maps and sled refuse such ranges by panicking.
fn is_empty(start: Bound<&[u8]>, end: Bound<&[u8]>) -> bool {
    match (start, end) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

/// The first key after everything that begins with `prefix`; `None` for the end of all keys.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Key> {
    let kept = prefix.iter().rposition(|octet| *octet != 0xff)?;
    let mut end = prefix.get(..=kept)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end.into_boxed_slice())
}
