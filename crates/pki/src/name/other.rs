//! Names whose kind an object identifier says: otherName (RFC 5280 §4.2.1.6), with text as value.

use std::{fmt, str::FromStr};

use der::asn1::ObjectIdentifier;

use super::NameRejection;

/// Longest value, in octets.
const VALUE_MAX: usize = 1024;
/// With what the text of such a name begins.
pub(super) const PREFIX: &str = "other:";

/// An otherName whose value is a UTF8String, as a user principal name (1.3.6.1.4.1.311.20.2.3) is.
///
/// The value holds visible ASCII: what looks like something else, or like the end of a list, is no name here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherName {
    type_id: ObjectIdentifier,
    value: Box<str>,
}

impl OtherName {
    /// A name of this kind.
    ///
    /// # Errors
    ///
    /// [`NameRejection::NotAnOtherName`] and [`NameRejection::TooLong`].
    pub fn new(type_id: ObjectIdentifier, value: &str) -> Result<Self, NameRejection> {
        if value.len() > VALUE_MAX {
            return Err(NameRejection::TooLong { length: value.len(), max: VALUE_MAX });
        }
        let plain = |c: u8| c.is_ascii_graphic() && !b"\",\\".contains(&c);
        if value.is_empty() || !value.bytes().all(plain) {
            let why =
                "its value has letters, digits and signs of ASCII but no spaces, quotation marks, commas, backslashes";
            return Err(NameRejection::NotAnOtherName { why });
        }
        Ok(Self { type_id, value: value.into() })
    }

    /// The object identifier that says its kind.
    #[must_use]
    pub const fn type_id(&self) -> ObjectIdentifier {
        self.type_id
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// `other:1.3.6.1.4.1.311.20.2.3:alice@example.com`.
impl fmt::Display for OtherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}:{}", self.type_id, self.value)
    }
}

impl FromStr for OtherName {
    type Err = NameRejection;

    fn from_str(text: &str) -> Result<Self, NameRejection> {
        let shape = || NameRejection::NotAnOtherName { why: "it is written other:OBJECT-IDENTIFIER:VALUE" };
        let (oid, value) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':')).ok_or_else(shape)?;
        let type_id = ObjectIdentifier::new(oid).map_err(|_| shape())?;
        // One spelling for each: 1.02.3 is 1.2.3.
        if type_id.to_string() != oid {
            return Err(shape());
        }
        Self::new(type_id, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_name_reads_as_it_is_shown() {
        let text = "other:1.3.6.1.4.1.311.20.2.3:upn@domain.test";
        let name: OtherName = text.parse().expect("a name");
        assert_eq!((name.value(), name.to_string().as_str()), ("upn@domain.test", text));
        for text in [
            "",
            "other:",
            "other:1.2.3",
            "other:1.2.3:",
            "other:1.02.3:x",
            "other:x:y",
            "1.2.3:x",
            "other:1.2.3:a b",
            "other:1.2.3:a,b",
            "other:1.2.3:a\"b",
            "other:1.2.3:\u{e4}",
            "other:1.2.3:a\0",
        ] {
            assert!(text.parse::<OtherName>().is_err(), "{text:?} was taken");
        }
    }
}
