//! §6.6: rate limits.

use super::*;

#[tokio::test]
async fn who_asks_too_fast_is_rate_limited_with_a_time_to_come_back() -> Result<()> {
    // A quarter of an hour's worth may come at once.
    let limits = "[limits]\norders_per_account_per_hour = 8\nnew_accounts_per_address_per_hour = 12\n\
                  documentation = \"https://example.test/limits\"\n";
    let site = own(&format!("\n{limits}")).await?;
    let mut client = site.client().await?;
    for name in ["a.test", "b.test"] {
        client.new_order(&[name]).await?.expect_status(201)?;
    }
    let limited = client.new_order(&["c.test"]).await?;
    problem(&limited, 429, "rateLimited");
    let wait: u64 = limited.header("retry-after").ok_or("no Retry-After")?.parse()?;
    assert!((1..=3600).contains(&wait), "{wait}");
    assert!(limited.header("replay-nonce").is_some());
    assert_eq!(limited.links("help"), ["https://example.test/limits"]);

    let mut other = site.client().await?;
    other.new_order(&["d.test"]).await?.expect_status(201)?;
    site.client().await?;
    let mut fourth = site.stranger().await?;
    let url = fourth.resource("newAccount");
    let limited = fourth.post(&url, &json!({})).await?;
    problem(&limited, 429, "rateLimited");
    assert!(limited.header("retry-after").is_some());
    assert_eq!(limited.links("help"), ["https://example.test/limits"]);
    // Who has an account finds it all the same.
    client.kid = None;
    client.post(&url, &json!({})).await?.expect_status(200)?;
    Ok(())
}

#[tokio::test]
async fn an_account_with_too_many_open_orders_is_rate_limited_until_one_ends() -> Result<()> {
    let site = own("\n[limits]\npending_orders_per_account = 2\n").await?;
    let mut client = site.client().await?;
    let first = client.new_order(&["a.test"]).await?.expect_status(201)?.json();
    client.new_order(&["b.test"]).await?.expect_status(201)?;
    let limited = client.new_order(&["c.test"]).await?;
    problem(&limited, 429, "rateLimited");
    assert!(limited.header("retry-after").is_some());
    flow::fulfil(&site, &mut client, &first).await?;
    flow::finalize(&mut client, &first, &["a.test"]).await?.0.expect_status(200)?;
    client.new_order(&["c.test"]).await?.expect_status(201)?;
    Ok(())
}

#[tokio::test]
async fn who_brings_keys_of_his_own_too_often_is_rate_limited_before_they_are_looked_at() -> Result<()> {
    // Ten times as many keys as accounts, a quarter of them at once: five.
    let site = own("\n[limits]\nnew_accounts_per_address_per_hour = 2\n").await?;
    let mut client = site.client().await?;
    let account = client.kid.take().ok_or("registered")?;
    let url = client.resource("newAccount");
    for _ in 1..5 {
        let mut protected = client.protected(&url).await?;
        protected["jwk"]["x"] = json!(b64([1; 32]));
        problem(&post_with(&mut client, &url, &protected, "{}").await?, 400, "badPublicKey");
    }
    let mut protected = client.protected(&url).await?;
    protected["jwk"]["x"] = json!(b64([1; 32]));
    let limited = post_with(&mut client, &url, &protected, "{}").await?;
    problem(&limited, 429, "rateLimited");
    assert!(limited.header("retry-after").is_some());
    client.kid = Some(account.clone());
    client.read(&account).await?.expect_status(200)?;
    Ok(())
}
