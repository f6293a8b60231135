//! Reads for the command line and the status page: labels, their history, the outbox, the subscribers.
//!
//! Plain rows with the names of `--json` (contract 10). Long lists are read page by page, each in its own short read,
//! so that a slow terminal does not hold up a checkpoint. Nothing is decided here.

pub mod accounts;
pub mod attempts;
pub mod degraded;
pub mod deliveries;
pub mod events;
pub mod freshness;
pub mod labels;
pub mod messages;
pub mod subscribers;
pub mod waiting;

use serde_json::value::RawValue;

/// Maximum number of rows in a page.
pub const PAGE: u32 = 500;

/// Returns a stored JSON text with line breaks replaced by spaces, so that a row is one line. Between JSON values they
/// have no meaning.
fn on_one_line(json: String) -> Box<RawValue> {
    let json = if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ") } else { json };
    // Stored texts are JSON; another text is shown as null.
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_and_otherwise_unchanged() {
        let raw = on_one_line("{\"b\": 1.50,\n\r\n \"a\":\"x\\ny\" }".to_owned());
        assert_eq!(raw.get(), "{\"b\": 1.50,    \"a\":\"x\\ny\" }");
        assert_eq!(on_one_line("{".to_owned()).get(), "null");
    }
}
