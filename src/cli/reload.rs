//! `trackpost reload`: reloads the configuration of the running daemon, and prints the outcome.
//!
//! It sends SIGHUP; the daemon records the outcome in its lock file ([`lock::DaemonRecord`]).

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Failure, output};
use crate::clock::{self, Stopwatch};
use crate::config::{Config, Environment};
use crate::store::lock::{self, DaemonRecord, ReloadOutcome};

/// Interval at which the outcome is read.
const READ_INTERVAL: Duration = Duration::from_millis(50);
/// Longest wait for a reload; reading a million labels takes less.
const RELOAD_TIMEOUT: Duration = Duration::from_mins(5);

pub async fn run(path: &Path) -> Result<ExitCode, Failure> {
    let environment = Environment::capture();
    // The daemon reports faults of the configuration; here only the path of the database is needed.
    let database = match Config::load_to_read(path, &environment) {
        Ok((loaded, _)) => loaded.config.store.path,
        Err(faults) => {
            // As ExecReload= of systemd, the process id is known even so.
            let service = environment.get("MAINPID").and_then(|pid| pid.parse().ok());
            service.map_or(Ok(()), send_sighup)?;
            return Err(faults.into());
        }
    };
    let shown = std::path::absolute(&database).unwrap_or_else(|_| database.clone());
    let before = lock::daemon_record(&database).ok_or_else(|| {
        Failure::new(format!("no daemon runs on the database {}", shown.display()))
            .hint("start it with trackpost run; after a change of store.path, restart it instead")
    })?;
    send_sighup(before.pid)?;
    match outcome(&database, &before).await? {
        ReloadOutcome { applied: true, lines } => {
            output::line("configuration reloaded");
            lines.iter().for_each(output::line);
            Ok(ExitCode::SUCCESS)
        }
        ReloadOutcome { applied: false, lines } => {
            let faults = lines.iter().map(|line| format!("\n  {line}")).collect::<String>();
            Err(Failure::new(format!("reload rejected, the running configuration stays:{faults}")))
        }
    }
}

fn send_sighup(pid: u32) -> Result<(), Failure> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| {
        Failure::new("the running daemon has not recorded its process id")
            .hint("it may still be starting: try again in a second")
    })?;
    kill_process(process, Signal::HUP).map_err(|error| {
        Failure::new(format!("SIGHUP could not be sent to trackpost (pid {pid}): {error}"))
            .hint("run as the service's user or with sudo")
    })
}

/// Waits until a reload that began after the signal has ended.
async fn outcome(database: &Path, before: &DaemonRecord) -> Result<ReloadOutcome, Failure> {
    let waited = Stopwatch::start();
    while waited.elapsed() < RELOAD_TIMEOUT {
        let now = lock::daemon_record(database)
            .filter(|now| now.pid == before.pid || now.pid == 0)
            .ok_or_else(|| {
                Failure::new(format!("trackpost (pid {}) ended during the reload", before.pid))
                    .hint("its log has the reason")
            })?;
        match now.last_reload {
            Some(outcome) if now.reloads_ended > before.reloads_begun => return Ok(outcome),
            _ => clock::sleep(READ_INTERVAL).await,
        }
    }
    Err(Failure::new(format!("trackpost (pid {}) has not finished its reload within 5 minutes", before.pid))
        .hint("its log has the reason"))
}
