//! The issuance-policy language: who may have which names, under which profile, and why.
//!
//! A [`Policy`] is one file, read and checked as a whole; [`Policy::evaluate`] answers one
//! [`Request`] with one [`Decision`] that names its rules. What no rule allows is denied, a deny
//! wins over every allow, and a condition that cannot be evaluated is a deny.
//!
//! Pure: no clock, no files, no randomness. A caller brings the text, the facts and `now`. The
//! crate never decides whether a requester is who it says: it is told what is proven, what is
//! merely claimed and what a trusted controller reports, and keeps them apart.

mod condition;
mod cover;
mod decision;
mod entries;
mod error;
mod evaluate;
mod index;
mod language;
mod name_limits;
mod node;
mod pattern;
mod reported;
mod requester;
mod rule;
mod scope;
mod spelling;

pub use decision::{Decision, NameVerdict, Outcome, PolicyHash, Warning};
pub use error::{Fault, PolicyError, PolicyErrors};
pub use evaluate::{Content, Policy, Request, SubjectAttribute};
pub use language::Format;
pub use name_limits::{LimitFault, NameLimits};
pub use pattern::PatternFault;
pub use reported::{CERTIFICATE_FACT, NAMESPACE_FACT, Reported, TooMuchReported, UnknownReport};
pub use requester::{Claims, Door, Fact, Requester, UnknownClaim, UnknownDoor};
pub use rule::{Caution, Effect, RuleName};
pub use scope::{NameScope, SCOPE_MAX, ScopeFault};
