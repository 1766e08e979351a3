//! The door of clusters: who gets in, what a body may be, what is answered.

use std::{net::IpAddr, num::NonZeroU32};

use chancery_api::{RefusalReason, SignerInfo, SigningState};
use chancery_authority::{at_work::AtWork, ports::ServiceAccount};
use chancery_pki::certificate::pem_block;
use chancery_testkit::{office::token_for, ports::TestIdentity};
use http::{HeaderMap, header};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;
use crate::{
    acme::{ClientAddress, Rate},
    never::Never,
};

const SIGN: &str = "/api/v1/signing-requests";
const SIGNER: &str = "/api/v1/signer";

/// A door, with a token that opens it.
struct Door {
    test: TestOffice,
    app: Router,
    token: String,
    address: Option<IpAddr>,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn error(&self) -> ErrorBody {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn state(&self) -> SigningState {
        assert_eq!(self.status, StatusCode::OK, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    fn retry_after(&self) -> u64 {
        self.headers.get(header::RETRY_AFTER).unwrap().to_str().unwrap().parse().unwrap()
    }
}

impl Door {
    async fn new(settings: ClusterSettings) -> Self {
        Self::of(TestOffice::default(), settings).await
    }

    async fn of(test: TestOffice, settings: ClusterSettings) -> Self {
        let (process, metrics) = (Arc::new(Process::default()), Arc::new(Metrics::new()));
        let state = ApiState::for_clusters(test.office.clone(), process, metrics, settings);
        let token = test.credential(token_for("prod-eu")).await.1.expose_secret().to_owned();
        Self { test, app: cluster_router(state), token, address: None }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let mut request = request;
        request.extensions_mut().extend(
            self.address
                .map(ClientAddress)
                .map(|address| {
                    let mut extensions = http::Extensions::new();
                    extensions.insert(address);
                    extensions
                })
                .unwrap_or_default(),
        );
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        assert!(parts.headers.contains_key("x-request-id"), "every answer has an id to quote");
        Reply { status: parts.status, headers: parts.headers, body }
    }

    async fn with(&self, authorization: &[&str], method: Method, path: &str, body: impl Into<Body>) -> Reply {
        let request = Request::builder().method(method).uri(path);
        let request =
            authorization.iter().fold(request, |request, value| request.header(header::AUTHORIZATION, *value));
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn call(&self, method: Method, path: &str, body: impl Into<Body>) -> Reply {
        self.with(&[&format!("Bearer {}", self.token)], method, path, body).await
    }

    async fn sign(&self, request: &Value) -> Reply {
        self.call(Method::POST, SIGN, request.to_string()).await
    }
}

fn asked(uid: &str, names: &[&str]) -> Value {
    json!({
        "kind": "certificate-request",
        "uid": uid,
        "csr": pem_block("CERTIFICATE REQUEST", csr(names).der()),
        "origin": {"namespace": "shop", "name": "web-1", "certificate": "web"}
    })
}

#[tokio::test]
async fn a_request_is_signed_read_again_reported_on_and_revoked() {
    let door = Door::new(ClusterSettings::default()).await;
    let request = asked("1", &["a.test"]);
    let first = door.sign(&request).await.state();
    let SigningState::Issued(signed) = &first else { panic!("{first:?}") };
    assert!(signed.chain.starts_with("-----BEGIN CERTIFICATE-----") && signed.root.contains("CERTIFICATE"));
    assert_eq!(door.sign(&request).await.state(), first);
    let path = |tail: &str| format!("{SIGN}/certificate-request/1{tail}?namespace=shop");
    assert_eq!(door.call(Method::GET, &path(""), "").await.state(), first);
    let usage = path("/usage");
    assert_eq!(door.call(Method::POST, &usage, r#"{"used_by": ["Secret a/b"]}"#).await.status, StatusCode::NO_CONTENT);
    let reply = door.call(Method::POST, &usage, r#"{"used_by": [""]}"#).await;
    assert_eq!((reply.status, reply.error().code.as_str()), (StatusCode::BAD_REQUEST, "invalid"));
    let revoke = path("/revoke");
    assert_eq!(door.call(Method::POST, &revoke, r#"{"reason": 2}"#).await.status, StatusCode::BAD_REQUEST);
    for body in [r#"{"reason": 4}"#, ""] {
        assert_eq!(door.call(Method::POST, &revoke, body).await.status, StatusCode::NO_CONTENT, "{body}");
    }
    for (path, namespace) in [
        ("certificate-request/2", "shop"),
        ("certificate-signing-request/1", "shop"),
        ("certificate/1", "shop"),
        ("certificate-request/1", "payments"),
        ("certificate-request/1", ""),
    ] {
        let reads = (Method::GET, format!("{SIGN}/{path}?namespace={namespace}"));
        for (method, path) in [reads, (Method::POST, format!("{SIGN}/{path}/revoke?namespace={namespace}"))] {
            let reply = door.call(method, &path, "").await;
            assert_eq!((reply.status, reply.error().code.as_str()), (StatusCode::NOT_FOUND, "not-found"), "{path}");
        }
    }
    let reply = door.call(Method::GET, &format!("{SIGN}/certificate-request/1"), "").await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND, "the credential speaks for all namespaces");
    assert!(reply.error().message.contains("?namespace=…"), "{}", reply.error().message);
    for bad in ["%ff", "1?namespce=shop", "1?namespace=shop&namespace=shop"] {
        let reply = door.call(Method::GET, &format!("{SIGN}/certificate-request/{bad}"), "").await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    let info: SignerInfo = serde_json::from_slice(&door.call(Method::GET, SIGNER, "").await.body).unwrap();
    assert_eq!((info.cluster.as_str(), info.namespaces), ("prod-eu", None));
    assert!(info.profiles[0].keys.contains(&"p256".to_owned()), "{:?}", info.profiles);
    assert_eq!(info.roots, signed.root);
}

#[tokio::test]
async fn whoever_shows_nothing_that_is_valid_is_told_only_that() {
    let door = Door::new(ClusterSettings::default()).await;
    let good = format!("Bearer {}", door.token);
    let basic = format!("Basic {}", door.token);
    let cut = &good[..good.len() - 1];
    let long = format!("Bearer {}", "x".repeat(9_000));
    let wrong: [&[&str]; 8] =
        [&[], &[&good, &good], &[&basic], &[cut], &["Bearer "], &["Bearer"], &[&door.token], &[&long]];
    let mut told = None;
    for authorization in wrong {
        for (method, path) in [(Method::GET, SIGNER), (Method::POST, SIGN), (Method::GET, "/api/v1/else")] {
            let reply = door.with(authorization, method, path, "{").await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{authorization:?} {path}");
            assert_eq!(reply.headers.get(header::WWW_AUTHENTICATE).unwrap(), "Bearer");
            assert_eq!(told.get_or_insert(reply.body.clone()), &reply.body, "always the same");
        }
    }
    let lower = format!("bearer {}", door.token);
    assert_eq!(door.with(&[&lower], Method::GET, SIGNER, "").await.status, StatusCode::OK);
    assert_eq!(door.call(Method::GET, "/api/v1/else", "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(door.call(Method::PUT, SIGN, "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_body_is_strict_and_bounded_and_what_is_wrong_is_said() {
    let door = Door::new(ClusterSettings::default()).await;
    let mut unknown = asked("1", &["a.test"]);
    unknown["profil"] = json!("server");
    let mut inside = asked("1", &["a.test"]);
    inside["origin"]["namespce"] = json!("shop");
    let mut kind = asked("1", &["a.test"]);
    kind["kind"] = json!("certificate");
    let twice = asked("1", &["a.test"]).to_string().replacen("{", "{\"uid\":\"2\",", 1);
    assert!(twice.matches("\"uid\"").count() == 2, "{twice}");
    for (body, told) in [
        (unknown.to_string(), "unknown field `profil`"),
        (inside.to_string(), "unknown field `namespce`"),
        (kind.to_string(), "unknown variant `certificate`"),
        (twice, "duplicate field `uid`"),
        (String::new(), "EOF"),
        ("[]".to_owned(), "the body: "),
        ("{".repeat(10_000), "the body: "),
    ] {
        let reply = door.call(Method::POST, SIGN, body).await;
        let error = reply.error();
        assert_eq!((reply.status, error.code.as_str()), (StatusCode::BAD_REQUEST, "invalid"), "{told}");
        assert!(error.message.contains(told), "{}", error.message);
    }
    let reply = door.sign(&asked(&"u".repeat(300), &["a.test"])).await;
    assert_eq!((reply.status, reply.error().code.as_str()), (StatusCode::BAD_REQUEST, "invalid"), "a UID that is none");
    let reply = door.call(Method::POST, SIGN, " ".repeat(400 * 1024)).await;
    assert_eq!((reply.status, reply.error().code.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too-large"));
    assert_eq!(door.test.signer.signatures(), 0);
}

#[tokio::test]
async fn what_a_request_is_refused_for_is_an_answer_with_its_reason() {
    let door = Door::new(ClusterSettings::default()).await;
    door.sign(&asked("used", &["a.test"])).await.state();
    let with = |from: Value, key: &str, value: Value| {
        let mut from = from;
        from[key] = value;
        from
    };
    let usual = || asked("1", &["a.test"]);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let p521 = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap().serialize_request(&key).unwrap();
    let p521 = pem_block("CERTIFICATE REQUEST", p521.der());
    for (request, expected, rule, words) in [
        (asked("1", &["denied.test"]), RefusalReason::Policy, Some("not-this-one"), "nobody gets this name"),
        (asked("1", &["a.example"]), RefusalReason::Policy, None, "no rule allows it"),
        (asked("used", &["b.test"]), RefusalReason::OtherRequest, None, "asked for something else"),
        (with(usual(), "profile", json!("gateway")), RefusalReason::Profile, None, "may ask for: server"),
        (with(usual(), "lifetime_s", json!(0)), RefusalReason::Lifetime, None, "at least one second"),
        (with(usual(), "lifetime_s", json!(900 * 86_400)), RefusalReason::Lifetime, None, "longer than"),
        (with(usual(), "csr", json!("nonsense")), RefusalReason::Csr, None, "no CERTIFICATE REQUEST block"),
        (
            with(usual(), "csr", json!(pem_block("CERTIFICATE REQUEST", b"x"))),
            RefusalReason::Csr,
            None,
            "cannot be read",
        ),
        (with(usual(), "csr", json!(p521)), RefusalReason::Key, None, "takes no P-521 keys; it takes"),
    ] {
        let state = door.sign(&request).await.state();
        let SigningState::Refused { reason, message, rule: by } = state else { panic!("{words}: {state:?}") };
        assert_eq!((reason, by.as_deref()), (expected, rule), "{message}");
        assert!(message.contains(words) && !message.contains('\n'), "{message}");
        // The reason says it, and controllers put their own words before.
        assert!(!message.starts_with("refused"), "{message}");
    }
    let mut much = usual();
    much["origin"]["groups"] = json!(vec!["g"; 65]);
    let state = door.sign(&much).await.state();
    assert!(matches!(state, SigningState::Refused { reason: RefusalReason::Policy, .. }), "{state:?}");
    assert_eq!(door.test.signer.signatures(), 1);
}

#[tokio::test]
async fn a_controller_whose_leadership_is_over_is_told_so() {
    let door = Door::new(ClusterSettings::default()).await;
    let in_term = |uid: &str, term: u64| {
        let mut request = asked(uid, &["a.test"]);
        request["term"] = json!(term);
        request
    };
    door.sign(&in_term("1", 7)).await.state();
    let reply = door.sign(&in_term("2", 6)).await;
    assert_eq!((reply.status, reply.error().code.as_str()), (StatusCode::CONFLICT, "stale-term"));
    let by = |uid: &str, term: u64, lease: &str| {
        let mut request = in_term(uid, term);
        request["lease"] = json!({"name": "chancery/issuer", "uid": lease});
        request
    };
    door.sign(&by("3", 6, "one")).await.state();
    door.sign(&by("4", 5, "two")).await.state();
    let reply = door.sign(&by("5", 9, "one")).await;
    assert_eq!((reply.status, reply.error().code.as_str()), (StatusCode::CONFLICT, "stale-term"));
    assert!(reply.error().message.contains("its Lease was deleted and made anew"), "{}", reply.error().message);
}

#[tokio::test]
async fn one_credential_that_asks_too_often_waits_and_no_other_does() {
    let rate = Rate { burst: NonZeroU32::new(3).unwrap(), one_each: Duration::from_secs(3_600) };
    let settings = ClusterSettings { requests_per_credential: Some(rate), ..ClusterSettings::default() };
    let door = Door::new(settings).await;
    for _ in 0..3 {
        assert_eq!(door.call(Method::GET, SIGNER, "").await.status, StatusCode::OK);
    }
    let reply = door.call(Method::GET, SIGNER, "").await;
    assert_eq!((reply.status, reply.error().code.as_str()), (StatusCode::TOO_MANY_REQUESTS, "slow-down"));
    assert!((3_000..=3_601).contains(&reply.retry_after()), "{}", reply.retry_after());
    let other = door.test.credential(token_for("prod-eu")).await.1;
    let other = format!("Bearer {}", other.expose_secret());
    assert_eq!(door.with(&[&other], Method::GET, SIGNER, "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_address_has_so_many_looks_at_credentials_that_nobody_knows_and_a_known_one_needs_none() {
    let rate = Rate { burst: NonZeroU32::new(1).unwrap(), one_each: Duration::from_secs(3_600) };
    let settings = ClusterSettings { unseen_per_address: Some(rate), ..ClusterSettings::default() };
    let door = Door { address: Some("192.0.2.1".parse().unwrap()), ..Door::new(settings).await };
    assert_eq!(door.call(Method::GET, SIGNER, "").await.status, StatusCode::OK);
    assert_eq!(door.with(&["Bearer x"], Method::GET, SIGNER, "").await.status, StatusCode::UNAUTHORIZED);
    let reply = door.with(&["Bearer y"], Method::GET, SIGNER, "").await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(reply.retry_after() > 0);
    assert_eq!(door.call(Method::GET, SIGNER, "").await.status, StatusCode::OK, "it was seen a moment ago");
    let elsewhere = Door { address: Some("192.0.2.2".parse().unwrap()), ..door };
    assert_eq!(elsewhere.with(&["Bearer y"], Method::GET, SIGNER, "").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn strangers_behind_the_same_address_do_not_lock_a_controller_out() {
    let rate = Rate { burst: NonZeroU32::new(1).unwrap(), one_each: Duration::from_secs(3_600) };
    let account =
        ServiceAccount { cluster: "prod-eu".to_owned(), namespace: "chancery".to_owned(), name: "issuer".to_owned() };
    let asked = |token: &str, account: &str| (token.to_owned(), format!("prod-eu {account}"));
    let identity = TestIdentity {
        accounts: [("by-keys".to_owned(), account.clone()), ("by-review".to_owned(), account)].into(),
        // What is looked at by the API server is counted before, since it costs the cluster something: for each account.
        asked: [asked("by-review", "issuer"), asked("pod", "pod"), asked("pod-too", "pod"), asked("gone", "issuer")]
            .into(),
        ..TestIdentity::default()
    };
    let settings = ClusterSettings { unseen_per_address: Some(rate), ..ClusterSettings::new(Arc::new(identity)) };
    let door = Door { address: Some("192.0.2.1".parse().unwrap()), ..Door::new(settings).await };
    for junk in ["Bearer x", "Bearer y", "Bearer z", "Bearer pod", "Bearer pod-too"] {
        assert_ne!(door.with(&[junk], Method::GET, SIGNER, "").await.status, StatusCode::OK);
    }
    let reply = door.with(&["Bearer pod-too"], Method::GET, SIGNER, "").await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "it has used up its own");
    assert_eq!(door.with(&["Bearer by-keys"], Method::GET, SIGNER, "").await.status, StatusCode::OK);
    assert_eq!(door.with(&["Bearer by-review"], Method::GET, SIGNER, "").await.status, StatusCode::OK);
    let reply = door.with(&["Bearer gone"], Method::GET, SIGNER, "").await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "another token of the same account");
    assert_eq!(door.with(&["Bearer by-review"], Method::GET, SIGNER, "").await.status, StatusCode::OK, "it was seen");
}

#[tokio::test]
async fn when_too_much_is_under_way_or_something_is_away_whoever_asks_is_told_when_to_come_back() {
    let door = Door::new(ClusterSettings { in_flight: 0, ..ClusterSettings::default() }).await;
    let reply = door.call(Method::GET, SIGNER, "").await;
    assert_eq!((reply.status, reply.retry_after()), (StatusCode::SERVICE_UNAVAILABLE, 1));
    let account =
        ServiceAccount { cluster: "prod-eu".to_owned(), namespace: "chancery".to_owned(), name: "issuer".to_owned() };
    let identity =
        Arc::new(TestIdentity { accounts: [("good".to_owned(), account)].into(), ..TestIdentity::default() });
    let at_work = AtWork::default();
    let settings = ClusterSettings { at_work: at_work.clone(), ..ClusterSettings::new(Arc::clone(&identity) as _) };
    let door = Door::new(settings).await;
    assert_eq!(door.with(&["Bearer good"], Method::GET, SIGNER, "").await.status, StatusCode::OK);
    identity.away.store(true, std::sync::atomic::Ordering::SeqCst);
    let reply = door.with(&["Bearer good"], Method::GET, SIGNER, "").await;
    assert_eq!((reply.status, reply.error().code.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
    assert!(reply.retry_after() > 0);
    // A clock in doubt issues nothing, and the request comes again.
    door.test.clock.doubt_because(Some("the clock went back"));
    let reply = door.sign(&asked("1", &["a.test"])).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    door.test.clock.doubt_because(None);
    assert!(matches!(door.sign(&asked("1", &["a.test"])).await.state(), SigningState::Issued(_)));
    assert_eq!(at_work.now(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_credential_whose_bodies_never_end_leaves_places_for_the_others() {
    let door = Door::new(ClusterSettings { in_flight: 8, ..ClusterSettings::default() }).await;
    let other = format!("Bearer {}", door.test.credential(token_for("prod-eu")).await.1.expose_secret());
    let slow = || {
        let request = Request::post(SIGN).header(header::AUTHORIZATION, format!("Bearer {}", door.token));
        tokio::spawn(door.app.clone().oneshot(request.body(Body::new(Never)).unwrap()))
    };
    let held: Vec<_> = (0..8).map(|_| slow()).collect();
    tokio::time::sleep(Duration::from_millis(1)).await; // paused: lets them begin
    assert_eq!(held.iter().filter(|one| !one.is_finished()).count(), 1, "a quarter of what is free, while they arrive");
    assert_eq!(door.with(&[&other], Method::GET, SIGNER, "").await.status, StatusCode::OK);
    let mut answers = Vec::new();
    for one in held {
        answers.push(one.await.unwrap().unwrap().status());
    }
    answers.sort_unstable();
    let (late, turned_away) = (StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answers, [vec![late], vec![turned_away; 7]].concat());
    assert_eq!(door.call(Method::GET, SIGNER, "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn names_beside_a_csr_are_counted_before_any_is_read() {
    let door = Door::new(ClusterSettings::default()).await;
    let mut request = asked("1", &["a.test"]);
    let mut names = vec!["spiffe://cluster.test/a".to_owned(); 100];
    names.push("no name at all".to_owned());
    request["names"] = json!(names);
    let SigningState::Refused { message, .. } = door.sign(&request).await.state() else { panic!("it is refused") };
    assert!(message.contains("101"), "{message}");
}

#[tokio::test]
async fn what_is_under_way_is_pending_and_our_own_faults_are_not_told() {
    let door = Door::new(ClusterSettings::default()).await;
    door.test.store.fail_next(Commit::Certificate, Failing::Lost);
    let request = asked("1", &["a.test"]);
    let state = door.sign(&request).await.state();
    let SigningState::Pending { retry_after_s, .. } = state else { panic!("{state:?}") };
    assert!(retry_after_s > 0);
    assert!(matches!(door.sign(&request).await.state(), SigningState::Pending { .. }));
    let issued = door.sign(&asked("2", &["b.test"])).await.state();
    assert!(matches!(issued, SigningState::Issued(_)));
    let size = door.test.store.tree_head().await.unwrap().size;
    door.test.store.damage_leaf(size - 2);
    let reply = door.sign(&asked("2", &["b.test"])).await;
    // Another key: that is refused before anything is read.
    assert!(matches!(reply.state(), SigningState::Refused { .. }));
    let reply = door.call(Method::GET, &format!("{SIGN}/certificate-request/2?namespace=shop"), "").await;
    assert_eq!((reply.status, reply.error().code.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "failed"));
    let id = reply.headers.get("x-request-id").unwrap().to_str().unwrap();
    let told = reply.error().message;
    assert!(told.contains(id) && !told.contains("leaf"), "{told}");
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked_over_the_local_socket_alone() {
    let test = TestOffice::default();
    let app = app(&test, Arc::default());
    let body = r#"{"cluster": "prod-eu", "comment": "a test", "lifetime_s": 3600, "namespaces": ["shop"], "names": ["*.shop.test"]}"#;
    let (status, made) = call(&app, LOCAL, Method::POST, "/v1/cluster-tokens", body).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&made));
    let made: chancery_api::MadeToken = serde_json::from_slice(&made).unwrap();
    assert!(made.secret.starts_with("chancery_") && !format!("{made:?}").contains(&made.secret));
    let list: chancery_api::TokenList = get(&app, "/v1/cluster-tokens").await;
    assert_eq!(list.tokens, std::slice::from_ref(&made.token));
    assert_eq!(
        (made.token.state.as_str(), made.token.names.as_deref()),
        ("valid", Some(&["*.shop.test".to_owned()][..]))
    );
    let target = format!("/v1/cluster-tokens/{}/revoke", made.token.id);
    assert_eq!(call(&app, LOCAL, Method::POST, &target, "").await.0, StatusCode::OK);
    assert_eq!(call(&app, LOCAL, Method::POST, &target, "").await.0, StatusCode::CONFLICT);
    for (body, told) in [
        (r#"{"cluster": "prod-us", "lifetime_s": 1}"#, "there is no cluster"),
        (r#"{"cluster": "prod-eu", "lifetime_s": 1, "names": ["a*.test"]}"#, "did you mean"),
        (r#"{"cluster": "prod-eu", "lifetime_s": 1, "name": []}"#, "unknown field"),
    ] {
        let (status, answer) = call(&app, LOCAL, Method::POST, "/v1/cluster-tokens", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(String::from_utf8_lossy(&answer).contains(told), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(call(&app, LOCAL, Method::POST, "/v1/cluster-tokens/x/revoke", "").await.0, StatusCode::NOT_FOUND);
}
