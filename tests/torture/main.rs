//! Torture test: the real binary against a fake API and a receiver that keep ledgers, while everything fails.
//!
//!     cargo test --features crash-points --test torture -- --seconds 600 --seed 7
//!
//! The test kills the daemon at random moments and at every crash point except in discovery, stops it, and edits
//! its configuration. API and receivers fail in every way, commands write beside the daemon, the disk fills up, and the
//! clock jumps. At the end all faults are removed, the daemon delivers the rest, and the ledgers must agree. Plain
//! `cargo test` runs it for a few seconds.
#![allow(clippy::disallowed_methods, reason = "it spawns the servers that the daemon talks to")]
#![allow(clippy::print_stdout, reason = "it has no test harness that would print for it")]

mod judge;
mod machine;
mod means;
mod proxy;
#[path = "../it/harness/rows.rs"]
mod rows;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use machine::Machine;
use world::World;

/// Duration without `--seconds`.
const SECONDS: u64 = 15;

struct Options {
    seconds: u64,
    seed: u64,
    keep: Option<PathBuf>,
}

impl Options {
    /// `None` if the name given to `cargo test NAME` does not match this test.
    fn read() -> Option<Self> {
        let mut options = Self { seconds: SECONDS, seed: fastrand::u64(..100_000), keep: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                "--seconds" => options.seconds = value().parse().expect("--seconds is a number"),
                "--seed" => options.seed = value().parse().expect("--seed is a number"),
                "--keep" => options.keep = Some(value().into()),
                "--list" => return None,
                name if !name.starts_with('-') && !"torture".contains(name) => return None,
                _ => {}
            }
        }
        Some(options)
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::read() else { return ExitCode::SUCCESS };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(options))
}

async fn run(options: Options) -> ExitCode {
    let Options { seconds, seed, keep } = options;
    let temporary = tempfile::Builder::new().prefix("torture-").tempdir().unwrap();
    let directory = match &keep {
        Some(directory) => {
            fs::create_dir_all(directory).unwrap();
            directory.canonicalize().unwrap()
        }
        None => temporary.path().to_owned(),
    };
    println!("torture: seed {seed}, {seconds} s, in {}", directory.display());
    let world = World::new(&directory, seed, seconds).await;
    skipped(&world);
    let mut machine = Machine::new(world, seed, seconds);
    machine.run(seconds).await;
    let stuck = judge::drain(&mut machine).await;
    machine.stop().await;
    let mut found = judge::judge(&machine).await;
    found.extend(stuck.map(|stuck| (None, format!("work is left at the end: {stuck}"))));
    // A run of this length sends a signal and starts a second daemon.
    let never = ["SIGTERM", "second daemon"].into_iter().filter(|what| !machine.done.contains_key(*what));
    found.extend(never.filter(|_| seconds >= 60).map(|what| (None, format!("{what}: never tried"))));
    summarize(&machine);
    if found.is_empty() {
        println!("torture: nothing missed, duplicated, invented, reordered; seed {seed}");
        return ExitCode::SUCCESS;
    }
    let kept = temporary.keep();
    let kept = if keep.is_some() { directory } else { kept };
    report(&machine, &found, &kept).await;
    println!("torture: FAILED with {} disagreements; seed {seed}, run in {}", found.len(), kept.display());
    ExitCode::FAILURE
}

fn skipped(world: &World) {
    if world.disk.is_none() {
        println!("torture: no full disk: a small file system cannot be mounted here");
    }
    if !cfg!(feature = "crash-points") {
        println!("torture: no crash points and no clock jumps: build with --features crash-points");
    }
}

fn summarize(machine: &Machine) {
    let done: Vec<String> = machine.done.iter().map(|(what, times)| format!("{times} × {what}")).collect();
    println!("torture: {}", done.join(", "));
    let (counts, requests) = (machine.world.receiver.counts(), machine.world.sandbox.counters());
    println!(
        "torture: {} labels, {} requests, {} callbacks, {} accepted, {} different messages, {} repeated",
        machine.world.labels.len(),
        requests.requests,
        counts.received,
        counts.accepted,
        counts.unique,
        counts.repeated
    );
}

/// Prints the differences, and writes the history of the labels concerned into the directory.
async fn report(machine: &Machine, found: &[(Option<String>, String)], directory: &Path) {
    const SHOWN: usize = 20;
    const HISTORIES: usize = 5;
    for (_, text) in found.iter().take(SHOWN) {
        println!("  {text}");
    }
    let database = machine.world.database();
    // The small disk is unmounted with the test.
    let copy = directory.join("final.db");
    if database != copy {
        let _ = fs::copy(&database, &copy);
    }
    let mut labels: Vec<&String> = found.iter().filter_map(|(label, _)| label.as_ref()).collect();
    labels.sort_unstable();
    labels.dedup();
    for label in labels.into_iter().take(HISTORIES) {
        let path = directory.join(format!("history-{label}.txt"));
        fs::write(&path, judge::history(&machine.world, label).await).unwrap();
        println!("  history of {label}: {}", path.display());
    }
}
