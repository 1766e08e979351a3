//! §7.1.6: how orders and authorizations end. That they expire is tested in `acme` and `http`, which have a clock.

use super::*;

#[tokio::test]
async fn an_order_is_invalid_as_soon_as_one_of_its_authorizations_is() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let placed = client.new_order(&["one.end.test", "two.end.test"]).await?.expect_status(201)?;
    let (challenge, token) = first_challenge(&mut client, &placed.json(), "http-01").await?;
    site.responder.put(&token, "wrong".to_owned());
    let failed = client.post(&challenge, &json!({})).await?.expect_status(200)?;
    assert_eq!(failed.text("status")?, "invalid");
    assert_eq!(client.read(&failed.links("up")[0]).await?.text("status")?, "invalid");
    assert_eq!(client.read(&placed.location()?).await?.text("status")?, "invalid");
    let refused = client.post(&placed.text("finalize")?, &json!({"csr": b64(csr(&["one.end.test"])?)})).await?;
    problem(&refused, 403, "orderNotReady");
    Ok(())
}

#[tokio::test]
async fn an_order_is_invalid_when_an_authorization_is_deactivated_though_all_were_valid() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["three.end.test"]).await?;
    let url = ready.order["authorizations"][0].as_str().ok_or("no URL")?;
    client.post(url, &json!({"status": "deactivated"})).await?.expect_status(200)?;
    assert_eq!(client.read(&ready.url).await?.text("status")?, "invalid");
    Ok(())
}
