//! The whole way with the real server: its policy, its profiles, its ledger.

use std::fs;

use chancery_cluster_tests::{Result, controller, until};
use chancery_harness::server::{POLICY, Server, Setup};
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{
    SECRETS, Test, pem,
    pods::{PodTest, stub},
};

const CLUSTER: &str = r#"
[[profile]]
name = "pods"
lifetime = "24h"
lifetime_max = "25h"
lifetime_min = "10m"
backdate = "4m"
names = ["dns", "spiffe"]
extended_key_usages = ["serverAuth", "clientAuth"]

[[cluster]]
name = "plane"
authority = "issuing"
profiles = ["pods"]
"#;

/// Pods of the namespaces of this test, and hosts below cluster.test for whoever is approved.
const RULES: &str = r#"  - name: pods
    allow: { spiffe: ["spiffe://cluster.local/ns/*/sa/shop"] }
    for: { cluster: plane, door: kubernetes-signer }
    when: 'requester.reported.node == "node-1"'
  - name: hosts
    allow: { names: ["**.cluster.test"] }
    for: { cluster: plane, door: kubernetes-signer }
"#;

async fn with_a_real_server(beginning: &str) -> Result<Option<(Test, Server)>> {
    let Some(test) = Test::without_issuer(beginning).await? else { return Ok(None) };
    let setup = Setup { policy: format!("{POLICY}{RULES}"), configuration: CLUSTER.to_owned(), ..Setup::default() };
    let server = Server::start(&setup).await?;
    let made = server.json(&["cluster", "token", "create", "plane"]).await?;
    let token = made.pointer("/secret").and_then(Value::as_str).ok_or("no secret")?;
    test.issuing.token(SECRETS, &test.namespace, token).await?;
    let directory = server.directory();
    let url = directory.split("/acme/").next().ok_or("no URL")?.to_owned();
    let root = fs::read_to_string(server.root_pem()?)?;
    let mut issuer = controller::issuer("ChanceryClusterIssuer", &test.namespace, &url, &root);
    let more = json!({ "spec": { "podCertificates": { "trustDomain": "cluster.local" }, "publishRoots": true } });
    json_patch::merge(&mut issuer, &more);
    test.issuing.plane.apply_documents(SECRETS, vec![issuer]).await?;
    until(&test.issuers().await?, &test.namespace, until::condition("Ready", "True")).await?;
    Ok(Some((test, server)))
}

#[tokio::test]
async fn pods_and_approved_requests_get_certificates_that_the_real_server_counts() -> Result<()> {
    let Some((test, server)) = with_a_real_server("signers-whole").await? else { return Ok(()) };
    let day = json!({ "spec": { "expirationSeconds": 86_400, "usages": ["digital signature", "server auth", "client auth"] } });
    test.issue("host", &pem(&["web.cluster.test"])?, &day).await?;
    test.ask("evil", &pem(&["www.elsewhere.example"])?, &day).await?;
    test.approve("evil").await?;
    let (_, words) = test.until_failed("evil").await?;
    assert!(words.contains("www.elsewhere.example") && words.starts_with("Policy refuses"), "{words}");
    let pods = PodTest::of(test).await?;
    // The shortest that Kubernetes asks for, and the usual.
    for (name, most) in [("hour", 3600), ("day", 86_400)] {
        pods.ask(name, stub(&KeyPair::generate()?)?, &json!({ "spec": { "maxExpirationSeconds": most } })).await?;
        let status = pods.until_ended(name).await?;
        assert!(status.certificate_chain.is_some(), "{name}: {status:?}");
        let span = |status: &k8s_openapi::api::certificates::v1::PodCertificateRequestStatus| {
            Some(status.not_after.as_ref()?.0.as_second() - status.not_before.as_ref()?.0.as_second())
        };
        assert_eq!(span(&status), Some(i64::from(most)), "{name}");
    }
    let listed = server.json(&["certificate", "list", "--cluster", "plane"]).await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    Ok(())
}
