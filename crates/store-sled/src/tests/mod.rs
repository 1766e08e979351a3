//! The store as a whole: the suite of every store, and the rules of durability.

mod backup;
mod disk;
mod eab_keys;
mod power;
mod rebuild;
mod rules;
mod suite;

use std::{path::Path, sync::Arc, time::Duration};

use chancery_acme::{
    account::Account,
    id::{AccountId, OrderId},
    order::{Order, OrderState},
};
use chancery_authority::{
    changes::{Change, Changes, Claim, Counter, Put},
    ports::Store,
    records::{
        CertificateRecord, CertificateState, IdempotencyKey, IdempotencyOutcome, IdempotencyRecord, JobKind, LeafRef,
    },
};
use chancery_testkit::sample;

pub(crate) use disk::{Fault, Operation, TestDisk};

use crate::{opening::OpenError, options::Options, store::SledStore};

/// Options under which nothing happens by time alone.
pub(crate) fn options() -> Options {
    Options {
        linger_max: Duration::ZERO,
        sweep_age: Duration::from_secs(3600),
        floor_bytes: 0,
        lock_wait: Duration::from_millis(200),
        ..Options::default()
    }
}

pub(crate) fn open(path: &Path, disk: &Arc<TestDisk>, options: Options) -> Result<Arc<SledStore>, OpenError> {
    SledStore::open_on(path, options, Arc::clone(disk) as Arc<dyn crate::disk::Disk>)
}

/// Ends a store as a kill would: no last sweep, whoever else still holds it.
pub(crate) fn kill(store: &SledStore) {
    store.end("killed by the test", false);
}

/// How an issuance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Issued,
    Abandoned,
    Open,
}

/// A whole flow as the use cases commit it: account, order, intent, signature.
pub(crate) async fn issue(store: &dyn Store, number: u64) -> Account {
    issue_to(store, number, End::Issued, None).await
}

pub(crate) async fn issue_to(store: &dyn Store, number: u64, end: End, uid: Option<&str>) -> Account {
    let account = sample::account(number);
    let name = format!("host{number}.example.com");
    let (order, authorization) = sample::order(number, account.id, &name);
    let pending = Counter::PendingOrders(account.id);
    let known = store.account(account.id).await.expect("readable");
    let put = known.map_or_else(|| Put::new(account.clone()), |known| Put::over(&known, account.clone()));
    let changes = Changes::new()
        .with(Change::Account(put))
        .with(Change::Count { counter: Counter::UnprovenAccounts, by: 1, limit: None })
        .with(Change::Order(Put::new(order.clone())))
        .with(Change::Authorization(Put::new(authorization)))
        .with(Change::Count { counter: pending.clone(), by: 1, limit: Some(10) })
        .schedule(JobKind::PruneOrder { order: order.id }, order.expires);
    store.commit(changes).await.expect("kept");

    let issuance = sample::issuance(number, &name, Some(&account), Some(order.id), uid);
    let id = issuance.record.id;
    let held_account = store.account(account.id).await.expect("readable").expect("stored");
    let held = store.order(order.id).await.expect("readable").expect("stored");
    let processing = Order { state: OrderState::Processing { certificate: id }, ..order.clone() };
    let mut changes = Changes::new()
        .with(Change::Order(Put::over(&held, processing)))
        .with(Change::Claim(Claim::OrderCertificate(order.id)))
        .with(Change::Account(Put::over(&held_account, Account { proven: true, ..account.clone() })))
        .with(Change::Count { counter: Counter::UnprovenAccounts, by: -1, limit: None })
        .with(Change::Certificate(Put::new(issuance.record.clone())))
        .schedule(JobKind::Settle { certificate: id }, sample::now())
        .leaf(issuance.intent.clone());
    let outcome =
        |outcome| IdempotencyRecord { key: key(uid), request: [7; 32], attempt: 1, outcome, at: sample::now() };
    if uid.is_some() {
        let pending = outcome(IdempotencyOutcome::Pending { certificate: id });
        changes = changes.with(Change::Idempotency(Put::new(pending)));
    }
    let intent = store.commit(changes).await.expect("kept").first_leaf;
    let (leaf, order_state, ended) = match end {
        End::Open => return account,
        End::Issued => (
            issuance.signature(intent),
            OrderState::Valid { certificate: id },
            IdempotencyOutcome::Issued { certificate: id },
        ),
        End::Abandoned => (
            issuance.abandoned(intent),
            OrderState::Invalid {
                error: chancery_acme::problem::Problem::new(
                    chancery_acme::problem::ProblemType::ServerInternal,
                    "the issuance was interrupted; place a new order",
                ),
            },
            IdempotencyOutcome::Abandoned { certificate: id },
        ),
    };
    let held = store.order(order.id).await.expect("readable").expect("stored");
    let record = store.certificate(id).await.expect("readable").expect("stored");
    let intent = LeafRef::At(intent);
    let state = match end {
        End::Issued => CertificateState::Issued { intent, signature: LeafRef::InThisCommit(0) },
        End::Abandoned | End::Open => CertificateState::PossiblyIssued { intent },
    };
    let mut changes = Changes::new()
        .with(Change::Order(Put::over(&held, Order { state: order_state, ..held.value.clone() })))
        .with(Change::Count { counter: pending, by: -1, limit: None })
        .with(Change::Certificate(Put::over(&record, CertificateRecord { state, ..record.value.clone() })))
        .with(Change::Finish(JobKind::Settle { certificate: id }))
        .leaf(leaf)
        .urgently();
    if uid.is_some() {
        let held = store.idempotency(&key(uid)).await.expect("readable").expect("stored");
        changes = changes.with(Change::Idempotency(Put::over(&held, outcome(ended))));
    }
    store.commit(changes).await.expect("kept");
    account
}

pub(crate) fn key(uid: Option<&str>) -> IdempotencyKey {
    let uid = uid.unwrap_or_default().to_owned();
    IdempotencyKey { door: "request".to_owned(), credential: "c".to_owned(), uid }
}

/// The order of the issuance with this number.
pub(crate) fn order_id(number: u64) -> OrderId {
    sample::order_id(AccountId::from_random(sample::octets(number)), number)
}
