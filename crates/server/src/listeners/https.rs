//! HTTPS: TLS 1.2 and 1.3, HTTP/1.1 and 2, for ACME clients and the controllers of clusters.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use chancery_http::{acme::ClientAddress, api::ClientCertificates};
use http::Extensions;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use super::{
    Connections, Stopping, Timeouts,
    serve::{Version, connection, turned_away},
};

/// How long accepting pauses when the process has no more file descriptors.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// How long a connection that is turned away may take for its handshake, and again for its one request.
const TURNING_AWAY: Duration = Duration::from_secs(2);

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
                tracing::debug!(client.address = %peer.ip(), "far too many connections");
                continue;
            };
            let (acceptor, router, timeouts) = (acceptor.clone(), self.router.clone(), self.timeouts);
            let (connections, stopping) = (Arc::clone(&self.connections), stopping.clone());
            tokio::spawn(async move {
                let is_turned_away = counted.is_turned_away();
                let within = if is_turned_away { timeouts.handshake.min(TURNING_AWAY) } else { timeouts.handshake };
                let Some((stream, version)) = handshake(stream, peer, &acceptor, within, &connections).await else {
                    return;
                };
                if is_turned_away {
                    tracing::debug!(client.address = %peer.ip(), "too many connections");
                    // Whoever does not ask by then is not told.
                    let told = turned_away(stream, version, router, client(peer), timeouts);
                    let _ = timeout(TURNING_AWAY, told).await;
                } else {
                    let mut client = client(peer);
                    client_certificates(&stream, &mut client);
                    connection(stream, version, router, client, timeouts, stopping).await;
                }
                // Counted until here.
                drop(counted);
            });
        }
    }
}

/// What requests are told about the client.
fn client(peer: SocketAddr) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(ClientAddress(peer.ip().to_canonical()));
    extensions
}

/// What requests are told about the certificate that the client showed.
fn client_certificates(stream: &TlsStream<TcpStream>, extensions: &mut Extensions) {
    if let Some(chain) = stream.get_ref().1.peer_certificates() {
        extensions.insert(ClientCertificates(chain.iter().map(|certificate| certificate.to_vec()).collect()));
    }
}

async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: &TlsAcceptor,
    within: Duration,
    connections: &Connections,
) -> Option<(TlsStream<TcpStream>, Version)> {
    // Only costs latency where it fails.
    let _ = stream.set_nodelay(true);
    match timeout(within, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Some((stream, if is_h2 { Version::Http2 } else { Version::Http1 }))
        }
        Ok(Err(error)) => {
            connections.handshake_failed();
            tracing::debug!(client.address = %peer.ip(), %error, "no TLS handshake");
            None
        }
        Err(_) => {
            connections.handshake_failed();
            tracing::debug!(client.address = %peer.ip(), "the TLS handshake took too long");
            None
        }
    }
}
