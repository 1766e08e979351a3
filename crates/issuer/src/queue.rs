//! A queue in which namespaces take turns: who has ten thousand requests delays nobody who has one.

use std::collections::{HashMap, VecDeque};

/// Waiting things, one row for each namespace.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    rows: HashMap<Box<str>, VecDeque<T>>,
    /// The namespaces that have a row, in the order of their turns.
    turns: VecDeque<Box<str>>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { rows: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<T> FairQueue<T> {
    /// Puts one at the end of its namespace's row.
    pub(crate) fn push(&mut self, namespace: &str, item: T) {
        if let Some(row) = self.rows.get_mut(namespace) {
            row.push_back(item);
        } else {
            self.rows.insert(namespace.into(), VecDeque::from([item]));
            self.turns.push_back(namespace.into());
        }
    }

    /// The first of the namespace whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let namespace = self.turns.pop_front()?;
        let row = self.rows.get_mut(&namespace)?;
        let item = row.pop_front();
        if row.is_empty() {
            self.rows.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        item
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Takes all of them out.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.pop()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_with_one_request_waits_for_one_of_each_other() {
        let mut queue = FairQueue::default();
        for number in 0..10_000 {
            queue.push("flood", ("flood", number));
        }
        queue.push("quiet", ("quiet", 0));
        queue.push("calm", ("calm", 0));
        let first: Vec<_> = std::iter::from_fn(|| queue.pop()).take(5).collect();
        assert_eq!(first, [("flood", 0), ("quiet", 0), ("calm", 0), ("flood", 1), ("flood", 2)]);
    }

    #[test]
    fn an_empty_row_is_forgotten() {
        let mut queue = FairQueue::default();
        queue.push("a", 1);
        queue.push("a", 2);
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(1), Some(2), None));
        assert!(queue.is_empty() && queue.rows.is_empty());
        queue.push("a", 1);
        queue.push("b", 2);
        assert_eq!((queue.drain(), queue.is_empty()), (vec![1, 2], true));
    }
}
