//! What is wrong with a policy file, and where.

use std::fmt;

use crate::pattern::PatternFault;

/// Everything that is wrong with a policy file, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors(Vec<PolicyError>);

impl PolicyErrors {
    pub(crate) fn new(mut errors: Vec<PolicyError>) -> Self {
        errors.sort_by_key(|error| (error.line, error.column));
        Self(errors)
    }

    /// Each error.
    pub fn iter(&self) -> std::slice::Iter<'_, PolicyError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a PolicyErrors {
    type Item = &'a PolicyError;
    type IntoIter = std::slice::Iter<'a, PolicyError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One line each.
impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// One thing that is wrong, and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {}{fault}", key_prefix(.key))]
pub struct PolicyError {
    /// The file, as the caller named it.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The key, such as `rules[2].allow.names[0]`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub fault: Fault,
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// What can be wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file as a whole is too long.
    #[error("the file has {length} bytes, more than the {max} that a policy may have")]
    TooLarge {
        /// Bytes found.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Too many of something.
    #[error("{count} {what}, more than the {max} that a policy may have")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many were found.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Not YAML, or not TOML.
    #[error("{message}")]
    Syntax {
        /// The parser's words.
        message: String,
    },
    /// A field that does not exist here.
    #[error("there is no field {found:?} here; {}", nearest_or_all(.nearest.as_deref(), .known))]
    UnknownField {
        /// What was found.
        found: String,
        /// What was probably meant.
        nearest: Option<String>,
        /// Every field there is.
        known: Vec<String>,
    },
    /// A field that must be there is not.
    #[error("the field {field:?} is missing; expected {expected}")]
    MissingField {
        /// Its name.
        field: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A value of the wrong kind.
    #[error("found {found}, expected {expected}")]
    WrongType {
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A word that is none of those allowed.
    #[error("found {found:?}; {}", nearest_or_all(.nearest.as_deref(), .known))]
    UnknownValue {
        /// What was found.
        found: String,
        /// What was probably meant.
        nearest: Option<String>,
        /// Every word there is.
        known: Vec<String>,
    },
    /// An empty list: it would select nothing, and reads as if it selected everything.
    #[error("the list is empty; name at least one, or leave the field out")]
    EmptyList,
    /// A text with nothing in it, too long, or with characters that are not to be shown.
    #[error("found {found}; expected text of 1 to {max} characters without control characters")]
    BadText {
        /// What was found, escaped and shortened.
        found: String,
        /// Characters allowed.
        max: usize,
    },
    /// Not a rule's or profile's name.
    #[error("found {found:?}; a name holds letters, digits, hyphens, dots and underscores, 100 at most{}", did_you_mean(.nearest.as_deref()))]
    BadName {
        /// What was found.
        found: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A pattern where `for` compares letter for letter.
    #[error("found {found:?}; `for` compares letter for letter and knows no patterns")]
    PatternInFor {
        /// What was found.
        found: String,
    },
    /// Not a pattern, or one that means something else than it looks.
    #[error("found {found:?}: {why}{}", did_you_mean(.suggestion.as_deref()))]
    Pattern {
        /// What was found.
        found: String,
        /// Why it is refused.
        why: PatternFault,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// Not exactly one of allow, deny and warn.
    #[error("a rule has exactly one of allow, deny and warn; {}", found_effects(.found))]
    Effects {
        /// Which were found.
        found: Vec<&'static str>,
    },
    /// Both `profile` and `profiles`.
    #[error("profile and profiles say the same; keep one of them")]
    ProfileTwice,
    /// An allow without any name.
    #[error(
        "an allow says for which names: give names, wildcards, addresses, spiffe, uris, emails, other_names or common_names"
    )]
    NothingAllowed,
    /// A rule's name is taken.
    #[error("the name {name:?} is taken by the rule at line {line}")]
    DuplicateName {
        /// The name.
        name: String,
        /// Where the first is.
        line: usize,
    },
    /// A rule says what another one says.
    #[error("this rule says exactly what the rule {name:?} at line {line} says, so it can never matter")]
    Repeated {
        /// The other rule.
        name: String,
        /// Where it is.
        line: usize,
    },
    /// An allow whose every name is denied without condition.
    #[error("this allow can never matter: everything it grants is denied by {}", rules_in_words(.by))]
    Covered {
        /// The rules that deny it.
        by: Vec<String>,
    },
    /// A condition that is not to be had.
    #[error("the condition {why}{}", did_you_mean(.nearest.as_deref()))]
    Condition {
        /// Why.
        why: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default()
}

fn nearest_or_all(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) if known.len() > 1 => format!("did you mean {nearest:?}?"),
        Some(_) | None => format!("expected {}", known.join(", ")),
    }
}

fn found_effects(found: &[&str]) -> String {
    if found.is_empty() { "found none".to_owned() } else { format!("found {}", found.join(" and ")) }
}

fn rules_in_words(rules: &[String]) -> String {
    let quoted: Vec<String> = rules.iter().map(|rule| format!("{rule:?}")).collect();
    let word = if quoted.len() == 1 { "rule" } else { "rules" };
    format!("{word} {}", quoted.join(", "))
}
