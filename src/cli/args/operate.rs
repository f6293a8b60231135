//! Arguments of the commands that work on the database: accounts, labels, deliveries, subscribers.

use clap::Subcommand;

use super::JsonFlag;
use super::examples as e;
use crate::cli::resolve::TimeArgument;

#[derive(Debug, Subcommand)]
pub enum Accounts {
    /// Lists all configured accounts.
    #[command(after_help = e::ACCOUNTS_LIST)]
    List(JsonFlag),
}

#[derive(Debug, Subcommand)]
pub enum Labels {
    /// Lists labels.
    #[command(after_help = e::LABELS_LIST)]
    List(LabelList),
    /// Shows one label.
    #[command(after_help = e::LABELS_SHOW)]
    Show(OneLabel),
    /// Registers labels by hand, in addition to the label files.
    #[command(after_help = e::LABELS_ADD)]
    Add {
        /// Label ids; - reads ids, CSV, JSON Lines or the output of labels list --json from stdin.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Account of the labels; required if several accounts are configured.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        format: JsonFlag,
    },
    /// Removes labels that were registered by hand or discovered. Their history stays.
    #[command(after_help = e::LABELS_REMOVE)]
    Remove(LabelIds),
    /// Makes labels due now: they are polled as soon as the quota allows.
    #[command(after_help = e::LABELS_POLL)]
    Poll {
        #[command(flatten)]
        labels: LabelIds,
        /// Waits up to a minute for the running daemon to poll them, and prints the result.
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct LabelIds {
    /// Label ids.
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// Account of the labels; required if several accounts have a label with this id.
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct LabelList {
    /// Only labels in this state.
    #[arg(long, value_name = "STATE", value_parser = ["active", "finished", "expired", "unavailable", "removed"])]
    pub state: Option<String>,
    /// Only labels of this account.
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Only labels with this text in their id, tracking number or metadata; case does not matter.
    #[arg(long, value_name = "TEXT")]
    pub find: Option<String>,
    #[command(flatten)]
    pub format: JsonFlag,
}

#[derive(Debug, clap::Args)]
pub struct OneLabel {
    /// Label id, or a tracking number that only one label has.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Account of the label; required if several accounts have a label with this id.
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    #[command(flatten)]
    pub format: JsonFlag,
}

#[derive(Debug, clap::Args)]
pub struct History {
    /// Label id, or a tracking number that only one label has.
    #[arg(value_name = "ID", required_unless_present = "journeys")]
    pub id: Option<String>,
    /// Account of the label; required if several accounts have a label with this id.
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Prints journeys for simulate and sandbox (JSON Lines): of the label, or of all labels.
    #[arg(long)]
    pub journeys: bool,
    #[command(flatten)]
    pub format: JsonFlag,
}

#[derive(Debug, Subcommand)]
pub enum Deliveries {
    /// Lists deliveries, the newest last.
    #[command(after_help = e::DELIVERIES_LIST)]
    List(DeliveryList),
    /// Shows one delivery with all its attempts and the reason for the time of the next one.
    #[command(after_help = e::DELIVERIES_SHOW)]
    Show {
        /// Delivery (dlv_5 or 5), or message (msg_…): all its deliveries.
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        format: JsonFlag,
    },
    /// Makes deliveries due now; a delivered or dead one is sent again.
    #[command(after_help = e::DELIVERIES_RETRY)]
    Retry {
        /// Deliveries (dlv_5 or 5), or messages (msg_…): all their deliveries.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
pub struct DeliveryList {
    /// Only deliveries to this subscriber.
    #[arg(long, value_name = "NAME")]
    pub subscriber: Option<String>,
    /// Only deliveries of this label.
    #[arg(long, value_name = "ID")]
    pub label: Option<String>,
    /// Only deliveries in this state.
    #[arg(long, value_name = "STATE", value_parser = ["pending", "delivered", "dead"])]
    pub state: Option<String>,
    /// Only messages of this type, such as tracking.delivered; * at the end stands for any text, as in tracking.event.*
    #[arg(long, value_name = "TYPE")]
    pub r#type: Option<String>,
    /// Maximum number of deliveries; the newest ones are listed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Only deliveries created at or after this time: RFC 3339, a day (2026-11-27, yesterday; UTC), or an age (2h, 2d).
    #[arg(long, value_name = "WHEN", value_parser = TimeArgument::parse)]
    pub since: Option<TimeArgument>,
    /// Keeps running and prints each delivery that is new or has changed; Ctrl-C ends it.
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub format: JsonFlag,
}

#[derive(Debug, clap::Args)]
pub struct Replay {
    /// Name of the subscriber.
    #[arg(long, value_name = "NAME")]
    pub subscriber: String,
    /// Only messages created at or after this time: RFC 3339, a day (2026-11-27, yesterday; UTC), or an age (2h, 2d).
    #[arg(long, value_name = "WHEN", value_parser = TimeArgument::parse)]
    pub since: Option<TimeArgument>,
    /// Only messages created before this time, in the same formats as --since.
    #[arg(long, value_name = "WHEN", value_parser = TimeArgument::parse)]
    pub until: Option<TimeArgument>,
    /// Only messages of this label.
    #[arg(long, value_name = "ID")]
    pub label: Option<String>,
    /// Only messages whose delivery is in this state, also pings. Without it: delivered and dead messages, and messages
    /// that match the subscriber's events but were never queued for it.
    #[arg(long, value_name = "STATE", value_parser = ["pending", "delivered", "dead"])]
    pub state: Option<String>,
    /// Queues nothing; prints the number of messages, the first one and the last one.
    #[arg(long)]
    pub dry_run: bool,
    /// Approximate number of messages to send per second; without it, as fast as the subscriber accepts them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub enum Subscribers {
    /// Lists all subscribers with their health and their pending deliveries.
    #[command(after_help = e::SUBSCRIBERS_LIST)]
    List(JsonFlag),
    /// Sends a signed ping through the daemon, and prints the outcome.
    #[command(after_help = e::SUBSCRIBERS_PING)]
    Ping(OneSubscriber),
    /// Stops sending to a subscriber until it is resumed; its deliveries are kept.
    #[command(after_help = e::SUBSCRIBERS_PAUSE)]
    Pause(OneSubscriber),
    /// Ends a pause and sends the pending deliveries.
    #[command(after_help = e::SUBSCRIBERS_RESUME)]
    Resume(OneSubscriber),
}

#[derive(Debug, clap::Args)]
pub struct OneSubscriber {
    /// Name of the subscriber.
    #[arg(value_name = "NAME")]
    pub name: String,
}
