//! A signer for a registration authority such as istiod: approval alone mints no identity. What is asked for here has the
//! shape of what a real istiod asks for (`gateways/istio/authority.rs` looks at one).

use chancery_cluster_tests::Result;
use kube::Client;
use rcgen::{DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use super::{Test, params, pem};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

async fn with_istiod(beginning: &str) -> Result<Option<(Test, Client)>> {
    let Some(test) = Test::without_issuer(beginning).await? else { return Ok(None) };
    // In the test's own namespace; its service account may ask.
    let rule = json!({ "registrationAuthority": {
        "serviceAccount": { "namespace": test.namespace, "name": "istiod" }, "trustDomain": "cluster.local",
    } });
    test.make_issuer(&rule).await?;
    let role = format!("{}-asks", test.namespace);
    let documents = vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": role },
            "rules": [{ "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": ["create"] }],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": role },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [
                { "kind": "ServiceAccount", "namespace": test.namespace, "name": "istiod" },
                { "kind": "ServiceAccount", "namespace": test.namespace, "name": "other" },
                { "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "istiod" },
            ],
        }),
    ];
    test.issuing.plane.apply_documents(&test.namespace, documents).await?;
    let istiod = test.issuing.plane.client_as_service_account(&test.namespace, "istiod").await?;
    Ok(Some((test, istiod)))
}

/// As istiod asks.
fn usages(more: &Value) -> Value {
    let mut object = json!({ "spec": {
        "usages": ["digital signature", "key encipherment", "server auth", "client auth"], "expirationSeconds": 86_400,
    } });
    json_patch::merge(&mut object, more);
    object
}

/// The CSR of Istio's agent, which istiod hands on: an RSA key, and a subject of one empty organization.
fn pem_of_an_agent(id: &str) -> Result<String> {
    let mut params = params(&[id])?;
    params.distinguished_name.push(DnType::OrganizationName, "");
    Ok(params.serialize_request(&KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?)?.pem()?)
}

#[tokio::test]
async fn istiod_gets_a_workloads_identity() -> Result<()> {
    let Some((test, istiod)) = with_istiod("ra").await? else { return Ok(()) };
    let uid = test.ask_as(&istiod, "web", &pem_of_an_agent(WEB)?, &usages(&json!({}))).await?;
    test.approve("web").await?;
    test.until_issued("web").await?;
    let asked = test.server.asked();
    assert_eq!(asked.iter().map(|asked| (&asked.uid, asked.lifetime_s)).collect::<Vec<_>>(), [(&uid, Some(86_400))]);
    let username = format!("system:serviceaccount:{}:istiod", test.namespace);
    assert_eq!(asked.first().and_then(|asked| asked.origin.username.as_ref()), Some(&username));
    Ok(())
}

#[tokio::test]
async fn forged_requesters_and_other_names_fail_in_words_although_they_are_approved() -> Result<()> {
    let Some((test, istiod)) = with_istiod("ra-forged").await? else { return Ok(()) };
    let plane = test.issuing.plane;
    let administrator = plane.client().await?;
    let other = plane.client_as_service_account(&test.namespace, "other").await?;
    let user = plane.client_as_user("istiod", &[]).await?;
    let ca = json!({ "metadata": { "annotations": { "experimental.cert-manager.io/request-is-ca": "true" } } });
    // Who asks stands in the object as the API server saw it: what the requester writes there is overwritten.
    let forged = json!({ "spec": { "username": format!("system:serviceaccount:{}:istiod", test.namespace) } });
    let none = json!({});
    for (name, client, names, more, words) in [
        ("administrator", &administrator, vec![WEB], &none, "may not ask this signer"),
        ("forged", &administrator, vec![WEB], &forged, "may not ask this signer"),
        ("other", &other, vec![WEB], &none, "may not ask this signer"),
        ("user", &user, vec![WEB], &none, "may not ask this signer"),
        ("foreign", &istiod, vec!["spiffe://other.local/ns/a/sa/b"], &none, "\"other.local\""),
        ("host", &istiod, vec!["web.example.test"], &none, "is no SPIFFE ID"),
        ("both", &istiod, vec![WEB, "web.example.test"], &none, "has 2 names"),
        ("two", &istiod, vec![WEB, "spiffe://cluster.local/ns/a/sa/b"], &none, "has 2 names"),
        ("ca", &istiod, vec![WEB], &ca, "CA's certificate"),
    ] {
        test.ask_as(client, name, &pem(&names)?, &usages(more)).await?;
        test.approve(name).await?;
        let (reason, message) = test.until_failed(name).await?;
        assert!(reason == "RegistrationAuthority" && message.contains(words), "{name}: {reason}: {message}");
    }
    assert!(test.server.asked().is_empty(), "nobody was asked");
    Ok(())
}
