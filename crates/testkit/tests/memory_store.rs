//! The memory store under the suite that every store passes.

use std::sync::Arc;

use async_trait::async_trait;
use chancery_authority::ports::Store;
use chancery_testkit::{
    MemoryStore,
    memory::Failing,
    store_suite::{Fate, Fixture},
};

struct Memory(Arc<MemoryStore>);

#[async_trait]
impl Fixture for Memory {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0) as Arc<dyn Store>
    }

    /// A restart of the process that it serves; the store itself goes on.
    async fn restart(&mut self) {}

    fn fail_next(&self, fate: Fate) {
        self.0.fail_next(
            None,
            match fate {
                Fate::Lost => Failing::Lost,
                Fate::Kept => Failing::Kept,
            },
        );
    }
}

chancery_testkit::store_suite!(Memory(Arc::new(MemoryStore::new())));
