//! What can be asked for on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as Section, Parser, Subcommand};
use clap_complete::Shell;

use super::resolve::Moment;
use crate::domain::messages::signature::hmac_header;
use crate::sandbox::Fault;

/// Polls ShipStation label tracking and posts signed callbacks.
#[derive(Debug, Parser)]
#[command(name = "trackpost", version = env!("TRACKPOST_VERSION"), max_term_width = 100)]
pub struct Args {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        env = "TRACKPOST_CONFIG",
        default_value = "/etc/trackpost/trackpost.toml",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Runs the daemon, in the foreground.
    Run,
    /// Has the running daemon read its configuration again, and says whether it was applied or why not.
    Reload,
    /// Reads the whole configuration, reports every fault at once, and prints what would run.
    Check(Check),
    /// Shows it all in a minute: sandbox, daemon and receiver on loopback.
    Demo(Demo),
    /// Serves a fake ShipStation on loopback.
    Sandbox(Sandbox),
    /// Receives callbacks for development: verifies, prints, answers.
    Listen(Listen),
    /// Says step by step whether a callback's signature holds.
    Verify(Verify),
    /// The registry of labels.
    #[command(subcommand)]
    Labels(Labels),
    /// Every carrier event of a label ever seen, and the callbacks made of them.
    History(History),
    /// Why a label's next poll is when it is, and what its last polls said.
    Explain(OfLabel),
    /// The outbox and its attempts.
    #[command(subcommand)]
    Deliveries(Deliveries),
    /// One screen: what needs attention, accounts, labels, subscribers, and whether a daemon runs.
    Status(Listing),
    /// The accounts, how they stand with the API and how far their quota is used.
    #[command(subcommand)]
    Accounts(Accounts),
    /// Those who are told, and how they fare.
    #[command(subcommand)]
    Subscribers(Subscribers),
    /// Sends stored messages again to a subscriber.
    Replay(Replay),
    /// Writes a consistent copy of the live database.
    Backup(Backup),
    /// What a cadence costs and how fresh it is, on recorded or generated journeys, in virtual time.
    Simulate(Simulate),
    /// Prints the public keys that rsa_signature is verified with, as served at /jwks.
    Jwks,
    /// Prints completions for a shell.
    Completions(Completions),
    /// Prints the manual page.
    Man,
}

#[derive(Debug, Section)]
pub struct Check {
    /// Sends nothing (the default).
    #[arg(long, conflicts_with = "online")]
    pub offline: bool,
    /// Also makes one call per account, one more where labels are discovered, and one ping per subscriber.
    #[arg(long)]
    pub online: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Section)]
pub struct Demo {
    /// How many parcels travel.
    #[arg(long, default_value_t = 12, value_name = "N")]
    pub parcels: u32,
    /// About how long it takes.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub seconds: u32,
    /// The same seed, the same parcels.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Keeps the database and the configuration in this folder.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// The summary as a JSON object, and nothing else.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Section)]
pub struct Sandbox {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// How many times faster than the clock parcels travel.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub time_factor: f64,
    /// Sets parcels and faults.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// An API key that is let in (repeatable); none: any.
    #[arg(long, value_name = "KEY")]
    pub api_key: Vec<String>,
    /// Requests a minute before 429; 0: as many as come.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub requests_per_minute: u32,
    /// How many parcels there are from the start: se-1, se-2, … Who names none gets a parcel for every id asked for.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub parcels: u32,
    /// New labels an hour, by the clock, beside those; one in 20 is voided again. `GET /v2/labels` lists them.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub labels_per_hour: u32,
    /// Plays recorded journeys (JSON Lines).
    #[arg(long, value_name = "FILE")]
    pub journeys: Option<PathBuf>,
    /// Serves files as they are: DIR/LABEL.json, or DIR/LABEL/*.json in the order of their names.
    #[arg(long, value_name = "DIR")]
    pub replay: Option<PathBuf>,
    /// Answers a status for a share of the requests, as in 500:5% (repeatable).
    #[arg(long, value_name = "STATUS:SHARE", value_parser = Fault::parse_fail)]
    pub fail: Vec<Fault>,
    /// Delays a share of the answers, as in 2s:1% (repeatable).
    #[arg(long, value_name = "TIME:SHARE", value_parser = Fault::parse_slow)]
    pub slow: Vec<Fault>,
    /// Garbles a share of the answers, as in 1%.
    #[arg(long, value_name = "SHARE", value_parser = Fault::parse_garble)]
    pub garble: Option<Fault>,
}

#[derive(Debug, Section)]
pub struct Listen {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9787", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// The signing secret, whsec_… (repeatable while rotating); none: nothing is verified.
    #[arg(long, env = "TRACKPOST_LISTEN_SECRET", hide_env_values = true)]
    pub secret: Vec<String>,
    /// The status to answer.
    #[arg(long, default_value_t = 200, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// One JSON object per callback.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub beside: Beside,
}

#[derive(Debug, Section)]
pub struct Verify {
    /// The signing secret, whsec_…
    #[arg(
        long,
        env = "TRACKPOST_VERIFY_SECRET",
        hide_env_values = true,
        required_unless_present_any = ["jwks", "hmac_secret"]
    )]
    pub secret: Option<String>,
    /// A header as it came, as in "webhook-id: msg_1" (repeatable).
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// The body as it came; none or -: from stdin.
    #[arg(value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// The time to check against, in seconds since 1970; none: now.
    #[arg(long, value_name = "SECONDS")]
    pub at: Option<i64>,
    #[command(flatten)]
    pub beside: Beside,
}

/// Signatures beside the standard one.
#[derive(Debug, Section)]
pub struct Beside {
    /// Also checks the RSA signature, with the keys of this file (trackpost jwks, or what /jwks answered).
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// Also checks the plain hex HMAC, with this secret.
    #[arg(long, env = "TRACKPOST_HMAC_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub hmac_secret: Option<String>,
    /// The header that the HMAC is in.
    #[arg(long, value_name = "NAME", default_value = "X-Hub-Signature-256")]
    pub hmac_header: String,
    /// What stands before the hex.
    #[arg(long, value_name = "TEXT", default_value = hmac_header::PREFIX)]
    pub hmac_prefix: String,
}

#[derive(Debug, Section)]
pub struct Listing {
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Accounts {
    /// All configured accounts.
    List(Listing),
}

#[derive(Debug, Subcommand)]
pub enum Labels {
    /// All labels.
    List {
        /// Only those in this state.
        #[arg(long, value_parser = ["active", "finished", "expired", "unavailable", "removed"])]
        state: Option<String>,
        /// Only those of this account.
        #[arg(long)]
        account: Option<String>,
        /// Only those with this text in id, tracking number or metadata, in capitals or not.
        #[arg(long, value_name = "TEXT")]
        find: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// One label.
    Show(OfLabel),
    /// Registers labels by hand, beside those of the files.
    Add {
        /// Label ids; - reads ids, CSV or JSON Lines from stdin.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Whose labels they are; may be left out if there is one account.
        #[arg(long)]
        account: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Takes back what was registered by hand. The history stays.
    Remove {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        #[arg(long)]
        account: Option<String>,
    },
    /// Makes a label due now.
    Poll {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        #[arg(long)]
        account: Option<String>,
        /// Waits for the running daemon to poll it, up to a minute, and prints what was found.
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Debug, Section)]
pub struct OfLabel {
    /// A label id, or a tracking number if one label has it.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Whose label it is, where several accounts have the id.
    #[arg(long)]
    pub account: Option<String>,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Debug, Section)]
pub struct History {
    /// A label id, or a tracking number if one label has it.
    #[arg(value_name = "ID", required_unless_present = "journeys")]
    pub id: Option<String>,
    /// Whose label it is, where several accounts have the id.
    #[arg(long)]
    pub account: Option<String>,
    /// Writes journeys for simulate and the sandbox (JSON Lines): of the label, or of all.
    #[arg(long)]
    pub journeys: bool,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Debug, Subcommand)]
pub enum Deliveries {
    /// Deliveries, the newest last.
    List {
        #[arg(long)]
        subscriber: Option<String>,
        #[arg(long)]
        label: Option<String>,
        /// Only those in this state.
        #[arg(long, value_parser = ["pending", "delivered", "dead"])]
        state: Option<String>,
        /// Only those of this type, as tracking.delivered, or of all that begin alike, as tracking.event.*
        #[arg(long, value_name = "TYPE")]
        r#type: Option<String>,
        /// At most so many, the newest.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Made since then: RFC 3339, a day as 2026-11-27 or yesterday (UTC), or a duration ago as 2h or 2d.
        #[arg(long, value_name = "WHEN", value_parser = Moment::parse)]
        since: Option<Moment>,
        #[command(flatten)]
        listing: Listing,
    },
    /// One delivery and all its attempts.
    Show {
        /// As dlv_5 or 5; or a message, msg_…: all its deliveries.
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// Makes a delivery due now; one that is delivered or dead is sent again.
    Retry {
        /// Deliveries (dlv_1), or messages (msg_…): to all their subscribers.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Same webhook-id, same body, fresh signature. Within a label what is repeated goes before what still waits.
#[derive(Debug, Section)]
pub struct Replay {
    /// To whom.
    #[arg(long, value_name = "NAME")]
    pub subscriber: String,
    /// Made since then: RFC 3339, a day as 2026-11-27 or yesterday (UTC), or a duration ago as 2h or 2d.
    #[arg(long, value_name = "WHEN", value_parser = Moment::parse)]
    pub since: Option<Moment>,
    /// Made before then: the same.
    #[arg(long, value_name = "WHEN", value_parser = Moment::parse)]
    pub until: Option<Moment>,
    /// Only the messages of this label.
    #[arg(long, value_name = "ID")]
    pub label: Option<String>,
    /// Only those in this state, pings too; without it those that are delivered or dead, and those it wants but was
    /// never owed.
    #[arg(long, value_parser = ["pending", "delivered", "dead"])]
    pub state: Option<String>,
    /// Sends nothing: counts, and shows the first and the last.
    #[arg(long)]
    pub dry_run: bool,
    /// Spreads the labels so that about this many messages a second go out; none: as fast as they are taken.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub enum Subscribers {
    /// All subscribers: their state, and what is owed to them.
    List(Listing),
    /// Has the daemon send a signed ping, and says what came of it.
    Ping {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Sends nothing more until it is resumed; what is owed is kept.
    Pause {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Goes on with what is owed.
    Resume {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Without --journeys and --generate: 2,000 generated ones. Without --policy: default, hourly and fixed:2h.
#[derive(Debug, Section)]
pub struct Simulate {
    /// Plays recorded journeys (JSON Lines), as trackpost history --journeys writes them.
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub journeys: Option<PathBuf>,
    /// Makes up so many journeys within a year.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub generate: Option<u32>,
    /// The same seed, the same journeys and the same jitter.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// default (the compiled-in cadence), hourly, fixed:2h, or a configuration file with a cadence (repeatable).
    #[arg(long, value_name = "POLICY")]
    pub policy: Vec<String>,
    /// Calls in any 60 s, 1 to 60000.
    #[arg(long, default_value_t = 160, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub requests_per_minute: u32,
    /// One JSON object per policy.
    #[arg(long)]
    pub json: bool,
}

/// The daemon goes on meanwhile. The copy is checked, only its owner can read it, and nothing is overwritten.
#[derive(Debug, Section)]
pub struct Backup {
    /// The file to write.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, Section)]
pub struct Completions {
    pub shell: Shell,
}
