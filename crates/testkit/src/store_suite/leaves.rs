//! The ledger: its leaves, and the records that name them.

use chancery_authority::{
    changes::{Change, Changes, Committed, Put},
    ports::{CommitError, NotApplied, Store},
    records::{CertificateRecord, CertificateState, JobKind, LeafRef},
};

use super::{Any, commit};
use crate::sample;

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
