//! The tries that are under way. What is tried is kept here until its try has ended: neither the end of a term nor a
//! task that breaks loses it.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

use super::{Item, Tried};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    tries: JoinSet<Tried>,
    items: HashMap<Id, Item>,
}

impl UnderWay {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn begin(&mut self, item: Item, attempt: impl Future<Output = Tried> + Send + 'static) {
        let id = self.tries.spawn(attempt).id();
        self.items.insert(id, item);
    }

    /// The next try that ends, and how; a task that broke has not ended it. Nothing while none is under way.
    pub(super) async fn ended(&mut self) -> Option<(Item, Option<Tried>)> {
        let (id, tried) = match self.tries.join_next_with_id().await? {
            Ok((id, tried)) => (id, Some(tried)),
            Err(error) => {
                tracing::error!(error = %error, "a task broke while it revoked a certificate; it is tried again");
                (error.id(), None)
            }
        };
        self.items.remove(&id).map(|item| (item, tried))
    }

    /// Ends all tries; what they were about is still to be done.
    pub(super) fn give_up(mut self) -> impl Iterator<Item = Item> {
        self.tries.abort_all();
        self.items.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disposal::tests::item;

    #[tokio::test]
    async fn what_is_under_way_at_the_end_of_a_term_is_still_to_be_done() {
        let mut under_way = UnderWay::default();
        under_way.begin(item("held", "a"), std::future::pending());
        under_way.begin(item("done", "a"), std::future::ready(Tried::Done));
        let (ended, tried) = under_way.ended().await.expect("one has ended");
        assert_eq!((&*ended.signed.uid, tried), ("done", Some(Tried::Done)));
        assert_eq!(under_way.give_up().map(|item| item.signed.uid).collect::<Vec<_>>(), ["held".into()]);
    }

    #[tokio::test]
    async fn a_task_that_breaks_has_not_done_what_it_was_about() {
        let mut under_way = UnderWay::default();
        under_way.begin(item("broken", "a"), async { std::panic::panic_any("on purpose") });
        let (ended, tried) = under_way.ended().await.expect("one has ended");
        assert_eq!((&*ended.signed.uid, tried, under_way.len()), ("broken", None, 0));
    }
}
