//! RFC 8555 §7.1.2 and §7.3: accounts.

use chancery_acme::order::OrderState;
use chancery_authority::ports::{CertificateQuery, Store as _};

use super::*;

#[tokio::test]
async fn section_7_3_a_new_account_is_201_and_the_same_key_is_200_with_the_same_location() {
    let door = Door::new();
    let client = door.stranger();
    let first = client.post(&door.urls.new_account(), json!({"contact": ["mailto:a@example.com"]})).await;
    let account = first.is(201);
    assert_eq!(account["status"], "valid");
    assert_eq!(account["contact"], json!(["mailto:a@example.com"]));
    assert_eq!(account["orders"], format!("{}/orders", first.location()), "there always, even empty");
    let again = client.post(&door.urls.new_account(), json!({"contact": ["mailto:other@example.com"]})).await;
    assert_eq!(again.is(200), account, "what it says of contacts is ignored");
    assert_eq!(again.location(), first.location());
}

#[tokio::test]
async fn section_7_3_what_is_unknown_or_not_the_clients_is_neither_kept_nor_reflected() {
    let door = Door::new();
    let payload = json!({
        "onlyReturnExisting": false, "orders": "https://evil.example/", "status": "revoked", "planted": [1],
        "externalAccountBinding": {"protected": "e30", "payload": "", "signature": ""},
    });
    let account = door.stranger().post(&door.urls.new_account(), payload).await.is(201);
    let members: std::collections::BTreeSet<&String> = account.as_object().expect("an object").keys().collect();
    assert!(members.into_iter().eq(["orders", "status"]), "{account}");
    assert!(account["orders"].as_str().expect("a URL").starts_with(EXTERNAL));
}

#[tokio::test]
async fn section_7_3_contacts_of_another_scheme_are_unsupported_and_odd_addresses_invalid() {
    let door = Door::new();
    for (contact, kind) in [
        ("tel:+1555", "unsupportedContact"),
        ("a@example.com", "unsupportedContact"),
        ("mailto:a@example.com?subject=x", "invalidContact"),
        ("mailto:a@example.com,b@example.com", "invalidContact"),
        ("mailto:a@example.com%2Cb@example.com", "invalidContact"),
        ("mailto:", "invalidContact"),
        ("mailto:a@\u{0}b", "invalidContact"),
    ] {
        let client = door.stranger();
        client.post(&door.urls.new_account(), json!({"contact": [contact]})).await.problem(400, kind);
        let none = client.post(&door.urls.new_account(), json!({"onlyReturnExisting": true})).await;
        none.problem(400, "accountDoesNotExist");
    }
    let many = vec!["mailto:a@example.com"; 50];
    door.stranger().post(&door.urls.new_account(), json!({"contact": many})).await.problem(400, "invalidContact");
}

#[tokio::test]
async fn section_7_3_terms_not_agreed_to_leave_no_account_and_say_where_they_stand() {
    let door = Door::new();
    let terms = "https://ca.example/terms";
    door.reload(|directory| directory.terms_of_service = Some(terms.to_owned())).await;
    assert_eq!(door.get(&door.urls.directory()).await.is(200)["meta"]["termsOfService"], terms);
    let client = door.stranger();
    for payload in [json!({}), json!({"termsOfServiceAgreed": false})] {
        let reply = client.post(&door.urls.new_account(), payload).await;
        assert_eq!(reply.problem(403, "userActionRequired")["instance"], terms);
        assert_eq!(reply.links("terms-of-service"), [terms]);
    }
    let none = client.post(&door.urls.new_account(), json!({"onlyReturnExisting": true})).await;
    none.problem(400, "accountDoesNotExist");
    let agreed = client.post(&door.urls.new_account(), json!({"termsOfServiceAgreed": true})).await.is(201);
    assert_eq!(agreed["termsOfServiceAgreed"], true);
}

#[tokio::test]
async fn section_7_3_1_only_return_existing_finds_or_says_that_there_is_none() {
    let door = Door::new();
    let client = door.stranger();
    let only = json!({"onlyReturnExisting": true});
    client.post(&door.urls.new_account(), only.clone()).await.problem(400, "accountDoesNotExist");
    let made = client.post(&door.urls.new_account(), json!({})).await;
    made.is(201);
    let found = client.post(&door.urls.new_account(), only).await;
    found.is(200);
    assert_eq!(found.location(), made.location());
}

#[tokio::test]
async fn section_7_3_2_an_update_answers_with_the_whole_account_and_is_never_half_applied() {
    let door = Door::new();
    let client = door.client().await;
    let url = client.kid();
    let contact = json!(["mailto:a@example.com", "mailto:b@example.com"]);
    let updated =
        client.post(url, json!({"contact": contact, "orders": "x", "termsOfServiceAgreed": false})).await.is(200);
    assert_eq!((&updated["contact"], &updated["status"]), (&contact, &json!("valid")));
    assert!(updated["orders"].as_str().expect("a URL").starts_with(EXTERNAL));
    client.post(url, json!({"contact": ["mailto:c@example.com", "tel:1"]})).await.problem(400, "unsupportedContact");
    client.post(url, json!({"contact": ["mailto:c@example.com"], "status": "revoked"})).await.problem(400, "malformed");
    assert_eq!(client.read(url).await.is(200), updated);
    assert_eq!(client.post(url, json!({})).await.is(200), updated);
    assert_eq!(client.post(url, json!({"contact": []})).await.is(200).get("contact"), None);
}

#[tokio::test]
async fn section_7_3_3_new_terms_stop_orders_and_finalizing_until_the_account_agrees_and_reading_goes_on() {
    let door = Door::new();
    let client = door.client().await;
    let (url, order) = client.ready_order(&["a.test"]).await;
    let placing = json!({"identifiers": [{"type": "dns", "value": "b.test"}]});
    for (number, agreeing) in [(1, door.urls.new_account()), (2, client.kid().to_owned())] {
        let terms = format!("https://ca.example/terms-{number}");
        door.reload(|directory| directory.terms_of_service = Some(terms.clone())).await;
        let refused = [
            client.post(&door.urls.new_order(), placing.clone()).await,
            client.finalize(&order, csr(&["a.test"]).der()).await,
        ];
        for reply in refused {
            let problem = reply.problem(403, "userActionRequired");
            assert_eq!(problem["instance"], terms);
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("termsOfServiceAgreed: true")));
            assert_eq!(reply.links("terms-of-service"), [terms.as_str()]);
        }
        assert_eq!(client.read(&url).await.is(200)["status"], "ready");
        let by_key = agreeing == door.urls.new_account();
        let agree = |sent: Value| {
            let kid = if by_key { None } else { client.kid.as_deref() };
            let (door, key, to) = (&door, &client.key, &agreeing);
            async move { door.post_raw(to, key.jws(to, &door.nonce().await, kid, sent.to_string().as_bytes())).await }
        };
        for other in [json!({"termsOfServiceAgreed": false}), json!({"contact": ["mailto:a@example.com"]})] {
            agree(other).await.is(200);
            client.post(&door.urls.new_order(), placing.clone()).await.problem(403, "userActionRequired");
        }
        let agreed = agree(json!({"termsOfServiceAgreed": true})).await;
        assert_eq!(agreed.is(200)["termsOfServiceAgreed"], true);
        client.post(&door.urls.new_order(), placing.clone()).await.is(201);
    }
    assert_eq!(client.finalize(&order, csr(&["a.test"]).der()).await.is(200)["status"], "valid");
}

#[tokio::test]
async fn section_7_3_6_a_deactivated_account_can_do_nothing_more_and_is_told_401() {
    let door = Door::new();
    let client = door.client().await;
    let (order_url, order) = client.ready_order(&["a.test"]).await;
    let (certificate, _) = client.certificate(&["b.test"]).await;
    let account = client.post(client.kid(), json!({"status": "deactivated"})).await.is(200);
    assert_eq!(account["status"], "deactivated");
    client.read(client.kid()).await.problem(401, "unauthorized");
    client.read(&order_url).await.problem(401, "unauthorized");
    client.read(&certificate).await.problem(401, "unauthorized");
    client.finalize(&order, csr(&["a.test"]).der()).await.problem(401, "unauthorized");
    assert_eq!(door.test.signer.signatures(), 1);
}

#[tokio::test]
async fn section_7_3_6_the_open_orders_of_a_deactivated_account_are_cancelled_and_its_certificates_stay() {
    let door = Door::new();
    let client = door.client().await;
    let open = [client.order(&["a.test"]).await.0, client.ready_order(&["b.test"]).await.0];
    client.certificate(&["c.test"]).await;
    client.post(client.kid(), json!({"status": "deactivated"})).await.is(200);
    door.test.run_due_jobs().await;
    let account = client.kid().rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id");
    for url in open {
        let id = url.rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id");
        let order = door.test.office.order(account, id).await.expect("read").expect("there");
        let OrderState::Invalid { error } = order.state else { panic!("{order:?}") };
        assert!(error.detail.contains("deactivated"), "{error:?}");
    }
    let certificates = door.test.store.certificates(&CertificateQuery::All, None, 10).await.expect("read");
    assert_eq!(certificates.iter().filter(|certificate| certificate.revocation.is_some()).count(), 0);
    assert_eq!(certificates.len(), 1);
}

#[tokio::test]
async fn section_7_3_6_new_account_does_not_revive_a_deactivated_one() {
    let door = Door::new();
    let client = door.client().await;
    client.post(client.kid(), json!({"status": "deactivated"})).await.is(200);
    let stranger = Client { kid: None, ..client };
    for payload in [json!({}), json!({"onlyReturnExisting": true})] {
        stranger.post(&door.urls.new_account(), payload).await.problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn section_7_1_2_1_orders_are_a_list_of_urls_in_pages_and_invalid_ones_are_left_out() {
    let door = Door::new();
    let client = door.client().await;
    let list = format!("{}/orders", client.kid());
    assert_eq!(client.read(&list).await.is(200), json!({"orders": []}));
    let mut placed = std::collections::BTreeSet::new();
    for number in 0..105 {
        let (url, order) = client.order(&[&format!("h{number}.test")]).await;
        if number % 50 == 0 {
            let authorization = order["authorizations"][0].as_str().expect("a URL");
            client.post(authorization, json!({"status": "deactivated"})).await.is(200);
        } else {
            placed.insert(url);
        }
    }
    let first = client.read(&list).await;
    let page =
        |reply: &Reply| -> Vec<String> { serde_json::from_value(reply.is(200)["orders"].clone()).expect("a list") };
    assert!((97..=100).contains(&page(&first).len()));
    let next = first.links("next");
    let second = client.read(&next[0]).await;
    assert!(second.links("next").is_empty());
    let all: std::collections::BTreeSet<String> = page(&first).into_iter().chain(page(&second)).collect();
    assert_eq!(all, placed);
    door.test.clock.advance(std::time::Duration::from_secs(30 * 86_400));
    client.nonce.lock().expect("no panic").take(); // it is too old now
    assert_eq!(client.read(&next[0]).await.is(200), json!({"orders": []}), "those that expired are invalid too");
}

#[tokio::test]
async fn section_10_5_another_accounts_resources_are_as_if_they_were_not_there() {
    let door = Door::new();
    let (owner, other) = (door.client().await, door.client().await);
    let (order_url, order) = owner.ready_order(&["a.test"]).await;
    let (certificate, _) = owner.certificate(&["b.test"]).await;
    let authorization = order["authorizations"][0].as_str().expect("a URL").to_owned();
    let challenge =
        owner.read(&authorization).await.is(200)["challenges"][0]["url"].as_str().expect("a URL").to_owned();
    for url in [&order_url, &authorization, &challenge, &certificate] {
        let (theirs, unknown) = (other.read(url).await, other.read(&unknown_of(url)).await);
        assert_eq!(theirs.problem(404, "malformed"), unknown.problem(404, "malformed"), "{url}");
    }
    other.post(&challenge, json!({})).await.problem(404, "malformed");
    other.post(&authorization, json!({"status": "deactivated"})).await.problem(404, "malformed");
    other.finalize(&order, csr(&["a.test"]).der()).await.problem(404, "malformed");
    other.read(owner.kid()).await.problem(403, "unauthorized");
    other.post(owner.kid(), json!({"status": "deactivated"})).await.problem(403, "unauthorized");
    other.read(&format!("{}/orders", owner.kid())).await.problem(403, "unauthorized");
    assert_eq!(owner.read(&order_url).await.is(200)["status"], "ready");
}

/// The same URL with an id that nobody has.
fn unknown_of(url: &str) -> String {
    let id = url.split('/').find(|segment| segment.len() == 22).expect("an id");
    url.replace(id, "AAAAAAAAAAAAAAAAAAAAAA")
}

#[tokio::test]
async fn section_7_3_two_registrations_of_one_key_at_once_make_one_account() {
    let door = Door::new();
    let client = door.stranger();
    let url = door.urls.new_account();
    let (one, two) = (
        client.key.jws(&url, &door.nonce().await, None, b"{}"),
        client.key.jws(&url, &door.nonce().await, None, b"{}"),
    );
    let (one, two) = tokio::join!(door.post_raw(&url, one), door.post_raw(&url, two));
    assert_eq!(one.location(), two.location());
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
}
