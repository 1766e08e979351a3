//! Commits: whole or not at all, and on the versions that they name.

use std::sync::Arc;

use chancery_acme::{
    account::Account,
    id::{AccountId, OrderId},
    order::{Order, OrderState},
};
use chancery_authority::{
    changes::{Change, Changes, Claim, Committed, Counter, Put},
    ports::CommitError,
    records::{CertificateRecord, CertificateState, JobKind, LeafRef, Version},
};

use super::{Any, Fate, certificates::ten_certificates, commit, is_conflict, put_account};
use crate::sample;

pub async fn a_put_on_another_version_than_is_stored_is_a_conflict_and_changes_nothing(fixture: Any<'_>) {
    let store = fixture.store();
    let (order, _) = sample::order(1, AccountId::from_random(sample::octets(1)), "a.example");
    commit(fixture, Changes::new().with(Change::Order(Put::new(order.clone())))).await;
    let loaded = store.order(order.id).await.expect("readable").expect("stored");
    let ready = Order { state: OrderState::Ready, ..order.clone() };
    let Committed { version, .. } =
        commit(fixture, Changes::new().with(Change::Order(Put::over(&loaded, ready.clone())))).await;
    assert!(version > loaded.version);
    assert!(is_conflict(&store.commit(Changes::new().with(Change::Order(Put::over(&loaded, order.clone())))).await));
    assert_eq!(store.order(order.id).await.expect("readable").map(|found| found.value), Some(ready));
    let absent = sample::order_id(order.account, 2);
    let over_nothing = Put { replaces: Some(Version(1)), value: Order { id: absent, ..order } };
    assert!(is_conflict(&store.commit(Changes::new().with(Change::Order(over_nothing))).await));
}

pub async fn a_new_record_where_there_is_one_already_is_a_conflict(fixture: Any<'_>) {
    let (order, authorization) = sample::order(1, AccountId::from_random(sample::octets(1)), "a.example");
    let changes = Changes::new()
        .with(Change::Order(Put::new(order)))
        .with(Change::Authorization(Put::new(authorization)))
        .with(Change::Certificate(Put::new(sample::certificate(1, &["a.example"]))))
        .leaf(sample::leaf(1));
    commit(fixture, changes.clone()).await;
    for item in changes.items {
        let outcome = fixture.store().commit(Changes::new().with(item).leaf(sample::leaf(2))).await;
        assert!(is_conflict(&outcome), "{outcome:?}");
    }
}

pub async fn a_removal_needs_the_version_that_is_stored(fixture: Any<'_>) {
    let store = fixture.store();
    let (order, authorization) = sample::order(1, AccountId::from_random(sample::octets(1)), "a.example");
    let changes = Changes::new()
        .with(Change::Order(Put::new(order.clone())))
        .with(Change::Authorization(Put::new(authorization.clone())));
    let Committed { version, .. } = commit(fixture, changes).await;
    let wrong = Version(version.0 + 1000);
    for item in [Change::RemoveOrder(order.id, wrong), Change::RemoveAuthorization(authorization.id, wrong)] {
        assert!(is_conflict(&store.commit(Changes::new().with(item)).await));
    }
    let removals = Changes::new()
        .with(Change::RemoveOrder(order.id, version))
        .with(Change::RemoveAuthorization(authorization.id, version));
    commit(fixture, removals.clone()).await;
    assert!(is_conflict(&store.commit(removals).await), "it is gone already");
    assert_eq!(store.authorization(authorization.id).await.expect("readable"), None);
    // And may come again.
    commit(fixture, Changes::new().with(Change::Order(Put::new(order)))).await;
}

pub async fn a_commit_that_fails_half_way_keeps_nothing(fixture: Any<'_>) {
    let store = fixture.store();
    let claim = Claim::OrderCertificate(OrderId::from_octets(sample::octets(9)));
    commit(fixture, Changes::new().with(Change::Claim(claim.clone())).leaf(sample::leaf(0))).await;
    let account = sample::account(1);
    let (order, _) = sample::order(1, account.id, "a.example");
    let counter = Counter::UnprovenAccounts;
    let changes = Changes::new()
        .with(Change::Account(Put::new(account.clone())))
        .with(Change::Order(Put::new(order.clone())))
        .with(Change::Count { counter: counter.clone(), by: 1, limit: None })
        .schedule(JobKind::Checkpoint, sample::now())
        .leaf(sample::leaf(1))
        .with(Change::Claim(claim));
    assert!(is_conflict(&store.commit(changes).await));
    assert_eq!(store.account(account.id).await.expect("readable"), None);
    assert!(!store.is_account_key(&account.key.digest()).await.expect("readable"));
    assert_eq!(store.order(order.id).await.expect("readable"), None);
    assert_eq!(store.next_due().await.expect("readable"), None);
    assert_eq!(store.tree_head().await.expect("readable").size, 1);
    let at_limit = Changes::new().with(Change::Count { counter, by: 1, limit: Some(1) });
    commit(fixture, at_limit).await;
}

pub async fn of_two_commits_on_the_same_version_one_wins(fixture: Any<'_>) {
    let store = fixture.store();
    let (order, _) = sample::order(1, AccountId::from_random(sample::octets(1)), "a.example");
    commit(fixture, Changes::new().with(Change::Order(Put::new(order.clone())))).await;
    let loaded = store.order(order.id).await.expect("readable").expect("stored");
    let mut racers = tokio::task::JoinSet::new();
    for number in 0..32 {
        let ready = Order { state: OrderState::Ready, ..order.clone() };
        let changes = Changes::new().with(Change::Order(Put::over(&loaded, ready))).leaf(sample::leaf(number));
        let store = Arc::clone(&store);
        racers.spawn(async move { store.commit(changes).await });
    }
    let outcomes = racers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| is_conflict(outcome)).count(), 31);
    assert_eq!(store.tree_head().await.expect("readable").size, 1, "the others left no leaf");
}

pub async fn what_was_committed_is_there_after_a_restart(fixture: Any<'_>) {
    let all = ten_certificates(fixture).await;
    let account = put_account(fixture, 1).await;
    let due = sample::now();
    commit(fixture, Changes::new().schedule(JobKind::Checkpoint, due)).await;
    let before = fixture.store();
    let version = before.account(account.id).await.expect("readable").expect("stored").version;
    let head = before.tree_head().await.expect("readable");
    drop(before);
    for _ in 0..2 {
        fixture.restart().await;
        let store = fixture.store();
        assert_eq!(store.tree_head().await.expect("readable"), head);
        let found = store.account(account.id).await.expect("readable").expect("stored");
        assert_eq!((&found.value, found.version), (&account, version));
        assert_eq!(store.next_due().await.expect("readable"), Some(due));
        assert_eq!(store.leaf(4).await.expect("readable"), sample::leaf(5).encode().ok());
        for record in &all {
            let found = store.certificate(record.id).await.expect("readable").expect("stored");
            assert_eq!(&found.value, record);
        }
        // And it goes on.
        let next = commit(fixture, Changes::new().with(Change::Finish(JobKind::RenewOwnTls))).await;
        assert!(next.version > version);
    }
}

async fn commit_with_fate(fixture: Any<'_>, fate: Fate) -> (Account, CertificateRecord) {
    put_account(fixture, 5).await;
    commit(fixture, Changes::new().leaf(sample::leaf(0))).await;
    let (account, record) = (sample::account(1), sample::certificate(1, &["a.example"]));
    let changes = Changes::new()
        .with(Change::Account(Put::new(account.clone())))
        .with(Change::Certificate(Put::new(record.clone())))
        .schedule(JobKind::Checkpoint, sample::now())
        .leaf(sample::leaf(1));
    fixture.fail_next(fate);
    let outcome = fixture.store().commit(changes).await;
    assert!(matches!(outcome, Err(CommitError::Unknown(_))), "{outcome:?}");
    fixture.restart().await;
    (account, record)
}

pub async fn a_lost_commit_is_reported_unknown_and_leaves_nothing(fixture: Any<'_>) {
    let (account, record) = commit_with_fate(fixture, Fate::Lost).await;
    let store = fixture.store();
    assert_eq!(store.account(account.id).await.expect("readable"), None);
    assert!(!store.is_account_key(&account.key.digest()).await.expect("readable"));
    assert_eq!(store.certificate(record.id).await.expect("readable"), None);
    assert_eq!(store.next_due().await.expect("readable"), None);
    assert_eq!(store.tree_head().await.expect("readable").size, 1);
    commit(fixture, Changes::new().with(Change::Account(Put::new(account)))).await;
}

pub async fn a_kept_commit_that_is_reported_unknown_is_there_whole(fixture: Any<'_>) {
    let (account, record) = commit_with_fate(fixture, Fate::Kept).await;
    let store = fixture.store();
    assert_eq!(store.account(account.id).await.expect("readable").map(|found| found.value), Some(account));
    let found = store.certificate(record.id).await.expect("readable").expect("stored");
    assert_eq!(found.value.state, CertificateState::Intended { intent: LeafRef::At(1) });
    assert_eq!(store.next_due().await.expect("readable"), Some(sample::now()));
    assert_eq!(store.tree_head().await.expect("readable").size, 2);
    let again = Changes::new().with(Change::Certificate(Put::new(record))).leaf(sample::leaf(2));
    assert!(is_conflict(&store.commit(again).await), "a blind repetition is refused");
}
