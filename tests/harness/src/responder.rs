//! An http-01 responder on loopback: answers key authorizations that tests put into it.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::Result;

/// The responder; it ends with the runtime.
#[derive(Clone)]
pub struct Responder {
    address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, String>>>,
    requests: Arc<AtomicU64>,
}

impl Responder {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub async fn start() -> Result<Self> {
        Self::start_on(0).await
    }

    /// Listens on a port of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub async fn start_on(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let responder = Self { address: listener.local_addr()?, answers: Arc::default(), requests: Arc::default() };
        let serving = responder.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = serving.answer(&request);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    // A client that goes away early is no fault of the responder's.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(responder)
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many requests came.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Answers this token from now on.
    pub fn put(&self, token: &str, key_authorization: String) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned(), key_authorization);
    }

    /// Forgets a token.
    pub fn remove(&self, token: &str) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let token = request.uri().path().strip_prefix("/.well-known/acme-challenge/").unwrap_or_default();
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (status, body) = match answers.get(token) {
            Some(answer) => (StatusCode::OK, answer.clone()),
            None => (StatusCode::NOT_FOUND, String::new()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response
    }
}
