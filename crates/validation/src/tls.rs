//! TLS towards whoever is validated: the chain is not verified, the handshake's signature is.
//!
//! A host that asks for a certificate has none that anyone trusts yet: for tls-alpn-01 the
//! certificate is self-signed by design (RFC 8737 §3), and an http-01 redirect to https leads to
//! whatever the host has (an expired or self-made certificate as a rule). What is proved is that
//! whoever answers at the name's address knows the account's key authorization; a trusted chain
//! would add nothing to that.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
};
use tokio_rustls::TlsConnector;
use x509_parser::{
    asn1_rs::{FromDer, Sequence},
    certificate::X509Certificate,
};

/// The protocol of tls-alpn-01 (RFC 8737 §6.2).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// The two ways in which TLS is spoken.
pub(crate) struct Connectors {
    /// For https redirects: HTTP/1.1 and no other protocol.
    pub(crate) https: TlsConnector,
    /// For tls-alpn-01.
    pub(crate) acme_tls: TlsConnector,
}

impl Connectors {
    /// # Errors
    ///
    /// If the cryptographic provider has no cipher suite for TLS 1.2 or 1.3.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { https: connector(b"http/1.1")?, acme_tls: connector(ACME_TLS)? })
    }
}

/// TLS 1.2 and 1.3 (RFC 8737 §3 asks for 1.2 at least), offering one protocol.
fn connector(protocol: &[u8]) -> Result<TlsConnector, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    // A resumed session shows no certificate.
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes every certificate, and checks that the peer holds its key.
///
/// rustls's own check of the signature reads the certificate by webpki, which refuses the critical
/// acmeIdentifier extension; so the key is read by another parser.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = parse(cert)?;
        let spki = certificate.public_key();
        let key_algorithm = key_algorithm(spki.raw)?;
        // Of the algorithms for one scheme, the one for the key's curve.
        let algorithm = self
            .0
            .signature_verification_algorithms
            .mapping
            .iter()
            .filter(|(scheme, _)| *scheme == dss.scheme)
            .flat_map(|(_, algorithms)| algorithms.iter())
            .find(|algorithm| algorithm.public_key_alg_id().as_ref() == key_algorithm)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        algorithm
            .verify_signature(&spki.subject_public_key.data, message, dss.signature())
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadSignature))?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = parse(cert)?;
        let spki = SubjectPublicKeyInfoDer::from(certificate.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &spki, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok((&[], certificate)) => Ok(certificate),
        _ => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
    }
}

/// The contents of the key's AlgorithmIdentifier (RFC 5280 §4.1.2.7).
fn key_algorithm(spki: &[u8]) -> Result<Vec<u8>, Error> {
    let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, outer) = Sequence::from_der(spki).map_err(bad)?;
    let (_, algorithm) = Sequence::from_der(&outer.content).map_err(bad)?;
    Ok(algorithm.content.into_owned())
}
