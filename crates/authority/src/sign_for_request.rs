//! Signing for an object of Kubernetes: a CertificateRequest, a CertificateSigningRequest, a PodCertificateRequest.
//!
//! Cluster, namespace and UID of the object name the request, whichever credential asks, so that asking again leads to
//! the same certificate. A credential names requests of its own namespaces alone: no tenant uses up, reads or revokes
//! another one's. What the credential proves (the cluster, and the namespace where it is bound to one) is kept apart
//! from what its controller reports. Nothing that a tenant writes chooses authority, profile or limits.

use std::{fmt, sync::Arc};

use chancery_acme::{id::CertificateId, order::ProfileName};
use chancery_pki::{
    Content, Csr, Lifetime, NameSet, Usages,
    content::EchoDiffers,
    csr::{CsrRejection, CsrRules},
    usage::UsageRejection as UnknownUsage,
};
use chancery_policy::{Claims, Door, Reported, Requester, TooMuchReported};

use crate::{
    changes::{Change, Changes, Put},
    credential::Credential,
    failure::{Failure, Refusal},
    issue::{IssuedChain, NameRefusal, chain_above, few_told},
    issue_once::{IssueOnce, IssueOnceRejection, Once},
    office::{ATTEMPTS, Office},
    pod_certificate::{self, PodRejection},
    ports::CommitError,
    records::{
        CertificateRecord, CertificateState, IdempotencyKey, IdempotencyOutcome, USED_BY_MAX, USED_BY_OCTETS_MAX,
    },
    revoke::{RevokeRejection, Revoker},
    terms::{Over, TERM_HOLDS, Term},
};

/// What kind of object asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// cert-manager's CertificateRequest.
    CertificateRequest,
    /// CertificateSigningRequest of `certificates.k8s.io`.
    CertificateSigningRequest,
    /// PodCertificateRequest of `certificates.k8s.io`.
    PodCertificateRequest,
}

impl ObjectKind {
    /// The door that it comes in by.
    #[must_use]
    pub const fn door(self) -> Door {
        match self {
            Self::CertificateRequest => Door::CertManager,
            Self::CertificateSigningRequest | Self::PodCertificateRequest => Door::KubernetesSigner,
        }
    }
}

/// Which object's request is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRef<'a> {
    /// What kind of object.
    pub kind: ObjectKind,
    /// The namespace that was reported with it; none for what has none. A credential of one namespace means that one.
    pub namespace: Option<&'a str>,
    /// Its UID.
    pub uid: &'a str,
}

/// What an object asks for, as its controller reads it.
#[derive(Debug, Clone)]
pub struct SignForRequest {
    /// What kind of object.
    pub kind: ObjectKind,
    /// Its UID.
    pub uid: String,
    /// The certificate signing request, in DER.
    pub csr: Vec<u8>,
    /// What it shall name, where its CSR is but a stub for a key: for a PodCertificateRequest, and nothing else.
    pub names: Option<NameSet>,
    /// Under which profile; none, under the credential's first.
    pub profile: Option<ProfileName>,
    /// How long it shall live; none, as the profile has it.
    pub lifetime: Option<Lifetime>,
    /// What it shall be used for, in the words of Kubernetes and cert-manager; none, as the profile has it.
    pub usages: Vec<String>,
    /// Whether it shall be a CA's.
    pub is_ca: bool,
    /// What the controller reports about the object.
    pub reported: Reported,
    /// The term of the controller's leadership.
    pub term: Option<Term>,
}

/// What a request has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// A certificate.
    Issued(Box<SignedFor>),
    /// Its intent is recorded; ask again.
    UnderWay,
    /// It waits for an approval; ask again.
    Held,
    /// There was a certificate, and it is of no use any more.
    Ended {
        /// In words, with what to do.
        why: String,
    },
    /// Whoever may approve it said no.
    Denied {
        /// By which rule, or who.
        rule: String,
    },
}

/// A certificate with all that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFor {
    /// Its record.
    pub record: CertificateRecord,
    /// It, and its issuers up to but without the root.
    pub chain: IssuedChain,
    /// The root in DER; where it was not installed, the highest certificate that is known.
    pub root: Vec<u8>,
    /// What policy warned of, one sentence each.
    pub warnings: Vec<String>,
}

/// Why nothing is signed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignRejection {
    /// Another leader has asked since.
    #[error(
        "this controller's leadership is over: it asks in term {term}, and term {seen} has asked within the last {} minutes. \
         Terms are counted for each Lease; controllers that name none share one count",
        TERM_HOLDS.as_secs() / 60
    )]
    StaleTerm {
        /// The term.
        term: u64,
        /// The highest that has asked.
        seen: u64,
    },
    /// Its Lease was made anew, and whoever holds it has asked since.
    #[error(
        "this controller's leadership is over: its Lease was deleted and made anew, and whoever holds the new one has asked \
         within the last {} minutes",
        TERM_HOLDS.as_secs() / 60
    )]
    StaleLease,
    /// More is reported than is taken.
    #[error(transparent)]
    Reported(#[from] TooMuchReported),
    /// The namespace is not the credential's.
    #[error("{credential} may not speak for {}: it speaks for {} alone", the_namespace(namespace.as_deref()), spoken_for(allowed))]
    Namespace {
        /// The credential.
        credential: String,
        /// The namespace; none for what has none.
        namespace: Option<String>,
        /// Those that it speaks for.
        allowed: Vec<String>,
    },
    /// The profile may not be asked for.
    #[error("profile {} is not among those that {credential} of cluster {cluster} may ask for: {}", asked.escape_debug(), spoken_for(allowed))]
    Profile {
        /// The credential.
        credential: String,
        /// The cluster.
        cluster: String,
        /// What was asked for.
        asked: String,
        /// Those that may be asked for.
        allowed: Vec<String>,
    },
    /// The CSR.
    #[error(transparent)]
    Csr(#[from] CsrRejection),
    /// A word that is no usage.
    #[error(transparent)]
    Usages(#[from] UnknownUsage),
    /// The CSR says something else than its object.
    #[error(transparent)]
    Echo(#[from] EchoDiffers),
    /// It names nothing.
    #[error("the certificate signing request names nothing; put at least one name into its subjectAltName")]
    NoNames,
    /// Names that are told beside a CSR with names of its own.
    #[error("names beside the certificate signing request are for PodCertificateRequests alone")]
    NamesApart,
    /// Whoever asks for a pod's certificate says whose it is, and has looked the pod up.
    #[error(
        "{credential} may not ask for certificates of pods: whose they are is told beside the certificate signing request, \
         and only a controller of the whole cluster is trusted with that"
    )]
    NotForPods {
        /// The credential.
        credential: String,
    },
    /// What the API server would not take as the answer to a PodCertificateRequest.
    #[error(transparent)]
    Pod(#[from] PodRejection),
    /// OCSP must-staple.
    #[error("the certificate signing request asks for OCSP must-staple, which is not issued for Kubernetes")]
    MustStaple,
    /// Names outside of the credential's limits.
    #[error("the limits of the credential leave out {}", few_told(.0.iter().map(|refused| (&refused.name, refused.because.clone()))))]
    Limits(Vec<NameRefusal>),
    /// The one path to a signature says no.
    #[error(transparent)]
    Once(#[from] IssueOnceRejection),
}

fn the_namespace(namespace: Option<&str>) -> impl fmt::Display {
    namespace.map_or_else(
        || "an object without a namespace".to_owned(),
        |name| format!("the namespace \"{}\"", name.escape_debug()),
    )
}

fn spoken_for(allowed: &[String]) -> String {
    if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") }
}

/// Why where a certificate is used is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageRejection {
    /// No certificate was asked for under that name by this cluster, or the credential may not see it.
    #[error("no certificate was issued under that kind, namespace and UID")]
    Unknown,
    /// Too many places, or one with too long a name.
    #[error(
        "at most {USED_BY_MAX} places are kept, each of 1 to {USED_BY_OCTETS_MAX} octets without control characters"
    )]
    Places,
}

impl Office {
    /// Signs for an object, once. Asked again, it answers with the same certificate.
    ///
    /// # Errors
    ///
    /// A [`SignRejection`], or [`Failure`]; then nothing was handed out, and asking again is harmless.
    pub async fn sign_for_request(
        &self,
        credential: &Credential,
        asked: SignForRequest,
    ) -> Result<Signed, Refusal<SignRejection>> {
        use SignRejection as R;
        let reject = |rejection| Err(Refusal::Rejected(rejection));
        let SignForRequest { kind, uid, csr, names, profile, lifetime, usages, is_ca, reported, term } = asked;
        if let Err(rejection) = reported.check() {
            return reject(rejection.into());
        }
        if !credential.speaks_for(reported.namespace.as_deref()) {
            return reject(R::Namespace {
                credential: credential.name().to_owned(),
                namespace: reported.namespace,
                allowed: credential.namespaces().into_iter().flatten().cloned().collect(),
            });
        }
        if kind == ObjectKind::PodCertificateRequest && !credential.is_trusted_to_report() {
            return reject(R::NotForPods { credential: credential.name().to_owned() });
        }
        let asked_profile = profile.clone();
        let profile = match profile.or_else(|| credential.profiles().first().cloned()) {
            Some(profile) if credential.profiles().contains(&profile) => profile,
            asked => {
                return reject(R::Profile {
                    credential: credential.name().to_owned(),
                    cluster: credential.cluster().name.clone(),
                    asked: asked.unwrap_or_else(|| "(none)".to_owned()),
                    allowed: credential.profiles().to_vec(),
                });
            }
        };
        let (csr, content) = match read(kind, &csr, &usages, is_ca) {
            Ok(read) => read,
            Err(rejection) => return reject(rejection),
        };
        let names = match (kind, names) {
            // Of a stub nothing is taken but its key (KEP-4317).
            (ObjectKind::PodCertificateRequest, names) => names,
            (_, None) => csr.names().cloned(),
            (_, Some(_)) => return reject(R::NamesApart),
        };
        let Some(names) = names else { return reject(R::NoNames) };
        if kind == ObjectKind::PodCertificateRequest {
            let settings = self.settings();
            // A profile that is missing is refused further on, as for everybody.
            let checked = settings
                .profiles
                .get(&profile)
                .map_or(Ok(()), |known| pod_certificate::check(csr.public_key().kind(), known, lifetime, is_ca));
            if let Err(rejection) = checked {
                return reject(rejection.into());
            }
        }
        if csr.wants_must_staple() {
            return reject(R::MustStaple);
        }
        let outside = credential.names_refused(&names);
        if !outside.is_empty() {
            return reject(R::Limits(outside));
        }
        // Last, so that nothing that is refused anyway moves the term.
        if let Some(rejection) = self.fence(credential, term.as_ref()) {
            return reject(rejection);
        }
        let cluster = credential.cluster();
        let request = IssueOnce {
            credential: whose(credential, reported.namespace.as_deref()),
            uid,
            authority: cluster.authority.clone(),
            profile,
            asked_profile,
            requester: requester(credential, kind, reported),
            tenant: cluster.tenant.clone(),
            names,
            public_key: csr.public_key().clone(),
            not_before: None,
            not_after: None,
            lifetime,
            content,
        };
        match self.issue_once(request).await {
            Ok(Once::Issued { certificate, chain }) => self.signed_for(certificate, chain).await.map_err(Into::into),
            Ok(Once::UnderWay { certificate: _ }) => Ok(Signed::UnderWay),
            Err(Refusal::Rejected(rejection)) => reject(rejection.into()),
            Err(Refusal::Failed(failure)) => Err(failure.into()),
        }
    }

    /// What a request has led to; none where nothing was issued under it, or the credential may not see it.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn signed_for_request(
        &self,
        credential: &Credential,
        named: RequestRef<'_>,
    ) -> Result<Option<Signed>, Failure> {
        let Some(outcome) = self.outcome_of(credential, named).await? else { return Ok(None) };
        match outcome {
            IdempotencyOutcome::Held => Ok(Some(Signed::Held)),
            IdempotencyOutcome::Refused { rule } => Ok(Some(Signed::Denied { rule })),
            // It may exist, and nobody has it: whoever asks again gets another one.
            IdempotencyOutcome::Abandoned { .. } => Ok(None),
            IdempotencyOutcome::Pending { certificate } | IdempotencyOutcome::Issued { certificate } => {
                let Some(record) = self.visible(credential, certificate).await? else { return Ok(None) };
                match (self.issued_chain(&record).await?, record.state) {
                    (Some(chain), _) => self.signed_for(certificate, chain).await.map(Some),
                    (None, CertificateState::PossiblyIssued { .. }) => Ok(None),
                    (None, CertificateState::Intended { .. } | CertificateState::Issued { .. }) => {
                        Ok(Some(Signed::UnderWay))
                    }
                }
            }
        }
    }

    /// Keeps where the certificate of a request is used, in place of what was said before.
    ///
    /// # Errors
    ///
    /// A [`UsageRejection`], or [`Failure`].
    pub async fn report_usage(
        &self,
        credential: &Credential,
        named: RequestRef<'_>,
        places: Vec<String>,
    ) -> Result<(), Refusal<UsageRejection>> {
        let fits =
            |place: &String| (1..=USED_BY_OCTETS_MAX).contains(&place.len()) && !place.contains(char::is_control);
        if places.len() > USED_BY_MAX || !places.iter().all(fits) {
            return Err(Refusal::Rejected(UsageRejection::Places));
        }
        let id = self.certificate_of_request(credential, named).await?;
        let id = id.ok_or(Refusal::Rejected(UsageRejection::Unknown))?;
        for _ in 0..ATTEMPTS {
            let loaded = self.store().certificate(id).await?.ok_or(Refusal::Rejected(UsageRejection::Unknown))?;
            // Nobody has it yet: a write now would take the version that its signature is to be recorded over.
            if !matches!(loaded.value.state, CertificateState::Issued { .. }) {
                return Err(Refusal::Rejected(UsageRejection::Unknown));
            }
            if loaded.value.used_by == places {
                return Ok(());
            }
            let told = CertificateRecord { used_by: places.clone(), ..loaded.value.clone() };
            match self.commit(Changes::new().with(Change::Certificate(Put::over(&loaded, told)))).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }

    /// Revokes the certificate that a request led to, be its signature known or not.
    ///
    /// # Errors
    ///
    /// A [`RevokeRejection`], or [`Failure`].
    pub async fn revoke_for_request(
        &self,
        credential: &Credential,
        named: RequestRef<'_>,
        reason: Option<u64>,
    ) -> Result<(), Refusal<RevokeRejection>> {
        let id = self.certificate_of_request(credential, named).await?;
        let id = id.ok_or(Refusal::Rejected(RevokeRejection::Unknown))?;
        let by = Revoker::Cluster { name: credential.cluster().name.clone(), credential: credential.name().to_owned() };
        self.revoke_by(id, reason, &by).await
    }

    /// The certificate that a request led to last, possibly issued ones included, if the credential may see it.
    async fn certificate_of_request(
        &self,
        credential: &Credential,
        named: RequestRef<'_>,
    ) -> Result<Option<CertificateId>, Failure> {
        use IdempotencyOutcome as O;
        let certificate = match self.outcome_of(credential, named).await? {
            Some(O::Pending { certificate } | O::Issued { certificate } | O::Abandoned { certificate }) => certificate,
            Some(O::Held | O::Refused { .. }) | None => return Ok(None),
        };
        Ok(self.visible(credential, certificate).await?.map(|record| record.id))
    }

    async fn outcome_of(
        &self,
        credential: &Credential,
        named: RequestRef<'_>,
    ) -> Result<Option<IdempotencyOutcome>, Failure> {
        let RequestRef { kind, namespace, uid } = named;
        let only = || credential.namespaces().filter(|own| own.len() == 1)?.first().map(String::as_str);
        let namespace = namespace.or_else(only);
        if !credential.speaks_for(namespace) {
            return Ok(None);
        }
        // What cannot be a request's name names none.
        let Ok(key) = IdempotencyKey::new(kind.door(), &whose(credential, namespace), uid) else { return Ok(None) };
        Ok(self.store().idempotency(&key).await?.map(|held| held.value.outcome))
    }

    /// A certificate that the credential's own cluster and namespaces asked for.
    async fn visible(
        &self,
        credential: &Credential,
        certificate: CertificateId,
    ) -> Result<Option<CertificateRecord>, Failure> {
        let record = self.store().certificate(certificate).await?.map(|found| found.value);
        Ok(record.filter(|record| {
            record.origin.as_ref().is_some_and(|origin| {
                origin.cluster == credential.cluster().name && credential.speaks_for(origin.namespace.as_deref())
            })
        }))
    }

    async fn signed_for(&self, certificate: CertificateId, chain: IssuedChain) -> Result<Signed, Failure> {
        let gone = || Failure::Internal(format!("the record of certificate {certificate} is gone"));
        let record = self.store().certificate(certificate).await?.ok_or_else(gone)?.value;
        let again = "make a new request for another one";
        if let Some(revocation) = record.revocation {
            let why = format!("the certificate of this request was revoked at {}; {again}", revocation.at);
            return Ok(Signed::Ended { why });
        }
        if self.now().whole_seconds() > record.validity.not_after() {
            let why = format!("the certificate of this request ended at {}; {again}", record.validity.not_after());
            return Ok(Signed::Ended { why });
        }
        let (_, intent) = self.intent_of(&record).await?;
        let warnings = intent.decision.warnings.iter().map(|warning| {
            if warning.because.is_empty() {
                format!("rule {} warns", warning.rule)
            } else {
                format!("rule {} warns: {}", warning.rule, warning.because)
            }
        });
        let settings = self.settings();
        let anchor = settings
            .authority(&record.authority)
            .and_then(|authority| chain_above(authority, record.chain, &chain.certificate))
            .map(|above| (above.is_self_signed(), above.anchor().map(|anchor| anchor.der().to_vec())));
        let IssuedChain { certificate, mut issuers } = chain;
        let root = match anchor {
            // An issuer that is its own root is no intermediate.
            Some((true, _)) => issuers.pop(),
            Some((false, anchor)) => anchor.or_else(|| issuers.last().cloned()),
            None => None,
        };
        let chain = IssuedChain { certificate, issuers };
        let root = root.unwrap_or_default();
        Ok(Signed::Issued(Box::new(SignedFor { record, chain, root, warnings: warnings.collect() })))
    }

    /// Refuses a controller that was followed by another one.
    fn fence(&self, credential: &Credential, term: Option<&Term>) -> Option<SignRejection> {
        let term = term?;
        // A credential with limits of its own cannot shut out that of the whole cluster.
        let whose = if credential.is_the_whole_clusters() {
            credential.cluster().name.clone()
        } else {
            format!("{}\n{}", credential.cluster().name, credential.name())
        };
        self.ask_in(term, whose).err().map(|over| match over {
            Over::Term(seen) => SignRejection::StaleTerm { term: term.number, seen },
            Over::Lease => SignRejection::StaleLease,
        })
    }
}

/// The CSR, and what it and its object ask for beside names and key.
fn read(kind: ObjectKind, csr: &[u8], usages: &[String], is_ca: bool) -> Result<(Csr, Content), SignRejection> {
    let csr = Csr::from_der_by(csr, CsrRules::Object)?;
    let words: Vec<&str> = usages.iter().map(String::as_str).collect();
    if kind == ObjectKind::PodCertificateRequest {
        let content = Content { usages: Usages::from_words(words)?, is_ca, ..Content::default() };
        return Ok((csr, content));
    }
    let content = Content::of_object(&csr, Usages::from_words(words)?, is_ca)?;
    Ok((csr, content))
}

/// Whose UIDs a request's UID is one of. No cluster's name has a slash in it.
fn whose(credential: &Credential, namespace: Option<&str>) -> String {
    let cluster = &credential.cluster().name;
    namespace.map_or_else(|| cluster.clone(), |namespace| format!("{cluster}/{namespace}"))
}

fn requester(credential: &Credential, kind: ObjectKind, reported: Reported) -> Requester {
    // One of several is the controller's choice, and so its report.
    let proves_it = credential.namespaces().is_some_and(|namespaces| namespaces.len() == 1);
    let proven = Claims {
        cluster: Some(credential.cluster().name.clone()),
        namespace: reported.namespace.clone().filter(|_| proves_it),
        service_account: credential.own_account().map(str::to_owned),
        ..Claims::default()
    };
    let reported = if credential.is_trusted_to_report() { reported } else { reported.of_a_tenant() };
    Requester { proven, reported: Some(Arc::new(reported)), ..Requester::at(kind.door()) }
}
