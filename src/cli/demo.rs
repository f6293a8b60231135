use super::{Failure, args};
use std::process::ExitCode;
pub async fn run(_what: &args::Demo) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
