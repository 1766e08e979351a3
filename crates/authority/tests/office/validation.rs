//! Who shows control of a name, and who waits for it.

use std::{sync::atomic::Ordering, time::Duration};

use chancery_acme::{
    authorization::AuthorizationStatus,
    challenge::{ChallengeKind, ChallengeState},
    order::OrderState,
    problem::ProblemType,
};
use chancery_authority::{Failure, Limits, Refusal, changes::Counter, ports::Clock as _, records::JobKind};
use chancery_testkit::office::{POLICY, TestOffice, csr};

use crate::{first_step, order_now};

#[tokio::test]
async fn an_order_with_one_invalid_authorization_becomes_invalid() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.order(&account, &["a.test", "b.test"]).await;
    let authorizations = ca.authorizations(&order).await;
    ca.validator.fail_next(ProblemType::IncorrectResponse);
    let answered = ca.office.answer_challenge(&account, authorizations[0].id, ChallengeKind::Http01).await.unwrap();
    assert_eq!(answered.status(ca.office.now()), AuthorizationStatus::Invalid);
    let OrderState::Invalid { error } = order_now(&ca, &order).await.state else { panic!("not invalid") };
    assert_eq!(error.kind, ProblemType::IncorrectResponse);
    assert_eq!(ca.store.counter(&Counter::PendingOrders(account.id)), 0);
}

#[tokio::test]
async fn two_verdicts_at_once_make_the_order_ready() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.order(&account, &["a.test", "b.test", "c.test"]).await;
    let answers: Vec<_> = ca
        .authorizations(&order)
        .await
        .into_iter()
        .map(|authorization| {
            let (office, account) = (ca.office.clone(), account.clone());
            tokio::spawn(async move {
                office.answer_challenge(&account, authorization.id, ChallengeKind::Http01).await.is_ok()
            })
        })
        .collect();
    for answer in answers {
        assert!(answer.await.unwrap());
    }
    assert_eq!(order_now(&ca, &order).await.state, OrderState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_validation_that_outlasts_the_wait_is_a_stored_job_and_survives_the_process() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.order(&account, &["a.test"]).await;
    let authorization = ca.authorizations(&order).await.remove(0);
    ca.validator.hold();
    let answered = ca.office.answer_challenge(&account, authorization.id, ChallengeKind::Http01).await.unwrap();
    assert!(matches!(answered.challenge(ChallengeKind::Http01).unwrap().state, ChallengeState::Processing { .. }));
    assert!(ca.store.jobs().iter().any(|job| matches!(job.kind, JobKind::Validate { .. })));
    let ca = ca.restarted(8);
    ca.clock.advance(Duration::from_secs(61));
    ca.validator.release(10);
    ca.run_due_jobs().await;
    assert_eq!(order_now(&ca, &order).await.state, OrderState::Ready);
    assert!(!ca.store.jobs().iter().any(|job| matches!(job.kind, JobKind::Validate { .. })));
}

#[tokio::test]
async fn a_busy_validator_is_asked_again_by_a_job() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.order(&account, &["a.test"]).await;
    let authorization = ca.authorizations(&order).await.remove(0);
    ca.validator.busy_next();
    ca.office.answer_challenge(&account, authorization.id, ChallengeKind::Http01).await.unwrap();
    assert_eq!(order_now(&ca, &order).await.state, OrderState::Pending);
    ca.clock.advance(Duration::from_secs(3));
    ca.run_due_jobs().await;
    assert_eq!(order_now(&ca, &order).await.state, OrderState::Ready);
}

#[tokio::test]
async fn work_whose_clients_went_away_is_bounded_and_what_is_too_much_is_told_busy() {
    let ca = TestOffice::new(POLICY, Limits { work_at_once: 2, ..Limits::default() });
    let account = ca.account().await;
    let ready = ca.ready_order(&account, &["ready.test"]).await;
    let mut asked = Vec::new();
    for name in ["a.test", "b.test", "c.test"] {
        let order = ca.order(&account, &[name]).await;
        asked.push(ca.authorizations(&order).await.remove(0).id);
    }
    ca.validator.hold();
    for id in &asked[..2] {
        first_step(ca.office.answer_challenge(&account, *id, ChallengeKind::Http01)).await;
    }
    assert_eq!(ca.office.working(), 2);
    let refused = ca.office.answer_challenge(&account, asked[2], ChallengeKind::Http01).await.unwrap_err();
    assert!(matches!(refused, Refusal::Failed(Failure::Busy)), "{refused:?}");
    let refused = ca.office.finalize_order(&account, ready.id, csr(&["ready.test"])).await.unwrap_err();
    assert!(matches!(refused, Refusal::Failed(Failure::Busy)), "{refused:?}");
    assert_eq!(ca.office.counters().work_turned_away.load(Ordering::Relaxed), 2);
    ca.validator.release(3);
    ca.office.finished().await;
    let valid = ca.office.finalize_order(&account, ready.id, csr(&["ready.test"])).await.unwrap();
    assert!(matches!(valid.state, OrderState::Valid { .. }));
    // The one that was turned away is looked at as any other.
    let decided = ca.office.answer_challenge(&account, asked[2], ChallengeKind::Http01).await.unwrap();
    assert_eq!(decided.status(ca.clock.now()), AuthorizationStatus::Valid);
}

#[tokio::test]
async fn a_look_for_which_we_were_too_busy_until_its_authorization_expired_owes_nothing_more() {
    let ca = TestOffice::new(POLICY, Limits { answer_wait: Duration::ZERO, ..Limits::default() });
    let account = ca.account().await;
    let order = ca.order(&account, &["a.test"]).await;
    let authorization = ca.authorizations(&order).await.remove(0);
    ca.validator.hold();
    ca.validator.busy_next();
    ca.office.answer_challenge(&account, authorization.id, ChallengeKind::Http01).await.unwrap();
    let owed = || ca.store.jobs().iter().any(|job| matches!(job.kind, JobKind::Validate { .. }));
    assert!(owed());
    ca.clock.set(order.expires.after(Duration::from_secs(1)));
    ca.validator.release(1);
    ca.office.finished().await;
    assert!(!owed());
}
