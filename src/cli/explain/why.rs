//! What moved a poll to its time, in words.

use std::time::Duration;

use super::super::output::roughly;
use crate::config::duration;
use crate::domain::cadence::{Next, RowName};
use crate::domain::rhythm::Lesson;

/// A sentence each; the wait itself is said elsewhere.
pub(super) fn in_words(next: &Next) -> Vec<String> {
    let why = &next.why;
    let mut said = Vec::new();
    let table = rounded(why.table);
    said.push(match why.slowed {
        Some(quiet) => {
            format!("the table, row {}: quiet for over {}, so every {table}", next.row, rounded(quiet))
        }
        None => match why.unchanged {
            0 => format!("the table, row {}: {table} after a change", next.row),
            1 => format!("the table, row {}: {table} after one unchanged look", next.row),
            many => format!("the table, row {}: {table} after {many} unchanged looks", next.row),
        },
    });
    if let Some(dense) = why.opens.filter(|_| why.learnt.is_none()) {
        said.push(format!("brought forward to the hours of row {dense}"));
    }
    if let Some(lesson) = &why.learnt {
        said.push(learnt(lesson, next.interval));
    }
    if why.first {
        said.push(
            "the first wait is shortened by the label's own phase, so that labels spread out".to_owned(),
        );
    }
    if why.last {
        said.push("one last look before it is given up".to_owned());
    }
    said
}

fn learnt(lesson: &Lesson, wait: Duration) -> String {
    let of = match (&*lesson.kind.carrier, lesson.kind.state) {
        ("", state) => format!("all parcels in {}", state_in_words(state)),
        (carrier, state) => format!("parcels of {carrier} in {}", state_in_words(state)),
    };
    let hours = |hours: f64| match hours.is_finite() {
        true => rounded(Duration::from_secs_f64(hours * 3_600.0)),
        false => "never".to_owned(),
    };
    let [quarter, half, most] = lesson.quantiles.0.map(hours);
    format!(
        "learnt from {:.0} changes of {of} (a quarter within {quarter}, half within {half}, three quarters within \
         {most} of the one before) and from their hours: {} instead",
        lesson.changes,
        rounded(wait)
    )
}

fn state_in_words(state: RowName) -> String {
    match state {
        RowName::OutForDelivery => "delivery".to_owned(),
        RowName::EstimateDay => "the days around the estimate".to_owned(),
        RowName::Status(code) => format!("status {}", code.as_str()),
    }
}

fn rounded(span: Duration) -> String {
    match span.as_secs() {
        ..120 => duration::format(span),
        _ => roughly(jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::cadence::Why;
    use crate::domain::rhythm::{Kind, Quantiles};

    #[test]
    fn every_reason_is_said() {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let kind = Kind {
            carrier: "ups".into(),
            state: RowName::Status(crate::domain::tracking::StatusCode::InTransit),
        };
        let lesson = Lesson { kind, changes: 1_234.4, quantiles: Quantiles([5.0, 8.5, f64::INFINITY]) };
        let why =
            Why { table: hours(3), opens: Some("estimate_day"), first: true, last: true, ..Why::default() };
        let mut next = Next { at: Timestamp::UNIX_EPOCH, row: "IT", interval: hours(2), pace: hours(2), why };
        assert_eq!(
            in_words(&next),
            [
                "the table, row IT: 3h after a change",
                "brought forward to the hours of row estimate_day",
                "the first wait is shortened by the label's own phase, so that labels spread out",
                "one last look before it is given up",
            ]
        );
        next.why = Why { table: hours(12), slowed: Some(hours(96)), learnt: Some(lesson), ..Why::default() };
        assert_eq!(
            in_words(&next),
            [
                "the table, row IT: quiet for over 4d, so every 12h",
                "learnt from 1234 changes of parcels of ups in status IT (a quarter within 5h, half within 8h30m, \
                 three quarters within never of the one before) and from their hours: 2h instead",
            ]
        );
    }
}
