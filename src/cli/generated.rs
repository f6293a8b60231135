//! What is generated from the arguments: shell completions and the manual page.

use std::io;
use std::process::ExitCode;

use clap::CommandFactory as _;

use super::Failure;
use super::args::{Args, Completions};

pub fn completions(what: &Completions) -> Result<ExitCode, Failure> {
    clap_complete::generate(what.shell, &mut Args::command(), "trackpost", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}

pub fn man() -> Result<ExitCode, Failure> {
    clap_mangen::Man::new(Args::command()).render(&mut io::stdout())?;
    Ok(ExitCode::SUCCESS)
}
