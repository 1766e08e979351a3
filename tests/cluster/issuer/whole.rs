//! The whole way: cert-manager, the controller, the real server, its policy and its ledger.

use std::fs;

use chancery_cluster_tests::{Result, controller, until};
use chancery_harness::server::{POLICY, Server, Setup, succeeded};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::DynamicObject};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{SECRETS, Test, message, pem};

const CLUSTER: &str = r#"
[[cluster]]
name = "plane"
authority = "issuing"
profiles = ["server"]
"#;

/// A server that lets the cluster `plane`, which has more settings, have names below cluster.test.
async fn real_server(more: &str) -> Result<Server> {
    let rule = "  - name: cluster-names\n    allow: { names: [\"**.cluster.test\"] }\n    for: { cluster: plane }\n";
    let configuration = format!("{CLUSTER}{more}");
    Server::start(&Setup { policy: format!("{POLICY}{rule}"), configuration, ..Setup::default() }).await
}

/// A server's URL, and the root that its clients trust.
fn door(server: &Server) -> Result<(String, String)> {
    let directory = server.directory();
    let url = directory.split("/acme/").next().ok_or("no URL")?.to_owned();
    Ok((url, fs::read_to_string(server.root_pem()?)?))
}

/// A server that lets the cluster `plane` have names below cluster.test, and a ready issuer that asks it.
async fn with_a_real_server(beginning: &str) -> Result<Option<(Test, Server)>> {
    let Some(test) = Test::without_issuer(beginning).await? else { return Ok(None) };
    let server = real_server("").await?;
    let made = server.json(&["cluster", "token", "create", "plane"]).await?;
    test.issuing
        .token(SECRETS, &test.namespace, made.pointer("/secret").and_then(Value::as_str).ok_or("no secret")?)
        .await?;
    let (url, root) = door(&server)?;
    let mut issuer = controller::issuer("ChanceryClusterIssuer", &test.namespace, &url, &root);
    json_patch::merge(&mut issuer, &json!({ "spec": { "profile": "server" } }));
    test.issuing.plane.apply_documents(SECRETS, vec![issuer]).await?;
    until(&test.issuers().await?, &test.namespace, until::condition("Ready", "True")).await?;
    Ok(Some((test, server)))
}

#[tokio::test]
async fn a_certificate_comes_from_the_real_server_and_openssl_takes_it() -> Result<()> {
    let Some((test, server)) = with_a_real_server("whole").await? else { return Ok(()) };
    test.issuing.approved_by_cert_manager(&test.namespace).await?;
    let certificate = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": { "name": "web" },
        "spec": {
            "secretName": "web-tls", "dnsNames": ["web.cluster.test"], "issuerRef": test.issuer_ref(),
            "privateKey": { "algorithm": "ECDSA", "size": 256 },
        },
    });
    let plane = test.issuing.plane;
    plane.apply_documents(&test.namespace, vec![certificate]).await?;
    let certificates = plane.objects("cert-manager.io/v1", "Certificate", &test.namespace).await?;
    until(&certificates, "web", until::condition("Ready", "True")).await?;
    let secrets: Api<Secret> = Api::namespaced(plane.client().await?, &test.namespace);
    let data = secrets.get("web-tls").await?.data.ok_or("an empty Secret")?;
    let folder = server.scratch("openssl")?;
    for file in ["tls.crt", "ca.crt"] {
        fs::write(folder.join(file), &data.get(file).ok_or(file)?.0)?;
    }
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "web.cluster.test"])
        .args(["-no-CApath", "-no-CAstore", "-CAfile", "ca.crt", "-untrusted", "tls.crt", "tls.crt"])
        .current_dir(&folder)
        .output()
        .await?;
    succeeded(&output)?;
    let listed = server.json(&["certificate", "list", "--cluster", "plane", "--namespace", &test.namespace]).await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["certificate"], json!("web"));
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_opens_the_real_servers_door_and_one_of_another_name_does_not() -> Result<()> {
    let Some(test) = Test::without_issuer("mutual").await? else { return Ok(()) };
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name.push(DnType::CommonName, "Clients of the plane");
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), ca.pem())?;
    let clients = format!(
        "client_certificates = {{ ca = {:?}, names = [\"chancery-issuer.plane.test\"] }}\n",
        file.path().to_str().ok_or("a path that is no text")?
    );
    let server = real_server(&clients).await?;
    let (url, root) = door(&server)?;
    let mut issuer = controller::issuer("ChanceryClusterIssuer", &test.namespace, &url, &root);
    issuer["spec"]["credentials"] = json!({ "clientCertificateSecretRef": { "name": test.namespace } });
    issuer["spec"]["profile"] = json!("server");
    let client = |name: &str| -> Result<Value> {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new([name.to_owned()])?;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": test.namespace }, "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": leaf.signed_by(&key, &ca)?.pem(), "tls.key": key.serialize_pem() },
        }))
    };
    let plane = test.issuing.plane;
    plane.apply_documents(SECRETS, vec![client("somebody-else.plane.test")?, issuer]).await?;
    let issuers = test.issuers().await?;
    let refused = until(&issuers, &test.namespace, until::condition("Ready", "False")).await?;
    assert!(message(&refused).contains("does not accept the credential"), "{}", message(&refused));
    plane.apply_documents(SECRETS, vec![client("chancery-issuer.plane.test")?]).await?;
    until(&issuers, &test.namespace, until::condition("Ready", "True")).await?;
    let asked = pem("web.cluster.test")?;
    test.ask_with("web", &asked, &json!({})).await?;
    test.approve("web").await?;
    test.until_ready("web", "True", "Issued").await?;
    let listed = server.json(&["certificate", "list", "--cluster", "plane", "--namespace", &test.namespace]).await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    Ok(())
}

#[tokio::test]
async fn what_policy_refuses_is_told_in_its_words_and_nothing_is_asked_twice() -> Result<()> {
    let Some((test, server)) = with_a_real_server("refused").await? else { return Ok(()) };
    test.ask_with("evil", &pem("www.elsewhere.example")?, &json!({})).await?;
    test.approve("evil").await?;
    let failed: DynamicObject = test.until_ready("evil", "False", "Failed").await?;
    let words = message(&failed);
    assert!(words.contains("www.elsewhere.example") && words.starts_with("Policy refuses"), "{words}");
    assert!(failed.data["status"]["failureTime"].is_string());
    let listed = server.json(&["certificate", "list", "--cluster", "plane"]).await?;
    assert_eq!(listed.as_array().map_or(0, Vec::len), 0, "{}", Value::from(listed.to_string()));
    Ok(())
}
