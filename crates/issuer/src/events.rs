//! Events for people: `events.k8s.io/v1`, written beside the work and never waited for.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};
use tokio::sync::mpsc;

use crate::condition::Notice;

/// Events that may wait to be written; more are dropped and counted.
const QUEUE: usize = 4096;
/// Events that are written at a time.
const WRITERS: usize = 4;

/// Takes events.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<(ObjectReference, Notice)>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// Starts writing; it ends when every clone is dropped and the queue is empty.
    pub(crate) fn start(client: &Client, instance: String) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let reporter = Reporter { controller: "chancery.dev/issuer".to_owned(), instance: Some(instance) };
        for _ in 0..WRITERS {
            let (client, reporter, waiting) = (client.clone(), reporter.clone(), Arc::clone(&waiting));
            let dropped = Arc::clone(&dropped);
            tokio::spawn(async move {
                loop {
                    let next = waiting.lock().await.recv().await;
                    let Some((about, notice)) = next else { return };
                    if let Err(error) = write(client.clone(), reporter.clone(), &about, notice).await {
                        dropped.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(error = %error, "an event could not be written");
                    }
                }
            });
        }
        Self { queue, dropped }
    }

    /// Writes an event some time soon.
    pub(crate) fn publish(&self, about: ObjectReference, notice: Notice) {
        if self.queue.try_send((about, notice)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were not written.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

async fn write(client: Client, reporter: Reporter, about: &ObjectReference, notice: Notice) -> Result<(), kube::Error> {
    let Notice { kind, reason, note } = notice;
    let event =
        Event { type_: kind, reason: reason.to_owned(), note: Some(note), action: "Sign".to_owned(), secondary: None };
    // A recorder remembers all it has written for six minutes; ours repeats nothing, so each has its own.
    Recorder::new(client, reporter).publish(&event, about).await
}
