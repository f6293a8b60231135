//! What is generated from the arguments: shell completions and the manual page.

use std::process::ExitCode;

use clap::CommandFactory as _;

use super::args::{Args, Completions};
use super::{Failure, output};

pub fn completions(what: &Completions) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(what.shell, &mut Args::command(), "trackpost", &mut script);
    output::print(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}

pub fn man() -> Result<ExitCode, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Args::command()).render(&mut page)?;
    output::print(&String::from_utf8_lossy(&page));
    Ok(ExitCode::SUCCESS)
}
