//! `[silence]`: how long it is normal that nothing is heard of a parcel.

use std::collections::BTreeMap;

use super::fault::meant;
use super::reader::Entry;
use crate::domain::polling::alerts::AlertSettings;
use crate::domain::tracking::StatusCode;

/// The most days that make sense for either.
const MOST: i64 = 365;

pub(super) fn read(section: &Entry<'_>) -> Option<AlertSettings> {
    let table = section.table(&["stalled_after", "late_after"])?;
    let stalled_after = table.get("stalled_after").and_then(stalled_after);
    let late_after = table.get("late_after").and_then(|entry| entry.whole(0..=MOST));
    Some(AlertSettings { stalled_after: stalled_after?, late_after: u32::try_from(late_after?).ok()? })
}

fn stalled_after(entry: &Entry<'_>) -> Option<BTreeMap<StatusCode, u32>> {
    let mut days = BTreeMap::new();
    for (name, entry) in &entry.named()? {
        let status = StatusCode::ALL.into_iter().find(|code| code.as_str().eq_ignore_ascii_case(name));
        match status.filter(|code| !code.is_terminal()) {
            Some(status) => {
                let count = entry.whole(0..=MOST).and_then(|count| u32::try_from(count).ok());
                days.extend(count.map(|count| (status, count)));
            }
            None => {
                let known = StatusCode::ALL.into_iter().filter(|code| !code.is_terminal());
                let known: Vec<&str> = known.map(StatusCode::as_str).collect();
                let meant = meant(name, known.iter().copied());
                let hint = format!("{meant}Known here: {}", known.join(", "));
                entry.fault_unshown::<()>("is no status that can stall", hint);
            }
        }
    }
    Some(days)
}
