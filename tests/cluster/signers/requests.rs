//! What a CertificateSigningRequest is told, and what is never done.

use chancery_cluster_tests::{
    Result,
    controller::{reasons_told, touched},
    signing_server::Behaviour,
};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Test, chain, condition, pem};

#[tokio::test]
async fn what_nobody_has_approved_or_what_is_denied_or_foreign_is_never_written_to() -> Result<()> {
    let Some(test) = Test::ready("kcsr-quiet", &json!({})).await? else { return Ok(()) };
    let mut uids = Vec::new();
    for (name, decision, signer) in [
        ("unapproved", None, None),
        ("denied", Some("Denied"), None),
        ("foreign", Some("Approved"), Some("clusterissuers.cert-manager.io/corp")),
        ("look-alike", Some("Approved"), Some("chanceryclusterissuers.chancery.dev.evil.example/corp")),
        ("without-namespace", Some("Approved"), Some("chanceryissuers.chancery.dev/own")),
    ] {
        let signer = signer.map_or_else(|| test.signer_name(), str::to_owned);
        uids.push((
            name,
            test.ask(name, &pem(&["a.example.test"])?, &json!({ "spec": { "signerName": signer } })).await?,
        ));
        if let Some(decision) = decision {
            test.decide(name, decision).await?;
        }
    }
    test.barrier("quiet").await?;
    for (name, uid) in uids {
        let seen = test.requests().await?.get(&test.named(name)).await?;
        assert!(!touched(&seen) && chain(&seen).is_none(), "{name}: {seen:?}");
        let told = reasons_told(test.issuing.plane, &uid).await?;
        assert_eq!((told, test.server.asked_for(&uid)), (Vec::<String>::new(), 0), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn what_somebody_else_has_failed_is_not_signed() -> Result<()> {
    let Some(test) = Test::without_issuer("kcsr-failed").await? else { return Ok(()) };
    let uid = test.ask("web", &pem(&["a.example.test"])?, &json!({})).await?;
    test.approve("web").await?;
    let requests = test.requests().await?;
    let waits = requests.get(&test.named("web")).await?;
    let mut conditions: Vec<Value> = serde_json::from_value(serde_json::to_value(waits.status)?["conditions"].clone())?;
    conditions.push(json!({ "type": "Failed", "status": "True", "reason": "Tests" }));
    let patch = json!({ "status": { "conditions": conditions } });
    requests.patch_status(&test.named("web"), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    test.make_issuer(&json!({})).await?;
    test.barrier("failed").await?;
    assert_eq!(test.server.asked_for(&uid), 0);
    Ok(())
}

#[tokio::test]
async fn a_request_waits_for_its_issuer_without_a_write_and_goes_on_when_it_is_ready() -> Result<()> {
    let Some(test) = Test::without_issuer("kcsr-waits").await? else { return Ok(()) };
    let uid = test.ask("web", &pem(&["a.example.test"])?, &json!({})).await?;
    test.approve("web").await?;
    test.barrier("waits").await?;
    let waits = test.requests().await?.get(&test.named("web")).await?;
    assert!(!touched(&waits), "{waits:?}");
    test.make_issuer(&json!({})).await?;
    test.until_issued("web").await?;
    assert_eq!(test.server.asked_for(&uid), 1);
    let told = reasons_told(test.issuing.plane, &uid).await?;
    assert!(told.contains(&"IssuerNotFound".to_owned()), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn what_can_never_be_signed_fails_with_the_rule_in_words() -> Result<()> {
    let Some(test) = Test::ready("kcsr-never", &json!({})).await? else { return Ok(()) };
    let good = pem(&["a.example.test"])?;
    let annotation = |value: &str| json!({ "metadata": { "annotations": { "experimental.cert-manager.io/request-duration": value } } });
    for (name, more, reason, words) in [
        ("soon", annotation("soon"), "ErrorParseDuration", "\"soon\""),
        ("short", annotation("9m"), "InvalidDuration", "600 s or more"),
    ] {
        test.ask(name, &good, &more).await?;
        test.approve(name).await?;
        let (failed, message) = test.until_failed(name).await?;
        assert!(failed == reason && message.contains(words), "{failed}: {message}");
    }
    assert!(test.server.asked().is_empty(), "nobody was asked");
    test.server.behave(Behaviour::Refuse("a.example.test is not yours".to_owned()));
    let uid = test.ask("refused", &good, &json!({})).await?;
    test.approve("refused").await?;
    let (reason, message) = test.until_failed("refused").await?;
    assert_eq!(reason, "PermanentError");
    assert!(message.contains("a.example.test is not yours") && message.contains("no-such-names"), "{message}");
    assert_eq!(test.server.asked_for(&uid), 1, "once");
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_never_handed_on_and_not_left_valid() -> Result<()> {
    let Some(test) = Test::ready("kcsr-lies", &json!({ "onDelete": "Revoke" })).await? else { return Ok(()) };
    // What a controller that dies was about to do, the next one does not know.
    let _lives = test.issuing.controller.read().await;
    for (name, behaviour) in [
        ("wrong-key", Behaviour::WrongKey),
        ("expired", Behaviour::Expired),
        ("foreign", Behaviour::ForeignChain),
        ("other-names", Behaviour::OtherNames),
    ] {
        test.server.behave(behaviour);
        let uid = test.ask(name, &pem(&["a.example.test"])?, &json!({})).await?;
        test.approve(name).await?;
        let (_, message) = test.until_failed(name).await?;
        assert!(message.contains("not what was asked for"), "{name}: {message}");
        test.server.until("its revocation", |server| server.revoked().contains(&(uid.clone(), Some(5)))).await?;
    }
    Ok(())
}

#[tokio::test]
async fn trouble_of_the_server_fails_nothing_and_writes_nothing() -> Result<()> {
    let Some(test) = Test::ready("kcsr-trouble", &json!({})).await? else { return Ok(()) };
    for (name, behaviour) in
        [("busy", Behaviour::Status(503)), ("pending", Behaviour::Pending), ("garbage", Behaviour::Garbage)]
    {
        test.server.behave(behaviour);
        let uid = test.ask(name, &pem(&["a.example.test"])?, &json!({})).await?;
        test.approve(name).await?;
        test.server.until_asked(&uid, 2).await?;
        let waits = test.requests().await?.get(&test.named(name)).await?;
        assert!(!touched(&waits), "{waits:?}");
        test.server.behave(Behaviour::Sign);
        test.until_issued(name).await?;
    }
    Ok(())
}

#[tokio::test]
async fn only_who_may_refer_to_an_issuer_of_a_namespace_gets_its_certificates() -> Result<()> {
    let Some(test) = Test::without_issuer("kcsr-reference").await? else { return Ok(()) };
    let (issuing, namespace) = (test.issuing, &test.namespace);
    let signer_name = test.make_own_issuer().await?;
    let asks = |name: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": format!("{namespace}-{name}-asks") },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:certificates-asker" },
            "subjects": [{ "kind": "ServiceAccount", "namespace": namespace, "name": name }],
        })
    };
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "system:certificates-asker" },
        "rules": [{ "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": ["create"] }],
    });
    let reference = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "refers" },
        "rules": [{
            "apiGroups": ["cert-manager.io"], "resources": ["signers"], "verbs": ["reference"], "resourceNames": ["own"],
        }],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "refers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "refers" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": namespace, "name": "friend" }],
    });
    let documents = vec![role, asks("friend"), asks("stranger"), reference, binding];
    issuing.plane.apply_documents(namespace, documents).await?;
    let object = json!({ "spec": { "signerName": signer_name } });
    for name in ["friend", "stranger"] {
        let client = issuing.plane.client_as_service_account(namespace, name).await?;
        test.ask_as(&client, name, &pem(&["a.example.test"])?, &object).await?;
        test.approve(name).await?;
    }
    let (reason, message) = test.until_failed("stranger").await?;
    assert_eq!(reason, "DeniedReference");
    assert!(message.contains(":stranger") && message.contains("signers.cert-manager.io"), "{message}");
    test.until_issued("friend").await?;
    let asked = issuing.allowed.asked();
    let names: Vec<_> = asked.iter().map(|asked| asked.origin.name.as_str()).collect();
    assert!(!names.contains(&test.named("stranger").as_str()));
    Ok(())
}

#[tokio::test]
async fn nothing_happens_to_what_has_its_outcome() -> Result<()> {
    let Some(test) = Test::ready("kcsr-over", &json!({})).await? else { return Ok(()) };
    let before = test.issue("web", &pem(&["a.example.test"])?, &json!({})).await?;
    let patch = json!({ "metadata": { "labels": { "touched": "again" } } });
    let requests = test.requests().await?;
    requests.patch(&test.named("web"), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    test.barrier("over").await?;
    let later = requests.get(&test.named("web")).await?;
    assert_eq!(chain(&later), Some(before));
    assert!(condition(&later, "Failed").is_none());
    assert_eq!(test.server.issued().len(), 1);
    Ok(())
}
