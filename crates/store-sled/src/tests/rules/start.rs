//! What a start finds, and what it refuses.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use chancery_acme::order::OrderState;
use chancery_authority::{changes::Changes, ports::Store, records::JobKind};
use chancery_testkit::sample;

use super::super::{Operation, TestDisk, issue, kill, open, options};
use super::{Place, account_changes};
use crate::{
    FolderError,
    check::{self, Knowledge},
    opening::OpenError,
};

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
