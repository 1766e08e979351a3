//! Tells servers where their certificates are used: in which Secret. Slowly, beside the work, and never waited for.

use std::{sync::Arc, time::Duration};

use chancery_api::{RequestKind, RequestRef, UsageReport};
use tokio::{
    sync::{Mutex, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{board::Uid, metrics::Metrics, signer::Signer};

/// Reports that may wait; more are dropped and counted.
const QUEUE: usize = 4096;
/// Time between two reports: a flood of certificates is not doubled by them.
const PACE: Duration = Duration::from_millis(50);
/// How often one report is tried.
const TRIES: u32 = 3;

#[derive(Debug)]
struct Report {
    signer: Arc<Signer>,
    uid: Uid,
    namespace: Box<str>,
    place: String,
    tries: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Usages {
    queue: mpsc::Sender<Report>,
    waiting: Mutex<mpsc::Receiver<Report>>,
    metrics: Arc<Metrics>,
}

impl Usages {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        Self { queue, waiting: Mutex::new(waiting), metrics }
    }

    /// The certificate of a request lies in this Secret.
    pub(crate) fn is_in_secret(&self, signer: &Arc<Signer>, uid: &Uid, namespace: &str, secret: &str) {
        let place = format!("Secret {namespace}/{secret}");
        let (signer, uid) = (Arc::clone(signer), Uid::clone(uid));
        self.put(Report { signer, uid, namespace: namespace.into(), place, tries: 0 });
    }

    fn put(&self, report: Report) {
        if self.queue.try_send(report).is_err() {
            self.metrics.usage_dropped();
        }
    }

    /// Sends reports until `stop`.
    pub(crate) async fn send(self: Arc<Self>, stop: CancellationToken) {
        let mut waiting = self.waiting.lock().await;
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = waiting.recv() => next,
            };
            let Some(mut report) = next else { return };
            let body = UsageReport { used_by: vec![report.place.clone()] };
            let kind = RequestKind::CertificateRequest;
            let named = RequestRef { kind, namespace: Some(&report.namespace), uid: &report.uid };
            let sent = tokio::select! {
                () = stop.cancelled() => return,
                sent = report.signer.client.report_usage(named, &body) => sent,
            };
            if let Err(error) = sent {
                tracing::debug!(request.uid = %report.uid, error = %error, "where a certificate is used could not be told");
                report.tries += 1;
                if report.tries < TRIES {
                    self.put(report);
                } else {
                    self.metrics.usage_dropped();
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = pace.tick() => {}
            }
        }
    }
}
