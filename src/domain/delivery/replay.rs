//! Which stored messages a subscriber would have got, had it been there: for one that came later.
//!
//! The same rule by which the messages of a poll are handed out ([`crate::domain::polling::poll::fan_out`]), asked of messages that come
//! by label and `seq`. It sends nothing and knows nothing of what was sent.

use jiff::Timestamp;

use crate::domain::label::AccountName;
use crate::domain::messages::MessageType;
use crate::domain::messages::subscriber::{Format, Subscriber};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use crate::domain::messages::subscriber::EventPattern;

    /// Which of `kinds` (with the second at which they were made) a subscriber takes.
    fn taken(format: &str, events: &str, kinds: &[(i64, MessageType)]) -> Vec<usize> {
        let environment: Environment = [
            ("TRACKPOST__SUBSCRIBERS__S__URL", "https://example.com/"),
            ("TRACKPOST__SUBSCRIBERS__S__SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ]
        .into_iter()
        .collect();
        let mut config = Config::builtin(&environment).unwrap().config;
        let mut subscriber = config.subscribers.pop_first().unwrap().1;
        subscriber.format = Format::parse(format).unwrap();
        subscriber.events = vec![EventPattern::parse(events).unwrap()];
        let mut wants = Wants::new(&subscriber);
        let mut takes = |(at, kind): &(i64, MessageType)| {
            let label = (!kind.is_system()).then_some(1);
            wants.takes(label, Timestamp::from_second(*at).unwrap(), *kind, None)
        };
        (0..kinds.len()).filter(|index| takes(&kinds[*index])).collect()
    }

    use MessageType::{AccountRecovered, Delivered, EventAdded, Stalled, Updated};

    const STORED: [(i64, MessageType); 7] = [
        (0, AccountRecovered),
        (1, EventAdded),
        (1, Updated),
        (2, Stalled),
        (3, EventAdded),
        (3, Delivered),
        (3, Updated),
    ];

    #[test]
    fn the_standard_form_takes_what_fits() {
        assert_eq!(taken("standard", "*", &STORED), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(taken("standard", "tracking.delivered", &STORED), [5]);
    }

    #[test]
    fn the_vendors_forms_take_the_summary_of_a_poll_that_fits() {
        assert_eq!(taken("shipstation", "*", &STORED), [2, 6]);
        assert_eq!(taken("shipstation", "tracking.delivered", &STORED), [6]);
        assert_eq!(taken("shipengine", "system.*", &STORED), [0; 0]);
        assert_eq!(taken("shipengine", "tracking.stalled", &STORED), [0; 0]);
    }
}
