//! Answering a challenge (RFC 8555 §7.5.1): look, decide, and let the order follow.
//!
//! The look begins at once and its verdict is awaited for a short, bounded time by the answer that
//! began it, so that most clients need not poll. Where the wait ends first, the challenge becomes
//! `processing` and its job is stored in the same commit: a kill loses neither. An answer that comes
//! while a look is under way does not wait: it says `processing` at once.

use chancery_acme::{
    account::Account,
    authorization::{Answered, Authorization, AuthorizationState, AuthorizationStatus},
    challenge::{Challenge, ChallengeKind, ChallengeState},
    id::{AccountId, AuthorizationId},
    problem::{Problem, ProblemType},
};

use crate::{
    changes::{Change, Changes, Put},
    failure::{Failure, Refusal},
    office::{ATTEMPTS, Office},
    ports::{CommitError, Validation, ValidationError},
    records::{Job, JobKind, Versioned},
    register_account::order_changes,
    thumbprint::key_authorization,
};

/// How often a validation for which we were too busy is tried again before it fails.
const BUSY_ATTEMPTS: u32 = 20;
/// Seconds between two tries for which we were too busy.
const BUSY_PAUSE_S: u64 = 2;

/// Why a challenge is not taken as answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerChallengeRejection {
    /// No such authorization of this account.
    #[error("there is no such challenge")]
    NotFound,
    /// The authorization does not take it.
    #[error(transparent)]
    Answer(#[from] chancery_acme::authorization::AnswerRejection),
}

impl Office {
    /// The client says that it has fulfilled a challenge. Returns the authorization after the
    /// verdict, or with the challenge `processing` if there was none within the wait.
    ///
    /// # Errors
    ///
    /// An [`AnswerChallengeRejection`], or [`Failure`].
    pub async fn answer_challenge(
        &self,
        account: &Account,
        id: AuthorizationId,
        kind: ChallengeKind,
    ) -> Result<Authorization, Refusal<AnswerChallengeRejection>> {
        let loaded = self
            .own_authorization(account.id, id)
            .await?
            .ok_or(Refusal::Rejected(AnswerChallengeRejection::NotFound))?;
        let now = self.trusted_time()?;
        let answered =
            loaded.value.clone().answer(kind, now).map_err(|rejection| Refusal::Rejected(rejection.into()))?;
        let processing = match answered {
            Answered::Unchanged(authorization) => return Ok(authorization),
            Answered::Validate(processing) => processing,
        };
        let begins = self.validations().insert(id);
        if !begins {
            return Ok(self.store_processing(&loaded, processing).await?);
        }
        // Dropped with the look, also with one that is not begun.
        let registration = Registration { office: self.clone(), id };
        let office = self.clone();
        let holder = account.clone();
        let authorization = processing.clone();
        let look = self.work(async move {
            let decided = office.look(&holder, authorization, kind, 0).await;
            drop(registration);
            decided
        })?;
        match self.wait_for(account.id, look).await {
            Some(Ok(decided)) => Ok(decided?),
            Some(Err(_panicked)) => Err(Failure::Internal("a validation ended without a verdict".to_owned()).into()),
            None => Ok(self.store_processing(&loaded, processing).await?),
        }
    }

    /// There is no verdict yet: `processing`, and its job, become durable together.
    async fn store_processing(
        &self,
        loaded: &Versioned<Authorization>,
        processing: Authorization,
    ) -> Result<Authorization, Failure> {
        let id = processing.id;
        // The look that is under way has this long; the job takes over only if it was lost with the process.
        let due = self.trusted_time()?.after(self.settings().limits.validation_time * 2);
        let changes = Changes::new()
            .with(Change::Authorization(Put::over(loaded, processing.clone())))
            .schedule(JobKind::Validate { authorization: id }, due);
        match self.commit(changes).await {
            Ok(_) => Ok(processing),
            // The verdict came meanwhile.
            Err(CommitError::Conflict) => self
                .store()
                .authorization(id)
                .await?
                .map(|found| found.value)
                .ok_or_else(|| Failure::Internal(format!("authorization {id} is gone"))),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks whether the challenge is fulfilled and commits the verdict.
    async fn look(
        &self,
        account: &Account,
        authorization: Authorization,
        kind: ChallengeKind,
        attempt: u32,
    ) -> Result<Authorization, Failure> {
        let Some(challenge) = authorization.challenge(kind) else {
            return Ok(authorization);
        };
        let settings = self.settings();
        let validation = Validation {
            name: authorization.name.clone(),
            kind,
            token: challenge.token,
            key_authorization: key_authorization(challenge.token, &account.key),
            within: settings.limits.validation_time,
        };
        let outcome = match self.ports().validator.validate(&validation).await {
            Ok(evidence) => {
                tracing::debug!(authorization.id = %authorization.id, name = %authorization.name, challenge = %kind,
                    evidence = %evidence.summary, "validated");
                Ok(())
            }
            Err(ValidationError::Failed(problem)) => {
                tracing::info!(authorization.id = %authorization.id, name = %authorization.name, challenge = %kind,
                    problem = problem.kind.token(), detail = %problem.detail, "validation failed");
                Err(problem)
            }
            Err(ValidationError::Busy) if attempt < BUSY_ATTEMPTS => {
                return self.look_later(authorization, attempt + 1).await;
            }
            Err(ValidationError::Busy) => Err(Problem::new(
                ProblemType::Connection,
                "the server was too busy to validate this name; place a new order later",
            )),
        };
        self.decide(authorization.id, kind, outcome).await
    }

    /// We were too busy to look: the job looks again.
    async fn look_later(&self, authorization: Authorization, attempt: u32) -> Result<Authorization, Failure> {
        let id = authorization.id;
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.store().authorization(id).await? else { break };
            let now = self.trusted_time()?;
            if loaded.value.status(now) != AuthorizationStatus::Pending {
                // Nothing is left to look for.
                self.finish(JobKind::Validate { authorization: id }).await?;
                return Ok(loaded.value);
            }
            let due = now.after(std::time::Duration::from_secs(BUSY_PAUSE_S));
            let job = Job { kind: JobKind::Validate { authorization: id }, due, attempt };
            let changes = Changes::new()
                .with(Change::Authorization(Put::over(&loaded, authorization.clone())))
                .with(Change::Schedule(job));
            match self.commit(changes).await {
                Ok(_) => return Ok(authorization),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }

    /// Commits a verdict: the challenge, its authorization and its order together.
    pub(crate) async fn decide(
        &self,
        id: AuthorizationId,
        kind: ChallengeKind,
        outcome: Result<(), Problem>,
    ) -> Result<Authorization, Failure> {
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.store().authorization(id).await? else {
                return Err(Failure::Internal(format!("authorization {id} is gone")));
            };
            let now = self.trusted_time()?;
            let Some(order) = self.store().order(loaded.value.order).await? else {
                // Nobody asks any more.
                self.finish(JobKind::Validate { authorization: id }).await?;
                return Ok(loaded.value);
            };
            let lifetime = self
                .settings()
                .directories
                .get(&order.value.directory)
                .map_or(std::time::Duration::ZERO, |directory| directory.authorization_lifetime);
            let until = now.after(lifetime).max(order.value.expires).whole_seconds();
            let decided = loaded.value.clone().decide(kind, outcome.clone(), now, until);
            let had_job = matches!(
                loaded.value.challenge(kind),
                Some(Challenge { state: ChallengeState::Processing { .. }, .. })
            );
            let mut changes = Changes::new();
            if decided != loaded.value {
                // INVARIANT: the order is written with every verdict on one of several authorizations, so
                // that of two verdicts at once the later one is judged again with the earlier one known.
                let followed = self.follow(&order.value, &decided).await?;
                if followed != order.value || order.value.authorizations.len() > 1 {
                    changes = order_changes(&order, followed);
                }
                changes = changes.with(Change::Authorization(Put::over(&loaded, decided.clone())));
            }
            if had_job {
                changes = changes.with(Change::Finish(JobKind::Validate { authorization: id }));
            }
            if changes.items.is_empty() {
                return Ok(decided);
            }
            match self.commit(changes).await {
                Ok(_) => return Ok(decided),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }

    /// The order as it follows its authorizations, one of which is `changed`.
    async fn follow(
        &self,
        order: &chancery_acme::order::Order,
        changed: &Authorization,
    ) -> Result<chancery_acme::order::Order, Failure> {
        let now = self.now();
        if order.authorizations.len() == 1 {
            return Ok(order.clone().follow([changed], now));
        }
        let mut all: Vec<Authorization> =
            self.authorizations_of(order).await?.into_iter().map(|found| found.value).collect();
        if let Some(place) = all.iter_mut().find(|authorization| authorization.id == changed.id) {
            *place = changed.clone();
        }
        Ok(order.clone().follow(&all, now))
    }

    /// The stored job of a challenge that is `processing`: the look that was lost with the
    /// process, or for which we were too busy.
    pub(crate) async fn run_validation(&self, id: AuthorizationId, attempt: u32) -> Result<(), Failure> {
        let done = Changes::new().with(Change::Finish(JobKind::Validate { authorization: id }));
        let Some(loaded) = self.store().authorization(id).await? else {
            return self.commit(done).await.map(drop).map_err(Into::into);
        };
        let processing = loaded
            .value
            .challenges
            .iter()
            .find(|challenge| matches!(challenge.state, ChallengeState::Processing { .. }))
            .map(|challenge| challenge.kind);
        let account = self.store().account(loaded.value.account).await?;
        match (processing, account) {
            (Some(kind), Some(account)) if loaded.value.state == AuthorizationState::Pending => {
                self.look(&account.value, loaded.value, kind, attempt).await.map(drop)
            }
            _ => self.commit(done).await.map(drop).map_err(Into::into),
        }
    }

    /// The holder gives an authorization up (RFC 8555 §7.5.2); its open order becomes invalid.
    /// `None` if it is unknown or another account's.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn deactivate_authorization(
        &self,
        account: AccountId,
        id: AuthorizationId,
    ) -> Result<Option<Authorization>, Failure> {
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.own_authorization(account, id).await? else {
                return Ok(None);
            };
            let given_up = loaded.value.clone().deactivate(self.now());
            if given_up == loaded.value {
                return Ok(Some(given_up));
            }
            let mut changes = Changes::new();
            if let Some(order) = self.store().order(loaded.value.order).await? {
                let followed = self.follow(&order.value, &given_up).await?;
                if followed != order.value || order.value.authorizations.len() > 1 {
                    changes = order_changes(&order, followed);
                }
            }
            changes = changes
                .with(Change::Authorization(Put::over(&loaded, given_up.clone())))
                .with(Change::Finish(JobKind::Validate { authorization: id }));
            match self.commit(changes).await {
                Ok(_) => return Ok(Some(given_up)),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }
}

/// That a validation is under way in this process.
struct Registration {
    office: Office,
    id: AuthorizationId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.office.validations().remove(&self.id);
    }
}
