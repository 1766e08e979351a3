//! The suite that every store passes: as it is, and with a sweep after every commit's restart.

use std::{io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use chancery_authority::ports::Store;
use chancery_testkit::store_suite::{Fate, Fixture};
use tempfile::TempDir;

use super::{Fault, Operation, TestDisk, kill, open, options};
use crate::{options::Options, store::SledStore};

struct Sled {
    _folder: TempDir,
    path: PathBuf,
    disk: Arc<TestDisk>,
    options: Options,
    sweep: bool,
    store: Arc<SledStore>,
}

impl Sled {
    fn new(options: Options, sweep: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let disk = Arc::new(TestDisk::new());
        let store = open(&path, &disk, options.clone()).expect("a new store");
        Self { _folder: folder, path, disk, options, sweep, store }
    }
}

#[async_trait]
impl Fixture for Sled {
    fn store(&self) -> Arc<dyn Store> {
        if self.sweep {
            self.store.sweep().expect("nothing stands against it");
        }
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    async fn restart(&mut self) {
        kill(&self.store);
        self.disk.heal();
        self.store = open(&self.path, &self.disk, self.options.clone()).expect("what is left is sound");
    }

    fn fail_next(&self, fate: Fate) {
        let operation = match fate {
            Fate::Lost => Operation::Append,
            Fate::Kept => Operation::SyncAppended,
        };
        self.disk.fail(Fault::once(operation, ".journal", io::ErrorKind::Other));
    }
}

mod from_the_overlay {
    use super::{Sled, options};
    chancery_testkit::store_suite!(Sled::new(options(), false));
}

mod from_the_index_and_the_bundles {
    use super::{Sled, options};
    chancery_testkit::store_suite!(Sled::new(options(), true));
}

mod while_sweeps_run {
    use super::{Options, Sled, options};
    chancery_testkit::store_suite!(Sled::new(Options { sweep_bytes: 600, segment_bytes: 900, ..options() }, false));
}
