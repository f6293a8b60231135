//! Arguments of the commands that work on the database: accounts, labels, deliveries, subscribers.

use clap::{Args as Section, Subcommand};

use super::Listing;
use super::examples as e;
use crate::cli::resolve::Moment;

#[derive(Debug, Subcommand)]
pub enum Accounts {
    /// Lists all configured accounts.
    #[command(after_help = e::ACCOUNTS_LIST)]
    List(Listing),
}

#[derive(Debug, Subcommand)]
pub enum Labels {
    /// Lists labels.
    #[command(after_help = e::LABELS_LIST)]
    List(LabelList),
    /// Shows one label.
    #[command(after_help = e::LABELS_SHOW)]
    Show(OfLabel),
    /// Registers labels by hand, in addition to the label files.
    #[command(after_help = e::LABELS_ADD)]
    Add {
        /// Label ids; - reads ids, CSV or JSON Lines from stdin, also what labels list --json prints.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Account of the labels; needed where several are configured.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Removes labels that were registered by hand or discovered. Their history stays.
    #[command(after_help = e::LABELS_REMOVE)]
    Remove {
        /// Label ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Account of the labels; needed where several have the id.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Makes labels due now.
    #[command(after_help = e::LABELS_POLL)]
    Poll {
        /// Label ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Account of the labels; needed where several have the id.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// Waits up to a minute for the running daemon to poll them, and prints the result.
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Debug, Section)]
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
    pub listing: Listing,
}

#[derive(Debug, Section)]
pub struct OfLabel {
    /// Label id, or a tracking number that only one label has.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Account of the label; needed where several have the id.
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Debug, Section)]
pub struct History {
    /// Label id, or a tracking number that only one label has.
    #[arg(value_name = "ID", required_unless_present = "journeys")]
    pub id: Option<String>,
    /// Account of the label; needed where several have the id.
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Prints journeys for simulate and sandbox (JSON Lines): of the label, or of all labels.
    #[arg(long)]
    pub journeys: bool,
    #[command(flatten)]
    pub listing: Listing,
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
        listing: Listing,
    },
    /// Makes deliveries due now; a delivered or dead one is sent again.
    #[command(after_help = e::DELIVERIES_RETRY)]
    Retry {
        /// Deliveries (dlv_5 or 5), or messages (msg_…): to all their subscribers.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, Section)]
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
    /// Only this type of message, such as tracking.delivered, or all that begin alike, such as tracking.event.*
    #[arg(long, value_name = "TYPE")]
    pub r#type: Option<String>,
    /// At most this many, the newest.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Created at or after: RFC 3339, a day (2026-11-27, yesterday; UTC), or this long ago (2h, 2d).
    #[arg(long, value_name = "WHEN", value_parser = Moment::parse)]
    pub since: Option<Moment>,
    /// Keeps running and prints every delivery again when it changes; Ctrl-C ends it.
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Debug, Section)]
pub struct Replay {
    /// Subscriber to send to.
    #[arg(long, value_name = "NAME")]
    pub subscriber: String,
    /// Created at or after: RFC 3339, a day (2026-11-27, yesterday; UTC), or this long ago (2h, 2d).
    #[arg(long, value_name = "WHEN", value_parser = Moment::parse)]
    pub since: Option<Moment>,
    /// Created before: in the same forms.
    #[arg(long, value_name = "WHEN", value_parser = Moment::parse)]
    pub until: Option<Moment>,
    /// Only messages of this label.
    #[arg(long, value_name = "ID")]
    pub label: Option<String>,
    /// Only messages in this state, pings included. Without it: delivered and dead messages, and messages that the
    /// subscriber selects but that were never queued for it.
    #[arg(long, value_name = "STATE", value_parser = ["pending", "delivered", "dead"])]
    pub state: Option<String>,
    /// Queues nothing: counts, and prints the first and the last message.
    #[arg(long)]
    pub dry_run: bool,
    /// Sends about this many messages a second; without it as fast as the subscriber takes them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub enum Subscribers {
    /// Lists all subscribers with their health and their pending deliveries.
    #[command(after_help = e::SUBSCRIBERS_LIST)]
    List(Listing),
    /// Sends a signed ping through the daemon, and prints the outcome.
    #[command(after_help = e::SUBSCRIBERS_PING)]
    Ping {
        /// Name of the subscriber.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Stops sending until it is resumed; deliveries are kept.
    #[command(after_help = e::SUBSCRIBERS_PAUSE)]
    Pause {
        /// Name of the subscriber.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Ends a pause and sends the pending deliveries.
    #[command(after_help = e::SUBSCRIBERS_RESUME)]
    Resume {
        /// Name of the subscriber.
        #[arg(value_name = "NAME")]
        name: String,
    },
}
