//! `trackpost check`: reads the whole configuration, says everything that is wrong with it, and what would run.
//!
//! Opens no database. Sends nothing, unless it is asked to with `--online`.

mod online;
mod report;

use std::path::Path;
use std::process::ExitCode;

use super::{Failure, args, output};
use crate::config::{Config, Environment, Faults};
use report::Report;

pub async fn run(path: &Path, what: &args::Check) -> Result<ExitCode, Failure> {
    let loaded = match Config::load(path, &Environment::capture()) {
        Ok(loaded) => loaded,
        Err(faults) => return unsound(faults, what.json),
    };
    let mut report = Report::of(&loaded);
    if !what.json {
        report.print();
    }
    if what.online {
        let findings = online::ask(&loaded, |finding| {
            if !what.json {
                output::line(finding);
            }
        });
        report.asked(findings.await?);
    }
    if what.json {
        output::json_lines(&[&report])?;
    }
    if report.ok {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new("the configuration is sound, but not everything it names answers as it should"))
}

fn unsound(faults: Faults, json: bool) -> Result<ExitCode, Failure> {
    let count = faults.faults.len();
    if json {
        output::json_lines(&[Report::unsound(faults)])?;
    } else {
        Report::unsound(faults).print_faults();
    }
    let word = if count == 1 { "fault" } else { "faults" };
    Err(Failure::new(format!("the configuration has {count} {word}; nothing would start")))
}
