//! tls-alpn-01 (RFC 8737, RFC 8738): each MUST, and what comes of its breach.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use chancery_acme::{challenge::ChallengeKind::TlsAlpn01, problem::ProblemType};
use chancery_validation::{NetworkValidator, ValidationSettings};
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use support::{at_one_port, dialer, failure, look, settings, validator, zone};
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tokio_rustls::TlsAcceptor;

/// SHA-256 of the test's key authorization, by OpenSSL.
const DIGEST: [u8; 32] = [
    0x17, 0x4d, 0xbf, 0x5a, 0x0f, 0x12, 0x08, 0xfd, 0x48, 0x85, 0xa3, 0xed, 0x6d, 0x32, 0x07, 0x75, 0xcb, 0x7a, 0x1f,
    0x95, 0x83, 0xcf, 0x92, 0x66, 0x51, 0x75, 0xb0, 0x00, 0xb4, 0x2c, 0xfa, 0x05,
];
const ACME_IDENTIFIER: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 31];

/// What a server shows.
#[derive(Clone)]
struct Shown {
    names: Vec<SanType>,
    extensions: Vec<CustomExtension>,
    alpn: Vec<&'static [u8]>,
    versions: Vec<&'static SupportedProtocolVersion>,
    /// Signs with a key that is not the certificate's.
    foreign_key: bool,
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn extension(oid: &[u64], content: Vec<u8>, critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    extension
}

fn octet_string(octets: &[u8]) -> Vec<u8> {
    [&[4, u8::try_from(octets.len()).unwrap()], octets].concat()
}

fn identifier() -> CustomExtension {
    extension(ACME_IDENTIFIER, octet_string(&DIGEST), true)
}

/// As the RFC wants it.
fn right() -> Shown {
    Shown {
        names: vec![dns("a.example")],
        extensions: vec![identifier()],
        alpn: vec![b"acme-tls/1"],
        versions: vec![&TLS13, &TLS12],
        foreign_key: false,
    }
}

#[derive(Debug)]
struct Fixed {
    key: Arc<CertifiedKey>,
    names: Arc<Mutex<Vec<Option<String>>>>,
}

impl ResolvesServerCert for Fixed {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.names.lock().unwrap().push(hello.server_name().map(str::to_owned));
        Some(Arc::clone(&self.key))
    }
}

struct Server {
    port: u16,
    names: Arc<Mutex<Vec<Option<String>>>>,
}

impl Server {
    async fn start(shown: Shown) -> Self {
        Self::over(TcpListener::bind("127.0.0.1:0").await.unwrap(), shown)
    }

    fn over(listener: TcpListener, shown: Shown) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = shown.names;
        params.custom_extensions = shown.extensions;
        let certificate = params.self_signed(&key).unwrap();
        let signing = if shown.foreign_key { KeyPair::generate().unwrap() } else { key };
        let signing = PrivateKeyDer::try_from(signing.serialize_der()).unwrap();
        let signing = aws_lc_rs::sign::any_supported_type(&signing).unwrap();
        let names = Arc::new(Mutex::new(Vec::new()));
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let fixed = Fixed { key: Arc::new(CertifiedKey::new(chain, signing)), names: Arc::clone(&names) };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&shown.versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(fixed));
        config.alpn_protocols = shown.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let _until_closed = stream.read_u8().await;
                    }
                });
            }
        });
        Self { port, names }
    }
}

async fn outcome(shown: Shown, name: &str) -> Result<(), (ProblemType, String)> {
    let server = Server::start(shown).await;
    look(&validator(zone(server.port)), name, TlsAlpn01)
        .await
        .map(drop)
        .map_err(|problem| (problem.kind, problem.detail))
}

#[tokio::test]
async fn the_certificate_that_the_rfc_describes_shows_control_by_tls_1_2_and_1_3() {
    for versions in [vec![&TLS12], vec![&TLS13], vec![&TLS13, &TLS12]] {
        outcome(Shown { versions, ..right() }, "a.example").await.unwrap();
    }
}

#[tokio::test]
async fn names_are_compared_without_regard_to_case() {
    outcome(Shown { names: vec![dns("A.eXample")], ..right() }, "a.example").await.unwrap();
}

#[tokio::test]
async fn the_name_stands_in_the_handshake_and_an_address_as_its_reverse_name() {
    let address = |ip: &str| vec![SanType::IpAddress(ip.parse().unwrap())];
    let [v4, v6] = at_one_port(["127.0.0.1", "::1"]).await;
    let v4 = Server::over(v4, Shown { names: address("127.0.0.1"), ..right() });
    let v6 = Server::over(v6, Shown { names: address("::1"), ..right() });
    let validator = validator(zone(v4.port));
    look(&validator, "127.0.0.1", TlsAlpn01).await.unwrap();
    assert_eq!(*v4.names.lock().unwrap(), [Some("1.0.0.127.in-addr.arpa".to_owned())]);
    look(&validator, "::1", TlsAlpn01).await.unwrap();
    let reverse = format!("1.{}ip6.arpa", "0.".repeat(31));
    assert_eq!(*v6.names.lock().unwrap(), [Some(reverse)]);
    let named = Server::start(right()).await;
    look(&support::validator(zone(named.port)), "a.example", TlsAlpn01).await.unwrap();
    assert_eq!(*named.names.lock().unwrap(), [Some("a.example".to_owned())]);
}

#[tokio::test]
async fn every_breach_of_the_certificate_rules_is_an_incorrect_response() {
    let ip = |ip: &str| SanType::IpAddress(ip.parse().unwrap());
    let names = |names: Vec<SanType>| Shown { names, ..right() };
    let extensions = |extensions: Vec<CustomExtension>| Shown { extensions, ..right() };
    let oid = |oid: &[u64]| extensions(vec![extension(oid, octet_string(&DIGEST), true)]);
    let content = |content: Vec<u8>| extensions(vec![extension(ACME_IDENTIFIER, content, true)]);
    let mut other = DIGEST;
    other[31] ^= 1;
    // The SAN of a.example, to be there twice.
    let san = [&[0x30, 0x0b, 0x82, 0x09][..], b"a.example"].concat();
    let written = |san: Vec<u8>| Shown {
        names: Vec::new(),
        extensions: vec![identifier(), extension(&[2, 5, 29, 17], san, false)],
        ..right()
    };
    assert!(outcome(written(san.clone()), "a.example").await.is_ok(), "written by hand it is the same");
    let cases = [
        ("names behind the names", written([&san[..], b"\x30\x0b\x82\x09b.example"].concat())),
        ("a long length", written([&[0x30, 0x0c, 0x82, 0x81, 0x09][..], b"a.example"].concat())),
        ("no name", names(Vec::new())),
        ("another name", names(vec![dns("b.example")])),
        ("a name below", names(vec![dns("x.a.example")])),
        ("a wildcard", names(vec![dns("*.example")])),
        ("a trailing dot", names(vec![dns("a.example.")])),
        ("two names", names(vec![dns("a.example"), dns("b.example")])),
        ("the name twice", names(vec![dns("a.example"), dns("a.example")])),
        ("an address beside it", names(vec![dns("a.example"), ip("127.0.0.1")])),
        ("an address for it", names(vec![ip("127.0.0.1")])),
        ("a mail address for it", names(vec![SanType::Rfc822Name("a.example".try_into().unwrap())])),
        ("a URI for it", names(vec![SanType::URI("a.example".try_into().unwrap())])),
        ("two SAN extensions", extensions(vec![identifier(), extension(&[2, 5, 29, 17], san.clone(), false)])),
        ("no identifier", extensions(Vec::new())),
        ("not critical", extensions(vec![extension(ACME_IDENTIFIER, octet_string(&DIGEST), false)])),
        ("twice", extensions(vec![identifier(), identifier()])),
        ("draft OID .30.1", oid(&[1, 3, 6, 1, 5, 5, 7, 1, 30, 1])),
        ("draft OID .30", oid(&[1, 3, 6, 1, 5, 5, 7, 1, 30])),
        ("longer OID", oid(&[1, 3, 6, 1, 5, 5, 7, 1, 31, 1])),
        ("another digest", content(octet_string(&other))),
        ("the bare digest", content(DIGEST.to_vec())),
        ("a short digest", content(octet_string(&DIGEST[..31]))),
        ("a long digest", content(octet_string(&[&DIGEST[..], &[0]].concat()))),
        ("octets after it", content([octet_string(&DIGEST), vec![0]].concat())),
        ("a bit string", content([&[3, 33, 0], &DIGEST[..]].concat())),
        ("a length not in DER", content([&[4, 0x81, 32], &DIGEST[..]].concat())),
        ("nothing", content(Vec::new())),
    ];
    for (what, shown) in cases {
        let (kind, detail) = outcome(shown, "a.example").await.expect_err(what);
        assert_eq!(kind, ProblemType::IncorrectResponse, "{what}: {detail}");
        assert!(detail.starts_with("the certificate of a.example at 127.0.0.1:"), "{what}: {detail}");
    }
}

#[tokio::test]
async fn an_address_needs_its_own_address_and_no_name() {
    let ip = |ip: &str| SanType::IpAddress(ip.parse().unwrap());
    for names in [
        vec![ip("127.0.0.2")],
        vec![dns("127.0.0.1")],
        vec![dns("1.0.0.127.in-addr.arpa")],
        vec![ip("::ffff:127.0.0.1")],
        vec![ip("127.0.0.1"), ip("127.0.0.1")],
    ] {
        let (kind, _) = outcome(Shown { names: names.clone(), ..right() }, "127.0.0.1").await.unwrap_err();
        assert_eq!(kind, ProblemType::IncorrectResponse, "{names:?}");
    }
}

#[tokio::test]
async fn another_protocol_or_none_is_not_enough() {
    let (kind, detail) = outcome(Shown { alpn: vec![b"h2", b"http/1.1"], ..right() }, "a.example").await.unwrap_err();
    assert_eq!(kind, ProblemType::Tls);
    assert!(detail.contains("no_application_protocol"), "{detail}");
    for alpn in [vec![&b"acme-tls/2"[..]], vec![&b"ACME-TLS/1"[..]], vec![&b"acme-tls/1.0"[..]]] {
        assert!(outcome(Shown { alpn, ..right() }, "a.example").await.is_err());
    }
    let (kind, detail) = outcome(Shown { alpn: Vec::new(), ..right() }, "a.example").await.unwrap_err();
    assert_eq!(kind, ProblemType::IncorrectResponse);
    assert!(detail.ends_with("did not choose the protocol acme-tls/1"), "{detail}");
}

#[tokio::test]
async fn whoever_does_not_hold_the_certificates_key_shows_nothing() {
    for versions in [vec![&TLS12], vec![&TLS13]] {
        let (kind, _) = outcome(Shown { foreign_key: true, versions, ..right() }, "a.example").await.unwrap_err();
        assert_eq!(kind, ProblemType::Tls);
    }
}

#[tokio::test]
async fn what_speaks_no_tls_is_a_tls_problem_and_not_repeated_in_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.writable().await.unwrap();
            stream.try_write(b"220 s3cr3t ESMTP\r\n").unwrap();
            stream.readable().await.unwrap();
            let mut heard = [0; 4096];
            let _some = stream.try_read(&mut heard).unwrap();
        }
    });
    let (kind, detail) = failure(&validator(zone(port)), "a.example", TlsAlpn01).await;
    assert_eq!(kind, ProblemType::Tls);
    assert!(!detail.contains("s3cr3t"), "{detail}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_looked_at_again_and_a_wrong_certificate_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let settings = ValidationSettings { pauses: vec![Duration::from_millis(1); 2], ..settings() };
    let breaking = NetworkValidator::new(dialer(zone(port)), settings.clone()).unwrap();
    let (kind, _) = failure(&breaking, "a.example", TlsAlpn01).await;
    assert_eq!((kind, breaking.counters().of(TlsAlpn01).looks.value()), (ProblemType::Tls, 3));
    let server = Server::start(Shown { extensions: Vec::new(), ..right() }).await;
    let wrong = NetworkValidator::new(dialer(zone(server.port)), settings).unwrap();
    failure(&wrong, "a.example", TlsAlpn01).await;
    assert_eq!(wrong.counters().of(TlsAlpn01).looks.value(), 1);
}

/// `openssl s_server` with a certificate that `openssl req` made.
struct OpenSsl {
    process: std::process::Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl OpenSsl {
    fn start(key: &[&str], serve: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let digest: String = DIGEST.iter().map(|octet| format!("{octet:02x}")).collect();
        let made = Command::new("openssl")
            .current_dir(&folder)
            .args(["req", "-x509", "-nodes", "-subj", "/CN=whatever", "-keyout", "key", "-out", "certificate"])
            .args(key)
            .args(["-addext", "subjectAltName=DNS:a.example"])
            .args(["-addext", &format!("1.3.6.1.5.5.7.1.31=critical,DER:0420{digest}")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut process = Command::new("openssl")
            .current_dir(&folder)
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "certificate", "-key", "key"])
            .args(["-alpn", "acme-tls/1", "-naccept", "1"])
            .args(serve)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
        let port = lines
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("ACCEPT 127.0.0.1:").map(|port| port.trim().parse().unwrap()))
            .unwrap();
        Self { process, port, _folder: folder }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _may_have_ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

#[tokio::test]
async fn openssl_with_its_own_certificate_is_understood() {
    let rsa = &["-newkey", "rsa:2048"][..];
    let p384 = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"][..];
    let ed25519 = &["-newkey", "ed25519"][..];
    for (key, serve) in [
        (rsa, &["-tls1_3"][..]),
        (rsa, &["-tls1_2"]),
        (rsa, &["-tls1_2", "-sigalgs", "RSA+SHA256"]),
        (p384, &["-tls1_3"]),
        (p384, &["-tls1_2"]),
        (ed25519, &["-tls1_3"]),
        (ed25519, &["-tls1_2"]),
    ] {
        let server = OpenSsl::start(key, serve);
        let outcome = look(&validator(zone(server.port)), "a.example", TlsAlpn01).await;
        assert!(outcome.is_ok(), "{key:?} {serve:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn tls_before_1_2_is_not_spoken() {
    for version in ["-tls1_1", "-tls1"] {
        let server = OpenSsl::start(&["-newkey", "rsa:2048"], &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        let (kind, detail) = failure(&validator(zone(server.port)), "a.example", TlsAlpn01).await;
        assert_eq!(kind, ProblemType::Tls, "{detail}");
    }
}
