//! Hands out what the board says, and waits while it says nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    board::{Asked, Board, Counts, Done, IssuerKey, Limits, Next},
    book::Book,
    decide::IssuerState,
    resource::CertificateRequest,
    signer::Signer,
    worker::Worker,
};

/// Longest that one job takes.
const LONGEST: Duration = Duration::from_secs(300);

/// A board that several tasks share.
#[derive(Debug)]
pub(crate) struct Desk {
    board: Mutex<Board>,
    changed: Notify,
    /// The issuers, for whoever signs other things than the board's.
    pub(crate) book: Book,
    /// Empty once each issuer that was there at the start has been checked.
    pub(crate) first_checks: TaskTracker,
}

impl Desk {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            board: Mutex::new(Board::new(limits)),
            changed: Notify::new(),
            book: Book::default(),
            first_checks: TaskTracker::new(),
        }
    }

    /// Changes the board, and wakes whoever hands out.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Board) -> T) -> T {
        let result = change(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
        result
    }

    pub(crate) fn observe(&self, request: CertificateRequest) {
        self.with(|board| board.observe(request, Instant::now()));
    }

    pub(crate) fn issuer_is(&self, key: &IssuerKey, state: IssuerState, signer: Option<Arc<Signer>>) {
        self.book.set(key, &state, signer.as_ref());
        self.with(|board| board.issuer_is(key, state, signer));
    }

    /// How many requests found no room.
    pub(crate) fn left_out(&self) -> usize {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).left_out()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).counts()
    }
}

/// Hands out jobs until `stop`; those under way are `tasks`.
pub(crate) async fn dispatch(desk: Arc<Desk>, worker: Arc<Worker>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let next = desk.board.lock().unwrap_or_else(PoisonError::into_inner).next(Instant::now());
        let until = match next {
            Next::Job(job) => {
                let (desk, worker) = (Arc::clone(&desk), Arc::clone(&worker));
                tasks.spawn(async move {
                    let work = tokio::spawn({
                        let (job, worker) = (job.clone(), Arc::clone(&worker));
                        async move { timeout(LONGEST, worker.work(&job)).await }
                    });
                    let (done, asked) = match work.await {
                        Ok(Ok(ended)) => ended,
                        // An API server that takes a connection and says nothing.
                        Ok(Err(_)) => (Done::Later(None, None), Asked::Not),
                        Err(error) => {
                            tracing::error!(request.uid = %job.uid, error = %error, "a task broke; its request is tried again");
                            let broke = tokio::spawn({
                                let job = job.clone();
                                async move { timeout(LONGEST, worker.broke(&job)).await }
                            });
                            let done = broke.await.ok().and_then(Result::ok).unwrap_or(Done::Later(None, None));
                            (done, Asked::Not)
                        }
                    };
                    desk.with(|board| board.finished(&job, done, asked, Instant::now()));
                });
                continue;
            }
            Next::Nothing(until) => until,
        };
        let far = Instant::now() + Duration::from_secs(3600);
        tokio::select! {
            () = stop.cancelled() => return,
            () = desk.changed.notified() => {}
            () = sleep_until(until.unwrap_or(far)) => {}
        }
    }
}
