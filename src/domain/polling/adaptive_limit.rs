//! How much of its limit an account uses when others turn out to use it too.
//!
//! The vendor counts every request of an account, whoever makes it. A 429 may be chance; a second one soon after, though
//! we kept within our limit, means that somebody else uses what we thought was ours. Then we take less, at once, and
//! more again slowly while none comes: that is how strangers find a fair split of what none of them can see.

use jiff::{SignedDuration, Timestamp};

/// A second 429 within this says that others use the limit.
const SOON: SignedDuration = SignedDuration::from_mins(10);
/// What is left of what we used, when others use the limit.
const SHRUNK: f64 = 0.75;
/// Never less of the limit than this.
const LEAST: f64 = 0.1;
/// How much of the limit comes back a minute.
const GROWTH: f64 = 0.01;

/// What is used of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// When it was shrunk, and to what; `None`: all of it.
    pub shrunk: Option<(Timestamp, f64)>,
    /// The last 429.
    pub throttled_at: Option<Timestamp>,
}

impl Share {
    /// The share at `now`, from a tenth to 1.
    pub fn at(&self, now: Timestamp) -> f64 {
        let Some((since, share)) = self.shrunk else { return 1.0 };
        let minutes = now.duration_since(since).as_secs_f64().max(0.0) / 60.0;
        (share + GROWTH * minutes).clamp(LEAST, 1.0)
    }

    /// So many requests of `limit` in a window, at least one.
    pub fn of(&self, limit: u32, now: Timestamp) -> u32 {
        // At most the limit, so it fits.
        ((f64::from(limit) * self.at(now)) as u32).max(1)
    }

    /// A 429 came at `now` for a request sent at `sent_at`, when `used` of `limit` were used in the window; nothing goes
    /// out before `until`, as nothing did before `waited_until`. `Some(share)` if we take less from now on.
    pub fn throttled(
        &mut self,
        sent_at: Timestamp,
        (used, limit): (usize, u32),
        waited_until: Option<Timestamp>,
        until: Timestamp,
        now: Timestamp,
    ) -> Option<f64> {
        // What was under way when the first one came says nothing new.
        let last = self.throttled_at.filter(|at| *at <= now);
        if last.is_some_and(|last| sent_at <= last) {
            return None;
        }
        self.throttled_at = Some(now);
        // Soon after we asked again, that is.
        let again = last?.max(waited_until.unwrap_or(last?));
        if now.duration_since(again) > SOON {
            return None;
        }
        let before = self.at(now);
        let used = used as f64 / f64::from(limit.max(1));
        let share = (SHRUNK * used.min(before)).max(LEAST);
        // It grows from when we ask again.
        self.shrunk = Some((until, share));
        (share < before).then_some(share)
    }

    /// Whether it has grown back by `now`; then it is forgotten that it was ever less.
    pub fn recovered(&mut self, now: Timestamp) -> bool {
        // A clock that was set back would keep it small for as long as it jumped.
        if let Some(at) = self.throttled_at.as_mut().filter(|at| **at > now) {
            *at = now;
            self.shrunk = self.shrunk.map(|(since, share)| (since.min(now), share));
        }
        let back = self.shrunk.is_some() && self.at(now) >= 1.0;
        if back {
            self.shrunk = None;
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    #[test]
    fn one_429_is_chance_and_a_second_one_is_not() {
        let mut share = Share::default();
        assert_eq!(share.throttled(at(0), (160, 160), None, at(60), at(1)), None);
        // Seven more were under way.
        assert_eq!(share.throttled(at(0), (160, 160), Some(at(60)), at(60), at(1)), None);
        assert_eq!(share.at(at(61)), 1.0);
        assert_eq!(share.throttled(at(100), (80, 160), Some(at(60)), at(160), at(100)), Some(0.375));
        assert_eq!(share.of(160, at(160)), 60);
        // A minute later a hundredth more.
        assert_eq!(share.of(160, at(220)), 61);
        assert_eq!(
            share.throttled(at(300), (4, 160), Some(at(160)), at(360), at(300)),
            Some(0.1),
            "never less"
        );
        assert!(!share.recovered(at(360 + 89 * 60)));
        assert!(share.recovered(at(360 + 90 * 60 + 1)));
        assert_eq!(share.of(160, at(360)), 160);
    }

    #[test]
    fn it_grows_back_after_a_clock_was_set_back() {
        let mut share = Share::default();
        share.throttled(at(90_000), (160, 160), None, at(90_060), at(90_000));
        share.throttled(at(90_100), (160, 160), Some(at(90_060)), at(90_160), at(90_100));
        assert!(!share.recovered(at(0)) && share.at(at(0)) == 0.75);
        assert!(!share.recovered(at(24 * 60)));
        assert!(share.recovered(at(25 * 60 + 1)));
    }

    #[test]
    fn a_long_time_later_it_is_chance_again() {
        let mut share = Share::default();
        share.throttled(at(0), (160, 160), None, at(60), at(0));
        assert_eq!(share.throttled(at(3_600), (160, 160), Some(at(60)), at(9_000), at(3_600)), None);
        assert_eq!(share.shrunk, None);
        // However long we were told to wait, it is soon after.
        assert!(share.throttled(at(9_001), (160, 160), Some(at(9_000)), at(9_061), at(9_001)).is_some());
    }
}
