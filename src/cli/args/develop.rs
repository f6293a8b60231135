//! Arguments of the commands that need no database: demo, sandbox, receiver, signature check, simulation.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::domain::messages::signature::hmac_header;
use crate::sandbox::InjectedFault;

#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Number of parcels.
    #[arg(long, default_value_t = 12, value_name = "N")]
    pub parcels: u32,
    /// Approximate duration in seconds.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub seconds: u32,
    /// Seed; the same seed gives the same parcels.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Keeps the database and the configuration in this directory.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Prints only the summary, as a JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Sandbox {
    /// Address to listen on; port 0 selects a free port.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Speed of the parcels, as a multiple of real time.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub time_factor: f64,
    /// Seed of parcels and faults.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Accepted API key (repeatable); without it, every key is accepted.
    #[arg(long, value_name = "KEY")]
    pub api_key: Vec<String>,
    /// Maximum number of requests a minute; above it, the sandbox answers 429; 0: no limit.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub requests_per_minute: u32,
    /// Number of parcels at the start: se-1, se-2, … If the sandbox has no labels, every requested id gets a parcel.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub parcels: u32,
    /// Number of new labels per hour of real time, listed by GET /v2/labels; one in 20 is voided later.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub labels_per_hour: u32,
    /// Plays recorded journeys (JSON Lines), as trackpost history --journeys prints them.
    #[arg(long, value_name = "FILE")]
    pub journeys: Option<PathBuf>,
    /// Serves files as they are: DIR/LABEL.json, or DIR/LABEL/*.json in the order of their names.
    #[arg(long, value_name = "DIR")]
    pub replay: Option<PathBuf>,
    /// Answers a share of the requests with a status, such as 500:5% (repeatable).
    #[arg(long, value_name = "STATUS:SHARE", value_parser = InjectedFault::parse_fail)]
    pub fail: Vec<InjectedFault>,
    /// Delays a share of the answers, such as 2s:1% (repeatable).
    #[arg(long, value_name = "TIME:SHARE", value_parser = InjectedFault::parse_slow)]
    pub slow: Vec<InjectedFault>,
    /// Garbles a share of the answers, such as 1%.
    #[arg(long, value_name = "SHARE", value_parser = InjectedFault::parse_garble)]
    pub garble: Option<InjectedFault>,
}

#[derive(Debug, clap::Args)]
pub struct Listen {
    /// Address to listen on; port 0 selects a free port.
    #[arg(long, default_value = "127.0.0.1:9787", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Signing secret, whsec_… (repeatable, for rotation); without it, signatures are not verified.
    #[arg(long, env = "TRACKPOST_LISTEN_SECRET", hide_env_values = true)]
    pub secret: Vec<String>,
    /// HTTP status of the answers.
    #[arg(long, default_value_t = 200, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// Prints one JSON object per callback.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub other_signatures: OtherSignatureArgs,
}

#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Signing secret, whsec_…
    #[arg(
        long,
        env = "TRACKPOST_VERIFY_SECRET",
        hide_env_values = true,
        required_unless_present_any = ["jwks", "hmac_secret"]
    )]
    pub secret: Option<String>,
    /// Header as received, such as "webhook-id: msg_1" (repeatable).
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// File with the body as received; - or no file: stdin.
    #[arg(value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// Time at which the signature is checked, in seconds since 1970; without it, now.
    #[arg(long, value_name = "SECONDS")]
    pub at: Option<i64>,
    #[command(flatten)]
    pub other_signatures: OtherSignatureArgs,
}

/// Signatures other than the standard one.
#[derive(Debug, clap::Args)]
pub struct OtherSignatureArgs {
    /// Also checks the RSA signature, with the keys of this file (from trackpost jwks or /jwks).
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// Also checks the plain hex HMAC, with this secret.
    #[arg(long, env = "TRACKPOST_HMAC_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub hmac_secret: Option<String>,
    /// Name of the header with the HMAC.
    #[arg(long, value_name = "NAME", default_value = "X-Hub-Signature-256")]
    pub hmac_header: String,
    /// Text before the hex digits in that header.
    #[arg(long, value_name = "TEXT", default_value = hmac_header::PREFIX)]
    pub hmac_prefix: String,
}

#[derive(Debug, clap::Args)]
pub struct Simulate {
    /// Plays recorded journeys (JSON Lines), as trackpost history --journeys prints them.
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub journeys: Option<PathBuf>,
    /// Number of journeys to generate, spread over a year.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub generate: Option<u32>,
    /// Seed; the same seed gives the same journeys and the same jitter.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// default (the compiled-in cadence), hourly, fixed:2h, or a configuration file with a cadence (repeatable).
    #[arg(long, value_name = "POLICY")]
    pub policy: Vec<String>,
    /// Maximum number of requests in any 60 s, 1 to 60000.
    #[arg(long, default_value_t = 160, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub requests_per_minute: u32,
    /// Prints one JSON object per policy.
    #[arg(long)]
    pub json: bool,
}
