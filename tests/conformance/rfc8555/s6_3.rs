//! §6.3: GET and POST-as-GET.

use super::*;

#[tokio::test]
async fn nothing_but_directory_new_nonce_and_renewal_info_answers_get() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let issued = flow::issued(site, &mut client, &["read.test"]).await?;
    let order = client.read(&issued.order).await?.json();
    let (challenge, _) = first_challenge(&mut client, &order, "http-01").await?;
    let kid = client.kid.clone().ok_or("registered")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resources = [
        client.resource("newAccount"),
        client.resource("newOrder"),
        client.resource("revokeCert"),
        format!("{kid}/orders"),
        kid,
        issued.order,
        issued.certificate,
        text(&order["authorizations"][0]),
        text(&order["finalize"]),
        challenge,
    ];
    for url in &resources {
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let answer = client.send(method, url, None, Vec::new()).await?;
            problem(&answer, 405, "malformed");
            assert!(answer.header("allow").is_some_and(|allowed| allowed.contains("POST")), "{url}");
        }
        assert_eq!(client.send("HEAD", url, None, Vec::new()).await?.status, 405, "{url}");
    }
    Ok(())
}

#[tokio::test]
async fn directory_and_new_nonce_answer_get_and_post_as_get() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let (directory, nonce) = (site.server.directory(), client.resource("newNonce"));
    let by_get = client.get(&directory).await?.expect_status(200)?;
    let by_post = client.read(&directory).await?.expect_status(200)?;
    assert_eq!(by_get.json(), by_post.json());
    for answer in [by_get, by_post] {
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let answer = client.read(&nonce).await?.expect_status(204)?;
    assert!(answer.header("replay-nonce").is_some() && answer.body.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_empty_object_is_not_an_empty_payload() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let issued = flow::issued(site, &mut client, &["object.test"]).await?;
    let order = client.read(&issued.order).await?.json();
    let authorization = order["authorizations"][0].as_str().ok_or("no URL")?.to_owned();
    let orders = format!("{}/orders", client.kid.clone().ok_or("registered")?);
    for url in [&issued.order, &authorization, &issued.certificate, &orders, &site.server.directory()] {
        problem(&client.post(url, &json!({})).await?, 400, "malformed");
        client.read(url).await?.expect_status(200)?;
    }
    Ok(())
}

#[tokio::test]
async fn on_a_challenge_an_empty_payload_reads_and_an_empty_object_answers() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&["answer.test"]).await?.json();
    let (url, token) = first_challenge(&mut client, &order, "http-01").await?;
    site.responder.put(&token, client.key_authorization(&token));
    assert_eq!(client.read(&url).await?.text("status")?, "pending");
    assert_eq!(site.responder.host(&token), None, "reading looks at nothing");
    assert_eq!(client.post(&url, &json!({})).await?.text("status")?, "valid");
    assert_eq!(site.responder.host(&token).as_deref(), Some("answer.test"));
    Ok(())
}
