//! Patterns over names whose kind an object identifier says.

use std::fmt;

use chancery_pki::{NameRejection, OtherName, profile::ObjectIdentifier};

use super::{PatternFault, Refused};

/// `OID:value`, `OID:*@host` and `OID:*`: the kind is always written out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OtherNamePattern {
    type_id: ObjectIdentifier,
    value: ValuePattern,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum ValuePattern {
    Exact(String),
    /// Something before an `@` and exactly this behind it.
    At(String),
    Any,
}

impl OtherNamePattern {
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        let shape = || (PatternFault::NotAnOtherNamePattern, None);
        let (oid, value) = text.split_once(':').ok_or_else(shape)?;
        let type_id = ObjectIdentifier::new(oid).ok().filter(|read| read.to_string() == oid).ok_or_else(shape)?;
        // With the star filled in, what remains must be such a name.
        let filled = value.replacen('*', "x", 1);
        let rejected = |rejection: NameRejection| (PatternFault::Name(rejection), None);
        OtherName::new(type_id, &filled).map_err(rejected)?;
        let value = match (value, value.strip_prefix("*@")) {
            ("*", _) => ValuePattern::Any,
            (_, Some(host)) if !host.is_empty() && !host.contains(['*', '@']) => ValuePattern::At(host.to_owned()),
            (exact, _) if !exact.contains('*') => ValuePattern::Exact(exact.to_owned()),
            _ => return Err((PatternFault::StarInsideValue, None)),
        };
        Ok(Self { type_id, value })
    }

    pub(crate) const fn type_id(&self) -> ObjectIdentifier {
        self.type_id
    }

    pub(crate) fn matches(&self, name: &OtherName) -> bool {
        self.type_id == name.type_id()
            && match &self.value {
                ValuePattern::Any => true,
                ValuePattern::Exact(exact) => exact == name.value(),
                ValuePattern::At(host) => {
                    name.value().rsplit_once('@').is_some_and(|(user, at)| {
                        // One @ alone, so that nothing hides before the one that counts.
                        !user.is_empty() && !user.contains('@') && at.eq_ignore_ascii_case(host)
                    })
                }
            }
    }

    /// Whether every name that `other` matches is matched by this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.type_id == other.type_id
            && match (&self.value, &other.value) {
                (ValuePattern::Any, _) => true,
                (_, ValuePattern::Exact(value)) => {
                    OtherName::new(other.type_id, value).is_ok_and(|name| self.matches(&name))
                }
                (ours, theirs) => ours == theirs,
            }
    }
}

impl fmt::Display for OtherNamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            ValuePattern::Any => write!(f, "{}:*", self.type_id),
            ValuePattern::At(host) => write!(f, "{}:*@{host}", self.type_id),
            ValuePattern::Exact(value) => write!(f, "{}:{value}", self.type_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principal_names_are_granted_one_by_one_or_all_of_a_domain() {
        let upn =
            |value: &str| OtherName::new("1.3.6.1.4.1.311.20.2.3".parse().expect("an OID"), value).expect("a name");
        for (pattern, value, matches) in [
            ("1.3.6.1.4.1.311.20.2.3:*@domain.test", "alice@domain.test", true),
            ("1.3.6.1.4.1.311.20.2.3:*@domain.test", "alice@DOMAIN.test", true),
            ("1.3.6.1.4.1.311.20.2.3:*@domain.test", "@domain.test", false),
            ("1.3.6.1.4.1.311.20.2.3:*@domain.test", "a@b@domain.test", false),
            ("1.3.6.1.4.1.311.20.2.3:*@domain.test", "alice@sub.domain.test", false),
            ("1.3.6.1.4.1.311.20.2.3:alice@domain.test", "alice@domain.test", true),
            ("1.3.6.1.4.1.311.20.2.3:alice@domain.test", "bob@domain.test", false),
            ("1.3.6.1.4.1.311.20.2.3:*", "anything", true),
            ("1.2.3:*", "anything", false),
        ] {
            let read = OtherNamePattern::parse(pattern).unwrap_or_else(|(why, _)| panic!("{pattern}: {why}"));
            assert_eq!(read.matches(&upn(value)), matches, "{pattern} {value}");
            assert_eq!(read.to_string(), pattern);
        }
        for text in
            ["", "*", "1.2.3", "1.2.3:", "upn:*", "1.2.3:a*", "1.2.3:*@*", "1.2.3:*@", "1.2.3:**", "1.02.3:x", "*:x"]
        {
            assert!(OtherNamePattern::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
