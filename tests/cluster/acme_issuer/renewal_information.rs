//! Renewal information (RFC 9773): cert-manager asks for it, says what it replaces, and replaces at once what an operator
//! revoked.

use std::time::Duration;

use chancery_cluster_tests::{Result, kept_key, until};
use chancery_harness::client::b64;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::sleep;
use x509_parser::extensions::ParsedExtension;

use crate::conformance::{Ground, Issued, Trust, faults, time_of_day};

fn trust(ground: &Ground) -> Trust<'static> {
    Trust { root: ground.issuing.real.root(), acme: true }
}

/// Its identifier (RFC 9773 §4.1), and its serial number in hexadecimal.
fn identifier(issued: &Issued) -> Result<(String, String)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(issued.octets("tls.crt")?)?;
    let leaf = pem.parse_x509()?;
    let key = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(of) => of.key_identifier.as_ref().map(|key| key.0.to_vec()),
        _ => None,
    });
    let serial = leaf.raw_serial();
    let hexadecimal = serial.iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"));
    Ok((format!("{}.{}", b64(key.ok_or("no authority key identifier")?), b64(serial)), hexadecimal))
}

/// What the orders of the namespace say that they replace.
async fn replaced(ground: &Ground) -> Result<Vec<String>> {
    let orders = ground.orders().await?.list(&ListParams::default()).await?;
    let replaces = orders.iter().filter_map(|order| order.data.pointer("/spec/replaces").and_then(Value::as_str));
    Ok(replaces.map(str::to_owned).collect())
}

#[tokio::test]
async fn a_renewal_says_what_it_replaces_and_the_server_keeps_it() -> Result<()> {
    let Some(ground) = Ground::new("acme-replaces").await? else { return Ok(()) };
    let issuer = ground.team_issuer("team", &[], json!({})).await?;
    let name = format!("{}.teams.test", ground.namespace);
    let first = ground
        .passes("web", &issuer, &json!({ "dnsNames": [name], "privateKey": kept_key() }), &trust(&ground))
        .await?;
    assert_eq!(replaced(&ground).await?, Vec::<String>::new());
    ground.renew("web").await?;
    let second = ground.issued("web", 2).await?;
    assert_eq!(faults(&second, &trust(&ground))?, Vec::<String>::new());
    let (identifier, serial) = identifier(&first)?;
    assert_eq!(replaced(&ground).await?, [identifier]);
    let shown = ground.issuing.real.server().json(&["certificate", "show", &serial]).await?;
    assert!(shown["replaced_by"].is_string(), "the server took it: {shown}");
    Ok(())
}

#[tokio::test]
async fn what_an_operator_revoked_is_replaced_as_soon_as_cert_manager_asks() -> Result<()> {
    let Some(ground) = Ground::new("acme-ari").await? else { return Ok(()) };
    let issuer = ground.team_issuer("team", &[], json!({})).await?;
    let name = format!("{}.teams.test", ground.namespace);
    let first = ground
        .passes("web", &issuer, &json!({ "dnsNames": [name], "privateKey": kept_key() }), &trust(&ground))
        .await?;
    let (_, serial) = identifier(&first)?;
    ground
        .issuing
        .real
        .server()
        .printed(&["certificate", "revoke", &serial, "--reason", "superseded", "--yes"])
        .await?;
    // The next one has to begin in a later second, else the window of this one is after its beginning, too, and
    // cert-manager takes it for that one's own.
    let this_second = time_of_day();
    while time_of_day() == this_second {
        sleep(Duration::from_millis(50)).await;
    }
    // It asks every few hours; these have passed.
    let now = json!({ "status": { "acme": { "ari": { "nextCheck": time_of_day() } } } });
    let certificates = ground.issuing.plane.objects("cert-manager.io/v1", "Certificate", &ground.namespace).await?;
    certificates.patch_status("web", &PatchParams::default(), &Patch::Merge(&now)).await?;
    let second = ground.issued("web", 2).await?;
    assert_ne!(first.octets("tls.crt")?, second.octets("tls.crt")?);
    let settled = until(&certificates, "web", until::condition("Ready", "True")).await?;
    assert_eq!(settled.data["status"]["revision"], 2, "once");
    Ok(())
}
