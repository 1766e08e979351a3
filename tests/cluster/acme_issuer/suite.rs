//! The cases of the conformance suite that can be asked for by ACME, and what one does with the certificate afterwards.

use chancery_cluster_tests::{Result, until};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};

use super::{Acme, acme_issuer};
use crate::conformance::{ACME, CASES, Case, Ground, Trust, failed, faults};

/// Whoever asks by ACME needs an issuer that passes durations on.
fn durations() -> Value {
    json!({ "enableDurationFeature": true })
}

fn trust(ground: &Ground) -> Trust<'static> {
    Trust { root: ground.issuing.real.root(), acme: true }
}

#[tokio::test]
async fn an_acme_issuer_with_a_key_passes_every_case_that_acme_knows_without_a_solver() -> Result<()> {
    let Some(ground) = Ground::new("acme-suite").await? else { return Ok(()) };
    let issuer = ground.team_issuer("team", &[], durations()).await?;
    let cases: Vec<&Case> = CASES.iter().filter(|case| ACME.contains(&case.name)).collect();
    assert_eq!(cases.len(), ACME.len());
    let failed = failed(&ground, &issuer, &cases, "teams.test", &trust(&ground)).await;
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

#[tokio::test]
async fn a_cluster_issuer_registers_with_a_key_and_its_certificate_is_renewed_and_revoked() -> Result<()> {
    let Some(ground) = Ground::new("acme-cluster").await? else { return Ok(()) };
    let (plane, real) = (ground.issuing.plane, ground.issuing.real);
    let (id, secret) = ground.team_key("cluster", &[]).await?;
    let directory = real.server().directory_of("teams");
    let acme = Acme { directory: &directory, roots: real.root(), key: Some((&id, &secret)), more: json!({}) };
    // Secrets of cluster issuers lie beside cert-manager; so does the key of the account.
    plane
        .apply_documents("cert-manager", acme_issuer("ClusterIssuer", "cert-manager", &ground.namespace, &acme))
        .await?;
    let issuers = plane.objects("cert-manager.io/v1", "ClusterIssuer", "").await?;
    let ready = until(&issuers, &ground.namespace, until::condition("Ready", "True")).await?;
    let account = ready.data.pointer("/status/acme/uri").and_then(Value::as_str).ok_or("no account")?;
    assert!(account.starts_with(&format!("{}/acme/teams/", real.url())), "{account}");
    let keys: Api<Secret> = Api::namespaced(plane.client().await?, "cert-manager");
    keys.get(&format!("{}-account", ground.namespace)).await?;

    let issuer = json!({ "group": "cert-manager.io", "kind": "ClusterIssuer", "name": ground.namespace });
    let name = format!("{}.teams.test", ground.namespace);
    let first = ground.passes("web", &issuer, &json!({ "dnsNames": [name] }), &trust(&ground)).await?;
    ground.renew("web").await?;
    let second = ground.issued("web", 2).await?;
    assert_eq!(faults(&second, &trust(&ground))?, Vec::<String>::new());
    assert_ne!(first.octets("tls.crt")?, second.octets("tls.crt")?);

    // The server knows by which key, and the operator takes one of the two back.
    let listed = real.server().json(&["certificate", "list", "--name", &name]).await?;
    let all = listed.as_array().ok_or("no list")?;
    assert_eq!(all.len(), 2, "{listed}");
    assert!(
        all.iter().all(|one| one["requester"].as_str().unwrap_or_default().contains(&format!("eab {id}"))),
        "{listed}"
    );
    let (_, pem) = x509_parser::pem::parse_x509_pem(first.octets("tls.crt")?)?;
    let serial: String =
        pem.parse_x509()?.raw_serial().iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"));
    real.server().printed(&["certificate", "revoke", &serial, "--reason", "superseded", "--yes"]).await?;
    let shown = real.server().json(&["certificate", "show", &serial]).await?;
    assert!(shown.to_string().contains("superseded"), "{shown}");
    let kept = ground.issued("web", 2).await?;
    assert_eq!(kept.octets("tls.crt")?, second.octets("tls.crt")?, "the other one is as it was");
    Ok(())
}

#[tokio::test]
async fn a_profile_is_asked_for_by_the_issuer_and_one_that_there_is_not_is_told_in_words_and_not_tried_again()
-> Result<()> {
    let Some(ground) = Ground::new("acme-profile").await? else { return Ok(()) };
    let issuer = ground.team_issuer("minutes", &[], json!({ "profile": "minutes" })).await?;
    let name = format!("{}.teams.test", ground.namespace);
    ground.ask("short", &issuer, &json!({ "dnsNames": [name], "privateKey": { "algorithm": "ECDSA" } })).await?;
    let issued = ground.issued("short", 1).await?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(issued.octets("tls.crt")?)?;
    let validity = pem.parse_x509()?.validity().clone();
    // The last second counts (RFC 5280 §4.1.2.5).
    assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp() + 1, 600, "ten minutes");

    let other = Ground::new("acme-no-profile").await?.ok_or("it was there a moment ago")?;
    let issuer = other.team_issuer("nothing", &[], json!({ "profile": "no-such-profile" })).await?;
    other.ask("never", &issuer, &json!({ "dnsNames": [name] })).await?;
    let order = other.order_in("errored").await?;
    let reason = order.data["status"]["reason"].as_str().unwrap_or_default();
    // cert-manager reads in the directory which profiles there are, and does not even ask.
    assert!(reason.contains("does not advertise a profile with name no-such-profile"), "{reason}");
    Ok(())
}
