//! A server that cannot now: cert-manager is told to come back, and does. What it takes as final it is never told.

use std::fs;

use chancery_cluster_tests::{CertManager, Result};
use chancery_harness::{
    server::{Server, Setup},
    wire::Wire,
};
use serde_json::json;

use super::Acme;
use crate::conformance::{Ground, Trust};

const TEAMS: &str = "\n[[directory]]\nname = \"teams\"\nauthority = \"issuing\"\nprofiles = [\"server\"]\n\
    external_account = \"required\"\npreauthorized = true\n";
const POLICY: &str = "version: v1\nrules:\n  - name: own\n    allow: { names: [localhost] }\n    for: { door: own-tls }\n  \
    - name: team-names\n    allow: { names: [\"**.teams.test\"] }\n    for: { directory: teams }\n";

/// A server of the test's own with these limits, an issuer that has an account at it, and its root.
async fn with_limits(ground: &Ground, limits: &str) -> Result<(Server, serde_json::Value, String)> {
    let configuration = format!("{TEAMS}\n[limits]\n{limits}\n");
    let server = Server::start(&Setup { policy: POLICY.to_owned(), configuration, ..Setup::default() }).await?;
    let root = fs::read_to_string(server.root_pem()?)?;
    let (id, secret) = server.eab_key("team", &[]).await?;
    let directory = server.directory_of("teams");
    let acme = Acme { directory: &directory, roots: &root, key: Some((&id, &secret)), more: json!({}) };
    ground.acme_issuer("busy", &acme).await?;
    let issuer = ground.until_acme_issuer_is_ready("busy").await?;
    Ok((server, issuer, root))
}

/// Waits until cert-manager has written about an answer like this.
async fn cert_manager_was_answered(ground: &Ground, answer: &str) -> Result<()> {
    let cert_manager = CertManager::shared(ground.issuing.plane).await?.ok_or("it was there a moment ago")?;
    cert_manager.controllers().until_it_prints(|line| line.contains(answer)).await
}

#[tokio::test]
async fn a_busy_server_says_503_and_cert_manager_comes_back() -> Result<()> {
    let Some(ground) = Ground::new("acme-busy").await? else { return Ok(()) };
    let (server, issuer, root) =
        with_limits(&ground, "arriving_requests_per_address = 1\nbody_timeout = \"1m\"").await?;
    // A request that never arrives whole takes the one place that this address has.
    let mut slow = Wire::connect(&server.target()?, &["http/1.1"]).await?;
    let head = "POST /acme/teams/new-order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose+json\r\n\
                Content-Length: 100\r\n\r\n{";
    slow.write(head.as_bytes()).await;
    ground.ask("web", &issuer, &json!({ "dnsNames": ["web.teams.test"] })).await?;
    cert_manager_was_answered(&ground, "503 urn:ietf:params:acme:error:serverInternal").await?;
    drop(slow);
    let issued = ground.issued("web", 1).await?;
    let trust = Trust { root: &root, acme: true };
    assert_eq!(crate::conformance::faults(&issued, &trust)?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn an_account_that_orders_too_fast_is_told_to_come_back_and_its_order_does_not_fail() -> Result<()> {
    let Some(ground) = Ground::new("acme-rate").await? else { return Ok(()) };
    let (_server, issuer, root) = with_limits(&ground, "orders_per_account_per_hour = 1").await?;
    let trust = Trust { root: &root, acme: true };
    ground.passes("first", &issuer, &json!({ "dnsNames": ["first.teams.test"] }), &trust).await?;
    ground.ask("second", &issuer, &json!({ "dnsNames": ["second.teams.test"] })).await?;
    cert_manager_was_answered(&ground, "503 urn:ietf:params:acme:error:rateLimited").await?;
    let orders = ground.orders().await?.list(&kube::api::ListParams::default()).await?;
    let waiting =
        orders.iter().find(|order| order.metadata.name.as_deref().is_some_and(|name| name.starts_with("second")));
    let state = &waiting.ok_or("no second order")?.data["status"]["state"];
    assert!(state.is_null() || state == "", "{state}");
    Ok(())
}
