//! The ceremony, offline: the intermediate's CSR, and for development alone a throw-away root.
//!
//! Like everything that is signed, the bytes are made here; the signer's key must be for ceremonies.

use std::time::Duration;

use chancery_pki::{
    PublicKey, SerialNumber, Timestamp,
    ceremony::{self as documents, ToSign},
    distinguished_name::DistinguishedName,
};

use crate::{
    failure::Failure,
    ports::{KeyId, Purpose, Signer, ToBeSigned},
};

/// The CSR that an offline root signs: subject and key, in DER.
///
/// # Errors
///
/// [`Failure`] if the signer does not sign.
pub async fn intermediate_csr(
    signer: &dyn Signer,
    key: &KeyId,
    subject: &DistinguishedName,
) -> Result<Vec<u8>, Failure> {
    let public =
        signer.public_key(key).ok_or_else(|| Failure::Unavailable(format!("there is no key named {}", key.0)))?;
    sign(signer, key, &chancery_pki::ceremony::csr(subject, &public)).await
}

/// A throw-away root for development, self-signed by a key made for ceremonies, in DER.
///
/// # Errors
///
/// [`Failure`] if the signer does not sign.
pub async fn development_root(
    signer: &dyn Signer,
    root: &KeyId,
    subject: &DistinguishedName,
    serial: SerialNumber,
    validity: (Timestamp, Duration),
) -> Result<Vec<u8>, Failure> {
    let public = public_key(signer, root)?;
    sign(signer, root, &documents::development_root(subject, &public, serial, validity.0, validity.1)).await
}

/// The intermediate's certificate under a development root, in DER.
///
/// # Errors
///
/// [`Failure`] if the signer does not sign.
pub async fn development_intermediate(
    signer: &dyn Signer,
    root: (&KeyId, &DistinguishedName),
    intermediate: (&PublicKey, &DistinguishedName),
    serial: SerialNumber,
    validity: (Timestamp, Duration),
) -> Result<Vec<u8>, Failure> {
    let public = public_key(signer, root.0)?;
    let document = documents::development_intermediate(
        intermediate.1,
        intermediate.0,
        (root.1, &public),
        serial,
        validity.0,
        validity.1,
    );
    sign(signer, root.0, &document).await
}

fn public_key(signer: &dyn Signer, key: &KeyId) -> Result<PublicKey, Failure> {
    signer.public_key(key).ok_or_else(|| Failure::Unavailable(format!("there is no key named {}", key.0)))
}

async fn sign(signer: &dyn Signer, key: &KeyId, document: &ToSign) -> Result<Vec<u8>, Failure> {
    let what = ToBeSigned::new(Purpose::Ceremony, document.algorithm(), document.body().to_vec());
    let signature = signer.sign(key, &what).await?;
    public_key(signer, key)?
        .verify(document.algorithm(), document.body(), &signature)
        .map_err(|_| Failure::Internal("the ceremony's signature does not verify".to_owned()))?;
    Ok(document.assemble(&signature))
}
