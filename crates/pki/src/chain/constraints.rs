//! Name constraints of an issuer (RFC 5280 §4.2.1.10), matched as OpenSSL matches them.
//!
//! One rule is stricter: a wildcard that could stand for an excluded host is refused, although
//! `*.example.com` itself does not end in `bad.example.com`.

use std::{fmt, net::IpAddr};

use crate::{
    distinguished_name::{self, ComparableName},
    name::{DnsName, EmailAddress, Name, NameSet},
    tlv::{Tlv, tag},
};

/// A subtree of one kind of name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subtree {
    /// A host and what lies below it; with a leading dot only what lies below.
    Dns(String),
    /// Addresses: octets and mask.
    Ip {
        /// The octets of the address, 4 or 16.
        address: Vec<u8>,
        /// The octets of the mask, as many.
        mask: Vec<u8>,
    },
    /// The host of a URI; with a leading dot what lies below.
    Uri(String),
    /// Directory names that begin with this one, in DER.
    Directory(Vec<u8>),
    /// One mailbox, those at a host, or with a leading dot those at the hosts below it.
    Mail(String),
    /// Names whose kind an object identifier says, whatever they are: no rule says how to compare them.
    OtherNames,
    /// A kind of name that no certificate of ours holds.
    Other(&'static str),
}

impl fmt::Display for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(base) => write!(f, "DNS:{base}"),
            Self::Ip { address, mask } => {
                f.write_str("IP:")?;
                match address_of(address) {
                    Some(address) => write!(f, "{address}")?,
                    None => f.write_str(&hex::encode(address))?,
                }
                match address_of(mask) {
                    Some(mask) => write!(f, "/{mask}"),
                    None => write!(f, "/{}", hex::encode(mask)),
                }
            }
            Self::Uri(base) => write!(f, "URI:{base}"),
            Self::Directory(name) => write!(f, "DirName:{}", distinguished_name::show(name)),
            Self::Mail(base) => write!(f, "email:{base}"),
            Self::OtherNames => f.write_str("otherName"),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

fn address_of(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// `permitted DNS:example.com; excluded IP:10.0.0.0/255.0.0.0`.
impl fmt::Display for NameConstraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let list = |subtrees: &[Subtree]| subtrees.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match (self.permitted.is_empty(), self.excluded.is_empty()) {
            (false, false) => write!(f, "permitted {}; excluded {}", list(&self.permitted), list(&self.excluded)),
            (false, true) => write!(f, "permitted {}", list(&self.permitted)),
            (true, _) => write!(f, "excluded {}", list(&self.excluded)),
        }
    }
}

/// Whether a name of the same kind lies in the subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    /// A name of another kind: the subtree says nothing about it.
    OtherKind,
    Inside,
    Outside,
}

impl Match {
    const fn inside(inside: bool) -> Self {
        if inside { Self::Inside } else { Self::Outside }
    }
}

impl Subtree {
    fn read(base: &Tlv<'_>) -> Result<Self, &'static str> {
        const OTHER: u8 = tag::context_constructed(0);
        const MAIL: u8 = tag::context(1);
        const DNS: u8 = tag::context(2);
        const DIRECTORY: u8 = tag::context_constructed(4);
        const URI: u8 = tag::context(6);
        const IP: u8 = tag::context(7);
        let text = || {
            let visible = base.content.iter().all(u8::is_ascii_graphic);
            let text = std::str::from_utf8(base.content).ok().filter(|_| visible);
            text.map(str::to_owned).ok_or("a name with characters that no such name has")
        };
        Ok(match base.tag {
            DNS => Self::Dns(text()?),
            URI => Self::Uri(text()?),
            IP => match base.content.len() {
                8 | 32 => {
                    let (address, mask) = base.content.split_at(base.content.len() / 2);
                    Self::Ip { address: address.to_vec(), mask: mask.to_vec() }
                }
                _ => return Err("an address range of neither 8 nor 32 octets"),
            },
            DIRECTORY => {
                ComparableName::read(base.content).ok_or("a directory name that cannot be read")?;
                Self::Directory(base.content.to_vec())
            }
            MAIL => Self::Mail(text()?),
            OTHER => Self::OtherNames,
            _ => Self::Other("other"),
        })
    }

    fn matches(&self, name: &Name) -> Match {
        match (self, name) {
            (Self::Dns(base), Name::Dns(host)) => Match::inside(dns_is_within(host.as_str(), base)),
            (Self::Dns(base), Name::Wildcard(below)) => Match::inside(dns_is_within(&format!("*.{below}"), base)),
            (Self::Ip { address, mask }, Name::Ip(ip)) => {
                let octets = match ip {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                let same = |((octet, base), mask): ((&u8, &u8), &u8)| (octet ^ base) & mask == 0;
                Match::inside(octets.len() == address.len() && octets.iter().zip(address).zip(mask).all(same))
            }
            (Self::Uri(base), Name::Spiffe(id)) => Match::inside(host_is_within(id.trust_domain(), base)),
            // A URI without a host name is in no subtree (RFC 5280 §4.2.1.10).
            (Self::Uri(base), Name::Uri(uri)) => {
                let host = uri.host().filter(|host| host.parse::<DnsName>().is_ok());
                Match::inside(host.is_some_and(|host| host_is_within(host, base)))
            }
            (Self::Mail(base), Name::Email(address)) => Match::inside(mail_is_within(address, base)),
            // No rule says how to compare them, so clients refuse them all.
            (Self::OtherNames, Name::Other(_)) => Match::Outside,
            // Software that looks for hosts in common names holds them to the constraints of hosts.
            (Self::Dns(base), Name::CommonName(name)) if name.reads_as_host() => {
                Match::inside(dns_is_within(name.as_str(), base))
            }
            (
                Self::Dns(_)
                | Self::Ip { .. }
                | Self::Uri(_)
                | Self::Directory(_)
                | Self::Mail(_)
                | Self::OtherNames
                | Self::Other(_),
                _,
            ) => Match::OtherKind,
        }
    }

    fn matches_subject(&self, subject: &ComparableName) -> Match {
        let Self::Directory(base) = self else {
            return Match::OtherKind;
        };
        Match::inside(ComparableName::read(base).is_some_and(|base| subject.is_within(&base)))
    }

    /// Whether some host that the wildcard stands for lies in the subtree.
    fn meets_wildcard(&self, name: &Name) -> bool {
        let (Self::Dns(base), Name::Wildcard(below)) = (self, name) else {
            return false;
        };
        let base = base.to_ascii_lowercase();
        let label = base.strip_suffix(below.as_str()).and_then(|rest| rest.strip_suffix('.'));
        label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
    }
}

/// An empty base holds every name; otherwise the name ends in the base, at a dot.
fn dns_is_within(name: &str, base: &str) -> bool {
    if base.is_empty() {
        return true;
    }
    let Some(start) = name.len().checked_sub(base.len()) else {
        return false;
    };
    let (Some(before), Some(end)) = (name.get(..start), name.get(start..)) else {
        return false;
    };
    let at_a_dot = before.is_empty() || base.starts_with('.') || before.ends_with('.');
    at_a_dot && end.eq_ignore_ascii_case(base)
}

/// The host itself, or with a leading dot in the base what lies below.
fn host_is_within(host: &str, base: &str) -> bool {
    if base.starts_with('.') {
        host.len() > base.len() && dns_is_within(host, base)
    } else {
        host.eq_ignore_ascii_case(base)
    }
}

/// The mailbox itself, its host, or with a leading dot what the host lies below.
fn mail_is_within(address: &EmailAddress, base: &str) -> bool {
    match base.rsplit_once('@') {
        Some((local, host)) => address.local_part() == local && address.host().eq_ignore_ascii_case(host),
        None => host_is_within(address.host(), base),
    }
}

/// How a name breaks a constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Breach {
    /// There are permitted subtrees of the name's kind, and it lies in none.
    NotPermitted,
    /// It lies in an excluded subtree.
    Excluded(Subtree),
}

/// Which certificates clients built on rustls refuse below an issuer because of its name constraints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusedByRustls {
    /// Those with a URI among their names, as SPIFFE IDs are.
    Uris,
    /// All.
    Everything,
}

/// The name constraints of one issuer; none is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameConstraints {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

impl NameConstraints {
    /// No constraints.
    pub const NONE: Self = Self { permitted: Vec::new(), excluded: Vec::new() };

    /// Constraints that we set ourselves.
    pub(crate) const fn new(permitted: Vec<Subtree>, excluded: Vec<Subtree>) -> Self {
        Self { permitted, excluded }
    }

    /// Whether both say the same, in whatever order.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        let within = |ours: &[Subtree], theirs: &[Subtree]| ours.iter().all(|subtree| theirs.contains(subtree));
        within(&self.permitted, &other.permitted)
            && within(&other.permitted, &self.permitted)
            && within(&self.excluded, &other.excluded)
            && within(&other.excluded, &self.excluded)
    }

    /// Reads the extension's value.
    ///
    /// # Errors
    ///
    /// What cannot be read or, as `minimum` and `maximum`, has no meaning in RFC 5280.
    pub(crate) fn read(value: &[u8]) -> Result<Self, &'static str> {
        const UNREADABLE: &str = "the extension is not NameConstraints";
        let mut constraints = Self::default();
        let parts = Tlv::read_all(value).filter(|all| all.tag == tag::SEQUENCE).and_then(|all| all.children());
        for part in parts.ok_or(UNREADABLE)? {
            let list = match part.tag {
                0xa0 => &mut constraints.permitted,
                0xa1 => &mut constraints.excluded,
                _ => return Err(UNREADABLE),
            };
            for subtree in part.children().ok_or(UNREADABLE)? {
                let fields = Some(subtree).filter(|subtree| subtree.tag == tag::SEQUENCE);
                let fields = fields.and_then(|subtree| subtree.children()).ok_or(UNREADABLE)?;
                let (base, bounds) = fields.split_first().ok_or(UNREADABLE)?;
                let minimum_zero = |bound: &Tlv<'_>| bound.tag == tag::context(0) && bound.content == [0];
                if !bounds.iter().all(minimum_zero) {
                    return Err("minimum or maximum is set, which RFC 5280 §4.2.1.10 does not allow");
                }
                list.push(Subtree::read(base)?);
            }
        }
        Ok(constraints)
    }

    /// The permitted subtrees.
    #[must_use]
    pub fn permitted(&self) -> &[Subtree] {
        &self.permitted
    }

    /// The excluded subtrees.
    #[must_use]
    pub fn excluded(&self) -> &[Subtree] {
        &self.excluded
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.permitted.is_empty() && self.excluded.is_empty()
    }

    /// What clients built on rustls refuse below these constraints although they permit it: its verifier fails
    /// closed on the kinds of names that it does not compare, whatever stands in them.
    #[must_use]
    pub fn refused_by_rustls(&self) -> Option<RefusedByRustls> {
        let refused = |subtree: &Subtree| match subtree {
            // Every certificate has a subject, an empty one too.
            Subtree::Directory(_) => Some(RefusedByRustls::Everything),
            Subtree::Uri(_) => Some(RefusedByRustls::Uris),
            // E-mail addresses and the like are in no certificate that such clients ask for.
            Subtree::Dns(_) | Subtree::Ip { .. } | Subtree::Mail(_) | Subtree::OtherNames | Subtree::Other(_) => None,
        };
        self.permitted.iter().chain(&self.excluded).filter_map(refused).max()
    }

    /// Every name that breaks a constraint, and how.
    pub(crate) fn breaches<'a>(&self, names: &'a NameSet) -> impl Iterator<Item = (&'a Name, Breach)> {
        names.iter().filter_map(|name| Some((name, self.breach(name)?)))
    }

    fn breach(&self, name: &Name) -> Option<Breach> {
        if matches!(name, Name::Other(_))
            && let Some(subtree) = self.excluded.iter().find(|subtree| **subtree == Subtree::OtherNames)
        {
            return Some(Breach::Excluded(subtree.clone()));
        }
        // Where URIs are constrained at all, one without a host name is rejected (RFC 5280 §4.2.1.10).
        if let Name::Uri(uri) = name
            && uri.host().is_none_or(|host| host.parse::<DnsName>().is_err())
            && let Some(subtree) = self.excluded.iter().find(|subtree| matches!(subtree, Subtree::Uri(_)))
        {
            return Some(Breach::Excluded(subtree.clone()));
        }
        let met = || self.excluded.iter().find(|subtree| subtree.meets_wildcard(name)).cloned().map(Breach::Excluded);
        self.decide(|subtree| subtree.matches(name)).err().or_else(met)
    }

    /// Whether a subject, in DER, breaks a constraint; an empty one cannot.
    pub(crate) fn check_subject(&self, subject: &[u8]) -> Result<(), Breach> {
        let is_directory = |subtree: &Subtree| matches!(subtree, Subtree::Directory(_));
        if !self.permitted.iter().chain(&self.excluded).any(is_directory) {
            return Ok(());
        }
        match ComparableName::read(subject) {
            Some(subject) if subject.is_empty() => Ok(()),
            Some(subject) => self.decide(|subtree| subtree.matches_subject(&subject)),
            None => Err(Breach::NotPermitted),
        }
    }

    fn decide(&self, matches: impl Fn(&Subtree) -> Match) -> Result<(), Breach> {
        let mut permitted =
            self.permitted.iter().map(&matches).filter(|outcome| *outcome != Match::OtherKind).peekable();
        if permitted.peek().is_some() && !permitted.any(|outcome| outcome == Match::Inside) {
            return Err(Breach::NotPermitted);
        }
        match self.excluded.iter().find(|subtree| matches(subtree) == Match::Inside) {
            Some(subtree) => Err(Breach::Excluded(subtree.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_that_no_name_could_have_is_refused_before_it_moves_a_terminals_cursor() {
        for base in [&b"\x1b[2Jtest"[..], b"a test", b"te\0st", "b\u{fc}cher.test".as_bytes()] {
            let base = [&[0x82, u8::try_from(base.len()).unwrap()], base].concat();
            let subtree = [&[0x30, u8::try_from(base.len()).unwrap()], &base[..]].concat();
            let permitted = [&[0xa0, u8::try_from(subtree.len()).unwrap()], &subtree[..]].concat();
            let value = [&[0x30, u8::try_from(permitted.len()).unwrap()], &permitted[..]].concat();
            assert!(NameConstraints::read(&value).is_err(), "{base:?}");
        }
    }

    fn excluding(base: &str) -> NameConstraints {
        NameConstraints { permitted: Vec::new(), excluded: vec![Subtree::Dns(base.to_owned())] }
    }

    fn names(name: &str) -> NameSet {
        NameSet::new([name.parse().expect("a name")]).expect("one name")
    }

    #[test]
    fn a_wildcard_that_could_stand_for_an_excluded_host_is_refused() {
        for (base, refused) in [
            ("bad.example.com", true),
            ("BAD.example.com", true),
            ("example.com", true),
            (".bad.example.com", false),
            ("a.bad.example.com", false),
            ("bad.example.org", false),
            ("badexample.com", false),
        ] {
            assert_eq!(excluding(base).breaches(&names("*.example.com")).next().is_some(), refused, "{base}");
        }
    }

    #[test]
    fn a_uri_without_a_host_name_breaks_every_constraint_on_uris() {
        let uris = |base: &str| vec![Subtree::Uri(base.to_owned())];
        let excluded = NameConstraints { permitted: Vec::new(), excluded: uris("bad.test") };
        let permitted = NameConstraints { permitted: uris("good.test"), excluded: Vec::new() };
        for (name, by_excluded, by_permitted) in [
            ("urn:example:a", true, true),
            ("https://10.0.0.1/a", true, true),
            ("https://good.test/a", false, false),
            ("https://bad.test/a", true, true),
            ("spiffe://good.test/a", false, false),
            ("a.test", false, false),
        ] {
            assert_eq!(excluded.breaches(&names(name)).next().is_some(), by_excluded, "{name}");
            assert_eq!(permitted.breaches(&names(name)).next().is_some(), by_permitted, "{name}");
        }
        assert_eq!(
            excluding("bad.test").breaches(&names("urn:example:a")).next(),
            None,
            "hosts say nothing about URIs"
        );
    }

    #[test]
    fn a_bound_that_rfc_5280_forbids_makes_the_constraints_unreadable() {
        let with_bounds = |bounds: &[u8]| {
            let base = crate::tlv::write(tag::context(2), b"example.com");
            let subtree = crate::tlv::write_all(tag::SEQUENCE, [&base[..], bounds]);
            let permitted = crate::tlv::write(0xa0, &subtree);
            NameConstraints::read(&crate::tlv::write(tag::SEQUENCE, &permitted))
        };
        assert!(with_bounds(&[]).is_ok());
        assert!(with_bounds(&[0x80, 1, 0]).is_ok());
        assert!(with_bounds(&[0x80, 1, 1]).is_err());
        assert!(with_bounds(&[0x81, 1, 5]).is_err());
    }
}
