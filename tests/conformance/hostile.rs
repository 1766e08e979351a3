//! Bad input, whoever sends it: it is answered with a problem document, or the connection is closed. Never a 5xx,
//! never a hang, and nothing that an operator can see has changed.

use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use chancery_harness::{
    Result,
    client::{Answer, Client, b64},
    wire::{PATIENCE, RawAnswer, Wire},
};
use serde_json::{Value, json};

use crate::sites::{Guarded, guarded};

/// Largest body that is read (docs/rfc-divergences.md).
const BODY_MAX: usize = 64 * 1024;

/// What became of what was sent.
#[derive(Debug)]
enum Outcome {
    Closed,
    Answered(RawAnswer),
}

/// Sends octets, waits for the end of the connection, and sees to what must hold of every refusal.
async fn refused(guarded: &Guarded, octets: &[u8]) -> Result<Outcome> {
    let mut wire = Wire::connect(&guarded.site.target()?, &["http/1.1"]).await?;
    wire.write(octets).await;
    refusal(&wire.rest().await?)
}

fn refusal(octets: &[u8]) -> Result<Outcome> {
    if octets.is_empty() {
        return Ok(Outcome::Closed);
    }
    let text = || String::from_utf8_lossy(octets).into_owned();
    let answer = RawAnswer::parse(octets).ok_or_else(text)?;
    assert!((400..500).contains(&answer.status), "{}", text());
    // A head that cannot be read is not worth a document; the connection is closed behind the status.
    if !answer.body.is_empty() {
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", text());
        let document: Value = serde_json::from_slice(&answer.body)?;
        assert!(document["type"].is_string() && document["detail"].is_string(), "{document}");
    }
    Ok(Outcome::Answered(answer))
}

fn is_problem(answer: &Answer) {
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    assert!(!answer.problem().is_empty(), "{answer:?}");
}

/// The head of a POST to newOrder, without its last line.
fn head(more: &str) -> String {
    format!("POST /acme/default/new-order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose+json\r\n{more}")
}

#[tokio::test]
async fn a_body_above_the_cap_is_413_whether_its_length_is_told_or_not() -> Result<()> {
    let guarded = guarded().await?;
    let told = format!("{}Connection: close\r\nContent-Length: {}\r\n\r\n", head(""), BODY_MAX + 1);
    let body = " ".repeat(BODY_MAX + 1);
    let Outcome::Answered(answer) = refused(guarded, format!("{told}{body}").as_bytes()).await? else {
        return Err("closed without a word".into());
    };
    assert_eq!(answer.status, 413);
    let chunked = format!("{}Transfer-Encoding: chunked\r\n\r\n", head(""));
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let endless = format!("{chunked}{}", chunk.repeat(4));
    let Outcome::Answered(answer) = refused(guarded, endless.as_bytes()).await? else {
        return Err("closed without a word".into());
    };
    assert_eq!(answer.status, 413);
    // The largest that is read is no JWS, but it is read.
    let told = format!("{}Connection: close\r\nContent-Length: {BODY_MAX}\r\n\r\n{}", head(""), " ".repeat(BODY_MAX));
    let Outcome::Answered(answer) = refused(guarded, told.as_bytes()).await? else {
        return Err("closed without a word".into());
    };
    assert_eq!(answer.status, 400);
    guarded.unchanged().await
}

#[tokio::test]
async fn heads_that_are_too_long_or_have_too_many_fields_are_refused() -> Result<()> {
    let guarded = guarded().await?;
    let long_field = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(64 * 1024));
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(64 * 1024));
    let fields: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let endless = format!("GET / HTTP/1.1\r\n{}", "X-More: 1\r\n".repeat(20_000));
    for head in [long_field, long_target, many, endless] {
        refused(guarded, head.as_bytes()).await?;
    }
    guarded.unchanged().await
}

#[tokio::test]
async fn what_is_no_http_is_refused() -> Result<()> {
    let guarded = guarded().await?;
    for octets in [
        &b"\0\0\0\0\0\0\0\0\r\n\r\n"[..],
        b"\r\n\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / FTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G\xc3\xa4T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX:\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"{\"protected\":\"\"}\r\n\r\n",
    ] {
        refused(guarded, octets).await?;
    }
    guarded.unchanged().await
}

#[tokio::test]
async fn a_body_whose_length_is_told_in_two_ways_begins_no_second_request() -> Result<()> {
    let guarded = guarded().await?;
    let hidden = "GET /acme/default/directory HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for lengths in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", 5 + hidden.len()),
        format!("Content-Length: 0\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()),
        format!("Content-Length: +{}\r\n\r\n{hidden}", hidden.len()),
        format!("Content-Length: 0x10\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-1\r\n{hidden}"),
    ] {
        let mut wire = Wire::connect(&guarded.site.target()?, &["http/1.1"]).await?;
        wire.write(format!("{}{lengths}", head("")).as_bytes()).await;
        let all = wire.rest().await?;
        refusal(&all)?;
        let text = String::from_utf8_lossy(&all).into_owned();
        assert!(!text.contains("HTTP/1.1 200"), "{lengths}: {text}");
    }
    guarded.unchanged().await
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off_after_the_limit_however_slowly_it_comes() -> Result<()> {
    let guarded = guarded().await?;
    let began = Instant::now();
    refused(guarded, b"POST /acme/default/new-or").await?;
    assert!(began.elapsed() < PATIENCE / 2);
    let mut wire = Wire::connect(&guarded.site.target()?, &["http/1.1"]).await?;
    wire.write(b"GET /acme/default/directory HTTP/1.1\r\nX-Drip: ").await;
    // Each octet is in time for itself; the head as a whole is not.
    let began = Instant::now();
    while let Some(said) = wire.read_within(Duration::from_millis(100)).await {
        if !said.is_empty() {
            refusal(&said)?;
        }
        assert!(began.elapsed() < PATIENCE, "it drips on");
        wire.write(b"x").await;
    }
    guarded.unchanged().await
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_after_the_limit_however_slowly_it_comes() -> Result<()> {
    let guarded = guarded().await?;
    let mut wire = Wire::connect(&guarded.site.target()?, &["http/1.1"]).await?;
    wire.write(format!("{}Content-Length: 1000\r\n\r\n{{", head("")).as_bytes()).await;
    let began = Instant::now();
    let mut all = Vec::new();
    while let Some(said) = wire.read_within(Duration::from_millis(100)).await {
        all.extend(said);
        assert!(began.elapsed() < PATIENCE, "it drips on");
        wire.write(b" ").await;
    }
    let Outcome::Answered(answer) = refusal(&all)? else { return Err("closed without a word".into()) };
    assert_eq!(answer.status, 408);
    guarded.unchanged().await
}

#[tokio::test]
async fn a_body_that_ends_early_is_refused() -> Result<()> {
    let guarded = guarded().await?;
    let chunked = format!("{}Transfer-Encoding: chunked\r\n\r\n64\r\nshort", head(""));
    for request in [format!("{}Content-Length: 1000\r\n\r\nshort", head("")), chunked] {
        let mut wire = Wire::connect(&guarded.site.target()?, &["http/1.1"]).await?;
        wire.write(request.as_bytes()).await;
        wire.finish().await;
        refusal(&wire.rest().await?)?;
    }
    guarded.unchanged().await
}

#[tokio::test]
async fn what_is_no_tls_is_closed_and_so_is_plain_http_and_silence() -> Result<()> {
    let guarded = guarded().await?;
    let target = guarded.site.target()?;
    let oversized = [&[0x16, 0x03, 0x01, 0xff, 0xff][..], &[0; 100]].concat();
    for octets in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0; 1000],
        &[0xff; 1000],
        &oversized,
        // The beginning of a ClientHello, and of nothing at all.
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
        b"",
    ] {
        let mut wire = Wire::plain(&target).await?;
        wire.write(octets).await;
        let said = wire.rest().await?;
        // Nothing, or a TLS alert.
        assert!(said.first().is_none_or(|first| *first == 0x15), "{said:02x?}");
    }
    guarded.unchanged().await
}

#[tokio::test]
async fn unknown_methods_and_paths_are_told_so() -> Result<()> {
    let guarded = guarded().await?;
    let mut client = Client::connect(guarded.site.target()?).await?;
    let directory = guarded.site.server.directory();
    for method in ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get", "X"] {
        let answer = client.send(method, &directory, None, Vec::new()).await?;
        is_problem(&answer);
        assert_eq!(answer.status, 405, "{method}");
    }
    let base = directory.replace("/directory", "");
    for path in [
        "/nothing",
        "/../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/order/..",
        "/order/%00",
        "//directory",
        "/directory/",
        "/directory?x",
        "/certificate/AAAAAAAAAAAAAAAAAAAAAA/999999999999999999999",
        "/account/AAAAAAAAAAAAAAAAAAAAAA/orders?after=%27%20OR%201=1",
    ] {
        for method in ["GET", "POST"] {
            let answer = client.send(method, &format!("{base}{path}"), None, Vec::new()).await?;
            is_problem(&answer);
        }
    }
    guarded.unchanged().await
}

#[tokio::test]
async fn bodies_that_are_no_jws_are_malformed() -> Result<()> {
    let guarded = guarded().await?;
    let mut client = Client::connect(guarded.site.target()?).await?;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let member = |value: &str| format!(r#"{{"protected":{value},"payload":"","signature":""}}"#);
    let bodies: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"protected\":\"\xff\xfe\",\"payload\":\"\",\"signature\":\"\"}".to_vec(),
        b"{\"protected\":\"\\ud800\",\"payload\":\"\",\"signature\":\"\"}".to_vec(),
        b"{\"protected\":\"a\0b\",\"payload\":\"\",\"signature\":\"\"}".to_vec(),
        member("null").into(),
        member("1e999999").into(),
        member(&nested(20_000)).into(),
        member(&objects(5_000)).into(),
        nested(30_000).into(),
        objects(10_000).into(),
        br#"{"protected":"e30","protected":"e30","payload":"","signature":""}"#.to_vec(),
        br#"{"protected":"e30","payload":"","signature":"#.to_vec(),
        vec![0xff; 1000],
        vec![0; 1000],
    ];
    for url in [client.resource("newAccount"), client.resource("newOrder"), client.resource("revokeCert")] {
        for body in &bodies {
            let answer = client.send("POST", &url, Some("application/jose+json"), body.clone()).await?;
            is_problem(&answer);
            assert_eq!(answer.status, 400, "{}", String::from_utf8_lossy(body));
        }
    }
    guarded.unchanged().await
}

#[tokio::test]
async fn signed_payloads_that_make_no_sense_are_malformed_at_every_resource() -> Result<()> {
    let guarded = guarded().await?;
    let deep = format!("{}1{}", "{\"a\":".repeat(2_000), "}".repeat(2_000));
    let members: String = (0..2_000).map(|number| format!("\"m{number}\":1,")).collect();
    let payloads: Vec<Vec<u8>> = vec![
        b"{".to_vec(),
        b"nul".to_vec(),
        b"[]".to_vec(),
        b"\"text\"".to_vec(),
        b"{\"status\":\"\xff\"}".to_vec(),
        b"{\"identifiers\":[{\"type\":\"dns\",\"value\":\"a\xc3\"}]}".to_vec(),
        b"{\"a\":1,\"a\":1}".to_vec(),
        b"{\"a\":{\"b\":1,\"b\":2}}".to_vec(),
        b"\"\\ud83d\"".to_vec(),
        format!("{{\"identifiers\":{deep}}}").into(),
        format!("{{{members}\"status\":\"valid\"}}").into(),
        b"{} {}".to_vec(),
        b"{}\0".to_vec(),
    ];
    let mut witness = guarded.witness.lock().await;
    // An object that a challenge takes for an answer, since what it does not know it ignores (§7.5.1).
    let senseless = b"{\"status\":\"\\u0000\"}".to_vec();
    for url in &guarded.resources {
        let senseless = (!url.contains("/challenge/")).then_some(&senseless);
        for payload in payloads.iter().chain(senseless) {
            let protected = b64(witness.protected(url).await?.to_string());
            let payload = b64(payload);
            let signature = witness.key.sign(&protected, &payload)?;
            let body = json!({"protected": protected, "payload": payload, "signature": signature}).to_string();
            let answer = witness.send("POST", url, Some("application/jose+json"), body.into_bytes()).await?;
            is_problem(&answer);
        }
    }
    drop(witness);
    guarded.unchanged().await
}

#[tokio::test]
async fn a_signed_request_with_any_octet_changed_is_refused() -> Result<()> {
    let guarded = guarded().await?;
    let mut witness = guarded.witness.lock().await;
    let url = guarded.resources.iter().find(|url| url.ends_with("/new-order")).ok_or("it is one of them")?.clone();
    let payload = json!({"identifiers": [{"type": "dns", "value": "changed.test"}]}).to_string();
    for round in 0..150_u32 {
        let protected = witness.protected(&url).await?;
        let mut body = witness.key.jws(&protected, &payload)?;
        // Anywhere, but the same in every run.
        let chance = digest(&SHA256, &round.to_be_bytes());
        let (place, change) = chance.as_ref().split_at(8);
        let place = place.iter().fold(0_usize, |sum, octet| (sum << 7) ^ usize::from(*octet)) % body.len();
        let change = change.first().copied().unwrap_or(1) | 1;
        match round % 3 {
            0 => body[place] ^= change,
            1 => drop(body.remove(place)),
            _ => body.insert(place, change),
        }
        if String::from_utf8_lossy(&body).split_whitespace().collect::<String>().as_bytes()
            == witness.key.jws(&protected, &payload)?.as_slice()
        {
            continue; // white space between members changes nothing
        }
        let answer = witness.send("POST", &url, Some("application/jose+json"), body).await?;
        is_problem(&answer);
    }
    drop(witness);
    guarded.unchanged().await
}

#[tokio::test]
async fn a_request_of_before_a_nonce_was_spent_does_nothing_when_it_is_played_again() -> Result<()> {
    let guarded = guarded().await?;
    let mut witness = guarded.witness.lock().await;
    let url = guarded.kid.clone();
    let protected = witness.protected(&url).await?;
    let body = witness.key.jws(&protected, "")?;
    witness.send("POST", &url, Some("application/jose+json"), body.clone()).await?.expect_status(200)?;
    for _ in 0..3 {
        let answer = witness.send("POST", &url, Some("application/jose+json"), body.clone()).await?;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "badNonce"));
    }
    drop(witness);
    guarded.unchanged().await
}
