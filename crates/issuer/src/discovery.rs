//! What the cluster has. What is missing turns a feature off, and is looked for again now and then.

use std::collections::BTreeMap;

use clap::ValueEnum;
use kube::{Api, Client, api::ListParams};

use crate::resource::{CertificateRequest, GROUP};

/// The group and version of Kubernetes' own signers.
const CERTIFICATES: &str = "certificates.k8s.io/v1";

/// What is served beside cert-manager's requests, where it is switched on: each needs rights of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Feature {
    /// Kubernetes' CertificateSigningRequests that name one of our issuers as their signer.
    CertificateSigningRequests,
    /// PodCertificateRequests (Kubernetes 1.37) that name one of our cluster issuers as their signer.
    PodCertificateRequests,
    /// ClusterTrustBundles (Kubernetes 1.37) with the roots of cluster issuers with publishRoots.
    ClusterTrustBundles,
    /// A ConfigMap with such roots in each namespace with the label chancery.dev/roots.
    RootConfigMaps,
}

impl Feature {
    const ALL: [Self; 4] = [
        Self::CertificateSigningRequests,
        Self::PodCertificateRequests,
        Self::ClusterTrustBundles,
        Self::RootConfigMaps,
    ];

    /// Its name on the command line, in probes and in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CertificateSigningRequests => "certificate-signing-requests",
            Self::PodCertificateRequests => "pod-certificate-requests",
            Self::ClusterTrustBundles => "cluster-trust-bundles",
            Self::RootConfigMaps => "root-config-maps",
        }
    }

    /// The kind that the cluster must have.
    const fn plural(self) -> Option<&'static str> {
        match self {
            Self::CertificateSigningRequests => Some("certificatesigningrequests"),
            Self::PodCertificateRequests => Some("podcertificaterequests"),
            Self::ClusterTrustBundles => Some("clustertrustbundles"),
            Self::RootConfigMaps => None,
        }
    }
}

/// Whether a feature is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is served.
    On,
    /// Nobody has switched it on.
    Off,
    /// The cluster does not have the kind.
    Lacking,
}

impl Presence {
    /// In words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off: not switched on (--feature)",
            Self::Lacking => "off: this cluster does not have the kind in certificates.k8s.io/v1 (Kubernetes 1.37 has)",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Our own kinds.
    pub(crate) issuers: bool,
    /// cert-manager's CertificateRequest.
    pub(crate) requests: bool,
    /// Whether requests can be selected by the group of their issuer (cert-manager 1.20 and later).
    pub(crate) selectable: bool,
    /// What is served beside requests.
    pub(crate) others: BTreeMap<Feature, Presence>,
}

impl Found {
    /// Whether a feature is served.
    pub(crate) fn serves(&self, feature: Feature) -> bool {
        self.others.get(&feature) == Some(&Presence::On)
    }
}

/// Looks.
///
/// # Errors
///
/// The API server's, other than that there is no such thing.
pub(crate) async fn look(client: &Client, wanted: &[Feature]) -> Result<Found, kube::Error> {
    let issuers = has(client, "chancery.dev/v1", &["chanceryissuers", "chanceryclusterissuers"]).await?;
    let requests = has(client, "cert-manager.io/v1", &["certificaterequests"]).await?;
    let selectable = requests && can_select(client).await?;
    let mut others = BTreeMap::new();
    for feature in Feature::ALL {
        let presence = match feature.plural() {
            _ if !wanted.contains(&feature) => Presence::Off,
            Some(plural) if !has(client, CERTIFICATES, &[plural]).await? => Presence::Lacking,
            _ => Presence::On,
        };
        others.insert(feature, presence);
    }
    Ok(Found { issuers, requests, selectable, others })
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
