//! The port `Validator`: whether a challenge is fulfilled.
//!
//! http-01 (RFC 8555 §8.3), dns-01 (§8.4), tls-alpn-01 (RFC 8737), for addresses too (RFC 8738).
//! Everything goes out through the guarded dialer. Passing faults are looked at again within the
//! validation's time; a definite wrong answer is final. Nothing that a remote sent appears in a
//! problem's words: a challenge would else be a way to read what only the server can reach.

mod counters;
mod dns01;
#[doc(hidden)]
pub mod fuzzing;
mod http01;
mod look;
mod network;
mod tls;
mod tls_alpn01;

pub use counters::{Counters, KindCounters};
pub use network::{NetworkValidator, Pool, ValidationSettings};
