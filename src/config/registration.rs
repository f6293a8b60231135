//! `[registration]`: which labels are polled, and whether the first answer is sent.
//!
//! Labels are separate from the rest of the configuration: there may be a million of them, and a reload compares the
//! rest as a whole.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::draft::UncheckedRow;
use super::fault::Fault;
use super::label_files::FilesEntry;
use super::label_set::{self, BoundedFaults, check};
use super::sources::LabelSources;
use super::table::{At, Extent};
use crate::domain::label::{AccountName, LabelKey, Registration, Source};
use crate::domain::polling::poll::FirstPoll;

/// `[registration]`, validated, without the labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationConfig {
    /// Paths and patterns as written.
    pub files: Vec<String>,
    pub first_poll: FirstPoll,
}

/// `[registration]` as written.
#[derive(Deserialize)]
pub(super) struct RegistrationSection {
    #[serde(default)]
    labels: Vec<Json>,
    #[serde(default)]
    files: Vec<String>,
    first_poll: FirstPoll,
}

/// The section and its label sources.
pub(super) struct CheckedRegistration {
    pub(super) config: RegistrationConfig,
    pub(super) sources: LabelSources,
    /// Wrong rows of the configuration itself.
    pub(super) faults: Vec<Fault>,
    pub(super) fault_count: usize,
    pub(super) warnings: Vec<Fault>,
}

impl RegistrationSection {
    pub(super) fn check(self, at: &At<'_>, accounts: &[AccountName]) -> CheckedRegistration {
        let mut config = RegistrationConfig { files: Vec::new(), first_poll: self.first_poll };
        let mut sources = LabelSources { accounts: accounts.to_vec(), ..LabelSources::default() };
        let (mut faults, mut warnings) = (BoundedFaults::default(), BoundedFaults::default());
        if at.context.extent == Extent::Everything {
            sources.inline = inline(&at.key("labels"), self.labels, accounts, &mut faults, &mut warnings);
            let pattern = |(index, text): (_, &String)| FilesEntry::of(&at.key("files").item(index), text);
            sources.patterns = self.files.iter().enumerate().filter_map(pattern).collect();
            config.files = self.files;
        }
        let (faults, fault_count) = faults.finish();
        CheckedRegistration { config, sources, faults, fault_count, warnings: warnings.finish().0 }
    }
}

/// Returns each label once; the last row of a label counts.
fn inline(
    at: &At<'_>,
    labels: Vec<Json>,
    accounts: &[AccountName],
    faults: &mut BoundedFaults,
    warnings: &mut BoundedFaults,
) -> Vec<Registration> {
    let mut found: Vec<Registration> = Vec::new();
    let mut places: HashMap<LabelKey, usize> = HashMap::new();
    let (place, list) = (at.place, at.name());
    for (row, label) in (1..).zip(labels) {
        let at = label_set::RowPosition { place, list: Some(&list), row };
        let draft = UncheckedRow::of_json(label);
        match draft.and_then(|draft| check(accounts, draft, Source::Config)) {
            Err(row_fault) => faults.push(|| at.fault(row_fault)),
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
    faults.close(place, "more rows are wrong and left out");
    warnings.close(place, "more rows name a label again, with other metadata");
    found
}
