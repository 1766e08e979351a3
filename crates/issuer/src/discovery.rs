//! What the cluster has. What is missing turns a feature off, and is looked for again now and then.

use kube::{Api, Client, api::ListParams};

use crate::resource::{CertificateRequest, GROUP};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Our own kinds.
    pub(crate) issuers: bool,
    /// cert-manager's CertificateRequest.
    pub(crate) requests: bool,
    /// Whether requests can be selected by the group of their issuer (cert-manager 1.20 and later).
    pub(crate) selectable: bool,
}

/// Looks.
///
/// # Errors
///
/// The API server's, other than that there is no such thing.
pub(crate) async fn look(client: &Client) -> Result<Found, kube::Error> {
    let issuers = has(client, "chancery.dev/v1", &["chanceryissuers", "chanceryclusterissuers"]).await?;
    let requests = has(client, "cert-manager.io/v1", &["certificaterequests"]).await?;
    let selectable = requests && can_select(client).await?;
    Ok(Found { issuers, requests, selectable })
}

async fn has(client: &Client, version: &str, plurals: &[&str]) -> Result<bool, kube::Error> {
    match client.list_api_group_resources(version).await {
        Ok(list) => Ok(plurals.iter().all(|plural| list.resources.iter().any(|resource| resource.name == *plural))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

async fn can_select(client: &Client) -> Result<bool, kube::Error> {
    let api: Api<CertificateRequest> = Api::all(client.clone());
    let one = ListParams::default().fields(&format!("spec.issuerRef.group={GROUP}")).limit(1);
    match api.list_metadata(&one).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 400 => Ok(false),
        Err(error) => Err(error),
    }
}
