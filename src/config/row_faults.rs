//! Faults of label rows: wrong rows are left out, and only the first ones of each place are kept.

use super::fault::Fault;
use crate::domain::label::LabelKey;

/// Maximum number of faults, and of warnings, that are kept of one place.
pub(super) const MAX_FAULTS_PER_PLACE: usize = 100;
/// Maximum number of faults, and of warnings, that are kept of all label files together, without the counts.
const MAX_FAULTS: usize = 1_000;

/// Texts for the rows that [`RowFaults::close`] counts.
pub(super) const WRONG_ROWS: &str = "more rows are wrong and left out";
pub(super) const REPEATED_LABELS: &str = "more rows name a label again, with other metadata";

/// Hint for a source that is not UTF-8 text.
pub(super) const UTF8_HINT: &str = "save it as UTF-8; spreadsheets offer that when a CSV is saved";

const ROW_HINT: &str = "write an id, or { id = \"…\", account = \"…\", metadata = { … } }";

/// The fault of a row.
#[derive(Debug)]
pub struct RowFault {
    pub value: Option<String>,
    pub problem: String,
    pub hint: Option<String>,
    /// Whether the bytes are not text. Then the rest of the source is not trusted either.
    pub not_utf8: bool,
}

impl RowFault {
    pub fn new(problem: impl Into<String>) -> Self {
        Self { value: None, problem: problem.into(), hint: None, not_utf8: false }
    }

    pub fn value(self, value: &str) -> Self {
        Self { value: Some(value.to_owned()), ..self }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub fn not_json(error: &serde_json::Error) -> Self {
        let problem = format!("is not valid JSON: {error}");
        Self::new(problem).hint("an object a line, as in {\"id\": \"se-324658\"}")
    }

    pub fn too_long() -> Self {
        Self::new("is longer than 64 KiB").hint("is an end of line missing?")
    }

    pub fn not_utf8() -> Self {
        Self { not_utf8: true, ..Self::new("is not UTF-8 text").hint(UTF8_HINT) }
    }
}

/// Place of a row.
#[derive(Clone, Copy)]
pub(super) struct RowPosition<'a> {
    pub(super) place: &'a str,
    /// The key of a list in the configuration; `None` for rows of a file.
    pub(super) list: Option<&'a str>,
    /// Number of the row, from 1 on.
    pub(super) number: u64,
}

impl RowPosition<'_> {
    pub(super) fn fault(self, row_fault: RowFault) -> Fault {
        let key = match self.list {
            Some(list) => format!("{list}, row {}", self.number),
            None => format!("row {}", self.number),
        };
        let mut fault = Fault::new(self.place, key, row_fault.problem);
        fault.hint = row_fault.hint.or_else(|| Some(ROW_HINT.to_owned()));
        match row_fault.value {
            Some(value) => fault.value(&value),
            None => fault,
        }
    }

    /// A warning that an earlier row has other metadata.
    pub(super) fn again(self, label: &LabelKey) -> Fault {
        self.fault(RowFault::new("an earlier row has other metadata: this row is used"))
            .value(label.id.as_str())
            .hint("write one row per label, or the same metadata in both rows")
    }
}

/// Faults, or warnings, of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowFaults {
    /// The first ones of each place, and a count of the rest.
    pub kept: Vec<Fault>,
    /// The number of all.
    pub total: usize,
}

impl RowFaults {
    /// Adds a fault of the same place.
    pub(super) fn push(&mut self, fault: Fault) {
        self.total += 1;
        if self.kept.len() < MAX_FAULTS_PER_PLACE {
            self.kept.push(fault);
        }
    }

    /// Adds the number of faults of this place that were not kept.
    pub(super) fn close(mut self, place: &str, not_kept: &str) -> Self {
        if let Some(more @ 1..) = self.total.checked_sub(self.kept.len()) {
            let fault = Fault::new(place, "", format!("{more} {not_kept}"));
            self.kept.push(fault.hint("the faults above name the causes"));
        }
        self
    }

    /// Adds the faults of another place, and the number of those that were not kept.
    pub(super) fn add(&mut self, mut others: Self, place: &str, not_kept: &str) {
        others.kept.truncate(MAX_FAULTS.saturating_sub(self.kept.len()));
        self.extend(others.close(place, not_kept));
    }

    /// Adds the faults of other places.
    pub fn extend(&mut self, others: Self) {
        self.kept.extend(others.kept);
        self.total += others.total;
    }

    /// Returns the number of wrong rows, and the place and the problem of the first. Other text of the row may be
    /// personal.
    pub fn summary(&self) -> Option<String> {
        let Fault { place, key, problem, .. } = self.kept.first()?;
        let rows = if self.total == 1 { "row" } else { "rows" };
        let count = self.total;
        Some(format!(
            "{count} {rows}; the first: {place}: {key}: {problem}; trackpost check lists the first \
             {MAX_FAULTS_PER_PLACE} of each file"
        ))
    }
}
