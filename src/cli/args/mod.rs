//! Command line arguments: one struct or enum per command, its help, and its examples.

mod develop;
mod examples;
mod operate;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub use develop::{Demo, Listen, OtherSignatureArgs, Sandbox, Simulate, Verify};
pub use operate::{
    Accounts, Deliveries, DeliveryList, History, LabelIds, LabelList, Labels, OneLabel, Replay, Subscribers,
};

use examples as e;

/// The configuration file where neither `--config` nor `TRACKPOST_CONFIG` names one.
pub const DEFAULT_CONFIG: &str = "/etc/trackpost/trackpost.toml";

/// Polls ShipStation label tracking and posts signed callbacks.
#[derive(Debug, Parser)]
#[command(
    name = "trackpost",
    version = env!("TRACKPOST_VERSION"),
    max_term_width = 100,
    after_help = e::TRACKPOST,
    subcommand_value_name = "COMMAND"
)]
pub struct Args {
    /// Configuration file.
    #[arg(long, global = true, env = "TRACKPOST_CONFIG", default_value = DEFAULT_CONFIG, value_name = "FILE")]
    pub config: PathBuf,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Writes a first configuration and its secrets into the working directory.
    #[command(after_help = e::INIT)]
    Init(Init),
    /// Runs the daemon in the foreground.
    #[command(after_help = e::RUN)]
    Run,
    /// Reloads the configuration of the running daemon, and prints the result.
    #[command(after_help = e::RELOAD)]
    Reload,
    /// Reads the configuration, reports every fault, and prints the accounts, labels and subscribers.
    #[command(after_help = e::CHECK)]
    Check(Check),
    /// Shows trackpost at work within a minute: sandbox, daemon and receiver on loopback.
    #[command(after_help = e::DEMO)]
    Demo(Demo),
    /// Serves a fake ShipStation API on loopback.
    #[command(after_help = e::SANDBOX)]
    Sandbox(Sandbox),
    /// Receives callbacks for development: verifies, prints, answers.
    #[command(after_help = e::LISTEN)]
    Listen(Listen),
    /// Checks the signature of a callback step by step.
    #[command(after_help = e::VERIFY)]
    Verify(Verify),
    /// Lists, shows, adds, removes and polls labels.
    #[command(subcommand, after_help = e::LABELS)]
    Labels(Labels),
    /// Prints every carrier event of a label and its callbacks.
    #[command(after_help = e::HISTORY)]
    History(History),
    /// Explains the time of a label's next poll, and prints its last polls.
    #[command(after_help = e::EXPLAIN)]
    Explain(OneLabel),
    /// Lists, shows and retries deliveries.
    #[command(subcommand, after_help = e::DELIVERIES)]
    Deliveries(Deliveries),
    /// Prints problems, accounts, labels, subscribers, and whether a daemon runs.
    #[command(after_help = e::STATUS)]
    Status(JsonFlag),
    /// Lists the accounts with their status and their use of the quota.
    #[command(subcommand, after_help = e::ACCOUNTS)]
    Accounts(Accounts),
    /// Lists, pings, pauses and resumes subscribers.
    #[command(subcommand, after_help = e::SUBSCRIBERS)]
    Subscribers(Subscribers),
    /// Sends stored messages again to a subscriber.
    #[command(after_help = e::REPLAY)]
    Replay(Replay),
    /// Writes a consistent copy of the live database.
    #[command(after_help = e::BACKUP)]
    Backup(Backup),
    /// Measures the cost and freshness of a cadence on recorded or generated journeys, in virtual time.
    #[command(after_help = e::SIMULATE)]
    Simulate(Simulate),
    /// Prints the public keys that verify rsa_signature, as served at /jwks.
    #[command(after_help = e::JWKS)]
    Jwks,
    /// Prints completions for a shell.
    #[command(after_help = e::COMPLETIONS)]
    Completions(Completions),
    /// Prints the manual page.
    #[command(after_help = e::MAN)]
    Man,
}

#[derive(Debug, clap::Args)]
pub struct Init {
    /// Writes a configuration that runs against trackpost sandbox, without any API key.
    #[arg(long)]
    pub sandbox: bool,
    /// ShipStation API key; without it, init prompts for the key on a terminal.
    #[arg(long, env = "TRACKPOST_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
    /// URL of the subscriber.
    #[arg(long, default_value = "http://127.0.0.1:9787/hooks", value_name = "URL")]
    pub url: String,
}

#[derive(Debug, clap::Args)]
pub struct Check {
    /// Sends nothing (the default).
    #[arg(long, conflicts_with = "online")]
    pub offline: bool,
    /// Also sends one request per account (two with discovery) and one ping per subscriber.
    #[arg(long)]
    pub online: bool,
    /// Prints one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct JsonFlag {
    /// Prints one JSON object a line instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Backup {
    /// File to write; it must not exist.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Shell to print completions for.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    use super::*;

    /// Every command below `command` that does something itself, with its full name.
    fn leaves(command: &Command, name: &str, found: &mut Vec<(String, Command)>) {
        for verb in command.get_subcommands() {
            let name = format!("{name} {}", verb.get_name());
            match verb.has_subcommands() {
                true => leaves(verb, &name, found),
                false => found.push((name, verb.clone())),
            }
        }
    }

    #[test]
    fn every_argument_has_its_line_and_every_command_two_examples_that_parse() {
        let command = Args::command();
        command.clone().debug_assert();
        let mut found = Vec::new();
        leaves(&command, "trackpost", &mut found);
        assert!(found.len() > 25, "{}", found.len());
        for (name, verb) in found {
            assert!(verb.get_about().is_some(), "{name}");
            for argument in verb.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
            }
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help.lines().filter(|line| line.contains(&name)).collect();
            assert!(examples.len() >= 2, "{name}: {help}");
            for example in examples {
                let (_, words) = example.split_once("trackpost ").unwrap();
                let words = words.split([';', '|', '>', '<', '&']).next().unwrap().replace('\'', "");
                let words = words.split_whitespace().map(|word| match word.starts_with('$') {
                    true => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                    false => word,
                });
                let parsed = Args::try_parse_from(std::iter::once("trackpost").chain(words));
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
            }
        }
    }
}
