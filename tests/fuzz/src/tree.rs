//! JSON as it was written: members in their order, duplicates kept. What serde_json sees, and no reading of ours.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// Members in their order.
    Object(Vec<(String, Self)>),
    /// Items.
    Array(Vec<Self>),
    /// A string.
    Text(String),
    /// `null`, `true`, a number: as it is written.
    Other(String),
}

impl Tree {
    /// Reads one JSON text.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Whether some object in it, at any level, names a member twice.
    #[must_use]
    pub fn has_duplicates(&self) -> bool {
        match self {
            Self::Object(members) => {
                let twice = |(at, (name, _)): (usize, &(String, Self))| {
                    members.iter().skip(at + 1).any(|(other, _)| other == name)
                };
                members.iter().enumerate().any(twice) || members.iter().any(|(_, value)| value.has_duplicates())
            }
            Self::Array(items) => items.iter().any(Self::has_duplicates),
            Self::Text(_) | Self::Other(_) => false,
        }
    }

    /// The members, if it is an object.
    #[must_use]
    pub fn members(&self) -> &[(String, Self)] {
        if let Self::Object(members) = self { members } else { &[] }
    }

    /// A member of an object.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.members().iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// A text member of an object.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        if let Some(Self::Text(text)) = self.member(name) { Some(text) } else { None }
    }

    /// How many values there are in it, itself included.
    pub(crate) fn count(&self) -> usize {
        1 + match self {
            Self::Object(members) => members.iter().map(|(_, value)| value.count()).sum(),
            Self::Array(items) => items.iter().map(Self::count).sum::<usize>(),
            Self::Text(_) | Self::Other(_) => 0,
        }
    }

    /// The value with this number, counted from the outermost.
    pub(crate) fn nth(&mut self, number: usize) -> Option<&mut Self> {
        let Some(mut left) = number.checked_sub(1) else { return Some(self) };
        let inner: Vec<&mut Self> = match self {
            Self::Object(members) => members.iter_mut().map(|(_, value)| value).collect(),
            Self::Array(items) => items.iter_mut().collect(),
            Self::Text(_) | Self::Other(_) => Vec::new(),
        };
        for value in inner {
            let count = value.count();
            if left < count {
                return value.nth(left);
            }
            left -= count;
        }
        None
    }
}

/// As JSON, every name and string escaped as serde_json escapes it.
impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Object(members) => {
                f.write_str("{")?;
                for (at, (name, value)) in members.iter().enumerate() {
                    write!(f, "{}{}:{value}", if at > 0 { "," } else { "" }, quoted(name))?;
                }
                f.write_str("}")
            }
            Self::Array(items) => {
                f.write_str("[")?;
                for (at, value) in items.iter().enumerate() {
                    write!(f, "{}{value}", if at > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Other(raw) => f.write_str(raw),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Other("null".to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Other(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Other(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Other(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Other(serde_json::Value::from(value).to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                Ok(Tree::Array(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = members.next_entry()? {
                    all.push(member);
                }
                Ok(Tree::Object(all))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_seen_however_they_are_written_and_at_any_level() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"[0,[{"x":[{"a":1,"a":2}]}]]"#] {
            assert!(Tree::read(text.as_bytes()).expect("JSON").has_duplicates(), "{text}");
        }
        let once = r#"{"a":{"a":[{"a":"\n"},null,-1,1.5]},"b":{"a":true}}"#;
        let tree = Tree::read(once.as_bytes()).expect("JSON");
        assert!(!tree.has_duplicates());
        assert_eq!(tree.to_string(), once);
    }

    #[test]
    fn every_value_has_its_number() {
        let mut tree = Tree::read(br#"{"a":[1,{"b":2}],"c":3}"#).expect("JSON");
        assert_eq!(tree.count(), 6);
        let written: Vec<String> = (0..6).map(|number| tree.nth(number).expect("there").to_string()).collect();
        assert_eq!(written[1..], [r#"[1,{"b":2}]"#, "1", r#"{"b":2}"#, "2", "3"]);
        assert!(tree.nth(6).is_none());
    }
}
