//! A connection on which a test writes octets itself, over TLS or without, and sees how it ends.

use std::{io, time::Duration};

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{Result, client::Target};

/// Longest that a server may leave a test waiting before the test calls it a hang.
pub const PATIENCE: Duration = Duration::from_secs(20);

trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Octets for T {}

/// The connection.
pub struct Wire {
    stream: Box<dyn Octets>,
    alpn: Option<Vec<u8>>,
}

/// An HTTP/1.1 answer, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    /// The status.
    pub status: u16,
    /// The header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// What follows the head.
    pub body: Vec<u8>,
}

impl Wire {
    /// Connects and shakes hands, offering these protocols.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn connect(target: &Target, alpn: &[&str]) -> Result<Self> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        let mut tls = rustls::ClientConfig::clone(&target.tls);
        tls.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(target.host.clone())?;
        let stream = TlsConnector::from(std::sync::Arc::new(tls)).connect(name, stream).await?;
        let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok(Self { stream: Box::new(stream), alpn })
    }

    /// Connects without TLS.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn plain(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: Box::new(stream), alpn: None })
    }

    /// The protocol that was agreed on.
    #[must_use]
    pub fn alpn(&self) -> Option<String> {
        self.alpn.as_ref().map(|protocol| String::from_utf8_lossy(protocol).into_owned())
    }

    /// The stream itself, for a client of another library.
    pub fn into_stream(self) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
        self.stream
    }

    /// Writes; a server that has closed already is no error, what it said is read later.
    pub async fn write(&mut self, octets: &[u8]) {
        // Both are refusals that `rest` sees.
        let _ = self.stream.write_all(octets).await;
        let _ = self.stream.flush().await;
    }

    /// Says that nothing more will be written.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// What the server writes until it closes the connection.
    ///
    /// # Errors
    ///
    /// If it does not close within [`PATIENCE`].
    pub async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut octets = Vec::new();
        match timeout(PATIENCE, self.stream.read_to_end(&mut octets)).await {
            // However it is closed: a reset, or TLS without its closing alert.
            Ok(Ok(_) | Err(_)) => Ok(octets),
            Err(_) => Err(format!("no end after {PATIENCE:?}; so far: {}", String::from_utf8_lossy(&octets)).into()),
        }
    }

    /// What the server writes within a time, empty if nothing; `None` once it has closed the connection.
    pub async fn read_within(&mut self, time: Duration) -> Option<Vec<u8>> {
        let mut octets = vec![0; 16 * 1024];
        match timeout(time, self.stream.read(&mut octets)).await {
            Ok(Ok(0) | Err(_)) => None,
            Ok(Ok(length)) => {
                octets.truncate(length);
                Some(octets)
            }
            Err(_) => Some(Vec::new()),
        }
    }

    /// One HTTP/1.1 answer with its whole body, the connection staying open.
    ///
    /// # Errors
    ///
    /// If none comes within [`PATIENCE`].
    pub async fn answer(&mut self) -> Result<RawAnswer> {
        let read = async {
            let mut octets = Vec::new();
            loop {
                if let Some(answer) = RawAnswer::parse(&octets)
                    && answer.length().is_none_or(|length| answer.body.len() >= length)
                {
                    return Ok(answer);
                }
                let mut more = [0; 4096];
                let length = self.stream.read(&mut more).await?;
                if length == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                octets.extend_from_slice(more.get(..length).unwrap_or_default());
            }
        };
        Ok(timeout(PATIENCE, read).await.map_err(|_| "no answer")??)
    }
}

impl RawAnswer {
    /// From octets that hold its whole head.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let end = octets.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = octets.split_at_checked(end)?;
        let head = std::str::from_utf8(head).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Self { status, headers, body: body.get(4..)?.to_vec() })
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn length(&self) -> Option<usize> {
        self.header("content-length").and_then(|length| length.parse().ok())
    }
}
