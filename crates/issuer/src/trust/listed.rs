//! What a watch has shown, complete once its first listing is.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::watcher::Event;

/// Namespace (empty for what has none) and name.
pub(super) type Key = (String, String);

/// Objects of one kind, as far as they matter here.
#[derive(Debug)]
pub(super) struct Listed<V> {
    now: BTreeMap<Key, V>,
    incoming: BTreeMap<Key, V>,
    complete: bool,
}

impl<V> Default for Listed<V> {
    fn default() -> Self {
        Self { now: BTreeMap::new(), incoming: BTreeMap::new(), complete: false }
    }
}

impl<V> Listed<V> {
    /// Takes an event; the keys that may have changed.
    pub(super) fn take<K>(&mut self, event: Event<K>, read: impl Fn(&K) -> (Key, V)) -> BTreeSet<Key> {
        match event {
            Event::Init => {
                self.incoming.clear();
                BTreeSet::new()
            }
            Event::InitApply(object) => {
                let (key, value) = read(&object);
                self.incoming.insert(key, value);
                BTreeSet::new()
            }
            Event::InitDone => {
                self.complete = true;
                let before = std::mem::replace(&mut self.now, std::mem::take(&mut self.incoming));
                before.into_keys().chain(self.now.keys().cloned()).collect()
            }
            Event::Apply(object) => {
                let (key, value) = read(&object);
                self.now.insert(key.clone(), value);
                BTreeSet::from([key])
            }
            Event::Delete(object) => {
                let (key, _) = read(&object);
                self.now.remove(&key);
                BTreeSet::from([key])
            }
        }
    }

    /// Whether a whole listing has been seen.
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn get(&self, key: &Key) -> Option<&V> {
        self.now.get(key)
    }

    /// Those of one namespace, by name.
    pub(super) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = (&str, &V)> {
        let from = (namespace.to_owned(), String::new());
        let all = self.now.range(from..).take_while(move |((of, _), _)| *of == namespace);
        all.map(|((_, name), value)| (name.as_str(), value))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.now.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    fn read(object: &(&str, &str, u32)) -> (Key, u32) {
        (key(object.0, object.1), object.2)
    }

    #[test]
    fn what_a_new_listing_does_not_show_is_gone_and_named() {
        let mut listed = Listed::default();
        assert!(!listed.is_complete());
        for event in [Event::Init, Event::InitApply(("a", "x", 1)), Event::InitApply(("a", "y", 2))] {
            assert!(listed.take(event, read).is_empty());
        }
        assert_eq!(listed.get(&key("a", "x")), None, "half a listing says nothing");
        assert_eq!(listed.take(Event::InitDone, read).len(), 2);
        assert!(listed.is_complete());
        listed.take(Event::Init, read);
        listed.take(Event::InitApply(("a", "y", 3)), read);
        assert_eq!(listed.get(&key("a", "x")), Some(&1), "until the listing is complete");
        assert!(listed.take(Event::InitDone, read).contains(&key("a", "x")));
        assert_eq!((listed.get(&key("a", "x")), listed.get(&key("a", "y"))), (None, Some(&3)));
    }

    #[test]
    fn a_namespace_has_its_own_and_no_others() {
        let mut listed = Listed::default();
        for object in [("a", "x", 1), ("a", "z", 2), ("a-b", "x", 3), ("b", "x", 4)] {
            listed.take(Event::Apply(object), read);
        }
        assert_eq!(listed.of_namespace("a").collect::<Vec<_>>(), [("x", &1), ("z", &2)]);
        listed.take(Event::Delete(("a", "x", 1)), read);
        assert_eq!(listed.of_namespace("a").count(), 1);
    }
}
