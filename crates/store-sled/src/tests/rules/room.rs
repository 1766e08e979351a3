//! A disk that is full, or nearly.

use std::{io, sync::Arc};

use chancery_authority::ports::{CommitError, NotApplied, Store, StoreError};
use chancery_testkit::sample;

use super::super::{Fault, Operation, kill, open, options};
use super::{Place, account_changes};
use crate::{options::Options, store::SledStore};

/// A store whose disk will be full as soon as it is told so.
fn nearly_full() -> (Place, Arc<SledStore>) {
    let place = Place::new();
    place.disk.set_free(1 << 30);
    let store = open(&place.path, &place.disk, Options { floor_bytes: 1 << 20, ..options() }).expect("new");
    (place, store)
}

#[tokio::test]
async fn rule_4_a_kill_while_the_reserve_takes_the_place_of_an_empty_segment_loses_nothing() {
    for step in 0..=6 {
        let (place, store) = nearly_full();
        place.disk.set_free(1000);
        place.disk.cut_after(step);
        let kept = store.commit(account_changes(1).1.urgently()).await.is_ok();
        assert_eq!(kept, step == 6, "step {step}");
        kill(&store);
        place.disk.go_on();
        place.disk.set_free(1 << 30);
        let store = place.try_open().unwrap_or_else(|error| panic!("killed at step {step}: {error}"));
        let found = store.account(sample::account(1).id).await.expect("readable").is_some();
        assert!(found || !kept, "step {step}");
        // The segment that is written to goes on, swept or not.
        for number in 2..5 {
            store.commit(account_changes(number).1).await.expect("kept");
            store.sweep().expect("nothing stands against it");
        }
        store.commit(account_changes(5).1).await.expect("kept");
        kill(&store);
        let store = place.open();
        for number in 2..=5 {
            let found = store.account(sample::account(number).id).await.expect("readable").is_some();
            assert!(found, "step {step}: {number}");
        }
        assert!(store.scrub(sample::now()).is_clean(), "step {step}");
    }
}

#[tokio::test]
async fn rule_4_a_failure_on_the_way_into_the_reserve_leaves_it_aside_or_stops_the_store() {
    let (place, store) = nearly_full();
    store.commit(account_changes(1).1).await.expect("kept");
    place.disk.set_free(1000);
    place.disk.operations();
    store.commit(account_changes(2).1.urgently()).await.expect("kept, in the reserve");
    let steps: Vec<Operation> = place.disk.operations().into_iter().map(|(operation, _)| operation).collect();
    use Operation::{Append, Rename, Sync, SyncAppended, SyncFolder, Write};
    assert_eq!(steps, [Write, Sync, Rename, SyncFolder, Append, SyncAppended]);
    for step in 0..2 {
        // Nothing has the name of a segment yet: it is as if there was no reserve, and the next try may find it.
        let (place, store) = nearly_full();
        store.commit(account_changes(1).1).await.expect("kept");
        place.disk.set_free(1000);
        place.disk.fail_at(step, io::ErrorKind::Other);
        let refused = store.commit(account_changes(2).1.urgently()).await;
        assert!(matches!(refused, Err(CommitError::NotApplied(NotApplied::NoSpace(_)))), "step {step}: {refused:?}");
        store.commit(account_changes(3).1.urgently()).await.expect("kept, in the reserve");
        kill(&store);
        let store = place.open();
        for (number, kept) in [(1, true), (2, false), (3, true)] {
            let found = store.account(sample::account(number).id).await.expect("readable").is_some();
            assert_eq!(found, kept, "step {step}: {number}");
        }
    }
    for step in 2..4 {
        let (place, store) = nearly_full();
        store.commit(account_changes(1).1).await.expect("kept");
        place.disk.set_free(1000);
        place.disk.fail_at(step, io::ErrorKind::Other);
        let refused = store.commit(account_changes(2).1.urgently()).await;
        assert!(matches!(refused, Err(CommitError::NotApplied(NotApplied::Stopped(_)))), "step {step}: {refused:?}");
        let said = store.failed().await;
        assert!(said.contains("reserve"), "step {step}: {said}");
        // Not even where there is room again: the segment before may not go on.
        place.disk.set_free(1 << 30);
        let after = store.commit(account_changes(3).1).await;
        assert!(matches!(after, Err(CommitError::NotApplied(NotApplied::Stopped(_)))), "step {step}: {after:?}");
        kill(&store);
        let store = place.open();
        store.commit(account_changes(4).1).await.expect("kept");
        kill(&store);
        let store = place.open();
        for (number, kept) in [(1, true), (2, false), (3, false), (4, true)] {
            let found = store.account(sample::account(number).id).await.expect("readable").is_some();
            assert_eq!(found, kept, "step {step}: {number}");
        }
        assert!(store.scrub(sample::now()).is_clean(), "step {step}");
    }
}

#[tokio::test]
async fn rule_7_a_segment_that_cannot_be_begun_for_want_of_room_is_gone_for_good_or_the_store_stops() {
    for (left_behind, path) in [(false, ".journal"), (true, "journal")] {
        let place = Place::new();
        let store = place.open();
        store.commit(account_changes(1).1).await.expect("kept");
        store.sweep().expect("nothing stands against it");
        // The next commit begins a segment, and finds no room for its header, or none for its name.
        let operation = if left_behind { Operation::SyncFolder } else { Operation::Write };
        let fault = Fault::once(operation, path, io::ErrorKind::StorageFull);
        place.disk.fail(Fault { always: left_behind, ..fault });
        let refused = store.commit(account_changes(2).1).await.expect_err("no room");
        let stopped = matches!(refused, CommitError::NotApplied(NotApplied::Stopped(_)));
        assert_eq!(stopped, left_behind, "{refused:?}");
        place.disk.heal();
        if !stopped {
            store.commit(account_changes(3).1).await.expect("there is room again");
        }
        kill(&store);
        let store = place.open();
        for (number, kept) in [(1, true), (2, false), (3, !stopped)] {
            let found = store.account(sample::account(number).id).await.expect("readable").is_some();
            assert_eq!(found, kept, "{number}");
        }
    }
}

#[tokio::test]
async fn rule_7_below_the_floor_only_what_is_urgent_commits_and_everything_is_read() {
    let place = Place::new();
    let options = Options { floor_bytes: 1 << 20, ..options() };
    place.disk.set_free(1 << 30);
    let store = open(&place.path, &place.disk, options.clone()).expect("new");
    let (before, changes) = account_changes(1);
    store.commit(changes).await.expect("kept");
    place.disk.set_free(1000);
    let refused = store.commit(account_changes(2).1).await.expect_err("no room");
    let CommitError::NotApplied(NotApplied::NoSpace(said)) = &refused else { panic!("{refused:?}") };
    assert!(said.contains("make room"), "{said}");
    let (urgent, changes) = account_changes(3);
    store.commit(changes.urgently()).await.expect("kept");
    assert!(store.account(before.id).await.expect("readable").is_some());
    assert!(!place.path.join("journal/reserve").exists(), "it is being written to");
    // A kill in this state loses nothing; the next start has no more room than this one.
    kill(&store);
    let store = open(&place.path, &place.disk, options).expect("sound");
    assert!(store.account(urgent.id).await.expect("readable").is_some());
    store.commit(account_changes(4).1.urgently()).await.expect("kept");
    place.disk.set_free(1 << 30);
    store.commit(account_changes(5).1).await.expect("there is room again");
    store.sweep().expect("nothing stands against it");
    assert!(place.path.join("journal/reserve").exists(), "made again");
    kill(&store);
    let store = place.open();
    for number in [1, 3, 4, 5] {
        assert!(store.account(sample::account(number).id).await.expect("readable").is_some(), "{number}");
    }
    assert_eq!(store.account(sample::account(2).id).await.expect("readable"), None);
}

#[tokio::test]
async fn rule_7_a_write_that_finds_no_room_is_taken_back_and_refused_and_the_store_goes_on() {
    let place = Place::new();
    let store = place.open();
    store.commit(account_changes(1).1).await.expect("kept");
    let no_room = || Fault { written: 50, ..Fault::once(Operation::Append, ".journal", io::ErrorKind::StorageFull) };
    place.disk.fail(no_room());
    let refused = store.commit(account_changes(2).1).await;
    assert!(matches!(refused, Err(CommitError::NotApplied(NotApplied::NoSpace(_)))), "{refused:?}");
    // Believed for a while: the reserve takes what is urgent.
    let still = store.commit(account_changes(3).1).await;
    assert!(matches!(still, Err(CommitError::NotApplied(NotApplied::NoSpace(_)))), "{still:?}");
    store.commit(account_changes(4).1.urgently()).await.expect("kept");
    kill(&store);
    let store = place.open();
    for (number, kept) in [(1, true), (2, false), (3, false), (4, true)] {
        let found = store.account(sample::account(number).id).await.expect("readable").is_some();
        assert_eq!(found, kept, "{number}");
    }
    place.disk.fail(no_room());
    let urgent = store.commit(account_changes(5).1.urgently()).await;
    assert!(matches!(urgent, Err(CommitError::NotApplied(NotApplied::Busy))), "it may come again: {urgent:?}");
    store.commit(account_changes(5).1.urgently()).await.expect("kept, in the reserve");
}

#[tokio::test]
async fn rule_8_larger_matter_is_synced_with_its_name_before_it_is_named() {
    let place = Place::new();
    let store = place.open();
    place.disk.operations();
    let content = b"version: v1".to_vec();
    store.keep_blob(crate::journal::sha256(&content), content.clone()).await.expect("kept");
    let done: Vec<_> = place.disk.operations().into_iter().map(|(operation, _)| operation).collect();
    use Operation::{Create, Rename, Sync, SyncFolder, Write};
    assert_eq!(done, [Create, Write, Sync, Rename, SyncFolder]);
    // A kill between rename and sync would have left it so: what is found is synced before it is named.
    store.keep_blob(crate::journal::sha256(&content), content.clone()).await.expect("kept");
    let done: Vec<_> = place.disk.operations().into_iter().map(|(operation, _)| operation).collect();
    assert_eq!(done, [Sync, SyncFolder]);
    let wrong = store.keep_blob([0; 32], content).await;
    assert!(wrong.is_err(), "its hash is another one");
}

#[tokio::test]
async fn rule_7_a_file_for_which_there_is_no_room_is_told_so_and_the_store_goes_on() {
    let place = Place::new();
    let store = place.open();
    let content = b"version: v1".to_vec();
    let hash = crate::journal::sha256(&content);
    for error in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        place.disk.fail(Fault::once(Operation::Write, "blobs", error));
        let refused = store.keep_blob(hash, content.clone()).await.expect_err("no room");
        assert!(matches!(refused, StoreError::NoSpace(_)), "{refused:?}");
        place.disk.fail(Fault::once(Operation::Write, "checkpoint", error));
        let refused = store.keep_checkpoint(0, "note".to_owned()).await.expect_err("no room");
        assert!(matches!(refused, StoreError::NoSpace(_)), "{refused:?}");
    }
    place.disk.fail(Fault::once(Operation::Write, "blobs", io::ErrorKind::Other));
    let refused = store.keep_blob(hash, content.clone()).await.expect_err("a fault");
    assert!(matches!(refused, StoreError::Stopped(_)), "{refused:?}");
    store.keep_blob(hash, content).await.expect("there is room again");
    store.commit(account_changes(1).1).await.expect("kept");
}
