//! The estimated delivery, as spelled in answers.

use jiff::civil::Date;

/// The calendar day of an estimate, as spelled: its zone is not to be trusted, its day is.
pub fn estimate_day(text: &str) -> Option<Date> {
    let text = text.trim();
    match text.get(..10).and_then(|day| day.parse::<Date>().ok()) {
        Some(day) => Some(day),
        None => us_date(text),
    }
}

/// `8/4/2021`, as old answers have it.
fn us_date(text: &str) -> Option<Date> {
    let mut parts = text.split([' ', 'T']).next()?.split('/');
    let (month, day, year) = (parts.next()?, parts.next()?, parts.next()?);
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}
