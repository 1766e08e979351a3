//! Checkpoints: signed heads of the ledger's tree (durability, rule 14), and what takes effect at a start or reload.

use std::time::Duration;

use chancery_ledger::{Checkpoint, Hash, VerifierKey};
use chancery_pki::key::{KeyParts, SignatureAlgorithm};

use crate::{
    changes::{Change, Changes, Put},
    failure::Failure,
    issue::sha256,
    leaves,
    office::{Hold, Office},
    ports::{KeyId, Purpose, ToBeSigned},
    records::{InForce, JobKind},
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
            return Ok(self.commit(Changes::new().with(Change::Finish(JobKind::Checkpoint))).await.map(drop)?);
        };
        self.checkpoint_now(ledger).await?;
        self.schedule(JobKind::Checkpoint, self.trusted_time()?.after(ledger.every)).await
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
    /// first decision by them, which issuing certificates came and went and who activated which policy. What was in
    /// force already, be it before a restart, gets no leaf.
    ///
    /// # Errors
    ///
    /// [`Failure`]; then the old settings stay.
    pub async fn replace_settings(&self, settings: Settings, by: &str) -> Result<(), Failure> {
        let _one = self.recording().await;
        self.record_in_force(&settings, by).await?;
        self.put_settings(settings);
        Ok(())
    }

    /// Records what is in force at a start, where it is not what was in force before.
    ///
    /// # Errors
    ///
    /// [`Failure`]; then nothing is issued before it was done.
    pub async fn record_start(&self) -> Result<(), Failure> {
        // The settings are looked at once nobody else records: else those of a reload that came first would be
        // recorded as gone.
        let _one = self.recording().await;
        let recorded = self.record_in_force(&self.settings(), "start").await;
        match &recorded {
            Ok(()) => self.lift(Hold::Unrecorded),
            Err(failure) => {
                self.hold(Hold::Unrecorded, &format!("what is in force could not be recorded at the start: {failure}"));
            }
        }
        recorded
    }

    async fn record_in_force(&self, settings: &Settings, by: &str) -> Result<(), Failure> {
        let hash = settings.policy.hash().0;
        self.store().keep_blob(hash, settings.policy.text().as_bytes().to_vec()).await?;
        let held = self.store().in_force().await?;
        let is = in_force(settings);
        let nothing = InForce::default();
        let was = held.as_ref().map_or(&nothing, |held| &held.value);
        if *was == is {
            return Ok(());
        }
        let now = self.now();
        let mut changes = Changes::new();
        for ((authority, certificate), key) in is.issuing.iter().filter(|(which, _)| !was.issuing.contains_key(which)) {
            changes = changes.leaf(leaves::authority_installed(authority, *certificate, *key, now));
        }
        for ((authority, certificate), key) in was.issuing.iter().filter(|(which, _)| !is.issuing.contains_key(which)) {
            changes = changes.leaf(leaves::authority_retired(authority, *certificate, *key, now));
        }
        if (was.policy, &was.profiles) != (is.policy, &is.profiles) {
            changes = changes.leaf(leaves::policy_activated(hash, &is, by, now));
        }
        let replaces = held.map(|held| held.version);
        self.commit(changes.with(Change::InForce(Put { replaces, value: is }))).await?;
        Ok(())
    }
}

/// What these settings put in force.
fn in_force(settings: &Settings) -> InForce {
    let issuing = settings.authorities.iter().flat_map(|authority| {
        authority.chains.iter().map(|chain| {
            let certificate = chain.issuing();
            ((authority.id.clone(), sha256(certificate.der())), certificate.key().digest())
        })
    });
    InForce {
        issuing: issuing.collect(),
        policy: Some(settings.policy.hash().0),
        profiles: settings.profiles.values().map(|profile| (profile.name().to_owned(), profile.hash().0)).collect(),
    }
}
