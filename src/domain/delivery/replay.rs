//! Selection of the stored messages that a subscriber added later would have got.
//!
//! Applies the rule of fan-out ([`crate::domain::messages::fan_out`]) to messages sorted by label and `seq`. Earlier
//! deliveries do not matter.

use jiff::Timestamp;

use crate::domain::label::AccountName;
use crate::domain::messages::MessageType;
use crate::domain::messages::fan_out::Selection;
use crate::domain::messages::subscriber::Subscriber;

/// Filter over stored messages, which come sorted by label and `seq`.
#[derive(Debug)]
pub struct ReplayFilter<'a> {
    selection: Selection<'a>,
    /// Label row and time of the current poll.
    poll: Option<(i64, Timestamp)>,
}

impl<'a> ReplayFilter<'a> {
    pub fn new(subscriber: &'a Subscriber) -> Self {
        Self { selection: Selection::new(subscriber), poll: None }
    }

    /// Whether the subscriber gets this message. `label`: key of the label's row, `None` for a system message.
    pub fn includes(
        &mut self,
        label: Option<i64>,
        created_at: Timestamp,
        kind: MessageType,
        account: Option<&AccountName>,
    ) -> bool {
        let poll = label.map(|label| (label, created_at));
        if self.poll != poll {
            self.poll = poll;
            self.selection.begin_poll();
        }
        self.selection.includes(kind, account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use crate::domain::messages::subscriber::{EventPattern, Format};

    /// Indices of the messages (second of creation, type) that a subscriber gets.
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
        let mut filter = ReplayFilter::new(&subscriber);
        let mut takes = |(at, kind): &(i64, MessageType)| {
            let label = (!kind.is_system()).then_some(1);
            filter.includes(label, Timestamp::from_second(*at).unwrap(), *kind, None)
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
    fn the_standard_format_gets_matching_messages() {
        assert_eq!(taken("standard", "*", &STORED), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(taken("standard", "tracking.delivered", &STORED), [5]);
    }

    #[test]
    fn other_formats_get_the_summary_of_a_matching_poll() {
        assert_eq!(taken("shipstation", "*", &STORED), [2, 6]);
        assert_eq!(taken("shipstation", "tracking.delivered", &STORED), [6]);
        assert_eq!(taken("shipengine", "system.*", &STORED), [0; 0]);
        assert_eq!(taken("shipengine", "tracking.stalled", &STORED), [0; 0]);
    }
}
