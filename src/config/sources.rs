//! Sources of labels: the configuration itself, and label files. Label files are read separately from the
//! configuration, as a stream; a file that cannot be read does not stop the others.
//!
//! A reading goes over the files once and builds a [`LabelSet`]. Comparing the registry with the label set finds the
//! labels that the registry lacks; only if there are any, a second pass reads their rows.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::fault::Fault;
use super::label_files::{FileScan, FilesEntry, FoundFile, LeftOut, open};
use super::label_set::{Conflicts, FileNumber, LabelSet, MAX_FILES};
use super::row_faults::{REPEATED_LABELS, RowFaults, RowPosition, WRONG_ROWS};
use super::rows::each_unchecked_row;
use crate::domain::label::{AccountName, Registration, Source};

/// The label sources of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSources {
    /// Labels of the configuration itself, each once.
    pub inline: Vec<Registration>,
    pub(super) entries: Vec<FilesEntry>,
    /// Names of all accounts, sorted.
    pub(super) accounts: Vec<AccountName>,
}

/// The result of reading all sources.
#[derive(Debug, Default)]
pub struct LabelReading {
    pub label_set: LabelSet,
    /// The files that were read, in order; the first has number 1.
    pub files: Vec<PathBuf>,
    /// Files that turned out to be unreadable.
    pub left_out: Vec<LeftOut>,
    /// Wrong rows.
    pub faults: RowFaults,
    pub warnings: Vec<Fault>,
}

impl LabelSources {
    /// Finds the files that the entries name now, without opening a file.
    pub fn scan(&self) -> FileScan {
        FileScan::at(&self.entries)
    }

    /// The directory and the name, or the pattern of names, of each entry.
    pub fn names(&self) -> impl Iterator<Item = (&std::path::Path, &str)> {
        self.entries.iter().map(|entry| (entry.directory.as_path(), entry.name.as_str()))
    }

    /// Reads the labels of the configuration and of the files that the entries name now.
    pub fn read_all(&self) -> LabelReading {
        let scan = self.scan();
        let mut reading = self.read(scan.files);
        reading.left_out.splice(0..0, scan.left_out);
        reading.warnings.splice(0..0, scan.unmatched);
        reading
    }

    /// Reads the labels of the configuration and of `files`.
    pub fn read(&self, mut files: Vec<FoundFile>) -> LabelReading {
        let mut reading =
            LabelReading { label_set: LabelSet::new(&self.accounts), ..LabelReading::default() };
        self.inline.iter().for_each(|label| reading.label_set.add(label, 0));
        for file in files.split_off(files.len().min(MAX_FILES)) {
            let fault =
                Fault::new(file.place(), "", format!("is beyond the {MAX_FILES} files that are read"))
                    .hint("use fewer files with more rows each");
            reading.left_out.push(LeftOut { path: file.path, fault });
        }
        for file in files {
            let lengths = reading.label_set.lengths();
            let file_number = FileNumber::try_from(reading.files.len() + 1).unwrap_or(FileNumber::MAX);
            let mut faults = RowFaults::default();
            let read = each_label(&file, &self.accounts, &mut |_, label| {
                match label {
                    Ok(label) => reading.label_set.add(&label, file_number),
                    Err(fault) => faults.push(fault),
                }
                ControlFlow::Continue(())
            });
            match read {
                Ok(()) => {
                    reading.faults.add(faults, &file.place(), WRONG_ROWS);
                    reading.files.push(file.path);
                }
                Err(fault) => {
                    reading.label_set.truncate(&lengths);
                    reading.left_out.push(LeftOut { path: file.path, fault });
                }
            }
        }
        let conflicts = reading.label_set.seal();
        if conflicts.total > 0 {
            reading.warnings = self.name_conflicts(&reading.files, conflicts);
        }
        reading
    }

    /// Reads all rows again to find the rows that contradict an earlier row. Returns a warning for each.
    fn name_conflicts(&self, files: &[PathBuf], mut conflicts: Conflicts) -> Vec<Fault> {
        let mut warnings = RowFaults::default();
        for label in &self.inline {
            conflicts.contradicts(label);
        }
        for path in files {
            let Some(file) = FoundFile::again(path) else { continue };
            let place = file.place();
            let mut of_file = RowFaults::default();
            // The first pass reported files that cannot be read.
            let _ = each_label(&file, &self.accounts, &mut |number, label| {
                if let Ok(label) = label
                    && conflicts.contradicts(&label)
                {
                    of_file.push(RowPosition { place: &place, list: None, number }.again(&label.key));
                }
                ControlFlow::Continue(())
            });
            warnings.add(of_file, &place, REPEATED_LABELS);
        }
        if let Some(more @ 1..) = conflicts.total.checked_sub(warnings.total) {
            let problem = format!("{more} {REPEATED_LABELS}: the later rows are used");
            let fault = Fault::new("registration.files", "", problem);
            warnings.kept.push(fault.hint("write one row per label, or the same metadata in both rows"));
        }
        warnings.kept
    }

    /// Passes the labels that `reading` still wants to `each`, with the number of their file (0: none), until it
    /// breaks.
    pub fn each_wanted(
        &self,
        reading: &mut LabelReading,
        each: &mut dyn FnMut(Registration, FileNumber) -> ControlFlow<()>,
    ) {
        for label in &self.inline {
            if reading.label_set.take(label, 0) && each(label.clone(), 0).is_break() {
                return;
            }
        }
        let LabelReading { label_set, files, .. } = reading;
        let mut broken = false;
        for (file_number, path) in (1..).zip(files.iter()) {
            let Some(file) = FoundFile::again(path) else { continue };
            // Labels of a file that became unreadable stay wanted until the next reading.
            let _ = each_label(&file, &self.accounts, &mut |_, label| {
                let Ok(label) = label else { return ControlFlow::Continue(()) };
                if !label_set.take(&label, file_number) {
                    return ControlFlow::Continue(());
                }
                let next = each(label, file_number);
                broken = next.is_break();
                next
            });
            if broken {
                return;
            }
        }
    }

    /// The first label of an account.
    pub fn first_of(&self, account: &AccountName) -> Option<Registration> {
        if let Some(label) = self.inline.iter().find(|label| label.key.account == *account) {
            return Some(label.clone());
        }
        let mut found = None;
        for file in self.scan().files {
            let _ = each_label(&file, &self.accounts, &mut |_, label| match label {
                Ok(label) if label.key.account == *account => {
                    found = Some(label);
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            });
            if found.is_some() {
                break;
            }
        }
        found
    }
}

/// Passes the rows of a file to `each`. An error says why the file as a whole cannot be read.
fn each_label(
    file: &FoundFile,
    accounts: &[AccountName],
    each: &mut dyn FnMut(u64, Result<Registration, Fault>) -> ControlFlow<()>,
) -> Result<(), Fault> {
    let place = file.place();
    let reader = open(file)?;
    let mut broken = false;
    let outcome = each_unchecked_row(file.kind, reader, &place, &mut |number, row| {
        let at = RowPosition { place: &place, list: None, number };
        let label = match row.and_then(|row| row.check(accounts, Source::File)) {
            Err(row_fault) if row_fault.not_utf8 => {
                let problem = format!("is not UTF-8 text (row {number})");
                let fault = Fault::new(&place, "", problem);
                return ControlFlow::Break(row_fault.hint.into_iter().fold(fault, Fault::hint));
            }
            label => label.map_err(|row_fault| at.fault(row_fault)),
        };
        match each(number, label) {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(()) => {
                broken = true;
                ControlFlow::Break(Fault::new(&place, "", "was not read to its end"))
            }
        }
    });
    if broken { Ok(()) } else { outcome }
}
