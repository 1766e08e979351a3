//! The loop that does what is owed: stored jobs, when they are due, a bounded number at a time.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chancery_authority::{
    Failure, Office,
    records::{Job, JobKind},
};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::tls::Keeper;

/// Most jobs that are looked at together.
const BATCH: usize = 4_096;
/// Most jobs at a time that are no validations.
const HOUSEKEEPING_AT_ONCE: usize = 8;
/// Longest that the loop sleeps: the clock may step while it does.
const NAP_MAX: Duration = Duration::from_secs(30);
/// How long it sleeps at most while jobs are under way.
const BUSY_NAP: Duration = Duration::from_millis(250);
/// How long it waits when the store cannot be read.
const TROUBLE: Duration = Duration::from_secs(1);

/// What the loop counts.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Jobs that run now.
    pub(crate) running: AtomicU64,
    /// Jobs done, ever.
    pub(crate) done: AtomicU64,
    /// Jobs put off because they failed, ever.
    pub(crate) failed: AtomicU64,
}

/// The loop.
pub(crate) struct Workers {
    pub(crate) office: Office,
    pub(crate) keeper: Arc<Keeper>,
    /// Most validations at a time.
    pub(crate) validations_at_once: usize,
    pub(crate) counts: Arc<Counts>,
}

impl Workers {
    /// Runs until told to stop; then waits for the jobs under way. What does not end is owed still
    /// at the next start.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>, last: Duration) {
        let mut running: HashSet<JobKind> = HashSet::new();
        let mut tasks: JoinSet<JobKind> = JoinSet::new();
        while !*stop.borrow() {
            let nap = match self.start_due(&mut running, &mut tasks).await {
                Ok(nap) => nap,
                Err(error) => {
                    tracing::warn!(%error, "what is owed cannot be looked up");
                    TROUBLE
                }
            };
            self.counts.running.store(u64::try_from(running.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = self.office.jobs_changed().notified() => {}
                () = sleep(nap) => {}
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    forget(&mut running, ended);
                    while let Some(ended) = tasks.try_join_next() {
                        forget(&mut running, ended);
                    }
                }
            }
        }
        let finished = tokio::time::timeout(last, async { while tasks.join_next().await.is_some() {} }).await;
        if finished.is_err() {
            tracing::warn!(jobs = tasks.len(), "stopped with jobs under way; they are owed still");
        }
    }

    /// Starts what is due and not running; says how long there is nothing more to do.
    async fn start_due(
        &self,
        running: &mut HashSet<JobKind>,
        tasks: &mut JoinSet<JobKind>,
    ) -> Result<Duration, Failure> {
        let mut validations = running.iter().filter(|kind| is_validation(kind)).count();
        let mut others = running.len() - validations;
        for job in self.office.due_jobs(BATCH).await? {
            if running.contains(&job.kind) {
                continue;
            }
            let (count, most) = if is_validation(&job.kind) {
                (&mut validations, self.validations_at_once)
            } else {
                (&mut others, HOUSEKEEPING_AT_ONCE)
            };
            if *count >= most {
                continue;
            }
            *count += 1;
            running.insert(job.kind.clone());
            tasks.spawn(run_one(self.office.clone(), Arc::clone(&self.keeper), Arc::clone(&self.counts), job));
        }
        // What is under way hides what becomes due after it, so then the loop looks often.
        if !running.is_empty() {
            return Ok(BUSY_NAP);
        }
        let next = self.office.next_due().await?;
        Ok(next.map_or(NAP_MAX, |next| next.since(self.office.now())).min(NAP_MAX))
    }
}

const fn is_validation(kind: &JobKind) -> bool {
    matches!(kind, JobKind::Validate { .. })
}

fn forget(running: &mut HashSet<JobKind>, ended: Result<JobKind, tokio::task::JoinError>) {
    match ended {
        Ok(kind) => {
            running.remove(&kind);
        }
        // Caught within the task; this is only a runtime that ends.
        Err(error) => tracing::error!(%error, "a job ended strangely"),
    }
}

async fn run_one(office: Office, keeper: Arc<Keeper>, counts: Arc<Counts>, job: Job) -> JobKind {
    let kind = job.kind.clone();
    // In a task of its own, so that one that panics is put off and not forgotten.
    let work = tokio::spawn({
        let (office, job) = (office.clone(), job.clone());
        async move {
            match &job.kind {
                JobKind::RenewOwnTls => keeper.renew().await.map_err(|error| error.to_string()),
                _ => office.run_job(&job).await.map_err(|failure| failure.to_string()),
            }
        }
    });
    let outcome = work.await.unwrap_or_else(|_| Err("the job panicked".to_owned()));
    match outcome {
        Ok(()) => {
            counts.done.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(job = ?kind, attempt = job.attempt, error, "a job failed and is tried again later");
            if let Err(error) = office.put_off(&job).await {
                tracing::warn!(job = ?kind, %error, "and could not be put off");
                sleep(TROUBLE).await;
            }
        }
    }
    kind
}
