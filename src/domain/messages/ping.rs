//! Pings: callbacks that test whether a subscriber can be reached and accepts the signature.
//!
//! Every subscriber gets a ping in the standard format (contract 6.1). A ping belongs to no label.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::body;
use crate::domain::messages::subscriber::SubscriberName;
use crate::domain::time::instant;

/// Type of a ping. `events` patterns do not apply to it.
pub const PING: &str = "trackpost.ping";

/// Id and body of a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    pub id: String,
    pub body: String,
}

#[derive(Serialize, JsonSchema)]
pub struct PingData<'a> {
    #[schemars(with = "String")]
    subscriber: &'a SubscriberName,
}

impl Ping {
    pub fn new(subscriber: &SubscriberName, now: Timestamp) -> Self {
        let id = super::id_of(&[PING, subscriber.as_str(), &instant(now)]);
        Self { id, body: body::write(PING, now, PingData { subscriber }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_is_a_standard_body() {
        let now = "2026-11-22T10:15:30.1Z".parse().unwrap();
        let ping = Ping::new(&SubscriberName::new("orders"), now);
        assert_eq!(
            ping.body,
            r#"{"type":"trackpost.ping","timestamp":"2026-11-22T10:15:30.100Z","data":{"subscriber":"orders"}}"#
        );
        assert_eq!(ping, Ping::new(&SubscriberName::new("orders"), now));
        assert!(ping.id.starts_with("msg_") && ping.id.len() == 36, "{}", ping.id);
    }
}
