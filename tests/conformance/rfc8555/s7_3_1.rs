//! §7.3.1: finding an account.

use super::*;

#[tokio::test]
async fn only_return_existing_finds_the_account_of_a_key_or_says_that_there_is_none() -> Result<()> {
    let site = site().await?;
    let mut client = site.stranger().await?;
    let url = client.resource("newAccount");
    let only = json!({"onlyReturnExisting": true});
    problem(&client.post(&url, &only).await?, 400, "accountDoesNotExist");
    let made = client.post(&url, &json!({})).await?.expect_status(201)?;
    let found = client.post(&url, &only).await?.expect_status(200)?;
    assert_eq!((found.location()?, found.json()), (made.location()?, made.json()));
    Ok(())
}
