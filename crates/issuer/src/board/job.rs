//! What a board is asked, and what it answers.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    decide::Step,
    resource::{CLUSTER_ISSUER, CertificateRequest, RateLimit},
    signer::Signer,
};

/// Which issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct IssuerKey {
    /// None for a cluster issuer.
    pub(crate) namespace: Option<Box<str>>,
    pub(crate) name: Box<str>,
}

impl IssuerKey {
    /// Whom a request refers to, whether or not it exists.
    pub(crate) fn of(request: &CertificateRequest) -> Self {
        let reference = &request.spec.issuer_ref;
        let namespace = (reference.kind != CLUSTER_ISSUER)
            .then(|| request.metadata.namespace.as_deref().unwrap_or_default().into());
        Self { namespace, name: reference.name.as_str().into() }
    }
}

impl fmt::Display for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A request's UID.
pub(crate) type Uid = Arc<str>;

/// The limits of a board.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most requests that are kept; one of more than [`UNIT`](super::shares::UNIT) octets counts as several.
    pub(crate) active: usize,
    /// Most for which a server is asked at a time.
    pub(crate) concurrency: usize,
    /// How fast an issuer's server is asked where the issuer does not say.
    pub(crate) rate: RateLimit,
}

/// What is to be done now.
#[derive(Debug)]
pub(crate) enum Next {
    /// This; [`Board::finished`](super::Board::finished) is to be told of its end.
    Job(Job),
    /// Nothing before then, or before something changes.
    Nothing(Option<Instant>),
}

/// One thing to do.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) uid: Uid,
    pub(crate) request: Arc<CertificateRequest>,
    pub(crate) step: Step,
    pub(crate) issuer: IssuerKey,
    /// What to ask with; there whenever the issuer exists and is ready.
    pub(crate) signer: Option<Arc<Signer>>,
    /// Which try this is, from 0.
    pub(crate) attempts: u32,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// It has its outcome.
    Finished,
    /// The object is not there any more.
    Gone,
    /// It looks like this now: decide again.
    Again(Arc<CertificateRequest>),
    /// Try again after this time, or after the usual one; it looks like this now.
    Later(Option<Duration>, Option<Arc<CertificateRequest>>),
}

/// What the server made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It was not asked.
    Not,
    /// It answered.
    Answered,
    /// It did not, or was busy.
    Failed,
}

/// How many there are of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) active: usize,
    pub(crate) queued: usize,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    pub(crate) delayed: usize,
    pub(crate) left_out: usize,
    pub(crate) breakers_open: usize,
}
