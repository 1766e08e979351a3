//! What one look at a challenge ends with.

use chancery_acme::problem::{Problem, ProblemType};
use chancery_egress::DialError;

/// What was seen in one line, or why it was not what is wanted.
pub(crate) type Look = Result<String, Miss>;

/// Why a look did not succeed.
#[derive(Debug)]
pub(crate) enum Miss {
    /// It may be otherwise in a moment.
    Passing(Problem),
    /// It is a definite answer, and the wrong one.
    Final(Problem),
    /// Whatever it was, it was found where a redirect led; how often it was looked at is not told either.
    Elsewhere(Problem),
    /// We have too many connections open; the name's holder has nothing to do with it.
    Busy,
}

impl Miss {
    pub(crate) fn passing(kind: ProblemType, detail: impl std::fmt::Display) -> Self {
        Self::Passing(Problem::new(kind, detail))
    }

    /// The time for a look was over.
    pub(crate) fn late(name: impl std::fmt::Display) -> Self {
        Self::passing(ProblemType::Connection, format_args!("{name} gave no complete answer in time"))
    }

    pub(crate) fn wrong(detail: impl std::fmt::Display) -> Self {
        Self::Final(Problem::new(ProblemType::IncorrectResponse, detail))
    }
}

impl From<DialError> for Miss {
    fn from(error: DialError) -> Self {
        let transient = error.is_transient();
        let kind = match &error {
            DialError::Busy { .. } => return Self::Busy,
            DialError::Lookup(_) => ProblemType::Dns,
            DialError::Refused { .. } => {
                let detail = format!("{error}; the server's operator may allow that very range for a zone");
                return Self::Final(Problem::new(ProblemType::Connection, detail));
            }
            DialError::Connect { .. } | DialError::Timeout { .. } => ProblemType::Connection,
        };
        Self::of(transient, Problem::new(kind, error))
    }
}

impl Miss {
    pub(crate) fn of(transient: bool, problem: Problem) -> Self {
        if transient { Self::Passing(problem) } else { Self::Final(problem) }
    }
}
