//! What the command line and the status page show of the database: labels, their history, the outbox, the subscribers.
//!
//! Plain rows under the names that `--json` gives them (contract 10). Lists that may be huge are read page by page, each
//! page a short read of its own, so that a slow terminal never holds up a checkpoint. Nothing is decided here.

pub mod accounts;
pub mod attempts;
pub mod attention;
pub mod deliveries;
pub mod events;
pub mod freshness;
pub mod labels;
pub mod messages;
pub mod overview;
pub mod subscribers;
pub mod waiting;

use jiff::Timestamp;
use serde::{Serialize as _, Serializer};
use serde_json::value::RawValue;

/// Rows a page has at most.
pub const PAGE: u32 = 500;

pub(super) fn instant<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::domain::time::instant(*at))
}

fn instant_or_null<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(crate::domain::time::instant).serialize(serializer)
}

/// A stored JSON text as it is, but for line breaks: they mean nothing in JSON, and a row is one line.
fn on_one_line(json: String) -> Box<RawValue> {
    let json = if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ") } else { json };
    // The table's CHECKs say that it is an object or an array.
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_and_otherwise_untouched() {
        let raw = on_one_line("{\"b\": 1.50,\n\r\n \"a\":\"x\\ny\" }".to_owned());
        assert_eq!(raw.get(), "{\"b\": 1.50,    \"a\":\"x\\ny\" }");
        assert_eq!(on_one_line("{".to_owned()).get(), "null");
    }
}
