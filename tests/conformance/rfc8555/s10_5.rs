//! §10.5: what one account may learn of another.

use super::*;

#[tokio::test]
async fn what_is_another_accounts_is_as_if_it_did_not_exist() -> Result<()> {
    let site = site().await?;
    let (mut owner, mut other) = (site.client().await?, site.client().await?);
    let issued = flow::issued(site, &mut owner, &["owned.test"]).await?;
    let ready = flow::ready(site, &mut owner, &["owned-ready.test"]).await?;
    let (challenge, _) = first_challenge(&mut owner, &ready.order, "http-01").await?;
    let authorization = ready.order["authorizations"][0].as_str().ok_or("no URL")?.to_owned();
    for url in [&ready.url, &authorization, &challenge, &issued.certificate] {
        let (theirs, nobodys) = (other.read(url).await?, other.read(&flow::unknown_of(url)).await?);
        assert_eq!(problem(&theirs, 404, "malformed"), problem(&nobodys, 404, "malformed"), "{url}");
    }
    problem(&other.post(&challenge, &json!({})).await?, 404, "malformed");
    problem(&other.post(&authorization, &json!({"status": "deactivated"})).await?, 404, "malformed");
    problem(&flow::finalize(&mut other, &ready.order, &["owned-ready.test"]).await?.0, 404, "malformed");
    let account = owner.kid.clone().ok_or("registered")?;
    problem(&other.read(&account).await?, 403, "unauthorized");
    problem(&other.read(&format!("{account}/orders")).await?, 403, "unauthorized");
    problem(&other.post(&account, &json!({"status": "deactivated"})).await?, 403, "unauthorized");
    assert_eq!(owner.read(&ready.url).await?.json(), ready.order, "and nothing of it changed");
    owner.read(&account).await?.expect_status(200)?;
    Ok(())
}

#[tokio::test]
async fn accounts_of_one_directory_are_unknown_in_another() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let mut elsewhere = Client::connect(site.target()?.other_directory("terms")).await?;
    std::mem::swap(&mut elsewhere.key, &mut client.key);
    elsewhere.kid.clone_from(&client.kid);
    problem(&elsewhere.new_order(&["elsewhere.test"]).await?, 400, "accountDoesNotExist");
    Ok(())
}
