//! `[registration]`: which labels are watched, and what their first look is worth.
//!
//! Labels are kept apart from the rest of the configuration: there may be a million of them, and a reload compares the
//! rest as a whole.

use std::collections::HashMap;

use config::ValueKind;
use serde_json::{Map, Number, Value as Json};

use super::fault::{Fault, meant};
use super::label_files::Pattern;
use super::reader::{Entry, Extent};
use super::roll::{At, Bounded, check};
use super::rows::{Draft, Slip};
use super::sources::LabelSources;
use crate::domain::label::{AccountName, LabelKey, Registration, Source};
use crate::domain::polling::poll::FirstPoll;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationConfig {
    /// Paths and patterns as written.
    pub files: Vec<String>,
    pub first_poll: FirstPoll,
}

/// The section, and where labels come from.
pub(super) struct Registered {
    pub(super) config: RegistrationConfig,
    pub(super) sources: LabelSources,
    /// Wrong rows of the configuration itself.
    pub(super) faults: Vec<Fault>,
    pub(super) fault_count: usize,
    pub(super) warnings: Vec<Fault>,
}

pub(super) fn read(section: Option<&Entry<'_>>, accounts: &[AccountName]) -> Registered {
    let mut config = RegistrationConfig { files: Vec::new(), first_poll: FirstPoll::Deliver };
    let mut sources = LabelSources { accounts: accounts.to_vec(), ..LabelSources::default() };
    let (mut faults, mut warnings) = (Bounded::default(), Bounded::default());
    if let Some(table) = section.and_then(|section| section.table(&["labels", "files", "first_poll"])) {
        let wanted = section.is_some_and(|section| section.context.extent == Extent::Everything);
        if let Some(labels) = table.get("labels").filter(|_| wanted) {
            sources.inline = inline(labels, accounts, &mut faults, &mut warnings);
        }
        if let Some(entries) = table.get("files").and_then(Entry::list).filter(|_| wanted) {
            sources.patterns = entries.iter().filter_map(Pattern::of).collect();
            config.files = entries.iter().filter_map(Entry::text_if_any).map(str::to_owned).collect();
        }
        if let Some(first) = table.get("first_poll").and_then(first_poll) {
            config.first_poll = first;
        }
    }
    let (faults, fault_count) = faults.finish();
    Registered { config, sources, faults, fault_count, warnings: warnings.finish().0 }
}

/// Each label once; of rows that differ the later holds.
fn inline(
    labels: &Entry<'_>,
    accounts: &[AccountName],
    faults: &mut Bounded,
    warnings: &mut Bounded,
) -> Vec<Registration> {
    let mut found: Vec<Registration> = Vec::new();
    let mut places: HashMap<LabelKey, usize> = HashMap::new();
    for (row, entry) in (1..).zip(labels.list().unwrap_or_default()) {
        let at = At { place: entry.place(), list: Some(&labels.key), row };
        let draft = json(&entry.value.kind)
            .ok_or_else(|| Slip::new("holds a number that is none"))
            .and_then(Draft::of_json);
        match draft.and_then(|draft| check(accounts, draft, Source::Config)) {
            Err(slip) => faults.push(|| at.fault(slip)),
            Ok(label) => match places.get(&label.key) {
                None => {
                    places.insert(label.key.clone(), found.len());
                    found.push(label);
                }
                Some(place) => {
                    if found[*place].metadata != label.metadata {
                        warnings.push(|| at.again(&label.key));
                    }
                    found[*place] = label;
                }
            },
        }
    }
    faults.close(labels.place(), "more rows are wrong and left out");
    warnings.close(labels.place(), "more rows name a label again, with other metadata");
    found
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
            let meant = meant(other, ["deliver", "baseline"]);
            entry.fault(
                "is neither deliver nor baseline",
                format!("{meant}Baseline sends nothing for what is there already"),
            )
        }
    }
}
