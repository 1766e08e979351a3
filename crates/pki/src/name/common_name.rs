//! Common names that are names of their own: they stand in the subject, and in no subject alternative name.

use std::{fmt, net::IpAddr};

use super::NameRejection;

/// Longest common name, in characters (RFC 5280 appendix A.1, `ub-common-name`).
pub const COMMON_NAME_MAX: usize = 64;
/// With what the text of such a name begins.
pub(super) const PREFIX: &str = "cn:";

/// A common name that a requester asks for and that is none of the other names: `Payments CA`, `system:node:a`.
///
/// Letter for letter as it stands in the subject. It holds nothing that could end a list, and no character that hides
/// or turns its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommonName(Box<str>);

impl CommonName {
    /// A common name.
    ///
    /// # Errors
    ///
    /// [`NameRejection::NotACommonName`].
    pub fn new(text: &str) -> Result<Self, NameRejection> {
        let no = |why| Err(NameRejection::NotACommonName { why });
        let length = text.chars().count();
        if length == 0 || length > COMMON_NAME_MAX {
            return no("it has 1 to 64 characters (X.520)");
        }
        if text.trim() != text || text.chars().any(hides) {
            return no("it has no control characters and no spaces at its ends");
        }
        if text.contains(['"', ',', '\\']) {
            return no("it has no quotation marks, commas and backslashes");
        }
        Ok(Self(text.into()))
    }

    /// The text, as it stands in the subject.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether software that looks for hosts in common names could take it for one, or for an address.
    #[must_use]
    pub fn reads_as_host(&self) -> bool {
        let text = self.as_str();
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let of_a_host = |c: char| !c.is_whitespace() && c != ':';
        bare.parse::<IpAddr>().is_ok()
            || text.eq_ignore_ascii_case("localhost")
            || (text.chars().all(of_a_host) && text.contains(['.', '*']))
    }
}

/// Characters that make a text look like another one: controls, and those that turn or hide their neighbours.
pub(crate) fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `cn:Payments CA`.
impl fmt::Display for CommonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_shows_what_it_is() {
        for text in ["a", "Payments CA", "system:node:worker-1", "B\u{fc}ro", "a_b.example.com", &"x".repeat(64)] {
            assert_eq!(CommonName::new(text).expect(text).to_string(), format!("cn:{text}"));
        }
        for text in ["", " a", "a ", "a,b", "a\"b", "a\\b", "a\0b", "a\u{202e}b", "a\u{200b}b", &"x".repeat(65)] {
            assert!(CommonName::new(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn what_could_be_taken_for_a_host_is_known() {
        for text in ["a_b.example.com", "127.1", "::1", "[::1]", "10.0.0.1", "*", "w*.example.com", "LocalHost", "a."] {
            assert!(CommonName::new(text).expect(text).reads_as_host(), "{text}");
        }
        for text in ["Payments CA", "test-common-name-1", "system:node:a.example.com", "Version 1.2 CA"] {
            assert!(!CommonName::new(text).expect(text).reads_as_host(), "{text}");
        }
    }
}
