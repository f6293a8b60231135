//! Who is told of accounts and subscribers: so that silence is never ambiguous (contract 5.3).
//!
//! These messages belong to no label and no poll, so they come in the standard form only, to those who ask for them.
//! What they say is composed in [`crate::domain::messages`].

use crate::domain::label::AccountName;
use crate::domain::messages::Message;
use crate::domain::polling::poll::PlannedDelivery;
use crate::domain::subscriber::{Format, Subscriber};

/// Who gets which of `messages`; `account` is the one they are about, if it is one.
pub fn fan_out(
    messages: &[Message],
    account: Option<&AccountName>,
    subscribers: &[Subscriber],
) -> Vec<PlannedDelivery> {
    let told = subscribers.iter().filter(|subscriber| subscriber.format == Format::Standard);
    let to = |subscriber: &Subscriber| {
        let wanted = (0..messages.len()).filter(|index| subscriber.wants(messages[*index].kind, account));
        let name = subscriber.name.clone();
        wanted
            .map(|message| PlannedDelivery { message, subscriber: name.clone(), format: Format::Standard })
            .collect::<Vec<_>>()
    };
    told.flat_map(to).collect()
}
