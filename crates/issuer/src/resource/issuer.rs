//! `ChanceryIssuer` and `ChanceryClusterIssuer`: which server signs, and how it is asked.

#![expect(unreachable_pub, reason = "the derive of schemas makes a second, hidden type of each")]
#![expect(clippy::duplicated_attributes, reason = "columns of one table have one type")]

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PodCertificates, RegistrationAuthority, names::SUBDOMAIN};

/// How often an issuer is looked at where nothing else is said.
const CHECK_INTERVAL: &str = "1m";

/// An issuer that serves the requests of its own namespace. Its URLs must stand on the operator's list.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "chancery.dev",
    version = "v1",
    kind = "ChanceryIssuer",
    namespaced,
    status = "IssuerStatus",
    category = "cert-manager",
    derive = "PartialEq",
    doc = "A Chancery server that signs the CertificateRequests of this namespace.",
    validation = Rule::new("!has(self.spec.registrationAuthority) && !has(self.spec.podCertificates) && (!has(self.spec.publishRoots) || !self.spec.publishRoots)").message("registrationAuthority, podCertificates and publishRoots are for a ChanceryClusterIssuer alone"),
    printcolumn(json_path = ".status.conditions[?(@.type==\"Ready\")].status", name = "Ready", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type==\"Ready\")].reason", name = "Reason", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type==\"Ready\")].message", name = "Message", type_ = "string"),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Ready\")].observedGeneration",
        name = "ObservedGeneration",
        type_ = "integer",
        priority = 1
    ),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(transparent)]
pub struct ChanceryIssuerSpec {
    /// Both kinds have one shape.
    pub issuer: IssuerSpec,
}

/// An issuer that serves every namespace. Its Secrets lie in the cluster resource namespace.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "chancery.dev",
    version = "v1",
    kind = "ChanceryClusterIssuer",
    status = "IssuerStatus",
    category = "cert-manager",
    derive = "PartialEq",
    doc = "A Chancery server that signs the CertificateRequests of every namespace.",
    printcolumn(json_path = ".status.conditions[?(@.type==\"Ready\")].status", name = "Ready", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type==\"Ready\")].reason", name = "Reason", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type==\"Ready\")].message", name = "Message", type_ = "string"),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Ready\")].observedGeneration",
        name = "ObservedGeneration",
        type_ = "integer",
        priority = 1
    ),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(transparent)]
pub struct ChanceryClusterIssuerSpec {
    /// Both kinds have one shape.
    pub issuer: IssuerSpec,
}

/// Which server signs, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerSpec {
    /// The server's URLs, tried in this order; https only. Servers of one list share their records.
    #[schemars(length(min = 1, max = 8), inner(length(min = 9, max = 512)))]
    #[x_kube(validation = Rule::new("self.all(url, isURL(url) && url.startsWith('https://'))").message("each URL must be one of https"))]
    pub urls: Vec<String>,
    /// Whom to trust when the server is asked; left out, whom the controller's container trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// The profile to ask for; left out, the first one of the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub profile: Option<String>,
    /// What proves to the server who asks.
    pub credentials: Credentials,
    /// What becomes of a certificate whose Certificate is deleted, or whose request of any kind ended before it had it. What
    /// a CertificateSigningRequest or PodCertificateRequest has got stays valid: Kubernetes deletes those as a matter of
    /// routine.
    #[serde(default)]
    pub on_delete: Disposal,
    /// What becomes of a Certificate's certificate that a newer one has replaced. This is about CertificateRequests alone.
    #[serde(default)]
    pub on_superseded: Disposal,
    /// How often the server is asked whether it would sign, from 10s to 24h.
    #[serde(default = "check_interval")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    #[x_kube(validation = Rule::new("self != '' && duration(self) >= duration('10s') && duration(self) <= duration('24h')").message("checkInterval must be from 10s to 24h"))]
    pub check_interval: String,
    /// The life of a certificate whose request names none; left out, 2160h, as cert-manager has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    #[x_kube(validation = Rule::new("self != '' && duration(self) >= duration('1m') && duration(self) <= duration('87600h')").message("defaultDuration must be from 1m to 87600h"))]
    pub default_duration: Option<String>,
    /// How fast the server is asked; left out, the controller's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Of a ChanceryClusterIssuer: whose CertificateSigningRequests alone are signed, such as istiod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_authority: Option<RegistrationAuthority>,
    /// Of a ChanceryClusterIssuer: pods may ask for certificates (PodCertificateRequest); left out, none may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_certificates: Option<PodCertificates>,
    /// Of a ChanceryClusterIssuer: whether the server's roots are published in the cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish_roots: bool,
}

/// Certificates of CAs in PEM. Exactly one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.inline), has(self.configMapRef), has(self.secretRef)].filter(given, given).size() == 1").message("caBundle needs exactly one of inline, configMapRef and secretRef"))]
pub struct CaBundle {
    /// The PEM itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 330000))]
    pub inline: Option<String>,
    /// A key of a ConfigMap; left out, `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyReference>,
    /// A key of a Secret; left out, `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyReference>,
}

/// What proves who asks. Exactly one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.tokenSecretRef), has(self.clientCertificateSecretRef), has(self.serviceAccount)].filter(given, given).size() == 1").message("credentials need exactly one of tokenSecretRef, clientCertificateSecretRef and serviceAccount"))]
pub struct Credentials {
    /// A token of the server's, in a key of a Secret; left out, `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<KeyReference>,
    /// A client certificate, in a Secret of the type kubernetes.io/tls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret_ref: Option<SecretReference>,
    /// A token that the API server mints for a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountReference>,
}

/// A key of a Secret or ConfigMap in the issuer's namespace, or in the cluster resource namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// The key in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

/// A Secret in the issuer's namespace, or in the cluster resource namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// A service account in the issuer's namespace, or in the cluster resource namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// Whom the token is for: what the server expects. Left out, the controller's usual audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub audience: Option<String>,
}

/// What becomes of a certificate that is not needed any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Disposal {
    /// It stays valid until it ends.
    #[default]
    Keep,
    /// It is revoked.
    Revoke,
}

/// How fast a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Requests each second, in the long run.
    #[schemars(range(min = 1, max = 10000))]
    pub requests_per_second: u32,
    /// Requests at once after a pause; left out, as many as in one second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub burst: Option<u32>,
}

/// How an issuer is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// `Ready` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<ConditionSchema>")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

// A `Condition`, in the limits that Kubernetes has for it. To have the schemas of all Kubernetes' kinds made for the sake
// of this one would cost half a minute of every build.
/// How one thing about the issuer is.
#[expect(dead_code, reason = "its shape alone is of use")]
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Condition")]
struct ConditionSchema {
    /// What the condition is about, in CamelCase.
    #[serde(rename = "type")]
    #[schemars(length(max = 316))]
    type_: String,
    /// `True`, `False` or `Unknown`.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    status: String,
    /// Why, for programs: one word in CamelCase.
    #[schemars(length(min = 1, max = 1024))]
    reason: String,
    /// Why, for people.
    #[schemars(length(max = 32768))]
    message: String,
    /// When the status became this one.
    #[schemars(extend("format" = "date-time"))]
    last_transition_time: String,
    /// The `metadata.generation` that it is about.
    #[schemars(range(min = 0))]
    observed_generation: Option<i64>,
}

impl IssuerSpec {
    /// How often the server is asked whether it would sign.
    #[must_use]
    pub fn check_interval(&self) -> Duration {
        go_duration(&self.check_interval)
            .unwrap_or(Duration::from_secs(60))
            .clamp(Duration::from_secs(10), Duration::from_secs(86_400))
    }
}

/// A duration in Go's notation; nothing for what is none, or is below zero.
#[must_use]
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    // The parser multiplies without looking: ten digits of hours are more than it can hold.
    if text.split(|sign: char| !sign.is_ascii_digit()).any(|digits| digits.len() > 9) {
        return None;
    }
    let duration: kube::core::Duration = text.parse().ok()?;
    (!duration.is_negative()).then(|| duration.into())
}

/// The shortest and longest default duration.
const DEFAULT_DURATIONS: std::ops::RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(87_600);

impl IssuerSpec {
    /// Whether the default duration is one; the schema of an older version let others pass.
    pub(crate) fn default_duration_fits(&self) -> bool {
        self.default_duration
            .as_deref()
            .is_none_or(|text| go_duration(text).is_some_and(|duration| DEFAULT_DURATIONS.contains(&duration)))
    }
}

fn check_interval() -> String {
    CHECK_INTERVAL.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos_and_what_no_number_holds_is_none() {
        for (text, seconds) in [
            ("1h30m", Some(5400)),
            ("999999999h", Some(3_599_999_996_400)),
            ("9999999999h", None),
            ("99999999999999999999999999s", None),
            ("-1h", None),
            ("", Some(0)),
        ] {
            assert_eq!(go_duration(text).map(|duration| duration.as_secs()), seconds, "{text}");
        }
    }
}
