//! What a cluster sees, on a real control plane with a real cert-manager.

mod acme_issuer;
mod cert_manager;
mod charts;
mod conformance;
mod control_plane;
mod gateways;
mod issuer;
mod signers;
mod token_review;
