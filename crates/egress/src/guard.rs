//! What may be dialled at all.
//!
//! Refused are the addresses by which a dialer is turned against its own side: loopback, this
//! network, link-local, cloud metadata, multicast, broadcast and reserved ones, in every notation
//! that reaches them. A zone opens one of these ranges only by naming it, or a part of it, in
//! `allow`. Private networks (RFC 1918, RFC 4193, RFC 6598) are open, since that is where a
//! company's hosts are; a zone closes what it likes by `deny`, which always wins. From a host at a
//! public address nobody is led into them, unless that host's zone names the range. The server's
//! own listeners are closed to everyone.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, PoisonError, RwLock},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::zone::Zone;

/// A kind of address that is refused unless a zone names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// This very host.
    Loopback,
    /// "This network", which many systems take for this host (RFC 1122 §3.2.1.3).
    Unspecified,
    /// The network segment, where routers and metadata services answer.
    LinkLocal,
    /// A cloud provider's metadata or host service, which hands out credentials.
    Metadata,
    /// Many hosts at once.
    Multicast,
    /// Every host of the segment, and what is reserved beside it.
    Reserved,
    /// An address that a translator or tunnel turns into another one which cannot be checked.
    Translated,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::Unspecified => "an unspecified address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a metadata service",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
            Self::Translated => "an address that is translated",
        })
    }
}

const fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(segments: [u16; 8], prefix: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = segments;
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix))
}

/// The special ranges (IANA's special-purpose registries, and what cloud providers document).
const SPECIAL: &[(IpNet, Special)] = &[
    (v4([0, 0, 0, 0], 8), Special::Unspecified),
    (v4([127, 0, 0, 0], 8), Special::Loopback),
    (v4([169, 254, 0, 0], 16), Special::LinkLocal),
    (v4([192, 0, 0, 0], 24), Special::Reserved),
    (v4([192, 88, 99, 0], 24), Special::Translated), // the 6to4 relays (RFC 7526)
    (v4([224, 0, 0, 0], 4), Special::Multicast),
    (v4([240, 0, 0, 0], 4), Special::Reserved),        // with 255.255.255.255
    (v4([169, 254, 169, 254], 32), Special::Metadata), // AWS, Azure, GCP, OpenStack, ...
    (v4([169, 254, 169, 253], 32), Special::Metadata), // AWS resolver
    (v4([169, 254, 170, 2], 32), Special::Metadata),   // AWS ECS credentials
    (v4([169, 254, 170, 23], 32), Special::Metadata),  // AWS EKS pod identity
    (v4([169, 254, 42, 42], 32), Special::Metadata),   // Scaleway
    (v4([100, 100, 100, 200], 32), Special::Metadata), // Alibaba
    (v4([192, 0, 0, 192], 32), Special::Metadata),     // Oracle
    (v4([168, 63, 129, 16], 32), Special::Metadata),   // Azure host
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Special::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Special::Loopback),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), Special::Translated), // RFC 8215: prefix length unknown
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), Special::Reserved),       // discard (RFC 6666)
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Special::LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Special::Reserved), // site-local, withdrawn (RFC 3879)
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Special::Multicast),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), Special::Metadata), // AWS
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), Special::Metadata), // GCP
    (v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), Special::Metadata), // Oracle
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), Special::Metadata), // Scaleway
];

/// Networks whose addresses mean something inside them alone.
const PRIVATE: &[IpNet] = &[
    v4([10, 0, 0, 0], 8),                 // RFC 1918 §3
    v4([172, 16, 0, 0], 12),              // RFC 1918 §3
    v4([192, 168, 0, 0], 16),             // RFC 1918 §3
    v4([100, 64, 0, 0], 10),              // RFC 6598 §7
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), // RFC 4193 §3.1
];

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is special and the zone does not name it.
    Special(Special),
    /// It hides an IPv4 address (6to4, NAT64, Teredo, ISATAP and the like) that is refused.
    Hides(Ipv4Addr),
    /// The zone denies it.
    Denied(IpNet),
    /// It is private, a host at a public address led here, and that host's zone does not name it.
    LedInside(IpNet),
    /// The zone permits only others.
    NotPermitted,
    /// We listen there ourselves, or a service of ours does.
    Own,
}

/// An address that is not dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The address.
    pub address: SocketAddr,
    /// The zone it was asked for in.
    pub zone: Box<str>,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, zone, why } = self;
        match why {
            Why::Special(kind) => write!(f, "{address} is {kind}, which zone {zone} does not allow"),
            Why::Hides(inner) => write!(f, "{address} stands for {inner}, which is not dialled in this form"),
            Why::Denied(network) => write!(f, "{address} lies in {network}, which zone {zone} denies"),
            Why::LedInside(network) => write!(
                f,
                "{address} lies in the private network {network}, into which nobody is led from a public address \
                 unless zone {zone} allows it"
            ),
            Why::NotPermitted => write!(f, "{address} lies outside what zone {zone} permits"),
            Why::Own => write!(f, "{address} is reserved for the server's own services"),
        }
    }
}

impl std::error::Error for Refused {}

/// Checks addresses before they are dialled.
#[derive(Debug, Default)]
pub struct Guard {
    own: RwLock<Arc<[SocketAddr]>>,
}

impl Guard {
    /// Names the sockets that nobody may be dialled at: our listeners, and those of our own
    /// database or cluster. A listener bound to the unspecified address stands for its port on
    /// every address of this host.
    pub fn set_own(&self, sockets: impl IntoIterator<Item = SocketAddr>) {
        let sockets = sockets.into_iter().map(canonical).collect();
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = sockets;
    }

    /// Checks one address for one zone.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why it is not dialled.
    pub fn check(&self, zone: &Zone, address: SocketAddr) -> Result<(), Refused> {
        let address = canonical(address);
        let why = self.why(zone, address);
        why.map_or(Ok(()), |why| Err(Refused { address, zone: zone.name.clone(), why }))
    }

    /// Checks one address to which a host of zone `origin`, itself reached at `first`, has led.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why it is not dialled.
    pub fn check_onward(&self, origin: &Zone, first: SocketAddr, address: SocketAddr) -> Result<(), Refused> {
        self.check(origin, address)?;
        let address = canonical(address);
        let why = if is_public(first.ip().to_canonical()) { led_inside(origin, address.ip()) } else { None };
        why.map_or(Ok(()), |why| Err(Refused { address, zone: origin.name.clone(), why }))
    }

    fn why(&self, zone: &Zone, address: SocketAddr) -> Option<Why> {
        let ip = address.ip();
        if self.is_own(address) {
            return Some(Why::Own);
        }
        if let Some(network) = zone.deny.iter().find(|network| network.contains(&ip)) {
            return Some(Why::Denied(*network));
        }
        for (range, kind) in special(ip) {
            let named = |entry: &IpNet| entry.contains(&ip) && range.contains(entry);
            if !zone.allow.iter().any(named) {
                return Some(Why::Special(kind));
            }
        }
        if let IpAddr::V6(outer) = ip {
            for inner in hidden(outer) {
                let inside = IpAddr::V4(inner);
                if special(inside).next().is_some() || self.is_own(SocketAddr::new(inside, address.port())) {
                    return Some(Why::Hides(inner));
                }
                if zone.deny.iter().any(|network| network.contains(&inside)) {
                    return Some(Why::Hides(inner));
                }
            }
        }
        let permitted = |network: &IpNet| network.contains(&ip);
        if !zone.only.is_empty() && !zone.only.iter().any(permitted) && !zone.allow.iter().any(permitted) {
            return Some(Why::NotPermitted);
        }
        None
    }

    fn is_own(&self, address: SocketAddr) -> bool {
        let own = Arc::clone(&self.own.read().unwrap_or_else(PoisonError::into_inner));
        own.iter().any(|socket| {
            *socket == address
                || (socket.port() == address.port() && socket.ip().is_unspecified() && is_local(address.ip()))
        })
    }
}

fn special(ip: IpAddr) -> impl Iterator<Item = (IpNet, Special)> {
    SPECIAL.iter().filter(move |(range, _)| range.contains(&ip)).copied()
}

fn private(ip: IpAddr) -> Option<IpNet> {
    PRIVATE.iter().find(|network| network.contains(&ip)).copied()
}

fn is_public(ip: IpAddr) -> bool {
    special(ip).next().is_none() && private(ip).is_none()
}

/// Why `ip` is inside, and may not be reached from outside.
fn led_inside(origin: &Zone, ip: IpAddr) -> Option<Why> {
    if let Some(network) = private(ip) {
        let named = |entry: &IpNet| entry.contains(&ip) && network.contains(entry);
        return (!origin.allow.iter().chain(&origin.only).any(named)).then_some(Why::LedInside(network));
    }
    let IpAddr::V6(outer) = ip else { return None };
    hidden(outer).find(|inner| private(IpAddr::V4(*inner)).is_some()).map(Why::Hides)
}

/// The IPv4 addresses that an IPv6 address stands for somewhere on its way.
fn hidden(outer: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = outer.segments();
    let of = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        Ipv4Addr::new(a, b, c, d)
    };
    // IPv4-compatible (RFC 4291 §2.5.5.1, withdrawn); `::` and `::1` are special by themselves.
    let compatible = ([a, b, c, d, e, f] == [0; 6] && (g, h) > (0, 1)).then(|| of(g, h));
    // IPv4-translated (RFC 2765 §2.1).
    let translated = ([a, b, c, d, e, f] == [0, 0, 0, 0, 0xffff, 0]).then(|| of(g, h));
    // NAT64 (RFC 6052 §2.1).
    let nat64 = ([a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0]).then(|| of(g, h));
    // 6to4 (RFC 3056 §2).
    let six_to_four = (a == 0x2002).then(|| of(b, c));
    // Teredo (RFC 4380 §4): server in the clear, client inverted.
    let teredo = ([a, b] == [0x2001, 0]).then(|| [of(c, d), of(!g, !h)]);
    // ISATAP (RFC 5214 §6.1), in any prefix.
    let isatap = (matches!(e, 0 | 0x0200) && f == 0x5efe).then(|| of(g, h));
    [compatible, translated, nat64, six_to_four, isatap].into_iter().flatten().chain(teredo.into_iter().flatten())
}

/// Whether `ip` is an address of this host: only such a one can be bound. Where that cannot be
/// found out, the answer is yes.
fn is_local(ip: IpAddr) -> bool {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::AddrNotAvailable,
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Host, ZoneSpec, ZoneTable};

    fn zone(only: &[&str], allow: &[&str], deny: &[&str]) -> ZoneTable {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let spec = ZoneSpec {
            name: "default".to_owned(),
            only: nets(only),
            allow: nets(allow),
            deny: nets(deny),
            ..ZoneSpec::default()
        };
        ZoneTable::new([spec]).unwrap()
    }

    fn is_open(table: &ZoneTable, ip: &str) -> bool {
        let address = SocketAddr::new(ip.parse().unwrap(), 80);
        Guard::default().check(table.zone_of(&Host::from(address.ip())), address).is_ok()
    }

    /// IPv4 addresses that must never be dialled unasked.
    const NEVER: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.0.0.53",
        "127.255.255.255",
        "169.254.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
    ];

    /// Every notation in which an IPv6 address stands for an IPv4 one.
    fn forms(ip: Ipv4Addr) -> Vec<String> {
        let [a, b, c, d] = ip.octets();
        let (high, low) = (format!("{a:02x}{b:02x}"), format!("{c:02x}{d:02x}"));
        let (not_high, not_low) = (format!("{:02x}{:02x}", !a, !b), format!("{:02x}{:02x}", !c, !d));
        vec![
            ip.to_string(),
            format!("::ffff:{ip}"),
            format!("::{high}:{low}"),
            format!("::ffff:0:{high}:{low}"),
            format!("64:ff9b::{high}:{low}"),
            format!("64:ff9b:1::{high}:{low}"),
            format!("2002:{high}:{low}::1"),
            format!("2001:0:{high}:{low}::1"),
            format!("2001:0:c000:201::{not_high}:{not_low}"),
            format!("fd12:3456::5efe:{high}:{low}"),
            format!("2001:db8::200:5efe:{high}:{low}"),
        ]
    }

    #[test]
    fn special_addresses_are_refused_in_every_form() {
        let table = zone(&[], &[], &[]);
        let mut checked = 0;
        for ip in NEVER {
            for form in forms(ip.parse().unwrap()) {
                assert!(!is_open(&table, &form), "{form}");
                checked += 1;
            }
        }
        for ip in [
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100::1",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
        ] {
            assert!(!is_open(&table, ip), "{ip}");
        }
        assert!(checked >= 150);
    }

    #[test]
    fn private_and_public_addresses_are_open() {
        let table = zone(&[], &[], &[]);
        for ip in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.2.1",
            "8.8.8.8",
            "fd00::1",
            "2001:db8::1",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2002:a00:1::1",
        ] {
            assert!(is_open(&table, ip), "{ip}");
        }
    }

    #[test]
    fn only_an_entry_within_a_special_range_opens_it() {
        assert!(!is_open(&zone(&[], &["0.0.0.0/0"], &[]), "127.0.0.1"));
        assert!(!is_open(&zone(&[], &["126.0.0.0/7"], &[]), "127.0.0.1"));
        assert!(is_open(&zone(&[], &["127.0.0.0/8"], &[]), "127.0.0.1"));
        assert!(is_open(&zone(&[], &["127.0.0.1/32"], &[]), "127.0.0.1"));
        assert!(is_open(&zone(&[], &["::ffff:127.0.0.1/128"], &[]), "127.0.0.1"));
        assert!(is_open(&zone(&[], &["127.0.0.0/8"], &[]), "::ffff:127.0.0.1"));
        assert!(!is_open(&zone(&[], &["127.0.0.1/32"], &[]), "127.0.0.2"));
        assert!(!is_open(&zone(&[], &["127.0.0.0/8"], &[]), "::1"));
        assert!(is_open(&zone(&[], &["::1/128"], &[]), "::1"));
        assert!(!is_open(&zone(&[], &["127.0.0.0/8"], &[]), "64:ff9b::127.0.0.1"));
        // Opening the link does not open the metadata service on it.
        assert!(is_open(&zone(&[], &["169.254.0.0/16"], &[]), "169.254.1.1"));
        assert!(!is_open(&zone(&[], &["169.254.0.0/16"], &[]), "169.254.169.254"));
        assert!(is_open(&zone(&[], &["169.254.169.254/32"], &[]), "169.254.169.254"));
        assert!(!is_open(&zone(&[], &["169.254.0.0/16"], &[]), "169.254.42.42"));
        // Nor does opening unique local addresses.
        assert!(!is_open(&zone(&[], &["fc00::/7"], &[]), "fd00:42::42"));
    }

    #[test]
    fn from_a_public_address_nobody_is_led_into_a_private_network_that_the_zone_does_not_name() {
        let led = |table: &ZoneTable, first: &str, ip: &str| {
            let zone = table.zone_of(&"a.example".parse().unwrap());
            let socket = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 80);
            Guard::default().check_onward(zone, socket(first), socket(ip)).map_err(|refused| refused.why)
        };
        let unnamed = zone(&[], &[], &[]);
        for ip in ["10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12:3456::1"] {
            for first in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"] {
                assert!(matches!(led(&unnamed, first, ip), Err(Why::LedInside(_))), "{first} {ip}");
            }
            for first in ["10.9.9.9", "fd00::9", "127.0.0.1"] {
                assert_eq!(led(&unnamed, first, ip), Ok(()), "{first} {ip}");
            }
        }
        for ip in ["::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::1", "2001:db8::5efe:a00:1"] {
            assert!(led(&unnamed, "192.0.2.1", ip).is_err(), "{ip}");
            assert_eq!(led(&unnamed, "10.9.9.9", ip), Ok(()), "{ip}");
        }
        for ip in ["192.0.2.9", "172.32.0.1", "2001:db8::9", "64:ff9b::192.0.2.9"] {
            assert_eq!(led(&unnamed, "192.0.2.1", ip), Ok(()), "{ip}");
        }
        for named in [zone(&[], &["10.0.0.0/8"], &[]), zone(&["192.0.2.0/24", "10.0.0.0/16"], &[], &[])] {
            assert_eq!(led(&named, "192.0.2.1", "10.0.0.1"), Ok(()));
            assert!(led(&named, "192.0.2.1", "192.168.0.1").is_err());
        }
        assert!(led(&zone(&[], &["0.0.0.0/0"], &[]), "192.0.2.1", "10.0.0.1").is_err(), "that names no network");
    }

    #[test]
    fn deny_wins_over_allow_and_only() {
        let table = zone(&["10.0.0.0/8"], &["10.1.0.0/16", "127.0.0.0/8"], &["10.1.2.0/24", "127.0.0.1/32"]);
        for ip in ["10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "::ffff:127.0.0.1", "11.0.0.1", "2001:db8::1"] {
            assert!(!is_open(&table, ip), "{ip}");
        }
        for ip in ["10.1.3.3", "10.2.0.1", "127.0.0.2"] {
            assert!(is_open(&table, ip), "{ip}");
        }
        for form in forms([10, 1, 2, 3].into()) {
            assert!(!is_open(&zone(&[], &[], &["::ffff:10.1.2.0/120"]), &form), "{form}");
        }
    }

    #[test]
    fn own_listeners_are_closed_whatever_a_zone_allows() {
        let table = zone(&[], &["127.0.0.0/8", "::1/128"], &[]);
        let zone = table.zone_of(&"a.example".parse().unwrap());
        let guard = Guard::default();
        let check = |address: &str| guard.check(zone, address.parse().unwrap()).map_err(|refused| refused.why);
        guard.set_own(["127.0.0.1:8443".parse().unwrap(), "0.0.0.0:9000".parse().unwrap()]);
        assert_eq!(check("127.0.0.1:8443"), Err(Why::Own));
        assert_eq!(check("[::ffff:127.0.0.1]:8443"), Err(Why::Own));
        assert_eq!(check("127.0.0.2:8443"), Ok(()));
        assert_eq!(check("127.0.0.1:80"), Ok(()));
        // Bound to every address of the host.
        assert_eq!(check("127.0.0.7:9000"), Err(Why::Own));
        assert_eq!(check("[::ffff:127.0.0.7]:9000"), Err(Why::Own));
        assert_eq!(check("192.0.2.1:9000"), Ok(()));
        guard.set_own([]);
        assert_eq!(check("127.0.0.1:8443"), Ok(()));
    }
}
