//! By what the credentials of clusters are told: keys, API servers, CA certificates of clients.

use std::{collections::BTreeMap, path::Path};

use chancery_cluster::{ApiServer, ClientAuthority, ClusterIdentity, Published, TokenCheck, TokenIdentity};
use chancery_pki::certificate::{self, Certificate};

use super::WiringError;
use crate::config::{Config, v1};

/// Of every configured cluster.
pub(crate) fn identities(config: &Config) -> Result<Vec<ClusterIdentity>, WiringError> {
    told_apart(config)?;
    config.clusters.values().map(identity).collect()
}

/// That no CA key stands below two clusters' clients.
pub(crate) fn told_apart(config: &Config) -> Result<(), WiringError> {
    let mut keys: BTreeMap<Vec<u8>, &str> = BTreeMap::new();
    for cluster in config.clusters.values() {
        let name = cluster.settings.name.as_str();
        let Some(file) = &cluster.client_ca else { continue };
        for der in certificates(name, file)? {
            let fault = |why: String| WiringError::Cluster { cluster: name.to_owned(), why };
            let read = Certificate::from_der(&der);
            let read = read.map_err(|error| fault(format!("{}: {error}", file.display())))?;
            if let Some(other) = keys.insert(read.spki().to_vec(), name).filter(|other| *other != name) {
                return Err(fault(format!(
                    "a CA key in {} stands in the client_certificates of cluster \"{other}\" too, so that a certificate \
                     of one cluster could speak for the other; give each cluster a CA of its own",
                    file.display()
                )));
            }
        }
    }
    Ok(())
}

/// Of one cluster. Needs an async runtime around it where an API server is configured.
pub(crate) fn identity(cluster: &v1::Cluster) -> Result<ClusterIdentity, WiringError> {
    let name = &cluster.settings.name;
    let fault = |why: &dyn std::fmt::Display| WiringError::Cluster { cluster: name.clone(), why: why.to_string() };
    let tokens = match &cluster.token {
        None => None,
        Some(token) => {
            let check = match &token.check {
                v1::TokenCheck::Keys(file) => TokenCheck::Keys(Published::File(file.clone())),
                v1::TokenCheck::ApiServer { url, ca, token, review } => {
                    if !token.exists() {
                        let why = format!("there is no file {} with a token for its API server", token.display());
                        return Err(fault(&why));
                    }
                    let server = ApiServer::new(url, certificates(name, ca)?, token);
                    let server = server.map_err(|error| fault(&error))?;
                    if *review { TokenCheck::Review(server) } else { TokenCheck::Keys(Published::ApiServer(server)) }
                }
            };
            Some(TokenIdentity { issuer: token.issuer.clone(), audience: token.audience.clone(), check })
        }
    };
    let clients = match &cluster.client_ca {
        None => None,
        Some(file) => {
            let authority = ClientAuthority::new(&certificates(name, file)?);
            Some(authority.map_err(|error| fault(&format_args!("{}: {error}", file.display())))?)
        }
    };
    Ok(ClusterIdentity { cluster: name.clone(), tokens, clients })
}

fn certificates(cluster: &str, file: &Path) -> Result<Vec<Vec<u8>>, WiringError> {
    let text = super::read_text(file)?;
    certificate::from_pem(text.as_bytes()).map_err(|error| WiringError::Cluster {
        cluster: cluster.to_owned(),
        why: format!("{}: {error}", file.display()),
    })
}
