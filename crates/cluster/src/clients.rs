//! Client certificates: whose cluster's CA certificates they stand below, and what they name.

use std::{fmt, sync::Arc, time::Duration};

use chancery_pki::Timestamp;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

use crate::identity::Identity;

/// Most certificates that a client may send: its own, and two above it. Of more there are too many orders to try.
const CHAIN_MAX: usize = 3;

/// The CA certificates below which a cluster's clients stand.
#[derive(Clone)]
pub struct ClientAuthority(Arc<dyn ClientCertVerifier>);

impl fmt::Debug for ClientAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAuthority")
    }
}

/// Certificates that are none of a client authority.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the CA certificates of client certificates cannot be used: {0}")]
pub struct NoClientAuthority(String);

impl ClientAuthority {
    /// These CA certificates, in DER.
    ///
    /// # Errors
    ///
    /// [`NoClientAuthority`].
    pub fn new(certificates: &[Vec<u8>]) -> Result<Self, NoClientAuthority> {
        let fault = |error: &dyn fmt::Display| NoClientAuthority(error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(CertificateDer::from(certificate.clone())).map_err(|error| fault(&error))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.map(Self).map_err(|error| fault(&error))
    }

    /// Whether a certificate stands below one of them and holds at this time for a client.
    pub(crate) fn takes(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let Some((leaf, above)) = chain.split_first() else { return false };
        above.len() < CHAIN_MAX && self.0.verify_client_cert(leaf, above, now).is_ok()
    }
}

/// At the listener: whoever has a client certificate may show it. Nobody needs one, and where no cluster has any, none is
/// asked for. One that stands below no cluster's CA counts as none: an ACME client may have a certificate of its company.
/// Whose it is, is found out for each request that uses it; the handshake proves its key alone.
pub struct OptionalClients {
    identity: Arc<Identity>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl OptionalClients {
    /// By the clusters of this identity, whichever they are when a client comes.
    #[must_use]
    pub fn new(identity: Arc<Identity>, provider: &CryptoProvider) -> Self {
        Self { identity, algorithms: provider.signature_verification_algorithms }
    }
}

impl fmt::Debug for OptionalClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OptionalClients")
    }
}

impl ClientCertVerifier for OptionalClients {
    fn offer_client_auth(&self) -> bool {
        self.identity.has_client_authorities()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: they would tell strangers which clusters there are.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A time as rustls has it.
pub(crate) fn unix_time(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.unix_seconds()).unwrap_or_default()))
}

/// What a certificate names: the common names of its subject, then its alternative names of every kind that is text.
pub(crate) fn names_of(certificate: &[u8]) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::certificate::X509Certificate::from_der(certificate) else { return Vec::new() };
    let mut names: Vec<String> =
        parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok().map(str::to_owned)).collect();
    let alternative = parsed.subject_alternative_name().ok().flatten();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
                names.push((*text).to_owned());
            }
            _ => {}
        }
    }
    names
}
