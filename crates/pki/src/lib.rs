//! The X.509 vocabulary of Chancery: names, keys, CSRs, serials, validity, profiles, TBS, lints, certificates.
//!
//! Pure: no clock, no randomness, no files, no sockets. What comes out of this crate has been
//! checked; what goes into a certificate comes from order, profile and the CSR's public key alone, and where a door lets
//! requesters ask for more, from what profile and policy granted of it.

pub mod answer;
pub mod ceremony;
pub mod certificate;
pub mod chain;
pub mod content;
pub mod csr;
pub mod distinguished_name;
pub mod key;
pub mod lint;
pub mod name;
pub mod profile;
pub mod serial;
pub mod spelling;
pub mod tbs;
pub mod time;
mod tlv;
pub mod usage;

pub use content::Content;
pub use csr::{Csr, CsrRejection, CsrRules};
pub use key::{KeyKind, KeyRejection, PublicKey, SignatureAlgorithm, SpkiDigest};
pub use name::{CommonName, DnsName, EmailAddress, Name, NameRejection, NameSet, OtherName, SpiffeId, Uri};
pub use serial::SerialNumber;
pub use time::{Lifetime, Timestamp, Validity};
pub use usage::{UsageRejection, Usages};
