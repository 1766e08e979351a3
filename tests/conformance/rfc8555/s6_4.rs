//! §6.4: the URL that was signed.

use super::*;

#[tokio::test]
async fn a_request_signed_for_another_url_is_unauthorized_letter_for_letter() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.resource("newOrder");
    let others = [
        client.resource("revokeCert"),
        url.replace("https:", "http:"),
        url.replace("localhost", "LOCALHOST"),
        url.replace("localhost", "127.0.0.1"),
        format!("{url}/"),
        format!("{url}?"),
        format!("{url}#x"),
        url.replace("new-order", "%6eew-order"),
        url.replace("https://localhost", ""),
        String::new(),
    ];
    for signed in others {
        assert_ne!(signed, url);
        let mut protected = client.protected(&url).await?;
        protected["url"] = json!(signed);
        problem(&post_with(&mut client, &url, &protected, "{}").await?, 403, "unauthorized");
    }
    Ok(())
}

#[tokio::test]
async fn the_configured_url_counts_and_the_host_header_plays_no_part() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    let host = [("content-type", "application/jose+json"), ("host", "evil.example")];
    let protected = client.protected(&url).await?;
    let body = client.key.jws(&protected, "")?;
    client.send_with("POST", &url, &host, body).await?.expect_status(200)?;

    let mut protected = client.protected(&url).await?;
    let path = url.splitn(4, '/').last().unwrap_or_default().to_owned();
    protected["url"] = json!(format!("https://evil.example/{path}"));
    let body = client.key.jws(&protected, "")?;
    problem(&client.send_with("POST", &url, &host, body).await?, 403, "unauthorized");

    let directory = client.send_with("GET", &site.server.directory(), &[("host", "evil.example")], Vec::new()).await?;
    assert_eq!(directory.json(), client.directory);
    Ok(())
}
