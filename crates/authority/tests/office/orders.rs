//! What accounts and orders may be, and when they end.

use std::{sync::Arc, time::Duration};

use chancery_acme::{account::AccountStatus, order::OrderState};
use chancery_authority::{
    Directory, Limits, Refusal,
    changes::Counter,
    finalize_order::FinalizeOrderRejection,
    issue::IssueRejection,
    place_order::{PlaceOrder, PlaceOrderRejection},
    ports::{NotApplied, Store as _},
    records::JobKind,
    register_account::{RegisterAccount, RegisterRejection},
};
use chancery_ledger::{Leaf, leaf::AccountDeactivated};
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{POLICY, TestOffice, csr, fresh_key, names_of, registration},
};

use crate::{DAY, leaves, order_now, with};

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
        replaces: None,
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
    let request =
        PlaceOrder { names: names_of(&["c.test"]), not_before: None, not_after: None, profile: None, replaces: None };
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
    let request =
        PlaceOrder { names: names_of(&["c.test"]), not_before: None, not_after: None, profile: None, replaces: None };
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
async fn the_ledger_says_to_which_terms_an_account_agreed_with_its_first_intent_and_when_they_change() {
    let ca = TestOffice::default();
    let terms_are = async |number: u8| {
        let mut settings = with(&ca, ca.office.settings().authorities[0].chains.clone(), POLICY);
        for directory in settings.directories.values_mut() {
            let terms_of_service = Some(format!("https://ca.test/terms-{number}"));
            *directory = Arc::new(Directory { terms_of_service, ..Directory::clone(directory) });
        }
        ca.office.replace_settings(settings, "a test").await.unwrap();
    };
    let agreed = async || {
        let said = leaves(&ca).await.into_iter().filter_map(|leaf| match leaf {
            Leaf::Intent(intent) => intent.account_facts?.terms,
            Leaf::AccountAgreed(agreed) => Some(agreed.terms),
            _ => None,
        });
        said.map(|terms| terms.url).collect::<Vec<_>>()
    };
    terms_are(1).await;
    let request = RegisterAccount { terms_agreed: true, ..registration(fresh_key()) };
    let account = ca.office.register_account(request).await.unwrap().account;
    terms_are(2).await;
    let account = ca.office.update_account(account.id, None, true).await.unwrap();
    assert_eq!(agreed().await, [""; 0], "strangers leave nothing in the ledger");
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    assert_eq!(agreed().await, ["https://ca.test/terms-2"]);
    terms_are(3).await;
    for _ in 0..2 {
        ca.office.update_account(account.id, None, true).await.unwrap();
    }
    assert_eq!(agreed().await, ["https://ca.test/terms-2", "https://ca.test/terms-3"]);
}

#[tokio::test]
async fn an_account_enters_the_ledger_as_it_is_then_and_not_as_a_request_found_it() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    let contacts = vec!["mailto:new@a.test".to_owned()];
    ca.office.update_account(account.id, Some(contacts.clone()), false).await.unwrap();
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    let said = leaves(&ca).await.into_iter().find_map(|leaf| match leaf {
        Leaf::Intent(intent) => intent.account_facts,
        _ => None,
    });
    assert_eq!(said.unwrap().contacts, contacts);
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
    let request = PlaceOrder { names, not_before: None, not_after: None, profile: None, replaces: None };
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
