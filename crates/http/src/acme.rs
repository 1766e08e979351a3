//! ACME (RFC 8555) over HTTP.

mod jws;
mod nonce;
#[cfg(test)]
mod testing;
mod verify;
