//! What is owed and when: settlement, lost validations, pruning, checkpoints. Stored, so that a
//! kill loses none; the loop that runs them lives in the server.
//!
//! Nothing is ended, dropped or put off by a clock that is in doubt (threat model TM15).

use std::{ops::Range, time::Duration};

use chancery_acme::{
    id::{AccountId, CertificateId, OrderId},
    order::{Order, OrderState},
    problem::{Problem, ProblemType},
};
use chancery_pki::Timestamp;

use crate::{
    changes::{Change, Changes, Claim, Counter, Put},
    failure::Failure,
    finalize_order::settled_problem,
    leaves,
    office::{ATTEMPTS, Office},
    ports::{CertificateQuery, CommitError},
    records::{
        CertificateRecord, CertificateState, IdempotencyOutcome, IdempotencyRecord, Job, JobKind, Retention, Versioned,
    },
    register_account::order_changes,
};

/// Longest pause before a job that failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(600);
/// How often expired certificates' records are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// Most records dropped in one commit.
const PRUNE_BATCH: usize = 200;

impl Office {
    /// Jobs that are due, the longest due first.
    ///
    /// While the clock is in doubt these are only jobs that something done made due, not the time: the open orders of an
    /// account that was given up are cancelled, and the accounts of an EAB key that was revoked with them are stopped. All
    /// else waits, settlement too: by a clock that ran ahead it would give
    /// up what is being signed at this moment, and stamp the ledger with a time by which the right clock is behind; what
    /// waits for it can be revoked as it is. Once the doubt is over, the jobs that return for ever are owed at once, be
    /// it that a wrong time had put them off for years.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn due_jobs(&self, limit: usize) -> Result<Vec<Job>, Failure> {
        let (doubted, in_doubt) = self.doubt_then_and_now();
        if doubted && !in_doubt {
            let now = self.now();
            let again = standing_jobs(now).schedule(JobKind::RenewOwnTls, now);
            self.commit(again).await.inspect_err(|_| self.doubt_again())?;
        }
        let mut due = self.store().due_jobs(self.now(), limit).await?;
        if in_doubt {
            due.retain(|job| match job.kind {
                JobKind::CancelOrders { .. } | JobKind::StopAccounts { .. } => true,
                JobKind::Validate { .. }
                | JobKind::Settle { .. }
                | JobKind::PruneOrder { .. }
                | JobKind::PruneAccount { .. }
                | JobKind::PruneEabKey { .. }
                | JobKind::PruneCertificates
                | JobKind::PruneApiToken { .. }
                | JobKind::Checkpoint
                | JobKind::RenewOwnTls => false,
            });
        }
        Ok(due)
    }

    /// Owes a job from `due` on; one of the same kind is moved.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn schedule(&self, kind: JobKind, due: Timestamp) -> Result<(), Failure> {
        Ok(self.commit(Changes::new().schedule(kind, due)).await.map(drop)?)
    }

    /// Owes a job no longer.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn finish(&self, kind: JobKind) -> Result<(), Failure> {
        Ok(self.commit(Changes::new().with(Change::Finish(kind))).await.map(drop)?)
    }

    /// Puts a job that failed off, the longer the more often it did.
    ///
    /// # Errors
    ///
    /// [`Failure`], while the clock is in doubt too: the job stays where it is.
    pub async fn put_off(&self, job: &Job) -> Result<(), Failure> {
        let pause = Duration::from_secs(1 << job.attempt.min(10)).min(RETRY_MAX);
        let due = self.trusted_time()?.after(pause);
        let again = Job { due, attempt: job.attempt.saturating_add(1), ..job.clone() };
        Ok(self.commit(Changes::new().with(Change::Schedule(again))).await.map(drop)?)
    }

    /// Does what a job owes, and finishes or moves it. The server's own TLS renewal is the server's to do.
    ///
    /// # Errors
    ///
    /// [`Failure`]: the job is still owed; see [`Self::put_off`].
    pub async fn run_job(&self, job: &Job) -> Result<(), Failure> {
        match &job.kind {
            JobKind::Validate { authorization } => self.run_validation(*authorization, job.attempt).await,
            JobKind::Settle { certificate } => self.settle(*certificate).await,
            JobKind::PruneOrder { order } => self.prune_order(*order).await,
            JobKind::PruneAccount { account } => self.prune_account(*account).await,
            JobKind::CancelOrders { account } => self.cancel_orders(*account).await,
            JobKind::PruneEabKey { key } => self.prune_eab_key(key).await,
            JobKind::StopAccounts { key } => self.stop_accounts(key).await,
            JobKind::PruneCertificates => self.prune_certificates().await,
            JobKind::PruneApiToken { token } => self.prune_api_token(*token).await,
            JobKind::Checkpoint => self.sign_checkpoint().await,
            JobKind::RenewOwnTls => Ok(()),
        }
    }

    /// Ends an issuance that has no durable signature: its serial stays as possibly issued, so that
    /// it can be revoked, and its order becomes invalid (durability, rule 13).
    async fn settle(&self, id: CertificateId) -> Result<(), Failure> {
        let done = Change::Finish(JobKind::Settle { certificate: id });
        for _ in 0..ATTEMPTS {
            let now = self.trusted_time()?;
            let Some(loaded) = self.store().certificate(id).await? else {
                return self.commit(Changes::new().with(done).urgently()).await.map(drop).map_err(Into::into);
            };
            let CertificateState::Intended { intent } = loaded.value.state else {
                return self.commit(Changes::new().with(done).urgently()).await.map(drop).map_err(Into::into);
            };
            let mut changes = Changes::new();
            if let Some(order) = loaded.value.order
                && let Some(order) = self.store().order(order).await?
                && matches!(order.value.state, OrderState::Processing { certificate } if certificate == id)
            {
                changes = order_changes(&order, order.value.clone().failed(settled_problem()));
            }
            if let Some(key) = leaves::idempotency_key(&self.leaf_at(intent).await?)
                && let Some(outcome) = self.store().idempotency(&key).await?
                && outcome.value.outcome == (IdempotencyOutcome::Pending { certificate: id })
            {
                let mut abandoned = outcome.value.clone();
                abandoned.outcome = IdempotencyOutcome::Abandoned { certificate: id };
                changes = changes.with(Change::Idempotency(Put::over(&outcome, abandoned)));
            }
            let settled =
                CertificateRecord { state: CertificateState::PossiblyIssued { intent }, ..loaded.value.clone() };
            let changes = changes
                .with(Change::Certificate(Put::over(&loaded, settled)))
                .leaf(leaves::abandoned(&loaded.value, now)?)
                .with(done.clone())
                .urgently();
            match self.commit(changes).await {
                Ok(_) => {
                    tracing::warn!(certificate.serial = %loaded.value.serial, certificate.names = %loaded.value.names,
                        "an issuance was interrupted and is settled: the certificate may exist and can be revoked");
                    return Ok(());
                }
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }

    /// Ends an order that expired open, which frees its place among its account's open ones at once, and
    /// drops it with its authorizations when it need not be readable any more. One that led to a certificate
    /// goes with the certificate's record.
    async fn prune_order(&self, id: OrderId) -> Result<(), Failure> {
        let kind = JobKind::PruneOrder { order: id };
        let limits = self.settings().limits.clone();
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.store().order(id).await? else {
                return self.commit(Changes::new().with(Change::Finish(kind))).await.map(drop).map_err(Into::into);
            };
            let done = Changes::new().with(Change::Finish(kind.clone()));
            let now = self.trusted_time()?;
            let unreadable = loaded.value.expires.after(limits.keep_ended_orders);
            let changes = match &loaded.value.state {
                OrderState::Valid { certificate } if self.store().certificate(*certificate).await?.is_some() => done,
                // Its settlement comes first.
                OrderState::Processing { .. } => Changes::new().schedule(kind.clone(), now.after(limits.settle_after)),
                OrderState::Pending | OrderState::Ready if now < unreadable => {
                    order_changes(&loaded, loaded.value.clone().failed(expired_problem(&loaded.value)))
                        .schedule(kind.clone(), unreadable)
                }
                OrderState::Valid { .. } | OrderState::Invalid { .. } if now < unreadable => {
                    Changes::new().schedule(kind.clone(), unreadable)
                }
                OrderState::Pending | OrderState::Ready => {
                    let counter = Counter::PendingOrders(loaded.value.account);
                    self.without_order(done, &loaded).await?.with(Change::Count { counter, by: -1, limit: None })
                }
                OrderState::Valid { .. } | OrderState::Invalid { .. } => self.without_order(done, &loaded).await?,
            };
            match self.commit(changes).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }

    /// Drops an order and all that hangs on it.
    async fn without_order(&self, mut changes: Changes, loaded: &Versioned<Order>) -> Result<Changes, Failure> {
        for found in self.authorizations_of(&loaded.value).await? {
            changes = changes
                .with(Change::RemoveAuthorization(found.value.id, found.version))
                .with(Change::Finish(JobKind::Validate { authorization: found.value.id }));
        }
        Ok(changes
            .with(Change::RemoveOrder(loaded.value.id, loaded.version))
            .with(Change::Release(Claim::OrderCertificate(loaded.value.id))))
    }

    /// Drops an account that never was granted a certificate and has no orders any more.
    async fn prune_account(&self, id: AccountId) -> Result<(), Failure> {
        let kind = JobKind::PruneAccount { account: id };
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.store().account(id).await? else {
                return self.commit(Changes::new().with(Change::Finish(kind))).await.map(drop).map_err(Into::into);
            };
            let now = self.trusted_time()?;
            let changes = if loaded.value.proven {
                Changes::new().with(Change::Finish(kind.clone()))
            } else if self.store().orders_of(id, None, 1).await?.is_empty() {
                Changes::new()
                    .with(Change::RemoveAccount(id, loaded.version))
                    .with(Change::Count { counter: Counter::UnprovenAccounts, by: -1, limit: None })
                    .with(Change::Finish(kind.clone()))
            } else {
                Changes::new().schedule(kind.clone(), now.after(self.settings().limits.unproven_account_lifetime))
            };
            match self.commit(changes).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }

    /// Drops records of certificates whose retention is over, and their orders or what became of their requests; their
    /// leaves stay in the ledger.
    async fn prune_certificates(&self) -> Result<(), Failure> {
        let limits = self.settings().limits.clone();
        let now = self.trusted_time()?;
        let light_until = now.before(limits.keep_expired_light);
        let full_until = now.before(limits.keep_expired_certificates);
        let both = light_until.min(full_until);
        self.prune_ended(Timestamp::from_unix_millis(0)..both, None).await?;
        // Beyond that one kind alone is over, and the others need not be read again by every run.
        let (kind, until) =
            if light_until > full_until { (Retention::Light, light_until) } else { (Retention::Full, full_until) };
        let before = *self.pruned();
        let seen = before.filter(|(of, _)| *of == kind).map(|(_, until)| until);
        // What a run left, the next one must see again.
        if self.prune_ended(seen.unwrap_or(both).max(both)..until, Some(kind)).await? {
            *self.pruned() = Some((kind, until));
        }
        self.schedule(JobKind::PruneCertificates, now.after(PRUNE_EVERY)).await
    }

    /// Drops the records that end in a range, of one kind or of both; whether none is left.
    async fn prune_ended(&self, range: Range<Timestamp>, kind: Option<Retention>) -> Result<bool, Failure> {
        let query = CertificateQuery::Expiring(range);
        // The last that stays: whatever goes is gone from the next page by itself.
        let mut after = None;
        let mut conflicts = 0;
        loop {
            let page = self.store().certificates(&query, after, PRUNE_BATCH).await?;
            if page.is_empty() {
                return Ok(true);
            }
            let mut changes = Changes::new();
            for record in page {
                if kind.is_some_and(|kind| kind != record.retention) {
                    after = Some(record.id);
                    continue;
                }
                if let Some(loaded) = self.store().certificate(record.id).await? {
                    changes = changes.with(Change::RemoveCertificate(record.id, loaded.version));
                }
                if let Some(held) = self.outcome_with(&record).await? {
                    changes = changes.with(Change::RemoveIdempotency(held.value.key, held.version));
                }
                if let Some(order) = record.order
                    && let Some(loaded) = self.store().order(order).await?
                {
                    changes = self.without_order(changes, &loaded).await?;
                }
            }
            if changes.items.is_empty() {
                continue;
            }
            match self.commit(changes).await {
                Ok(_) => {}
                // One of them changed meanwhile; the rest is dropped by the next run at the latest.
                Err(CommitError::Conflict) if conflicts < ATTEMPTS => conflicts += 1,
                Err(CommitError::Conflict) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What became of the request that led to a certificate, where that was the last attempt at it. An order's request
    /// has no name.
    async fn outcome_with(&self, record: &CertificateRecord) -> Result<Option<Versioned<IdempotencyRecord>>, Failure> {
        use IdempotencyOutcome as O;
        if record.order.is_some() {
            return Ok(None);
        }
        // Where the leaf is damaged nobody knows the name. The outcome stays, and without the certificate it says nothing.
        let intent = match self.leaf_at(record.state.intent()).await {
            Ok(intent) => intent,
            Err(Failure::Internal(_)) => return Ok(None),
            Err(passing) => return Err(passing),
        };
        let Some(key) = leaves::idempotency_key(&intent) else { return Ok(None) };
        let held = self.store().idempotency(&key).await?;
        Ok(held.filter(|held| match held.value.outcome {
            O::Pending { certificate } | O::Issued { certificate } | O::Abandoned { certificate } => {
                certificate == record.id
            }
            O::Refused { .. } | O::Held => false,
        }))
    }

    /// Owes the jobs which return for ever now, wherever they were. Called once at every start, where the server looks
    /// after its own TLS certificate by itself.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn owe_standing_jobs(&self) -> Result<(), Failure> {
        Ok(self.commit(standing_jobs(self.now())).await.map(drop)?)
    }
}

/// Owes what is to be looked at now and then; each moves itself to its next time.
fn standing_jobs(now: Timestamp) -> Changes {
    Changes::new().schedule(JobKind::PruneCertificates, now).schedule(JobKind::Checkpoint, now)
}

/// What an order says that was not finalized in time.
fn expired_problem(order: &Order) -> Problem {
    let detail = format!("the order expired at {} before it was finalized; place a new one", order.expires);
    Problem::new(ProblemType::OrderNotReady, detail)
}
