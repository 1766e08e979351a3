//! Looking names up: one resolver for each zone, no cache, no search list, no hosts file.
//!
//! UDP with a random port, a random id and random case, TCP where an answer was cut short. CNAMEs
//! are followed a bounded number of times. Nothing is cached, here at least, so what is checked
//! is what is dialled, and a client that has just published a record is not told of its absence.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, Record, RecordType},
};
use hickory_resolver::{
    Resolver as Stub, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
};
use tokio::time::{Instant, timeout_at};

/// How long one question waits for one server.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a question is asked again after a time-out or server failure.
const RETRIES: usize = 1;
/// Most CNAMEs followed.
const CNAMES_MAX: usize = 16;
/// Most of the system's servers that are asked (resolv.conf(5), MAXNS).
const SYSTEM_SERVERS_MAX: usize = 3;

/// A lookup without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupError {
    /// The name that was asked for.
    pub name: Box<str>,
    /// What was asked for: `A or AAAA`, `TXT`.
    pub what: &'static str,
    /// Why there is no answer.
    pub failure: LookupFailure,
}

/// Why a lookup has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupFailure {
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The name exists, but has no such record.
    NoRecords,
    /// CNAMEs go in a circle or on too long.
    TooManyCnames,
    /// The text is no DNS name.
    NotAName,
    /// The server failed or refused; its response code (RFC 1035 §4.1.1, RFC 6895).
    Server(u16),
    /// No server could be reached.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// An answer that makes no sense.
    Garbled,
}

impl LookupError {
    /// Whether asking again later may give another answer.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self.failure {
            LookupFailure::NoSuchName
            | LookupFailure::NoRecords
            | LookupFailure::TooManyCnames
            | LookupFailure::NotAName => false,
            LookupFailure::Server(_) | LookupFailure::Unreachable | LookupFailure::Timeout | LookupFailure::Garbled => {
                true
            }
        }
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, what, failure } = self;
        match failure {
            LookupFailure::NoSuchName => write!(f, "{name} does not exist in DNS (NXDOMAIN)"),
            LookupFailure::NoRecords => write!(f, "{name} has no {what} records in DNS"),
            LookupFailure::TooManyCnames => write!(f, "{name} leads through too many CNAMEs, or in a circle"),
            LookupFailure::NotAName => write!(f, "{name} is no DNS name"),
            LookupFailure::Server(code) => {
                let code = ResponseCode::from(0, u8::try_from(*code).unwrap_or(u8::MAX));
                write!(f, "the DNS server could not say whether {name} has {what} records ({code})")
            }
            LookupFailure::Unreachable => write!(f, "no DNS server could be reached for {name} ({what})"),
            LookupFailure::Timeout => write!(f, "no DNS server answered in time for {name} ({what})"),
            LookupFailure::Garbled => write!(f, "the DNS server's answer for {name} ({what}) makes no sense"),
        }
    }
}

impl std::error::Error for LookupError {}

/// Asks one zone's servers.
#[derive(Debug)]
pub(crate) struct Resolver(Option<TokioResolver>);

impl Resolver {
    /// Asks `servers`, or the system's where there are none.
    pub(crate) fn new(servers: &[SocketAddr]) -> Self {
        let system;
        let servers = if servers.is_empty() {
            system = system_servers();
            &system
        } else {
            servers
        };
        let servers = servers.iter().map(|server| {
            let at = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = Stub::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = SERVER_TIMEOUT;
        options.attempts = RETRIES;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.num_concurrent_reqs = 1;
        options.case_randomization = true;
        options.preserve_intermediates = true;
        // It fails for TLS settings alone, and there are none.
        Self(builder.build().ok())
    }

    /// The addresses of `name`, IPv6 first.
    pub(crate) async fn addresses(&self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, LookupError> {
        let (v6, v4) = tokio::join!(
            self.records(name, RecordType::AAAA, deadline, v6),
            self.records(name, RecordType::A, deadline, v4),
        );
        let failure = match (v6, v4) {
            (Ok(v6), Ok(v4)) => return Ok(v6.into_iter().chain(v4).collect()),
            (Ok(addresses), Err(_)) | (Err(_), Ok(addresses)) => return Ok(addresses),
            // What speaks for the whole name comes first, then what may pass.
            (Err(first), Err(second)) => match (first, second) {
                (LookupFailure::NoSuchName, _) | (_, LookupFailure::NoSuchName) => LookupFailure::NoSuchName,
                (LookupFailure::NoRecords, other) | (other, _) => other,
            },
        };
        Err(LookupError { name: name.into(), what: "A or AAAA", failure })
    }

    /// The values of `name`'s TXT records, the strings of each joined (RFC 7208 §3.3's way, which
    /// RFC 8555 §8.4 needs for long values).
    pub(crate) async fn txt(&self, name: &str, deadline: Instant) -> Result<Vec<Vec<u8>>, LookupError> {
        self.records(name, RecordType::TXT, deadline, txt).await.map_err(|failure| LookupError {
            name: name.into(),
            what: "TXT",
            failure,
        })
    }

    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        deadline: Instant,
        take: impl Fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, LookupFailure> {
        let mut name = Name::from_ascii(name).map_err(|_| LookupFailure::NotAName)?;
        name.set_fqdn(true);
        let stub = self.0.as_ref().ok_or(LookupFailure::Unreachable)?;
        let lookup = timeout_at(deadline, Box::pin(stub.lookup(name.clone(), kind)));
        let lookup = lookup.await.map_err(|_| LookupFailure::Timeout)?.map_err(|error| failure(&error))?;
        answers_to(lookup.answers(), &name, take)
    }
}

pub(crate) fn v6(data: &RData) -> Option<IpAddr> {
    match data {
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

pub(crate) fn v4(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    }
}

/// A TXT record's strings, joined.
pub(crate) fn txt(data: &RData) -> Option<Vec<u8>> {
    match data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    }
}

/// What `answers` say about `name`: `take` picks the data that is wanted.
pub(crate) fn answers_to<T>(
    answers: &[Record],
    name: &Name,
    take: impl Fn(&RData) -> Option<T>,
) -> Result<Vec<T>, LookupFailure> {
    let owner = canonical_name(answers, name)?;
    let found: Vec<T> =
        answers.iter().filter(|record| record.name == *owner).filter_map(|record| take(&record.data)).collect();
    if found.is_empty() { Err(LookupFailure::NoRecords) } else { Ok(found) }
}

/// Where the CNAMEs among `answers` lead from `name`. Records of other owners are not ours.
fn canonical_name<'a>(answers: &'a [Record], name: &'a Name) -> Result<&'a Name, LookupFailure> {
    let mut owner = name;
    for _ in 0..=CNAMES_MAX {
        let next = answers.iter().filter(|record| record.name == *owner).find_map(|record| match &record.data {
            RData::CNAME(target) => Some(&target.0),
            _ => None,
        });
        match next {
            Some(target) => owner = target,
            None => return Ok(owner),
        }
    }
    Err(LookupFailure::TooManyCnames)
}

fn failure(error: &NetError) -> LookupFailure {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => match *response_code {
            ResponseCode::NXDomain => LookupFailure::NoSuchName,
            ResponseCode::NoError => LookupFailure::NoRecords,
            code => LookupFailure::Server(code.into()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => LookupFailure::Server((*code).into()),
        NetError::Timeout => LookupFailure::Timeout,
        NetError::Busy | NetError::NoConnections | NetError::Io(_) => LookupFailure::Unreachable,
        _ => LookupFailure::Garbled,
    }
}

/// The servers of /etc/resolv.conf; this host where it names none, as resolv.conf(5) says.
fn system_servers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = parse_resolv_conf(&text);
    if servers.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 53))] } else { servers }
}

fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let server = (words.next() == Some("nameserver")).then(|| words.next())??;
        server.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 53))
    });
    servers.take(SYSTEM_SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_gives_its_first_three_servers_and_nothing_else() {
        let text = "# nameserver 1.1.1.1\nsearch corp.example\n nameserver 10.0.0.53 # dc\nnameserver fd00::53\n\
                    nameserver nonsense\nnameserver 10.0.0.54\nnameserver 10.0.0.55\noptions ndots:5\n";
        let expected = ["10.0.0.53:53", "[fd00::53]:53", "10.0.0.54:53"].map(|server| server.parse().unwrap());
        assert_eq!(parse_resolv_conf(text), expected);
        assert_eq!(parse_resolv_conf(""), []);
    }
}
