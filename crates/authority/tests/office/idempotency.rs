//! A request that its requester named leads to one certificate, however often it is asked for.

use std::{sync::Arc, time::Duration};

use chancery_acme::id::CertificateId;
use chancery_authority::{
    Failure, Limits, Refusal,
    issue::IssueRejection,
    issue_once::{IssueOnce, IssueOnceRejection, Once},
    ports::Store as _,
    records::{CertificateState, IdempotencyKey, IdempotencyOutcome, IdempotencyRecord, LeafRef},
};
use chancery_ledger::Leaf;
use chancery_pki::Content;
use chancery_policy::{Door, Reported, Requester};
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{POLICY, TestOffice, fresh_key, names_of},
    ports::SignerFault,
};

use crate::{DAY, certificates, first_step, leaves, ledger_is_clean};

/// A workload of a cluster asks for a certificate, under its own name for the request.
fn request(uid: &str, names: &[&str]) -> IssueOnce {
    let mut requester = Requester { door: Door::CertManager, ..Requester::own_tls() };
    requester.proven.cluster = Some("prod-eu".to_owned());
    IssueOnce {
        credential: "prod-eu".to_owned(),
        uid: uid.to_owned(),
        authority: "issuing".parse().unwrap(),
        profile: "server".to_owned(),
        asked_profile: Some("server".to_owned()),
        requester,
        tenant: None,
        names: names_of(names),
        public_key: fresh_key(),
        not_before: None,
        not_after: None,
        lifetime: None,
        content: Content::default(),
    }
}

fn which(once: &Once) -> CertificateId {
    match once {
        Once::Issued { certificate, .. } | Once::UnderWay { certificate } => *certificate,
    }
}

async fn kept(ca: &TestOffice, uid: &str) -> IdempotencyRecord {
    let key = IdempotencyKey::new(Door::CertManager, "prod-eu", uid).unwrap();
    ca.store.idempotency(&key).await.unwrap().unwrap().value
}

/// After the time at which what has no durable signature is settled.
async fn settled(ca: &TestOffice) {
    ca.clock.advance(Duration::from_secs(61));
    ca.run_due_jobs().await;
}

#[tokio::test]
async fn a_request_that_is_repeated_gets_the_same_certificate_and_is_signed_once() {
    let ca = TestOffice::default();
    let request = request("1", &["a.test", "b.test"]);
    let first = ca.office.issue_once(request.clone()).await.unwrap();
    let Once::Issued { certificate, .. } = first else { panic!("{first:?}") };
    assert_eq!(ca.office.issue_once(request.clone()).await.unwrap(), first);
    assert_eq!(kept(&ca, "1").await.outcome, IdempotencyOutcome::Issued { certificate });
    let ca = ca.restarted(8);
    assert_eq!(ca.office.issue_once(request.clone()).await.unwrap(), first);
    // It was decided; what is only read needs no clock.
    ca.clock.doubt_because(Some("the clock went back"));
    assert_eq!(ca.office.issue_once(request).await.unwrap(), first);
    assert_eq!((ca.signer.signatures(), certificates(&ca).await.len()), (1, 1));
    let told: Vec<Leaf> = leaves(&ca).await;
    assert_eq!(told.iter().map(Leaf::kind).collect::<Vec<_>>(), ["intent", "signature"]);
    let Some(Leaf::Intent(intent)) = told.first() else { panic!("{told:?}") };
    let idempotency = intent.idempotency.as_ref().unwrap();
    assert_eq!((idempotency.attempt, &*idempotency.key), (1, "cert-manager\nprod-eu\n1"));
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn something_else_asked_for_under_the_same_identifier_is_refused_and_signs_nothing() {
    let ca = TestOffice::default();
    let asked = request("1", &["a.test"]);
    let reporting = |reported| Requester { reported: Some(Arc::new(reported)), ..asked.requester.clone() };
    let in_shop = reporting(Reported { namespace: Some("shop".to_owned()), ..Reported::default() });
    let for_web = reporting(Reported { certificate: Some("web".to_owned()), ..Reported::default() });
    ca.office.issue_once(asked.clone()).await.unwrap();
    let others = [
        IssueOnce { names: names_of(&["b.test"]), ..asked.clone() },
        IssueOnce { public_key: fresh_key(), ..asked.clone() },
        IssueOnce { asked_profile: Some("else".to_owned()), ..asked.clone() },
        IssueOnce { asked_profile: None, ..asked.clone() },
        IssueOnce { not_after: Some(chancery_testkit::office::start().after(DAY)), ..asked.clone() },
        IssueOnce { not_before: Some(chancery_testkit::office::start()), ..asked.clone() },
        IssueOnce { lifetime: chancery_pki::Lifetime::from_seconds(3_600).ok(), ..asked.clone() },
        IssueOnce { requester: in_shop, ..asked.clone() },
        IssueOnce { requester: for_web, ..asked.clone() },
    ];
    for other in others {
        let Err(Refusal::Rejected(refused)) = ca.office.issue_once(other.clone()).await else { panic!("{other:?}") };
        assert!(matches!(refused, IssueOnceRejection::OtherRequest { .. }), "{refused:?}");
        let told =
            "the request \"1\" was made before and asked for something else; give a new request a new identifier";
        assert_eq!(refused.to_string(), told);
    }
    assert_eq!(ca.signer.signatures(), 1);
    // Under another name, by another credential or at another door it is another request.
    ca.office.issue_once(request("2", &["b.test"])).await.unwrap();
    ca.office.issue_once(IssueOnce { credential: "test".to_owned(), ..request("1", &["b.test"]) }).await.unwrap();
    let requester = Requester { door: Door::Api, ..asked.requester };
    ca.office.issue_once(IssueOnce { requester, ..request("1", &["b.test"]) }).await.unwrap();
    assert_eq!(ca.signer.signatures(), 4);
}

#[tokio::test]
async fn what_the_server_decides_about_a_request_may_change_and_it_is_the_same_request() {
    let ca = TestOffice::default();
    let asked = IssueOnce { asked_profile: None, ..request("1", &["a.test"]) };
    let first = ca.office.issue_once(asked.clone()).await.unwrap();
    let mut proven = asked.requester.clone();
    proven.proven.namespace = Some("shop".to_owned());
    for same in [
        IssueOnce { authority: "else".parse().unwrap(), ..asked.clone() },
        IssueOnce { profile: "else".to_owned(), ..asked.clone() },
        IssueOnce { tenant: Some("else".to_owned()), ..asked.clone() },
        IssueOnce { requester: proven, ..asked.clone() },
    ] {
        assert_eq!(ca.office.issue_once(same.clone()).await.unwrap(), first, "{same:?}");
    }
    assert_eq!(ca.signer.signatures(), 1);
}

#[tokio::test]
async fn of_many_that_ask_at_once_one_signs_and_all_get_the_same() {
    // The intent, or the certificate, is kept after the others had their turn.
    for late in [Commit::Intent, Commit::Certificate] {
        let ca = TestOffice::default();
        let request = request("1", &["a.test"]);
        ca.store.fail_next(late, Failing::Late);
        let racing: Vec<_> = (0..16)
            .map(|_| {
                let (office, request) = (ca.office.clone(), request.clone());
                tokio::spawn(async move { office.issue_once(request).await })
            })
            .collect();
        let mut got = Vec::new();
        for race in racing {
            got.push(which(&race.await.unwrap().unwrap()));
        }
        assert_eq!(ca.signer.signatures(), 1, "{late:?}");
        let issued = ca.office.issue_once(request).await.unwrap();
        assert!(matches!(issued, Once::Issued { .. }), "{late:?}");
        assert!(got.iter().all(|certificate| *certificate == which(&issued)), "{late:?}");
        assert_eq!(certificates(&ca).await.len(), 1, "{late:?}");
    }
}

#[tokio::test]
async fn what_was_given_up_is_tried_again_under_a_new_serial() {
    let ca = TestOffice::default();
    let request = request("1", &["a.test"]);
    ca.signer.fail_next(SignerFault::SignedButUnknown);
    let first = ca.office.issue_once(request.clone()).await.unwrap();
    let Once::UnderWay { certificate } = first else { panic!("{first:?}") };
    // Until it is settled it is under way, also after a restart.
    assert_eq!(ca.office.issue_once(request.clone()).await.unwrap(), first);
    let ca = ca.restarted(8);
    assert_eq!(ca.office.issue_once(request.clone()).await.unwrap(), first);
    assert_eq!(kept(&ca, "1").await.outcome, IdempotencyOutcome::Pending { certificate });
    settled(&ca).await;
    let abandoned = kept(&ca, "1").await;
    assert_eq!((abandoned.attempt, abandoned.outcome), (1, IdempotencyOutcome::Abandoned { certificate }));
    // Something else is refused for it as well.
    let other = IssueOnce { names: names_of(&["b.test"]), ..request.clone() };
    let refused = ca.office.issue_once(other).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(IssueOnceRejection::OtherRequest { .. })));

    let second = ca.office.issue_once(request.clone()).await.unwrap();
    assert!(matches!(second, Once::Issued { .. }), "{second:?}");
    assert_ne!(which(&second), certificate);
    assert_eq!(ca.office.issue_once(request).await.unwrap(), second);
    let issued = kept(&ca, "1").await;
    let outcome = IdempotencyOutcome::Issued { certificate: which(&second) };
    assert_eq!((issued.attempt, issued.outcome), (2, outcome));
    assert_eq!(ca.signer.signatures(), 2);
    let possibly = certificates(&ca).await.into_iter().find(|record| record.id == certificate).unwrap();
    assert!(matches!(possibly.state, CertificateState::PossiblyIssued { .. }), "it can be revoked");
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn a_signature_reported_lost_but_kept_is_found_again_and_never_followed_by_a_second() {
    let ca = TestOffice::default();
    let request = request("1", &["a.test"]);
    ca.store.fail_next(Commit::Certificate, Failing::Kept);
    let first = ca.office.issue_once(request.clone()).await.unwrap();
    assert!(matches!(first, Once::UnderWay { .. }), "{first:?}");
    let ca = ca.restarted(8);
    for _ in 0..2 {
        let again = ca.office.issue_once(request.clone()).await.unwrap();
        assert!(matches!(again, Once::Issued { .. }), "{again:?}");
        assert_eq!(which(&again), which(&first));
        settled(&ca).await;
    }
    assert_eq!(ca.signer.signatures(), 1);
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn an_intent_whose_fate_is_unknown_is_never_signed_and_its_request_may_be_repeated() {
    for (how, signed_at_once) in [(Failing::Lost, true), (Failing::Kept, false)] {
        let ca = TestOffice::default();
        let request = request("1", &["a.test"]);
        ca.store.fail_next(Commit::Intent, how.clone());
        let failed = ca.office.issue_once(request.clone()).await.unwrap_err();
        assert!(matches!(failed, Refusal::Failed(Failure::Unavailable(_))), "{failed:?}");
        assert_eq!(ca.signer.signatures(), 0);
        let again = ca.office.issue_once(request.clone()).await.unwrap();
        assert_eq!(matches!(again, Once::Issued { .. }), signed_at_once, "{how:?}");
        settled(&ca).await;
        let last = ca.office.issue_once(request).await.unwrap();
        assert!(matches!(last, Once::Issued { .. }), "{how:?}");
        assert_eq!(which(&last) == which(&again), signed_at_once, "{how:?}");
        assert_eq!(ca.signer.signatures(), 1, "{how:?}");
        ledger_is_clean(&ca).await;
    }
}

#[tokio::test]
async fn whoever_goes_away_in_the_middle_finds_the_certificate_when_asking_again() {
    let ca = TestOffice::default();
    let request = request("1", &["a.test"]);
    ca.store.fail_next(Commit::Intent, Failing::Late);
    first_step(ca.office.issue_once(request.clone())).await;
    ca.office.finished().await;
    assert_eq!(ca.signer.signatures(), 1);
    let found = ca.office.issue_once(request).await.unwrap();
    assert_eq!(which(&found), certificates(&ca).await[0].id);
    assert_eq!(ca.signer.signatures(), 1);
}

#[tokio::test]
async fn a_request_that_policy_refuses_is_recorded_as_refused_and_may_be_asked_again() {
    let ca = TestOffice::default();
    let request = request("1", &["denied.test"]);
    for _ in 0..2 {
        let refused = ca.office.issue_once(request.clone()).await.unwrap_err();
        let policy = matches!(refused, Refusal::Rejected(IssueOnceRejection::Issue(IssueRejection::Policy(_))));
        assert!(policy, "{refused:?}");
    }
    let [Leaf::Refusal(refusal)] = &*leaves(&ca).await else { panic!("one refusal an hour") };
    assert_eq!(refusal.requester.summary, "cert-manager cluster prod-eu");
    let allowed = crate::with(&ca, ca.office.settings().authorities[0].chains.clone(), EVERYTHING);
    ca.office.replace_settings(allowed, "a test").await.unwrap();
    assert!(matches!(ca.office.issue_once(request).await.unwrap(), Once::Issued { .. }));
}

const EVERYTHING: &str = "version: v1\nrules:\n  - name: everything\n    allow: { names: [\"**.test\"] }\n";

#[tokio::test]
async fn an_identifier_by_which_the_ledger_could_not_tell_requests_apart_is_refused() {
    let ca = TestOffice::default();
    for (credential, uid) in
        [("a\nb", "1"), ("a", "1\n2"), ("a\0b", "1"), ("", "1"), ("a", ""), ("a", &"1".repeat(257))]
    {
        let credential = credential.to_owned();
        let refused = ca.office.issue_once(IssueOnce { credential, ..request(uid, &["a.test"]) }).await.unwrap_err();
        assert!(matches!(refused, Refusal::Rejected(IssueOnceRejection::Name(_))), "{uid:?}");
    }
    assert_eq!((ca.signer.signatures(), ca.store.commits()), (0, 0));
}

#[tokio::test]
async fn what_became_of_a_request_is_forgotten_with_the_record_of_its_certificate() {
    let limits = Limits { keep_expired_certificates: DAY * 30, ..Limits::default() };
    let ca = TestOffice::new(POLICY, limits);
    ca.office.owe_standing_jobs().await.unwrap();
    let (kept, damaged) = (request("1", &["a.test"]), request("2", &["b.test"]));
    let first = ca.office.issue_once(kept.clone()).await.unwrap();
    let unreadable = ca.office.issue_once(damaged.clone()).await.unwrap();
    ca.clock.advance(DAY * 100);
    ca.run_due_jobs().await;
    assert_eq!(ca.office.issue_once(kept.clone()).await.unwrap(), first, "expired, but its record is there");
    let damaged_leaf = certificates(&ca).await.into_iter().find(|record| record.id == which(&unreadable)).unwrap();
    let LeafRef::At(index) = damaged_leaf.state.intent() else { panic!("{damaged_leaf:?}") };
    ca.store.damage_leaf(index);
    ca.clock.advance(DAY * 30);
    ca.run_due_jobs().await;
    assert_eq!(certificates(&ca).await.len(), 0);
    let key = IdempotencyKey::new(Door::CertManager, "prod-eu", "1").unwrap();
    assert_eq!(ca.store.idempotency(&key).await.unwrap(), None);
    // A name that could not be read says nothing without its certificate.
    for (request, before) in [(kept, first), (damaged, unreadable)] {
        let again = ca.office.issue_once(request).await.unwrap();
        assert!(matches!(again, Once::Issued { .. }), "{again:?}");
        assert_ne!(which(&again), which(&before));
    }
}
