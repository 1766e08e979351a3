//! PodCertificateRequests that are refused: each rule, and what stands in the status then.

use chancery_cluster_tests::{Result, signing_server::Behaviour};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rcgen::{KeyPair, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;

use super::{
    Test,
    pods::{PodTest, stub},
};

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn a_request_by_somebody_else_for_a_pod_that_is_not_so_is_denied() -> Result<()> {
    let Some(pods) = PodTest::ready("pcr-forged").await? else { return Ok(()) };
    // The API server checks none of these for a creator that is no node.
    for (name, more, words) in [
        ("uid", json!({ "podUID": NOBODY }), "no pod web"),
        ("pod", json!({ "podName": "other" }), "no pod other"),
        ("account", json!({ "serviceAccountName": "default" }), "runs as shop, not as default"),
        ("account-uid", json!({ "serviceAccountUID": NOBODY }), "no service account shop"),
        ("node", json!({ "nodeName": "node-2" }), "on the node node-1, not on node-2"),
        ("node-uid", json!({ "nodeUID": NOBODY }), "no node node-1 with the UID 00000000"),
    ] {
        pods.ask(name, stub(&KeyPair::generate()?)?, &json!({ "spec": more })).await?;
        let (type_, reason, message) = pods.until_refused(name).await?;
        assert_eq!((type_.as_str(), reason.as_str()), ("Denied", "PodMismatch"), "{name}: {message}");
        assert!(message.contains(words), "{name}: {message}");
    }
    let api: Api<Pod> = Api::namespaced(pods.test.client().await?, &pods.test.namespace);
    let ended = json!({ "status": { "phase": "Succeeded" } });
    api.patch_status("web", &PatchParams::default(), &Patch::Merge(&ended)).await?;
    pods.ask("ended", stub(&KeyPair::generate()?)?, &json!({})).await?;
    assert_eq!(pods.until_refused("ended").await?.1, "PodMismatch");
    assert!(pods.test.server.asked().is_empty(), "nobody was asked");
    Ok(())
}

#[tokio::test]
async fn keys_that_the_profile_does_not_take_are_denied_with_one_that_it_takes() -> Result<()> {
    let Some(pods) = PodTest::ready("pcr-keys").await? else { return Ok(()) };
    for (name, key) in [
        ("p521", KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512)?),
        ("rsa4096", KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?),
    ] {
        pods.ask(name, stub(&key)?, &json!({})).await?;
        let (type_, reason, message) = pods.until_refused(name).await?;
        assert_eq!((type_.as_str(), reason.as_str()), ("Denied", "UnsupportedKeyType"), "{message}");
        assert!(message.contains("set keyType to one of RSA3072, ECDSAP256"), "{message}");
    }
    assert!(pods.test.server.asked().is_empty(), "nobody was asked");
    Ok(())
}

#[tokio::test]
async fn annotations_of_users_mean_nothing_here_and_are_denied() -> Result<()> {
    let Some(pods) = PodTest::ready("pcr-annotations").await? else { return Ok(()) };
    let annotations = json!({ "spec": { "unverifiedUserAnnotations": { "example.com/dns-name": "evil.example" } } });
    pods.ask("web", stub(&KeyPair::generate()?)?, &annotations).await?;
    let (type_, reason, message) = pods.until_refused("web").await?;
    assert_eq!((type_.as_str(), reason.as_str()), ("Denied", "InvalidUnverifiedUserAnnotations"));
    assert!(message.contains("example.com/dns-name"), "{message}");
    Ok(())
}

#[tokio::test]
async fn signers_that_sign_for_no_pods_say_so() -> Result<()> {
    let Some(test) = Test::ready("pcr-unknown", &json!({})).await? else { return Ok(()) };
    let pods = PodTest::of(test).await?;
    pods.ask("web", stub(&KeyPair::generate()?)?, &json!({})).await?;
    let (type_, reason, message) = pods.until_refused("web").await?;
    assert_eq!((type_.as_str(), reason.as_str()), ("Denied", "UnknownSigner"));
    assert!(message.contains("podCertificates"), "{message}");
    let signer = format!("chanceryissuers.chancery.dev/{}.own", pods.test.namespace);
    pods.ask("own", stub(&KeyPair::generate()?)?, &json!({ "spec": { "signerName": signer } })).await?;
    assert_eq!(pods.until_refused("own").await?.1, "UnknownSigner");
    Ok(())
}

#[tokio::test]
async fn what_the_servers_policy_refuses_is_denied_in_its_words_and_what_it_lies_is_not_handed_on() -> Result<()> {
    let settings = json!({ "onDelete": "Revoke", "podCertificates": { "trustDomain": "cluster.local" } });
    let Some(pods) = PodTest::with("pcr-policy", &settings).await? else { return Ok(()) };
    // What a controller that dies was about to do, the next one does not know.
    let _lives = pods.test.issuing.controller.read().await;
    pods.test.server.behave(Behaviour::Refuse("no pods of this namespace".to_owned()));
    let uid = pods.ask("refused", stub(&KeyPair::generate()?)?, &json!({})).await?;
    let (type_, reason, message) = pods.until_refused("refused").await?;
    assert_eq!((type_.as_str(), reason.as_str()), ("Denied", "DeniedByPolicy"));
    assert!(message.contains("no pods of this namespace"), "{message}");
    assert_eq!(pods.test.server.asked_for(&uid), 1);
    for (name, behaviour) in [
        ("wrong-key", Behaviour::WrongKey),
        ("foreign", Behaviour::ForeignChain),
        ("other-names", Behaviour::OtherNames),
    ] {
        pods.test.server.behave(behaviour);
        let uid = pods.ask(name, stub(&KeyPair::generate()?)?, &json!({})).await?;
        let (type_, _, message) = pods.until_refused(name).await?;
        assert!(type_ == "Failed" && message.contains("not what was asked for"), "{name}: {type_}: {message}");
        pods.test.server.until("its revocation", |server| server.revoked().contains(&(uid.clone(), Some(5)))).await?;
    }
    Ok(())
}
