//! RFC 6962 Merkle tree, leaves, bundles, checkpoints, verification.
