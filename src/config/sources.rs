//! Sources of labels: the configuration itself, and label files. Files are read apart from the configuration, as a
//! stream; a file that cannot be read does not stop the others.
//!
//! A reading goes over the files once and builds a [`LabelSet`]. Comparing the registry with the label set finds the
//! labels that the registry lacks; only if there are any, a second pass reads their rows.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::fault::Fault;
use super::label_files::{FileScan, FilesEntry, FoundFile, LeftOut, open};
use super::label_set::{BoundedFaults, Conflicts, FileNumber, LabelSet, MOST_FILES, RowPosition, check};
use super::rows::each_draft;
use crate::domain::label::{AccountName, Registration, Source};

/// The label sources of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSources {
    /// Labels of the configuration itself, each once.
    pub inline: Vec<Registration>,
    pub(super) patterns: Vec<FilesEntry>,
    /// Names of all accounts, sorted.
    pub(super) accounts: Vec<AccountName>,
}

/// The result of reading all sources.
#[derive(Debug, Default)]
pub struct LabelReading {
    pub label_set: LabelSet,
    /// The files that were read, in order; the first has place 1.
    pub files: Vec<PathBuf>,
    /// Files that turned out to be unreadable.
    pub left_out: Vec<LeftOut>,
    /// Wrong rows: the first of each file, and a count of the rest.
    pub faults: Vec<Fault>,
    /// The number of wrong rows.
    pub fault_count: usize,
    pub warnings: Vec<Fault>,
}

impl LabelSources {
    /// Labels that need no file.
    pub fn of(inline: Vec<Registration>) -> Self {
        let mut accounts: Vec<AccountName> = inline.iter().map(|label| label.key.account.clone()).collect();
        accounts.sort();
        accounts.dedup();
        Self { inline, patterns: Vec::new(), accounts }
    }

    /// Finds the files that the entries name now, without opening a file.
    pub fn scan(&self) -> FileScan {
        FileScan::at(&self.patterns)
    }

    /// The folder and the name, or the pattern of names, of each entry.
    pub fn names(&self) -> impl Iterator<Item = (&std::path::Path, &str)> {
        self.patterns.iter().map(|pattern| (pattern.folder.as_path(), pattern.name.as_str()))
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
        let (mut faults, mut warnings) = (BoundedFaults::default(), BoundedFaults::default());
        self.inline.iter().for_each(|label| reading.label_set.add(label, 0));
        for file in files.split_off(files.len().min(MOST_FILES)) {
            let fault =
                Fault::new(file.place(), "", format!("is beyond the {MOST_FILES} files that are read"))
                    .hint("use fewer files with more rows each");
            reading.left_out.push(LeftOut { path: file.path, fault });
        }
        for file in files {
            let mark = reading.label_set.mark();
            let place = FileNumber::try_from(reading.files.len() + 1).unwrap_or(FileNumber::MAX);
            let mut wrong = Vec::new();
            let mut wrong_count = 0_usize;
            let read = each_label(&file, &self.accounts, &mut |_, label| {
                match label {
                    Ok(label) => reading.label_set.add(&label, place),
                    Err(fault) => {
                        wrong_count += 1;
                        if wrong.len() < super::SHOWN_PER_PLACE {
                            wrong.push(fault);
                        }
                    }
                }
                ControlFlow::Continue(())
            });
            match read {
                Ok(()) => {
                    let shown = wrong.len();
                    wrong.into_iter().for_each(|fault| faults.push(|| fault));
                    faults.count(wrong_count - shown);
                    faults.close(&file.place(), "more rows are wrong and left out");
                    reading.files.push(file.path);
                }
                Err(fault) => {
                    reading.label_set.cut(&mark);
                    reading.left_out.push(LeftOut { path: file.path, fault });
                }
            }
        }
        let (conflicts, count) = reading.label_set.seal();
        if !conflicts.is_empty() {
            self.name_conflicts(&reading.files, conflicts, count, &mut warnings);
        }
        (reading.faults, reading.fault_count) = faults.finish();
        reading.warnings = warnings.finish().0;
        reading
    }

    /// Reads all rows again to find the rows that contradict an earlier row.
    fn name_conflicts(
        &self,
        files: &[PathBuf],
        mut conflicts: Conflicts,
        count: usize,
        warnings: &mut BoundedFaults,
    ) {
        let mut named = 0;
        for label in &self.inline {
            conflicts.contradicts(label);
        }
        for path in files {
            let Some(file) = FoundFile::again(path) else { continue };
            let place = file.place();
            // The first pass reported files that cannot be read.
            let _ = each_label(&file, &self.accounts, &mut |row, label| {
                if let Ok(label) = label
                    && conflicts.contradicts(&label)
                {
                    named += 1;
                    warnings.push(|| RowPosition { place: &place, list: None, row }.again(&label.key));
                }
                ControlFlow::Continue(())
            });
            warnings.close(&place, "more rows name a label again, with other metadata");
        }
        if let Some(more @ 1..) = count.checked_sub(named) {
            let problem =
                format!("{more} more rows name a label again, with other metadata: the later rows are used");
            let hint = "write one row per label, or the same metadata in both rows";
            warnings.push(|| Fault::new("registration.files", "", problem).hint(hint));
        }
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
        for (place, path) in (1..).zip(files.iter()) {
            let Some(file) = FoundFile::again(path) else { continue };
            // Labels of a file that became unreadable stay wanted until the next reading.
            let _ = each_label(&file, &self.accounts, &mut |_, label| {
                let Ok(label) = label else { return ControlFlow::Continue(()) };
                if !label_set.take(&label, place) {
                    return ControlFlow::Continue(());
                }
                let next = each(label, place);
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
    let outcome = each_draft(file.kind, reader, &place, &mut |row, draft| {
        let at = RowPosition { place: &place, list: None, row };
        let label = match draft.and_then(|draft| check(accounts, draft, Source::File)) {
            Err(row_fault) if row_fault.not_utf8 => {
                let problem = format!("is not UTF-8 text (row {row})");
                let fault = Fault::new(&place, "", problem);
                return ControlFlow::Break(row_fault.hint.into_iter().fold(fault, Fault::hint));
            }
            label => label.map_err(|row_fault| at.fault(row_fault)),
        };
        match each(row, label) {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(()) => {
                broken = true;
                ControlFlow::Break(Fault::new(&place, "", "was not read to its end"))
            }
        }
    });
    if broken { Ok(()) } else { outcome }
}
