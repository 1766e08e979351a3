//! External account bindings (RFC 8555 §7.3.4): the inner JWS of a newAccount request, read strictly.
//!
//! Pure. What is checked here is everything but the MAC: that needs the key that the binding names, and whoever has
//! it computes the MAC over [`Binding::signing_input`] and compares it in constant time with [`Binding::mac`].
//!
//! As for the outer request, only `protected`, `payload` and `signature` are taken, every header parameter once and
//! none that is critical, so that no two readers can understand a binding in two ways.

use std::fmt;

use chancery_pki::PublicKey;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::{
    jwk::{self, JwkRejection},
    wire::{
        self, NotBase64Url,
        json::{self, NotThisJson, Text},
    },
};

/// Longest binding, in octets: one with an RSA key of 4096 bits has some 1,200.
pub const BINDING_MAX: usize = 8192;
/// Longest key identifier, in octets; ours have at most 64.
const KEY_ID_MAX: usize = 256;
/// Longest `url`, in octets.
const URL_MAX: usize = 2048;

/// The MACs that are taken (RFC 7518 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MacAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

impl MacAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hs256, Self::Hs384, Self::Hs512];

    /// The `alg` value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    /// How many octets its MAC has.
    #[must_use]
    pub const fn mac_octets(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
        }
    }
}

/// A binding whose members are all as they must be. Whether its MAC is right is not known yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Binding {
    /// How it is authenticated.
    pub algorithm: MacAlgorithm,
    /// The key that it says it was made with.
    pub key_id: String,
    /// What the MAC is over: protected header, dot, payload, as they were sent.
    pub signing_input: Vec<u8>,
    /// The MAC; as long as its algorithm makes it.
    pub mac: Vec<u8>,
}

/// The MAC is left out: with it and nothing else somebody could try keys.
impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// Why a binding is not taken, whatever its MAC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingRejection {
    /// Too long to be one.
    #[error("externalAccountBinding is longer than {BINDING_MAX} octets")]
    TooLong,
    /// Not the envelope.
    #[error(
        "externalAccountBinding is not a flattened JWS with protected, payload and signature alone \
         (RFC 8555 §7.3.4): {0}"
    )]
    Envelope(#[source] NotThisJson),
    /// Padding, white space or another alphabet.
    #[error("externalAccountBinding: {0}")]
    NotBase64Url(#[from] NotBase64Url),
    /// Not a header.
    #[error("the protected header of externalAccountBinding cannot be read: {0}")]
    Header(#[source] NotThisJson),
    /// Something that changes the meaning of the rest.
    #[error("externalAccountBinding: the header parameter {parameter} is not supported in ACME (RFC 8555 §6.2)")]
    Critical {
        /// Which.
        parameter: &'static str,
    },
    /// `none`, a signature, or something unknown.
    #[error("externalAccountBinding is authenticated by HS256, HS384 or HS512 (RFC 8555 §7.3.4), not by what alg says")]
    Algorithm,
    /// No `kid`.
    #[error(
        "the protected header of externalAccountBinding lacks kid, the identifier of the EAB key (RFC 8555 §7.3.4)"
    )]
    NoKeyId,
    /// A `kid` that is none of ours.
    #[error("the kid of externalAccountBinding is no identifier of an EAB key: 1 to {KEY_ID_MAX} printable characters")]
    KeyId,
    /// A key where there is to be an identifier.
    #[error("the protected header of externalAccountBinding holds jwk; it names its key by kid (RFC 8555 §7.3.4)")]
    Jwk,
    /// A `nonce`, which an inner JWS has not.
    #[error("the protected header of externalAccountBinding holds a nonce, and it must not (RFC 8555 §7.3.4)")]
    Nonce,
    /// No `url`.
    #[error("the protected header of externalAccountBinding lacks url (RFC 8555 §7.3.4)")]
    NoUrl,
    /// The `url` of another request.
    #[error("the url of externalAccountBinding is not the one of the request around it (RFC 8555 §7.3.4)")]
    Url,
    /// A payload that is no key.
    #[error("the payload of externalAccountBinding is not the account's key: {0}")]
    NotAKey(#[source] NotThisJson),
    /// A payload that is a key, but none that is taken.
    #[error("the payload of externalAccountBinding is not the account's key: {0}")]
    Key(#[from] JwkRejection),
    /// The key of somebody else.
    #[error(
        "the payload of externalAccountBinding is another key than the one that signs the request (RFC 8555 §7.3.4)"
    )]
    OtherKey,
    /// A MAC that is longer or shorter than its algorithm makes it.
    #[error("the signature of externalAccountBinding has another length than a MAC of {}", algorithm.as_str())]
    MacLength {
        /// The algorithm that it names.
        algorithm: MacAlgorithm,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    // Base64url needs no escapes, so plain borrowed strings do.
    protected: &'a str,
    payload: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    alg: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    kid: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    url: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    nonce: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    jwk: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<IgnoredAny>,
}

/// A member that is there, be it `null`, is `Some` or an error.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Binding {
    /// Reads the `externalAccountBinding` of a newAccount request, which stood at `url` and was signed by
    /// `account_key`. The payload is compared with that key as a key and not as text.
    ///
    /// # Errors
    ///
    /// [`BindingRejection`].
    pub fn parse(text: &str, url: &str, account_key: &PublicKey) -> Result<Self, BindingRejection> {
        use BindingRejection as R;
        if text.len() > BINDING_MAX {
            return Err(R::TooLong);
        }
        let Envelope { protected, payload, signature } = json::payload(text.as_bytes()).map_err(R::Envelope)?;
        let header = wire::base64url("protected", protected)?;
        let Header { alg, kid, url: named, nonce, jwk, crit, b64 } = json::payload(&header).map_err(R::Header)?;
        if crit.is_some() {
            return Err(R::Critical { parameter: "crit" });
        }
        if b64.is_some() {
            return Err(R::Critical { parameter: "b64" });
        }
        let named_algorithm = |alg: &Text<'_>| MacAlgorithm::ALL.into_iter().find(|known| known.as_str() == alg.0);
        let algorithm = alg.as_ref().and_then(named_algorithm).ok_or(R::Algorithm)?;
        if jwk.is_some() {
            return Err(R::Jwk);
        }
        if nonce.is_some() {
            return Err(R::Nonce);
        }
        let key_id = kid.ok_or(R::NoKeyId)?.0.into_owned();
        if !(1..=KEY_ID_MAX).contains(&key_id.len()) || key_id.contains(char::is_control) {
            return Err(R::KeyId);
        }
        let named = named.ok_or(R::NoUrl)?;
        if named.0.len() > URL_MAX || named.0 != url {
            return Err(R::Url);
        }
        let payload_octets = wire::base64url("payload", payload)?;
        json::check(&payload_octets).map_err(R::NotAKey)?;
        let jwk = std::str::from_utf8(&payload_octets).map_err(|_| JwkRejection::NotAJwk("it is not Unicode"))?;
        if jwk::public_key(jwk)? != *account_key {
            return Err(R::OtherKey);
        }
        let mac = wire::base64url("signature", signature)?;
        if mac.len() != algorithm.mac_octets() {
            return Err(R::MacLength { algorithm });
        }
        let signing_input = [protected.as_bytes(), b".", payload.as_bytes()].concat();
        Ok(Self { algorithm, key_id, signing_input, mac })
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;

    const URL: &str = "https://ca.example/acme/default/new-account";
    /// The P-256 key of RFC 7517 §A.1.
    const X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";

    fn jwk() -> Value {
        json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y})
    }

    fn key() -> PublicKey {
        jwk::public_key(&jwk().to_string()).expect("a key")
    }

    fn header() -> Value {
        json!({"alg": "HS256", "kid": "team-1", "url": URL})
    }

    fn binding(header: &Value, payload: &str, mac: &[u8]) -> Value {
        json!({
            "protected": URL_SAFE_NO_PAD.encode(header.to_string()),
            "payload": URL_SAFE_NO_PAD.encode(payload),
            "signature": URL_SAFE_NO_PAD.encode(mac),
        })
    }

    fn parse(value: &Value) -> Result<Binding, BindingRejection> {
        Binding::parse(&value.to_string(), URL, &key())
    }

    fn with(member: &str, value: Value) -> Result<Binding, BindingRejection> {
        let mut header = header();
        match value {
            Value::Null => drop(header.as_object_mut().expect("an object").remove(member)),
            value => header[member] = value,
        }
        parse(&binding(&header, &jwk().to_string(), &[7; 32]))
    }

    #[test]
    fn a_binding_is_read_with_what_its_mac_is_over() {
        for (algorithm, octets) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
            let mut header = header();
            header["alg"] = json!(algorithm);
            let sent = binding(&header, &jwk().to_string(), &vec![7; octets]);
            let read = parse(&sent).expect("well formed");
            assert_eq!(
                (read.algorithm.as_str(), read.key_id.as_str(), read.mac),
                (algorithm, "team-1", vec![7; octets])
            );
            let input =
                format!("{}.{}", sent["protected"].as_str().expect("text"), sent["payload"].as_str().expect("text"));
            assert_eq!(read.signing_input, input.as_bytes());
        }
    }

    #[test]
    fn the_payload_is_compared_as_a_key_and_not_as_text() {
        // Other members, another order, white space: the same key.
        let spelled = format!(
            " {{\"y\":\"{Y}\",\n\"use\":\"sig\",\"x\":\"{X}\",\"kid\":\"1\",\"crv\":\"P-256\",\"kty\":\"EC\"}} "
        );
        parse(&binding(&header(), &spelled, &[7; 32])).expect("the same key");
        let other = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        assert!(matches!(parse(&binding(&header(), &other.to_string(), &[7; 32])), Err(BindingRejection::OtherKey)));
    }

    #[test]
    fn every_malformed_member_is_refused_for_what_it_is() {
        use BindingRejection as R;
        assert!(matches!(with("alg", json!("ES256")), Err(R::Algorithm)));
        assert!(matches!(with("alg", json!("none")), Err(R::Algorithm)));
        assert!(matches!(with("alg", json!("hs256")), Err(R::Algorithm)));
        assert!(matches!(with("alg", Value::Null), Err(R::Algorithm)));
        assert!(matches!(with("alg", json!(256)), Err(R::Header(_))));
        assert!(matches!(with("kid", Value::Null), Err(R::NoKeyId)));
        assert!(matches!(with("kid", json!("")), Err(R::KeyId)));
        assert!(matches!(with("kid", json!("x".repeat(257))), Err(R::KeyId)));
        assert!(matches!(with("kid", json!("a\u{1b}[2J")), Err(R::KeyId)));
        assert!(matches!(with("kid", json!(["team-1"])), Err(R::Header(_))));
        assert!(matches!(with("nonce", json!("AAAA")), Err(R::Nonce)));
        assert!(matches!(with("nonce", json!({})), Err(R::Nonce)));
        assert!(matches!(with("url", Value::Null), Err(R::NoUrl)));
        assert!(matches!(with("url", json!("https://ca.example/acme/other/new-account")), Err(R::Url)));
        assert!(matches!(with("url", json!(format!("{URL}/"))), Err(R::Url)));
        assert!(matches!(with("jwk", jwk()), Err(R::Jwk)));
        assert!(matches!(with("crit", json!([])), Err(R::Critical { parameter: "crit" })));
        assert!(matches!(with("b64", json!(true)), Err(R::Critical { parameter: "b64" })));

        let good = binding(&header(), &jwk().to_string(), &[7; 32]);
        for member in ["protected", "payload", "signature"] {
            let mut sent = good.clone();
            sent.as_object_mut().expect("an object").remove(member);
            assert!(matches!(parse(&sent), Err(R::Envelope(_))), "without {member}");
            for wrong in [json!("AA=="), json!("+/8"), json!("AAB")] {
                let mut sent = good.clone();
                sent[member] = wrong;
                assert!(matches!(parse(&sent), Err(R::NotBase64Url(_))), "{member}: {sent}");
            }
            let mut sent = good.clone();
            sent[member] = json!(1);
            assert!(matches!(parse(&sent), Err(R::Envelope(_))), "{member} is a number");
        }
        for more in ["header", "signatures", "x"] {
            let mut sent = good.clone();
            sent[more] = json!({});
            assert!(matches!(parse(&sent), Err(R::Envelope(_))), "with {more}");
        }
        for whole in [json!("x"), json!([]), json!(null), json!(1)] {
            assert!(matches!(parse(&whole), Err(R::Envelope(_))), "{whole}");
        }
        let twice = good.to_string().replace("\"payload\":", "\"payload\":\"e30\",\"payload\":");
        assert!(matches!(Binding::parse(&twice, URL, &key()), Err(R::Envelope(_))));
        assert!(matches!(Binding::parse(&"x".repeat(BINDING_MAX + 1), URL, &key()), Err(R::TooLong)));

        for octets in [0, 16, 31, 33, 64] {
            let sent = binding(&header(), &jwk().to_string(), &vec![7; octets]);
            assert!(matches!(parse(&sent), Err(R::MacLength { .. })), "{octets}");
        }
        for payload in ["", "[]x", "{\"kty\":\"EC\",\"kty\":\"EC\"}"] {
            assert!(matches!(parse(&binding(&header(), payload, &[7; 32])), Err(R::NotAKey(_))), "{payload}");
        }
        let mut private = jwk();
        private["d"] = json!("AQ");
        for payload in [
            json!([]),
            json!({}),
            json!({"kty": "oct", "k": "AQ"}),
            private,
            json!({"kty": "EC", "crv": "P-256", "x": X}),
        ] {
            assert!(matches!(parse(&binding(&header(), &payload.to_string(), &[7; 32])), Err(R::Key(_))), "{payload}");
        }
    }

    #[test]
    fn a_binding_does_not_show_its_mac() {
        let read = parse(&binding(&header(), &jwk().to_string(), &[7; 32])).expect("well formed");
        assert!(!format!("{read:?}").contains("7, 7"), "{read:?}");
    }
}
