//! Exit codes, and why a command did not do what was asked.

use std::{fmt, process::ExitCode};

/// What a command tells the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It is done, and the answer is yes.
    Ok = 0,
    /// It could not be done.
    Failed = 1,
    /// A rule said no: policy, a chain that does not fit, a broken configuration.
    Refused = 3,
    /// No server listens on the local socket.
    NotRunning = 4,
    /// Something stored is damaged.
    Damaged = 5,
}

/// For `--help`. clap itself ends with 2.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  done; the answer is yes
  1  it could not be done
  2  the command line cannot be understood
  3  refused: by policy, a check, or the server
  4  no server listens on the local socket
  5  something stored is damaged";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Refused => 3,
            Exit::NotRunning => 4,
            Exit::Damaged => 5,
        })
    }
}

/// Why a command did not do what was asked: one or more sentences for people.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) exit: Exit,
    text: String,
}

impl Failed {
    /// It could not be done.
    #[expect(clippy::self_named_constructors, reason = "a failure says that it failed")]
    pub(crate) fn failed(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, text: text.to_string() }
    }

    /// A rule said no.
    pub(crate) fn refused(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Refused, text: text.to_string() }
    }

    /// Something stored is damaged.
    pub(crate) fn damaged(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Damaged, text: text.to_string() }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failed {}

impl From<crate::config::LoadError> for Failed {
    fn from(error: crate::config::LoadError) -> Self {
        use crate::config::LoadError as E;
        match error {
            E::Broken(_) => Self::refused(error),
            E::None | E::Read { .. } => Self::failed(error),
        }
    }
}

impl From<chancery_api::ClientError> for Failed {
    fn from(error: chancery_api::ClientError) -> Self {
        use chancery_api::ClientError as E;
        let exit = match &error {
            E::NotRunning { .. } => Exit::NotRunning,
            E::Refused { status, .. } if status.is_client_error() => Exit::Refused,
            E::Refused { .. } | E::Broken { .. } | E::Unreadable { .. } => Exit::Failed,
        };
        Self { exit, text: error.to_string() }
    }
}

/// Writing to the terminal or a pipe failed.
impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

/// What every command returns.
pub(crate) type Outcome = Result<Exit, Failed>;
