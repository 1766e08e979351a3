//! The rules of durability, each as what one sees of it.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use chancery_acme::{
    account::Account,
    authorization::{Authorization, AuthorizationState},
    order::OrderState,
};
use chancery_authority::{
    changes::{Change, Changes, Put},
    ports::{CommitError, NotApplied, Store, StoreError},
    records::{CertificateRecord, JobKind, Revocation},
};
use chancery_testkit::sample;
use tempfile::TempDir;

use super::{Fault, Operation, TestDisk, issue, kill, open, options};
use crate::{
    FolderError,
    check::{self, Knowledge},
    journal::segments,
    key::class,
    opening::OpenError,
    options::Options,
    store::SledStore,
};

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

#[tokio::test]
async fn rule_2_a_journal_that_is_replayed_over_an_index_that_has_it_changes_nothing() {
    let place = Place::new();
    let store = place.open();
    let account = issue(&*store, 1).await;
    store.sweep().expect("nothing stands against it");
    kill(&store);
    // The segment is still there: its frames are all in the index, and again in the journal.
    let dump = || {
        let store = place.open();
        let mut all = Vec::new();
        let entries = store.shared.view.scan(&[], None, 10_000).expect("readable");
        all.extend(entries.into_iter().filter(|(key, _)| key.first() != Some(&0)));
        kill(&store);
        all
    };
    let first = dump();
    assert!(first.len() > 8, "{}", first.len());
    assert_eq!(dump(), first);
    let store = place.open();
    assert_eq!(store.account(account.id).await.expect("readable").expect("stored").value.id, account.id);
}

#[tokio::test]
async fn rule_3_a_torn_tail_is_cut_and_the_cut_is_synced() {
    let place = Place::new();
    let store = place.open();
    let (kept, changes) = account_changes(1);
    store.commit(changes).await.expect("kept");
    let (torn, changes) = account_changes(2);
    store.commit(changes).await.expect("kept");
    kill(&store);
    let segment = place.last_segment();
    let length = fs::metadata(&segment).expect("there").len();
    fs::File::options().write(true).open(&segment).expect("ours").set_len(length - 3).expect("ours");
    place.disk.operations();
    let store = place.open();
    let done = place.disk.operations();
    let synced = done.iter().position(|(operation, path)| {
        matches!(operation, Operation::Sync) && path.to_string_lossy().ends_with(".journal.new")
    });
    let renamed = done.iter().position(|(operation, path)| {
        matches!(operation, Operation::Rename) && path.to_string_lossy().ends_with(".journal.new")
    });
    assert!(synced.expect("synced") < renamed.expect("renamed"));
    assert!(store.account(kept.id).await.expect("readable").is_some());
    assert_eq!(store.account(torn.id).await.expect("readable"), None);
    assert_eq!(store.tree_head().await.expect("readable").size, 1);
}

#[tokio::test]
async fn rule_3_a_tail_is_not_cut_below_the_last_checkpoint() {
    let place = Place::new();
    let store = place.open();
    for number in 1..=2 {
        store.commit(account_changes(number).1).await.expect("kept");
    }
    store.keep_checkpoint(2, "note".to_owned()).await.expect("kept");
    kill(&store);
    let segment = place.last_segment();
    let whole = fs::read(&segment).expect("ours");
    fs::write(&segment, &whole[..whole.len() - 3]).expect("ours");
    let refused = place.try_open().expect_err("the tree is shorter than its checkpoint");
    assert!(matches!(refused, OpenError::ShorterThanCheckpoint { leaves: 1, checkpoint: 2 }), "{refused}");
    assert_eq!(fs::read(&segment).expect("ours").len(), whole.len() - 3, "nothing was cut");
}

#[tokio::test]
async fn rule_3_damage_before_the_tail_is_named_and_refused() {
    let place = Place::new();
    let store = place.open();
    for number in 1..=2 {
        store.commit(account_changes(number).1).await.expect("kept");
    }
    kill(&store);
    let segment = place.last_segment();
    let mut whole = fs::read(&segment).expect("ours");
    whole[200] ^= 1;
    fs::write(&segment, &whole).expect("ours");
    let said = place.try_open().expect_err("damaged").to_string();
    assert!(said.contains(&segment.display().to_string()) && said.contains("byte 80"), "{said}");
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
async fn a_kill_at_any_step_of_the_very_first_start_leaves_a_new_store() {
    let place = Place::new();
    kill(&place.open());
    let steps = place.disk.operations().len();
    assert!(steps > 10, "{steps}");
    for step in 0..steps {
        let place = Place::new();
        place.disk.cut_after(u64::try_from(step).expect("small"));
        drop(place.try_open().map(|store| kill(&store)));
        // What was written is there, synced or not: this was a kill, and no power cut.
        let store = open(&place.path, &Arc::new(TestDisk::new()), options());
        let store = store.unwrap_or_else(|error| panic!("killed at step {step}: {error}"));
        let (account, changes) = account_changes(1);
        store.commit(changes).await.expect("kept");
        kill(&store);
        assert!(place.open_anew().account(account.id).await.expect("readable").is_some(), "step {step}");
    }
}

#[tokio::test]
async fn a_first_segment_without_its_whole_header_is_a_new_store_unless_something_was_ever_swept_or_sealed() {
    let place = Place::new();
    kill(&place.open());
    let header = fs::read(place.last_segment()).expect("ours");
    for length in 0..header.len() {
        fs::write(place.last_segment(), &header[..length]).expect("ours");
        let store = place.try_open().unwrap_or_else(|error| panic!("{length} octets: {error}"));
        kill(&store);
        assert_eq!(fs::read(place.last_segment()).expect("ours").len(), header.len());
    }
    // Nobody but a start takes it for that.
    fs::write(place.last_segment(), []).expect("ours");
    assert!(check::verify(&place.path, Knowledge::default()).is_err(), "the journal's header is gone");
    for sign in ["swept", "sealed", "kept"] {
        let place = Place::new();
        let store = place.open();
        store.commit(account_changes(1).1).await.expect("kept");
        match sign {
            "swept" => store.sweep().expect("nothing stands against it"),
            "sealed" => store.keep_checkpoint(1, "note".to_owned()).await.expect("kept"),
            _ => store.keep_blob(crate::journal::sha256(b"text"), b"text".to_vec()).await.expect("kept"),
        }
        kill(&store);
        fs::write(place.last_segment(), []).expect("ours");
        assert!(matches!(place.try_open(), Err(OpenError::Damaged(_))), "{sign}");
    }
}

#[tokio::test]
async fn rule_5_a_missing_index_is_rebuilt() {
    let place = Place::new();
    let store = place.open();
    let account = issue(&*store, 1).await;
    store.sweep().expect("nothing stands against it");
    // So that the frames themselves are gone, and only leaves are left.
    let later = issue(&*store, 2).await;
    store.sweep().expect("nothing stands against it");
    store.commit(account_changes(9).1).await.expect("kept");
    kill(&store);
    fs::remove_dir_all(place.path.join("index")).expect("ours");
    let store = place.open();
    for account in [&account, &later] {
        let orders = store.orders_of(account.id, None, 10).await.expect("readable");
        let order = store.order(orders[0]).await.expect("readable").expect("stored").value;
        assert!(matches!(order.state, OrderState::Valid { .. }), "{order:?}");
    }
    assert!(store.account(sample::account(9).id).await.expect("readable").is_some(), "from the journal");
}

#[tokio::test]
async fn rule_5_the_index_of_another_store_is_not_believed() {
    let (place, other) = (Place::new(), Place::new());
    for (place, number) in [(&place, 1), (&other, 2)] {
        let store = place.open();
        issue(&*store, number).await;
        store.sweep().expect("nothing stands against it");
        kill(&store);
    }
    let (mine, theirs) = (place.path.join("index"), other.path.join("index"));
    fs::remove_dir_all(&mine).expect("ours");
    fs::rename(theirs, &mine).expect("ours");
    let store = place.open();
    let found = store.certificate(sample::certificate(1, &["x.example"]).id).await.expect("readable");
    assert!(found.is_some(), "its own");
    let foreign = store.certificate(sample::certificate(2, &["x.example"]).id).await.expect("readable");
    assert_eq!(foreign, None);
}

#[tokio::test]
async fn rule_5_an_index_that_is_ahead_of_the_journal_is_refused() {
    let place = Place::new();
    let store = place.open();
    for number in 1..=2 {
        store.commit(account_changes(number).1).await.expect("kept");
    }
    let tail = fs::metadata(place.last_segment()).expect("there").len();
    store.commit(Changes::new().schedule(JobKind::Checkpoint, sample::now())).await.expect("kept");
    store.sweep().expect("nothing stands against it");
    kill(&store);
    fs::File::options().write(true).open(place.last_segment()).expect("ours").set_len(tail).expect("ours");
    let refused = place.try_open().expect_err("the end of the journal is lost");
    assert!(matches!(refused, OpenError::JournalLost { .. }), "{refused}");
    assert!(refused.to_string().contains("restore"), "{refused}");
}

#[tokio::test]
async fn rule_5_a_missing_journal_is_damage_not_a_new_store() {
    let place = Place::new();
    let store = place.open();
    issue(&*store, 1).await;
    store.sweep().expect("nothing stands against it");
    kill(&store);
    fs::remove_file(place.last_segment()).expect("ours");
    assert!(matches!(place.try_open(), Err(OpenError::Damaged(_))));
}

#[tokio::test]
async fn rule_6_a_sweep_that_fails_at_any_step_loses_nothing_and_the_next_one_ends_it() {
    // How many steps there are.
    let place = Place::new();
    let store = place.open();
    issue(&*store, 1).await;
    place.disk.operations();
    store.sweep().expect("nothing stands against it");
    let steps: Vec<_> =
        place.disk.operations().into_iter().filter(|(operation, _)| *operation != Operation::Remove).collect();
    assert!(steps.len() > 10, "{steps:?}");
    for step in 0..steps.len() {
        let place = Place::new();
        let store = place.open();
        let account = issue(&*store, 1).await;
        let head = store.tree_head().await.expect("readable");
        place.disk.fail_at(step, io::ErrorKind::Other);
        store.sweep().expect_err("the disk failed");
        // Everything is served meanwhile, and after a kill in this state.
        for restart in [false, true] {
            let store = if restart {
                kill(&store);
                place.open()
            } else {
                Arc::clone(&store)
            };
            assert_eq!(store.tree_head().await.expect("readable"), head, "step {step}");
            assert!(store.account(account.id).await.expect("readable").is_some(), "step {step}");
            assert!(store.leaf(0).await.expect("readable").is_some(), "step {step}");
            if restart {
                store.sweep().expect("the disk is well again");
                let next = issue(&*store, 2).await;
                store.sweep().expect("the disk is well again");
                kill(&store);
                let store = place.open();
                assert!(store.account(next.id).await.expect("readable").is_some(), "step {step}");
                assert!(store.scrub(sample::now()).is_clean(), "step {step}: {:?}", store.scrub(sample::now()));
            }
        }
    }
}

#[tokio::test]
async fn rule_6_an_index_whose_sync_failed_is_written_anew_before_it_is_believed_again() {
    let place = Place::new();
    let store = place.open();
    let account = issue(&*store, 1).await;
    place.disk.fail(Fault::once(Operation::Sync, "index/db", io::ErrorKind::Other));
    place.disk.operations();
    store.sweep().expect_err("the disk failed");
    let done = place.disk.operations();
    let copied = |operation, file: &str| {
        done.iter().rposition(|(done, path)| *done == operation && path.ends_with(file)).expect(file)
    };
    // The kernel tells of a failed sync once: the next one would say that all is well.
    let marked = copied(Operation::Rename, "index.suspect.new");
    let synced = copied(Operation::Sync, "index.copy/db");
    assert!(marked < synced && synced < copied(Operation::Rename, "index.copy"), "{done:?}");
    assert!(!place.path.join("index.suspect").exists());
    store.sweep().expect("the disk is well again");
    assert!(store.account(account.id).await.expect("readable").is_some());
    kill(&store);
    assert!(place.open().scrub(sample::now()).is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_6_commits_go_on_while_a_sweep_waits_for_its_disk() {
    for path in ["index/db", "ledger/tile"] {
        let place = Place::new();
        let store = place.open();
        issue(&*store, 1).await;
        place.disk.shut_gate_at(path);
        let sweeping = {
            let store = Arc::clone(&store);
            std::thread::spawn(move || store.sweep())
        };
        place.disk.wait_for_a_sync();
        let before = store.shared.view.bytes();
        let (account, changes) = account_changes(2);
        store.commit(changes).await.expect("kept while the sweep waits");
        assert!(store.account(account.id).await.expect("readable").is_some());
        assert!(store.shared.view.bytes() > before && !sweeping.is_finished(), "the sweep still waits at {path}");
        place.disk.open_gate();
        sweeping.join().expect("no panic").expect("nothing stands against it");
    }
}

#[tokio::test]
async fn rule_5_a_certificate_takes_five_keys_at_most_and_a_settled_order_is_one_of_them() {
    let place = Place::new();
    let store = place.open();
    let count = 20;
    for number in 1..=count {
        let account = issue(&*store, number).await;
        // As the use cases leave it: the authorization is valid, and the order goes with its certificate.
        let order = super::order_id(number);
        let authorization = order.authorization(0);
        let held = store.authorization(authorization).await.expect("readable").expect("stored");
        let valid = Authorization { state: AuthorizationState::Valid, ..held.value.clone() };
        let changes = Changes::new().with(Change::Authorization(Put::over(&held, valid)));
        store.commit(changes).await.expect("kept");
        let held = store.order(order).await.expect("readable").expect("stored");
        let changes = Changes::new()
            .with(Change::Order(Put::over(&held, held.value.clone())))
            .with(Change::Finish(JobKind::PruneOrder { order }))
            .with(Change::Finish(JobKind::PruneAccount { account: account.id }));
        store.commit(changes).await.expect("kept");
    }
    store.sweep().expect("nothing stands against it");
    let keys = |class: Option<u8>| {
        let mut found = 0;
        store
            .shared
            .view
            .index
            .each(|key, _| {
                found += u64::from(class.is_none_or(|class| key[0] == class));
                Ok::<(), crate::Damage>(())
            })
            .expect("readable");
        found
    };
    // An account of its own for each is no part of it: its record and its key.
    let accounts = keys(Some(class::ACCOUNT)) + keys(Some(class::ACCOUNT_KEY));
    assert_eq!(accounts, 2 * count);
    let certificates = keys(None) - accounts;
    assert!(certificates <= 5 * count, "{certificates} keys for {count} certificates");
    assert_eq!(keys(Some(class::ORDER)), count);
    for gone in [class::AUTHORIZATION, class::JOB, class::JOB_DUE, class::CLAIM, class::COUNTER] {
        assert_eq!(keys(Some(gone)), 0, "class {}", char::from(gone));
    }
}

#[tokio::test]
async fn rule_6_swept_segments_are_dropped_and_the_journal_stays_small() {
    let place = Place::new();
    let store = open(&place.path, &place.disk, Options { segment_bytes: 4096, ..options() }).expect("new");
    for number in 1..=40 {
        issue(&*store, number).await;
        if number % 10 == 0 {
            store.sweep().expect("nothing stands against it");
        }
    }
    assert!(segments(&place.path.join("journal")).expect("readable").len() <= 2);
    for number in 1..=40 {
        let id = sample::certificate(number, &["x.example"]).id;
        assert!(store.certificate(id).await.expect("readable").is_some());
    }
}

#[tokio::test]
async fn rule_6_a_bundle_that_says_something_else_than_the_journal_is_damage() {
    let place = Place::new();
    let store = place.open();
    store.commit(Changes::new().leaf(sample::leaf(1))).await.expect("kept");
    // As an interrupted sweep would leave it, but with another leaf.
    let folder = place.path.join("ledger/tile/entries/000.p");
    fs::create_dir_all(&folder).expect("ours");
    let other = chancery_ledger::bundle::encode(&[sample::leaf(2).encode().expect("small")]).expect("one");
    fs::write(folder.join("1"), other).expect("ours");
    let StoreError::Damaged(said) = store.sweep().expect_err("they differ") else { panic!("not damage") };
    assert!(said.contains("000.p/1") && said.contains("leaf 0"), "{said}");
}

#[tokio::test]
async fn rule_6_where_sweeps_cannot_keep_up_commits_are_told_that_the_store_is_busy() {
    let place = Place::new();
    let store = open(&place.path, &place.disk, Options { overlay_limit: 20_000, ..options() }).expect("new");
    place.disk.fail(Fault { always: true, ..Fault::once(Operation::Sync, "index/db", io::ErrorKind::Other) });
    let mut outcome = Ok(());
    for number in 1..200 {
        outcome = store.commit(account_changes(number).1).await.map(drop);
        if outcome.is_err() {
            break;
        }
    }
    assert!(matches!(outcome, Err(CommitError::NotApplied(NotApplied::Busy))), "{outcome:?}");
    // A settlement has some more room than others.
    store.commit(account_changes(300).1.urgently()).await.expect("kept");
    place.disk.heal();
    store.sweep().expect("the disk is well again");
    store.commit(account_changes(301).1).await.expect("kept");
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

#[tokio::test]
async fn what_a_scrub_cannot_read_for_now_is_told_apart_from_damage() {
    let place = Place::new();
    let store = place.open();
    issue(&*store, 1).await;
    store.sweep().expect("nothing stands against it");
    for (file, is_damage_where_missing) in [("ledger/tile/entries/000.p/2", true), ("ledger/state", false)] {
        let (file, away) = (place.path.join(file), place.path.join("away"));
        fs::rename(&file, &away).expect("ours");
        // A link to itself: it is there, and reading it fails, as with too many open files.
        std::os::unix::fs::symlink(&file, &file).expect("ours");
        let scrubbed = store.scrub(sample::now());
        let unread = scrubbed.unread.as_ref().expect("it could not be read");
        assert!(unread.contains(&file.display().to_string()) && !scrubbed.is_clean(), "{unread}");
        fs::remove_file(&file).expect("ours");
        let scrubbed = store.scrub(sample::now());
        assert_eq!((scrubbed.unread.is_none(), scrubbed.is_clean()), (true, !is_damage_where_missing), "{scrubbed:?}");
        fs::rename(&away, &file).expect("ours");
        assert!(store.scrub(sample::now()).is_clean());
    }
}

#[tokio::test]
async fn rule_10_a_damaged_bundle_is_named_and_its_certificate_can_still_be_revoked() {
    let place = Place::new();
    let store = place.open();
    issue(&*store, 1).await;
    store.sweep().expect("nothing stands against it");
    let file = place.path.join("ledger/tile/entries/000.p/2");
    let mut bytes = fs::read(&file).expect("ours");
    bytes[30] ^= 1;
    fs::write(&file, bytes).expect("ours");
    let StoreError::Damaged(said) = store.leaf(0).await.expect_err("damaged") else { panic!("not damage") };
    assert!(said.contains("entries/000.p/2") && said.contains("leaf 0"), "{said}");
    assert!(store.leaf(1).await.expect("readable").is_some(), "its neighbour is sound");
    let id = sample::certificate(1, &["x.example"]).id;
    let loaded = store.certificate(id).await.expect("readable").expect("stored");
    let revocation = Some(Revocation { at: sample::now(), reason: None });
    let revoked = CertificateRecord { revocation, ..loaded.value.clone() };
    store.commit(Changes::new().with(Change::Certificate(Put::over(&loaded, revoked))).urgently()).await.expect("kept");
    assert!(!store.scrub(sample::now()).is_clean());
    // A start looks at the tail of the bundles and refuses.
    kill(&store);
    let said = place.try_open().expect_err("damaged").to_string();
    assert!(said.contains("entries/000.p/2"), "{said}");
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

#[test]
fn a_second_process_is_refused_in_one_sentence() {
    let place = Place::new();
    let store = place.open();
    let refused = place.try_open().expect_err("it is taken");
    assert!(matches!(refused, OpenError::Folder(FolderError::InUse { pid: Some(_), .. })), "{refused:?}");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    store.stop();
    place.open();
}

#[test]
fn a_folder_that_others_can_look_into_or_that_is_a_link_is_refused() {
    let place = Place::new();
    kill(&place.open());
    for mode in [0o755, 0o701, 0o770] {
        fs::set_permissions(&place.path, fs::Permissions::from_mode(mode)).expect("ours");
        let refused = place.try_open().expect_err("others can look into it").to_string();
        assert!(refused.contains("chmod 700"), "{refused}");
    }
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o700)).expect("ours");
    let link = place.path.with_extension("link");
    std::os::unix::fs::symlink(&place.path, &link).expect("ours");
    let refused = open(&link, &place.disk, options()).expect_err("it is a link");
    assert!(matches!(refused, OpenError::Folder(FolderError::NotAFolder(_))), "{refused}");
    place.open();
}

#[test]
fn a_store_of_a_newer_release_is_refused() {
    let place = Place::new();
    kill(&place.open());
    fs::write(place.path.join("store.json"), br#"{"format":2,"future":true}"#).expect("ours");
    let refused = place.try_open().expect_err("newer");
    assert!(matches!(refused, OpenError::Folder(FolderError::Newer { found: 2, .. })), "{refused}");
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

#[tokio::test]
async fn a_damaged_index_is_named_or_healed_and_never_served_wrong() {
    // Small pages, so that flipped bytes fall on something.
    let place = Place::new();
    let store = place.open();
    let mut expected = Vec::new();
    for number in 1..=30 {
        issue(&*store, number).await;
        let id = sample::certificate(number, &["x.example"]).id;
        expected.push(store.certificate(id).await.expect("readable").expect("stored"));
    }
    store.sweep().expect("nothing stands against it");
    // Frames that were swept are gone after the next one, so that only leaves could bring them back.
    store.commit(account_changes(99).1).await.expect("kept");
    store.stop();
    let file = place.path.join("index/db");
    let whole = fs::read(&file).expect("ours");
    let used = whole.iter().rposition(|byte| *byte != 0).expect("something");
    let (mut refused, mut found, mut rebuilt, mut unharmed) = (0, 0, 0, 0);
    for step in 0..40 {
        let copy = place.path.with_extension(format!("copy{step}"));
        copy_folder(&place.path, &copy);
        let mut flipped = whole.clone();
        flipped[used * step / 40] ^= 0x40;
        fs::write(copy.join("index/db"), flipped).expect("ours");
        match open(&copy, &Arc::new(TestDisk::new()), options()) {
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("index/db") && said.contains("chancery store rebuild"), "{said}");
                // A sled that did not open lets go of its lock a little later: waited for, as the command does.
                let patient = Options { lock_wait: Options::default().lock_wait, ..options() };
                check::rebuild(&copy, &patient).expect("the ledger is sound");
                let store = open(&copy, &Arc::new(TestDisk::new()), patient).expect("healed");
                assert!(store.scrub(sample::now()).is_clean());
                refused += 1;
            }
            Ok(store) => {
                let (mut harmed, mut anew) = (false, false);
                for wanted in &expected {
                    match store.certificate(wanted.value.id).await {
                        // A rebuild on the way gives the same facts under another version.
                        Ok(Some(held)) => {
                            anew |= held.version != wanted.version;
                            assert_eq!(held.value, wanted.value);
                        }
                        Ok(None) | Err(StoreError::Damaged(_)) => harmed = true,
                        Err(error) => panic!("{error}"),
                    }
                }
                let clean = store.scrub(sample::now()).is_clean();
                assert!(!(harmed && clean), "step {step}: something is lost and the scrub does not say so");
                if !clean {
                    found += 1;
                } else if anew {
                    rebuilt += 1;
                } else {
                    unharmed += 1;
                }
            }
        }
        fs::remove_dir_all(&copy).expect("ours");
    }
    let seen = format!("{refused} refused, {found} found, {rebuilt} rebuilt, {unharmed} unharmed");
    assert!(refused + found + rebuilt > 0, "no flip hit anything: {seen} of {used} octets in {}", place.path.display());
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).expect("new");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("ours");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
