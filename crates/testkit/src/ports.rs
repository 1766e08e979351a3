//! A frozen clock, seeded entropy, a signer with keys in memory, a validator that does what a test says.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::{
    digest::{SHA512, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use chancery_acme::problem::{Problem, ProblemType};
use chancery_authority::{
    eab_secret::EabSecret,
    ports::{
        CertificateHolder, Clock, Entropy, Evidence, IdentityError, KeyId, Purpose, ServiceAccount, Signer,
        SignerError, ToBeSigned, Validation, ValidationError, Validator, WorkloadIdentity,
    },
    records::EabKeyId,
};
use chancery_pki::{KeyKind, PublicKey, Timestamp};
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock(AtomicI64, Mutex<Option<String>>);

impl TestClock {
    /// 2026-11-25T09:46:40Z.
    pub const START: Timestamp = Timestamp::from_unix_seconds(1_795_600_000);

    /// Stands at this time.
    #[must_use]
    pub fn at(time: Timestamp) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(time.unix_millis()), Mutex::default()))
    }

    /// Moves forward.
    pub fn advance(&self, by: Duration) {
        let now = self.now();
        self.set(now.after(by));
    }

    /// Moves to a time, back too.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.unix_millis(), Ordering::SeqCst);
    }

    /// Is in doubt from now on, or no longer.
    pub fn doubt_because(&self, why: Option<&str>) {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = why.map(str::to_owned);
    }
}

impl Clock for TestClock {
    fn doubt(&self) -> Option<String> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Entropy from a seed: the same in every run.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<ChaCha20Rng>);

impl SeededEntropy {
    /// From a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(ChaCha20Rng::seed_from_u64(seed))))
    }

    fn fill(&self, out: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(out);
    }
}

impl Entropy for SeededEntropy {
    fn octets16(&self) -> [u8; 16] {
        let mut out = [0; 16];
        self.fill(&mut out);
        out
    }

    fn octets32(&self) -> [u8; 32] {
        let mut out = [0; 32];
        self.fill(&mut out);
        out
    }
}

/// What the signer does next, other than sign.
#[derive(Debug, Clone)]
pub enum SignerFault {
    /// It is busy once.
    Busy,
    /// It is away once.
    Unavailable,
    /// It signs, and says that it does not know whether it did.
    SignedButUnknown,
    /// It does not sign, and says that it does not know whether it did.
    Unknown,
    /// It gives a signature over other bytes.
    WrongSignature,
}

/// A signer with keys in memory that counts what it signs.
pub struct TestSigner {
    keys: BTreeMap<KeyId, (TestKey, PublicKey)>,
    signatures: AtomicUsize,
    eab_secrets: AtomicUsize,
    faults: Mutex<VecDeque<SignerFault>>,
}

enum TestKey {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl TestKey {
    fn generate(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Ed25519 => Self::Ed25519(Ed25519KeyPair::generate().expect("Ed25519 keys can be made")),
            _ => Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("P-256 keys can be made")),
        }
    }

    fn public(&self) -> PublicKey {
        match self {
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                PublicKey::from_ec(KeyKind::P256, &point[1..33], &point[33..]).expect("a fresh key is no weak key")
            }
            Self::Ed25519(pair) => {
                PublicKey::from_ed25519(pair.public_key().as_ref()).expect("a fresh key is no weak key")
            }
        }
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(pair) => {
                pair.sign(&SystemRandom::new(), bytes).expect("signing in memory does not fail").as_ref().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(bytes).as_ref().to_vec(),
        }
    }
}

impl TestSigner {
    /// A signer with one key for each of these names; P-256 or Ed25519.
    #[must_use]
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, KeyKind)>) -> Self {
        let keys = keys
            .into_iter()
            .map(|(name, kind)| {
                let key = TestKey::generate(kind);
                let public = key.public();
                (KeyId(name.into()), (key, public))
            })
            .collect();
        Self { keys, signatures: AtomicUsize::new(0), eab_secrets: AtomicUsize::new(0), faults: Mutex::default() }
    }

    /// How many certificates it signed.
    #[must_use]
    pub fn signatures(&self) -> usize {
        self.signatures.load(Ordering::SeqCst)
    }

    /// How many secrets of EAB keys it derived.
    #[must_use]
    pub fn eab_secrets(&self) -> usize {
        self.eab_secrets.load(Ordering::SeqCst)
    }

    /// The next certificate meets this fault instead.
    pub fn fail_next(&self, fault: SignerFault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }

    /// Signs outside the port, as a ceremony does in tests.
    #[must_use]
    pub fn sign_directly(&self, key: &str, bytes: &[u8]) -> Vec<u8> {
        self.keys[&KeyId(key.into())].0.sign(bytes)
    }
}

#[async_trait]
impl Signer for TestSigner {
    fn public_key(&self, key: &KeyId) -> Option<PublicKey> {
        self.keys.get(key).map(|(_, public)| public.clone())
    }

    async fn sign(&self, key: &KeyId, what: &ToBeSigned) -> Result<Vec<u8>, SignerError> {
        let (key, _) = self.keys.get(key).ok_or_else(|| SignerError::Refused("there is no such key".into()))?;
        if what.purpose() != Purpose::Certificate {
            return Ok(key.sign(what.bytes()));
        }
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match fault {
            Some(SignerFault::Busy) => return Err(SignerError::Busy),
            Some(SignerFault::Unavailable) => return Err(SignerError::Unavailable("the test says so".into())),
            Some(SignerFault::Unknown) => return Err(SignerError::Unknown("the test says so".into())),
            Some(SignerFault::SignedButUnknown) => {
                self.signatures.fetch_add(1, Ordering::SeqCst);
                return Err(SignerError::Unknown("the test says so".into()));
            }
            Some(SignerFault::WrongSignature) => return Ok(key.sign(b"something else")),
            None => {}
        }
        self.signatures.fetch_add(1, Ordering::SeqCst);
        Ok(key.sign(what.bytes()))
    }

    fn eab_secret(&self, id: &EabKeyId, salt: [u8; 16]) -> Option<EabSecret> {
        self.eab_secrets.fetch_add(1, Ordering::SeqCst);
        let digest = digest(&SHA512, &[salt.as_slice(), id.as_str().as_bytes()].concat());
        Some(EabSecret::new(digest.as_ref().try_into().ok()?))
    }
}

/// A validator that finds every challenge fulfilled, unless a test says otherwise.
pub struct TestValidator {
    outcomes: Mutex<VecDeque<Result<(), ValidationError>>>,
    /// A validation takes a permit before it ends.
    gate: Semaphore,
    seen: Mutex<Vec<Validation>>,
}

impl Default for TestValidator {
    fn default() -> Self {
        Self { outcomes: Mutex::default(), gate: Semaphore::new(Semaphore::MAX_PERMITS), seen: Mutex::default() }
    }
}

impl TestValidator {
    /// The next validation fails with this problem type.
    pub fn fail_next(&self, kind: ProblemType) {
        let problem = Problem::new(kind, "the test says so");
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push_back(Err(ValidationError::Failed(problem)));
    }

    /// The next validation finds the validator busy.
    pub fn busy_next(&self) {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push_back(Err(ValidationError::Busy));
    }

    /// From now on validations do not end until [`Self::release`].
    pub fn hold(&self) {
        let held = self.gate.available_permits();
        self.gate.forget_permits(held);
    }

    /// So many validations may end.
    pub fn release(&self, validations: usize) {
        self.gate.add_permits(validations);
    }

    /// What was looked for, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Validation> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Validator for TestValidator {
    async fn validate(&self, validation: &Validation) -> Result<Evidence, ValidationError> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(validation.clone());
        if let Ok(permit) = self.gate.acquire().await {
            permit.forget();
        }
        let outcome = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        outcome.unwrap_or(Ok(())).map(|()| Evidence { summary: "the test says so".to_owned() })
    }
}

/// Knows service accounts by their token's text, and holders of certificates by the octets of the first one.
#[derive(Debug, Default)]
pub struct TestIdentity {
    /// Service accounts.
    pub accounts: BTreeMap<String, ServiceAccount>,
    /// Holders of certificates.
    pub holders: BTreeMap<Vec<u8>, CertificateHolder>,
    /// Nothing can be looked at now.
    pub away: AtomicBool,
    /// Tokens for which a look asks somebody else, each with whose behalf that is on.
    pub asked: BTreeMap<String, String>,
}

#[async_trait]
impl WorkloadIdentity for TestIdentity {
    async fn service_account(&self, token: &SecretString, _: Timestamp) -> Result<ServiceAccount, IdentityError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(IdentityError::Unavailable("a test took it away".to_owned()));
        }
        let unknown = || IdentityError::Unknown("a test does not know it".to_owned());
        self.accounts.get(token.expose_secret()).cloned().ok_or_else(unknown)
    }

    async fn asks(&self, token: &SecretString, _now: Timestamp) -> Result<Option<String>, IdentityError> {
        Ok(self.asked.get(token.expose_secret()).cloned())
    }

    fn certificate_holder(&self, chain: &[Vec<u8>], _: Timestamp) -> Result<CertificateHolder, IdentityError> {
        let holder = chain.first().and_then(|leaf| self.holders.get(leaf));
        holder.cloned().ok_or_else(|| IdentityError::Unknown("a test does not know it".to_owned()))
    }
}
