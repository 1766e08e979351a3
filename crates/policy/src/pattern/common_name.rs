//! Patterns over common names that are names of their own.

use std::fmt;

use chancery_pki::{CommonName, NameRejection};

use super::{PatternFault, Refused};

/// `Payments CA`, `system:node:*`: letter for letter, a star at the end for whatever follows. A star never lets a text
/// through that could be taken for a host or an address; those are written out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CommonNamePattern {
    Exact(CommonName),
    /// Begins with this and goes on.
    From(String),
}

impl CommonNamePattern {
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        let rejected = |rejection: NameRejection| (PatternFault::Name(rejection), None);
        match text.strip_suffix('*') {
            None if text.contains('*') => Err((PatternFault::StarNotLast, None)),
            None => CommonName::new(text).map(Self::Exact).map_err(rejected),
            Some(start) if start.contains('*') => Err((PatternFault::StarNotLast, None)),
            Some(start) => {
                CommonName::new(&format!("{start}x")).map_err(rejected)?;
                Ok(Self::From(start.to_owned()))
            }
        }
    }

    /// What all of its common names begin with.
    pub(crate) fn start(&self) -> &str {
        match self {
            Self::Exact(name) => name.as_str(),
            Self::From(start) => start,
        }
    }

    pub(crate) fn matches(&self, name: &CommonName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::From(start) => {
                let text = name.as_str();
                text.len() > start.len() && text.starts_with(start.as_str()) && !name.reads_as_host()
            }
        }
    }

    /// Whether every common name that `other` matches is matched by this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Exact(_), Self::From(_)) => false,
            (Self::From(ours), Self::From(theirs)) => theirs.starts_with(ours.as_str()),
        }
    }
}

impl fmt::Display for CommonNamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name.as_str()),
            Self::From(start) => write!(f, "{start}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_goes_on_but_never_into_a_host() {
        for (pattern, name, matches) in [
            ("Payments CA", "Payments CA", true),
            ("Payments CA", "payments ca", false),
            ("system:node:*", "system:node:worker-1.example.com", true),
            ("system:node:*", "system:node:", false),
            ("test-*", "test-1", true),
            ("test-*", "test-1.example.com", false),
            ("*", "Payments CA", true),
            ("*", "payments", true),
            ("*", "localhost", false),
            ("*", "a_b.example.com", false),
            ("*", "127.1", false),
            ("*", "::1", false),
            ("a_b.example.com", "a_b.example.com", true),
        ] {
            let read = CommonNamePattern::parse(pattern).unwrap_or_else(|(why, _)| panic!("{pattern}: {why}"));
            assert_eq!(read.matches(&CommonName::new(name).expect("a name")), matches, "{pattern} {name}");
            assert_eq!(read.to_string(), pattern);
        }
        for text in ["", "a*b", "**", "*a", " a", "a,b*", "a\0*"] {
            assert!(CommonNamePattern::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
