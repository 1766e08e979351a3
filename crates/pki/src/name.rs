//! Names that a certificate can hold (RFC 5280 §4.2.1.6): DNS names, wildcards, IP addresses, SPIFFE IDs and other URIs,
//! e-mail addresses, names of other kinds; and common names that are none of these.
//!
//! A name that exists is canonical: lower case, A-labels (RFC 5890) checked, no trailing dot.
//! What a name *may* be used for is policy's business, not this module's.

mod common_name;
mod email;
mod other;
mod uri;

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

pub(crate) use self::common_name::hides;
pub use self::{
    common_name::{COMMON_NAME_MAX, CommonName},
    email::EmailAddress,
    other::OtherName,
    uri::Uri,
};

/// Longest DNS name, in octets of its text form (RFC 1035 §3.1: 255 with lengths and root).
const DNS_NAME_MAX: usize = 253;
/// Longest label, in octets (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;
/// Longest SPIFFE ID, in octets (SPIFFE-ID §2.3).
const SPIFFE_ID_MAX: usize = 2048;
/// Longest trust domain name, in octets (SPIFFE-ID §2.1).
const TRUST_DOMAIN_MAX: usize = 255;
/// Most names in one certificate (Let's Encrypt's limit as well).
pub const NAMES_MAX: usize = 100;
/// Longest names of one certificate, in octets together: with the rule of each, what rules warned of and the account's
/// own facts they must fit into one leaf of the ledger (65,535 octets), which holds them twice, once in base64.
pub const NAMES_OCTETS_MAX: usize = 16_384;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameRejection {
    /// Nothing was given.
    #[error("the name is empty")]
    Empty,
    /// Too long as a whole.
    #[error("the name has {length} octets, more than the {max} that are allowed")]
    TooLong {
        /// Octets given.
        length: usize,
        /// Octets allowed.
        max: usize,
    },
    /// A label is empty: two dots in a row, or one at an end.
    #[error("the name has an empty label (two dots in a row, or a dot at an end)")]
    EmptyLabel,
    /// A label is longer than RFC 1035 allows.
    #[error("the label \"{label}\" is longer than 63 octets")]
    LabelTooLong {
        /// The label.
        label: String,
    },
    /// A character that has no place in a host name.
    #[error("the label \"{label}\" holds a character that is not a letter, digit or inner hyphen")]
    BadCharacter {
        /// The label, unprintable characters escaped.
        label: String,
    },
    /// An `xn--` label that is not the A-label of any U-label (RFC 5891 §4.4).
    #[error("the label \"{label}\" is not a valid internationalized label (RFC 5891)")]
    BadIdna {
        /// The label.
        label: String,
    },
    /// A `*` elsewhere than as the whole leftmost label.
    #[error("a wildcard stands alone as the leftmost label, as in *.example.com")]
    MisplacedWildcard,
    /// A wildcard directly under a single label.
    #[error("a wildcard needs at least two labels below it, as in *.example.com")]
    WildcardTooBroad,
    /// The last label is a number, decimal or hexadecimal, so the text could be taken for an IP address.
    #[error("the name looks like an IP address; ask for an identifier of type ip")]
    LooksLikeAnAddress,
    /// Not an IP address in its canonical text form (RFC 8738 §3, RFC 5952).
    #[error("not an IP address in canonical form (RFC 5952)")]
    NotAnAddress,
    /// Not a SPIFFE ID.
    #[error("not a SPIFFE ID: {why}")]
    NotASpiffeId {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Not an e-mail address as certificates hold them.
    #[error("not an e-mail address for a certificate: {why}")]
    NotAnEmailAddress {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Not a URI, or not in its one spelling.
    #[error("not a URI for a certificate: {why}")]
    NotAUri {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Not a name whose kind an object identifier says.
    #[error("not a name of another kind (otherName): {why}")]
    NotAnOtherName {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Not a common name that could be a name of its own.
    #[error("not a common name: {why}")]
    NotACommonName {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// No name at all.
    #[error("at least one name is needed")]
    NoNames,
    /// More names than one certificate may have.
    #[error("{count} names are more than the {max} that one certificate may have", max = NAMES_MAX)]
    TooManyNames {
        /// Names given.
        count: usize,
    },
    /// Longer names than one certificate may have.
    #[error("names of {octets} octets together are longer than the {max} that one certificate may have", max = NAMES_OCTETS_MAX)]
    NamesTooLong {
        /// Octets given.
        octets: usize,
    },
}

/// A host name: lower case, A-labels, at least one label, no wildcard, no trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Box<str>);

impl DnsName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DnsName {
    type Err = NameRejection;

    /// Reads a name in its ASCII form (RFC 8555 §7.1.4); upper case is folded.
    fn from_str(text: &str) -> Result<Self, NameRejection> {
        if text.is_empty() {
            return Err(NameRejection::Empty);
        }
        if text.len() > DNS_NAME_MAX {
            return Err(NameRejection::TooLong { length: text.len(), max: DNS_NAME_MAX });
        }
        let lower = text.to_ascii_lowercase();
        for label in lower.split('.') {
            check_label(label)?;
        }
        // As browsers tell a host that ends in a number (WHATWG URL §3.5): 0x7f000001 is 127.0.0.1 to them.
        let last = lower.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|c| c.is_ascii_digit()) {
            return Err(NameRejection::LooksLikeAnAddress);
        }
        Ok(Self(lower.into_boxed_str()))
    }
}

fn check_label(label: &str) -> Result<(), NameRejection> {
    let shown = || label.escape_debug().collect::<String>();
    if label.is_empty() {
        return Err(NameRejection::EmptyLabel);
    }
    if label.contains('*') {
        return Err(NameRejection::MisplacedWildcard);
    }
    if label.len() > LABEL_MAX {
        return Err(NameRejection::LabelTooLong { label: shown() });
    }
    let inner = label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    if !inner || label.starts_with('-') || label.ends_with('-') {
        return Err(NameRejection::BadCharacter { label: shown() });
    }
    // Hyphens in the third and fourth place announce an encoding; only xn-- is one we know (RFC 5890 §2.3.1).
    if label.get(2..4) == Some("--") {
        let (unicode, outcome) = idna::domain_to_unicode(label);
        let round_trip = idna::domain_to_ascii_strict(&unicode);
        if !label.starts_with("xn--")
            || outcome.is_err()
            || round_trip.ok().as_deref() != Some(label)
            || unicode.is_ascii()
        {
            return Err(NameRejection::BadIdna { label: shown() });
        }
    }
    Ok(())
}

/// A SPIFFE ID: `spiffe://trust-domain/path` (SPIFFE-ID §2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId(Box<str>);

impl SpiffeId {
    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        let rest = self.0.strip_prefix("spiffe://").unwrap_or_default();
        rest.split('/').next().unwrap_or_default()
    }

    /// The path with its leading slash; empty for a trust domain's own ID.
    #[must_use]
    pub fn path(&self) -> &str {
        let rest = self.0.strip_prefix("spiffe://").unwrap_or_default();
        rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SpiffeId {
    type Err = NameRejection;

    fn from_str(text: &str) -> Result<Self, NameRejection> {
        let no = |why| Err(NameRejection::NotASpiffeId { why });
        if text.len() > SPIFFE_ID_MAX {
            return Err(NameRejection::TooLong { length: text.len(), max: SPIFFE_ID_MAX });
        }
        let Some(rest) = text.strip_prefix("spiffe://") else {
            return no("it starts with spiffe:// in lower case");
        };
        let (domain, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let domain_char = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
        if domain.is_empty() || domain.len() > TRUST_DOMAIN_MAX || !domain.bytes().all(domain_char) {
            return no("a trust domain holds lower-case letters, digits, dots, hyphens and underscores");
        }
        let path_char = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        for segment in path.split('/').skip(1) {
            if segment.is_empty() || segment == "." || segment == ".." {
                return no("a path has no empty and no dot segments and does not end in a slash");
            }
            if !segment.bytes().all(path_char) {
                return no("a path holds letters, digits, dots, hyphens and underscores, nothing percent-encoded");
            }
        }
        Ok(Self(text.into()))
    }
}

/// One name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A host name.
    Dns(DnsName),
    /// Any one label in place of the `*` in `*.base` (RFC 6125 §6.4.3); holds the base.
    Wildcard(DnsName),
    /// An IP address.
    Ip(IpAddr),
    /// A SPIFFE ID, as a URI.
    Spiffe(SpiffeId),
    /// Any other URI.
    Uri(Uri),
    /// An e-mail address.
    Email(EmailAddress),
    /// A name whose kind an object identifier says.
    Other(OtherName),
    /// A common name that is none of the others: in the subject, not among the alternative names.
    CommonName(CommonName),
}

impl Name {
    /// Reads a DNS name or, with `*.` before it, a wildcard.
    ///
    /// # Errors
    ///
    /// Any [`NameRejection`] about DNS names and wildcards.
    pub fn dns(text: &str) -> Result<Self, NameRejection> {
        let Some(base) = text.strip_prefix("*.") else {
            return text.parse().map(Self::Dns);
        };
        let base: DnsName = base.parse()?;
        if base.labels().count() < 2 {
            return Err(NameRejection::WildcardTooBroad);
        }
        if base.as_str().len() + 2 > DNS_NAME_MAX {
            return Err(NameRejection::TooLong { length: base.as_str().len() + 2, max: DNS_NAME_MAX });
        }
        Ok(Self::Wildcard(base))
    }

    /// Reads an IP address in its canonical form (RFC 8738 §3: RFC 5952 for IPv6); the
    /// IPv4-mapped form is refused, since it names the same host in another way.
    ///
    /// # Errors
    ///
    /// [`NameRejection::NotAnAddress`].
    pub fn ip(text: &str) -> Result<Self, NameRejection> {
        let address: IpAddr = text.parse().map_err(|_| NameRejection::NotAnAddress)?;
        if address.to_string() != text || matches!(address, IpAddr::V6(v6) if is_mapped(v6)) {
            return Err(NameRejection::NotAnAddress);
        }
        Ok(Self::Ip(address))
    }

    /// Reads a URI: a SPIFFE ID by its scheme, any other one else.
    ///
    /// # Errors
    ///
    /// [`NameRejection::NotASpiffeId`], [`NameRejection::NotAUri`] and [`NameRejection::TooLong`].
    pub fn uri(text: &str) -> Result<Self, NameRejection> {
        if text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:")) {
            text.parse().map(Self::Spiffe)
        } else {
            text.parse().map(Self::Uri)
        }
    }

    /// Whether it stands among the subject alternative names; only common names do not.
    #[must_use]
    pub const fn is_alternative_name(&self) -> bool {
        !matches!(self, Self::CommonName(_))
    }

    /// What is validated for this name: the base of a wildcard, else the name itself.
    #[must_use]
    pub const fn is_wildcard(&self) -> bool {
        matches!(self, Self::Wildcard(_))
    }
}

fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// As the certificate shows it: `*.example.com`, `10.0.0.1`, `spiffe://…`, `https://…`, `alice@example.com`; the others
/// behind what they are: `other:1.2.3:…`, `cn:Payments CA`.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Wildcard(base) => write!(f, "*.{base}"),
            Self::Ip(address) => address.fmt(f),
            Self::Spiffe(id) => id.fmt(f),
            Self::Uri(uri) => uri.fmt(f),
            Self::Email(address) => address.fmt(f),
            Self::Other(name) => name.fmt(f),
            Self::CommonName(name) => name.fmt(f),
        }
    }
}

impl FromStr for Name {
    type Err = NameRejection;

    /// Reads any kind of name from its text: `other:` and `cn:` by these prefixes, addresses by their form, URIs by
    /// their scheme, e-mail addresses by their `@`, everything else as DNS.
    fn from_str(text: &str) -> Result<Self, NameRejection> {
        if text.starts_with(other::PREFIX) {
            text.parse().map(Self::Other)
        } else if let Some(name) = text.strip_prefix(common_name::PREFIX) {
            CommonName::new(name).map(Self::CommonName)
        } else if text.parse::<IpAddr>().is_ok() {
            Self::ip(text)
        } else if text.contains(':') {
            Self::uri(text)
        } else if text.contains('@') {
            text.parse().map(Self::Email)
        } else {
            Self::dns(text)
        }
    }
}

/// The names of one certificate: at least one, at most [`NAMES_MAX`] of [`NAMES_OCTETS_MAX`] together, each once, in a
/// fixed order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameSet(BTreeSet<Name>);

impl NameSet {
    /// Collects names; duplicates are folded.
    ///
    /// # Errors
    ///
    /// [`NameRejection::NoNames`], [`NameRejection::TooManyNames`] and [`NameRejection::NamesTooLong`].
    pub fn new(names: impl IntoIterator<Item = Name>) -> Result<Self, NameRejection> {
        let names: BTreeSet<Name> = names.into_iter().collect();
        match names.len() {
            0 => Err(NameRejection::NoNames),
            count if count > NAMES_MAX => Err(NameRejection::TooManyNames { count }),
            _ => match names.iter().map(|name| name.to_string().len()).sum() {
                octets if octets > NAMES_OCTETS_MAX => Err(NameRejection::NamesTooLong { octets }),
                _ => Ok(Self(names)),
            },
        }
    }

    /// The names, in their fixed order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Name> + ExactSizeIterator {
        self.0.iter()
    }

    /// How many there are; never zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a set of names is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `name` is one of them, letter for letter.
    #[must_use]
    pub fn contains(&self, name: &Name) -> bool {
        self.0.contains(name)
    }
}

impl fmt::Display for NameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            name.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_rcgen_would_take_are_refused() {
        for text in ["", "a b", "a..b", "a\0b", "*.a.*.b", ".a", "a.", "-a.b", "a-.b", "a_b.c", "*", "*.", "*.com"] {
            assert!(Name::dns(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn upper_case_is_folded_and_a_labels_are_checked() {
        assert_eq!(Name::dns("WWW.Example.COM"), Name::dns("www.example.com"));
        assert!(Name::dns("xn--bcher-kva.example").is_ok());
        assert!(matches!(Name::dns("xn--a.example"), Err(NameRejection::BadIdna { .. })));
        assert!(matches!(Name::dns("ab--cd.example"), Err(NameRejection::BadIdna { .. })));
        assert!(matches!(Name::dns("bücher.example"), Err(NameRejection::BadCharacter { .. })));
    }

    #[test]
    fn an_address_is_not_a_host_name_and_the_other_way_round() {
        for text in ["10.0.0.1", "127.1", "2130706433", "0x7f000001", "0X7F.1", "a.0x", "a.0xb"] {
            assert_eq!(Name::dns(text), Err(NameRejection::LooksLikeAnAddress), "{text}");
        }
        assert!(Name::dns("0x7f.test").is_ok() && Name::dns("a.0xyz").is_ok());
        assert_eq!(Name::ip("::ffff:10.0.0.1"), Err(NameRejection::NotAnAddress));
        assert_eq!(Name::ip("2001:DB8::1"), Err(NameRejection::NotAnAddress));
        assert_eq!(Name::ip("2001:db8:0:0::1"), Err(NameRejection::NotAnAddress));
        assert!(Name::ip("2001:db8::1").is_ok());
    }

    #[test]
    fn every_kind_of_name_is_read_from_what_it_shows() {
        for (text, kind) in [
            ("a.example.com", "Dns"),
            ("*.example.com", "Wildcard"),
            ("2001:db8::1", "Ip"),
            ("spiffe://example/a", "Spiffe"),
            ("https://example.com/a@b", "Uri"),
            ("urn:x:y", "Uri"),
            ("alice@example.com", "Email"),
            ("other:1.2.3:a@b", "Other"),
            ("cn:a.example.com", "CommonName"),
            ("cn:system:node:a", "CommonName"),
        ] {
            let name: Name = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(name.to_string(), text);
            assert!(format!("{name:?}").starts_with(kind), "{name:?}");
        }
        for text in ["SPIFFE://example/a", "a.example.com:443", "2001:DB8::1", "a b@example.com", "cn:", "other:x"] {
            assert!(text.parse::<Name>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_spiffe_id_has_a_plain_trust_domain_and_plain_segments() {
        let id: SpiffeId = "spiffe://cluster.local/ns/a/sa/b".parse().expect("valid");
        assert_eq!((id.trust_domain(), id.path()), ("cluster.local", "/ns/a/sa/b"));
        for text in [
            "spiffe://",
            "SPIFFE://a",
            "spiffe://A",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/../b",
            "spiffe://a/%41",
            "spiffe://a:80/b",
            "spiffe://u@a/b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text} was taken");
        }
    }
}
