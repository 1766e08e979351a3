//! Patterns over e-mail addresses: one mailbox, or every mailbox at the hosts of a name pattern.

use std::fmt;

use chancery_pki::{EmailAddress, NameRejection};

use super::{NamePattern, PatternFault, Refused};

/// `alice@example.com`, `*@example.com`, `*@*.example.com`, `*@**.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum MailPattern {
    /// This address.
    Exact(EmailAddress),
    /// Every mailbox at these hosts.
    At(NamePattern),
}

impl MailPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        let Some((local, host)) = text.split_once('@') else {
            let meant = format!("*@{text}");
            let valid = !text.is_empty() && Self::parse(&meant).is_ok();
            return Err((PatternFault::NotAMailPattern, valid.then_some(meant)));
        };
        if local == "*" {
            let meant = |(fault, host): Refused| (fault, host.map(|host| format!("*@{host}")));
            return NamePattern::parse(host).map(Self::At).map_err(meant);
        }
        if local.contains('*') || host.contains('*') {
            let meant = format!("*@{host}");
            let valid = Self::parse(&meant).is_ok();
            return Err((PatternFault::StarInsideMailbox, valid.then_some(meant)));
        }
        let rejected = |rejection: NameRejection| (PatternFault::Name(rejection), None);
        text.parse().map(Self::Exact).map_err(rejected)
    }

    /// The host that all of its addresses lie at or below.
    pub(crate) fn base(&self) -> &str {
        match self {
            Self::Exact(address) => address.host(),
            Self::At(pattern) => pattern.base().as_str(),
        }
    }

    pub(crate) fn matches(&self, address: &EmailAddress) -> bool {
        match self {
            Self::Exact(exact) => exact == address,
            Self::At(pattern) => address.host().parse().is_ok_and(|host| pattern.matches(&host)),
        }
    }

    /// Whether every address that `other` matches is matched by this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(address)) => self.matches(address),
            (Self::Exact(_), Self::At(_)) => false,
            (Self::At(ours), Self::At(theirs)) => ours.covers(theirs),
        }
    }
}

impl fmt::Display for MailPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(address) => address.fmt(f),
            Self::At(pattern) => write!(f, "*@{pattern}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_are_granted_one_by_one_or_all_of_a_host() {
        for (pattern, address, matches) in [
            ("alice@example.com", "alice@example.com", true),
            ("alice@example.com", "Alice@example.com", false),
            ("alice@example.com", "alice@mail.example.com", false),
            ("*@example.com", "alice@example.com", true),
            ("*@example.com", "alice@mail.example.com", false),
            ("*@*.example.com", "alice@mail.example.com", true),
            ("*@*.example.com", "alice@example.com", false),
            ("*@**.example.com", "alice@a.b.example.com", true),
            ("*@example.com", "alice@badexample.com", false),
        ] {
            let pattern = MailPattern::parse(pattern).unwrap_or_else(|(why, _)| panic!("{pattern}: {why}"));
            assert_eq!(pattern.matches(&address.parse().expect("an address")), matches, "{pattern} {address}");
        }
        for (text, meant) in [
            ("example.com", Some("*@example.com")),
            ("a*@example.com", Some("*@example.com")),
            ("alice@*.example.com", Some("*@*.example.com")),
            ("*@Example.com", Some("*@example.com")),
            ("*@", None),
            ("", None),
            ("@example.com", None),
            ("*", None),
        ] {
            let (_, suggestion) = MailPattern::parse(text).expect_err(text);
            assert_eq!(suggestion.as_deref(), meant, "{text:?}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_matches() {
        let pattern = |text: &str| MailPattern::parse(text).unwrap_or_else(|(why, _)| panic!("{text}: {why}"));
        for (wide, narrow) in [
            ("*@example.com", "alice@example.com"),
            ("*@**.example.com", "*@*.example.com"),
            ("*@**.example.com", "*@a.example.com"),
            ("*@*.example.com", "*@a.example.com"),
        ] {
            assert!(
                pattern(wide).covers(&pattern(narrow)) && !pattern(narrow).covers(&pattern(wide)),
                "{wide} {narrow}"
            );
        }
        assert!(!pattern("*@*.example.com").covers(&pattern("*@example.com")));
    }
}
