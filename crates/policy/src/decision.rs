//! What policy says: the outcome, every name's own verdict with its rule, and the policy's hash.
//! One value, rendered for the client, the ledger, the log and `policy explain`.

use std::fmt;

use chancery_pki::Name;

/// A rule's name.
pub type RuleName = String;

/// SHA-256 of a policy's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyHash(pub [u8; 32]);

impl fmt::Display for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// How a request fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It is allowed.
    Allow,
    /// A fact is missing; with it, it will be decided.
    Undecided,
    /// It waits for an approval.
    Hold,
    /// It is refused.
    Deny,
}

impl Outcome {
    /// The word that people read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allowed",
            Self::Undecided => "undecided",
            Self::Hold => "held",
            Self::Deny => "refused",
        }
    }
}

/// One name's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameVerdict {
    /// The name.
    pub name: Name,
    /// Its outcome.
    pub outcome: Outcome,
    /// The rule that spoke; none where no rule allows it.
    pub rule: Option<RuleName>,
    /// The rule's reason.
    pub because: Option<String>,
}

/// A rule that warns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: RuleName,
    /// Its reason.
    pub because: Option<String>,
}

/// What policy says about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// As a whole: the worst of the names' outcomes.
    pub outcome: Outcome,
    /// Each name's.
    pub names: Vec<NameVerdict>,
    /// What was said beside it.
    pub warnings: Vec<Warning>,
    /// By which policy.
    pub policy: PolicyHash,
    /// What could be asked for instead.
    pub suggestion: Option<String>,
}

impl Decision {
    fn deciding(&self) -> Option<&NameVerdict> {
        self.names.iter().find(|verdict| verdict.outcome == self.outcome)
    }

    /// The rule that decided; none where no rule allows it.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.deciding().and_then(|verdict| verdict.rule.as_deref())
    }

    /// The deciding rule's reason.
    #[must_use]
    pub fn because(&self) -> Option<&str> {
        self.deciding().and_then(|verdict| verdict.because.as_deref())
    }

    /// The names that were refused.
    pub fn refused(&self) -> impl Iterator<Item = &NameVerdict> {
        self.names.iter().filter(|verdict| verdict.outcome != Outcome::Allow)
    }

    /// One line.
    #[must_use]
    pub fn summary(&self) -> String {
        let refused = self.refused().count();
        match self.outcome {
            Outcome::Allow => format!("allowed by rule {}", self.rule().unwrap_or_default()),
            outcome => format!("{}: {refused} of {} names", outcome.as_str(), self.names.len()),
        }
    }

    /// For people: every name with its rule, and the way out.
    #[must_use]
    pub fn explain(&self) -> String {
        let width = self.names.iter().map(|verdict| verdict.name.to_string().len()).max().unwrap_or_default();
        let mut text = self.summary();
        for verdict in &self.names {
            let NameVerdict { name, outcome, rule, because } = verdict;
            let name = name.to_string();
            text.push_str(&format!("\n  {name:width$}  {:9}  ", outcome.as_str()));
            match rule {
                Some(rule) => text.push_str(&format!("rule {rule}")),
                None => text.push_str("no rule allows it"),
            }
            if let Some(because) = because.as_ref().filter(|_| *outcome != Outcome::Allow) {
                text.push_str(&format!(": {because}"));
            }
        }
        for Warning { rule, because } in &self.warnings {
            text.push_str(&format!("\nwarning: rule {rule}"));
            if let Some(because) = because {
                text.push_str(&format!(": {because}"));
            }
        }
        if let Some(suggestion) = &self.suggestion {
            text.push_str(&format!("\nask for: {suggestion}"));
        }
        text
    }
}
