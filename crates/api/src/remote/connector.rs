//! TCP by the guarded dialer, as hyper's client wants it.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use chancery_egress::{Connection, Dialer, Host};
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection as ConnectionInfo},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Dials servers; TLS is put on top.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) dialer: Dialer,
    pub(super) timeout: Duration,
}

type Failure = Box<dyn Error + Send + Sync>;

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Dialled>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { dialer, timeout } = self.clone();
        Box::pin(async move {
            // An IPv6 address stands in brackets in a URL alone.
            let host = uri.host().ok_or("the URL names no host")?.trim_start_matches('[').trim_end_matches(']');
            let host: Host = host.parse()?;
            let port = uri.port_u16().unwrap_or(443);
            let connection = dialer.dial(&host, port, Instant::now() + timeout).await?;
            Ok(TokioIo::new(Dialled(connection)))
        })
    }
}

/// A connection that was dialled.
#[derive(Debug)]
pub(super) struct Dialled(Connection);

impl ConnectionInfo for Dialled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
