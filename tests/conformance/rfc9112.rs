//! RFC 9112: HTTP/1.1 connections.

use chancery_harness::{
    Result,
    wire::{PATIENCE, RawAnswer, Wire},
};

use crate::sites::{guarded, site};

const GET: &str = "GET /acme/default/directory HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn s9_3_a_connection_is_kept_and_answers_in_order() -> Result<()> {
    let site = site().await?;
    let mut wire = Wire::connect(&site.target()?, &["http/1.1"]).await?;
    for _ in 0..3 {
        wire.write(GET.as_bytes()).await;
        assert_eq!(wire.answer().await?.status, 200);
    }
    // Three at once, the second of them nowhere.
    let nowhere = GET.replace("directory", "nowhere");
    wire.write(format!("{GET}{nowhere}").as_bytes()).await;
    wire.write(GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await;
    let all = String::from_utf8_lossy(&wire.rest().await?).into_owned();
    let statuses: Vec<&str> = all.matches("HTTP/1.1 ").collect();
    assert_eq!(statuses.len(), 3, "{all}");
    let (first, rest) = (all.find("HTTP/1.1 200"), all.find("HTTP/1.1 404"));
    assert!(first < rest && all.rfind("HTTP/1.1 200") > rest, "{all}");
    Ok(())
}

#[tokio::test]
async fn s9_6_a_connection_is_closed_when_the_client_asks() -> Result<()> {
    let site = site().await?;
    let mut wire = Wire::connect(&site.target()?, &[]).await?;
    wire.write(GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await;
    let answer = RawAnswer::parse(&wire.rest().await?).ok_or("no answer")?;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    Ok(())
}

#[tokio::test]
async fn s6_1_a_chunked_body_is_read() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    let protected = client.protected(&url).await?;
    let body = String::from_utf8(client.key.jws(&protected, "")?)?;
    let path = url.splitn(4, '/').last().unwrap_or_default();
    let (one, two) = body.split_at(body.len() / 2);
    let mut wire = Wire::connect(&site.target()?, &[]).await?;
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose+json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len()
    );
    wire.write(request.as_bytes()).await;
    assert_eq!(wire.answer().await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn s9_5_an_idle_connection_is_closed_after_the_limit() -> Result<()> {
    let guarded = guarded().await?;
    let mut wire = Wire::connect(&guarded.site.target()?, &["http/1.1"]).await?;
    wire.write(GET.as_bytes()).await;
    assert_eq!(wire.answer().await?.status, 200);
    let began = std::time::Instant::now();
    assert!(wire.rest().await?.is_empty(), "nothing more is said");
    assert!(began.elapsed() < PATIENCE / 2);
    Ok(())
}
