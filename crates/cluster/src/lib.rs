//! Whom a credential of a Kubernetes cluster speaks for: the port
//! [`WorkloadIdentity`](chancery_authority::ports::WorkloadIdentity).
//!
//! A service-account token is checked by a TokenReview at its cluster's API server, or by the keys that the cluster
//! publishes: read from a file, or from that API server. A client certificate is checked by the CA certificates of its
//! cluster. What may then be asked for is not decided here.
//!
//! The addresses that are dialled are those of API servers that an operator wrote into the configuration, never one
//! that a stranger names; so they do not go through the guard of `egress`, which is about strangers' addresses. They
//! are https with the CA that was configured for them, no proxy, and no redirect is followed.

mod api_server;
mod claims;
mod clients;
mod identity;
mod keys;
mod known;

pub use api_server::{ApiServer, ApiServerFault};
pub use clients::{ClientAuthority, NoClientAuthority, OptionalClients};
pub use identity::{ClusterIdentity, Identity, TokenCheck, TokenIdentity};
pub use keys::{KeysFault, Published};
