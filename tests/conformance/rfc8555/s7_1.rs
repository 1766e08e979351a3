//! §7.1: resources.

use super::*;

#[tokio::test]
async fn every_answer_but_the_directory_links_to_it() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let directory = site.server.directory();
    let (url, nonce) = (client.kid.clone().ok_or("registered")?, client.resource("newNonce"));
    let issued = flow::issued(site, &mut client, &["index.test"]).await?;
    let order = client.read(&issued.order).await?.json();
    let (challenge, _) = first_challenge(&mut client, &order, "http-01").await?;
    let authorization = order["authorizations"][0].as_str().ok_or("no URL")?.to_owned();
    let mut answers = vec![
        client.get(&nonce).await?,
        client.send("HEAD", &nonce, None, Vec::new()).await?,
        client.new_order(&["index2.test"]).await?,
        client.new_order(&["outside.example"]).await?,
        client.get(&url).await?,
        post_raw(&mut client, &url, Vec::new()).await?,
    ];
    for url in [&url, &format!("{url}/orders"), &issued.order, &authorization, &challenge, &issued.certificate] {
        answers.push(client.read(url).await?.expect_status(200)?);
    }
    for answer in answers {
        assert_eq!(answer.links("index"), [directory.as_str()], "{answer:?}");
    }
    assert!(client.get(&directory).await?.links("index").is_empty());
    Ok(())
}

#[tokio::test]
async fn nothing_may_be_kept_by_caches_on_the_way() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    for answer in [client.get(&site.server.directory()).await?, client.read(&url).await?, client.get(&url).await?] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_404_with_a_problem() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let directory = site.server.directory();
    for url in [
        format!("{directory}/"),
        format!("{directory}/more"),
        directory.replace("/default/", "/nothing/"),
        directory.replace("/directory", "/new-order/"),
        directory.replace("/directory", "/order/not-an-id"),
        directory.replace("/directory", "/%2e%2e/directory"),
        directory.replace("/directory", "?x=/directory"),
    ] {
        problem(&client.get(&url).await?, 404, "malformed");
    }
    for url in [format!("{directory}/more"), directory.replace("/directory", "/order/not-an-id")] {
        assert_eq!(client.get(&url).await?.links("index"), [directory.as_str()], "the directory is there");
    }
    for url in [directory.replace("/acme/", "/"), directory.replace("/acme/default/directory", "/favicon.ico")] {
        let answer = client.get(&url).await?;
        problem(&answer, 404, "malformed");
        assert!(answer.header("x-request-id").is_some(), "{answer:?}");
    }
    let url = flow::unknown_of(&client.kid.clone().ok_or("registered")?.replace("/account/", "/order/"));
    problem(&client.read(&url).await?, 404, "malformed");
    Ok(())
}
