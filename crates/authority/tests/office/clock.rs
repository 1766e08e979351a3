//! Nothing is issued, ended or dropped by a clock that is in doubt (threat model TM15); everything else goes on.

use std::time::Duration;

use chancery_acme::{authorization::AuthorizationStatus, order::OrderState};
use chancery_authority::{
    Failure, Refusal,
    place_order::PlaceOrder,
    ports::Clock as _,
    records::{Job, JobKind},
    register_account::RegisterAccount,
};
use chancery_pki::Timestamp;
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{TestOffice, csr, fresh_key, names_of, registration},
};

use crate::DAY;

const STANDING: [JobKind; 2] = [JobKind::PruneCertificates, JobKind::Checkpoint];
/// The last is the server's to do.
const AFTER_A_DOUBT: [JobKind; 3] = [JobKind::PruneCertificates, JobKind::Checkpoint, JobKind::RenewOwnTls];

/// When a standing job is due.
fn due(ca: &TestOffice, kind: &JobKind) -> Timestamp {
    ca.store.jobs().iter().find(|job| job.kind == *kind).unwrap().due
}

fn kinds(jobs: Vec<Job>) -> Vec<JobKind> {
    let mut kinds: Vec<JobKind> = jobs.into_iter().map(|job| job.kind).collect();
    kinds.sort();
    kinds
}

#[tokio::test]
async fn a_clock_in_doubt_stops_issuance_with_its_reason_and_reading_goes_on() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    let signatures = ca.signer.signatures();
    ca.clock.doubt_because(Some("the clock went back"));

    let request =
        PlaceOrder { names: names_of(&["b.test"]), not_before: None, not_after: None, profile: None, replaces: None };
    let refusal = ca.office.place_order(&account, request).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Failed(Failure::Unavailable(why)) if why == "the clock went back"));
    let refusal = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Failed(Failure::Unavailable(why)) if why == "the clock went back"));
    assert_eq!(ca.signer.signatures(), signatures);
    let read = ca.office.order(account.id, order.id).await.unwrap().unwrap();
    assert_eq!(read.state, OrderState::Ready);

    ca.clock.doubt_because(None);
    let order = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    assert!(matches!(order.state, OrderState::Valid { .. }));
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_ends_and_drops_nothing_and_puts_nothing_off_for_years() {
    let ca = TestOffice::default();
    let holder = ca.account().await;
    let order = ca.ready_order(&holder, &["a.test"]).await;
    let order = ca.office.finalize_order(&holder, order.id, csr(&["a.test"])).await.unwrap();
    let OrderState::Valid { certificate } = order.state else { panic!("{order:?}") };
    // One whose signature is lost waits for its settlement.
    let lost = ca.ready_order(&holder, &["c.test"]).await;
    ca.store.fail_next(Commit::Certificate, Failing::Lost);
    ca.office.finalize_order(&holder, lost.id, csr(&["c.test"])).await.unwrap();
    let stranger = ca.account().await;
    let open = ca.ready_order(&stranger, &["b.test"]).await;
    ca.office.owe_standing_jobs().await.unwrap();
    let (right, jobs) = (ca.clock.now(), ca.store.jobs());
    assert_eq!(jobs.len(), 6, "two orders and an account to prune, one settlement, and the standing ones: {jobs:?}");

    ca.clock.advance(DAY * 730);
    ca.clock.doubt_because(Some("the clock jumped"));
    assert_eq!(ca.office.due_jobs(1000).await.unwrap(), []);
    assert_eq!(ca.office.next_due().await.unwrap(), None, "or whoever waits for it would not wait at all");
    // Nor does one that was looked up before.
    for job in &jobs {
        assert!(matches!(ca.office.run_job(job).await, Err(Failure::Unavailable(why)) if why == "the clock jumped"));
        ca.office.put_off(job).await.unwrap_err();
    }
    assert_eq!(ca.store.jobs(), jobs);

    ca.clock.set(right);
    ca.clock.doubt_because(None);
    assert_eq!(kinds(ca.run_due_jobs().await), AFTER_A_DOUBT);
    assert_eq!(due(&ca, &JobKind::PruneCertificates), right.after(Duration::from_secs(3600)));
    assert_eq!(due(&ca, &JobKind::Checkpoint), right.after(Duration::from_secs(60)));
    assert!(ca.office.certificate(holder.id, certificate).await.unwrap().is_some());
    assert!(ca.office.account("default", stranger.id).await.unwrap().is_some());
    assert_eq!(ca.office.order(stranger.id, open.id).await.unwrap().unwrap().state, OrderState::Ready);
    let state = ca.office.order(holder.id, lost.id).await.unwrap().unwrap().state;
    assert!(matches!(state, OrderState::Processing { .. }), "{state:?}");
    // Each goes when its own time has come.
    ca.clock.set(open.expires.after(Duration::from_secs(1)));
    ca.run_due_jobs().await;
    let ended = ca.office.order(stranger.id, open.id).await.unwrap().unwrap();
    assert!(matches!(ended.state, OrderState::Invalid { .. }));
    let settled = ca.office.order(holder.id, lost.id).await.unwrap().unwrap();
    assert!(matches!(settled.state, OrderState::Invalid { .. }));
}

#[tokio::test]
async fn what_a_wrong_time_put_off_for_years_is_owed_again_when_the_doubt_is_over() {
    let ca = TestOffice::default();
    ca.office.owe_standing_jobs().await.unwrap();
    let right = ca.clock.now();
    // Nobody doubts it yet.
    ca.clock.advance(DAY * 730);
    assert_eq!(kinds(ca.run_due_jobs().await), STANDING);
    ca.clock.set(right.after(DAY));
    ca.clock.doubt_because(Some("the clock went back"));
    assert_eq!(ca.office.due_jobs(1000).await.unwrap(), []);
    ca.clock.doubt_because(None);
    assert_eq!(kinds(ca.run_due_jobs().await), AFTER_A_DOUBT);
    for kind in &STANDING {
        assert!(due(&ca, kind) <= right.after(DAY + Duration::from_secs(3600)));
    }
    assert_eq!(kinds(ca.office.due_jobs(1000).await.unwrap()), [JobKind::RenewOwnTls], "the others are not owed again");
}

#[tokio::test]
async fn open_orders_of_an_account_that_is_given_up_end_although_the_clock_is_in_doubt() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.clock.advance(DAY * 730);
    ca.clock.doubt_because(Some("the clock jumped"));
    ca.office.deactivate_account(account.id).await.unwrap();
    let owed = [JobKind::CancelOrders { account: account.id }];
    assert_eq!(kinds(ca.office.due_jobs(1).await.unwrap()), owed, "before everything that the wrong time made due");
    assert_eq!(kinds(ca.run_due_jobs().await), owed);
    let ended = ca.office.order(account.id, order.id).await.unwrap().unwrap();
    assert!(matches!(ended.state, OrderState::Invalid { .. }));
}

#[tokio::test]
async fn a_clock_in_doubt_validates_nothing_and_makes_no_accounts() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.order(&account, &["a.test"]).await;
    let authorization = ca.authorizations(&order).await.remove(0);
    let kind = authorization.challenges.first().unwrap().kind;
    ca.clock.doubt_because(Some("the clock jumped"));
    let refused = ca.office.answer_challenge(&account, authorization.id, kind).await.unwrap_err();
    assert!(matches!(refused, Refusal::Failed(Failure::Unavailable(why)) if why == "the clock jumped"));
    let request = registration(fresh_key());
    let refused = ca.office.register_account(request.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Failed(Failure::Unavailable(_))));
    let known = RegisterAccount { key: account.key.clone(), ..request };
    assert_eq!(ca.office.register_account(known).await.unwrap().account, account);
    ca.clock.doubt_because(None);
    let decided = ca.office.answer_challenge(&account, authorization.id, kind).await.unwrap();
    assert_eq!(decided.status(ca.clock.now()), AuthorizationStatus::Valid);
}
