//! EAB keys (RFC 8555 §7.3.4): by whom accounts may be made at a directory, and what those may have.
//!
//! A key's secret is in no record. It is derived from the key's salt and a private key that the signer alone has
//! ([`Signer::eab_secret`](crate::ports::Signer::eab_secret)), so that neither store, ledger nor backup holds it.

use std::{fmt, str::FromStr};

use chancery_acme::{account::DirectoryName, order::ProfileName};
use chancery_pki::{Name, Timestamp};
use chancery_policy::NameScope;

/// Longest identifier, in octets.
const ID_MAX: usize = 64;

/// The identifier of an EAB key: the `kid` of a binding, and what a policy's `eab` is compared with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EabKeyId(Box<str>);

/// The text cannot name an EAB key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the id of an EAB key has 1 to {ID_MAX} letters, digits, hyphens, dots and underscores, and begins with a letter or \
     a digit"
)]
pub struct NotAnEabKeyId;

impl EabKeyId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EabKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for EabKeyId {
    type Err = NotAnEabKeyId;

    fn from_str(text: &str) -> Result<Self, NotAnEabKeyId> {
        let plain = text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c));
        let begins = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if plain && begins && text.len() <= ID_MAX { Ok(Self(text.into())) } else { Err(NotAnEabKeyId) }
    }
}

/// An EAB key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EabKey {
    /// Its identifier.
    pub id: EabKeyId,
    /// What its secret is derived from, beside what the signer has: random, and no secret itself.
    pub salt: [u8; 16],
    /// Whose it is, in words.
    pub owner: String,
    /// The directory at which accounts are made with it.
    pub directory: DirectoryName,
    /// What it grants.
    pub limits: EabLimits,
    /// When it was made.
    pub created: Timestamp,
    /// Since when no account is made with it any more.
    pub revoked: Option<Timestamp>,
    /// Since when the accounts that it made can do nothing any more, whatever their own records say yet.
    pub accounts_stopped: Option<Timestamp>,
}

/// What an EAB key grants, beside what policy and directory say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EabLimits {
    /// The names that its accounts may have; `None` where policy alone decides.
    pub names: Option<NameScope>,
    /// The profiles that its accounts may ask for; none where the directory alone decides.
    pub profiles: Vec<ProfileName>,
    /// How many accounts may be made with it.
    pub accounts: u64,
    /// Until when accounts are made with it.
    pub expires: Timestamp,
}

/// Why no account is made with an EAB key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EabKeyEnded {
    /// It was revoked.
    #[error("the EAB key \"{key}\" was revoked at {at}; ask the operator of this server for another one")]
    Revoked {
        /// The key.
        key: EabKeyId,
        /// When.
        at: Timestamp,
    },
    /// Its time is over.
    #[error("the EAB key \"{key}\" expired at {at}; ask the operator of this server for another one")]
    Expired {
        /// The key.
        key: EabKeyId,
        /// When.
        at: Timestamp,
    },
}

impl EabKey {
    /// Whether accounts may be made with it at `now`, as far as its time says; how many is counted elsewhere.
    ///
    /// # Errors
    ///
    /// [`EabKeyEnded`].
    pub fn is_open(&self, now: Timestamp) -> Result<(), EabKeyEnded> {
        let key = || self.id.clone();
        match self.revoked {
            Some(at) => Err(EabKeyEnded::Revoked { key: key(), at }),
            None if now >= self.limits.expires => Err(EabKeyEnded::Expired { key: key(), at: self.limits.expires }),
            None => Ok(()),
        }
    }

    /// What its limits say against a name, in words.
    #[must_use]
    pub fn refuses_name(&self, name: &Name) -> Option<String> {
        let scope = self.limits.names.as_ref().filter(|scope| !scope.permits(name))?;
        Some(format!("the EAB key \"{}\" of this account is limited to {scope}", self.id))
    }

    /// Whether its accounts may ask for a profile.
    #[must_use]
    pub fn permits_profile(&self, profile: &str) -> bool {
        self.limits.profiles.is_empty() || self.limits.profiles.iter().any(|permitted| permitted == profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_plain_text_that_fits_into_commands_and_policies() {
        for good in ["a", "0", "payments-2026", "Team_1.prod", &"x".repeat(64)] {
            assert_eq!(good.parse::<EabKeyId>().expect(good).as_str(), good);
        }
        for bad in ["", "-a", ".a", "_a", "a b", "a/b", "a\n", "ä", "a\"", &"x".repeat(65)] {
            assert!(bad.parse::<EabKeyId>().is_err(), "{bad:?}");
        }
    }
}
