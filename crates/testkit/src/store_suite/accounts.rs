//! Accounts, by id and by key.

use std::collections::BTreeSet;

use chancery_acme::{
    account::{Account, AccountStatus},
    id::AccountId,
};
use chancery_authority::changes::{Change, Changes, Committed, Put};
use chancery_pki::SpkiDigest;

use super::{Any, commit, is_conflict, put_account};
use crate::sample;

pub async fn an_account_is_found_by_id_and_by_the_key_of_its_directory(fixture: Any<'_>) {
    let mut account = sample::account(1);
    account.status = AccountStatus::Deactivated { at: sample::now() };
    account.external = Some(chancery_acme::account::ExternalAccount {
        key_id: "platform".to_owned(),
        binding: "{\"protected\":\"\"}".to_owned(),
    });
    let Committed { version, .. } =
        commit(fixture, Changes::new().with(Change::Account(Put::new(account.clone())))).await;
    let store = fixture.store();
    let digest = account.key.digest();
    let found = store.account(account.id).await.expect("readable").expect("stored");
    assert_eq!((&found.value, found.version), (&account, version));
    let by_key = store.account_by_key(&account.directory, &digest).await.expect("readable");
    assert_eq!(by_key.map(|found| found.value), Some(account.clone()));
    let elsewhere = store.account_by_key(&"other".to_owned(), &digest).await.expect("readable");
    assert_eq!(elsewhere, None);
    assert!(store.is_account_key(&digest).await.expect("readable"));
    assert!(!store.is_account_key(&SpkiDigest([9; 32])).await.expect("readable"));
}

pub async fn a_key_has_one_account_at_a_directory(fixture: Any<'_>) {
    let first = put_account(fixture, 1).await;
    let mut second = Account { id: AccountId::from_random(sample::octets(2)), ..first.clone() };
    let outcome = fixture.store().commit(Changes::new().with(Change::Account(Put::new(second.clone())))).await;
    assert!(is_conflict(&outcome), "{outcome:?}");
    second.directory = "other".to_owned();
    commit(fixture, Changes::new().with(Change::Account(Put::new(second)))).await;
}

pub async fn an_account_that_changes_its_key_gives_the_old_one_back(fixture: Any<'_>) {
    let first = put_account(fixture, 1).await;
    let other = put_account(fixture, 2).await;
    let store = fixture.store();
    let loaded = store.account(first.id).await.expect("readable").expect("stored");
    let onto_another = Account { key: other.key.clone(), ..first.clone() };
    assert!(is_conflict(&store.commit(Changes::new().with(Change::Account(Put::over(&loaded, onto_another)))).await));
    let rolled = Account { key: sample::key(), ..first.clone() };
    commit(fixture, Changes::new().with(Change::Account(Put::over(&loaded, rolled.clone())))).await;
    assert_eq!(store.account_by_key(&first.directory, &first.key.digest()).await.expect("readable"), None);
    let found = store.account_by_key(&first.directory, &rolled.key.digest()).await.expect("readable");
    assert_eq!(found.map(|found| found.value), Some(rolled.clone()));
    // The old key is free again, and so is the new one once its account is dropped.
    let heir = Account { key: first.key.clone(), ..sample::account(3) };
    commit(fixture, Changes::new().with(Change::Account(Put::new(heir)))).await;
    let version = store.account(first.id).await.expect("readable").expect("stored").version;
    commit(fixture, Changes::new().with(Change::RemoveAccount(first.id, version))).await;
    assert!(!store.is_account_key(&rolled.key.digest()).await.expect("readable"));
    assert_eq!(store.account(first.id).await.expect("readable"), None);
}

pub async fn accounts_come_in_pages(fixture: Any<'_>) {
    let mut all = BTreeSet::new();
    for number in 1..=7 {
        all.insert(put_account(fixture, number).await.id);
    }
    let mut seen = Vec::new();
    loop {
        let page = fixture.store().accounts(seen.last().copied(), 3).await.expect("readable");
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|account| account.id));
    }
    assert_eq!(seen, all.into_iter().collect::<Vec<_>>());
}
