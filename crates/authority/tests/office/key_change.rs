//! Another key for an account: what goes with it, what stays, and who is refused.

use chancery_acme::order::OrderState;
use chancery_authority::{Refusal, change_key::KeyChangeRejection as R, ports::Store as _};
use chancery_ledger::{Leaf, leaf::AccountKeyChanged};
use chancery_pki::PublicKey;
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{TestOffice, csr, fresh_key, registration},
};

use crate::{leaves, ledger_is_clean, order_now};

async fn refused(ca: &TestOffice, id: chancery_acme::id::AccountId, old: &PublicKey, new: &PublicKey) -> R {
    match ca.office.change_account_key(id, old, new).await {
        Err(Refusal::Rejected(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_new_key_is_the_accounts_and_the_old_one_nobodys_and_orders_go_on() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    let new = fresh_key();
    let changed = ca.office.change_account_key(account.id, &account.key, &new).await.unwrap();
    assert_eq!((changed.id, &changed.key), (account.id, &new));
    let by_key = async |key: &PublicKey| ca.office.account_by_key(&account.directory, &key.digest()).await.unwrap();
    assert_eq!(by_key(&account.key).await, None);
    assert_eq!(by_key(&new).await.map(|found| found.id), Some(account.id));
    // Nothing of it in the ledger, which has not heard of the account.
    assert!(leaves(&ca).await.is_empty());
    ca.office.finalize_order(&changed, order.id, csr(&["a.test"])).await.unwrap();
    assert!(matches!(order_now(&ca, &order).await.state, OrderState::Valid { .. }));
    // Now it has, and hears of the next one.
    let next = fresh_key();
    ca.office.change_account_key(account.id, &new, &next).await.unwrap();
    let told = AccountKeyChanged { account: account.id.octets(), at: ca.office.now(), spki: next.spki().to_vec() };
    assert_eq!(leaves(&ca).await.pop(), Some(Leaf::from(told)));
    // The first key is free again.
    ca.office.register_account(registration(account.key.clone())).await.unwrap();
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn a_key_that_is_another_accounts_or_not_the_old_one_changes_nothing() {
    let ca = TestOffice::default();
    let (one, other) = (ca.account().await, ca.account().await);
    let new = fresh_key();
    assert_eq!(refused(&ca, one.id, &one.key, &other.key).await, R::Taken { account: other.id });
    assert_eq!(refused(&ca, one.id, &one.key, &one.key).await, R::Taken { account: one.id });
    assert_eq!(refused(&ca, one.id, &other.key, &new).await, R::OtherOldKey);
    // Of an account that ended a key is not taken over either, and it gets none.
    ca.office.deactivate_account(other.id).await.unwrap();
    assert_eq!(refused(&ca, one.id, &one.key, &other.key).await, R::Taken { account: other.id });
    assert_eq!(refused(&ca, other.id, &other.key, &new).await, R::Ended);
    assert_eq!(ca.store.account(one.id).await.unwrap().unwrap().value.key, one.key);
}

#[tokio::test]
async fn of_two_that_change_a_key_at_once_one_is_told_that_the_old_one_is_gone() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    ca.store.fail_next(Commit::Account, Failing::Late);
    let (first, second) = (fresh_key(), fresh_key());
    let (one, two) = tokio::join!(
        ca.office.change_account_key(account.id, &account.key, &first),
        ca.office.change_account_key(account.id, &account.key, &second),
    );
    assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
    let lost = one.err().or(two.err()).unwrap();
    assert!(matches!(lost, Refusal::Rejected(R::OtherOldKey)), "{lost:?}");
    // And of an account that takes the new key and one that registers with it one wins.
    let (account, key) = (ca.account().await, fresh_key());
    ca.store.fail_next(Commit::Account, Failing::Late);
    let (changed, registered) = tokio::join!(
        ca.office.change_account_key(account.id, &account.key, &key),
        ca.office.register_account(registration(key.clone())),
    );
    let registered = registered.unwrap();
    assert_eq!(changed.is_ok(), !registered.created, "{changed:?}");
    let holder = ca.office.account_by_key(&account.directory, &key.digest()).await.unwrap().unwrap();
    assert_eq!(holder.id, registered.account.id);
}
