//! Whom a Kubernetes token speaks for.
