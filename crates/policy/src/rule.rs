//! Rules as they are once read and checked.

use std::{fmt, sync::Arc};

use chancery_pki::{DnsName, KeyKind};
use ipnet::IpNet;

use crate::{
    condition::Condition,
    node::Position,
    pattern::{
        AttributePattern, CommonNamePattern, MailPattern, NamePattern, OtherNamePattern, SpiffePattern, UriPattern,
    },
    requester::{ClaimKind, Door, Requester},
};

/// A rule's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleName(pub(crate) Arc<str>);

impl RuleName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for RuleName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for RuleName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a rule does when it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Grants.
    Allow,
    /// Refuses, whatever others grant.
    Deny,
    /// Neither grants nor refuses; recorded and shown with the decision.
    Warn,
}

impl Effect {
    pub(crate) const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Warn];

    /// As a policy spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Warn => "warn",
        }
    }
}

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: RuleName,
    pub(crate) at: Position,
    pub(crate) effect: Effect,
    pub(crate) target: Target,
    pub(crate) who: Who,
    pub(crate) when: Option<Condition>,
    pub(crate) because: Option<String>,
}

/// A rule that allows by what annotations say. Whoever makes an object writes its annotations, so that whoever wants the
/// certificate can write what the rule asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "rule {rule} (line {line}) allows by annotations, which whoever asks writes as they like: it keeps nobody from what it \
     allows. Let a deny or a warn look at annotations, and an allow at the namespace or its labels"
)]
pub struct Caution {
    /// The rule.
    pub rule: RuleName,
    /// The line where it begins, counted from 1.
    pub line: usize,
}

/// What a rule speaks about. No selector at all: every name. `None`: every profile, every key.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) names: Vec<NamePattern>,
    /// The bases of wildcard names, matched letter for letter.
    pub(crate) wildcards: Vec<DnsName>,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) spiffe: Vec<SpiffePattern>,
    pub(crate) uris: Vec<UriPattern>,
    pub(crate) emails: Vec<MailPattern>,
    pub(crate) other_names: Vec<OtherNamePattern>,
    pub(crate) common_names: Vec<CommonNamePattern>,
    /// The attributes of the subject that is asked for: an allow grants these and no others (beside those that need no
    /// grant); a deny and a warn speak where one of them is asked for. Empty: an allow grants none.
    pub(crate) subject: Vec<AttributePattern>,
    /// The certificates of CAs alone. Without it an allow speaks of no CA; a deny and a warn speak of all certificates.
    pub(crate) ca: bool,
    pub(crate) profiles: Option<Vec<String>>,
    pub(crate) keys: Option<Vec<KeyKind>>,
}

impl Target {
    pub(crate) fn selects_every_name(&self) -> bool {
        self.selectors() == 0
    }

    pub(crate) fn selectors(&self) -> usize {
        let Self { names, wildcards, addresses, spiffe, uris, emails, other_names, common_names, .. } = self;
        let hosts = names.len() + wildcards.len() + addresses.len() + spiffe.len();
        hosts + uris.len() + emails.len() + other_names.len() + common_names.len()
    }
}

/// Whom a rule speaks about. A field that is absent says nothing; a list is any of its values.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Who {
    pub(crate) doors: Option<Vec<Door>>,
    pub(crate) directories: Option<Vec<String>>,
    pub(crate) claims: Vec<(ClaimKind, Vec<String>)>,
}

impl Who {
    /// Whether the requester is meant. Only proven claims count.
    pub(crate) fn matches(&self, requester: &Requester) -> bool {
        let among = |values: &[String], found: Option<&str>| {
            found.is_some_and(|found| values.iter().any(|value| value == found))
        };
        self.doors.as_ref().is_none_or(|doors| doors.contains(&requester.door))
            && self.directories.as_ref().is_none_or(|values| among(values, requester.directory.as_deref()))
            && self.claims.iter().all(|(kind, values)| among(values, requester.proven.of(*kind)))
    }
}
