//! `trackpost check`: reads the whole configuration, reports every fault, and prints the accounts and subscribers that would run.
//!
//! It opens no database, and sends nothing without `--online`.

mod lines;
mod online;
mod report;

use std::path::Path;
use std::process::ExitCode;

use super::{Failure, args, output};
use crate::config::{Config, Environment, Faults};
use crate::domain::words::counted;
use report::CheckReport;

pub async fn run(path: &Path, args: &args::Check) -> Result<ExitCode, Failure> {
    let loaded = match Config::load(path, &Environment::capture()) {
        Ok(loaded) => loaded,
        Err(faults) => return report_faults(faults, args.json),
    };
    let mut report = CheckReport::of(&loaded);
    if !args.json {
        report.print();
    }
    if args.online {
        let checks = online::run(&loaded, |check| {
            if !args.json {
                output::line(check);
            }
        });
        report.add_online(checks.await?);
    }
    if args.json {
        output::json_lines(&[&report])?;
    }
    if report.ok {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new("the configuration has no faults, but a request to an account or a subscriber failed"))
}

fn report_faults(faults: Faults, json: bool) -> Result<ExitCode, Failure> {
    let count = faults.faults.len();
    let report = CheckReport::of_faults(faults);
    if json {
        output::json_lines(&[report])?;
    } else {
        report.print_faults();
    }
    Err(Failure::new(format!(
        "the configuration has {}, so the daemon would not start",
        counted(count as u64, "fault")
    )))
}
