//! What the threads and the readers share.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering},
};

use tokio::sync::watch;

use crate::{
    bundles::Bundles,
    committer::Queue,
    disk::Disk,
    folder::Folder,
    journal::Origin,
    metrics::{Metrics, number, set},
    options::Options,
    sweep::Signal,
    view::View,
};

/// What the threads and the readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) folder: Folder,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) origin: Origin,
    pub(crate) view: View,
    pub(crate) bundles: Bundles,
    pub(crate) queue: Queue,
    pub(crate) signal: Signal,
    pub(crate) metrics: Metrics,
    /// Held by a sweep, and by a backup that wants none meanwhile.
    pub(crate) sweeping: Mutex<()>,
    pub(crate) segments: Mutex<Vec<(u64, PathBuf)>>,
    pub(crate) failed: watch::Sender<Option<Arc<str>>>,
    pub(crate) stopped: OnceLock<Arc<str>>,
}

impl Shared {
    /// Nothing is acknowledged any more.
    pub(crate) fn fail(&self, why: &Arc<str>) {
        self.queue.close(why);
        self.failed.send_replace(Some(Arc::clone(why)));
        tracing::error!("the store stops: {why}");
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        // A file system that cannot say is not a full one.
        let free = self.disk.free(self.folder.root()).unwrap_or(u64::MAX);
        set(&self.metrics.free_bytes, free);
        free
    }

    /// Octets that must stay free: enough for the next sweep, which rewrites in sled and in bundles
    /// what journal and overlay hold.
    pub(crate) fn floor(&self) -> u64 {
        let held = self
            .metrics
            .journal_bytes
            .load(Ordering::Relaxed)
            .saturating_add(self.metrics.overlay_bytes.load(Ordering::Relaxed));
        self.options.floor_bytes.max(held.saturating_mul(3))
    }

    /// A group was applied: is a sweep due?
    pub(crate) fn note_growth(&self) {
        set(&self.metrics.overlay_bytes, number(self.view.bytes()));
        let journal = self.metrics.journal_bytes.load(Ordering::Relaxed);
        let first = self.segments.lock().unwrap_or_else(PoisonError::into_inner).len();
        if self.view.fresh_bytes() > self.options.sweep_bytes
            || (journal > self.options.journal_sweep_bytes && first > 1)
        {
            self.signal.due();
        }
    }

    pub(crate) fn segment_began(&self, first: u64, path: PathBuf) {
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        if segments.last().is_none_or(|(last, _)| *last != first) {
            segments.push((first, path));
        }
    }

    /// Segments whose frames all come before `sequence`; the last one stays, it is written to.
    pub(crate) fn swept_segments(&self, sequence: u64) -> Vec<PathBuf> {
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = segments.iter().skip(1).take_while(|(first, _)| *first <= sequence).count();
        segments.drain(..ends).map(|(_, path)| path).collect()
    }
}

/// Fails the store when the thread that holds it panics: without that, whoever waits for the thread would wait for ever.
pub(crate) struct Watched {
    pub(crate) shared: Arc<Shared>,
    /// Which thread.
    pub(crate) thread: &'static str,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(&format!("the {} has panicked; the log says where", self.thread).into());
        }
    }
}
