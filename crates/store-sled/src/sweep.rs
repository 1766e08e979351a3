//! The sweep: moves what the overlay holds into sled, and leaves into bundles, behind everybody's back.
//!
//! Order is everything: values, synced; then the position, synced; then bundles, synced; only then
//! are segments dropped. A crash anywhere repeats the rest, and replay is idempotent. A sweep that
//! fails drops nothing, alarms, and is tried again.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    bundles::State,
    index::{IndexError, Position},
    journal::{self, Damage, ReadError},
    metrics::{add, number, set},
    shared::{Shared, Watched},
};

/// How long after a failed sweep the next one is tried.
const RETRY: Duration = Duration::from_secs(5);

/// How the sweeper is told that there is something to do.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<Told>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    due: bool,
    stop: bool,
}

impl Signal {
    pub(crate) fn due(&self) {
        let mut told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.due {
            told.due = true;
            drop(told);
            self.told.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.told.notify_one();
    }

    /// Waits until a sweep is due or `most` has passed; `false` if it is the end.
    fn wait(&self, most: Duration) -> bool {
        let mut told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + most;
        while !told.due && !told.stop {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
            told = self.told.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        told.due = false;
        !told.stop
    }
}

/// Sweeps until it is told to stop.
pub(crate) fn run(shared: &Shared) {
    let mut pause = shared.options.sweep_age;
    learn(shared);
    while shared.signal.wait(pause) {
        match sweep(shared) {
            Ok(()) => {
                pause = shared.options.sweep_age;
                learn(shared);
            }
            Err(error) => {
                tracing::error!(%error, "a sweep failed; nothing is lost, and it is tried again");
                pause = RETRY.min(shared.options.sweep_age);
            }
        }
    }
}

/// Lets the index learn which keys it has not. Where it cannot, it is only slower.
fn learn(shared: &Shared) {
    let _one_at_a_time = shared.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(damage) = shared.view.index.learn() {
        tracing::error!(%damage, "the index is damaged; rebuild it from the ledger: chancery store rebuild");
    }
}

/// Moves everything that was committed before it began.
pub(crate) fn sweep(shared: &Shared) -> Result<(), ReadError> {
    let _one_at_a_time = shared.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
    sweep_held(shared)
}

/// The same for whoever holds the lock already.
pub(crate) fn sweep_held(shared: &Shared) -> Result<(), ReadError> {
    let began = Instant::now();
    let outcome = move_frozen(shared);
    let metrics = &shared.metrics;
    add(&metrics.sweep_ms, u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    set(&metrics.overlay_bytes, number(shared.view.bytes()));
    add(if outcome.is_ok() { &metrics.sweeps } else { &metrics.failed_sweeps }, 1);
    outcome
}

fn move_frozen(shared: &Shared) -> Result<(), ReadError> {
    if let Err(error) = restore_reserve(shared) {
        tracing::warn!(%error, "the journal's reserve cannot be made now");
    }
    if shared.view.index.is_ailing() {
        shared.view.index.heal().map_err(|error| match error {
            IndexError::Damaged(damage) => damage,
            IndexError::Locked(path) => Damage::new(&path, "another process holds the index"),
        })?;
    }
    let Some(frozen) = shared.view.freeze() else { return Ok(()) };
    // What comes after belongs to a segment of its own, so that this one can go.
    shared.queue.ask_for_new_segment();
    let position = Position { origin: shared.origin, sequence: frozen.next.sequence - 1 };
    if let Err(damage) = shared.view.index.sweep(&frozen.results, position) {
        // sled refuses everything after a failed write; what it has on the disk is behind its position.
        if let Err(error) = shared.view.index.heal() {
            tracing::error!(%error, "the index cannot be opened again");
        }
        return Err(damage.into());
    }
    let state = State { origin: shared.origin, frontier: frozen.frontier.clone(), next: frozen.next };
    shared.bundles.append(frozen.first_leaf, &frozen.leaves, &state)?;
    shared.view.thaw(&frozen);
    drop_segments(shared, frozen.next.sequence);
    Ok(())
}

/// Segments whose every frame is swept go, but for the one that is written to.
fn drop_segments(shared: &Shared, swept_to: u64) {
    for path in shared.swept_segments(swept_to) {
        let size = path.metadata().map_or(0, |found| found.len());
        // Each removal is made durable before the next: a gap between segments would be damage.
        match shared.disk.remove(&path).and_then(|()| shared.disk.sync_folder(&shared.folder.journal())) {
            Ok(()) => {
                let left = shared.metrics.journal_bytes.load(std::sync::atomic::Ordering::Relaxed).saturating_sub(size);
                set(&shared.metrics.journal_bytes, left);
            }
            Err(error) => {
                // Replaying it again would change nothing.
                tracing::warn!(path = %path.display(), %error, "a swept segment cannot be removed");
            }
        }
    }
}

fn restore_reserve(shared: &Shared) -> std::io::Result<()> {
    let folder = shared.folder.journal();
    if !folder.join(journal::RESERVE).exists()
        && shared.free_bytes() > shared.floor().saturating_add(2 * journal::RESERVE_BYTES)
    {
        journal::make_reserve(&*shared.disk, &folder)?;
    }
    Ok(())
}

/// Starts the sweeper.
pub(crate) fn spawn(shared: &Arc<Shared>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let watched = Watched { shared: Arc::clone(shared), thread: "sweeper" };
    std::thread::Builder::new().name("store-sweeper".to_owned()).spawn(move || run(&watched.shared))
}
