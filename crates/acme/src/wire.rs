//! The JSON that goes over the wire: exactly the shapes of RFC 8555 §7.1 and its extensions.
//!
//! Domain types carry no serde. A request's payload becomes one of these shapes by
//! [`json::payload`], which refuses what two parsers could read in two ways; a resource is
//! written from a domain value by full destructuring, so a new field does not compile until it
//! is mapped. What a client sends beyond the RFC is ignored, never reflected (§7.3).

mod account;
mod authorization;
mod directory;
pub mod json;
mod order;
mod problem;
mod renewal_info;
mod revocation;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_pki::{Name, NameRejection};
use serde::{Deserialize, Serialize};

pub use account::{Account, AccountUpdate, KeyChange, NewAccount, Orders};
pub use authorization::{Authorization, AuthorizationUpdate, Challenge, ChallengeResponse};
pub use directory::{Directory, Meta};
pub use order::{Finalize, NewOrder, NewOrderRejection, Order};
pub use problem::{Problem, Subproblem};
pub use renewal_info::{RenewalInfo, SuggestedWindow};
pub use revocation::{NotAReason, Revoke};

/// An identifier (RFC 8555 §9.7.7, RFC 8738 §3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identifier {
    /// `dns` or `ip`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name.
    pub value: String,
}

/// Why an identifier is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierRejection {
    /// A type that is not ours.
    #[error("identifiers of type \"{kind}\" are not supported; the types are dns and ip", kind = shown(kind))]
    UnsupportedType {
        /// What was given.
        kind: String,
    },
    /// Not a name of its type.
    #[error("\"{value}\": {why}", value = shown(value))]
    NotAName {
        /// What was given.
        value: String,
        /// Which rule it breaks.
        why: NameRejection,
    },
}

/// What a client sent, made fit to be shown: short, on one line, nothing unprintable.
fn shown(text: &str) -> String {
    const MOST: usize = 64;
    let mut short: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

impl Identifier {
    /// As an order shows it: wildcards with their `*.`.
    #[must_use]
    pub fn of(name: &Name) -> Self {
        let kind = match name {
            Name::Dns(_) | Name::Wildcard(_) => "dns",
            Name::Ip(_) => "ip",
            // No challenge suits these, so no order of ours holds one.
            Name::Spiffe(_) | Name::Uri(_) => "uri",
            Name::Email(_) => "email", // RFC 8823 §3
            Name::Other(_) | Name::CommonName(_) => "other",
        };
        Self { kind: kind.to_owned(), value: name.to_string() }
    }

    /// As an authorization shows it: the base of a wildcard (§7.1.4).
    #[must_use]
    pub fn of_base(name: &Name) -> Self {
        match name {
            Name::Wildcard(base) => Self { kind: "dns".to_owned(), value: base.to_string() },
            Name::Dns(_)
            | Name::Ip(_)
            | Name::Spiffe(_)
            | Name::Uri(_)
            | Name::Email(_)
            | Name::Other(_)
            | Name::CommonName(_) => Self::of(name),
        }
    }

    /// The name it is.
    ///
    /// # Errors
    ///
    /// [`IdentifierRejection`] for other types and for texts that are no names of their type.
    pub fn name(&self) -> Result<Name, IdentifierRejection> {
        let name = match self.kind.as_str() {
            "dns" => Name::dns(&self.value),
            "ip" => Name::ip(&self.value),
            _ => return Err(IdentifierRejection::UnsupportedType { kind: self.kind.clone() }),
        };
        name.map_err(|why| IdentifierRejection::NotAName { value: self.value.clone(), why })
    }
}

/// The text is not base64url as RFC 8555 §6.1 wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{member} is not base64url without padding (RFC 8555 §6.1)")]
pub struct NotBase64Url {
    /// Which member.
    pub member: &'static str,
}

/// Decodes base64url: no padding, no white space, no bits left over.
///
/// # Errors
///
/// [`NotBase64Url`], naming `member`.
pub fn base64url(member: &'static str, text: &str) -> Result<Vec<u8>, NotBase64Url> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| NotBase64Url { member })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_with_padding_other_alphabet_or_left_over_bits_is_refused() {
        assert_eq!(base64url("csr", "AQI").as_deref(), Ok(&[1, 2][..]));
        for wrong in ["AQI=", "AQJ", "AQ I", "A", "+/8", "AQI\n"] {
            assert!(base64url("csr", wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_are_lower_case_on_the_wire_and_types_are_known() {
        let upper = Identifier { kind: "dns".into(), value: "WWW.Example.com".into() };
        assert_eq!(Identifier::of(&upper.name().expect("a name")).value, "www.example.com");
        let odd = Identifier { kind: "email".into(), value: "a@example.com".into() };
        assert!(matches!(odd.name(), Err(IdentifierRejection::UnsupportedType { .. })));
        let nul = Identifier { kind: "dns".into(), value: "a\0b".into() };
        assert!(!nul.name().expect_err("no name").to_string().contains('\0'));
    }

    #[test]
    fn a_refusal_shows_no_more_than_the_beginning_of_what_was_sent() {
        let long = Identifier { kind: "x".repeat(60_000), value: String::new() };
        assert!(long.name().expect_err("unsupported").to_string().len() < 200);
    }
}
