//! tls-alpn-01 (RFC 8737), for addresses too (RFC 8738 §6).

use std::net::IpAddr;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use chancery_acme::problem::ProblemType;
use chancery_egress::{Dialer, Host};
use chancery_pki::Name;
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use x509_parser::{
    certificate::X509Certificate,
    der_parser::{Oid, oid},
    extensions::{GeneralName, ParsedExtension},
    oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME,
    prelude::FromDer,
};

use crate::{
    look::{Look, Miss},
    tls,
};

/// id-pe-acmeIdentifier (RFC 8737 §6.1). Drafts used other numbers, which are not taken: accepting
/// one cost Let's Encrypt two million certificates in 2022.
const ACME_IDENTIFIER: Oid<'static> = oid!(1.3.6.1.5.5.7.1.31);

/// Shakes hands and examines the certificate.
pub(crate) async fn look(
    dialer: &Dialer,
    connector: &TlsConnector,
    name: &Name,
    host: &Host,
    key_authorization: &str,
    deadline: Instant,
) -> Look {
    let port = dialer.zone_of(host).ports().tls_alpn;
    let connection = dialer.dial(host, port, deadline).await?;
    let peer = connection.peer();
    let Ok(server_name) = ServerName::try_from(server_name(host)) else {
        return Err(Miss::wrong(format_args!("{name} cannot stand in a TLS handshake")));
    };
    let stream =
        Box::pin(connector.connect(server_name, connection)).await.map_err(|error| handshake(name, peer, &error))?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(tls::ACME_TLS) {
        return Err(Miss::wrong(format_args!("{name} at {peer} did not choose the protocol acme-tls/1")));
    }
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.map(AsRef::as_ref).unwrap_or_default();
    examine(certificate, name, key_authorization)
        .map_err(|flaw| Miss::wrong(format_args!("the certificate of {name} at {peer} {flaw}")))?;
    Ok(format!("certificate shown by {peer}"))
}

/// The name in the handshake: of an address, its name for reverse lookup (RFC 8738 §6).
fn server_name(host: &Host) -> String {
    match host {
        Host::Name(name) => name.to_string(),
        Host::Ip(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Host::Ip(IpAddr::V6(address)) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|octet| [octet & 0xf, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).chain(["ip6.arpa".to_owned()]).collect()
        }
    }
}

/// A handshake that failed: what the peer did wrong in TLS is final, a broken connection is not.
fn handshake(name: &Name, peer: std::net::SocketAddr, error: &std::io::Error) -> Miss {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => Miss::Final(chancery_acme::problem::Problem::new(
            ProblemType::Tls,
            format_args!("{name} at {peer} ended the TLS handshake with the alert {}", alert_name(*alert)),
        )),
        Some(_) => Miss::Final(chancery_acme::problem::Problem::new(
            ProblemType::Tls,
            format_args!("the TLS handshake with {name} at {peer} failed: what it sent is no proper TLS 1.2 or 1.3"),
        )),
        None => Miss::passing(
            ProblemType::Tls,
            format_args!("the connection broke during the TLS handshake with {name} at {peer}: {}", error.kind()),
        ),
    }
}

/// The names of alerts that say something; others are remote's bytes.
fn alert_name(alert: rustls::AlertDescription) -> &'static str {
    use rustls::AlertDescription as A;
    match alert {
        A::NoApplicationProtocol => "no_application_protocol: it does not offer acme-tls/1",
        A::UnrecognisedName => "unrecognized_name",
        A::HandshakeFailure => "handshake_failure",
        A::ProtocolVersion => "protocol_version: it offers neither TLS 1.2 nor 1.3",
        A::InternalError => "internal_error",
        A::AccessDenied => "access_denied",
        A::CertificateRequired => "certificate_required",
        _ => "of some other kind",
    }
}

/// Examines the certificate (RFC 8737 §3): exactly one subject alternative name, the one that is
/// validated, and exactly one acmeIdentifier, critical, with the digest.
pub(crate) fn examine(certificate: &[u8], name: &Name, key_authorization: &str) -> Result<(), &'static str> {
    let Ok((&[], certificate)) = X509Certificate::from_der(certificate) else {
        return Err("cannot be read");
    };
    let mut alternative_names =
        certificate.extensions().iter().filter(|extension| extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME);
    let (Some(alternative_name), None) = (alternative_names.next(), alternative_names.next()) else {
        return Err("has no subjectAltName extension, or several");
    };
    let value = alternative_name.value;
    let ParsedExtension::SubjectAlternativeName(alternative_name) = alternative_name.parsed_extension() else {
        return Err("has a subjectAltName extension that cannot be read");
    };
    let [alternative_name] = &*alternative_name.general_names else {
        return Err("does not have exactly one subject alternative name");
    };
    let same = match (alternative_name, name) {
        (GeneralName::DNSName(found), Name::Dns(wanted)) => found.eq_ignore_ascii_case(wanted.as_str()),
        (GeneralName::IPAddress(found), Name::Ip(IpAddr::V4(wanted))) => *found == wanted.octets(),
        (GeneralName::IPAddress(found), Name::Ip(IpAddr::V6(wanted))) => *found == wanted.octets(),
        _ => false,
    };
    if !same {
        return Err("has another subject alternative name than the one that is validated");
    }
    // The parser passes over what comes behind the names, and lengths longer than needed; another one might not.
    let whole = |length: usize| length + if length < 0x80 { 2 } else { 3 };
    let content = match alternative_name {
        GeneralName::DNSName(found) => found.len(),
        GeneralName::IPAddress(found) => found.len(),
        _ => 0,
    };
    if value.len() != whole(whole(content)) {
        return Err("has more in its subjectAltName extension than the name that is validated");
    }
    let mut identifiers = certificate.extensions().iter().filter(|extension| extension.oid == ACME_IDENTIFIER);
    let (Some(identifier), None) = (identifiers.next(), identifiers.next()) else {
        return Err("does not have exactly one acmeIdentifier extension (1.3.6.1.5.5.7.1.31)");
    };
    if !identifier.critical {
        return Err("has an acmeIdentifier extension that is not critical");
    }
    // OCTET STRING of 32 octets, in DER.
    let digest = digest(&SHA256, key_authorization.as_bytes());
    let expected = [&[0x04, 0x20], digest.as_ref()].concat();
    verify_slices_are_equal(identifier.value, &expected)
        .map_err(|_| "has an acmeIdentifier extension that is not the digest of this challenge's key authorization")
}
