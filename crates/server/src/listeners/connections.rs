//! How many connections there are, in all and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The part of the connections there may be that is told beside them that there are too many.
const TURNED_AWAY: usize = 8;

/// The open connections of a listener.
#[derive(Debug)]
pub(crate) struct Connections {
    served: Most,
    turned_away: Most,
    open: Mutex<Open>,
    accepted: AtomicU64,
    told: AtomicU64,
    refused: AtomicU64,
    failed_handshakes: AtomicU64,
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
struct Most {
    in_all: usize,
    per_address: usize,
}

#[derive(Debug, Default)]
struct Open {
    served: Held,
    turned_away: Held,
}

/// How many there are.
#[derive(Debug, Default)]
struct Held {
    in_all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that is counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Counted {
    connections: Arc<Connections>,
    address: IpAddr,
    turned_away: bool,
}

impl Connections {
    /// None open, and never more served than these. An eighth more are told that there are too many.
    pub(crate) fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        let part = |most: usize| (most / TURNED_AWAY).max(1);
        Arc::new(Self {
            served: Most { in_all: most, per_address: most_per_address },
            turned_away: Most { in_all: part(most), per_address: part(most_per_address) },
            open: Mutex::default(),
            accepted: AtomicU64::new(0),
            told: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed_handshakes: AtomicU64::new(0),
        })
    }

    /// Counts a connection from `address`, as one to be turned away where there are too many; `None` if even of
    /// those there are too many.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let address = host(address);
        let mut open = self.open();
        let counted = |turned_away| Counted { connections: Arc::clone(self), address, turned_away };
        if open.served.enter(address, self.served) {
            self.accepted.fetch_add(1, Ordering::Relaxed);
            return Some(counted(false));
        }
        if open.turned_away.enter(address, self.turned_away) {
            self.told.fetch_add(1, Ordering::Relaxed);
            return Some(counted(true));
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// How many are open.
    pub(crate) fn count(&self) -> u64 {
        let open = self.open();
        u64::try_from(open.served.in_all + open.turned_away.in_all).unwrap_or(u64::MAX)
    }

    /// How many were served, ever.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many were told that there are too many, ever.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// How many were closed at once, ever.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many TLS handshakes failed, ever.
    pub(crate) fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes.load(Ordering::Relaxed)
    }

    pub(super) fn handshake_failed(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Counts one more, unless that would be too many.
    fn enter(&mut self, address: IpAddr, most: Most) -> bool {
        let here = self.by_address.get(&address).copied().unwrap_or(0);
        if self.in_all >= most.in_all || here >= most.per_address {
            return false;
        }
        self.in_all += 1;
        self.by_address.insert(address, here + 1);
        true
    }

    fn leave(&mut self, address: IpAddr) {
        self.in_all = self.in_all.saturating_sub(1);
        if let Some(here) = self.by_address.get_mut(&address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Counted {
    /// Whether it is one too many: to be told so, and closed.
    pub(super) const fn is_turned_away(&self) -> bool {
        self.turned_away
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        let held = if self.turned_away { &mut open.turned_away } else { &mut open.served };
        held.leave(self.address);
    }
}

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 host has to itself.
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_all_connections_and_all_addresses_cannot_take_more_than_there_are() {
        let connections = Connections::new(3, 2);
        let served = |text| connections.enter(ip(text)).filter(|counted| !counted.is_turned_away());
        let first = served("192.0.2.1").unwrap();
        let _second = served("::ffff:192.0.2.1").unwrap();
        assert!(served("192.0.2.1").is_none());
        let _third = served("2001:db8::1").unwrap();
        assert!(served("192.0.2.9").is_none());
        drop(first);
        assert_eq!(connections.count(), 2);
        let _other = served("2001:db8::ffff").unwrap();
        assert!(served("2001:db8::2").is_none(), "the same /64");
        assert_eq!(connections.accepted(), 4);
    }

    #[test]
    fn an_eighth_more_are_turned_away_with_words_and_those_beyond_without() {
        let connections = Connections::new(16, 8);
        let held: Vec<_> = (0..8).map(|_| connections.enter(ip("192.0.2.1"))).collect();
        let told = connections.enter(ip("192.0.2.1"));
        assert!(told.as_ref().is_some_and(Counted::is_turned_away));
        assert!(connections.enter(ip("192.0.2.1")).is_none(), "one address has its own eighth");
        assert!(!connections.enter(ip("192.0.2.2")).unwrap().is_turned_away(), "and nobody else notices");
        drop(told);
        assert!(connections.enter(ip("192.0.2.1")).unwrap().is_turned_away());
        drop(held);
        assert!(!connections.enter(ip("192.0.2.1")).unwrap().is_turned_away());
        assert_eq!((connections.count(), connections.told(), connections.refused()), (0, 2, 1));
    }
}
