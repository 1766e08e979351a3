//! Authorizations and challenges (RFC 8555 §7.1.4, §7.1.5, §7.5, §8).

use chancery_pki::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Identifier, problem::Problem};
use crate::{
    authorization::{self, AuthorizationStatus},
    challenge::{self, ChallengeState},
    id::AuthorizationId,
    urls::Urls,
};

/// The payload of a request to give an authorization up (§7.5.2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AuthorizationUpdate {
    /// `deactivated`, and nothing else.
    pub status: String,
}

/// The payload by which a client says that a challenge can be looked at (§7.5.1): an object,
/// empty for the challenge types we have; other members are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChallengeResponse {}

/// An authorization object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorization {
    /// The name; of a wildcard its base.
    pub identifier: Identifier,
    /// `pending`, `valid`, `invalid`, `deactivated`, `expired` or `revoked`.
    pub status: String,
    /// When it ends.
    pub expires: String,
    /// The ways to fulfil it.
    pub challenges: Vec<Challenge>,
    /// Whether it is for a wildcard; absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wildcard: bool,
}

/// A challenge object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The challenge type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its URL.
    pub url: String,
    /// `pending`, `processing`, `valid` or `invalid`.
    pub status: String,
    /// Its token.
    pub token: String,
    /// When control was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validated: Option<String>,
    /// Why control was not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

impl Authorization {
    /// The authorization as its account sees it at `now`.
    #[must_use]
    pub fn of(authorization: &authorization::Authorization, now: Timestamp, urls: &Urls) -> Self {
        let authorization::Authorization { id, account: _, order: _, name, state: _, expires, challenges } =
            authorization;
        let status = match authorization.status(now) {
            AuthorizationStatus::Pending => "pending",
            AuthorizationStatus::Valid => "valid",
            AuthorizationStatus::Invalid => "invalid",
            AuthorizationStatus::Deactivated => "deactivated",
            AuthorizationStatus::Expired => "expired",
            AuthorizationStatus::Revoked => "revoked",
        };
        Self {
            identifier: Identifier::of_base(name),
            status: status.to_owned(),
            expires: expires.to_string(),
            challenges: challenges.iter().map(|challenge| Challenge::of(challenge, *id, urls)).collect(),
            wildcard: name.is_wildcard(),
        }
    }
}

impl Challenge {
    /// The challenge as its account sees it.
    #[must_use]
    pub fn of(challenge: &challenge::Challenge, authorization: AuthorizationId, urls: &Urls) -> Self {
        let challenge::Challenge { kind, token, state } = challenge;
        let (status, validated, error) = match state {
            ChallengeState::Pending => ("pending", None, None),
            ChallengeState::Processing { since: _ } => ("processing", None, None),
            ChallengeState::Valid { validated } => ("valid", Some(validated.to_string()), None),
            ChallengeState::Invalid { error } => ("invalid", None, Some(Problem::of(error))),
        };
        Self {
            kind: kind.as_str().to_owned(),
            url: urls.challenge(authorization, *kind),
            status: status.to_owned(),
            token: token.to_string(),
            validated,
            error,
        }
    }
}
