//! A request that a server has signed, as it is named where its certificate is revoked.

use chancery_api::RequestKind;

use crate::{
    board::{IssuerKey, Uid},
    resource::CertificateRequest,
};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) kind: RequestKind,
    pub(crate) uid: Uid,
    /// Whose share of the queue it takes: its namespace, or who asked where it lies in none.
    pub(crate) who: Box<str>,
    pub(crate) issuer: IssuerKey,
}

impl Signed {
    /// The namespace that the server was sent with the request: an object that lies in none is asked for in that of its
    /// issuer, if it has one.
    pub(super) fn namespace(&self) -> Option<&str> {
        match self.kind {
            RequestKind::CertificateSigningRequest => self.issuer.namespace.as_deref(),
            RequestKind::CertificateRequest | RequestKind::PodCertificateRequest => Some(&self.who),
        }
    }

    /// Nothing for an object without a UID: such a one was never in a cluster.
    pub(crate) fn of(request: &CertificateRequest) -> Option<Self> {
        Some(Self {
            kind: RequestKind::CertificateRequest,
            uid: request.metadata.uid.as_deref()?.into(),
            who: request.metadata.namespace.as_deref().unwrap_or_default().into(),
            issuer: IssuerKey::of(request),
        })
    }
}
