//! Certificates, by every index.

use std::{collections::BTreeSet, time::Duration};

use chancery_acme::id::{AccountId, CertificateId};
use chancery_authority::{
    changes::{Change, Changes, Put},
    ports::CertificateQuery,
    records::{CertificateRecord, CertificateState, ClusterOrigin, LeafRef, Retention, Revocation, RevocationReason},
};
use chancery_pki::SpkiDigest;

use super::{Any, Fixture, commit, is_conflict};
use crate::sample;

/// Ten certificates of which each query finds some.
pub(super) async fn ten_certificates(fixture: &dyn Fixture) -> Vec<CertificateRecord> {
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
