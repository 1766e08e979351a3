//! Records that stand alone: claims, counters, jobs, answers, tokens, CRL numbers, checkpoints and blobs.

use std::time::Duration;

use chancery_acme::id::{AccountId, CertificateId, OrderId};
use chancery_authority::{
    changes::{Change, Changes, Claim, Committed, Counter, Put},
    ports::CommitError,
    records::{
        ApiToken, AuthorityId, IdempotencyKey, IdempotencyOutcome, IdempotencyRecord, Job, JobKind, Version, Versioned,
    },
};
use chancery_pki::{SpkiDigest, Timestamp};

use super::{Any, commit, is_conflict};
use crate::sample;

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
