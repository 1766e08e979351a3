//! How many connections one target may hold at a time, so that a slow one cannot hold them all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Connections by target. Only targets that hold one are remembered.
#[derive(Debug)]
pub(crate) struct Targets {
    most: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

impl Targets {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), held: Mutex::default() })
    }

    /// Takes a place at `ip`'s target, if one is free.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let target = target(ip);
        let mut held = self.lock();
        let count = held.entry(target).or_default();
        if *count >= self.most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Place { targets: Arc::clone(self), target })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one target: an IPv4 address, or an IPv6 network of 64 bits, whose owner has all
/// of its addresses.
fn target(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::into(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// A place at a target, free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    targets: Arc<Targets>,
    target: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.targets.lock();
        if let Some(count) = held.get_mut(&self.target) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&self.target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_target_turns_away_and_is_forgotten_when_empty() {
        let targets = Targets::new(2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = targets.enter(ip("192.0.2.1")).unwrap();
        let _second = targets.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert!(targets.enter(ip("192.0.2.1")).is_none());
        assert!(targets.enter(ip("192.0.2.2")).is_some());
        drop(first);
        assert!(targets.enter(ip("192.0.2.1")).is_some());
        let _v6 = [targets.enter(ip("2001:db8::1")).unwrap(), targets.enter(ip("2001:db8::2")).unwrap()];
        assert!(targets.enter(ip("2001:db8::3")).is_none());
        assert_eq!(targets.lock().len(), 2);
    }
}
