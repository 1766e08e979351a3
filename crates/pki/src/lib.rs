//! The X.509 vocabulary of Chancery: names, keys, CSRs, serials, validity, profiles, TBS, lints, certificates.
//!
//! Pure: no clock, no randomness, no files, no sockets. What comes out of this crate has been
//! checked; what goes into a certificate comes from order, profile and the CSR's public key alone.

pub mod answer;
pub mod ceremony;
pub mod certificate;
pub mod chain;
pub mod csr;
pub mod distinguished_name;
pub mod key;
pub mod lint;
pub mod name;
pub mod profile;
pub mod serial;
pub mod tbs;
pub mod time;
mod tlv;
mod usage_words;

pub use csr::{Csr, CsrRejection};
pub use key::{KeyKind, KeyRejection, PublicKey, SignatureAlgorithm, SpkiDigest};
pub use name::{DnsName, Name, NameRejection, NameSet, SpiffeId};
pub use serial::SerialNumber;
pub use time::{Lifetime, Timestamp, Validity};
