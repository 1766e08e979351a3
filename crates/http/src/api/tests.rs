mod signing;

use std::{sync::Mutex, time::Duration};

use axum::body::Body;
use chancery_acme::order::OrderState;
use chancery_api::{
    AccountList, CertificateList, CertificateView, EabKeyList, EabKeyMade, EabKeyView, ErrorBody, IssuanceList,
    NameRuleView, Revoked,
};
use chancery_authority::{
    Limits,
    ports::{Clock as _, Store as _},
};
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{POLICY, TestOffice, csr},
};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tower::ServiceExt as _;

use super::*;

const LOCAL: Option<Caller> = Some(Caller::Local { uid: 1000 });

/// A process that remembers what it was asked.
#[derive(Default)]
struct Process {
    sick: Option<String>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Operator for Process {
    fn external_url(&self) -> String {
        "https://ca.test".to_owned()
    }

    async fn not_issuing(&self) -> Vec<String> {
        self.sick.iter().cloned().collect()
    }

    async fn status(&self) -> Result<Status, OperationError> {
        Err(OperationError::Failed("the status is not at hand".to_owned()))
    }

    async fn reload(&self, by: &str) -> Result<Reloaded, OperationError> {
        self.asked.lock().unwrap().push(format!("reload by {by}"));
        Err(OperationError::Refused("policy.yaml:3:5: no such thing".to_owned()))
    }

    async fn backup(&self, folder: &Path) -> Result<BackedUp, OperationError> {
        self.asked.lock().unwrap().push(format!("backup {}", folder.display()));
        Ok(BackedUp { folder: folder.display().to_string(), ledger_size: 3, milliseconds: 1 })
    }

    async fn observe(&self) {}
}

fn app(test: &TestOffice, process: Arc<Process>) -> Router {
    router(ApiState::new(test.office.clone(), process, Arc::new(Metrics::new())))
}

async fn call(app: &Router, caller: Option<Caller>, method: Method, target: &str, body: &str) -> (StatusCode, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(target).body(Body::from(body.to_owned())).unwrap();
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let response = app.clone().oneshot(request).await.unwrap();
    (response.status(), response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn get<T: DeserializeOwned>(app: &Router, target: &str) -> T {
    let (status, body) = call(app, LOCAL, Method::GET, target, "").await;
    assert_eq!(status, StatusCode::OK, "{target}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

async fn issue(test: &TestOffice, name: &str) {
    let account = test.account().await;
    let order = test.ready_order(&account, &[name]).await;
    let order = test.office.finalize_order(&account, order.id, csr(&[name])).await.unwrap();
    assert!(matches!(order.state, OrderState::Valid { .. }), "{order:?}");
}

/// The whole matrix: whoever lacks a route's permission sees nothing there, not even that it is.
#[tokio::test]
async fn every_route_answers_those_who_may_and_is_not_there_for_anybody_else() {
    let test = TestOffice::default();
    let app = app(&test, Arc::default());
    let nothing = call(&app, LOCAL, Method::GET, "/no/such/thing", "").await;
    assert_eq!(nothing.0, StatusCode::NOT_FOUND);
    let has =
        |method: &Method, path: &str| routes::all().0.iter().any(|route| route.method == *method && route.path == path);
    for route in routes::all().0 {
        let target = route.path.replace("{id}", "AAAAAAAAAAAAAAAAAAAAAA");
        let target = target.replace("{kind}", "certificate-request").replace("{uid}", "1");
        for caller in [None, Some(Caller::Plain), Some(Caller::Cluster), LOCAL] {
            let answer = call(&app, caller, route.method.clone(), &target, "").await;
            let may = caller.is_some_and(|caller| caller.may(route.permission));
            assert_eq!(answer != nothing, may, "{caller:?} {} {target}", route.method);
            let other = if route.method == Method::GET { Method::POST } else { Method::GET };
            if has(&other, route.path) {
                continue;
            }
            let answer = call(&app, caller, other.clone(), &target, "").await;
            assert_eq!(answer.0, StatusCode::NOT_FOUND, "{caller:?} {other} {target}");
        }
    }
    assert!(!Caller::Plain.may(Permission::Operate) && !Caller::Plain.may(Permission::Sign));
    assert!(!Caller::Cluster.may(Permission::Operate) && !Caller::Cluster.may(Permission::Observe));
}

#[tokio::test]
async fn a_path_that_is_not_unicode_is_refused_in_words_as_everything_is() {
    let test = TestOffice::default();
    let app = app(&test, Arc::default());
    for (method, target) in [(Method::GET, "/v1/certificates/%ff"), (Method::POST, "/v1/certificates/%ff/revoke")] {
        let (status, body) = call(&app, LOCAL, method, target, "{}").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{target}");
        let body: ErrorBody = serde_json::from_slice(&body).unwrap();
        assert_eq!(body.code, "invalid");
    }
}

#[tokio::test]
async fn a_server_that_does_not_issue_is_alive_but_not_ready_and_says_why() {
    let test = TestOffice::default();
    let app = app(&test, Arc::new(Process { sick: Some("the clock went back".to_owned()), ..Process::default() }));
    let caller = Some(Caller::Plain);
    assert_eq!(call(&app, caller, Method::GET, "/healthz", "").await.0, StatusCode::OK);
    let (status, body) = call(&app, caller, Method::GET, "/readyz", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(String::from_utf8(body).unwrap(), "not ready\nthe clock went back\n");
}

#[tokio::test]
async fn certificates_are_found_by_name_suffix_account_and_key_and_come_in_pages() {
    let test = TestOffice::default();
    for name in ["a.one.test", "b.one.test", "c.two.test"] {
        issue(&test, name).await;
    }
    let app = app(&test, Arc::default());
    let all: CertificateList = get(&app, "/v1/certificates").await;
    assert_eq!(all.certificates.len(), 3);
    assert_eq!(all.next, None);
    let names = |list: CertificateList| {
        let mut names: Vec<String> = list.certificates.into_iter().flat_map(|found| found.names).collect();
        names.sort();
        names
    };
    assert_eq!(names(get(&app, "/v1/certificates?name=a.one.test").await), ["a.one.test"]);
    assert_eq!(names(get(&app, "/v1/certificates?below=one.test").await), ["a.one.test", "b.one.test"]);
    let one = &all.certificates[0];
    let same = format!("/v1/certificates?account={}", one.account.as_ref().unwrap());
    assert_eq!(names(get(&app, &same).await), one.names);
    assert_eq!(names(get(&app, &format!("/v1/certificates?key_sha256={}", one.key_sha256)).await), one.names);
    assert_eq!(names(get(&app, "/v1/certificates?expires_before=9000-01-01T00:00:00Z").await).len(), 3);
    let mut paged = Vec::new();
    let mut target = "/v1/certificates?limit=2".to_owned();
    loop {
        let page: CertificateList = get(&app, &target).await;
        let next = page.next.clone();
        paged.extend(page.certificates);
        match next {
            Some(next) => target = format!("/v1/certificates?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(paged, all.certificates);
    let accounts: AccountList = get(&app, "/v1/accounts").await;
    assert_eq!(accounts.accounts.len(), 3);
    assert!(accounts.accounts.iter().all(|account| account.status == "valid" && account.directory == "default"));
}

#[tokio::test]
async fn a_certificate_is_shown_by_id_and_by_serial_with_its_pem_and_revoked_once() {
    let test = TestOffice::default();
    issue(&test, "a.test").await;
    let app = app(&test, Arc::default());
    let all: CertificateList = get(&app, "/v1/certificates").await;
    let (id, serial) = (&all.certificates[0].id, &all.certificates[0].serial);
    let by_id: CertificateView = get(&app, &format!("/v1/certificates/{id}")).await;
    let by_serial: CertificateView = get(&app, &format!("/v1/certificates/{}", serial.to_uppercase())).await;
    assert_eq!(by_id, by_serial);
    let decision = by_id.decision.as_ref().unwrap();
    let rule = Some("test-names".to_owned());
    assert_eq!(decision.names, [NameRuleView { name: "dns:a.test".to_owned(), rule }]);
    let leaf = test.store.leaf(decision.ledger_index).await.unwrap().unwrap();
    let leaf: serde_json::Value = serde_json::from_slice(&leaf).unwrap();
    assert_eq!((&leaf["kind"], &leaf["body"]["serial"]), (&"intent".into(), &serial.as_str().into()));
    assert_eq!(decision.policy_sha256, hex::encode(test.office.settings().policy.hash().0));
    assert!(by_id.pem.unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));

    let target = format!("/v1/certificates/{serial}/revoke");
    let (status, body) = call(&app, LOCAL, Method::POST, &target, r#"{"reason": 2}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{}", String::from_utf8_lossy(&body));
    let (status, body) = call(&app, LOCAL, Method::POST, &target, r#"{"reason": 1}"#).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let revoked: Revoked = serde_json::from_slice(&body).unwrap();
    assert_eq!(revoked.certificate.revoked.unwrap().reason.as_deref(), Some("keyCompromise"));
    let (status, body) = call(&app, LOCAL, Method::POST, &target, "").await;
    assert_eq!(status, StatusCode::CONFLICT);
    let error: ErrorBody = serde_json::from_slice(&body).unwrap();
    assert_eq!(error.code, "refused");
    assert!(error.message.contains("was revoked at"), "{}", error.message);
}

#[tokio::test]
async fn a_certificate_whose_record_in_the_ledger_is_damaged_is_shown_without_its_decision_and_can_be_revoked() {
    let test = TestOffice::default();
    let account = test.account().await;
    let order = test.ready_order(&account, &["issued.test"]).await;
    test.office.finalize_order(&account, order.id, csr(&["issued.test"])).await.unwrap();
    let order = test.ready_order(&account, &["settled.test"]).await;
    test.store.fail_next(Commit::Certificate, Failing::Lost);
    test.office.finalize_order(&account, order.id, csr(&["settled.test"])).await.unwrap();
    test.clock.advance(Duration::from_secs(61));
    test.run_due_jobs().await;
    let app = app(&test, Arc::default());
    let all: CertificateList = get(&app, "/v1/certificates").await;
    assert_eq!(all.certificates.len(), 2);
    for certificate in all.certificates {
        let target = format!("/v1/certificates/{}", certificate.id);
        let whole: CertificateView = get(&app, &target).await;
        test.store.damage_leaf(whole.decision.as_ref().unwrap().ledger_index);
        let shown: CertificateView = get(&app, &target).await;
        let why = shown.unread.clone().unwrap_or_default();
        assert!(why.starts_with("what was decided cannot be shown: "), "{why}");
        // Of an issued one the certificate itself stands in that record.
        assert_eq!(why.contains("; the certificate cannot be shown: "), whole.pem.is_some(), "{why}");
        let unread = shown.unread.clone();
        assert_eq!(shown, CertificateView { decision: None, pem: None, unread, ..whole });
        assert_eq!(call(&app, LOCAL, Method::POST, &format!("{target}/revoke"), "{}").await.0, StatusCode::OK);
    }
}

/// Everything that the ledger says of issuances, in parts of `limit` records.
async fn issuances(app: &Router, limit: usize) -> Vec<IssuanceList> {
    let mut parts: Vec<IssuanceList> = Vec::new();
    while parts.last().is_none_or(|last| last.next < last.size) {
        let from = parts.last().map_or(0, |last| last.next);
        parts.push(get(app, &format!("/v1/issuances?from={from}&limit={limit}")).await);
    }
    parts
}

#[tokio::test]
async fn issuances_are_told_from_the_ledger_when_the_inventory_has_forgotten_them() {
    let day = Duration::from_secs(86_400);
    let test = TestOffice::new(POLICY, Limits { keep_expired_certificates: day * 30, ..Limits::default() });
    test.office.owe_standing_jobs().await.unwrap();
    issue(&test, "signed.test").await;
    let app = app(&test, Arc::default());
    let all: CertificateList = get(&app, "/v1/certificates?pem=true").await;
    let signed = &all.certificates[0];
    let target = format!("/v1/certificates/{}/revoke", signed.id);
    assert_eq!(call(&app, LOCAL, Method::POST, &target, r#"{"reason": 4}"#).await.0, StatusCode::OK);
    // One whose signature was lost on its way into the store, and settled.
    let account = test.account().await;
    let order = test.ready_order(&account, &["settled.test"]).await;
    test.store.fail_next(Commit::Certificate, Failing::Lost);
    test.office.finalize_order(&account, order.id, csr(&["settled.test"])).await.unwrap();
    test.clock.advance(Duration::from_secs(61));
    test.run_due_jobs().await;
    test.clock.advance(day * 365);
    test.run_due_jobs().await;
    assert!(get::<CertificateList>(&app, "/v1/certificates").await.certificates.is_empty(), "all rows went");
    // Only a part that ends between an intent and its outcome tells of the intent alone.
    for (limit, cut) in [(1, 2), (2, 1), (500, 0)] {
        let parts = issuances(&app, limit).await;
        let told = |state: &str| {
            let issuances = parts.iter().flat_map(|part| &part.issuances);
            issuances.filter(|issuance| issuance.state == state).collect::<Vec<_>>()
        };
        let issued = told("issued");
        assert_eq!(issued.len(), 1, "{limit}");
        assert_eq!((&issued[0].serial, &issued[0].pem), (&signed.serial, &signed.pem));
        assert_eq!((&issued[0].certificate, &issued[0].names), (&signed.id, &signed.names));
        let possibly = told("possibly issued");
        assert_eq!(possibly.len(), 1, "{limit}");
        assert_eq!((&*possibly[0].names, &possibly[0].pem), (&["settled.test".to_owned()][..], &None));
        assert_eq!(told("intended").len(), cut, "{limit}");
        let revoked: Vec<_> = parts.iter().flat_map(|part| &part.revocations).collect();
        assert_eq!(revoked.len(), 1, "{limit}");
        assert_eq!(revoked[0].serial, signed.serial);
        assert_eq!(revoked[0].revocation.reason.as_deref(), Some("superseded"));
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_in_words() {
    let test = TestOffice::default();
    let app = app(&test, Arc::default());
    for target in [
        "/v1/certificates?nme=a.test",
        "/v1/certificates?limit=0",
        "/v1/certificates?limit=501",
        "/v1/certificates?limit=x",
        "/v1/certificates?name=a..b",
        "/v1/certificates?name=a.test&below=test",
        "/v1/certificates?key_sha256=00",
        "/v1/certificates?expires_before=tomorrow",
        "/v1/certificates?after=x",
        "/v1/accounts?after=x",
        "/v1/issuances?from=-1",
        "/v1/issuances?limit=501",
    ] {
        let (status, body) = call(&app, LOCAL, Method::GET, target, "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{target}");
        let error: ErrorBody = serde_json::from_slice(&body).unwrap();
        assert_eq!(error.code, "invalid", "{target}");
    }
    let (status, body) = call(&app, LOCAL, Method::GET, "/v1/certificates/nonsense", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(String::from_utf8(body).unwrap().contains("nonsense"));
    for body in ["[]", "{", r#"{"folder": "relative"}"#, r#"{"folder": "/a", "more": 1}"#, "{}"] {
        assert_eq!(call(&app, LOCAL, Method::POST, "/v1/backup", body).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn operations_go_to_the_process_and_what_it_refuses_is_told() {
    let test = TestOffice::default();
    let process = Arc::new(Process::default());
    let app = app(&test, Arc::clone(&process));
    let (status, body) = call(&app, LOCAL, Method::POST, "/v1/reload", "").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(String::from_utf8(body).unwrap().contains("policy.yaml:3:5"));
    assert_eq!(call(&app, LOCAL, Method::POST, "/v1/backup", r#"{"folder": "/backup"}"#).await.0, StatusCode::OK);
    assert_eq!(*process.asked.lock().unwrap(), ["reload by uid 1000", "backup /backup"]);
    assert_eq!(call(&app, LOCAL, Method::GET, "/v1/status", "").await.0, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn an_eab_key_s_secret_is_told_by_the_answer_that_made_it_and_by_no_other() {
    let test = TestOffice::default().with_teams();
    let app = app(&test, Arc::default());
    let asked = r#"{"id": "payments", "directory": "teams", "owner": "Payments", "limits": {"accounts": 2,
        "names": {"names": ["**.pay.test"], "wildcards": ["*.pay.test"], "addresses": ["10.0.0.0/8"]}}}"#;
    let (status, body) = call(&app, LOCAL, Method::POST, "/v1/eab-keys", asked).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let made: EabKeyMade = serde_json::from_slice(&body).unwrap();
    assert_eq!(made.hmac_key.len(), 86, "64 octets in base64url without padding");
    assert_eq!(made.directory_url, "https://ca.test/acme/teams/directory");
    assert_eq!((made.key.state.as_str(), made.key.accounts, made.key.accounts_made), ("open", 2, 0));
    let month = test.clock.now().after(Duration::from_secs(30 * 86_400));
    assert_eq!(made.key.expires, month.to_string(), "where nothing else is asked for");
    let shown: EabKeyView = get(&app, "/v1/eab-keys/payments").await;
    assert_eq!(shown, made.key);
    for target in ["/v1/eab-keys", "/v1/eab-keys/payments", "/v1/accounts"] {
        let (_, body) = call(&app, LOCAL, Method::GET, target, "").await;
        assert!(!String::from_utf8(body).unwrap().contains(&made.hmac_key), "{target}");
    }
    let (status, _) = call(&app, LOCAL, Method::POST, "/v1/eab-keys", asked).await;
    assert_eq!(status, StatusCode::CONFLICT, "its id is taken");
    let limit = r#"{"names": {}, "profiles": ["minutes"], "accounts": 5, "expires_in_seconds": 3600}"#;
    let (status, body) = call(&app, LOCAL, Method::POST, "/v1/eab-keys/payments/limit", limit).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let limited: EabKeyView = serde_json::from_slice(&body).unwrap();
    assert_eq!((limited.names, limited.profiles, limited.accounts), (None, vec!["minutes".to_owned()], 5));
    assert_eq!(call(&app, LOCAL, Method::POST, "/v1/eab-keys/payments/revoke", "{}").await.0, StatusCode::OK);
    assert_eq!(call(&app, LOCAL, Method::POST, "/v1/eab-keys/payments/revoke", "{}").await.0, StatusCode::CONFLICT);
    assert_eq!(call(&app, LOCAL, Method::POST, "/v1/eab-keys/payments/limit", limit).await.0, StatusCode::CONFLICT);
    let again = r#"{"accounts": true}"#;
    assert_eq!(call(&app, LOCAL, Method::POST, "/v1/eab-keys/payments/revoke", again).await.0, StatusCode::OK);
    assert_eq!(get::<EabKeyView>(&app, "/v1/eab-keys/payments").await.state, "revoked");
}

#[tokio::test]
async fn what_is_asked_wrongly_of_eab_keys_is_refused_in_words() {
    let test = TestOffice::default().with_teams();
    test.eab_key("team", "teams").await;
    let app = app(&test, Arc::default());
    let make = |inner: &str| format!(r#"{{"directory": "teams", "owner": "a team", {inner}}}"#);
    for (body, status) in [
        ("{}".to_owned(), StatusCode::BAD_REQUEST),
        (r#"{"directory": "teams"}"#.to_owned(), StatusCode::BAD_REQUEST),
        (r#"{"directory": "none", "owner": "x"}"#.to_owned(), StatusCode::BAD_REQUEST),
        (r#"{"directory": "default", "owner": "x"}"#.to_owned(), StatusCode::CONFLICT),
        (make(r#""id": "a b""#), StatusCode::BAD_REQUEST),
        (make(r#""more": 1"#), StatusCode::BAD_REQUEST),
        (make(r#""limits": {"accounts": 0}"#), StatusCode::BAD_REQUEST),
        (make(r#""limits": {"expires_in_seconds": 0}"#), StatusCode::BAD_REQUEST),
        (make(r#""limits": {"expires_in_seconds": 18446744073709551615}"#), StatusCode::BAD_REQUEST),
        (make(r#""limits": {"names": {"names": ["web*.test"]}}"#), StatusCode::BAD_REQUEST),
        (make(r#""limits": {"profiles": ["none"]}"#), StatusCode::BAD_REQUEST),
    ] {
        let answer = call(&app, LOCAL, Method::POST, "/v1/eab-keys", &body).await;
        assert_eq!(answer.0, status, "{body}: {}", String::from_utf8_lossy(&answer.1));
        assert!(serde_json::from_slice::<ErrorBody>(&answer.1).unwrap().message.len() > 10);
    }
    for target in ["/v1/eab-keys/nobody", "/v1/eab-keys/a%20b"] {
        assert_eq!(call(&app, LOCAL, Method::GET, target, "").await.0, StatusCode::NOT_FOUND);
        assert_eq!(call(&app, LOCAL, Method::POST, &format!("{target}/revoke"), "").await.0, StatusCode::NOT_FOUND);
    }
    let listed: EabKeyList = get(&app, "/v1/eab-keys?limit=1").await;
    assert_eq!((listed.keys.len(), listed.next.as_deref()), (1, Some("team")));
}
