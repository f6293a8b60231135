//! Estimated delivery dates.

use jiff::civil::Date;

use super::matching::us_date;

/// Returns the calendar day of an estimate as spelled. Its zone is ignored, because it is often wrong.
pub fn estimate_day(text: &str) -> Option<Date> {
    let text = text.trim();
    match text.get(..10).and_then(|day| day.parse::<Date>().ok()) {
        Some(day) => Some(day),
        None => us_date(text).map(|(day, _)| day),
    }
}
