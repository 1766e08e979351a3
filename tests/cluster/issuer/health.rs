//! How an issuer is, and what that does to requests.

use std::time::{Duration, Instant};

use chancery_cluster_tests::{Result, SigningServer, kept_key, signing_server::Behaviour, until};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{SECRETS, Test, message, ready};

/// T8, the server's trouble.
#[tokio::test]
async fn a_server_that_is_busy_or_talks_nonsense_fails_no_request() -> Result<()> {
    let Some(test) = Test::ready("busy").await? else { return Ok(()) };
    for (name, behaviour) in [
        ("busy", Behaviour::Status(503)),
        ("broken", Behaviour::Status(500)),
        ("garbage", Behaviour::Garbage),
        ("later", Behaviour::Pending),
    ] {
        test.server.behave(behaviour);
        let uid = test.ask(name).await?;
        test.approve(name).await?;
        test.until_ready(name, "False", "Pending").await?;
        test.server.behave(Behaviour::Sign);
        let issued = test.until_ready(name, "True", "Issued").await?;
        assert!(issued.data["status"].get("failureTime").is_none(), "{name}");
        assert_eq!(test.server.issued().keys().filter(|issued| **issued == uid).count(), 1, "{name}");
    }
    Ok(())
}

/// T8, the issuer's trouble; T18.
#[tokio::test]
async fn a_token_that_is_refused_makes_the_issuer_not_ready_and_a_new_one_mends_it_at_once() -> Result<()> {
    let Some(test) = Test::ready("token").await? else { return Ok(()) };
    test.server.only_token("new");
    let uid = test.ask("web").await?;
    test.approve("web").await?;
    test.until_ready("web", "False", "Pending").await?;
    let issuers = test.issuers().await?;
    let refused = until(&issuers, &test.namespace, until::condition("Ready", "False")).await?;
    assert!(message(&refused).contains("does not accept the credential"), "{}", message(&refused));
    let began = Instant::now();
    test.issuing.token(SECRETS, &test.namespace, "new\n").await?;
    test.until_ready("web", "True", "Issued").await?;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(test.server.issued().keys().collect::<Vec<_>>(), [&uid]);
    Ok(())
}

/// T19.
#[tokio::test]
async fn a_token_that_is_revoked_is_noticed_by_the_timer_and_told_once() -> Result<()> {
    let Some(test) = Test::ready("revoked").await? else { return Ok(()) };
    test.server.only_token("another");
    let issuers = test.issuers().await?;
    let refused = until(&issuers, &test.namespace, until::condition("Ready", "False")).await?;
    let version = refused.metadata.resource_version.clone();
    // It is looked at again and again, and written to no more.
    test.barrier().await?;
    assert_eq!(issuers.get(&test.namespace).await?.metadata.resource_version, version);
    test.server.only_token("token");
    until(&issuers, &test.namespace, until::condition("Ready", "True")).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_trusted_until_the_bundle_is_right() -> Result<()> {
    let Some(test) = Test::without_issuer("bundle").await? else { return Ok(()) };
    test.issuing.token(SECRETS, &test.namespace, "token").await?;
    let map = |pem: String| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": test.namespace }, "data": { "ca.crt": pem },
        })
    };
    let plane = test.issuing.plane;
    plane.apply_documents(SECRETS, vec![map(SigningServer::start("x")?.root())]).await?;
    let mut issuer =
        chancery_cluster_tests::controller::issuer("ChanceryClusterIssuer", &test.namespace, &test.server.url(), "");
    issuer["spec"]["caBundle"] = json!({ "configMapRef": { "name": test.namespace } });
    plane.apply_documents(SECRETS, vec![issuer]).await?;
    let issuers = test.issuers().await?;
    let refused = until(&issuers, &test.namespace, until::condition("Ready", "False")).await?;
    assert!(message(&refused).contains("TLS"), "{}", message(&refused));
    assert_eq!(test.server.checks(), 0);
    plane.apply_documents(SECRETS, vec![map("garbage".to_owned())]).await?;
    let no_bundle =
        |object: Option<&DynamicObject>| object.is_some_and(|object| message(object).contains("no certificate in PEM"));
    until(&issuers, &test.namespace, no_bundle).await?;
    plane.apply_documents(SECRETS, vec![map(test.server.root())]).await?;
    until(&issuers, &test.namespace, until::condition("Ready", "True")).await?;
    Ok(())
}

/// A Certificate named `web` for this test's issuer, which revokes what is not needed any more.
async fn a_certificate_to_be_revoked(test: &Test) -> Result<Api<DynamicObject>> {
    test.issuing.approved_by_cert_manager(&test.namespace).await?;
    let issuers = test.issuers().await?;
    let revoke = json!({ "spec": { "onSuperseded": "Revoke", "onDelete": "Revoke" } });
    issuers.patch(&test.namespace, &PatchParams::default(), &Patch::Merge(&revoke)).await?;
    until(&issuers, &test.namespace, until::condition("Ready", "True")).await?;
    name_it(test, &["a.example.test"]).await?;
    let certificates = test.issuing.plane.objects("cert-manager.io/v1", "Certificate", &test.namespace).await?;
    until(&certificates, "web", until::revision(1)).await?;
    Ok(certificates)
}

async fn name_it(test: &Test, names: &[&str]) -> Result<()> {
    let certificate = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": { "name": "web" },
        "spec": {
            "secretName": "web-tls", "dnsNames": names, "issuerRef": test.issuer_ref(), "revisionHistoryLimit": 1,
            "privateKey": kept_key(),
        },
    });
    test.issuing.plane.apply_documents(&test.namespace, vec![certificate]).await?;
    Ok(())
}

/// Name and UID of the one request that has been issued.
async fn issued(test: &Test) -> Result<(String, String)> {
    let requests = test.requests.list(&ListParams::default()).await?;
    let issued = requests.items.iter().find(|one| ready(one).is_some_and(|ready| ready["status"] == "True"));
    let issued = issued.ok_or("no request has been issued")?;
    Ok((issued.name_any(), issued.uid().ok_or("no UID")?))
}

/// Deletes a Certificate and its request. The garbage collector would do the same, in its own time.
async fn delete(test: &Test, certificates: &Api<DynamicObject>, request: &str) -> Result<()> {
    let uid = certificates.get("web").await?.uid().ok_or("no UID")?;
    certificates.delete("web", &DeleteParams::default()).await?;
    until::gone(certificates, "web", &uid).await?;
    match test.requests.delete(request, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn a_certificate_that_is_superseded_or_deleted_is_revoked_only_where_the_issuer_wants_it() -> Result<()> {
    let Some(test) = Test::ready("disposal").await? else { return Ok(()) };
    // What is deleted while no controller runs is seen by none.
    let _lives = test.issuing.controller.read().await;
    let certificates = a_certificate_to_be_revoked(&test).await?;
    let (_, first) = issued(&test).await?;
    name_it(&test, &["a.example.test", "b.example.test"]).await?;
    test.server.until("the first revocation", |server| !server.revoked().is_empty()).await?;
    assert_eq!(test.server.revoked(), [(first.clone(), Some(4))]);
    until(&certificates, "web", until::revision(2)).await?;
    let (request, second) = issued(&test).await?;
    assert_ne!(first, second);
    delete(&test, &certificates, &request).await?;
    test.server.until("the second revocation", |server| server.revoked().len() > 1).await?;
    assert_eq!(test.server.revoked(), [(first, Some(4)), (second, Some(5))]);
    Ok(())
}

#[tokio::test]
async fn what_is_deleted_while_its_issuer_is_not_ready_is_revoked_when_it_is() -> Result<()> {
    let Some(test) = Test::ready("later").await? else { return Ok(()) };
    let _lives = test.issuing.controller.read().await;
    let certificates = a_certificate_to_be_revoked(&test).await?;
    let (request, uid) = issued(&test).await?;
    test.server.only_token("another");
    let issuers = test.issuers().await?;
    until(&issuers, &test.namespace, until::condition("Ready", "False")).await?;
    delete(&test, &certificates, &request).await?;
    test.server.until("a revocation in vain", |server| server.turned_away() > 0).await?;
    assert_eq!(test.server.revoked(), []);
    test.server.only_token("token");
    test.server.until("the revocation", |server| !server.revoked().is_empty()).await?;
    assert_eq!(test.server.revoked(), [(uid, Some(5))]);
    Ok(())
}

#[tokio::test]
async fn a_status_that_somebody_else_wrote_is_mended_and_others_conditions_stay() -> Result<()> {
    let Some(test) = Test::ready("mended").await? else { return Ok(()) };
    let issuers = test.issuers().await?;
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "Elsewhere", "message": "a word of somebody else's",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        })
    };
    let wrong = json!({ "status": { "conditions": [condition("Ready", "False"), condition("Audited", "True")] } });
    issuers.patch_status(&test.namespace, &PatchParams::default(), &Patch::Merge(&wrong)).await?;
    let mended = until(&issuers, &test.namespace, until::condition("Ready", "True")).await?;
    assert!(until::conditions_of(&mended).any(|one| one["type"] == "Audited"), "{mended:?}");
    Ok(())
}
