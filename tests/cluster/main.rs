//! What a cluster sees, on a real control plane with a real cert-manager.
#![expect(clippy::indexing_slicing, reason = "a field that is not there fails its test")]

mod cert_manager;
mod charts;
mod control_plane;
mod issuer;
