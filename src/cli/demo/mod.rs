//! `trackpost demo`: shows trackpost at work, without an API key.
//!
//! Sandbox, daemon and verifying receiver run in this process, on real sockets, with a real database and an ordinary
//! configuration. The parcels travel for days within seconds; everything else is real. At the end the ledger compares the
//! events that the API served with the events that the receiver accepted.
//!
//! All of it runs on one task; nothing is spawned.

mod directory;
mod faults;
mod parcel_state;
mod plan;
mod screen;
mod settings;
mod start;
mod summary;

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::watch;

use super::Failure;
use super::args;
use crate::clock::{self, Stopwatch};
use crate::daemon::{Signals, stop_signal};
use crate::domain::label::LabelState;
use crate::sandbox::ledger::{Rows, Violation, ViolationKind};
use crate::store::progress::LabelProgress;
use faults::FaultSequence;
use screen::Screen;
use start::DemoHandles;
use summary::DemoSummary;

/// Time between two redraws.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);
/// Time that the demo may take beyond its plan.
const GRACE: Duration = Duration::from_secs(40);

pub async fn run(args: &args::Demo) -> Result<ExitCode, Failure> {
    let watch = Stopwatch::start();
    let signals = Signals::new()?;
    let (mut handles, servers) = start::start(args, signals).await?;
    let mut screen = Screen::new(args.json, &handles.plan);
    if !args.json {
        super::output::try_print(&(intro(&handles, args.seconds) + "\n"))?;
    }
    let (stop, stopped) = watch::channel(false);
    let mut sandbox = pin!(servers.sandbox.serve(pending()));
    let mut receiver = pin!(servers.receiver.serve(pending()));
    let mut daemon = pin!(servers.daemon.run(stopped));
    let timeout = Duration::from_secs(u64::from(args.seconds)) + GRACE;
    let interrupted = stop_signal()?;
    let played = tokio::select! {
        biased;
        () = interrupted => return Err(Failure::new("the demo was interrupted")),
        played = play(&mut handles, &mut screen, watch, timeout) => played,
        served = &mut sandbox => return Err(ended_unexpectedly("the sandbox", served.err())),
        served = &mut receiver => return Err(ended_unexpectedly("the receiver", served.err())),
        ran = &mut daemon => return match ran {
            Ok(()) => Err(ended_unexpectedly("the daemon", None)),
            Err(error) => Err(error.into()),
        },
    };
    let _ = stop.send(true);
    // Attempts in flight still need the servers. If `play` failed, the daemon may know the cause better.
    tokio::select! {
        ran = &mut daemon => ran?,
        served = &mut sandbox => return Err(ended_unexpectedly("the sandbox", served.err())),
        served = &mut receiver => return Err(ended_unexpectedly("the receiver", served.err())),
    }
    finish(handles, &mut screen, played?, watch, args.json)
}

fn ended_unexpectedly(name: &str, error: Option<std::io::Error>) -> Failure {
    let why = error.map(|error| format!(": {error}")).unwrap_or_default();
    Failure::new(format!("{name} ended unexpectedly{why}"))
}

fn intro(handles: &DemoHandles, seconds: u32) -> String {
    let health = handles.health_url.as_deref().map(|url| format!("\nHealth: {url}")).unwrap_or_default();
    let found = (0..handles.plan.parcels.len()).filter(|index| settings::is_discovered(*index)).count();
    let found = match found {
        0 => String::new(),
        found => format!(
            "\nDiscovery finds {found} of the labels in the account's list; a label file has the others."
        ),
    };
    format!(
        "trackpost polls {} parcels of a fake ShipStation at {}. Their journeys of several days take about {seconds} s.\
         {found}\n\
         It posts signed callbacks to two subscribers at {}; the receiver verifies every signature.{health}\n",
        handles.plan.parcels.len(),
        handles.sandbox_url,
        handles.receiver_url,
    )
}

/// Runs until every parcel has arrived and every message is delivered, or until the timeout. Returns the rows, and a
/// description of the unfinished work at the timeout.
async fn play(
    handles: &mut DemoHandles,
    screen: &mut Screen,
    watch: Stopwatch,
    timeout: Duration,
) -> Result<(Rows, Option<String>), Failure> {
    let began = watch.elapsed();
    let mut faults = FaultSequence::default();
    let unfinished = loop {
        clock::sleep(FRAME_INTERVAL).await;
        let passed = watch.elapsed();
        let progress = handles.store.progress().await?;
        let refused = handles.receiver.counts().refused;
        if let Some(note) = faults.step(handles, &progress, refused, passed.saturating_sub(began)).await? {
            screen.note(passed, &note)?;
        }
        let pending = handles.store.pending_deliveries().await?;
        handles.receiver.with_accepted(|accepted| screen.draw(&handles.plan, accepted, passed))?;
        match remaining(handles, &progress, pending) {
            None if faults.is_over() => break None,
            remaining if passed >= timeout => {
                break remaining.or(Some("some faults were not injected".to_owned()));
            }
            _ => {}
        }
    };
    Ok((handles.rows().await?, unfinished))
}

/// Describes the unfinished work.
fn remaining(handles: &DemoHandles, progress: &[LabelProgress], pending: u64) -> Option<String> {
    if progress.len() < handles.plan.parcels.len() || !handles.sandbox.all_ended() {
        return Some("some parcels have not arrived".to_owned());
    }
    let unfinished: Vec<&str> = progress
        .iter()
        .filter(|label| label.is_polled || label.state != LabelState::Finished)
        .map(|label| label.label_id.as_str())
        .collect();
    if let [first, ..] = unfinished[..] {
        return Some(format!("{} labels are not finished, such as {first}", unfinished.len()));
    }
    (pending > 0).then(|| format!("{pending} deliveries are pending"))
}

fn finish(
    mut handles: DemoHandles,
    screen: &mut Screen,
    (rows, unfinished): (Rows, Option<String>),
    watch: Stopwatch,
    json: bool,
) -> Result<ExitCode, Failure> {
    let found = handles.audit(&rows);
    let failure = unfinished
        .map(|work| format!("the demo did not finish in time: {work}"))
        .or_else(|| describe_violations(&found));
    if failure.is_some() {
        handles.directory.keep();
    }
    let summary = DemoSummary::new(&handles, &found, watch.elapsed().as_secs_f64(), failure);
    if json {
        super::output::json_lines(&[&summary])?;
    } else {
        let end = if summary.failure.is_none() { "Every parcel has arrived.\n" } else { "" };
        screen.print(&format!("\n{end}{}", summary.text(&handles, &found)))?;
    }
    match summary.failure {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => {
            let directory = handles.directory.path().display();
            Err(Failure::new(failure).hint(format!("database and configuration were kept in {directory}")))
        }
    }
}

/// Returns the numbers of violations by kind, as in "1 missed, 2 badly signed"; `None` if there are none.
fn describe_violations(found: &[Violation]) -> Option<String> {
    let mut by_kind: BTreeMap<ViolationKind, usize> = BTreeMap::new();
    for violation in found {
        *by_kind.entry(violation.kind).or_default() += 1;
    }
    let counted: Vec<String> =
        by_kind.iter().map(|(kind, count)| format!("{count} {}", kind.as_str())).collect();
    (!counted.is_empty()).then(|| counted.join(", "))
}
