//! `[registration]`: which labels are watched, and what their first look is worth.
//!
//! Labels are kept apart from the rest of the configuration: there may be a million of them, and a reload compares the
//! rest as a whole.

use std::path::PathBuf;

use config::ValueKind;
use serde_json::{Map, Number, Value as Json};

use super::fault::nearest;
use super::label_files;
use super::reader::{Entry, Extent};
use super::roll::{At, Roll, Rows};
use super::rows::{Draft, Slip};
use crate::domain::label::{AccountName, Source};
use crate::domain::poll::FirstPoll;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationConfig {
    /// Paths and patterns as written.
    pub files: Vec<String>,
    pub first_poll: FirstPoll,
}

/// The section, its labels, and the paths to watch.
pub(super) struct Registered {
    pub(super) config: RegistrationConfig,
    pub(super) rows: Rows,
    pub(super) watched: Vec<PathBuf>,
}

pub(super) fn read(section: Option<&Entry<'_>>, accounts: &[AccountName]) -> Registered {
    let mut roll = Roll::new(accounts);
    let mut config = RegistrationConfig { files: Vec::new(), first_poll: FirstPoll::Deliver };
    let mut watched = Vec::new();
    if let Some(table) = section.and_then(|section| section.table(&["labels", "files", "first_poll"])) {
        let wanted = section.is_some_and(|section| section.context.extent == Extent::Everything);
        if let Some(labels) = table.get("labels").filter(|_| wanted) {
            inline(labels, &mut roll);
        }
        if let Some(entries) = table.get("files").and_then(Entry::list).filter(|_| wanted) {
            watched = label_files::read(&entries, &mut roll);
            config.files = entries.iter().filter_map(Entry::text_if_any).map(str::to_owned).collect();
        }
        if let Some(first) = table.get("first_poll").and_then(first_poll) {
            config.first_poll = first;
        }
    }
    Registered { config, rows: roll.finish(), watched }
}

fn inline(labels: &Entry<'_>, roll: &mut Roll<'_>) {
    for (row, entry) in (1..).zip(labels.list().unwrap_or_default()) {
        let draft = json(&entry.value.kind)
            .ok_or_else(|| Slip::new("holds a number that is none"))
            .and_then(Draft::of_json);
        roll.add(At { place: entry.place(), list: Some(&labels.key), row }, Source::Config, draft);
    }
    roll.close(labels.place());
}

/// The same value as JSON; there is none for NaN and infinities.
fn json(kind: &ValueKind) -> Option<Json> {
    Some(match kind {
        ValueKind::Nil => Json::Null,
        ValueKind::Boolean(flag) => Json::Bool(*flag),
        ValueKind::I64(number) => Json::Number((*number).into()),
        ValueKind::U64(number) => Json::Number((*number).into()),
        ValueKind::I128(number) => Json::Number(Number::from_i128(*number)?),
        ValueKind::U128(number) => Json::Number(Number::from_u128(*number)?),
        ValueKind::Float(number) => Json::Number(Number::from_f64(*number)?),
        ValueKind::String(text) => Json::String(text.clone()),
        ValueKind::Array(items) => {
            Json::Array(items.iter().map(|item| json(&item.kind)).collect::<Option<_>>()?)
        }
        ValueKind::Table(entries) => {
            let entries = entries.iter().map(|(name, value)| Some((name.clone(), json(&value.kind)?)));
            Json::Object(entries.collect::<Option<Map<_, _>>>()?)
        }
    })
}

fn first_poll(entry: &Entry<'_>) -> Option<FirstPoll> {
    match entry.text()? {
        "deliver" => Some(FirstPoll::Deliver),
        "baseline" => Some(FirstPoll::Baseline),
        other => {
            let meant = nearest(other, ["deliver", "baseline"]).unwrap_or_default();
            entry.fault(
                "is neither deliver nor baseline",
                format!("did you mean \"{meant}\"? Baseline sends nothing for what is there already"),
            )
        }
    }
}
