//! What a cluster sees, on a real control plane with a real cert-manager.

mod cert_manager;
mod charts;
mod control_plane;
mod issuer;
mod token_review;
