//! The binary `chancery-issuer`: cert-manager's external issuer and Kubernetes signers, in front of a Chancery server.

fn main() {}
