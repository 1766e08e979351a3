//! When certificates are best replaced, and which orders may say that they replace one (RFC 9773).

use std::{sync::Arc, time::Duration};

use chancery_acme::{
    account::Account,
    order::Order,
    renewal_info::{SuggestedWindow, UniqueIdentifier},
};
use chancery_authority::{
    Authority, Refusal, Settings,
    place_order::{PlaceOrder, PlaceOrderRejection},
    ports::Store as _,
    records::{CertificateRecord, Retention},
};
use chancery_ledger::Leaf;
use chancery_pki::{Timestamp, certificate::Certificate};
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{POLICY, TestOffice, csr, fresh_key, names_of},
};

use crate::{DAY, another_chain, certificates, chain_for, leaves, with};

async fn issue(ca: &TestOffice, account: &Account, names: &[&str]) -> Order {
    let order = ca.ready_order(account, names).await;
    ca.office.finalize_order(account, order.id, csr(names)).await.unwrap()
}

/// An office with an account that has one certificate.
async fn issued() -> (TestOffice, Account, CertificateRecord) {
    let ca = TestOffice::default();
    let account = ca.account().await;
    issue(&ca, &account, &["a.test"]).await;
    let record = first(&ca).await;
    (ca, account, record)
}

/// The identifier of a certificate, from its bytes.
async fn identifier(ca: &TestOffice, record: &CertificateRecord) -> UniqueIdentifier {
    let certificate = Certificate::from_der(&ca.office.issued(record).await.unwrap().unwrap()).unwrap();
    let serial = record.serial.der_content();
    UniqueIdentifier::new(certificate.authority_key_identifier().unwrap(), &serial).unwrap()
}

/// The window of the certificate that was issued first.
async fn window(ca: &TestOffice) -> SuggestedWindow {
    let record = first(ca).await;
    let asked = identifier(ca, &record).await;
    ca.office.renewal_info(&asked).await.unwrap().unwrap().window
}

async fn first(ca: &TestOffice) -> CertificateRecord {
    let mut all = certificates(ca).await;
    all.sort_by_key(|record| record.recorded);
    all.remove(0)
}

fn replacing(names: &[&str], replaces: &UniqueIdentifier) -> PlaceOrder {
    let replaces = Some(replaces.clone());
    PlaceOrder { names: names_of(names), not_before: None, not_after: None, profile: None, replaces }
}

fn is_over(window: SuggestedWindow, now: Timestamp) -> bool {
    window.end() < now
}

#[tokio::test]
async fn the_usual_window_counts_from_when_it_was_made_and_not_from_where_it_is_dated_back_to() {
    let ca = TestOffice::default().with_teams();
    let key = ca.eab_key("team", "teams").await;
    let account = ca.bound_account(&key).await;
    let request = PlaceOrder {
        names: names_of(&["a.test"]),
        not_before: None,
        not_after: None,
        profile: Some("minutes".to_owned()),
        replaces: None,
    };
    let order = ca.office.place_order(&account, request).await.unwrap();
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    let record = first(&ca).await;
    assert!(record.validity.not_before() < record.recorded);
    let window = window(&ca).await;
    assert_eq!(window, SuggestedWindow::usual(record.recorded, record.validity.not_after()));
    let asked = identifier(&ca, &record).await;
    let told = ca.office.renewal_info(&asked).await.unwrap().unwrap();
    assert!(told.ask_again < Duration::from_secs(15), "ten minutes are short: {:?}", told.ask_again);
}

#[tokio::test]
async fn certificates_of_other_doors_and_of_nobody_are_not_told_about() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    issue(&ca, &account, &["a.test"]).await;
    let asked = identifier(&ca, &first(&ca).await).await;
    // The server's own has no order.
    ca.clock.advance(Duration::from_secs(60));
    ca.office.issue_own_tls(&names_of(&["b.test"]), &fresh_key()).await.unwrap();
    let own = certificates(&ca).await.into_iter().find(|record| record.order.is_none()).unwrap();
    let own = identifier(&ca, &own).await;
    assert_eq!(ca.office.renewal_info(&own).await.unwrap(), None);
    let refused = ca.office.place_order(&account, replacing(&["b.test"], &own)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::NothingToReplace)));
    let elsewhere = UniqueIdentifier::new(&[7; 20], asked.serial_der()).unwrap();
    assert_eq!(ca.office.renewal_info(&elsewhere).await.unwrap(), None, "of another issuer");
    assert!(ca.office.renewal_info(&asked).await.unwrap().is_some());
}

#[tokio::test]
async fn where_the_issuer_is_configured_no_more_its_certificates_are_to_be_replaced_at_once() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    issue(&ca, &account, &["a.test"]).await;
    ca.clock.advance(DAY);
    let now = ca.office.now();
    let usual = window(&ca).await;
    assert!(usual.start() > now);
    let other = another_chain(&ca, "Another Issuer", 9);
    // Beside the old one, in whatever place, nothing changes.
    let old = ca.office.settings().authorities[0].chains.clone();
    let both = [vec![Arc::clone(&other)], old.clone()].concat();
    ca.office.replace_settings(with(&ca, both, POLICY), "a test").await.unwrap();
    assert_eq!(window(&ca).await, usual);
    // Nor under another authority's name.
    let mut settings = with(&ca, vec![Arc::clone(&other)], POLICY);
    let Authority { key, algorithm, .. } = &*settings.authorities[0];
    let renamed = Authority { id: "before".parse().unwrap(), key: key.clone(), algorithm: *algorithm, chains: old };
    settings.authorities.push(Arc::new(renamed));
    ca.office.replace_settings(settings, "a test").await.unwrap();
    assert_eq!(window(&ca).await, usual);
    ca.office.replace_settings(with(&ca, vec![other], POLICY), "a test").await.unwrap();
    assert!(is_over(window(&ca).await, now));
}

#[tokio::test]
async fn what_ends_early_with_its_issuer_is_to_be_replaced_once_there_is_one_that_lasts_longer() {
    let life = DAY * 20;
    let ca = TestOffice::under_a_root_of(life);
    let account = ca.account().await;
    issue(&ca, &account, &["a.test"]).await;
    let record = first(&ca).await;
    assert_eq!(record.validity.not_after(), chancery_testkit::office::start().after(life));
    ca.clock.advance(DAY);
    let now = ca.office.now();
    // No other issuer: a new one would end at the same time.
    assert_eq!(window(&ca).await, SuggestedWindow::usual(record.recorded, record.validity.not_after()));
    let (old, longer) = (ca.office.settings().authorities[0].chains.clone(), another_chain(&ca, "Another Issuer", 9));
    let reload = async |chains| {
        let settings: Settings = with(&ca, chains, POLICY);
        ca.office.replace_settings(settings, "a test").await.unwrap();
    };
    reload([old.clone(), vec![Arc::clone(&longer)]].concat()).await;
    assert!(window(&ca).await.start() > now, "the first that holds issues, and that is the old one");
    reload([vec![longer], old].concat()).await;
    assert!(is_over(window(&ca).await, now));
    // What is issued now has its usual life.
    ca.clock.advance(Duration::from_secs(10));
    issue(&ca, &account, &["b.test"]).await;
    let last = certificates(&ca).await.into_iter().max_by_key(|record| record.recorded).unwrap();
    let told = ca.office.renewal_info(&identifier(&ca, &last).await).await.unwrap().unwrap();
    assert!(told.window.start() > now);
}

#[tokio::test]
async fn what_outlives_the_chain_that_is_left_above_it_is_to_be_replaced_before_that_one_ends() {
    let (ca, _, record) = issued().await;
    ca.clock.advance(DAY);
    let shorter = chain_for(&ca, "Test Issuer", 9, DAY * 20);
    assert!(shorter.not_after() < record.validity.not_after());
    let until = shorter.not_after();
    ca.office.replace_settings(with(&ca, vec![shorter], POLICY), "a test").await.unwrap();
    assert_eq!(window(&ca).await, SuggestedWindow::usual(record.recorded, until));
}

#[tokio::test]
async fn of_two_orders_at_once_the_one_that_comes_second_finds_the_certificate_replaced() {
    let (ca, account, record) = issued().await;
    let asked = identifier(&ca, &record).await;
    // The first is on its way to the store when the second is kept.
    ca.store.fail_next(Commit::Order, Failing::Late);
    let (first, second) = tokio::join!(
        ca.office.place_order(&account, replacing(&["a.test"], &asked)),
        ca.office.place_order(&account, replacing(&["a.test"], &asked)),
    );
    let refused = first.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::AlreadyReplaced)), "{refused:?}");
    let marked = ca.store.certificate(record.id).await.unwrap().unwrap().value;
    assert_eq!(marked.replaced_by, Some(second.unwrap().id));
}

#[tokio::test]
async fn a_certificate_that_is_revoked_meanwhile_is_replaced_and_stays_revoked() {
    let (ca, account, record) = issued().await;
    let asked = identifier(&ca, &record).await;
    ca.store.fail_next(Commit::Order, Failing::Late);
    let (placed, revoked) = tokio::join!(
        ca.office.place_order(&account, replacing(&["a.test"], &asked)),
        ca.office.revoke_serial(&record.authority, record.serial, None, "an operator".to_owned()),
    );
    revoked.unwrap();
    let order = placed.unwrap();
    let now = ca.store.certificate(record.id).await.unwrap().unwrap().value;
    assert!(now.revocation.is_some());
    assert_eq!(now.replaced_by, Some(order.id));
    ca.clock.advance(Duration::from_secs(3));
    assert!(is_over(window(&ca).await, ca.office.now()));
}

#[tokio::test]
async fn the_mark_outlives_a_restart_and_the_ledger_says_what_was_replaced() {
    let (ca, account, record) = issued().await;
    let asked = identifier(&ca, &record).await;
    let order = ca.office.place_order(&account, replacing(&["a.test"], &asked)).await.unwrap();
    assert_eq!(order.replaces.as_ref(), Some(&asked));
    let ca = ca.restarted(9);
    let refused = ca.office.place_order(&account, replacing(&["a.test"], &asked)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::AlreadyReplaced)));
    for authorization in ca.authorizations(&order).await {
        let kind = authorization.challenges[0].kind;
        ca.office.answer_challenge(&account, authorization.id, kind).await.unwrap();
    }
    let done = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    assert_eq!(done.replaces, Some(asked));
    let said: Vec<_> = leaves(&ca)
        .await
        .into_iter()
        .filter_map(|leaf| match leaf {
            Leaf::Intent(intent) => Some(intent.replaces),
            _ => None,
        })
        .collect();
    assert_eq!(said, [None, Some(record.id.octets())]);
}

#[tokio::test]
async fn what_is_kept_of_a_replacement_goes_with_certificate_and_order() {
    let (ca, account, record) = issued().await;
    assert_eq!(record.retention, Retention::Full);
    let asked = identifier(&ca, &record).await;
    let order = ca.office.place_order(&account, replacing(&["a.test"], &asked)).await.unwrap();
    // The order ends open and is dropped; the certificate may be replaced again.
    ca.clock.set(order.expires.after(ca.office.settings().limits.keep_ended_orders + Duration::from_secs(1)));
    ca.run_due_jobs().await;
    ca.run_due_jobs().await;
    assert_eq!(ca.office.order(account.id, order.id).await.unwrap(), None);
    ca.office.place_order(&account, replacing(&["a.test"], &asked)).await.unwrap();
    // And when its record is gone, nobody knows of it any more.
    let keep = ca.office.settings().limits.keep_expired_certificates;
    ca.clock.set(record.validity.not_after().after(keep + DAY));
    ca.office.owe_standing_jobs().await.unwrap();
    ca.run_due_jobs().await;
    assert_eq!(ca.office.renewal_info(&asked).await.unwrap(), None);
    let refused = ca.office.place_order(&account, replacing(&["a.test"], &asked)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::NothingToReplace)), "{refused:?}");
}
