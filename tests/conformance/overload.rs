//! Too many connections: some more are told so in words that clients understand, those beyond are closed at once.

use chancery_harness::{
    Result,
    wire::{RawAnswer, Wire},
};
use http_body_util::Full;
use hyper::Request;
use serde_json::Value;

use crate::{
    rfc9113,
    sites::{Site, own},
};

const GET: &str = "GET /acme/default/directory HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A connection that is served, and so holds its place.
async fn held(site: &Site) -> Result<Wire> {
    let mut wire = Wire::connect(&site.target()?, &["http/1.1"]).await?;
    wire.write(GET.as_bytes()).await;
    assert_eq!(wire.answer().await?.status, 200);
    Ok(wire)
}

/// Two places, and one more for being told that there is none.
async fn two_places() -> Result<Site> {
    own("\n[limits]\nconnections_per_address = 2\n").await
}

#[tokio::test]
async fn a_connection_too_many_is_answered_503_with_a_time_to_come_back_and_closed() -> Result<()> {
    // A place for being told that there is none for each of the requests: when the server gives one back, no client sees.
    let site = own("\n[limits]\nconnections_per_address = 40\n").await?;
    let mut places = Vec::new();
    for _ in 0..40 {
        places.push(held(&site).await?);
    }
    let body = "x".repeat(40_000);
    let post = format!(
        "POST /acme/default/new-order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose+json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let elsewhere = ["/", "/acme/default/new-authz"].map(|path| GET.replace("/acme/default/directory", path));
    for request in [GET, &post, &GET.replace("GET", "HEAD"), &elsewhere[0], &elsewhere[1]] {
        let mut wire = Wire::connect(&site.target()?, &["http/1.1"]).await?;
        wire.write(request.as_bytes()).await;
        let answer = RawAnswer::parse(&wire.rest().await?).ok_or("closed without a word")?;
        assert_eq!((answer.status, answer.header("connection")), (503, Some("close")), "{answer:?}");
        let wait: u64 = answer.header("retry-after").ok_or("no Retry-After")?.parse()?;
        assert!(wait >= 1);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        if !request.starts_with("HEAD") {
            let document: Value = serde_json::from_slice(&answer.body)?;
            assert_eq!(document["type"], "urn:ietf:params:acme:error:serverInternal");
            assert_eq!(document["status"], 503);
        }
        // A client that signed needs no second trip for a nonce.
        assert_eq!(answer.header("replay-nonce").is_some(), request.starts_with("POST"));
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_too_many_is_answered_503_over_http_2_as_well() -> Result<()> {
    let site = two_places().await?;
    let (_one, _two) = (held(&site).await?, held(&site).await?);
    let mut sender = rfc9113::connect(Wire::connect(&site.target()?, &["h2"]).await?).await?;
    let request = || Request::get(site.server.directory()).body(Full::default());
    let (answer, _) = rfc9113::send(&mut sender, request()?).await?;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    // One answer is all there is.
    while rfc9113::send(&mut sender, request()?).await.is_ok_and(|(answer, _)| answer.status() == 503) {}
    assert!(sender.is_closed() || rfc9113::send(&mut sender, request()?).await.is_err());
    Ok(())
}

#[tokio::test]
async fn far_too_many_are_closed_at_once_and_nobody_else_notices() -> Result<()> {
    let site = two_places().await?;
    let (mut one, _two) = (held(&site).await?, held(&site).await?);
    // It has the one place for being told, and does not even shake hands.
    let mut silent = Wire::plain(&site.target()?).await?;
    let mut told = 0;
    for _ in 0..8 {
        // Refused in the handshake or closed behind it: the socket was closed without a word.
        let Ok(mut wire) = Wire::connect(&site.target()?, &["http/1.1"]).await else { continue };
        wire.write(GET.as_bytes()).await;
        told += usize::from(!wire.rest().await?.is_empty());
    }
    // The silent one is cut off after two seconds, so on a machine that slow one or the other is told.
    assert!(told <= 1, "{told}");
    one.write(GET.as_bytes()).await;
    assert_eq!(one.answer().await?.status, 200, "who has a place keeps it");
    assert!(silent.rest().await?.is_empty(), "and who says nothing is cut off");
    Ok(())
}

#[tokio::test]
async fn a_place_that_becomes_free_is_given_to_the_next() -> Result<()> {
    let site = two_places().await?;
    let (one, _two) = (held(&site).await?, held(&site).await?);
    drop(one);
    loop {
        let mut wire = Wire::connect(&site.target()?, &["http/1.1"]).await?;
        wire.write(GET.as_bytes()).await;
        // The server may not have seen yet that the place is free.
        if wire.answer().await?.status == 200 {
            break;
        }
    }
    Ok(())
}
