//! E-mail addresses as certificates hold them: rfc822Name (RFC 5280 §4.2.1.6).

use std::{fmt, str::FromStr};

use super::{DnsName, NameRejection};

/// Longest address, in octets (RFC 5321 §4.5.3.1.3: a path of 256 with its angle brackets).
const ADDRESS_MAX: usize = 254;
/// Longest local part, in octets (RFC 5321 §4.5.3.1.1).
const LOCAL_PART_MAX: usize = 64;

/// An e-mail address: a dot-atom (RFC 5322 §3.2.3) at a host. Quoted local parts are not taken, nor letters beyond
/// ASCII, which another kind of name would hold (RFC 9598).
///
/// The local part is kept letter for letter, since only its host knows whether case counts (RFC 5321 §2.4). The host is
/// written in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailAddress(Box<str>);

impl EmailAddress {
    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.0.split_once('@').map_or("", |(local, _)| local)
    }

    /// What stands behind it.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, host)| host)
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EmailAddress {
    type Err = NameRejection;

    fn from_str(text: &str) -> Result<Self, NameRejection> {
        let no = |why| Err(NameRejection::NotAnEmailAddress { why });
        if text.len() > ADDRESS_MAX {
            return Err(NameRejection::TooLong { length: text.len(), max: ADDRESS_MAX });
        }
        let Some((local, host)) = text.split_once('@') else {
            return no("it has a local part and a host with an @ between them");
        };
        if local.is_empty() || local.len() > LOCAL_PART_MAX {
            return no("its local part has 1 to 64 octets");
        }
        let atom = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&c);
        if !local.split('.').all(|part| !part.is_empty() && part.bytes().all(atom)) {
            return no("its local part holds letters, digits, !#$%&'*+-/=?^_`{|}~ and single dots inside");
        }
        match host.parse::<DnsName>() {
            Ok(name) if name.as_str() == host => Ok(Self(text.into())),
            Ok(_) => no("its host is written in lower case"),
            Err(_) => no("what follows the @ is a host name"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_plain_local_part_and_a_host() {
        let address: EmailAddress = "Alice.B+tag@mail.example.com".parse().expect("an address");
        assert_eq!((address.local_part(), address.host()), ("Alice.B+tag", "mail.example.com"));
        for text in [
            "",
            "@",
            "alice",
            "@example.com",
            "alice@",
            "alice@Example.com",
            "alice@example.com.",
            "alice@[10.0.0.1]",
            "alice@10.0.0.1",
            "alice@@example.com",
            "\"a b\"@example.com",
            ".a@example.com",
            "a..b@example.com",
            "a.@example.com",
            "a b@example.com",
            "a\0@example.com",
            "\u{e4}@example.com",
            "alice@b\u{fc}cher.example",
            "a,b@example.com",
        ] {
            assert!(text.parse::<EmailAddress>().is_err(), "{text:?} was taken");
        }
        let longest = format!("{}@example.com", "a".repeat(64));
        assert!(longest.parse::<EmailAddress>().is_ok());
        assert!(format!("a{longest}").parse::<EmailAddress>().is_err());
    }
}
