//! Checkpoints: signed heads of the ledger's tree (durability, rule 14), and what takes effect at a start or reload.

use std::{collections::BTreeMap, time::Duration};

use chancery_ledger::{Checkpoint, Hash, Leaf, VerifierKey};
use chancery_pki::{
    chain::IssuingCertificate,
    key::{KeyParts, SignatureAlgorithm},
};

use crate::{
    changes::Changes,
    failure::Failure,
    leaves,
    office::Office,
    ports::{KeyId, Purpose, ToBeSigned},
    records::JobKind,
    settings::Settings,
};

/// By what the ledger's checkpoints are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerSettings {
    /// The ledger's own Ed25519 key at the signer.
    pub key: KeyId,
    /// The log's origin line, and the name of its key.
    pub origin: String,
    /// How often a checkpoint is signed while the tree grows.
    pub every: Duration,
}

impl Office {
    /// Signs the head of the synced tree with the ledger's own key, keeps it, and owes the next one.
    pub(crate) async fn sign_checkpoint(&self) -> Result<(), Failure> {
        let settings = self.settings();
        let Some(ledger) = &settings.ledger else {
            return Ok(self
                .commit(Changes::new().with(crate::changes::Change::Finish(JobKind::Checkpoint)))
                .await
                .map(drop)?);
        };
        self.checkpoint_now(ledger).await?;
        self.schedule(JobKind::Checkpoint, self.now().after(ledger.every)).await
    }

    /// Signs a checkpoint unless the last one is of the same tree.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn checkpoint_now(&self, ledger: &LedgerSettings) -> Result<(), Failure> {
        let head = self.store().tree_head().await?;
        let checkpoint = Checkpoint::new(&ledger.origin, head.size, Hash::from_octets(head.root))
            .map_err(|error| Failure::Internal(format!("the ledger's head is no checkpoint: {error}")))?;
        let body = checkpoint.body();
        if self.store().checkpoint().await?.is_some_and(|note| note.starts_with(&body)) {
            return Ok(());
        }
        let verifier = self.ledger_verifier(ledger)?;
        let what = ToBeSigned::new(Purpose::Checkpoint, SignatureAlgorithm::Ed25519, body.clone().into_bytes());
        let signature = self.ports().signer.sign(&ledger.key, &what).await?;
        let note = checkpoint
            .attach(&verifier, &signature)
            .map_err(|_| Failure::Internal("the checkpoint's signature does not verify".to_owned()))?;
        Ok(self.store().keep_checkpoint(head.size, note.to_string()).await?)
    }

    /// The key by which everybody can verify this ledger's checkpoints.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the ledger's key is not loaded or no Ed25519 key.
    pub fn ledger_verifier(&self, ledger: &LedgerSettings) -> Result<VerifierKey, Failure> {
        let key = self
            .ports()
            .signer
            .public_key(&ledger.key)
            .ok_or_else(|| Failure::Unavailable("the ledger's key is not loaded".to_owned()))?;
        let KeyParts::Ed25519 { x } = key.parts() else {
            return Err(Failure::Internal("the ledger's key is no Ed25519 key".to_owned()));
        };
        let octets =
            <[u8; 32]>::try_from(x).map_err(|_| Failure::Internal("the ledger's key is cut short".to_owned()))?;
        VerifierKey::new(&ledger.origin, octets)
            .map_err(|error| Failure::Internal(format!("the ledger's origin cannot name a key: {error}")))
    }

    /// Puts settings in force: the policy's text is kept under its hash, and leaves of one commit say, before the
    /// first decision by them, which issuing certificates came and went and who activated which policy. What is in
    /// force already gets no leaf.
    ///
    /// # Errors
    ///
    /// [`Failure`]; then the old settings stay.
    pub async fn replace_settings(&self, settings: Settings, by: &str) -> Result<(), Failure> {
        let old = self.settings();
        let (was, is) = (issuing(&old), issuing(&settings));
        let now = self.now();
        let mut changes = Changes::new();
        for (which, certificate) in is.iter().filter(|(which, _)| !was.contains_key(*which)) {
            changes = changes.leaf(leaves::authority_installed(which.0, certificate, now));
        }
        for (which, certificate) in was.iter().filter(|(which, _)| !is.contains_key(*which)) {
            changes = changes.leaf(leaves::authority_retired(which.0, certificate, now));
        }
        if old.policy.hash() != settings.policy.hash()
            || old.profiles.len() != settings.profiles.len()
            || old.profiles.iter().zip(&settings.profiles).any(|(a, b)| a.1.hash() != b.1.hash())
        {
            changes = changes.leaf(self.activation(&settings, by).await?);
        }
        if !changes.leaves.is_empty() {
            self.commit(changes).await?;
        }
        self.put_settings(settings);
        Ok(())
    }

    /// Records what is in force at a start, in one commit: the issuing certificates, the policy, the profiles.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn record_start(&self) -> Result<(), Failure> {
        let settings = self.settings();
        let mut changes = Changes::new();
        for (which, certificate) in issuing(&settings) {
            changes = changes.leaf(leaves::authority_installed(which.0, certificate, self.now()));
        }
        let changes = changes.leaf(self.activation(&settings, "start").await?);
        self.commit(changes).await?;
        Ok(())
    }

    /// Keeps the policy's text, which the leaf that comes back names by its hash.
    async fn activation(&self, settings: &Settings, by: &str) -> Result<Leaf, Failure> {
        let hash = settings.policy.hash().0;
        self.store().keep_blob(hash, settings.policy.text().as_bytes().to_vec()).await?;
        Ok(leaves::policy_activated(hash, settings.profiles.values().map(|profile| &**profile), by, self.now()))
    }
}

/// Every issuing certificate, by its authority and its octets.
fn issuing(settings: &Settings) -> BTreeMap<(&str, &[u8]), &IssuingCertificate> {
    let mut all = BTreeMap::new();
    for authority in &settings.authorities {
        for certificate in authority.chains.iter().map(|chain| chain.issuing()) {
            all.insert((authority.id.as_str(), certificate.der()), &**certificate);
        }
    }
    all
}
