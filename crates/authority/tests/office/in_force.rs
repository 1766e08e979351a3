//! Settings that change, and what the ledger says of them.

use std::sync::Arc;

use chancery_acme::order::OrderState;
use chancery_authority::{
    Directory, Failure, Refusal,
    ports::{NotApplied, Store as _},
};
use chancery_ledger::Leaf;
use chancery_policy::{Format, Policy};
use chancery_testkit::{
    memory::Failing,
    office::{POLICY, TestOffice, csr},
};

use crate::{another_chain, certificates, leaves, ledger_is_clean, with};

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
