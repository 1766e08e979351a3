//! The reading of DNS answers, for tests/fuzz, which stands outside. Nothing else may use it.

use std::net::IpAddr;

use hickory_proto::{op::Message, rr::Name};

use crate::{
    LookupFailure,
    resolve::{answers_to, txt, v4, v6},
};

/// What an answer says about a name.
#[derive(Debug)]
pub struct Read {
    /// Its IPv6 addresses.
    pub v6: Result<Vec<IpAddr>, LookupFailure>,
    /// Its IPv4 addresses.
    pub v4: Result<Vec<IpAddr>, LookupFailure>,
    /// Its TXT records.
    pub txt: Result<Vec<Vec<u8>>, LookupFailure>,
}

/// Reads a DNS message as an answer about `name`.
///
/// # Errors
///
/// Where the message or the name cannot be read.
pub fn answers(message: &[u8], name: &str) -> Result<Read, String> {
    let message = Message::from_vec(message).map_err(|error| error.to_string())?;
    let mut name = Name::from_ascii(name).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    Ok(Read {
        v6: answers_to(&message.answers, &name, v6),
        v4: answers_to(&message.answers, &name, v4),
        txt: answers_to(&message.answers, &name, txt),
    })
}
