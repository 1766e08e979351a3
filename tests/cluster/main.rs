//! What a cluster sees, on a real control plane with a real cert-manager.
#![expect(clippy::indexing_slicing, reason = "a helper that fails fails its test")]

mod cert_manager;
mod charts;
mod control_plane;
