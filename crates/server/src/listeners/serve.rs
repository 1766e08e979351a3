//! One connection, from its first byte to its last.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use chancery_http::acme::TooManyConnections;
use http::{Extensions, Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc, watch},
    time::{sleep, timeout},
};
use tower::Service as _;

/// Longest head of an HTTP/1.1 request, in bytes.
const HEAD_MAX: usize = 32 * 1024;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// Most requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// How long a connection lives before it is asked to begin anew: one that reads nothing cannot stay.
const AGE_MAX: Duration = Duration::from_secs(3_600);
/// How long requests under way may take after that.
const LAST_REQUESTS: Duration = Duration::from_secs(60);
/// Between two questions whether the other side of an idle HTTP/2 connection is still there.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// A TLS handshake.
    pub(crate) handshake: Duration,
    /// A request's head; also how long a connection may idle.
    pub(crate) head: Duration,
}

/// Which HTTP a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Tells listeners to stop, and waits until their connections have ended.
#[derive(Debug)]
pub(crate) struct Stop {
    stop: watch::Sender<bool>,
    alive: mpsc::Receiver<Infallible>,
    hold: Option<mpsc::Sender<Infallible>>,
}

/// What a listener and its connections hold on to.
#[derive(Debug, Clone)]
pub(crate) struct Stopping {
    stop: watch::Receiver<bool>,
    _alive: mpsc::Sender<Infallible>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        let (hold, alive) = mpsc::channel(1);
        Self { stop: watch::Sender::new(false), alive, hold: Some(hold) }
    }

    /// For one more listener.
    pub(crate) fn listener(&self) -> Option<Stopping> {
        let alive = self.hold.clone()?;
        Some(Stopping { stop: self.stop.subscribe(), _alive: alive })
    }

    /// Stops accepting, lets requests under way finish for at most `within`; whether all did.
    pub(crate) async fn stop(mut self, within: Duration) -> bool {
        self.stop.send_replace(true);
        self.hold.take();
        // Nothing is ever sent; the end of the channel is the end of the last connection.
        timeout(within, self.alive.recv()).await.is_ok()
    }
}

impl Stopping {
    /// Resolves when it is time to stop.
    pub(super) async fn stopped(&mut self) {
        // A sender that is gone means the same.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}

/// Serves requests on a connection until either side ends it or the server stops.
pub(super) async fn connection<S>(
    stream: S,
    version: Version,
    router: Router,
    extensions: Extensions,
    timeouts: Timeouts,
    mut stopping: Stopping,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = Arc::new(Requests::default());
    let counting = Arc::clone(&requests);
    let service = service_fn(move |request: Request<Incoming>| {
        let counted = counting.begin();
        let answer = answer(&router, &extensions, request);
        async move {
            let answer = answer.await;
            drop(counted);
            answer
        }
    });
    let builder = builder(version, timeouts);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let left = tokio::select! {
        ended = connection.as_mut() => return log(ended),
        () = stopping.stopped() => LAST_REQUESTS,
        () = sleep(AGE_MAX) => LAST_REQUESTS,
        // HTTP/1.1 has the time for its next head.
        () = requests.idle_for(timeouts.head), if version == Version::Http2 => timeouts.handshake,
    };
    connection.as_mut().graceful_shutdown();
    // When the server stops it is the one who waits, and not for ever.
    if let Ok(ended) = timeout(left, connection).await {
        log(ended);
    }
}

/// Answers one request of a connection that is one too many, and closes it.
pub(super) async fn turned_away<S>(
    stream: S,
    version: Version,
    router: Router,
    mut extensions: Extensions,
    timeouts: Timeouts,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    extensions.insert(TooManyConnections);
    let answered = Arc::new(Notify::new());
    let answering = Arc::clone(&answered);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&router, &extensions, request);
        let answering = Arc::clone(&answering);
        async move {
            let answer = answer.await;
            answering.notify_one();
            answer
        }
    });
    let mut builder = builder(version, timeouts);
    if version == Version::Http1 {
        builder.http1().keep_alive(false);
    }
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return log(ended),
        () = answered.notified() => {}
    }
    connection.as_mut().graceful_shutdown();
    log(connection.await);
}

fn answer(
    router: &Router,
    extensions: &Extensions,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    let (mut parts, body) = request.into_parts();
    parts.extensions.extend(extensions.clone());
    router.clone().call(Request::from_parts(parts, Body::new(body)))
}

fn builder(version: Version, timeouts: Timeouts) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    match version {
        Version::Http1 => {
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(timeouts.head)
                .max_buf_size(HEAD_MAX)
                .max_headers(HEADERS_MAX)
                .half_close(false);
            builder.http1_only()
        }
        Version::Http2 => {
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(16 * 1024)
                .max_send_buf_size(256 * 1024)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(timeouts.handshake);
            builder.http2_only()
        }
    }
}

/// The requests of a connection.
#[derive(Debug, Default)]
struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A request that is under way for as long as this lives.
struct UnderWay(Arc<Requests>);

impl Requests {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Resolves when nothing has been asked and nothing been under way for this long; at the latest, in twice that.
    async fn idle_for(&self, long: Duration) {
        loop {
            let before = self.begun.load(Ordering::Relaxed);
            let idle = self.ended.load(Ordering::Relaxed) == before;
            sleep(long).await;
            if idle && self.begun.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Clients that go away are their own affair.
fn log(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
