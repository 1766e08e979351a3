//! URIs as certificates hold them (RFC 5280 §4.2.1.6, RFC 3986), SPIFFE IDs aside.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::{DnsName, NameRejection};

/// Longest URI, in octets.
const URI_MAX: usize = 2048;
/// Schemes that mean another kind of name where names are written as text.
const OTHER_KINDS: [&str; 3] = ["spiffe", "other", "cn"];

/// A URI in its one spelling: scheme and host in lower case, nothing percent-encoded that need not be, no user, no dot
/// segments. What is spelled otherwise is refused, not changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uri(Box<str>);

impl Uri {
    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The scheme, without its colon.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// What follows the scheme and its colon.
    #[must_use]
    pub fn rest(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, rest)| rest)
    }

    /// Host and port, if there is an authority.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        authority_of(self.rest())
    }

    /// The host, if there is an authority; IPv6 addresses in their brackets.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.authority().map(|authority| host_and_port(authority).0)
    }

    /// Whether it has a query or a fragment.
    #[must_use]
    pub fn has_query_or_fragment(&self) -> bool {
        self.0.contains(['?', '#'])
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Uri {
    type Err = NameRejection;

    fn from_str(text: &str) -> Result<Self, NameRejection> {
        let no = |why| Err(NameRejection::NotAUri { why });
        if text.len() > URI_MAX {
            return Err(NameRejection::TooLong { length: text.len(), max: URI_MAX });
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return no("it begins with a scheme and a colon");
        };
        // No dots, which RFC 3986 has too: a host with its port would be a URI.
        let scheme_char = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+-".contains(&c);
        if scheme.len() < 2 || !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.bytes().all(scheme_char)
        {
            return no("its scheme has two or more lower-case letters, digits, + and -");
        }
        // fe80::10 has a scheme and something behind it.
        if text.parse::<IpAddr>().is_ok() {
            return no("it is an IP address");
        }
        if OTHER_KINDS.contains(&scheme) {
            return no("spiffe:, other: and cn: are names of other kinds");
        }
        if rest.is_empty() {
            return no("something follows its scheme (RFC 5280 §4.2.1.6)");
        }
        if !text.bytes().all(|c| c.is_ascii_graphic()) || text.contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}'])
        {
            return no("it holds a character that a URI cannot (RFC 3986 §2)");
        }
        if rest.matches('#').count() > 1 {
            return no("it has one fragment at most");
        }
        if !percent_encoding_is_canonical(rest) {
            return no(
                "% stands before two digits, capital hexadecimal, of what must be encoded (RFC 3986 §2.1, §2.3)",
            );
        }
        let path = match authority_of(rest) {
            Some(authority) => {
                if let Some(why) = authority_fault(authority) {
                    return no(why);
                }
                rest.get(2 + authority.len()..).unwrap_or_default()
            }
            None => rest,
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut segments = path.split('/');
        if segments.clone().any(|segment| segment == "." || segment == "..") {
            return no("its path has no dot segments (RFC 3986 §3.3)");
        }
        // An empty one at the beginning is the slash that a path begins with, one at the end a slash that it ends with.
        segments.next();
        segments.next_back();
        if segments.any(str::is_empty) {
            return no("its path has no empty segments");
        }
        if path.starts_with("//") {
            return no("its path has no empty segments");
        }
        Ok(Self(text.into()))
    }
}

/// What stands between `//` and the path.
fn authority_of(rest: &str) -> Option<&str> {
    rest.strip_prefix("//").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default())
}

fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    let behind_brackets = authority.rfind(']').unwrap_or_default();
    match authority.rfind(':').filter(|colon| *colon > behind_brackets) {
        Some(colon) => {
            let (host, port) = authority.split_at(colon);
            (host, port.get(1..))
        }
        None => (authority, None),
    }
}

fn authority_fault(authority: &str) -> Option<&'static str> {
    if authority.contains('@') {
        return Some("it names no user");
    }
    let (host, port) = host_and_port(authority);
    if let Some(port) = port
        && port.parse::<u16>().ok().is_none_or(|number| number == 0 || number.to_string() != port)
    {
        return Some("its port is a number from 1 to 65535");
    }
    let is_v6 = |text: &str| {
        text.parse::<Ipv6Addr>().is_ok_and(|address| address.to_string() == text && address.to_ipv4_mapped().is_none())
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => is_v6(address),
        None => host.parse::<Ipv4Addr>().is_ok() || host.parse::<DnsName>().is_ok_and(|name| name.as_str() == host),
    };
    (!is_host).then_some("its host is a host name in lower case or an address")
}

/// Whether each `%` encodes, in capital digits, something that cannot stand for itself.
fn percent_encoding_is_canonical(text: &str) -> bool {
    text.split('%').skip(1).all(|behind| {
        let digits = behind.get(..2).unwrap_or_default();
        let capital = |c: u8| c.is_ascii_digit() || (b'A'..=b'F').contains(&c);
        let unreserved = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
        digits.len() == 2
            && digits.bytes().all(capital)
            && u8::from_str_radix(digits, 16).is_ok_and(|octet| !unreserved(octet))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_one_spelling() {
        for text in [
            "https://example.com",
            "https://example.com/",
            "https://example.com:8443/a/b/",
            "https://10.0.0.1/a",
            "https://[2001:db8::1]:8443/a",
            "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "mailto:alice@example.com",
            "ldap://ldap.example.com/dc=example?cn",
            "https://example.com/a%20b?c#d",
            "file:/etc/x",
        ] {
            let uri: Uri = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(uri.to_string(), text);
        }
        for text in [
            "",
            "https",
            "https:",
            "HTTPS://example.com",
            "https://Example.com",
            "https://user@example.com",
            "https://example.com:0443",
            "https://example.com:99999",
            "https://example.com:",
            "https://",
            "https:///a",
            "https://127.1/",
            "https://[::ffff:10.0.0.1]/",
            "https://[2001:DB8::1]/",
            "https://example.com/a/../b",
            "https://example.com/./b",
            "https://example.com//b",
            "https://example.com/a//b",
            "https://example.com/%41",
            "https://example.com/%2f",
            "https://example.com/%2",
            "https://example.com/%zz",
            "https://example.com/a b",
            "https://example.com/\u{e4}",
            "https://example.com/#a#b",
            "c:/windows",
            "spiffe://example/a",
            "other:1.2.3:x",
            "cn:x",
            "1a:b",
            "a.example.com:443",
        ] {
            assert!(text.parse::<Uri>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_uri_tells_its_parts() {
        let uri: Uri = "https://[2001:db8::1]:8443/a/b".parse().expect("a URI");
        assert_eq!((uri.scheme(), uri.authority()), ("https", Some("[2001:db8::1]:8443")));
        assert_eq!(uri.host(), Some("[2001:db8::1]"));
        let uri: Uri = "urn:example:a".parse().expect("a URI");
        assert_eq!((uri.scheme(), uri.rest(), uri.authority(), uri.host()), ("urn", "example:a", None, None));
    }
}
