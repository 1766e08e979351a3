//! cert-manager's Certificate, as far as it says whom a request is for.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// What a Certificate wants.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cert-manager.io",
    version = "v1",
    kind = "Certificate",
    namespaced,
    status = "CertificateStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateSpec {
    /// The Secret that the result is written to.
    pub secret_name: String,
    /// For how long before its end it is renewed, in Go's notation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<String>,
}

/// What has become of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateStatus {
    /// How often it was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
}
