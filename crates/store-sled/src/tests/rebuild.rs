//! The index made again from leaves alone, and the table that says what comes back.

use std::{fs, sync::Arc, time::Duration};

use chancery_acme::{
    account::{Account, AccountStatus, TermsAgreed},
    id::CertificateId,
    order::{Order, OrderState},
    renewal_info::UniqueIdentifier,
};
use chancery_authority::{
    changes::{Change, Changes, Claim, Counter, Put},
    ports::{CertificateQuery, CommitError, Store},
    records::{
        ApiToken, CertificateRecord, CertificateState, IdempotencyOutcome, Job, JobKind, Revocation, RevocationReason,
        Versioned,
    },
};
use chancery_ledger::{
    Leaf,
    leaf::{AccountAgreed, AccountDeactivated, Terms},
};
use chancery_pki::Timestamp;
use chancery_testkit::sample;

use super::{End, TestDisk, issue_to, key, kill, open, options, order_id};
use crate::{
    check::{self, Knowledge},
    key::class,
    options::{Options, Retained},
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
    // The account of the first has ended since.
    let held = store.account(sample::account(1).id).await.expect("readable").expect("stored");
    let ended = Account { status: AccountStatus::Deactivated { at: sample::now() }, ..held.value.clone() };
    let leaf = AccountDeactivated { account: held.value.id.octets(), at: sample::now() };
    store.commit(Changes::new().with(Change::Account(Put::over(&held, ended))).leaf(leaf.into())).await.expect("kept");
    // That of the second has agreed to new terms.
    let held = store.account(sample::account(2).id).await.expect("readable").expect("stored");
    let agreed = Account { terms_agreed: Some(new_terms()), ..held.value.clone() };
    let terms = Terms { at: new_terms().at, url: new_terms().url };
    let leaf = AccountAgreed { account: held.value.id.octets(), terms };
    store.commit(Changes::new().with(Change::Account(Put::over(&held, agreed))).leaf(leaf.into())).await.expect("kept");
    // Two API tokens were made, and one of them revoked.
    for token in [sample::api_token(1), sample::api_token(2)] {
        let prune = JobKind::PruneApiToken { token: token.id };
        let changes = Changes::new()
            .with(Change::ApiToken(Put::new(token.clone())))
            .with(Change::Count { counter: Counter::ApiTokens, by: 1, limit: None })
            .schedule(prune, token.kept_until())
            .leaf(sample::api_token_leaf(&token));
        store.commit(changes).await.expect("kept");
    }
    let held = store.api_token(sample::api_token(2).id).await.expect("readable").expect("stored");
    let changes = Changes::new().with(Change::ApiToken(Put::over(&held, revoked_token())));
    store.commit(changes.leaf(sample::api_token_leaf(&revoked_token()))).await.expect("kept");
    // A CRL got its number.
    let number = Change::CrlNumber { authority: "issuing".parse().expect("a name"), shard: 0, number: 7 };
    store.commit(Changes::new().with(number).leaf(sample::leaf(7)).urgently()).await.expect("kept");
    // A stranger with a pending order: no leaf speaks of it.
    let stranger = sample::account(5);
    let (order, authorization) = sample::order(5, stranger.id, "host5.example.com");
    let changes = Changes::new()
        .with(Change::Account(Put::new(stranger)))
        .with(Change::Order(Put::new(order)))
        .with(Change::Authorization(Put::new(authorization)))
        .with(Change::Claim(Claim::EabUse {
            key_id: "k".parse().expect("an id"),
            account_key: chancery_pki::SpkiDigest([1; 32]),
        }));
    store.commit(changes).await.expect("kept");
    for number in [1, 2] {
        let text = sample::policy_text(number);
        store.keep_blob(crate::journal::sha256(&text), text).await.expect("kept");
    }
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

fn new_terms() -> TermsAgreed {
    TermsAgreed { url: "https://example.com/terms-2".to_owned(), at: sample::now().after(Duration::from_secs(1)) }
}

fn revoked_token() -> ApiToken {
    ApiToken { revoked: Some(sample::now()), ..sample::api_token(2) }
}

async fn certificates(store: &SledStore) -> Vec<CertificateRecord> {
    store.certificates(&CertificateQuery::All, None, 100).await.expect("readable")
}

#[tokio::test]
async fn names_of_every_kind_come_back_and_are_found_by_each() {
    const NAMES: [&str; 8] = [
        "host1.example.com",
        "*.example.com",
        "10.0.0.1",
        "https://example.com/a",
        "urn:example:a",
        "Alice@example.com",
        "other:1.3.6.1.4.1.311.20.2.3:alice@example.com",
        "cn:Payments CA",
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("new");
    for (number, names) in [(1, &NAMES[..]), (2, &["cn:Payments CA"])] {
        let issuance = sample::issuance_of(number, names, None, None, None);
        let changes = Changes::new().with(Change::Certificate(Put::new(issuance.record.clone()))).leaf(issuance.intent);
        store.commit(changes).await.expect("kept");
    }
    let before = certificates(&store).await;
    store.sweep().expect("nothing stands against it");
    kill(&store);
    check::rebuild(&path, &options()).expect("the ledger is sound");
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("sound");
    let names = |records: Vec<CertificateRecord>| records.into_iter().map(|record| record.names).collect::<Vec<_>>();
    assert_eq!(names(certificates(&store).await), names(before));
    for name in NAMES {
        let query = CertificateQuery::Name(name.parse().expect("a name"));
        let found = store.certificates(&query, None, 100).await.expect("readable");
        assert_eq!(found.len(), if name.starts_with("cn:") { 2 } else { 1 }, "{name}");
    }
}

#[tokio::test]
async fn what_replaces_a_certificate_is_kept_and_known_again_from_the_intent_that_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("new");
    issue_to(&*store, 1, End::Issued, None).await;
    let first = CertificateId::from_random(sample::octets(1));
    let account = sample::account(2);
    let asked = UniqueIdentifier::new(&[7; 20], &[0, 0x87, 0x65]).expect("as DER writes it");
    let (order, _) = sample::order(2, account.id, "host1.example.com");
    let issuance = sample::issuance(2, "host1.example.com", Some(&account), Some(order.id), None);
    let Leaf::Intent(mut intent) = issuance.intent else { panic!("an intent") };
    intent.replaces = Some(sample::octets(1));
    let certificate = issuance.record.id;
    let order = Order { replaces: Some(asked), state: OrderState::Processing { certificate }, ..order };
    let held = store.certificate(first).await.expect("readable").expect("stored");
    let marked = CertificateRecord { replaced_by: Some(order.id), ..held.value.clone() };
    let changes = Changes::new()
        .with(Change::Account(Put::new(account)))
        .with(Change::Order(Put::new(order.clone())))
        .with(Change::Certificate(Put::over(&held, marked)))
        .with(Change::Certificate(Put::new(issuance.record)))
        .leaf(Leaf::Intent(intent));
    store.commit(changes).await.expect("kept");
    store.sweep().expect("nothing stands against it");
    // The next frame begins a segment of its own, and the next sweep drops the ones before.
    store.commit(Changes::new().with(Change::Finish(JobKind::RenewOwnTls))).await.expect("kept");
    store.commit(Changes::new().schedule(JobKind::RenewOwnTls, sample::now())).await.expect("kept");
    store.sweep().expect("nothing stands against it");
    let before = certificates(&store).await;
    kill(&store);
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("sound");
    assert_eq!(store.order(order.id).await.expect("readable").expect("stored").value, order);
    assert_eq!(certificates(&store).await, before);
    kill(&store);
    check::rebuild(&path, &options()).expect("the ledger is sound");
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("sound");
    assert_eq!(certificates(&store).await, before);
    let marked = store.certificate(first).await.expect("readable").expect("stored").value;
    assert_eq!(marked.replaced_by, Some(order.id));
    let rebuilt = store.order(order.id).await.expect("readable").expect("stored").value;
    assert_eq!((rebuilt.replaces, rebuilt.state), (None, order.state), "no leaf has the identifier as it was sent");
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
    let rebuilt = check::rebuild(&path, &options()).expect("the ledger is sound");
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
    let account = |number| store.account(sample::account(number).id);
    let (first, second) = (account(1).await.expect("readable"), account(2).await.expect("readable"));
    let (first, second) = (first.expect("stored").value, second.expect("stored").value);
    assert!(first.proven && second.proven);
    assert_eq!(first.status, AccountStatus::Deactivated { at: sample::now() }, "it is not revived");
    assert_eq!(second.status, AccountStatus::Valid);
    assert_eq!(first.terms_agreed, sample::account(1).terms_agreed, "nobody has to agree again");
    assert_eq!(second.terms_agreed, Some(new_terms()));
    let mut tokens = vec![sample::api_token(1), revoked_token()];
    tokens.sort_by_key(|token| token.id);
    assert_eq!(store.api_tokens(None, 10).await.expect("readable"), tokens);
    let prunings = store.due_jobs(Timestamp::MAX, 100).await.expect("readable");
    let of = |token: &ApiToken| Job {
        kind: JobKind::PruneApiToken { token: token.id },
        due: token.kept_until(),
        attempt: 0,
    };
    assert!(tokens.iter().all(|token| prunings.contains(&of(token))), "{prunings:?}");
    let issuing = "issuing".parse().expect("a name");
    assert_eq!(store.crl_number(&issuing, 0).await.expect("readable"), Some(7));
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
        assert!(stored[0] == class::META || known.contains(&stored[0]), "{stored:?}");
    }
    kill(&store);
    check::rebuild(&path, &options()).expect("the ledger is sound");
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
async fn rule_9_what_pruning_has_dropped_does_not_return() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = swept(&path).await;
    let all = certificates(&store).await;
    let end = all.iter().map(|record| record.validity.not_after()).max().expect("four");
    kill(&store);
    // Nobody's retention is over.
    let just = Retained { full: end, light: Timestamp::MAX };
    let rebuilt = check::rebuild(&path, &Options { retained: just, ..options() }).expect("the ledger is sound");
    assert_eq!((rebuilt.certificates, rebuilt.orders, rebuilt.accounts), (4, 4, 4));
    // Everybody's is.
    let over = Retained { full: end.after(Duration::from_secs(1)), light: Timestamp::from_unix_millis(0) };
    let rebuilt = check::rebuild(&path, &Options { retained: over, ..options() }).expect("the ledger is sound");
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("sound");
    // The one that is not settled yet stays until it is.
    assert_eq!((rebuilt.certificates, rebuilt.orders, rebuilt.accounts), (1, 1, 4));
    let left: Vec<_> = certificates(&store).await.into_iter().map(|record| record.id).collect();
    assert_eq!(left, [CertificateId::from_random(sample::octets(3))]);
    for number in [1, 2, 4] {
        assert_eq!(store.order(order_id(number)).await.expect("readable"), None, "{number}");
        let claim = Change::Claim(Claim::OrderCertificate(order_id(number)));
        store.commit(Changes::new().with(claim)).await.expect("given back");
    }
    for (uid, is_kept) in [("1", false), ("2", false), ("3", true)] {
        let outcome = store.idempotency(&key(Some(uid))).await.expect("readable");
        assert_eq!(outcome.is_some(), is_kept, "{uid}");
    }
    // Nothing that led to them is left.
    for class in [class::CERTIFICATE_NAME, class::CERTIFICATE_KEY, class::CERTIFICATE_END] {
        assert_eq!(store.shared.view.scan(&[class], None, 100).expect("readable").len(), 1);
    }
    assert!(store.scrub(over.full).is_clean());
}

#[tokio::test]
async fn a_policy_that_was_ever_in_force_must_have_its_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = swept(&path).await;
    let blob = |number| store.shared.folder.blob(&crate::journal::sha256(&sample::policy_text(number)));
    let verify = || check::verify(&path, Knowledge::default()).expect("readable").report;
    assert!(verify().is_clean());
    fs::write(blob(1), b"version: v1 # another").expect("ours");
    let [changed] = &verify().findings[..] else { panic!("one text was changed") };
    assert!(changed.code() == "policy-text" && changed.to_string().contains("changed"), "{changed}");
    assert!(!store.scrub(sample::now()).is_clean());
    fs::write(blob(1), sample::policy_text(1)).expect("ours");
    fs::remove_file(blob(2)).expect("ours");
    let [missing] = &verify().findings[..] else { panic!("one text is missing") };
    assert!(missing.to_string().contains(&blob(2).display().to_string()), "{missing}");
    assert!(missing.index() > changed.index());
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
    check::rebuild(&path, &options()).expect_err("a row might be missing");
    bytes[at] ^= 1;
    fs::write(&file, &bytes).expect("ours");
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("sound");
    assert_eq!(certificates(&store).await.len(), 4);
}

#[tokio::test]
async fn rule_9_a_verification_runs_beside_a_server_that_commits_and_sweeps() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = open(&path, &Arc::new(TestDisk::new()), Options { segment_bytes: 3000, ..options() }).expect("new");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let verifier = {
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut sizes = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let verified = check::verify(&path, Knowledge::default()).expect("readable beside a server");
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
    let last = check::verify(&path, Knowledge::default()).expect("readable").report;
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
