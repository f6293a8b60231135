//! Hand-made tracking answers in the API's format.

/// Returns a carrier event, `minute` minutes after six of the fictional 2030-03-04, with this status and code.
pub fn event(minute: u32, status: &str, code: &str) -> String {
    event_in(minute, status, code, "MEMPHIS")
}

pub fn event_in(minute: u32, status: &str, code: &str, city: &str) -> String {
    let (day, hour, minute) = (4 + (6 * 60 + minute) / 1440, (6 + minute / 60) % 24, minute % 60);
    format!(
        r#"{{"occurred_at":"2030-03-{day:02}T{hour:02}:{minute:02}:00Z","carrier_occurred_at":"2030-03-{day:02}T{hour:02}:{minute:02}:00","description":"{code} scan","city_locality":"{city}","country_code":"US","event_code":"{code}","status_code":"{status}","status_detail_code":null}}"#
    )
}

/// Returns an answer with these events, newest first.
pub fn tracking(status: &str, events: &[&str]) -> String {
    format!(
        r#"{{"tracking_number":"1Z9","status_code":"{status}","status_detail_code":null,"status_description":"so it is","carrier_code":"ups","estimated_delivery_date":null,"events":[{}]}}"#,
        events.join(",")
    )
}

/// In transit, with one event.
pub fn in_transit() -> String {
    tracking("IT", &[&event(0, "AC", "PU")])
}
