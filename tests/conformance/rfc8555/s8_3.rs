//! §8.3: http-01.

use super::*;

/// The challenge after an http-01 that the responder answers as `tell` says.
async fn answered(name: &str, tell: impl FnOnce(&crate::sites::Site, &Client, &str)) -> Result<Value> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&[name]).await?.expect_status(201)?.json();
    let (url, token) = first_challenge(&mut client, &order, "http-01").await?;
    tell(&site, &client, &token);
    Ok(client.post(&url, &json!({})).await?.expect_status(200)?.json())
}

#[tokio::test]
async fn white_space_behind_the_key_authorization_is_ignored() -> Result<()> {
    let challenge = answered("space.test", |site, client, token| {
        site.responder.put(token, client.key_authorization(token) + " \r\n\t\n");
    })
    .await?;
    assert_eq!(challenge["status"], "valid", "{challenge}");
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_followed_to_another_name_and_path() -> Result<()> {
    let challenge = answered("redirect.test", |site, client, token| {
        let elsewhere = format!("{token}-elsewhere");
        site.responder.redirect(token, format!("http://elsewhere.test/.well-known/acme-challenge/{elsewhere}"));
        site.responder.put(&elsewhere, client.key_authorization(token));
    })
    .await?;
    assert_eq!(challenge["status"], "valid", "{challenge}");
    Ok(())
}

#[tokio::test]
async fn a_circle_of_redirects_and_one_to_where_nothing_may_be_dialled_fail() -> Result<()> {
    for (name, to) in [("circle.test", "circle.test"), ("inside.test", "inside.closed.test"), ("file.test", "")] {
        let challenge = answered(name, |site, _, token| {
            let location = match to {
                "" => "file:///etc/passwd".to_owned(),
                host => format!("http://{host}/.well-known/acme-challenge/{token}"),
            };
            site.responder.redirect(token, location);
        })
        .await?;
        assert_eq!(challenge["status"], "invalid", "{name}: {challenge}");
    }
    Ok(())
}

#[tokio::test]
async fn the_host_header_is_the_name() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&["Host.Test"]).await?.expect_status(201)?.json();
    let (url, token) = first_challenge(&mut client, &order, "http-01").await?;
    site.responder.put(&token, client.key_authorization(&token));
    client.post(&url, &json!({})).await?.expect_status(200)?;
    assert_eq!(site.responder.host(&token).as_deref(), Some("host.test"));
    Ok(())
}

#[tokio::test]
async fn nothing_of_a_wrong_body_is_in_the_error_and_a_huge_one_is_not_read() -> Result<()> {
    let challenge = answered("echo.test", |site, _, token| {
        site.responder.put(token, "s3cr3t of an inner service".to_owned());
    })
    .await?;
    assert_eq!(challenge["error"]["type"], urn("incorrectResponse"), "{challenge}");
    assert!(!challenge.to_string().contains("s3cr3t"), "{challenge}");
    let challenge = answered("huge.test", |site, client, token| {
        site.responder.put(token, client.key_authorization(token) + &" ".repeat(4 << 20));
    })
    .await?;
    assert_eq!(challenge["status"], "invalid", "{challenge}");
    Ok(())
}

#[tokio::test]
async fn s10_4_an_address_of_the_servers_own_side_is_not_dialled_unless_a_zone_names_it() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&["inner.closed.test"]).await?.expect_status(201)?.json();
    let authorization = client.read(order["authorizations"][0].as_str().ok_or("no URL")?).await?.json();
    let kinds: Vec<&Value> =
        authorization["challenges"].as_array().ok_or("none")?.iter().map(|each| &each["type"]).collect();
    // What could only fail is not even offered, or it fails without a connection.
    if kinds.contains(&&json!("http-01")) {
        let (url, token) = challenge(&authorization, "http-01")?;
        site.responder.put(&token, client.key_authorization(&token));
        let failed = client.post(&url, &json!({})).await?.expect_status(200)?.json();
        assert_eq!((&failed["status"], &failed["error"]["type"]), (&json!("invalid"), &json!(urn("connection"))));
        assert_eq!(site.responder.host(&token), None, "nobody came");
    }
    Ok(())
}
