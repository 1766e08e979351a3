//! The rules of durability, each as what one sees of it.

mod commits;
mod damage;
mod room;
mod start;
mod sweep;

use std::{path::PathBuf, sync::Arc};

use chancery_acme::account::Account;
use chancery_authority::{
    changes::{Change, Changes, Put},
    ports::{CommitError, Store},
};
use chancery_testkit::sample;
use tempfile::TempDir;

use super::{TestDisk, open, options};
use crate::{journal::segments, opening::OpenError, store::SledStore};

struct Place {
    _folder: TempDir,
    path: PathBuf,
    disk: Arc<TestDisk>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { path: folder.path().join("store"), _folder: folder, disk: Arc::new(TestDisk::new()) }
    }

    fn open(&self) -> Arc<SledStore> {
        self.try_open().expect("sound")
    }

    fn try_open(&self) -> Result<Arc<SledStore>, OpenError> {
        open(&self.path, &self.disk, options())
    }

    /// On a disk that is well again.
    fn open_anew(&self) -> Arc<SledStore> {
        open(&self.path, &Arc::new(TestDisk::new()), options()).expect("sound")
    }

    fn last_segment(&self) -> PathBuf {
        segments(&self.path.join("journal")).expect("readable").pop().expect("one").1
    }
}

fn account_changes(number: u64) -> (Account, Changes) {
    let account = sample::account(number);
    (account.clone(), Changes::new().with(Change::Account(Put::new(account))).leaf(sample::leaf(number)))
}

fn spawn(store: &Arc<SledStore>, changes: Changes) -> tokio::task::JoinHandle<Result<(), CommitError>> {
    let store = Arc::clone(store);
    tokio::spawn(async move { store.commit(changes).await.map(drop) })
}

/// Waits until so many commits are in the queue.
async fn queued(store: &SledStore, count: usize) {
    while store.shared.queue.len() < count {
        tokio::task::yield_now().await;
    }
}
