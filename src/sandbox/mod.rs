//! A fake ShipStation, a receiver that verifies callbacks, and the ledger that compares the two.
//!
//! Testing against the real API is not possible: its sandbox knows three carriers, sends no webhooks and is closed to
//! most accounts. This sandbox serves parcels on scripted journeys in compressed time, recorded journeys, or plain
//! files, with the vendor's errors, its rate limit, and injected faults. Tests, `trackpost demo`, `sandbox` and
//! `listen` use it.
//!
//! It does not use the store, prints nothing, and decides nothing about polling or delivery. Both servers run in the
//! task that awaits `serve`, and are read and controlled through a handle that is cheap to clone.

mod answer;
mod callback;
mod carriers;
mod errors;
mod faults;
mod handle;
mod journal;
mod journeys;
mod labels;
pub mod ledger;
mod limit;
mod parcel;
mod receiver;
mod recorded;
mod replay;
mod requests;
mod scan;
mod script;
mod server;
mod state;
mod timeline;
mod towns;
mod vocabulary;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::clock;
use crate::domain::label::LabelId;

pub use answer::Answer;
pub use callback::{ReceivedCallback, Verified};
pub use carriers::Carrier;
pub use faults::{FaultError, FaultKind, InjectedFault};
pub use handle::SandboxHandle;
pub use journeys::JourneyKind;
pub use parcel::Parcel;
pub use receiver::{Receiver, ReceiverHandle, ReceiverOptions};
pub use recorded::RecordedJourney;
pub use requests::{Counters, LoggedRequest};
pub use server::Sandbox;

/// Options of a sandbox. The handle can change most of them later.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// Accepted API keys; empty: every non-empty key.
    pub api_keys: Vec<String>,
    /// Requests per key in any 60 s; `None`: unlimited. The real default is 200.
    pub rate_limit: Option<u32>,
    /// Whether every well-formed label id is known, and gets a parcel by its hash at its first request.
    pub auto: bool,
    /// Seed of parcels and faults; the same seed gives the same run.
    pub seed: u64,
    /// Speed of the parcels' clock as a multiple of the real clock.
    pub time_factor: f64,
    /// Start of the parcels' time; `None`: now.
    pub start: Option<Timestamp>,
    /// Initial labels, each with a parcel; `GET /v2/labels` lists them.
    pub labels: Vec<LabelId>,
    /// Labels that are created while it runs, by the clock. They are numbered after `labels`, and one in 20 is voided
    /// within two hours of the parcels' time.
    pub labels_per_hour: u32,
    /// Maximum number of labels on a page of the list.
    pub largest_page: usize,
    /// Recorded journeys, which all start when the sandbox does.
    pub journeys: Vec<RecordedJourney>,
    /// A directory of files to serve unchanged.
    pub replay: Option<PathBuf>,
    pub faults: Vec<InjectedFault>,
    pub clock: Clock,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            rate_limit: None,
            auto: true,
            seed: 0,
            time_factor: 1.0,
            start: None,
            labels: Vec::new(),
            labels_per_hour: 0,
            largest_page: 200,
            journeys: Vec::new(),
            replay: None,
            faults: Vec::new(),
            clock: Clock::default(),
        }
    }
}

/// The clock of the sandbox: [`clock::now`], or a clock set by a test.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(in crate::sandbox) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::from_fn(clock::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
