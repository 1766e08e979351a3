//! JSON that every parser reads in the same way: bounded, and no member twice in one object.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

/// Deepest nesting taken; the RFC's own messages need three.
pub const DEPTH_MAX: usize = 16;
/// Most members taken in one object; the RFC's own messages have six.
pub const MEMBERS_MAX: usize = 64;

/// The bytes are not the JSON that is wanted here. What a client wrote into a string is not told: it may be a
/// secret, and its place is enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotThisJson(String);

impl From<serde_json::Error> for NotThisJson {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        // serde's own words: invalid type: string "…", expected a sequence at line 1 column 5
        match (text.find(" \""), text.rfind("\", expected ")) {
            (Some(from), Some(to)) if from < to => {
                Self([text.get(..from), text.get(to + 1..)].into_iter().flatten().collect())
            }
            _ => Self(text),
        }
    }
}

/// Reads a JSON object as `T`: [`check`]ed as a whole first, and an array is never taken for an object.
///
/// # Errors
///
/// [`NotThisJson`], which says what is wrong and where.
pub fn payload<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, NotThisJson> {
    check(bytes)?;
    Ok(serde_json::from_slice::<Object<T>>(bytes).map(|Object(value)| value)?)
}

/// Checks that the bytes are one JSON value, within [`DEPTH_MAX`] and [`MEMBERS_MAX`], in
/// Unicode throughout, and that no object in it, at any level, names a member twice.
///
/// # Errors
///
/// [`NotThisJson`], which says what is wrong and where.
pub fn check(bytes: &[u8]) -> Result<(), NotThisJson> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Ok(Checked { depth: DEPTH_MAX }.deserialize(&mut reader).and_then(|()| reader.end())?)
}

struct Checked {
    /// How many levels may still open.
    depth: usize,
}

impl Checked {
    fn inner<E: serde::de::Error>(&self) -> Result<usize, E> {
        self.depth.checked_sub(1).ok_or_else(|| E::custom(format_args!("nested deeper than {DEPTH_MAX} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let depth = self.inner()?;
        while items.next_element_seed(Self { depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let depth = self.inner()?;
        let mut names: Vec<Cow<'de, str>> = Vec::with_capacity(8);
        while let Some(Text(name)) = members.next_key()? {
            if names.len() == MEMBERS_MAX {
                return Err(A::Error::custom(format_args!("an object has more than {MEMBERS_MAX} members")));
            }
            if names.contains(&name) {
                return Err(A::Error::custom(format_args!("the member {:?} appears twice", super::shown(&name))));
            }
            names.push(name);
            members.next_value_seed(Self { depth })?;
        }
        Ok(())
    }
}

/// A string, borrowed where it holds no escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'de>(pub Cow<'de, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Borrowing<'a> {
            type Value = Text<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing(PhantomData))
    }
}

/// A JSON object read as `T`; serde alone would take an array for a struct as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_with_a_duplicate_member_at_any_level_is_malformed() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"[0,[{"x":[{"a":1,"a":2}]}]]"#,
        ] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
        check(br#"{"a":{"a":{"a":[]}},"b":{"a":null,"A":-1.5e3}}"#).expect("each member once");
    }

    #[test]
    fn what_stands_in_a_string_is_not_told_and_its_place_is() {
        for text in [r#"["s3cr3t"]"#, r#"["s3cr3t\", expected x"]"#] {
            let wrong = payload::<Vec<u64>>(format!("{{\"a\":{text}}}").as_bytes()).expect_err("no list").to_string();
            assert!(!wrong.contains("s3cr3t"), "{wrong}");
            let inner = serde_json::from_str::<Vec<u64>>(text).map_err(NotThisJson::from).expect_err("no numbers");
            assert!(inner.to_string().starts_with("invalid type: string, expected u64 at line 1 column"), "{inner}");
        }
        let member = payload::<u64>(br#"{"a":1,"a":2}"#).expect_err("twice").to_string();
        assert!(member.contains("\"a\" appears twice"), "{member}");
    }

    #[test]
    fn nul_and_bytes_that_are_not_unicode_are_malformed_not_a_crash() {
        for bytes in [
            &b"{\"a\":\"\xff\"}"[..],
            b"{\"a\":\"\\ud800\"}",
            b"{\"\\ud800\":1}",
            b"{\"a\":\"\x00\"}",
            b"\x00",
            b"",
            b"{}x",
            b"{} {}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":1e999}",
            b"{\"a\":01}",
            b"{'a':1}",
            b"{\"a\":1,}",
            b"NaN",
        ] {
            assert!(check(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn depth_and_number_of_members_are_bounded() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        check(nested(DEPTH_MAX).as_bytes()).expect("deep enough for anyone");
        assert!(check(nested(DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(check(nested(30_000).as_bytes()).is_err());
        assert!(check("[".repeat(60_000).as_bytes()).is_err());
        let members = |count: usize| {
            let list: Vec<String> = (0..count).map(|at| format!("\"m{at}\":0")).collect();
            format!("{{{}}}", list.join(","))
        };
        check(members(MEMBERS_MAX).as_bytes()).expect("within the bound");
        assert!(check(members(MEMBERS_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn an_array_is_never_taken_for_an_object() {
        #[derive(Debug, Deserialize)]
        struct Shape {
            #[expect(dead_code, reason = "only whether it parses matters")]
            csr: String,
        }
        payload::<Shape>(br#"{"csr":"AQI"}"#).expect("an object");
        assert!(payload::<Shape>(br#"["AQI"]"#).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused_and_never_a_panic(bytes: Vec<u8>) {
            let ours = check(&bytes).is_ok();
            // What we take, serde_json takes too; the other way round need not hold.
            if ours {
                proptest::prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
            }
        }
    }
}
