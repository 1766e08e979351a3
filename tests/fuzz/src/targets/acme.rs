//! ACME as a whole: any request, and requests that are signed rightly whatever is in them.
//!
//! No answer may be the server's fault (5xx), each refusal is a problem document, and what is malformed changes nothing.

use std::{cell::RefCell, fmt::Write as _, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_acme::{problem::ProblemType, renewal_info::UniqueIdentifier, urls::Urls};
use chancery_authority::Limits;
use chancery_http::{
    acme::{AcmeSettings, AcmeState, RateLimits, router},
    metrics::Metrics,
};
use chancery_testkit::office::{POLICY, TestOffice, csr};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::{
    PLAIN,
    request::{self, Answer},
};
use crate::{Form, Target, Verdict};

/// A target whose input is the payload of a signed request.
const PAYLOAD: Target = Target { form: Form::Json, words: WORDS, mutations: 3_000, memory: 64 << 20, ..PLAIN };

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "acme-request",
        read: raw,
        form: Form::Lines,
        words: REQUEST_WORDS,
        mutations: 10_000,
        memory: 64 << 20,
        ..PLAIN
    },
    Target { name: "new-account", read: new_account, ..PAYLOAD },
    Target { name: "account", read: account, ..PAYLOAD },
    Target { name: "new-order", read: new_order, ..PAYLOAD },
    Target { name: "authorization", read: authorization, ..PAYLOAD },
    Target { name: "challenge", read: challenge, ..PAYLOAD },
    Target { name: "finalize", read: finalize, ..PAYLOAD },
    Target { name: "revoke-cert", read: revoke_cert, ..PAYLOAD },
    Target {
        name: "unique-identifier",
        read: unique_identifier,
        form: Form::Text,
        words: IDENTIFIER_WORDS,
        mutations: 60_000,
        longest: 400,
        ..PLAIN
    },
];

const WORDS: &[&[u8]] = &[
    b"identifiers",
    b"type",
    b"value",
    b"dns",
    b"ip",
    b"a.test",
    b"*.wild.test",
    b"denied.test",
    b"127.0.0.1",
    b"xn--a.test",
    b"notBefore",
    b"notAfter",
    b"2026-11-26T10:00:00Z",
    b"2026-11-26T10:00:00.5Z",
    b"profile",
    b"server",
    b"contact",
    b"mailto:a@a.test",
    b"mailto:a@a.test,b@a.test",
    b"mailto:a@a.test?x",
    b"tel:1",
    b"termsOfServiceAgreed",
    b"onlyReturnExisting",
    b"externalAccountBinding",
    b"status",
    b"deactivated",
    b"valid",
    b"revoked",
    b"csr",
    CSR,
    b"certificate",
    CERTIFICATE,
    b"reason",
    b"replaces",
    b"AQI.AP8",
    b"orders",
    b"AQI",
    b"AQ==",
    b"",
];
const IDENTIFIER_WORDS: &[&[u8]] =
    &[b".", b"=", b"-", b"_", b"AA", b"AP8", b"__8", b"gA", b"AIdlQyE", b"aYhba4dGQEHhs3uEe6CuLN4ByNQ", b"%2E"];
const REQUEST_WORDS: &[&[u8]] = &[
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"OPTIONS ",
    b"PUT ",
    b"/acme/default/",
    b"directory",
    b"new-nonce",
    b"new-account",
    b"new-order",
    b"revoke-cert",
    b"order/",
    b"authorization/",
    b"challenge/",
    b"/http-01",
    b"certificate/",
    b"renewal-info/",
    b"AQI.AP8",
    b"/finalize",
    b"/orders?after=",
    b"AAAAAAAAAAAAAAAAAAAAAA",
    b"%2e%2e",
    b"//",
    b"?",
    b"Content-Type: application/jose+json",
    b"Content-Type: application/json",
    b"\n\n",
    b"{\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"\"}",
    b"null",
    b"[]",
];

/// In a payload this stands for a good CSR; kept samples cannot hold one of an order's own.
const CSR: &[u8] = b"@CSR@";
/// And this for a certificate of this authority.
const CERTIFICATE: &[u8] = b"@CERTIFICATE@";

const EXTERNAL: &str = "https://ca.example";
/// An authority that has seen so many requests is replaced by a new one, so that memory stays bounded.
const REQUESTS_MAX: u32 = 1_000;

/// An authority, its ACME door, and a client.
struct Door {
    runtime: Runtime,
    test: TestOffice,
    state: AcmeState,
    urls: Urls,
    key: EcdsaKeyPair,
    kid: Option<String>,
    nonce: String,
    requests: u32,
    /// Where the next request of a target goes, and what it may be about.
    subject: Option<(String, Value)>,
}

thread_local! {
    static DOOR: RefCell<Option<Door>> = const { RefCell::new(None) };
}

/// The door of this thread.
fn at_the_door(then: impl FnOnce(&mut Door) -> Verdict) -> Verdict {
    DOOR.with_borrow_mut(|slot| {
        let mut door = slot.take().filter(|door| door.requests < REQUESTS_MAX).unwrap_or_else(Door::new);
        let verdict = then(&mut door);
        *slot = Some(door);
        verdict
    })
}

fn fresh_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key")
}

impl Door {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let test = TestOffice::new(POLICY, Limits { pending_orders_per_account: u64::MAX, ..Limits::default() });
        let settings = AcmeSettings { rates: RateLimits::NONE, ..AcmeSettings::at(EXTERNAL) };
        let state = AcmeState::new(test.office.clone(), Arc::new(Metrics::new()), settings);
        let urls = Urls::new(EXTERNAL, "default");
        let (key, nonce) = (fresh_key(), String::new());
        let mut door = Self { runtime, test, state, urls, key, kid: None, nonce, requests: 0, subject: None };
        door.register();
        door
    }

    fn send(&mut self, octets: &[u8]) -> Option<Answer> {
        let request = request::read(octets)?;
        self.requests += 1;
        let path = request.uri().path().to_owned();
        let is_head = request.method() == http::Method::HEAD;
        let answer = self.runtime.block_on(request::send(router(self.state.clone(), Default::default()), request));
        if let Some(nonce) = answer.header("replay-nonce") {
            self.nonce = nonce.to_owned();
        }
        assert!(!answer.status.is_server_error(), "{}", answer.shown());
        // What is not below /acme/ is none of this door's.
        let is_ours = answer.header("x-request-id").is_some();
        assert!(is_ours || !path.starts_with("/acme/") || path == "/acme/", "{path}: {}", answer.shown());
        if is_ours && !answer.status.is_success() && !is_head {
            is_a_problem(&answer);
        }
        Some(answer)
    }

    /// Posts a payload, signed rightly: by the account, or by the key alone.
    fn post(&mut self, url: &str, payload: &[u8], by_account: bool) -> Answer {
        if self.nonce.is_empty() {
            self.send(b"HEAD /acme/default/new-nonce\n\n").expect("a request");
        }
        let point = self.key.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let by = match self.kid.as_deref().filter(|_| by_account) {
            Some(kid) => format!(r#""kid":"{kid}""#),
            None => format!(r#""jwk":{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#),
        };
        let nonce = std::mem::take(&mut self.nonce);
        let header = format!(r#"{{"alg":"ES256","nonce":"{nonce}","url":"{url}",{by}}}"#);
        let (protected, payload) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.key.sign(&SystemRandom::new(), format!("{protected}.{payload}").as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.expect("signed"));
        let path = url.strip_prefix(EXTERNAL).expect("a URL of ours");
        let mut request = format!("POST {path}\nContent-Type: application/jose+json\n\n");
        let body = write!(request, r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#);
        body.expect("a String takes what is written");
        self.send(request.as_bytes()).expect("a request")
    }

    /// A new client with an account.
    fn register(&mut self) {
        (self.key, self.kid) = (fresh_key(), None);
        let answer = self.post(&self.urls.new_account(), b"{}", false);
        assert_eq!(answer.status, 201, "{}", answer.shown());
        self.kid = answer.header("location").map(str::to_owned);
    }

    fn json(&mut self, url: &str, payload: &[u8]) -> Value {
        let answer = self.post(url, payload, true);
        assert!(answer.status.is_success(), "{}", answer.shown());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// A new order for `a.test`.
    fn order(&mut self) -> Value {
        let url = self.urls.new_order();
        self.json(&url, br#"{"identifiers":[{"type":"dns","value":"a.test"}]}"#)
    }

    fn authorization(&mut self) -> (String, Value) {
        let order = self.order();
        let url = text(&order, "/authorizations/0");
        let authorization = self.json(&url, b"");
        (url, authorization)
    }

    /// An order whose challenge is answered.
    fn ready_order(&mut self) -> Value {
        let order = self.order();
        let authorization = self.json(&text(&order, "/authorizations/0"), b"");
        self.json(&text(&authorization, "/challenges/0/url"), b"{}");
        order
    }

    /// The certificate of such an order, base64url.
    fn certificate(&mut self) -> String {
        let order = self.ready_order();
        let csr = URL_SAFE_NO_PAD.encode(csr(&["a.test"]).der());
        let order = self.json(&text(&order, "/finalize"), format!(r#"{{"csr":"{csr}"}}"#).as_bytes());
        let answer = self.post(&text(&order, "/certificate"), b"", true);
        let first = chancery_pki::certificate::from_pem(&answer.body).expect("PEM").swap_remove(0);
        URL_SAFE_NO_PAD.encode(first)
    }

    /// How far the ledger has grown.
    fn ledger_size(&self) -> u64 {
        self.runtime.block_on(self.test.office.store().tree_head()).expect("read").size
    }

    /// Posts the input and judges the answer.
    fn judge(&mut self, url: &str, payload: &[u8], by_account: bool) -> Verdict {
        let before = self.ledger_size();
        let answer = self.post(url, payload, by_account);
        if answer.status.is_success() {
            return Verdict::Taken;
        }
        let (kind, detail) = is_a_problem(&answer);
        // The first refusal by policy is recorded; what is malformed leaves nothing.
        if kind != ProblemType::RejectedIdentifier {
            assert_eq!(before, self.ledger_size(), "what was refused changed something: {}", answer.shown());
        }
        Verdict::Refused(format!("{kind:?} {detail}"))
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}")).to_owned()
}

/// RFC 8555 §6.7, RFC 9457.
fn is_a_problem(answer: &Answer) -> (ProblemType, String) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.shown());
    let problem: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(problem["status"], answer.status.as_u16(), "{problem}");
    let kind = text(&problem, "/type");
    let token = kind.strip_prefix("urn:ietf:params:acme:error:").expect("the namespace of the RFC");
    let kind = ProblemType::from_token(token).expect("a type of the RFC");
    assert_ne!(kind, ProblemType::ServerInternal, "{problem}");
    let detail = text(&problem, "/detail");
    assert!(detail.len() > 10 && !detail.contains(char::is_control), "{problem}");
    assert!(answer.body.len() < 200_000, "{} octets of problem", answer.body.len());
    (kind, detail)
}

/// What stands for a certificate in the path of renewal information, and in what an order replaces.
fn unique_identifier(octets: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(octets) else { return Verdict::refused("not UTF-8") };
    match text.parse::<UniqueIdentifier>() {
        Ok(read) => {
            assert_eq!(read.to_string(), text, "one certificate has one identifier");
            let (key, serial) = text.split_once('.').expect("two parts");
            assert_eq!(URL_SAFE_NO_PAD.decode(key).as_deref(), Ok(read.key_identifier()));
            assert_eq!(URL_SAFE_NO_PAD.decode(serial).as_deref(), Ok(read.serial_der()));
            // The content of an INTEGER as another reader of DER takes it.
            let length = u8::try_from(read.serial_der().len()).expect("short");
            let head: &[u8] = if length < 0x80 { &[0x02, length] } else { &[0x02, 0x81, length] };
            let integer = [head, read.serial_der()].concat();
            assert!(<der::asn1::AnyRef<'_> as der::Decode<'_>>::from_der(&integer).is_ok());
            let taken = <der::asn1::IntRef<'_> as der::Decode<'_>>::from_der(&integer);
            assert!(taken.is_ok(), "{text} is no INTEGER: {taken:?}");
            if let Some(ours) = read.serial() {
                assert_eq!(ours.der_content(), read.serial_der(), "{text} is another number when it is written");
            }
            Verdict::Taken
        }
        Err(why) => Verdict::refused(why),
    }
}

/// Any request.
fn raw(octets: &[u8]) -> Verdict {
    at_the_door(|door| {
        let before = door.ledger_size();
        let Some(answer) = door.send(octets) else { return Verdict::refused("no request") };
        assert_eq!(before, door.ledger_size(), "nothing is signed here, so nothing changes: {}", answer.shown());
        match answer.status.is_success() {
            true => Verdict::Taken,
            false if answer.body.is_empty() => Verdict::refused(answer.status),
            false => {
                let (kind, detail) = is_a_problem(&answer);
                Verdict::Refused(format!("{kind:?} {detail}"))
            }
        }
    })
}

fn new_account(payload: &[u8]) -> Verdict {
    at_the_door(|door| {
        let (key, kid) = (std::mem::replace(&mut door.key, fresh_key()), door.kid.take());
        let verdict = door.judge(&door.urls.new_account(), payload, false);
        (door.key, door.kid) = (key, kid);
        verdict
    })
}

fn account(payload: &[u8]) -> Verdict {
    at_the_door(|door| {
        let url = door.kid.clone().expect("registered");
        let verdict = door.judge(&url, payload, true);
        if verdict == Verdict::Taken && door.post(&url, b"", true).status != 200 {
            door.register(); // it was deactivated
        }
        verdict
    })
}

fn new_order(payload: &[u8]) -> Verdict {
    at_the_door(|door| door.judge(&door.urls.new_order(), payload, true))
}

fn authorization(payload: &[u8]) -> Verdict {
    at_the_door(|door| {
        let (url, value) = match door.subject.take() {
            Some(subject) => subject,
            None => door.authorization(),
        };
        let verdict = door.judge(&url, payload, true);
        if verdict != Verdict::Taken {
            door.subject = Some((url, value));
        }
        verdict
    })
}

fn challenge(payload: &[u8]) -> Verdict {
    at_the_door(|door| {
        let (url, value) = match door.subject.take() {
            Some(subject) => subject,
            None => {
                let (_, value) = door.authorization();
                (text(&value, "/challenges/0/url"), value)
            }
        };
        let verdict = door.judge(&url, payload, true);
        if verdict != Verdict::Taken {
            door.subject = Some((url, value));
        }
        verdict
    })
}

fn finalize(payload: &[u8]) -> Verdict {
    at_the_door(|door| {
        let order = match door.subject.take() {
            Some((_, order)) => order,
            None => door.ready_order(),
        };
        let good = URL_SAFE_NO_PAD.encode(csr(&["a.test"]).der());
        let verdict = door.judge(&text(&order, "/finalize"), &replaced(payload, CSR, &good), true);
        if verdict != Verdict::Taken {
            door.subject = Some((String::new(), order));
        }
        verdict
    })
}

fn revoke_cert(payload: &[u8]) -> Verdict {
    at_the_door(|door| {
        let certificate = match door.subject.take() {
            Some((certificate, _)) => certificate,
            None => door.certificate(),
        };
        let payload = replaced(payload, CERTIFICATE, &certificate);
        let verdict = door.judge(&door.urls.revoke_cert(), &payload, true);
        if verdict != Verdict::Taken {
            door.subject = Some((certificate, Value::Null));
        }
        verdict
    })
}

/// The payload with every `word` replaced.
fn replaced(payload: &[u8], word: &[u8], by: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + by.len());
    let mut rest = payload;
    while let Some(at) = rest.windows(word.len()).position(|found| found == word) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(by.as_bytes());
        rest = &rest[at + word.len()..];
    }
    out.extend_from_slice(rest);
    out
}
