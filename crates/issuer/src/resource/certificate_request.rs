//! cert-manager's CertificateRequest: the fields that are read, and the status that is written.
//!
//! Only patches of the status are ever sent, so what is not listed here is not lost.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// What is asked for. The API server lets nobody change it.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cert-manager.io",
    version = "v1",
    kind = "CertificateRequest",
    namespaced,
    status = "CertificateRequestStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateRequestSpec {
    /// The CSR in PEM.
    pub request: ByteString,
    /// How long the certificate shall live, in Go's notation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Whether it shall be a CA's.
    #[serde(rename = "isCA", skip_serializing_if = "std::ops::Not::not")]
    pub is_ca: bool,
    /// What it shall be used for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub usages: Vec<String>,
    /// Who shall sign.
    pub issuer_ref: ObjectReference,
    /// Who made the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The groups of whoever made it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// A reference to an issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectReference {
    /// Its name.
    pub name: String,
    /// Its kind; empty means cert-manager's `Issuer`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its group; empty means cert-manager's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
}

/// What has become of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateRequestStatus {
    /// Conditions, one of each type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<RequestCondition>,
    /// The chain in PEM, leaf first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ByteString>,
    /// The root in PEM.
    #[serde(rename = "ca", skip_serializing_if = "Option::is_none")]
    pub ca: Option<ByteString>,
    /// When it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_time: Option<String>,
}

/// A condition, kept to the letter: a patch tests that it is still so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestCondition {
    /// `Ready`, `Approved`, `Denied`, `InvalidRequest`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Words for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When `status` changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// What later versions add.
    #[serde(flatten)]
    pub others: BTreeMap<String, serde_json::Value>,
}

impl CertificateRequest {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&RequestCondition> {
        self.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether the condition of this type is there and `True`.
    #[must_use]
    pub fn is(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }
}
