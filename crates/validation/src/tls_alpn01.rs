//! tls-alpn-01 (RFC 8737 §3, RFC 8738 §6): a self-made certificate that says the right thing, over a
//! connection that agreed on `acme-tls/1`.

use std::{net::IpAddr, sync::Arc};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use chancery_acme::problem::ProblemType;
use chancery_authority::ports::{Evidence, Validation};
use chancery_egress::{Dialer, Host};
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate},
};

use crate::{Miss, host_of, http01::any_certificate};

const ALPN: &[u8] = b"acme-tls/1";
/// id-pe-acmeIdentifier, 1.3.6.1.5.5.7.1.31 (RFC 8737 §3), content octets.
const ACME_IDENTIFIER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 31];

pub(crate) fn client() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let mut config = any_certificate()?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

pub(crate) async fn look(
    dialer: &Dialer,
    tls: &Arc<rustls::ClientConfig>,
    validation: &Validation,
    deadline: Instant,
) -> Result<Evidence, Miss> {
    let host = host_of(&validation.name)?;
    let port = dialer.zone_of(&host).ports().tls_alpn;
    let connection = dialer.dial(&host, port, deadline).await.map_err(|error| Miss::dial(&error))?;
    let peer = connection.peer();
    let sni = match &host {
        Host::Name(name) => name.to_string(),
        Host::Ip(address) => reverse(*address),
    };
    let server_name = ServerName::try_from(sni)
        .map_err(|_| Miss::is_final(ProblemType::Malformed, "the name cannot stand in a TLS handshake"))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(server_name, connection).await.map_err(|_| {
        Miss::passing(
            ProblemType::Tls,
            format_args!("TLS with {peer} for {host} failed, or it does not speak acme-tls/1"),
        )
    })?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(ALPN) {
        return Err(Miss::is_final(
            ProblemType::Unauthorized,
            format_args!("{peer} did not agree on acme-tls/1 for {host}"),
        ));
    }
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).ok_or_else(|| {
        Miss::is_final(ProblemType::Unauthorized, format_args!("{peer} showed no certificate for {host}"))
    })?;
    let expected = digest(&SHA256, validation.key_authorization.as_bytes());
    check(certificate, &host, expected.as_ref()).map_err(|why| {
        Miss::is_final(ProblemType::Unauthorized, format_args!("the certificate that {peer} shows for {host} {why}"))
    })?;
    Ok(Evidence { summary: format!("tls-alpn-01 from {peer}") })
}

/// Whether the certificate is exactly what RFC 8737 §3 asks for.
fn check(der: &[u8], host: &Host, expected: &[u8]) -> Result<(), &'static str> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| "cannot be read")?;
    if !rest.is_empty() {
        return Err("cannot be read");
    }
    let mut names = 0;
    let mut identifiers = 0;
    for extension in certificate.extensions() {
        if extension.oid.as_bytes() == ACME_IDENTIFIER {
            identifiers += 1;
            if !extension.critical {
                return Err("has an acmeIdentifier extension that is not critical");
            }
            // OCTET STRING of 32 octets.
            let [4, 32, hash @ ..] = extension.value else {
                return Err("has an acmeIdentifier extension that holds no SHA-256");
            };
            verify_slices_are_equal(hash, expected).map_err(|_| "answers another key authorization")?;
        }
        if let ParsedExtension::SubjectAlternativeName(san) = extension.parsed_extension() {
            for name in &san.general_names {
                names += 1;
                let same = match (name, host) {
                    (GeneralName::DNSName(name), Host::Name(host)) => name.eq_ignore_ascii_case(host),
                    (GeneralName::IPAddress(octets), Host::Ip(IpAddr::V4(address))) => address.octets() == **octets,
                    (GeneralName::IPAddress(octets), Host::Ip(IpAddr::V6(address))) => address.octets() == **octets,
                    _ => false,
                };
                if !same {
                    return Err("names something else");
                }
            }
        }
    }
    match (names, identifiers) {
        (1, 1) => Ok(()),
        (1, _) => Err("does not have exactly one acmeIdentifier extension (RFC 8737 §3)"),
        _ => Err("does not have exactly one name (RFC 8737 §3)"),
    }
}

/// The name that stands for an address in SNI (RFC 8738 §6).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles: Vec<String> = v6
                .octets()
                .iter()
                .rev()
                .flat_map(|octet| [octet & 15, octet >> 4])
                .map(|nibble| format!("{nibble:x}"))
                .collect();
            format!("{}.ip6.arpa", nibbles.join("."))
        }
    }
}
