//! What the cluster sees, on a real control plane.

fn main() {}
