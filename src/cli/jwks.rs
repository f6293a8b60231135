//! `trackpost jwks`: the public keys of `[signing]`, to be published where the daemon's own `/jwks` is not reached.

use std::path::Path;
use std::process::ExitCode;

use super::{Failure, output};
use crate::config::{Config, Environment};
use crate::domain::messages::signature::jwks;

pub fn run(path: &Path) -> Result<ExitCode, Failure> {
    let config = Config::load(path, &Environment::capture())?.config;
    if config.rsa_keys.is_empty() {
        return Err(Failure::new("no RSA key is configured: there is nothing to publish")
            .hint("[signing], rsa_key = { file = \"rsa.pem\" }"));
    }
    output::line(jwks::publish(&config.rsa_keys));
    Ok(ExitCode::SUCCESS)
}
