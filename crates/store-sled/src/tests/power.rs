//! The power cut: what was acknowledged is there, whatever was on its way when it went dark.
//!
//! The model keeps contents as they were at their last sync and names as they were at their folder's
//! last sync, and forgets everything else. That it can find a fault is shown by running it on a disk
//! whose syncs lie.

use std::{fs, path::Path, sync::Arc};

use chancery_acme::id::{AccountId, CertificateId};
use chancery_authority::{
    changes::{Change, Changes, Put},
    ports::Store,
    records::CertificateState,
};
use chancery_testkit::sample;

use super::{TestDisk, issue, kill, open, options};
use crate::options::Options;

/// Small limits, so that segments roll and sweeps run all the time.
fn busy() -> Options {
    Options { sweep_bytes: 2000, segment_bytes: 1500, ..options() }
}

/// What was acknowledged before it went dark.
#[derive(Default)]
struct Acknowledged {
    accounts: Vec<AccountId>,
    certificates: Vec<(CertificateId, u64)>,
    leaves: u64,
    checkpoint: u64,
}

/// Commits until the power is cut.
async fn until_dark(path: &Path, disk: &Arc<TestDisk>) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let Ok(store) = open(path, disk, busy()) else { return acknowledged };
    for number in 1.. {
        let account = sample::account(number);
        let changes = Changes::new().with(Change::Account(Put::new(account.clone())));
        if store.commit(changes).await.is_err() {
            break;
        }
        acknowledged.accounts.push(account.id);
        let record = sample::certificate(number, &["a.example"]);
        let changes = Changes::new().with(Change::Certificate(Put::new(record.clone()))).leaf(sample::leaf(number));
        let Ok(committed) = store.commit(changes).await else { break };
        acknowledged.certificates.push((record.id, committed.first_leaf));
        acknowledged.leaves = committed.first_leaf + 1;
        if number % 5 == 0 && store.keep_checkpoint(acknowledged.leaves, format!("note {number}")).await.is_ok() {
            acknowledged.checkpoint = acknowledged.leaves;
        }
        if number % 3 == 0 {
            // One that fails in the dark is told of by the next commit.
            drop(store.sweep());
        }
        assert!(number < 10_000, "the power is never cut");
    }
    kill(&store);
    acknowledged
}

/// Opens what is left, and says what of the acknowledged is missing.
async fn look(path: &Path, acknowledged: &Acknowledged) -> Result<(), String> {
    let store = open(path, &Arc::new(TestDisk::new()), options()).map_err(|error| error.to_string())?;
    for id in &acknowledged.accounts {
        match store.account(*id).await {
            Ok(Some(_)) => {}
            other => return Err(format!("account {id}: {other:?}")),
        }
    }
    for (id, leaf) in &acknowledged.certificates {
        match store.certificate(*id).await {
            Ok(Some(held)) if matches!(held.value.state, CertificateState::Intended { .. }) => {}
            other => return Err(format!("certificate {id}: {other:?}")),
        }
        match store.leaf(*leaf).await {
            Ok(Some(entry)) if Some(&entry) == sample::leaf(leaf + 1).encode().ok().as_ref() => {}
            other => return Err(format!("leaf {leaf}: {other:?}")),
        }
    }
    let size = store.tree_head().await.map_err(|error| error.to_string())?.size;
    if size < acknowledged.leaves || size < acknowledged.checkpoint {
        return Err(format!("{size} leaves"));
    }
    // And it goes on.
    store.commit(Changes::new().leaf(sample::leaf(0))).await.map_err(|error| error.to_string())?;
    store.sweep().map_err(|error| error.to_string())
}

async fn cut(disk: TestDisk, after: u64) -> Result<usize, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, left) = (folder.path().join("store"), folder.path().join("left"));
    let disk = Arc::new(disk);
    disk.cut_after(after);
    let acknowledged = until_dark(&path, &disk).await;
    assert!(disk.is_cut());
    disk.leave(&path, &left);
    if fs::read_dir(&left).expect("readable").next().is_none() {
        // Dark before the store had so much as a name.
        assert!(acknowledged.accounts.is_empty());
        return Ok(0);
    }
    look(&left, &acknowledged).await.map(|()| acknowledged.accounts.len())
}

#[tokio::test]
async fn a_power_cut_at_any_operation_loses_nothing_that_was_acknowledged() {
    let mut most = 0;
    for after in (0..60).chain((60..900).step_by(7)) {
        let kept = cut(TestDisk::new(), after).await;
        most = most.max(kept.unwrap_or_else(|missing| panic!("cut after {after} operations: {missing}")));
    }
    assert!(most > 30, "the last cuts come after {most} commits");
}

#[tokio::test]
async fn the_power_cut_is_one_a_disk_whose_syncs_lie_does_not_survive() {
    let mut lost = 0;
    for after in (100..900).step_by(50) {
        lost += u32::from(cut(TestDisk::lying(), after).await.is_err());
    }
    assert!(lost >= 15, "only {lost} of 16 cuts lost something: the model proves nothing");
}

#[tokio::test]
async fn what_a_killed_sweep_left_unsynced_is_not_lost_to_a_power_cut_after_the_next_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut steps = 0;
    for step in 0.. {
        let (path, left) = (folder.path().join(format!("store{step}")), folder.path().join(format!("left{step}")));
        let disk = Arc::new(TestDisk::new());
        let store = open(&path, &disk, options()).expect("new");
        let account = issue(&*store, 1).await;
        disk.cut_after(step);
        let whole = store.sweep().is_ok();
        kill(&store);
        disk.go_on();
        // The next start sweeps again, and once more, so that nothing but bundles has the leaves.
        let store = open(&path, &disk, options()).expect("sound");
        for number in 2..4 {
            store.sweep().expect("nothing stands against it");
            issue(&*store, number).await;
        }
        kill(&store);
        disk.leave(&path, &left);
        let store = open(&left, &Arc::new(TestDisk::new()), options());
        let store = store.unwrap_or_else(|error| panic!("killed at step {step}: {error}"));
        assert!(store.account(account.id).await.expect("readable").is_some(), "step {step}");
        let scrubbed = store.scrub(sample::now());
        assert!(scrubbed.is_clean(), "killed at step {step}: {scrubbed:?}");
        kill(&store);
        steps = step;
        if whole {
            break;
        }
    }
    assert!(steps > 10, "{steps}");
}
