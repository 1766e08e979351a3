//! What a commit waits for, and who hears of it.

use std::io;

use chancery_authority::{
    changes::{Change, Changes, Put},
    ports::{CommitError, NotApplied, Store, StoreError},
};
use chancery_testkit::sample;

use super::super::{Fault, Operation, issue, kill, open, options};
use super::{Place, account_changes, queued, spawn};
use crate::options::Options;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_a_group_shares_one_sync_and_nobody_sees_or_hears_of_it_before() {
    let place = Place::new();
    let store = place.open();
    let (first, changes) = account_changes(1);
    place.disk.shut_gate();
    let held = spawn(&store, changes);
    place.disk.wait_for_a_sync();
    // What waits for its sync is written, but not there.
    assert_eq!(store.account(first.id).await.expect("readable"), None);
    assert_eq!(store.tree_head().await.expect("readable").size, 0);
    let mut waiting = Vec::new();
    for number in 2..=50 {
        waiting.push(spawn(&store, account_changes(number).1));
    }
    // One that fails is told so with its group, not before: what it lost against may still be lost.
    let mut second = sample::account(60);
    second.key = first.key.clone();
    waiting.push(spawn(&store, Changes::new().with(Change::Account(Put::new(second)))));
    queued(&store, 50).await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    place.disk.open_gate();
    held.await.expect("runs").expect("kept");
    let conflict = waiting.pop().expect("pushed").await.expect("runs");
    assert!(matches!(conflict, Err(CommitError::Conflict)));
    for waiting in waiting {
        waiting.await.expect("runs").expect("kept");
    }
    let metrics = store.metrics();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&metrics.commits), count(&metrics.syncs)), (50, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_4_a_thread_of_the_store_that_panics_stops_the_store_and_lets_nobody_wait() {
    for (operation, thread) in [(Operation::SyncAppended, "committer"), (Operation::Rename, "sweeper")] {
        let place = Place::new();
        let store = place.open();
        let (before, changes) = account_changes(1);
        store.commit(changes).await.expect("kept");
        place.disk.panic_at(operation);
        if thread == "committer" {
            let lost = store.commit(account_changes(2).1).await;
            assert!(matches!(lost, Err(CommitError::Unknown(_))), "{lost:?}");
        } else {
            store.shared.signal.due();
        }
        let said = store.failed().await;
        assert!(said.contains(thread), "{said}");
        let after = store.commit(account_changes(3).1).await;
        assert!(matches!(after, Err(CommitError::NotApplied(NotApplied::Stopped(_)))), "{after:?}");
        kill(&store);
        assert!(place.open().account(before.id).await.expect("readable").is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_4_after_a_failed_sync_nothing_is_acknowledged_and_the_process_is_told_to_end() {
    let place = Place::new();
    let store = place.open();
    let (before, changes) = account_changes(1);
    store.commit(changes).await.expect("kept");
    place.disk.shut_gate();
    place.disk.fail(Fault::once(Operation::SyncAppended, ".journal", io::ErrorKind::Other));
    let (lost, changes) = account_changes(2);
    let in_the_group = spawn(&store, changes);
    place.disk.wait_for_a_sync();
    let behind = spawn(&store, account_changes(3).1);
    queued(&store, 1).await;
    place.disk.open_gate();
    assert!(matches!(in_the_group.await.expect("runs"), Err(CommitError::Unknown(_))));
    assert!(matches!(behind.await.expect("runs"), Err(CommitError::NotApplied(NotApplied::Stopped(_)))));
    let said = store.failed().await;
    assert!(said.contains("syncing") && said.contains(".journal"), "{said}");
    let after = store.commit(account_changes(4).1).await;
    assert!(matches!(after, Err(CommitError::NotApplied(NotApplied::Stopped(_)))), "{after:?}");
    // What was acknowledged can still be read, what was not cannot.
    assert!(store.account(before.id).await.expect("readable").is_some());
    assert_eq!(store.account(lost.id).await.expect("readable"), None);
    kill(&store);
    assert!(place.open().account(before.id).await.expect("readable").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_no_checkpoint_is_kept_of_what_is_not_synced() {
    let place = Place::new();
    let store = place.open();
    store.commit(Changes::new().leaf(sample::leaf(1))).await.expect("kept");
    place.disk.shut_gate();
    let held = spawn(&store, Changes::new().leaf(sample::leaf(2)));
    place.disk.wait_for_a_sync();
    assert_eq!(store.tree_head().await.expect("readable").size, 1, "what is to be signed is what is synced");
    store.keep_checkpoint(2, "ahead".to_owned()).await.expect_err("it is ahead of the disk");
    place.disk.open_gate();
    held.await.expect("runs").expect("kept");
    store.keep_checkpoint(2, "note".to_owned()).await.expect("kept");
    assert_eq!(store.checkpoint().await.expect("readable").as_deref(), Some("note"));
}

#[tokio::test]
async fn a_stopped_store_says_so_and_leaves_nothing_to_replay() {
    let place = Place::new();
    let store = place.open();
    let account = issue(&*store, 1).await;
    store.stop();
    assert!(matches!(store.account(account.id).await, Err(StoreError::Stopped(_))));
    let late = store.commit(account_changes(2).1).await;
    assert!(matches!(late, Err(CommitError::NotApplied(NotApplied::Stopped(_)))), "{late:?}");
    let store = place.open();
    assert_eq!(store.shared.view.fresh_bytes(), 0);
    assert!(store.account(account.id).await.expect("readable").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_busy_at_once() {
    let place = Place::new();
    let store = open(&place.path, &place.disk, Options { queue_limit: 3, ..options() }).expect("new");
    place.disk.shut_gate();
    let held = spawn(&store, account_changes(1).1);
    place.disk.wait_for_a_sync();
    let waiting: Vec<_> = (2..=4).map(|number| spawn(&store, account_changes(number).1)).collect();
    queued(&store, 3).await;
    let refused = store.commit(account_changes(5).1).await;
    assert!(matches!(refused, Err(CommitError::NotApplied(NotApplied::Busy))), "{refused:?}");
    place.disk.open_gate();
    held.await.expect("runs").expect("kept");
    for waiting in waiting {
        waiting.await.expect("runs").expect("kept");
    }
}
