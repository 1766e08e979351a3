//! Signing for Kubernetes: what a controller sends over HTTPS below `/api/v1`, and what it is told.
//!
//! - `POST /api/v1/signing-requests` with a [`SigningRequest`] answers 200 with a [`SigningState`]. Sent again it
//!   answers with the same certificate. Kind, namespace and UID of the object name the request, whichever credential of
//!   the cluster sends it; what asks for something else under the same name is refused.
//! - `GET /api/v1/signing-requests/{kind}/{uid}?namespace={namespace}` answers with the [`SigningState`], or 404. The
//!   namespace is the one that was sent with the request ([`Origin::namespace`]); it is left out where none was, and may
//!   be where the credential speaks for one namespace alone. So it is with the next two.
//! - `POST /api/v1/signing-requests/{kind}/{uid}/usage` with a [`UsageReport`] answers 204.
//! - `POST /api/v1/signing-requests/{kind}/{uid}/revoke` with a [`RevokeRequest`](crate::RevokeRequest) answers 204,
//!   also where it is revoked already.
//! - `GET /api/v1/signer` answers with [`SignerInfo`]: what the credential may ask for here.
//!
//! Everything else is an [`ErrorBody`](crate::ErrorBody): 400 (a body that cannot be read), 401 (no credential, or one
//! that is not valid any more), 403 (a credential that may not do this at all), 404, 409 (`stale-term`: the leadership
//! is over), 413, 429 and 503 with `Retry-After` in seconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What kind of Kubernetes object asks; with its UID it names the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestKind {
    /// cert-manager's CertificateRequest.
    CertificateRequest,
    /// CertificateSigningRequest of `certificates.k8s.io`.
    CertificateSigningRequest,
    /// PodCertificateRequest of `certificates.k8s.io`.
    PodCertificateRequest,
}

impl RequestKind {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::CertificateRequest, Self::CertificateSigningRequest, Self::PodCertificateRequest];

    /// As it stands in paths.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CertificateRequest => "certificate-request",
            Self::CertificateSigningRequest => "certificate-signing-request",
            Self::PodCertificateRequest => "pod-certificate-request",
        }
    }
}

/// A certificate is asked for. The object's own fields decide, never what stands in the CSR beside key, names and
/// subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningRequest {
    /// What kind of object.
    pub kind: RequestKind,
    /// Its UID.
    pub uid: String,
    /// The certificate signing request (PKCS#10) in PEM.
    pub csr: String,
    /// What the certificate shall name, where the CSR is but a stub for a key: URIs, for a PodCertificateRequest alone,
    /// whose CSR names nothing. The controller decides them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The profile that the issuer or signer is configured with; left out, the credential's first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// How long it shall live, in seconds, as the object says; left out, the profile's usual life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<u64>,
    /// What it shall be used for, in the words of `certificates.k8s.io` and cert-manager (`server auth`, `digital
    /// signature`); empty, the profile's usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usages: Vec<String>,
    /// Whether it shall be a CA's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_ca: bool,
    /// What the controller reports about the object. The credential does not prove it.
    pub origin: Origin,
    /// The term of the controller's leadership, growing with each election: an older one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The Lease that the term is of. Terms of two Leases are not compared; of one that was made anew the old one is
    /// refused. Controllers that name none share one count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseRef>,
}

/// A Lease of `coordination.k8s.io`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRef {
    /// Its namespace and name, with a slash between.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Which object's request is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRef<'a> {
    /// What kind of object.
    pub kind: RequestKind,
    /// The namespace that was sent with the request: see [`Origin::namespace`].
    pub namespace: Option<&'a str>,
    /// Its UID.
    pub uid: &'a str,
}

/// What stands behind a request's path, as its query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestQuery {
    /// See [`RequestRef::namespace`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Where a request comes from, as a controller read it from the API server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The object's namespace; none for what has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// The issuer or signer that it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerRef>,
    /// Who made the object, as the API server recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The groups of whoever made it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The Certificate that it was made for: its owner, looked up and alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The Secret that the Certificate writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The pod of a PodCertificateRequest, looked up and alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// The namespace's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: BTreeMap<String, String>,
    /// The object's annotations, those of controllers and tools left out. Tenants write them: they never widen anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An issuer (`ChanceryIssuer`, `ChanceryClusterIssuer`) or a signer's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerRef {
    /// Its kind; `Signer` for a signer's name.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A pod, with what it runs as and on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodRef {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
    /// Its node.
    pub node: String,
}

/// What has become of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum SigningState {
    /// There is a certificate.
    Issued(SignedCertificate),
    /// Not yet: it is under way, or waits for an approval. Ask again.
    Pending {
        /// After how many seconds; at least 1.
        retry_after_s: u64,
        /// What it waits for: a sentence for people.
        message: String,
    },
    /// There will be none: asking again is useless.
    Refused {
        /// Why, as a word for programs.
        reason: RefusalReason,
        /// Which name, by which rule, what would be allowed: for people.
        message: String,
        /// The policy's rule, where one refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
    },
}

/// Why there will be no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalReason {
    /// The CSR cannot be read, is not signed by its key, or asks for what is not granted.
    Csr,
    /// The kind of key is not taken, or the key is weak or known.
    Key,
    /// The profile does not exist, may not be asked for, or does not fit.
    Profile,
    /// Policy says no.
    Policy,
    /// The life cannot be granted.
    Lifetime,
    /// Something else was asked for under the same kind and UID.
    OtherRequest,
    /// Whoever may approve it said no.
    Denied,
}

/// A certificate, with what lies above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCertificate {
    /// Its id in the inventory.
    pub id: String,
    /// Its serial number, hex.
    pub serial: String,
    /// The certificate and its intermediates in PEM, leaf first, the root left out.
    pub chain: String,
    /// The root in PEM.
    pub root: String,
    /// Its first second.
    pub not_before: String,
    /// Its last second.
    pub not_after: String,
    /// What policy warned of, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Where a certificate is used: the Secret that holds it, and who serves it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageReport {
    /// One place each: kind and name of a Secret, Gateway, Ingress, in words of the cluster
    /// (`Secret payments/web-tls`). At most 16 of at most 256 octets.
    pub used_by: Vec<String>,
}

/// What a credential may ask for, and whether it would get it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerInfo {
    /// The cluster that the credential speaks for.
    pub cluster: String,
    /// The namespaces that it may speak for; nothing if for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// The profiles that it may ask for; the first is the one it gets without asking.
    pub profiles: Vec<SignerProfile>,
    /// The roots in PEM: what clients must trust.
    pub roots: String,
    /// Why nothing is issued now, one sentence each; empty if all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_issuing: Vec<String>,
    /// The server's clock.
    pub now: String,
}

/// A profile, as far as it decides what can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerProfile {
    /// Its name.
    pub name: String,
    /// The kinds of key that it takes, as configuration writes them (`p256`, `rsa2048`).
    pub keys: Vec<String>,
    /// The usual life, in seconds.
    pub lifetime_s: u64,
    /// The shortest and the longest life, in seconds.
    pub lifetime_min_s: u64,
    /// See [`Self::lifetime_min_s`].
    pub lifetime_max_s: u64,
    /// How long before its issuance a certificate begins at most, in seconds: never more than a twentieth of a life that
    /// is asked for. None by a server that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backdate_s: Option<u64>,
}
