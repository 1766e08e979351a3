//! The one path to a signature, used by every door: a row of types, each made only from the one before.
//!
//! `Permitted` (policy was asked here) → `Linted` → `Recorded` (commit 1: the intent is durable)
//! → `Signed` (outside any commit; checked) → `Released` (commit 2; what a door can hand out).
//! From `Recorded` on a crash leaves evidence, and the settlement job owes an end to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use chancery_acme::{
    account::{Account, TenantName},
    id::{CertificateId, OrderId},
};
use chancery_ledger::Leaf;
use chancery_pki::{
    Content, Lifetime, Name, NameSet, PublicKey, SerialNumber, Timestamp, Validity,
    certificate::{self, Certificate},
    chain::{Chain, IssuerRefusal, IssuingCertificate, RefusedName},
    distinguished_name::{AttributeType, RequestedSubject},
    lint,
    profile::{self, Profile, ProfileRejection, ValidityRejection},
    tbs::{LeafRequest, Tbs},
};
use chancery_policy::{Decision, Outcome, Requester, SubjectAttribute};

use crate::{
    changes::{Change, Changes, Committed, Put},
    failure::Failure,
    issue_once::Attempt,
    leaves,
    office::Office,
    ports::{CommitError, NotApplied, Purpose, SignerError, ToBeSigned},
    records::{
        CertificateRecord, CertificateState, ClusterOrigin, EabKeyId, IdempotencyOutcome, IdempotencyRecord, JobKind,
        LeafRef, Retention, Version, Versioned,
    },
    settings::{Authority, Settings},
};

/// How often a busy signer is asked again, and how long between.
const BUSY_SIGNER_ATTEMPTS: u32 = 50;
const BUSY_SIGNER_PAUSE: Duration = Duration::from_millis(100);
/// Longest signature, in octets: that of an RSA key of 4096 bits.
const SIGNATURE_OCTETS_MAX: usize = 512;
/// How often a commit for which the store was too busy is sent again.
const BUSY_STORE_ATTEMPTS: u32 = 50;
const BUSY_STORE_PAUSE: Duration = Duration::from_millis(100);

/// What a door asks for, with its own proof of who asks.
pub(crate) struct IssueRequest<'a> {
    pub(crate) authority: Arc<Authority>,
    pub(crate) profile: Arc<Profile>,
    pub(crate) requester: Requester,
    pub(crate) names: &'a NameSet,
    pub(crate) key: &'a PublicKey,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) not_after: Option<Timestamp>,
    /// How long it shall live, where that is asked for instead of times.
    pub(crate) lifetime: Option<Lifetime>,
    pub(crate) must_staple: bool,
    /// What is asked for beside.
    pub(crate) content: &'a Content,
}

/// Why nothing is issued: the requester's side.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IssueRejection {
    /// Policy says no.
    #[error("{}", .0.explain())]
    Policy(Box<Decision>),
    /// Names are refused, and not by policy alone.
    #[error(transparent)]
    Names(#[from] RefusedNames),
    /// The profile makes no certificate for such a key.
    #[error(transparent)]
    Profile(ProfileRejection),
    /// The key is on the block list.
    #[error("this key is on the block list; make a new one")]
    BlockedKey,
    /// The validity cannot be granted.
    #[error(transparent)]
    Validity(ValidityRejection),
}

/// Most names that the one sentence of a refusal gives the reasons for; the subproblems have them all.
const TOLD_NAMES: usize = 3;

/// Names that are refused, each with all that is said against it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("refused: {}", self.listed())]
pub struct RefusedNames {
    /// What policy says, where it refuses some.
    pub policy: Option<Box<Decision>>,
    /// What the profile, the issuing certificates and the challenge types say.
    pub others: Vec<NameRefusal>,
}

/// A name that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRefusal {
    /// The name.
    pub name: Name,
    /// By what, and why.
    pub because: String,
}

impl RefusedNames {
    /// Each name once, with all that is said against it, in the names' order.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<&Name, Vec<String>> {
        let Self { policy, others } = self;
        let mut told: BTreeMap<&Name, Vec<String>> = BTreeMap::new();
        if let Some(decision) = policy {
            for (name, why) in decision.refusals() {
                told.entry(name).or_default().push(format!("policy: {why}{}", decision.way_out()));
            }
        }
        for NameRefusal { name, because } in others {
            told.entry(name).or_default().push(because.clone());
        }
        told
    }

    /// The first few names, each with all that is said against it.
    #[must_use]
    pub fn listed(&self) -> String {
        few_told(self.by_name().into_iter().map(|(name, why)| (name, why.join(", "))))
    }
}

/// The first few of these names with their reasons, and how many more there are.
#[must_use]
pub fn few_told<'a>(names: impl IntoIterator<Item = (&'a Name, String)>) -> String {
    let mut names = names.into_iter();
    let mut told: Vec<String> = names.by_ref().take(TOLD_NAMES).map(|(name, why)| format!("{name}: {why}")).collect();
    match names.count() {
        0 => {}
        more => told.push(format!("and {more} more")),
    }
    told.join("; ")
}

/// What policy's conditions see of the content of a certificate.
pub(crate) struct ContentFacts {
    usages: Vec<String>,
    is_ca: bool,
    subject: String,
    attributes: Vec<SubjectAttribute>,
}

impl ContentFacts {
    pub(crate) fn of(profile: &Profile, content: &Content) -> Self {
        let subject = content.subject.as_ref().map(ToString::to_string).unwrap_or_default();
        let attribute = |(kind, value): (&AttributeType, &str)| SubjectAttribute {
            kind: kind.clone(),
            value: value.to_owned(),
            needs_no_grant: profile.gives_attribute(kind, value),
        };
        let attributes = content.subject.iter().flat_map(RequestedSubject::attributes).map(attribute).collect();
        Self { usages: profile.usages_in_words(content), is_ca: content.is_ca, subject, attributes }
    }

    pub(crate) fn for_policy(&self) -> chancery_policy::Content<'_> {
        let Self { usages, is_ca, subject, attributes } = self;
        chancery_policy::Content { usages, is_ca: *is_ca, subject, attributes }
    }
}

/// What profile and issuing certificates say against these names, all of them looked at. A subject that the issuer is
/// not permitted is said against the name that it was made of.
///
/// # Errors
///
/// [`Failure::Unavailable`] where such a certificate could not be issued whatever its names were.
pub(crate) fn names_refused(
    profile: &Profile,
    chain: &Chain,
    names: &NameSet,
    content: &Content,
    now: Timestamp,
) -> Result<Vec<NameRefusal>, Failure> {
    let by_profile = profile.check_names(names).err().map(|rejection| rejection.refused_names()).unwrap_or_default();
    let mut refused: Vec<NameRefusal> =
        by_profile.into_iter().map(|(name, because)| NameRefusal { name, because }).collect();
    match chain.permits(names, profile, content, now) {
        Ok(()) => {}
        Err(IssuerRefusal::Names { refused: by_issuer }) => {
            let told = |name: RefusedName| NameRefusal { because: name.because(), name: name.name };
            refused.extend(by_issuer.into_iter().map(told));
        }
        Err(refusal @ IssuerRefusal::OwnName { .. }) => {
            let name = profile.name_in_subject(names, content).or_else(|| names.iter().next()).cloned();
            refused.extend(name.map(|name| NameRefusal { name, because: refusal.to_string() }));
        }
        Err(refusal @ IssuerRefusal::Subject { .. }) => match profile.name_in_subject(names, content) {
            Some(name) => refused.push(NameRefusal { name: name.clone(), because: refusal.to_string() }),
            None => return Err(not_issuable(profile, &refusal)),
        },
        // Nothing is wrong with what is configured: the requester asked for more than there is to give.
        Err(refusal @ (IssuerRefusal::ExtendedKeyUsage { .. } | IssuerRefusal::PathLength { .. }))
            if content.is_ca || !content.usages.extended_key_usages().is_empty() =>
        {
            let name = names.iter().next().cloned();
            refused.extend(name.map(|name| NameRefusal { name, because: refusal.to_string() }));
        }
        Err(
            refusal @ (IssuerRefusal::NotYetValid { .. }
            | IssuerRefusal::Expired { .. }
            | IssuerRefusal::PathLength { .. }
            | IssuerRefusal::ExtendedKeyUsage { .. }),
        ) => return Err(not_issuable(profile, &refusal)),
    }
    Ok(refused)
}

fn not_issuable(profile: &Profile, refusal: &IssuerRefusal) -> Failure {
    Failure::Unavailable(format!("profile {} cannot be issued: {refusal}", profile.name()))
}

impl IssueRejection {
    /// What policy refused, where it did.
    pub(crate) fn policy(&self) -> Option<&Decision> {
        match self {
            Self::Policy(decision) => Some(decision),
            Self::Names(RefusedNames { policy, others: _ }) => policy.as_deref(),
            Self::Profile(_) | Self::BlockedKey | Self::Validity(_) => None,
        }
    }
}

/// Why nothing is issued.
#[derive(Debug, Clone)]
pub(crate) enum PermitError {
    Rejected(IssueRejection),
    Failed(Failure),
}

/// A request that policy, profile and issuer allow. Made by [`Permitted::ask`] alone.
pub(crate) struct Permitted {
    authority: Arc<Authority>,
    chain: Arc<Chain>,
    /// The chain's place among the authority's.
    place: u16,
    profile: Arc<Profile>,
    requester: Requester,
    names: NameSet,
    key: PublicKey,
    validity: Validity,
    /// The profile would have it live longer than the chain above it.
    cut_by_issuer: bool,
    must_staple: bool,
    content: Content,
    decision: Decision,
    at: Timestamp,
}

impl Permitted {
    /// Asks policy, profile and issuing certificate, all facts known.
    pub(crate) fn ask(settings: &Settings, request: IssueRequest<'_>, now: Timestamp) -> Result<Self, PermitError> {
        use IssueRejection as R;
        let reject = |rejection| Err(PermitError::Rejected(rejection));
        let IssueRequest {
            authority,
            profile,
            requester,
            names,
            key,
            not_before,
            not_after,
            lifetime,
            must_staple,
            content,
        } = request;
        let Some((place, chain)) = authority.current(now).map(|(place, chain)| (place, Arc::clone(chain))) else {
            return Err(PermitError::Failed(Failure::Unavailable(format!(
                "no issuing certificate of authority {} is valid now",
                authority.id
            ))));
        };
        let fits = profile
            .check_key(key)
            .and_then(|()| profile.check_must_staple(must_staple))
            .and_then(|()| profile.check_content(content, names, key.kind()));
        if let Err(rejection) = fits {
            return reject(R::Profile(rejection));
        }
        if settings.block_list.check(key).is_err() {
            return reject(R::BlockedKey);
        }
        let granted = match lifetime {
            None => profile.validity(now, (not_before, not_after), chain.not_after()),
            Some(asked) => profile.validity_of_life(now, asked, chain.not_after()),
        };
        let granted = match granted {
            Ok(granted) => granted,
            Err(rejection) => return reject(R::Validity(rejection)),
        };
        let (validity, cut_by_issuer) = (granted.validity(), granted.is_cut_by_issuer());
        let lifetime = Lifetime::from_seconds(validity.lifetime_seconds()).ok();
        let facts = ContentFacts::of(&profile, content);
        let decision = settings.policy.evaluate(&chancery_policy::Request {
            requester: &requester,
            names,
            profile: profile.name(),
            key: Some(key.kind()),
            lifetime,
            content: facts.for_policy(),
            now,
        });
        let refused_by_policy = match decision.outcome {
            Outcome::Allow => false,
            // All facts are there; what is still undecided is not allowed.
            Outcome::Deny | Outcome::Hold | Outcome::Undecided => true,
        };
        let others = match names_refused(&profile, &chain, names, content, now) {
            Ok(others) => others,
            Err(failure) => return Err(PermitError::Failed(failure)),
        };
        match (refused_by_policy, others.is_empty()) {
            (false, true) => {}
            (true, true) => return reject(R::Policy(Box::new(decision))),
            (by_policy, false) => {
                let policy = by_policy.then(|| Box::new(decision));
                return reject(R::Names(RefusedNames { policy, others }));
            }
        }
        Ok(Self {
            names: names.clone(),
            key: key.clone(),
            validity,
            cut_by_issuer,
            authority,
            chain,
            place,
            profile,
            requester,
            must_staple,
            content: content.clone(),
            decision,
            at: now,
        })
    }

    /// Builds the TBS from order, profile and key alone, and lints it.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`]: what a lint finds in what we built is our fault.
    pub(crate) fn lint(self, serial: SerialNumber) -> Result<Linted, Failure> {
        let crl_shard = self.profile.crl_shard(serial);
        let request = LeafRequest {
            names: &self.names,
            profile: &self.profile,
            content: &self.content,
            key: &self.key,
            validity: self.validity,
            serial,
            must_staple: self.must_staple,
            crl_shard,
        };
        let tbs = Tbs::build(&request, self.chain.issuing(), self.authority.algorithm)
            .map_err(|error| Failure::Internal(format!("the certificate could not be built: {error}")))?;
        let findings = lint::lint(&tbs, &request, self.chain.issuing());
        if let Some(finding) = findings.first() {
            return Err(Failure::Internal(format!("lint refused what we built for {}: {finding}", self.names)));
        }
        Ok(Linted { serial, crl_shard, tbs, permitted: self })
    }
}

/// A certificate that lints let pass, unsigned. Made by [`Permitted::lint`] alone.
pub(crate) struct Linted {
    permitted: Permitted,
    serial: SerialNumber,
    crl_shard: Option<u16>,
    tbs: Tbs,
}

/// What belongs to the record of an intent beside the certificate itself.
pub(crate) struct IntentContext<'a> {
    /// The door's own changes: the order, the account.
    pub(crate) changes: Changes,
    pub(crate) account: Option<&'a Account>,
    /// The account enters the ledger with its first intent.
    pub(crate) account_is_new: bool,
    pub(crate) order: Option<OrderId>,
    /// The certificate that it replaces (RFC 9773 §5).
    pub(crate) replaces: Option<CertificateId>,
    pub(crate) tenant: Option<TenantName>,
    /// Leave to try under the request's name, where its requester named it.
    pub(crate) idempotency: Option<Attempt>,
    /// The EAB key by which nobody had to show control of the names.
    pub(crate) preauthorized_by: Option<EabKeyId>,
    pub(crate) settle_at: Timestamp,
}

impl Linted {
    /// The certificate's identity: its serial number.
    pub(crate) fn certificate_id(&self) -> CertificateId {
        certificate_id(self.serial)
    }

    /// How long leaf and chain would be in PEM, at most: the leaf alone, and it with its issuers.
    pub(crate) fn pem_octets(&self) -> (usize, usize) {
        let longest_signature = vec![0; SIGNATURE_OCTETS_MAX];
        let certificate = self.tbs.assemble(&longest_signature).unwrap_or_default();
        let leaf = certificate::to_pem([certificate.as_slice()]).len();
        let issuers = issuers(&self.permitted.chain);
        (leaf, leaf + certificate::to_pem(issuers.iter().map(Vec::as_slice)).len())
    }

    fn record_value(&self, context: &IntentContext<'_>) -> CertificateRecord {
        let permitted = &self.permitted;
        CertificateRecord {
            id: self.certificate_id(),
            authority: permitted.authority.id.clone(),
            serial: self.serial,
            names: permitted.names.clone(),
            key: permitted.key.digest(),
            validity: permitted.validity,
            profile: permitted.profile.name().to_owned(),
            requester: permitted.requester.to_string(),
            account: context.account.map(|account| account.id),
            order: context.order,
            tenant: context.tenant.clone(),
            origin: ClusterOrigin::of(&permitted.requester),
            used_by: Vec::new(),
            chain: permitted.place,
            crl_shard: self.crl_shard,
            retention: match permitted.profile.retention() {
                profile::Retention::Full => Retention::Full,
                profile::Retention::Light => Retention::Light,
            },
            state: CertificateState::Intended { intent: LeafRef::InThisCommit(0) },
            revocation: None,
            replaced_by: None,
            recorded: permitted.at,
        }
    }

    /// How many octets the TBSCertificate has.
    pub(crate) fn tbs_octets(&self) -> usize {
        self.tbs.der().len()
    }

    /// What the ledger keeps of the intent.
    pub(crate) fn intent(&self, context: &IntentContext<'_>) -> Leaf {
        let record = self.record_value(context);
        let pending = context.idempotency.as_ref().map(|attempt| attempt.pending(record.id, record.recorded));
        self.intent_of(&record, pending.as_ref().map(|pending| &pending.value), context)
    }

    fn intent_of(
        &self,
        record: &CertificateRecord,
        idempotency: Option<&IdempotencyRecord>,
        context: &IntentContext<'_>,
    ) -> Leaf {
        leaves::intent(&leaves::IntentFacts {
            record,
            tbs: self.tbs.der(),
            profile: &self.permitted.profile,
            requester: &self.permitted.requester,
            decision: &self.permitted.decision,
            account: context.account,
            account_is_new: context.account_is_new,
            replaces: context.replaces,
            idempotency,
            preauthorized_by: context.preauthorized_by.as_ref(),
        })
    }

    /// Commit 1: the intent, its record, its settlement job and that its request is under way become durable together.
    pub(crate) async fn record(self, office: &Office, context: IntentContext<'_>) -> Result<Recorded, CommitError> {
        if let Some(why) = office.held().into_iter().next() {
            return Err(CommitError::NotApplied(NotApplied::Stopped(why.into())));
        }
        let record = self.record_value(&context);
        let pending = context.idempotency.as_ref().map(|attempt| attempt.pending(record.id, record.recorded));
        let leaf = self.intent_of(&record, pending.as_ref().map(|pending| &pending.value), &context);
        let mut changes = context.changes;
        // INVARIANT: the record says that its intent is leaf 0 of this commit.
        changes.leaves.insert(0, leaf);
        let idempotency = pending.as_ref().map(|pending| pending.value.clone());
        changes.items.extend(pending.map(Change::Idempotency));
        let changes = changes
            .with(Change::Certificate(Put::new(record.clone())))
            .schedule(JobKind::Settle { certificate: record.id }, context.settle_at);
        let Committed { version, first_leaf } = commit_patiently(office, changes).await?;
        let record =
            CertificateRecord { state: CertificateState::Intended { intent: LeafRef::At(first_leaf) }, ..record };
        Ok(Recorded { linted: self, record: Versioned { value: record, version }, intent: first_leaf, idempotency })
    }
}

/// A linted certificate whose intent is durable. Made by [`Linted::record`] alone.
pub(crate) struct Recorded {
    linted: Linted,
    record: Versioned<CertificateRecord>,
    intent: u64,
    /// What commit 1 wrote under the request's name.
    idempotency: Option<IdempotencyRecord>,
}

/// A signature was not had, or is not what it should be. What was recorded is settled by its job.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SigningError {
    #[error(transparent)]
    Signer(SignerError),
    #[error("what came back from the signer is not what was recorded: {0}")]
    Differs(String),
}

impl Recorded {
    /// The certificate's identity.
    pub(crate) const fn certificate_id(&self) -> CertificateId {
        self.record.value.id
    }

    /// The version under which commit 1 wrote its records.
    pub(crate) const fn version(&self) -> Version {
        self.record.version
    }

    /// Signs once; what comes back is checked against what was recorded. A signer that is busy
    /// or unavailable has not signed and is asked again for a while; an unknown outcome is final.
    pub(crate) async fn sign(self, office: &Office) -> Result<Signed, SigningError> {
        let authority = &self.linted.permitted.authority;
        let what = ToBeSigned::new(Purpose::Certificate, authority.algorithm, self.linted.tbs.der().to_vec());
        let mut attempt = 0;
        let signature = loop {
            match office.ports().signer.sign(&authority.key, &what).await {
                Ok(signature) => break signature,
                Err(SignerError::Busy | SignerError::Unavailable(_)) if attempt < BUSY_SIGNER_ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(BUSY_SIGNER_PAUSE).await;
                }
                Err(error) => return Err(SigningError::Signer(error)),
            }
        };
        let Linted { permitted, serial, crl_shard, tbs } = &self.linted;
        let der = tbs.assemble(&signature).map_err(|error| SigningError::Differs(error.to_string()))?;
        let request = LeafRequest {
            names: &permitted.names,
            profile: &permitted.profile,
            content: &permitted.content,
            key: &permitted.key,
            validity: permitted.validity,
            serial: *serial,
            must_staple: permitted.must_staple,
            crl_shard: *crl_shard,
        };
        certificate::verify_issued(&der, tbs, &request, permitted.chain.issuing())
            .map_err(|error| SigningError::Differs(error.to_string()))?;
        Ok(Signed { recorded: self, signature, der })
    }
}

/// A signed certificate that was read back and compared. Made by [`Recorded::sign`] alone.
pub(crate) struct Signed {
    recorded: Recorded,
    signature: Vec<u8>,
    der: Vec<u8>,
}

impl Signed {
    /// Commit 2: the signature and the state that speaks of it become durable together. `with`
    /// holds the door's own changes, such as the order's being valid.
    pub(crate) async fn release(self, office: &Office, with: Changes) -> Result<Released, CommitError> {
        let Recorded { linted, record, intent, idempotency } = self.recorded;
        let id = record.value.id;
        let at = office.now();
        let signature_leaf = leaves::signature(id, intent, &self.signature, sha256(&self.der), at);
        let mut changes = with;
        changes.leaves.insert(0, signature_leaf);
        changes.items.extend(idempotency.map(|pending| {
            let outcome = IdempotencyOutcome::Issued { certificate: id };
            Change::Idempotency(Put { replaces: Some(record.version), value: IdempotencyRecord { outcome, ..pending } })
        }));
        let issued = CertificateRecord {
            state: CertificateState::Issued { intent: LeafRef::At(intent), signature: LeafRef::InThisCommit(0) },
            ..record.value.clone()
        };
        let changes = changes
            .with(Change::Certificate(Put::over(&record, issued.clone())))
            .with(Change::Finish(JobKind::Settle { certificate: id }))
            // What is signed already must not be lost for want of space.
            .urgently();
        let committed = commit_patiently(office, changes).await?;
        let record = CertificateRecord {
            state: CertificateState::Issued {
                intent: LeafRef::At(intent),
                signature: LeafRef::At(committed.first_leaf),
            },
            ..issued
        };
        let permitted = linted.permitted;
        let issuers = issuers(&permitted.chain);
        tracing::info!(
            certificate.serial = %record.serial,
            certificate.names = %record.names,
            certificate.not_after = %record.validity.not_after(),
            requester = %record.requester,
            profile = %record.profile,
            rule = permitted.decision.rule().unwrap_or_default(),
            ledger.intent = intent,
            "issued"
        );
        if permitted.cut_by_issuer && office.count_cut_by_issuer(&record.authority, at) {
            tracing::warn!(
                authority.id = %record.authority,
                issuer.not_after = %permitted.chain.not_after(),
                certificate.serial = %record.serial,
                profile = %record.profile,
                "certificates end with their issuer, earlier than their profile would have it: have the root sign a new \
                 issuing certificate (chancery authority csr); this is said once an hour"
            );
        }
        Ok(Released { chain: IssuedChain { certificate: self.der, issuers } })
    }
}

/// A durable certificate: the only thing that a door can hand out. Made by [`Signed::release`] alone.
pub(crate) struct Released {
    pub(crate) chain: IssuedChain,
}

/// A certificate with the certificates above it, up to but without the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedChain {
    /// The certificate in DER.
    pub certificate: Vec<u8>,
    /// Its issuers in DER, nearest first.
    pub issuers: Vec<Vec<u8>>,
}

impl IssuedChain {
    /// As `application/pem-certificate-chain` (RFC 8555 §7.4.2, RFC 8555 §9.1).
    #[must_use]
    pub fn pem(&self) -> String {
        certificate::to_pem(std::iter::once(&self.certificate).chain(&self.issuers).map(Vec::as_slice))
    }
}

/// The certificates above one that this authority issued, see [`chain_above`].
pub(crate) fn issuers_of(authority: &Authority, chain: u16, certificate: &[u8]) -> Vec<Vec<u8>> {
    chain_above(authority, chain, certificate).map(|chain| issuers(chain)).unwrap_or_default()
}

/// The chain above a certificate that this authority issued: the one by which it was issued, or where that is gone or
/// stands elsewhere since, another one of the same issuer. None, where there is none: an authority may have kept its
/// name and got another key.
pub(crate) fn chain_above<'a>(authority: &'a Authority, chain: u16, certificate: &[u8]) -> Option<&'a Arc<Chain>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let above = |chain: &&Arc<Chain>| is_above(chain.issuing(), &certificate);
    let by_place = authority.chains.get(usize::from(chain)).filter(above);
    by_place.or_else(|| authority.chains.iter().find(above))
}

/// Whether an issuing certificate is the one above another: its name, and its key. What we issue names its issuer's
/// key, so that the signature is verified only where the same key stands under another identifier.
pub(crate) fn is_above(issuer: &IssuingCertificate, certificate: &Certificate) -> bool {
    certificate.issuer() == issuer.subject()
        && (certificate.authority_key_identifier() == Some(&issuer.key_identifier())
            || certificate.is_signed_by(issuer.key()))
}

fn issuers(chain: &Chain) -> Vec<Vec<u8>> {
    chain.certificates().iter().map(|certificate| certificate.der().to_vec()).collect()
}

/// A certificate's identity is its serial number.
pub(crate) fn certificate_id(serial: SerialNumber) -> CertificateId {
    CertificateId::from_random(serial.to_u128().to_be_bytes())
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Commits; where the store was too busy and kept nothing, sends the same again for a while.
async fn commit_patiently(office: &Office, changes: Changes) -> Result<Committed, CommitError> {
    for _ in 0..BUSY_STORE_ATTEMPTS {
        match office.commit(changes.clone()).await {
            Err(CommitError::NotApplied(NotApplied::Busy)) => tokio::time::sleep(BUSY_STORE_PAUSE).await,
            outcome => return outcome,
        }
    }
    office.commit(changes).await
}
