//! §7.3: newAccount.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn a_new_account_is_201_and_the_same_key_200_with_the_same_location_and_contacts() -> Result<()> {
    let site = site().await?;
    let mut client = site.stranger().await?;
    let url = client.resource("newAccount");
    let made = client.post(&url, &json!({"contact": ["mailto:a@example.test"]})).await?.expect_status(201)?;
    assert_eq!((&made.json()["status"], &made.json()["contact"]), (&json!("valid"), &json!(["mailto:a@example.test"])));
    let again = client.post(&url, &json!({"contact": ["mailto:b@example.test"]})).await?.expect_status(200)?;
    assert_eq!(again.location()?, made.location()?);
    assert_eq!(again.json(), made.json(), "what it says of contacts is ignored");
    Ok(())
}

#[tokio::test]
async fn what_is_not_the_clients_to_say_is_neither_kept_nor_reflected() -> Result<()> {
    let site = site().await?;
    let mut client = site.stranger().await?;
    let url = client.resource("newAccount");
    let sent = json!({"onlyReturnExisting": false, "orders": "https://evil.example/", "status": "revoked", "more": 1});
    let made = client.post(&url, &sent).await?.expect_status(201)?;
    let account = made.json();
    let members: BTreeSet<&str> = account.as_object().ok_or("no object")?.keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["orders", "status"]));
    assert_eq!(account["status"], "valid");
    assert_eq!(account["orders"], format!("{}/orders", made.location()?));
    Ok(())
}

#[tokio::test]
async fn contacts_of_another_scheme_are_unsupported_and_odd_addresses_invalid_and_no_account_is_left() -> Result<()> {
    let site = site().await?;
    let mut client = site.stranger().await?;
    let url = client.resource("newAccount");
    for (contact, kind) in [
        ("tel:+15550100", "unsupportedContact"),
        ("https://example.test/", "unsupportedContact"),
        ("mailto:a@example.test?subject=x", "invalidContact"),
        ("mailto:a@example.test,b@example.test", "invalidContact"),
        ("mailto:", "invalidContact"),
    ] {
        problem(&client.post(&url, &json!({"contact": [contact]})).await?, 400, kind);
        problem(&client.post(&url, &json!({"onlyReturnExisting": true})).await?, 400, "accountDoesNotExist");
    }
    Ok(())
}

#[tokio::test]
async fn terms_that_were_not_agreed_to_leave_no_account_and_say_where_they_are() -> Result<()> {
    let site = site().await?;
    let mut client = Client::connect(site.target()?.other_directory("terms")).await?;
    let url = client.resource("newAccount");
    for sent in [json!({}), json!({"termsOfServiceAgreed": false})] {
        let refused = client.post(&url, &sent).await?;
        assert_eq!(problem(&refused, 403, "userActionRequired")["instance"], "https://example.test/terms-1");
        assert_eq!(refused.links("terms-of-service"), ["https://example.test/terms-1"]);
        problem(&client.post(&url, &json!({"onlyReturnExisting": true})).await?, 400, "accountDoesNotExist");
    }
    let made = client.post(&url, &json!({"termsOfServiceAgreed": true})).await?.expect_status(201)?;
    assert_eq!(made.json()["termsOfServiceAgreed"], true);
    Ok(())
}
