//! `trackpost jwks`: the public keys of `[signing]`, to publish where the daemon's `/jwks` cannot be reached.

use std::path::Path;
use std::process::ExitCode;

use super::{Failure, output};
use crate::config::{Config, Environment};
use crate::domain::messages::signature::jwks;

pub fn run(path: &Path) -> Result<ExitCode, Failure> {
    let config = Config::load(path, &Environment::capture())?.config;
    if config.rsa_keys.is_empty() {
        return Err(Failure::new("the configuration has no RSA key to publish")
            .hint("set rsa_key = { file = \"rsa.pem\" } under [signing]"));
    }
    output::line(jwks::publish(&config.rsa_keys));
    Ok(ExitCode::SUCCESS)
}
