//! EAB keys: what they grant, how often, until when, and what becomes of their accounts.

use std::sync::Arc;

use chancery_acme::{
    account::AccountStatus, authorization::AuthorizationState, order::OrderState, problem::ProblemType,
};
use chancery_authority::{
    Directory, Limits, Refusal,
    changes::{Changes, Counter},
    eab_keys::{ChangeEabLimits, EabKeyRejection, MadeEabKey, MakeEabKey},
    finalize_order::FinalizeOrderRejection,
    issue::IssueRejection,
    place_order::{PlaceOrder, PlaceOrderRejection},
    ports::{Clock as _, Store as _},
    records::{EabKeyEnded, EabLimits, JobKind},
    register_account::{RegisterAccount, RegisterRejection, Registered},
};
use chancery_ledger::{Leaf, leaf::EabAction};
use chancery_policy::NameScope;
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{POLICY, TestOffice, bound_registration, csr, fresh_key, names_of, registration},
};

use crate::{DAY, leaves, ledger_is_clean, order_now, with};

fn company() -> TestOffice {
    TestOffice::default().with_teams()
}

async fn register(ca: &TestOffice, request: RegisterAccount) -> Result<Registered, RegisterRejection> {
    ca.office.register_account(request).await.map_err(|refusal| rejection(refusal).unwrap())
}

/// The rule that said no; none where we failed.
fn rejection<R>(refusal: Refusal<R>) -> Option<R> {
    match refusal {
        Refusal::Rejected(rejection) => Some(rejection),
        Refusal::Failed(_) => None,
    }
}

async fn bind(ca: &TestOffice, made: &MadeEabKey) -> Result<Registered, RegisterRejection> {
    register(ca, bound_registration(fresh_key(), made)).await
}

async fn used(ca: &TestOffice, made: &MadeEabKey) -> u64 {
    ca.office.eab_key(&made.key.id).await.unwrap().unwrap().used
}

fn scope(names: &[&str]) -> NameScope {
    NameScope::parse(names, &[], &[]).unwrap()
}

fn asking(names: &[&str], profile: Option<&str>) -> PlaceOrder {
    let profile = profile.map(str::to_owned);
    PlaceOrder { names: names_of(names), not_before: None, not_after: None, profile, replaces: None }
}

#[tokio::test]
async fn a_binding_makes_an_account_that_policy_knows_by_its_key_and_the_ledger_from_the_start() {
    let policy = r#"version: v1
rules:
  - name: payments
    allow: { names: ["**.pay.test"] }
    for: { directory: teams, eab: payments }
"#;
    let ca = TestOffice::new(policy, Limits::default()).with_teams();
    let made = ca.eab_key("payments", "teams").await;
    let request = bound_registration(fresh_key(), &made);
    let sent = request.binding.clone().unwrap().text;
    let account = register(&ca, request).await.unwrap().account;
    assert_eq!(account.external.as_ref().map(|external| &external.binding), Some(&sent), "word for word");
    assert!(account.proven);
    assert_eq!(ca.store.counter(&Counter::UnprovenAccounts), 0, "it is no stranger");
    let order = ca.order(&account, &["a.pay.test"]).await;
    assert_eq!(order.state, OrderState::Ready);
    let other = ca.eab_key("others", "teams").await;
    let other = ca.bound_account(&other).await;
    let refused = ca.office.place_order(&other, asking(&["a.pay.test"], None)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::Policy(_))), "{refused:?}");
    let said: Vec<_> = leaves(&ca)
        .await
        .into_iter()
        .filter_map(|leaf| match leaf {
            Leaf::EabKey(eab) => Some((eab.key, eab.action, eab.account, eab.binding)),
            _ => None,
        })
        .collect();
    assert_eq!(said[0], ("payments".to_owned(), EabAction::Created, None, None));
    assert_eq!(said[1], ("payments".to_owned(), EabAction::Used, Some(account.id.octets()), Some(sent)));
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn no_account_is_made_without_a_binding_where_one_is_required_and_one_that_exists_is_found_without() {
    let ca = company();
    let made = ca.eab_key("team", "teams").await;
    let key = fresh_key();
    let bare = RegisterAccount { directory: "teams".to_owned(), ..registration(key.clone()) };
    let refused = register(&ca, bare.clone()).await.unwrap_err();
    assert!(matches!(&refused, RegisterRejection::ExternalAccountRequired { directory } if directory == "teams"));
    assert!(ca.store.accounts(None, 10).await.unwrap().is_empty());
    let account = register(&ca, bound_registration(key, &made)).await.unwrap();
    assert!(account.created);
    let found = register(&ca, bare).await.unwrap();
    assert_eq!((found.account, found.created), (account.account, false));
    assert_eq!(used(&ca, &made).await, 1);
}

#[tokio::test]
async fn a_binding_is_verified_where_it_may_come_along_and_ignored_where_none_is_taken() {
    let ca = company();
    let made = ca.eab_key("team", "either").await;
    let bound = bind(&ca, &made).await.unwrap().account;
    assert_eq!(bound.external.as_ref().map(|external| external.key_id.as_str()), Some("team"));
    let order = ca.order(&bound, &["a.test"]).await;
    assert_eq!(order.state, OrderState::Pending, "this directory pre-authorises nothing");
    let bare = RegisterAccount { directory: "either".to_owned(), ..registration(fresh_key()) };
    assert_eq!(register(&ca, bare).await.unwrap().account.external, None);
    let wrong = bind(&ca, &ca.eab_key("other", "teams").await).await.unwrap();
    assert!(wrong.created);
    // Not even read.
    let made = ca.eab_key("third", "teams").await;
    let ignored = RegisterAccount { directory: "default".to_owned(), ..bound_registration(fresh_key(), &made) };
    assert_eq!(register(&ca, ignored).await.unwrap().account.external, None);
    assert_eq!(used(&ca, &made).await, 0);
}

#[tokio::test]
async fn whoever_has_not_the_key_learns_nothing_about_it() {
    let ca = company();
    let made = ca.eab_key("team", "teams").await;
    let other = ca.eab_key("other", "teams").await;
    ca.office.revoke_eab_key(&made.key.id, false, "a test").await.unwrap();
    // The MAC of another key, an id that is none of ours, one that cannot be.
    for kid in ["team", "nobody", "no id"] {
        let forged = MadeEabKey { key: made.key.clone(), secret: other.secret.clone() };
        let mut request = bound_registration(fresh_key(), &forged);
        let binding = request.binding.as_mut().unwrap();
        binding.text = chancery_testkit::office::binding(&request.key, &binding.url, kid, &other.secret.to_base64url());
        let before = ca.signer.eab_secrets();
        assert_eq!(register(&ca, request).await.unwrap_err(), RegisterRejection::NotAuthenticated, "{kid}");
        // The time that it takes tells nothing either: a secret is derived for an id that is none of ours too.
        assert_eq!(ca.signer.eab_secrets() - before, usize::from(kid != "no id"), "{kid}");
    }
    // And whoever has it is told.
    let refused = bind(&ca, &made).await.unwrap_err();
    assert!(matches!(refused, RegisterRejection::KeyEnded(EabKeyEnded::Revoked { .. })), "{refused}");
}

#[tokio::test]
async fn a_key_is_for_one_directory() {
    let ca = company();
    let made = ca.eab_key("team", "teams").await;
    let mut elsewhere = bound_registration(fresh_key(), &made);
    elsewhere.directory = "either".to_owned();
    let refused = register(&ca, elsewhere).await.unwrap_err();
    assert!(matches!(refused, RegisterRejection::OtherDirectory { .. }), "{refused}");
    assert_eq!(used(&ca, &made).await, 0);
}

#[tokio::test]
async fn a_key_that_is_used_up_makes_no_account() {
    let ca = company();
    let made = ca.limited_eab_key("two", "teams", |limits| limits.accounts = 2).await;
    let first = bind(&ca, &made).await.unwrap().account;
    bind(&ca, &made).await.unwrap();
    let refused = bind(&ca, &made).await.unwrap_err();
    assert_eq!(refused, RegisterRejection::KeyUsedUp { key: made.key.id.clone(), accounts: 2 });
    assert_eq!(used(&ca, &made).await, 2);
    // An account that ended has used it all the same.
    ca.office.deactivate_account(first.id).await.unwrap();
    bind(&ca, &made).await.unwrap_err();
    let more = ChangeEabLimits { accounts: Some(3), ..ChangeEabLimits::default() };
    ca.office.limit_eab_key(&made.key.id, more, "a test").await.unwrap();
    bind(&ca, &made).await.unwrap();
}

#[tokio::test]
async fn an_account_key_that_was_replaced_makes_no_second_account_with_its_eab_key_and_is_told_so() {
    let ca = company();
    let made = ca.limited_eab_key("two", "teams", |limits| limits.accounts = 2).await;
    let old = fresh_key();
    let account = register(&ca, bound_registration(old.clone(), &made)).await.unwrap().account;
    ca.office.change_account_key(account.id, &old, &fresh_key()).await.unwrap();
    let refused = register(&ca, bound_registration(old, &made)).await.unwrap_err();
    assert_eq!(refused, RegisterRejection::KeyUsedBySame { key: made.key.id.clone() });
    assert_eq!(used(&ca, &made).await, 1);
    bind(&ca, &made).await.unwrap();
}

#[tokio::test]
async fn of_two_accounts_that_race_for_the_last_use_one_wins() {
    let ca = company();
    for round in 0..10 {
        let made = ca.eab_key(&format!("race-{round}"), "teams").await;
        // Both have looked at the key before either commits.
        ca.store.fail_next(Commit::Account, Failing::Late);
        ca.store.fail_next(Commit::Account, Failing::Late);
        let (one, two) = tokio::join!(bind(&ca, &made), bind(&ca, &made));
        assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
        let lost = one.err().or(two.err()).unwrap();
        assert!(matches!(lost, RegisterRejection::KeyUsedUp { accounts: 1, .. }), "{lost}");
        assert_eq!(used(&ca, &made).await, 1);
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_while_an_account_is_made_makes_none() {
    let ca = company();
    let made = ca.eab_key("team", "teams").await;
    ca.store.fail_next(Commit::Account, Failing::Late);
    let (bound, revoked) = tokio::join!(bind(&ca, &made), ca.office.revoke_eab_key(&made.key.id, false, "a test"));
    revoked.unwrap();
    let refused = bound.unwrap_err();
    assert!(matches!(refused, RegisterRejection::KeyEnded(EabKeyEnded::Revoked { .. })), "{refused}");
    assert_eq!(used(&ca, &made).await, 0);
}

#[tokio::test]
async fn a_registration_that_is_refused_for_another_reason_spends_no_use() {
    let ca = company();
    let made = ca.eab_key("team", "teams").await;
    let request = || bound_registration(fresh_key(), &made);
    let contacts = vec!["tel:1".to_owned()];
    register(&ca, RegisterAccount { contacts, ..request() }).await.unwrap_err();
    register(&ca, RegisterAccount { only_existing: true, ..request() }).await.unwrap_err();
    // The payload is another key than the one that signs.
    register(&ca, RegisterAccount { key: fresh_key(), ..request() }).await.unwrap_err();
    ca.store.fail_next(Commit::Account, Failing::Lost);
    ca.office.register_account(request()).await.unwrap_err();
    assert_eq!(used(&ca, &made).await, 0);
    bind(&ca, &made).await.unwrap();
    assert_eq!(used(&ca, &made).await, 1);
}

#[tokio::test]
async fn a_key_makes_accounts_until_it_expires_and_again_once_it_is_prolonged() {
    let ca = company();
    let made = ca.limited_eab_key("team", "teams", |limits| limits.accounts = 9).await;
    ca.clock.set(made.key.limits.expires.before(std::time::Duration::from_millis(1)));
    let account = bind(&ca, &made).await.unwrap().account;
    ca.clock.set(made.key.limits.expires);
    let refused = bind(&ca, &made).await.unwrap_err();
    assert!(matches!(refused, RegisterRejection::KeyEnded(EabKeyEnded::Expired { .. })), "{refused}");
    // What it made goes on.
    assert_eq!(ca.order(&account, &["a.test"]).await.state, OrderState::Ready);
    let longer = ChangeEabLimits { expires: Some(ca.clock.now().after(DAY)), ..ChangeEabLimits::default() };
    ca.office.limit_eab_key(&made.key.id, longer, "a test").await.unwrap();
    bind(&ca, &made).await.unwrap();
    ca.clock.advance(DAY);
    bind(&ca, &made).await.unwrap_err();
}

#[tokio::test]
async fn a_key_that_made_no_account_is_dropped_long_after_its_end_and_one_that_did_stays() {
    let ca = TestOffice::new(POLICY, Limits { keep_ended_eab_keys: DAY * 2, ..Limits::default() }).with_teams();
    let unused = ca.eab_key("unused", "teams").await;
    let spent = ca.eab_key("spent", "teams").await;
    let account = ca.bound_account(&spent).await;
    let early = ca.limited_eab_key("early", "teams", |limits| limits.expires = limits.expires.after(DAY * 100)).await;
    ca.office.revoke_eab_key(&early.key.id, false, "a test").await.unwrap();
    let keys = async || {
        let found = ca.office.eab_keys(None, 10).await.unwrap();
        found.into_iter().map(|state| state.key.id.to_string()).collect::<Vec<_>>()
    };
    ca.clock.advance(DAY + DAY / 2);
    ca.run_due_jobs().await;
    assert_eq!(keys().await, ["early", "spent", "unused"]);
    ca.clock.advance(DAY);
    ca.run_due_jobs().await;
    assert_eq!(keys().await, ["spent", "unused"], "revoked two days ago");
    ca.clock.advance(DAY);
    ca.run_due_jobs().await;
    assert_eq!(keys().await, ["spent"]);
    assert_eq!(ca.store.counter(&Counter::EabKeys), 1);
    // Its account is no stranger that is pruned with time, and its limits are known.
    ca.clock.advance(DAY * 30);
    ca.run_due_jobs().await;
    assert_eq!(ca.order(&account, &["a.test"]).await.state, OrderState::Ready);
    // The id is free again, and the key is another.
    let again = ca.eab_key("unused", "teams").await;
    assert_ne!(again.secret.to_base64url(), unused.secret.to_base64url());
    assert_eq!(bind(&ca, &unused).await.unwrap_err(), RegisterRejection::NotAuthenticated);
}

#[tokio::test]
async fn keys_are_bounded_and_an_id_is_taken_once() {
    let ca = TestOffice::new(POLICY, Limits { eab_keys: 2, ..Limits::default() }).with_teams();
    ca.eab_key("one", "teams").await;
    let expires = ca.clock.now().after(DAY);
    let make = async |id: &str, change: fn(&mut MakeEabKey)| {
        let limits = EabLimits { names: None, profiles: Vec::new(), accounts: 1, expires };
        let mut request =
            MakeEabKey { id: id.parse().ok(), owner: "a team".to_owned(), directory: "teams".to_owned(), limits };
        change(&mut request);
        match ca.office.make_eab_key(request, "a test").await {
            Ok(made) => Ok(made),
            Err(Refusal::Rejected(rejection)) => Err(rejection),
            Err(Refusal::Failed(failure)) => panic!("{failure}"),
        }
    };
    use EabKeyRejection as R;
    assert!(matches!(make("one", |_| {}).await, Err(R::Taken { .. })));
    assert!(matches!(make("x", |asked| asked.directory = "default".to_owned()).await, Err(R::Off { .. })));
    assert!(matches!(make("x", |asked| asked.directory = "none".to_owned()).await, Err(R::UnknownDirectory { .. })));
    assert!(matches!(make("x", |asked| asked.owner = " ".to_owned()).await, Err(R::Owner)));
    assert!(matches!(make("x", |asked| asked.owner = "a\nb".to_owned()).await, Err(R::Owner)));
    assert!(matches!(make("x", |asked| asked.limits.accounts = 0).await, Err(R::Accounts { accounts: 0 })));
    assert!(matches!(
        make("x", |asked| asked.limits.profiles = vec!["y".to_owned()]).await,
        Err(R::UnknownProfile { .. })
    ));
    assert!(matches!(make("x", |asked| asked.limits.names = Some(NameScope::default())).await, Err(R::NoNames)));
    assert!(matches!(
        make("x", |asked| asked.limits.expires = asked.limits.expires.before(DAY)).await,
        Err(R::Expires { .. })
    ));
    make("two", |_| {}).await.unwrap();
    assert!(matches!(make("three", |_| {}).await, Err(R::TooMany { limit: 2 })));
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn an_order_of_a_bound_account_is_ready_at_once_and_nobody_is_dialled() {
    let ca = company();
    let made = ca.eab_key("team", "teams").await;
    let account = ca.bound_account(&made).await;
    // Wildcards, addresses that nothing could be shown of: policy says who may have them.
    let order = ca.order(&account, &["a.test", "*.wild.test"]).await;
    assert_eq!(order.state, OrderState::Ready);
    for authorization in ca.authorizations(&order).await {
        assert_eq!(authorization.state, AuthorizationState::Valid);
        assert!(authorization.challenges.is_empty() && authorization.is_preauthorized());
        assert!(authorization.expires >= order.expires);
    }
    ca.office.finalize_order(&account, order.id, csr(&["a.test", "*.wild.test"])).await.unwrap();
    assert!(matches!(order_now(&ca, &order).await.state, OrderState::Valid { .. }));
    assert!(ca.validator.seen().is_empty());
    let intent = leaves(&ca).await.into_iter().find_map(|leaf| match leaf {
        Leaf::Intent(intent) => Some(intent),
        _ => None,
    });
    let intent = intent.unwrap();
    assert_eq!(intent.decision.preauthorized_by.as_deref(), Some("team"));
    assert_eq!(intent.account_facts, None, "they stand in the ledger since it was made");
    // Others there are who came without a key: they show control.
    let stranger = ca.account().await;
    assert_eq!(ca.order(&stranger, &["a.test"]).await.state, OrderState::Pending);
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn all_names_are_pre_authorised_or_none_and_each_refusal_is_told() {
    let ca = company();
    let made =
        ca.limited_eab_key("team", "teams", |limits| limits.names = Some(scope(&["**.a.test", "denied.test"]))).await;
    let account = ca.bound_account(&made).await;
    let names = ["good.a.test", "elsewhere.test", "denied.test"];
    let refused = ca.office.place_order(&account, asking(&names, None)).await.unwrap_err();
    let Refusal::Rejected(PlaceOrderRejection::Names(refused)) = refused else { panic!("{refused:?}") };
    let told: Vec<String> = refused.by_name().iter().map(|(name, why)| format!("{name}: {}", why.join(", "))).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("denied.test: policy: ") && told[0].contains("not-this-one"), "{told:?}");
    assert!(
        told[1].starts_with("elsewhere.test: the EAB key \"team\" of this account is limited to **.a.test"),
        "{told:?}"
    );
    assert!(ca.store.orders_of(account.id, None, 10).await.unwrap().is_empty(), "nothing is left pending");
    assert_eq!(ca.order(&account, &["good.a.test"]).await.state, OrderState::Ready);
}

#[tokio::test]
async fn a_key_s_profiles_are_what_its_accounts_may_ask_for_and_the_first_of_them_is_usual() {
    let ca = company();
    let made = ca.limited_eab_key("team", "teams", |limits| limits.profiles = vec!["minutes".to_owned()]).await;
    let account = ca.bound_account(&made).await;
    let order = ca.order(&account, &["a.test"]).await;
    assert_eq!(order.profile, "minutes");
    let refused = ca.office.place_order(&account, asking(&["a.test"], Some("server"))).await.unwrap_err();
    let Refusal::Rejected(refused @ PlaceOrderRejection::ProfileNotPermitted { .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!(refused.to_string().contains("\"team\"") && refused.to_string().contains("minutes"), "{refused}");
}

#[tokio::test]
async fn limits_that_became_narrower_hold_at_finalize_for_orders_that_were_placed_before() {
    let ca = company();
    let made = ca.eab_key("team", "teams").await;
    let account = ca.bound_account(&made).await;
    let (first, second) = (ca.order(&account, &["a.test"]).await, ca.order(&account, &["b.test"]).await);
    let limit = async |change| ca.office.limit_eab_key(&made.key.id, change, "a test").await.unwrap();
    limit(ChangeEabLimits { names: Some(Some(scope(&["b.test"]))), ..ChangeEabLimits::default() }).await;
    let refused = ca.office.finalize_order(&account, first.id, csr(&["a.test"])).await.unwrap_err();
    let Refusal::Rejected(FinalizeOrderRejection::Issue(IssueRejection::Names(refused))) = refused else {
        panic!("{refused:?}")
    };
    assert!(refused.to_string().contains("limited to b.test"), "{refused}");
    limit(ChangeEabLimits { profiles: Some(vec!["minutes".to_owned()]), ..ChangeEabLimits::default() }).await;
    let refused = ca.office.finalize_order(&account, second.id, csr(&["b.test"])).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(FinalizeOrderRejection::ProfileNotPermitted { .. })), "{refused:?}");
    assert_eq!(order_now(&ca, &second).await.state, OrderState::Ready, "it stays as it was");
    assert_eq!(ca.signer.signatures(), 0);
    limit(ChangeEabLimits { names: Some(None), profiles: Some(Vec::new()), ..ChangeEabLimits::default() }).await;
    ca.office.finalize_order(&account, first.id, csr(&["a.test"])).await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_s_accounts_go_on_until_they_are_stopped_and_then_their_orders_end_too() {
    let ca = company();
    let made = ca.limited_eab_key("team", "teams", |limits| limits.accounts = 3).await;
    let (one, two) = (ca.bound_account(&made).await, ca.bound_account(&made).await);
    let other = ca.bound_account(&ca.eab_key("other", "teams").await).await;
    let open = ca.order(&one, &["a.test"]).await;
    ca.office.revoke_eab_key(&made.key.id, false, "a test").await.unwrap();
    ca.run_due_jobs().await;
    assert_eq!(ca.order(&two, &["b.test"]).await.state, OrderState::Ready, "they go on");
    let again = ca.office.revoke_eab_key(&made.key.id, false, "a test").await.unwrap_err();
    assert!(matches!(again, Refusal::Rejected(EabKeyRejection::Revoked { .. })));
    let more = ChangeEabLimits { accounts: Some(9), ..ChangeEabLimits::default() };
    let more = ca.office.limit_eab_key(&made.key.id, more, "a test").await.unwrap_err();
    assert!(matches!(more, Refusal::Rejected(EabKeyRejection::Revoked { .. })));

    ca.office.revoke_eab_key(&made.key.id, true, "a test").await.unwrap();
    // The process dies in the middle: the second account's stop is lost with it.
    let stop = ca.office.due_jobs(10).await.unwrap();
    let stop = stop.iter().find(|job| matches!(job.kind, JobKind::StopAccounts { .. })).unwrap();
    ca.store.fail_next(Commit::Account, Failing::Kept);
    ca.office.run_job(stop).await.unwrap_err();
    let ca = ca.restarted(9);
    // The time is in doubt; what somebody did is done all the same.
    ca.clock.doubt_because(Some("the test says so"));
    while !ca.run_due_jobs().await.is_empty() {}
    ca.clock.doubt_because(None);
    let status = async |account: &chancery_acme::account::Account| {
        ca.office.account(&account.directory, account.id).await.unwrap().unwrap().status
    };
    assert!(matches!(status(&one).await, AccountStatus::Revoked { .. }));
    assert!(matches!(status(&two).await, AccountStatus::Revoked { .. }));
    assert_eq!(status(&other).await, AccountStatus::Valid);
    let OrderState::Invalid { error } = order_now(&ca, &open).await.state else { panic!("it is still open") };
    assert_eq!((error.kind, error.detail.as_str()), (ProblemType::Unauthorized, "the account was revoked"));
    ca.office.finalize_order(&two, open.id, csr(&["a.test"])).await.unwrap_err();
    let stopped = leaves(&ca)
        .await
        .into_iter()
        .filter(|leaf| matches!(leaf, Leaf::EabKey(eab) if eab.action == EabAction::Stopped && eab.account.is_some()));
    assert_eq!(stopped.count(), 2, "each once");
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn accounts_that_are_stopped_can_do_nothing_before_any_job_has_run() {
    let ca = company();
    let made = ca.limited_eab_key("team", "teams", |limits| limits.accounts = 3).await;
    let account = ca.bound_account(&made).await;
    let open = ca.order(&account, &["a.test"]).await;
    for again in [false, true] {
        // Also of a key that was revoked before.
        ca.office.revoke_eab_key(&made.key.id, again, "a test").await.unwrap();
    }
    let seen = ca.office.account(&account.directory, account.id).await.unwrap().unwrap();
    assert!(matches!(seen.status, AccountStatus::Revoked { .. }), "no request of it is taken: {:?}", seen.status);
    let found = ca.office.account_by_key(&account.directory, &account.key.digest()).await.unwrap().unwrap();
    assert_eq!(found.status, seen.status);
    // Requests that were on their way when it happened.
    let refused = ca.office.place_order(&account, asking(&["b.test"], None)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::KeyGone(_))), "{refused:?}");
    let refused = ca.office.finalize_order(&account, open.id, csr(&["a.test"])).await.unwrap_err();
    let Refusal::Rejected(FinalizeOrderRejection::KeyGone(told)) = refused else { panic!("{refused:?}") };
    assert!(told.to_string().starts_with("this account was stopped at "), "{told}");
    assert_eq!(ca.signer.signatures(), 0);
    let all = leaves(&ca).await;
    let stopped = all.iter().filter(|leaf| matches!(leaf, Leaf::EabKey(eab) if eab.action == EabAction::Stopped));
    assert_eq!(stopped.count(), 1, "a rebuild knows it without the job");
}

#[tokio::test]
async fn names_and_profiles_of_a_revoked_key_can_still_be_changed_for_the_accounts_that_go_on() {
    let ca = company();
    let made = ca.eab_key("team", "teams").await;
    let account = ca.bound_account(&made).await;
    ca.office.revoke_eab_key(&made.key.id, false, "a test").await.unwrap();
    let narrower = ChangeEabLimits { names: Some(Some(scope(&["b.test"]))), ..ChangeEabLimits::default() };
    ca.office.limit_eab_key(&made.key.id, narrower, "a test").await.unwrap();
    let refused = ca.office.place_order(&account, asking(&["a.test"], None)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::Names(_))), "{refused:?}");
    assert_eq!(ca.order(&account, &["b.test"]).await.state, OrderState::Ready);
    let longer = ChangeEabLimits { expires: Some(ca.clock.now().after(DAY)), ..ChangeEabLimits::default() };
    let refused = ca.office.limit_eab_key(&made.key.id, longer, "a test").await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(EabKeyRejection::Revoked { .. })), "it makes no account any more");
}

#[tokio::test]
async fn a_profile_that_was_taken_out_of_the_directory_does_not_keep_a_key_from_being_narrowed() {
    let ca = company();
    let made = ca.limited_eab_key("team", "teams", |limits| limits.profiles = vec!["minutes".to_owned()]).await;
    let mut settings = with(&ca, ca.office.settings().authorities[0].chains.clone(), POLICY);
    for directory in settings.directories.values_mut() {
        let profiles = vec!["server".to_owned()];
        *directory = Arc::new(Directory { profiles, ..Directory::clone(directory) });
    }
    ca.office.replace_settings(settings, "a test").await.unwrap();
    let narrower = ChangeEabLimits { names: Some(Some(scope(&["b.test"]))), ..ChangeEabLimits::default() };
    let limited = ca.office.limit_eab_key(&made.key.id, narrower, "a test").await.unwrap();
    assert_eq!(limited.key.limits.profiles, ["minutes"], "what is not named stays");
    let named = ChangeEabLimits { profiles: Some(vec!["minutes".to_owned()]), ..ChangeEabLimits::default() };
    let refused = ca.office.limit_eab_key(&made.key.id, named, "a test").await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(EabKeyRejection::UnknownProfile { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_account_whose_key_is_not_known_any_more_is_refused_and_not_left_without_limits() {
    let ca = company();
    let made = ca.eab_key("team", "teams").await;
    let account = ca.bound_account(&made).await;
    let loaded = ca.store.eab_key(&made.key.id).await.unwrap().unwrap();
    let remove = chancery_authority::changes::Change::RemoveEabKey(made.key.id.clone(), loaded.version);
    ca.store.commit(Changes::new().with(remove)).await.unwrap();
    let refused = ca.office.place_order(&account, asking(&["a.test"], None)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(PlaceOrderRejection::KeyGone(_))), "{refused:?}");
}

#[tokio::test]
async fn an_order_that_was_pre_authorised_is_not_finalized_once_its_directory_pre_authorises_nothing() {
    let ca = company();
    let made = ca.eab_key("team", "teams").await;
    let account = ca.bound_account(&made).await;
    let order = ca.order(&account, &["a.test"]).await;
    let mut settings = with(&ca, ca.office.settings().authorities[0].chains.clone(), POLICY);
    for directory in settings.directories.values_mut() {
        *directory = Arc::new(Directory { preauthorized: false, ..Directory::clone(directory) });
    }
    ca.office.replace_settings(settings, "a test").await.unwrap();
    let refused = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(FinalizeOrderRejection::NoLongerPreauthorized)), "{refused:?}");
    // A new one shows control.
    let order = ca.ready_order(&account, &["a.test"]).await;
    ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    assert_eq!(ca.validator.seen().len(), 1);
}
