//! The index, made again from the ledger's bundles; what the journal holds is replayed over it.
//!
//! [`CLASSES`] says of each class of records whether its facts stand in leaves, or are forgotten and
//! with which effect. Retention applies by time: rows that pruning has dropped do not return.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chancery_acme::{
    account::{Account, AccountStatus, ExternalAccount, TermsAgreed},
    id::{AccountId, CertificateId, OrderId},
    order::{Order, OrderState},
    problem::{Problem, ProblemType},
};
use chancery_authority::{
    changes::{Change, Claim, Counter, Put},
    ports::CommitError,
    records::{
        ApiToken, ApiTokenId, AuthorityId, CertificateRecord, CertificateState, ClusterOrigin, EabKey as EabKeyRecord,
        EabKeyId, EabLimits, IdempotencyKey, IdempotencyOutcome, IdempotencyRecord, InForce, Job, JobKind, LeafRef,
        Retention, Revocation, RevocationReason, Version, Versioned,
    },
};
use chancery_ledger::{
    Walker,
    leaf::{
        Abandoned, AccountAgreed, AccountDeactivated, AccountFacts, AccountKeyChanged, ApiToken as ApiTokenLeaf,
        ApiTokenFacts, AuthorityInstalled, AuthorityRetired, CrlPublished, EabAction, EabGrant, EabKey, Intent,
        PolicyActivated, Restored, Revocation as RevocationLeaf, Signature, Terms,
    },
    verify::Visit,
};
use chancery_pki::{Name, NameSet, PublicKey, SpkiDigest, Timestamp, certificate::Certificate, tbs};
use chancery_policy::{NameLimits, NameScope};

use crate::{
    apply::{Base, Staging},
    disk::Disk,
    folder::Folder,
    index::{self, Index, Position},
    journal::{Damage, Origin, Results},
    key::{self, class},
    opening::OpenError,
    options::{Options, Retained},
    record::{self, OrderRow, Record},
    walk,
};

/// Rows that are held in memory before they go to the index.
const BATCH: usize = 4096;

/// Where the facts of a class of records come from after the index is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From leaves.
    Leaves,
    /// From other records: it is an index.
    Follows,
    /// In part from leaves; the rest is forgotten, with this effect.
    InPart(&'static str),
    /// From nowhere: forgotten, with this effect.
    Forgotten(&'static str),
}

/// Every class of records, and what a rebuild does for it.
pub const CLASSES: [(&str, u8, Source); 20] = [
    (
        "accounts",
        class::ACCOUNT,
        Source::InPart(
            "accounts that were never granted a certificate, and came without an EAB key, must register again; later \
             changes of contacts and keys are forgotten",
        ),
    ),
    ("account keys", class::ACCOUNT_KEY, Source::Follows),
    (
        "orders",
        class::ORDER,
        Source::InPart("orders without an intent must be placed again; the others say no more what they replace"),
    ),
    ("authorizations", class::AUTHORIZATION, Source::Forgotten("names must be validated again")),
    ("certificates", class::CERTIFICATE, Source::InPart("where they are used is reported anew")),
    ("certificates by name", class::CERTIFICATE_NAME, Source::Follows),
    ("certificates by key", class::CERTIFICATE_KEY, Source::Follows),
    ("certificates by end", class::CERTIFICATE_END, Source::Follows),
    ("certificates of an account", class::ACCOUNT_CERTIFICATE, Source::Follows),
    ("certificates of a cluster", class::CERTIFICATE_ORIGIN, Source::Follows),
    ("serials of other authorities", class::SERIAL, Source::Follows),
    (
        "idempotency outcomes",
        class::IDEMPOTENCY,
        Source::InPart("refusals and approvals that were waited for are asked for again"),
    ),
    ("API tokens", class::API_TOKEN, Source::Leaves),
    ("EAB keys", class::EAB_KEY, Source::Leaves),
    ("what is in force", class::IN_FORCE, Source::Leaves),
    ("CRL numbers", class::CRL_NUMBER, Source::Leaves),
    ("claims", class::CLAIM, Source::Leaves),
    (
        "counters",
        class::COUNTER,
        Source::InPart("strangers and pending orders are counted anew from what is left of them: nothing"),
    ),
    (
        "jobs",
        class::JOB,
        Source::InPart("settlements and prunings are owed again; a validation begins with the client's next order"),
    ),
    ("jobs by time", class::JOB_DUE, Source::Follows),
];

/// What a rebuild brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Leaves that were read from bundles.
    pub leaves: u64,
    /// Certificates' records.
    pub certificates: u64,
    /// Accounts.
    pub accounts: u64,
    /// Orders that led to an intent.
    pub orders: u64,
    /// Revocations.
    pub revocations: u64,
}

/// A rebuild ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    Damage(Damage),
    Refused(CommitError),
}

impl From<Damage> for Stopped {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

/// Makes a new index from the bundles, up to `position`, and puts it in the place of the old one.
pub(crate) fn rebuild_index(
    folder: &Folder,
    disk: &Arc<dyn Disk>,
    origin: Origin,
    position: u64,
    options: &Options,
) -> Result<(Index, Rebuilt), OpenError> {
    let lock_wait = options.lock_wait;
    let (old, new) = (folder.index(), folder.new_index());
    let io = |path: &std::path::Path| {
        let path = path.to_owned();
        move |error| OpenError::Io { path, error }
    };
    index::discard(&new).map_err(io(&new))?;
    let rebuilt = {
        let index = Index::open(disk, &new, lock_wait)?;
        let mut contents = walk::contents(folder, false)?;
        // What the journal holds is replayed as it was, not as its leaves tell.
        contents.rest.clear();
        let mut walker = Walker::default();
        // What a restore lost is no reason not to have the rest.
        walker.accept_every_restore();
        let mut rebuilder = Rebuilder::new(&index, options.retained);
        let walked = walk::walk(folder, &contents, &mut walker, &mut rebuilder);
        walked.map_err(|stopped| match stopped {
            Stopped::Damage(damage) => OpenError::IndexDamaged(damage),
            Stopped::Refused(error) => OpenError::Damaged(Damage::new(&folder.ledger(), error.to_string())),
        })?;
        let report = walker.finish();
        if let Some(finding) = report.findings.first() {
            // A row that cannot be made again may be the one by which a certificate is revoked.
            return Err(OpenError::Damaged(Damage::new(&folder.ledger(), finding.to_string())));
        }
        let Rebuilder { batch, mut rebuilt, .. } = rebuilder;
        rebuilt.leaves = contents.swept();
        index.sweep(&batch, Position { origin, sequence: position }).map_err(OpenError::IndexDamaged)?;
        rebuilt
    };
    index::discard(&old).map_err(io(&old))?;
    disk.rename(&new, &old).and_then(|()| disk.sync_folder(folder.root())).map_err(io(&new))?;
    Ok((Index::open(disk, &old, lock_wait)?, rebuilt))
}

impl Base for Index {
    fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, Damage> {
        Self::get(self, key)
    }
}

/// Hears leaves and writes the rows that follow from them.
pub(crate) struct Rebuilder<'a> {
    index: &'a Index,
    pub(crate) batch: Results,
    pub(crate) rebuilt: Rebuilt,
    /// The idempotency keys of issuances that are open.
    keys: HashMap<[u8; 16], IdempotencyKey>,
    /// The EAB keys that were made so far, those of earlier leaves too.
    eab_keys: BTreeSet<EabKeyId>,
    /// Leaves before this one are in the index already.
    from: u64,
    retained: Retained,
}

impl<'a> Rebuilder<'a> {
    pub(crate) fn new(index: &'a Index, retained: Retained) -> Self {
        Self::continuing(index, 0, retained)
    }

    /// Over an index that has everything before leaf `from`.
    pub(crate) fn continuing(index: &'a Index, from: u64, retained: Retained) -> Self {
        Self {
            index,
            batch: Results::new(),
            rebuilt: Rebuilt::default(),
            keys: HashMap::new(),
            eab_keys: BTreeSet::new(),
            from,
            retained,
        }
    }

    pub(crate) fn stage(&mut self, items: Vec<Change>) -> Result<(), Stopped> {
        // Whoever loaded a record before the index was lost is not there any more: any version will do.
        let staging = Staging::new(self.index, &self.batch, Version(0), 0, 0);
        let results = staging.apply(items).map_err(Stopped::Refused)?;
        self.batch.extend(results);
        if self.batch.len() >= BATCH {
            self.index.write(&self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }

    fn load<T: Record>(&self, key: &[u8]) -> Result<Option<Versioned<T>>, Stopped> {
        let found = match self.batch.get(key) {
            Some(staged) => staged.clone(),
            None => self.index.get(key)?,
        };
        let decoded = found.map(|value| record::decode(key, &value)).transpose();
        decoded.map_err(|error| Stopped::Damage(Damage::new(&self.index.file(), error.to_string())))
    }

    fn put<T: Record>(&self, key: &[u8], value: T) -> Result<Put<T>, Stopped> {
        let replaces = self.load::<T>(key)?.map(|held| held.version);
        Ok(Put { replaces, value })
    }

    /// What a leaf does to what is in force.
    fn in_force(&mut self, index: u64, change: impl FnOnce(&mut InForce)) -> Result<(), Stopped> {
        if index < self.from {
            return Ok(());
        }
        let held = self.load::<InForce>(&key::in_force())?;
        let replaces = held.as_ref().map(|held| held.version);
        let mut value = held.map(|held| held.value).unwrap_or_default();
        change(&mut value);
        self.stage(vec![Change::InForce(Put { replaces, value })])
    }

    fn authority(&self, index: u64, name: &str) -> Result<AuthorityId, Stopped> {
        name.parse().map_err(|_| self.damaged(index, "its authority's name is none"))
    }

    fn damaged(&self, index: u64, why: &str) -> Stopped {
        Stopped::Damage(Damage::new(&self.index.file(), format!("leaf {index}: {why}")))
    }

    /// What the end of an issuance does to order and idempotency outcome.
    fn end(
        &mut self,
        id: CertificateId,
        state: impl FnOnce(LeafRef) -> CertificateState,
        order_state: OrderState,
        outcome: IdempotencyOutcome,
    ) -> Result<(), Stopped> {
        let record_key = key::certificate(id);
        let Some(held) = self.load::<CertificateRecord>(&record_key)? else { return Ok(()) };
        let state = state(held.value.state.intent());
        let mut items = vec![
            Change::Certificate(self.put(&record_key, CertificateRecord { state, ..held.value.clone() })?),
            Change::Finish(JobKind::Settle { certificate: id }),
        ];
        if let Some(order) = held.value.order
            && let Some(Versioned { value: OrderRow { order: held, .. }, version }) = self.load(&key::order(order))?
        {
            let account = held.account;
            if let OrderState::Valid { .. } = order_state {
                // It goes with its certificate.
                items.push(Change::Finish(JobKind::PruneOrder { order }));
            }
            items.push(Change::Order(Put { replaces: Some(version), value: Order { state: order_state, ..held } }));
            items.push(Change::Count { counter: Counter::PendingOrders(account), by: -1, limit: None });
        }
        let is_over = self.retained.is_over(&held.value);
        if let Some(of) = self.keys.remove(&id.octets())
            && let Some(held) = self.load::<IdempotencyRecord>(&key::idempotency(&of))?
        {
            items.push(if is_over {
                Change::RemoveIdempotency(of, held.version)
            } else {
                Change::Idempotency(Put::over(&held, IdempotencyRecord { outcome, ..held.value.clone() }))
            });
        }
        self.stage(items)?;
        if is_over { self.prune(id) } else { Ok(()) }
    }

    /// An EAB key was made, or got other limits.
    fn eab_key_granted(&mut self, index: u64, id: EabKeyId, eab: &EabKey, grant: &EabGrant) -> Result<(), Stopped> {
        let EabGrant { accounts, directory, expires, names, owner, profiles, salt } = grant;
        let scope = names.as_ref().map(|of| NameScope::parse(&of.names, &of.wildcards, &of.addresses));
        let names = scope.transpose().map_err(|fault| self.damaged(index, &fault.to_string()))?;
        let held = self.load::<EabKeyRecord>(&key::eab_key(&id))?;
        // One that had the id of a new key before was dropped, without a leaf: it made no account, and was another key.
        let before = held.as_ref().map(|held| &held.value).filter(|_| eab.action == EabAction::Limited);
        let (created, revoked, accounts_stopped) =
            before.map_or((eab.at, None, None), |key| (key.created, key.revoked, key.accounts_stopped));
        let mut items = Vec::new();
        if held.is_none() {
            items.push(Change::Count { counter: Counter::EabKeys, by: 1, limit: None });
        }
        let limits = EabLimits { names, profiles: profiles.clone(), accounts: *accounts, expires: *expires };
        let (owner, directory) = (owner.clone(), directory.clone());
        let salt = *salt;
        let value = EabKeyRecord { id: id.clone(), salt, owner, directory, limits, created, revoked, accounts_stopped };
        items.push(Change::EabKey(Put { replaces: held.map(|held| held.version), value }));
        // Which looks by itself whether it is time.
        items.push(Change::Schedule(Job { kind: JobKind::PruneEabKey { key: id }, due: *expires, attempt: 0 }));
        self.stage(items)
    }

    fn eab_key_revoked(&mut self, id: &EabKeyId, at: Timestamp) -> Result<(), Stopped> {
        let Some(held) = self.load::<EabKeyRecord>(&key::eab_key(id))? else { return Ok(()) };
        if held.value.revoked.is_some() {
            return Ok(());
        }
        let revoked = EabKeyRecord { revoked: Some(at), ..held.value.clone() };
        // Pruning leaves no leaf: one that made no account may have been dropped long ago, and is again.
        let prune = Job { kind: JobKind::PruneEabKey { key: id.clone() }, due: at, attempt: 0 };
        self.stage(vec![Change::EabKey(Put::over(&held, revoked)), Change::Schedule(prune)])
    }

    /// The accounts that a key made were stopped, all of them; a job says so in the record of each.
    fn eab_accounts_stopped(&mut self, id: EabKeyId, at: Timestamp) -> Result<(), Stopped> {
        let Some(held) = self.load::<EabKeyRecord>(&key::eab_key(&id))? else { return Ok(()) };
        let stopped = EabKeyRecord { accounts_stopped: Some(at), ..held.value.clone() };
        let due = Timestamp::from_unix_millis(0);
        let stop = Job { kind: JobKind::StopAccounts { key: id }, due, attempt: 0 };
        self.stage(vec![Change::EabKey(Put::over(&held, stopped)), Change::Schedule(stop)])
    }

    /// An account was made with a key: it entered the ledger here.
    fn eab_key_used(&mut self, index: u64, id: EabKeyId, account: AccountId, eab: &EabKey) -> Result<(), Stopped> {
        let mut items = Vec::new();
        let account_key = match (self.load::<Account>(&key::account(account))?, &eab.account_facts) {
            (Some(held), _) => held.value.key.digest(),
            (None, Some(facts)) => {
                let key = PublicKey::from_spki(&facts.spki);
                let key = key.map_err(|error| self.damaged(index, &error.to_string()))?;
                let digest = key.digest();
                self.rebuilt.accounts += 1;
                items.push(Change::Account(Put::new(account_of(account, key, facts, eab.binding.as_ref()))));
                digest
            }
            (None, None) => return Ok(()),
        };
        let claim = Claim::EabUse { key_id: id.clone(), account_key };
        items.push(Change::Release(claim.clone()));
        items.push(Change::Claim(claim));
        items.push(Change::Count { counter: Counter::EabAccounts(id), by: 1, limit: None });
        self.stage(items)
    }

    fn account_stopped(&mut self, account: AccountId, at: Timestamp) -> Result<(), Stopped> {
        let Some(held) = self.load::<Account>(&key::account(account))? else { return Ok(()) };
        let stopped = Account { status: AccountStatus::Revoked { at }, ..held.value.clone() };
        self.stage(vec![Change::Account(Put::over(&held, stopped))])
    }

    /// Drops a certificate's record and its order, as pruning did when their retention was over.
    fn prune(&mut self, id: CertificateId) -> Result<(), Stopped> {
        let Some(held) = self.load::<CertificateRecord>(&key::certificate(id))? else { return Ok(()) };
        let mut items = vec![Change::RemoveCertificate(id, held.version)];
        self.rebuilt.certificates = self.rebuilt.certificates.saturating_sub(1);
        if let Some(order) = held.value.order
            && let Some(held) = self.load::<OrderRow>(&key::order(order))?
        {
            items.push(Change::Finish(JobKind::PruneOrder { order }));
            items.push(Change::RemoveOrder(order, held.version));
            items.push(Change::Release(Claim::OrderCertificate(order)));
            self.rebuilt.orders = self.rebuilt.orders.saturating_sub(1);
        }
        self.stage(items)
    }
}

/// The idempotency key as `authority` writes it into intents: door, credential and UID, one a line.
fn idempotency_key(text: &str) -> Option<IdempotencyKey> {
    let mut parts = text.splitn(3, '\n').map(str::to_owned);
    Some(IdempotencyKey { door: parts.next()?, credential: parts.next()?, uid: parts.next()? })
}

/// Whether what an intent was for has ended, so that its row may have been dropped.
pub(crate) fn has_ended(intent: &Intent, now: Timestamp) -> bool {
    let parsed = tbs::assemble(&intent.tbs, &[0]).ok().and_then(|der| Certificate::from_der(&der).ok());
    parsed.is_some_and(|parsed| parsed.validity().not_after() < now)
}

/// The token that a leaf tells of.
fn made(id: ApiTokenId, created: Timestamp, facts: &ApiTokenFacts) -> Result<ApiToken, &'static str> {
    let ApiTokenFacts { cluster, comment, expires, names, namespaces, profiles, sha256 } = facts;
    let names = names.as_ref().map(|names| NameLimits::parse(names)).transpose();
    Ok(ApiToken {
        id,
        cluster: cluster.clone(),
        comment: comment.clone(),
        sha256: *sha256,
        namespaces: namespaces.as_ref().map(|namespaces| namespaces.iter().cloned().collect()),
        profiles: profiles.clone(),
        names: names.map_err(|_| "its names are no patterns")?,
        created,
        expires: *expires,
        revoked: None,
    })
}

/// An account as the leaf says with which it entered the ledger.
fn account_of(id: AccountId, key: PublicKey, facts: &AccountFacts, binding: Option<&String>) -> Account {
    let binding = binding.cloned().unwrap_or_default();
    Account {
        id,
        directory: facts.directory.clone(),
        key,
        contacts: facts.contacts.clone(),
        status: AccountStatus::Valid,
        terms_agreed: facts.terms.as_ref().map(agreed),
        created: facts.created,
        proven: true,
        external: facts.eab.clone().map(|key_id| ExternalAccount { key_id, binding }),
    }
}

fn agreed(terms: &Terms) -> TermsAgreed {
    TermsAgreed { url: terms.url.clone(), at: terms.at }
}

impl Visit for Rebuilder<'_> {
    type Error = Stopped;

    fn on_intent(&mut self, index: u64, intent: &Intent) -> Result<(), Stopped> {
        let idempotency = intent.idempotency.as_ref();
        if let Some(of) = idempotency.and_then(|idempotency| idempotency_key(&idempotency.key)) {
            self.keys.insert(intent.certificate, of);
        }
        if index < self.from {
            return Ok(());
        }
        let damaged = |why: &str| self.damaged(index, why);
        // What was to be signed is a certificate but for its signature.
        let der = tbs::assemble(&intent.tbs, &[0]).map_err(|_| damaged("its TBS does not parse"))?;
        let parsed = Certificate::from_der(&der).map_err(|error| damaged(&error.to_string()))?;
        let id = CertificateId::from_random(intent.certificate);
        let account = intent.account.map(AccountId::from_random);
        let order = intent.order.map(OrderId::from_octets);
        // A common name of its own stands in the subject alone; that it counts as a name only the decision says.
        let in_subject = intent.decision.names.iter().filter_map(|judged| judged.name.parse().ok());
        let in_subject = in_subject.filter(|name: &Name| !name.is_alternative_name());
        let names = NameSet::new(parsed.names().iter().cloned().chain(in_subject))
            .map_err(|error| damaged(&error.to_string()))?;
        let record = CertificateRecord {
            id,
            authority: self.authority(index, &intent.authority)?,
            serial: intent.serial,
            names: names.clone(),
            key: SpkiDigest(crate::journal::sha256(parsed.spki())),
            validity: parsed.validity(),
            profile: intent.profile.name.clone(),
            requester: intent.requester.summary.clone(),
            account,
            order,
            tenant: intent.tenant.clone(),
            origin: ClusterOrigin::of_facts(
                intent.requester.claims.iter().map(|claim| (&*claim.name, &*claim.value, claim.proven)),
            ),
            used_by: Vec::new(),
            chain: intent.chain.parse().unwrap_or(0),
            crl_shard: intent.crl_shard.and_then(|shard| u16::try_from(shard).ok()),
            retention: if intent.retention == "light" { Retention::Light } else { Retention::Full },
            state: CertificateState::Intended { intent: LeafRef::At(index) },
            revocation: None,
            // The intents of orders that replace it follow.
            replaced_by: None,
            recorded: intent.at,
        };
        let end = record.validity.not_after();
        let record = Change::Certificate(self.put(&key::certificate(id), record)?);
        let mut items =
            vec![Change::Schedule(Job { kind: JobKind::Settle { certificate: id }, due: intent.at, attempt: 0 })];
        self.rebuilt.certificates += 1;
        let mut directory = None;
        if let Some(account) = account {
            if let Some(held) = self.load::<Account>(&key::account(account))? {
                directory = Some(held.value.directory.clone());
                if !held.value.proven {
                    // A stranger until this very intent, which says what it was by then.
                    let mut proven = Account { proven: true, ..held.value };
                    if let Some(facts) = &intent.account_facts {
                        proven.contacts.clone_from(&facts.contacts);
                        proven.terms_agreed = facts.terms.as_ref().map(agreed);
                    }
                    items.push(Change::Account(self.put(&key::account(account), proven)?));
                    items.push(Change::Count { counter: Counter::UnprovenAccounts, by: -1, limit: None });
                    items.push(Change::Finish(JobKind::PruneAccount { account }));
                }
            }
            if directory.is_none()
                && let Some(facts) = &intent.account_facts
                && let Ok(key) = PublicKey::from_spki(&facts.spki)
            {
                directory = Some(facts.directory.clone());
                self.rebuilt.accounts += 1;
                items.push(Change::Account(Put::new(account_of(account, key, facts, None))));
            }
        }
        if let (Some(order), Some(account), Some(directory)) = (order, account, directory) {
            self.rebuilt.orders += 1;
            let rebuilt = Order {
                id: order,
                account,
                directory,
                tenant: intent.tenant.clone(),
                names,
                profile: intent.profile.name.clone(),
                not_before: None,
                not_after: None,
                replaces: None,
                authorizations: Vec::new(),
                state: OrderState::Processing { certificate: id },
                created: intent.at,
                expires: intent.at,
            };
            // Whoever asks for the predecessor's replacement again is told so, unless this one fails yet.
            let replaced = intent.replaces.map(|id| key::certificate(CertificateId::from_random(id)));
            if let Some(replaced) = replaced
                && let Some(held) = self.load::<CertificateRecord>(&replaced)?
            {
                let marked = CertificateRecord { replaced_by: Some(order), ..held.value.clone() };
                items.push(Change::Certificate(Put::over(&held, marked)));
            }
            let replaces = self.load::<OrderRow>(&key::order(order))?.map(|held| held.version);
            items.push(Change::Order(Put { replaces, value: rebuilt }));
            items.push(Change::Count { counter: Counter::PendingOrders(account), by: 1, limit: None });
            items.push(Change::Schedule(Job { kind: JobKind::PruneOrder { order }, due: end, attempt: 0 }));
        }
        // After its order, which tells of it.
        items.push(record);
        if let Some(order) = order {
            items.push(Change::Release(Claim::OrderCertificate(order)));
            items.push(Change::Claim(Claim::OrderCertificate(order)));
        }
        if let Some(idempotency) = idempotency
            && let Some(of) = self.keys.get(&intent.certificate).cloned()
        {
            let outcome = IdempotencyRecord {
                key: of.clone(),
                request: idempotency.request.unwrap_or_default(),
                attempt: idempotency.attempt,
                outcome: IdempotencyOutcome::Pending { certificate: id },
                at: intent.at,
            };
            items.push(Change::Idempotency(self.put(&key::idempotency(&of), outcome)?));
        }
        self.stage(items)
    }

    fn on_signature(&mut self, index: u64, signature: &Signature, _: &[u8]) -> Result<(), Stopped> {
        let certificate = CertificateId::from_random(signature.certificate);
        if index < self.from {
            self.keys.remove(&signature.certificate);
            return Ok(());
        }
        self.end(
            certificate,
            |intent| CertificateState::Issued { intent, signature: LeafRef::At(index) },
            OrderState::Valid { certificate },
            IdempotencyOutcome::Issued { certificate },
        )
    }

    fn on_abandoned(&mut self, index: u64, abandoned: &Abandoned) -> Result<(), Stopped> {
        if index < self.from {
            self.keys.remove(&abandoned.certificate);
            return Ok(());
        }
        let certificate = CertificateId::from_random(abandoned.certificate);
        let error = Problem::new(ProblemType::ServerInternal, "the issuance was interrupted; place a new order");
        self.end(
            certificate,
            |intent| CertificateState::PossiblyIssued { intent },
            OrderState::Invalid { error },
            IdempotencyOutcome::Abandoned { certificate },
        )
    }

    fn on_revocation(&mut self, index: u64, revocation: &RevocationLeaf) -> Result<(), Stopped> {
        if index < self.from {
            return Ok(());
        }
        let record_key = key::certificate(CertificateId::from_random(revocation.certificate));
        let Some(held) = self.load::<CertificateRecord>(&record_key)? else { return Ok(()) };
        let reason = revocation.reason.and_then(|code| RevocationReason::from_code(u64::from(code)));
        let revoked = Revocation { at: revocation.at, reason };
        self.rebuilt.revocations += u64::from(held.value.revocation.is_none());
        let record = CertificateRecord { revocation: Some(revoked), ..held.value };
        let put = self.put(&record_key, record)?;
        self.stage(vec![Change::Certificate(put)])
    }

    fn on_eab_key(&mut self, index: u64, eab: &EabKey) -> Result<(), Stopped> {
        let id: EabKeyId = eab.key.parse().map_err(|_| self.damaged(index, "its EAB key's id is none"))?;
        if eab.action == EabAction::Created {
            self.eab_keys.insert(id.clone());
        }
        if index < self.from {
            return Ok(());
        }
        match (eab.action, &eab.grant, eab.account.map(AccountId::from_random)) {
            (EabAction::Created | EabAction::Limited, Some(grant), _) => self.eab_key_granted(index, id, eab, grant),
            (EabAction::Revoked, _, _) => self.eab_key_revoked(&id, eab.at),
            (EabAction::Used, _, Some(account)) => self.eab_key_used(index, id, account, eab),
            (EabAction::Stopped, _, Some(account)) => self.account_stopped(account, eab.at),
            (EabAction::Stopped, _, None) => self.eab_accounts_stopped(id, eab.at),
            (EabAction::Created | EabAction::Limited | EabAction::Used, _, _) => {
                Err(self.damaged(index, "it does not say what became of its EAB key"))
            }
        }
    }

    fn on_restored(&mut self, index: u64, restored: &Restored) -> Result<(), Stopped> {
        if index < self.from {
            return Ok(());
        }
        // Uses may be among the leaves that were lost: no key makes accounts in a new epoch.
        for id in self.eab_keys.clone() {
            self.eab_key_revoked(&id, restored.at)?;
        }
        Ok(())
    }

    fn on_api_token(&mut self, index: u64, leaf: &ApiTokenLeaf) -> Result<(), Stopped> {
        if index < self.from {
            return Ok(());
        }
        let id = ApiTokenId::from_octets(leaf.token);
        let held = self.load::<ApiToken>(&key::api_token(id))?;
        let (token, is_new) = match (&leaf.facts, held) {
            (Some(facts), held) => (made(id, leaf.at, facts).map_err(|why| self.damaged(index, why))?, held.is_none()),
            (None, Some(held)) => (ApiToken { revoked: Some(leaf.at), ..held.value }, false),
            // It was dropped before its leaf of birth came into the bundles that there are.
            (None, None) => return Ok(()),
        };
        let due = token.kept_until();
        let mut items = vec![
            Change::ApiToken(self.put(&key::api_token(id), token)?),
            Change::Schedule(Job { kind: JobKind::PruneApiToken { token: id }, due, attempt: 0 }),
        ];
        if is_new {
            items.push(Change::Count { counter: Counter::ApiTokens, by: 1, limit: None });
        }
        self.stage(items)
    }

    fn on_account_agreed(&mut self, index: u64, agreement: &AccountAgreed) -> Result<(), Stopped> {
        if index < self.from {
            return Ok(());
        }
        let key = key::account(AccountId::from_random(agreement.account));
        let Some(held) = self.load::<Account>(&key)? else { return Ok(()) };
        let account = Account { terms_agreed: Some(agreed(&agreement.terms)), ..held.value };
        self.stage(vec![Change::Account(Put { replaces: Some(held.version), value: account })])
    }

    fn on_account_deactivated(&mut self, index: u64, ended: &AccountDeactivated) -> Result<(), Stopped> {
        if index < self.from {
            return Ok(());
        }
        let key = key::account(AccountId::from_random(ended.account));
        let Some(held) = self.load::<Account>(&key)? else { return Ok(()) };
        let account = Account { status: AccountStatus::Deactivated { at: ended.at }, ..held.value };
        self.stage(vec![Change::Account(Put { replaces: Some(held.version), value: account })])
    }

    fn on_account_key_changed(&mut self, index: u64, changed: &AccountKeyChanged) -> Result<(), Stopped> {
        if index < self.from {
            return Ok(());
        }
        let record_key = key::account(AccountId::from_random(changed.account));
        let Some(held) = self.load::<Account>(&record_key)? else { return Ok(()) };
        let key = PublicKey::from_spki(&changed.spki).map_err(|error| self.damaged(index, &error.to_string()))?;
        let account = Account { key, ..held.value };
        self.stage(vec![Change::Account(Put { replaces: Some(held.version), value: account })])
    }

    fn on_crl_published(&mut self, index: u64, crl: &CrlPublished) -> Result<(), Stopped> {
        if index < self.from {
            return Ok(());
        }
        let authority = self.authority(index, &crl.authority)?;
        // The walker has seen that they grow.
        self.stage(vec![Change::CrlNumber { authority, shard: crl.shard, number: crl.number }])
    }

    fn on_authority_installed(&mut self, index: u64, installed: &AuthorityInstalled) -> Result<(), Stopped> {
        let which = (self.authority(index, &installed.authority)?, installed.certificate);
        self.in_force(index, |held| {
            held.issuing.insert(which, SpkiDigest(installed.key));
        })
    }

    fn on_authority_retired(&mut self, index: u64, retired: &AuthorityRetired) -> Result<(), Stopped> {
        let which = (self.authority(index, &retired.authority)?, retired.certificate);
        self.in_force(index, |held| {
            held.issuing.remove(&which);
        })
    }

    fn on_policy_activated(&mut self, index: u64, activated: &PolicyActivated) -> Result<(), Stopped> {
        self.in_force(index, |held| {
            held.policy = Some(activated.policy);
            held.profiles = activated.profiles.iter().map(|profile| (profile.name.clone(), profile.hash)).collect();
        })
    }
}
