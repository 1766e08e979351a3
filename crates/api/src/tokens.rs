//! API tokens of clusters: what an operator asks for over the local socket, and is told.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A token is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeTokenRequest {
    /// The cluster that it is to speak for.
    pub cluster: String,
    /// What it is for, one line.
    #[serde(default)]
    pub comment: String,
    /// How long it is to hold, in seconds.
    pub lifetime_s: u64,
    /// The namespaces that it is to speak for; left out, for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// The profiles that may be asked for with it; left out, the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
    /// Patterns of the names that may be asked for with it, as a policy writes them; left out, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
}

/// A token was made. This is the only time that it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeToken {
    /// The token itself.
    pub secret: String,
    /// What it is.
    pub token: TokenView,
}

/// Without the token itself.
impl fmt::Debug for MadeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeToken").field("token", &self.token).finish_non_exhaustive()
    }
}

/// One token, without the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its id.
    pub id: String,
    /// The cluster that it speaks for.
    pub cluster: String,
    /// What it is for.
    pub comment: String,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
    /// When it was made.
    pub created: String,
    /// Until when it holds.
    pub expires: String,
    /// Since when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// The namespaces that it speaks for; nothing, if for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// The profiles that may be asked for with it; nothing, if the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
    /// The patterns of the names that may be asked for with it; nothing, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
}

/// A page of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// The tokens, those that ended lately included.
    pub tokens: Vec<TokenView>,
    /// What to send as `after` for the next page; nothing if this is the last.
    pub next: Option<String>,
}
