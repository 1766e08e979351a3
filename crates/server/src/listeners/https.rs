//! HTTPS: TLS 1.2 and 1.3, HTTP/1.1 and 2, for ACME clients.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use chancery_http::acme::ClientAddress;
use http::Extensions;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::{
    Connections, Stopping, Timeouts,
    serve::{Version, connection},
};

/// How long accepting pauses when the process has no more file descriptors.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// The HTTPS listener.
pub(crate) struct Https {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) router: Router,
    pub(crate) connections: Arc<Connections>,
    pub(crate) timeouts: Timeouts,
}

impl Https {
    /// Accepts connections until the server stops.
    pub(crate) async fn run(self, mut stopping: Stopping) {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls));
        loop {
            let accepted = tokio::select! {
                () = stopping.stopped() => return,
                accepted = self.tcp.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(OUT_OF_DESCRIPTORS).await;
                    continue;
                }
            };
            let Some(counted) = self.connections.enter(peer.ip()) else {
                tracing::debug!(client.address = %peer.ip(), "too many connections");
                continue;
            };
            let (acceptor, router, timeouts) = (acceptor.clone(), self.router.clone(), self.timeouts);
            let (connections, stopping) = (Arc::clone(&self.connections), stopping.clone());
            tokio::spawn(async move {
                let _counted = counted;
                serve_one(stream, peer, &acceptor, router, timeouts, &connections, stopping).await;
            });
        }
    }
}

async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: &TlsAcceptor,
    router: Router,
    timeouts: Timeouts,
    connections: &Connections,
    stopping: Stopping,
) {
    // Only costs latency where it fails.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(timeouts.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            connections.handshake_failed();
            tracing::debug!(client.address = %peer.ip(), %error, "no TLS handshake");
            return;
        }
        Err(_) => {
            connections.handshake_failed();
            tracing::debug!(client.address = %peer.ip(), "the TLS handshake took too long");
            return;
        }
    };
    let version = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Version::Http2 } else { Version::Http1 };
    let mut extensions = Extensions::new();
    extensions.insert(ClientAddress(peer.ip().to_canonical()));
    connection(stream, version, router, extensions, timeouts, stopping).await;
}
