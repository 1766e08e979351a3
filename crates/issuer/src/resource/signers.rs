//! What a `ChanceryClusterIssuer` says about the signers of Kubernetes' own kinds.

#![expect(unreachable_pub, reason = "the derive of schemas makes a second, hidden type of each")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::{LABEL, SUBDOMAIN};

/// Somebody who says which workload gets which identity, as istiod does. Everything else that names this issuer in a
/// CertificateSigningRequest is refused, whoever has approved it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationAuthority {
    /// Who alone may ask.
    pub service_account: ServiceAccountName,
    /// The trust domain in which the SPIFFE IDs lie that alone may be asked for.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9._-]+$"))]
    pub trust_domain: String,
}

/// A service account of any namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountName {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// What pods get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodCertificates {
    /// The trust domain of this cluster: a pod is `spiffe://<trustDomain>/ns/<namespace>/sa/<service account>`.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9._-]+$"))]
    pub trust_domain: String,
    /// The profile to ask for; left out, the issuer's. Its backdate must be 4 minutes or less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub profile: Option<String>,
}

impl ServiceAccountName {
    /// As the API server names it as a user.
    #[must_use]
    pub fn username(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}
