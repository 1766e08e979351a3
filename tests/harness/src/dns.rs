//! An authoritative DNS server on loopback, over UDP and TCP. It answers for every name, from records that a test
//! puts into it and from TXT values that other programs put into a folder: certbot's hooks are such programs.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Header, HeaderCounts, Metadata, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, TXT},
    },
};
use hickory_server::{
    Server,
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tempfile::TempDir;
use tokio::net::{TcpListener, UdpSocket};

use crate::Result;

/// Most CNAMEs that are followed for one answer.
const CNAMES_MAX: usize = 8;
/// Longest pause of a client on a TCP connection (RFC 7766 §6.2.3 wants some seconds).
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that may wait to be sent on one TCP connection.
const TCP_BUFFER: usize = 32;
/// Seconds that an answer may be kept.
const TTL_S: u32 = 1;

/// A question that came, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Lower case, without the dot at its end.
    pub name: String,
    /// What was asked for.
    pub kind: RecordType,
    /// Over TCP, not UDP.
    pub over_tcp: bool,
    /// Records that answer it, whether or not all of them went into the answer.
    pub answers: usize,
}

/// The server; it ends with its last clone.
#[derive(Clone)]
pub struct Dns {
    address: SocketAddr,
    zone: Arc<Zone>,
    _server: Arc<Mutex<Server<Handler>>>,
}

struct Zone {
    /// By owner: lower case, without the dot at its end.
    records: Mutex<BTreeMap<String, Vec<RData>>>,
    /// A folder for each owner, with a file for each value of its TXT records.
    folder: TempDir,
    /// So many questions are answered SERVFAIL before the next good answer.
    failing: AtomicUsize,
    questions: Mutex<Vec<Question>>,
}

struct Handler(Arc<Zone>);

impl Dns {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub async fn start() -> Result<Self> {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await?;
            // The same number may be taken for UDP.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?).await {
                break (tcp, udp);
            }
        };
        Self::over(tcp, udp)
    }

    /// Listens on this port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If it cannot listen there.
    pub async fn start_on(port: u16) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self::over(TcpListener::bind(address).await?, UdpSocket::bind(address).await?)
    }

    fn over(tcp: TcpListener, udp: UdpSocket) -> Result<Self> {
        let address = tcp.local_addr()?;
        let zone = Arc::new(Zone {
            records: Mutex::default(),
            folder: tempfile::tempdir()?,
            failing: AtomicUsize::new(0),
            questions: Mutex::default(),
        });
        let mut server = Server::new(Handler(Arc::clone(&zone)));
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_BUFFER);
        Ok(Self { address, zone, _server: Arc::new(Mutex::new(server)) })
    }

    /// Where it listens, over UDP and TCP.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where other programs put TXT records: an empty file `OWNER/VALUE` is one.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.zone.folder.path()
    }

    /// Adds a TXT record.
    pub fn txt(&self, owner: &str, value: &str) {
        self.put(owner, RData::TXT(TXT::new(vec![value.to_owned()])));
    }

    /// Adds a CNAME record.
    ///
    /// # Errors
    ///
    /// If the target is no DNS name.
    pub fn cname(&self, owner: &str, target: &str) -> Result<()> {
        self.put(owner, RData::CNAME(CNAME(name(target)?)));
        Ok(())
    }

    /// Adds an A or AAAA record.
    pub fn address_of(&self, owner: &str, address: IpAddr) {
        self.put(
            owner,
            match address {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            },
        );
    }

    /// Removes every record of an owner that a test put here.
    pub fn remove(&self, owner: &str) {
        lock(&self.zone.records).remove(owner);
    }

    /// Answers the next questions SERVFAIL.
    pub fn fail(&self, questions: usize) {
        self.zone.failing.store(questions, Ordering::SeqCst);
    }

    /// The questions for an owner, in the order in which they came.
    #[must_use]
    pub fn questions(&self, owner: &str) -> Vec<Question> {
        lock(&self.zone.questions).iter().filter(|question| question.name == owner).cloned().collect()
    }

    fn put(&self, owner: &str, data: RData) {
        lock(&self.zone.records).entry(owner.to_ascii_lowercase()).or_default().push(data);
    }
}

impl Zone {
    /// What answers a question: the CNAMEs on the way, then the records asked for.
    fn answer(&self, owner: &Name, kind: RecordType) -> (ResponseCode, Vec<Record>) {
        let records = lock(&self.records);
        let mut owner = owner.clone();
        let mut answers = Vec::new();
        for _ in 0..CNAMES_MAX {
            let text = text_of(&owner);
            let published = self.published(&text);
            let held = records.get(&text).into_iter().flatten().chain(&published);
            let alias = held.clone().find(|data| data.record_type() == RecordType::CNAME);
            if let (Some(RData::CNAME(target)), true) = (alias, kind != RecordType::CNAME) {
                answers.push(Record::from_rdata(owner, TTL_S, RData::CNAME(target.clone())));
                owner = target.0.clone();
                continue;
            }
            let exists = held.clone().next().is_some()
                || records.keys().any(|other| other.strip_suffix(&*text).is_some_and(|below| below.ends_with('.')));
            answers.extend(
                held.filter(|data| data.record_type() == kind)
                    .map(|data| Record::from_rdata(owner.clone(), TTL_S, data.clone())),
            );
            return (if exists { ResponseCode::NoError } else { ResponseCode::NXDomain }, answers);
        }
        (ResponseCode::ServFail, Vec::new())
    }

    /// The TXT records that lie in the folder.
    fn published(&self, owner: &str) -> Vec<RData> {
        let files = fs::read_dir(self.folder.path().join(owner)).into_iter().flatten().flatten();
        files.map(|file| RData::TXT(TXT::new(vec![file.file_name().to_string_lossy().into_owned()]))).collect()
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let info = |metadata| ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
        // One that asks nothing, or several things at once, gets no answer.
        let Ok(asked) = request.request_info() else { return info(metadata) };
        let (owner, kind) = (Name::from(asked.query.name()), asked.query.query_type());
        let (code, answers) = self.0.answer(&owner, kind);
        lock(&self.0.questions).push(Question {
            name: text_of(&owner),
            kind,
            over_tcp: request.protocol() == Protocol::Tcp,
            answers: answers.iter().filter(|record| record.record_type() == kind).count(),
        });
        let failing = self.0.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let mut builder = MessageResponseBuilder::from_message_request(request);
        // A client that takes larger answers over UDP says so, and is told the same.
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload());
            edns
        });
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let answers = if failing.is_ok() { &[][..] } else { &answers };
        metadata.response_code = if failing.is_ok() { ResponseCode::ServFail } else { code };
        let sent = response.send_response(builder.build(metadata, answers, [], [], [])).await;
        // A client that is gone is its own affair.
        sent.unwrap_or_else(|_| info(metadata))
    }
}

fn name(text: &str) -> Result<Name> {
    let mut name = Name::from_ascii(text)?;
    name.set_fqdn(true);
    Ok(name)
}

fn text_of(name: &Name) -> String {
    name.to_lowercase().to_ascii().trim_end_matches('.').to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
