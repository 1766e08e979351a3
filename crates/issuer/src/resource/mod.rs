//! The Kubernetes objects that are read and written: our own kinds, and cert-manager's as far as they matter.

mod certificate;
mod certificate_request;
mod issuer;
mod names;
mod signers;

pub use certificate::{Certificate, CertificateSpec, CertificateStatus};
pub use certificate_request::{
    CertificateRequest, CertificateRequestSpec, CertificateRequestStatus, ObjectReference, RequestCondition,
};
pub(crate) use issuer::go_duration;
pub use issuer::{
    CaBundle, ChanceryClusterIssuer, ChanceryClusterIssuerSpec, ChanceryIssuer, ChanceryIssuerSpec, Credentials,
    Disposal, IssuerSpec, IssuerStatus, KeyReference, RateLimit, SecretReference, ServiceAccountReference,
};
pub use signers::{PodCertificates, RegistrationAuthority, ServiceAccountName};

/// The API group of our kinds.
pub const GROUP: &str = "chancery.dev";
/// The kind of an issuer that serves its own namespace.
pub const ISSUER: &str = "ChanceryIssuer";
/// The kind of an issuer that serves every namespace.
pub const CLUSTER_ISSUER: &str = "ChanceryClusterIssuer";

/// Our custom resource definitions.
#[must_use]
pub fn definitions() -> [k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition; 2]
{
    use kube::CustomResourceExt as _;
    [ChanceryIssuer::crd(), ChanceryClusterIssuer::crd()]
}
