//! What a cluster sends over HTTPS: the body of a signing request, and tokens, before anybody knows whose they are.

use std::{cell::RefCell, sync::Arc};

use chancery_api::{ErrorBody, SigningRequest, SigningState};
use chancery_authority::ports::{IdentityError, WorkloadIdentity as _};
use chancery_cluster::{ClusterIdentity, Identity, Published, TokenCheck, TokenIdentity};
use chancery_http::{
    api::{ApiState, ClusterSettings, cluster_router},
    metrics::Metrics,
};
use chancery_pki::certificate::pem_block;
use chancery_testkit::{
    office::{TestOffice, csr, token_for},
    ports::TestClock,
};
use http::{Request, StatusCode, header};
use http_body_util::Full;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::{Builder, Runtime};

use super::{PLAIN, local::Process, request};
use crate::{Form, Target, Verdict};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "signing-request",
        read: asked,
        form: Form::Json,
        words: WORDS,
        mutations: 3_000,
        memory: 64 << 20,
        ..PLAIN
    },
    Target { name: "service-account-token", read: shown, words: TOKEN_WORDS, ..PLAIN },
];

const WORDS: &[&[u8]] = &[
    b"certificate-request",
    b"pod-certificate-request",
    b"-----BEGIN CERTIFICATE REQUEST-----",
    b"-----END CERTIFICATE REQUEST-----",
    b"lifetime_s",
    b"usages",
    b"server auth",
    b"is_ca",
    b"origin",
    b"namespace_labels",
    b"annotations",
    b"groups",
    b"term",
    b"18446744073709551615",
    b"-1",
    b"null",
    b"\\u0000",
    b"\\ud800",
];

const TOKEN_WORDS: &[&[u8]] =
    &[b".", b"..", b"eyJhbGciOiJub25lIn0", b"eyJhbGciOiJSUzI1NiJ9", b"eyJhbGciOiJIUzI1NiJ9", b"e30", b"=", b"-_"];

/// A door with a token that opens it, and a CSR that the kept samples stand for.
struct Door {
    runtime: Runtime,
    state: ApiState,
    authorization: String,
    csr: String,
}

impl Door {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let test = TestOffice::default();
        let (_, token) = runtime.block_on(test.credential(token_for("prod-eu")));
        let settings = ClusterSettings { requests_per_credential: None, ..ClusterSettings::default() };
        let state = ApiState::for_clusters(test.office.clone(), Arc::new(Process), Arc::new(Metrics::new()), settings);
        let csr = pem_block("CERTIFICATE REQUEST", csr(&["a.test"]).der());
        Self { runtime, state, authorization: format!("Bearer {}", token.expose_secret()), csr }
    }
}

/// The body of a signing request.
fn asked(octets: &[u8]) -> Verdict {
    thread_local! {
        static DOOR: RefCell<Option<Door>> = const { RefCell::new(None) };
    }
    DOOR.with_borrow_mut(|door| {
        let door = door.get_or_insert_with(Door::new);
        // Samples cannot hold a CSR that is signed anew.
        let body = match std::str::from_utf8(octets) {
            Ok(text) => text.replace("@CSR@", &door.csr.replace('\n', "\\n")).into_bytes(),
            Err(_) => octets.to_vec(),
        };
        let request = Request::post("/api/v1/signing-requests")
            .header(header::AUTHORIZATION, &door.authorization)
            .body(Full::from(body.clone()))
            .expect("a request");
        let answer = door.runtime.block_on(request::send(cluster_router(door.state.clone()), request));
        match answer.status {
            StatusCode::OK => {
                let read: SigningRequest = serde_json::from_slice(&body).expect("what was answered is a request");
                let again = serde_json::to_vec(&read).expect("plain data");
                assert_eq!(serde_json::from_slice::<SigningRequest>(&again).expect("the same"), read);
                match serde_json::from_slice(&answer.body).expect("a state") {
                    SigningState::Issued(_) => Verdict::Taken,
                    SigningState::Pending { message, .. } | SigningState::Refused { message, .. } => {
                        assert!(!message.is_empty() && message.len() < 5_000, "{message}");
                        Verdict::Refused(message)
                    }
                }
            }
            StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::TOO_MANY_REQUESTS => {
                let error: ErrorBody = serde_json::from_slice(&answer.body).expect("an error in words");
                assert!(!error.message.is_empty());
                Verdict::Refused(error.message)
            }
            other => panic!("{other}: {}", String::from_utf8_lossy(&answer.body)),
        }
    })
}

/// A service-account token of anybody.
fn shown(octets: &[u8]) -> Verdict {
    thread_local! {
        static IDENTITY: RefCell<Option<(Runtime, Identity)>> = const { RefCell::new(None) };
    }
    let Ok(token) = std::str::from_utf8(octets) else { return Verdict::Refused("no text".to_owned()) };
    IDENTITY.with_borrow_mut(|made| {
        let (runtime, identity) = made.get_or_insert_with(|| {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let check = TokenCheck::Keys(Published::File("/nonexistent/keys".into()));
            let tokens = Some(TokenIdentity { issuer: "https://i".to_owned(), audience: "a".to_owned(), check });
            let clusters = vec![ClusterIdentity { cluster: "prod-eu".to_owned(), tokens, clients: None }];
            (runtime, Identity::new(clusters))
        });
        let looked = runtime.block_on(identity.service_account(&SecretString::from(token), TestClock::START));
        match looked {
            // There are no keys: whoever gets so far has said everything else right.
            Err(IdentityError::Unavailable(_)) => Verdict::Taken,
            Err(IdentityError::Unknown(why)) => {
                assert!(token.len() < 20 || !why.contains(token), "a token is told to the log");
                Verdict::Refused(why)
            }
            Ok(account) => panic!("{account:?} without any key"),
        }
    })
}
