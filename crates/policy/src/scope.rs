//! Names that something is limited to, in the patterns of a policy.

use std::fmt;

use chancery_pki::{DnsName, Name};
use ipnet::IpNet;

use crate::pattern::{self, NamePattern, PatternFault, Refused};

/// Most patterns of one scope.
pub const SCOPE_MAX: usize = 100;

/// The names that something is limited to: patterns over DNS names, wildcard names letter for letter, and ranges of
/// addresses, each written as a policy writes it (`names`, `wildcards`, `addresses`). Names of other kinds are in none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct NameScope {
    names: Vec<NamePattern>,
    /// The bases of wildcard names.
    wildcards: Vec<DnsName>,
    addresses: Vec<IpNet>,
}

/// Why a scope is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeFault {
    /// A pattern that means nothing, or something else than it looks.
    #[error("\"{pattern}\": {fault}{}", meant.as_ref().map(|meant| format!("; was \"{meant}\" meant?")).unwrap_or_default(), pattern = pattern.escape_debug())]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        fault: PatternFault,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// Too many.
    #[error("{count} patterns are more than the {SCOPE_MAX} that one limit may have")]
    TooMany {
        /// How many were given.
        count: usize,
    },
}

impl NameScope {
    /// Reads the patterns of the three kinds of name.
    ///
    /// # Errors
    ///
    /// [`ScopeFault`], about the first pattern that is not taken.
    pub fn parse<T: AsRef<str>>(names: &[T], wildcards: &[T], addresses: &[T]) -> Result<Self, ScopeFault> {
        let count = names.len() + wildcards.len() + addresses.len();
        if count > SCOPE_MAX {
            return Err(ScopeFault::TooMany { count });
        }
        Ok(Self {
            names: each(names, NamePattern::parse)?,
            wildcards: each(wildcards, pattern::wildcard)?,
            addresses: each(addresses, pattern::range)?,
        })
    }

    /// Whether the name is within it.
    #[must_use]
    pub fn permits(&self, name: &Name) -> bool {
        match name {
            Name::Dns(name) => self.names.iter().any(|pattern| pattern.matches(name)),
            Name::Wildcard(base) => self.wildcards.contains(base),
            Name::Ip(address) => self.addresses.iter().any(|range| range.contains(address)),
            // Keys of ACME accounts have such scopes, and ACME has no other names.
            Name::Spiffe(_) | Name::Uri(_) | Name::Email(_) | Name::Other(_) | Name::CommonName(_) => false,
        }
    }

    /// Whether no name at all is within it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.wildcards.is_empty() && self.addresses.is_empty()
    }

    /// The patterns over DNS names, as they are written.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.names.iter().map(ToString::to_string).collect()
    }

    /// The wildcard names.
    #[must_use]
    pub fn wildcards(&self) -> Vec<String> {
        self.wildcards.iter().map(|base| format!("*.{base}")).collect()
    }

    /// The ranges of addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.iter().map(ToString::to_string).collect()
    }
}

/// Everything that is within it, in one line.
impl fmt::Display for NameScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wildcards = self.wildcards().into_iter().map(|name| format!("the wildcard name {name}"));
        let all: Vec<String> = self.names().into_iter().chain(wildcards).chain(self.addresses()).collect();
        f.write_str(&if all.is_empty() { "no name".to_owned() } else { all.join(", ") })
    }
}

fn each<T: AsRef<str>, P>(texts: &[T], parse: fn(&str) -> Result<P, Refused>) -> Result<Vec<P>, ScopeFault> {
    let one = |text: &T| {
        let pattern = text.as_ref();
        parse(pattern).map_err(|(fault, meant)| ScopeFault::Pattern {
            pattern: pattern.chars().take(260).collect(),
            fault,
            meant,
        })
    };
    texts.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_permits_what_a_rule_with_the_same_patterns_would_allow() {
        let names = ["pay.example.com", "*.one.example.com", "**.any.example.com"];
        let (wildcards, addresses) = (["*.wild.example.com"], ["10.0.0.0/8", "2001:db8::1"]);
        let scope = NameScope::parse(&names[..], &wildcards[..], &addresses[..]).expect("patterns");
        let rule = format!(
            "version: v1\nrules:\n  - name: same\n    allow:\n      names: {names:?}\n      wildcards: {wildcards:?}\n      \
             addresses: {addresses:?}\n"
        );
        let policy = crate::Policy::parse(&rule, crate::Format::Yaml, "p.yaml").expect("a policy");
        for text in [
            "pay.example.com",
            "a.pay.example.com",
            "one.example.com",
            "a.one.example.com",
            "b.a.one.example.com",
            "xone.example.com",
            "any.example.com",
            "a.any.example.com",
            "b.a.any.example.com",
            "xany.example.com",
            "*.wild.example.com",
            "*.pay.example.com",
            "*.one.example.com",
            "wild.example.com",
            "10.1.2.3",
            "11.1.2.3",
            "2001:db8::1",
            "2001:db8::2",
            "spiffe://example.com/a",
        ] {
            let name: Name = text.parse().expect("a name");
            let set = chancery_pki::NameSet::new([name.clone()]).expect("one");
            let by_policy = policy.evaluate(&crate::Request {
                requester: &crate::Requester::own_tls(),
                names: &set,
                profile: "server",
                key: Some(chancery_pki::KeyKind::P256),
                lifetime: chancery_pki::Lifetime::from_seconds(60).ok(),
                content: crate::Content::default(),
                now: chancery_pki::Timestamp::from_unix_seconds(1_795_600_000),
            });
            assert_eq!(scope.permits(&name), by_policy.outcome == crate::Outcome::Allow, "{text}");
        }
        assert!(!scope.is_empty() && NameScope::default().is_empty());
        let again =
            NameScope::parse(&scope.names(), &scope.wildcards(), &scope.addresses()).expect("what it says itself");
        assert_eq!(again, scope);
        assert!(scope.to_string().contains("the wildcard name *.wild.example.com"), "{scope}");
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_with_what_was_meant() {
        let none: [&str; 0] = [];
        let fault = NameScope::parse(&["web*.example.com"], &none, &none).expect_err("refused").to_string();
        assert!(fault.contains("web*.example.com") && fault.contains("*.example.com\" meant"), "{fault}");
        assert!(NameScope::parse(&none, &["pay.example.com"], &none).is_err());
        assert!(NameScope::parse(&none, &none, &["10.0.0.1/8"]).is_err());
        let many = vec!["a.example.com"; SCOPE_MAX + 1];
        assert_eq!(NameScope::parse(&many, &[], &[]), Err(ScopeFault::TooMany { count: SCOPE_MAX + 1 }));
    }
}
