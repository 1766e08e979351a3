//! The chains of an authority, read from their files and checked against its key.

use std::{path::Path, sync::Arc};

use chancery_pki::{
    PublicKey, Timestamp, certificate,
    chain::{self, Chain, InstallRejection, RefusedByRustls},
    distinguished_name::show,
};

use super::WiringError;
use crate::config::v1;

/// What an operator should know about a chain that holds, one sentence each.
pub(crate) fn cautions(chain: &Chain) -> Vec<String> {
    let caution = |(certificate, refused): (&chain::IssuingCertificate, RefusedByRustls)| {
        let (kind, what) = match refused {
            RefusedByRustls::Everything => ("directory names", "every certificate below it"),
            RefusedByRustls::Uris => ("URIs", "every certificate with a SPIFFE ID below it"),
        };
        format!(
            "the name constraints of \"{}\" speak of {kind}, which clients built on rustls do not compare: they refuse \
             {what}; have it signed without them if there are such clients",
            show(certificate.subject())
        )
    };
    chain.refused_by_rustls().map(caution).collect()
}

/// Reads all chains of an authority. One that has ended or not begun is left out with a warning as
/// long as another one holds.
pub(crate) fn load(authority: &v1::Authority, key: &PublicKey, now: Timestamp) -> Result<Vec<Arc<Chain>>, WiringError> {
    let mut chains = Vec::new();
    let mut out_of_time = None;
    for path in &authority.chains {
        match load_one(authority, path, key, now) {
            Ok(chain) => {
                for caution in cautions(&chain) {
                    tracing::warn!(authority.id = %authority.id, "{caution}");
                }
                chains.push(Arc::new(chain));
            }
            Err((error, true)) => {
                tracing::warn!(authority.id = %authority.id, %error, "a chain is left out");
                out_of_time.get_or_insert(error);
            }
            Err((error, false)) => return Err(error),
        }
    }
    match out_of_time {
        Some(error) if chains.is_empty() => Err(error),
        _ => Ok(chains),
    }
}

/// The error comes with whether only time stands against the chain.
fn load_one(
    authority: &v1::Authority,
    path: &Path,
    key: &PublicKey,
    now: Timestamp,
) -> Result<Chain, (WiringError, bool)> {
    let id = || authority.id.to_string();
    let pem = match std::fs::read(path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err((WiringError::NotInstalled { authority: id(), path: path.to_owned() }, false));
        }
        Err(source) => return Err((WiringError::Read { path: path.to_owned(), source }, false)),
    };
    let wrong = |why: String| WiringError::Chain { authority: id(), path: path.to_owned(), why };
    let certificates = certificate::from_pem(&pem).map_err(|error| (wrong(error.to_string()), false))?;
    let chain = chain::install(&certificates, key, now).map_err(|rejection| {
        let time = matches!(rejection, InstallRejection::Expired { .. } | InstallRejection::NotYetValid { .. });
        (wrong(rejection.to_string()), time)
    })?;
    if chain.is_self_signed() && !authority.development {
        return Err((WiringError::SelfSigned { authority: id(), path: path.to_owned() }, false));
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use chancery_authority::ports::Clock as _;

    use super::*;
    use crate::system::SystemClock;

    /// A self-signed CA and its key, valid or ended.
    fn self_signed(ended: bool) -> (String, PublicKey) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "Toy");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(if ended { 2021 } else { 2120 }, 1, 1);
        let pem = params.self_signed(&key).unwrap().pem();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        (pem, PublicKey::from_spki(&spki).unwrap())
    }

    fn authority(folder: &Path, files: &[(&str, &str)], development: bool) -> v1::Authority {
        for (name, pem) in files {
            std::fs::write(folder.join(name), pem).unwrap();
        }
        v1::Authority {
            id: "issuing".parse().unwrap(),
            key: folder.join("issuing.key"),
            chains: files.iter().map(|(name, _)| folder.join(name)).collect(),
            development,
        }
    }

    #[test]
    fn a_self_signed_issuer_is_refused_outside_development_and_taken_within() {
        let folder = tempfile::tempdir().unwrap();
        let (pem, key) = self_signed(false);
        let now = SystemClock.now();
        let error = load(&authority(folder.path(), &[("a.pem", &pem)], false), &key, now).unwrap_err();
        assert!(matches!(error, WiringError::SelfSigned { .. }), "{error}");
        assert!(error.to_string().contains("is self-signed"), "{error}");
        assert_eq!(load(&authority(folder.path(), &[("a.pem", &pem)], true), &key, now).unwrap().len(), 1);
    }

    #[test]
    fn a_chain_that_has_ended_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let (pem, key) = self_signed(true);
        let error = load(&authority(folder.path(), &[("a.pem", &pem)], true), &key, SystemClock.now()).unwrap_err();
        assert!(error.to_string().contains("ended at 2021-01-01"), "{error}");
    }

    #[test]
    fn an_authority_without_a_chain_is_told_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut missing = authority(folder.path(), &[], true);
        missing.chains.push(folder.path().join("none.pem"));
        let error = load(&missing, &self_signed(false).1, SystemClock.now()).unwrap_err().to_string();
        assert!(error.contains("chancery authority csr") && error.contains("none.pem"), "{error}");
    }
}
