//! A client for tests: keys, JWKs and signatures by aws-lc-rs, which the code under test does not verify with.

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_pki::PublicKey;
use serde_json::{Value, json};

/// The private half of a client's key.
pub(crate) enum ClientKey {
    Ec(&'static str, &'static str, Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

pub(crate) fn b64(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

impl ClientKey {
    pub(crate) fn p256() -> Self {
        Self::ec("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub(crate) fn p384() -> Self {
        Self::ec("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    pub(crate) fn p521() -> Self {
        Self::ec("ES512", "P-521", &ECDSA_P521_SHA512_FIXED_SIGNING)
    }

    fn ec(alg: &'static str, curve: &'static str, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        Self::Ec(alg, curve, Box::new(EcdsaKeyPair::generate(algorithm).expect("a key")))
    }

    /// A P-256 key made elsewhere.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Self {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).expect("a P-256 key");
        Self::Ec("ES256", "P-256", Box::new(pair))
    }

    pub(crate) fn rsa2048() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")))
    }

    pub(crate) fn ed25519() -> Self {
        Self::Ed25519(Box::new(Ed25519KeyPair::generate().expect("a key")))
    }

    pub(crate) fn alg(&self) -> &'static str {
        match self {
            Self::Ec(alg, ..) => alg,
            Self::Rsa(_) => "RS256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        match self {
            Self::Ec(_, curve, pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)})
            }
            Self::Rsa(pair) => {
                let parts = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": b64(&parts.n), "e": b64(&parts.e)})
            }
            Self::Ed25519(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key())}),
        }
    }

    pub(crate) fn public(&self) -> PublicKey {
        let spki = match self {
            Self::Ec(_, _, pair) => pair.public_key().as_der().expect("DER").as_ref().to_vec(),
            Self::Rsa(pair) => AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key())
                .expect("DER")
                .as_ref()
                .to_vec(),
            Self::Ed25519(pair) => pair.public_key().as_der().expect("DER").as_ref().to_vec(),
        };
        PublicKey::from_spki(&spki).expect("a good key")
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(_, _, pair) => pair.sign(&random, message).expect("signs").as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signs");
                signature
            }
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A signed request body with this protected header and payload, word for word.
    pub(crate) fn jws_raw(&self, protected: &[u8], payload: &[u8]) -> Vec<u8> {
        let (protected, payload) = (b64(protected), b64(payload));
        let signature = b64(self.sign(format!("{protected}.{payload}").as_bytes()));
        json!({"protected": protected, "payload": payload, "signature": signature}).to_string().into_bytes()
    }

    /// A signed request body; `kid` signs for an account, else the key comes along.
    pub(crate) fn jws(&self, url: &str, nonce: &str, kid: Option<&str>, payload: &[u8]) -> Vec<u8> {
        let mut header = json!({"alg": self.alg(), "nonce": nonce, "url": url});
        match kid {
            Some(kid) => header["kid"] = json!(kid),
            None => header["jwk"] = self.jwk(),
        }
        self.jws_raw(header.to_string().as_bytes(), payload)
    }
}
