use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use chancery_egress::{DialSettings, ZoneSpec, ZoneTable};
use http::{HeaderMap, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;

use super::*;
use crate::{Origin, RequestKind};

/// What a server says to a request.
type Script = Arc<dyn Fn(&str, &HeaderMap) -> Response<Full<Bytes>> + Send + Sync>;

/// An HTTPS server that says what a test wants.
struct Fake {
    address: SocketAddr,
    /// The paths that were asked for, with their queries.
    asked: Arc<Mutex<Vec<String>>>,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

impl Fake {
    async fn start(authority: &CertifiedIssuer<'static, KeyPair>, script: Script) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, authority).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .expect("a configuration");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                let (acceptor, script, seen) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let answer = script(request.uri().path(), request.headers());
                        seen.lock().expect("no poison").push(request.uri().to_string());
                        async move { Ok::<_, std::convert::Infallible>(answer) }
                    });
                    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> Url {
        format!("https://{}", self.address).parse().expect("a URL")
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no poison").clone()
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Full<Bytes>> {
    let mut answer = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Full::new(Bytes::from(body.to_owned()))).expect("an answer")
}

fn always(status: u16, headers: &'static [(&str, &str)], body: &'static str) -> Script {
    Arc::new(move |_, _| answer(status, headers, body))
}

const INFO: &str = r#"{"cluster":"prod","profiles":[],"roots":"","now":"2026-01-01T00:00:00Z"}"#;

fn dialer() -> Dialer {
    let zone = ZoneSpec {
        name: "default".to_owned(),
        allow: vec!["127.0.0.0/8".parse().expect("a network")],
        ..ZoneSpec::default()
    };
    Dialer::new(ZoneTable::new([zone]).expect("zones"), DialSettings::default())
}

fn client(servers: Vec<Url>, authority: &CertifiedIssuer<'static, KeyPair>) -> RemoteClient {
    let settings = RemoteSettings {
        servers,
        roots: Roots::Bundle(authority.pem().into_bytes()),
        credential: Credential::Token("planted-secret\n".to_owned().into()),
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(10),
    };
    RemoteClient::new(&settings, dialer()).expect("a client")
}

async fn free_address() -> Url {
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("https://{}", tcp.local_addr().expect("an address")).parse().expect("a URL")
}

#[tokio::test]
async fn the_token_is_sent_without_the_newline_that_secrets_end_in() {
    let authority = authority();
    let script: Script = Arc::new(|_, headers| {
        let good = headers.get("authorization").is_some_and(|value| value == "Bearer planted-secret");
        if good { answer(200, &[], INFO) } else { answer(401, &[], "{}") }
    });
    let server = Fake::start(&authority, script).await;
    assert_eq!(client(vec![server.url()], &authority).signer().await.expect("an answer").cluster, "prod");
    assert_eq!(server.asked(), ["/api/v1/signer"]);
}

#[tokio::test]
async fn errors_are_told_apart_by_who_can_do_something_about_them() {
    let authority = authority();
    let words = r#"{"code":"some-code","message":"some words"}"#;
    for (status, headers, wanted) in [
        (401, &[][..], "unauthorized"),
        (403, &[], "forbidden"),
        (404, &[], "not-found"),
        (400, &[], "refused"),
        (413, &[], "refused"),
        (429, &[("retry-after", "7")], "busy"),
        (503, &[("retry-after", "7")], "busy"),
        (500, &[], "busy"),
        (502, &[], "unreachable"),
        (302, &[("location", "https://evil.example/")], "redirected"),
        (307, &[("location", "https://evil.example/")], "redirected"),
    ] {
        let server = Fake::start(&authority, always(status, headers, words)).await;
        let error = client(vec![server.url()], &authority).signer().await.expect_err("an error");
        assert_eq!(error.code(), wanted, "{status}: {error}");
        assert!(!error.to_string().contains("evil"), "{error}");
        if let RemoteError::Busy { retry_after, .. } = &error
            && status != 500
        {
            assert_eq!(*retry_after, Duration::from_secs(7));
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_token_goes_nowhere_else() {
    let authority = authority();
    let elsewhere = Fake::start(&authority, always(200, &[], INFO)).await;
    let location: &'static str = format!("{}api/v1/signer", elsewhere.url()).leak();
    let headers: &'static [(&str, &str)] = vec![("location", location)].leak();
    let server = Fake::start(&authority, always(307, headers, "")).await;
    let error = client(vec![server.url()], &authority).signer().await.expect_err("an error");
    assert_eq!(error.code(), "redirected");
    assert_eq!(elsewhere.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_whose_certificate_is_of_another_ca_is_not_spoken_to() {
    let (ours, theirs) = (authority(), authority());
    let server = Fake::start(&theirs, always(200, &[], INFO)).await;
    let error = client(vec![server.url()], &ours).signer().await.expect_err("an error");
    assert_eq!(error.code(), "tls", "{error}");
    assert_eq!(server.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_is_down_or_busy_and_the_dead_one_is_left_aside() {
    let authority = authority();
    let dead = free_address().await;
    let busy = Fake::start(&authority, always(503, &[], "{}")).await;
    let well = Fake::start(&authority, always(200, &[], INFO)).await;
    let client = client(vec![dead, busy.url(), well.url()], &authority);
    for _ in 0..3 {
        client.signer().await.expect("the third answers");
    }
    assert_eq!((busy.asked().len(), well.asked().len()), (3, 3), "busy is not down");
    let down = client.servers.first().expect("the dead one");
    assert!(down.is_down(Instant::now()));
}

#[tokio::test]
async fn a_refusal_is_final_and_no_other_server_is_asked() {
    let authority = authority();
    let first = Fake::start(&authority, always(401, &[], "{}")).await;
    let second = Fake::start(&authority, always(200, &[], INFO)).await;
    client(vec![first.url(), second.url()], &authority).signer().await.expect_err("the first has spoken");
    assert_eq!(second.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let authority = authority();
    let endless: &'static str = format!("\"{}\"", "a".repeat(ANSWER_MAX + 1)).leak();
    let server = Fake::start(&authority, always(200, &[], endless)).await;
    let error = client(vec![server.url()], &authority).signer().await.expect_err("an error");
    assert_eq!(error.code(), "unreadable", "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_longer_than_configured() {
    let authority = authority();
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", tcp.local_addr().expect("an address")).parse().expect("a URL");
    let mut client = client(vec![url], &authority);
    client.timeout = Duration::from_millis(50);
    let error = client.signer().await.expect_err("an error");
    assert_eq!(error.code(), "unreachable", "{error}");
}

#[tokio::test]
async fn a_uid_cannot_lead_to_another_path() {
    let authority = authority();
    let server = Fake::start(&authority, always(204, &[], "")).await;
    let client = client(vec![server.url().join("/base/").expect("a URL")], &authority);
    let mut named = RequestRef { kind: RequestKind::CertificateRequest, namespace: None, uid: "../../x?y" };
    for namespace in [None, Some("shop&x")] {
        named.namespace = namespace;
        client.revoke(named, &RevokeRequest { reason: Some(5) }).await.expect("no content is an answer");
    }
    let path = "/base/api/v1/signing-requests/certificate-request/..%2F..%2Fx%3Fy/revoke";
    assert_eq!(server.asked(), [path.to_owned(), format!("{path}?namespace=shop%26x")]);
}

#[tokio::test]
async fn a_certificate_is_asked_for_and_read() {
    let authority = authority();
    let body = r#"{"state":"pending","retry_after_s":3,"message":"waits for an approval"}"#;
    let server = Fake::start(&authority, always(200, &[], body)).await;
    let request = SigningRequest {
        kind: RequestKind::CertificateRequest,
        uid: "u".to_owned(),
        csr: String::new(),
        names: Vec::new(),
        profile: None,
        lifetime_s: None,
        usages: Vec::new(),
        is_ca: false,
        origin: Origin::default(),
        term: None,
        lease: None,
    };
    let state = client(vec![server.url()], &authority).sign(&request).await.expect("an answer");
    assert_eq!(state, SigningState::Pending { retry_after_s: 3, message: "waits for an approval".to_owned() });
}

#[test]
fn settings_that_cannot_be_are_refused_in_words() {
    let authority = authority();
    let good = RemoteSettings {
        servers: vec!["https://ca.example".parse().expect("a URL")],
        roots: Roots::Bundle(authority.pem().into_bytes()),
        credential: Credential::Token("t".to_owned().into()),
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    let url = |text: &str| RemoteSettings { servers: vec![text.parse().expect("a URL")], ..good.clone() };
    let bundle = |pem: &[u8]| RemoteSettings { roots: Roots::Bundle(pem.to_vec()), ..good.clone() };
    let credential = |credential| RemoteSettings { credential, ..good.clone() };
    let key = KeyPair::generate().expect("a key").serialize_pem();
    for (settings, words) in [
        (RemoteSettings { servers: Vec::new(), ..good.clone() }, "give 1 to 8"),
        (url("http://ca.example"), "only https"),
        (url("https://user:planted@ca.example"), "a user or a password"),
        (url("https://ca.example/?token=planted"), "a query"),
        (bundle(b""), "no certificate"),
        (bundle(b"garbage"), "no certificate"),
        (bundle(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"), "block 1"),
        (bundle(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "block 1"),
        (bundle(&vec![b'a'; BUNDLE_TOO_LONG]), "more than"),
        (credential(Credential::Token(" \n".to_owned().into())), "empty"),
        (credential(Credential::Token("a\nb".to_owned().into())), "no HTTP header"),
        (credential(Credential::Certificate { chain: b"x".to_vec(), key: key.clone().into() }), "no certificate"),
        (
            credential(Credential::Certificate { chain: authority.pem().into_bytes(), key: "x".to_owned().into() }),
            "no private key",
        ),
        (
            credential(Credential::Certificate { chain: authority.pem().into_bytes(), key: key.into() }),
            "cannot be used",
        ),
    ] {
        let error = RemoteClient::new(&settings, dialer()).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("planted"), "{error}");
    }
}

const BUNDLE_TOO_LONG: usize = 330_001;
