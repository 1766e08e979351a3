//! Problem documents (RFC 8555 §6.7, §6.7.1; RFC 9457).

use serde::{Deserialize, Serialize};

use super::Identifier;
use crate::problem::{self, URN};

/// Longest `detail`, in octets; what a client reads, not what an attacker would like echoed.
const DETAIL_MAX: usize = 2048;

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The error type's URN.
    #[serde(rename = "type")]
    pub kind: String,
    /// In words.
    pub detail: String,
    /// The HTTP status.
    pub status: u16,
    /// Where a person finds more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// With `badSignatureAlgorithm`: those that are supported (§6.2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<String>,
    /// One for each identifier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subproblems: Vec<Subproblem>,
}

/// A problem with one identifier; only here stands an `identifier` (§6.7.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subproblem {
    /// The error type's URN.
    #[serde(rename = "type")]
    pub kind: String,
    /// In words.
    pub detail: String,
    /// The identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Identifier>,
}

impl Problem {
    /// The document of a problem.
    #[must_use]
    pub fn of(problem: &problem::Problem) -> Self {
        let problem::Problem { kind, detail, status: _, subproblems } = problem;
        Self {
            kind: urn(*kind),
            detail: bounded(detail),
            status: problem.http_status(),
            instance: None,
            algorithms: Vec::new(),
            subproblems: subproblems.iter().map(Subproblem::of).collect(),
        }
    }
}

impl Subproblem {
    /// The document of a subproblem.
    #[must_use]
    pub fn of(subproblem: &problem::Subproblem) -> Self {
        let problem::Subproblem { kind, detail, name } = subproblem;
        Self { kind: urn(*kind), detail: bounded(detail), identifier: name.as_ref().map(Identifier::of) }
    }
}

fn urn(kind: problem::ProblemType) -> String {
    format!("{URN}{}", kind.token())
}

/// The text, cut off where it becomes too long to read.
fn bounded(text: &str) -> String {
    if text.len() <= DETAIL_MAX {
        return text.to_owned();
    }
    let end = (0..=DETAIL_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}
