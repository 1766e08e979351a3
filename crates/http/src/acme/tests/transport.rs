//! RFC 8555 §6 and §7.1 to §7.2: what holds for every request.

use chancery_authority::at_work::AtWork;

use super::*;
use crate::{acme::testing::b64, never::Never};

#[tokio::test]
async fn section_6_1_any_origin_may_read_and_a_preflight_says_what_may_be_sent() {
    let door = Door::new();
    let directory = door.get(&door.urls.directory()).await;
    directory.is(200);
    let exposed = directory.header("access-control-expose-headers").expect("exposed");
    for name in ["Replay-Nonce", "Location", "Link", "Retry-After"] {
        assert!(exposed.contains(name), "{name}");
    }
    let preflight = door.plain(Method::OPTIONS, &door.urls.new_order()).await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-headers"), Some("Content-Type"));
    assert!(preflight.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
}

#[tokio::test]
async fn section_6_2_an_unsupported_algorithm_is_told_with_those_that_are_supported() {
    let door = Door::new();
    let client = door.client().await;
    let url = door.urls.new_order();
    for alg in ["none", "HS256"] {
        let header = json!({"alg": alg, "nonce": client.nonce().await, "url": url, "kid": client.kid()});
        let body = client.key.jws_raw(header.to_string().as_bytes(), b"{}");
        let problem = door.post_raw(&url, body).await.problem(400, "badSignatureAlgorithm");
        assert_eq!(problem["algorithms"], json!(["ES256", "ES384", "ES512", "RS256", "EdDSA"]));
    }
}

#[tokio::test]
async fn section_6_2_every_algorithm_that_is_told_works() {
    let door = Door::new();
    for key in [ClientKey::p256(), ClientKey::p384(), ClientKey::p521(), ClientKey::rsa2048(), ClientKey::ed25519()] {
        let alg = key.alg();
        let client = door.client_with(key).await;
        let account = client.read(client.kid()).await.is(200);
        assert_eq!(account["status"], "valid", "{alg}");
    }
}

#[tokio::test]
async fn section_6_2_a_weak_or_unsupported_key_is_a_bad_public_key() {
    let door = Door::new();
    let url = door.urls.new_account();
    let rsa = ClientKey::rsa2048();
    let mut weak = rsa.jwk();
    weak["e"] = json!("AQ");
    for (key, jwk) in [
        (&rsa, weak),
        (&rsa, json!({"kty": "RSA", "n": b64([0xff; 128]), "e": "AQAB"})),
        (&rsa, json!({"kty": "oct", "x": "AA"})),
    ] {
        let header = json!({"alg": key.alg(), "nonce": door.nonce().await, "url": url, "jwk": jwk});
        door.post_raw(&url, key.jws_raw(header.to_string().as_bytes(), b"{}")).await.problem(400, "badPublicKey");
    }
}

#[tokio::test]
async fn section_6_2_kid_on_new_account_and_jwk_on_new_order_are_malformed() {
    let door = Door::new();
    let client = door.client().await;
    client.post(&door.urls.new_account(), json!({})).await.problem(400, "malformed");
    let url = door.urls.new_order();
    let body = client.key.jws(&url, &client.nonce().await, None, b"{}");
    door.post_raw(&url, body).await.problem(400, "malformed");
    let header =
        json!({"alg": "ES256", "nonce": door.nonce().await, "url": url, "kid": client.kid(), "jwk": client.key.jwk()});
    door.post_raw(&url, client.key.jws_raw(header.to_string().as_bytes(), b"")).await.problem(400, "malformed");
}

#[tokio::test]
async fn section_6_2_another_content_type_is_415() {
    let door = Door::new();
    let client = door.client().await;
    let url = door.urls.new_order();
    let path = url.strip_prefix(EXTERNAL).expect("ours");
    for content_type in ["application/json", "application/jose", "text/plain", "application/jose+json, text/plain"] {
        let body = client.key.jws(&url, &door.nonce().await, client.kid.as_deref(), b"{}");
        let request =
            Request::post(path).header("content-type", content_type).body(Body::from(body)).expect("a request");
        door.send(request).await.problem(415, "malformed");
    }
    let body = client.key.jws(&url, &door.nonce().await, client.kid.as_deref(), b"{}");
    door.send(Request::post(path).body(Body::from(body)).expect("a request")).await.problem(415, "malformed");
}

#[tokio::test]
async fn section_6_2_an_unknown_account_does_not_exist() {
    let door = Door::new();
    let mut client = door.stranger();
    for kid in [
        format!("{EXTERNAL}/acme/default/account/AAAAAAAAAAAAAAAAAAAAAA"),
        format!("{EXTERNAL}/acme/other/account/AAAAAAAAAAAAAAAAAAAAAA"),
        "mailto:me@example.com".to_owned(),
        String::new(),
    ] {
        client.kid = Some(kid);
        client.post(&door.urls.new_order(), json!({})).await.problem(400, "accountDoesNotExist");
    }
}

#[tokio::test]
async fn section_6_2_a_signature_of_another_key_is_refused_whoevers_account_it_names() {
    let door = Door::new();
    let victim = door.client().await;
    let thief = Client { kid: victim.kid.clone(), ..door.stranger() };
    thief.read(victim.kid()).await.problem(400, "malformed");
}

#[tokio::test]
async fn section_6_3_get_is_405_but_on_the_directory_and_new_nonce() {
    let door = Door::new();
    let client = door.client().await;
    let (order_url, order) = client.order(&["a.test"]).await;
    for url in [
        client.kid().to_owned(),
        order_url,
        order["authorizations"][0].as_str().expect("a URL").to_owned(),
        door.urls.new_account(),
        door.urls.revoke_cert(),
    ] {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
            let reply = door.plain(method, &url).await;
            reply.problem(405, "malformed");
            assert_eq!(reply.header("allow"), Some("OPTIONS, POST"));
        }
        assert_eq!(door.plain(Method::HEAD, &url).await.status, 405);
    }
    assert_eq!(
        door.plain(Method::DELETE, &door.urls.directory()).await.header("allow"),
        Some("GET, HEAD, OPTIONS, POST")
    );
}

#[tokio::test]
async fn section_6_3_an_empty_object_is_not_a_read() {
    let door = Door::new();
    let client = door.client().await;
    let (order_url, order) = client.order(&["a.test"]).await;
    let authorization = order["authorizations"][0].as_str().expect("a URL").to_owned();
    client.post(&order_url, json!({})).await.problem(400, "malformed");
    client.post(&authorization, json!({})).await.problem(400, "malformed");
    let challenge =
        client.read(&authorization).await.is(200)["challenges"][0]["url"].as_str().expect("a URL").to_owned();
    assert_eq!(client.read(&challenge).await.is(200)["status"], "pending", "an empty payload reads");
    assert!(door.test.validator.seen().is_empty());
    assert_eq!(client.post(&challenge, json!({})).await.is(200)["status"], "valid", "an object answers");
}

#[tokio::test]
async fn section_6_3_directory_and_new_nonce_answer_get_and_post_as_get() {
    let door = Door::new();
    let client = door.client().await;
    let by_get = door.get(&door.urls.directory()).await.is(200);
    assert_eq!(client.read(&door.urls.directory()).await.is(200), by_get);
    assert_eq!(client.read(&door.urls.new_nonce()).await.status, 204);
    client.post(&door.urls.directory(), json!({})).await.problem(400, "malformed");
}

#[tokio::test]
async fn section_6_4_a_request_for_another_url_is_unauthorized_letter_for_letter() {
    let door = Door::new();
    let client = door.client().await;
    let url = door.urls.new_order();
    for signed in [
        door.urls.revoke_cert(),
        url.replace("https", "http"),
        url.replace(":14000", ""),
        url.replace("ca.example", "CA.example"),
        url.replace("ca.example:14000", "evil.example"), // what the Host header says
        format!("{url}/"),
        format!("{url}?"),
        url.replace("new-order", "%6eew-order"),
        "/acme/default/new-order".to_owned(),
    ] {
        let body = client.key.jws(&signed, &client.nonce().await, client.kid.as_deref(), b"{}");
        door.post_raw(&url, body).await.problem(403, "unauthorized");
    }
}

#[tokio::test]
async fn section_6_5_a_missing_unknown_or_reused_nonce_is_a_bad_nonce_with_a_fresh_one_that_works() {
    let door = Door::new();
    let client = door.client().await;
    let url = client.kid().to_owned();
    let used = door.nonce().await;
    door.post_raw(&url, client.key.jws(&url, &used, client.kid.as_deref(), b"")).await.is(200);
    for nonce in [&used, "AAAA", &b64([7; 30])] {
        let reply = door.post_raw(&url, client.key.jws(&url, nonce, client.kid.as_deref(), b"")).await;
        reply.problem(400, "badNonce");
        let fresh = reply.header("replay-nonce").expect("a fresh one");
        door.post_raw(&url, client.key.jws(&url, fresh, client.kid.as_deref(), b"")).await.is(200);
    }
    let header = json!({"alg": "ES256", "url": url, "kid": client.kid()});
    door.post_raw(&url, client.key.jws_raw(header.to_string().as_bytes(), b"")).await.problem(400, "badNonce");
    let malformed = client.key.jws(&url, "no base64url!", client.kid.as_deref(), b"");
    door.post_raw(&url, malformed).await.problem(400, "malformed");
}

#[tokio::test]
async fn section_6_5_a_nonce_is_spent_even_if_the_request_fails() {
    let door = Door::new();
    let client = door.client().await;
    let url = client.kid().to_owned();
    let stranger = door.stranger();
    let nonce = door.nonce().await;
    let forged = stranger.key.jws(&url, &nonce, client.kid.as_deref(), b"");
    door.post_raw(&url, forged).await.problem(400, "malformed");
    door.post_raw(&url, client.key.jws(&url, &nonce, client.kid.as_deref(), b"")).await.problem(400, "badNonce");
    let nonce = door.nonce().await;
    let elsewhere = client.key.jws(&door.urls.new_order(), &nonce, client.kid.as_deref(), b"");
    door.post_raw(&url, elsewhere).await.problem(403, "unauthorized");
    door.post_raw(&url, client.key.jws(&url, &nonce, client.kid.as_deref(), b"")).await.problem(400, "badNonce");
}

#[tokio::test]
async fn section_6_5_a_nonce_of_before_a_restart_is_a_bad_nonce() {
    let door = Door::new();
    let client = door.client().await;
    let url = client.kid().to_owned();
    let (kid, key, nonce) = (client.kid.clone(), client.key, door.nonce().await);
    let again = Door::over(door.test.restarted(8), unlimited());
    let reply = again.post_raw(&url, key.jws(&url, &nonce, kid.as_deref(), b"")).await;
    reply.problem(400, "badNonce");
    let fresh = reply.header("replay-nonce").expect("a fresh one");
    again.post_raw(&url, key.jws(&url, fresh, kid.as_deref(), b"")).await.is(200);
}

#[tokio::test]
async fn section_6_6_an_account_that_orders_too_fast_is_rate_limited_with_a_time_to_come_back() {
    let one = std::num::NonZeroU32::MIN.saturating_add(1);
    let rate = super::super::Rate { burst: one, one_each: std::time::Duration::from_secs(3600) };
    let settings = AcmeSettings {
        rates: RateLimits { orders_per_account: Some(rate), ..RateLimits::NONE },
        documentation: Some("https://ca.example/limits".to_owned()),
        ..AcmeSettings::at(EXTERNAL)
    };
    let door = Door::with(settings, Limits::default());
    let client = door.client().await;
    client.order(&["a.test"]).await;
    client.order(&["b.test"]).await;
    let order = json!({"identifiers": [{"type": "dns", "value": "c.test"}]});
    let reply = client.post(&door.urls.new_order(), order.clone()).await;
    reply.problem(429, "rateLimited");
    let wait: u64 = reply.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((3500..=3601).contains(&wait), "{wait}");
    assert_eq!(reply.links("help"), ["https://ca.example/limits"]);
    door.client().await.post(&door.urls.new_order(), order.clone()).await.is(201);

    // cert-manager takes 429 as final and comes back for 503.
    let url = door.urls.new_order();
    let body = client.key.jws(&url, &client.nonce().await, client.kid.as_deref(), order.to_string().as_bytes());
    let request = Request::post(url.strip_prefix(EXTERNAL).expect("a URL of ours"))
        .header(header::CONTENT_TYPE, "application/jose+json")
        .header(header::USER_AGENT, "cert-manager-orders/v1.21.2 (linux/amd64) cert-manager/0123456789")
        .body(Body::from(body))
        .expect("a request");
    let reply = door.send(request).await;
    reply.problem(503, "rateLimited");
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn section_6_6_new_accounts_from_one_address_are_limited_and_old_accounts_are_found_all_the_same() {
    let one = std::num::NonZeroU32::MIN;
    let rate = super::super::Rate { burst: one, one_each: std::time::Duration::from_secs(60) };
    let settings = AcmeSettings {
        rates: RateLimits { new_accounts_per_address: Some(rate), ..RateLimits::NONE },
        ..AcmeSettings::at(EXTERNAL)
    };
    let door = Door::with(settings, Limits::default());
    let first = Client { kid: None, ..door.client().await };
    let reply = door.stranger().post(&door.urls.new_account(), json!({})).await;
    reply.problem(429, "rateLimited");
    assert!(reply.header("retry-after").is_some());
    first.post(&door.urls.new_account(), json!({})).await.is(200);
    let only = door.stranger().post(&door.urls.new_account(), json!({"onlyReturnExisting": true})).await;
    only.problem(400, "accountDoesNotExist");
}

#[tokio::test]
async fn section_6_6_an_address_has_only_so_many_keys_of_its_own_looked_at_and_accounts_go_on() {
    let two = std::num::NonZeroU32::MIN.saturating_add(1);
    let rate = super::super::Rate { burst: two, one_each: std::time::Duration::from_secs(60) };
    let settings = AcmeSettings {
        rates: RateLimits { brought_keys_per_address: Some(rate), ..RateLimits::NONE },
        documentation: Some("https://ca.example/limits".to_owned()),
        ..AcmeSettings::at(EXTERNAL)
    };
    let door = Door::with(settings, Limits::default());
    let client = door.client().await;
    let url = door.urls.new_account();
    let weak = |nonce: String| {
        let jwk = json!({"kty": "RSA", "e": "AQAB", "n": b64([0xff; 256])});
        let header = json!({"alg": "RS256", "nonce": nonce, "url": url, "jwk": jwk});
        client.key.jws_raw(header.to_string().as_bytes(), b"{}")
    };
    door.post_raw(&url, weak(door.nonce().await)).await.problem(400, "badPublicKey");
    let limited = door.post_raw(&url, weak(door.nonce().await)).await;
    let problem = limited.problem(429, "rateLimited");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("keep the account's URL")), "{problem}");
    assert!(limited.header("retry-after").is_some());
    assert_eq!(limited.links("help"), ["https://ca.example/limits"]);
    // Who revokes with a certificate's key has no account to sign with.
    let url = door.urls.revoke_cert();
    let by_key = client.key.jws(&url, &door.nonce().await, None, b"{}");
    let problem = door.post_raw(&url, by_key).await.problem(429, "rateLimited");
    let detail = "too many requests from your address bring a key of their own; ask again later";
    assert_eq!(problem["detail"], detail);
    client.read(client.kid()).await.is(200);
}

#[tokio::test]
async fn section_7_1_1_the_directory_names_what_works_and_its_urls_are_the_configured_ones() {
    let door = Door::new();
    let request = Request::get("/acme/default/directory").header("host", "evil.example").body(Body::empty());
    let reply = door.send(request.expect("a request")).await;
    let directory = reply.is(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.links("index").is_empty(), "the directory needs no link to itself");
    let members: std::collections::BTreeSet<&String> = directory.as_object().expect("an object").keys().collect();
    let offered = ["keyChange", "meta", "newAccount", "newNonce", "newOrder", "renewalInfo", "revokeCert"];
    assert!(members.into_iter().eq(offered), "{directory}");
    for (member, url) in directory.as_object().expect("an object").iter().filter(|(member, _)| *member != "meta") {
        assert!(url.as_str().expect("a URL").starts_with("https://ca.example:14000/acme/default/"), "{member}");
    }
    assert!(directory["meta"]["profiles"]["server"].is_string());
    door.get(&format!("{EXTERNAL}/acme/default/new-authz")).await.problem(404, "malformed");
}

#[tokio::test]
async fn a_reload_shows_in_the_directory_at_once() {
    let door = Door::new();
    assert_eq!(door.get(&door.urls.directory()).await.is(200)["meta"].get("website"), None);
    door.reload(|directory| directory.website = Some("https://ca.example/about".to_owned())).await;
    let directory = door.get(&door.urls.directory()).await.is(200);
    assert_eq!(directory["meta"]["website"], "https://ca.example/about");
}

#[tokio::test]
async fn section_7_2_head_on_new_nonce_is_200_and_get_is_204_both_empty_with_a_nonce() {
    let door = Door::new();
    let mut seen = std::collections::BTreeSet::new();
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204)] {
        let reply = door.plain(method, &door.urls.new_nonce()).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (status, 0));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(seen.insert(reply.header("replay-nonce").expect("a nonce").to_owned()));
    }
}

#[tokio::test]
async fn unknown_paths_directories_and_ids_are_404_with_a_problem() {
    let door = Door::new();
    let client = door.client().await;
    let index = format!("{EXTERNAL}/acme/default/directory");
    for path in ["/acme/default", "/acme/default/", "/acme/default/nothing", "/acme/default/order/x"] {
        for reply in [door.get(&format!("{EXTERNAL}{path}")).await, client.read(&format!("{EXTERNAL}{path}")).await] {
            reply.problem(404, "malformed");
            assert_eq!(reply.links("index"), [index.as_str()], "{path}");
        }
    }
    for path in ["/acme/other/directory", "/acme/x", "/acme", "/", "/favicon.ico", "/default/directory"] {
        let reply = door.get(&format!("{EXTERNAL}{path}")).await;
        reply.problem(404, "malformed");
        assert!(reply.links("index").is_empty(), "{path}");
    }
    let id = "AAAAAAAAAAAAAAAAAAAAAA";
    for path in [
        format!("order/{id}"),
        format!("authorization/{id}"),
        format!("certificate/{id}"),
        format!("challenge/{id}/dns-01"),
    ] {
        client.read(&format!("{EXTERNAL}/acme/default/{path}")).await.problem(404, "malformed");
    }
}

#[tokio::test]
async fn a_body_above_the_cap_is_413_and_one_that_never_ends_is_cut_off() {
    let door = Door::new();
    let url = door.urls.new_order();
    door.post_raw(&url, vec![b' '; 64 * 1024]).await.problem(400, "malformed");
    door.post_raw(&url, vec![b' '; 64 * 1024 + 1]).await.problem(413, "malformed");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_in_time_is_408() {
    let door = Door::new();
    door.post_raw(&door.urls.new_order(), Body::new(Never)).await.problem(408, "malformed");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_sends_its_bodies_slowly_takes_nobody_elses_place() {
    let at_work = AtWork::default();
    let settings = AcmeSettings { in_flight: 20, arriving_per_address: 3, at_work: at_work.clone(), ..unlimited() };
    let door = Door::with(settings, Limits::default());
    let path = door.urls.new_order().strip_prefix(EXTERNAL).expect("ours").to_owned();
    let from = |last: u8, body: Body| {
        let mut request =
            Request::post(&path).header(header::CONTENT_TYPE, "application/jose+json").body(body).expect("a request");
        request.extensions_mut().insert(ClientAddress(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))));
        request
    };
    let slow: Vec<_> = (0..3).map(|_| tokio::spawn(door.router.clone().oneshot(from(9, Body::new(Never))))).collect();
    tokio::time::sleep(std::time::Duration::from_millis(1)).await; // paused: lets them begin
    assert_eq!(at_work.now(), 0, "nothing is done for them yet");
    door.send(from(9, Body::empty())).await.problem(503, "serverInternal");
    door.client().await.order(&["a.test"]).await;
    for each in slow {
        let late = each.await.expect("no panic").expect("the router does not fail");
        assert_eq!(late.status(), StatusCode::REQUEST_TIMEOUT);
    }
    door.send(from(9, Body::empty())).await.problem(400, "malformed");
}

#[tokio::test]
async fn overload_is_503_with_a_time_to_come_back_and_never_429() {
    let door = Door::with(AcmeSettings { in_flight: 0, ..unlimited() }, Limits::default());
    let url = door.urls.new_account();
    let reply = door.post_raw(&url, door.stranger().key.jws(&url, &door.nonce().await, None, b"{}")).await;
    reply.problem(503, "serverInternal");
    assert!(reply.header("retry-after").is_some());
    door.get(&door.urls.directory()).await.is(200);
}

#[tokio::test(start_paused = true)]
async fn an_account_with_slow_challenges_waits_in_its_own_places_alone_and_turns_nobody_away() {
    let limits = Limits { waiting_answers: 3, waiting_answers_per_account: 2, ..Limits::default() };
    // All come from one address, and more may wait than may arrive from it at once.
    let at_work = AtWork::default();
    let settings = AcmeSettings { in_flight: 4, arriving_per_address: 1, at_work: at_work.clone(), ..unlimited() };
    let door = Door::with(settings, limits);
    let (slow, other) = (door.client().await, door.client().await);
    let mut challenges = Vec::new();
    for number in 0..6 {
        let (_, order) = slow.order(&[&format!("slow{number}.test")]).await;
        let authorization = slow.read(order["authorizations"][0].as_str().expect("a URL")).await.is(200);
        challenges.push(authorization["challenges"][0]["url"].as_str().expect("a URL").to_owned());
    }
    let mut requests = Vec::new();
    for url in challenges.iter().chain(std::iter::repeat_n(&challenges[0], 20)) {
        requests.push((url, slow.key.jws(url, &door.nonce().await, slow.kid.as_deref(), b"{}")));
    }
    door.test.validator.hold();
    let began = tokio::time::Instant::now();
    let mut answers = Vec::new();
    for (url, body) in requests {
        let mut request = Request::post(url.strip_prefix(EXTERNAL).expect("ours"))
            .header(header::CONTENT_TYPE, "application/jose+json")
            .body(Body::from(body))
            .expect("a request");
        request.extensions_mut().insert(ClientAddress(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
        answers.push(tokio::spawn(door.router.clone().oneshot(request)));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await; // paused: lets it answer or wait
    }
    let waiting = answers.iter().filter(|answer| !answer.is_finished()).count();
    assert_eq!((waiting, at_work.now()), (2, 2), "the places of one account");
    other.order(&["a.test"]).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(1));
    for answer in answers {
        let response = answer.await.expect("no panic").expect("the router does not fail");
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers().contains_key("retry-after"));
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON")["status"], "processing");
    }
    assert_eq!(door.test.validator.seen().len(), 6, "each is looked at once");
    assert_eq!(at_work.now(), 0, "who is answered is not at work");
}

#[tokio::test]
async fn a_request_over_one_connection_too_many_is_503_whatever_it_asks_and_does_nothing() {
    let door = Door::new();
    let client = door.client().await;
    let url = door.urls.new_order();
    let placing = json!({"identifiers": [{"type": "dns", "value": "a.test"}]}).to_string();
    let body = client.key.jws(&url, &door.nonce().await, client.kid.as_deref(), placing.as_bytes());
    let path = |url: &str| url.strip_prefix(EXTERNAL).expect("ours").to_owned();
    let post = Request::post(path(&url)).header("content-type", "application/jose+json").body(Body::from(body));
    let paths =
        [&*path(&door.urls.directory()), "/acme/default/new-authz", "/acme/other/directory", "/favicon.ico", "/"];
    for request in [post].into_iter().chain(paths.map(|path| Request::get(path).body(Body::empty()))) {
        let mut request = request.expect("a request");
        request.extensions_mut().insert(super::super::TooManyConnections);
        let reply = door.send(request).await;
        reply.problem(503, "serverInternal");
        assert!(reply.header("retry-after").is_some());
    }
    assert_eq!(client.read(&format!("{}/orders", client.kid())).await.is(200), json!({"orders": []}));
}

#[tokio::test]
async fn what_was_counted_has_closed_labels() {
    let door = Door::new();
    let client = door.client().await;
    client.order(&["a.test"]).await;
    client.post(&door.urls.new_order(), json!({"identifiers": [{"type": "dns", "value": "denied.test"}]})).await;
    door.get(&format!("{EXTERNAL}/acme/default/{}", "x".repeat(50))).await;
    let text = door.metrics.encode();
    for line in [
        r#"{route="new-order",outcome="ok",status="201"} 1"#,
        r#"{route="new-order",outcome="rejectedIdentifier",status="400"} 1"#,
        r#"{route="unknown",outcome="malformed",status="404"} 1"#,
        "chancery_http_requests_in_flight 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(".test") && !text.contains("xxx"));
}

/// Everything that is logged at any level, as text.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

thread_local! {
    /// Where what this thread logs goes.
    static LOG: Log = Log::default();
}

impl Log {
    /// What this thread logs from now on. The subscriber is the whole process's: one of a thread's
    /// own is asked about a line only if no other test came by that line first.
    pub(super) fn of_this_thread() -> Self {
        static SUBSCRIBER: std::sync::Once = std::sync::Once::new();
        SUBSCRIBER.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .with_writer(|| LOG.with(Self::clone))
                .finish();
            tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
            tracing::callsite::rebuild_interest_cache();
        });
        LOG.with(Self::clone)
    }

    /// What was logged.
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_names_who_what_and_the_request_and_holds_no_token_no_nonce_and_no_line_of_a_clients() {
    let log = Log::of_this_thread();
    let door = Door::new();
    let client = door.client().await;
    let (url, order) = client.ready_order(&["a.test"]).await;
    let refused =
        client.post(&door.urls.new_order(), json!({"identifiers": [{"type": "dns", "value": "denied.test"}]})).await;
    let planted = json!({"identifiers": [{"type": "dns", "value": "x\nINFO planted line"}]});
    client.post(&door.urls.new_order(), planted).await.problem(400, "malformed");
    client.finalize(&order, csr(&["a.test"]).der()).await.is(200);
    let text = log.text();
    let id = |url: &str| url.rsplit('/').next().expect("an id").to_owned();
    for field in [
        format!("order.id={}", id(&url)),
        format!("account.id={}", id(client.kid())),
        format!("request.id={}", refused.header("x-request-id").expect("an id")),
        "rejectedIdentifier".to_owned(),
    ] {
        assert!(text.contains(&field), "{field} is not in\n{text}");
    }
    assert!(!text.lines().any(|line| line.starts_with("INFO planted")), "{text}");
    let nonce = client.nonce().await;
    for secret in [
        nonce,
        door.test.validator.seen()[0].token.to_string(),
        door.test.validator.seen()[0].key_authorization.clone(),
    ] {
        assert!(!text.contains(&secret), "{secret} is in\n{text}");
    }
}
