//! Types of attributes as people write them, and values as they are shown beside them (RFC 4514).

use std::{fmt, str::FromStr};

use der::asn1::ObjectIdentifier;

use super::{AttributeKind, COMMON_NAME, EMAIL_ADDRESS};

/// The type of an attribute: the key of those that we know (`O`), the object identifier of all others
/// (`0.9.2342.19200300.100.1.1`). The same type has one text alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(Box<str>);

/// A text that names no type of attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is none of C, ST, L, O, OU, CN, DC, serialNumber, and no object identifier, like 2.5.4.9")]
pub struct NotAnAttributeType {
    /// The text, unprintable characters escaped.
    pub text: String,
}

impl AttributeType {
    /// The type of an object identifier's content octets.
    pub(crate) fn of(oid: &[u8]) -> Self {
        match (AttributeKind::from_oid(oid), ObjectIdentifier::from_bytes(oid)) {
            (Some(kind), _) => Self::from(kind),
            (None, Ok(oid)) => Self(oid.to_string().into()),
            (None, Err(_)) => Self(hex::encode(oid).into()),
        }
    }

    /// Whether it is a common name or an e-mail address (PKCS#9), each of which must be among the names that policy
    /// judges.
    #[must_use]
    pub fn stands_for_a_name(&self) -> bool {
        [COMMON_NAME, EMAIL_ADDRESS].iter().any(|oid| Self::of(oid) == *self)
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<AttributeKind> for AttributeType {
    fn from(kind: AttributeKind) -> Self {
        Self(kind.key().into())
    }
}

impl FromStr for AttributeType {
    type Err = NotAnAttributeType;

    fn from_str(text: &str) -> Result<Self, NotAnAttributeType> {
        if let Some(kind) = AttributeKind::ALL.into_iter().find(|kind| kind.key().eq_ignore_ascii_case(text)) {
            return Ok(Self::from(kind));
        }
        match ObjectIdentifier::new(text) {
            Ok(oid) if oid.to_string() == text => Ok(Self::of(oid.as_bytes())),
            _ => Err(NotAnAttributeType { text: text.escape_debug().take(64).collect() }),
        }
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as RFC 4514 §2.4 writes it, so that nothing in it can be taken for the beginning of another attribute; `=` has
/// a backslash too. Characters that cannot be seen are written as their octets in hex.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.char_indices().next_back().map_or(0, |(at, _)| at);
        for (at, c) in self.0.char_indices() {
            let at_an_end = (at == 0 && matches!(c, ' ' | '#')) || (at == last && c == ' ');
            if c.is_control() || crate::name::hides(c) {
                let mut octets = [0; 4];
                for octet in c.encode_utf8(&mut octets).bytes() {
                    write!(f, "\\{octet:02X}")?;
                }
                continue;
            }
            if at_an_end || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

/// What an escaped text stands for, with backslashes before single characters alone; `None` where it ends in one.
#[must_use]
pub fn unescaped(text: &str) -> Option<String> {
    let mut read = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        read.push(if c == '\\' { chars.next()? } else { c });
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_one_text_whichever_way_it_was_written() {
        for (text, read) in [
            ("O", "O"),
            ("ou", "OU"),
            ("serialnumber", "serialNumber"),
            ("2.5.4.10", "O"),
            ("2.5.4.9", "2.5.4.9"),
            ("0.9.2342.19200300.100.1.25", "DC"),
            ("0.9.2342.19200300.100.1.1", "0.9.2342.19200300.100.1.1"),
        ] {
            assert_eq!(text.parse::<AttributeType>().expect(text).as_str(), read);
        }
        for text in ["", "X", "O=", "2", "02.5.4.9", "2.5.4.09", "organization"] {
            assert!(text.parse::<AttributeType>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_value_is_escaped_as_rfc_4514_says_and_read_back() {
        for (value, shown) in [
            ("Example, Inc.", "Example\\, Inc."),
            ("a+b=c;d<e>f\"g\\h", "a\\+b\\=c\\;d\\<e\\>f\\\"g\\\\h"),
            ("#1", "\\#1"),
            ("no. #1", "no. #1"),
            (" a ", "\\ a\\ "),
            (" ", "\\ "),
            ("Ämter", "Ämter"),
        ] {
            assert_eq!(Escaped(value).to_string(), shown);
            assert_eq!(unescaped(shown).as_deref(), Some(value));
        }
        assert_eq!(Escaped("a\nb\u{202e}").to_string(), "a\\0Ab\\E2\\80\\AE");
        assert_eq!(unescaped("a\\"), None);
    }
}
