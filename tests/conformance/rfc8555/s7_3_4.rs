//! §7.3.4: external account bindings, which are not taken yet (docs/rfc-divergences.md).

use super::*;

#[tokio::test]
async fn a_binding_that_was_not_verified_is_not_reflected() -> Result<()> {
    let site = site().await?;
    let mut client = site.stranger().await?;
    let url = client.resource("newAccount");
    let binding = json!({"protected": b64("{}"), "payload": b64("{}"), "signature": b64([7; 32])});
    let made = client.post(&url, &json!({"externalAccountBinding": binding})).await?.expect_status(201)?;
    assert_eq!(made.json().get("externalAccountBinding"), None);
    Ok(())
}
