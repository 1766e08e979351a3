//! The roots that clients must trust, published in the cluster for whoever wants them: as ClusterTrustBundles
//! (KEP-3257), and as a ConfigMap in each namespace that asks for it by a label.
//!
//! What is published follows what an issuer's server tells, both generations while roots are changed. An issuer that is
//! not ready leaves what was published as it is; one that publishes no more, or is gone, takes it with it. Nothing is
//! ever written over an object of somebody else's. One task writes one object after the other; watches say what has to
//! be written, and while nothing changes nothing is.

mod listed;
mod publish;
mod roots;
mod write;

pub(crate) use self::publish::{Publishing, publish};

/// The label that everything published here has.
const PUBLISHED: &str = "chancery.dev/published-roots";
/// The label by which a namespace asks for roots; its value names a ChanceryClusterIssuer.
const ASKS: &str = "chancery.dev/roots";
/// The key of a ConfigMap that holds the roots.
const CA_CRT: &str = "ca.crt";
