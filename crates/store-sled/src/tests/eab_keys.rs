//! EAB keys after the index is lost, and after a restore.

use std::sync::Arc;

use chancery_acme::account::{Account, AccountStatus, ExternalAccount};
use chancery_authority::{
    changes::{Change, Changes, Claim, Counter, Put},
    ports::{CommitError, Store},
    records::{EabKey, EabKeyId, EabLimits, JobKind},
};
use chancery_ledger::leaf::{self, AccountFacts, EabAction, EabGrant, EabNames, Terms};
use chancery_testkit::sample;

use super::{TestDisk, kill, open, options};
use crate::{
    backup::{Restore, restore},
    check,
    store::SledStore,
};

fn eab_leaf(key: &EabKey, action: EabAction) -> leaf::EabKey {
    let scope = key.limits.names.as_ref().expect("limited");
    let grant = EabGrant {
        accounts: key.limits.accounts,
        directory: key.directory.clone(),
        expires: key.limits.expires,
        names: Some(EabNames { addresses: scope.addresses(), names: scope.names(), wildcards: scope.wildcards() }),
        owner: key.owner.clone(),
        profiles: key.limits.profiles.clone(),
        salt: key.salt,
    };
    let grant = matches!(action, EabAction::Created | EabAction::Limited).then_some(grant);
    leaf::EabKey {
        account: None,
        account_facts: None,
        action,
        at: sample::now(),
        binding: None,
        by: "a test".to_owned(),
        grant,
        key: key.id.to_string(),
    }
}

async fn make(store: &SledStore, id: &str) -> EabKey {
    let key = sample::eab_key(id);
    let changes = Changes::new()
        .with(Change::EabKey(Put::new(key.clone())))
        .with(Change::Count { counter: Counter::EabKeys, by: 1, limit: Some(10) })
        .schedule(JobKind::PruneEabKey { key: key.id.clone() }, key.limits.expires)
        .leaf(eab_leaf(&key, EabAction::Created).into());
    store.commit(changes).await.expect("kept");
    key
}

async fn use_of(store: &SledStore, key: &EabKey, number: u64) -> Account {
    let binding = "{\"protected\":\"e30\"}".to_owned();
    let external = ExternalAccount { key_id: key.id.to_string(), binding: binding.clone() };
    let account = Account { proven: true, external: Some(external), ..sample::account(number) };
    let facts = AccountFacts {
        contacts: account.contacts.clone(),
        created: account.created,
        directory: account.directory.clone(),
        eab: Some(key.id.to_string()),
        spki: account.key.spki().to_vec(),
        terms: account.terms_agreed.as_ref().map(|agreed| Terms { at: agreed.at, url: agreed.url.clone() }),
    };
    let leaf = leaf::EabKey {
        account: Some(account.id.octets()),
        account_facts: Some(facts),
        binding: Some(binding),
        ..eab_leaf(key, EabAction::Used)
    };
    let counter = Counter::EabAccounts(key.id.clone());
    let changes = Changes::new()
        .with(Change::Account(Put::new(account.clone())))
        .with(Change::Claim(Claim::EabUse { key_id: key.id.clone(), account_key: account.key.digest() }))
        .with(Change::Count { counter, by: 1, limit: Some(3) })
        .leaf(leaf.into());
    store.commit(changes).await.expect("kept");
    account
}

async fn put(store: &SledStore, change: impl FnOnce(&mut EabKey), id: &EabKeyId, action: EabAction) -> EabKey {
    let held = store.eab_key(id).await.expect("readable").expect("stored");
    let mut key = held.value.clone();
    change(&mut key);
    let leaf = eab_leaf(&key, action);
    store
        .commit(Changes::new().with(Change::EabKey(Put::over(&held, key.clone()))).leaf(leaf.into()))
        .await
        .expect("kept");
    key
}

/// Keys with uses, limits and a revocation; the leaves are all that will be left of them.
async fn filled(path: &std::path::Path) -> (Arc<SledStore>, [Account; 3]) {
    let store = open(path, &Arc::new(TestDisk::new()), options()).expect("new");
    let (plain, limited, revoked) =
        (make(&store, "plain").await, make(&store, "limited").await, make(&store, "revoked").await);
    let accounts =
        [use_of(&store, &plain, 1).await, use_of(&store, &limited, 2).await, use_of(&store, &revoked, 3).await];
    let narrower =
        |key: &mut EabKey| key.limits = EabLimits { accounts: 1, profiles: Vec::new(), ..key.limits.clone() };
    put(&store, narrower, &limited.id, EabAction::Limited).await;
    put(&store, |key| key.revoked = Some(sample::now()), &revoked.id, EabAction::Revoked).await;
    let held = store.account(accounts[2].id).await.expect("readable").expect("stored");
    let stopped = Account { status: AccountStatus::Revoked { at: sample::now() }, ..held.value.clone() };
    let leaf = leaf::EabKey { account: Some(stopped.id.octets()), ..eab_leaf(&revoked, EabAction::Stopped) };
    store
        .commit(Changes::new().with(Change::Account(Put::over(&held, stopped))).leaf(leaf.into()))
        .await
        .expect("kept");
    store.sweep().expect("nothing stands against it");
    // The next frame begins a segment of its own, and the next sweep drops the ones before.
    store.commit(Changes::new().with(Change::Finish(JobKind::RenewOwnTls))).await.expect("kept");
    store.commit(Changes::new().schedule(JobKind::RenewOwnTls, sample::now())).await.expect("kept");
    store.sweep().expect("nothing stands against it");
    (store, accounts)
}

async fn seen(store: &SledStore, accounts: &[Account; 3]) -> (Vec<EabKey>, Vec<u64>, Vec<Account>) {
    let keys = store.eab_keys(None, 10).await.expect("readable");
    let mut counts = vec![store.count(&Counter::EabKeys).await.expect("readable")];
    for key in &keys {
        counts.push(store.count(&Counter::EabAccounts(key.id.clone())).await.expect("readable"));
    }
    let mut held = Vec::new();
    for account in accounts {
        held.push(store.account(account.id).await.expect("readable").expect("stored").value);
    }
    (keys, counts, held)
}

#[tokio::test]
async fn rule_9_a_rebuild_has_eab_keys_their_uses_and_limits_and_revocations_and_their_accounts_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let (store, accounts) = filled(&path).await;
    let before = seen(&store, &accounts).await;
    assert_eq!(before.1, [3, 1, 1, 1]);
    assert!(matches!(before.2[2].status, AccountStatus::Revoked { .. }));
    kill(&store);
    let rebuilt = check::rebuild(&path, &options()).expect("the ledger is sound");
    assert_eq!(rebuilt.accounts, 3);
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("sound");
    assert_eq!(seen(&store, &accounts).await, before);
    let claim = Claim::EabUse { key_id: before.0[0].id.clone(), account_key: accounts[1].key.digest() };
    let again = store.commit(Changes::new().with(Change::Claim(claim))).await;
    assert!(matches!(again, Err(CommitError::Conflict)), "{again:?}");
    let due = store.due_jobs(sample::now().after(std::time::Duration::from_secs(7200)), 10).await.expect("readable");
    let prunes = due.iter().filter(|job| matches!(job.kind, JobKind::PruneEabKey { .. })).count();
    assert_eq!(prunes, 3, "whether it is time they look by themselves");
    assert!(store.scrub(sample::now()).is_clean());
}

#[tokio::test]
async fn rule_9_a_rebuild_owes_the_stop_of_accounts_that_was_not_done_and_revokes_no_key_for_one_that_had_its_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("new");
    let stopped = make(&store, "stopped").await;
    use_of(&store, &stopped, 1).await;
    let revoke = |key: &mut EabKey| key.revoked = Some(sample::now());
    put(&store, revoke, &stopped.id, EabAction::Revoked).await;
    let stop = |key: &mut EabKey| key.accounts_stopped = Some(sample::now());
    let stopped = put(&store, stop, &stopped.id, EabAction::Stopped).await;
    // Revoked unused, dropped without a leaf, and its id taken again.
    let first = make(&store, "again").await;
    put(&store, revoke, &first.id, EabAction::Revoked).await;
    let held = store.eab_key(&first.id).await.expect("readable").expect("stored");
    let drop = Changes::new().with(Change::RemoveEabKey(first.id.clone(), held.version));
    let drop = drop.with(Change::Count { counter: Counter::EabKeys, by: -1, limit: None });
    store.commit(drop).await.expect("dropped");
    let again = make(&store, "again").await;
    store.sweep().expect("nothing stands against it");
    kill(&store);
    check::rebuild(&path, &options()).expect("the ledger is sound");
    let store = open(&path, &Arc::new(TestDisk::new()), options()).expect("sound");
    assert_eq!(store.eab_keys(None, 10).await.expect("readable"), [again, stopped.clone()]);
    assert_eq!(store.count(&Counter::EabKeys).await.expect("readable"), 2);
    let due = store.due_jobs(sample::now(), 10).await.expect("readable");
    let kinds: Vec<&JobKind> = due.iter().map(|job| &job.kind).collect();
    assert!(kinds.contains(&&JobKind::StopAccounts { key: stopped.id.clone() }), "{kinds:?}");
    assert!(kinds.contains(&&JobKind::PruneEabKey { key: stopped.id }), "{kinds:?}");
}

#[tokio::test]
async fn rule_11_after_a_restore_every_eab_key_is_revoked_and_what_it_made_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, backup, target) = (folder.path().join("store"), folder.path().join("backup"), folder.path().join("new"));
    let (store, accounts) = filled(&path).await;
    let (_, counts, held) = seen(&store, &accounts).await;
    store.backup(&backup).expect("room");
    // Lost with the store: a use that nobody will know of.
    let plain = store.eab_key(&"plain".parse().expect("an id")).await.expect("readable").expect("stored").value;
    use_of(&store, &plain, 4).await;
    kill(&store);
    let what = Restore {
        backup: &backup,
        target: &target,
        with_bundles: None,
        kept: None,
        key: None,
        now: sample::now().after(std::time::Duration::from_secs(60)),
    };
    restore(what, &options()).expect("sound");
    for rebuilt in [false, true] {
        if rebuilt {
            check::rebuild(&target, &options()).expect("the ledger is sound");
        }
        let store = open(&target, &Arc::new(TestDisk::new()), options()).expect("sound");
        let (keys, counts_now, held_now) = seen(&store, &accounts).await;
        assert!(keys.iter().all(|key| key.revoked.is_some()), "{rebuilt}: {keys:?}");
        assert_eq!((counts_now, held_now), (counts.clone(), held.clone()), "{rebuilt}");
        kill(&store);
    }
}
