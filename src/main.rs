//! Arguments, one verb, the error with its causes, the exit status.

use std::process::ExitCode;

use trackpost::cli;

fn main() -> ExitCode {
    cli::main()
}
