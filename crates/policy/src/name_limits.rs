//! Limits of a credential: names beyond which it gets nothing, whatever the policy allows.
//!
//! A limit never grants. Its patterns are those of the policy in one list: host names (`pay.example.com`,
//! `*.example.com`, `**.example.com`), address ranges, SPIFFE IDs and e-mail addresses as they are, and `uri:`, `cn:` and
//! `other:` before other URIs, common names of their own and names of other kinds.

use std::fmt;

use chancery_pki::{DnsName, Name};
use ipnet::IpNet;

use crate::pattern::{
    self, CommonNamePattern, MailPattern, NamePattern, OtherNamePattern, PatternFault, SpiffePattern, UriPattern,
};

/// Most patterns of one credential.
pub(crate) const PATTERNS_MAX: usize = 64;

/// A list of patterns, one of which a name must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameLimits(Vec<Limit>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Limit {
    Names(NamePattern),
    Addresses(IpNet),
    Spiffe(SpiffePattern),
    Uris(UriPattern),
    Emails(MailPattern),
    OtherNames(OtherNamePattern),
    CommonNames(CommonNamePattern),
}

/// Why patterns are no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitFault {
    /// One of them is no pattern.
    #[error("\"{}\" is no pattern over names: {fault}{}", pattern.escape_debug(), meant(.nearest.as_deref()))]
    Pattern {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        fault: PatternFault,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// None at all.
    #[error("a limit that names nothing lets nothing pass; leave it out, or name what may be asked for")]
    Empty,
    /// Too many.
    #[error("a limit has at most {PATTERNS_MAX} patterns")]
    Many,
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean \"{nearest}\"?")).unwrap_or_default()
}

impl NameLimits {
    /// Reads a list of patterns.
    ///
    /// # Errors
    ///
    /// [`LimitFault`], for the first that is none.
    pub fn parse<T: AsRef<str>>(patterns: &[T]) -> Result<Self, LimitFault> {
        match patterns.len() {
            0 => return Err(LimitFault::Empty),
            1..=PATTERNS_MAX => {}
            _ => return Err(LimitFault::Many),
        }
        let limits = patterns.iter().map(|pattern| Limit::parse(pattern.as_ref()));
        limits.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a name fits one of the patterns. A wildcard name does where every name that it stands for does.
    #[must_use]
    pub fn permit(&self, name: &Name) -> bool {
        self.0.iter().any(|limit| limit.permits(name))
    }

    /// The patterns, as they are written.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

/// The patterns, for people.
impl fmt::Display for NameLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, limit) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            limit.fmt(f)?;
        }
        Ok(())
    }
}

impl Limit {
    fn parse(text: &str) -> Result<Self, LimitFault> {
        let read = if text.starts_with("spiffe:") {
            SpiffePattern::parse(text).map(Self::Spiffe)
        } else if let Some(uri) = text.strip_prefix("uri:") {
            UriPattern::parse(uri).map(Self::Uris)
        } else if let Some(name) = text.strip_prefix("cn:") {
            CommonNamePattern::parse(name).map(Self::CommonNames)
        } else if let Some(name) = text.strip_prefix("other:") {
            OtherNamePattern::parse(name).map(Self::OtherNames)
        } else if text.contains('@') {
            MailPattern::parse(text).map(Self::Emails)
        } else if let Ok(range) = pattern::range(text) {
            Ok(Self::Addresses(range))
        } else {
            match NamePattern::parse(text) {
                // What looks like an address gets the words about addresses.
                Err((PatternFault::Address, _)) => pattern::range(text).map(Self::Addresses),
                read => read.map(Self::Names),
            }
        };
        read.map_err(|(fault, nearest)| LimitFault::Pattern { pattern: text.to_owned(), fault, nearest })
    }

    fn permits(&self, name: &Name) -> bool {
        match (self, name) {
            (Self::Names(pattern), Name::Dns(name)) => match pattern {
                NamePattern::Exact(exact) => exact == name,
                NamePattern::OneAbove(base) => labels_above(base, name) == Some(1),
                NamePattern::AnyAbove(base) => labels_above(base, name).is_some_and(|above| above > 0),
            },
            (Self::Names(pattern), Name::Wildcard(of)) => match pattern {
                NamePattern::Exact(_) => false,
                NamePattern::OneAbove(base) => base == of,
                NamePattern::AnyAbove(base) => labels_above(base, of).is_some(),
            },
            (Self::Addresses(range), Name::Ip(address)) => range.contains(address),
            (Self::Spiffe(pattern), Name::Spiffe(id)) => pattern.matches(id),
            (Self::Uris(pattern), Name::Uri(uri)) => pattern.matches(uri),
            (Self::Emails(pattern), Name::Email(address)) => pattern.matches(address),
            (Self::OtherNames(pattern), Name::Other(name)) => pattern.matches(name),
            (Self::CommonNames(pattern), Name::CommonName(name)) => pattern.matches(name),
            (
                Self::Names(_)
                | Self::Addresses(_)
                | Self::Spiffe(_)
                | Self::Uris(_)
                | Self::Emails(_)
                | Self::OtherNames(_)
                | Self::CommonNames(_),
                _,
            ) => false,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(pattern) => pattern.fmt(f),
            Self::Addresses(range) => range.fmt(f),
            Self::Spiffe(pattern) => pattern.fmt(f),
            Self::Uris(pattern) => write!(f, "uri:{pattern}"),
            Self::Emails(pattern) => pattern.fmt(f),
            Self::OtherNames(pattern) => write!(f, "other:{pattern}"),
            Self::CommonNames(pattern) => write!(f, "cn:{pattern}"),
        }
    }
}

/// How many labels a name has above another; none where it does not lie at or below it.
fn labels_above(base: &DnsName, name: &DnsName) -> Option<usize> {
    let rest = name.as_str().strip_suffix(base.as_str())?;
    match rest.strip_suffix('.') {
        Some(above) => Some(above.split('.').count()),
        None => rest.is_empty().then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_a_limit_as_it_fits_a_policys_pattern_and_a_wildcard_where_all_it_stands_for_does() {
        for (pattern, inside, outside) in [
            ("pay.example.com", vec!["pay.example.com"], vec!["a.pay.example.com", "*.pay.example.com", "example.com"]),
            (
                "*.example.com",
                vec!["a.example.com", "*.example.com"],
                vec!["example.com", "a.b.example.com", "*.a.example.com", "notexample.com"],
            ),
            (
                "**.example.com",
                vec!["a.example.com", "a.b.example.com", "*.example.com", "*.b.example.com"],
                vec!["example.com", "a.notexample.com", "10.0.0.1", "spiffe://example.com/a"],
            ),
            ("10.0.0.0/8", vec!["10.1.2.3"], vec!["11.0.0.1", "2001:db8::1"]),
            (
                "spiffe://td/ns/*/sa/**",
                vec!["spiffe://td/ns/a/sa/b"],
                vec!["spiffe://td/ns/a", "spiffe://else/ns/a/sa/b"],
            ),
            ("*@example.com", vec!["alice@example.com"], vec!["alice@a.example.com", "example.com", "cn:alice"]),
            (
                "uri:https://id.example.com/teams/*",
                vec!["https://id.example.com/teams/a"],
                vec!["https://id.example.com/a", "id.example.com", "spiffe://id.example.com/teams/a"],
            ),
            ("cn:Payments *", vec!["cn:Payments CA"], vec!["cn:Billing CA", "payments"]),
            (
                "other:1.3.6.1.4.1.311.20.2.3:*@example.com",
                vec!["other:1.3.6.1.4.1.311.20.2.3:alice@example.com"],
                vec!["alice@example.com", "other:1.2.3:alice@example.com"],
            ),
        ] {
            let limits = NameLimits::parse(&[pattern]).expect(pattern);
            assert_eq!(limits.to_string(), pattern);
            for (names, permitted) in [(inside, true), (outside, false)] {
                for name in names {
                    let read = name.parse().expect(name);
                    assert_eq!(limits.permit(&read), permitted, "{pattern}: {name}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_what_was_meant() {
        for (pattern, told) in [
            ("web*.example.com", "did you mean \"*.example.com\"?"),
            ("Example.com", "did you mean \"example.com\"?"),
            ("10.0.0.1/8", "did you mean \"10.0.0.0/8\"?"),
            ("https://example.com/", "did you mean \"example.com\"?"),
            ("spiffe://td/a*", "a star is a whole label"),
            ("a*@example.com", "did you mean \"*@example.com\"?"),
            ("cn:*CA", "a star stands once, at the end"),
            ("uri:spiffe://td/a", "a SPIFFE ID belongs under spiffe"),
            ("other:upn:*", "a name of another kind is written"),
            ("", "empty"),
        ] {
            let refused = NameLimits::parse(&[pattern]).expect_err(pattern).to_string();
            assert!(refused.contains(told), "{pattern}: {refused}");
        }
        assert_eq!(NameLimits::parse::<&str>(&[]), Err(LimitFault::Empty));
        assert_eq!(NameLimits::parse(&["a.test"; PATTERNS_MAX + 1]), Err(LimitFault::Many));
    }
}
