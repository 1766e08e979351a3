//! The use cases over the store in memory: what is promised about issuance, whatever fails between.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a helper that fails fails its test")]

mod clock;
mod content;
mod eab;
mod idempotency;
mod in_force;
mod issuance;
mod key_change;
mod orders;
mod pruning;
mod renewal;
mod requests;
mod signing;
mod tokens;
mod validation;

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use chancery_acme::order::Order;
use chancery_authority::{
    Authority, Cluster, Settings,
    ports::{CertificateQuery, Clock as _, Signer as _, Store as _},
    records::CertificateRecord,
};
use chancery_ledger::{Leaf, Walker};
use chancery_pki::{
    SerialNumber,
    ceremony::development_root,
    chain::{Chain, install},
    distinguished_name::{Attribute, AttributeKind, DistinguishedName},
};
use chancery_policy::{Format, Policy};
use chancery_testkit::office::TestOffice;

const DAY: Duration = Duration::from_secs(86_400);

async fn certificates(ca: &TestOffice) -> Vec<CertificateRecord> {
    ca.office.certificates(&CertificateQuery::All, None, 1000).await.unwrap()
}

async fn order_now(ca: &TestOffice, order: &Order) -> Order {
    ca.office.order(order.account, order.id).await.unwrap().unwrap()
}

async fn leaves(ca: &TestOffice) -> Vec<Leaf> {
    let size = ca.store.tree_head().await.unwrap().size;
    let all = ca.store.leaves(0..size, 10_000).await.unwrap();
    all.iter().map(|leaf| Leaf::decode(leaf).unwrap()).collect()
}

async fn ledger_is_clean(ca: &TestOffice) {
    let size = ca.store.tree_head().await.unwrap().size;
    let mut walker = Walker::default();
    for (index, leaf) in (0u64..).zip(ca.store.leaves(0..size, 10_000).await.unwrap()) {
        walker.feed(index, &leaf);
    }
    let report = walker.finish();
    assert!(report.is_clean(), "{:?}", report.findings);
}

/// The office's issuing key under one certificate more.
fn another_chain(ca: &TestOffice, subject: &str, serial: u8) -> Arc<Chain> {
    chain_for(ca, subject, serial, DAY * 3650)
}

/// One that lasts so long.
fn chain_for(ca: &TestOffice, subject: &str, serial: u8, life: Duration) -> Arc<Chain> {
    let settings = ca.office.settings();
    let key = &settings.authorities.first().unwrap().key;
    let public = ca.signer.public_key(key).unwrap();
    let name = DistinguishedName::new(vec![Attribute::new(AttributeKind::CommonName, subject).unwrap()]);
    let serial = SerialNumber::from_random([serial; 16]);
    let document = development_root(&name, &public, serial, ca.clock.now(), life);
    let certificate = document.assemble(&ca.signer.sign_directly(&key.0, document.body()));
    Arc::new(install(&[certificate], &public, ca.clock.now()).unwrap())
}

/// The settings in force with other chains and another policy.
fn with(ca: &TestOffice, chains: Vec<Arc<Chain>>, policy: &str) -> Settings {
    let old = ca.office.settings();
    let Authority { id, key, algorithm, chains: _ } = &**old.authorities.first().unwrap();
    Settings {
        authorities: vec![Arc::new(Authority { id: id.clone(), key: key.clone(), algorithm: *algorithm, chains })],
        directories: old.directories.clone(),
        clusters: old.clusters.clone(),
        profiles: old.profiles.clone(),
        policy: Arc::new(Policy::parse(policy, Format::Yaml, "policy.yaml").unwrap()),
        block_list: Arc::clone(&old.block_list),
        own_tls: old.own_tls.clone(),
        ledger: old.ledger.clone(),
        limits: old.limits.clone(),
    }
}

/// Puts a cluster in the place of the one that there is.
async fn with_cluster(ca: &TestOffice, cluster: Cluster) {
    let mut settings = with(ca, ca.office.settings().authorities[0].chains.clone(), chancery_testkit::office::POLICY);
    settings.clusters = [(cluster.name.clone(), Arc::new(cluster))].into();
    ca.office.replace_settings(settings, "a test").await.unwrap();
}

/// Asks for the first step alone: whoever asked goes away.
async fn first_step<T>(work: impl Future<Output = T>) {
    let mut work = Box::pin(work);
    assert!(poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_pending())).await);
}
