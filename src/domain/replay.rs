//! Which stored messages a subscriber would have got, had it been there: for one that came later.
//!
//! The same rule by which the messages of a poll are handed out ([`super::poll::fan_out`]), asked of messages that come
//! by label and `seq`. It sends nothing and knows nothing of what was sent.

use jiff::Timestamp;

use super::label::AccountName;
use super::message::MessageType;
use super::subscriber::{Format, Subscriber};

/// Goes over stored messages, each label's in the order of `seq`.
#[derive(Debug)]
pub struct Wants<'a> {
    subscriber: &'a Subscriber,
    /// The poll that is being gone over (its label and time), if it made something that was asked for.
    found: Option<(i64, Timestamp)>,
}

impl<'a> Wants<'a> {
    pub fn new(subscriber: &'a Subscriber) -> Self {
        Self { subscriber, found: None }
    }

    /// Whether the subscriber wants this message. `label` is the label's row, none for a message of the system.
    pub fn takes(
        &mut self,
        label: Option<i64>,
        created_at: Timestamp,
        kind: MessageType,
        account: Option<&AccountName>,
    ) -> bool {
        let wanted = self.subscriber.wants(kind, account);
        if self.subscriber.format == Format::Standard {
            return wanted;
        }
        // In the vendor's own forms: the summary, which is a poll's last message, if any message of the poll is wanted.
        let Some(poll) = label.filter(|_| kind.is_made_by_polls()).map(|label| (label, created_at)) else {
            return false;
        };
        if wanted {
            self.found = Some(poll);
        }
        kind == MessageType::Updated && self.found.take() == Some(poll)
    }
}
