//! What the service manager is told (sd_notify(3)). One that does not listen is none of our business.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// Requests are answered, by what is in force now.
pub(crate) fn ready() {
    let _ = sd_notify::notify(false, &[NotifyState::Ready]);
}

/// The configuration is being read again. The time tells the manager which of its requests this answers.
pub(crate) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let _ = sd_notify::notify(false, &[NotifyState::Reloading, now]);
    }
}

/// The end has begun.
pub(crate) fn stopping() {
    let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
}

/// Ticks as often as the service manager wants to hear from us, or never.
pub(crate) struct Watchdog(Option<tokio::time::Interval>);

impl Watchdog {
    /// As the environment says (sd_watchdog_enabled(3)): meant for us unless it names another process.
    pub(crate) fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or(0));
        let ours = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
        let Some(micros) = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0) else { return Self(None) };
        let mut interval = interval(Duration::from_micros(micros) / 2);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(Some(interval))
    }

    /// Waits for the next time.
    pub(crate) async fn tick(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// The process still goes round.
    pub(crate) fn alive(&self) {
        let _ = sd_notify::notify(false, &[NotifyState::Watchdog]);
    }
}
