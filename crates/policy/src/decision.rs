//! What policy says: one value, rendered for the client, the ledger, the log and the page.

use std::fmt;

use chancery_pki::Name;

use crate::rule::RuleName;

/// SHA-256 of a policy's exact text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyHash(pub [u8; 32]);

/// Lower-case hex.
impl fmt::Display for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// How a request, or one name of it, fares; the later in this order the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Allowed.
    Allow,
    /// A fact is missing; once it is there, it will be decided.
    Undecided,
    /// Waits for an approval.
    Hold,
    /// Refused.
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

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One name's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameVerdict {
    /// The name.
    pub name: Name,
    /// Its outcome.
    pub outcome: Outcome,
    /// The rule that decided; none where no rule allows the name.
    pub rule: Option<RuleName>,
    /// Why: the rule's own words, or what is missing, or what failed.
    pub because: Option<String>,
}

/// A rule that warned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: RuleName,
    /// Its own words.
    pub because: Option<String>,
}

/// What policy says about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// As a whole: the worst of the names' outcomes.
    pub outcome: Outcome,
    /// Every name's verdict, in the order of the name set.
    pub names: Vec<NameVerdict>,
    /// What was remarked beside it; neither grants nor refuses.
    pub warnings: Vec<Warning>,
    /// The policy that said so.
    pub policy: PolicyHash,
    /// What this requester could ask for instead.
    pub suggestion: Option<String>,
}

impl Decision {
    fn deciding(&self) -> Option<&NameVerdict> {
        self.names.iter().find(|verdict| verdict.outcome == self.outcome)
    }

    /// The rule that decided; none where no rule allows a name.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.deciding().and_then(|verdict| verdict.rule.as_ref()).map(RuleName::as_str)
    }

    /// Why it was decided so.
    #[must_use]
    pub fn because(&self) -> Option<&str> {
        self.deciding().and_then(|verdict| verdict.because.as_deref())
    }

    /// The names that are not allowed.
    pub fn refused(&self) -> impl Iterator<Item = &NameVerdict> {
        self.names.iter().filter(|verdict| verdict.outcome != Outcome::Allow)
    }

    /// The names that stand against it, each with the rule that spoke and why.
    pub fn refusals(&self) -> impl Iterator<Item = (&Name, String)> {
        let is_refused = |outcome| match outcome {
            Outcome::Deny | Outcome::Hold => true,
            // Undecided is no refusal as long as something else was the reason.
            Outcome::Undecided => self.outcome == Outcome::Undecided,
            Outcome::Allow => false,
        };
        self.names.iter().filter(move |verdict| is_refused(verdict.outcome)).map(|verdict| {
            let NameVerdict { name, outcome, rule, because } = verdict;
            let why = match (rule, because) {
                (Some(rule), Some(because)) => format!(" by rule {rule}: {because}"),
                (Some(rule), None) => format!(" by rule {rule}"),
                (None, Some(because)) => format!(": {because}"),
                (None, None) => ": no rule allows it".to_owned(),
            };
            (name, format!("{outcome}{why}"))
        })
    }

    /// What could be asked for instead, as the end of a sentence; empty where there is nothing.
    #[must_use]
    pub fn way_out(&self) -> String {
        self.suggestion.as_ref().map(|suggestion| format!("; ask for: {suggestion}")).unwrap_or_default()
    }

    /// One line: the outcome and how many names it is about.
    #[must_use]
    pub fn summary(&self) -> String {
        let all = self.names.len();
        let names = if all == 1 { "name" } else { "names" };
        match self.outcome {
            Outcome::Allow => format!("allowed: {all} {names}"),
            outcome @ (Outcome::Undecided | Outcome::Hold | Outcome::Deny) => {
                let these = self.names.iter().filter(|verdict| verdict.outcome == outcome).count();
                format!("{outcome}: {these} of {all} {names}")
            }
        }
    }

    /// For people: what was asked, which rule spoke, why, and the way out.
    #[must_use]
    pub fn explain(&self) -> String {
        self.to_string()
    }
}

/// Several lines, as [`Decision::explain`].
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {}", self.summary())?;
        let texts: Vec<String> = self.names.iter().map(|verdict| verdict.name.to_string()).collect();
        let width = texts.iter().map(String::len).max().unwrap_or_default() + 4;
        let outcomes = self.names.iter().map(|verdict| verdict.outcome.as_str().len()).max().unwrap_or_default() + 4;
        for (verdict, text) in self.names.iter().zip(&texts) {
            let NameVerdict { name: _, outcome, rule, because } = verdict;
            write!(f, "\n  {text:width$}{outcome:outcomes$}")?;
            match (rule, because) {
                (Some(rule), Some(because)) if *outcome != Outcome::Allow => write!(f, "rule {rule}: {because}")?,
                (Some(rule), _) => write!(f, "rule {rule}")?,
                (None, Some(because)) => f.write_str(because)?,
                (None, None) => f.write_str("no rule allows it")?,
            }
        }
        for Warning { rule, because } in &self.warnings {
            write!(f, "\nwarning from rule {rule}")?;
            if let Some(because) = because {
                write!(f, ": {because}")?;
            }
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\nask for: {suggestion}")?;
        }
        Ok(())
    }
}
