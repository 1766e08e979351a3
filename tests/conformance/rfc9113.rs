//! RFC 9113: HTTP/2 connections.

use chancery_harness::{
    Result,
    client::b64,
    wire::{PATIENCE, Wire},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use crate::{
    flow,
    sites::{guarded, site},
};

/// A client of HTTP/2.
pub(crate) async fn connect(wire: Wire) -> Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(wire.into_stream())).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request; the body that it is answered with is read.
pub(crate) async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(Response<()>, Bytes)> {
    sender.ready().await?;
    let (parts, body): (_, Incoming) = sender.send_request(request).await?.into_parts();
    Ok((Response::from_parts(parts, ()), body.collect().await?.to_bytes()))
}

#[tokio::test]
async fn a_certificate_is_had_over_http_2() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["h2.test"]).await?;
    let finalize = ready.order["finalize"].as_str().ok_or("no URL")?;
    let protected = client.protected(finalize).await?;
    let payload = json!({"csr": b64(chancery_harness::client::csr(&["h2.test"])?)});
    let body = client.key.jws(&protected, &payload.to_string())?;
    let mut sender = connect(Wire::connect(&site.target()?, &["h2"]).await?).await?;
    let request = Request::post(finalize).header("content-type", "application/jose+json");
    let (answer, body) = send(&mut sender, request.body(Full::from(body))?).await?;
    let order: Value = serde_json::from_slice(&body)?;
    assert_eq!((answer.status().as_u16(), &order["status"]), (200, &json!("valid")), "{order}");
    assert_eq!(answer.headers()["location"], ready.url.as_str());
    let url = order["certificate"].as_str().ok_or("no URL")?;
    let nonce = answer.headers()["replay-nonce"].to_str()?.to_owned();
    let body = client.key.jws(&json!({"alg": "ES256", "kid": client.kid, "nonce": nonce, "url": url}), "")?;
    let request = Request::post(url).header("content-type", "application/jose+json");
    let (answer, body) = send(&mut sender, request.body(Full::from(body))?).await?;
    assert_eq!(answer.headers()["content-type"], "application/pem-certificate-chain");
    assert!(body.starts_with(b"-----BEGIN CERTIFICATE-----\n"));
    Ok(())
}

#[tokio::test]
async fn requests_at_once_on_one_connection_are_all_answered() -> Result<()> {
    let site = site().await?;
    let mut sender = connect(Wire::connect(&site.target()?, &["h2"]).await?).await?;
    let url = site.server.directory();
    sender.ready().await?;
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        answers.spawn(sender.send_request(Request::get(&url).body(Full::default())?));
    }
    for answer in answers.join_all().await {
        assert_eq!(answer?.status(), 200);
    }
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_limit() -> Result<()> {
    let guarded = guarded().await?;
    let wire = Wire::connect(&guarded.site.target()?, &["h2"]).await?;
    let (mut sender, connection) =
        handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(wire.into_stream())).await?;
    let ended = tokio::spawn(connection);
    let request = Request::get(guarded.site.server.directory()).body(Full::default())?;
    assert_eq!(send(&mut sender, request).await?.0.status(), 200);
    // The client answers every ping, so it is alive; it just asks nothing.
    tokio::time::timeout(PATIENCE, ended).await.map_err(|_| "it stays open")???;
    Ok(())
}

#[tokio::test]
async fn a_client_that_says_nothing_after_its_preface_is_cut_off() -> Result<()> {
    let guarded = guarded().await?;
    for octets in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        // An empty SETTINGS frame, then a HEADERS frame of which the end never comes.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x40\x01\0\0\0\0\x01\x82",
        b"PRI * HTTP/2.0",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut wire = Wire::connect(&guarded.site.target()?, &["h2"]).await?;
        wire.write(octets).await;
        wire.rest().await?;
    }
    guarded.unchanged().await
}
