//! Identity of carrier events: matches the events of an answer to the events of the history.
//!
//! The API sends the whole list of a label's events each time, without ids, and rewrites earlier entries. Receivers rely
//! on four promises: no event is repeated, invented or lost, and no id changes (contract 5.1). [`match_events`] compares
//! one good answer with the history. Its [`Matching`] holds finished values: the records to store and the changes to
//! announce.
//!
//! This module does not know messages, the label's status or the store. It never alters an event: the raw text is stored.

mod candidates;
mod canonical;
mod compare;
mod event_id;
mod event_key;
mod fold;
mod known_event;
mod layout;
mod local_time;
mod pairing;
mod sides;
mod value;

#[cfg(test)]
mod tests;

pub use canonical::Fingerprint;
pub use compare::{Added, Matching, RETRACT_AFTER, Revised, Update, match_events, oldest_first};
pub use event_id::{EventId, NotAnEventId};
pub use event_key::EventKey;
pub use known_event::{KnownEvent, MAX_FINGERPRINTS};
pub use local_time::{LocalTime, instant_of, us_date};
pub use value::read as read_value;
