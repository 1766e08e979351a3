//! Sweeps, bundles, and how much the index holds.

use std::{fs, io, sync::Arc};

use chancery_acme::authorization::{Authorization, AuthorizationState};
use chancery_authority::{
    changes::{Change, Changes, Put},
    ports::{CommitError, NotApplied, Store, StoreError},
    records::JobKind,
};
use chancery_testkit::sample;

use super::super::{Fault, Operation, issue, kill, open, options};
use super::{Place, account_changes};
use crate::{journal::segments, key::class, options::Options};

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
        let order = super::super::order_id(number);
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
