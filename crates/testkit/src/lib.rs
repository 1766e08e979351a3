//! Builders, frozen clock, seeded entropy, memory store, fake signer and validator.
//!
//! For tests alone: it panics where a test has gone wrong.
#![expect(clippy::indexing_slicing, clippy::panic, reason = "only tests use it; a helper that fails fails its test")]

pub mod memory;
pub mod office;
pub mod ports;
pub mod sample;
pub mod store_suite;

pub use memory::MemoryStore;
