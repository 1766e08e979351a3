//! Patterns over names. A pattern that means something else than it looks is refused, with what
//! was probably meant.
//!
//! `*` is exactly one label and `**` one or more, each only as the whole leftmost label. No
//! pattern matches a wildcard name: those are granted letter for letter.

mod attribute;
mod common_name;
mod mail;
mod other_name;
mod uri;

use std::{fmt, net::IpAddr};

use chancery_pki::{DnsName, Name, NameRejection, SpiffeId, distinguished_name::NotAnAttributeType};
use ipnet::IpNet;

pub(crate) use self::{
    attribute::AttributePattern, common_name::CommonNamePattern, mail::MailPattern, other_name::OtherNamePattern,
    uri::UriPattern,
};

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Spaces or other invisible characters.
    #[error("a name has no spaces or other invisible characters")]
    Space,
    /// A character beyond ASCII: it may look like another one.
    #[error(
        "{character:?} (U+{code:04X}) is not ASCII and may look like another letter; an internationalized name is written as its A-label (xn--…)"
    )]
    NotAscii {
        /// The character.
        character: char,
        /// Its code point.
        code: u32,
    },
    /// Upper case.
    #[error("names are compared in lower case")]
    UpperCase,
    /// A dot at the end.
    #[error("a name in a certificate has no trailing dot")]
    TrailingDot,
    /// A dot at the beginning.
    #[error("a leading dot says nothing here: **. before a name means one or more labels")]
    LeadingDot,
    /// A star that is a part of a label.
    #[error("a star is a whole label, never a part of one such as {label:?}")]
    StarInsideLabel {
        /// The label.
        label: String,
    },
    /// A star elsewhere than leftmost.
    #[error("a star stands only as the leftmost label")]
    StarNotLeftmost,
    /// More than one star label.
    #[error("there is one star at most: * is one label, ** is one or more")]
    SeveralStars,
    /// Three stars or more.
    #[error("* is one label and ** is one or more; there is nothing else")]
    TooManyStars,
    /// A star with nothing below it.
    #[error("a star needs a name below it, as in *.example.com")]
    StarAlone,
    /// An address among the names.
    #[error("an address belongs under addresses")]
    Address,
    /// A URI among the names.
    #[error("a SPIFFE ID belongs under spiffe, and names have neither scheme, port nor path")]
    Uri,
    /// A plain name among the wildcards.
    #[error(
        "not a wildcard name: those begin with *. and are granted letter for letter; plain names belong under names"
    )]
    NotAWildcard,
    /// A `**` among the wildcards.
    #[error("a wildcard name is granted letter for letter; ** is a pattern for plain names")]
    PatternAmongWildcards,
    /// Any other fault of a name.
    #[error("{0}")]
    Name(NameRejection),
    /// Neither a range nor an address.
    #[error("not an address range such as 10.0.0.0/8 or 2001:db8::/32")]
    NotARange,
    /// Bits behind the prefix.
    #[error("there are bits behind the prefix, so the range is not the one that it looks like")]
    HostBits,
    /// Not in its one canonical form.
    #[error("not in canonical form (RFC 5952)")]
    NotCanonical,
    /// An IPv4 address in IPv6 clothes; no certificate names one.
    #[error("no certificate names an IPv4-mapped address; write the IPv4 range")]
    Mapped,
    /// A `**` elsewhere than last in a SPIFFE pattern.
    #[error("** stands only as the last segment of a path")]
    RestNotLast,
    /// A star in a trust domain.
    #[error("scheme and host, or a trust domain, are written out; stars stand for segments of the path")]
    StarInTrustDomain,
    /// A SPIFFE ID among the URIs.
    #[error("a SPIFFE ID belongs under spiffe")]
    SpiffeAmongUris,
    /// A star and a query or a fragment in one URI pattern.
    #[error("a URI with a query or a fragment is matched letter for letter, without stars")]
    StarWithQuery,
    /// Not a pattern over e-mail addresses.
    #[error("an e-mail pattern is one address, or *@ before a host, *.host or **.host")]
    NotAMailPattern,
    /// A star that is a part of a mailbox.
    #[error("a star stands for every mailbox of a host, as in *@example.com, or for none")]
    StarInsideMailbox,
    /// Not a pattern over names of other kinds.
    #[error("a name of another kind is written OBJECT-IDENTIFIER:VALUE, as in 1.3.6.1.4.1.311.20.2.3:*@example.com")]
    NotAnOtherNamePattern,
    /// A star that is a part of a value.
    #[error("a star is a whole value, or all that stands before the @ of one")]
    StarInsideValue,
    /// A star elsewhere than at the end of a common name.
    #[error("in a common name a star stands once, at the end, for whatever follows")]
    StarNotLast,
    /// Not a pattern over attributes of a subject.
    #[error(
        "an attribute is written TYPE=VALUE, without spaces around either, as in O=Example Corporation or OU=team-*"
    )]
    NotAnAttributePattern,
    /// Not a type of attribute.
    #[error(transparent)]
    AttributeType(NotAnAttributeType),
    /// A common name or an e-mail address among the attributes.
    #[error("common names and e-mail addresses are names: they belong under common_names, names and emails")]
    AttributeIsName,
    /// A star elsewhere than at the end of an attribute's value.
    #[error("in a value a star stands once, at the end, for whatever follows; \\* is a star as it is")]
    StarNotLastInAttribute,
}

/// A fault and what was probably meant.
pub(crate) type Refused = (PatternFault, Option<String>);

/// A pattern over plain DNS names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum NamePattern {
    /// This name.
    Exact(DnsName),
    /// Exactly one label above this name.
    OneAbove(DnsName),
    /// One or more labels above this name.
    AnyAbove(DnsName),
}

impl NamePattern {
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        check_text(text)?;
        if text.starts_with("spiffe:") || text.contains("://") || text.contains('/') || text.contains(':') {
            let host = text.split("://").last().unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
            let fault = if text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() {
                PatternFault::Address
            } else {
                PatternFault::Uri
            };
            let meant = (fault == PatternFault::Uri && !text.starts_with("spiffe:")).then(|| host.to_owned());
            return Err((fault, meant.and_then(valid)));
        }
        if let Some(rest) = text.strip_prefix('.') {
            return Err((PatternFault::LeadingDot, valid(format!("**.{rest}"))));
        }
        check_stars(text)?;
        let (make, base): (fn(DnsName) -> Self, _) = match (text.strip_prefix("**."), text.strip_prefix("*.")) {
            (Some(base), _) => (Self::AnyAbove, base),
            (None, Some(base)) => (Self::OneAbove, base),
            (None, None) => (Self::Exact, text),
        };
        match base.parse() {
            Ok(name) => Ok(make(name)),
            Err(NameRejection::LooksLikeAnAddress) => Err((PatternFault::Address, None)),
            Err(rejection) => Err((PatternFault::Name(rejection), None)),
        }
    }

    pub(crate) const fn base(&self) -> &DnsName {
        match self {
            Self::Exact(name) | Self::OneAbove(name) | Self::AnyAbove(name) => name,
        }
    }

    pub(crate) fn matches(&self, name: &DnsName) -> bool {
        let above = |base: &DnsName| {
            let above = name.as_str().strip_suffix(base.as_str()).and_then(|rest| rest.strip_suffix('.'));
            above.filter(|labels| !labels.is_empty()).map(|labels| labels.contains('.'))
        };
        match self {
            Self::Exact(exact) => exact == name,
            Self::OneAbove(base) => above(base) == Some(false),
            Self::AnyAbove(base) => above(base).is_some(),
        }
    }

    /// Whether every name that `other` matches is matched by this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(name)) => self.matches(name),
            (Self::AnyAbove(ours), Self::OneAbove(theirs) | Self::AnyAbove(theirs)) => {
                ours == theirs || self.matches(theirs)
            }
            (Self::OneAbove(_), Self::OneAbove(_)) => self == other,
            (Self::OneAbove(_), Self::AnyAbove(_)) | (Self::Exact(_), Self::OneAbove(_) | Self::AnyAbove(_)) => false,
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::OneAbove(base) => write!(f, "*.{base}"),
            Self::AnyAbove(base) => write!(f, "**.{base}"),
        }
    }
}

/// A suggestion is only made if it would be taken.
fn valid(text: String) -> Option<String> {
    NamePattern::parse(&text).is_ok().then_some(text)
}

/// Characters that look like a star and are none.
const STAR_LOOKALIKES: [char; 7] = ['\u{66d}', '\u{204e}', '\u{2217}', '\u{22c6}', '\u{2731}', '\u{fe61}', '\u{ff0a}'];

/// What is common to names and wildcards: visible ASCII in lower case without a dot at the end.
fn check_text(text: &str) -> Result<(), Refused> {
    if text.is_empty() {
        return Err((PatternFault::Empty, None));
    }
    let invisible = |c: char| c.is_whitespace() || c.is_control();
    if text.chars().any(invisible) {
        let visible: String = text.chars().filter(|c| !invisible(*c)).collect();
        return Err((PatternFault::Space, valid(visible)));
    }
    if let Some(character) = text.chars().find(|c| !c.is_ascii()) {
        let starred: String = text.chars().map(|c| if STAR_LOOKALIKES.contains(&c) { '*' } else { c }).collect();
        let (stars, base) = match (starred.strip_prefix("**."), starred.strip_prefix("*.")) {
            (Some(base), _) => ("**.", base),
            (None, Some(base)) => ("*.", base),
            (None, None) => ("", starred.as_str()),
        };
        let ascii = idna::domain_to_ascii_strict(base).ok().map(|base| format!("{stars}{base}"));
        return Err((PatternFault::NotAscii { character, code: u32::from(character) }, ascii.and_then(valid)));
    }
    if let Some(bare) = text.strip_suffix('.') {
        return Err((PatternFault::TrailingDot, valid(bare.to_ascii_lowercase())));
    }
    if text.bytes().any(|c| c.is_ascii_uppercase()) {
        return Err((PatternFault::UpperCase, valid(text.to_ascii_lowercase())));
    }
    Ok(())
}

/// Stars stand alone, once, leftmost, and above something.
fn check_stars(text: &str) -> Result<(), Refused> {
    if !text.contains('*') {
        return Ok(());
    }
    let is_star = |label: &str| label.bytes().all(|c| c == b'*');
    let labels: Vec<&str> = text.split('.').collect();
    let starred = labels.iter().filter(|label| label.contains('*')).count();
    let last = labels.iter().rposition(|label| label.contains('*')).map_or(0, |at| at + 1);
    // What lies right of the last star is what was meant to be fixed.
    let base = labels.get(last..).unwrap_or_default().join(".");
    let meant = |stars: &str| valid(format!("{stars}.{base}"));
    if let Some(label) = labels.iter().find(|label| label.contains('*') && !is_star(label)) {
        let stars = if last > 1 { "**" } else { "*" };
        return Err((PatternFault::StarInsideLabel { label: (*label).to_owned() }, meant(stars)));
    }
    if labels.iter().any(|label| label.contains('*') && label.len() > 2) {
        return Err((PatternFault::TooManyStars, meant("**")));
    }
    if starred > 1 {
        return Err((PatternFault::SeveralStars, meant("**")));
    }
    if last > 1 {
        return Err((PatternFault::StarNotLeftmost, meant("**")));
    }
    if labels.len() == 1 {
        return Err((PatternFault::StarAlone, None));
    }
    Ok(())
}

/// Reads a wildcard name, which is matched letter for letter; gives its base.
pub(crate) fn wildcard(text: &str) -> Result<DnsName, Refused> {
    let only_wildcards = |(fault, meant): Refused| (fault, meant.filter(|meant| wildcard(meant).is_ok()));
    check_text(text).map_err(only_wildcards)?;
    if let Some(base) = text.strip_prefix("**.") {
        let meant = format!("*.{base}");
        return Err((PatternFault::PatternAmongWildcards, wildcard(&meant).is_ok().then_some(meant)));
    }
    check_stars(text).map_err(only_wildcards)?;
    if !text.starts_with('*') {
        let meant = format!("*.{text}");
        return Err((PatternFault::NotAWildcard, wildcard(&meant).is_ok().then_some(meant)));
    }
    match Name::dns(text) {
        Ok(Name::Wildcard(base)) => Ok(base),
        Ok(_) => Err((PatternFault::NotAWildcard, None)),
        Err(rejection) => Err((PatternFault::Name(rejection), None)),
    }
}

/// Reads an address range, or one address; its bits behind the prefix are zero.
pub(crate) fn range(text: &str) -> Result<IpNet, Refused> {
    if text.is_empty() {
        return Err((PatternFault::Empty, None));
    }
    let net = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(net), _) => net,
        (Err(_), Ok(address)) => IpNet::from(address),
        (Err(_), Err(_)) => {
            let bare = text.trim();
            let meant = (bare != text && range(bare).is_ok()).then(|| bare.to_owned());
            return Err((PatternFault::NotARange, meant));
        }
    };
    if let IpNet::V6(six) = net
        && let Some(four) = six.network().to_ipv4_mapped()
        && let Some(length) = six.prefix_len().checked_sub(96)
    {
        let meant = IpNet::new(IpAddr::V4(four), length).ok().map(|net| net.trunc().to_string());
        return Err((PatternFault::Mapped, meant));
    }
    if net.trunc() != net {
        return Err((PatternFault::HostBits, Some(net.trunc().to_string())));
    }
    let whole = net.prefix_len() == net.max_prefix_len();
    if net.to_string() != text && !(whole && net.addr().to_string() == text) {
        // 010 is eight to some and ten to others: no guess.
        let meant = matches!(net, IpNet::V6(_)).then(|| net.to_string());
        return Err((PatternFault::NotCanonical, meant));
    }
    Ok(net)
}

/// A pattern over SPIFFE IDs: a trust domain, then segments of the path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SpiffePattern {
    trust_domain: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Segment {
    Exact(String),
    /// `*`: exactly one segment.
    One,
    /// `**`: one or more, as the last.
    Rest,
}

impl SpiffePattern {
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        if text.is_empty() {
            return Err((PatternFault::Empty, None));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err((PatternFault::Space, None));
        }
        if let Some(character) = text.chars().find(|c| !c.is_ascii()) {
            return Err((PatternFault::NotAscii { character, code: u32::from(character) }, None));
        }
        let Some(rest) = text.strip_prefix("spiffe://") else {
            let rejection = NameRejection::NotASpiffeId { why: "it starts with spiffe:// in lower case" };
            let meant = format!("spiffe://{}", text.split("://").last().unwrap_or_default());
            let valid = Self::parse(&meant).is_ok().then_some(meant);
            return Err((PatternFault::Name(rejection), valid));
        };
        let trust_domain = rest.split('/').next().unwrap_or_default();
        if trust_domain.contains('*') {
            return Err((PatternFault::StarInTrustDomain, None));
        }
        let path = rest.get(trust_domain.len()..).unwrap_or_default();
        let segments = segments(path, '/')?;
        // With every star filled in, what remains must be a SPIFFE ID.
        let filled: String =
            segments.iter().fold(format!("spiffe://{trust_domain}"), |filled, segment| match segment {
                Segment::Exact(exact) => format!("{filled}/{exact}"),
                Segment::One | Segment::Rest => format!("{filled}/x"),
            });
        if let Err(rejection) = filled.parse::<SpiffeId>() {
            return Err((PatternFault::Name(rejection), None));
        }
        Ok(Self { trust_domain: trust_domain.to_owned(), segments })
    }

    pub(crate) fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    pub(crate) fn matches(&self, id: &SpiffeId) -> bool {
        id.trust_domain() == self.trust_domain && segments_match(&self.segments, id.path().split('/').skip(1))
    }

    /// Whether every ID that `other` matches is matched by this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain && segments_cover(&self.segments, &other.segments)
    }
}

/// The segments of a path, each behind its separator.
fn segments(path: &str, separator: char) -> Result<Vec<Segment>, Refused> {
    let segments: Vec<Segment> = path
        .split(separator)
        .skip(1)
        .map(|part| match part {
            "*" => Ok(Segment::One),
            "**" => Ok(Segment::Rest),
            starred if starred.contains('*') => {
                Err((PatternFault::StarInsideLabel { label: starred.to_owned() }, None))
            }
            exact => Ok(Segment::Exact(exact.to_owned())),
        })
        .collect::<Result<_, Refused>>()?;
    if segments.iter().rev().skip(1).any(|segment| *segment == Segment::Rest) {
        return Err((PatternFault::RestNotLast, None));
    }
    Ok(segments)
}

fn segments_match<'p>(segments: &[Segment], mut parts: impl Iterator<Item = &'p str>) -> bool {
    for segment in segments {
        match (segment, parts.next()) {
            (_, None) => return false,
            (Segment::Rest, Some(_)) => return true,
            (Segment::Exact(exact), Some(part)) if exact != part => return false,
            (Segment::Exact(_) | Segment::One, Some(_)) => {}
        }
    }
    parts.next().is_none()
}

/// Whether everything that `theirs` match is matched by `ours`.
fn segments_cover(ours: &[Segment], theirs: &[Segment]) -> bool {
    let mut theirs = theirs.iter();
    for segment in ours {
        match (segment, theirs.next()) {
            (_, None) => return false,
            (Segment::Rest, Some(_)) => return true,
            (Segment::One, Some(Segment::Exact(_) | Segment::One)) => {}
            (Segment::Exact(ours), Some(Segment::Exact(theirs))) if ours == theirs => {}
            (Segment::Exact(_) | Segment::One, Some(_)) => return false,
        }
    }
    theirs.next().is_none()
}

impl fmt::Display for SpiffePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.trust_domain)?;
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Exact(exact) => write!(f, "/{exact}"),
            Segment::One => f.write_str("/*"),
            Segment::Rest => f.write_str("/**"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_means_something_else_than_it_looks_is_refused_with_what_was_meant() {
        for (text, meant) in [
            ("web*.example.com", Some("*.example.com")),
            ("*web.example.com", Some("*.example.com")),
            ("a.*.example.com", Some("**.example.com")),
            ("*.*.example.com", Some("**.example.com")),
            ("***.example.com", Some("**.example.com")),
            ("**.*.example.com", Some("**.example.com")),
            ("a.w*b.example.com", Some("**.example.com")),
            ("*", None),
            ("**", None),
            ("*.", None),
            ("", None),
            ("example.com.", Some("example.com")),
            ("Example.COM.", Some("example.com")),
            (".example.com", Some("**.example.com")),
            ("Example.com", Some("example.com")),
            (" example.com", Some("example.com")),
            ("a b.example.com", Some("ab.example.com")),
            ("example\u{200b}.com", Some("example.com")),
            ("ex\u{430}mple.com", Some("xn--exmple-4nf.com")),
            ("*.b\u{fc}cher.example", Some("*.xn--bcher-kva.example")),
            ("example\u{3002}com", Some("example.com")),
            ("\u{ff45}xample.com", Some("example.com")),
            ("\u{2217}.example.com", Some("*.example.com")),
            ("https://example.com/x", Some("example.com")),
            ("example.com:443", Some("example.com")),
            ("spiffe://a/b", None),
            ("10.0.0.1", None),
            ("10.0.0.0/8", None),
            ("2001:db8::1", None),
            ("a..b", None),
            ("a_b.example.com", None),
            ("xn--a.example", None),
            ("?.example.com", None),
            ("[a-z].example.com", None),
        ] {
            let (_, suggestion) = NamePattern::parse(text).expect_err(text);
            assert_eq!(suggestion.as_deref(), meant, "{text:?}");
        }
    }

    #[test]
    fn wildcards_are_wildcard_names_and_nothing_else() {
        assert_eq!(wildcard("*.example.com").expect("a wildcard").as_str(), "example.com");
        for (text, meant) in [
            ("example.com", Some("*.example.com")),
            ("**.example.com", Some("*.example.com")),
            ("*.Example.com", Some("*.example.com")),
            ("*.com", None),
            ("**.com", None),
            ("com", None),
            ("*", None),
            ("*.*.example.com", None),
            ("a.*.example.com", None),
            ("w*.example.com", Some("*.example.com")),
            ("*.example.com.", Some("*.example.com")),
        ] {
            let (_, suggestion) = wildcard(text).expect_err(text);
            assert_eq!(suggestion.as_deref(), meant, "{text:?}");
        }
    }

    #[test]
    fn a_range_says_exactly_which_addresses() {
        for text in ["10.0.0.0/8", "10.0.0.1", "10.0.0.1/32", "0.0.0.0/0", "2001:db8::/32", "::1", "fd00::/8"] {
            assert!(range(text).is_ok(), "{text}");
        }
        for (text, meant) in [
            ("10.0.0.1/8", Some("10.0.0.0/8")),
            ("2001:DB8::/32", Some("2001:db8::/32")),
            ("2001:db8:0:0::/64", Some("2001:db8::/64")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:10.0.0.1", Some("10.0.0.1/32")),
            (" 10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.0.0.0/33", None),
            ("010.0.0.0/8", None),
            ("10.0.0", None),
            ("10.*", None),
            ("", None),
        ] {
            let (_, suggestion) = range(text).expect_err(text);
            assert_eq!(suggestion.as_deref(), meant, "{text:?}");
        }
    }

    #[test]
    fn spiffe_patterns_match_segment_by_segment() {
        let pattern = SpiffePattern::parse("spiffe://cluster.local/ns/*/sa/**").expect("a pattern");
        for (id, expected) in [
            ("spiffe://cluster.local/ns/a/sa/b", true),
            ("spiffe://cluster.local/ns/a/sa/b/c", true),
            ("spiffe://cluster.local/ns/a/sa", false),
            ("spiffe://cluster.local/ns/a/b/sa/c", false),
            ("spiffe://cluster.locale/ns/a/sa/b", false),
            ("spiffe://cluster.local", false),
        ] {
            assert_eq!(pattern.matches(&id.parse().expect("an id")), expected, "{id}");
        }
        for text in [
            "spiffe://td/**/a",
            "spiffe://td/a*",
            "spiffe://*/a",
            "spiffe://td/",
            "spiffe://td//a",
            "spiffe://TD/a",
            "spiffe://td/%41",
            "spiffe://td/../a",
            "spiffe://",
            "https://td/a",
            "spiffe://td/***",
        ] {
            assert!(SpiffePattern::parse(text).is_err(), "{text}");
        }
    }
}
