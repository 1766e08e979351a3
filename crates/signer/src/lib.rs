//! The port Signer on encrypted key files.
//!
//! A private key is made here, is written encrypted, is decrypted into memory when the server
//! starts, and is never shown: there is no call that returns it. Each key has one role
//! ([`KeyRole`]) and refuses to sign for another, whatever its holder asks.
//!
//! What this crate does not do: it never looks at what it signs. That the bytes may be signed is
//! proven by their type, which `authority` alone can make.

mod envelope;
mod key_file;
mod passphrase;
mod private_key;
mod signer;

pub use self::{
    envelope::{Cost, CostOutOfRange},
    key_file::{KeyFile, KeyFileError},
    passphrase::{Passphrase, PassphraseError},
    private_key::{KeyRole, LoadedKey, NotAKeyRole},
    signer::{KeySigner, KeysRejected},
};
