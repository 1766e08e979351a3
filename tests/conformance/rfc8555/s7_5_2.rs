//! §7.5.2: deactivating an authorization.

use super::*;

#[tokio::test]
async fn deactivated_is_the_one_status_that_may_be_asked_for() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["give-up.test"]).await?;
    let url = ready.order["authorizations"][0].as_str().ok_or("no URL")?.to_owned();
    for status in ["valid", "revoked", "invalid", "pending", "DEACTIVATED", ""] {
        problem(&client.post(&url, &json!({ "status": status })).await?, 400, "malformed");
    }
    assert_eq!(client.read(&url).await?.text("status")?, "valid");
    for _ in 0..2 {
        let given_up = client.post(&url, &json!({"status": "deactivated"})).await?.expect_status(200)?;
        assert_eq!(given_up.text("status")?, "deactivated");
    }
    let (challenge, _) = challenge(&client.read(&url).await?.json(), "http-01")?;
    let answered = client.post(&challenge, &json!({})).await?;
    assert!(answered.status < 500, "{answered:?}");
    assert_eq!(client.read(&url).await?.text("status")?, "deactivated", "it does not come back");
    Ok(())
}

#[tokio::test]
async fn an_order_that_is_valid_already_stays_so() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let issued = flow::issued(site, &mut client, &["stays.test"]).await?;
    let order = client.read(&issued.order).await?.json();
    let url = order["authorizations"][0].as_str().ok_or("no URL")?;
    client.post(url, &json!({"status": "deactivated"})).await?.expect_status(200)?;
    assert_eq!(client.read(&issued.order).await?.json(), order);
    assert_eq!(client.read(&issued.certificate).await?.body, issued.pem.as_bytes());
    Ok(())
}
