//! Crash points: the moments at which a kill is hardest to survive. The torture test ends the process at them.
//!
//! They exist only with the feature `crash-points`. A comment at each crash point describes the state at the next start
//! and why it is right.

/// A moment at which the process can be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// A page of the list of labels was read and is not recorded yet.
    PageRead,
    /// An answer was read and is not recorded yet.
    AnswerRead,
    /// A transaction is written and not committed yet.
    BeforeCommit,
    /// A transaction is committed and its waiters are not notified yet.
    AfterCommit,
    /// A delivery is about to be attempted.
    BeforeAttempt,
    /// An attempt was answered and is not recorded yet.
    AttemptAnswered,
}

impl CrashPoint {
    pub const ALL: [Self; 6] = [
        Self::PageRead,
        Self::AnswerRead,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::BeforeAttempt,
        Self::AttemptAnswered,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::PageRead => "page-read",
            Self::AnswerRead => "answer-read",
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::BeforeAttempt => "before-attempt",
            Self::AttemptAnswered => "attempt-answered",
        }
    }

    /// Ends the process as `kill -9` does, if `TRACKPOST_CRASH_AT` is `NAME:N` and this moment is reached for the Nth
    /// time. Does nothing without the feature.
    #[inline]
    pub fn reached(self) {
        #[cfg(feature = "crash-points")]
        armed::reached(self);
    }
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use crate::crash::CrashPoint;

    static ORDER: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let order = std::env::var("TRACKPOST_CRASH_AT").ok()?;
        let (name, number) = order.split_once(':')?;
        Some((name.to_owned(), number.parse().ok()?))
    });
    static REACHED: AtomicU32 = AtomicU32::new(0);

    pub(super) fn reached(point: CrashPoint) {
        if let Some((name, number)) = &*ORDER
            && name == point.as_str()
            && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *number
        {
            // It cannot fail for our own process. No destructors run.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
