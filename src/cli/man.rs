//! `trackpost man` and `trackpost completions`: generated from the arguments.

use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory as _};
use roff::{Inline, Roff, bold, italic, roman};

use super::args::{Args, Completions};
use super::{Failure, output};

/// Date of the last change to the texts of this page.
const DATE: &str = "2026-11-28";

const DESCRIPTION: &[&str] = &[
    "trackpost polls ShipStation for the tracking of registered labels, keeps the whole history in an SQLite database, \
     and POSTs a signed callback to every subscriber when something changes.",
    "trackpost run runs the daemon. Commands that change something write to the database, and a running daemon applies \
     the change within a second. Commands that read print a table; with --json they print one JSON object per line.",
];

const FILES: &[(&str, &str)] = &[
    (
        "/etc/trackpost/trackpost.toml",
        "Default configuration file; --config or TRACKPOST_CONFIG names another one. Relative paths in it start at its \
         directory, except store.path.",
    ),
    (
        "labels.d/*",
        "Label files, as named by registration.files: .txt (one id per line), .csv (with a column label_id) or .jsonl. \
         They are watched.",
    ),
    (
        "trackpost.db, trackpost.db-wal, trackpost.db-shm",
        "Database, as named by store.path. A relative path starts at $STATE_DIRECTORY if that is set, else at the working \
         directory. Created with mode 0600.",
    ),
    (
        "trackpost.db.lock",
        "Lock file of the running daemon, with its process id and the result of its last reload.",
    ),
];

const SIGNALS: &[(&str, &str)] = &[
    (
        "SIGTERM, SIGINT",
        "Stops the daemon. Attempts in flight get 10 seconds to end, and undelivered messages stay in the database. A \
         second signal stops it at once.",
    ),
    (
        "SIGHUP",
        "Reloads the configuration. If it has a fault, the running configuration stays and every fault is logged. \
         trackpost reload does the same and prints the result.",
    ),
];

const STATUS: &[(&str, &str)] = &[
    ("0", "Success."),
    (
        "1",
        "Failure. Standard error has the reason and its causes, and often a line \"hint:\" with the way out.",
    ),
    ("2", "Wrong usage."),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("TRACKPOST_CONFIG", "Configuration file, as --config."),
    (
        "TRACKPOST__SECTION__KEY",
        "Overrides a key of the configuration, such as TRACKPOST__HTTP__LISTEN=127.0.0.1:8788.",
    ),
    ("RUST_LOG", "Log level or filter; overrides log.level."),
    ("STATE_DIRECTORY", "Directory at which a relative store.path starts; set by systemd (StateDirectory=)."),
    (
        "CREDENTIALS_DIRECTORY",
        "Directory of the secrets { credential = \"NAME\" }; set by systemd (LoadCredential=).",
    ),
    ("NOTIFY_SOCKET, WATCHDOG_USEC, JOURNAL_STREAM", "Set by systemd, for readiness, watchdog and journal."),
    ("TRACKPOST_API_KEY", "API key for trackpost init."),
    (
        "TRACKPOST_LISTEN_SECRET, TRACKPOST_VERIFY_SECRET, TRACKPOST_HMAC_SECRET",
        "Secrets for listen and verify.",
    ),
    ("COLUMNS", "Width of tables; without it the width of the terminal."),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("Run the demo, which needs no API key:", "trackpost demo"),
    (
        "Write a first configuration, check it, run it:",
        "trackpost init; trackpost check --config trackpost.toml; trackpost run --config trackpost.toml",
    ),
    ("Find a label by an order number in its metadata:", "trackpost labels list --find A-1001"),
    (
        "Follow the deliveries of a subscriber:",
        "trackpost deliveries list --subscriber orders --limit 20 --watch",
    ),
    (
        "Copy all labels to another installation:",
        "trackpost labels list --json | ssh other trackpost labels add -",
    ),
];

pub fn completions(args: &Completions) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "trackpost", &mut script);
    output::print(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}

pub fn man() -> Result<ExitCode, Failure> {
    output::print(&page());
    Ok(ExitCode::SUCCESS)
}

fn page() -> String {
    let mut command = Args::command();
    command.build();
    let mut roff = Roff::new();
    let version = format!("trackpost {}", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["TRACKPOST", "1", DATE, version.as_str(), "User Commands"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("trackpost - polls ShipStation label tracking and posts signed callbacks")]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("trackpost"), roman(" [--config "), italic("FILE"), roman("] "), italic("COMMAND")]);
    roff.control("SH", ["DESCRIPTION"]);
    for (number, paragraph) in DESCRIPTION.iter().enumerate() {
        if number > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*paragraph)]);
    }
    roff.control("SH", ["OPTIONS"]);
    command.get_arguments().for_each(|argument| option(&mut roff, argument));
    roff.control("SH", ["COMMANDS"]);
    command.get_subcommands().for_each(|verb| commands(&mut roff, verb, ""));
    for (title, entries) in
        [("FILES", FILES), ("SIGNALS", SIGNALS), ("EXIT STATUS", STATUS), ("ENVIRONMENT", ENVIRONMENT)]
    {
        roff.control("SH", [title]);
        for (name, text) in entries {
            entry(&mut roff, vec![bold(*name)], text);
        }
    }
    roff.control("SH", ["EXAMPLES"]);
    for (text, example) in EXAMPLES {
        entry(&mut roff, vec![roman(*text)], example);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("systemctl"), roman("(1), "), bold("journalctl"), roman("(1)")]);
    roff.to_roff()
}

fn entry(roff: &mut Roff, head: Vec<Inline>, text: &str) {
    roff.control("TP", []);
    roff.text(head);
    roff.text([roman(text)]);
}

/// A command with its options and examples, or the commands below it.
fn commands(roff: &mut Roff, command: &Command, above: &str) {
    if command.get_name() == "help" {
        return;
    }
    let name = format!("{above}{}", command.get_name());
    if command.has_subcommands() {
        return command.get_subcommands().for_each(|verb| commands(roff, verb, &format!("{name} ")));
    }
    let arguments = || {
        command.get_arguments().filter(|argument| !["config", "help"].contains(&argument.get_id().as_str()))
    };
    let mut heading = format!("trackpost {name}");
    for argument in arguments().filter(|argument| argument.is_positional()) {
        heading.push_str(&format!(" {}", value_name(argument)));
    }
    roff.control("SS", [heading.as_str()]);
    let about = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    roff.text([roman(about(command.get_about()))]);
    arguments().for_each(|argument| option(roff, argument));
    let examples = about(command.get_after_help());
    let (note, examples) = examples.split_once("Examples:").unwrap_or_default();
    if !note.trim().is_empty() {
        roff.control("PP", []);
        roff.text([roman(note.trim())]);
    }
    let mut examples = examples.lines().map(str::trim).filter(|line| !line.is_empty());
    if let Some(first) = examples.next() {
        roff.control("PP", []);
        roff.text([roman("Examples:")]);
        roff.control("RS", ["4"]);
        roff.text([roman(first)]);
        for example in examples {
            roff.control("br", []);
            roff.text([roman(example)]);
        }
        roff.control("RE", []);
    }
}

fn value_name(argument: &Arg) -> String {
    argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default()
}

fn option(roff: &mut Roff, argument: &Arg) {
    let mut head = Vec::new();
    if let Some(short) = argument.get_short() {
        head.extend([bold(format!("-{short}")), roman(", ")]);
    }
    if let Some(long) = argument.get_long() {
        head.push(bold(format!("--{long}")));
    }
    if argument.is_positional() || argument.get_action().takes_values() {
        let space = if argument.is_positional() { "" } else { " " };
        head.push(italic(format!("{space}{}", value_name(argument))));
    }
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    if !text.ends_with(['.', '…', '*']) {
        text.push('.');
    }
    let shown = argument.get_action().takes_values();
    let values: Vec<_> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if shown && !values.is_empty() {
        text.push_str(&format!(" One of {}.", values.join(", ")));
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if shown && !defaults.is_empty() {
        text.push_str(&format!(" Default: {}.", defaults.join(", ")));
    }
    if let Some(name) = argument.get_env() {
        text.push_str(&format!(" Environment: {}.", name.to_string_lossy()));
    }
    entry(roff, head, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_all_sections_and_commands() {
        let page = page();
        for part in [
            ".SH SYNOPSIS",
            ".SH COMMANDS",
            ".SH FILES",
            ".SH SIGNALS",
            "SH \"EXIT STATUS\"",
            ".SH ENVIRONMENT",
            ".SH EXAMPLES",
            "trackpost init",
            "trackpost labels add ID",
            "trackpost deliveries retry ID",
        ] {
            assert!(page.contains(part), "{part} is missing in:\n{page}");
        }
    }
}
