//! The issuance policy: who may have which names under which profile, on which conditions.
//!
//! Default deny. `allow` grants, `deny` wins over it, `warn` grants nothing and refuses nothing
//! but is recorded with the decision. A condition that fails to evaluate is a deny. What needs a
//! fact that is not there yet (the key, at newOrder) is undecided.
//!
//! Pure: no clock, no files. A [`Policy`] is parsed from its text and never changes.

pub mod condition;
pub mod decision;
pub mod language;
pub mod pattern;
pub mod requester;

mod evaluate;

pub use decision::{Decision, NameVerdict, Outcome, PolicyHash, RuleName, Warning};
pub use evaluate::Request;
pub use language::{Format, Policy, PolicyError, PolicyErrors};
pub use requester::{Claims, Door, Fact, Requester};
