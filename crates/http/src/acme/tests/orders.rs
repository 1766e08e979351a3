//! RFC 8555 §7.1.3, §7.1.4, §7.4, §7.5 and §8: orders, authorizations, challenges.

use std::time::Duration;

use chancery_acme::problem::ProblemType;

use super::{transport::Log, *};

fn dns(names: &[&str]) -> Value {
    json!({"identifiers": names.iter().map(|name| json!({"type": "dns", "value": name})).collect::<Vec<_>>()})
}

#[tokio::test]
async fn section_7_4_a_new_order_is_201_with_its_location_and_expires_and_no_certificate() {
    let door = Door::new();
    let client = door.client().await;
    let reply = client.post(&door.urls.new_order(), dns(&["b.test", "a.test"])).await;
    let order = reply.is(201);
    assert_eq!(order["status"], "pending");
    assert!(order["expires"].is_string());
    assert_eq!(order["authorizations"].as_array().map(Vec::len), Some(2));
    assert_eq!(order["profile"], "server", "the server's choice is stated");
    assert_eq!((order.get("certificate"), order.get("error")), (None, None));
    assert_eq!(order["finalize"], format!("{}/finalize", reply.location()));
    assert_eq!(client.read(reply.location()).await.is(200), order);
}

#[tokio::test]
async fn section_7_1_3_identifiers_and_authorizations_never_change() {
    let door = Door::new();
    let client = door.client().await;
    let (url, pending) = client.order(&["b.test", "a.test"]).await;
    client.fulfil(&pending).await;
    let ready = client.read(&url).await.is(200);
    let valid = client.finalize(&ready, csr(&["a.test", "b.test"]).der()).await.is(200);
    assert_eq!((&ready["status"], &valid["status"]), (&json!("ready"), &json!("valid")));
    for order in [&ready, &valid] {
        assert_eq!(order["identifiers"], pending["identifiers"]);
        assert_eq!(order["authorizations"], pending["authorizations"]);
        assert!(order["expires"].is_string());
    }
}

#[tokio::test]
async fn section_7_1_4_a_wildcard_shows_its_base_and_offers_dns_01_alone() {
    let door = Door::new();
    let client = door.client().await;
    let (_, order) = client.order(&["*.wild.test"]).await;
    assert_eq!(order["identifiers"], json!([{"type": "dns", "value": "*.wild.test"}]));
    let authorization = client.read(order["authorizations"][0].as_str().expect("a URL")).await.is(200);
    assert_eq!(authorization["identifier"], json!({"type": "dns", "value": "wild.test"}));
    assert_eq!(authorization["wildcard"], true);
    let kinds: Vec<&Value> =
        authorization["challenges"].as_array().expect("a list").iter().map(|c| &c["type"]).collect();
    assert_eq!(kinds, [&json!("dns-01")]);
    let (_, plain) = client.order(&["a.test"]).await;
    let plain = client.read(plain["authorizations"][0].as_str().expect("a URL")).await.is(200);
    assert_eq!(plain.get("wildcard"), None, "absent, not false");
}

#[tokio::test]
async fn section_7_1_4_names_are_folded_to_lower_case_and_duplicates_to_one() {
    let door = Door::new();
    let client = door.client().await;
    let order = client.post(&door.urls.new_order(), dns(&["A.Test", "a.test", "a.TEST"])).await.is(201);
    assert_eq!(order["identifiers"], json!([{"type": "dns", "value": "a.test"}]));
    assert_eq!(order["authorizations"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn section_7_4_every_refused_identifier_has_its_subproblem_with_rule_and_reason() {
    let door = Door::new();
    let client = door.client().await;
    let reply = client.post(&door.urls.new_order(), dns(&["a.test", "denied.test", "www.example.org"])).await;
    let problem = reply.problem(400, "rejectedIdentifier");
    let subproblems = problem["subproblems"].as_array().expect("a list");
    let refused: Vec<&Value> = subproblems.iter().map(|subproblem| &subproblem["identifier"]["value"]).collect();
    assert_eq!(refused, ["denied.test", "www.example.org"]);
    let details: Vec<&str> = subproblems.iter().filter_map(|subproblem| subproblem["detail"].as_str()).collect();
    assert!(details[0].contains("not-this-one") && details[0].contains("nobody gets this name"), "{details:?}");
    assert!(details[1].contains("no rule allows it"), "{details:?}");
    assert_eq!(client.read(&format!("{}/orders", client.kid())).await.is(200), json!({"orders": []}));
}

#[tokio::test]
async fn a_refusal_reads_like_this() {
    let door = Door::new();
    let client = door.client().await;
    let payload = dns(&["a.test", "denied.test", "www.example.org"]);
    let reply = client.post(&door.urls.new_order(), payload).await;
    let text = String::from_utf8(reply.body).expect("text").replace("},{", "},\n{");
    insta::assert_snapshot!(text, @r#"
    {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"policy: refused: 2 of 3 names; denied.test: refused by rule not-this-one: nobody gets this name; www.example.org: refused: no rule allows it under profile server","status":400,"subproblems":[{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"refused by rule not-this-one: nobody gets this name","identifier":{"type":"dns","value":"denied.test"}},
    {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"refused: no rule allows it under profile server","identifier":{"type":"dns","value":"www.example.org"}}]}
    "#);
}

#[tokio::test]
async fn what_profile_and_policy_refuse_is_told_at_once_with_all_reasons_for_each_name() {
    let log = Log::of_this_thread();
    let door = Door::new();
    let client = door.client().await;
    let ready = client.ready_order(&["x.wild.test"]).await.1;
    let spec = ProfileSpec { name_kinds: vec![NameKind::Wildcard], ..ProfileSpec::server() };
    door.put_profile(Profile::new(spec).expect("a sound profile")).await;
    let problem = client
        .post(&door.urls.new_order(), dns(&["*.wild.test", "a.test", "denied.test"]))
        .await
        .problem(400, "rejectedIdentifier");
    let told: Vec<(&str, &str)> = problem["subproblems"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|sub| {
            assert_eq!(sub["type"], "urn:ietf:params:acme:error:rejectedIdentifier");
            (sub["identifier"]["value"].as_str().expect("a name"), sub["detail"].as_str().expect("words"))
        })
        .collect();
    let by_profile = "profile \"server\" issues no names of kind dns";
    let by_policy = "policy: refused by rule not-this-one: nobody gets this name";
    assert_eq!(told, [("a.test", by_profile), ("denied.test", &*format!("{by_policy}; {by_profile}"))]);
    let detail = format!("refused: a.test: {by_profile}; denied.test: {by_policy}, {by_profile}");
    assert_eq!(problem["detail"], detail.as_str());
    assert!(log.text().contains(&format!("{detail:?}")), "the operator is told too");
    let many = ["a.test", "b.test", "c.test", "d.test", "e.test"];
    let problem = client.post(&door.urls.new_order(), dns(&many)).await.problem(400, "rejectedIdentifier");
    let detail = format!("refused: a.test: {by_profile}; b.test: {by_profile}; c.test: {by_profile}; and 2 more");
    assert_eq!(problem["detail"], detail.as_str());
    assert_eq!(problem["subproblems"].as_array().map(Vec::len), Some(5));
    let late = client.finalize(&ready, csr(&["x.wild.test"]).der()).await.problem(400, "rejectedIdentifier");
    assert_eq!(late["subproblems"][0]["identifier"]["value"], "x.wild.test");
    assert_eq!(late["subproblems"][0]["detail"], by_profile);
}

#[tokio::test]
async fn a_suggestion_of_policy_is_in_the_refusal() {
    let door = Door::new();
    let client = door.client().await;
    let refused = client.post(&door.urls.new_order(), dns(&["*.b.wild.test"])).await;
    let problem = refused.problem(400, "rejectedIdentifier");
    for detail in [&problem["detail"], &problem["subproblems"][0]["detail"]] {
        assert!(detail.as_str().is_some_and(|detail| detail.ends_with("; ask for: *.wild.test")), "{problem}");
    }
}

#[tokio::test]
async fn section_7_4_unsupported_types_and_bad_names_are_told_all_at_once() {
    let door = Door::new();
    let client = door.client().await;
    let identifiers = json!([{"type": "email", "value": "a@b.test"}, {"type": "dns", "value": "a..test"}, {"type": "dns", "value": "ok.test"}]);
    let problem =
        client.post(&door.urls.new_order(), json!({"identifiers": identifiers})).await.problem(400, "compound");
    let kinds: Vec<&Value> = problem["subproblems"].as_array().expect("a list").iter().map(|s| &s["type"]).collect();
    assert_eq!(kinds, ["urn:ietf:params:acme:error:unsupportedIdentifier", "urn:ietf:params:acme:error:malformed"]);
    let only = json!({"identifiers": [{"type": "email", "value": "a@b.test"}]});
    client.post(&door.urls.new_order(), only).await.problem(400, "unsupportedIdentifier");
    for name in ["xn--a.test", "10.0.0.1", "a\u{0}b.test", "bücher.test", "*.*.test", "a.*.test", &"a".repeat(300)] {
        client.post(&door.urls.new_order(), dns(&[name])).await.problem(400, "malformed");
    }
}

#[tokio::test]
async fn section_7_4_no_identifiers_too_many_and_shapes_that_are_none_are_malformed() {
    let door = Door::new();
    let client = door.client().await;
    let many: Vec<String> = (0..101).map(|number| format!("h{number}.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for payload in [
        dns(&[]),
        dns(&many),
        json!({}),
        json!([]),
        json!({"identifiers": "a.test"}),
        json!({"identifiers": [["dns", "a.test"]]}),
        json!({"identifiers": [{"type": "dns"}]}),
        json!({"identifiers": [{"type": "dns", "value": 1}]}),
    ] {
        client.post(&door.urls.new_order(), payload).await.problem(400, "malformed");
    }
    client.read(&door.urls.new_order()).await.problem(400, "malformed");
}

#[tokio::test]
async fn section_7_4_times_that_cannot_be_honoured_are_refused_never_changed() {
    let door = Door::new();
    let client = door.client().await;
    let with = |member: &str, time: &str| {
        let mut payload = dns(&["a.test"]);
        payload[member] = json!(time);
        payload
    };
    for (member, time) in [
        ("notAfter", "tomorrow"),
        ("notAfter", "2026-11-25"),
        ("notAfter", "2020-01-01T00:00:00Z"),
        ("notAfter", "2036-01-01T00:00:00Z"),
        ("notBefore", "2026-01-01T00:00:00Z"),
    ] {
        client.post(&door.urls.new_order(), with(member, time)).await.problem(400, "malformed");
    }
    let order = client.post(&door.urls.new_order(), with("notAfter", "2026-12-24T00:00:00Z")).await.is(201);
    assert_eq!(order["notAfter"], "2026-12-24T00:00:00Z");
}

#[tokio::test]
async fn an_unknown_profile_is_refused_at_new_order_with_those_that_there_are() {
    let door = Door::new();
    let client = door.client().await;
    let mut payload = dns(&["a.test"]);
    payload["profile"] = json!("nothing");
    let problem = client.post(&door.urls.new_order(), payload.clone()).await.problem(400, "invalidProfile");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("server")), "{problem}");
    payload["profile"] = json!("server");
    assert_eq!(client.post(&door.urls.new_order(), payload).await.is(201)["profile"], "server");
}

#[tokio::test]
async fn section_6_6_an_account_with_too_many_open_orders_is_rate_limited() {
    let door = Door::with(unlimited(), Limits { pending_orders_per_account: 2, ..Limits::default() });
    let client = door.client().await;
    client.order(&["a.test"]).await;
    client.order(&["b.test"]).await;
    let reply = client.post(&door.urls.new_order(), dns(&["c.test"])).await;
    reply.problem(429, "rateLimited");
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn too_many_accounts_without_certificates_is_503_and_not_the_clients_fault() {
    let door = Door::with(unlimited(), Limits { unproven_accounts: 1, ..Limits::default() });
    door.client().await;
    let reply = door.stranger().post(&door.urls.new_account(), json!({})).await;
    reply.problem(503, "rateLimited");
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn section_7_5_challenges_have_url_status_type_and_a_token_of_128_bits_each_its_own() {
    let door = Door::new();
    let client = door.client().await;
    let mut tokens = std::collections::BTreeSet::new();
    let (_, order) = client.order(&["a.test", "b.test"]).await;
    for url in order["authorizations"].as_array().expect("a list") {
        let authorization = client.read(url.as_str().expect("a URL")).await.is(200);
        assert_eq!(authorization["status"], "pending");
        let challenges = authorization["challenges"].as_array().expect("a list");
        let kinds: Vec<&Value> = challenges.iter().map(|challenge| &challenge["type"]).collect();
        assert_eq!(kinds, ["http-01", "dns-01", "tls-alpn-01"]);
        for challenge in challenges {
            assert_eq!(challenge["status"], "pending");
            let token = challenge["token"].as_str().expect("a token");
            assert_eq!(token.len(), 22);
            assert!(tokens.insert(token.to_owned()), "unique for each challenge");
            let read = client.read(challenge["url"].as_str().expect("a URL")).await;
            assert_eq!(read.is(200), *challenge);
            assert_eq!(read.links("up"), [url.as_str().expect("a URL")]);
        }
    }
}

#[tokio::test]
async fn section_7_5_1_an_answered_challenge_is_valid_with_its_time_and_answering_again_changes_nothing() {
    let door = Door::new();
    let client = door.client().await;
    let (_, order) = client.order(&["a.test"]).await;
    let authorization = order["authorizations"][0].as_str().expect("a URL").to_owned();
    let challenge =
        client.read(&authorization).await.is(200)["challenges"][0]["url"].as_str().expect("a URL").to_owned();
    let reply = client.post(&challenge, json!({"keyAuthorization": "ignored", "more": {"x": 1}})).await;
    let valid = reply.is(200);
    assert_eq!(valid["status"], "valid");
    assert!(valid["validated"].is_string());
    assert_eq!(reply.links("up"), [authorization.as_str()]);
    assert_eq!(client.post(&challenge, json!({})).await.is(200), valid);
    assert_eq!(door.test.validator.seen().len(), 1);
    let authorization = client.read(&authorization).await.is(200);
    assert_eq!(authorization["status"], "valid");
    assert!(authorization["expires"].is_string());
    let statuses: Vec<&Value> =
        authorization["challenges"].as_array().expect("a list").iter().map(|c| &c["status"]).collect();
    assert_eq!(statuses, ["valid"], "the challenge that was validated (§7.1.4)");
}

#[tokio::test]
async fn section_8_1_the_key_authorization_ends_in_the_thumbprint_of_the_canonical_key() {
    let door = Door::new();
    let client = door.client().await;
    let (_, order) = client.order(&["a.test"]).await;
    client.fulfil(&order).await;
    let jwk = client.key.jwk();
    // RFC 7638 §3.2, by hand: required members in order, no white space.
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
    let seen = &door.test.validator.seen()[0];
    assert_eq!(seen.key_authorization, format!("{}.{}", seen.token, crate::acme::testing::b64(digest)));
}

#[tokio::test(start_paused = true)]
async fn section_8_2_a_challenge_that_takes_longer_than_the_wait_is_processing_with_retry_after() {
    let door = Door::new();
    let client = door.client().await;
    let (order_url, order) = client.order(&["a.test"]).await;
    let authorization = order["authorizations"][0].as_str().expect("a URL").to_owned();
    let challenge =
        client.read(&authorization).await.is(200)["challenges"][0]["url"].as_str().expect("a URL").to_owned();
    door.test.validator.hold();
    let reply = client.post(&challenge, json!({})).await;
    assert_eq!(reply.is(200)["status"], "processing");
    assert!(reply.header("retry-after").is_some());
    let pending = client.read(&authorization).await;
    assert_eq!(pending.is(200)["status"], "pending");
    assert!(pending.header("retry-after").is_some());
    door.test.validator.release(1);
    tokio::time::sleep(Duration::from_millis(1)).await; // paused: lets the look end
    assert_eq!(client.read(&challenge).await.is(200)["status"], "valid");
    assert_eq!(client.read(&order_url).await.is(200)["status"], "ready");
}

#[tokio::test]
async fn section_8_a_failed_validation_is_the_challenges_error_and_never_a_5xx() {
    for (kind, token) in [
        (ProblemType::Connection, "connection"),
        (ProblemType::Dns, "dns"),
        (ProblemType::Tls, "tls"),
        (ProblemType::IncorrectResponse, "incorrectResponse"),
        (ProblemType::Caa, "caa"),
        (ProblemType::Unauthorized, "unauthorized"),
    ] {
        let door = Door::new();
        let client = door.client().await;
        let (order_url, order) = client.order(&["a.test", "b.test"]).await;
        let authorization = order["authorizations"][0].as_str().expect("a URL").to_owned();
        let challenge =
            client.read(&authorization).await.is(200)["challenges"][0]["url"].as_str().expect("a URL").to_owned();
        door.test.validator.fail_next(kind);
        let failed = client.post(&challenge, json!({})).await.is(200);
        let urn = format!("urn:ietf:params:acme:error:{token}");
        assert_eq!((&failed["status"], &failed["error"]["type"]), (&json!("invalid"), &json!(urn)));
        assert_eq!(client.read(&authorization).await.is(200)["status"], "invalid");
        let order = client.read(&order_url).await.is(200);
        assert_eq!((&order["status"], &order["error"]["type"]), (&json!("invalid"), &json!(urn)), "as soon as one is");
        assert_eq!(client.post(&challenge, json!({})).await.is(200), failed, "answering again changes nothing");
    }
}

#[tokio::test]
async fn section_7_5_2_an_authorization_is_deactivated_by_that_word_alone_and_takes_its_open_order_along() {
    let door = Door::new();
    let client = door.client().await;
    let (order_url, order) = client.ready_order(&["a.test"]).await;
    let authorization = order["authorizations"][0].as_str().expect("a URL").to_owned();
    for status in ["valid", "revoked", "DEACTIVATED", ""] {
        client.post(&authorization, json!({"status": status})).await.problem(400, "malformed");
    }
    assert_eq!(client.post(&authorization, json!({"status": "deactivated"})).await.is(200)["status"], "deactivated");
    assert_eq!(client.read(&order_url).await.is(200)["status"], "invalid");
    client.finalize(&order, csr(&["a.test"]).der()).await.problem(403, "orderNotReady");
}

#[tokio::test]
async fn section_7_1_6_an_expired_order_is_invalid_and_so_are_its_authorizations() {
    let door = Door::new();
    let client = door.client().await;
    let (order_url, order) = client.ready_order(&["a.test"]).await;
    let (_, open) = client.order(&["b.test"]).await;
    let authorization = open["authorizations"][0].as_str().expect("a URL").to_owned();
    let challenge =
        client.read(&authorization).await.is(200)["challenges"][0]["url"].as_str().expect("a URL").to_owned();
    door.test.clock.advance(Duration::from_secs(86_400));
    *client.nonce.lock().expect("no panic") = None;
    let expired = client.read(&order_url).await.is(200);
    assert_eq!(expired["status"], "invalid");
    assert!(expired["error"]["detail"].as_str().is_some_and(|detail| detail.contains("expired")));
    client.finalize(&order, csr(&["a.test"]).der()).await.problem(403, "orderNotReady");
    assert_eq!(client.read(&authorization).await.is(200)["status"], "expired");
    client.post(&challenge, json!({})).await.problem(400, "malformed");
    assert_eq!(door.test.signer.signatures(), 0);
}
