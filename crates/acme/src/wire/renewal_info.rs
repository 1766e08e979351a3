//! Renewal information (RFC 9773 §4.2). `explanationURL` is optional, and there is no page to name.

use serde::{Deserialize, Serialize};

use crate::renewal_info;

/// A RenewalInfo object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalInfo {
    /// When the certificate is best replaced.
    pub suggested_window: SuggestedWindow,
}

/// A time from `start` to `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuggestedWindow {
    /// When it opens (RFC 3339).
    pub start: String,
    /// When it closes (RFC 3339).
    pub end: String,
}

impl RenewalInfo {
    /// The object that says this.
    #[must_use]
    pub fn of(told: &renewal_info::RenewalInfo) -> Self {
        // How long it is good for stands in a header (§4.3).
        let renewal_info::RenewalInfo { window, ask_again: _ } = told;
        let (start, end) = (window.start().to_string(), window.end().to_string());
        Self { suggested_window: SuggestedWindow { start, end } }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chancery_pki::Timestamp;

    use super::*;

    #[test]
    fn a_window_is_two_times_and_nothing_else() {
        let window = renewal_info::SuggestedWindow::over(Timestamp::from_unix_seconds(1_795_600_000));
        let told = renewal_info::RenewalInfo::new(window, Duration::from_secs(86_400));
        assert_eq!(
            serde_json::to_value(RenewalInfo::of(&told)).expect("serializes"),
            serde_json::json!({"suggestedWindow": {"start": "2026-11-25T09:46:41Z", "end": "2026-11-25T09:46:42Z"}})
        );
    }
}
