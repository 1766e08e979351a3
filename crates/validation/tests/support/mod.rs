//! Web and TLS servers whose every answer is chosen by the test, and a validator that looks at them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop where it stands")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "shared by test binaries that each use a part of it")]

#[path = "../../../egress/tests/support/dns.rs"]
pub mod dns;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use chancery_acme::{
    challenge::{ChallengeKind, Token},
    problem::{Problem, ProblemType},
};
use chancery_authority::ports::{Evidence, Validation, ValidationError, Validator as _};
use chancery_egress::{DialSettings, Dialer, Ports, ZoneSpec, ZoneTable};
use chancery_pki::Name;
use chancery_validation::{NetworkValidator, Pool, ValidationSettings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub const KEY_AUTHORIZATION: &str = "AAAAAAAAAAAAAAAAAAAAAA.LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";

pub fn token() -> Token {
    Token::from_random([0; 16])
}

pub fn validation(name: &str, kind: ChallengeKind) -> Validation {
    Validation {
        name: name.parse().unwrap(),
        kind,
        token: token(),
        key_authorization: KEY_AUTHORIZATION.to_owned(),
        within: Duration::from_secs(20),
    }
}

/// Tests look once unless they say otherwise.
pub fn settings() -> ValidationSettings {
    let pool = Pool { at_once: 64, waiting: 1024 };
    ValidationSettings {
        http_01: pool,
        dns_01: pool,
        tls_alpn_01: pool,
        look: Duration::from_secs(10),
        pauses: Vec::new(),
    }
}

/// One zone for everything, where all names have the address 127.0.0.1.
pub fn zone(port: u16) -> ZoneSpec {
    ZoneSpec {
        name: "default".to_owned(),
        allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        fixed_hosts: [("**.example".to_owned(), vec![IpAddr::from([127, 0, 0, 1])])].into(),
        ports: Ports { http: port, https: port, tls_alpn: port },
        ..ZoneSpec::default()
    }
}

pub fn dialer(zone: ZoneSpec) -> Dialer {
    Dialer::new(ZoneTable::new([zone]).unwrap(), DialSettings::default())
}

pub fn validator(zone: ZoneSpec) -> NetworkValidator {
    NetworkValidator::new(dialer(zone), settings()).unwrap()
}

pub async fn look(validator: &NetworkValidator, name: &str, kind: ChallengeKind) -> Result<Evidence, Problem> {
    match validator.validate(&validation(name, kind)).await {
        Ok(evidence) => Ok(evidence),
        Err(ValidationError::Failed(problem)) => Err(problem),
        Err(ValidationError::Busy) => panic!("busy"),
    }
}

pub async fn failure(validator: &NetworkValidator, name: &str, kind: ChallengeKind) -> (ProblemType, String) {
    let problem = look(validator, name, kind).await.unwrap_err();
    (problem.kind, problem.detail)
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A request's head, as it came.
pub async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// A listener on each of these addresses, all at one port: another one while somebody has it on one of them.
pub async fn at_one_port<const N: usize>(addresses: [&str; N]) -> [TcpListener; N] {
    'port: loop {
        let (mut listeners, mut port) = (Vec::new(), 0);
        for address in addresses {
            let listener = match TcpListener::bind((address.parse::<IpAddr>().unwrap(), port)).await {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => continue 'port,
                bound => bound.unwrap(),
            };
            port = listener.local_addr().unwrap().port();
            listeners.push(listener);
        }
        return listeners.try_into().unwrap();
    }
}

/// A web server on 127.0.0.1 that answers each request with what `answer` makes of its head,
/// octet for octet, and closes.
pub struct Web {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub async fn start(answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::over(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    pub fn over(listener: TcpListener, answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Some(head) = read_head(&mut stream).await else { return };
                    let index = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(head.clone());
                        seen.len() - 1
                    };
                    let _client_may_be_gone = stream.write_all(&answer(&head, index)).await;
                    let _client_may_be_gone = stream.shutdown().await;
                });
            }
        });
        Self { address, heads }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    status(200, body)
}

pub fn status(code: u16, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {code} Whatever\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub fn redirect(code: u16, location: &str) -> Vec<u8> {
    format!("HTTP/1.1 {code} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}
