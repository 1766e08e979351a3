//! Who gets an account, and what it may have.

use chancery_cluster_tests::{Result, until};
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};

use super::Acme;
use crate::conformance::{Ground, Trust, message};

#[tokio::test]
async fn a_key_that_is_wrong_used_up_or_missing_makes_no_account_and_the_issuer_says_why() -> Result<()> {
    let Some(ground) = Ground::new("acme-keys").await? else { return Ok(()) };
    let real = ground.issuing.real;
    let directory = real.server().directory_of("teams");
    ground.team_issuer("first", &[], json!({})).await?;
    let (used, secret) = ground.team_key("used", &[]).await?;
    let with = |key| Acme { directory: &directory, roots: real.root(), key, more: json!({}) };
    ground.acme_issuer("takes-it", &with(Some((&used, &secret)))).await?;
    ground.until_acme_issuer_is_ready("takes-it").await?;
    let (wrong, _) = ground.team_key("wrong", &[]).await?;
    let issuers = ground.issuing.plane.objects("cert-manager.io/v1", "Issuer", &ground.namespace).await?;
    for (name, key, words) in [
        ("used-up", Some((used.as_str(), secret.as_str())), "used up"),
        ("wrong", Some((wrong.as_str(), secret.as_str())), "unauthorized"),
        ("unknown", Some(("nobody", secret.as_str())), "unauthorized"),
        ("none", None, "externalAccountRequired"),
    ] {
        ground.acme_issuer(name, &with(key)).await?;
        let says = |object: Option<&DynamicObject>| object.is_some_and(|object| message(object).contains(words));
        until(&issuers, name, says).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_name_that_nobody_could_solve_is_refused_at_once_and_the_order_says_why() -> Result<()> {
    let Some(ground) = Ground::new("acme-refused").await? else { return Ok(()) };
    let limits = ["--name", "**.mine.teams.test", "--wildcard", "*.wild.teams.test"];
    let issuer = ground.team_issuer("team", &limits, json!({})).await?;
    // By policy, and by the limits of the key; beside names that would have been allowed.
    for (name, names, words) in [
        ("by-policy", json!(["web.mine.teams.test", "web.elsewhere.example"]), "web.elsewhere.example"),
        ("by-key", json!(["web.mine.teams.test", "web.yours.teams.test"]), "limited to"),
        ("no-wildcard", json!(["*.mine.teams.test"]), "*.mine.teams.test"),
    ] {
        ground.ask(name, &issuer, &json!({ "dnsNames": names })).await?;
        let failed = ground.request_of(name, "Failed").await?;
        assert!(failed.data["status"]["failureTime"].is_string(), "{name}");
        let words_said = reasons(&ground, name).await?;
        assert!(words_said.contains(words) && words_said.contains("rejectedIdentifier"), "{name}: {words_said}");
    }
    // Nothing is left that waits for a challenge.
    let challenges = ground.issuing.plane.objects("acme.cert-manager.io/v1", "Challenge", &ground.namespace).await?;
    assert_eq!(challenges.list(&ListParams::default()).await?.items.len(), 0);
    let allowed = json!({ "dnsNames": ["web.mine.teams.test", "*.wild.teams.test"] });
    ground.passes("allowed", &issuer, &allowed, &Trust { root: ground.issuing.real.root(), acme: true }).await?;
    Ok(())
}

/// What the orders of a Certificate say; they are named after its request.
async fn reasons(ground: &Ground, certificate: &str) -> Result<String> {
    let all = ground.orders().await?.list(&ListParams::default()).await?;
    let of_it = all.iter().filter(|order| {
        order.metadata.name.as_deref().is_some_and(|name| name.starts_with(&format!("{certificate}-")))
    });
    let said: Vec<&str> = of_it.filter_map(|order| order.data["status"]["reason"].as_str()).collect();
    for order in &all.items {
        assert_ne!(order.data["status"]["state"], Value::from("pending"), "{:?}", order.data);
    }
    Ok(said.join("\n"))
}

#[tokio::test]
async fn a_key_that_is_revoked_with_its_accounts_ends_what_the_issuer_may_have() -> Result<()> {
    let Some(ground) = Ground::new("acme-revoked").await? else { return Ok(()) };
    let issuer = ground.team_issuer("team", &[], json!({})).await?;
    let name = format!("{}.teams.test", ground.namespace);
    let trust = Trust { root: ground.issuing.real.root(), acme: true };
    ground.passes("before", &issuer, &json!({ "dnsNames": [name] }), &trust).await?;
    let id = format!("{}-team", ground.namespace);
    let server = ground.issuing.real.server();
    // The key alone: its account goes on.
    server.printed(&["eab", "revoke", &id, "--yes"]).await?;
    ground.renew("before").await?;
    ground.issued("before", 2).await?;
    server.printed(&["eab", "revoke", &id, "--accounts", "--yes"]).await?;
    ground.ask("after", &issuer, &json!({ "dnsNames": [name] })).await?;
    let order = ground.order_in("errored").await?;
    let reason = order.data["status"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("unauthorized"), "{reason}");
    Ok(())
}
