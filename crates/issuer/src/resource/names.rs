//! What names of Kubernetes' objects look like (RFC 1123), as patterns of a schema. Their lengths are bounded beside.

/// A DNS label: what a namespace is called; at most 63 characters.
pub(super) const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A DNS subdomain: what Secrets, ConfigMaps and service accounts are called; at most 253 characters.
pub(super) const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
