//! Signers of Kubernetes' own kinds: CertificateSigningRequests and PodCertificateRequests whose signer name means one
//! of our issuers.
//!
//! Each kind has a [`serve::serve`] of its own, with a bounded [`line`] in which issuers and those who ask take turns.
//! What is asked of a server, and how its answer is held against the request, is as for cert-manager's requests; the UID
//! names the request there, so that asking again leads to the same certificate. Each kind is served only where it is
//! switched on, since that needs rights of its own.

mod asking;
mod line;
mod pod_request;
mod pod_rules;
mod registration_authority;
mod serve;
mod signer_name;
mod signing_request;
mod status;

pub(crate) use self::{
    asking::Asking, line::Limits, pod_request::PodRequests, serve::Serving, serve::serve,
    signer_name::of_cluster_issuer, signing_request::SigningRequests,
};
