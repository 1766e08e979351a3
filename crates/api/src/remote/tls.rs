//! Whom a client trusts, and what it shows of itself.

use std::{fmt, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls_platform_verifier::BuilderVerifierExt as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::RemoteSetupError;

/// Longest CA bundle that is read, in octets: what cert-manager takes, too.
const BUNDLE_MAX: usize = 330_000;

/// Whom to trust.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// Whom the machine trusts.
    #[default]
    Platform,
    /// These certificates alone, in PEM.
    Bundle(Vec<u8>),
}

/// What proves who asks.
#[derive(Clone)]
pub enum Credential {
    /// A token, sent as `Authorization: Bearer`.
    Token(SecretString),
    /// A client certificate.
    Certificate {
        /// The certificate and what lies above it, in PEM.
        chain: Vec<u8>,
        /// Its private key, in PEM.
        key: SecretString,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(..)",
            Self::Certificate { .. } => "Certificate { .. }",
        })
    }
}

/// TLS as clients speak it, 1.2 and 1.3.
pub(super) fn client_config(roots: &Roots, credential: &Credential) -> Result<ClientConfig, RemoteSetupError> {
    let unusable = |error: rustls::Error| RemoteSetupError::Roots { why: error.to_string() };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match roots {
        Roots::Platform => builder.with_platform_verifier().map_err(unusable)?,
        Roots::Bundle(pem) => builder.with_root_certificates(root_store(pem)?),
    };
    let Credential::Certificate { chain, key } = credential else {
        return Ok(builder.with_no_client_auth());
    };
    let unusable = |why: String| RemoteSetupError::ClientCertificate { why };
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(format!("its PEM cannot be read: {error}")))?;
    if chain.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
        .map_err(|_| unusable("there is no private key in PEM beside it".to_owned()))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unusable(error.to_string()))
}

fn root_store(pem: &[u8]) -> Result<RootCertStore, RemoteSetupError> {
    let unusable = |why: String| RemoteSetupError::Roots { why };
    if pem.len() > BUNDLE_MAX {
        return Err(unusable(format!("it has {} octets, more than the {BUNDLE_MAX} that are read", pem.len())));
    }
    let mut store = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let position = index + 1;
        let certificate = certificate.map_err(|_| unusable(format!("block {position} is no PEM")))?;
        store.add(certificate).map_err(|_| unusable(format!("block {position} is no certificate of a CA")))?;
    }
    if store.is_empty() {
        return Err(unusable("there is no certificate in PEM in it".to_owned()));
    }
    Ok(store)
}
