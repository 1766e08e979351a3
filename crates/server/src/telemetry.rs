//! Logs and metrics. Logs go to the error stream, one line an event; nothing secret has a `Debug`
//! or `Display` that could reach them.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt as _};

use crate::{
    config::v1::{Log, LogFormat},
    exit::Failed,
};

/// Starts logging. Once in a process.
pub(crate) fn start_logging(log: &Log) -> Result<(), Failed> {
    let filter = EnvFilter::builder().parse(&log.level).map_err(Failed::failed)?;
    // A line that cannot be written is lost. To say so on the same stream would panic, and take whoever logged with it.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let started = match log.format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish().try_init()
        }
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr())
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            builder.with_ansi(colour).with_target(false).finish().try_init()
        }
    };
    started.map_err(Failed::failed)
}

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A number that is read when someone looks.
pub(crate) struct Observed {
    name: String,
    help: &'static str,
    kind: Kind,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Numbers that are read when someone looks.
#[derive(Default)]
pub(crate) struct Observations(Vec<Observed>);

impl Observations {
    /// Adds one.
    pub(crate) fn add(
        &mut self,
        kind: Kind,
        name: impl Into<String>,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.0.push(Observed { name: name.into(), help, kind, read: Box::new(read) });
    }

    /// Adds a counter of something shared.
    pub(crate) fn counter<T: Send + Sync + 'static>(
        &mut self,
        name: impl Into<String>,
        help: &'static str,
        of: &Arc<T>,
        read: impl Fn(&T) -> u64 + Send + Sync + 'static,
    ) {
        let of = Arc::clone(of);
        self.add(Kind::Counter, name, help, move || read(&of));
    }

    /// Adds a gauge of something shared.
    pub(crate) fn gauge<T: Send + Sync + 'static>(
        &mut self,
        name: impl Into<String>,
        help: &'static str,
        of: &Arc<T>,
        read: impl Fn(&T) -> u64 + Send + Sync + 'static,
    ) {
        let of = Arc::clone(of);
        self.add(Kind::Gauge, name, help, move || read(&of));
    }
}

impl fmt::Debug for Observations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|observed| &observed.name)).finish()
    }
}

impl Collector for Observations {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Observed { name, help, kind, read } in &self.0 {
            match kind {
                Kind::Counter => {
                    let counter = ConstCounter::new(read());
                    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
                }
                Kind::Gauge => {
                    let gauge = ConstGauge::new(i64::try_from(read()).unwrap_or(i64::MAX));
                    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
                }
            }
        }
        Ok(())
    }
}

/// Octets of memory that this process has resident, as the kernel says.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn observed_numbers_are_read_when_someone_looks() {
        let number = Arc::new(AtomicU64::new(3));
        let mut observations = Observations::default();
        observations.counter("store_commits", "Commits", &number, |number| number.load(Ordering::Relaxed));
        observations.gauge("store_queued", "Waiting", &number, |number| number.load(Ordering::Relaxed) + 1);
        let metrics = chancery_http::metrics::Metrics::new();
        metrics.register(|registry| registry.register_collector(Box::new(observations)));
        number.store(5, Ordering::Relaxed);
        let text = metrics.encode();
        assert!(text.contains("chancery_store_commits_total 5\n"), "{text}");
        assert!(text.contains("chancery_store_queued 6\n"), "{text}");
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes() > 1 << 20);
    }
}
