//! How single values are spelled in a leaf, for serde's `with`.

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// Largest number that JSON carries exactly (RFC 8785 §3.2.2.3, RFC 7493 §2.2).
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Octets as base64url without padding (RFC 4648 §5).
pub(super) mod binary {
    use base64::{Engine as _, display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::{Deserializer, Serializer, read_text};

    pub(in super::super) fn serialize<T: AsRef<[u8]>, S: Serializer>(
        octets: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(octets.as_ref(), &URL_SAFE_NO_PAD))
    }

    pub(in super::super) fn deserialize<'de, T: TryFrom<Vec<u8>>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        read_text(deserializer, "base64url without padding, of the right length", |text| {
            URL_SAFE_NO_PAD.decode(text).ok().and_then(|octets| octets.try_into().ok())
        })
    }
}

/// The same, where it may be absent.
pub(super) mod optional_binary {
    use super::{Deserializer, Serializer, binary};

    pub(in super::super) fn serialize<T: AsRef<[u8]>, S: Serializer>(
        octets: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match octets {
            Some(octets) => binary::serialize(octets, serializer),
            None => serializer.serialize_none(), // not reached: an absent field is skipped
        }
    }

    /// Only called where the field is present; `null` is no octets.
    pub(in super::super) fn deserialize<'de, T: TryFrom<Vec<u8>>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        binary::deserialize(deserializer).map(Some)
    }
}

/// A list of hashes.
pub(super) mod hashes {
    use serde::{Deserialize, Serialize};

    use super::{Deserializer, Serializer, binary};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Element(#[serde(with = "binary")] [u8; 32]);

    pub(in super::super) fn serialize<S: Serializer>(hashes: &[[u8; 32]], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(hashes.iter().copied().map(Element))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<[u8; 32]>, D::Error> {
        Ok(Vec::<Element>::deserialize(deserializer)?.into_iter().map(|Element(hash)| hash).collect())
    }
}

/// A number that JSON carries exactly.
pub(super) mod number {
    use super::{Deserializer, MAX_NUMBER, Serializer};
    use serde::{Deserialize as _, de::Error as _, ser::Error as _};

    pub(in super::super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        if *number > MAX_NUMBER {
            return Err(S::Error::custom("a number beyond 2^53 - 1"));
        }
        serializer.serialize_u64(*number)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let number = u64::deserialize(deserializer)?;
        if number > MAX_NUMBER { Err(D::Error::custom("a number beyond 2^53 - 1")) } else { Ok(number) }
    }
}

/// A point in time, in milliseconds since 1970.
pub(super) mod time {
    use chancery_pki::Timestamp;

    use super::{Deserializer, Serializer};
    use serde::Deserialize as _;

    pub(in super::super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(at.unix_millis())
    }

    /// What lies outside the years 1970 to 9999 is clamped, and then fails as not canonical.
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_unix_millis)
    }
}

/// A serial number in lower-case hexadecimal.
pub(super) mod serial {
    use chancery_pki::SerialNumber;

    use super::{Deserializer, Serializer, read_text};

    pub(in super::super) fn serialize<S: Serializer>(serial: &SerialNumber, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(serial)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SerialNumber, D::Error> {
        read_text(deserializer, "a serial number in hexadecimal", |text| text.parse().ok())
    }
}

/// Reads a string that needs no escapes (one that has some is not canonical, and is refused here).
fn read_text<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    let text = <&str>::deserialize(deserializer)?;
    read(text).ok_or_else(|| D::Error::custom(format_args!("expected {expected}")))
}
