//! Fan-out: plans the deliveries of messages to subscribers.

use super::subscriber::{Format, Subscriber, SubscriberName};
use super::{Message, MessageType};
use crate::domain::label::AccountName;

/// A message to one subscriber, before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedDelivery {
    /// Index into the list of messages.
    pub message: usize,
    pub subscriber: SubscriberName,
    pub format: Format,
}

/// Selects the messages that one subscriber gets, of messages in order of `seq`.
#[derive(Debug)]
pub struct Selection<'a> {
    subscriber: &'a Subscriber,
    /// Whether a message of the current poll matched.
    matched: bool,
}

impl<'a> Selection<'a> {
    pub fn new(subscriber: &'a Subscriber) -> Self {
        Self { subscriber, matched: false }
    }

    /// Begins the next poll.
    pub fn begin_poll(&mut self) {
        self.matched = false;
    }

    /// Whether the subscriber gets this message. A vendor's format gets the summary, which is the last message of a
    /// poll, if any message of the poll matches.
    pub fn includes(&mut self, kind: MessageType, account: Option<&AccountName>) -> bool {
        let wanted = self.subscriber.wants(kind, account);
        if self.subscriber.format == Format::Standard {
            return wanted;
        }
        self.matched |= wanted && kind.is_made_by_polls();
        kind == MessageType::Updated && self.matched
    }
}

/// Returns the deliveries of the messages of one poll.
pub fn of_poll(
    messages: &[Message],
    subscribers: &[Subscriber],
    account: &AccountName,
) -> Vec<PlannedDelivery> {
    let of_subscriber = |subscriber: &Subscriber| {
        let mut selection = Selection::new(subscriber);
        let selected = (0..messages.len())
            .filter(|index| selection.includes(messages[*index].kind, Some(account)))
            .map(|message| PlannedDelivery {
                message,
                subscriber: subscriber.name.clone(),
                format: subscriber.format,
            });
        selected.collect::<Vec<_>>()
    };
    subscribers.iter().flat_map(of_subscriber).collect()
}

/// Returns the deliveries of messages about accounts and subscribers. They belong to no poll, so only subscribers to the
/// standard format get them. `account`: the account that the messages are about, if any.
pub fn of_system(
    messages: &[Message],
    account: Option<&AccountName>,
    subscribers: &[Subscriber],
) -> Vec<PlannedDelivery> {
    let recipients = subscribers.iter().filter(|subscriber| subscriber.format == Format::Standard);
    let to = |subscriber: &Subscriber| {
        let wanted = (0..messages.len()).filter(|index| subscriber.wants(messages[*index].kind, account));
        let name = subscriber.name.clone();
        wanted
            .map(|message| PlannedDelivery { message, subscriber: name.clone(), format: Format::Standard })
            .collect::<Vec<_>>()
    };
    recipients.flat_map(to).collect()
}
