//! Zones: what holds for which part of the network.
//!
//! A zone is found by the longest matching domain suffix of a name, or the longest matching
//! network of an address; what belongs to no other zone belongs to the default zone.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net};

use crate::host::{Host, HostRejection};

/// The name of the zone that everything else belongs to.
const DEFAULT: &str = "default";

/// A zone as configured, unchecked.
#[derive(Debug, Clone, Default)]
pub struct ZoneSpec {
    /// Its name. The one named `default` has no domains and networks of its own.
    pub name: String,
    /// The domains it holds, each with everything below.
    pub domains: Vec<String>,
    /// The networks it holds, for hosts that are addresses.
    pub networks: Vec<IpNet>,
    /// Where this is not empty, only these may be dialled (and what `allow` names).
    pub only: Vec<IpNet>,
    /// Ranges that are refused elsewhere (loopback, link-local, metadata and the like). An entry
    /// opens such a range only if it lies within it: `0.0.0.0/0` does not open `127.0.0.0/8`.
    pub allow: Vec<IpNet>,
    /// Never dialled, whatever the other lists say.
    pub deny: Vec<IpNet>,
    /// DNS servers to ask; where there are none, the system's.
    pub resolvers: Vec<SocketAddr>,
    /// Addresses of hosts that are not asked for in DNS: a name, `*.suffix` (one label more) or
    /// `**.suffix` (one or more).
    pub fixed_hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Ports to dial.
    pub ports: Ports,
}

/// The ports that stand for the well-known ones. Other values are for development: what answers
/// on any other port says nothing about who owns a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// For http, first hop and redirects.
    pub http: u16,
    /// For https in redirects.
    pub https: u16,
    /// For tls-alpn-01.
    pub tls_alpn: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: 80, https: 443, tls_alpn: 443 }
    }
}

/// Why zones are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneRejection {
    /// Two zones with one name.
    #[error("two zones are named {name}")]
    NameTwice {
        /// The name.
        name: String,
    },
    /// Two zones with one domain.
    #[error("zones {zone} and {other} both hold the domain {domain}")]
    DomainTwice {
        /// The later zone.
        zone: String,
        /// The earlier one.
        other: String,
        /// The domain.
        domain: String,
    },
    /// Two zones with one network.
    #[error("zones {zone} and {other} both hold the network {network}")]
    NetworkTwice {
        /// The later zone.
        zone: String,
        /// The earlier one.
        other: String,
        /// The network.
        network: IpNet,
    },
    /// A zone that nothing can belong to.
    #[error("zone {zone} holds neither domains nor networks, so nothing belongs to it")]
    Empty {
        /// The zone.
        zone: String,
    },
    /// The default zone with domains or networks.
    #[error("the zone named default holds what no other zone holds; it has no domains or networks of its own")]
    DefaultBounded,
    /// A domain that is no domain.
    #[error("zone {zone}: {text} is no domain: {why}")]
    Domain {
        /// The zone.
        zone: String,
        /// What was written.
        text: String,
        /// What is wrong.
        why: HostRejection,
    },
    /// A fixed host that is no host name, `*.suffix` or `**.suffix`.
    #[error("zone {zone}: fixed host {text} is no name, *.suffix or **.suffix: {why}")]
    FixedHost {
        /// The zone.
        zone: String,
        /// What was written.
        text: String,
        /// What is wrong.
        why: HostRejection,
    },
    /// A fixed host outside the zone's domains: it would never be looked at.
    #[error("zone {zone}: fixed host {text} lies outside the zone's domains")]
    FixedHostOutside {
        /// The zone.
        zone: String,
        /// What was written.
        text: String,
    },
    /// A fixed host without addresses.
    #[error("zone {zone}: fixed host {text} has no addresses")]
    FixedHostEmpty {
        /// The zone.
        zone: String,
        /// What was written.
        text: String,
    },
    /// Port 0.
    #[error("zone {zone}: port 0 cannot be dialled")]
    PortZero {
        /// The zone.
        zone: String,
    },
}

/// A checked zone.
#[derive(Debug)]
pub struct Zone {
    pub(crate) name: Box<str>,
    domains: Vec<Box<str>>,
    networks: Vec<IpNet>,
    pub(crate) only: Vec<IpNet>,
    pub(crate) allow: Vec<IpNet>,
    pub(crate) deny: Vec<IpNet>,
    pub(crate) resolvers: Vec<SocketAddr>,
    fixed: HashMap<Box<str>, Vec<IpAddr>>,
    /// By suffix: addresses for exactly one label more.
    fixed_one: HashMap<Box<str>, Vec<IpAddr>>,
    /// By suffix: addresses for one or more labels more.
    fixed_any: HashMap<Box<str>, Vec<IpAddr>>,
    ports: Ports,
}

impl Zone {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its ports.
    #[must_use]
    pub const fn ports(&self) -> Ports {
        self.ports
    }

    /// The addresses that configuration gives `name`: an exact entry first, else the longest suffix.
    #[must_use]
    pub fn fixed_addresses(&self, name: &str) -> Option<&[IpAddr]> {
        if let Some(addresses) = self.fixed.get(name) {
            return Some(addresses);
        }
        let mut parents = parents(name);
        let parent = parents.next()?;
        if let Some(addresses) = self.fixed_one.get(parent).or_else(|| self.fixed_any.get(parent)) {
            return Some(addresses);
        }
        parents.find_map(|suffix| self.fixed_any.get(suffix)).map(Vec::as_slice)
    }
}

/// All zones.
#[derive(Debug)]
pub struct ZoneTable {
    zones: Vec<Arc<Zone>>,
    default: Arc<Zone>,
    domains: HashMap<Box<str>, Arc<Zone>>,
    networks: Vec<(IpNet, Arc<Zone>)>,
}

impl ZoneTable {
    /// Checks zones. A default zone that is not among them is added.
    ///
    /// # Errors
    ///
    /// [`ZoneRejection`] names the zone and what is wrong with it.
    pub fn new(specs: impl IntoIterator<Item = ZoneSpec>) -> Result<Self, ZoneRejection> {
        let mut zones: Vec<Arc<Zone>> = Vec::new();
        let mut default = None;
        let mut by_domain: HashMap<Box<str>, Arc<Zone>> = HashMap::new();
        let mut by_network: Vec<(IpNet, Arc<Zone>)> = Vec::new();
        for spec in specs {
            let is_default = spec.name == DEFAULT;
            let zone = Arc::new(check(spec)?);
            let name = zone.name.to_string();
            if zones.iter().any(|other| other.name == zone.name) {
                return Err(ZoneRejection::NameTwice { name });
            }
            match (is_default, zone.domains.is_empty() && zone.networks.is_empty()) {
                (true, false) => return Err(ZoneRejection::DefaultBounded),
                (false, true) => return Err(ZoneRejection::Empty { zone: name }),
                (true, true) => default = Some(Arc::clone(&zone)),
                (false, false) => {}
            }
            for domain in &zone.domains {
                if let Some(other) = by_domain.insert(domain.clone(), Arc::clone(&zone)) {
                    return Err(ZoneRejection::DomainTwice {
                        zone: name,
                        other: other.name.to_string(),
                        domain: domain.to_string(),
                    });
                }
            }
            for &network in &zone.networks {
                if let Some((_, other)) = by_network.iter().find(|(held, _)| *held == network) {
                    return Err(ZoneRejection::NetworkTwice { zone: name, other: other.name.to_string(), network });
                }
                by_network.push((network, Arc::clone(&zone)));
            }
            zones.push(zone);
        }
        let default = match default {
            Some(default) => default,
            None => {
                let zone = Arc::new(check(ZoneSpec { name: DEFAULT.to_owned(), ..ZoneSpec::default() })?);
                zones.push(Arc::clone(&zone));
                zone
            }
        };
        by_network.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        Ok(Self { zones, default, domains: by_domain, networks: by_network })
    }

    /// The zone that a host belongs to.
    #[must_use]
    pub fn zone_of(&self, host: &Host) -> &Arc<Zone> {
        let found = match host {
            Host::Name(name) => {
                std::iter::once(&**name).chain(parents(name)).find_map(|suffix| self.domains.get(suffix))
            }
            Host::Ip(address) => {
                self.networks.iter().find(|(network, _)| network.contains(address)).map(|(_, zone)| zone)
            }
        };
        found.unwrap_or(&self.default)
    }

    /// All zones, the default one included.
    #[must_use]
    pub fn zones(&self) -> &[Arc<Zone>] {
        &self.zones
    }
}

/// What a name lies below, the nearest first.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(name.split_once('.').map(|(_, parent)| parent), |name| {
        name.split_once('.').map(|(_, parent)| parent)
    })
}

/// Checks one zone by itself.
fn check(spec: ZoneSpec) -> Result<Zone, ZoneRejection> {
    let ZoneSpec { name, domains, networks, only, allow, deny, resolvers, fixed_hosts, ports } = spec;
    let Ports { http, https, tls_alpn } = ports;
    if [http, https, tls_alpn].contains(&0) || resolvers.iter().any(|resolver| resolver.port() == 0) {
        return Err(ZoneRejection::PortZero { zone: name });
    }
    let domains = domains
        .into_iter()
        .map(|text| host_name(&text).map_err(|why| ZoneRejection::Domain { zone: name.clone(), text, why }))
        .collect::<Result<Vec<_>, _>>()?;
    let mut fixed = HashMap::new();
    let mut fixed_one = HashMap::new();
    let mut fixed_any = HashMap::new();
    for (text, addresses) in fixed_hosts {
        let (map, bare) = if let Some(suffix) = text.strip_prefix("**.") {
            (&mut fixed_any, suffix)
        } else if let Some(suffix) = text.strip_prefix("*.") {
            (&mut fixed_one, suffix)
        } else {
            (&mut fixed, &*text)
        };
        let bare = match host_name(bare) {
            Ok(bare) => bare,
            Err(why) => return Err(ZoneRejection::FixedHost { zone: name, text, why }),
        };
        let held =
            std::iter::once(&*bare).chain(parents(&bare)).any(|suffix| domains.iter().any(|held| **held == *suffix));
        if !held && name != DEFAULT {
            return Err(ZoneRejection::FixedHostOutside { zone: name, text });
        }
        if addresses.is_empty() {
            return Err(ZoneRejection::FixedHostEmpty { zone: name, text });
        }
        map.insert(bare, addresses.iter().map(IpAddr::to_canonical).collect());
    }
    let canonical = |networks: Vec<IpNet>| networks.into_iter().map(canonical_net).collect::<Vec<_>>();
    Ok(Zone {
        name: name.into(),
        domains,
        networks: canonical(networks),
        only: canonical(only),
        allow: canonical(allow),
        deny: canonical(deny),
        resolvers,
        fixed,
        fixed_one,
        fixed_any,
        ports,
    })
}

fn host_name(text: &str) -> Result<Box<str>, HostRejection> {
    match text.parse()? {
        Host::Name(name) => Ok(name),
        Host::Ip(_) => Err(HostRejection::Numeric),
    }
}

/// The network in IPv4 where it was written IPv4-mapped, without host bits.
fn canonical_net(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(v6) => v6
            .prefix_len()
            .checked_sub(96)
            .zip(Ipv6Addr::to_ipv4_mapped(&v6.addr()))
            .and_then(|(prefix, address)| Ipv4Net::new(address, prefix).ok()),
        IpNet::V4(_) => None,
    };
    mapped.map_or(network, IpNet::V4).trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, domains: &[&str], networks: &[&str]) -> ZoneSpec {
        ZoneSpec {
            name: name.to_owned(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            ..ZoneSpec::default()
        }
    }

    fn zone_name(table: &ZoneTable, host: &str) -> String {
        table.zone_of(&host.parse().unwrap()).name().to_owned()
    }

    #[test]
    fn the_longest_suffix_or_network_picks_the_zone_and_the_default_takes_the_rest() {
        let table = ZoneTable::new([
            spec("corp", &["corp.example"], &["10.0.0.0/8"]),
            spec("lab", &["lab.corp.example", "Test."], &["10.9.0.0/16", "fd00::/8"]),
        ])
        .unwrap();
        for (host, zone) in [
            ("corp.example", "corp"),
            ("a.b.corp.example", "corp"),
            ("lab.corp.example", "lab"),
            ("x.lab.corp.example", "lab"),
            ("notlab.corp.example", "corp"),
            ("notcorp.example", "default"),
            ("example", "default"),
            ("a.test", "lab"),
            ("10.1.2.3", "corp"),
            ("10.9.2.3", "lab"),
            ("::ffff:10.9.2.3", "lab"),
            ("fd00::1", "lab"),
            ("192.0.2.1", "default"),
        ] {
            assert_eq!(zone_name(&table, host), zone, "{host}");
        }
    }

    #[test]
    fn fixed_hosts_match_exactly_then_by_one_label_then_by_any() {
        let mut spec = spec("lab", &["lab.example"], &[]);
        for (name, address) in [
            ("a.lab.example", "192.0.2.1"),
            ("*.lab.example", "192.0.2.2"),
            ("**.lab.example", "192.0.2.3"),
            ("**.deep.lab.example", "192.0.2.4"),
        ] {
            spec.fixed_hosts.insert(name.to_owned(), vec![address.parse().unwrap()]);
        }
        let table = ZoneTable::new([spec]).unwrap();
        let zone = table.zone_of(&"lab.example".parse().unwrap());
        for (name, last) in [
            ("a.lab.example", Some(1)),
            ("b.lab.example", Some(2)),
            ("deep.lab.example", Some(2)),
            ("x.b.lab.example", Some(3)),
            ("x.a.lab.example", Some(3)),
            ("x.deep.lab.example", Some(4)),
            ("x.y.deep.lab.example", Some(4)),
            ("lab.example", None),
            ("other.example", None),
        ] {
            let expected = last.map(|last| vec![IpAddr::from([192, 0, 2, last])]);
            assert_eq!(zone.fixed_addresses(name).map(<[_]>::to_vec), expected, "{name}");
        }
    }

    #[test]
    fn zones_that_could_not_mean_what_they_say_are_refused() {
        use ZoneRejection as R;
        let fixed = |host: &str, addresses: &[&str]| {
            let mut spec = spec("z", &["z.example"], &[]);
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            spec.fixed_hosts.insert(host.to_owned(), addresses);
            ZoneTable::new([spec]).unwrap_err()
        };
        assert!(matches!(ZoneTable::new([spec("z", &[], &[])]), Err(R::Empty { .. })));
        assert!(matches!(ZoneTable::new([spec("default", &["a.example"], &[])]), Err(R::DefaultBounded)));
        assert!(matches!(
            ZoneTable::new([spec("a", &["x.example"], &[]), spec("b", &["X.example."], &[])]),
            Err(R::DomainTwice { .. })
        ));
        assert!(matches!(
            ZoneTable::new([spec("a", &[], &["10.0.0.0/8"]), spec("b", &[], &["::ffff:10.1.0.0/104"])]),
            Err(R::NetworkTwice { .. })
        ));
        assert!(matches!(
            ZoneTable::new([spec("a", &["x.example"], &[]), spec("a", &["y.example"], &[])]),
            Err(R::NameTwice { .. })
        ));
        assert!(matches!(ZoneTable::new([spec("a", &["*.example"], &[])]), Err(R::Domain { .. })));
        assert!(matches!(ZoneTable::new([spec("a", &["10.0.0.1"], &[])]), Err(R::Domain { .. })));
        assert!(matches!(fixed("a*.z.example", &["10.0.0.1"]), R::FixedHost { .. }));
        assert!(matches!(fixed("*.*.z.example", &["10.0.0.1"]), R::FixedHost { .. }));
        assert!(matches!(fixed("z.test", &["10.0.0.1"]), R::FixedHostOutside { .. }));
        assert!(matches!(fixed("a.z.example", &[]), R::FixedHostEmpty { .. }));
        let mut no_port = spec("z", &["z.example"], &[]);
        no_port.ports.https = 0;
        assert!(matches!(ZoneTable::new([no_port]), Err(R::PortZero { .. })));
    }
}
