//! Resolve once, check, dial that address.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{
    counters::Counters,
    guard::{Guard, Refused},
    host::Host,
    resolve::{LookupError, Resolver},
    targets::{Place, Targets},
    zone::{Zone, ZoneTable},
};

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The dialer's limits.
#[derive(Debug, Clone, Copy)]
pub struct DialSettings {
    /// Most connections at a time.
    pub connections: usize,
    /// Most connections at a time to one target: an IPv4 address, an IPv6 /64.
    pub connections_per_target: usize,
    /// Most lookups at a time.
    pub lookups: usize,
    /// Longest a lookup takes.
    pub lookup_timeout: Duration,
    /// Longest one address is waited for before the next is tried.
    pub connect_timeout: Duration,
}

impl Default for DialSettings {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_target: 64,
            lookups: 1024,
            lookup_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The name could not be resolved.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Every address of the host is one that is not dialled; the first of them.
    #[error("{host} is not dialled: {refused}")]
    Refused {
        /// Whom we wanted.
        host: Host,
        /// The address and why.
        refused: Refused,
    },
    /// No address answered.
    #[error("{host} cannot be reached: {}", Attempts(.attempts))]
    Connect {
        /// Whom we wanted.
        host: Host,
        /// What was tried, and how each try ended.
        attempts: Vec<(SocketAddr, io::ErrorKind)>,
    },
    /// As many connections as are allowed are open already.
    #[error("too many connections are open already ({to})")]
    Busy {
        /// Whose: the target's address, or `all`.
        to: Box<str>,
    },
    /// The time was over before any address was tried.
    #[error("no time was left to reach {host}")]
    Timeout {
        /// Whom we wanted.
        host: Host,
    },
}

struct Attempts<'a>(&'a [(SocketAddr, io::ErrorKind)]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, kind)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{address}: {kind}")?;
        }
        Ok(())
    }
}

impl DialError {
    /// Whether trying again later may end otherwise.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Lookup(error) => error.is_transient(),
            Self::Refused { .. } => false,
            Self::Connect { .. } | Self::Busy { .. } | Self::Timeout { .. } => true,
        }
    }
}

/// What can change while the server runs.
#[derive(Debug)]
struct Configured {
    zones: ZoneTable,
    /// One for each zone, in the table's order.
    resolvers: Vec<Resolver>,
}

impl Configured {
    fn new(zones: ZoneTable) -> Arc<Self> {
        let resolvers = zones.zones().iter().map(|zone| Resolver::new(&zone.resolvers)).collect();
        Arc::new(Self { zones, resolvers })
    }

    fn resolver(&self, zone: &Arc<Zone>) -> Option<&Resolver> {
        let position = self.zones.zones().iter().position(|known| Arc::ptr_eq(known, zone))?;
        self.resolvers.get(position)
    }
}

/// Who leads elsewhere, and where it was reached itself.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The host that was dialled first.
    pub host: &'a Host,
    /// The address that it was reached at.
    pub peer: SocketAddr,
}

/// The one way out.
#[derive(Debug, Clone)]
pub struct Dialer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    configured: RwLock<Arc<Configured>>,
    guard: Guard,
    settings: DialSettings,
    lookups: Semaphore,
    connections: Arc<Semaphore>,
    targets: Arc<Targets>,
    counters: Counters,
}

impl Dialer {
    /// A dialer over these zones.
    #[must_use]
    pub fn new(zones: ZoneTable, settings: DialSettings) -> Self {
        Self(Arc::new(Inner {
            configured: RwLock::new(Configured::new(zones)),
            guard: Guard::default(),
            settings,
            lookups: Semaphore::new(settings.lookups.min(Semaphore::MAX_PERMITS)),
            connections: Arc::new(Semaphore::new(settings.connections.min(Semaphore::MAX_PERMITS))),
            targets: Targets::new(settings.connections_per_target),
            counters: Counters::default(),
        }))
    }

    /// Takes other zones from now on.
    pub fn set_zones(&self, zones: ZoneTable) {
        let configured = Configured::new(zones);
        *self.0.configured.write().unwrap_or_else(PoisonError::into_inner) = configured;
    }

    /// The guard, to be told of our own listeners.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.0.guard
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// The zone that a host belongs to.
    #[must_use]
    pub fn zone_of(&self, host: &Host) -> Arc<Zone> {
        Arc::clone(self.configured().zones.zone_of(host))
    }

    /// Connects to `host`: IPv6 addresses first, then IPv4, each once.
    ///
    /// # Errors
    ///
    /// [`DialError`]; what is transient may be tried again.
    pub async fn dial(&self, host: &Host, port: u16, deadline: Instant) -> Result<Connection, DialError> {
        self.dial_counted(host, None, port, deadline).await
    }

    /// Connects to `host`, to which `origin` has led us (a redirect): what the zone of `origin`
    /// refuses is refused here too, so that nobody is led into a zone that opens more, and neither
    /// into a private network if `origin` was reached at a public address.
    ///
    /// # Errors
    ///
    /// [`DialError`]; what is transient may be tried again.
    pub async fn dial_onward(
        &self,
        origin: Origin<'_>,
        host: &Host,
        port: u16,
        deadline: Instant,
    ) -> Result<Connection, DialError> {
        self.dial_counted(host, Some(origin), port, deadline).await
    }

    /// Whether the addresses that are known without asking (an address, a fixed host) could be
    /// dialled; what has to be looked up first could.
    ///
    /// # Errors
    ///
    /// [`Refused`], if every one of them is.
    pub fn may_dial(&self, host: &Host, port: u16) -> Result<(), Refused> {
        let zone = self.zone_of(host);
        let known = match host {
            Host::Ip(address) => std::slice::from_ref(address),
            Host::Name(name) => zone.fixed_addresses(name).unwrap_or_default(),
        };
        let mut first_refused = None;
        for address in known {
            match self.0.guard.check(&zone, SocketAddr::new(*address, port)) {
                Ok(()) => return Ok(()),
                Err(refused) => _ = first_refused.get_or_insert(refused),
            }
        }
        first_refused.map_or(Ok(()), Err)
    }

    async fn dial_counted(
        &self,
        host: &Host,
        origin: Option<Origin<'_>>,
        port: u16,
        deadline: Instant,
    ) -> Result<Connection, DialError> {
        let outcome = self.dial_uncounted(host, origin, port, deadline).await;
        let counters = &self.0.counters;
        match &outcome {
            Ok(_) => counters.connected.increment(),
            Err(DialError::Busy { .. }) => counters.busy.increment(),
            Err(_) => counters.failed.increment(),
        }
        outcome
    }

    async fn dial_uncounted(
        &self,
        host: &Host,
        origin: Option<Origin<'_>>,
        port: u16,
        deadline: Instant,
    ) -> Result<Connection, DialError> {
        let inner = &*self.0;
        let configured = self.configured();
        let zone = configured.zones.zone_of(host);
        let origin = origin.map(|Origin { host, peer }| (configured.zones.zone_of(host), peer));
        let addresses = match host {
            Host::Ip(address) => vec![*address],
            Host::Name(name) => self.addresses(&configured, zone, name, deadline).await?,
        };
        let mut first_refused = None;
        let mut targets = Vec::with_capacity(addresses.len().min(ADDRESSES_MAX));
        for address in addresses {
            let target = SocketAddr::new(address.to_canonical(), port);
            let checked = inner.guard.check(zone, target);
            let led = || origin.map_or(Ok(()), |(zone, first)| inner.guard.check_onward(zone, first, target));
            match checked.and_then(|()| led()) {
                Ok(()) if targets.len() < ADDRESSES_MAX => targets.push(target),
                Ok(()) => {}
                Err(refused) => {
                    inner.counters.refused.increment();
                    tracing::warn!(dial.host = %host, dial.refused = %refused, "an address is not dialled");
                    first_refused.get_or_insert(refused);
                }
            }
        }
        if let (true, Some(refused)) = (targets.is_empty(), first_refused) {
            return Err(DialError::Refused { host: host.clone(), refused });
        }
        let mut attempts = Vec::new();
        let mut full = None;
        let count = targets.len();
        for (index, target) in targets.into_iter().enumerate() {
            let Some(place) = inner.targets.enter(target.ip()) else {
                full = Some(DialError::Busy { to: target.ip().to_string().into() });
                continue;
            };
            let permit = timeout_at(deadline, Arc::clone(&inner.connections).acquire_owned());
            let Ok(Ok(permit)) = permit.await else {
                return Err(DialError::Busy { to: "all".into() });
            };
            // What is left is shared among the addresses that are left.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(count.saturating_sub(index)).unwrap_or(1).max(1);
            let until = Instant::now() + share.min(inner.settings.connect_timeout);
            match timeout_at(until, TcpStream::connect(target)).await {
                Ok(Ok(stream)) => {
                    // A request and a handshake are single small writes.
                    let _unimportant = stream.set_nodelay(true);
                    return Ok(Connection { stream, peer: target, _place: place, _permit: permit });
                }
                Ok(Err(error)) => attempts.push((target, error.kind())),
                Err(_) => attempts.push((target, io::ErrorKind::TimedOut)),
            }
        }
        if attempts.is_empty() {
            return Err(full.unwrap_or_else(|| DialError::Timeout { host: host.clone() }));
        }
        Err(DialError::Connect { host: host.clone(), attempts })
    }

    /// All values of the TXT records at `name`, CNAMEs followed, strings joined.
    ///
    /// # Errors
    ///
    /// [`LookupError`]; no such name and no such record are told apart from a resolver's failure.
    pub async fn txt(&self, name: &str, deadline: Instant) -> Result<Vec<Vec<u8>>, LookupError> {
        let configured = self.configured();
        let host = Host::Name(name.to_ascii_lowercase().into());
        let zone = configured.zones.zone_of(&host);
        let failed = |failure| LookupError { name: name.into(), what: "TXT", failure };
        self.look_up(deadline, failed, async |deadline| match configured.resolver(zone) {
            Some(resolver) => resolver.txt(name, deadline).await,
            None => Err(failed(crate::LookupFailure::Unreachable)),
        })
        .await
    }

    async fn addresses(
        &self,
        configured: &Configured,
        zone: &Arc<Zone>,
        name: &str,
        deadline: Instant,
    ) -> Result<Vec<IpAddr>, LookupError> {
        if let Some(addresses) = zone.fixed_addresses(name) {
            let (v6, v4): (Vec<IpAddr>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv6());
            return Ok(v6.into_iter().chain(v4).collect());
        }
        let failed = |failure| LookupError { name: name.into(), what: "A or AAAA", failure };
        self.look_up(deadline, failed, async |deadline| match configured.resolver(zone) {
            Some(resolver) => resolver.addresses(name, deadline).await,
            None => Err(failed(crate::LookupFailure::Unreachable)),
        })
        .await
    }

    /// One lookup within its own time and the limit of all lookups, counted.
    async fn look_up<T>(
        &self,
        deadline: Instant,
        failed: impl Fn(crate::LookupFailure) -> LookupError,
        ask: impl AsyncFnOnce(Instant) -> Result<T, LookupError>,
    ) -> Result<T, LookupError> {
        let counters = &self.0.counters;
        counters.lookups.increment();
        let deadline = deadline.min(Instant::now() + self.0.settings.lookup_timeout);
        let outcome = match timeout_at(deadline, self.0.lookups.acquire()).await {
            Ok(Ok(_permit)) => ask(deadline).await,
            Ok(Err(_)) | Err(_) => Err(failed(crate::LookupFailure::Timeout)),
        };
        if outcome.as_ref().is_err_and(LookupError::is_transient) {
            counters.lookups_failed.increment();
        }
        outcome
    }

    fn configured(&self) -> Arc<Configured> {
        Arc::clone(&self.0.configured.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection to an address that was checked. It holds its place among the connections until it
/// is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    _place: Place,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// The address that was dialled.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dialling_can_be_spawned() {
        fn spawnable<T: Send + 'static>(_: T) {}
        let dialer = Dialer::new(ZoneTable::new([]).unwrap(), DialSettings::default());
        spawnable(async move {
            let host = Host::Name("a.example".into());
            let _unawaited = (dialer.dial(&host, 80, Instant::now()).await, dialer.txt("a", Instant::now()).await);
        });
    }
}
