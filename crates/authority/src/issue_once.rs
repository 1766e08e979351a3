//! Issuing for doors whose requesters name their requests themselves: asking again under the same name is harmless, and
//! leads to the same certificate.

use std::sync::Arc;

use chancery_acme::{account::TenantName, id::CertificateId, order::ProfileName};
use chancery_ledger::leaf::{EncodeError, MAX_LEAF_BYTES};
use chancery_pki::{Content, Lifetime, NameSet, PublicKey, SerialNumber, Timestamp};
use chancery_policy::Requester;

use crate::{
    changes::{Changes, Put},
    failure::{Failure, Refusal},
    issue::{IntentContext, IssueRejection, IssueRequest, IssuedChain, PermitError, Permitted, Recorded, sha256},
    office::{ATTEMPTS, Office},
    ports::CommitError,
    records::{
        AuthorityId, CertificateState, IdempotencyKey, IdempotencyOutcome, IdempotencyRecord, NotAnIdempotencyKey,
        Version,
    },
};

/// What a door asks for whose requester names its requests. The door has proved who asks.
#[derive(Debug, Clone)]
pub struct IssueOnce {
    /// Whose request it is: the credential's, or that of the cluster and namespace that it speaks for. With the door and
    /// `uid` it is the request's name.
    pub credential: String,
    /// The requester's own identifier of the request.
    pub uid: String,
    /// By which authority.
    pub authority: AuthorityId,
    /// Under which profile.
    pub profile: ProfileName,
    /// The profile that it names itself; none where the door chose one.
    pub asked_profile: Option<ProfileName>,
    /// Who asks.
    pub requester: Requester,
    /// Whose the certificate is, where tenants are told apart.
    pub tenant: Option<TenantName>,
    /// What it shall name.
    pub names: NameSet,
    /// Its key.
    pub public_key: PublicKey,
    /// From when on it shall hold, if that is asked for.
    pub not_before: Option<Timestamp>,
    /// Until when, if that is asked for.
    pub not_after: Option<Timestamp>,
    /// How long it shall live, to the second, if that is asked for instead of times: a request that is repeated later
    /// still asks for the same.
    pub lifetime: Option<Lifetime>,
    /// What is asked for beside; the default is as the profile says.
    pub content: Content,
}

/// What a request has led to, be it asked for the first time or again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    /// The certificate.
    Issued {
        /// Which.
        certificate: CertificateId,
        /// It, with its chain.
        chain: IssuedChain,
    },
    /// Its intent is recorded. Ask again; the answer follows within [`settle_after`](crate::Limits::settle_after).
    UnderWay {
        /// Which.
        certificate: CertificateId,
    },
}

/// Why nothing is issued for a request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IssueOnceRejection {
    /// It cannot be named so.
    #[error(transparent)]
    Name(#[from] NotAnIdempotencyKey),
    /// Something else was asked for under its name.
    #[error("the request \"{uid}\" was made before and asked for something else; give a new request a new identifier")]
    OtherRequest {
        /// The identifier.
        uid: String,
    },
    /// Policy, profile or issuer say no.
    #[error(transparent)]
    Issue(IssueRejection),
    /// Times and a life are asked for at once.
    #[error("both a lifetime and a first or last second are asked for; ask for one of them")]
    LifetimeTwice,
    /// Its record would not fit into the ledger.
    #[error(
        "the ledger's record of the certificate would have {octets} octets, and it keeps {max} at most. Ask for fewer or \
         shorter names, or for a shorter subject"
    )]
    RecordTooLarge {
        /// Octets of the record.
        octets: usize,
        /// Octets that are kept.
        max: usize,
    },
    /// The certificate would not fit where such requesters keep it.
    #[error(
        "the certificate would have {leaf} octets in PEM, and {chain} with its issuers; at most {LEAF_PEM_MAX} and {CHAIN_PEM_MAX} are read by cert-manager. Ask for fewer or shorter names"
    )]
    TooLarge {
        /// Octets of the certificate.
        leaf: usize,
        /// Octets of the certificate and its issuers.
        chain: usize,
    },
}

/// Octets of a TBSCertificate up to which its record fits into the ledger whatever else stands in it: the names are in it
/// too, and the rest is bounded.
const SMALL_TBS: usize = 8_192;
/// Longest certificate in PEM, in octets, that cert-manager reads (its `internal/pem`).
const LEAF_PEM_MAX: usize = 36_500;
/// Longest chain in PEM, likewise.
const CHAIN_PEM_MAX: usize = 95_000;

/// Leave to try under a request's name: nothing is issued or under way under it. Made by the lookup alone.
pub(crate) struct Attempt {
    key: IdempotencyKey,
    request: [u8; 32],
    /// Counted from 1.
    number: u32,
    over: Option<Version>,
}

impl Attempt {
    /// What commit 1 writes: of two at once the version lets one through.
    pub(crate) fn pending(&self, certificate: CertificateId, at: Timestamp) -> Put<IdempotencyRecord> {
        let Self { key, request, number, over } = self;
        let outcome = IdempotencyOutcome::Pending { certificate };
        let value = IdempotencyRecord { key: key.clone(), request: *request, attempt: *number, outcome, at };
        Put { replaces: *over, value }
    }
}

/// What a look at a request's name says.
enum Known {
    Answered(Once),
    Untried(Attempt),
}

impl IssueOnce {
    /// SHA-256 of all that is asked for, each part with its length. What this server decided about it (authority, default
    /// profile, tenant, what of it is proven) may change with a reload, and the request stays the same.
    fn digest(&self) -> [u8; 32] {
        let Self {
            credential: _,
            uid: _,
            authority: _,
            profile: _,
            asked_profile,
            requester,
            tenant: _,
            names,
            public_key,
            not_before,
            not_after,
            lifetime,
            content,
        } = self;
        let time = |time: Option<Timestamp>| time.map(|time| time.unix_millis().to_string()).unwrap_or_default();
        let reported = requester.reported.as_deref();
        let (namespace, certificate) =
            reported.map_or((None, None), |said| (said.namespace.clone(), said.certificate.clone()));
        let mut parts = vec![
            asked_profile.clone().unwrap_or_default(),
            namespace.unwrap_or_default(),
            certificate.unwrap_or_default(),
            time(*not_before),
            time(*not_after),
            lifetime.map(|lifetime| lifetime.seconds().to_string()).unwrap_or_default(),
            content.canonical(),
        ];
        parts.extend(names.iter().map(ToString::to_string));
        let mut bytes = public_key.digest().0.to_vec();
        for part in parts {
            bytes.extend_from_slice(format!("{}:{part}", part.len()).as_bytes());
        }
        sha256(&bytes)
    }
}

impl Office {
    /// Issues a certificate for a request that its requester named, once. Asked again, it answers with the certificate
    /// that the request led to; only what was given up with an unknown outcome is tried again, under a new serial.
    ///
    /// # Errors
    ///
    /// An [`IssueOnceRejection`], or [`Failure`]; then nothing was handed out, and asking again is harmless.
    pub async fn issue_once(&self, request: IssueOnce) -> Result<Once, Refusal<IssueOnceRejection>> {
        let office = self.clone();
        // Whoever asks may go away in the middle, and ask again.
        let work = self.work(async move {
            match office.record_once(&request).await? {
                Ok(recorded) => Ok(office.sign_once(recorded).await),
                Err(known) => Ok(known),
            }
        })?;
        work.await.unwrap_or_else(|_| Err(Failure::Internal("an issuance ended without a result".to_owned()).into()))
    }

    /// From the lookup to commit 1; or what the request has led to before.
    async fn record_once(&self, request: &IssueOnce) -> Result<Result<Recorded, Once>, Refusal<IssueOnceRejection>> {
        use IssueOnceRejection as R;
        let settings = self.settings();
        let IssueOnce { credential, uid, requester, names, .. } = request;
        if request.lifetime.is_some() && (request.not_before.is_some() || request.not_after.is_some()) {
            return Err(Refusal::Rejected(R::LifetimeTwice));
        }
        let key = IdempotencyKey::new(requester.door, credential, uid)
            .map_err(|rejection| Refusal::Rejected(rejection.into()))?;
        for _ in 0..ATTEMPTS {
            let attempt = match self.known(&key, request.digest()).await? {
                Known::Answered(once) => return Ok(Err(once)),
                Known::Untried(attempt) => attempt,
            };
            let (authority, profile) = settings.offered(&request.authority, &request.profile)?;
            let now = self.issuing_time()?;
            let asked = IssueRequest {
                authority: Arc::clone(authority),
                profile: Arc::clone(profile),
                requester: requester.clone(),
                names,
                key: &request.public_key,
                not_before: request.not_before,
                not_after: request.not_after,
                // Asked or not, it is granted whole or refused: nobody here would notice that it was cut.
                lifetime: request.lifetime.or_else(|| {
                    (request.not_before.is_none() && request.not_after.is_none()).then(|| profile.lifetime())
                }),
                must_staple: false,
                content: &request.content,
            };
            let permitted = match Self::ask_policy(&settings, || Permitted::ask(&settings, asked, now)) {
                Ok(permitted) => permitted,
                Err(PermitError::Rejected(rejection)) => {
                    if let Some(decision) = rejection.policy() {
                        // Without what is reported, which a tenant can vary: refusals that are the same leave one record.
                        let who = Requester { reported: None, ..requester.clone() }.to_string();
                        let tenant = request.tenant.as_ref();
                        self.record_refusal(&who, tenant, requester, decision, now).await;
                    }
                    return Err(Refusal::Rejected(R::Issue(rejection)));
                }
                Err(PermitError::Failed(failure)) => return Err(failure.into()),
            };
            let linted = permitted.lint(SerialNumber::from_random(self.entropy().octets16()))?;
            let (leaf, chain) = linted.pem_octets();
            if leaf > LEAF_PEM_MAX || chain > CHAIN_PEM_MAX {
                return Err(Refusal::Rejected(R::TooLarge { leaf, chain }));
            }
            let context = IntentContext {
                changes: Changes::new(),
                account: None,
                account_is_new: false,
                order: None,
                replaces: None,
                tenant: request.tenant.clone(),
                idempotency: Some(attempt),
                preauthorized_by: None,
                settle_at: now.after(settings.limits.settle_after),
            };
            // What cannot be recorded is refused once, and not tried for ever.
            if linted.tbs_octets() > SMALL_TBS
                && let Err(EncodeError::TooLarge { size, .. }) = linted.intent(&context).encode()
            {
                return Err(Refusal::Rejected(R::RecordTooLarge { octets: size, max: MAX_LEAF_BYTES }));
            }
            match linted.record(self, context).await {
                Ok(recorded) => return Ok(Ok(recorded)),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }

    /// From the recorded intent to the certificate.
    async fn sign_once(&self, recorded: Recorded) -> Once {
        let certificate = recorded.certificate_id();
        let signed = match recorded.sign(self).await {
            Ok(signed) => signed,
            Err(error) => {
                tracing::error!(certificate.id = %certificate, %error, "an intent was not signed; its job settles it");
                return Once::UnderWay { certificate };
            }
        };
        match signed.release(self, Changes::new()).await {
            Ok(released) => Once::Issued { certificate, chain: released.chain },
            Err(error) => {
                tracing::error!(certificate.id = %certificate, %error, "a signature was not stored; its job settles it");
                Once::UnderWay { certificate }
            }
        }
    }

    /// What is known under a request's name.
    async fn known(&self, key: &IdempotencyKey, request: [u8; 32]) -> Result<Known, Refusal<IssueOnceRejection>> {
        let untried = |number, over| Known::Untried(Attempt { key: key.clone(), request, number, over });
        let Some(held) = self.store().idempotency(key).await? else { return Ok(untried(1, None)) };
        if held.value.request != request {
            return Err(Refusal::Rejected(IssueOnceRejection::OtherRequest { uid: key.uid.clone() }));
        }
        let again = || untried(held.value.attempt.saturating_add(1), Some(held.version));
        let certificate = match &held.value.outcome {
            IdempotencyOutcome::Pending { certificate } | IdempotencyOutcome::Issued { certificate } => *certificate,
            // Nothing was signed for the first two, and policy is asked again. What the last may have signed has a
            // serial that is never used again.
            IdempotencyOutcome::Refused { .. } | IdempotencyOutcome::Held | IdempotencyOutcome::Abandoned { .. } => {
                return Ok(again());
            }
        };
        // Where its record is gone, its time is over.
        let Some(record) = self.store().certificate(certificate).await? else { return Ok(again()) };
        Ok(match (self.issued_chain(&record.value).await?, record.value.state) {
            (Some(chain), _) => Known::Answered(Once::Issued { certificate, chain }),
            // Settled between the two looks.
            (None, CertificateState::PossiblyIssued { .. }) => again(),
            (None, CertificateState::Intended { .. } | CertificateState::Issued { .. }) => {
                Known::Answered(Once::UnderWay { certificate })
            }
        })
    }
}
