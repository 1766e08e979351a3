//! §7.3.4: external account bindings; and what Chancery gives accounts that came with one.

use chancery_harness::client::binding;

use super::*;

#[tokio::test]
async fn a_binding_that_is_not_taken_is_not_reflected() -> Result<()> {
    let site = site().await?;
    let mut client = site.stranger().await?;
    let url = client.resource("newAccount");
    let binding = json!({"protected": b64("{}"), "payload": b64("{}"), "signature": b64([7; 32])});
    let made = client.post(&url, &json!({"externalAccountBinding": binding})).await?.expect_status(201)?;
    assert_eq!(made.json().get("externalAccountBinding"), None);
    Ok(())
}

#[tokio::test]
async fn the_directory_says_where_an_account_needs_a_binding() -> Result<()> {
    let site = site().await?;
    assert_eq!(site.stranger_at("teams").await?.directory["meta"]["externalAccountRequired"], true);
    assert_eq!(site.stranger_at("either").await?.directory["meta"].get("externalAccountRequired"), None);
    Ok(())
}

#[tokio::test]
async fn an_account_is_made_by_a_key_that_an_operator_made_and_its_binding_is_reflected() -> Result<()> {
    let site = site().await?;
    let (id, key) = site.server.eab_key("reflected", &["--directory", "teams"]).await?;
    let mut client = site.stranger_at("teams").await?;
    let url = client.resource("newAccount");
    problem(&client.post(&url, &json!({})).await?, 403, "externalAccountRequired");
    let sent = binding(&client.key.jwk(), &url, &id, &key)?;
    let made = client.post(&url, &json!({"externalAccountBinding": sent})).await?.expect_status(201)?;
    assert_eq!(made.json()["externalAccountBinding"], sent);
    // §7.3.1: what exists is found without one.
    let found = client.post(&url, &json!({"onlyReturnExisting": true})).await?.expect_status(200)?;
    assert_eq!(found.location()?, made.location()?);
    assert_eq!(found.json()["externalAccountBinding"], sent);
    let shown = site.server.json(&["eab", "show", &id]).await?;
    assert_eq!((&shown["state"], &shown["accounts_made"]), (&json!("used up"), &json!(1)));
    let mut second = site.stranger_at("teams").await?;
    let refused = problem(&second.register_bound(&id, &key).await?, 403, "unauthorized");
    assert!(refused["detail"].as_str().unwrap_or_default().contains("used up"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn each_check_of_a_binding_that_fails_refuses_the_request() -> Result<()> {
    let site = site().await?;
    let (id, key) = site.server.eab_key("checked", &["--directory", "teams"]).await?;
    let mut client = site.stranger_at("teams").await?;
    let url = client.resource("newAccount");
    let jwk = client.key.jwk();
    let good = binding(&jwk, &url, &id, &key)?;
    let stranger = chancery_harness::client::AccountKey::generate()?;
    let elsewhere = url.replace("/teams/", "/either/");
    let header = |header: Value| json!({"protected": b64(header.to_string()), "payload": good["payload"], "signature": good["signature"]});
    let wrong = [
        ("another key in the payload", binding(&stranger.jwk(), &url, &id, &key)?, 403, "unauthorized"),
        ("another url", binding(&jwk, &elsewhere, &id, &key)?, 403, "unauthorized"),
        ("an unknown key", binding(&jwk, &url, "nobody", &key)?, 403, "unauthorized"),
        ("another MAC key", binding(&jwk, &url, &id, &b64([1; 64]))?, 403, "unauthorized"),
        ("a signature in place of a MAC", header(json!({"alg": "ES256", "kid": id, "url": url})), 400, "malformed"),
        ("a nonce", header(json!({"alg": "HS256", "kid": id, "url": url, "nonce": "AAAA"})), 400, "malformed"),
        ("no kid", header(json!({"alg": "HS256", "url": url})), 400, "malformed"),
        ("no url", header(json!({"alg": "HS256", "kid": id})), 400, "malformed"),
        ("no JWS", json!({"kid": id}), 400, "malformed"),
    ];
    for (what, sent, status, kind) in wrong {
        let answer = client.post(&url, &json!({"externalAccountBinding": sent})).await?;
        let document = problem(&answer, status, kind);
        assert!(document["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{what}: {document}");
        problem(&client.post(&url, &json!({"onlyReturnExisting": true})).await?, 400, "accountDoesNotExist");
    }
    assert_eq!(site.server.json(&["eab", "show", &id]).await?["accounts_made"], 0, "nothing of it spent the use");
    client.post(&url, &json!({"externalAccountBinding": good})).await?.expect_status(201)?;
    Ok(())
}

#[tokio::test]
async fn a_key_of_another_directory_and_a_revoked_one_make_no_account() -> Result<()> {
    let site = site().await?;
    let (id, key) = site.server.eab_key("elsewhere", &["--directory", "either"]).await?;
    let mut client = site.stranger_at("teams").await?;
    let refused = problem(&client.register_bound(&id, &key).await?, 403, "unauthorized");
    assert!(refused["detail"].as_str().unwrap_or_default().contains("another directory"), "{refused}");
    let (id, key) = site.server.eab_key("revoked", &["--directory", "teams"]).await?;
    site.server.printed(&["eab", "revoke", &id, "--yes"]).await?;
    let refused = problem(&client.register_bound(&id, &key).await?, 403, "unauthorized");
    assert!(refused["detail"].as_str().unwrap_or_default().contains("was revoked"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn of_accounts_that_race_for_a_key_s_one_use_one_wins() -> Result<()> {
    let site = site().await?;
    let (id, key) = site.server.eab_key("raced", &["--directory", "teams"]).await?;
    let mut racers = Vec::new();
    for _ in 0..6 {
        let (mut client, id, key) = (site.stranger_at("teams").await?, id.clone(), key.clone());
        racers.push(tokio::spawn(async move { client.register_bound(&id, &key).await.map(|answer| answer.status) }));
    }
    let mut statuses = Vec::new();
    for racer in racers {
        statuses.push(racer.await??);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 403, 403, 403, 403, 403]);
    Ok(())
}

#[tokio::test]
async fn a_pre_authorised_order_is_ready_without_a_challenge_and_leads_to_one_certificate() -> Result<()> {
    let site = site().await?;
    let (id, key) = site.server.eab_key("ready", &["--directory", "teams"]).await?;
    let mut client = site.stranger_at("teams").await?;
    client.register_bound(&id, &key).await?.expect_status(201)?;
    let names = ["pre.test", "*.wild.test"];
    let order = client.new_order(&names).await?.expect_status(201)?;
    assert_eq!(order.text("status")?, "ready");
    for url in chancery_harness::client::authorizations(&order.json()) {
        let authorization = client.read(&url).await?.expect_status(200)?.json();
        assert_eq!((&authorization["status"], &authorization["challenges"]), (&json!("valid"), &json!([])));
    }
    let (done, _) = flow::finalize(&mut client, &order.json(), &names).await?;
    let certificate = done.expect_status(200)?.text("certificate")?;
    let pem = client.read(&certificate).await?.expect_status(200)?;
    let found = flow::chain(&pem.body)?;
    assert_eq!(found.len(), 2);
    let listed = site.server.json(&["certificate", "list", "--name", "pre.test"]).await?;
    let shown = site.server.json(&["certificate", "show", listed[0]["serial"].as_str().unwrap_or_default()]).await?;
    assert_eq!(shown["decision"]["preauthorized_by"], "ready", "{shown}");
    // All names or none.
    let refused = client.new_order(&["fine.test", "secret.denied.test", "outside.example"]).await?;
    let document = problem(&refused, 400, "rejectedIdentifier");
    assert_eq!(document["subproblems"].as_array().map(Vec::len), Some(2), "{document}");
    Ok(())
}
