//! From an order that is ready to its one certificate, whatever fails between.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use chancery_acme::{
    challenge::ChallengeKind,
    order::{FinalizeRejection, OrderState, OrderStatus},
};
use chancery_authority::{
    Failure, Limits, Refusal,
    finalize_order::FinalizeOrderRejection,
    issue::{IssueRejection, NameRefusal},
    place_order::{PlaceOrder, PlaceOrderRejection},
    ports::{NotApplied, Store as _},
    records::{CertificateState, RevocationReason},
    register_account::RegisterAccount,
    revoke::{RevokeRejection, Revoker},
};
use chancery_ledger::{
    Leaf,
    leaf::{Decision, MAX_LEAF_BYTES},
};
use chancery_pki::{
    Timestamp,
    distinguished_name::{Attribute, AttributeKind},
    name::NAMES_OCTETS_MAX,
    profile::{Profile, ProfileSpec, SubjectPolicy},
};
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{ISSUER_LIFE, POLICY, TestOffice, csr, fresh_key, names_of, registration},
    ports::SignerFault,
};

use crate::{DAY, certificates, first_step, leaves, ledger_is_clean, order_now, with};

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
        replaces: None,
    };
    let refused = ca.office.place_order(&account, request.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::Validity(_))));
    ca.clock.advance(life + DAY);
    let ended = ca.office.place_order(&account, PlaceOrder { not_after: None, ..request }).await.unwrap_err();
    assert!(matches!(ended, Refusal::Failed(_)));
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
        let request =
            PlaceOrder { names: names_of(names), not_before: None, not_after: None, profile: None, replaces: None };
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
async fn a_life_that_the_issuers_end_cuts_is_counted_and_what_was_asked_for_is_not() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let cut = || ca.office.counters().cut_by_issuer.load(Ordering::Relaxed);
    let issue = async |name: &str, not_after: Option<Timestamp>| {
        let names = names_of(&[name]);
        let request = PlaceOrder { names, not_before: None, not_after, profile: None, replaces: None };
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
