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

/// Returns the deliveries of the messages of one poll. A subscriber to a vendor's format gets at most one callback per
/// poll, under the id of the summary.
pub fn of_poll(
    messages: &[Message],
    subscribers: &[Subscriber],
    account: &AccountName,
) -> Vec<PlannedDelivery> {
    let summary = messages.iter().position(|message| message.kind == MessageType::Updated);
    let mut planned = Vec::new();
    for subscriber in subscribers {
        let wanted = |kind| subscriber.wants(kind, Some(account));
        let plan = |message| PlannedDelivery {
            message,
            subscriber: subscriber.name.clone(),
            format: subscriber.format,
        };
        if subscriber.format == Format::Standard {
            planned.extend((0..messages.len()).filter(|index| wanted(messages[*index].kind)).map(plan));
        } else if let Some(summary) = summary
            && messages.iter().any(|message| message.kind.is_made_by_polls() && wanted(message.kind))
        {
            planned.push(plan(summary));
        }
    }
    planned
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
