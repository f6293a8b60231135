//! `[registration]`: which labels are polled, and whether the first answer is sent.
//!
//! Labels are separate from the rest of the configuration: there may be a million of them, and a reload compares the
//! rest as a whole.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::fault::Fault;
use super::label_files::FilesEntry;
use super::row_faults::{REPEATED_LABELS, RowFaults, RowPosition, WRONG_ROWS};
use super::sources::LabelSources;
use super::table::{At, Extent};
use super::unchecked_row::UncheckedRow;
use crate::domain::label::{AccountName, LabelKey, Source};
use crate::domain::polling::poll::FirstPoll;

/// `[registration]` as written.
#[derive(Deserialize)]
pub(super) struct RegistrationSection {
    #[serde(default)]
    labels: Vec<Json>,
    #[serde(default)]
    files: Vec<String>,
    first_poll: FirstPoll,
}

/// The section, validated.
pub(super) struct CheckedRegistration {
    pub(super) first_poll: FirstPoll,
    pub(super) sources: LabelSources,
    /// Wrong rows of the configuration itself.
    pub(super) faults: RowFaults,
    pub(super) warnings: Vec<Fault>,
}

impl RegistrationSection {
    pub(super) fn check(self, at: &At<'_>, accounts: &[AccountName]) -> CheckedRegistration {
        let mut checked = CheckedRegistration {
            first_poll: self.first_poll,
            sources: LabelSources { accounts: accounts.to_vec(), ..LabelSources::default() },
            faults: RowFaults::default(),
            warnings: Vec::new(),
        };
        if at.context.extent == Extent::Everything {
            checked.add_labels(&at.key("labels"), self.labels);
            let entry = |(index, text): (_, &String)| FilesEntry::of(&at.key("files").item(index), text);
            checked.sources.entries = self.files.iter().enumerate().filter_map(entry).collect();
        }
        checked
    }
}

impl CheckedRegistration {
    /// Adds each label once; the last row of a label counts.
    fn add_labels(&mut self, at: &At<'_>, rows: Vec<Json>) {
        let LabelSources { inline, accounts, .. } = &mut self.sources;
        let (mut faults, mut warnings) = (RowFaults::default(), RowFaults::default());
        let mut indices: HashMap<LabelKey, usize> = HashMap::new();
        let (place, list) = (at.place, at.name());
        for (number, row) in (1..).zip(rows) {
            let at = RowPosition { place, list: Some(&list), number };
            match UncheckedRow::of_json(row).and_then(|row| row.check(accounts, Source::Config)) {
                Err(row_fault) => faults.push(at.fault(row_fault)),
                Ok(label) => match indices.get(&label.key) {
                    None => {
                        indices.insert(label.key.clone(), inline.len());
                        inline.push(label);
                    }
                    Some(index) => {
                        if inline[*index].metadata != label.metadata {
                            warnings.push(at.again(&label.key));
                        }
                        inline[*index] = label;
                    }
                },
            }
        }
        self.faults = faults.close(place, WRONG_ROWS);
        self.warnings = warnings.close(place, REPEATED_LABELS).kept;
    }
}
