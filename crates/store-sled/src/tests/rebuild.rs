//! The index made again from leaves alone, and the table that says what comes back.

use std::{fs, sync::Arc, time::Duration};

use chancery_acme::{id::CertificateId, order::OrderState};
use chancery_authority::{
    changes::{Change, Changes, Claim, Put},
    ports::{CertificateQuery, CommitError, Store},
    records::{
        CertificateRecord, CertificateState, IdempotencyOutcome, JobKind, Revocation, RevocationReason, Versioned,
    },
};
use chancery_pki::Timestamp;
use chancery_testkit::sample;

use super::{End, TestDisk, issue_to, key, kill, open, options, order_id};
use crate::{
    check,
    rebuild::{CLASSES, Source},
    store::SledStore,
};

/// A store whose frames are all swept and dropped, so that leaves are all there is.
async fn swept(path: &std::path::Path) -> Arc<SledStore> {
    let store = open(path, &Arc::new(TestDisk::new()), options()).expect("new");
    issue_to(&*store, 1, End::Issued, Some("1")).await;
    issue_to(&*store, 2, End::Abandoned, Some("2")).await;
    issue_to(&*store, 3, End::Open, Some("3")).await;
    issue_to(&*store, 4, End::Issued, None).await;
    let id = CertificateId::from_random(sample::octets(4));
    let held = store.certificate(id).await.expect("readable").expect("stored");
    let revocation = Some(Revocation { at: sample::now(), reason: Some(RevocationReason::KeyCompromise) });
    let changes = Changes::new()
        .with(Change::Certificate(Put::over(&held, CertificateRecord { revocation, ..held.value.clone() })))
        .leaf(sample::issuance(4, "host4.example.com", None, None, None).revocation(Some(1)));
    store.commit(changes).await.expect("kept");
    // A stranger with a pending order: no leaf speaks of it.
    let stranger = sample::account(5);
    let (order, authorization) = sample::order(5, stranger.id, "host5.example.com");
    let changes = Changes::new()
        .with(Change::Account(Put::new(stranger)))
        .with(Change::Order(Put::new(order)))
        .with(Change::Authorization(Put::new(authorization)))
        .with(Change::Claim(Claim::EabUse { key_id: "k".to_owned(), account_key: chancery_pki::SpkiDigest([1; 32]) }));
    store.commit(changes).await.expect("kept");
    store.commit(sample::put_in_force(None, sample::in_force(1))).await.expect("kept");
    let held = store.in_force().await.expect("readable");
    store.commit(sample::put_in_force(held.as_ref(), sample::in_force(2))).await.expect("kept");
    store.sweep().expect("nothing stands against it");
    // The next frame begins a segment of its own, and the next sweep drops the ones before.
    store.commit(Changes::new().with(Change::Finish(JobKind::RenewOwnTls))).await.expect("kept");
    store.commit(Changes::new().schedule(JobKind::RenewOwnTls, sample::now())).await.expect("kept");
    store.sweep().expect("nothing stands against it");
    store
}

async fn certificates(store: &SledStore) -> Vec<CertificateRecord> {
    store.certificates(&CertificateQuery::All, None, 100).await.expect("readable")
}

#[tokio::test]
async fn rule_9_a_rebuild_brings_back_everything_that_a_leaf_speaks_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = swept(&path).await;
    let (before, head) = (certificates(&store).await, store.tree_head().await.expect("readable"));
    let outcomes = async |store: &SledStore| {
        let mut all = Vec::new();
        for uid in ["1", "2", "3"] {
            let found = store.idempotency(&key(Some(uid))).await.expect("readable");
            all.push(found.map(|found: Versioned<_>| found.value.outcome));
        }
        all
    };
    let outcomes_before = outcomes(&store).await;
    kill(&store);
    let rebuilt = check::rebuild(&path, Duration::ZERO).expect("the ledger is sound");
    assert_eq!((rebuilt.certificates, rebuilt.accounts, rebuilt.orders, rebuilt.revocations), (4, 4, 4, 1));
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("sound");
    assert_eq!(certificates(&store).await, before);
    assert_eq!(store.tree_head().await.expect("readable"), head);
    assert_eq!(outcomes(&store).await, outcomes_before);
    assert_eq!(store.in_force().await.expect("readable").map(|held| held.value), Some(sample::in_force(2)));
    assert!(matches!(outcomes_before[2], Some(IdempotencyOutcome::Pending { .. })));
    // An order with a certificate never gets a second one.
    for number in 1..=4 {
        let again = store.commit(Changes::new().with(Change::Claim(Claim::OrderCertificate(order_id(number))))).await;
        assert!(matches!(again, Err(CommitError::Conflict)), "{number}: {again:?}");
    }
    let states = async |number| store.order(order_id(number)).await.expect("readable").map(|found| found.value.state);
    assert!(matches!(states(1).await, Some(OrderState::Valid { .. })));
    assert!(matches!(states(2).await, Some(OrderState::Invalid { .. })));
    assert!(matches!(states(3).await, Some(OrderState::Processing { .. })));
    // What is open is owed a settlement at once.
    let due = store.due_jobs(sample::now(), 100).await.expect("readable");
    let settle = JobKind::Settle { certificate: CertificateId::from_random(sample::octets(3)) };
    assert!(due.iter().any(|job| job.kind == settle), "{due:?}");
    assert_eq!(due.iter().filter(|job| matches!(job.kind, JobKind::Settle { .. })).count(), 1);
    let account = sample::account(1);
    assert!(store.account(account.id).await.expect("readable").expect("stored").value.proven);
    assert!(store.scrub(sample::now()).is_clean());
}

#[tokio::test]
async fn rule_9_what_is_forgotten_is_what_the_table_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = swept(&path).await;
    let count = |store: &SledStore, class: u8| store.shared.view.scan(&[class], None, 1000).expect("readable").len();
    let before: Vec<usize> = CLASSES.iter().map(|(_, class, _)| count(&store, *class)).collect();
    // Every class of keys is in the table.
    let known: Vec<u8> = CLASSES.iter().map(|(_, class, _)| *class).collect();
    for (stored, _) in store.shared.view.scan(&[], None, 10_000).expect("readable") {
        assert!(stored[0] == crate::key::class::META || known.contains(&stored[0]), "{stored:?}");
    }
    kill(&store);
    check::rebuild(&path, Duration::ZERO).expect("the ledger is sound");
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("sound");
    for ((name, class, source), before) in CLASSES.iter().zip(before) {
        let after = count(&store, *class);
        match source {
            Source::Forgotten(effect) => assert!(after == 0 && before > 0 && !effect.is_empty(), "{name}"),
            Source::InPart(effect) => assert!(after <= before && !effect.is_empty(), "{name}: {before}, then {after}"),
            // One claim has no leaf in this test: nobody wrote that the EAB key was used.
            Source::Leaves if *name == "claims" => assert_eq!(after, before - 1, "{name}"),
            Source::Leaves => assert_eq!(after, before, "{name}"),
            Source::Follows => assert!(after <= before, "{name}"),
        }
    }
    assert!(store.order(order_id(5)).await.expect("readable").is_none(), "a pending order");
    assert!(store.account(sample::account(5).id).await.expect("readable").is_none(), "a stranger");
}

#[tokio::test]
async fn rule_9_a_rebuild_over_a_damaged_ledger_is_refused_and_the_index_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = swept(&path).await;
    kill(&store);
    let bundles = path.join("ledger/tile/entries/000.p");
    let file = fs::read_dir(&bundles).expect("readable").next().expect("one").expect("readable").path();
    let mut bytes = fs::read(&file).expect("ours");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&file, &bytes).expect("ours");
    check::rebuild(&path, Duration::ZERO).expect_err("a row might be missing");
    bytes[at] ^= 1;
    fs::write(&file, &bytes).expect("ours");
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("sound");
    assert_eq!(certificates(&store).await.len(), 4);
}

#[tokio::test]
async fn rule_9_a_verification_runs_beside_a_server_that_commits_and_sweeps() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = open(&path, &Arc::new(TestDisk::new()), crate::options::Options { segment_bytes: 3000, ..options() })
        .expect("new");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let verifier = {
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut sizes = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let verified = check::verify(&path, Vec::new()).expect("readable beside a server");
                assert!(verified.report.is_clean(), "{:?}", verified.report.findings);
                sizes.push(verified.report.size);
            }
            sizes
        })
    };
    for number in 1..=60 {
        issue_to(&*store, number, End::Issued, None).await;
        if number % 7 == 0 {
            store.sweep().expect("nothing stands against it");
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let sizes = verifier.join().expect("it found nothing wrong");
    assert!(sizes.is_sorted());
    let head = store.tree_head().await.expect("readable");
    let last = check::verify(&path, Vec::new()).expect("readable").report;
    assert_eq!((last.size, last.root.map(|root| root.octets())), (head.size, Some(head.root)));
    assert_eq!(last.size, 120);
}

#[tokio::test]
async fn rows_of_certificates_that_have_ended_may_be_missing_others_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = swept(&folder.path().join("store")).await;
    let id = CertificateId::from_random(sample::octets(1));
    let held = store.certificate(id).await.expect("readable").expect("stored");
    assert!(matches!(held.value.state, CertificateState::Issued { .. }));
    store.commit(Changes::new().with(Change::RemoveCertificate(id, held.version))).await.expect("kept");
    assert_eq!(store.scrub(sample::now()).missing, [id]);
    assert!(store.scrub(Timestamp::MAX).is_clean());
}
