//! Degradations that need no restart, as listed by `/healthz` and `trackpost status` (contract 9.3).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use crate::domain::delivery::health::HealthState;
use crate::domain::delivery::outcome::outcome_in_words;
use crate::domain::named_enum::named_enum;
use crate::domain::polling::account_status::AccountStatus;
use crate::domain::time::{after, instant, serialize_instant_or_null};
use crate::domain::words::counted;

named_enum! {
    /// Kind of a degradation, the most urgent first.
    #[derive(Deserialize)]
    pub enum DegradationKind {
        /// No daemon runs: nothing is polled or delivered.
        Daemon = "daemon",
        /// This machine lacks descriptors, memory, ports or a name server.
        Shortage = "shortage",
        /// The wall clock jumped within the last hour.
        Clock = "clock",
        /// An account is not ok: its labels are not polled.
        Account = "account",
        /// A subscriber is failing or paused, or not configured while deliveries wait for it.
        Subscriber = "subscriber",
        /// The first polls of an account's labels take longer than an hour.
        FirstPolls = "first_polls",
        /// The last reload was rejected.
        Reload = "reload",
        /// A label file is left out.
        LabelFile = "label_file",
        /// Label rows are left out.
        LabelRow = "label_row",
        /// Label files are not watched.
        Watch = "watch",
        /// The write-ahead log of the database is large.
        Wal = "wal",
    }
}

/// A degradation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    pub what: DegradationKind,
    /// Name of the account, subscriber or file; key of the configuration that has the label rows.
    pub name: Option<String>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub since: Option<Timestamp>,
    pub detail: Option<String>,
}

/// First polls that take longer than this are a degradation.
pub const FIRST_POLLS: Duration = Duration::from_secs(3_600);

/// A longer wait after a 429 is a degradation.
const LONG_WAIT: Duration = Duration::from_secs(600);

/// A write-ahead log of more bytes is a degradation. Checkpoints keep it far smaller.
pub const LARGE_WAL: u64 = 256 << 20;

impl Serialize for SubscriberStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// State of a subscriber by configuration and database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriberStatus {
    Configured(HealthState),
    /// `enabled = false`.
    Disabled,
    /// The configuration had it and lacks it now.
    Removed,
}

impl SubscriberStatus {
    pub const ALL: [Self; 5] = [
        Self::Configured(HealthState::Ok),
        Self::Configured(HealthState::Failing),
        Self::Configured(HealthState::Paused),
        Self::Disabled,
        Self::Removed,
    ];

    /// `enabled`: from the configuration, `None` if it lacks the subscriber.
    pub fn of(enabled: Option<bool>, state: HealthState) -> Self {
        match enabled {
            Some(true) => Self::Configured(state),
            Some(false) => Self::Disabled,
            None => Self::Removed,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configured(state) => state.as_str(),
            Self::Disabled => "disabled",
            Self::Removed => "removed",
        }
    }
}

impl Degraded {
    pub fn new(
        what: DegradationKind,
        name: Option<&str>,
        since: Option<Timestamp>,
        detail: impl Into<String>,
    ) -> Self {
        Self { what, name: name.map(str::to_owned), since, detail: Some(detail.into()) }
    }

    /// An account that is not ok.
    pub fn account(
        name: &str,
        status: AccountStatus,
        since: Timestamp,
        detail: Option<&str>,
    ) -> Option<Self> {
        let reason = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        let detail =
            format!("{}{reason}: its labels are not polled, except one probe at a time", status.as_str());
        (status != AccountStatus::Ok)
            .then(|| Self::new(DegradationKind::Account, Some(name), Some(since), detail))
    }

    /// An account that is ok and sends no request for long: after a 429, or because the budget of the month is used up.
    pub fn account_waits(
        name: &str,
        throttled_until: Option<Timestamp>,
        budget: (u64, u64),
        now: Timestamp,
    ) -> Option<Self> {
        let (used, of) = budget;
        let long = throttled_until.filter(|until| *until > after(now, LONG_WAIT));
        let detail = match long {
            Some(until) => {
                format!("no request until {}: the API answered 429", instant(until))
            }
            None if of > 0 && used >= of => format!("no request this month: its {of} requests are used up"),
            None => return None,
        };
        Some(Self::new(DegradationKind::Account, Some(name), None, detail))
    }

    /// A subscriber that is failing or paused, or that is disabled or removed while `deliveries_wait`.
    pub fn subscriber(
        name: &str,
        status: SubscriberStatus,
        since: Option<Timestamp>,
        reason: Option<&str>,
        last_failure: Option<&str>,
        deliveries_wait: bool,
    ) -> Option<Self> {
        let detail = match status {
            SubscriberStatus::Configured(HealthState::Ok) => return None,
            SubscriberStatus::Configured(state) => {
                let reason = reason.unwrap_or_default().replace('_', " ");
                let last = last_failure.filter(|_| state == HealthState::Failing);
                let last = last
                    .map(|last| format!("; last failure: {}", outcome_in_words(last)))
                    .unwrap_or_default();
                format!("{} ({reason}){last}", state.as_str())
            }
            _ if !deliveries_wait => return None,
            SubscriberStatus::Disabled => {
                "disabled in the configuration, but has pending deliveries".to_owned()
            }
            SubscriberStatus::Removed => {
                "removed from the configuration, but has pending deliveries".to_owned()
            }
        };
        Some(Self::new(DegradationKind::Subscriber, Some(name), since, detail))
    }

    /// First polls that take longer than an hour. `take`: how long they take, `None` if the quota allows none.
    pub fn first_polls(name: &str, waiting: u64, take: Option<Duration>) -> Option<Self> {
        let long = waiting > 0 && take.is_none_or(|take| take > FIRST_POLLS);
        long.then(|| {
            Self::new(DegradationKind::FirstPolls, Some(name), None, first_polls_in_words(waiting, take))
        })
    }

    /// A write-ahead log of `bytes` bytes, if it is large.
    pub fn wal(bytes: u64) -> Option<Self> {
        let detail = format!("the write-ahead log has {} MiB", bytes >> 20);
        (bytes > LARGE_WAL).then(|| Self::new(DegradationKind::Wal, None, None, detail))
    }
}

/// Returns the duration of `waiting` first polls at `rate` requests per second; `None`: they never end.
pub fn first_polls_take(waiting: u64, rate: f64) -> Option<Duration> {
    Duration::try_from_secs_f64((waiting as f64 / rate).ceil()).ok()
}

/// Description of waiting first polls and how long they take.
pub fn first_polls_in_words(waiting: u64, take: Option<Duration>) -> String {
    let waits = match waiting {
        1 => "1 label waits for its first poll".to_owned(),
        _ => format!("{waiting} labels wait for their first poll"),
    };
    match take.map(|take| take.as_secs().div_ceil(60)) {
        None => format!("{waits}, and the quota allows none"),
        Some(minutes @ ..120) => format!("{waits}, which takes at least {}", counted(minutes, "minute")),
        Some(minutes) => format!("{waits}, which takes at least {} hours", (minutes as f64 / 60.0).round()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn first_polls_are_a_degradation_once_they_take_over_an_hour() {
        let rate = 160.0 / 60.0;
        let degraded = |waiting| Degraded::first_polls("main", waiting, first_polls_take(waiting, rate));
        assert_eq!(degraded(0), None);
        assert_eq!(degraded(160 * 60), None);
        let detail = degraded(160 * 61).unwrap().detail.unwrap();
        assert!(detail.contains("at least 61 minutes"), "{detail}");
        let detail = degraded(210_000).unwrap().detail.unwrap();
        assert_eq!(detail, "210000 labels wait for their first poll, which takes at least 22 hours");
        assert!(Degraded::first_polls("main", 1, first_polls_take(1, 0.0)).is_some());
    }

    #[test]
    fn reports_only_degradations() {
        let since = at("2026-11-22T10:00:00Z");
        assert_eq!(Degraded::account("main", AccountStatus::Ok, since, None), None);
        let refused = Degraded::account("main", AccountStatus::Unauthorized, since, Some("401")).unwrap();
        assert_eq!((refused.what, refused.since), (DegradationKind::Account, Some(since)));
        let degraded = |enabled, state, waits| {
            let status = SubscriberStatus::of(enabled, state);
            Degraded::subscriber("a", status, Some(since), Some("no_connection"), Some("refused"), waits)
        };
        assert_eq!(degraded(Some(true), HealthState::Ok, true), None);
        let failing = degraded(Some(true), HealthState::Failing, false).unwrap();
        assert_eq!(
            failing.detail.as_deref(),
            Some("failing (no connection); last failure: connection refused")
        );
        assert!(degraded(Some(true), HealthState::Paused, false).is_some());
        for enabled in [Some(false), None] {
            assert_eq!(degraded(enabled, HealthState::Failing, false), None);
            assert!(degraded(enabled, HealthState::Failing, true).is_some());
        }
        let waits = |wait_s, budget| {
            let until = since + jiff::SignedDuration::from_secs(wait_s);
            let found = Degraded::account_waits("main", Some(until), budget, since);
            found.and_then(|found| found.detail).unwrap_or_default()
        };
        assert_eq!([waits(60, (5, 0)), waits(-7200, (4, 5))], ["", ""]);
        assert_eq!(waits(7200, (0, 0)), "no request until 2026-11-22T12:00:00.000Z: the API answered 429");
        assert_eq!(waits(60, (5, 5)), "no request this month: its 5 requests are used up");
        assert_eq!(Degraded::wal(LARGE_WAL), None);
        assert!(Degraded::wal(LARGE_WAL + 1).is_some());
    }
}
