//! What every store does: one suite, run on each by [`store_suite!`](crate::store_suite!).
//!
//! Every function is one rule; it gets a new, empty store.

#![expect(missing_docs, reason = "the name of each function is its rule")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use chancery_acme::{
    account::{Account, AccountStatus},
    authorization::{Authorization, AuthorizationState},
    id::{AccountId, CertificateId, OrderId},
    order::{Order, OrderState},
    problem::{Problem, ProblemType, Subproblem},
};
use chancery_authority::{
    changes::{Change, Changes, Claim, Committed, Counter, Put},
    ports::{CertificateQuery, CommitError, NotApplied, Store},
    records::{
        ApiToken, AuthorityId, CertificateRecord, CertificateState, ClusterOrigin, EabKey, IdempotencyKey,
        IdempotencyOutcome, IdempotencyRecord, Job, JobKind, LeafRef, Retention, Revocation, RevocationReason, Version,
        Versioned,
    },
};
use chancery_pki::{SpkiDigest, Timestamp};

use crate::sample;

/// What becomes of the next commit, while its caller is told that this is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was not kept.
    Lost,
    /// It was kept.
    Kept,
}

/// A store and the power to hurt it.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// Ends it without notice and opens what it left.
    async fn restart(&mut self);
    /// Lets the next commit end unknown.
    fn fail_next(&self, fate: Fate);
}

/// Runs the suite on what `$fixture` makes: one test a rule.
#[macro_export]
macro_rules! store_suite {
    ($fixture:expr) => {
        $crate::store_suite!(@each $fixture;
            an_account_is_found_by_id_and_by_the_key_of_its_directory
            a_key_has_one_account_at_a_directory
            an_account_that_changes_its_key_gives_the_old_one_back
            accounts_come_in_pages
            an_order_comes_back_as_it_was_put
            a_put_on_another_version_than_is_stored_is_a_conflict_and_changes_nothing
            a_new_record_where_there_is_one_already_is_a_conflict
            the_orders_of_an_account_come_in_pages_and_go_with_the_order
            a_removal_needs_the_version_that_is_stored
            the_authorizations_of_a_valid_order_are_read_changed_and_removed_like_any
            an_account_s_certificates_are_listed_once_whatever_becomes_of_their_orders
            a_claim_is_taken_once_and_can_be_given_back
            the_claim_and_the_pruning_of_an_order_outlive_it_until_they_are_ended
            a_counter_stops_at_its_limit_and_never_goes_below_zero
            a_job_is_moved_by_scheduling_it_again_and_gone_when_finished
            jobs_are_due_in_the_order_of_time
            an_idempotency_outcome_comes_back_by_its_key_alone
            an_api_token_comes_back_as_it_was_put_in_pages_and_goes_by_its_version
            an_eab_key_comes_back_as_it_was_put_and_keys_come_in_pages_of_their_ids
            a_commit_that_wants_an_eab_key_as_it_was_is_a_conflict_once_it_changed
            of_two_uses_of_an_eab_key_that_has_one_left_one_is_kept
            what_is_in_force_is_one_record_that_outlives_a_restart
            a_crl_number_never_goes_back
            a_record_names_the_leaf_of_its_own_commit
            a_record_that_names_a_leaf_its_commit_has_not_is_refused
            leaves_come_back_in_order_and_end_at_the_tree
            a_leaf_that_is_too_large_is_refused_whole
            the_tree_grows_with_each_leaf
            certificates_are_found_by_every_index
            certificates_come_in_pages_by_every_index
            a_light_record_is_found_by_id_key_and_account_alone
            a_removed_certificate_is_found_no_more
            a_serial_is_issued_once
            a_commit_that_fails_half_way_keeps_nothing
            of_two_commits_on_the_same_version_one_wins
            what_was_committed_is_there_after_a_restart
            a_lost_commit_is_reported_unknown_and_leaves_nothing
            a_kept_commit_that_is_reported_unknown_is_there_whole
            the_newest_checkpoint_is_kept
            a_blob_is_kept_under_its_hash
        );
    };
    (@each $fixture:expr; $($rule:ident)+) => {
        $(
            #[tokio::test]
            async fn $rule() {
                $crate::store_suite::$rule(&mut $fixture).await;
            }
        )+
    };
}

type Any<'a> = &'a mut dyn Fixture;

async fn commit(fixture: &dyn Fixture, changes: Changes) -> Committed {
    fixture.store().commit(changes).await.expect("nothing stands against it")
}

async fn put_account(fixture: &dyn Fixture, number: u64) -> Account {
    let account = sample::account(number);
    commit(fixture, Changes::new().with(Change::Account(Put::new(account.clone())))).await;
    account
}

fn is_conflict(outcome: &Result<Committed, CommitError>) -> bool {
    matches!(outcome, Err(CommitError::Conflict))
}

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

pub async fn an_order_comes_back_as_it_was_put(fixture: Any<'_>) {
    let store = fixture.store();
    let id = CertificateId::from_random(sample::octets(99));
    let problem = Problem::new(ProblemType::Caa, "the CAA record forbids it").with_status(409).with_subproblems(vec![
        Subproblem { kind: ProblemType::Dns, detail: "no answer".to_owned(), name: "10.0.0.1".parse().ok() },
        Subproblem { kind: ProblemType::Tls, detail: "no answer".to_owned(), name: None },
    ]);
    let states = [
        OrderState::Pending,
        OrderState::Ready,
        OrderState::Processing { certificate: id },
        OrderState::Valid { certificate: id },
        OrderState::Invalid { error: problem.clone() },
    ];
    let authorization_states = [
        AuthorizationState::Pending,
        AuthorizationState::Valid,
        AuthorizationState::Invalid,
        AuthorizationState::Deactivated,
        AuthorizationState::Revoked,
    ];
    for (number, (state, authorized)) in (1..).zip(states.into_iter().zip(authorization_states)) {
        let account = AccountId::from_random(sample::octets(1));
        let (mut order, mut authorization) = sample::order(number, account, "*.example.com");
        order.state = state;
        order.names = sample::names([
            "*.example.com",
            "a.example.com",
            "192.0.2.1",
            "2001:db8::1",
            "spiffe://x/y",
            "https://example.com/a",
            "urn:example:a",
            "Alice@example.com",
            "other:1.3.6.1.4.1.311.20.2.3:alice@example.com",
            "cn:Payments CA",
        ]);
        order.not_after = Some(sample::now());
        authorization.state = authorized;
        authorization.challenges = chancery_acme::challenge::ChallengeKind::ALL
            .into_iter()
            .zip([
                chancery_acme::challenge::ChallengeState::Processing { since: sample::now() },
                chancery_acme::challenge::ChallengeState::Valid { validated: sample::now() },
                chancery_acme::challenge::ChallengeState::Invalid { error: problem.clone() },
            ])
            .map(|(kind, state)| chancery_acme::challenge::Challenge {
                kind,
                token: chancery_acme::challenge::Token::from_random(sample::octets(5)),
                state,
            })
            .collect();
        let changes = Changes::new()
            .with(Change::Order(Put::new(order.clone())))
            .with(Change::Authorization(Put::new(authorization.clone())));
        commit(fixture, changes).await;
        let found = store.order(order.id).await.expect("readable").expect("stored");
        assert_eq!(found.value, order);
        let found = store.authorization(authorization.id).await.expect("readable").expect("stored");
        assert_eq!(found.value, authorization);
    }
    assert_eq!(store.order(OrderId::from_octets([0; 16])).await.expect("readable"), None);
}

pub async fn a_put_on_another_version_than_is_stored_is_a_conflict_and_changes_nothing(fixture: Any<'_>) {
    let store = fixture.store();
    let (order, _) = sample::order(1, AccountId::from_random(sample::octets(1)), "a.example");
    commit(fixture, Changes::new().with(Change::Order(Put::new(order.clone())))).await;
    let loaded = store.order(order.id).await.expect("readable").expect("stored");
    let ready = Order { state: OrderState::Ready, ..order.clone() };
    let Committed { version, .. } =
        commit(fixture, Changes::new().with(Change::Order(Put::over(&loaded, ready.clone())))).await;
    assert!(version > loaded.version);
    assert!(is_conflict(&store.commit(Changes::new().with(Change::Order(Put::over(&loaded, order.clone())))).await));
    assert_eq!(store.order(order.id).await.expect("readable").map(|found| found.value), Some(ready));
    let absent = sample::order_id(order.account, 2);
    let over_nothing = Put { replaces: Some(Version(1)), value: Order { id: absent, ..order } };
    assert!(is_conflict(&store.commit(Changes::new().with(Change::Order(over_nothing))).await));
}

pub async fn a_new_record_where_there_is_one_already_is_a_conflict(fixture: Any<'_>) {
    let (order, authorization) = sample::order(1, AccountId::from_random(sample::octets(1)), "a.example");
    let changes = Changes::new()
        .with(Change::Order(Put::new(order)))
        .with(Change::Authorization(Put::new(authorization)))
        .with(Change::Certificate(Put::new(sample::certificate(1, &["a.example"]))))
        .leaf(sample::leaf(1));
    commit(fixture, changes.clone()).await;
    for item in changes.items {
        let outcome = fixture.store().commit(Changes::new().with(item).leaf(sample::leaf(2))).await;
        assert!(is_conflict(&outcome), "{outcome:?}");
    }
}

pub async fn the_orders_of_an_account_come_in_pages_and_go_with_the_order(fixture: Any<'_>) {
    let store = fixture.store();
    let (mine, other) = (AccountId::from_random(sample::octets(1)), AccountId::from_random(sample::octets(2)));
    let mut all = BTreeSet::new();
    for number in 1..=5 {
        let (order, _) = sample::order(number, mine, "a.example");
        all.insert(order.id);
        commit(fixture, Changes::new().with(Change::Order(Put::new(order)))).await;
    }
    let (foreign, _) = sample::order(6, other, "a.example");
    commit(fixture, Changes::new().with(Change::Order(Put::new(foreign)))).await;
    let first = store.orders_of(mine, None, 2).await.expect("readable");
    let rest = store.orders_of(mine, first.last().copied(), 10).await.expect("readable");
    assert_eq!(first.iter().chain(&rest).copied().collect::<Vec<_>>(), all.iter().copied().collect::<Vec<_>>());
    let gone = *first.first().expect("five orders");
    let version = store.order(gone).await.expect("readable").expect("stored").version;
    commit(fixture, Changes::new().with(Change::RemoveOrder(gone, version))).await;
    assert!(!store.orders_of(mine, None, 10).await.expect("readable").contains(&gone));
    assert_eq!(store.order(gone).await.expect("readable"), None);
}

pub async fn a_removal_needs_the_version_that_is_stored(fixture: Any<'_>) {
    let store = fixture.store();
    let (order, authorization) = sample::order(1, AccountId::from_random(sample::octets(1)), "a.example");
    let changes = Changes::new()
        .with(Change::Order(Put::new(order.clone())))
        .with(Change::Authorization(Put::new(authorization.clone())));
    let Committed { version, .. } = commit(fixture, changes).await;
    let wrong = Version(version.0 + 1000);
    for item in [Change::RemoveOrder(order.id, wrong), Change::RemoveAuthorization(authorization.id, wrong)] {
        assert!(is_conflict(&store.commit(Changes::new().with(item)).await));
    }
    let removals = Changes::new()
        .with(Change::RemoveOrder(order.id, version))
        .with(Change::RemoveAuthorization(authorization.id, version));
    commit(fixture, removals.clone()).await;
    assert!(is_conflict(&store.commit(removals).await), "it is gone already");
    assert_eq!(store.authorization(authorization.id).await.expect("readable"), None);
    // And may come again.
    commit(fixture, Changes::new().with(Change::Order(Put::new(order)))).await;
}

pub async fn the_authorizations_of_a_valid_order_are_read_changed_and_removed_like_any(fixture: Any<'_>) {
    let store = fixture.store();
    let account = AccountId::from_random(sample::octets(1));
    let (mut order, first) = sample::order(1, account, "a.example");
    let id = order.id.authorization(1);
    let second = Authorization { id, name: "b.example".parse().expect("a name"), ..first.clone() };
    order.names = sample::names(["a.example", "b.example"]);
    order.authorizations.push(second.id);
    let valid = |of: &Authorization| Authorization { state: AuthorizationState::Valid, ..of.clone() };
    let (first, second) = (valid(&first), valid(&second));
    let changes = Changes::new()
        .with(Change::Order(Put::new(order.clone())))
        .with(Change::Authorization(Put::new(first.clone())))
        .with(Change::Authorization(Put::new(second.clone())));
    let Committed { version: before, .. } = commit(fixture, changes).await;
    let loaded = store.order(order.id).await.expect("readable").expect("stored");
    let certificate = CertificateId::from_random(sample::octets(9));
    let done = Order { state: OrderState::Valid { certificate }, ..order.clone() };
    let Committed { version: settled, .. } =
        commit(fixture, Changes::new().with(Change::Order(Put::over(&loaded, done.clone())))).await;
    let read = async |id| store.authorization(id).await.expect("readable");
    let held = |value: &Authorization, version| Some(Versioned { value: value.clone(), version });
    assert_eq!(read(first.id).await, held(&first, before), "as it was, under its own version");
    assert_eq!(read(second.id).await, held(&second, before));
    // A new one in its place is a conflict, and so is a change of another version.
    let put = |replaces, value: &Authorization| {
        Changes::new().with(Change::Authorization(Put { replaces, value: value.clone() }))
    };
    let given_up = Authorization { state: AuthorizationState::Deactivated, ..first.clone() };
    assert!(is_conflict(&store.commit(put(None, &given_up)).await));
    assert!(is_conflict(&store.commit(put(Some(settled), &given_up)).await));
    let Committed { version: after, .. } = commit(fixture, put(Some(before), &given_up)).await;
    assert_eq!(read(first.id).await, held(&given_up, after));
    let kept = store.order(order.id).await.expect("readable").expect("stored");
    assert_eq!((kept.value, kept.version), (done.clone(), settled), "the order is untouched");
    // A change of the order leaves them alone.
    let Committed { version, .. } =
        commit(fixture, Changes::new().with(Change::Order(Put { replaces: Some(settled), value: done }))).await;
    assert_eq!(read(second.id).await, held(&second, before));
    let remove = |id, version| Changes::new().with(Change::RemoveAuthorization(id, version));
    assert!(is_conflict(&store.commit(remove(first.id, before)).await));
    commit(fixture, remove(first.id, after)).await;
    assert_eq!(read(first.id).await, None);
    assert!(is_conflict(&store.commit(remove(first.id, after)).await), "it is gone already");
    // One that nobody removed outlives the order.
    commit(fixture, Changes::new().with(Change::RemoveOrder(order.id, version))).await;
    assert_eq!(read(second.id).await, held(&second, before));
    commit(fixture, remove(second.id, before)).await;
    assert_eq!(read(second.id).await, None);
}

pub async fn an_account_s_certificates_are_listed_once_whatever_becomes_of_their_orders(fixture: Any<'_>) {
    let store = fixture.store();
    let account = AccountId::from_random(sample::octets(1));
    let record = |number, order: Option<OrderId>| CertificateRecord {
        account: Some(account),
        order,
        ..sample::certificate(number, &["a.example"])
    };
    let mut orders = Vec::new();
    for number in 1..=6 {
        let (order, _) = sample::order(number, account, "a.example");
        let certificate = CertificateId::from_random(sample::octets(number));
        let processing = Order { state: OrderState::Processing { certificate }, ..order.clone() };
        // Some records come before what their orders say, some with it, and one has no order at all.
        let changes = Changes::new().with(Change::Order(Put::new(order.clone())));
        let Committed { version, .. } = commit(fixture, changes).await;
        let over = |version| Change::Order(Put { replaces: Some(version), value: processing.clone() });
        let put = Change::Certificate(Put::new(record(number, (number != 6).then_some(order.id))));
        let Committed { version, .. } = if number % 2 == 0 {
            commit(fixture, Changes::new().with(put).leaf(sample::leaf(number))).await;
            commit(fixture, Changes::new().with(over(version))).await
        } else {
            commit(fixture, Changes::new().with(over(version)).with(put).leaf(sample::leaf(number))).await
        };
        orders.push(Versioned { value: processing, version });
    }
    let listed = async |limit| {
        let query = CertificateQuery::Account(account);
        let mut all: Vec<CertificateId> = Vec::new();
        loop {
            let page = store.certificates(&query, all.last().copied(), limit).await.expect("readable");
            if page.is_empty() {
                all.sort();
                return all;
            }
            all.extend(page.iter().map(|record| record.id));
        }
    };
    let ids = |numbers: &[u64]| {
        let ids: BTreeSet<_> =
            numbers.iter().map(|number| CertificateId::from_random(sample::octets(*number))).collect();
        ids.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(listed(100).await, ids(&[1, 2, 3, 4, 5, 6]));
    assert_eq!(listed(2).await, ids(&[1, 2, 3, 4, 5, 6]));
    // One order ends without its certificate, one is dropped, one certificate is dropped.
    let [first, second, third, ..] = orders.as_slice() else { unreachable!("six orders") };
    let error = Problem::new(ProblemType::ServerInternal, "settled");
    let invalid = Order { state: OrderState::Invalid { error }, ..first.value.clone() };
    commit(fixture, Changes::new().with(Change::Order(Put::over(first, invalid)))).await;
    commit(fixture, Changes::new().with(Change::RemoveOrder(second.value.id, second.version))).await;
    let gone = CertificateId::from_random(sample::octets(3));
    let version = store.certificate(gone).await.expect("readable").expect("stored").version;
    commit(fixture, Changes::new().with(Change::RemoveCertificate(gone, version))).await;
    assert_eq!(listed(100).await, ids(&[1, 2, 4, 5, 6]));
    assert_eq!(listed(1).await, ids(&[1, 2, 4, 5, 6]));
    commit(fixture, Changes::new().with(Change::RemoveOrder(third.value.id, third.version))).await;
    for number in [1, 2] {
        let id = CertificateId::from_random(sample::octets(number));
        let version = store.certificate(id).await.expect("readable").expect("stored").version;
        commit(fixture, Changes::new().with(Change::RemoveCertificate(id, version))).await;
    }
    assert_eq!(listed(100).await, ids(&[4, 5, 6]));
}

pub async fn a_claim_is_taken_once_and_can_be_given_back(fixture: Any<'_>) {
    let store = fixture.store();
    let eab =
        |digest| Claim::EabUse { key_id: "platform".parse().expect("an id"), account_key: SpkiDigest([digest; 32]) };
    let order = Claim::OrderCertificate(OrderId::from_octets(sample::octets(1)));
    for claim in [order, eab(1), eab(2)] {
        let take = Changes::new().with(Change::Claim(claim.clone()));
        commit(fixture, take.clone()).await;
        assert!(is_conflict(&store.commit(take.clone()).await));
        commit(fixture, Changes::new().with(Change::Release(claim.clone()))).await;
        commit(fixture, Changes::new().with(Change::Release(claim))).await;
        commit(fixture, take).await;
    }
}

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

pub async fn the_claim_and_the_pruning_of_an_order_outlive_it_until_they_are_ended(fixture: Any<'_>) {
    let store = fixture.store();
    let at = |seconds| sample::now().after(Duration::from_secs(seconds));
    let (order, _) = sample::order(1, AccountId::from_random(sample::octets(1)), "a.example");
    let claim = Change::Claim(Claim::OrderCertificate(order.id));
    let kind = JobKind::PruneOrder { order: order.id };
    let changes = Changes::new().with(Change::Order(Put::new(order.clone()))).schedule(kind.clone(), at(10));
    commit(fixture, changes).await;
    commit(fixture, Changes::new().with(claim.clone()).schedule(kind.clone(), at(20))).await;
    assert!(is_conflict(&store.commit(Changes::new().with(claim.clone())).await));
    let due = async |seconds| store.due_jobs(at(seconds), 10).await.expect("readable");
    assert_eq!(due(19).await, []);
    assert_eq!(due(20).await, [Job { kind: kind.clone(), due: at(20), attempt: 0 }]);
    // A new state of the order leaves both alone.
    let held = store.order(order.id).await.expect("readable").expect("stored");
    let again = Job { kind: kind.clone(), due: at(30), attempt: 300 };
    let ready = Order { state: OrderState::Ready, ..order.clone() };
    let changes = Changes::new().with(Change::Order(Put::over(&held, ready))).with(Change::Schedule(again.clone()));
    let Committed { version, .. } = commit(fixture, changes).await;
    assert!(is_conflict(&store.commit(Changes::new().with(claim.clone())).await));
    assert_eq!(due(30).await, std::slice::from_ref(&again));
    commit(fixture, Changes::new().with(Change::RemoveOrder(order.id, version))).await;
    assert!(is_conflict(&store.commit(Changes::new().with(claim.clone())).await));
    assert_eq!(due(30).await, [again]);
    // An order that comes again finds them taken and owed.
    commit(fixture, Changes::new().with(Change::Order(Put::new(order.clone())))).await;
    assert!(is_conflict(&store.commit(Changes::new().with(claim.clone())).await));
    let release = Change::Release(Claim::OrderCertificate(order.id));
    commit(fixture, Changes::new().with(Change::Finish(kind.clone())).with(release.clone())).await;
    assert_eq!(store.next_due().await.expect("readable"), None);
    commit(fixture, Changes::new().with(claim.clone()).schedule(kind.clone(), at(5))).await;
    // All in one commit, in either order.
    let version = store.order(order.id).await.expect("readable").expect("stored").version;
    let gone = Changes::new()
        .with(Change::Finish(kind.clone()))
        .with(Change::RemoveOrder(order.id, version))
        .with(release)
        .with(Change::Finish(kind));
    commit(fixture, gone).await;
    assert_eq!(store.next_due().await.expect("readable"), None);
    commit(fixture, Changes::new().with(claim)).await;
}

pub async fn a_counter_stops_at_its_limit_and_never_goes_below_zero(fixture: Any<'_>) {
    let store = fixture.store();
    let counter = Counter::PendingOrders(AccountId::from_random(sample::octets(1)));
    let count = |by, limit| Changes::new().with(Change::Count { counter: counter.clone(), by, limit });
    commit(fixture, count(-5, Some(2))).await;
    commit(fixture, count(1, Some(2))).await;
    commit(fixture, count(1, Some(2))).await;
    match store.commit(count(1, Some(2))).await {
        Err(CommitError::Limit { counter: refused, limit: 2 }) => assert_eq!(refused, counter),
        other => panic!("{other:?}"),
    }
    // Another of its kind is another counter, and a lower limit does not keep it from falling.
    let others = Counter::PendingOrders(AccountId::from_random(sample::octets(2)));
    commit(fixture, Changes::new().with(Change::Count { counter: others, by: 2, limit: Some(2) })).await;
    commit(fixture, count(-1, Some(0))).await;
    commit(fixture, count(1, Some(2))).await;
    assert!(matches!(store.commit(count(1, Some(2))).await, Err(CommitError::Limit { .. })));
    commit(fixture, count(300, None)).await;
}

pub async fn a_job_is_moved_by_scheduling_it_again_and_gone_when_finished(fixture: Any<'_>) {
    let store = fixture.store();
    let kind = JobKind::Settle { certificate: CertificateId::from_random(sample::octets(1)) };
    let at = |seconds| sample::now().after(Duration::from_secs(seconds));
    commit(fixture, Changes::new().schedule(kind.clone(), at(10))).await;
    let moved = Job { kind: kind.clone(), due: at(20), attempt: 3 };
    commit(fixture, Changes::new().with(Change::Schedule(moved.clone()))).await;
    assert_eq!(store.next_due().await.expect("readable"), Some(at(20)));
    assert_eq!(store.due_jobs(at(19), 10).await.expect("readable"), []);
    assert_eq!(store.due_jobs(at(20), 10).await.expect("readable"), [moved]);
    commit(fixture, Changes::new().with(Change::Finish(kind.clone()))).await;
    commit(fixture, Changes::new().with(Change::Finish(kind))).await;
    assert_eq!(store.next_due().await.expect("readable"), None);
}

pub async fn jobs_are_due_in_the_order_of_time(fixture: Any<'_>) {
    let store = fixture.store();
    let at = |millis| Timestamp::from_unix_millis(sample::now().unix_millis() + millis);
    for (kind, millis) in [
        (JobKind::Checkpoint, 3),
        (JobKind::PruneCertificates, 1),
        (JobKind::RenewOwnTls, 100),
        (JobKind::PruneOrder { order: OrderId::from_octets(sample::octets(1)) }, 2),
        (JobKind::PruneAccount { account: AccountId::from_random(sample::octets(1)) }, 4),
    ] {
        commit(fixture, Changes::new().schedule(kind, at(millis))).await;
    }
    let due = store.due_jobs(at(50), 10).await.expect("readable");
    assert_eq!(due.iter().map(|job| job.due).collect::<Vec<_>>(), [at(1), at(2), at(3), at(4)]);
    assert_eq!(store.due_jobs(at(50), 2).await.expect("readable").len(), 2);
    assert_eq!(store.next_due().await.expect("readable"), Some(at(1)));
}

pub async fn an_idempotency_outcome_comes_back_by_its_key_alone(fixture: Any<'_>) {
    let store = fixture.store();
    let certificate = CertificateId::from_random(sample::octets(1));
    let outcomes = [
        IdempotencyOutcome::Pending { certificate },
        IdempotencyOutcome::Issued { certificate },
        IdempotencyOutcome::Refused { rule: "no-wildcards".to_owned() },
        IdempotencyOutcome::Held,
        IdempotencyOutcome::Abandoned { certificate },
    ];
    let key = IdempotencyKey { door: "request".to_owned(), credential: "c".to_owned(), uid: "1".to_owned() };
    let mut version = None;
    for (attempt, outcome) in (1..).zip(outcomes) {
        let record = IdempotencyRecord { key: key.clone(), request: [7; 32], attempt, outcome, at: sample::now() };
        let put = Put { replaces: version, value: record.clone() };
        version = Some(commit(fixture, Changes::new().with(Change::Idempotency(put))).await.version);
        let found = store.idempotency(&key).await.expect("readable").expect("stored");
        assert_eq!((found.value, Some(found.version)), (record, version));
    }
    let shifted = IdempotencyKey { credential: "c1".to_owned(), uid: String::new(), ..key.clone() };
    assert_eq!(store.idempotency(&shifted).await.expect("readable"), None);
    commit(fixture, Changes::new().with(Change::RemoveIdempotency(key.clone(), version.expect("put")))).await;
    assert_eq!(store.idempotency(&key).await.expect("readable"), None);
}

pub async fn an_api_token_comes_back_as_it_was_put_in_pages_and_goes_by_its_version(fixture: Any<'_>) {
    let mut tokens: Vec<_> = (1..=3).map(sample::api_token).collect();
    tokens.sort_by_key(|token| token.id);
    let mut version = Version(0);
    for token in &tokens {
        version = commit(fixture, Changes::new().with(Change::ApiToken(Put::new(token.clone())))).await.version;
    }
    let again = fixture.store().commit(Changes::new().with(Change::ApiToken(Put::new(tokens[0].clone())))).await;
    assert!(is_conflict(&again), "{again:?}");
    fixture.restart().await;
    let store = fixture.store();
    let read = async |at: usize| store.api_token(tokens[at].id).await.expect("readable");
    assert_eq!(read(0).await.expect("stored").value, tokens[0]);
    assert_eq!(store.api_tokens(None, 2).await.expect("readable"), tokens[..2]);
    assert_eq!(store.api_tokens(Some(tokens[1].id), 2).await.expect("readable"), tokens[2..]);
    let plain =
        ApiToken { namespaces: None, profiles: None, names: None, revoked: Some(sample::now()), ..tokens[2].clone() };
    let put = |replaces| Changes::new().with(Change::ApiToken(Put { replaces, value: plain.clone() }));
    assert!(is_conflict(&store.commit(put(Some(Version(9_999)))).await));
    let Committed { version, .. } = commit(fixture, put(Some(version))).await;
    assert_eq!(read(2).await, Some(Versioned { value: plain.clone(), version }));
    let remove = |version| Changes::new().with(Change::RemoveApiToken(plain.id, version));
    assert!(is_conflict(&store.commit(remove(Version(9_999))).await));
    commit(fixture, remove(version)).await;
    assert_eq!(read(2).await, None);
    assert_eq!(store.api_tokens(None, 10).await.expect("readable"), tokens[..2]);
}

pub async fn what_is_in_force_is_one_record_that_outlives_a_restart(fixture: Any<'_>) {
    let store = fixture.store();
    assert_eq!(store.in_force().await.expect("readable"), None);
    let first = sample::in_force(1);
    commit(fixture, Changes::new().with(Change::InForce(Put::new(first.clone())))).await;
    let held = store.in_force().await.expect("readable").expect("stored");
    assert_eq!(held.value, first);
    let second = sample::in_force(2);
    assert!(is_conflict(&store.commit(Changes::new().with(Change::InForce(Put::new(second.clone())))).await));
    commit(fixture, Changes::new().with(Change::InForce(Put::over(&held, second.clone())))).await;
    let late = Changes::new().with(Change::InForce(Put::over(&held, first)));
    assert!(is_conflict(&store.commit(late).await));
    drop(store);
    fixture.restart().await;
    assert_eq!(fixture.store().in_force().await.expect("readable").map(|held| held.value), Some(second));
}

pub async fn a_crl_number_never_goes_back(fixture: Any<'_>) {
    let authority = |name: &str| name.parse::<AuthorityId>().expect("a name");
    let (one, other) = (authority("one"), authority("other"));
    let uses = |authority: &AuthorityId, shard, number| {
        Changes::new().with(Change::CrlNumber { authority: authority.clone(), shard, number }).urgently()
    };
    let store = fixture.store();
    assert_eq!(store.crl_number(&one, 0).await.expect("readable"), None);
    commit(fixture, uses(&one, 0, 1_795_600_000)).await;
    commit(fixture, uses(&one, 1, 5)).await;
    commit(fixture, uses(&other, 0, 7)).await;
    for number in [1_795_600_000, 1_795_599_999, 0] {
        assert!(is_conflict(&store.commit(uses(&one, 0, number)).await), "{number}");
    }
    // Nor within one commit.
    let twice = uses(&one, 0, 1_795_600_002).with(Change::CrlNumber {
        authority: one.clone(),
        shard: 0,
        number: 1_795_600_001,
    });
    assert!(is_conflict(&store.commit(twice).await));
    commit(fixture, uses(&one, 0, 1_795_600_001)).await;
    drop(store);
    fixture.restart().await;
    let store = fixture.store();
    for (authority, shard, last) in [(&one, 0, 1_795_600_001), (&one, 1, 5), (&other, 0, 7)] {
        assert_eq!(store.crl_number(authority, shard).await.expect("readable"), Some(last));
    }
}

pub async fn a_record_names_the_leaf_of_its_own_commit(fixture: Any<'_>) {
    let store = fixture.store();
    commit(fixture, Changes::new().leaf(sample::leaf(0))).await;
    let mut record = sample::certificate(1, &["a.example"]);
    record.state = CertificateState::Intended { intent: LeafRef::InThisCommit(1) };
    let changes =
        Changes::new().with(Change::Certificate(Put::new(record.clone()))).leaf(sample::leaf(1)).leaf(sample::leaf(2));
    let Committed { first_leaf, .. } = commit(fixture, changes).await;
    assert_eq!(first_leaf, 1);
    let loaded = store.certificate(record.id).await.expect("readable").expect("stored");
    assert_eq!(loaded.value.state, CertificateState::Intended { intent: LeafRef::At(2) });
    let issued = CertificateState::Issued { intent: LeafRef::At(2), signature: LeafRef::InThisCommit(0) };
    let put = Put::over(&loaded, CertificateRecord { state: issued, ..loaded.value.clone() });
    commit(fixture, Changes::new().with(Change::Certificate(put)).leaf(sample::leaf(3))).await;
    let found = store.certificate(record.id).await.expect("readable").expect("stored").value;
    assert_eq!(found.state, CertificateState::Issued { intent: LeafRef::At(2), signature: LeafRef::At(3) });
    assert_eq!(Some(store.leaf(3).await.expect("readable").expect("there")), sample::leaf(3).encode().ok());
}

pub async fn a_record_that_names_a_leaf_its_commit_has_not_is_refused(fixture: Any<'_>) {
    let record = sample::certificate(1, &["a.example"]);
    let outcome = fixture.store().commit(Changes::new().with(Change::Certificate(Put::new(record)))).await;
    assert!(matches!(outcome, Err(CommitError::NotApplied(NotApplied::Unstorable(_)))), "{outcome:?}");
}

pub async fn leaves_come_back_in_order_and_end_at_the_tree(fixture: Any<'_>) {
    let store = fixture.store();
    let encoded = |number| sample::leaf(number).encode().expect("small");
    for number in 0..5 {
        let Committed { first_leaf, .. } = commit(fixture, Changes::new().leaf(sample::leaf(number))).await;
        assert_eq!(first_leaf, number);
    }
    assert_eq!(store.leaf(3).await.expect("readable"), Some(encoded(3)));
    assert_eq!(store.leaf(5).await.expect("readable"), None);
    assert_eq!(store.leaves(1..4, 10).await.expect("readable"), [encoded(1), encoded(2), encoded(3)]);
    assert_eq!(store.leaves(1..4, 2).await.expect("readable"), [encoded(1), encoded(2)]);
    assert_eq!(store.leaves(3..99, 10).await.expect("readable"), [encoded(3), encoded(4)]);
    let Committed { first_leaf, .. } =
        commit(fixture, Changes::new().schedule(JobKind::Checkpoint, sample::now())).await;
    assert_eq!(first_leaf, 5, "a commit without leaves is told the tree's size");
}

pub async fn a_leaf_that_is_too_large_is_refused_whole(fixture: Any<'_>) {
    let changes = Changes::new().schedule(JobKind::Checkpoint, sample::now()).leaf(sample::too_large_leaf());
    let outcome = fixture.store().commit(changes).await;
    assert!(matches!(outcome, Err(CommitError::NotApplied(NotApplied::Unstorable(_)))), "{outcome:?}");
    assert_eq!(fixture.store().next_due().await.expect("readable"), None);
    assert_eq!(fixture.store().tree_head().await.expect("readable").size, 0);
}

pub async fn the_tree_grows_with_each_leaf(fixture: Any<'_>) {
    // The memory store computes roots by the definition of RFC 6962 §2.1.
    let oracle = crate::MemoryStore::new();
    for number in 0..40 {
        let changes = Changes::new().leaf(sample::leaf(number));
        let changes = if number % 3 == 0 { changes.leaf(sample::leaf(number + 1000)) } else { changes };
        oracle.commit(changes.clone()).await.expect("in memory");
        commit(fixture, changes).await;
        let head = fixture.store().tree_head().await.expect("readable");
        assert_eq!(head, oracle.tree_head().await.expect("in memory"));
    }
}

/// Ten certificates of which each query finds some.
async fn ten_certificates(fixture: &dyn Fixture) -> Vec<CertificateRecord> {
    let mut all = Vec::new();
    for number in 1..=10 {
        let own = format!("host{number}.a.example.com");
        let mut names = vec![own.as_str(), "shared.example.com"];
        if number % 2 == 0 {
            names.push("*.b.example.com");
        }
        if number == 7 {
            names.push("notexample.com");
        }
        let mut record = sample::certificate(number, &names);
        record.key = SpkiDigest([u8::try_from(number % 3).expect("small"); 32]);
        record.account = Some(AccountId::from_random(sample::octets(number % 2)));
        record.origin = match number {
            3 => Some(origin("prod", Some("shop"), None)),
            4 => Some(origin("prod", Some("shop"), Some("web"))),
            5 => Some(origin("prod", Some("shop-eu"), Some("web"))),
            6 => Some(origin("prod", None, None)),
            7 => Some(origin("prod-eu", Some("shop"), Some("web"))),
            8 => Some(origin("prod", Some("shop"), Some("web-2"))),
            _ => None,
        };
        if number == 4 {
            record.used_by = vec!["Secret shop/web-tls".to_owned(), "Gateway shop/public".to_owned()];
        }
        if number == 5 {
            record.revocation = Some(Revocation { at: sample::now(), reason: Some(RevocationReason::Superseded) });
        }
        commit(fixture, Changes::new().with(Change::Certificate(Put::new(record.clone()))).leaf(sample::leaf(number)))
            .await;
        record.state = CertificateState::Intended { intent: LeafRef::At(number - 1) };
        all.push(record);
    }
    all
}

fn origin(cluster: &str, namespace: Option<&str>, certificate: Option<&str>) -> ClusterOrigin {
    let text = |text: Option<&str>| text.map(str::to_owned);
    ClusterOrigin { cluster: cluster.to_owned(), namespace: text(namespace), certificate: text(certificate) }
}

fn queries() -> Vec<CertificateQuery> {
    let asked_by = |cluster, namespace, certificate| {
        let ClusterOrigin { cluster, namespace, certificate } = origin(cluster, namespace, certificate);
        CertificateQuery::Origin { cluster, namespace, certificate }
    };
    let end = |days: u64, seconds| sample::now().after(Duration::from_secs(days * 86_400 + seconds));
    vec![
        CertificateQuery::All,
        CertificateQuery::Name("shared.example.com".parse().expect("a name")),
        CertificateQuery::Name("host3.a.example.com".parse().expect("a name")),
        CertificateQuery::Name("*.b.example.com".parse().expect("a name")),
        CertificateQuery::Name("b.example.com".parse().expect("a name")),
        CertificateQuery::Suffix("example.com".to_owned()),
        CertificateQuery::Suffix("b.example.com".to_owned()),
        CertificateQuery::Suffix("host3.a.example.com".to_owned()),
        CertificateQuery::Suffix("ample.com".to_owned()),
        CertificateQuery::Key(SpkiDigest([1; 32])),
        CertificateQuery::Key(SpkiDigest([9; 32])),
        CertificateQuery::Expiring(end(90, 3)..end(90, 7)),
        CertificateQuery::Expiring(end(0, 0)..end(1, 0)),
        CertificateQuery::Account(AccountId::from_random(sample::octets(1))),
        asked_by("prod", None, None),
        asked_by("prod", Some("shop"), None),
        asked_by("prod", Some("shop"), Some("web")),
        asked_by("prod", Some(""), None),
        asked_by("prod-eu", None, None),
        asked_by("pro", None, None),
    ]
}

pub async fn certificates_are_found_by_every_index(fixture: Any<'_>) {
    let all = ten_certificates(fixture).await;
    let store = fixture.store();
    for record in &all {
        let found = store.certificate(record.id).await.expect("readable").expect("stored").value;
        assert_eq!(&found, record);
    }
    // The numbers that each query must find, worked out by hand.
    let expected: [&[u64]; 20] = [
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        &[3],
        &[2, 4, 6, 8, 10],
        &[],
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        &[2, 4, 6, 8, 10],
        &[3],
        &[],
        &[1, 4, 7, 10],
        &[],
        &[3, 4, 5, 6],
        &[],
        &[1, 3, 5, 7, 9],
        &[3, 4, 5, 6, 8],
        &[3, 4, 8],
        &[4],
        &[6],
        &[7],
        &[],
    ];
    for (query, numbers) in queries().iter().zip(expected) {
        let found = store.certificates(query, None, 100).await.expect("readable");
        let ids: BTreeSet<_> = found.iter().map(|record| record.id).collect();
        let wanted: BTreeSet<_> =
            numbers.iter().map(|number| CertificateId::from_random(sample::octets(*number))).collect();
        assert_eq!((ids, found.len()), (wanted, numbers.len()), "{query:?}");
        match query {
            CertificateQuery::Expiring(_) => {
                assert!(found.is_sorted_by_key(|record| record.validity.not_after()), "the earliest first");
            }
            // In an order of the store's own.
            CertificateQuery::Account(_) => {}
            CertificateQuery::Origin { .. } => {
                let place = |record: &CertificateRecord| (record.origin.clone(), record.id);
                assert!(found.is_sorted_by_key(place), "{query:?}");
            }
            _ => assert!(found.is_sorted_by_key(|record| record.id), "{query:?} is in the order of ids"),
        }
    }
}

pub async fn certificates_come_in_pages_by_every_index(fixture: Any<'_>) {
    ten_certificates(fixture).await;
    let store = fixture.store();
    for query in queries() {
        let whole = store.certificates(&query, None, 100).await.expect("readable");
        let mut pages = Vec::new();
        loop {
            let after = pages.last().map(|record: &CertificateRecord| record.id);
            let page = store.certificates(&query, after, 3).await.expect("readable");
            assert!(page.len() <= 3);
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(pages, whole, "{query:?}");
    }
}

pub async fn a_light_record_is_found_by_id_key_and_account_alone(fixture: Any<'_>) {
    let store = fixture.store();
    let mut record = sample::certificate(1, &["a.example.com"]);
    record.retention = Retention::Light;
    record.account = Some(AccountId::from_random(sample::octets(1)));
    commit(fixture, Changes::new().with(Change::Certificate(Put::new(record.clone()))).leaf(sample::leaf(1))).await;
    let count = async |query| store.certificates(&query, None, 10).await.expect("readable").len();
    assert!(store.certificate(record.id).await.expect("readable").is_some());
    assert_eq!(count(CertificateQuery::Key(record.key)).await, 1);
    assert_eq!(count(CertificateQuery::Account(AccountId::from_random(sample::octets(1)))).await, 1);
    assert_eq!(count(CertificateQuery::Name("a.example.com".parse().expect("a name"))).await, 0);
    assert_eq!(count(CertificateQuery::Suffix("example.com".to_owned())).await, 0);
    // Its end is known all the same, or nobody would drop it.
    let end = record.validity.not_after();
    assert_eq!(count(CertificateQuery::Expiring(end..end.after(Duration::from_secs(1)))).await, 1);
}

pub async fn a_removed_certificate_is_found_no_more(fixture: Any<'_>) {
    let all = ten_certificates(fixture).await;
    let store = fixture.store();
    for record in &all {
        let version = store.certificate(record.id).await.expect("readable").expect("stored").version;
        commit(fixture, Changes::new().with(Change::RemoveCertificate(record.id, version))).await;
        assert_eq!(store.certificate(record.id).await.expect("readable"), None);
    }
    for query in queries() {
        assert_eq!(store.certificates(&query, None, 10).await.expect("readable"), [], "{query:?}");
    }
    assert_eq!(store.tree_head().await.expect("readable").size, 10, "its leaves stay");
}

pub async fn a_serial_is_issued_once(fixture: Any<'_>) {
    let store = fixture.store();
    let first = sample::certificate(1, &["a.example"]);
    // As another authority's certificate would be kept: under an identity that is not its serial number.
    let mut same = sample::certificate(2, &["b.example"]);
    let mut third = sample::certificate(3, &["b.example"]);
    same.serial = sample::certificate(9, &["a.example"]).serial;
    third.serial = same.serial;
    let put = |record| Changes::new().with(Change::Certificate(Put::new(record))).leaf(sample::leaf(1));
    commit(fixture, put(first.clone())).await;
    assert!(is_conflict(&store.commit(put(first)).await));
    commit(fixture, put(same)).await;
    assert!(is_conflict(&store.commit(put(third.clone())).await));
    third.authority = "other".parse().expect("a name");
    commit(fixture, put(third)).await;
}

pub async fn a_commit_that_fails_half_way_keeps_nothing(fixture: Any<'_>) {
    let store = fixture.store();
    let claim = Claim::OrderCertificate(OrderId::from_octets(sample::octets(9)));
    commit(fixture, Changes::new().with(Change::Claim(claim.clone())).leaf(sample::leaf(0))).await;
    let account = sample::account(1);
    let (order, _) = sample::order(1, account.id, "a.example");
    let counter = Counter::UnprovenAccounts;
    let changes = Changes::new()
        .with(Change::Account(Put::new(account.clone())))
        .with(Change::Order(Put::new(order.clone())))
        .with(Change::Count { counter: counter.clone(), by: 1, limit: None })
        .schedule(JobKind::Checkpoint, sample::now())
        .leaf(sample::leaf(1))
        .with(Change::Claim(claim));
    assert!(is_conflict(&store.commit(changes).await));
    assert_eq!(store.account(account.id).await.expect("readable"), None);
    assert!(!store.is_account_key(&account.key.digest()).await.expect("readable"));
    assert_eq!(store.order(order.id).await.expect("readable"), None);
    assert_eq!(store.next_due().await.expect("readable"), None);
    assert_eq!(store.tree_head().await.expect("readable").size, 1);
    let at_limit = Changes::new().with(Change::Count { counter, by: 1, limit: Some(1) });
    commit(fixture, at_limit).await;
}

pub async fn of_two_commits_on_the_same_version_one_wins(fixture: Any<'_>) {
    let store = fixture.store();
    let (order, _) = sample::order(1, AccountId::from_random(sample::octets(1)), "a.example");
    commit(fixture, Changes::new().with(Change::Order(Put::new(order.clone())))).await;
    let loaded = store.order(order.id).await.expect("readable").expect("stored");
    let mut racers = tokio::task::JoinSet::new();
    for number in 0..32 {
        let ready = Order { state: OrderState::Ready, ..order.clone() };
        let changes = Changes::new().with(Change::Order(Put::over(&loaded, ready))).leaf(sample::leaf(number));
        let store = Arc::clone(&store);
        racers.spawn(async move { store.commit(changes).await });
    }
    let outcomes = racers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| is_conflict(outcome)).count(), 31);
    assert_eq!(store.tree_head().await.expect("readable").size, 1, "the others left no leaf");
}

pub async fn what_was_committed_is_there_after_a_restart(fixture: Any<'_>) {
    let all = ten_certificates(fixture).await;
    let account = put_account(fixture, 1).await;
    let due = sample::now();
    commit(fixture, Changes::new().schedule(JobKind::Checkpoint, due)).await;
    let before = fixture.store();
    let version = before.account(account.id).await.expect("readable").expect("stored").version;
    let head = before.tree_head().await.expect("readable");
    drop(before);
    for _ in 0..2 {
        fixture.restart().await;
        let store = fixture.store();
        assert_eq!(store.tree_head().await.expect("readable"), head);
        let found = store.account(account.id).await.expect("readable").expect("stored");
        assert_eq!((&found.value, found.version), (&account, version));
        assert_eq!(store.next_due().await.expect("readable"), Some(due));
        assert_eq!(store.leaf(4).await.expect("readable"), sample::leaf(5).encode().ok());
        for record in &all {
            let found = store.certificate(record.id).await.expect("readable").expect("stored");
            assert_eq!(&found.value, record);
        }
        // And it goes on.
        let next = commit(fixture, Changes::new().with(Change::Finish(JobKind::RenewOwnTls))).await;
        assert!(next.version > version);
    }
}

async fn commit_with_fate(fixture: Any<'_>, fate: Fate) -> (Account, CertificateRecord) {
    put_account(fixture, 5).await;
    commit(fixture, Changes::new().leaf(sample::leaf(0))).await;
    let (account, record) = (sample::account(1), sample::certificate(1, &["a.example"]));
    let changes = Changes::new()
        .with(Change::Account(Put::new(account.clone())))
        .with(Change::Certificate(Put::new(record.clone())))
        .schedule(JobKind::Checkpoint, sample::now())
        .leaf(sample::leaf(1));
    fixture.fail_next(fate);
    let outcome = fixture.store().commit(changes).await;
    assert!(matches!(outcome, Err(CommitError::Unknown(_))), "{outcome:?}");
    fixture.restart().await;
    (account, record)
}

pub async fn a_lost_commit_is_reported_unknown_and_leaves_nothing(fixture: Any<'_>) {
    let (account, record) = commit_with_fate(fixture, Fate::Lost).await;
    let store = fixture.store();
    assert_eq!(store.account(account.id).await.expect("readable"), None);
    assert!(!store.is_account_key(&account.key.digest()).await.expect("readable"));
    assert_eq!(store.certificate(record.id).await.expect("readable"), None);
    assert_eq!(store.next_due().await.expect("readable"), None);
    assert_eq!(store.tree_head().await.expect("readable").size, 1);
    commit(fixture, Changes::new().with(Change::Account(Put::new(account)))).await;
}

pub async fn a_kept_commit_that_is_reported_unknown_is_there_whole(fixture: Any<'_>) {
    let (account, record) = commit_with_fate(fixture, Fate::Kept).await;
    let store = fixture.store();
    assert_eq!(store.account(account.id).await.expect("readable").map(|found| found.value), Some(account));
    let found = store.certificate(record.id).await.expect("readable").expect("stored");
    assert_eq!(found.value.state, CertificateState::Intended { intent: LeafRef::At(1) });
    assert_eq!(store.next_due().await.expect("readable"), Some(sample::now()));
    assert_eq!(store.tree_head().await.expect("readable").size, 2);
    let again = Changes::new().with(Change::Certificate(Put::new(record))).leaf(sample::leaf(2));
    assert!(is_conflict(&store.commit(again).await), "a blind repetition is refused");
}

pub async fn the_newest_checkpoint_is_kept(fixture: Any<'_>) {
    let store = fixture.store();
    assert_eq!(store.checkpoint().await.expect("readable"), None);
    for number in 0..3 {
        commit(fixture, Changes::new().leaf(sample::leaf(number))).await;
    }
    store.keep_checkpoint(1, "log\n1\nroot\n\nsignature\n".to_owned()).await.expect("kept");
    store.keep_checkpoint(3, "log\n3\nroot\n\nsignature\n".to_owned()).await.expect("kept");
    store.keep_checkpoint(2, "log\n2\nroot\n\nsignature\n".to_owned()).await.expect("too late, and no fault");
    drop(store);
    fixture.restart().await;
    let kept = fixture.store().checkpoint().await.expect("readable");
    assert_eq!(kept.as_deref(), Some("log\n3\nroot\n\nsignature\n"));
}

pub async fn a_blob_is_kept_under_its_hash(fixture: Any<'_>) {
    let content = b"rules: []".to_vec();
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content).as_ref());
    fixture.store().keep_blob(hash, content.clone()).await.expect("kept");
    fixture.store().keep_blob(hash, content).await.expect("kept already");
}
