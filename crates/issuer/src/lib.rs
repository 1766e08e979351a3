//! The controller `chancery-issuer`: cert-manager's external issuer in front of a Chancery server.
//!
//! It watches CertificateRequests that refer to a `ChanceryIssuer` or `ChanceryClusterIssuer`, asks the issuer's
//! server over HTTPS, holds the answer against the request, and writes it into the status. What is to be done is
//! decided by pure code (`decide`); whose turn it is, by the `board`; only `worker`, `issuers` and
//! `watch` speak to anybody. Signing is idempotent by the object's UID at the server, so a controller that dies at
//! any step leads to no second certificate.
//!
//! Beside it, where they are switched on: `signers`, for Kubernetes' own requests that name an issuer as their signer,
//! and `trust`, which publishes the servers' roots in the cluster.
//!
//! It never signs before an approval or after a denial, never approves, never changes a spec, sets no finalizer, and
//! keeps no state in annotations.

mod backoff;
mod board;
mod book;
mod breaker;
mod check;
pub mod cli;
mod clients;
mod clock;
mod condition;
mod credentials;
mod decide;
mod discovery;
mod dispatch;
mod disposal;
mod events;
#[cfg(test)]
mod fake_api;
#[cfg(test)]
mod fake_signer;
mod issuers;
mod leader;
mod metrics;
mod origin;
mod probes;
mod queue;
mod renew;
pub mod resource;
mod run;
mod signer;
mod signers;
mod throttle;
mod trust;
mod unapproved;
mod usage;
mod watch;
mod worker;
