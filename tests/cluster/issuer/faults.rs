//! What goes wrong around the controller: an API server that restarts and has forgotten, clocks that differ.

use chancery_cluster_tests::{Plane, Programs, Result, SigningServer, controller, signing_server::Behaviour, until};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{
    Test, message,
    older::{OLD_REQUESTS, until_it_says},
    pem,
};

/// A plane of its own with one issuer, `faults`, and a controller.
struct Own {
    plane: Plane,
    server: SigningServer,
    running: chancery_cluster_tests::Process,
    /// Where the controller's probes and metrics are.
    probes: tempfile::NamedTempFile,
}

impl Own {
    async fn start() -> Result<Option<Self>> {
        let Some(programs) = Programs::find() else { return Ok(None) };
        let plane = Plane::start(programs).await?;
        controller::give_rights(&plane).await?;
        controller::may_read_credentials(&plane, controller::NAMESPACE).await?;
        plane.apply_files("default", &controller::definitions()).await?;
        plane.apply(OLD_REQUESTS).await?;
        let server = SigningServer::start("token")?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "faults" }, "stringData": { "token": "token" },
        });
        let issuer = controller::issuer("ChanceryClusterIssuer", "faults", &server.url(), &server.root());
        plane.apply_documents(controller::NAMESPACE, vec![secret, issuer]).await?;
        let probes = tempfile::NamedTempFile::new()?;
        let path = probes.path().to_str().ok_or("a path that is no text")?;
        let listens = ["--listen", "127.0.0.1:0", "--listen-file", path];
        let running = controller::start(&plane, "faults", &listens).await?;
        Ok(Some(Self { plane, server, running, probes }))
    }

    async fn ask(&self, name: &str) -> Result<()> {
        self.ask_with(name, &json!({})).await
    }

    /// An approved request with this changed.
    async fn ask_with(&self, name: &str, more: &Value) -> Result<()> {
        let requests = self.plane.objects("cert-manager.io/v1", "CertificateRequest", "default").await?;
        let mut request = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest", "metadata": { "name": name },
            "spec": {
                "request": k8s_openapi::ByteString(pem("web.example.test")?.into_bytes()),
                "issuerRef": { "group": "chancery.dev", "kind": "ChanceryClusterIssuer", "name": "faults" },
            },
        });
        json_patch::merge(&mut request, more);
        requests.create(&PostParams::default(), &serde_json::from_value(request)?).await?;
        let approved = json!({ "status": { "conditions": [{ "type": "Approved", "status": "True" }] } });
        requests.patch_status(name, &PatchParams::default(), &Patch::Merge(&approved)).await?;
        Ok(())
    }

    async fn until_issued(&self, name: &str) -> Result<DynamicObject> {
        let requests = self.plane.objects("cert-manager.io/v1", "CertificateRequest", "default").await?;
        until(&requests, name, until::condition("Ready", "True")).await
    }
}

#[tokio::test]
async fn an_api_server_that_restarts_and_has_forgotten_what_was_watched_stops_nothing() -> Result<()> {
    let Some(mut own) = Own::start().await? else { return Ok(()) };
    own.ask("before").await?;
    let before = own.until_issued("before").await?;
    own.server.behave(Behaviour::Status(503));
    own.ask("meanwhile").await?;
    own.server.until("a request in vain", |server| server.asked().len() > 1).await?;
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().ok_or("a path that is no text")?;
    let listens = ["--listen", "127.0.0.1:0", "--listen-file", path];
    let standby = controller::prepare(&own.plane, "standby", &listens).await?;
    own.plane.kill_api_server();
    // A pod that is started in such a moment must be ready later, or a rollout hangs for good.
    let standby = standby.start(&own.plane)?;
    standby.until_it_prints(|line| line.contains("the API server does not say what it has")).await?;
    // Whoever watches on from before is told 410: that is gone.
    own.plane.compact().await?;
    own.plane.start_api_server().await?;
    until_it_says(std::fs::read_to_string(path)?.parse()?, "/readyz", &["200 OK"]).await?;
    own.server.behave(Behaviour::Sign);
    own.until_issued("meanwhile").await?;
    own.ask("after").await?;
    own.until_issued("after").await?;
    // The watch did meet that, once, and began with a listing.
    let expired = "chancery_issuer_watches_expired_total{kind=\"CertificateRequest\"} 1\n";
    until_it_says(std::fs::read_to_string(own.probes.path())?.parse()?, "/metrics", &[expired]).await?;
    assert_eq!(own.until_issued("before").await?.metadata.resource_version, before.metadata.resource_version);
    assert_eq!(own.server.issued().len(), 3, "one certificate each");
    assert!(!own.running.printed().contains("panicked"));
    Ok(())
}

/// As large as etcd takes them, and for an issuer that does not exist: they are kept until it does.
#[tokio::test]
async fn large_requests_that_wait_do_not_fill_the_memory() -> Result<()> {
    let Some(own) = Own::start().await? else { return Ok(()) };
    own.ask("first").await?;
    own.until_issued("first").await?;
    for number in 0..30 {
        let usages = vec!["any"; 100_000];
        let owners: Vec<Value> = (0..5000)
            .map(|owner| json!({ "apiVersion": "v1", "kind": "Pod", "name": "a", "uid": format!("{number}-{owner}") }))
            .collect();
        let large = json!({
            "metadata": { "ownerReferences": owners },
            "spec": { "usages": usages, "issuerRef": { "name": "absent" } },
        });
        own.ask_with(&format!("large-{number}"), &large).await?;
    }
    own.ask("last").await?;
    own.until_issued("last").await?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", own.running.id()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let resident: usize = resident.ok_or("no VmRSS")?.trim().parse()?;
    assert!(resident < 150 << 10, "{resident} kB");
    Ok(())
}

#[tokio::test]
async fn clocks_that_differ_by_five_minutes_cost_no_request_and_more_is_told() -> Result<()> {
    let Some(test) = Test::ready("clocks").await? else { return Ok(()) };
    for (name, by) in [("ahead", 290), ("behind", -290)] {
        test.server.behave(Behaviour::Shifted(by));
        test.issue(name).await?;
    }
    test.server.behave(Behaviour::Shifted(3600));
    test.ask("far").await?;
    test.approve("far").await?;
    let failed = test.until_ready("far", "False", "Failed").await?;
    assert!(message(&failed).contains("clocks of both machines"), "{}", message(&failed));
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_would_be_renewed_at_once_is_refused_and_revoked_if_the_issuer_wants_it() -> Result<()> {
    let Some(test) = Test::ready("renewed").await? else { return Ok(()) };
    let _lives = test.issuing.controller.read().await;
    test.issuing.approved_by_cert_manager(&test.namespace).await?;
    test.revoke_what_is_deleted().await?;
    // It began forty minutes ago and lives an hour.
    test.server.behave(Behaviour::Shifted(-2400));
    test.issuing.plane.apply_documents(&test.namespace, vec![certificate(&test, "web", "web-tls")]).await?;
    // cert-manager deletes what has failed, and tries again.
    let failed = test.until_ready("web-1", "False", "Failed").await?;
    assert!(message(&failed).contains("renewBefore"), "{}", message(&failed));
    let uid = failed.metadata.uid.ok_or("no UID")?;
    test.server.until("its revocation", |server| server.revoked().contains(&(uid.clone(), Some(5)))).await?;
    assert_eq!(test.server.asked_for(&uid), 1);
    test.issuing
        .plane
        .objects("cert-manager.io/v1", "Certificate", &test.namespace)
        .await?
        .delete("web", &kube::api::DeleteParams::default())
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_secret_that_two_fight_over_gets_some_certificates_an_hour_and_then_waits() -> Result<()> {
    let Some(test) = Test::ready("fight").await? else { return Ok(()) };
    // Nobody approves for cert-manager here: the requests are this test's.
    let made = test.issuing.plane.apply_documents(&test.namespace, vec![certificate(&test, "web", "web-tls")]).await?;
    let uid = made.first().and_then(|made| made.metadata.uid.clone()).ok_or("no UID")?;
    // What has no revision, or the next one, is cert-manager's to delete.
    let owner = json!({ "metadata": { "annotations": { "cert-manager.io/certificate-revision": "99" }, "ownerReferences": [{
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "web", "uid": uid, "controller": true,
    }] } });
    for number in 0..23 {
        let name = format!("fight-{number}");
        test.ask_with(&name, &pem("web.example.test")?, &owner).await?;
        test.approve(&name).await?;
        test.until_ready(&name, "True", "Issued").await?;
    }
    let last = test.ask_with("one-more", &pem("web.example.test")?, &owner).await?;
    test.approve("one-more").await?;
    let waits = test.until_ready("one-more", "False", "Pending").await?;
    assert!(message(&waits).contains("web-tls") && message(&waits).contains("23 certificates"), "{}", message(&waits));
    assert_eq!(test.server.asked_for(&last), 0);
    Ok(())
}

fn certificate(test: &Test, name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": { "name": name },
        "spec": {
            "secretName": secret, "dnsNames": ["web.example.test"], "issuerRef": test.issuer_ref(),
            "duration": "1h", "renewBefore": "30m", "privateKey": { "algorithm": "ECDSA", "size": 256 },
        },
    })
}
