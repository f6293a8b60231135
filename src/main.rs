//! Runs the command of the arguments and exits with its status.

use std::process::ExitCode;

use trackpost::cli;

fn main() -> ExitCode {
    cli::main()
}
