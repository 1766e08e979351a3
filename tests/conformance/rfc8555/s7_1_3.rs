//! §7.1.3: order objects.

use super::*;

#[tokio::test]
async fn an_order_shows_what_its_state_has_and_nothing_before() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let placed = client.new_order(&["state.test", "other.state.test"]).await?.expect_status(201)?;
    let (url, pending) = (placed.location()?, placed.json());
    assert_eq!(pending["status"], "pending");
    flow::fulfil(site, &mut client, &pending).await?;
    let ready = client.read(&url).await?.json();
    assert_eq!(ready["status"], "ready");
    for open in [&pending, &ready] {
        assert!(open["expires"].is_string());
        assert_eq!((open.get("certificate"), open.get("error")), (None, None));
    }
    let (finalized, _) = flow::finalize(&mut client, &ready, &["state.test", "other.state.test"]).await?;
    let valid = finalized.expect_status(200)?.json();
    assert_eq!(valid["status"], "valid");
    assert!(valid["certificate"].is_string() && valid["expires"].is_string(), "{valid}");
    assert_eq!(valid.get("error"), None);
    for later in [&ready, &valid, &client.read(&url).await?.json()] {
        for member in ["identifiers", "authorizations", "finalize"] {
            assert_eq!(later[member], pending[member], "{member} never changes");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_invalid_order_says_why() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let placed = client.new_order(&["why.test"]).await?.expect_status(201)?;
    let (challenge, token) = first_challenge(&mut client, &placed.json(), "http-01").await?;
    site.responder.put(&token, "something else".to_owned());
    assert_eq!(client.post(&challenge, &json!({})).await?.text("status")?, "invalid");
    let order = client.read(&placed.location()?).await?.json();
    assert_eq!(order["status"], "invalid");
    assert!(order["error"]["type"].as_str().is_some_and(|kind| kind.starts_with(&urn(""))), "{order}");
    assert_eq!(order.get("certificate"), None);
    Ok(())
}
