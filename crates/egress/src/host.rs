//! Whom to dial: a host name or an address.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// Longest host name in text, in octets (RFC 1035 §3.1: 255 with lengths and root).
const NAME_MAX: usize = 253;
/// Longest label, in octets (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;

/// Whom to dial. A name is lower case and without the trailing dot.
///
/// `127.1`, `2130706433` and `0x7f000001`, which some resolvers take for addresses, are neither:
/// a name whose last label looks like a number is refused (WHATWG URL §3.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name, to be resolved.
    Name(Box<str>),
    /// An address; IPv4-mapped ones are IPv4.
    Ip(IpAddr),
}

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostRejection {
    /// Nothing is there.
    #[error("a host is empty")]
    Empty,
    /// Name or label is too long, or a label is empty.
    #[error("a host name's labels are 1 to 63 characters, 253 together")]
    Length,
    /// A character that no host name has.
    #[error("a host name holds letters, digits, hyphens, underscores and dots")]
    Character,
    /// The last label reads as a number, but the whole is no dotted IPv4 address.
    #[error("a host looks like an IPv4 address but is none")]
    Numeric,
    /// Brackets without an IPv6 address in them.
    #[error("brackets hold an IPv6 address")]
    Brackets,
}

impl FromStr for Host {
    type Err = HostRejection;

    /// Reads a name, an IPv4 address, or an IPv6 address with or without brackets.
    fn from_str(text: &str) -> Result<Self, HostRejection> {
        if let Some(inside) = text.strip_prefix('[') {
            let address = inside.strip_suffix(']').ok_or(HostRejection::Brackets)?;
            let address = address.parse::<Ipv6Addr>().map_err(|_| HostRejection::Brackets)?;
            return Ok(IpAddr::V6(address).into());
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostRejection::Empty);
        }
        if name.len() > NAME_MAX || name.split('.').any(|label| label.is_empty() || label.len() > LABEL_MAX) {
            return Err(HostRejection::Length);
        }
        if !name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.')) {
            return Err(HostRejection::Character);
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        if last.bytes().all(|octet| octet.is_ascii_digit())
            || hexadecimal.is_some_and(|digits| digits.bytes().all(|octet| octet.is_ascii_hexdigit()))
        {
            return Err(HostRejection::Numeric);
        }
        Ok(Self::Name(name.to_ascii_lowercase().into()))
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

/// As it stands in a URL's authority: IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_some_resolvers_take_for_addresses_are_no_hosts() {
        for text in
            ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "1.2.3.4.5", "a.0x1", "a.0x", "256.1.1.1"]
        {
            assert_eq!(text.parse::<Host>(), Err(HostRejection::Numeric), "{text}");
        }
    }

    #[test]
    fn an_ipv4_mapped_address_is_its_ipv4_address() {
        for text in ["[::ffff:127.0.0.1]", "::ffff:7f00:1", "127.0.0.1"] {
            assert_eq!(text.parse::<Host>().unwrap(), Host::Ip([127, 0, 0, 1].into()), "{text}");
        }
    }

    #[test]
    fn what_no_host_name_has_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "a@b",
            "a:80",
            "[::1",
            "[127.0.0.1]",
            "[fe80::1%eth0]",
            "a%2eb",
            "ä.example",
            "a\0b",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
        assert!(format!("{}.example", "a".repeat(64)).parse::<Host>().is_err());
        assert!(["a"; 127].join(".").parse::<Host>().is_ok());
        assert!(["a"; 128].join(".").parse::<Host>().is_err());
    }

    #[test]
    fn a_name_is_lower_case_and_loses_its_trailing_dot() {
        assert_eq!("WWW.Example.".parse::<Host>().unwrap().to_string(), "www.example");
    }
}
