//! EAB keys (RFC 8555 §7.3.4), as JSON. A key's secret travels once, in the answer that made it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Make an EAB key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeEabKeyRequest {
    /// Its id, the `kid` of bindings; one of chance without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The ACME directory it is for.
    pub directory: String,
    /// Whose it is, in one line.
    pub owner: String,
    /// What it grants.
    #[serde(default)]
    pub limits: EabLimitsChange,
}

/// Other limits for an EAB key: what is left out stays as it is, or as it is usual for a new key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EabLimitsChange {
    /// The names that its accounts may have; of a key that has such a limit, `{}` lifts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<EabNamesView>,
    /// The profiles that its accounts may ask for; an empty list leaves them to the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
    /// How many accounts may be made with it, in all; one where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<u64>,
    /// Until when accounts are made with it: in so many seconds from now; thirty days where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// Names, in the patterns of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EabNamesView {
    /// Patterns over DNS names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Wildcard names, letter for letter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wildcards: Vec<String>,
    /// Ranges of addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// A key that was made: the only time that its secret is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EabKeyMade {
    /// The key.
    pub key: EabKeyView,
    /// Its secret, base64url without padding.
    pub hmac_key: String,
    /// The directory's URL, which clients want beside it.
    pub directory_url: String,
}

/// Without the secret.
impl fmt::Debug for EabKeyMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EabKeyMade").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A page of EAB keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EabKeyList {
    /// The keys.
    pub keys: Vec<EabKeyView>,
    /// What to send as `after` for the next page; nothing if this is the last.
    pub next: Option<String>,
}

/// An EAB key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EabKeyView {
    /// Its id, the `kid` of bindings.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// The ACME directory it is for.
    pub directory: String,
    /// `open`, `used up`, `expired` or `revoked`.
    pub state: String,
    /// The names that its accounts may have; nothing where policy alone decides.
    pub names: Option<EabNamesView>,
    /// The profiles that its accounts may ask for; none where the directory alone decides.
    pub profiles: Vec<String>,
    /// How many accounts may be made with it.
    pub accounts: u64,
    /// How many were.
    pub accounts_made: u64,
    /// When it was made.
    pub created: String,
    /// Until when accounts are made with it.
    pub expires: String,
    /// Since when it is revoked.
    pub revoked: Option<String>,
}

/// Revoke an EAB key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeEabKeyRequest {
    /// Whether the accounts that it made are stopped too.
    #[serde(default)]
    pub accounts: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_does_not_show_its_secret_by_debug() {
        let key = EabKeyView {
            id: "team".to_owned(),
            owner: "a team".to_owned(),
            directory: "default".to_owned(),
            state: "open".to_owned(),
            names: None,
            profiles: Vec::new(),
            accounts: 1,
            accounts_made: 0,
            created: String::new(),
            expires: String::new(),
            revoked: None,
        };
        let made = EabKeyMade { key, hmac_key: "s3cr3t".to_owned(), directory_url: "https://ca.example".to_owned() };
        assert!(!format!("{made:?}").contains("s3cr3t"), "{made:?}");
    }
}
