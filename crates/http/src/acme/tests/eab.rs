//! RFC 8555 §7.3.4: external account bindings, and orders that are pre-authorised by them.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_authority::eab_keys::{ChangeEabLimits, MadeEabKey};

use super::*;
use crate::acme::testing::b64;

/// A door whose clients use the directory `teams`.
fn teams() -> Door {
    let door = Door::over(TestOffice::default().with_teams(), unlimited());
    Door { urls: Urls::new(EXTERNAL, "teams"), ..door }
}

/// What a binding is made of; a test changes one thing.
struct Sent {
    header: Value,
    payload: String,
    secret: Vec<u8>,
    algorithm: hmac::Algorithm,
    envelope: fn(Value) -> Value,
}

impl Sent {
    fn good(client: &Client<'_>, made: &MadeEabKey) -> Self {
        let url = client.door.urls.new_account();
        Self {
            header: json!({"alg": "HS256", "kid": made.key.id.as_str(), "url": url}),
            payload: client.key.jwk().to_string(),
            secret: URL_SAFE_NO_PAD.decode(made.secret.to_base64url().as_bytes()).expect("base64url"),
            algorithm: hmac::HMAC_SHA256,
            envelope: |sent| sent,
        }
    }

    fn value(&self) -> Value {
        let (protected, payload) = (b64(self.header.to_string()), b64(&self.payload));
        let key = hmac::Key::new(self.algorithm, &self.secret);
        let mac = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
        (self.envelope)(json!({"protected": protected, "payload": payload, "signature": b64(mac)}))
    }
}

async fn register(client: &Client<'_>, binding: &Value) -> Reply {
    let payload = json!({"termsOfServiceAgreed": true, "externalAccountBinding": binding});
    client.post(&client.door.urls.new_account(), payload).await
}

async fn bound<'a>(door: &'a Door, made: &MadeEabKey) -> Client<'a> {
    let mut client = door.stranger();
    let reply = register(&client, &Sent::good(&client, made).value()).await;
    reply.is(201);
    client.kid = Some(reply.location().to_owned());
    client
}

#[tokio::test]
async fn section_7_1_1_the_directory_says_whether_a_binding_is_needed() {
    let door = teams();
    assert_eq!(door.get(&door.urls.directory()).await.is(200)["meta"]["externalAccountRequired"], true);
    for other in ["default", "either"] {
        let url = Urls::new(EXTERNAL, other).directory();
        assert_eq!(door.get(&url).await.is(200)["meta"].get("externalAccountRequired"), None, "{other}");
    }
}

#[tokio::test]
async fn section_7_3_4_a_verified_binding_is_reflected_word_for_word_by_each_of_the_three_macs() {
    let door = teams();
    let made = door.test.limited_eab_key("team", "teams", |limits| limits.accounts = 9).await;
    for (name, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        for key in [ClientKey::p256(), ClientKey::rsa2048(), ClientKey::ed25519()] {
            let client = Client { key, ..door.stranger() };
            let mut sent = Sent { algorithm, ..Sent::good(&client, &made) };
            sent.header["alg"] = json!(name);
            // The same key in other words is the same key.
            sent.payload = format!("  {} ", sent.payload.replace(',', " , "));
            let binding = sent.value();
            let account = register(&client, &binding).await.is(201);
            assert_eq!(account["externalAccountBinding"], binding, "{name}");
            let again = client.post(&door.urls.new_account(), json!({"onlyReturnExisting": true})).await.is(200);
            assert_eq!(again["externalAccountBinding"], binding);
        }
    }
}

#[tokio::test]
async fn section_7_3_4_where_one_is_required_none_is_403_and_an_account_that_exists_is_200() {
    let door = teams();
    let stranger = door.stranger();
    for payload in [json!({}), json!({"externalAccountBinding": null}), json!({"termsOfServiceAgreed": true})] {
        stranger.post(&door.urls.new_account(), payload).await.problem(403, "externalAccountRequired");
    }
    let only = json!({"onlyReturnExisting": true});
    stranger.post(&door.urls.new_account(), only.clone()).await.problem(400, "accountDoesNotExist");
    let made = door.test.eab_key("team", "teams").await;
    let mut client = bound(&door, &made).await;
    let kid = client.kid.take().expect("registered");
    for payload in [json!({}), only, json!({"externalAccountBinding": {"protected": "e30"}})] {
        let reply = client.post(&door.urls.new_account(), payload).await;
        reply.is(200);
        assert_eq!(reply.location(), kid);
    }
}

#[tokio::test]
async fn section_7_3_4_every_malformed_member_has_its_problem_and_leaves_no_account() {
    let door = teams();
    let made = door.test.eab_key("team", "teams").await;
    let elsewhere = door.test.eab_key("elsewhere", "either").await;
    let revoked = door.test.eab_key("revoked", "teams").await;
    door.test.office.revoke_eab_key(&revoked.key.id, false, "a test").await.expect("revoked");
    let spent = door.test.eab_key("spent", "teams").await;
    bound(&door, &spent).await;
    let before = door.test.store.commits();

    type Change = fn(&mut Sent);
    let table: &[(&str, Change, u16, &str, &str)] = &[
        ("no alg", |s| drop(s.header.as_object_mut().unwrap().remove("alg")), 400, "malformed", "HS256"),
        ("a signature's alg", |s| s.header["alg"] = json!("ES256"), 400, "malformed", "HS256"),
        ("alg none", |s| s.header["alg"] = json!("none"), 400, "malformed", "HS256"),
        ("alg of another MAC", |s| s.header["alg"] = json!("HS512"), 400, "malformed", "length"),
        ("no kid", |s| drop(s.header.as_object_mut().unwrap().remove("kid")), 400, "malformed", "kid"),
        ("an empty kid", |s| s.header["kid"] = json!(""), 400, "malformed", "kid"),
        ("kid is no text", |s| s.header["kid"] = json!(7), 400, "malformed", "protected header"),
        ("an unknown kid", |s| s.header["kid"] = json!("nobody"), 403, "unauthorized", "not authenticated"),
        ("a kid that cannot be", |s| s.header["kid"] = json!("a b"), 403, "unauthorized", "not authenticated"),
        ("a nonce", |s| s.header["nonce"] = json!("AAAA"), 400, "malformed", "nonce"),
        ("no url", |s| drop(s.header.as_object_mut().unwrap().remove("url")), 400, "malformed", "url"),
        (
            "another url",
            |s| s.header["url"] = json!(Urls::new(EXTERNAL, "either").new_account()),
            403,
            "unauthorized",
            "url",
        ),
        ("a jwk", |s| s.header["jwk"] = json!({}), 400, "malformed", "jwk"),
        ("crit", |s| s.header["crit"] = json!(["x"]), 400, "malformed", "crit"),
        ("b64", |s| s.header["b64"] = json!(false), 400, "malformed", "b64"),
        ("another key", |s| s.payload = ClientKey::p256().jwk().to_string(), 403, "unauthorized", "another key"),
        ("no key", |s| s.payload = "{}".to_owned(), 400, "malformed", "payload"),
        ("no JSON", |s| s.payload = "x".to_owned(), 400, "malformed", "payload"),
        ("an empty payload", |s| s.payload = String::new(), 400, "malformed", "payload"),
        ("a member twice", |s| s.payload = s.payload.replacen('{', "{\"kty\":\"EC\",", 1), 400, "malformed", "twice"),
        ("a private key", |s| s.payload = s.payload.replacen('{', "{\"d\":\"AQ\",", 1), 400, "malformed", "private"),
        ("another secret", |s| s.secret[0] ^= 1, 403, "unauthorized", "not authenticated"),
        ("no protected", |s| s.envelope = without::<'p'>, 400, "malformed", "flattened JWS"),
        ("no payload", |s| s.envelope = without::<'l'>, 400, "malformed", "flattened JWS"),
        ("no signature", |s| s.envelope = without::<'s'>, 400, "malformed", "flattened JWS"),
        (
            "a header beside",
            |s| {
                s.envelope = |mut v| {
                    v["header"] = json!({});
                    v
                }
            },
            400,
            "malformed",
            "flattened JWS",
        ),
        (
            "padding",
            |s| {
                s.envelope = |mut v| {
                    v["signature"] = json!("AA==");
                    v
                }
            },
            400,
            "malformed",
            "base64url",
        ),
        (
            "a short MAC",
            |s| {
                s.envelope = |mut v| {
                    v["signature"] = json!("AAAA");
                    v
                }
            },
            400,
            "malformed",
            "length",
        ),
        ("a text", |s| s.envelope = |_| json!("x"), 400, "malformed", "flattened JWS"),
        ("a list", |s| s.envelope = |_| json!([]), 400, "malformed", "flattened JWS"),
        ("long", |s| s.envelope = |_| json!({"protected": "x".repeat(9000)}), 400, "malformed", "longer"),
    ];
    for (what, change, status, kind, words) in table {
        let client = door.stranger();
        let mut sent = Sent::good(&client, &made);
        change(&mut sent);
        let problem = register(&client, &sent.value()).await.problem(*status, kind);
        assert!(problem["detail"].as_str().unwrap().contains(words), "{what}: {problem}");
        let none = client.post(&door.urls.new_account(), json!({"onlyReturnExisting": true})).await;
        none.problem(400, "accountDoesNotExist");
    }
    for (key, words) in [(&elsewhere, "another directory"), (&revoked, "revoked"), (&spent, "used up")] {
        let client = door.stranger();
        let problem = register(&client, &Sent::good(&client, key).value()).await.problem(403, "unauthorized");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    assert_eq!(door.test.store.commits(), before, "nothing of it left anything");
    bound(&door, &made).await;
}

/// The envelope without the member that begins or is told by this letter.
fn without<const LETTER: char>(mut sent: Value) -> Value {
    let member = match LETTER {
        'p' => "protected",
        'l' => "payload",
        _ => "signature",
    };
    sent.as_object_mut().expect("an object").remove(member);
    sent
}

#[tokio::test]
async fn a_pre_authorised_order_is_ready_in_the_answer_that_makes_it() {
    let door = teams();
    let made = door.test.eab_key("team", "teams").await;
    let client = bound(&door, &made).await;
    let names = ["a.test", "*.wild.test"];
    let (url, order) = client.order(&names).await;
    assert_eq!(order["status"], "ready");
    for authorization in order["authorizations"].as_array().expect("a list") {
        let shown = client.read(authorization.as_str().expect("a URL")).await.is(200);
        assert_eq!((&shown["status"], &shown["challenges"]), (&json!("valid"), &json!([])));
        assert!(shown["expires"].is_string());
    }
    let done = client.finalize(&order, csr(&names).der()).await.is(200);
    assert_eq!(done["status"], "valid");
    assert_eq!(client.finalize(&order, csr(&names).der()).await.problem(403, "orderNotReady")["status"], 403);
    assert_eq!(client.read(&url).await.is(200)["certificate"], done["certificate"]);
    assert!(door.test.validator.seen().is_empty());
}

#[tokio::test]
async fn a_pre_authorised_authorization_has_no_challenge_to_answer_and_can_be_given_up() {
    let door = teams();
    let made = door.test.eab_key("team", "teams").await;
    let client = bound(&door, &made).await;
    let (url, order) = client.order(&["a.test"]).await;
    let authorization = order["authorizations"][0].as_str().expect("a URL").to_owned();
    let challenge = authorization.replace("/authorization/", "/challenge/") + "/http-01";
    client.post(&challenge, json!({})).await.problem(404, "malformed");
    assert_eq!(client.post(&authorization, json!({"status": "deactivated"})).await.is(200)["status"], "deactivated");
    assert_eq!(client.read(&url).await.is(200)["status"], "invalid");
    client.finalize(&order, csr(&["a.test"]).der()).await.problem(403, "orderNotReady");
}

#[tokio::test]
async fn names_and_profiles_beyond_the_key_are_refused_by_its_name() {
    let door = teams();
    let limited = |limits: &mut chancery_authority::records::EabLimits| {
        let none: [&str; 0] = [];
        limits.names = chancery_policy::NameScope::parse(&["**.pay.test"], &none, &none).ok();
        limits.profiles = vec!["minutes".to_owned()];
    };
    let made = door.test.limited_eab_key("team", "teams", limited).await;
    let client = bound(&door, &made).await;
    let order = json!({"identifiers": [
        {"type": "dns", "value": "a.pay.test"}, {"type": "dns", "value": "b.test"}, {"type": "dns", "value": "*.wild.test"},
    ]});
    let problem = client.post(&door.urls.new_order(), order).await.problem(400, "rejectedIdentifier");
    let subproblems = problem["subproblems"].as_array().expect("a list");
    assert_eq!(subproblems.len(), 2, "{problem}");
    assert!(subproblems.iter().all(|sub| sub["detail"].as_str().unwrap().contains("\"team\"")), "{problem}");
    let asked = |profile: &str| json!({"identifiers": [{"type": "dns", "value": "a.pay.test"}], "profile": profile});
    client.post(&door.urls.new_order(), asked("server")).await.problem(400, "invalidProfile");
    client.post(&door.urls.new_order(), asked("none")).await.problem(400, "invalidProfile");
    assert_eq!(client.post(&door.urls.new_order(), asked("minutes")).await.is(201)["profile"], "minutes");
    // Narrower limits hold for what is ready already.
    let (_, order) = client.order(&["a.pay.test"]).await;
    let none: [&str; 0] = [];
    let names = Some(chancery_policy::NameScope::parse(&["b.pay.test"], &none, &none).ok());
    let change = ChangeEabLimits { names, ..ChangeEabLimits::default() };
    door.test.office.limit_eab_key(&made.key.id, change, "a test").await.expect("limited");
    client.finalize(&order, csr(&["a.pay.test"]).der()).await.problem(400, "rejectedIdentifier");
}

#[tokio::test]
async fn an_account_that_was_stopped_with_its_key_is_401() {
    let door = teams();
    let made = door.test.eab_key("team", "teams").await;
    let client = bound(&door, &made).await;
    door.test.office.revoke_eab_key(&made.key.id, true, "a test").await.expect("revoked");
    door.test.run_due_jobs().await;
    let problem = client.read(client.kid()).await.problem(401, "unauthorized");
    assert!(problem["detail"].as_str().unwrap().contains("revoked"), "{problem}");
}
