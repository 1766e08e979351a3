//! The passphrase, the key files, the signer.

use std::path::Path;

use chancery_authority::{
    Failure,
    ports::{KeyId, Store},
    records::EabKeyId,
};
use chancery_pki::{KeyKind, PublicKey, Timestamp};
use chancery_signer::{Cost, KeyFile, KeyFileError, KeyRole, KeySigner, LoadedKey, Passphrase};

use super::WiringError;
use crate::config::{Config, v1};

/// The keys of a configuration, loaded.
pub(crate) struct Keys {
    pub(crate) signer: KeySigner,
    /// Each authority's key, in the order of the configuration.
    pub(crate) issuing: Vec<(KeyId, PublicKey)>,
    pub(crate) ledger: KeyId,
    /// Whether there is a key that the secrets of EAB keys are derived from.
    pub(crate) binds: bool,
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
    let binds = config.takes_bindings();
    match open_eab_key(config, &passphrase) {
        Ok(key) => loaded.extend(key),
        // The server's next start makes it.
        Err(WiringError::KeyFile(KeyFileError::Missing { .. })) => {}
        Err(error) => return Err(error),
    }
    Ok(Keys { signer: KeySigner::new(loaded)?, issuing, ledger, binds })
}

/// The key that EAB keys are derived from, where a directory takes bindings.
fn open_eab_key(config: &Config, passphrase: &Passphrase) -> Result<Option<LoadedKey>, WiringError> {
    if !config.takes_bindings() {
        return Ok(None);
    }
    let key = open(&config.eab_key, KeyRole::Eab, passphrase)?;
    if key.public_key().kind() != KeyKind::Ed25519 {
        return Err(WiringError::EabKey(config.eab_key.clone()));
    }
    Ok(Some(key))
}

/// Makes the key that EAB keys are derived from, where a directory takes bindings and there is none yet. Where one that
/// was given out still holds (`in_use`), its file is missing and another one would be a silent end of them all.
pub(crate) fn make_eab_key(config: &Config, in_use: Option<&EabKeyId>) -> Result<(), WiringError> {
    if !config.takes_bindings() || config.eab_key.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(key) = in_use {
        return Err(WiringError::EabKeyLost { path: config.eab_key.clone(), key: key.to_string() });
    }
    let passphrase = passphrase(&config.passphrase)?;
    KeyFile::create(&config.eab_key, "eab", KeyRole::Eab, KeyKind::Ed25519, &passphrase, Cost::STANDARD)?;
    tracing::info!(
        file = %config.eab_key.display(),
        "made the key that EAB keys are derived from; keep a copy of it with the other keys"
    );
    Ok(())
}

/// An EAB key with which accounts may be made at `now`, if there is one.
///
/// # Errors
///
/// [`Failure`] if the store cannot be read.
pub(crate) async fn eab_key_in_use(store: &dyn Store, now: Timestamp) -> Result<Option<EabKeyId>, Failure> {
    /// Keys of one page.
    const PAGE: usize = 200;
    let mut after = None;
    loop {
        let page = store.eab_keys(after.as_ref(), PAGE).await?;
        if let Some(open) = page.iter().find(|key| key.is_open(now).is_ok()) {
            return Ok(Some(open.id.clone()));
        }
        match page.into_iter().next_back() {
            Some(last) => after = Some(last.id),
            None => return Ok(None),
        }
    }
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
