//! Backup of a running store, restore into a new epoch.

use std::{fs, path::Path, sync::Arc};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use chancery_acme::{account::Account, order::OrderState};
use chancery_authority::{
    changes::{Change, Changes, Claim, Counter, Put},
    ports::{CertificateQuery, CommitError, Store},
};
use chancery_ledger::{
    Checkpoint, Hash, Leaf, SignedCheckpoint, VerifierKey,
    verify::{Compared, Finding, RestoreName},
};
use chancery_testkit::sample;

use super::{End, TestDisk, issue, issue_to, key, kill, open, options, order_id};
use crate::{
    backup::{BackupError, Restore, RestoreError, RestoreReport, restore, restore_on},
    check::{self, Knowledge},
    store::SledStore,
};

struct Places {
    folder: tempfile::TempDir,
}

impl Places {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, name: &str) -> Arc<SledStore> {
        open(&self.at(name), &Arc::new(TestDisk::new()), options()).expect("sound")
    }
}

fn what<'a>(backup: &'a Path, target: &'a Path) -> Restore<'a> {
    Restore { backup, target, with_bundles: None, kept: None, key: Some(ledger_key()), now: sample::now() }
}

/// The head of a store's tree, signed by the ledger's key.
async fn head(store: &SledStore) -> SignedCheckpoint {
    let head = store.tree_head().await.expect("readable");
    sign(Checkpoint::new("ca.example/ledger", head.size, Hash::from_octets(head.root)).expect("an origin"))
}

fn sign(checkpoint: Checkpoint) -> SignedCheckpoint {
    let signature = pair().sign(checkpoint.body().as_bytes());
    checkpoint.attach(&ledger_key(), signature.as_ref()).expect("just signed")
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a seed")
}

fn ledger_key() -> VerifierKey {
    let octets = pair().public_key().as_ref().try_into().expect("32 octets");
    VerifierKey::new("ca.example/ledger", octets).expect("a name")
}

/// What whoever made the restore `accepted` knows.
fn knowing(kept: &[(&str, &SignedCheckpoint)], accepted: Option<RestoreName>) -> Knowledge {
    let kept = kept.iter().map(|(label, signed)| ((*label).to_owned(), signed.unverified().clone())).collect();
    Knowledge { kept, key: Some(ledger_key()), accepted: accepted.into_iter().collect() }
}

#[tokio::test]
async fn rule_11_what_was_backed_up_is_restored_and_pending_orders_are_void() {
    let places = Places::new();
    let store = places.open("store");
    let account = issue_to(&*store, 1, End::Issued, Some("1")).await;
    issue_to(&*store, 2, End::Open, Some("2")).await;
    let (order, authorization) = sample::order(3, account.id, "host3.example.com");
    let changes = Changes::new()
        .with(Change::Order(Put::new(order.clone())))
        .with(Change::Authorization(Put::new(authorization.clone())))
        .with(Change::Count { counter: Counter::PendingOrders(account.id), by: 1, limit: None })
        .schedule(chancery_authority::records::JobKind::PruneOrder { order: order.id }, order.expires);
    store.commit(changes).await.expect("kept");
    let content = b"version: v1".to_vec();
    store.keep_blob(crate::journal::sha256(&content), content).await.expect("kept");
    let before = store.certificates(&CertificateQuery::All, None, 10).await.expect("readable");
    let old = head(&store).await;
    let backed_up = store.backup(&places.at("backup")).expect("room");
    assert_eq!(backed_up.leaves, old.unverified().size());
    // It goes on; this is after the backup.
    issue(&*store, 9).await;
    kill(&store);

    let report = restore(what(&places.at("backup"), &places.at("new")), &options()).expect("sound");
    let record = report.record;
    assert_eq!(record.index, 3);
    let expected = RestoreReport {
        epoch: 2,
        from_backup: 3,
        recovered: 0,
        missing: 0,
        checkpoint: None,
        void_orders: 1,
        missing_policies: Vec::new(),
        disbelieved: Vec::new(),
        record,
        lossy: Vec::new(),
    };
    assert_eq!(report, expected);
    let store = places.open("new");
    assert_eq!(store.certificates(&CertificateQuery::All, None, 10).await.expect("readable"), before);
    let valid = store.order(order_id(1)).await.expect("readable").expect("stored").value;
    assert!(matches!(valid.state, OrderState::Valid { .. }));
    assert!(store.order(order_id(2)).await.expect("readable").is_some(), "its settlement is owed");
    assert_eq!(store.order(order.id).await.expect("readable"), None);
    assert_eq!(store.authorization(authorization.id).await.expect("readable"), None);
    assert_eq!(store.orders_of(account.id, None, 10).await.expect("readable"), [order_id(1)]);
    assert!(store.idempotency(&key(Some("1"))).await.expect("readable").is_some());
    let again = store.commit(Changes::new().with(Change::Claim(Claim::OrderCertificate(order_id(1))))).await;
    assert!(matches!(again, Err(CommitError::Conflict)));
    // The pending order counts no more.
    let counter = Counter::PendingOrders(account.id);
    store.commit(Changes::new().with(Change::Count { counter, by: 1, limit: Some(1) })).await.expect("below the limit");
    assert_eq!(fs::read_dir(places.at("new").join("blobs")).expect("readable").count(), 1);
    assert_eq!(store.tree_head().await.expect("readable").size, 4, "the new epoch's first leaf");
    assert!(store.scrub(sample::now()).is_clean(), "{:?}", store.scrub(sample::now()));
}

#[tokio::test]
async fn rule_11_a_kept_checkpoint_does_not_cry_tampering_and_what_is_missing_is_told() {
    let places = Places::new();
    let store = places.open("store");
    issue(&*store, 1).await;
    let early = head(&store).await;
    store.backup(&places.at("backup")).expect("room");
    issue(&*store, 2).await;
    let late = head(&store).await;
    kill(&store);
    let (backup, target) = (places.at("backup"), places.at("new"));
    let with_late = Restore { kept: Some(late.clone()), ..what(&backup, &target) };
    let report = restore(with_late, &options()).expect("sound");
    assert_eq!((report.from_backup, report.missing, report.checkpoint), (2, 2, Some(4)));
    let kept = [("early", &early), ("late", &late)];
    let verify = |accepted| check::verify(&places.at("new"), knowing(&kept, accepted)).expect("readable").report;
    // Whoever did not make the restore cannot tell it from a ledger that was cut.
    assert_eq!(report.lossy, [report.record], "what the command prints is what is to be accepted");
    assert_eq!(verify(None).findings, [Finding::RestoreLost { name: report.record, lost: 2, size: 4 }]);
    let report = verify(Some(report.record));
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.checkpoints[0].1, Compared::Same);
    assert_eq!(report.checkpoints[1].1, Compared::RestoredSince { restore: 2 });
    assert_eq!(report.restores[0].lost(), 2);
    // The leaf carries the checkpoint as it was signed.
    let store = places.open("new");
    let leaf = store.leaf(2).await.expect("readable").expect("the new epoch's first");
    let Ok(Leaf::Restored(restored)) = Leaf::decode(&leaf) else { panic!("not the leaf of a restore") };
    assert_eq!(restored.note, Some(late.to_string()));
    // A server's own scrub and a rebuild have nobody to ask, and go on.
    assert!(store.scrub(sample::now()).is_clean());
    kill(&store);
    check::rebuild(&target, &options()).expect("what is left is sound");
}

#[tokio::test]
async fn rule_11_policies_of_recovered_leaves_come_with_their_texts() {
    let places = Places::new();
    let store = places.open("store");
    issue(&*store, 1).await;
    store.backup(&places.at("backup")).expect("room");
    for number in [1, 2] {
        let text = sample::policy_text(number);
        store.keep_blob(crate::journal::sha256(&text), text).await.expect("kept");
        let held = store.in_force().await.expect("readable");
        store.commit(sample::put_in_force(held.as_ref(), sample::in_force(number))).await.expect("kept");
    }
    kill(&store);
    let (backup, old) = (places.at("backup"), places.at("store"));
    let lost = old.join("blobs").join(hex::encode(crate::journal::sha256(&sample::policy_text(2))));
    for missing in [0, 1] {
        let target = places.at(&format!("new{missing}"));
        let report = restore(Restore { with_bundles: Some(&old), ..what(&backup, &target) }, &options());
        assert_eq!(report.expect("sound").missing_policies.len(), missing);
        let report = check::verify(&target, Knowledge::default()).expect("readable").report;
        let found: Vec<&str> = report.findings.iter().map(Finding::code).collect();
        assert_eq!(found, vec!["policy-text"; missing]);
        if missing == 0 {
            fs::write(&lost, b"another").expect("ours");
        }
    }
}

#[tokio::test]
async fn rule_11_a_kill_at_any_step_of_a_restore_leaves_no_store_or_a_whole_one() {
    let places = Places::new();
    let store = places.open("store");
    issue(&*store, 1).await;
    let text = sample::policy_text(1);
    store.keep_blob(crate::journal::sha256(&text), text).await.expect("kept");
    store.commit(sample::put_in_force(None, sample::in_force(1))).await.expect("kept");
    store.backup(&places.at("backup")).expect("room");
    issue(&*store, 2).await;
    let late = head(&store).await;
    kill(&store);
    let (backup, old) = (places.at("backup"), places.at("store"));
    let restore_to = |target: &Path, disk: &Arc<TestDisk>| {
        let what = Restore { with_bundles: Some(&old), kept: Some(late.clone()), ..what(&backup, target) };
        restore_on(what, &options(), &(Arc::clone(disk) as Arc<dyn crate::disk::Disk>))
    };
    let disk = Arc::new(TestDisk::new());
    let whole = restore_to(&places.at("whole"), &disk).expect("sound");
    let steps = disk.operations().len();
    assert!(steps > 20, "{steps}");
    let mut stores = 0;
    for step in 0..steps {
        let (target, disk) = (places.at(&format!("cut{step}")), Arc::new(TestDisk::new()));
        disk.cut_after(u64::try_from(step).expect("small"));
        drop(restore_to(&target, &disk));
        // Everything written is there, synced or not, as after a kill.
        let has_header = target.join("store.json").exists();
        let opened = open(&target, &Arc::new(TestDisk::new()), options());
        let Ok(store) = opened else {
            assert!(!has_header, "step {step}: a header without the store that it promises: {opened:?}");
            continue;
        };
        let size = store.tree_head().await.expect("readable").size;
        if size == 0 {
            // Killed before anything was there: what was opened just now is a new store.
            assert!(step < 8, "step {step}");
            continue;
        }
        stores += 1;
        assert!(has_header);
        assert_eq!(size, whole.record.index + 1, "step {step}");
        let leaf = store.leaf(whole.record.index).await.expect("readable").expect("the new epoch's first");
        assert!(matches!(Leaf::decode(&leaf), Ok(Leaf::Restored(_))), "step {step}");
        assert_eq!(store.in_force().await.expect("readable").map(|held| held.value), Some(sample::in_force(1)));
        assert!(store.scrub(sample::now()).is_clean(), "step {step}");
    }
    assert!((1..4).contains(&stores), "its header comes last: {stores} of {steps}");
}

#[tokio::test]
async fn rule_11_a_checkpoint_that_lies_about_is_believed_only_with_the_ledgers_signature() {
    let places = Places::new();
    let store = places.open("store");
    issue(&*store, 1).await;
    let early = head(&store).await;
    store.keep_checkpoint(2, early.to_string()).await.expect("kept");
    store.backup(&places.at("backup")).expect("room");
    issue(&*store, 2).await;
    let late = head(&store).await;
    kill(&store);
    // Whoever broke in planted one that covers more than there ever was.
    let planted = Checkpoint::new("ca.example/ledger", u64::MAX, Hash::of_nothing()).expect("an origin");
    let theirs = Ed25519KeyPair::from_seed_unchecked(&[2; 32]).expect("a seed");
    let octets = theirs.public_key().as_ref().try_into().expect("32 octets");
    let signature = theirs.sign(planted.body().as_bytes());
    let key = VerifierKey::new("ca.example/ledger", octets).expect("a name");
    let planted = planted.attach(&key, signature.as_ref()).expect("just signed");
    let (backup, old) = (places.at("backup"), places.at("store"));
    let kept = crate::folder::KeptCheckpoint { tree_size: u64::MAX, note: planted.to_string() };
    let into = crate::folder::Folder::new(&old);
    crate::folder::write_checkpoint(&crate::disk::RealDisk, &into, &kept).expect("ours");
    let target = places.at("new");
    let asked = Restore { with_bundles: Some(&old), kept: Some(late.clone()), ..what(&backup, &target) };
    let report = restore(asked, &options()).expect("sound");
    assert_eq!(report.disbelieved, [old.join("checkpoint")]);
    assert_eq!((report.checkpoint, report.missing), (Some(4), 0));
    let found = check::verify(&target, knowing(&[("late", &late)], None)).expect("readable").report;
    assert!(found.is_clean(), "{:?}", found.findings);

    // Not even the backup's own; the store goes on without it.
    let target = places.at("new2");
    let asked = Restore { key: Some(key), ..what(&backup, &target) };
    let report = restore(asked, &options()).expect("sound");
    assert_eq!((report.disbelieved, report.checkpoint), (vec![backup.join("checkpoint")], None));
    assert!(check::verify(&target, knowing(&[], None)).expect("readable").report.is_clean());

    // One that the record has no room for is refused before anything is written.
    let mut note = late.to_string();
    for seed in 3..63 {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed");
        let octets = pair.public_key().as_ref().try_into().expect("32 octets");
        let key = VerifierKey::new(format!("{seed}{}", "x".repeat(300)), octets).expect("a name");
        let signature = pair.sign(late.unverified().body().as_bytes());
        let other = late.unverified().clone().attach(&key, signature.as_ref()).expect("just signed").to_string();
        note += &format!("{}\n", other.lines().last().expect("its signature"));
    }
    let long = SignedCheckpoint::parse(note.as_bytes()).expect("a note with many signatures");
    let target = places.at("new3");
    let refused = restore(Restore { kept: Some(long), ..what(&backup, &target) }, &options());
    assert!(matches!(refused, Err(RestoreError::NoteTooLong(_))), "{refused:?}");
    assert!(!target.exists());
}

#[tokio::test]
async fn rule_11_newer_leaves_are_recovered_from_what_is_left_of_the_old_store() {
    let places = Places::new();
    let store = places.open("store");
    issue(&*store, 1).await;
    let waiting = issue_to(&*store, 2, End::Open, None).await;
    // Has neither agreed to anything yet nor been granted a certificate.
    let stranger = Account { terms_agreed: None, ..sample::account(3) };
    store.commit(Changes::new().with(Change::Account(Put::new(stranger)))).await.expect("kept");
    store.backup(&places.at("backup")).expect("room");
    // After the backup: one is swept into bundles, one is in the journal alone.
    let third = issue_to(&*store, 3, End::Issued, Some("3")).await;
    store.sweep().expect("nothing stands against it");
    issue_to(&*store, 4, End::Abandoned, None).await;
    let late = head(&store).await;
    let before = store.certificates(&CertificateQuery::All, None, 10).await.expect("readable");
    kill(&store);
    // The index of the old store is lost.
    fs::remove_dir_all(places.at("store").join("index")).expect("ours");
    let (backup, target, old) = (places.at("backup"), places.at("new"), places.at("store"));
    let what = Restore { with_bundles: Some(&old), kept: Some(late.clone()), ..what(&backup, &target) };
    let report = restore(what, &options()).expect("sound");
    assert_eq!((report.from_backup, report.recovered, report.missing), (3, 4, 0));
    let store = places.open("new");
    assert_eq!(store.certificates(&CertificateQuery::All, None, 10).await.expect("readable"), before);
    let recovered = store.account(third.id).await.expect("readable").expect("in the backup").value;
    assert!(recovered.proven);
    assert_eq!(recovered.terms_agreed, third.terms_agreed, "as its first intent says");
    assert!(store.account(waiting.id).await.expect("readable").is_some());
    assert!(store.idempotency(&key(Some("3"))).await.expect("readable").is_some());
    let report = check::verify(&target, knowing(&[("late", &late)], None)).expect("readable").report;
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.checkpoints[0].1, Compared::Same);
    assert!(store.scrub(sample::now()).is_clean());
}

#[tokio::test]
async fn a_backup_with_a_changed_file_or_of_another_ledger_is_refused() {
    let places = Places::new();
    for (name, number) in [("one", 1), ("two", 2)] {
        let store = places.open(name);
        issue(&*store, number).await;
        let backup = places.at(&format!("{name}.backup"));
        store.backup(&backup).expect("room");
        assert!(matches!(store.backup(&backup), Err(BackupError::NotEmpty(_))));
        kill(&store);
    }
    let (backup, target) = (places.at("one.backup"), places.at("new"));
    let foreign = places.at("two");
    let outcome = restore(Restore { with_bundles: Some(&foreign), ..what(&backup, &target) }, &options());
    assert!(matches!(outcome, Err(RestoreError::Foreign(_))), "{outcome:?}");
    let other = sign(Checkpoint::new("ca.example/ledger", 2, Hash::of_nothing()).expect("an origin"));
    let outcome = restore(Restore { kept: Some(other), ..what(&backup, &places.at("new2")) }, &options());
    assert!(matches!(outcome, Err(RestoreError::OtherRoot(2))), "{outcome:?}");
    for file in ["index.export", "ledger/tile/entries/000.p/2"] {
        let path = backup.join(file);
        let sound = fs::read(&path).expect("ours");
        let mut changed = sound.clone();
        changed[20] ^= 1;
        fs::write(&path, &changed).expect("ours");
        let target = places.at(&format!("new.{}", file.len()));
        let outcome = restore(what(&backup, &target), &options()).expect_err("changed").to_string();
        assert!(outcome.contains(file) && outcome.contains("hash"), "{outcome}");
        fs::write(&path, &sound).expect("ours");
    }
    fs::remove_file(backup.join("backup.json")).expect("ours");
    let unfinished = restore(what(&backup, &places.at("new3")), &options());
    assert!(matches!(unfinished, Err(RestoreError::NotABackup { .. })));
    // A restore that failed leaves nothing that would open as a store.
    assert!(open(&places.at("new"), &Arc::new(TestDisk::new()), options()).is_err());
}

#[tokio::test]
async fn rule_11_commits_go_on_while_a_backup_is_made() {
    let places = Places::new();
    let store = places.open("store");
    for number in 1..=20 {
        issue(&*store, number).await;
    }
    let (backup, copied) = (places.at("backup"), Arc::clone(&store));
    let copying = tokio::task::spawn_blocking(move || copied.backup(&backup));
    for number in 21..=40 {
        issue(&*store, number).await;
    }
    let backed_up = copying.await.expect("runs").expect("room");
    assert!((40..=80).contains(&backed_up.leaves), "{backed_up:?}");
    kill(&store);
    let report = restore(what(&places.at("backup"), &places.at("new")), &options()).expect("consistent");
    let store = places.open("new");
    assert_eq!(report.from_backup, backed_up.leaves);
    assert!(store.scrub(sample::now()).is_clean());
}
