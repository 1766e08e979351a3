//! Authorizations (RFC 8555 §7.1.4) and the moves between their states (§7.1.6).
//!
//! Pure: a caller brings `now` and keeps the result.

use chancery_pki::{Name, Timestamp};

use crate::{
    challenge::{Challenge, ChallengeKind, ChallengeState},
    id::{AccountId, AuthorizationId, OrderId},
    problem::Problem,
};

/// What an account may do in the name of an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Its identity, in its URL.
    pub id: AuthorizationId,
    /// Whose it is.
    pub account: AccountId,
    /// The order it was made for.
    pub order: OrderId,
    /// The name; for a wildcard the wire shows its base and `wildcard: true`.
    pub name: Name,
    /// Where it stands.
    pub state: AuthorizationState,
    /// When it ends, whatever its state.
    pub expires: Timestamp,
    /// The ways to fulfil it, each kind at most once; none where policy made it valid without any.
    pub challenges: Vec<Challenge>,
}

/// Where an authorization stands (RFC 8555 §7.1.6); `expired` follows from `expires`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationState {
    /// No challenge has been decided.
    Pending,
    /// Control was shown.
    Valid,
    /// A challenge failed.
    Invalid,
    /// Its holder gave it up (§7.5.2).
    Deactivated,
    /// We took it back.
    Revoked,
}

/// What `status` says on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationStatus {
    /// `pending`
    Pending,
    /// `valid`
    Valid,
    /// `invalid`
    Invalid,
    /// `deactivated`
    Deactivated,
    /// `expired`
    Expired,
    /// `revoked`
    Revoked,
}

/// Why a challenge cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerRejection {
    /// The authorization offers no challenge of this kind.
    #[error("this authorization offers no {kind} challenge")]
    NoSuchChallenge {
        /// The kind asked for.
        kind: ChallengeKind,
    },
    /// The authorization has ended.
    #[error("this authorization expired at {expired}; place a new order")]
    Expired {
        /// When.
        expired: Timestamp,
    },
}

/// What answering a challenge leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// It is to be validated now: the challenge is `processing`.
    Validate(Authorization),
    /// Nothing changes: it is being validated or decided already (§7.5.1).
    Unchanged(Authorization),
}

impl Authorization {
    /// What the wire says at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> AuthorizationStatus {
        match self.state {
            AuthorizationState::Pending | AuthorizationState::Valid if now >= self.expires => {
                AuthorizationStatus::Expired
            }
            AuthorizationState::Pending => AuthorizationStatus::Pending,
            AuthorizationState::Valid => AuthorizationStatus::Valid,
            AuthorizationState::Invalid => AuthorizationStatus::Invalid,
            AuthorizationState::Deactivated => AuthorizationStatus::Deactivated,
            AuthorizationState::Revoked => AuthorizationStatus::Revoked,
        }
    }

    /// Whether it was valid from the start, without any challenge.
    #[must_use]
    pub fn is_preauthorized(&self) -> bool {
        self.state == AuthorizationState::Valid && self.challenges.is_empty()
    }

    /// The challenge of this kind, if it is offered.
    #[must_use]
    pub fn challenge(&self, kind: ChallengeKind) -> Option<&Challenge> {
        self.challenges.iter().find(|challenge| challenge.kind == kind)
    }

    /// The client says that it has fulfilled a challenge (§7.5.1).
    ///
    /// # Errors
    ///
    /// [`AnswerRejection`] where there is no such challenge or the authorization has expired.
    pub fn answer(mut self, kind: ChallengeKind, now: Timestamp) -> Result<Answered, AnswerRejection> {
        let status = self.status(now);
        let expires = self.expires;
        let Some(challenge) = self.challenges.iter_mut().find(|challenge| challenge.kind == kind) else {
            return Err(AnswerRejection::NoSuchChallenge { kind });
        };
        match (status, &challenge.state) {
            (AuthorizationStatus::Expired, _) => Err(AnswerRejection::Expired { expired: expires }),
            (AuthorizationStatus::Pending, ChallengeState::Pending) => {
                challenge.state = ChallengeState::Processing { since: now };
                Ok(Answered::Validate(self))
            }
            _ => Ok(Answered::Unchanged(self)),
        }
    }

    /// The outcome of a validation; the challenge that was attempted is the one that stays (§7.1.4). A verdict on an
    /// authorization that has been decided, given up or has expired meanwhile changes nothing.
    #[must_use]
    pub fn decide(
        mut self,
        kind: ChallengeKind,
        outcome: Result<(), Problem>,
        now: Timestamp,
        valid_until: Timestamp,
    ) -> Self {
        if self.status(now) != AuthorizationStatus::Pending {
            return self;
        }
        let Some(challenge) = self.challenges.iter_mut().find(|challenge| challenge.kind == kind) else {
            return self;
        };
        match outcome {
            Ok(()) => {
                challenge.state = ChallengeState::Valid { validated: now };
                self.state = AuthorizationState::Valid;
                self.expires = valid_until;
            }
            Err(error) => {
                challenge.state = ChallengeState::Invalid { error };
                self.state = AuthorizationState::Invalid;
            }
        }
        self.challenges.retain(|challenge| challenge.kind == kind);
        self
    }

    /// The holder gives it up (§7.5.2). Already ended ones stay as they are.
    #[must_use]
    pub fn deactivate(mut self, now: Timestamp) -> Self {
        if matches!(self.status(now), AuthorizationStatus::Pending | AuthorizationStatus::Valid) {
            self.state = AuthorizationState::Deactivated;
        }
        self
    }
}
