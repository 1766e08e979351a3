//! RFC 8555 §7.4, §7.4.2, §7.6 and §11.1: finalize, certificates, revocation.

use chancery_authority::ports::NotApplied;
use chancery_pki::certificate::from_pem;
use chancery_testkit::{
    memory::{Commit, Failing},
    ports::SignerFault,
};

use super::*;
use crate::acme::testing::b64;

/// A key that both signs requests and goes into a CSR.
fn shared_key() -> (ClientKey, rcgen::KeyPair) {
    let pair = rcgen::KeyPair::generate().expect("a key");
    (ClientKey::from_pkcs8(&pair.serialize_der()), pair)
}

fn csr_of(pair: &rcgen::KeyPair, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(pair).expect("a CSR").der().to_vec()
}

#[tokio::test]
async fn section_7_4_a_good_finalize_is_200_with_the_order_and_its_location() {
    let door = Door::new();
    let client = door.client().await;
    let (url, order) = client.ready_order(&["a.test"]).await;
    let reply = client.finalize(&order, csr(&["a.test"]).der()).await;
    let valid = reply.is(200);
    assert_eq!(reply.location(), url);
    assert_eq!(valid["status"], "valid");
    assert_eq!(client.read(&url).await.is(200), valid);
}

#[tokio::test]
async fn section_7_4_finalize_is_403_before_the_order_is_ready_and_after_it_is_valid() {
    let door = Door::new();
    let client = door.client().await;
    let (_, order) = client.order(&["a.test"]).await;
    client.finalize(&order, csr(&["a.test"]).der()).await.problem(403, "orderNotReady");
    client.fulfil(&order).await;
    let request = csr(&["a.test"]);
    client.finalize(&order, request.der()).await.is(200);
    for again in [request.der(), csr(&["a.test"]).der()] {
        client.finalize(&order, again).await.problem(403, "orderNotReady");
    }
    assert_eq!(door.test.signer.signatures(), 1);
}

#[tokio::test]
async fn section_7_4_a_csr_for_other_names_is_bad_and_the_order_stays_ready() {
    let door = Door::new();
    let client = door.client().await;
    let (url, order) = client.ready_order(&["a.test", "b.test"]).await;
    for names in [&["a.test"][..], &["a.test", "b.test", "c.test"], &["a.test", "c.test"]] {
        client.finalize(&order, csr(names).der()).await.problem(400, "badCSR");
        assert_eq!(client.read(&url).await.is(200)["status"], "ready");
    }
    client.finalize(&order, csr(&["b.test", "A.TEST"]).der()).await.is(200);
}

#[tokio::test]
async fn section_7_4_what_is_no_csr_is_refused_and_the_order_stays_ready() {
    let door = Door::new();
    let client = door.client().await;
    let (url, order) = client.ready_order(&["a.test"]).await;
    let finalize = order["finalize"].as_str().expect("a URL");
    let good = csr(&["a.test"]).der().to_vec();
    let mut forged = good.clone();
    *forged.last_mut().expect("not empty") ^= 1;
    let trailing = [good.clone(), vec![0]].concat();
    for der in [&[][..], &[0x30], &forged, &trailing, &[0xff; 20_000]] {
        client.finalize(&order, der).await.problem(400, "badCSR");
    }
    for padded in [format!("{}=", b64(&good)), format!("{}\n", b64(&good)), "+/".to_owned()] {
        client.post(finalize, json!({"csr": padded})).await.problem(400, "malformed");
    }
    for payload in [json!({}), json!({"csr": 1}), json!([b64(&good)]), json!({"csr": null})] {
        client.post(finalize, payload).await.problem(400, "malformed");
    }
    client.read(finalize).await.problem(400, "malformed");
    assert_eq!(client.read(&url).await.is(200)["status"], "ready");
    assert_eq!(door.test.signer.signatures(), 0);
}

#[tokio::test]
async fn section_7_4_two_finalize_requests_at_once_lead_to_one_certificate() {
    let door = Door::new();
    let client = door.client().await;
    let (_, order) = client.ready_order(&["a.test"]).await;
    let url = order["finalize"].as_str().expect("a URL");
    let mut bodies = Vec::new();
    for _ in 0..4 {
        let payload = json!({"csr": b64(csr(&["a.test"]).der())}).to_string();
        bodies.push(client.key.jws(url, &door.nonce().await, client.kid.as_deref(), payload.as_bytes()));
    }
    let mut replies = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for body in bodies {
        let router = door.router.clone();
        let path = url.strip_prefix(EXTERNAL).expect("ours").to_owned();
        tasks.spawn(async move {
            let request = Request::post(path).header("content-type", "application/jose+json").body(Body::from(body));
            router.oneshot(request.expect("a request")).await.expect("an answer").status().as_u16()
        });
    }
    while let Some(status) = tasks.join_next().await {
        replies.push(status.expect("no panic"));
    }
    replies.sort_unstable();
    assert_eq!(replies, [200, 403, 403, 403]);
    assert_eq!(door.test.signer.signatures(), 1);
}

#[tokio::test]
async fn section_11_1_a_csr_with_an_accounts_key_is_bad() {
    let door = Door::new();
    let (key, pair) = shared_key();
    let owner = door.client_with(key).await;
    let (_, order) = owner.ready_order(&["a.test"]).await;
    owner.finalize(&order, &csr_of(&pair, &["a.test"])).await.problem(400, "badCSR");
    let other = door.client().await;
    let (url, order) = other.ready_order(&["a.test"]).await;
    other.finalize(&order, &csr_of(&pair, &["a.test"])).await.problem(400, "badCSR");
    assert_eq!(other.read(&url).await.is(200)["status"], "ready");
}

#[tokio::test]
async fn section_7_4_2_the_chain_is_pem_leaf_first_and_its_bytes_never_change() {
    let door = Door::new();
    let client = door.client().await;
    let (url, pem) = client.certificate(&["a.test"]).await;
    let reply = client.read(&url).await;
    assert_eq!(reply.header("content-type"), Some("application/pem-certificate-chain"));
    assert_eq!(reply.body, pem.as_bytes(), "immutable");
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.ends_with("-----END CERTIFICATE-----\n"));
    assert!(!pem.contains('\r') && !pem.contains("\n\n"));
    let chain = from_pem(pem.as_bytes()).expect("PEM");
    let leaf = chancery_pki::certificate::Certificate::from_der(&chain[0]).expect("a certificate");
    assert_eq!(leaf.names().iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.test"]);
    assert!(reply.links("alternate").is_empty(), "there is one chain");
    client.read(&format!("{url}/1")).await.problem(404, "malformed");
    client.post(&url, json!({})).await.problem(400, "malformed");
}

#[tokio::test]
async fn section_7_4_2_other_chains_above_the_same_issuer_are_linked_and_can_be_fetched_by_their_account_alone() {
    let door = Door::new();
    let client = door.client().await;
    let (url, pem) = client.certificate(&["a.test"]).await;
    door.add_chain("Test Issuer", [2; 16]).await;
    door.add_chain("Another Issuer", [3; 16]).await;
    let reply = client.read(&url).await;
    assert_eq!(reply.body, pem.as_bytes(), "the default chain stays");
    let alternates = reply.links("alternate");
    assert_eq!(alternates, [format!("{url}/1")], "the chain of another name is not this certificate's");
    let alternate = client.read(&alternates[0]).await;
    assert_eq!(alternate.status, 200);
    assert_eq!(alternate.links("alternate"), [url.as_str()]);
    let (default, other) = (from_pem(pem.as_bytes()).expect("PEM"), from_pem(&alternate.body).expect("PEM"));
    assert_eq!(default[0], other[0], "the same certificate");
    assert_ne!(default[1..], other[1..], "below another chain");
    door.client().await.read(&alternates[0]).await.problem(404, "malformed");
    client.read(&format!("{url}/2")).await.problem(404, "malformed");
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_is_away_leaves_the_order_processing_with_retry_after_and_no_5xx() {
    let door = Door::new();
    let client = door.client().await;
    let (url, order) = client.ready_order(&["a.test"]).await;
    door.test.signer.fail_next(SignerFault::Unknown);
    let reply = client.finalize(&order, csr(&["a.test"]).der()).await;
    assert_eq!(reply.is(200)["status"], "processing");
    assert!(reply.header("retry-after").is_some());
    assert_eq!(reply.location(), url);
    let read = client.read(&url).await;
    assert_eq!(read.is(200)["status"], "processing");
    assert!(read.header("retry-after").is_some());
}

#[tokio::test]
async fn a_store_that_is_full_or_gone_is_503_with_retry_after_and_reads_go_on() {
    let door = Door::new();
    let client = door.client().await;
    let (url, order) = client.ready_order(&["a.test"]).await;
    let names = json!({"identifiers": [{"type": "dns", "value": "b.test"}]});
    for how in full_store() {
        door.test.store.fail_next(None::<Commit>, how);
        let reply = client.post(&door.urls.new_order(), names.clone()).await;
        let problem = reply.problem(503, "serverInternal");
        assert!(reply.header("retry-after").is_some());
        let id = reply.header("x-request-id").expect("an id");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(id)), "{problem}");
        assert_eq!(client.read(&url).await.is(200)["status"], "ready");
    }
    client.finalize(&order, csr(&["a.test"]).der()).await.is(200);
}

fn full_store() -> Vec<Failing> {
    vec![
        Failing::Refused(NotApplied::NoSpace("the disk is full".into())),
        Failing::Refused(NotApplied::Busy),
        Failing::Refused(NotApplied::Stopped("a write failed".into())),
        Failing::Lost,
    ]
}

#[tokio::test]
async fn section_7_6_the_issuing_account_revokes_and_again_is_already_revoked() {
    let door = Door::new();
    let client = door.client().await;
    let (_, pem) = client.certificate(&["a.test"]).await;
    let certificate = b64(&from_pem(pem.as_bytes()).expect("PEM")[0]);
    let revoke = door.urls.revoke_cert();
    let reply = client.post(&revoke, json!({"certificate": certificate, "reason": 4})).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0), "{reply:?}");
    client.post(&revoke, json!({"certificate": certificate})).await.problem(400, "alreadyRevoked");
}

#[tokio::test]
async fn section_7_6_the_certificates_own_key_revokes_without_an_account() {
    let door = Door::new();
    let client = door.client().await;
    let (key, pair) = shared_key();
    let (_, pem) = client.certificate_with(&["a.test"], &csr_of(&pair, &["a.test"])).await;
    let payload = json!({"certificate": b64(&from_pem(pem.as_bytes()).expect("PEM")[0])});
    let revoke = door.urls.revoke_cert();
    door.stranger().post(&revoke, payload.clone()).await.problem(403, "unauthorized");
    let holder = Client { key, ..door.stranger() };
    assert_eq!(holder.post(&revoke, payload.clone()).await.status, 200);
    holder.post(&revoke, payload).await.problem(400, "alreadyRevoked");
}

#[tokio::test]
async fn section_7_6_an_account_with_authorizations_for_all_names_revokes_and_one_with_some_does_not() {
    let door = Door::new();
    let (owner, other) = (door.client().await, door.client().await);
    let (_, pem) = owner.certificate(&["a.test", "b.test"]).await;
    let payload = json!({"certificate": b64(&from_pem(pem.as_bytes()).expect("PEM")[0])});
    other.post(&door.urls.revoke_cert(), payload.clone()).await.problem(403, "unauthorized");
    other.ready_order(&["a.test"]).await;
    other.post(&door.urls.revoke_cert(), payload.clone()).await.problem(403, "unauthorized");
    other.ready_order(&["b.test"]).await;
    assert_eq!(other.post(&door.urls.revoke_cert(), payload).await.status, 200);
}

#[tokio::test]
async fn section_7_6_a_certificate_that_has_ended_is_not_revoked_by_anybody() {
    let door = Door::new();
    let client = door.client().await;
    let (key, pair) = shared_key();
    let (_, pem) = client.certificate_with(&["a.test"], &csr_of(&pair, &["a.test"])).await;
    let payload = json!({"certificate": b64(&from_pem(pem.as_bytes()).expect("PEM")[0])});
    door.test.clock.advance(std::time::Duration::from_secs(91 * 86_400));
    client.nonce.lock().expect("no panic").take(); // it is too old now
    let holder = Client { key, ..door.stranger() };
    for by in [&client, &holder] {
        let problem = by.post(&door.urls.revoke_cert(), payload.clone()).await.problem(400, "malformed");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("ended at")), "{problem}");
    }
}

#[tokio::test]
async fn section_7_6_a_bad_reason_is_told_with_the_permitted_ones() {
    let door = Door::new();
    let client = door.client().await;
    let (_, pem) = client.certificate(&["a.test"]).await;
    let certificate = b64(&from_pem(pem.as_bytes()).expect("PEM")[0]);
    for reason in [
        json!(2),
        json!(6),
        json!(7),
        json!(8),
        json!(10),
        json!(11),
        json!(-1),
        json!(1.5),
        json!("4"),
        json!([]),
        json!(1e30),
    ] {
        let payload = json!({"certificate": certificate, "reason": reason});
        let problem = client.post(&door.urls.revoke_cert(), payload).await.problem(400, "badRevocationReason");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("1 (keyCompromise)")), "{problem}");
    }
    assert_eq!(client.post(&door.urls.revoke_cert(), json!({"certificate": certificate})).await.status, 200);
}

#[tokio::test]
async fn section_7_6_what_is_no_certificate_or_none_of_ours_is_refused() {
    let door = Door::new();
    let client = door.client().await;
    let revoke = door.urls.revoke_cert();
    let foreign = {
        let pair = rcgen::KeyPair::generate().expect("a key");
        rcgen::CertificateParams::new(vec!["a.test".to_owned()])
            .expect("names")
            .self_signed(&pair)
            .expect("signed")
            .der()
            .to_vec()
    };
    client.post(&revoke, json!({"certificate": b64(foreign)})).await.problem(404, "malformed");
    for payload in [
        json!({"certificate": "AAAA"}),
        json!({"certificate": ""}),
        json!({"certificate": "AA=="}),
        json!({}),
        json!([]),
    ] {
        client.post(&revoke, payload).await.problem(400, "malformed");
    }
    client.read(&revoke).await.problem(400, "malformed");
}
