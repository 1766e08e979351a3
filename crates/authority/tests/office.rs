//! The use cases over the store in memory: what is promised about issuance, whatever fails between.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use chancery_acme::{
    account::AccountStatus,
    authorization::AuthorizationStatus,
    challenge::{ChallengeKind, ChallengeState},
    order::{FinalizeRejection, Order, OrderState, OrderStatus},
    problem::ProblemType,
};
use chancery_authority::{
    Authority, Directory, Failure, Limits, Refusal, Settings,
    changes::Counter,
    finalize_order::FinalizeOrderRejection,
    issue::{IssueRejection, NameRefusal},
    place_order::{PlaceOrder, PlaceOrderRejection},
    ports::{CertificateQuery, Clock as _, NotApplied, Signer as _, Store as _},
    records::{CertificateRecord, CertificateState, Job, JobKind, RevocationReason},
    register_account::{RegisterAccount, RegisterRejection},
    revoke::{RevokeRejection, Revoker},
};
use chancery_ledger::{
    Leaf, Walker,
    leaf::{AccountDeactivated, Decision, MAX_LEAF_BYTES},
};
use chancery_pki::{
    SerialNumber, Timestamp,
    ceremony::development_root,
    chain::{Chain, install},
    distinguished_name::{Attribute, AttributeKind, DistinguishedName},
    name::NAMES_OCTETS_MAX,
    profile::{Profile, ProfileSpec, SubjectPolicy},
};
use chancery_policy::{Format, Policy};
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{ISSUER_LIFE, POLICY, TestOffice, csr, fresh_key, names_of, registration},
    ports::SignerFault,
};

const DAY: Duration = Duration::from_secs(86_400);

async fn certificates(ca: &TestOffice) -> Vec<CertificateRecord> {
    ca.office.certificates(&CertificateQuery::All, None, 1000).await.unwrap()
}

async fn order_now(ca: &TestOffice, order: &Order) -> Order {
    ca.office.order(order.account, order.id).await.unwrap().unwrap()
}

async fn leaves(ca: &TestOffice) -> Vec<Leaf> {
    let size = ca.store.tree_head().await.unwrap().size;
    let all = ca.store.leaves(0..size, 10_000).await.unwrap();
    all.iter().map(|leaf| Leaf::decode(leaf).unwrap()).collect()
}

async fn ledger_is_clean(ca: &TestOffice) {
    let size = ca.store.tree_head().await.unwrap().size;
    let mut walker = Walker::default();
    for (index, leaf) in (0u64..).zip(ca.store.leaves(0..size, 10_000).await.unwrap()) {
        walker.feed(index, &leaf);
    }
    let report = walker.finish();
    assert!(report.is_clean(), "{:?}", report.findings);
}

#[tokio::test]
async fn an_order_leads_to_one_certificate_whose_bytes_come_from_the_ledger() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test", "b.test"]).await;
    let valid = ca.office.finalize_order(&account, order.id, csr(&["b.test", "a.test"])).await.unwrap();
    let OrderState::Valid { certificate } = valid.state else { panic!("{valid:?}") };
    let chain = ca.office.certificate(account.id, certificate).await.unwrap().unwrap();
    assert!(chain.pem().starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert_eq!(ca.signer.signatures(), 1);
    let kinds: Vec<&str> = leaves(&ca).await.iter().map(Leaf::kind).collect();
    assert_eq!(kinds, ["intent", "signature"]);
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn another_accounts_certificate_and_order_are_as_unknown_ones() {
    let ca = TestOffice::default();
    let (account, other) = (ca.account().await, ca.account().await);
    let order = ca.ready_order(&account, &["a.test"]).await;
    let valid = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    let OrderState::Valid { certificate } = valid.state else { panic!("{valid:?}") };
    assert_eq!(ca.office.certificate(other.id, certificate).await.unwrap(), None);
    assert_eq!(ca.office.order(other.id, order.id).await.unwrap(), None);
    let refused = ca.office.finalize_order(&other, order.id, csr(&["a.test"])).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(FinalizeOrderRejection::NotFound)));
}

#[tokio::test]
async fn a_second_finalize_is_refused_and_signs_nothing() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    let refused = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap_err();
    let not_ready = FinalizeRejection::NotReady { status: OrderStatus::Valid };
    assert!(matches!(refused, Refusal::Rejected(FinalizeOrderRejection::Order(rejection)) if rejection == not_ready));
    assert_eq!(ca.signer.signatures(), 1);
}

#[tokio::test]
async fn of_many_finalizes_at_once_one_signs() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    let racing: Vec<_> = (0..16)
        .map(|_| {
            let (office, account, id) = (ca.office.clone(), account.clone(), order.id);
            tokio::spawn(async move { office.finalize_order(&account, id, csr(&["a.test"])).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for race in racing {
        won += usize::from(race.await.unwrap());
    }
    assert_eq!((won, ca.signer.signatures()), (1, 1));
}

#[tokio::test]
async fn a_csr_that_names_other_hosts_leaves_the_order_ready() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    let refused = ca.office.finalize_order(&account, order.id, csr(&["b.test"])).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(FinalizeOrderRejection::Order(FinalizeRejection::NamesDiffer { .. }))));
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
}

#[tokio::test]
async fn the_longest_names_that_an_order_may_have_fit_into_its_intent() {
    // The longest name of a rule, and more to warn of than a leaf has room for.
    let rule = "r".repeat(100);
    let mut policy = format!("version: v1\nrules:\n  - name: {rule}\n    allow: {{ names: [\"**.test\"] }}\n");
    let because = "\"".repeat(500);
    for number in 0..40 {
        let rule = format!("{number:03}{}", "w".repeat(97));
        policy += &format!(
            "  - name: {rule}\n    warn: {{ names: [\"**.test\", \"n{number}.else\"] }}\n    because: '{because}'\n"
        );
    }
    let ca = TestOffice::new(&policy, Limits::default());
    let label = "a".repeat(50);
    let names: Vec<String> = (0..100).map(|n| format!("{n:03}.{label}.{label}.{label}.x.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let octets: usize = names.iter().map(|name| name.len()).sum();
    assert!((NAMES_OCTETS_MAX - 100..=NAMES_OCTETS_MAX).contains(&octets), "{octets}");
    let request = RegisterAccount {
        contacts: (0..10).map(|number| format!("mailto:{}{number}@a.test", "m".repeat(305))).collect(),
        ..registration(fresh_key())
    };
    let account = ca.office.register_account(request).await.unwrap().account;
    let order = ca.ready_order(&account, &names).await;
    let order = ca.office.finalize_order(&account, order.id, csr(&names)).await.unwrap();
    assert!(matches!(order.state, OrderState::Valid { .. }), "{order:?}");
    let intents =
        leaves(&ca).await.into_iter().filter_map(|leaf| if let Leaf::Intent(it) = leaf { Some(it) } else { None });
    let [intent] = &*intents.collect::<Vec<_>>() else { panic!("one intent") };
    let Decision { warnings, warnings_left_out, .. } = &intent.decision;
    assert_eq!((warnings.len(), *warnings_left_out), (1, 39));
    let octets = Leaf::Intent(intent.clone()).encode().unwrap().len();
    assert!(octets < MAX_LEAF_BYTES - 1024, "a longer key and issuer must fit too: {octets}");
}

#[tokio::test]
async fn a_commit_reported_lost_but_kept_never_leads_to_a_second_signature() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.store.fail_next(Commit::Certificate, Failing::Kept);
    let answered = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    assert!(matches!(answered.state, OrderState::Processing { .. }));
    let ca = ca.restarted(8);
    assert!(matches!(order_now(&ca, &order).await.state, OrderState::Valid { .. }));
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap_err();
    assert_eq!(ca.signer.signatures(), 1);
}

#[tokio::test]
async fn a_signature_that_was_not_stored_is_settled_as_possibly_issued_and_its_order_is_invalid() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.store.fail_next(Commit::Certificate, Failing::Lost);
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    let ca = ca.restarted(8);
    assert!(matches!(order_now(&ca, &order).await.state, OrderState::Processing { .. }));
    ca.clock.advance(Duration::from_secs(61));
    ca.run_due_jobs().await;
    assert!(matches!(order_now(&ca, &order).await.state, OrderState::Invalid { .. }));
    let records = certificates(&ca).await;
    assert_eq!(records.len(), 1);
    assert!(matches!(records[0].state, CertificateState::PossiblyIssued { .. }));
    // What may exist can be revoked.
    ca.office.revoke_serial(&records[0].authority, records[0].serial, Some(4), "tester".to_owned()).await.unwrap();
    // Time passes again, and nothing more happens to it.
    ca.clock.advance(Duration::from_secs(61));
    ca.run_due_jobs().await;
    assert_eq!(certificates(&ca).await.len(), 1);
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn an_intent_whose_fate_is_unknown_is_never_signed() {
    for how in [Failing::Lost, Failing::Kept] {
        let ca = TestOffice::default();
        let account = ca.account().await;
        let order = ca.ready_order(&account, &["a.test"]).await;
        ca.store.fail_next(Commit::Intent, how);
        ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap_err();
        assert_eq!(ca.signer.signatures(), 0);
        ca.clock.advance(Duration::from_secs(61));
        ca.run_due_jobs().await;
        ledger_is_clean(&ca).await;
    }
}

#[tokio::test]
async fn a_signer_whose_outcome_is_unknown_is_not_asked_again() {
    for (fault, signatures) in
        [(SignerFault::Unknown, 0), (SignerFault::SignedButUnknown, 1), (SignerFault::WrongSignature, 0)]
    {
        let ca = TestOffice::default();
        let account = ca.account().await;
        let order = ca.ready_order(&account, &["a.test"]).await;
        ca.signer.fail_next(fault.clone());
        let answered = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
        assert!(matches!(answered.state, OrderState::Processing { .. }), "{fault:?}");
        ca.clock.advance(Duration::from_secs(61));
        ca.run_due_jobs().await;
        assert_eq!(ca.signer.signatures(), signatures, "{fault:?}");
        assert!(matches!(order_now(&ca, &order).await.state, OrderState::Invalid { .. }), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_is_busy_or_away_is_asked_again_and_signs_once() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.signer.fail_next(SignerFault::Busy);
    ca.signer.fail_next(SignerFault::Unavailable);
    let valid = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    assert!(matches!(valid.state, OrderState::Valid { .. }));
    assert_eq!(ca.signer.signatures(), 1);
}

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
async fn policy_is_asked_at_new_order_and_at_finalize() {
    let policy = "version: v1\nrules:\n  - name: strong\n    allow: { names: [\"**.test\"], keys: [P-384] }\n";
    let ca = TestOffice::new(policy, Limits::default());
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    let refused = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap_err();
    let Refusal::Rejected(FinalizeOrderRejection::Issue(IssueRejection::Policy(decision))) = refused else {
        panic!("{refused:?}")
    };
    assert!(decision.explain().contains("a.test"));
    assert_eq!(ca.signer.signatures(), 0);
    assert_eq!(order_now(&ca, &order).await.state, OrderState::Ready);
}

#[tokio::test]
async fn all_refused_names_are_told_at_once_and_nothing_is_stored() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let commits = ca.store.commits();
    let request = PlaceOrder {
        names: names_of(&["ok.test", "denied.test", "outside.example"]),
        not_before: None,
        not_after: None,
        profile: None,
    };
    // One that could not be recorded does not count as the first.
    ca.store.fail_next(None, Failing::Refused(NotApplied::Busy));
    ca.office.place_order(&account, request.clone()).await.unwrap_err();
    assert_eq!(ca.store.commits(), commits);
    let refused = ca.office.place_order(&account, request.clone()).await.unwrap_err();
    let Refusal::Rejected(PlaceOrderRejection::Policy(decision)) = refused else { panic!("{refused:?}") };
    assert_eq!(decision.refused().count(), 2);
    // The first of its kind within the hour is one leaf; the second leaves nothing.
    assert_eq!(ca.store.commits(), commits + 1);
    ca.office.place_order(&account, request).await.unwrap_err();
    assert_eq!(ca.store.commits(), commits + 1);
    assert_eq!(leaves(&ca).await[0].kind(), "refusal");
}

#[tokio::test]
async fn open_orders_are_limited_and_the_place_is_free_again_when_one_ends() {
    let ca = TestOffice::new(POLICY, Limits { pending_orders_per_account: 2, ..Limits::default() });
    let account = ca.account().await;
    let first = ca.order(&account, &["a.test"]).await;
    ca.order(&account, &["b.test"]).await;
    let request = PlaceOrder { names: names_of(&["c.test"]), not_before: None, not_after: None, profile: None };
    let refused = ca.office.place_order(&account, request.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::TooManyPending { limit: 2 })));
    let authorization = ca.authorizations(&first).await.remove(0);
    ca.office.deactivate_authorization(account.id, authorization.id).await.unwrap();
    ca.office.place_order(&account, request).await.unwrap();
}

#[tokio::test]
async fn the_place_of_an_open_order_is_free_as_soon_as_it_expires_and_the_order_can_still_be_read() {
    let limits = Limits { pending_orders_per_account: 2, ..Limits::default() };
    let kept = limits.keep_ended_orders;
    let ca = TestOffice::new(POLICY, limits);
    let account = ca.account().await;
    let pending = ca.order(&account, &["a.test"]).await;
    let ready = ca.ready_order(&account, &["b.test"]).await;
    let request = PlaceOrder { names: names_of(&["c.test"]), not_before: None, not_after: None, profile: None };
    ca.clock.set(pending.expires.before(Duration::from_secs(1)));
    ca.run_due_jobs().await;
    let refused = ca.office.place_order(&account, request.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::TooManyPending { limit: 2 })));
    ca.clock.set(pending.expires.after(Duration::from_secs(1)));
    ca.run_due_jobs().await;
    assert_eq!(ca.store.counter(&Counter::PendingOrders(account.id)), 0);
    ca.office.place_order(&account, request).await.unwrap();
    for order in [&pending, &ready] {
        let OrderState::Invalid { error } = order_now(&ca, order).await.state else { panic!("not invalid") };
        assert!(error.detail.contains("expired"), "{error:?}");
    }
    ca.clock.set(pending.expires.after(kept + Duration::from_secs(1)));
    ca.run_due_jobs().await;
    assert_eq!(ca.office.order(account.id, pending.id).await.unwrap(), None);
    assert_eq!(ca.store.counter(&Counter::PendingOrders(account.id)), 0, "counted once for each");
}

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
async fn accounts_without_any_certificate_are_limited_and_pruned() {
    let ca = TestOffice::new(POLICY, Limits { unproven_accounts: 1, ..Limits::default() });
    let stranger = ca.account().await;
    let request = registration(fresh_key());
    let refused = ca.office.register_account(request.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(RegisterRejection::TooManyUnproven { limit: 1 })));
    ca.clock.advance(DAY * 8);
    ca.run_due_jobs().await;
    assert_eq!(ca.office.account("default", stranger.id).await.unwrap(), None);
    let proven = ca.office.register_account(request).await.unwrap().account;
    let order = ca.ready_order(&proven, &["a.test"]).await;
    ca.office.finalize_order(&proven, order.id, csr(&["a.test"])).await.unwrap();
    assert_eq!(ca.store.counter(&Counter::UnprovenAccounts), 0);
    ca.clock.advance(DAY * 8);
    ca.run_due_jobs().await;
    assert!(ca.office.account("default", proven.id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_deactivated_account_is_never_revived_by_its_key() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.order(&account, &["a.test"]).await;
    let ended = ca.office.deactivate_account(account.id).await.unwrap();
    assert!(matches!(ended.status, AccountStatus::Deactivated { .. }));
    ca.run_due_jobs().await;
    assert!(matches!(order_now(&ca, &order).await.state, OrderState::Invalid { .. }));
    let again = registration(account.key);
    let refused = ca.office.register_account(again).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(RegisterRejection::Deactivated)));
}

#[tokio::test]
async fn the_ledger_says_that_an_account_it_knows_of_ended_and_nothing_of_strangers() {
    let ca = TestOffice::default();
    let (stranger, holder) = (ca.account().await, ca.account().await);
    let order = ca.ready_order(&holder, &["a.test"]).await;
    ca.office.finalize_order(&holder, order.id, csr(&["a.test"])).await.unwrap();
    let before = ca.store.tree_head().await.unwrap().size;
    ca.office.deactivate_account(stranger.id).await.unwrap();
    assert_eq!(ca.store.tree_head().await.unwrap().size, before, "no leaf ever spoke of it");
    let commits = ca.store.commits();
    ca.office.deactivate_account(holder.id).await.unwrap();
    assert_eq!(ca.store.commits(), commits + 1, "state, leaf and job in one");
    let leaf = Leaf::decode(&ca.store.leaf(before).await.unwrap().unwrap()).unwrap();
    assert_eq!(leaf, AccountDeactivated { account: holder.id.octets(), at: ca.office.now() }.into());
    // A second wish changes nothing.
    ca.office.deactivate_account(holder.id).await.unwrap();
    assert_eq!(ca.store.tree_head().await.unwrap().size, before + 1);
}

#[tokio::test]
async fn open_orders_of_an_ended_account_are_cancelled_in_batches_and_a_restart_in_between_loses_none() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let mut orders = Vec::new();
    for number in 0..120 {
        orders.push(ca.order(&account, &[&format!("host{number}.test")]).await);
    }
    ca.office.deactivate_account(account.id).await.unwrap();
    let owed = JobKind::CancelOrders { account: account.id };
    // It is killed when the first batch is on the disk.
    ca.store.fail_next(Commit::Other, Failing::Kept);
    let job = ca.office.due_jobs(10).await.unwrap().into_iter().find(|job| job.kind == owed).expect("owed at once");
    ca.office.run_job(&job).await.unwrap_err();
    let ca = ca.restarted(8);
    let cancelled = async |ca: &TestOffice| {
        let mut count = 0;
        for order in &orders {
            count += usize::from(matches!(order_now(ca, order).await.state, OrderState::Invalid { .. }));
        }
        count
    };
    let first = cancelled(&ca).await;
    assert!(first > 0 && first < 120, "{first}");
    assert_eq!(ca.store.counter(&Counter::PendingOrders(account.id)), 120 - first as u64);
    assert!(ca.run_due_jobs().await.iter().any(|job| job.kind == owed), "still owed");
    assert_eq!(cancelled(&ca).await, 120);
    assert_eq!(ca.store.counter(&Counter::PendingOrders(account.id)), 0);
    assert!(ca.store.jobs().iter().all(|job| job.kind != owed), "done");
}

#[tokio::test]
async fn a_certificate_is_revoked_once_by_whoever_may_and_with_a_permitted_reason() {
    let ca = TestOffice::default();
    let (account, other) = (ca.account().await, ca.account().await);
    let order = ca.ready_order(&account, &["a.test"]).await;
    let valid = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    let OrderState::Valid { certificate } = valid.state else { panic!("{valid:?}") };
    let der = ca.office.certificate(account.id, certificate).await.unwrap().unwrap().certificate;
    let rejected = |refusal: Refusal<RevokeRejection>| match refusal {
        Refusal::Rejected(rejection) => rejection,
        Refusal::Failed(failure) => panic!("{failure}"),
    };
    let revoke = |by, reason| ca.office.revoke(by, &der, reason);
    assert_eq!(
        rejected(revoke(Revoker::Account(account.clone()), Some(7)).await.unwrap_err()),
        RevokeRejection::BadReason { given: 7 }
    );
    assert_eq!(
        rejected(revoke(Revoker::Account(other.clone()), None).await.unwrap_err()),
        RevokeRejection::NotPermitted
    );
    assert_eq!(
        rejected(revoke(Revoker::CertificateKey(fresh_key()), None).await.unwrap_err()),
        RevokeRejection::NotPermitted
    );
    // An account with valid authorizations for all names may (RFC 8555 §7.6).
    ca.ready_order(&other, &["a.test"]).await;
    revoke(Revoker::Account(other), Some(4)).await.unwrap();
    assert_eq!(certificates(&ca).await[0].revocation.unwrap().reason, Some(RevocationReason::Superseded));
    assert!(matches!(
        rejected(revoke(Revoker::Account(account), None).await.unwrap_err()),
        RevokeRejection::AlreadyRevoked { .. }
    ));
    assert_eq!(leaves(&ca).await.last().unwrap().kind(), "revocation");
}

#[tokio::test]
async fn a_checkpoint_is_signed_by_the_ledgers_own_key_and_only_when_the_tree_grew() {
    let ca = TestOffice::default();
    ca.office.owe_standing_jobs().await.unwrap();
    ca.office.record_start().await.unwrap();
    ca.run_due_jobs().await;
    let first = ca.store.checkpoint().await.unwrap().unwrap();
    let signed = chancery_ledger::SignedCheckpoint::parse(first.as_bytes()).unwrap();
    let key = ca.office.ledger_verifier(ca.office.settings().ledger.as_ref().unwrap()).unwrap();
    assert_eq!(signed.verify(&key).unwrap().size(), ca.store.tree_head().await.unwrap().size);
    ca.clock.advance(Duration::from_secs(61));
    ca.run_due_jobs().await;
    assert_eq!(ca.store.checkpoint().await.unwrap().unwrap(), first);
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    ca.clock.advance(Duration::from_secs(61));
    ca.run_due_jobs().await;
    assert_ne!(ca.store.checkpoint().await.unwrap().unwrap(), first);
}

#[tokio::test]
async fn the_servers_own_certificate_goes_down_the_same_row() {
    let policy = "version: v1\nrules:\n  - name: own\n    allow: { names: [ca.test] }\n    for: { door: own-tls }\n";
    let ca = TestOffice::new(policy, Limits::default());
    ca.office.issue_own_tls(&names_of(&["ca.test"]), &fresh_key()).await.unwrap();
    let refused = ca.office.issue_own_tls(&names_of(&["other.test"]), &fresh_key()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(IssueRejection::Policy(_))));
    assert_eq!(ca.signer.signatures(), 1);
    ledger_is_clean(&ca).await;
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

/// Asks for the first step alone: whoever asked goes away.
async fn first_step<T>(work: impl Future<Output = T>) {
    let mut work = Box::pin(work);
    assert!(poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_pending())).await);
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

#[tokio::test]
async fn a_client_that_goes_away_while_its_order_is_finalized_leaves_it_valid() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.store.fail_next(Commit::Intent, Failing::Late);
    first_step(ca.office.finalize_order(&account, order.id, csr(&["a.test"]))).await;
    assert!(matches!(order_now(&ca, &order).await.state, OrderState::Ready), "commit 1 is under way");
    ca.office.finished().await;
    assert!(matches!(order_now(&ca, &order).await.state, OrderState::Valid { .. }));
    assert_eq!(certificates(&ca).await.len(), 1);
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn an_account_that_is_given_up_while_it_finalizes_gets_nothing() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    // A proven account: nothing else of it changes with an intent.
    let first = ca.ready_order(&account, &["a.test"]).await;
    ca.office.finalize_order(&account, first.id, csr(&["a.test"])).await.unwrap();
    let order = ca.ready_order(&account, &["a.test"]).await;
    let signatures = ca.signer.signatures();
    ca.store.fail_next(Commit::Intent, Failing::Late);
    // Its open orders are not cancelled yet: its own end is what counts.
    ca.store.fail_next(Commit::Other, Failing::Refused(NotApplied::Busy));
    let (finalized, _) = tokio::join!(ca.office.finalize_order(&account, order.id, csr(&["a.test"])), async {
        tokio::task::yield_now().await;
        ca.office.deactivate_account(account.id).await
    });
    let refused = finalized.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(FinalizeOrderRejection::AccountEnded)), "{refused:?}");
    assert_eq!(ca.signer.signatures(), signatures);
    ledger_is_clean(&ca).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_policy_that_takes_long_keeps_no_thread_from_the_others() {
    let rule = |number: usize| {
        let when = format!("request.names.all(a, request.names.all(b, a == b || a != '{number}'))");
        format!("  - name: heavy-{number}\n    allow: {{ names: [\"**.test\"] }}\n    when: \"{when}\"\n")
    };
    let policy = format!("version: v1\nrules:\n{}", (0..16).map(rule).collect::<String>());
    let ca = Arc::new(TestOffice::new(&policy, Limits::default()));
    let account = ca.account().await;
    let texts: Vec<String> = (0..100).map(|number| format!("host{number}.test")).collect();
    let names = names_of(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let request = PlaceOrder { names, not_before: None, not_after: None, profile: None };
    let office = ca.office.clone();
    let heavy = tokio::spawn(async move { office.place_order(&account, request).await });
    // The one worker has the heavy request first.
    let mut answered = 0;
    while !heavy.is_finished() {
        tokio::spawn(async {}).await.unwrap();
        answered += 1;
    }
    heavy.await.unwrap().unwrap();
    assert!(answered > 10, "{answered} others had their turn meanwhile");
}

#[tokio::test]
async fn a_certificate_ends_no_later_than_the_root_above_its_issuer() {
    let life = DAY * 30;
    let ca = TestOffice::under_a_root_of(life);
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    let end = certificates(&ca).await[0].validity.not_after();
    assert_eq!(end, chancery_testkit::office::start().after(life));
    // What is asked for beyond it is refused, never cut.
    let request = PlaceOrder {
        names: names_of(&["b.test"]),
        not_before: None,
        not_after: Some(end.after(Duration::from_secs(1))),
        profile: None,
    };
    let refused = ca.office.place_order(&account, request.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::Validity(_))));
    ca.clock.advance(life + DAY);
    let ended = ca.office.place_order(&account, PlaceOrder { not_after: None, ..request }).await.unwrap_err();
    assert!(matches!(ended, Refusal::Failed(_)));
}

/// The office's issuing key under one certificate more.
fn another_chain(ca: &TestOffice, subject: &str, serial: u8) -> Arc<Chain> {
    let settings = ca.office.settings();
    let key = &settings.authorities.first().unwrap().key;
    let public = ca.signer.public_key(key).unwrap();
    let name = DistinguishedName::new(vec![Attribute::new(AttributeKind::CommonName, subject).unwrap()]);
    let serial = SerialNumber::from_random([serial; 16]);
    let document = development_root(&name, &public, serial, ca.clock.now(), DAY * 3650);
    let certificate = document.assemble(&ca.signer.sign_directly(&key.0, document.body()));
    Arc::new(install(&[certificate], &public, ca.clock.now()).unwrap())
}

/// The settings in force with other chains and another policy.
fn with(ca: &TestOffice, chains: Vec<Arc<Chain>>, policy: &str) -> Settings {
    let old = ca.office.settings();
    let Authority { id, key, algorithm, chains: _ } = &**old.authorities.first().unwrap();
    Settings {
        authorities: vec![Arc::new(Authority { id: id.clone(), key: key.clone(), algorithm: *algorithm, chains })],
        directories: old.directories.clone(),
        profiles: old.profiles.clone(),
        policy: Arc::new(Policy::parse(policy, Format::Yaml, "policy.yaml").unwrap()),
        block_list: Arc::clone(&old.block_list),
        own_tls: old.own_tls.clone(),
        ledger: old.ledger.clone(),
        limits: old.limits.clone(),
    }
}

#[tokio::test]
async fn the_tenant_of_a_directory_is_kept_with_the_orders_certificates_and_records_that_begin_there() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let of_nobody = ca.ready_order(&account, &["before.test"]).await;
    let mut settings = with(&ca, ca.office.settings().authorities[0].chains.clone(), POLICY);
    for directory in settings.directories.values_mut() {
        *directory = Arc::new(Directory { tenant: Some("payments".to_owned()), ..Directory::clone(directory) });
    }
    ca.office.replace_settings(settings, "a test").await.unwrap();
    let of_payments = ca.ready_order(&account, &["after.test"]).await;
    for (order, name, tenant) in [(of_nobody, "before.test", None), (of_payments, "after.test", Some("payments"))] {
        assert_eq!(order.tenant.as_deref(), tenant);
        let valid = ca.office.finalize_order(&account, order.id, csr(&[name])).await.unwrap();
        let OrderState::Valid { certificate } = valid.state else { panic!("{valid:?}") };
        let record = ca.store.certificate(certificate).await.unwrap().unwrap().value;
        assert_eq!((valid.tenant.as_deref(), record.tenant.as_deref()), (tenant, tenant));
        let (_, intent) = ca.office.intent_of(&record).await.unwrap();
        assert_eq!(intent.tenant.as_deref(), tenant);
    }
}

#[tokio::test]
async fn a_reload_records_which_issuing_certificates_came_and_went_in_one_commit_with_the_policy() {
    let ca = TestOffice::default();
    ca.office.record_start().await.unwrap();
    let started = leaves(&ca).await.len();
    let first = Arc::clone(&ca.office.settings().authorities[0].chains[0]);
    let (second, third) = (another_chain(&ca, "Test Issuer", 2), another_chain(&ca, "Test Issuer", 3));
    let kinds = async |from: usize| leaves(&ca).await[from..].iter().map(Leaf::kind).collect::<Vec<_>>();

    // One more: it came, and nothing else is said.
    let both = vec![Arc::clone(&second), Arc::clone(&first)];
    ca.office.replace_settings(with(&ca, both.clone(), POLICY), "a test").await.unwrap();
    assert_eq!(kinds(started).await, ["authority-installed"]);
    let Leaf::AuthorityInstalled(installed) = leaves(&ca).await.swap_remove(started) else { panic!("installed") };
    assert_eq!(installed.authority, "issuing");
    assert_eq!(
        installed.certificate,
        *aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, second.issuing().der()).as_ref()
    );
    assert_eq!(installed.key, second.issuing().key().digest().0);

    // The same again, in another order too: nothing.
    ca.office.replace_settings(with(&ca, both, POLICY), "a test").await.unwrap();
    ca.office
        .replace_settings(with(&ca, vec![Arc::clone(&first), Arc::clone(&second)], POLICY), "a test")
        .await
        .unwrap();
    assert_eq!(kinds(started + 1).await, [""; 0]);

    // One comes, two go, and the policy changes: all of it or nothing, whatever the commit meets.
    let policy = POLICY.replace("nobody", "no one");
    ca.store.fail_next(None, Failing::Conflict);
    ca.office.replace_settings(with(&ca, vec![Arc::clone(&third)], &policy), "a test").await.unwrap_err();
    assert_eq!(kinds(started + 1).await, [""; 0]);
    assert_eq!(ca.office.settings().authorities[0].chains.len(), 2, "the old settings stay");
    let commits = ca.store.commits();
    ca.office.replace_settings(with(&ca, vec![third], &policy), "a test").await.unwrap();
    assert_eq!(ca.store.commits(), commits + 1);
    let changed = ["authority-installed", "authority-retired", "authority-retired", "policy-activated"];
    assert_eq!(kinds(started + 1).await, changed);
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn a_restart_records_what_changed_while_nothing_ran_and_nothing_else() {
    let ca = TestOffice::default();
    ca.office.record_start().await.unwrap();
    let kinds =
        async |ca: &TestOffice, from: usize| leaves(ca).await[from..].iter().map(Leaf::kind).collect::<Vec<_>>();
    assert_eq!(kinds(&ca, 0).await, ["authority-installed", "policy-activated"]);
    let (ca, size) = (ca.restarted(2), 2);
    ca.office.record_start().await.unwrap();
    assert_eq!(kinds(&ca, size).await, [""; 0]);
    // Other settings than those that ran last: what a start with them would record.
    let ca = ca.restarted(3);
    let second = another_chain(&ca, "Test Issuer", 2);
    ca.office.replace_settings(with(&ca, vec![second], POLICY), "start").await.unwrap();
    assert_eq!(kinds(&ca, size).await, ["authority-installed", "authority-retired"]);
    // And back again, by the ordinary start of the old settings.
    let ca = ca.restarted(4);
    ca.office.record_start().await.unwrap();
    assert_eq!(kinds(&ca, size + 2).await, ["authority-installed", "authority-retired"]);
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn nothing_is_issued_until_what_is_in_force_could_be_recorded() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.store.fail_next(None, Failing::Refused(NotApplied::NoSpace("the disk is full".into())));
    let failure = ca.office.record_start().await.unwrap_err();
    assert!(failure.to_string().contains("the disk is full"), "{failure}");
    let refused = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap_err();
    let Refusal::Failed(Failure::Unavailable(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("what is in force could not be recorded") && why.contains("the disk is full"), "{why}");
    assert_eq!((ca.signer.signatures(), leaves(&ca).await.len()), (0, 0));
    ca.office.record_start().await.unwrap();
    assert_eq!(ca.office.held(), [""; 0]);
    let valid = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    assert!(matches!(valid.state, OrderState::Valid { .. }));
    let kinds: Vec<_> = leaves(&ca).await.iter().map(Leaf::kind).collect();
    assert_eq!(kinds, ["authority-installed", "policy-activated", "intent", "signature"]);
}

#[tokio::test]
async fn a_certificate_keeps_the_chain_of_its_issuer_however_a_reload_orders_the_chains() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    let record = certificates(&ca).await.swap_remove(0);
    let first = Arc::clone(&ca.office.settings().authorities[0].chains[0]);
    let of_another_name = another_chain(&ca, "Another Issuer", 2);
    let issuers = async || ca.office.issued_chain(&record).await.unwrap().unwrap().issuers;
    assert_eq!(issuers().await, [first.issuing().der()]);
    ca.office
        .replace_settings(with(&ca, vec![Arc::clone(&of_another_name), Arc::clone(&first)], POLICY), "a test")
        .await
        .unwrap();
    assert_eq!(issuers().await, [first.issuing().der()]);
    // Nothing that could not verify is sent along.
    ca.office.replace_settings(with(&ca, vec![of_another_name], POLICY), "a test").await.unwrap();
    assert_eq!(issuers().await, [[0; 0]; 0]);
    // Nor another key's certificate, be its name the same.
    let another_key = Arc::clone(&TestOffice::default().office.settings().authorities[0].chains[0]);
    assert_eq!(another_key.issuing().subject(), first.issuing().subject());
    ca.office.replace_settings(with(&ca, vec![another_key, first.clone()], POLICY), "a test").await.unwrap();
    assert_eq!(issuers().await, [first.issuing().der()]);
    let another_key = Arc::clone(&ca.office.settings().authorities[0].chains[0]);
    ca.office.replace_settings(with(&ca, vec![another_key], POLICY), "a test").await.unwrap();
    assert_eq!(issuers().await, [[0; 0]; 0]);
}

#[tokio::test]
async fn a_subject_that_the_issuer_is_not_permitted_is_the_fault_of_the_name_that_makes_it_or_else_ours() {
    let place = async |excluded: &str, names: &[&str], subject: SubjectPolicy| {
        let ca = TestOffice::excluding_subject(excluded);
        let account = ca.account().await;
        let profile = Profile::new(ProfileSpec { subject, ..ProfileSpec::server() }).unwrap();
        let mut settings = with(&ca, ca.office.settings().authorities[0].chains.clone(), POLICY);
        settings.profiles.insert("server".to_owned(), Arc::new(profile));
        ca.office.replace_settings(settings, "a test").await.unwrap();
        let request = PlaceOrder { names: names_of(names), not_before: None, not_after: None, profile: None };
        ca.office.place_order(&account, request).await
    };
    let by_name = SubjectPolicy::CommonNameFromFirstDnsName;
    place("bad.test", &["good.test"], by_name.clone()).await.unwrap();
    let refused = place("bad.test", &["bad.test", "good.test"], by_name).await.unwrap_err();
    let Refusal::Rejected(PlaceOrderRejection::Names(refused)) = refused else { panic!("{refused:?}") };
    let [NameRefusal { name, because }] = &*refused.others else { panic!("{refused:?}") };
    assert_eq!(name.to_string(), "bad.test");
    assert!(because.contains("the subject \"CN=bad.test\" is not one that"), "{because}");
    // Nobody who asks can do anything about a subject that is always the same.
    let bad = Attribute::new(AttributeKind::CommonName, "Bad").unwrap();
    let failed = place("Bad", &["good.test"], SubjectPolicy::Fixed(vec![bad])).await.unwrap_err();
    assert!(matches!(failed, Refusal::Failed(Failure::Unavailable(_))), "{failed:?}");
}

#[tokio::test]
async fn a_reload_beside_the_record_of_a_start_stays_in_force_in_the_ledger_too() {
    let ca = TestOffice::default();
    let policy = POLICY.replace("nobody", "no one");
    let chains = ca.office.settings().authorities[0].chains.clone();
    ca.store.late_blob_next();
    let (started, reloaded) =
        tokio::join!(ca.office.record_start(), ca.office.replace_settings(with(&ca, chains, &policy), "a reload"));
    started.unwrap();
    reloaded.unwrap();
    let in_force = ca.store.in_force().await.unwrap().unwrap().value;
    let new = Policy::parse(&policy, Format::Yaml, "policy.yaml").unwrap().hash();
    assert_eq!((in_force.policy, ca.office.settings().policy.hash()), (Some(new.0), new));
}

#[tokio::test]
async fn a_life_that_the_issuers_end_cuts_is_counted_and_what_was_asked_for_is_not() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let cut = || ca.office.counters().cut_by_issuer.load(Ordering::Relaxed);
    let issue = async |name: &str, not_after: Option<Timestamp>| {
        let names = names_of(&[name]);
        let request = PlaceOrder { names, not_before: None, not_after, profile: None };
        let order = ca.office.place_order(&account, request).await.unwrap();
        for authorization in ca.authorizations(&order).await {
            ca.office.answer_challenge(&account, authorization.id, ChallengeKind::Http01).await.unwrap();
        }
        ca.office.finalize_order(&account, order.id, csr(&[name])).await.unwrap();
        certificates(&ca).await.into_iter().max_by_key(|record| record.recorded).unwrap().validity.not_after()
    };
    issue("early.test", None).await;
    assert_eq!(cut(), 0);
    // 30 days before the issuer's end, with a profile of 90 days.
    ca.clock.advance(ISSUER_LIFE - DAY * 30);
    let end = ca.office.settings().authorities[0].ends().unwrap();
    assert_eq!(issue("late.test", None).await, end);
    assert_eq!(cut(), 1);
    ca.clock.advance(Duration::from_secs(1));
    assert_eq!(issue("asked.test", Some(end)).await, end);
    assert_eq!(cut(), 1, "the issuer's end was asked for");
    // A life longer than the configured time raises the alarm that much earlier.
    let settings = ca.office.settings();
    assert_eq!(settings.issuer_alarm(), settings.limits.issuer_alarm);
    let eager = TestOffice::new(POLICY, Limits { issuer_alarm: DAY, ..Limits::default() });
    assert_eq!(eager.office.settings().issuer_alarm(), DAY * 90);
}
