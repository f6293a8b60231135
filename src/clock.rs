//! The only source of time and randomness.
//!
//! Loops read the time here and pass it on; a step uses one `now`. Nothing else in the crate reads a clock or draws
//! unseeded random numbers; `.clippy.toml` and `tests/it/layers.rs` check this.
#![allow(clippy::disallowed_methods)]

#[cfg(feature = "crash-points")]
use std::ffi::OsString;
#[cfg(feature = "crash-points")]
use std::sync::LazyLock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, SignedDurationRound, Timestamp, Unit};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::system::uname;
use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use crate::domain::clock::{BetweenRuns, ClockRecord, Clocks, Gaps, Jump, MIN_LOGGED_JUMP, Mark};
use crate::domain::digest::{Digest, of_parts};
use crate::domain::time::{elapsed, later, whole_ms};

/// Returns the wall time in whole milliseconds, the precision of the database. Each reading is compared with monotonic
/// time; a jump is logged once.
pub fn now() -> Timestamp {
    let (wall, jump) = with(|state| (state.wall, state.jump.take()));
    if let Some(jump) = jump {
        log_jump(jump);
    }
    whole_ms(wall)
}

/// Returns the sum of all jumps of the wall clock since the process started. Real time is wall time minus this.
pub fn skew() -> SignedDuration {
    with(|state| state.skew)
}

/// Returns the spans of wall time that did not pass.
pub fn gaps() -> Arc<Gaps> {
    with(|state| Arc::clone(&state.gaps))
}

/// Returns both clocks and the gaps, for the next run.
pub fn record() -> ClockRecord {
    with(|state| ClockRecord { mark: state.mark(), gaps: Arc::clone(&state.gaps) })
}

/// Continues the last run. Logs a jump of the clock or a long time between the two runs. That time does not count for
/// alerts. Returns the length of the jump.
pub fn continue_last_run(mut last: ClockRecord) -> SignedDuration {
    let ended_at = whole_ms(last.mark.wall);
    let (between, jump) = with(|state| {
        let jump = last.mark.jump_between_runs(state.mark());
        let between = last.continue_at(state.mark(), jump);
        state.gaps = last.gaps;
        if let BetweenRuns::Jumped(jump) = between {
            state.last_jump = Some((jump, Stopwatch::start()));
        }
        (between, jump)
    });
    match between {
        BetweenRuns::Nothing => {}
        BetweenRuns::Jumped(jump) => {
            warn!(last_run_at = %ended_at, now = %whole_ms(jump.to), "{} since the last run", jump_in_words(jump));
        }
        BetweenRuns::Away(away) => {
            warn!(last_run_at = %ended_at, "trackpost did not run for {}, or the clock jumped forward", rounded(away))
        }
    }
    jump
}

/// Returns the last logged jump of the clock for an hour.
pub fn recent_jump() -> Option<Jump> {
    let last = with(|state| state.last_jump);
    last.filter(|(_, watch)| watch.elapsed() < RECENT).map(|(jump, _)| jump)
}

/// A jump is reported for this long.
const RECENT: Duration = Duration::from_secs(3_600);

static STATE: Mutex<Option<ClockState>> = Mutex::new(None);

struct ClockState {
    start: Instant,
    clocks: Clocks,
    wall: Timestamp,
    skew: SignedDuration,
    gaps: Arc<Gaps>,
    uptime: Duration,
    machine: Option<Digest>,
    /// A jump that is not logged yet.
    jump: Option<Jump>,
    last_jump: Option<(Jump, Stopwatch)>,
}

impl ClockState {
    fn mark(&self) -> Mark {
        Mark { wall: self.wall, uptime: self.uptime, machine: self.machine }
    }
}

/// Reads both clocks and calls `f` with the state.
fn with<T>(f: impl FnOnce(&mut ClockState) -> T) -> T {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    let (instant, wall, uptime) = read();
    let state = state.get_or_insert_with(|| ClockState {
        start: instant,
        clocks: Clocks::new(wall, Duration::ZERO),
        wall,
        skew: SignedDuration::ZERO,
        gaps: Arc::default(),
        uptime,
        machine: machine(),
        jump: None,
        last_jump: None,
    });
    (state.wall, state.uptime) = (wall, uptime);
    if let Some(jump) = state.clocks.read(wall, instant.duration_since(state.start)) {
        state.skew = state.skew.saturating_add(jump.by());
        Arc::make_mut(&mut state.gaps).add_jump(jump);
        if jump.by().abs() >= MIN_LOGGED_JUMP {
            state.jump = Some(jump);
            state.last_jump = Some((jump, Stopwatch::start()));
        }
    }
    f(state)
}

/// Reads all clocks at the same time. If the process is suspended between two readings, they are read again.
fn read() -> (Instant, Timestamp, Duration) {
    loop {
        let (before, wall) = (Instant::now(), later(Timestamp::now(), offset()));
        let uptime = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
        if before.elapsed() < Duration::from_millis(100) {
            return (before, wall, uptime);
        }
    }
}

/// Returns the digest of the machine's name and id. The id itself should not leave the machine (machine-id(5)). Containers
/// often have no machine id; then the boot id of the kernel is used.
fn machine() -> Option<Digest> {
    let id = first_id(["/etc/machine-id", "/proc/sys/kernel/random/boot_id"])?;
    let name = uname().nodename().to_string_lossy().into_owned();
    Some(of_parts(&["trackpost", id.trim(), &name]))
}

/// Returns the content of the first file that contains an id. Skips empty files and the content "uninitialized".
fn first_id(files: [&str; 2]) -> Option<String> {
    let mut texts = files.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.find(|text| text.trim().len() >= 32)
}

/// The offset of the wall clock that the torture test sets: seconds in the file `TRACKPOST_CLOCK_OFFSET`.
#[cfg(feature = "crash-points")]
fn offset() -> SignedDuration {
    static FILE: LazyLock<Option<OsString>> = LazyLock::new(|| std::env::var_os("TRACKPOST_CLOCK_OFFSET"));
    let text = FILE.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
    let seconds = text.and_then(|text| text.trim().parse().ok());
    SignedDuration::from_secs(seconds.unwrap_or_default())
}

#[cfg(not(feature = "crash-points"))]
const fn offset() -> SignedDuration {
    SignedDuration::ZERO
}

fn log_jump(jump: Jump) {
    warn!(
        jump_s = jump.by().as_secs(),
        from = %whole_ms(jump.from),
        to = %whole_ms(jump.to),
        "{}: waits are never longer than planned, the limit of requests still holds, and no label expires because of the \
         jump",
        jump_in_words(jump)
    );
}

/// Describes a jump: `the clock jumped back by 1h`.
pub fn jump_in_words(jump: Jump) -> String {
    let direction = if jump.by().is_negative() { "back" } else { "forward" };
    format!("the clock jumped {direction} by {}", rounded(jump.by().abs()))
}

/// Formats a duration in whole seconds.
fn rounded(duration: SignedDuration) -> String {
    let rounded = duration.round(SignedDurationRound::new().smallest(Unit::Second));
    format!("{:#}", rounded.unwrap_or(duration))
}

/// Wall clock of a step that began at `began_at`: its time is never before the beginning, unless the clock was set
/// back.
#[derive(Clone, Copy, Debug)]
pub struct StepClock {
    began_at: Timestamp,
    skew: SignedDuration,
}

impl StepClock {
    pub fn since(began_at: Timestamp) -> Self {
        Self { began_at, skew: skew() }
    }

    /// Returns the wall time now.
    pub fn now(self) -> Timestamp {
        // Not before the beginning of the step, unless the clock was set back.
        let set_back = skew().saturating_sub(self.skew).min(SignedDuration::ZERO);
        now().max(whole_ms(later(self.began_at, set_back)))
    }
}

/// Returns a random number from -1 to 1.
pub fn jitter() -> f64 {
    fastrand::f64().mul_add(2.0, -1.0)
}

/// Returns cryptographically secure random bytes.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// Measures a duration in monotonic time.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Waits for a duration. Cancel safe.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Longest single sleep, so that a wait ends soon after a jump of the wall clock.
const MAX_SLEEP: Duration = Duration::from_secs(2);

/// Waits until `at`; returns at once if it has passed, and early if the wall clock jumps.
pub async fn sleep_until(at: Timestamp) {
    let before = skew();
    loop {
        let wait = elapsed(now(), at);
        if wait.is_zero() || skew() != before {
            return;
        }
        if wait < MAX_SLEEP { sleep(wait).await } else { tick(MAX_SLEEP).await }
    }
}

/// Waits until the next multiple of `every` since the process started. Ticks of one length, and of its multiples, fall
/// together, so that an idle process wakes once for all of them.
pub async fn tick(every: Duration) {
    let start = with(|state| state.start);
    let ticks = start.elapsed().div_duration_f64(every).floor() as u32 + 1;
    tokio::time::sleep_until((start + every * ticks).into()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_a_machine_id_is_recognised_by_its_boot() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("boot"), "00000000-0000-4000-8000-000000000000\n").unwrap();
        for content in [None, Some(""), Some("uninitialized\n")] {
            content.iter().for_each(|content| std::fs::write(path("id"), content).unwrap());
            let id = first_id([&path("id"), &path("boot")]).unwrap();
            assert!(id.starts_with("00000000-"), "{content:?}");
        }
    }
}
