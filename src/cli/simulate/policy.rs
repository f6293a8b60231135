//! Policies of `--policy`.

use std::path::Path;
use std::time::Duration;

use super::super::Failure;
use crate::config::{Config, Environment, duration};
use crate::domain::polling::cadence::Cadence;

/// Returns the cadence of the policy `default`, `hourly`, `fixed:2h`, or that of a configuration file.
pub(super) fn cadence(name: &str) -> Result<Cadence, Failure> {
    let compiled_in = || Ok::<_, Failure>(Config::builtin(&Environment::default())?.config.cadence);
    let flat = |interval| Ok(Cadence::flat(interval, compiled_in()?.give_up_after));
    match (name, name.strip_prefix("fixed:")) {
        ("default", _) => compiled_in(),
        ("hourly", _) => flat(Duration::from_secs(3_600)),
        (_, Some(interval)) => match duration::parse(interval) {
            Ok(interval) => flat(interval),
            Err(error) => Err(Failure::usage(format!("--policy {name}: {interval:?} {error}"))
                .hint("an interval, such as fixed:2h")),
        },
        (path, None) if Path::new(path).is_file() => {
            Ok(Config::load_beside(Path::new(path), &Environment::default())?.config.cadence)
        }
        _ => Err(Failure::usage(format!("--policy {name}: not a known policy, and the file does not exist"))
            .hint("default, hourly, fixed:2h, or a configuration file with [cadence]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_names() {
        let flat = cadence("fixed:90m").unwrap();
        assert!(flat.rows.values().all(|row| row.intervals == [Duration::from_secs(5_400)]));
        assert_eq!(cadence("hourly").unwrap(), cadence("fixed:1h").unwrap());
        assert_ne!(cadence("default").unwrap(), flat);
        for (name, expected) in
            [("fixed:soon", "--policy fixed:soon: \"soon\""), ("weekly", "not a known policy")]
        {
            let error = cadence(name).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
