//! What an authority is given by whoever runs the root above it, checked link by link.

use std::sync::Arc;

use x509_parser::{
    error::X509Error,
    oid_registry,
    prelude::{FromDer, X509Certificate},
    signature_algorithm::RsaSsaPssParams,
    verify::verify_signature,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

use super::{Chain, IssuerFault, IssuingCertificate};
use crate::{
    distinguished_name,
    key::{PublicKey, SignatureAlgorithm},
    time::Timestamp,
    tlv::{Tlv, tag},
};

/// Most certificates that are looked at.
const CANDIDATES_MAX: usize = 16;

/// Why certificates do not make a chain for our key. Positions count from one, as people do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallRejection {
    /// Nothing was given.
    #[error("no certificate was given")]
    Nothing,
    /// More than any chain has.
    #[error("{count} certificates are more than the {CANDIDATES_MAX} of any chain")]
    TooMany {
        /// How many were given.
        count: usize,
    },
    /// Something is not a certificate that could be an issuer's, or its key is weak.
    #[error("certificate {position} cannot be used: {fault}")]
    Unusable {
        /// Which of the given ones.
        position: usize,
        /// Why not.
        fault: IssuerFault,
    },
    /// The same certificate is there twice.
    #[error("certificates {first} and {second} are the same one")]
    Duplicate {
        /// The first.
        first: usize,
        /// The second.
        second: usize,
    },
    /// None of the certificates is for our key.
    #[error("none of the certificates is for this authority's key ({key}); was another CSR signed?")]
    OtherKey {
        /// Our key: SHA-256 of its SubjectPublicKeyInfo.
        key: String,
    },
    /// Several certificates are for our key.
    #[error("certificates {first} and {second} are both for this authority's key; give one of them")]
    SeveralForKey {
        /// The first.
        first: usize,
        /// The second.
        second: usize,
    },
    /// A certificate of the chain is none of a CA.
    #[error("\"{subject}\" is not a CA: basicConstraints CA:TRUE is missing (RFC 5280 §4.2.1.9)")]
    NotACa {
        /// Whose certificate.
        subject: String,
    },
    /// A certificate of the chain may not sign certificates.
    #[error("\"{subject}\" may not sign certificates: its key usage lacks keyCertSign (RFC 5280 §4.2.1.3)")]
    NoCertSign {
        /// Whose certificate.
        subject: String,
    },
    /// A certificate of the chain has ended.
    #[error("the certificate of \"{subject}\" ended at {not_after}")]
    Expired {
        /// Whose certificate.
        subject: String,
        /// When.
        not_after: Timestamp,
    },
    /// A certificate of the chain has not begun.
    #[error("the certificate of \"{subject}\" is not valid before {not_before}; is this machine's clock right?")]
    NotYetValid {
        /// Whose certificate.
        subject: String,
        /// When it begins.
        not_before: Timestamp,
    },
    /// A signature in the chain uses an algorithm that is broken or that we cannot check.
    #[error("the certificate of \"{subject}\" is signed with {algorithm}, which is not accepted")]
    WeakSignature {
        /// Whose certificate.
        subject: String,
        /// The algorithm.
        algorithm: String,
    },
    /// The names link and the signature does not.
    #[error(
        "the certificate of \"{subject}\" names \"{issuer}\" as its issuer, but is not signed by the key given for it"
    )]
    BrokenSignature {
        /// Whose certificate.
        subject: String,
        /// Its issuer.
        issuer: String,
    },
    /// Names and signature link and the key identifiers do not.
    #[error(
        "the certificate of \"{subject}\" names a key identifier that \"{issuer}\" does not have (RFC 5280 §4.2.1.1)"
    )]
    KeyIdentifierDiffers {
        /// Whose certificate.
        subject: String,
        /// Its issuer.
        issuer: String,
    },
    /// More CAs below a certificate than it allows.
    #[error("\"{subject}\" allows {allowed} CAs below it (pathLen) and the chain has {below}")]
    PathLength {
        /// Whose certificate.
        subject: String,
        /// How many it allows.
        allowed: u32,
        /// How many there are.
        below: u32,
    },
    /// A CA of the chain has a name that one above does not permit.
    #[error("\"{issuer}\" does not permit a CA with the name \"{subject}\" (RFC 5280 §4.2.1.10)")]
    NameConstraint {
        /// Whose constraint.
        issuer: String,
        /// Whose name.
        subject: String,
    },
    /// A certificate does not belong to the chain.
    #[error("certificate {position} (\"{subject}\") is not above \"{top}\", where the chain ends")]
    Unrelated {
        /// Which of the given ones.
        position: usize,
        /// Whose certificate.
        subject: String,
        /// The topmost certificate of the chain.
        top: String,
    },
}

/// Makes a chain of what was given, in whatever order: the issuing certificate is the one for
/// `our_key`; the root may be among the certificates or missing.
///
/// # Errors
///
/// [`InstallRejection`], each a sentence that says which certificate does not fit and why.
pub fn install(candidates: &[Vec<u8>], our_key: &PublicKey, now: Timestamp) -> Result<Chain, InstallRejection> {
    use InstallRejection as R;
    match candidates.len() {
        0 => return Err(R::Nothing),
        count if count > CANDIDATES_MAX => return Err(R::TooMany { count }),
        _ => {}
    }
    let mut given: Vec<(usize, Arc<IssuingCertificate>)> = Vec::with_capacity(candidates.len());
    for (position, der) in (1..).zip(candidates) {
        if let Some((first, _)) = given.iter().find(|(_, earlier)| earlier.der() == der) {
            return Err(R::Duplicate { first: *first, second: position });
        }
        let read = IssuingCertificate::from_der(der);
        given.push((position, Arc::new(read.map_err(|fault| R::Unusable { position, fault })?)));
    }
    let mut ours = given.iter().filter(|(_, certificate)| certificate.key() == our_key);
    let Some((position, issuing)) = ours.next().cloned() else {
        return Err(R::OtherKey { key: our_key.digest().to_string() });
    };
    if let Some((second, _)) = ours.next() {
        return Err(R::SeveralForKey { first: position, second: *second });
    }
    given.retain(|(other, _)| *other != position);

    let mut certificates = vec![issuing];
    let mut anchor = None;
    while let Some(top) = certificates.last().filter(|top| !top.is_self_signed()) {
        let Some(position) = find_issuer(top, &given)? else {
            break;
        };
        let (_, issuer) = given.remove(position);
        if issuer.is_self_signed() {
            anchor = Some(issuer);
            break;
        }
        certificates.push(issuer);
    }
    let chain = Chain { certificates, anchor };
    check(&chain, now)?;
    if let Some((position, unrelated)) = given.first() {
        let top = chain.all().last().map(ToString::to_string).unwrap_or_default();
        return Err(R::Unrelated { position: *position, subject: unrelated.to_string(), top });
    }
    Ok(chain)
}

/// Where the issuer of `below` lies in `given`.
fn find_issuer(
    below: &IssuingCertificate,
    given: &[(usize, Arc<IssuingCertificate>)],
) -> Result<Option<usize>, InstallRejection> {
    use InstallRejection as R;
    let mut broken = None;
    for (at, (_, above)) in given.iter().enumerate() {
        if !distinguished_name::same(below.issuer(), above.subject()) {
            continue;
        }
        let (subject, issuer) = (below.to_string(), above.to_string());
        match is_signed_by(below, above) {
            Err(SignatureFault::Algorithm(algorithm)) => return Err(R::WeakSignature { subject, algorithm }),
            Err(SignatureFault::Wrong) => {
                broken.get_or_insert(R::BrokenSignature { subject, issuer });
            }
            Ok(()) => match (&below.authority_key_identifier, above.subject_key_identifier()) {
                (Some(named), Some(is)) if named != is => {
                    broken = Some(R::KeyIdentifierDiffers { subject, issuer });
                }
                _ => return Ok(Some(at)),
            },
        }
    }
    broken.map_or(Ok(None), Err)
}

fn check(chain: &Chain, now: Timestamp) -> Result<(), InstallRejection> {
    use InstallRejection as R;
    let mut below: u32 = 0;
    for (at, certificate) in chain.all().enumerate() {
        let subject = || certificate.to_string();
        let validity = certificate.validity();
        // A root from before version 3 says nothing about itself; it is trusted for what it is.
        if certificate.version_3 || !certificate.is_self_signed() {
            if !certificate.is_ca() {
                return Err(R::NotACa { subject: subject() });
            }
            // A root may leave the extension out; whoever signs certificates for us may not.
            let silent_root = certificate.is_self_signed() && at > 0 && certificate.signs_certificates.is_none();
            if !certificate.signs_certificates() && !silent_root {
                return Err(R::NoCertSign { subject: subject() });
            }
        }
        if now < validity.not_before() {
            return Err(R::NotYetValid { subject: subject(), not_before: validity.not_before() });
        }
        if !validity.contains(now) {
            return Err(R::Expired { subject: subject(), not_after: validity.not_after() });
        }
        if !certificate.is_self_signed()
            && let Some(algorithm) = weak_algorithm(certificate)
        {
            return Err(R::WeakSignature { subject: subject(), algorithm });
        }
        if let Some(allowed) = certificate.path_length().filter(|allowed| *allowed < below) {
            return Err(R::PathLength { subject: subject(), allowed, below });
        }
        for lower in chain.all().take(at) {
            if certificate.constraints().check_subject(lower.subject()).is_err() {
                return Err(R::NameConstraint { issuer: subject(), subject: lower.to_string() });
            }
        }
        // Certificates that a CA issued to itself do not count (RFC 5280 §4.2.1.9).
        if !distinguished_name::same(certificate.subject(), certificate.issuer()) {
            below += 1;
        }
    }
    Ok(())
}

/// Why a signature does not link two certificates.
#[derive(Debug)]
pub(super) enum SignatureFault {
    /// The algorithm is broken (MD5, SHA-1) or none that we can check.
    Algorithm(String),
    /// The signature is not the key's.
    Wrong,
}

/// The algorithms that a signature in a chain may have, by their object identifiers.
const STRONG: [(&str, &str); 8] = [
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption"),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption"),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.3.101.112", "Ed25519"),
];

/// The name of an algorithm that is not [`STRONG`].
fn weak_algorithm(certificate: &IssuingCertificate) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate.der()).ok()?;
    let oid = &parsed.signature_algorithm.algorithm;
    if *oid == oid_registry::OID_PKCS1_RSASSAPSS {
        let (hash, _) = pss_lengths(&parsed.signature_algorithm);
        return hash.is_none().then(|| "RSASSA-PSS with SHA-1".to_owned());
    }
    if STRONG.iter().any(|(strong, _)| *strong == oid.to_id_string()) {
        return None;
    }
    let name = oid_registry::OidRegistry::default().with_crypto().get(oid).map(|entry| entry.sn().to_owned());
    Some(name.unwrap_or_else(|| oid.to_id_string()))
}

/// Whether `below` is signed by the key of `above`, with an algorithm that is worth something.
pub(super) fn is_signed_by(below: &IssuingCertificate, above: &IssuingCertificate) -> Result<(), SignatureFault> {
    if let Some(algorithm) = weak_algorithm(below) {
        return Err(SignatureFault::Algorithm(algorithm));
    }
    verify(below, above.key())
}

/// Whether `certificate` is signed by its own key. The algorithm may be SHA-1's: a root is trusted
/// for what it is, and its own signature says nothing (RFC 5280 §6.1 never looks at it).
pub(super) fn is_signed_by_itself(certificate: &IssuingCertificate) -> bool {
    verify(certificate, certificate.key()).is_ok()
}

fn verify(below: &IssuingCertificate, key: &PublicKey) -> Result<(), SignatureFault> {
    let (_, parsed) = X509Certificate::from_der(below.der()).map_err(|_| SignatureFault::Wrong)?;
    let (algorithm, value) = (&parsed.signature_algorithm, &parsed.signature_value);
    // Outside and inside must name the same algorithm (RFC 5280 §4.1.1.2).
    if *algorithm != parsed.tbs_certificate.signature {
        return Err(SignatureFault::Wrong);
    }
    let inside = Tlv::read_all(&below.tbs).and_then(|tbs| tbs.children());
    // The version, which is the first of the fields, may be missing.
    let inside = inside.and_then(|fields| fields.into_iter().find(|field| field.tag == tag::SEQUENCE));
    let ours = inside.and_then(|field| SignatureAlgorithm::from_algorithm_identifier_der(field.raw));
    if let Some(ours) = ours {
        return key.verify(ours, &below.tbs, &value.data).map_err(|_| SignatureFault::Wrong);
    }
    // Our verification expects a salt as long as the hash, as RFC 4055 §3.1 recommends.
    if let (Some(hash), salt) = pss_lengths(algorithm)
        && hash != salt
    {
        return Err(SignatureFault::Algorithm("RSASSA-PSS with a salt that is not as long as its hash".to_owned()));
    }
    // RSASSA-PSS, and SHA-1 of roots.
    let (_, spki) = SubjectPublicKeyInfo::from_der(key.spki()).map_err(|_| SignatureFault::Wrong)?;
    match verify_signature(&spki, algorithm, value, &below.tbs) {
        Ok(()) => Ok(()),
        Err(X509Error::SignatureUnsupportedAlgorithm) => {
            let name = algorithm.algorithm.to_id_string();
            let named = STRONG.iter().find(|(oid, _)| *oid == name).map_or(name.as_str(), |(_, named)| named);
            Err(SignatureFault::Algorithm(format!("{named} with a hash or key that does not fit")))
        }
        Err(_) => Err(SignatureFault::Wrong),
    }
}

/// Hash and salt octets of an RSASSA-PSS signature; the hash is `None` where it is none of SHA-2's.
fn pss_lengths(algorithm: &AlgorithmIdentifier<'_>) -> (Option<u32>, u32) {
    let parameters = algorithm.parameters.as_ref().and_then(|any| RsaSsaPssParams::try_from(any).ok());
    parameters.map_or((None, 0), |parameters| {
        let hash = match parameters.hash_algorithm_oid().to_id_string().as_str() {
            "2.16.840.1.101.3.4.2.1" => Some(32),
            "2.16.840.1.101.3.4.2.2" => Some(48),
            "2.16.840.1.101.3.4.2.3" => Some(64),
            _ => None,
        };
        (hash, parameters.salt_length())
    })
}
