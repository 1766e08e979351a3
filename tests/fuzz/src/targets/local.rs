//! The local socket: JSON from commands of the same user, and from whatever else runs as that user.

use std::{cell::RefCell, path::Path, sync::Arc};

use async_trait::async_trait;
use chancery_api::{
    AccountList, BackedUp, BackupRequest, CertificateList, CertificateView, Reloaded, RevokeRequest, Revoked, Status,
};
use chancery_http::{
    api::{ApiState, Caller, OperationError, Operator, router},
    metrics::Metrics,
};
use chancery_testkit::office::{TestOffice, csr};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::{Builder, Runtime};

use super::{
    PLAIN,
    request::{self, Answer},
};
use crate::{Form, Target, Verdict};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "local-socket", read: asked, form: Form::Lines, words: WORDS, mutations: 5_000, ..PLAIN },
    Target { name: "local-json", read: told, form: Form::Json, words: WORDS, ..PLAIN },
];

const WORDS: &[&[u8]] = &[
    b"GET /v1/certificates?",
    b"POST /v1/backup",
    b"POST /v1/reload",
    b"/v1/accounts",
    b"/v1/status",
    b"/metrics",
    b"/v1/certificates/",
    b"/revoke",
    b"name=",
    b"below=",
    b"account=",
    b"key_sha256=",
    b"expires_before=",
    b"pem=true",
    b"after=",
    b"limit=",
    b"limit=0",
    b"limit=18446744073709551616",
    b"%00",
    b"%2F",
    b"%ff",
    b"&&",
    b"..",
    b"//",
    b"AAAAAAAAAAAAAAAAAAAAAA",
    b"{}",
    b"{\"reason\":\"keyCompromise\"}",
    b"{\"folder\":\"/x\"}",
    b"reason",
    b"folder",
    b"null",
    b"2026-11-25T10:00:00Z",
    b"spiffe://a/b",
    b"*.a.test",
    b"10.0.0.1",
    b"\xff",
];

/// A process that only says what it was asked.
pub(super) struct Process;

#[async_trait]
impl Operator for Process {
    fn external_url(&self) -> String {
        "https://ca.example".to_owned()
    }

    async fn not_issuing(&self) -> Vec<String> {
        Vec::new()
    }

    async fn status(&self) -> Result<Status, OperationError> {
        Err(OperationError::Refused("there is no status".to_owned()))
    }

    async fn reload(&self, _: &str) -> Result<Reloaded, OperationError> {
        Ok(Reloaded { changed: Vec::new(), needs_restart: Vec::new(), policy_sha256: String::new() })
    }

    async fn backup(&self, folder: &Path) -> Result<BackedUp, OperationError> {
        assert!(folder.is_absolute(), "whose working folder is meant?");
        Ok(BackedUp { folder: folder.display().to_string(), ledger_size: 0, milliseconds: 0 })
    }

    async fn observe(&self) {}
}

/// An office with a certificate of the serial that the kept samples name.
struct Office {
    runtime: Runtime,
    test: TestOffice,
    state: ApiState,
}

impl Office {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let test = TestOffice::default();
        runtime.block_on(async {
            let account = test.account().await;
            let order = test.ready_order(&account, &["a.test"]).await;
            test.office.finalize_order(&account, order.id, csr(&["a.test"])).await.expect("issued");
        });
        let state = ApiState::new(test.office.clone(), Arc::new(Process), Arc::new(Metrics::new()));
        Self { runtime, test, state }
    }

    fn ask(&self, octets: &[u8]) -> Option<Answer> {
        let mut request = request::read(octets)?;
        request.extensions_mut().insert(Caller::Local { uid: 1000 });
        Some(self.runtime.block_on(request::send(router(self.state.clone()), request)))
    }
}

/// A request over the socket.
fn asked(octets: &[u8]) -> Verdict {
    thread_local!(static OFFICE: RefCell<Option<Office>> = const { RefCell::new(None) });
    OFFICE.with_borrow_mut(|office| {
        let office = office.get_or_insert_with(Office::new);
        let before = office.runtime.block_on(office.test.office.store().tree_head()).expect("read").size;
        let Some(answer) = office.ask(octets) else { return Verdict::refused("no request") };
        assert!(!answer.status.is_server_error(), "{}", answer.shown());
        assert!(answer.body.len() < 1 << 20);
        if answer.status.is_success() {
            return Verdict::Taken;
        }
        let after = office.runtime.block_on(office.test.office.store().tree_head()).expect("read").size;
        assert_eq!(before, after, "what was refused changed something: {}", answer.shown());
        let body: chancery_api::ErrorBody = serde_json::from_slice(&answer.body).expect("words, as JSON");
        Verdict::Refused(format!("{} {}", body.code, body.message))
    })
}

/// What the commands are told, and what they tell: the client trusts the server, but must not trip over it.
fn told(octets: &[u8]) -> Verdict {
    let read = [
        again::<Status>(octets),
        again::<AccountList>(octets),
        again::<CertificateList>(octets),
        again::<CertificateView>(octets),
        again::<Reloaded>(octets),
        again::<BackedUp>(octets),
        again::<Revoked>(octets),
        again::<RevokeRequest>(octets),
        again::<BackupRequest>(octets),
    ];
    match read.iter().find(|read| read.is_ok()) {
        Some(_) => Verdict::Taken,
        None => Verdict::Refused(read.into_iter().filter_map(Result::err).collect()),
    }
}

/// What is read is written, and read again as the same.
fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(octets: &[u8]) -> Result<(), String> {
    let read: T = serde_json::from_slice(octets).map_err(|error| error.to_string())?;
    let written = serde_json::to_vec(&read).expect("written");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("just written"), read);
    Ok(())
}
