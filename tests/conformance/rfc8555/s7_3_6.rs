//! §7.3.6: deactivated accounts.

use super::*;

#[tokio::test]
async fn a_deactivated_account_is_told_401_whatever_it_asks() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    let issued = flow::issued(site, &mut client, &["gone.test"]).await?;
    let ready = flow::ready(site, &mut client, &["going.test"]).await?;
    let gone = client.post(&url, &json!({"status": "deactivated"})).await?.expect_status(200)?;
    assert_eq!(gone.text("status")?, "deactivated");
    let mut refused = vec![client.new_order(&["more.test"]).await?];
    for read in [&url, &ready.url, &issued.order, &issued.certificate] {
        refused.push(client.read(read).await?);
    }
    refused.push(client.post(&url, &json!({"status": "valid"})).await?);
    let (revoke, certificate) = (client.resource("revokeCert"), issued.base64url()?);
    refused.push(client.post(&revoke, &json!({ "certificate": certificate })).await?);
    refused.push(flow::finalize(&mut client, &ready.order, &["going.test"]).await?.0);
    for answer in refused {
        problem(&answer, 401, "unauthorized");
    }
    let listed = site.server.printed(&["certificate", "list", "--name", "gone.test", "--output", "json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    assert_eq!(listed[0].get("revoked").filter(|revoked| !revoked.is_null()), None, "what was issued stays: {listed}");
    Ok(())
}

#[tokio::test]
async fn new_account_does_not_bring_a_deactivated_one_back() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let kid = client.kid.take().ok_or("registered")?;
    client.kid = Some(kid.clone());
    client.post(&kid, &json!({"status": "deactivated"})).await?.expect_status(200)?;
    client.kid = None;
    let url = client.resource("newAccount");
    for sent in [json!({}), json!({"onlyReturnExisting": true}), json!({"contact": ["mailto:a@example.test"]})] {
        problem(&client.post(&url, &sent).await?, 401, "unauthorized");
    }
    client.kid = Some(kid.clone());
    problem(&client.read(&kid).await?, 401, "unauthorized");
    Ok(())
}
