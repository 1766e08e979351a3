//! Patterns over the attributes of subjects that are asked for.

use std::fmt;

use chancery_pki::distinguished_name::{AttributeType, Escaped, unescaped};

use super::{PatternFault, Refused};

/// `O=Example Corporation`, `OU=team-*`, `0.9.2342.19200300.100.1.1=*`: the type, and the value letter for letter, with a
/// star at its end for whatever follows. A backslash takes a star, and any other character, as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttributePattern {
    kind: AttributeType,
    value: String,
    /// The value goes on, or not.
    open: bool,
}

impl AttributePattern {
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        let (kind, value) = text.split_once('=').ok_or((PatternFault::NotAnAttributePattern, None))?;
        let kind: AttributeType = kind.parse().map_err(|error| (PatternFault::AttributeType(error), None))?;
        if kind.stands_for_a_name() {
            return Err((PatternFault::AttributeIsName, None));
        }
        let (value, open) = match value.strip_suffix('*') {
            Some(start) if !ends_in_backslash(start) => (start, true),
            _ => (value, false),
        };
        let stars = value.match_indices('*');
        if stars.filter(|(at, _)| !value.get(..*at).is_some_and(ends_in_backslash)).count() > 0 {
            return Err((PatternFault::StarNotLastInAttribute, None));
        }
        let value = unescaped(value).ok_or((PatternFault::NotAnAttributePattern, None))?;
        let hides = |c: char| {
            c.is_control() || c == '\u{feff}' || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        };
        if value.chars().any(hides) || value.starts_with(' ') || (!open && (value.is_empty() || value.ends_with(' '))) {
            return Err((PatternFault::NotAnAttributePattern, None));
        }
        Ok(Self { kind, value, open })
    }

    pub(crate) fn matches(&self, kind: &AttributeType, value: &str) -> bool {
        self.kind == *kind && if self.open { value.starts_with(self.value.as_str()) } else { value == self.value }
    }
}

/// Whether the character behind the text is taken as it is.
fn ends_in_backslash(text: &str) -> bool {
    (text.len() - text.trim_end_matches('\\').len()) % 2 == 1
}

impl fmt::Display for AttributePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.open { "*" } else { "" };
        write!(f, "{}={}{star}", self.kind, Escaped(&self.value).to_string().replace('*', "\\*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_granted_letter_for_letter_or_by_what_it_begins_with() {
        for (pattern, kind, value, matches) in [
            ("O=Example Corporation", "O", "Example Corporation", true),
            ("O=Example Corporation", "O", "example corporation", false),
            ("O=Example Corporation", "OU", "Example Corporation", false),
            ("OU=team-*", "OU", "team-red", true),
            ("OU=team-*", "OU", "team-", true),
            ("OU=team-*", "OU", "a team-red", false),
            ("O=Example\\, Inc.", "O", "Example, Inc.", true),
            ("O=a\\*", "O", "a*", true),
            ("O=a\\*", "O", "ab", false),
            ("O=a\\\\*", "O", "a\\b", true),
            ("O=*", "O", "system:masters", true),
            ("2.5.4.10=*", "O", "anything", true),
            ("0.9.2342.19200300.100.1.1=*", "0.9.2342.19200300.100.1.1", "alice", true),
        ] {
            let read = AttributePattern::parse(pattern).unwrap_or_else(|(why, _)| panic!("{pattern}: {why}"));
            assert_eq!(read.matches(&kind.parse().expect("a type"), value), matches, "{pattern} {kind}={value}");
            assert_eq!(AttributePattern::parse(&read.to_string()), Ok(read), "{pattern}");
        }
        for text in ["", "O", "O=", "X=a", "O=a*b", "O=**", "O=*a", "O= a", "O=a ", "O=a\\", "O=a\nb", "CN=a", "*=a"] {
            assert!(AttributePattern::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
