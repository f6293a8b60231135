//! `trackpost simulate`: cost and freshness of a cadence on journeys, in virtual time.

mod bars;
mod policy;
mod report;

use std::fs;
use std::process::ExitCode;

use super::args::Simulate;
use super::progress::{Progress, Unit};
use super::{Failure, output};
use crate::simulation::bound::Bound;
use crate::simulation::{RunSettings, SimulatedJourney, generate, recorded, run_with as simulated};
use report::PolicyReport;

/// Number of journeys to generate by default.
const GENERATED: u32 = 2_000;
const POLICIES: [&str; 3] = ["default", "hourly", "fixed:2h"];

pub fn run(args: &Simulate) -> Result<ExitCode, Failure> {
    let named: Vec<String> = match args.policy.is_empty() {
        true => POLICIES.map(str::to_owned).to_vec(),
        false => args.policy.clone(),
    };
    let cadences = named.iter().map(|name| policy::cadence(name)).collect::<Result<Vec<_>, _>>()?;
    let journeys = journeys(args)?;
    let mut reports = Vec::with_capacity(named.len());
    for (name, cadence) in named.into_iter().zip(&cadences) {
        let settings = RunSettings {
            cadence,
            requests_per_minute: args.requests_per_minute,
            learn: true,
            seed: args.seed,
            most_polls: u64::MAX,
        };
        let mut progress =
            Progress::new(format!("simulate {name}"), Unit::Items("journeys"), Some(journeys.len() as u64));
        let outcome = simulated(&journeys, settings, &mut |ended| progress.set(ended));
        drop(progress);
        let bound = Bound::of(&journeys, cadence.give_up_after);
        let report = PolicyReport::of(name, journeys.len(), outcome, bound);
        if args.json {
            output::json_lines(std::slice::from_ref(&report))?;
        }
        reports.push(report);
    }
    if !args.json {
        report::print(&reports);
        bars::print(&reports);
    }
    Ok(ExitCode::SUCCESS)
}

fn journeys(args: &Simulate) -> Result<Vec<SimulatedJourney>, Failure> {
    let Some(path) = &args.journeys else {
        return Ok(generate::journeys(args.generate.unwrap_or(GENERATED), args.seed));
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(format!("--journeys {}: {error}", path.display()))
            .hint("one JSON object a line, as trackpost history --journeys prints them")
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let journeys = recorded(&text).map_err(|error| wrong(&error))?;
    if journeys.is_empty() { Err(wrong(&"it contains no journeys")) } else { Ok(journeys) }
}
