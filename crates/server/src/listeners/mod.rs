//! The listeners: HTTPS for ACME, the local socket for operators, plain HTTP for health and metrics.
//!
//! One accept loop for all: bounded in connections, handshake, head, idleness and age; in-flight requests
//! are finished when it stops. Where there are too many HTTPS connections, some more are told so (503).

mod connections;
mod https;
mod local;
mod plain;
mod serve;

pub(crate) use connections::Connections;
pub(crate) use https::Https;
pub(crate) use local::Local;
pub(crate) use plain::Plain;
pub(crate) use serve::{Stop, Stopping, Timeouts};

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// Binds an address, or says in words why not.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!("{address} is in use by another process"),
        io::ErrorKind::PermissionDenied => format!(
            "{address} may not be listened on by this user: ports below 1024 need CAP_NET_BIND_SERVICE \
             (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)"
        ),
        io::ErrorKind::AddrNotAvailable => format!("{address} is no address of this machine"),
        _ => format!("{address} cannot be listened on: {error}"),
    })
}
