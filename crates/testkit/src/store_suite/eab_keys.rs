//! Keys of external accounts.

use chancery_authority::{
    changes::{Change, Changes, Claim, Committed, Counter, Put},
    ports::CommitError,
    records::{EabKey, Version},
};

use super::{Any, commit, is_conflict};
use crate::sample;

pub async fn an_eab_key_comes_back_as_it_was_put_and_keys_come_in_pages_of_their_ids(fixture: Any<'_>) {
    for id in ["b", "a-1", "a", "B", "a.1"] {
        commit(fixture, Changes::new().with(Change::EabKey(Put::new(sample::eab_key(id))))).await;
    }
    fixture.restart().await;
    let store = fixture.store();
    let id = "a".parse().expect("an id");
    let found = store.eab_key(&id).await.expect("readable").expect("stored");
    assert_eq!(found.value, sample::eab_key("a"));
    let again = store.commit(Changes::new().with(Change::EabKey(Put::new(sample::eab_key("a"))))).await;
    assert!(is_conflict(&again));
    for size in [1, 2, 10] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = store.eab_keys(after.as_ref(), size).await.expect("readable");
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            listed.extend(page.into_iter().map(|key| key.id.to_string()));
        }
        assert_eq!(listed, ["B", "a", "a-1", "a.1", "b"], "{size}");
    }
    let revoked = EabKey { revoked: Some(sample::now()), ..found.value.clone() };
    commit(fixture, Changes::new().with(Change::EabKey(Put::over(&found, revoked.clone())))).await;
    let held = store.eab_key(&id).await.expect("readable").expect("stored");
    assert_eq!(held.value, revoked);
    let stale = store.commit(Changes::new().with(Change::RemoveEabKey(id.clone(), found.version))).await;
    assert!(is_conflict(&stale));
    commit(fixture, Changes::new().with(Change::RemoveEabKey(id.clone(), held.version))).await;
    assert_eq!(store.eab_key(&id).await.expect("readable"), None);
    assert_eq!(store.eab_keys(None, 10).await.expect("readable").len(), 4);
}

pub async fn a_commit_that_wants_an_eab_key_as_it_was_is_a_conflict_once_it_changed(fixture: Any<'_>) {
    let store = fixture.store();
    let key = sample::eab_key("a");
    let wants = |version| {
        let account = Change::Account(Put::new(sample::account(1)));
        Changes::new().with(account).with(Change::SameEabKey(key.id.clone(), version))
    };
    assert!(is_conflict(&store.commit(wants(Version(1))).await), "there is none");
    let Committed { version, .. } = commit(fixture, Changes::new().with(Change::EabKey(Put::new(key.clone())))).await;
    let change = Put { replaces: Some(version), value: EabKey { revoked: Some(sample::now()), ..key.clone() } };
    let Committed { version: later, .. } = commit(fixture, Changes::new().with(Change::EabKey(change))).await;
    assert!(is_conflict(&store.commit(wants(version)).await));
    assert!(store.accounts(None, 10).await.expect("readable").is_empty());
    commit(fixture, wants(later)).await;
}

pub async fn of_two_uses_of_an_eab_key_that_has_one_left_one_is_kept(fixture: Any<'_>) {
    let store = fixture.store();
    let key = sample::eab_key("a");
    let Committed { version, .. } = commit(fixture, Changes::new().with(Change::EabKey(Put::new(key.clone())))).await;
    let counter = Counter::EabAccounts(key.id.clone());
    let used = |number| {
        let account = sample::account(number);
        let claim = Claim::EabUse { key_id: key.id.clone(), account_key: account.key.digest() };
        Changes::new()
            .with(Change::Account(Put::new(account)))
            .with(Change::SameEabKey(key.id.clone(), version))
            .with(Change::Claim(claim))
            .with(Change::Count { counter: counter.clone(), by: 1, limit: Some(2) })
    };
    commit(fixture, used(1)).await;
    let (one, two) = tokio::join!(store.commit(used(2)), store.commit(used(3)));
    let lost = match (one, two) {
        (Ok(_), Err(lost)) | (Err(lost), Ok(_)) => lost,
        both => panic!("{both:?}"),
    };
    assert!(matches!(&lost, CommitError::Limit { counter: reached, limit: 2 } if *reached == counter), "{lost:?}");
    assert_eq!(store.accounts(None, 10).await.expect("readable").len(), 2);
    assert_eq!(store.count(&counter).await.expect("readable"), 2);
    fixture.restart().await;
    assert_eq!(fixture.store().count(&counter).await.expect("readable"), 2);
    assert_eq!(fixture.store().count(&Counter::EabKeys).await.expect("readable"), 0);
}
