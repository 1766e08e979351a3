//! The chains of an authority, read from their files and checked against its key.

use std::{path::Path, sync::Arc};

use chancery_pki::{
    PublicKey, Timestamp, certificate,
    chain::{self, Chain, InstallRejection},
};

use super::WiringError;
use crate::config::v1;

/// Reads all chains of an authority. One that has ended or not begun is left out with a warning as
/// long as another one holds.
pub(crate) fn load(authority: &v1::Authority, key: &PublicKey, now: Timestamp) -> Result<Vec<Arc<Chain>>, WiringError> {
    let mut chains = Vec::new();
    let mut out_of_time = None;
    for path in &authority.chains {
        match load_one(authority, path, key, now) {
            Ok(chain) => chains.push(Arc::new(chain)),
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
