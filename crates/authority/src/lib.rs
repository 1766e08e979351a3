//! What the certificate authority does, one file per use case, and the ports it needs.
//!
//! No I/O, no clock, no chance of its own: the store, the signer, the validator, time and entropy
//! come in through [`ports`].

pub mod changes;
pub mod failure;
pub mod ports;
pub mod records;

pub use failure::{Failure, Refusal};
