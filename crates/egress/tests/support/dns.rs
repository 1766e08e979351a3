//! A DNS server whose every answer is chosen by the test: honest or hostile.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it stands")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "shared by test binaries that each use a part of it")]

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, TXT},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Lower case, without the trailing dot.
    pub name: String,
    pub kind: RecordType,
    pub transport: Transport,
    /// How many questions came before this one.
    pub index: usize,
}

pub enum Reply {
    Records(Vec<Record>),
    /// A response code, with records.
    Code(ResponseCode, Vec<Record>),
    /// Nothing but the truncation flag.
    Truncated,
    Silence,
    /// Octets after the two of the id.
    Raw(Vec<u8>),
    /// An answer to another question.
    OtherQuestion(&'static str, Vec<Record>),
}

pub struct FakeDns {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Question>>>,
}

impl FakeDns {
    pub async fn start(answer: impl Fn(&Question) -> Reply + Send + Sync + 'static) -> Self {
        let (tcp, udp, address) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = tcp.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address).await {
                break (tcp, udp, address);
            }
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let respond = {
            let seen = Arc::clone(&seen);
            move |request: &[u8], transport| respond(request, transport, &*answer, &seen)
        };
        let over_udp = respond.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                if let Some(reply) = over_udp(&buffer[..length], Transport::Udp) {
                    udp.send_to(&reply, from).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let respond = respond.clone();
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut request = vec![0; length.into()];
                        stream.read_exact(&mut request).await.unwrap();
                        if let Some(reply) = respond(&request, Transport::Tcp) {
                            stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
                            stream.write_all(&reply).await.unwrap();
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// One that has these records, and no others; CNAMEs are not followed for the client.
    pub async fn with(records: Vec<Record>) -> Self {
        Self::start(move |question| {
            let of_name: Vec<_> = records.iter().filter(|record| same(&record.name, &question.name)).cloned().collect();
            if of_name.is_empty() {
                return Reply::Code(ResponseCode::NXDomain, Vec::new());
            }
            let wanted =
                |record: &Record| record.record_type() == question.kind || record.record_type() == RecordType::CNAME;
            Reply::Records(of_name.into_iter().filter(wanted).collect())
        })
        .await
    }

    pub fn seen(&self) -> Vec<Question> {
        self.seen.lock().unwrap().clone()
    }
}

fn respond(
    request: &[u8],
    transport: Transport,
    answer: &dyn Fn(&Question) -> Reply,
    seen: &Mutex<Vec<Question>>,
) -> Option<Vec<u8>> {
    let request = Message::from_vec(request).unwrap();
    let query = request.queries[0].clone();
    let question = {
        let mut seen = seen.lock().unwrap();
        let name = query.name().to_lowercase().to_ascii().trim_end_matches('.').to_owned();
        let question = Question { name, kind: query.query_type(), transport, index: seen.len() };
        seen.push(question.clone());
        question
    };
    let mut response = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = true;
    response.metadata.recursion_available = true;
    response.add_query(query.clone());
    match answer(&question) {
        Reply::Silence => return None,
        Reply::Records(records) => _ = response.add_answers(records),
        Reply::Code(code, records) => {
            response.metadata.response_code = code;
            response.add_answers(records);
        }
        Reply::Truncated => response.metadata.truncation = true,
        Reply::Raw(octets) => return Some([&request.metadata.id.to_be_bytes()[..], &octets].concat()),
        Reply::OtherQuestion(name, records) => {
            response.queries[0].set_name(self::name(name));
            response.add_answers(records);
        }
    }
    Some(response.to_vec().unwrap())
}

fn same(name: &Name, text: &str) -> bool {
    name.to_lowercase().to_ascii().trim_end_matches('.') == text
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

pub fn address(owner: &str, ip: &str) -> Record {
    let data = match ip.parse().unwrap() {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(name(owner), 60, data)
}

pub fn cname(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
}

pub fn txt(owner: &str, strings: &[&str]) -> Record {
    let strings = strings.iter().map(|string| (*string).to_owned()).collect();
    Record::from_rdata(name(owner), 60, RData::TXT(TXT::new(strings)))
}
