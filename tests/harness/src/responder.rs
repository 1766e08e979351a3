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
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{HOST, LOCATION},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::Result;

/// The responder; it ends with the runtime.
#[derive(Clone)]
pub struct Responder {
    address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Told>>>,
    requests: Arc<AtomicU64>,
    hosts: Arc<Mutex<HashMap<String, String>>>,
}

/// What a token is answered with.
#[derive(Clone)]
enum Told {
    Body(String),
    Redirect(String),
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
        let listener =
            TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| format!("127.0.0.1:{port}: {error}"))?;
        let address = listener.local_addr()?;
        let responder = Self { address, answers: Arc::default(), requests: Arc::default(), hosts: Arc::default() };
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
        self.tell(token, Told::Body(key_authorization));
    }

    /// Redirects this token from now on.
    pub fn redirect(&self, token: &str, location: String) {
        self.tell(token, Told::Redirect(location));
    }

    /// The `Host` header of the last request for a token.
    #[must_use]
    pub fn host(&self, token: &str) -> Option<String> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    fn tell(&self, token: &str, told: Told) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned(), told);
    }

    /// Forgets a token.
    pub fn remove(&self, token: &str) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let token = request.uri().path().strip_prefix("/.well-known/acme-challenge/").unwrap_or_default();
        if let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) {
            self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned(), host.to_owned());
        }
        let told = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        let mut response = Response::new(Full::default());
        match told {
            Some(Told::Body(body)) => *response.body_mut() = Full::new(Bytes::from(body)),
            Some(Told::Redirect(location)) => {
                *response.status_mut() = StatusCode::FOUND;
                if let Ok(location) = location.parse() {
                    response.headers_mut().insert(LOCATION, location);
                }
            }
            None => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        response
    }
}
