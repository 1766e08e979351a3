//! An ACME client that does exactly what a test says, wrong things too, a DNS server, an http-01 responder and the
//! real binary, for black-box tests.

mod ports;

pub mod client;
pub mod dns;
pub mod responder;
pub mod server;
pub mod wire;

/// What goes wrong in a test's own machinery; a test ends with it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a test's machinery gives.
pub type Result<T> = std::result::Result<T, Error>;
