//! The passphrase, the key files, the signer.

use std::path::Path;

use chancery_authority::ports::KeyId;
use chancery_pki::{KeyKind, PublicKey};
use chancery_signer::{KeyFile, KeyRole, KeySigner, LoadedKey, Passphrase};

use super::WiringError;
use crate::config::{Config, v1};

/// The keys of a configuration, loaded.
pub(crate) struct Keys {
    pub(crate) signer: KeySigner,
    /// Each authority's key, in the order of the configuration.
    pub(crate) issuing: Vec<(KeyId, PublicKey)>,
    pub(crate) ledger: KeyId,
}

/// The passphrase from where the configuration says.
pub(crate) fn passphrase(from: &v1::Passphrase) -> Result<Passphrase, WiringError> {
    Ok(match from {
        v1::Passphrase::File(file) => Passphrase::from_file(file)?,
        v1::Passphrase::Environment(name) => Passphrase::from_environment(name)?,
        v1::Passphrase::Credential(name) => Passphrase::from_credential(name)?,
    })
}

/// Decrypts every key file that the configuration names. Takes some tenths of a second.
pub(crate) fn load(config: &Config) -> Result<Keys, WiringError> {
    let passphrase = passphrase(&config.passphrase)?;
    let mut loaded = Vec::new();
    let mut issuing = Vec::new();
    for authority in &config.authorities {
        let key = open(&authority.key, KeyRole::Issuing, &passphrase)?;
        issuing.push((KeyId(key.name().into()), key.public_key().clone()));
        loaded.push(key);
    }
    let key = open(&config.ledger.key, KeyRole::Ledger, &passphrase)?;
    if key.public_key().kind() != KeyKind::Ed25519 {
        return Err(WiringError::LedgerKey(config.ledger.key.clone()));
    }
    let ledger = KeyId(key.name().into());
    loaded.push(key);
    Ok(Keys { signer: KeySigner::new(loaded)?, issuing, ledger })
}

/// Opens one key file, which must hold a key for `needed`.
pub(crate) fn open(path: &Path, needed: KeyRole, passphrase: &Passphrase) -> Result<LoadedKey, WiringError> {
    let file = KeyFile::read(path)?;
    let key = file.unlock(passphrase)?;
    if key.role() != needed {
        return Err(WiringError::Role { path: path.to_owned(), found: key.role(), needed });
    }
    Ok(key)
}
