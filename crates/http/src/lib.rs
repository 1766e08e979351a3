//! axum: ACME, the JSON API, health and metrics.
//!
//! The accept loop, TLS and the real client addresses belong to the server; this crate turns
//! requests into use cases of `authority` and their outcomes into answers.

pub mod acme;
pub mod api;
#[doc(hidden)]
pub mod fuzzing;
pub mod metrics;
#[cfg(test)]
mod never;
pub mod request_id;
