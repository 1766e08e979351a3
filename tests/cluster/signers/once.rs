//! One certificate for each UID, whatever dies or is slow in between.

use chancery_cluster_tests::{Result, controller::touched, signing_server::Behaviour, until};
use kube::api::DeleteParams;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::json;

use super::{
    Test, chain, leaf, pem, pem_by,
    pods::{PodTest, stub},
    public_key,
};

#[tokio::test]
async fn a_controller_that_dies_between_signing_and_writing_leads_to_no_second_certificate() -> Result<()> {
    let Some(test) = Test::ready("kcsr-dies", &json!({})).await? else { return Ok(()) };
    test.server.behave(Behaviour::Hold);
    let uid = test.ask("web", &pem(&["a.example.test"])?, &json!({})).await?;
    test.approve("web").await?;
    test.server.until_asked(&uid, 1).await?;
    test.controller_dies_before_the_answer("kcsr-after-a-death").await?;
    let issued = test.until_issued("web").await?;
    assert!(test.server.asked_for(&uid) >= 2);
    let signed = test.server.issued();
    assert_eq!(signed.len(), 1, "one issuance");
    assert_eq!(leaf(&issued)?, leaf(&signed.get(&uid).ok_or("another UID")?.chain)?);
    Ok(())
}

#[tokio::test]
async fn what_was_signed_before_an_issuer_was_edited_is_handed_out() -> Result<()> {
    let Some(test) = Test::ready("kcsr-edited", &json!({})).await? else { return Ok(()) };
    test.server.behave(Behaviour::Hold);
    let uid = test.ask("web", &pem(&["a.example.test"])?, &json!({})).await?;
    test.approve("web").await?;
    test.server.until("the signature", |server| server.issued().contains_key(&uid)).await?;
    // Another life would be asked for now.
    let _lives =
        test.issuer_changes_before_the_answer(&json!({ "defaultDuration": "48h" }), "kcsr-after-an-edit").await?;
    let issued = test.until_issued("web").await?;
    let signed = test.server.issued();
    assert_eq!(signed.len(), 1, "one issuance");
    assert_eq!(leaf(&issued)?, leaf(&signed.get(&uid).ok_or("another UID")?.chain)?);
    Ok(())
}

#[tokio::test]
async fn what_was_signed_for_a_pod_under_another_trust_domain_is_not_handed_out_but_revoked() -> Result<()> {
    let issuer = |domain: &str| json!({ "onDelete": "Revoke", "podCertificates": { "trustDomain": domain } });
    let Some(pods) = PodTest::with("pcr-edited", &issuer("cluster.local")).await? else { return Ok(()) };
    let server = &pods.test.server;
    server.behave(Behaviour::Hold);
    let uid = pods.ask("web", stub(&KeyPair::generate()?)?, &json!({})).await?;
    server.until("the signature", |server| server.issued().contains_key(&uid)).await?;
    // What waits to be revoked goes with a controller that dies.
    let _lives = pods.test.issuer_changes_before_the_answer(&issuer("corp.example"), "pcr-after-an-edit").await?;
    let (kind, _, message) = pods.until_refused("web").await?;
    assert!(kind == "Failed" && message.contains("differs from what was asked"), "{kind}: {message}");
    server.until("the revocation", |server| !server.revoked().is_empty()).await?;
    assert_eq!(server.revoked(), [(uid, Some(5))]);
    Ok(())
}

#[tokio::test]
async fn what_was_signed_for_a_deleted_request_never_lands_on_its_successor() -> Result<()> {
    let Some(test) = Test::ready("kcsr-successor", &json!({})).await? else { return Ok(()) };
    // A controller that dies meanwhile asks again.
    let _lives = test.issuing.controller.read().await;
    let requests = test.requests().await?;
    test.server.behave(Behaviour::Hold);
    let first = test.ask("web", &pem(&["a.example.test"])?, &json!({})).await?;
    test.approve("web").await?;
    test.server.until_asked(&first, 1).await?;
    requests.delete(&test.named("web"), &DeleteParams::default()).await?;
    until::gone(&requests, &test.named("web"), &first).await?;
    let key = KeyPair::generate()?;
    let second = test.ask("web", &pem_by(&key, &["a.example.test"])?, &json!({})).await?;
    // The worst case: it is approved already when the old result comes.
    test.approve("web").await?;
    test.server.behave(Behaviour::Sign);
    test.server.release();
    let issued = test.until_issued("web").await?;
    assert_eq!(public_key(&issued)?, key.subject_public_key_info());
    assert_eq!((test.server.issued().len(), test.server.asked_for(&second)), (2, 1));
    Ok(())
}

#[tokio::test]
async fn an_unapproved_successor_is_not_touched_by_the_result_of_what_was_deleted() -> Result<()> {
    let Some(test) = Test::ready("kcsr-heir", &json!({})).await? else { return Ok(()) };
    let requests = test.requests().await?;
    test.server.behave(Behaviour::Hold);
    let first = test.ask("web", &pem(&["a.example.test"])?, &json!({})).await?;
    test.approve("web").await?;
    test.server.until_asked(&first, 1).await?;
    requests.delete(&test.named("web"), &DeleteParams::default()).await?;
    until::gone(&requests, &test.named("web"), &first).await?;
    let second = test.ask("web", &pem(&["a.example.test"])?, &json!({})).await?;
    test.server.behave(Behaviour::Sign);
    test.server.release();
    test.barrier("heir").await?;
    let seen = requests.get(&test.named("web")).await?;
    assert!(!touched(&seen) && chain(&seen).is_none(), "{seen:?}");
    assert_eq!(test.server.asked_for(&second), 0);
    Ok(())
}
