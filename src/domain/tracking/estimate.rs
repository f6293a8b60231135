//! Estimated delivery dates.

use jiff::civil::Date;

/// Returns the calendar day of an estimate as spelled. Its zone is ignored, because it is often wrong.
pub fn estimate_day(text: &str) -> Option<Date> {
    let text = text.trim();
    match text.get(..10).and_then(|day| day.parse::<Date>().ok()) {
        Some(day) => Some(day),
        None => us_date(text),
    }
}

/// Parses `8/4/2021`, as in old answers.
fn us_date(text: &str) -> Option<Date> {
    let mut parts = text.split([' ', 'T']).next()?.split('/');
    let (month, day, year) = (parts.next()?, parts.next()?, parts.next()?);
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}
