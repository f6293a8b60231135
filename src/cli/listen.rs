use super::{Failure, args};
use std::process::ExitCode;
pub async fn run(_what: &args::Listen) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
