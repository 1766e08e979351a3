//! The loop that does what is owed: stored jobs, when they are due, a bounded number at a time.
//!
//! A job finishes or moves itself. One that fails is put off, and so is one that came to its end and is due as it was:
//! nothing makes the loop go round without a pause.

use std::{
    collections::{HashMap, HashSet},
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
        let mut jobs = Jobs::default();
        let mut tasks: JoinSet<Ended> = JoinSet::new();
        while !*stop.borrow() {
            let nap = match self.start_due(&mut jobs, &mut tasks).await {
                Ok(nap) => nap,
                Err(error) => {
                    tracing::warn!(%error, "what is owed cannot be looked up");
                    TROUBLE
                }
            };
            self.counts.running.store(u64::try_from(jobs.running.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = self.office.jobs_changed().notified() => {}
                () = sleep(nap) => {}
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    jobs.ended(ended);
                    while let Some(ended) = tasks.try_join_next() {
                        jobs.ended(ended);
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
    async fn start_due(&self, jobs: &mut Jobs, tasks: &mut JoinSet<Ended>) -> Result<Duration, Failure> {
        let Jobs { running, done } = jobs;
        let mut validations = running.iter().filter(|kind| is_validation(kind)).count();
        let mut others = running.len() - validations;
        for job in self.office.due_jobs(BATCH).await? {
            if running.contains(&job.kind) {
                continue;
            }
            if done.get(&job.kind) == Some(&job) {
                running.insert(job.kind.clone());
                tasks.spawn(put_off_done(self.office.clone(), Arc::clone(&self.counts), job));
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
        // What is due no more was finished or moved.
        done.clear();
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

/// A job that ran.
enum Ended {
    /// As it was when it was started; it should be finished or moved.
    Done(Job),
    /// It was put off, or could not be.
    PutOff(JobKind),
}

/// What the loop knows of its jobs.
#[derive(Default)]
struct Jobs {
    running: HashSet<JobKind>,
    /// Came to their end since due jobs were last looked up.
    done: HashMap<JobKind, Job>,
}

impl Jobs {
    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        match ended {
            Ok(Ended::Done(job)) => {
                self.running.remove(&job.kind);
                self.done.insert(job.kind.clone(), job);
            }
            Ok(Ended::PutOff(kind)) => {
                self.running.remove(&kind);
            }
            // Caught within the task; this is only a runtime that ends.
            Err(error) => tracing::error!(%error, "a job ended strangely"),
        }
    }
}

async fn run_one(office: Office, keeper: Arc<Keeper>, counts: Arc<Counts>, job: Job) -> Ended {
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
            Ended::Done(job)
        }
        Err(error) => {
            tracing::warn!(job = ?job.kind, attempt = job.attempt, error, "a job failed and is tried again later");
            put_off(&office, &counts, job).await
        }
    }
}

/// A job that came to its end, and is due as if it had not.
async fn put_off_done(office: Office, counts: Arc<Counts>, job: Job) -> Ended {
    tracing::warn!(job = ?job.kind, attempt = job.attempt, "a job was done and is owed still; it is tried again later");
    put_off(&office, &counts, job).await
}

async fn put_off(office: &Office, counts: &Counts, job: Job) -> Ended {
    counts.failed.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = office.put_off(&job).await {
        tracing::warn!(job = ?job.kind, %error, "and could not be put off");
        sleep(TROUBLE).await;
    }
    Ended::PutOff(job.kind)
}

#[cfg(test)]
mod tests {
    use chancery_authority::{Settings, checkpoint::LedgerSettings};
    use chancery_testkit::office::{TestOffice, names_of};

    use super::*;
    use crate::config::v1::Tls;

    /// The settings in force, but with a checkpoint that is due again as soon as it is signed.
    fn always_due(ca: &TestOffice) -> Settings {
        let old = ca.office.settings();
        let ledger = old.ledger.clone().map(|ledger| LedgerSettings { every: Duration::ZERO, ..ledger });
        Settings {
            authorities: old.authorities.clone(),
            directories: old.directories.clone(),
            clusters: old.clusters.clone(),
            profiles: old.profiles.clone(),
            policy: Arc::clone(&old.policy),
            block_list: Arc::clone(&old.block_list),
            own_tls: old.own_tls.clone(),
            ledger,
            limits: old.limits.clone(),
        }
    }

    #[tokio::test]
    async fn a_job_that_was_done_and_is_due_as_before_is_put_off() {
        let ca = TestOffice::default();
        ca.office.replace_settings(always_due(&ca), "a test").await.unwrap();
        let now = ca.office.now();
        ca.office.schedule(JobKind::Checkpoint, now).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let wanted = Tls::Own {
            names: names_of(&["ca.test"]),
            authority: "issuing".parse().unwrap(),
            profile: "server".to_owned(),
        };
        let keeper = Arc::new(Keeper::of(ca.office.clone(), folder.path(), wanted));
        let counts = Arc::new(Counts::default());
        let workers =
            Workers { office: ca.office.clone(), keeper, validations_at_once: 1, counts: Arc::clone(&counts) };
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(workers.run(stopped, TROUBLE));
        let put_off = async {
            while counts.failed.load(Ordering::Relaxed) == 0 {
                assert!(counts.done.load(Ordering::Relaxed) <= 1, "it is run again and again");
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), put_off).await.expect("it is put off");
        stop.send_replace(true);
        running.await.unwrap();
        let jobs = ca.store.jobs();
        assert_eq!(jobs.len(), 1);
        assert_eq!((jobs[0].due, jobs[0].attempt), (now.after(Duration::from_secs(1)), 1));
        assert_eq!(counts.done.load(Ordering::Relaxed), 1);
    }
}
