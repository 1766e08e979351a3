//! What becomes of certificates whose requests are deleted or came to nothing: Kubernetes deletes such requests as a matter
//! of routine, and what was handed out stays valid.

use chancery_cluster_tests::{Result, controller::touched, signing_server::Behaviour, until};
use kube::api::DeleteParams;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{
    Test, pem,
    pods::{PodTest, said, stub},
};

/// Everything is to be revoked, and pods are signed for.
fn revoking() -> Value {
    json!({
        "onDelete": "Revoke", "onSuperseded": "Revoke", "podCertificates": { "trustDomain": "cluster.local" },
    })
}

#[tokio::test]
async fn a_signing_request_that_goes_after_its_certificate_costs_nothing_and_one_that_goes_before_does() -> Result<()> {
    let Some(test) = Test::ready("kcsr-unused", &revoking()).await? else { return Ok(()) };
    // What is deleted while no controller runs is seen by none.
    let _lives = test.issuing.controller.read().await;
    let requests = test.requests().await?;
    let delete = async |name: &str, uid: &str| -> Result<()> {
        requests.delete(&test.named(name), &DeleteParams::default()).await?;
        until::gone(&requests, &test.named(name), uid).await
    };
    let csr = pem(&["a.example.test"])?;
    let used = test.ask("used", &csr, &json!({})).await?;
    test.approve("used").await?;
    test.until_issued("used").await?;
    delete("used", &used).await?;
    test.server.behave(Behaviour::Hold);
    let unused = test.ask("unused", &csr, &json!({})).await?;
    test.approve("unused").await?;
    test.server.until_asked(&unused, 1).await?;
    delete("unused", &unused).await?;
    test.server.release();
    test.server.until("the revocation", |server| !server.revoked().is_empty()).await?;
    assert_eq!(test.server.revoked(), [(unused, Some(5))]);
    Ok(())
}

#[tokio::test]
async fn a_pods_request_that_goes_after_its_certificate_costs_nothing_and_one_that_goes_before_does() -> Result<()> {
    let Some(pods) = PodTest::with("pcr-unused", &revoking()).await? else { return Ok(()) };
    let _lives = pods.test.issuing.controller.read().await;
    let requests = pods.requests().await?;
    let used = pods.ask("used", stub(&KeyPair::generate()?)?, &json!({})).await?;
    assert_eq!(said(&pods.until_ended("used").await?), [("Issued", "Issued")]);
    requests.delete("used", &DeleteParams::default()).await?;
    until::gone(&requests, "used", &used).await?;
    pods.test.server.behave(Behaviour::Hold);
    let unused = pods.ask("unused", stub(&KeyPair::generate()?)?, &json!({})).await?;
    pods.test.server.until_asked(&unused, 1).await?;
    requests.delete("unused", &DeleteParams::default()).await?;
    until::gone(&requests, "unused", &unused).await?;
    pods.test.server.release();
    pods.test.server.until("the revocation", |server| !server.revoked().is_empty()).await?;
    assert_eq!(pods.test.server.revoked(), [(unused, Some(5))]);
    Ok(())
}

/// To the kubelet `Failed` is final, also where a running pod only renews what it has.
#[tokio::test]
async fn a_pods_certificate_that_comes_too_late_fails_no_pod_and_is_revoked_when_its_request_goes() -> Result<()> {
    let Some(pods) = PodTest::with("pcr-late", &revoking()).await? else { return Ok(()) };
    let _lives = pods.test.issuing.controller.read().await;
    let requests = pods.requests().await?;
    // It begins five and a half minutes ago, as one whose write the API server could not take for so long.
    pods.test.server.behave(Behaviour::Shifted(-270));
    let late = pods.ask("late", stub(&KeyPair::generate()?)?, &json!({})).await?;
    pods.test.until_told(&late, "CertificateNotTaken").await?;
    let waits = requests.get("late").await?;
    assert!(!touched(&waits) && waits.status.is_none_or(|status| status.conditions.is_none()), "no outcome");
    assert!(pods.test.server.revoked().is_empty(), "clocks may be set right");
    // Kubernetes' cleaner does so after a quarter of an hour, and the kubelet asks anew.
    requests.delete("late", &DeleteParams::default()).await?;
    pods.test.server.until("the revocation", |server| !server.revoked().is_empty()).await?;
    assert_eq!(pods.test.server.revoked(), [(late, Some(5))]);
    pods.test.server.behave(Behaviour::Sign);
    pods.ask("anew", stub(&KeyPair::generate()?)?, &json!({})).await?;
    assert_eq!(said(&pods.until_ended("anew").await?), [("Issued", "Issued")]);
    Ok(())
}
