//! Roots that are published: they follow the server, and overwrite nothing of anybody else's.

use std::collections::BTreeSet;

use chancery_cluster_tests::{Result, until};
use k8s_openapi::api::{
    certificates::v1::ClusterTrustBundle,
    core::v1::{ConfigMap, Namespace},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

use super::Test;

/// What is published by default.
const MAP: &str = "chancery-roots";

fn root(name: &str) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?.pem())
}

/// The certificates of a PEM text, in DER.
fn certificates(pem: &str) -> BTreeSet<Vec<u8>> {
    x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).filter_map(|pem| Some(pem.ok()?.contents)).collect()
}

async fn bundles(test: &Test) -> Result<Api<ClusterTrustBundle>> {
    Ok(Api::all(test.client().await?))
}

async fn maps(test: &Test, namespace: &str) -> Result<Api<ConfigMap>> {
    Ok(Api::namespaced(test.client().await?, namespace))
}

fn bundle_name(test: &Test) -> String {
    format!("chanceryclusterissuers.chancery.dev:{}:roots", test.namespace)
}

/// A bundle that holds these and no others.
fn bundle_of(pem: &str) -> impl kube::runtime::wait::Condition<ClusterTrustBundle> {
    let wanted = certificates(pem);
    move |bundle: Option<&ClusterTrustBundle>| {
        bundle.is_some_and(|bundle| certificates(&bundle.spec.trust_bundle) == wanted)
    }
}

/// A map that holds these and nothing else.
fn map_of(pem: &str) -> impl kube::runtime::wait::Condition<ConfigMap> {
    let wanted = certificates(pem);
    move |map: Option<&ConfigMap>| {
        let data = map.and_then(|map| map.data.as_ref());
        data.is_some_and(|data| data.len() == 1 && data.get("ca.crt").is_some_and(|pem| certificates(pem) == wanted))
    }
}

/// Changes the issuer, so that it is looked at at once.
async fn change_issuer(test: &Test, spec: &Value) -> Result<()> {
    let issuers = test.issuers().await?;
    issuers.patch(&test.namespace, &PatchParams::default(), &Patch::Merge(&json!({ "spec": spec }))).await?;
    Ok(())
}

async fn label(test: &Test, namespace: &str, issuer: Option<&str>) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(test.client().await?);
    let patch = json!({ "metadata": { "labels": { "chancery.dev/roots": issuer } } });
    namespaces.patch(namespace, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

async fn gone<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    // It may be gone already.
    match api.get_opt(name).await? {
        Some(there) => until::gone(api, name, &there.uid().unwrap_or_default()).await,
        None => Ok(()),
    }
}

#[tokio::test]
async fn a_bundle_and_the_maps_follow_two_changes_of_the_roots_and_go_when_nothing_is_published() -> Result<()> {
    let Some(test) = Test::ready("roots", &json!({ "publishRoots": true })).await? else { return Ok(()) };
    let (first, second) = (test.server.root(), root("Second")?);
    label(&test, &test.namespace, Some(&test.namespace)).await?;
    let (bundles, maps) = (bundles(&test).await?, maps(&test, &test.namespace).await?);
    let name = bundle_name(&test);
    let bundle = until(&bundles, &name, bundle_of(&first)).await?;
    assert_eq!(bundle.spec.signer_name, Some(test.signer_name()));
    until(&maps, MAP, map_of(&first)).await?;
    // Both generations while they are changed, then the new one alone; found by the timer, once.
    let both = format!("{first}{second}");
    test.server.tell_roots(&both);
    until(&bundles, &name, bundle_of(&both)).await?;
    until(&maps, MAP, map_of(&both)).await?;
    test.server.tell_roots(&second);
    change_issuer(&test, &json!({ "checkInterval": "11s" })).await?;
    let new = until(&bundles, &name, bundle_of(&second)).await?;
    assert_eq!(new.uid(), bundle.uid(), "changed, not made anew");
    until(&maps, MAP, map_of(&second)).await?;
    // A server that is not there, or tells garbage, changes nothing.
    test.server.tell_roots("garbage");
    test.server.only_token("another");
    change_issuer(&test, &json!({ "checkInterval": "12s" })).await?;
    until(&test.issuers().await?, &test.namespace, until::condition("Ready", "False")).await?;
    until(&bundles, &name, bundle_of(&second)).await?;
    test.server.only_token("token");
    change_issuer(&test, &json!({ "checkInterval": "13s" })).await?;
    until(&test.issuers().await?, &test.namespace, until::condition("Ready", "True")).await?;
    until(&bundles, &name, bundle_of(&second)).await?;
    change_issuer(&test, &json!({ "publishRoots": false })).await?;
    gone(&bundles, &name).await?;
    gone(&maps, MAP).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_published_goes_with_its_issuer() -> Result<()> {
    let Some(test) = Test::ready("roots-gone", &json!({ "publishRoots": true })).await? else { return Ok(()) };
    let (bundles, name) = (bundles(&test).await?, bundle_name(&test));
    until(&bundles, &name, bundle_of(&test.server.root())).await?;
    test.issuers().await?.delete(&test.namespace, &DeleteParams::default()).await?;
    gone(&bundles, &name).await
}

#[tokio::test]
async fn a_namespace_asks_by_its_label_and_what_is_changed_there_is_mended() -> Result<()> {
    let Some(test) = Test::ready("roots-asked", &json!({ "publishRoots": true })).await? else { return Ok(()) };
    let asks = test.issuing.plane.namespace("asks").await?;
    let maps = maps(&test, &asks).await?;
    label(&test, &asks, Some(&test.namespace)).await?;
    let root = test.server.root();
    let made = until(&maps, MAP, map_of(&root)).await?;
    let tampered = json!({ "data": { "ca.crt": "mine", "more": "x" } });
    maps.patch(MAP, &PatchParams::default(), &Patch::Merge(&tampered)).await?;
    let mended = until(&maps, MAP, map_of(&root)).await?;
    assert_eq!(mended.uid(), made.uid());
    maps.delete(MAP, &DeleteParams::default()).await?;
    let again = until(&maps, MAP, map_of(&root)).await?;
    assert_ne!(again.uid(), made.uid());
    label(&test, &asks, None).await?;
    gone(&maps, MAP).await?;
    // The other namespaces of this plane got none.
    assert!(self::maps(&test, &test.namespace).await?.get_opt(MAP).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_map_of_somebody_elses_is_left_alone_and_people_are_told() -> Result<()> {
    let Some(test) = Test::ready("roots-foreign", &json!({ "publishRoots": true })).await? else { return Ok(()) };
    let maps = maps(&test, &test.namespace).await?;
    let theirs = json!({ "metadata": { "name": MAP }, "data": { "ca.crt": "theirs" } });
    let theirs = maps.create(&PostParams::default(), &serde_json::from_value(theirs)?).await?;
    label(&test, &test.namespace, Some(&test.namespace)).await?;
    let uid = theirs.uid().ok_or("no UID")?;
    test.until_told(&uid, "RootsNotPublished").await?;
    label(&test, &test.namespace, None).await?;
    // Somebody else's turn comes after this one's.
    let beside = test.issuing.plane.namespace("beside").await?;
    label(&test, &beside, Some(&test.namespace)).await?;
    until(&self::maps(&test, &beside).await?, MAP, map_of(&test.server.root())).await?;
    assert_eq!(maps.get(MAP).await?.resource_version(), theirs.resource_version());
    Ok(())
}

#[tokio::test]
async fn a_controller_that_starts_removes_what_nobody_asks_for_any_more() -> Result<()> {
    let Some(test) = Test::ready("roots-left", &json!({ "publishRoots": true })).await? else { return Ok(()) };
    let (bundles, maps) = (bundles(&test).await?, maps(&test, &test.namespace).await?);
    label(&test, &test.namespace, Some(&test.namespace)).await?;
    until(&maps, MAP, map_of(&test.server.root())).await?;
    until(&bundles, &bundle_name(&test), bundle_of(&test.server.root())).await?;
    {
        let mut controller = test.issuing.controller.write().await;
        controller.kill();
        label(&test, &test.namespace, None).await?;
        test.issuers().await?.delete(&test.namespace, &DeleteParams::default()).await?;
        *controller = test.issuing.another_controller("roots-after-a-death").await?;
    }
    gone(&maps, MAP).await?;
    gone(&bundles, &bundle_name(&test)).await?;
    Ok(())
}
