//! The keys that a process has loaded, behind the port that `authority` signs through.

use std::{collections::BTreeMap, fmt, num::NonZero, sync::Arc, thread::available_parallelism};

use async_trait::async_trait;
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Salt};
use chancery_authority::{
    eab_secret::{EabSecret, SECRET_OCTETS},
    ports::{KeyId, Purpose, Signer, SignerError, ToBeSigned},
    records::EabKeyId,
};
use chancery_pki::{PublicKey, SignatureAlgorithm};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::private_key::{KeyRole, LoadedKey};

/// How many slow signatures may be under way or waiting before another is answered busy. With
/// RSA-4096 at 6 ms and two cores the last one waits some 0.2 s, which a client still bears.
const SLOW_SIGNATURES: usize = 64;

/// The port Signer on keys in memory.
///
/// Signatures on curves are made at once, on the caller's thread. RSA, which takes 0.8 to 6 ms, is
/// signed on tokio's blocking threads, as many at a time as there are cores; what waits for them is
/// bounded, and more than that is answered busy with nothing signed.
///
/// Since the keys are in this process, nothing is ever unavailable, and an outcome is unknown only
/// if the thread that signs dies.
pub struct KeySigner {
    keys: BTreeMap<Box<str>, Arc<LoadedKey>>,
    waiting: Semaphore,
    working: Semaphore,
}

/// Keys that do not go together in one signer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysRejected {
    /// Two have one name.
    #[error("two keys are called \"{name}\"")]
    SameName {
        /// The name.
        name: String,
    },
    /// Two are one key.
    #[error("\"{one}\" and \"{other}\" are the same key; each role has a key of its own")]
    SameKey {
        /// One name.
        one: String,
        /// The other name.
        other: String,
    },
}

impl KeySigner {
    /// A signer with these keys.
    ///
    /// # Errors
    ///
    /// [`KeysRejected`] if two have the same name or are the same key.
    pub fn new(keys: Vec<LoadedKey>) -> Result<Self, KeysRejected> {
        Self::with_bounds(keys, SLOW_SIGNATURES, available_parallelism().map_or(1, NonZero::get))
    }

    fn with_bounds(keys: Vec<LoadedKey>, waiting: usize, working: usize) -> Result<Self, KeysRejected> {
        let mut by_name: BTreeMap<Box<str>, Arc<LoadedKey>> = BTreeMap::new();
        for key in keys {
            if let Some(same) = by_name.values().find(|other| other.public_key() == key.public_key()) {
                return Err(KeysRejected::SameKey { one: same.name().into(), other: key.name().into() });
            }
            if let Some(same) = by_name.insert(key.name().into(), Arc::new(key)) {
                return Err(KeysRejected::SameName { name: same.name().into() });
            }
        }
        Ok(Self { keys: by_name, waiting: Semaphore::new(waiting), working: Semaphore::new(working) })
    }

    /// The keys, in the order of their names.
    pub fn keys(&self) -> impl Iterator<Item = &LoadedKey> {
        self.keys.values().map(AsRef::as_ref)
    }

    async fn sign_as(
        &self,
        name: &str,
        purpose: Purpose,
        algorithm: SignatureAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, SignerError> {
        let key = self.keys.get(name).ok_or_else(|| refused(format!("there is no key \"{name}\"")))?;
        if !may_sign(key.role(), purpose) {
            let role = key.role();
            return Err(refused(format!("\"{name}\" is a key for the role {role}, not for {}", words(purpose))));
        }
        if !key.makes(algorithm) {
            let kind = key.public_key().kind();
            return Err(refused(format!("\"{name}\", a {kind} key, does not sign with {algorithm}")));
        }
        let made = if key.is_slow() {
            let _waiting = self.waiting.try_acquire().map_err(|_| SignerError::Busy)?;
            let _working = self.working.acquire().await.expect("this semaphore is never closed");
            let (key, message) = (Arc::clone(key), message.to_vec());
            tokio::task::spawn_blocking(move || key.sign(algorithm, &message))
                .await
                .map_err(|_| SignerError::Unknown("the thread that signs has died".into()))?
        } else {
            key.sign(algorithm, message)
        };
        made.ok_or_else(|| SignerError::Unavailable("the cryptographic library made no signature".into()))
    }
}

/// Which signatures the role of a key covers.
const fn may_sign(role: KeyRole, purpose: Purpose) -> bool {
    match purpose {
        Purpose::Certificate => matches!(role, KeyRole::Issuing),
        Purpose::Checkpoint => matches!(role, KeyRole::Ledger),
        // The issuing key signs the CSR that asks for its own certificate, the root that certificate.
        Purpose::Ceremony => matches!(role, KeyRole::Issuing | KeyRole::Root),
    }
}

const fn words(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Certificate => "certificates",
        Purpose::Checkpoint => "checkpoints",
        Purpose::Ceremony => "ceremonies",
    }
}

fn refused(why: String) -> SignerError {
    SignerError::Refused(why.into())
}

#[async_trait]
impl Signer for KeySigner {
    fn public_key(&self, key: &KeyId) -> Option<PublicKey> {
        self.keys.get(&key.0).map(|key| key.public_key().clone())
    }

    async fn sign(&self, key: &KeyId, what: &ToBeSigned) -> Result<Vec<u8>, SignerError> {
        self.sign_as(&key.0, what.purpose(), what.algorithm(), what.bytes()).await
    }

    fn eab_secret(&self, id: &EabKeyId, salt: [u8; 16]) -> Option<EabSecret> {
        let seed = self.keys.values().find(|key| key.role() == KeyRole::Eab)?.seed()?;
        derive(&*seed, id, salt)
    }
}

/// What the derivation of an EAB key's secret is for, so that nothing else that is ever derived from the same seed can be
/// the same. Never changed: the keys that clients have would be others.
const EAB_CONTEXT: &[u8] = b"chancery eab secret v1\0";

/// HKDF with SHA-512 (RFC 5869).
fn derive(seed: &[u8], id: &EabKeyId, salt: [u8; 16]) -> Option<EabSecret> {
    struct SecretLength;
    impl KeyType for SecretLength {
        fn len(&self) -> usize {
            SECRET_OCTETS
        }
    }
    let mut octets = Zeroizing::new([0; SECRET_OCTETS]);
    let prk = Salt::new(HKDF_SHA512, &salt).extract(seed);
    prk.expand(&[EAB_CONTEXT, id.as_str().as_bytes()], SecretLength).ok()?.fill(&mut *octets).ok()?;
    Some(EabSecret::new(*octets))
}

impl fmt::Debug for KeySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySigner").field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use chancery_pki::KeyKind;

    use super::*;
    use crate::private_key::Pair;

    const KINDS: [KeyKind; 6] =
        [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa2048, KeyKind::Rsa3072, KeyKind::Rsa4096];

    fn key(name: &str, role: KeyRole, kind: KeyKind) -> LoadedKey {
        let pair = Pair::generate(kind).expect("the library makes such keys");
        let public_key = pair.public_key().expect("a good key");
        LoadedKey::new(name.into(), role, public_key, pair)
    }

    fn signer(keys: Vec<LoadedKey>) -> KeySigner {
        KeySigner::new(keys).expect("different keys")
    }

    #[tokio::test]
    async fn every_kind_of_key_signs_so_that_openssl_can_verify_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        for kind in KINDS {
            let signer = signer(vec![key("a", KeyRole::Issuing, kind)]);
            let public_key = signer.public_key(&KeyId("a".into())).expect("loaded");
            let algorithms = SignatureAlgorithm::ALL.into_iter().filter(|algorithm| signer.keys["a"].makes(*algorithm));
            for algorithm in algorithms {
                let signature = signer.sign_as("a", Purpose::Certificate, algorithm, b"to be signed").await;
                std::fs::write(path("signature"), signature.expect("signed")).expect("written");
                std::fs::write(path("message"), "to be signed").expect("written");
                std::fs::write(path("key"), public_key.spki()).expect("written");
                let digest: &[&str] = match algorithm {
                    SignatureAlgorithm::Ed25519 => &[],
                    SignatureAlgorithm::RsaPkcs1Sha256 | SignatureAlgorithm::EcdsaSha256 => &["-digest", "sha256"],
                    SignatureAlgorithm::RsaPkcs1Sha384 | SignatureAlgorithm::EcdsaSha384 => &["-digest", "sha384"],
                    SignatureAlgorithm::RsaPkcs1Sha512 | SignatureAlgorithm::EcdsaSha512 => &["-digest", "sha512"],
                };
                let verified = std::process::Command::new("openssl")
                    .args(["pkeyutl", "-verify", "-pubin", "-inkey", "key", "-keyform", "DER"])
                    .args(["-rawin", "-in", "message", "-sigfile", "signature"])
                    .args(digest)
                    .current_dir(folder.path())
                    .output()
                    .expect("openssl is installed");
                assert!(verified.status.success(), "{kind} {algorithm}: {verified:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_key_signs_with_the_algorithm_of_its_certificate_and_no_other() {
        let signer = signer(vec![
            key("p256", KeyRole::Issuing, KeyKind::P256),
            key("p384", KeyRole::Issuing, KeyKind::P384),
            key("ed25519", KeyRole::Issuing, KeyKind::Ed25519),
            key("rsa", KeyRole::Issuing, KeyKind::Rsa2048),
        ]);
        use SignatureAlgorithm as A;
        let expected: [(&str, &[A]); 4] = [
            ("p256", &[A::EcdsaSha256]),
            ("p384", &[A::EcdsaSha384]),
            ("ed25519", &[A::Ed25519]),
            ("rsa", &[A::RsaPkcs1Sha256, A::RsaPkcs1Sha384, A::RsaPkcs1Sha512]),
        ];
        for (name, fitting) in expected {
            for algorithm in A::ALL {
                let outcome = signer.sign_as(name, Purpose::Certificate, algorithm, b"x").await;
                match outcome {
                    Ok(signature) => {
                        assert!(fitting.contains(&algorithm), "{name} {algorithm}");
                        let public_key = signer.keys[name].public_key();
                        assert_eq!(public_key.verify(algorithm, b"x", &signature), Ok(()));
                    }
                    Err(SignerError::Refused(_)) => assert!(!fitting.contains(&algorithm), "{name} {algorithm}"),
                    Err(other) => panic!("{name} {algorithm}: {other}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_key_refuses_what_its_role_does_not_cover() {
        let signer = signer(vec![
            key("issuing", KeyRole::Issuing, KeyKind::P256),
            key("ledger", KeyRole::Ledger, KeyKind::P256),
            key("root", KeyRole::Root, KeyKind::P256),
        ]);
        let mut granted = Vec::new();
        for name in ["issuing", "ledger", "root"] {
            for purpose in [Purpose::Certificate, Purpose::Checkpoint, Purpose::Ceremony] {
                match signer.sign_as(name, purpose, SignatureAlgorithm::EcdsaSha256, b"x").await {
                    Ok(_) => granted.push((name, purpose)),
                    Err(SignerError::Refused(why)) => assert!(why.contains(name)),
                    Err(other) => panic!("{other}"),
                }
            }
        }
        assert_eq!(
            granted,
            [
                ("issuing", Purpose::Certificate),
                ("issuing", Purpose::Ceremony),
                ("ledger", Purpose::Checkpoint),
                ("root", Purpose::Ceremony)
            ]
        );
        let nobody = signer.sign_as("nobody", Purpose::Certificate, SignatureAlgorithm::EcdsaSha256, b"x").await;
        assert!(matches!(nobody, Err(SignerError::Refused(_))));
        assert!(signer.public_key(&KeyId("nobody".into())).is_none());
    }

    #[tokio::test]
    async fn slow_signatures_beyond_the_bound_are_answered_busy_and_later_ones_are_made() {
        let keys = vec![key("rsa", KeyRole::Issuing, KeyKind::Rsa2048), key("p256", KeyRole::Issuing, KeyKind::P256)];
        let signer = KeySigner::with_bounds(keys, 2, 1).expect("different keys");
        let rsa = || signer.sign_as("rsa", Purpose::Certificate, SignatureAlgorithm::RsaPkcs1Sha256, b"x");
        // On this one thread all four have begun before any of the blocking threads' answers is seen.
        let (first, second, third, fast) = tokio::join!(
            rsa(),
            rsa(),
            rsa(),
            signer.sign_as("p256", Purpose::Certificate, SignatureAlgorithm::EcdsaSha256, b"x")
        );
        assert!(first.is_ok() && second.is_ok() && fast.is_ok());
        assert!(matches!(third, Err(SignerError::Busy)));
        assert!(rsa().await.is_ok());
    }

    #[tokio::test]
    async fn a_signature_that_nobody_waits_for_any_more_frees_its_place() {
        let signer =
            KeySigner::with_bounds(vec![key("rsa", KeyRole::Issuing, KeyKind::Rsa2048)], 1, 1).expect("one key");
        for _ in 0..5 {
            let abandoned = signer.sign_as("rsa", Purpose::Certificate, SignatureAlgorithm::RsaPkcs1Sha256, b"x");
            tokio::select! {
                biased;
                _ = abandoned => {}
                () = std::future::ready(()) => {}
            }
        }
        let last = signer.sign_as("rsa", Purpose::Certificate, SignatureAlgorithm::RsaPkcs1Sha256, b"x").await;
        assert!(last.is_ok());
    }

    #[test]
    fn the_secret_of_an_eab_key_is_hkdf_as_openssl_computes_it() {
        let (id, salt) = ("payments-2026".parse::<EabKeyId>().expect("an id"), [7; 16]);
        let derived = derive(&[9; 32], &id, salt).expect("derived");
        let info = hex(b"chancery eab secret v1\0payments-2026");
        let output = std::process::Command::new("openssl")
            .args(["kdf", "-keylen", "64", "-kdfopt", "digest:SHA512", "-kdfopt", &format!("hexkey:{}", hex(&[9; 32]))])
            .args([
                "-kdfopt",
                &format!("hexsalt:{}", hex(&salt)),
                "-kdfopt",
                &format!("hexinfo:{info}"),
                "-binary",
                "HKDF",
            ])
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{output:?}");
        use base64::Engine as _;
        let expected = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(output.stdout);
        assert_eq!(*derived.to_base64url(), expected);
    }

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[tokio::test]
    async fn secrets_of_eab_keys_are_derived_from_their_own_key_alone_and_it_signs_nothing() {
        let id: EabKeyId = "team".parse().expect("an id");
        let none = signer(vec![key("ledger", KeyRole::Ledger, KeyKind::Ed25519)]);
        assert!(none.eab_secret(&id, [0; 16]).is_none());
        let signer =
            signer(vec![key("ledger", KeyRole::Ledger, KeyKind::Ed25519), key("eab", KeyRole::Eab, KeyKind::Ed25519)]);
        let of = |id: &str, salt| {
            signer.eab_secret(&id.parse().expect("an id"), [salt; 16]).expect("derived").to_base64url()
        };
        assert_eq!(of("team", 1), of("team", 1));
        assert_ne!(of("team", 1), of("team", 2));
        assert_ne!(of("team", 1), of("team2", 1));
        assert!(!format!("{:?}", signer.eab_secret(&id, [1; 16])).contains(&of("team", 1)[..8]));
        for purpose in [Purpose::Certificate, Purpose::Checkpoint, Purpose::Ceremony] {
            let refused = signer.sign_as("eab", purpose, SignatureAlgorithm::Ed25519, b"x").await;
            assert!(matches!(refused, Err(SignerError::Refused(_))));
        }
    }

    #[test]
    fn two_keys_of_one_name_and_one_key_of_two_names_are_refused() {
        let same_name = vec![key("a", KeyRole::Issuing, KeyKind::P256), key("a", KeyRole::Ledger, KeyKind::P256)];
        assert_eq!(KeySigner::new(same_name).expect_err("refused"), KeysRejected::SameName { name: "a".into() });
        let pair = Pair::generate(KeyKind::P256).expect("made");
        let again = Pair::from_pkcs8(KeyKind::P256, &pair.to_pkcs8().expect("written")).expect("read");
        let public_key = pair.public_key().expect("good");
        let same_key = vec![
            LoadedKey::new("a".into(), KeyRole::Issuing, public_key.clone(), pair),
            LoadedKey::new("b".into(), KeyRole::Ledger, public_key, again),
        ];
        let expected = KeysRejected::SameKey { one: "a".into(), other: "b".into() };
        assert_eq!(KeySigner::new(same_key).expect_err("refused"), expected);
    }
}
