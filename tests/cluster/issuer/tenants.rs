//! Issuers of a namespace: its own credentials, and only servers that the operator allows.

use chancery_cluster_tests::{Result, SigningServer, controller, until};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{Test, message, pem};

#[tokio::test]
async fn a_tenant_draws_no_credential_to_a_server_of_his_own() -> Result<()> {
    let Some(test) = Test::without_issuer("evil").await? else { return Ok(()) };
    let plane = test.issuing.plane;
    test.issuing.may_read_credentials(&test.namespace).await?;
    test.issuing.token(&test.namespace, "mine", "token").await?;
    let issuer = controller::issuer("ChanceryIssuer", "mine", &test.server.url(), &test.server.root());
    plane.apply_documents(&test.namespace, vec![issuer]).await?;
    let issuers = plane.objects("chancery.dev/v1", "ChanceryIssuer", &test.namespace).await?;
    let refused = until(&issuers, "mine", until::condition("Ready", "False")).await?;
    assert!(message(&refused).contains("--allowed-server"), "{}", message(&refused));
    assert_eq!(test.server.checks(), 0, "not even asked how it is");
    Ok(())
}

#[tokio::test]
async fn an_issuer_of_a_namespace_uses_what_lies_there_and_serves_nobody_else() -> Result<()> {
    let Some(test) = Test::without_issuer("tenant").await? else { return Ok(()) };
    let plane = test.issuing.plane;
    let allowed = &test.issuing.allowed;
    let issuer = controller::issuer("ChanceryIssuer", "mine", &allowed.url(), &allowed.root());
    plane.apply_documents(&test.namespace, vec![issuer]).await?;
    let issuers = plane.objects("chancery.dev/v1", "ChanceryIssuer", &test.namespace).await?;
    let refused = until(&issuers, "mine", until::condition("Ready", "False")).await?;
    assert!(message(&refused).contains("may not read the Secret"), "{}", message(&refused));

    // The Secret of this name in the controller's namespace is none of a tenant's business.
    test.issuing.token(controller::NAMESPACE, "mine", "allowed").await?;
    test.issuing.may_read_credentials(&test.namespace).await?;
    let missing = |object: Option<&kube::api::DynamicObject>| {
        object.is_some_and(|object| message(object).contains("there is no Secret"))
    };
    until(&issuers, "mine", missing).await?;
    test.issuing.token(&test.namespace, "mine", "allowed").await?;
    until(&issuers, "mine", until::condition("Ready", "True")).await?;

    let reference = json!({ "spec": { "issuerRef": { "kind": "ChanceryIssuer", "name": "mine" } } });
    test.ask_with("web", &pem("web.example.test")?, &reference).await?;
    test.approve("web").await?;
    test.until_ready("web", "True", "Issued").await?;

    let elsewhere = Test::without_issuer("elsewhere").await?.ok_or("it was there a moment ago")?;
    elsewhere.ask_with("web", &pem("web.example.test")?, &reference).await?;
    elsewhere.approve("web").await?;
    let waiting = elsewhere.until_ready("web", "False", "Pending").await?;
    assert!(message(&waiting).contains("in this namespace"), "{}", message(&waiting));
    Ok(())
}

#[tokio::test]
async fn a_token_of_a_service_account_is_minted_for_the_servers_audience_alone() -> Result<()> {
    let Some(test) = Test::without_issuer("audience").await? else { return Ok(()) };
    let plane = test.issuing.plane;
    let allowed = &test.issuing.allowed;
    test.issuing.may_read_credentials(&test.namespace).await?;
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "chancery" } });
    let mut issuer = controller::issuer("ChanceryIssuer", "mine", &allowed.url(), &allowed.root());
    issuer["spec"]["credentials"] = json!({
        "serviceAccount": { "name": "chancery", "audience": "https://kubernetes.default.svc" },
    });
    plane.apply_documents(&test.namespace, vec![account, issuer.clone()]).await?;
    let issuers = plane.objects("chancery.dev/v1", "ChanceryIssuer", &test.namespace).await?;
    let refused = until(&issuers, "mine", until::condition("Ready", "False")).await?;
    assert!(message(&refused).contains("audience"), "{}", message(&refused));
    issuer["spec"]["credentials"] = json!({ "serviceAccount": { "name": "chancery" } });
    plane.apply_documents(&test.namespace, vec![issuer]).await?;
    // The scripted server knows no such token; that it was asked with one is enough.
    let refused = |object: Option<&kube::api::DynamicObject>| {
        object.is_some_and(|object| message(object).contains("does not accept the credential"))
    };
    until(&issuers, "mine", refused).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_redirects_gets_the_credential_sent_nowhere_else() -> Result<()> {
    let Some(test) = Test::ready("redirect").await? else { return Ok(()) };
    let elsewhere = SigningServer::start("token")?;
    test.server.redirect(Some(format!("{}/api/v1/signer", elsewhere.url())));
    let issuers = test.issuers().await?;
    let refused = until(&issuers, &test.namespace, until::condition("Ready", "False")).await?;
    assert!(message(&refused).contains("redirect"), "{}", message(&refused));
    assert_eq!(elsewhere.checks(), 0);
    test.server.redirect(None);
    until(&issuers, &test.namespace, until::condition("Ready", "True")).await?;
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_makes_no_sense_is_refused_by_the_api_server() -> Result<()> {
    let Some(test) = Test::ready("schema").await? else { return Ok(()) };
    let issuers = test.issuers().await?;
    for (patch, words) in [
        (json!({ "urls": [] }), "urls"),
        (json!({ "urls": ["http://ca.example"] }), "https"),
        (
            json!({ "urls": ["https://a.example", "https://b.example", "https://c.example", "https://d.example",
            "https://e.example", "https://f.example", "https://g.example", "https://h.example", "https://i.example"] }),
            "8",
        ),
        (json!({ "caBundle": { "inline": "x", "secretRef": { "name": "x" } } }), "exactly one"),
        (json!({ "credentials": { "serviceAccount": { "name": "x" } } }), "exactly one"),
        (json!({ "credentials": { "tokenSecretRef": { "name": "Not_A_Name" } } }), "tokenSecretRef.name"),
        (json!({ "credentials": { "tokenSecretRef": { "name": "token/../other" } } }), "tokenSecretRef.name"),
        (json!({ "credentials": { "tokenSecretRef": { "name": "a..b" } } }), "tokenSecretRef.name"),
        (json!({ "credentials": { "tokenSecretRef": { "name": "n".repeat(254) } } }), "253"),
        (json!({ "credentials": { "tokenSecretRef": { "key": "a/b" } } }), "tokenSecretRef.key"),
        (json!({ "caBundle": { "inline": null, "configMapRef": { "name": "-roots" } } }), "configMapRef.name"),
        (
            json!({ "registrationAuthority": {
                "serviceAccount": { "namespace": "istio.system", "name": "istiod" }, "trustDomain": "cluster.local",
            } }),
            "serviceAccount.namespace",
        ),
        (json!({ "checkInterval": "1s" }), "10s"),
        (json!({ "checkInterval": "soon" }), "checkInterval"),
        (json!({ "defaultDuration": "" }), "1m"),
        (json!({ "defaultDuration": "0s" }), "1m"),
        (json!({ "defaultDuration": "999999999999h" }), "defaultDuration"),
        (json!({ "onDelete": "Forget" }), "onDelete"),
        (json!({ "rateLimit": { "requestsPerSecond": 0 } }), "requestsPerSecond"),
    ] {
        let patch = json!({ "spec": patch });
        let answer = issuers.patch(&test.namespace, &PatchParams::default(), &Patch::Merge(&patch)).await;
        let error = answer.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(words), "{patch}: {error}");
    }
    Ok(())
}
