//! §8.3: http-01.

use super::*;

/// The challenge after an http-01 that the responder answers as `tell` says.
async fn answered(name: &str, tell: impl FnOnce(&crate::sites::Site, &Client, &str)) -> Result<Value> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&[name]).await?.expect_status(201)?.json();
    let (url, token) = first_challenge(&mut client, &order, "http-01").await?;
    tell(site, &client, &token);
    let mut answer = client.post(&url, &json!({})).await?.expect_status(200)?;
    // What may be otherwise in a moment is looked at again. No event tells a client of it: it polls, when
    // Retry-After says so, and without that the server has not done its part.
    while answer.json()["status"] == "processing" {
        let seconds = answer.header("retry-after").ok_or("processing without Retry-After")?.parse()?;
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
        answer = client.read(&url).await?.expect_status(200)?;
    }
    Ok(answer.json())
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
async fn a_circle_of_redirects_and_another_scheme_fail() -> Result<()> {
    for (name, to) in [("circle.test", "http://circle.test/.well-known/acme-challenge/"), ("file.test", "file:///")] {
        let challenge = answered(name, |site, _, token| site.responder.redirect(token, format!("{to}{token}"))).await?;
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
async fn s10_4_an_address_of_the_servers_own_side_is_not_dialled_however_it_is_written() -> Result<()> {
    let site = site().await?;
    for (name, address) in [
        ("v4.closed.test", "127.0.0.1"),
        ("other.closed.test", "127.9.9.9"),
        ("mapped.closed.test", "::ffff:127.0.0.1"),
    ] {
        site.dns.address_of(name, address.parse()?);
        let challenge = answered(name, |site, client, token| {
            site.responder.put(token, client.key_authorization(token));
        })
        .await?;
        assert_eq!(challenge["status"], "invalid", "{name}: {challenge}");
        assert_eq!(challenge["error"]["type"], urn("connection"), "{name}: {challenge}");
        let token = challenge["token"].as_str().ok_or("no token")?;
        assert_eq!(site.responder.host(token), None, "{name}: nobody came");
        assert!(!site.dns.questions(name).is_empty(), "{name}: it was looked up");
    }
    Ok(())
}

#[tokio::test]
async fn s10_4_nor_is_one_that_a_redirect_leads_to() -> Result<()> {
    let site = site().await?;
    site.dns.address_of("onward.closed.test", "127.0.0.1".parse()?);
    let challenge = answered("inside.test", |site, client, token| {
        let elsewhere = format!("{token}-inside");
        site.responder.redirect(token, format!("http://onward.closed.test/.well-known/acme-challenge/{elsewhere}"));
        site.responder.put(&elsewhere, client.key_authorization(token));
    })
    .await?;
    assert_eq!(challenge["status"], "invalid", "{challenge}");
    let token = challenge["token"].as_str().ok_or("no token")?;
    assert_eq!(site.responder.host(token).as_deref(), Some("inside.test"));
    assert_eq!(site.responder.host(&format!("{token}-inside")), None, "nobody came");
    assert!(!challenge.to_string().contains("onward"), "where it led is the remote's word: {challenge}");
    Ok(())
}

#[tokio::test]
async fn no_proxy_is_used_whatever_the_environment_says() -> Result<()> {
    let responder = chancery_harness::responder::Responder::start().await?;
    // One that refuses every connection: who used it would reach nobody.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let proxies = ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let server = chancery_harness::server::Server::start(&chancery_harness::server::Setup {
        http_port: responder.port(),
        environment: proxies.iter().map(|name| ((*name).to_owned(), format!("http://{closed}"))).collect(),
        ..chancery_harness::server::Setup::default()
    })
    .await?;
    let mut client = server.client().await?;
    let order = client.new_order(&["proxy.test"]).await?.expect_status(201)?.json();
    let (url, token) = first_challenge(&mut client, &order, "http-01").await?;
    responder.put(&token, client.key_authorization(&token));
    assert_eq!(client.post(&url, &json!({})).await?.expect_status(200)?.text("status")?, "valid");
    Ok(())
}
