//! Files for the service manager: the example is valid, and every line of the unit is explained.

use std::collections::BTreeSet;
use std::path::Path;

use trackpost::config::{Config, Environment, Loaded};
use trackpost::domain::messages::subscriber::Format;

const UNIT: &str = include_str!("../../deploy/trackpost.service");
const EXAMPLE: &str = include_str!("../../deploy/trackpost.toml");

/// The example as installed, with its credentials beside it.
fn installed() -> (tempfile::TempDir, Loaded) {
    let etc = tempfile::tempdir().unwrap();
    let path = etc.path().join("trackpost.toml");
    std::fs::write(&path, EXAMPLE).unwrap();
    for directory in ["labels.d", "credentials"] {
        std::fs::create_dir(etc.path().join(directory)).unwrap();
    }
    let write = |name: &str, content: &str| std::fs::write(etc.path().join(name), content).unwrap();
    write("labels.d/mine.txt", "se-324658 # a gift\nse-324659\n");
    write("credentials/shipstation-api-key", "TEST_a_key\n");
    write("credentials/orders-secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let credentials = etc.path().join("credentials").display().to_string();
    let environment: Environment =
        [("CREDENTIALS_DIRECTORY", credentials.as_str()), ("STATE_DIRECTORY", "/elsewhere")]
            .into_iter()
            .collect();
    let loaded = Config::load(&path, &environment).unwrap_or_else(|faults| panic!("{faults}"));
    (etc, loaded)
}

#[test]
fn the_production_example_is_valid() {
    let (_etc, loaded) = installed();
    assert_eq!((loaded.warnings, loaded.label_faults.kept), (vec![], vec![]));
    assert_eq!(loaded.sources.read_all().label_set.labels(), 2);
    assert_eq!(loaded.config.store.path, Path::new("/var/lib/trackpost/trackpost.db"));
    let formats: Vec<Format> =
        loaded.config.subscribers.values().map(|subscriber| subscriber.format).collect();
    assert_eq!(formats, [Format::Shipstation]);
}

#[test]
fn the_unit_passes_the_credentials_that_the_example_names() {
    let handed: BTreeSet<&str> = UNIT
        .lines()
        .filter_map(|line| line.strip_prefix("LoadCredential=")?.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    let expected: BTreeSet<&str> =
        EXAMPLE.split("{ credential = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(handed, expected);
}

#[test]
fn every_setting_of_the_unit_is_explained() {
    let mut before = "";
    for (number, line) in (1..).zip(UNIT.lines()) {
        let is_setting = !line.is_empty() && !line.starts_with(['#', '[']);
        assert!(
            !is_setting || before.starts_with("# "),
            "deploy/trackpost.service:{number}: {line} has no comment right above it"
        );
        before = line;
    }
}
