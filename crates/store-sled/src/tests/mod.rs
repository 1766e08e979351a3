//! The store as a whole: the suite of every store, and the rules of durability.

mod disk;
mod suite;

use std::{path::Path, sync::Arc, time::Duration};

pub(crate) use disk::{Fault, Operation, TestDisk};

use crate::store::{OpenError, Options, SledStore};

/// Options under which nothing happens by time alone.
pub(crate) fn options() -> Options {
    Options {
        linger_max: Duration::ZERO,
        sweep_age: Duration::from_secs(3600),
        floor_bytes: 0,
        lock_wait: Duration::from_millis(200),
        ..Options::default()
    }
}

pub(crate) fn open(path: &Path, disk: &Arc<TestDisk>, options: Options) -> Result<Arc<SledStore>, OpenError> {
    SledStore::open_on(path, options, Arc::clone(disk) as Arc<dyn crate::disk::Disk>)
}

/// Ends a store as a kill would: no last sweep, whoever else still holds it.
pub(crate) fn kill(store: &SledStore) {
    store.end("killed by the test", false);
}
