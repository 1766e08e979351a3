//! Patterns over URIs other than SPIFFE IDs: scheme and host written out, stars for segments of the path.

use std::fmt;

use chancery_pki::{NameRejection, Uri};

use super::{PatternFault, Refused, Segment, segments, segments_cover, segments_match};

/// `https://example.com/teams/*`, `urn:example:**`: a star is one segment, two at the end one or more. Segments lie
/// between slashes where there is a host, else between colons. What has a query or a fragment is matched letter for
/// letter alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UriPattern {
    /// Scheme and authority, or the scheme alone.
    prefix: String,
    separator: char,
    segments: Vec<Segment>,
}

impl UriPattern {
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
        if text.starts_with("spiffe:") {
            return Err((PatternFault::SpiffeAmongUris, None));
        }
        let (prefix, separator, path) = taken_apart(text);
        if prefix.contains('*') {
            return Err((PatternFault::StarInTrustDomain, None));
        }
        let segments = segments(path, separator)?;
        if text.contains('*') && text.contains(['?', '#']) {
            return Err((PatternFault::StarWithQuery, None));
        }
        let pattern = Self { prefix: prefix.to_owned(), separator, segments };
        // With every star filled in, what remains must be a URI.
        let rejected = |rejection: NameRejection| (PatternFault::Name(rejection), None);
        pattern.written("x", "x").parse::<Uri>().map_err(rejected)?;
        Ok(pattern)
    }

    fn written(&self, one: &str, rest: &str) -> String {
        let segment = |segment: &Segment| match segment {
            Segment::Exact(exact) => exact.clone(),
            Segment::One => one.to_owned(),
            Segment::Rest => rest.to_owned(),
        };
        let path = self.segments.iter().map(|of| format!("{}{}", self.separator, segment(of)));
        format!("{}{}", self.prefix, path.collect::<String>())
    }

    /// What all of its URIs begin with: scheme and authority, or the scheme.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// That of a URI, as [`Self::prefix`].
    pub(crate) fn prefix_of(uri: &Uri) -> &str {
        taken_apart(uri.as_str()).0
    }

    pub(crate) fn matches(&self, uri: &Uri) -> bool {
        let (prefix, separator, path) = taken_apart(uri.as_str());
        if prefix != self.prefix || separator != self.separator {
            return false;
        }
        let starred = self.segments.iter().any(|segment| !matches!(segment, Segment::Exact(_)));
        if starred && uri.has_query_or_fragment() {
            return false;
        }
        segments_match(&self.segments, path.split(separator).skip(1))
    }

    /// Whether every URI that `other` matches is matched by this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let exact = |pattern: &Self| pattern.segments.iter().all(|segment| matches!(segment, Segment::Exact(_)));
        if exact(other) {
            return other.written("", "").parse().is_ok_and(|uri| self.matches(&uri));
        }
        self.prefix == other.prefix
            && self.separator == other.separator
            && segments_cover(&self.segments, &other.segments)
    }
}

/// What stars never stand in, what separates the segments behind it, and these, each behind its separator.
fn taken_apart(text: &str) -> (&str, char, &str) {
    let behind_scheme = text.find(':').map_or(text.len(), |colon| colon + 1);
    let rest = text.get(behind_scheme..).unwrap_or_default();
    match rest.strip_prefix("//") {
        Some(authority) => {
            // A query right behind the authority counts as a part of it: no segment would hold it.
            let length = authority.find('/').unwrap_or(authority.len());
            let (prefix, path) = text.split_at(behind_scheme + 2 + length);
            (prefix, '/', path)
        }
        None => {
            let (prefix, path) = text.split_at(behind_scheme.saturating_sub(1));
            (prefix, ':', path)
        }
    }
}

impl fmt::Display for UriPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written("*", "**"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> UriPattern {
        UriPattern::parse(text).unwrap_or_else(|(why, _)| panic!("{text}: {why}"))
    }

    #[test]
    fn uris_are_matched_segment_by_segment() {
        for (of, uri, matches) in [
            ("https://example.com/teams/*", "https://example.com/teams/a", true),
            ("https://example.com/teams/*", "https://example.com/teams/a/b", false),
            ("https://example.com/teams/*", "https://example.com/teams/a?x", false),
            ("https://example.com/teams/*", "http://example.com/teams/a", false),
            ("https://example.com/teams/*", "https://example.com:8443/teams/a", false),
            ("https://example.com/teams/**", "https://example.com/teams/a/b", true),
            ("https://example.com/teams/**", "https://example.com/teams", false),
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "https://example.com/", false),
            ("https://example.com", "https://example.com?a", false),
            ("https://example.com", "https://example.com#a", false),
            ("https://example.com/a", "https://example.com/a?b", false),
            ("https://example.com/a?b=c", "https://example.com/a?b=c", true),
            ("urn:example:*", "urn:example:a", true),
            ("urn:example:*", "urn:example:a:b", false),
            ("urn:**", "urn:example:a:b", true),
            ("urn:example:a", "urn:example:a", true),
        ] {
            assert_eq!(pattern(of).matches(&uri.parse().expect("a URI")), matches, "{of} {uri}");
            assert_eq!(pattern(of).to_string(), of);
        }
        for text in [
            "",
            "example.com",
            "https://*.example.com/a",
            "https://*",
            "https://example.com/a*",
            "https://example.com/**/a",
            "https://example.com/*?a",
            "https://Example.com/a",
            "*:a",
            "spiffe://example/a",
            "https://example.com/a b",
        ] {
            assert!(UriPattern::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_matches() {
        for (wide, narrow) in [
            ("https://example.com/**", "https://example.com/*"),
            ("https://example.com/*", "https://example.com/a"),
            ("urn:example:**", "urn:example:a:*"),
        ] {
            assert!(
                pattern(wide).covers(&pattern(narrow)) && !pattern(narrow).covers(&pattern(wide)),
                "{wide} {narrow}"
            );
        }
        assert!(!pattern("https://example.com/*").covers(&pattern("https://example.com/a?b")));
    }
}
