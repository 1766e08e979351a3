//! One root, three doors: what cert-manager and certbot got from the company's server is served by real gateways, and a
//! client that trusts the company's root and nothing else connects to each.

mod istio;
mod nginx;

use chancery_cluster_tests::{
    Company, Door, Result, Visitor, company,
    visitor::{Visits, Way, first_of},
};
use k8s_openapi::api::core::v1::Secret;

/// How often each visitor is answered before and after a renewal.
const ANSWERS: usize = 20;

/// The client.
fn visitor(company: &Company) -> Result<Visitor> {
    Visitor::trusting_only(&company.server.root_pem()?)
}

/// The certificate in a Secret, as DER.
fn certificate_in(secret: &Secret) -> Result<Vec<u8>> {
    first_of(company::chain(secret)?)
}

/// Visits that have begun in all of these ways.
async fn begun(visitor: &Visitor, door: &Door, ways: &[Way]) -> Result<Visits> {
    let mut visits = visitor.visit(door, ways);
    visits.more(ANSWERS).await?;
    Ok(visits)
}

/// That the visits went on while one certificate took the other's place, and no connection was dropped.
async fn went_on(mut visits: Visits, ways: &[Way], old: &[u8], new: &[u8]) -> Result<()> {
    visits.more(ANSWERS).await?;
    let seen = visits.end().await?;
    assert!(seen.answers >= 2 * ANSWERS * ways.len(), "{} answers", seen.answers);
    assert!(seen.certificates.contains(old), "nobody was served the old certificate");
    assert!(seen.certificates.contains(new), "nobody was served the new certificate");
    assert_eq!(seen.certificates.len(), 2, "something else was served");
    Ok(())
}
