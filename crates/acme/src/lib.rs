//! RFC 8555 and its extensions: resources, the moves between their states, problem types, wire shapes.
//!
//! Pure: no clock, no store, no network. Domain types carry no serde; [`wire`] holds the JSON shapes.

pub mod account;
pub mod authorization;
pub mod challenge;
pub mod eab;
pub mod id;
pub mod jwk;
pub mod order;
pub mod problem;
pub mod renewal_info;
pub mod urls;
pub mod wire;
