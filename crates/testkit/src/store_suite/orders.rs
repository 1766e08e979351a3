//! Orders, their authorizations and their certificates.

use std::{collections::BTreeSet, time::Duration};

use chancery_acme::{
    authorization::{Authorization, AuthorizationState},
    id::{AccountId, CertificateId, OrderId},
    order::{Order, OrderState},
    problem::{Problem, ProblemType, Subproblem},
};
use chancery_authority::{
    changes::{Change, Changes, Claim, Committed, Put},
    ports::CertificateQuery,
    records::{CertificateRecord, Job, JobKind, Versioned},
};

use super::{Any, commit, is_conflict};
use crate::sample;

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
