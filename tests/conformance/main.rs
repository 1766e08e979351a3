//! What the RFCs promise a client, against the real binary over real sockets, by a client that shares no code with
//! the server. A test's path is the citation: `rfc8555::s7_4::a_finalize_that_is_repeated_gets_403`.
//!
//! Tests share servers (see `sites`); what needs a clock, a failing store or a slow signer is tested inside the
//! crates.
#![expect(clippy::indexing_slicing, reason = "what is not there fails its test")]

mod flow;
mod hostile;
mod overload;
mod rfc7301;
mod rfc8555;
mod rfc9112;
mod rfc9113;
mod rfc9773;
mod secrets;
mod sites;
