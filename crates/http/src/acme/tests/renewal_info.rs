//! RFC 9773: when a certificate is best replaced, and orders that say what they replace.

use std::time::Duration;

use chancery_pki::{
    Timestamp,
    certificate::{Certificate, from_pem},
};

use super::*;
use crate::acme::testing::b64;

fn leaf(pem: &str) -> Certificate {
    Certificate::from_der(&from_pem(pem.as_bytes()).expect("PEM")[0]).expect("a certificate")
}

/// Which certificate a PEM text begins with, as a client names it (§4.1).
fn named(pem: &str) -> String {
    let leaf = leaf(pem);
    let key = leaf.authority_key_identifier().expect("an authority key identifier");
    format!("{}.{}", b64(key), b64(leaf.serial_number().expect("of ours").der_content()))
}

impl Door {
    fn renewal_info(&self, certificate: &str) -> String {
        format!("{}/{certificate}", self.urls.renewal_info())
    }

    /// The window that is suggested for a certificate.
    async fn window(&self, certificate: &str) -> (Timestamp, Timestamp) {
        let told = self.get(&self.renewal_info(certificate)).await.is(200);
        let at = |member: &str| told["suggestedWindow"][member].as_str().expect("a time").parse().expect("RFC 3339");
        (at("start"), at("end"))
    }
}

impl Client<'_> {
    /// Asks for an order that replaces a certificate.
    async fn replacing(&self, names: &[&str], replaces: impl Into<Value>) -> Reply {
        let identifiers: Vec<Value> = names.iter().map(|name| json!({"type": "dns", "value": name})).collect();
        let payload = json!({"identifiers": identifiers, "replaces": replaces.into()});
        self.post(&self.door.urls.new_order(), payload).await
    }

    /// A certificate, and how it is named.
    async fn named(&self, names: &[&str]) -> (String, String) {
        let (_, pem) = self.certificate(names).await;
        (named(&pem), pem)
    }
}

#[tokio::test]
async fn section_4_a_window_is_read_without_a_signature_and_says_when_to_ask_again() {
    let door = Door::new();
    let client = door.client().await;
    let (certificate, pem) = client.named(&["a.test"]).await;
    let reply = door.get(&door.renewal_info(&certificate)).await;
    let told = reply.is(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("retry-after"), Some("21600"));
    assert_eq!(reply.header("replay-nonce"), None);
    assert_eq!(told.as_object().expect("an object").keys().collect::<Vec<_>>(), ["suggestedWindow"]);
    let (start, end) = door.window(&certificate).await;
    let validity = leaf(&pem).validity();
    let life = validity.not_after().since(validity.not_before());
    assert!(validity.not_before() < start && start < end && end < validity.not_after(), "{told}");
    let two_thirds = validity.not_before().after(life * 2 / 3);
    assert!(start < two_thirds && two_thirds < end, "where clients renew by themselves: {told}");
    door.test.clock.advance(life / 2);
    assert_eq!(door.window(&certificate).await, (start, end), "the same at every look");
    let head = door.plain(Method::HEAD, &door.renewal_info(&certificate)).await;
    assert_eq!((head.status, head.header("retry-after")), (StatusCode::OK, Some("21600")));
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn section_4_1_what_is_malformed_is_400_and_what_is_unknown_is_404() {
    let door = Door::new();
    let client = door.client().await;
    let (certificate, _) = client.named(&["a.test"]).await;
    let (key, serial) = certificate.split_once('.').expect("two parts");
    for malformed in [
        String::new(),
        ".".into(),
        key.into(),
        format!("{key}."),
        format!(".{serial}"),
        format!("{certificate}="),
        format!("{certificate}."),
        format!("{key}.{serial}.{serial}"),
        format!("{key}.AAAB"),
        format!("{key}%2E{serial}"),
        "A".repeat(300),
    ] {
        door.get(&door.renewal_info(&malformed)).await.problem(400, "malformed");
    }
    for unknown in [
        format!("{key}.AQI"),
        format!("{}.{serial}", b64([1; 20])),
        // Negative, zero, and wider than any of ours.
        format!("{key}.gA"),
        format!("{key}.AA"),
        format!("{key}.{}", b64([1; 40])),
    ] {
        door.get(&door.renewal_info(&unknown)).await.problem(404, "malformed");
    }
    door.get(&door.urls.renewal_info()).await.problem(404, "malformed");
    door.get(&format!("{}?x", door.renewal_info(&certificate))).await.problem(404, "malformed");
}

#[tokio::test]
async fn section_4_it_is_not_read_by_post_and_what_answers_is_told() {
    let door = Door::new();
    let client = door.client().await;
    let (certificate, _) = client.named(&["a.test"]).await;
    let url = door.renewal_info(&certificate);
    for reply in [client.read(&url).await, client.post(&url, json!({})).await, door.post_raw(&url, "{}").await] {
        let detail = reply.problem(405, "malformed")["detail"].to_string();
        assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
        assert!(detail.contains("RFC 9773"), "{detail}");
    }
    door.plain(Method::PUT, &url).await.problem(405, "malformed");
    let preflight = door.plain(Method::OPTIONS, &url).await;
    assert_eq!((preflight.status, preflight.header("allow")), (StatusCode::NO_CONTENT, Some("GET, HEAD, OPTIONS")));
    let counted = door.metrics.encode();
    assert!(counted.contains(r#"{route="renewal-info",outcome="malformed",status="405"} 4"#), "{counted}");
}

#[tokio::test]
async fn a_revoked_certificate_is_to_be_replaced_at_once() {
    let door = Door::new();
    let client = door.client().await;
    let (certificate, pem) = client.named(&["a.test"]).await;
    let (usual, _) = door.window(&certificate).await;
    assert!(usual > door.test.office.now());
    let leaf = b64(&from_pem(pem.as_bytes()).expect("PEM")[0]);
    client.post(&door.urls.revoke_cert(), json!({"certificate": leaf, "reason": 4})).await.is(200);
    let (start, end) = door.window(&certificate).await;
    assert!(start < end && end < door.test.office.now(), "{start} {end}");
    let (other, _) = client.named(&["b.test"]).await;
    assert!(door.window(&other).await.0 > door.test.office.now(), "the others are as they were");
}

#[tokio::test]
async fn section_5_an_order_says_what_it_replaces_whenever_it_is_read() {
    let door = Door::new();
    let client = door.client().await;
    let (certificate, _) = client.named(&["a.test", "b.test"]).await;
    door.test.clock.advance(Duration::from_secs(61 * 86_400));
    *client.nonce.lock().expect("no panic") = None;
    let reply = client.replacing(&["b.test", "c.test"], certificate.as_str()).await;
    assert_eq!(reply.is(201)["replaces"], certificate);
    let url = reply.location().to_owned();
    client.fulfil(&reply.json()).await;
    let ready = client.read(&url).await.is(200);
    assert_eq!(ready["replaces"], certificate);
    let valid = client.finalize(&ready, csr(&["b.test", "c.test"]).der()).await.is(200);
    assert_eq!((&valid["status"], &valid["replaces"]), (&json!("valid"), &json!(certificate)));
    assert_eq!(client.read(&url).await.is(200), valid);
    // One that replaces nothing says nothing.
    let (_, other) = client.order(&["d.test"]).await;
    assert_eq!(other.get("replaces"), None);
}

#[tokio::test]
async fn section_5_a_certificate_is_replaced_by_one_order_and_free_again_where_that_becomes_invalid() {
    let door = Door::new();
    let client = door.client().await;
    let (certificate, _) = client.named(&["a.test"]).await;
    let first = client.replacing(&["a.test"], certificate.as_str()).await.is(201);
    for _ in 0..2 {
        let refused = client.replacing(&["a.test"], certificate.as_str()).await;
        assert!(refused.problem(409, "alreadyReplaced")["detail"].to_string().contains("replaces"));
    }
    // Without it the order is taken.
    client.order(&["a.test"]).await;
    let authorization = first["authorizations"][0].as_str().expect("a URL");
    client.post(authorization, json!({"status": "deactivated"})).await.is(200);
    let second = client.replacing(&["a.test"], certificate.as_str()).await.is(201);
    client.replacing(&["a.test"], certificate.as_str()).await.problem(409, "alreadyReplaced");
    // One that expired is invalid, whether or not anybody has looked since.
    door.test.clock.set(second["expires"].as_str().expect("a time").parse().expect("RFC 3339"));
    *client.nonce.lock().expect("no panic") = None;
    let third = client.replacing(&["a.test"], certificate.as_str()).await;
    client.fulfil(&third.is(201)).await;
    client.finalize(&third.json(), csr(&["a.test"]).der()).await.is(200);
    client.replacing(&["a.test"], certificate.as_str()).await.problem(409, "alreadyReplaced");
}

#[tokio::test]
async fn section_5_what_is_not_the_accounts_or_has_no_name_in_common_is_malformed_and_says_replaces() {
    let door = Door::new();
    let client = door.client().await;
    let other = door.client().await;
    let (certificate, _) = client.named(&["a.test"]).await;
    let (key, _) = certificate.split_once('.').expect("two parts");
    for (client, names, replaces) in [
        (&other, "a.test", certificate.clone()),
        (&client, "b.test", certificate.clone()),
        (&client, "a.test", format!("{key}.AQI")),
        (&client, "a.test", String::new()),
        (&client, "a.test", format!("{certificate}=")),
        (&client, "a.test", "x".repeat(300)),
    ] {
        let refused = client.replacing(&[names], replaces).await.problem(400, "malformed");
        assert!(refused["detail"].as_str().expect("words").contains("replaces"), "{refused}");
    }
    for replaces in [json!(1), json!([certificate]), json!({})] {
        client.replacing(&["a.test"], replaces).await.problem(400, "malformed");
    }
    // None of that marked it.
    client.replacing(&["a.test"], Value::Null).await.is(201);
    client.replacing(&["a.test"], certificate.as_str()).await.is(201);
}

#[tokio::test]
async fn section_5_of_orders_at_once_that_replace_one_certificate_one_is_taken() {
    let door = Door::new();
    let client = door.client().await;
    let (certificate, _) = client.named(&["a.test"]).await;
    let url = door.urls.new_order();
    let payload = json!({"identifiers": [{"type": "dns", "value": "a.test"}], "replaces": certificate}).to_string();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let body = client.key.jws(&url, &door.nonce().await, client.kid.as_deref(), payload.as_bytes());
        let (router, path) = (door.router.clone(), url.strip_prefix(EXTERNAL).expect("ours").to_owned());
        tasks.spawn(async move {
            let request = Request::post(path).header("content-type", "application/jose+json").body(Body::from(body));
            router.oneshot(request.expect("a request")).await.expect("an answer").status().as_u16()
        });
    }
    let mut statuses = tasks.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}
