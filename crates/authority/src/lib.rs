//! What the certificate authority does, one file per use case, and the ports it needs.
//!
//! No I/O, no clock, no chance of its own: the store, the signer, the validator, time and entropy
//! come in through [`ports`]. [`issue`] is the one path to a signature, used by every door.

pub mod answer_challenge;
pub mod api_token;
pub mod at_work;
pub mod ceremony;
pub mod change_key;
pub mod changes;
pub mod checkpoint;
pub mod credential;
pub mod crl_number;
mod eab_key_ends;
pub mod eab_keys;
pub mod eab_secret;
pub mod failure;
pub mod finalize_order;
pub mod inventory;
pub mod issue;
pub mod issue_once;
pub mod jobs;
mod leaves;
pub mod office;
pub mod own_tls;
pub mod place_order;
pub mod pod_certificate;
pub mod ports;
pub mod records;
pub mod register_account;
mod renewal_info;
pub mod revoke;
pub mod settings;
pub mod sign_for_request;
pub mod terms;
pub mod thumbprint;
mod waits;

pub use failure::{Failure, Refusal};
pub use office::{Office, Ports};
pub use settings::{Authority, Cluster, Directory, Limits, OwnTls, Settings};
