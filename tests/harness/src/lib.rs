//! An ACME client that does exactly what a test says, wrong things too, and responders for black-box tests.

pub mod client;
pub mod responder;
pub mod server;

/// What goes wrong in a test's own machinery; a test ends with it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
