//! Damage is named, and never served.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use chancery_authority::{
    changes::{Change, Changes, Put},
    ports::{Store, StoreError},
    records::{CertificateRecord, Revocation},
};
use chancery_testkit::sample;

use super::super::{TestDisk, issue, kill, open, options};
use super::{Place, account_changes};
use crate::{
    check::{self},
    options::Options,
};

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
