//! What a request costs behind the accept loop, in CPU time of one thread: `cargo bench -p chancery-http`.
//!
//! The store is in memory, so this is the front (envelope, nonce, account, signature), the routes
//! and the answers, not durability and not TLS.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails loudly"
)]

use std::{sync::Arc, time::Instant};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use axum::{Router, body::Body};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_authority::Limits;
use chancery_http::{
    acme::{AcmeSettings, AcmeState, RateLimits, router},
    metrics::Metrics,
};
use chancery_testkit::office::{POLICY, TestOffice};
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

const EXTERNAL: &str = "https://ca.example";
const ROUNDS: u32 = 3000;

struct Bench {
    router: Router,
    pair: EcdsaKeyPair,
    kid: String,
}

fn b64(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

impl Bench {
    async fn nonce(&self) -> String {
        let request = Request::head("/acme/default/new-nonce").body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        response.headers()["replay-nonce"].to_str().unwrap().to_owned()
    }

    fn signed(&self, path: &str, nonce: &str, payload: &str) -> Request<Body> {
        let by = if self.kid.is_empty() {
            let point = self.pair.public_key().as_ref();
            format!(r#""jwk":{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, b64(&point[1..33]), b64(&point[33..]))
        } else {
            format!(r#""kid":"{}""#, self.kid)
        };
        let header = format!(r#"{{"alg":"ES256","nonce":"{nonce}","url":"{EXTERNAL}{path}",{by}}}"#);
        let (protected, payload) = (b64(header), b64(payload));
        let input = format!("{protected}.{payload}");
        let signature = b64(self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap());
        let body = format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#);
        Request::post(path).header("content-type", "application/jose+json").body(Body::from(body)).unwrap()
    }

    /// Sends requests made beforehand; prints the time of each.
    async fn measure(&self, what: &str, requests: Vec<Request<Body>>, status: u16) {
        let count = u32::try_from(requests.len()).unwrap();
        let start = Instant::now();
        for request in requests {
            let response = self.router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{what}");
            response.into_body().collect().await.unwrap();
        }
        let each = start.elapsed() / count;
        println!("{what:<44} {:>8.1} µs", each.as_secs_f64() * 1e6);
    }

    async fn many(&self, path: &str, payload: &str) -> Vec<Request<Body>> {
        let mut requests = Vec::new();
        for _ in 0..ROUNDS {
            requests.push(self.signed(path, &self.nonce().await, payload));
        }
        requests
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let test = TestOffice::new(POLICY, Limits::default());
    let rates = RateLimits::NONE;
    let settings = AcmeSettings { rates, ..AcmeSettings::at(EXTERNAL) };
    let router = router(AcmeState::new(test.office.clone(), Arc::new(Metrics::new()), settings), Router::new());
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let mut bench = Bench { router, pair, kid: String::new() };
    let request = bench.signed("/acme/default/new-account", &bench.nonce().await, "{}");
    let response = bench.router.clone().oneshot(request).await.unwrap();
    bench.kid = response.headers()["location"].to_str().unwrap().to_owned();
    let account = bench.kid.strip_prefix(EXTERNAL).unwrap().to_owned();

    let unsigned = |path: &str| (0..ROUNDS).map(|_| Request::get(path).body(Body::empty()).unwrap()).collect();
    bench.measure("directory", unsigned("/acme/default/directory"), 200).await;
    bench.measure("new-nonce", unsigned("/acme/default/new-nonce"), 204).await;
    bench.measure("signed read of an account", bench.many(&account, "").await, 200).await;
    let refused = r#"{"identifiers":[{"type":"dns","value":"denied.test"}]}"#;
    bench.measure("signed new order, refused", bench.many("/acme/default/new-order", refused).await, 400).await;
    let used = bench.nonce().await;
    let replayed: Vec<_> = (0..ROUNDS).map(|_| bench.signed(&account, &used, "")).collect();
    bench.router.clone().oneshot(bench.signed(&account, &used, "")).await.unwrap();
    bench.measure("replayed nonce", replayed, 400).await;
}
