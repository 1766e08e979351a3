//! dns-01 with records that cert-manager writes by RFC 2136 into a real name server.

use std::time::{Duration, Instant};

use chancery_cluster_tests::{NameServer, Result, UPDATE_KEY, skipped, until};
use kube::{ResourceExt as _, api::ListParams};
use serde_json::json;

use super::Acme;
use crate::conformance::{Ground, Trust, faults};

/// cert-manager itself waits a minute for the records' life before it looks whether they are there.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test]
async fn names_are_proven_by_records_that_cert_manager_writes_into_a_real_name_server() -> Result<()> {
    let Some(ground) = Ground::new("acme-dns").await? else { return Ok(()) };
    let Some(name_server) = NameServer::shared(ground.issuing.plane).await? else {
        skipped("there is no knot on this machine (tests/run installs it)");
        return Ok(());
    };
    let (plane, real) = (ground.issuing.plane, ground.issuing.real);
    let (key, secret) = UPDATE_KEY;
    let tsig = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "tsig" }, "stringData": { "tsig": secret },
    });
    plane.apply_documents(&ground.namespace, vec![tsig]).await?;
    let directory = real.server().directory();
    let solver = json!({ "solvers": [{ "dns01": { "rfc2136": {
        "nameserver": name_server.address().to_string(), "tsigKeyName": key, "tsigAlgorithm": "HMACSHA256",
        "tsigSecretSecretRef": { "name": "tsig", "key": "tsig" },
    } } }] });
    ground.acme_issuer("dns", &Acme { directory: &directory, roots: real.root(), key: None, more: solver }).await?;
    let issuer = ground.until_acme_issuer_is_ready("dns").await?;
    ground.ask("web", &issuer, &json!({ "dnsNames": ["web.dns.test"] })).await?;
    let deadline = Instant::now() + PATIENCE;
    let issued = loop {
        match ground.issued("web", 1).await {
            Ok(issued) => break issued,
            Err(error) if Instant::now() > deadline => {
                let challenges = plane.objects("acme.cert-manager.io/v1", "Challenge", &ground.namespace).await?;
                let all = challenges.list(&ListParams::default()).await?;
                let said: Vec<_> = all.iter().map(|challenge| challenge.data["status"].to_string()).collect();
                return Err(format!("{error}\nthe challenges say: {}", said.join("\n")).into());
            }
            Err(_) => {}
        }
    };
    let trust = Trust { root: real.root(), acme: true };
    assert_eq!(faults(&issued, &trust)?, Vec::<String>::new());
    // What it has written it takes away again.
    let challenges = plane.objects("acme.cert-manager.io/v1", "Challenge", &ground.namespace).await?;
    for left in challenges.list(&ListParams::default()).await? {
        until::gone(&challenges, &left.name_any(), &left.uid().unwrap_or_default()).await?;
    }
    Ok(())
}
