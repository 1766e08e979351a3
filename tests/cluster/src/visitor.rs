//! A client that trusts one root and nothing else, and visits the doors at which its certificates are served.

use std::{
    collections::BTreeSet,
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chancery_harness::{client::trust, server::succeeded};
use http::{Request, header::HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    net::TcpStream,
    process::Command,
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Result, until::LIMIT};

/// Longest that one request may take.
const REQUEST: Duration = Duration::from_secs(20);
/// How often a visitor asks.
const PACE: Duration = Duration::from_millis(5);
/// The path whose answer never ends, where there is one.
pub const ENDLESS: &str = "/endless";

/// Where a certificate is served: by a host's name, at an address.
#[derive(Debug, Clone)]
pub struct Door {
    /// The host's name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

impl fmt::Display for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.name, self.address)
    }
}

/// The client.
#[derive(Clone)]
pub struct Visitor {
    tls: Arc<rustls::ClientConfig>,
    root: PathBuf,
}

impl Visitor {
    /// One that trusts the certificate in this file alone.
    pub fn trusting_only(root: &Path) -> Result<Self> {
        Ok(Self { tls: trust(&fs::read(root)?)?, root: root.to_owned() })
    }

    /// The certificate that is served now, as rustls verified it: DER.
    pub async fn certificate(&self, door: &Door) -> Result<Vec<u8>> {
        leaf(&self.connect(door).await?)
    }

    /// The same by `openssl s_client`, with its own verification.
    pub async fn certificate_by_openssl(&self, door: &Door) -> Result<Vec<u8>> {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &door.address.to_string(), "-servername", &door.name])
            .args(["-verify_return_error", "-verify_hostname", &door.name, "-x509_strict"])
            .args(["-no-CApath", "-no-CAstore", "-CAfile"])
            .arg(&self.root)
            .stdin(Stdio::null())
            .output()
            .await?;
        succeeded(&output)?;
        Ok(CertificateDer::from_pem_slice(&output.stdout)?.to_vec())
    }

    /// Waits until rustls and OpenSSL are both served this certificate (DER) on new connections, and says how long it took
    /// until the first was. One is not enough: for a moment a gateway's old workers take connections beside the new ones.
    pub async fn until_served(&self, door: &Door, certificate: &[u8]) -> Result<Duration> {
        let begin = Instant::now();
        let mut first = None;
        loop {
            let mut served = self.certificate(door).await;
            if served.as_ref().is_ok_and(|served| served == certificate) {
                first.get_or_insert(begin.elapsed());
                served = self.certificate_by_openssl(door).await;
            }
            if let (Ok(served), Some(first)) = (&served, first)
                && served == certificate
            {
                return Ok(first);
            }
            if begin.elapsed() > LIMIT {
                let instead = served.map_or_else(|error| error.to_string(), |_| "another certificate".to_owned());
                return Err(format!("{door} does not serve the certificate of the Secret; instead: {instead}").into());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Begins to visit a door in all of these ways at once.
    #[must_use]
    pub fn visit(&self, door: &Door, ways: &[Way]) -> Visits {
        let (stop, stopped) = watch::channel(false);
        let (mut visitors, mut done) = (JoinSet::new(), Vec::new());
        for &way in ways {
            let count = Arc::new(AtomicUsize::new(0));
            done.push(Arc::clone(&count));
            let visit = Visit { visitor: self.clone(), door: door.clone(), count, stopped: stopped.clone() };
            visitors.spawn(async move {
                let seen = match way {
                    Way::Repeated => visit.repeatedly().await,
                    Way::Kept => visit.on_one_connection().await,
                    Way::Endless => visit.one_answer().await,
                };
                seen.map_err(|error| format!("{way:?}: {error}"))
            });
        }
        Visits { stop, visitors, done }
    }

    async fn connect(&self, door: &Door) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(door.address).await?;
        let name = ServerName::try_from(door.name.clone())?;
        Ok(TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?)
    }
}

/// How a door is visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A new connection for each request.
    Repeated,
    /// One connection for all requests.
    Kept,
    /// One request, whose answer goes on until the visitor has enough ([`ENDLESS`]).
    Endless,
}

/// Visits under way.
pub struct Visits {
    stop: watch::Sender<bool>,
    visitors: JoinSet<std::result::Result<Seen, String>>,
    done: Vec<Arc<AtomicUsize>>,
}

/// What visitors have seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections that were made.
    pub connections: usize,
    /// Answers, or parts of an endless one.
    pub answers: usize,
    /// The certificates that were served, as DER.
    pub certificates: BTreeSet<Vec<u8>>,
}

impl Visits {
    /// Waits until each visitor has had so many more answers from now on; an error as soon as one was dropped.
    pub async fn more(&mut self, answers: usize) -> Result<()> {
        let wanted: Vec<usize> = self.done.iter().map(|done| done.load(Ordering::Relaxed) + answers).collect();
        let deadline = Instant::now() + LIMIT;
        while self.done.iter().zip(&wanted).any(|(done, wanted)| done.load(Ordering::Relaxed) < *wanted) {
            // None ends before it is told to, unless it was dropped.
            if let Some(ended) = self.visitors.try_join_next() {
                return Err(format!("a visitor ended: {:?}", ended?).into());
            }
            if Instant::now() > deadline {
                return Err("a visitor was not answered any more".into());
            }
            sleep(PACE).await;
        }
        Ok(())
    }

    /// Ends them. An error if one connection or answer was dropped.
    pub async fn end(mut self) -> Result<Seen> {
        self.stop.send_replace(true);
        let mut all = Seen::default();
        while let Some(ended) = self.visitors.join_next().await {
            let seen = ended??;
            all.connections += seen.connections;
            all.answers += seen.answers;
            all.certificates.extend(seen.certificates);
        }
        Ok(all)
    }
}

struct Visit {
    visitor: Visitor,
    door: Door,
    count: Arc<AtomicUsize>,
    stopped: watch::Receiver<bool>,
}

impl Visit {
    async fn repeatedly(self) -> Result<Seen> {
        let mut seen = Seen::default();
        while !*self.stopped.borrow() {
            let mut connection = self.connection(&mut seen).await?;
            self.answered(&mut connection, &mut seen).await?;
        }
        Ok(seen)
    }

    async fn on_one_connection(self) -> Result<Seen> {
        let mut seen = Seen::default();
        let mut connection = self.connection(&mut seen).await?;
        let mut pace = interval(PACE);
        while !*self.stopped.borrow() {
            pace.tick().await;
            self.answered(&mut connection, &mut seen).await?;
        }
        Ok(seen)
    }

    async fn one_answer(self) -> Result<Seen> {
        let mut seen = Seen::default();
        let mut connection = self.connection(&mut seen).await?;
        let answer = connection.send_request(self.request(ENDLESS)?).await?;
        if answer.status() != 200 {
            return Err(format!("answered with {}", answer.status()).into());
        }
        let mut body = answer.into_body();
        while !*self.stopped.borrow() {
            let part = timeout(REQUEST, body.frame()).await.map_err(|_| "an answer stood still")?;
            part.ok_or("an answer was cut off")??;
            self.count(&mut seen);
        }
        Ok(seen)
    }

    async fn connection(&self, seen: &mut Seen) -> Result<SendRequest<Empty<Bytes>>> {
        let stream = self.visitor.connect(&self.door).await?;
        seen.certificates.insert(leaf(&stream)?);
        seen.connections += 1;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Whoever holds the sender is told how it ends.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn answered(&self, connection: &mut SendRequest<Empty<Bytes>>, seen: &mut Seen) -> Result<()> {
        let exchange = async {
            connection.ready().await?;
            let answer = connection.send_request(self.request("/")?).await?;
            if answer.status() != 200 {
                return Err(format!("answered with {}", answer.status()).into());
            }
            answer.into_body().collect().await?;
            Ok::<_, crate::Error>(())
        };
        timeout(REQUEST, exchange).await.map_err(|_| "a request was not answered")??;
        self.count(seen);
        Ok(())
    }

    fn request(&self, path: &str) -> Result<Request<Empty<Bytes>>> {
        Ok(Request::get(path).header(HOST, &self.door.name).body(Empty::new())?)
    }

    fn count(&self, seen: &mut Seen) {
        seen.answers += 1;
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

fn leaf(stream: &TlsStream<TcpStream>) -> Result<Vec<u8>> {
    let certificates = stream.get_ref().1.peer_certificates();
    Ok(certificates.and_then(<[_]>::first).ok_or("no certificate was served")?.to_vec())
}

/// The first certificate of a PEM text, as DER.
pub fn first_of(pem: &[u8]) -> Result<Vec<u8>> {
    Ok(CertificateDer::from_pem_slice(pem)?.to_vec())
}
