//! By what the credentials of clusters are told: keys, API servers, CA certificates of clients.

use std::path::Path;

use chancery_cluster::{ApiServer, ClientAuthority, ClusterIdentity, Published, TokenCheck, TokenIdentity};
use chancery_pki::certificate;

use super::WiringError;
use crate::config::{Config, v1};

/// Of every configured cluster.
pub(crate) fn identities(config: &Config) -> Result<Vec<ClusterIdentity>, WiringError> {
    config.clusters.values().map(identity).collect()
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
