//! §8: challenges, whichever their type.

use super::*;

#[tokio::test]
async fn a_valid_challenge_has_its_time_and_an_invalid_one_its_problem() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&["time.test"]).await?.expect_status(201)?.json();
    let (url, token) = first_challenge(&mut client, &order, "http-01").await?;
    site.responder.put(&token, client.key_authorization(&token));
    let valid = client.post(&url, &json!({})).await?.json();
    assert!(valid["validated"].as_str().is_some_and(|time| time.ends_with('Z')), "{valid}");
    assert_eq!(valid.get("error"), None);

    let order = client.new_order(&["nothing.test"]).await?.expect_status(201)?.json();
    let (url, _) = first_challenge(&mut client, &order, "http-01").await?;
    let failed = client.post(&url, &json!({})).await?.expect_status(200)?.json();
    assert_eq!(failed["status"], "invalid");
    assert_eq!(failed.get("validated"), None);
    let error = &failed["error"];
    assert!(error["type"].as_str().is_some_and(|kind| kind.starts_with(&urn(""))), "{failed}");
    assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("nothing.test")), "{failed}");
    Ok(())
}

#[tokio::test]
async fn s8_1_a_key_authorization_of_another_account_proves_nothing() -> Result<()> {
    let site = site().await?;
    let (mut client, other) = (site.client().await?, site.client().await?);
    let order = client.new_order(&["thumbprint.test"]).await?.expect_status(201)?.json();
    let (url, token) = first_challenge(&mut client, &order, "http-01").await?;
    site.responder.put(&token, other.key_authorization(&token));
    let failed = client.post(&url, &json!({})).await?.expect_status(200)?.json();
    assert_eq!((&failed["status"], &failed["error"]["type"]), (&json!("invalid"), &json!(urn("incorrectResponse"))));
    Ok(())
}
