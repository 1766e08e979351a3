//! What a use case answers when it does not do what was asked.

use crate::ports::{CommitError, NotApplied, SignerError, StoreError};

/// A use case did not do what was asked: by a rule (the client's side), or because we could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal<R> {
    /// The client's side: a rule said no.
    Rejected(R),
    /// Our side.
    Failed(Failure),
}

/// We could not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too much is waiting; try again soon.
    #[error("the server is busy; try again in a few seconds")]
    Busy,
    /// The disk is too full for issuance.
    #[error("issuance is stopped: {0}")]
    NoSpace(String),
    /// Something we need is away: the signer, the store, an issuing certificate that holds.
    #[error("issuance is not possible now: {0}")]
    Unavailable(String),
    /// A fault of ours; the text is for the log alone.
    #[error("internal error: {0}")]
    Internal(String),
}

impl<R> From<Failure> for Refusal<R> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<R> From<StoreError> for Refusal<R> {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopped(why) => Self::Unavailable(why.to_string()),
            StoreError::Damaged(why) => Self::Internal(why.to_string()),
            StoreError::NoSpace(why) => Self::NoSpace(why.to_string()),
        }
    }
}

/// What a commit that failed means where no conflict and no limit is expected.
impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Busy,
            CommitError::Limit { .. } => Self::Internal(error.to_string()),
            CommitError::NotApplied(NotApplied::Busy) => Self::Busy,
            CommitError::NotApplied(NotApplied::NoSpace(why)) => Self::NoSpace(why.to_string()),
            CommitError::NotApplied(NotApplied::Stopped(why)) => Self::Unavailable(why.to_string()),
            CommitError::NotApplied(NotApplied::Unstorable(why)) => Self::Internal(why.to_string()),
            CommitError::Unknown(why) => Self::Unavailable(why.to_string()),
        }
    }
}

impl From<SignerError> for Failure {
    fn from(error: SignerError) -> Self {
        match error {
            SignerError::Busy => Self::Busy,
            SignerError::Refused(_) => Self::Internal(error.to_string()),
            SignerError::Unavailable(_) | SignerError::Unknown(_) => Self::Unavailable(error.to_string()),
        }
    }
}
