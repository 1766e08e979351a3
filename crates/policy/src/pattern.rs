//! Patterns over names: `*` is one label, `**` one or more, only as the whole leftmost label; a
//! pattern that looks like more than that is refused with what would be meant.

use std::{fmt, net::IpAddr};

use chancery_pki::{DnsName, Name, SpiffeId};
use ipnet::IpNet;

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" {why}")]
pub struct PatternRejection {
    /// The text.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

fn no<T>(text: &str, why: impl Into<String>) -> Result<T, PatternRejection> {
    Err(PatternRejection { text: text.chars().flat_map(char::escape_debug).collect(), why: why.into() })
}

/// A pattern over plain DNS names. A certificate *for* a wildcard name is never matched by one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// This name.
    Exact(DnsName),
    /// One label before this.
    OneLabel(DnsName),
    /// One or more labels before this.
    Below(DnsName),
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`PatternRejection`].
    pub fn parse(text: &str) -> Result<Self, PatternRejection> {
        if text.trim() != text {
            return no(text, "has white space around it");
        }
        if !text.is_ascii() {
            let why = match idna::domain_to_ascii(text) {
                Ok(ascii) if ascii != text => {
                    format!("is not ASCII; letters can look alike: write its A-label form {ascii}")
                }
                _ => "is not ASCII; letters can look alike: write the A-label form (xn--…)".to_owned(),
            };
            return no(text, why);
        }
        if text.bytes().any(|c| c.is_ascii_uppercase()) {
            return no(
                text,
                format!("has upper case, and names are compared in lower case: write {}", text.to_ascii_lowercase()),
            );
        }
        if let Some(bare) = text.strip_suffix('.') {
            return no(text, format!("ends in a dot, and no name in a certificate does: write {bare}"));
        }
        let (make, base): (fn(DnsName) -> Self, &str) = if let Some(base) = text.strip_prefix("**.") {
            (Self::Below, base)
        } else if let Some(base) = text.strip_prefix("*.") {
            (Self::OneLabel, base)
        } else {
            (Self::Exact, text)
        };
        if base.contains('*') {
            return no(
                text,
                "has a * elsewhere than as the whole leftmost label: * is one label (*.example.com), ** one or more (**.example.com)",
            );
        }
        match base.parse() {
            Ok(base) => Ok(make(base)),
            Err(error) => no(text, format!("is no name: {error}")),
        }
    }

    /// Whether the name is one of those meant.
    #[must_use]
    pub fn matches(&self, name: &DnsName) -> bool {
        let before = |base: &DnsName| name.as_str().strip_suffix(base.as_str()).and_then(|rest| rest.strip_suffix('.'));
        match self {
            Self::Exact(exact) => exact == name,
            Self::OneLabel(base) => before(base).is_some_and(|label| !label.is_empty() && !label.contains('.')),
            Self::Below(base) => before(base).is_some_and(|labels| !labels.is_empty()),
        }
    }

    /// Whether every name that `other` means is meant by this one too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let at_or_below = |base: &DnsName, above: &DnsName| {
            base == above || base.as_str().strip_suffix(above.as_str()).is_some_and(|rest| rest.ends_with('.'))
        };
        match (self, other) {
            (_, Self::Exact(name)) => self.matches(name),
            (Self::OneLabel(base), Self::OneLabel(other)) => base == other,
            (Self::Below(base), Self::OneLabel(other) | Self::Below(other)) => at_or_below(other, base),
            (Self::Exact(_), _) | (Self::OneLabel(_), Self::Below(_)) => false,
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::OneLabel(base) => write!(f, "*.{base}"),
            Self::Below(base) => write!(f, "**.{base}"),
        }
    }
}

/// Reads a wildcard name, which is matched letter for letter.
///
/// # Errors
///
/// [`PatternRejection`].
pub fn wildcard(text: &str) -> Result<DnsName, PatternRejection> {
    if text.starts_with("**") {
        return no(text, "is a pattern; a wildcard certificate is granted letter for letter, as in *.example.com");
    }
    match Name::dns(text) {
        Ok(Name::Wildcard(base)) if text == format!("*.{base}") => Ok(base),
        Ok(Name::Wildcard(base)) => no(text, format!("has upper case: write *.{base}")),
        Ok(_) => {
            no(text, format!("is no wildcard name: plain names stand under `names`, wildcards look like *.{text}"))
        }
        Err(error) => no(text, format!("is no wildcard name: {error}")),
    }
}

/// Reads an address range; bits behind the prefix must be zero.
///
/// # Errors
///
/// [`PatternRejection`].
pub fn range(text: &str) -> Result<IpNet, PatternRejection> {
    let net: IpNet = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(net), _) => net,
        (_, Ok(address)) => IpNet::from(address),
        _ => return no(text, "is no address range: write 10.0.0.0/8 or one address"),
    };
    if net.trunc() != net {
        return no(text, format!("has bits behind its prefix: write {}", net.trunc()));
    }
    Ok(net)
}

/// A pattern over SPIFFE IDs: segments of the path may be `*` (one segment) or, as the last, `**` (one or more).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffePattern {
    trust_domain: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Exact(String),
    One,
    Rest,
}

impl SpiffePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`PatternRejection`].
    pub fn parse(text: &str) -> Result<Self, PatternRejection> {
        let plain = text.replace("/**", "/x").replace("/*", "/x");
        if plain.contains('*') {
            return no(text, "has a * elsewhere than as a whole segment of the path");
        }
        if let Err(error) = plain.parse::<SpiffeId>() {
            return no(text, format!("is no SPIFFE ID pattern: {error}"));
        }
        let rest = text.strip_prefix("spiffe://").unwrap_or_default();
        let mut parts = rest.split('/');
        let trust_domain = parts.next().unwrap_or_default().to_owned();
        let segments: Vec<Segment> = parts
            .map(|part| match part {
                "*" => Segment::One,
                "**" => Segment::Rest,
                exact => Segment::Exact(exact.to_owned()),
            })
            .collect();
        let rest_inside = segments.iter().rev().skip(1).any(|segment| *segment == Segment::Rest);
        if rest_inside {
            return no(text, "has ** elsewhere than as its last segment");
        }
        Ok(Self { trust_domain, segments })
    }

    /// Whether the ID is one of those meant.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        if id.trust_domain() != self.trust_domain {
            return false;
        }
        let mut parts = id.path().split('/').skip(1);
        for segment in &self.segments {
            match (segment, parts.next()) {
                (_, None) => return false,
                (Segment::Rest, Some(_)) => return true,
                (Segment::One, Some(_)) => {}
                (Segment::Exact(exact), Some(part)) if exact == part => {}
                (Segment::Exact(_), Some(_)) => return false,
            }
        }
        parts.next().is_none()
    }
}

impl fmt::Display for SpiffePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.trust_domain)?;
        for segment in &self.segments {
            match segment {
                Segment::Exact(exact) => write!(f, "/{exact}")?,
                Segment::One => f.write_str("/*")?,
                Segment::Rest => f.write_str("/**")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_is_one_label_and_two_are_one_or_more() {
        let one = NamePattern::parse("*.apps.example.com").unwrap();
        let more = NamePattern::parse("**.apps.example.com").unwrap();
        for (name, by_one, by_more) in [
            ("a.apps.example.com", true, true),
            ("a.b.apps.example.com", false, true),
            ("apps.example.com", false, false),
            ("aapps.example.com", false, false),
        ] {
            let name: DnsName = name.parse().unwrap();
            assert_eq!((one.matches(&name), more.matches(&name)), (by_one, by_more), "{name}");
        }
    }

    #[test]
    fn patterns_that_mean_something_else_than_they_look_are_refused() {
        for text in [
            "a*.example.com",
            "*a.example.com",
            "*.*.example.com",
            "a.*.example.com",
            "**",
            "*",
            "example.com.",
            "Example.com",
            "exаmple.com",
            " example.com",
            "a..b",
            "***.example.com",
            "a b.example.com",
        ] {
            assert!(NamePattern::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_range_with_bits_behind_its_prefix_is_refused() {
        assert!(range("10.0.0.1/8").is_err());
        assert!(range("10.0.0.0/8").is_ok());
        assert!(range("10.0.0.1").is_ok());
    }

    #[test]
    fn spiffe_patterns_match_segment_by_segment() {
        let pattern = SpiffePattern::parse("spiffe://cluster.local/ns/*/sa/**").unwrap();
        assert!(pattern.matches(&"spiffe://cluster.local/ns/a/sa/b/c".parse().unwrap()));
        assert!(!pattern.matches(&"spiffe://cluster.local/ns/a/b/sa/c".parse().unwrap()));
        assert!(!pattern.matches(&"spiffe://cluster.local/ns/a/sa".parse().unwrap()));
        assert!(!pattern.matches(&"spiffe://other/ns/a/sa/b".parse().unwrap()));
        assert!(SpiffePattern::parse("spiffe://a/**/b").is_err());
        assert!(SpiffePattern::parse("spiffe://a/b*").is_err());
    }
}
