//! What the CA does, step by step, and the ports it needs.
