//! Promises of the README: its first two commands, its table of commands, and its examples, which are run.

use std::process::Command;

const README: &str = include_str!("../../README.md");
const TRACKPOST: &str = env!("CARGO_BIN_EXE_trackpost");

/// Returns the contents of the fenced blocks tagged `tag`.
fn blocks(tag: &str) -> Vec<String> {
    let fence = format!("```{tag}");
    let mut lines = README.lines();
    let mut found = Vec::new();
    while lines.any(|line| line == fence) {
        let block = lines.by_ref().take_while(|line| *line != "```");
        found.push(block.map(|line| format!("{line}\n")).collect());
    }
    found
}

#[test]
fn the_first_commands_run_the_demo_and_the_tests() {
    let first = README.split("```").nth(1).unwrap();
    assert_eq!(first, "sh\ncargo run --release -- demo\ncargo test\n");
}

#[test]
fn every_test_in_the_fault_matrix_exists() {
    let matrix = README.split("| fault | proof | tests |").nth(1).unwrap().split("\n\n").next().unwrap();
    let named: Vec<(&str, &str)> =
        matrix.split('`').skip(1).step_by(2).map(|test| test.rsplit_once("::").unwrap()).collect();
    assert!(named.len() > 20, "{named:?}");
    for (module, test) in named {
        let path = format!("{}/tests/it/{}.rs", env!("CARGO_MANIFEST_DIR"), module.replace("::", "/"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "{module} has no test {test}");
    }
}

#[test]
fn the_table_lists_every_command() {
    let commands: Vec<&str> =
        README.lines().filter_map(|line| line.strip_prefix("| `trackpost ")?.split('`').next()).collect();
    assert!(commands.contains(&"run") && commands.len() >= 12, "{commands:?}");
    for command in &commands {
        let output = Command::new(TRACKPOST).args([command, "--help"]).output().unwrap();
        assert!(output.status.success(), "trackpost {command} is not a command");
    }
    let help = Command::new(TRACKPOST).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.split("Commands:\n").nth(1).unwrap().lines().map_while(|line| line.strip_prefix("  "));
    for command in listed.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(' ').next()) {
        assert!(
            command == "help" || commands.contains(&command),
            "the README's table lacks trackpost {command}"
        );
    }
}

/// Runs the blocks tagged `sh run` in one shell in an empty directory.
#[test]
fn the_examples_run() {
    let directory = tempfile::tempdir().unwrap();
    let bin = std::path::Path::new(TRACKPOST).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path))).unwrap();
    let script = blocks("sh run").concat();
    let output = Command::new("bash")
        .args(["-xeuo", "pipefail", "-c", &script])
        .current_dir(&directory)
        .env("PATH", path)
        .env_remove("TRACKPOST_CONFIG")
        .env_remove("STATE_DIRECTORY")
        .output()
        .unwrap();
    let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", utf8(&output.stdout), utf8(&output.stderr));
}

#[test]
fn every_link_leads_to_a_file() {
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with("https://")) {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
        assert!(file.exists(), "the README links to {link}, which does not exist");
    }
}
