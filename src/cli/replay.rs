//! `trackpost replay`: sends stored messages again to a subscriber.
//!
//! Messages are selected and queued page by page. The courier of a running daemon notices within a second; without a daemon
//! the next start sends them.

use std::path::Path;
use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};

use super::args::Replay;
use super::output::{self, instant, measured};
use super::progress::{Progress, Unit};
use super::{Failure, open_store, resolve};
use crate::clock;
use crate::domain::delivery::replay::ReplayFilter;
use crate::domain::label::AccountName;
use crate::domain::messages::MessageType;
use crate::domain::messages::subscriber::Subscriber;
use crate::domain::time::later;
use crate::domain::words::counted;
use crate::store::Store;
use crate::store::replay::{ReplaySpan, Requeued, StateBefore, StoredMessage};

pub async fn run(path: &Path, args: &Replay) -> Result<ExitCode, Failure> {
    let (loaded, store) = open_store(path).await?;
    let now = clock::now();
    let subscriber = resolve::enabled_subscriber(&loaded.config, &args.subscriber)?;
    let since = args.since.map_or(Timestamp::MIN, |since| since.before(now));
    let until = args.until.map_or(Timestamp::MAX, |until| until.before(now));
    if since >= until {
        return Err(Failure::usage("--since must be before --until")
            .hint("a duration means this long ago, such as --since 2h --until 1h"));
    }
    let state = args.state.as_deref().and_then(StateBefore::parse);
    let mut selection = Selection { state, filter: ReplayFilter::new(subscriber) };
    let mut summary = ReplaySummary::default();
    let mut progress = Progress::new("replay", Unit::Items("messages"), None);
    for label in labels(&store, args.label.as_deref()).await? {
        let span = ReplaySpan { since, until, label };
        let mut last: Option<StoredMessage> = None;
        loop {
            let page = store.stored_messages(&subscriber.name, &span, last.as_ref()).await?;
            if page.is_empty() {
                break;
            }
            let selected = selection.select(&page);
            let first = summary.selected;
            selected.iter().for_each(|stored| summary.add(stored));
            if state.is_none() {
                let pending = page.iter().filter(|stored| stored.before == StateBefore::Pending);
                summary.left_out += pending.count() as u64;
            }
            if !args.dry_run {
                summary.queued += queue(&store, subscriber, &selected, first, args.rate, now).await?;
            }
            last = page.into_iter().next_back();
            progress.set(summary.selected);
        }
    }
    drop(progress);
    print_summary(&summary, args, subscriber);
    Ok(ExitCode::SUCCESS)
}

/// Returns the rows of the label with this id, in every account that has it; `None` stands for all labels.
async fn labels(store: &Store, id: Option<&str>) -> Result<Vec<Option<i64>>, Failure> {
    let Some(id) = id else { return Ok(vec![None]) };
    Ok(resolve::labels(store, id).await?.into_iter().map(|label| Some(label.row)).collect())
}

/// Decides which stored messages are sent again.
struct Selection<'a> {
    state: Option<StateBefore>,
    filter: ReplayFilter<'a>,
}

impl Selection<'_> {
    fn select(&mut self, page: &[StoredMessage]) -> Vec<StoredMessage> {
        page.iter().filter(|stored| self.is_selected(stored)).cloned().collect()
    }

    fn is_selected(&mut self, stored: &StoredMessage) -> bool {
        let account = stored.account.as_deref().map(AccountName::new);
        // A message of an unknown type is a ping, which is not repeated.
        let kind = MessageType::parse(&stored.kind);
        // The filter needs every message, because it decides about the messages of a poll together.
        let matches = kind.is_some_and(|kind| {
            self.filter.includes(stored.label_row, stored.created_at, kind, account.as_ref())
        });
        match (self.state, stored.before) {
            (Some(state), before) => before == state,
            (None, StateBefore::Delivered | StateBefore::Dead) => kind.is_some(),
            (None, StateBefore::Never) => matches,
            (None, StateBefore::Pending) => false,
        }
    }
}

async fn queue(
    store: &Store,
    subscriber: &Subscriber,
    selected: &[StoredMessage],
    first: u64,
    rate: Option<u32>,
    now: Timestamp,
) -> Result<u64, Failure> {
    let again: Vec<Requeued> = (first..)
        .zip(selected)
        .map(|(index, stored)| Requeued {
            message: stored.row,
            lane: stored.lane,
            before: stored.before,
            at: later(now, wait(index, rate)),
        })
        .collect();
    if again.is_empty() {
        return Ok(0);
    }
    Ok(store.queue_again(&subscriber.name, subscriber.format, &again, now).await?)
}

/// Returns the wait of the message at this index. The messages of a label may all be sent when the first one is
/// due. They have successive indices, so the rate holds on average.
fn wait(index: u64, rate: Option<u32>) -> SignedDuration {
    let ms = rate.map_or(0, |rate| index.saturating_mul(1000) / u64::from(rate.max(1)));
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

#[derive(Debug, Default)]
struct ReplaySummary {
    selected: u64,
    pending: u64,
    delivered: u64,
    dead: u64,
    never: u64,
    queued: u64,
    /// Pending messages that were left out, as they are queued already.
    left_out: u64,
    first: Option<StoredMessage>,
    last: Option<StoredMessage>,
}

impl ReplaySummary {
    fn add(&mut self, stored: &StoredMessage) {
        self.selected += 1;
        *match stored.before {
            StateBefore::Pending => &mut self.pending,
            StateBefore::Delivered => &mut self.delivered,
            StateBefore::Dead => &mut self.dead,
            StateBefore::Never => &mut self.never,
        } += 1;
        let created = |stored: &StoredMessage| (stored.created_at, stored.row);
        if self.first.as_ref().is_none_or(|first| created(stored) < created(first)) {
            self.first = Some(stored.clone());
        }
        if self.last.as_ref().is_none_or(|last| created(stored) > created(last)) {
            self.last = Some(stored.clone());
        }
    }

    fn parts(&self) -> String {
        let parts = [
            (self.delivered, "delivered before"),
            (self.dead, "dead"),
            (self.never, "never queued for it"),
            (self.pending, "pending"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        parts.map(|(count, state)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
    }
}

fn print_summary(summary: &ReplaySummary, args: &Replay, subscriber: &Subscriber) {
    let name = &subscriber.name;
    if summary.selected == 0 {
        let queued = match summary.left_out {
            0 => String::new(),
            1 => "; 1 is queued already".to_owned(),
            count => format!("; {count} are queued already"),
        };
        return output::line(format!("no stored message matches: nothing to send again to {name}{queued}"));
    }
    let (count, done, end) = match args.dry_run {
        true => (summary.selected, "would be sent again to", "; nothing was queued"),
        false => (summary.queued, "queued for", ""),
    };
    output::line(format!("{} {done} {name} ({}){end}", counted(count, "message"), summary.parts()));
    output::block(&[
        ("first", summary.first.as_ref().map(message_line)),
        ("last", summary.last.as_ref().map(message_line)),
    ]);
    if let Some(rate) = args.rate {
        let takes = std::time::Duration::from_secs(summary.selected.div_ceil(u64::from(rate.max(1))));
        output::line(format!("at {rate} a second this takes about {}", measured(takes)));
    }
}

fn message_line(stored: &StoredMessage) -> String {
    let of_label =
        stored.seq.zip(stored.label_id.as_deref()).map(|(seq, label)| format!(", seq {seq} of {label}"));
    format!(
        "{} {} {}{}",
        instant(stored.created_at),
        stored.message_id,
        stored.kind,
        of_label.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spreads_the_messages() {
        assert_eq!(wait(100, None), SignedDuration::ZERO);
        assert_eq!(wait(0, Some(5)), SignedDuration::ZERO);
        assert_eq!(wait(12, Some(5)), SignedDuration::from_millis(2400));
    }
}
