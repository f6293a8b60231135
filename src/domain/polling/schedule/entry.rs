//! Compact form of a label in the schedule, with all that an unchanged answer needs.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use crate::domain::digest::Digest;
use crate::domain::label::LabelState;
use crate::domain::polling::cadence::Situation;
use crate::domain::polling::label_record::LabelRecord;
use crate::domain::polling::pace::Pace;
use crate::domain::tracking::StatusCode;

/// The compact form: 72 bytes. Instants other than the due time are whole seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    pub row: i64,
    /// The number of an id such as `se-324658`; `u64::MAX` for another form, which the schedule keeps elsewhere.
    pub(super) number: u64,
    pub(super) due_ms: i64,
    digest: u64,
    pub version: u32,
    wait_ms: u32,
    unchanged: u32,
    answered_s: u32,
    quiet_s: u32,
    alert_s: u32,
    /// Days since [`DAY_ZERO`].
    estimate: u16,
    pub(super) carrier: u16,
    pub(super) service: u16,
    status: Option<StatusCode>,
    /// Quarters of an hour east of UTC.
    offset: i8,
    flags: u8,
    pace: u8,
}

const NONE: u32 = u32::MAX;
const NO_DAY: u16 = u16::MAX;
const DAY_ZERO: Date = jiff::civil::date(2000, 1, 1);

const OUT_FOR_DELIVERY: u8 = 1;
/// Flag: an unchanged answer has no effect except the next poll.
const PLAIN: u8 = 2;
pub(super) const FAILING: u8 = 4;
/// Flag: the label is being polled and is not in a queue.
pub(super) const IN_FLIGHT: u8 = 8;
/// Flag: the entry is free.
pub(super) const VACANT: u8 = 16;
const REFUSED: u8 = 32;

/// Returns the first 64 bits of a digest: enough to recognize an answer.
pub fn prefix(digest: &Digest) -> u64 {
    u64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}

impl Entry {
    /// `alert_at`: when the next alert (stalled, late) may be due, or the label may finish.
    pub(super) fn new(
        label: &LabelRecord,
        alert_at: Option<Timestamp>,
        number: u64,
        carrier: u16,
        service: u16,
    ) -> Self {
        let state = &label.poll_state;
        let situation = state.situation(&label.key, label.registered_at, false);
        let (failing, refused) = (state.failures > 0, state.refusals > 0);
        let plain = state.state == LabelState::Active
            && state.last_answer_at.is_some()
            && state.answer_digest.is_some()
            && state.missing_events == 0
            && !failing
            && !refused;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        Self {
            row: label.row,
            number,
            due_ms: state.next_poll_at.map_or(i64::MAX, Timestamp::as_millisecond),
            digest: state.answer_digest.as_ref().map_or(0, prefix),
            version: u32::try_from(label.version).unwrap_or(u32::MAX),
            wait_ms: state.wait.map_or(0, |wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)),
            unchanged: situation.unchanged,
            answered_s: state.last_answer_at.map_or(NONE, seconds),
            quiet_s: seconds(situation.quiet_since),
            alert_s: alert_at.map_or(NONE, seconds_up),
            estimate: situation.estimate.map_or(NO_DAY, days),
            carrier,
            service,
            status: situation.status,
            offset: i8::try_from(situation.utc_offset.seconds() / 900).unwrap_or(0),
            flags: flag(situation.out_for_delivery, OUT_FOR_DELIVERY)
                | flag(plain, PLAIN)
                | flag(failing, FAILING)
                | flag(refused, REFUSED),
            pace: state.pace.map_or(Pace::NONE, Pace::of).code(),
        }
    }

    /// Planned time of the next poll; `None` if it is due as soon as the quota allows.
    pub fn planned_poll_at(&self) -> Option<Timestamp> {
        (self.wait_ms > 0).then(|| self.due_at())
    }

    pub fn due_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.due_ms).unwrap_or(Timestamp::MAX)
    }

    /// Returns the latest due time that the planned wait allows at `now`.
    pub(super) fn latest_ms(&self, now: Timestamp) -> i64 {
        now.as_millisecond().saturating_add(i64::from(self.wait_ms))
    }

    pub fn pace(&self) -> Pace {
        Pace::from_code(self.pace)
    }

    pub fn unchanged(&self) -> u32 {
        self.unchanged
    }

    pub fn answered_at(&self) -> Option<Timestamp> {
        instant(self.answered_s)
    }

    /// The next alert, rounded up to a second.
    pub fn alert_at(&self) -> Option<Timestamp> {
        instant(self.alert_s)
    }

    /// Whether the last poll failed or was refused.
    pub fn is_failing(&self) -> bool {
        self.has(FAILING | REFUSED)
    }

    /// Digest of the answer that has no effect except the next poll, if there is one.
    pub fn plain_digest(&self) -> Option<u64> {
        self.has(PLAIN).then_some(self.digest)
    }

    /// Input of the cadence after one more unchanged answer.
    pub fn unchanged_situation(&self) -> Situation {
        Situation { unchanged: self.unchanged.saturating_add(1), ..self.situation() }
    }

    /// Input of the cadence after the last answer.
    pub fn situation(&self) -> Situation {
        Situation {
            status: self.status,
            out_for_delivery: self.has(OUT_FOR_DELIVERY),
            estimate: day(self.estimate),
            utc_offset: Offset::from_seconds(i32::from(self.offset) * 900).unwrap_or(Offset::UTC),
            quiet_since: instant(self.quiet_s).unwrap_or(Timestamp::UNIX_EPOCH),
            unchanged: self.unchanged,
            finished_at: None,
            phase: None,
        }
    }

    /// Demand of the label, in billionths of a request per second.
    pub(super) fn nanohertz(&self) -> i64 {
        if self.wait_ms > 0 { 1_000_000_000_000 / i64::from(self.wait_ms) } else { 0 }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    /// Applies an unchanged answer at `now` with the plan of the next poll.
    pub(super) fn answer_unchanged(&mut self, due_ms: i64, wait_ms: u32, pace: Pace, now: Timestamp) {
        self.unchanged = self.unchanged.saturating_add(1);
        self.answered_s = seconds(now);
        self.plan(due_ms, wait_ms, pace);
    }

    pub(super) fn plan(&mut self, due_ms: i64, wait_ms: u32, pace: Pace) {
        (self.due_ms, self.wait_ms, self.pace) = (due_ms, wait_ms, pace.code());
    }
}

fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_second().max(0)).unwrap_or(NONE - 1).min(NONE - 1)
}

fn seconds_up(at: Timestamp) -> u32 {
    seconds(at).saturating_add(u32::from(at.subsec_nanosecond() > 0)).min(NONE - 1)
}

fn instant(seconds: u32) -> Option<Timestamp> {
    Timestamp::from_second(i64::from(seconds)).ok().filter(|_| seconds != NONE)
}

fn days(date: Date) -> u16 {
    let days = date.since(DAY_ZERO).map(|span| span.get_days()).unwrap_or(-1);
    u16::try_from(days).unwrap_or(NO_DAY)
}

fn day(days: u16) -> Option<Date> {
    use jiff::ToSpan as _;
    if days == NO_DAY { None } else { DAY_ZERO.checked_add(i64::from(days).days()).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 72, "{}", size_of::<Entry>());
    }

    #[test]
    fn days_and_seconds_round_trip() {
        for date in ["2000-01-01", "2026-11-27", "2178-01-01"] {
            let date: Date = date.parse().unwrap();
            assert_eq!(day(days(date)), Some(date));
        }
        assert_eq!(day(days("1999-12-31".parse().unwrap())), None);
        let at: Timestamp = "2026-11-27T10:00:00.5Z".parse().unwrap();
        assert_eq!(instant(seconds(at)).unwrap().to_string(), "2026-11-27T10:00:00Z");
        assert_eq!(instant(seconds_up(at)).unwrap().to_string(), "2026-11-27T10:00:01Z");
        assert_eq!(instant(NONE), None);
    }
}
