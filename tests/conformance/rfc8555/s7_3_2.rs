//! §7.3.2: changing an account.

use super::*;

#[tokio::test]
async fn an_update_is_200_with_the_whole_account_and_is_never_half_applied() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    let contact = json!(["mailto:a@example.test", "mailto:b@example.test"]);
    let sent = json!({"contact": contact, "orders": "https://evil.example/", "termsOfServiceAgreed": false});
    let updated = client.post(&url, &sent).await?.expect_status(200)?.json();
    assert_eq!((&updated["contact"], &updated["status"]), (&contact, &json!("valid")));
    assert_eq!(updated["orders"], format!("{url}/orders"));
    let half = json!({"contact": ["mailto:c@example.test", "tel:1"]});
    problem(&client.post(&url, &half).await?, 400, "unsupportedContact");
    for status in ["revoked", "pending", ""] {
        let sent = json!({"contact": ["mailto:c@example.test"], "status": status});
        problem(&client.post(&url, &sent).await?, 400, "malformed");
    }
    assert_eq!(client.read(&url).await?.json(), updated);
    let emptied = client.post(&url, &json!({"contact": []})).await?.expect_status(200)?.json();
    assert_eq!(emptied.get("contact"), None);
    Ok(())
}
