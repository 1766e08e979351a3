//! Plain HTTP for health and metrics.

use std::{sync::Arc, time::Duration};

use axum::Router;
use chancery_http::api::Caller;
use http::Extensions;
use tokio::{net::TcpListener, time::sleep};

use super::{
    Connections, Stopping, Timeouts,
    serve::{Version, connection},
};

/// The listener for health and metrics.
pub(crate) struct Plain {
    pub(crate) tcp: TcpListener,
    pub(crate) router: Router,
    pub(crate) connections: Arc<Connections>,
    pub(crate) timeouts: Timeouts,
}

impl Plain {
    /// Accepts connections until the server stops.
    pub(crate) async fn run(self, mut stopping: Stopping) {
        loop {
            let accepted = tokio::select! {
                () = stopping.stopped() => return,
                accepted = self.tcp.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let counted = self.connections.enter(peer.ip()).filter(|counted| !counted.is_turned_away());
            let Some(counted) = counted else { continue };
            let mut extensions = Extensions::new();
            extensions.insert(Caller::Plain);
            let (router, timeouts, stopping) = (self.router.clone(), self.timeouts, stopping.clone());
            tokio::spawn(async move {
                let _counted = counted;
                connection(stream, Version::Http1, router, extensions, timeouts, stopping).await;
            });
        }
    }
}
