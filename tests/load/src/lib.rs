//! What a process costs, and how figures are told: shared by the load of the ACME door and that of a cluster.

use std::fs;

use chancery_harness::Result;

/// What a server process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time, user and system, in milliseconds.
    pub cpu_ms: f64,
    /// Octets written to disks; `None` where only root may know.
    pub written: Option<u64>,
}

/// What a process has used so far (proc_pid_stat(5), proc_pid_io(5)).
///
/// # Errors
///
/// If there is no such process.
pub fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').ok_or("unreadable stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    // utime and stime are fields 14 and 15 of proc_pid_stat(5); two stand before the closing parenthesis.
    let per_second = rustix::param::clock_ticks_per_second();
    // The server hides its memory from other processes of its user, and with it what it has written.
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok();
    let line = io.as_deref().and_then(|io| io.lines().find_map(|line| line.strip_prefix("write_bytes: ")));
    let written = line.and_then(|text| text.trim().parse().ok());
    #[expect(clippy::cast_precision_loss, reason = "a hundred ticks a second")]
    let cpu_ms = (ticks(11) + ticks(12)) * 1000.0 / per_second as f64;
    Ok(Usage { cpu_ms, written })
}

/// What the whole machine has done so far (proc_stat(5)).
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    busy: f64,
    all: f64,
}

impl Machine {
    /// What it has done until now.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).ok_or("unreadable stat")?;
        let ticks: Vec<f64> = line.split_whitespace().filter_map(|field| field.parse().ok()).take(8).collect();
        let all: f64 = ticks.iter().sum();
        // idle and iowait.
        let idle: f64 = ticks.iter().skip(3).take(2).sum();
        Ok(Self { busy: all - idle, all })
    }

    /// How busy it was since then, in percent of all its processors.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn busy_since(self) -> Result<f64> {
        let now = Self::now()?;
        Ok((now.busy - self.busy) * 100.0 / (now.all - self.all).max(1.0))
    }
}

/// A line of proc_pid_status(5), in MiB: `VmRSS` is what is resident now, `VmHWM` the most that ever was.
///
/// # Errors
///
/// If there is no such process, or no such line.
pub fn memory_mib(pid: u32, line: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kib = value.and_then(|text| text.split_whitespace().next()).and_then(|text| text.parse::<f64>().ok());
    Ok(kib.ok_or_else(|| format!("the status of process {pid} has no {line}"))? / 1024.0)
}

/// The value below which this part of a hundred lies, of what is sorted, in milliseconds.
#[must_use]
pub fn percentile_ms(sorted_us: &[u64], percent: usize) -> f64 {
    let at = (sorted_us.len() * percent / 100).min(sorted_us.len().saturating_sub(1));
    #[expect(clippy::cast_precision_loss, reason = "latencies in microseconds")]
    let us = sorted_us.get(at).copied().unwrap_or_default() as f64;
    us / 1000.0
}

/// To a hundredth.
#[must_use]
pub fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
