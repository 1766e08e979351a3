//! axum: ACME, the JSON API, health and metrics.

pub mod acme;
