//! What is dropped when its time is over.

use chancery_acme::order::OrderState;
use chancery_authority::{
    Limits,
    changes::Counter,
    ports::Clock as _,
    records::{Job, JobKind},
};
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{POLICY, TestOffice, csr},
};

use crate::{DAY, certificates, order_now};

#[tokio::test]
async fn an_order_that_ends_is_pruned_and_one_that_led_to_a_certificate_goes_with_the_certificate_s_record() {
    let ca = TestOffice::new(POLICY, Limits { keep_expired_certificates: DAY * 30, ..Limits::default() });
    ca.office.owe_standing_jobs().await.unwrap();
    let account = ca.account().await;
    let abandoned = ca.order(&account, &["a.test"]).await;
    let ready = ca.ready_order(&account, &["b.test"]).await;
    ca.office.finalize_order(&account, ready.id, csr(&["b.test"])).await.unwrap();
    ca.clock.advance(DAY * 3);
    ca.run_due_jobs().await;
    assert_eq!(ca.office.order(account.id, abandoned.id).await.unwrap(), None);
    assert_eq!(ca.store.counter(&Counter::PendingOrders(account.id)), 0);
    let kept = order_now(&ca, &ready).await;
    assert!(matches!(kept.state, OrderState::Valid { .. }));
    assert!(ca.store.jobs().iter().all(|job| !matches!(job.kind, JobKind::PruneOrder { .. })), "it owes nothing");
    // After the certificate's end, but before its record goes.
    ca.clock.advance(DAY * 91);
    ca.run_due_jobs().await;
    assert!(ca.office.order(account.id, ready.id).await.unwrap().is_some());
    ca.clock.advance(DAY * 30);
    ca.run_due_jobs().await;
    assert_eq!(ca.office.order(account.id, ready.id).await.unwrap(), None);
    assert_eq!(ca.office.authorization(account.id, kept.authorizations[0]).await.unwrap(), None);
    let OrderState::Valid { certificate } = kept.state else { panic!("{kept:?}") };
    assert_eq!(ca.office.certificate(account.id, certificate).await.unwrap(), None);
}

#[tokio::test]
async fn expired_certificates_records_are_dropped_when_their_time_is_over() {
    let ca = TestOffice::default();
    ca.office.owe_standing_jobs().await.unwrap();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    ca.clock.advance(DAY * 100);
    ca.run_due_jobs().await;
    assert_eq!(certificates(&ca).await.len(), 1);
    ca.clock.advance(DAY * 400);
    ca.run_due_jobs().await;
    assert_eq!(certificates(&ca).await.len(), 0);
}

#[tokio::test]
async fn however_many_end_at_once_one_run_drops_all_whose_time_is_over_and_no_other() {
    // Records of one kind alone end in the second case's second range.
    for limits in [
        Limits { pending_orders_per_account: 1000, ..Limits::default() },
        Limits {
            pending_orders_per_account: 1000,
            keep_expired_certificates: DAY,
            keep_expired_light: DAY * 365,
            ..Limits::default()
        },
    ] {
        let kept = limits.keep_expired_certificates;
        let ca = TestOffice::new(POLICY, limits);
        ca.office.owe_standing_jobs().await.unwrap();
        let account = ca.account().await;
        let issue = async |count: usize| {
            for _ in 0..count {
                let order = ca.ready_order(&account, &["a.test"]).await;
                ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
            }
        };
        issue(450).await;
        ca.clock.advance(DAY * 10);
        issue(3).await;
        // The first end after 90 days.
        ca.clock.advance(DAY * 80 + kept + DAY);
        ca.run_due_jobs().await;
        assert_eq!(certificates(&ca).await.len(), 3, "kept for {kept:?}");
        assert_eq!(ca.office.orders(account.id, None, 1000).await.unwrap().orders.len(), 3);
        ca.run_due_jobs().await;
        ca.clock.advance(DAY * 10);
        ca.run_due_jobs().await;
        assert_eq!(certificates(&ca).await.len(), 0, "kept for {kept:?}");
    }
}

#[tokio::test]
async fn what_a_run_left_since_others_were_first_is_dropped_by_the_next() {
    // Beyond what has ended for both kinds, full records alone.
    let limits = Limits { keep_expired_certificates: DAY, keep_expired_light: DAY * 365, ..Limits::default() };
    let ca = TestOffice::new(POLICY, limits);
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    ca.clock.advance(DAY * 92);
    ca.office.owe_standing_jobs().await.unwrap();
    // As often as it tries.
    for _ in 0..9 {
        ca.store.fail_next(Commit::Other, Failing::Conflict);
    }
    let prune = Job { kind: JobKind::PruneCertificates, due: ca.clock.now(), attempt: 0 };
    ca.office.run_job(&prune).await.unwrap();
    assert_eq!(certificates(&ca).await.len(), 1);
    ca.office.run_job(&prune).await.unwrap();
    assert_eq!(certificates(&ca).await.len(), 0);
}
