//! `trackpost sandbox`: a fake ShipStation API, in the foreground.
//!
//! It prints one JSON line with its address once it listens, so that a script can wait for it. [`crate::sandbox`] serves
//! the requests until a signal ends it.

use std::fmt::Display;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use serde::Serialize;

use super::args;
use super::{Failure, output};
use crate::daemon::stop_signal;
use crate::domain::label::LabelId;
use crate::sandbox::{RecordedJourney, Sandbox, SandboxOptions};

/// Largest time factor: a week in less than a millisecond.
const MAX_TIME_FACTOR: f64 = 1e9;

#[derive(Serialize)]
struct Listening {
    listening: String,
    base_url: String,
}

pub async fn run(args: &args::Sandbox) -> Result<ExitCode, Failure> {
    let options = options(args)?;
    let stopped = stop_signal()?;
    let sandbox = Sandbox::bind(args.listen, options).await.map_err(|error| no_bind(args.listen, &error))?;
    let line = Listening { listening: sandbox.addr().to_string(), base_url: sandbox.base_url() };
    output::json_lines(&[line])?;
    sandbox.serve(stopped).await?;
    Ok(ExitCode::SUCCESS)
}

/// Failure to listen at an address.
pub(super) fn no_bind(listen: SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure::new(format!("--listen {listen}: the address is already in use"))
            .hint("stop the other program, or use port 0 for a free port"),
        _ => Failure::new(format!("--listen {listen}: {error}")),
    }
}

fn options(args: &args::Sandbox) -> Result<SandboxOptions, Failure> {
    let factor = args.time_factor;
    if !(factor.is_finite() && factor > 0.0 && factor <= MAX_TIME_FACTOR) {
        return Err(Failure::usage(format!(
            "--time-factor {factor}: must be above 0 and at most {MAX_TIME_FACTOR}"
        )));
    }
    let journeys = match &args.journeys {
        Some(path) => {
            let shown = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|error| wrong("--journeys", &shown, &error))?;
            RecordedJourney::read(&text).map_err(|error| wrong("--journeys", &shown, &error))?
        }
        None => Vec::new(),
    };
    if let Some(path) = &args.replay {
        fs::read_dir(path).map_err(|error| wrong("--replay", path.display(), &error))?;
    }
    Ok(SandboxOptions {
        api_keys: args.api_key.clone(),
        rate_limit: Some(args.requests_per_minute).filter(|limit| *limit > 0),
        // Without any labels, every requested id gets a parcel.
        auto: args.parcels == 0 && args.labels_per_hour == 0 && journeys.is_empty() && args.replay.is_none(),
        seed: args.seed,
        time_factor: factor,
        labels: labels(args.parcels)?,
        labels_per_hour: args.labels_per_hour,
        journeys,
        replay: args.replay.clone(),
        faults: args.fail.iter().chain(&args.slow).chain(&args.garble).copied().collect(),
        ..SandboxOptions::default()
    })
}

/// Returns the labels se-1, se-2, …
pub(super) fn labels(count: u32) -> Result<Vec<LabelId>, Failure> {
    (1..=count).map(|number| format!("se-{number}").parse().map_err(Failure::from)).collect()
}

fn wrong(option: &str, value: impl Display, error: &dyn Display) -> Failure {
    Failure::new(format!("{option} {value}: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::args::{Args, Verb};
    use super::*;

    fn read(line: &str) -> Result<SandboxOptions, String> {
        let args = Args::try_parse_from(["trackpost", "sandbox"].into_iter().chain(line.split_whitespace()))
            .map_err(|error| error.to_string())?;
        let Verb::Sandbox(args) = args.verb else { panic!("another verb") };
        options(&args).map_err(|failure| failure.to_string())
    }

    #[test]
    fn arguments_become_options() {
        let options = read("--parcels 3 --fail 500:5% --fail 503:1% --slow 2s:1% --garble 1%").unwrap();
        let labels: Vec<&str> = options.labels.iter().map(LabelId::as_str).collect();
        assert_eq!(labels, ["se-1", "se-2", "se-3"]);
        assert_eq!((options.faults.len(), options.auto, options.rate_limit), (4, false, Some(200)));
        let options = read("--requests-per-minute 0").unwrap();
        assert_eq!((options.auto, options.rate_limit), (true, None));
    }

    #[test]
    fn a_failure_names_its_option() {
        for (line, said) in [
            ("--fail 500", "error: invalid value '500' for '--fail <STATUS:SHARE>': \"500\" has no share"),
            ("--slow soon:1%", "error: invalid value 'soon:1%' for '--slow <TIME:SHARE>': "),
            ("--garble 200%", "error: invalid value '200%' for '--garble <SHARE>': "),
            ("--time-factor 0", "error: --time-factor 0: must be above 0"),
            ("--time-factor=inf", "error: --time-factor inf: "),
            ("--journeys /nowhere/j.jsonl", "error: --journeys /nowhere/j.jsonl: No such file"),
            ("--replay /nowhere", "error: --replay /nowhere: No such file"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.starts_with(said), "{line}: {error}");
        }
    }
}
