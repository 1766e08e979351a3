//! Clusters that lack something: the controller says what is off, and goes on.

use std::{net::SocketAddr, time::Instant};

use chancery_cluster_tests::{Plane, Programs, Result, SigningServer, controller, until};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Duration, sleep},
};

use super::{message, pem, until_event};

async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: x\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Asks until the answer holds all of these.
pub(super) async fn until_it_says(address: SocketAddr, path: &str, wanted: &[&str]) -> Result<()> {
    let deadline = Instant::now() + until::LIMIT;
    loop {
        let answer = get(address, path).await?;
        if wanted.iter().all(|wanted| answer.contains(wanted)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{path} says:\n{answer}").into());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The kind as cert-manager had it before 1.20: nothing can be selected by the issuer.
pub(super) const OLD_REQUESTS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: certificaterequests.cert-manager.io }
spec:
  group: cert-manager.io
  scope: Namespaced
  names: { plural: certificaterequests, singular: certificaterequest, kind: CertificateRequest }
  versions:
    - name: v1
      served: true
      storage: true
      subresources: { status: {} }
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
"#;

#[tokio::test]
async fn what_a_cluster_lacks_is_off_and_said_and_nothing_falls_over() -> Result<()> {
    let Some(programs) = Programs::find() else { return Ok(()) };
    // Pods' certificates and bundles of roots are v1 since Kubernetes 1.37; before, nothing of the kind is served.
    let plane = Plane::start_with(programs, &["--runtime-config=certificates.k8s.io/v1=false"]).await?;
    controller::give_rights(&plane).await?;
    controller::may_read_credentials(&plane, controller::NAMESPACE).await?;
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().ok_or("a path that is no text")?;
    let features = controller::FEATURES;
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--listen-file", path, "--feature", features];
    arguments.extend(["--unapproved-after", "1s"]);
    let running = controller::start(&plane, "older", &arguments).await?;
    running.until_it_prints(|line| line.contains("not installed")).await?;
    let address: SocketAddr = std::fs::read_to_string(path)?.parse()?;
    until_it_says(address, "/readyz", &["200 OK", "issuers: off", "certificate-requests: off"]).await?;
    for lacking in ["certificate-signing-requests", "pod-certificate-requests", "cluster-trust-bundles"] {
        let says = format!("{lacking}: off: this cluster does not have the kind");
        until_it_says(address, "/readyz", &[&says, "root-config-maps: on"]).await?;
    }
    until_it_says(
        address,
        "/metrics",
        &["chancery_issuer_feature{feature=\"issuers\"} 0", "chancery_issuer_leading 1"],
    )
    .await?;

    plane.apply_files("default", &controller::definitions()).await?;
    until_it_says(address, "/readyz", &["issuers: on", "off: cert-manager is not installed"]).await?;
    let server = SigningServer::start("token")?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "old" }, "stringData": { "token": "token" },
    });
    let issuer = controller::issuer("ChanceryClusterIssuer", "old", &server.url(), &server.root());
    plane.apply_documents(controller::NAMESPACE, vec![secret, issuer]).await?;
    let issuers = plane.objects("chancery.dev/v1", "ChanceryClusterIssuer", "").await?;
    until(&issuers, "old", until::condition("Ready", "True")).await?;

    plane.apply(OLD_REQUESTS).await?;
    until_it_says(address, "/readyz", &["certificate-requests: on", "select-by-issuer-group: off"]).await?;
    let requests = plane.objects("cert-manager.io/v1", "CertificateRequest", "default").await?;
    let ask = async |name: &str, csr: Vec<u8>| -> Result<DynamicObject> {
        let request = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest", "metadata": { "name": name },
            "spec": {
                "request": k8s_openapi::ByteString(csr),
                "issuerRef": { "group": "chancery.dev", "kind": "ChanceryClusterIssuer", "name": "old" },
            },
        });
        Ok(requests.create(&PostParams::default(), &serde_json::from_value(request)?).await?)
    };
    let made = ask("web", pem("web.example.test")?.into_bytes()).await?;
    let uid = made.metadata.uid.as_deref().ok_or("no UID")?;
    let hint = until_event(plane.client().await?, "default", uid).await?.note.unwrap_or_default();
    assert!(hint.contains("resourceNames: [chanceryclusterissuers.chancery.dev/old]"), "{hint}");
    let approved = json!({ "status": { "conditions": [{ "type": "Approved", "status": "True" }] } });
    requests.patch_status("web", &PatchParams::default(), &Patch::Merge(&approved)).await?;
    until(&requests, "web", until::condition("Ready", "True")).await?;

    // cert-manager's webhook would not have let this pass.
    ask("large", vec![b'x'; 70 << 10]).await?;
    requests.patch_status("large", &PatchParams::default(), &Patch::Merge(&approved)).await?;
    let failed = until(&requests, "large", until::condition("Ready", "False")).await?;
    assert!(message(&failed).contains("more than 65536 octets"), "{}", message(&failed));
    assert!(failed.data["status"]["failureTime"].is_string(), "{failed:?}");
    Ok(())
}
