//! §5: orders that say what they replace.

use super::*;

#[tokio::test]
async fn an_order_reflects_what_it_replaces_and_a_second_one_is_already_replaced() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let issued = flow::issued(site, &mut client, &["a.replaces.test", "b.replaces.test"]).await?;
    let replaced = identifier(&issued)?;
    let url = client.resource("newOrder");
    let placed = client.post(&url, &order(&["b.replaces.test"], &replaced)).await?.expect_status(201)?;
    assert_eq!(placed.text("replaces")?, replaced);
    let location = placed.location()?;
    assert_eq!(client.read(&location).await?.text("replaces")?, replaced);
    problem(&client.post(&url, &order(&["b.replaces.test"], &replaced)).await?, 409, "alreadyReplaced");
    flow::fulfil(site, &mut client, &placed.json()).await?;
    let (valid, _) = flow::finalize(&mut client, &placed.json(), &["b.replaces.test"]).await?;
    assert_eq!(valid.expect_status(200)?.text("replaces")?, replaced);
    problem(&client.post(&url, &order(&["a.replaces.test"], &replaced)).await?, 409, "alreadyReplaced");
    Ok(())
}

#[tokio::test]
async fn what_is_not_the_accounts_own_or_shares_no_name_is_refused_in_words_that_name_the_member() -> Result<()> {
    let site = site().await?;
    let mut owner = site.client().await?;
    let issued = flow::issued(site, &mut owner, &["own.replaces.test"]).await?;
    let replaced = identifier(&issued)?;
    let mut other = site.client().await?;
    let url = other.resource("newOrder");
    let refused = problem(&other.post(&url, &order(&["own.replaces.test"], &replaced)).await?, 400, "malformed");
    assert!(says_replaces(&refused), "{refused}");
    for (name, replaces) in [
        ("other.replaces.test", replaced.as_str()),
        ("own.replaces.test", "AQI.AQI"),
        ("own.replaces.test", "nonsense"),
    ] {
        let refused = problem(&owner.post(&url, &order(&[name], replaces)).await?, 400, "malformed");
        assert!(says_replaces(&refused), "{refused}");
    }
    // Nothing of that was marked.
    owner.post(&url, &order(&["own.replaces.test"], &replaced)).await?.expect_status(201)?;
    Ok(())
}

fn says_replaces(problem: &Value) -> bool {
    problem["detail"].as_str().is_some_and(|detail| detail.contains("replaces"))
}
