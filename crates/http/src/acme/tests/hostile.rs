//! Whatever is sent gets an answer that says what is wrong, never a 5xx, never a panic, and changes nothing.

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::acme::testing::b64;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn any_body_at_any_route_is_refused_without_a_5xx_and_changes_nothing() {
    let runtime = runtime();
    let door = Door::new();
    let id = "AAAAAAAAAAAAAAAAAAAAAA";
    let routes: Vec<String> = ["directory", "new-nonce", "new-account", "new-order", "revoke-cert"]
        .map(str::to_owned)
        .into_iter()
        .chain([
            format!("account/{id}"),
            format!("account/{id}/orders"),
            format!("order/{id}"),
            format!("order/{id}/finalize"),
            format!("authorization/{id}"),
            format!("challenge/{id}/http-01"),
            format!("certificate/{id}"),
        ])
        .collect();
    let before = door.test.store.commits();
    TestRunner::default()
        .run(&(0..routes.len(), any::<Vec<u8>>()), |(route, body)| {
            let url = format!("{EXTERNAL}/acme/default/{}", routes[route]);
            let reply = runtime.block_on(door.post_raw(&url, body));
            prop_assert!(reply.status.is_client_error());
            Ok(())
        })
        .expect("every body is refused");
    assert_eq!(door.test.store.commits(), before);
}

/// JSON of any shape, often with the member names that the routes know.
fn payload() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("deactivated")),
        Just(json!("dns")),
        Just(json!("a.test")),
        Just(json!("AAAA")),
    ];
    let name = prop_oneof![
        Just("identifiers".to_owned()),
        Just("type".to_owned()),
        Just("value".to_owned()),
        Just("csr".to_owned()),
        Just("certificate".to_owned()),
        Just("reason".to_owned()),
        Just("status".to_owned()),
        Just("contact".to_owned()),
        Just("profile".to_owned()),
        Just("notAfter".to_owned()),
        ".{0,6}",
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[test]
fn any_signed_payload_at_any_route_is_answered_without_a_5xx() {
    let runtime = runtime();
    let door = Door::new();
    let client = runtime.block_on(door.client());
    let (order_url, order) = runtime.block_on(client.ready_order(&["a.test"]));
    let authorization = order["authorizations"][0].as_str().expect("a URL").to_owned();
    let routes = [
        door.urls.new_order(),
        door.urls.revoke_cert(),
        order["finalize"].as_str().expect("a URL").to_owned(),
        order_url.clone(),
        authorization,
    ];
    TestRunner::default()
        .run(&(0..routes.len(), payload()), |(route, payload)| {
            let reply = runtime.block_on(client.post(&routes[route], payload));
            prop_assert!(!reply.status.is_server_error());
            Ok(())
        })
        .expect("no 5xx");
    assert_eq!(door.test.signer.signatures(), 0);
}

#[tokio::test]
async fn trap_2_a_duplicate_member_in_a_payload_is_malformed_at_any_level() {
    let door = Door::new();
    let client = door.client().await;
    for payload in [
        r#"{"identifiers":[{"type":"dns","value":"a.test"}],"identifiers":[{"type":"dns","value":"b.test"}]}"#,
        r#"{"identifiers":[{"type":"dns","value":"a.test","value":"b.test"}]}"#,
        r#"{"identifiers":[{"type":"dns","value":"a.test"}],"x":{"y":1,"y":1}}"#,
        r#"{"identifiers":[{"type":"dns","value":"a.test"}],"\u0069dentifiers":[]}"#,
    ] {
        client.post_octets(&door.urls.new_order(), payload.as_bytes()).await.problem(400, "malformed");
    }
    for payload in
        [&b"\xff"[..], b"{\"a\":\"\\ud800\"}", b"{\"a\":\"\x00\"}", b"nul", b"{}{}", b"[[[[[[[[[[[[[[[[[[[[[[[["]
    {
        client.post_octets(&door.urls.new_order(), payload).await.problem(400, "malformed");
    }
}

#[tokio::test]
async fn trap_3_a_key_written_in_another_way_makes_no_second_account() {
    let door = Door::new();
    let client = door.client().await;
    let url = door.urls.new_account();
    let jwk = client.key.jwk();
    let member =
        |name: &str| chancery_acme::wire::base64url("test", jwk[name].as_str().expect("text")).expect("base64url");
    let (x, y) = (member("x"), member("y"));
    let point = [x.clone(), y.clone()].concat();
    for (x, y) in [(&point[..31], &point[31..]), (&[&[0][..], &x].concat()[..], &y[..])] {
        let aliased = json!({"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)});
        let header = json!({"alg": "ES256", "nonce": door.nonce().await, "url": url, "jwk": aliased});
        let body = client.key.jws_raw(header.to_string().as_bytes(), b"{}");
        door.post_raw(&url, body).await.problem(400, "badPublicKey");
    }
}

#[tokio::test]
async fn what_a_client_sends_is_never_echoed_at_length() {
    let door = Door::new();
    let client = door.client().await;
    let long = "x".repeat(40_000);
    for payload in [
        json!({"identifiers": [{"type": long, "value": "a.test"}]}),
        json!({"identifiers": [{"type": "dns", "value": long}]}),
        json!({"identifiers": long}),
        json!({"identifiers": [{"type": "dns", "value": "a.test"}], "profile": long}),
    ] {
        let reply = client.post(&door.urls.new_order(), payload).await;
        assert!(reply.status.is_client_error());
        assert!(reply.body.len() < 6000, "{} octets", reply.body.len());
    }
}
