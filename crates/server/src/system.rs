//! The one real clock, the one real source of chance, and what the process owes its secrets.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use chancery_authority::ports::{Clock, Entropy};
use chancery_pki::Timestamp;

/// How far the clock may be behind what was recorded before (threat model TM15).
const BEHIND_MAX: Duration = Duration::from_secs(5 * 60);
/// How far the clock may run ahead of the time that has passed (threat model TM15).
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Leaves no core file behind: it would hold private keys (threat model TM1).
pub(crate) fn no_core_dumps() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    // Where the kernel refuses, the process is no worse off than before.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Lets this process open as many files as it may, and says how many that are: the usual limit of 1024 is there for
/// programs that cannot do with more.
pub(crate) fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit.
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
    .unwrap_or(u64::MAX)
}

/// The wall clock.
#[derive(Debug, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one real clock")]
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The operating system's source of chance, by way of aws-lc.
#[derive(Debug, Default)]
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn octets16(&self) -> [u8; 16] {
        octets()
    }

    fn octets32(&self) -> [u8; 32] {
        octets()
    }
}

fn octets<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets).expect("the system's source of chance does not fail once the system is up");
    octets
}

/// Why the clock is not to be trusted, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClockFault {
    /// It is behind what was recorded.
    #[error(
        "this machine's clock says {now}, but something was recorded at {recorded} already; \
         nothing is issued until the clock is right (see: timedatectl)"
    )]
    Behind {
        /// What it says.
        now: Timestamp,
        /// What was recorded.
        recorded: Timestamp,
    },
    /// It jumped ahead while we looked.
    #[error(
        "this machine's clock jumped ahead by {} hours; nothing is issued until it is right again (see: timedatectl), \
         or `chancery reload` has confirmed that it is",
        by.as_secs() / 3_600
    )]
    Ahead {
        /// By how much.
        by: Duration,
    },
}

/// Watches the clock against the time that has passed and against what was recorded (TM15).
///
/// A jump while the process runs shows against the monotonic clock. After a restart only the past
/// is known: a clock behind what was recorded is refused, one that is ahead cannot be told from a
/// long stop.
#[derive(Debug)]
pub(crate) struct ClockGuard {
    /// The latest time that is known to have been recorded, in Unix milliseconds.
    recorded: AtomicI64,
    /// A moment on both clocks, taken anew whenever the two agree.
    anchor: Mutex<(Duration, Timestamp)>,
}

impl ClockGuard {
    /// Starts watching; `recorded` is the latest time that a former run recorded.
    pub(crate) fn new(now: Timestamp, recorded: Option<Timestamp>) -> Self {
        let recorded = recorded.map_or(0, Timestamp::unix_millis);
        Self { recorded: AtomicI64::new(recorded), anchor: Mutex::new((since_boot(), now)) }
    }

    /// The latest time at which the clock was trusted.
    pub(crate) fn recorded(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.recorded.load(Ordering::Relaxed))
    }

    /// Whether the clock can be trusted now. A trusted time is remembered as recorded.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), ClockFault> {
        self.check_at(now, since_boot())
    }

    fn check_at(&self, now: Timestamp, instant: Duration) -> Result<(), ClockFault> {
        let recorded = self.recorded();
        if now.after(BEHIND_MAX) < recorded {
            return Err(ClockFault::Behind { now, recorded });
        }
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = anchor.1.after(instant.saturating_sub(anchor.0));
        let ahead = now.since(expected);
        if ahead > AHEAD_MAX {
            return Err(ClockFault::Ahead { by: ahead });
        }
        *anchor = (instant, now);
        self.recorded.fetch_max(now.unix_millis(), Ordering::Relaxed);
        Ok(())
    }

    /// Someone in charge says that the clock is right as it is.
    pub(crate) fn confirm(&self, now: Timestamp) {
        *self.anchor.lock().unwrap_or_else(PoisonError::into_inner) = (since_boot(), now);
    }
}

/// How long the machine has been up, sleep included.
fn since_boot() -> Duration {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(up.tv_sec).unwrap_or(0), u32::try_from(up.tv_nsec).unwrap_or(0))
}

/// The wall clock, watched.
#[derive(Debug)]
pub(crate) struct TrustedClock {
    guard: ClockGuard,
}

impl TrustedClock {
    /// Starts watching; `recorded` is the latest time that a former run recorded.
    pub(crate) fn new(recorded: Option<Timestamp>) -> Self {
        Self { guard: ClockGuard::new(SystemClock.now(), recorded) }
    }

    /// Whether it can be trusted now.
    pub(crate) fn check(&self) -> Result<(), ClockFault> {
        self.guard.check(SystemClock.now())
    }

    /// Someone in charge says that it is right as it is.
    pub(crate) fn confirm(&self) {
        self.guard.confirm(SystemClock.now());
    }
}

impl Clock for TrustedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn doubt(&self) -> Option<String> {
        self.check().err().map(|fault| fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_clock_five_minutes_behind_what_was_recorded_is_borne_and_more_is_not() {
        let guard = ClockGuard::new(START, Some(START.after(5 * MINUTE)));
        let instant = since_boot();
        assert_eq!(guard.check_at(START, instant), Ok(()));
        let earlier = START.before(Duration::from_millis(1));
        assert!(matches!(guard.check_at(earlier, instant), Err(ClockFault::Behind { .. })));
    }

    #[test]
    fn a_clock_that_steps_back_while_we_run_is_refused_until_it_has_caught_up() {
        let guard = ClockGuard::new(START, None);
        let instant = since_boot();
        assert_eq!(guard.check_at(START.after(HOUR), instant + HOUR), Ok(()));
        assert!(guard.check_at(START.after(30 * MINUTE), instant + HOUR).is_err());
        assert_eq!(guard.check_at(START.after(56 * MINUTE), instant + HOUR), Ok(()));
    }

    #[test]
    fn a_jump_ahead_by_more_than_a_day_is_refused_until_it_is_confirmed() {
        let guard = ClockGuard::new(START, None);
        let instant = since_boot();
        let jumped = START.after(26 * HOUR);
        assert!(matches!(guard.check_at(jumped, instant + HOUR), Err(ClockFault::Ahead { .. })));
        guard.confirm(jumped);
        assert_eq!(guard.check_at(jumped, since_boot()), Ok(()));
    }

    #[test]
    fn a_machine_that_slept_through_the_time_is_no_jump() {
        let guard = ClockGuard::new(START, None);
        assert_eq!(guard.check_at(START.after(100 * HOUR), since_boot() + 90 * HOUR), Ok(()));
    }
}
