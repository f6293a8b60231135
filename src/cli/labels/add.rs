//! `labels add`: registers the labels of the arguments or of stdin, and reports row by row.
//!
//! Rows are registered in batches, in order, so that a million of them need neither much memory nor a transaction each.
//! A wrong row is reported and does not stop the others.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::Failure;
use crate::cli::progress::{Progress, Unit};
use crate::cli::{output, resolve};
use crate::clock;
use crate::config::{CheckedRow, Config, Fault, RowKind, each_row};
use crate::domain::label::{AccountName, LabelKey, Metadata, Registration};
use crate::domain::words::counted;
use crate::store::Store;

/// Rows of a transaction.
const BATCH: usize = 1_000;

/// Outcome of a row.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct RowReport {
    row: u64,
    label_id: Option<String>,
    account: Option<String>,
    ok: bool,
    outcome: &'static str,
    problem: Option<String>,
}

const ADDED: &str = "added";
const KNOWN: &str = "already registered";
const CHANGED: &str = "already registered; metadata changed";
const CONFIGURED: &str = "already registered by the configuration; its metadata stays";
const REJECTED: &str = "rejected";

pub async fn run(
    store: &Store,
    config: &Config,
    ids: &[String],
    account: Option<&str>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let account = account.map(|name| resolve::account(config, name)).transpose()?;
    let accounts = config.account_names();
    let stdin = matches!(ids, [only] if only == "-");
    if !stdin && ids.iter().any(|id| id == "-") {
        return Err(Failure::usage("- stands for stdin and cannot be mixed with ids"));
    }
    // On a terminal, the rows on stdout are the progress.
    let progress = (stdin && !std::io::stdout().is_terminal())
        .then(|| Progress::new("labels add", Unit::Items("rows"), None));
    let mut batches = BatchRegistration {
        store,
        json,
        stdin,
        batch: Vec::new(),
        rows: 0,
        rejected: 0,
        failed: None,
        progress,
    };
    // Reading and writing block this thread; no other task runs.
    block_in_place(|| {
        let mut each = |row| batches.push(row);
        if stdin {
            let (kind, reader) = RowKind::detect(std::io::stdin().lock())?;
            let mut each =
                |row: CheckedRow| each(if kind == RowKind::Ids { without_header(row) } else { row });
            each_row(kind, reader, &accounts, account.as_ref(), &mut each)
                .map_err(|fault| Failure::new(fault.to_string()))?;
        } else {
            read_arguments(ids, &accounts, account.as_ref(), &mut each)?;
        }
        Ok::<_, Failure>(())
    })
    .and_then(|()| {
        batches.flush();
        batches.failed.take().map_or(Ok(()), Err)
    })?;
    drop(batches.progress.take());
    if batches.rows == 0 {
        output::print_error(
            "note: stdin had no label to register; removed labels in the output of labels list --json are skipped",
        );
    }
    if batches.rejected == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let rejected = counted(batches.rejected, "row");
    let others = if batches.rejected < batches.rows { "; the others are registered" } else { "" };
    output::print_error(format!("error: {rejected} rejected{others}"));
    Ok(ExitCode::FAILURE)
}

/// Reads each argument as one row.
fn read_arguments(
    ids: &[String],
    accounts: &[AccountName],
    account: Option<&AccountName>,
    each: &mut dyn FnMut(CheckedRow),
) -> Result<(), Failure> {
    for (row, id) in (1..).zip(ids) {
        let quoted = serde_json::to_string(id)?;
        each_row(RowKind::JsonLines, quoted.as_bytes(), accounts, account, &mut |checked| {
            let registration =
                checked.registration.map_err(|fault| Fault { hint: hint(id).or(fault.hint), ..fault });
            each(CheckedRow { row, registration, ..checked });
        })
        .map_err(|fault| Failure::new(fault.to_string()))?;
    }
    Ok(())
}

/// An id with a comma is a row of CSV with a missing or wrong header.
fn without_header(row: CheckedRow) -> CheckedRow {
    if !row.written.as_ref().is_some_and(|id| id.contains([',', ';', '\t'])) {
        return row;
    }
    let registration = row.registration.map_err(|fault| Fault {
        problem: "looks like CSV without a label_id column".to_owned(),
        hint: Some("the first line names the columns, such as label_id,order".to_owned()),
        ..fault
    });
    CheckedRow { registration, ..row }
}

/// A hint where an argument seems to be a file of labels.
fn hint(id: &str) -> Option<String> {
    let is_file = RowKind::of_path(Path::new(id)).is_some() || Path::new(id).is_file();
    is_file.then(|| format!("to read a file: trackpost labels add - < {id}"))
}

/// Registers rows in batches and counts them.
struct BatchRegistration<'a> {
    store: &'a Store,
    json: bool,
    stdin: bool,
    batch: Vec<CheckedRow>,
    rows: u64,
    rejected: u64,
    /// First failure of the store; later rows are not registered.
    failed: Option<Failure>,
    progress: Option<Progress>,
}

impl BatchRegistration<'_> {
    fn push(&mut self, row: CheckedRow) {
        self.rows += 1;
        self.batch.push(row);
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.batch);
        if self.failed.is_some() || rows.is_empty() {
            return;
        }
        let registered = block_in_place(|| Handle::current().block_on(register(self.store, rows)));
        let printed = registered.and_then(|reports| {
            self.rejected += reports.iter().filter(|report| !report.ok).count() as u64;
            if self.json {
                output::json_lines(&reports)
            } else {
                output::print(&reports.iter().map(|report| line(report, self.stdin)).collect::<String>());
                Ok(())
            }
        });
        self.failed = printed.err();
        if let Some(progress) = &mut self.progress {
            progress.set(self.rows);
        }
    }
}

/// Registers the valid rows, and reports the outcome of every row.
async fn register(store: &Store, rows: Vec<CheckedRow>) -> Result<Vec<RowReport>, Failure> {
    let mut of_account: BTreeMap<AccountName, Vec<&str>> = BTreeMap::new();
    // The same label again is one label; the later row counts.
    let mut wanted: Vec<Registration> = Vec::new();
    let mut indices: HashMap<&LabelKey, usize> = HashMap::new();
    for registration in rows.iter().filter_map(|row| row.registration.as_ref().ok()) {
        of_account.entry(registration.key.account.clone()).or_default().push(registration.key.id.as_str());
        match indices.entry(&registration.key) {
            Entry::Occupied(index) => wanted[*index.get()] = registration.clone(),
            Entry::Vacant(index) => {
                index.insert(wanted.len());
                wanted.push(registration.clone());
            }
        }
    }
    let mut known = KnownLabels::new();
    for (account, ids) in &of_account {
        for label in store.known_among(account.as_str(), ids).await? {
            known.insert((account.clone(), label.label_id), (label.by_config, label.metadata));
        }
    }
    store.add_by_hand(&wanted, clock::now()).await?;
    Ok(rows.into_iter().map(|row| report(row, &mut known)).collect())
}

/// Whether the configuration registers a label, and its metadata.
type KnownLabels = HashMap<(AccountName, String), (bool, String)>;

/// Outcome of registering a label by hand.
fn outcome(key: &LabelKey, metadata: &Metadata, known: &mut KnownLabels) -> &'static str {
    let wanted = serde_json::to_string(metadata).expect("metadata is JSON");
    match known.entry((key.account.clone(), key.id.to_string())) {
        Entry::Vacant(free) => {
            free.insert((false, wanted));
            ADDED
        }
        Entry::Occupied(there) if metadata.is_empty() || there.get().1 == wanted => KNOWN,
        Entry::Occupied(there) if there.get().0 => CONFIGURED,
        Entry::Occupied(mut there) => {
            there.get_mut().1 = wanted;
            CHANGED
        }
    }
}

fn report(row: CheckedRow, known: &mut KnownLabels) -> RowReport {
    let (label_id, account, outcome, problem) = match row.registration {
        Ok(Registration { key, metadata, .. }) => {
            let outcome = outcome(&key, &metadata, known);
            (Some(key.id.to_string()), Some(key.account.to_string()), outcome, None)
        }
        Err(fault) => {
            let value = fault.value.map(|value| format!("{value:?} ")).unwrap_or_default();
            let hint = fault.hint.map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
            (row.written, None, REJECTED, Some(format!("{value}{}{hint}", fault.problem)))
        }
    };
    RowReport { row: row.row, label_id, account, ok: problem.is_none(), outcome, problem }
}

fn line(report: &RowReport, numbered: bool) -> String {
    let row = if numbered { format!("row {}: ", report.row) } else { String::new() };
    match (&report.problem, &report.label_id) {
        (Some(problem), _) => format!("{row}{}\n", output::plain(problem)),
        (None, id) => format!("{row}{}: {}\n", id.as_deref().unwrap_or_default(), report.outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(ids: &[&str], known: &[&str]) -> Vec<String> {
        let main = AccountName::new("main");
        let known = known.iter().map(|id| ((main.clone(), (*id).to_owned()), (false, "{}".to_owned())));
        let mut known = known.collect();
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let mut shown_rows = Vec::new();
        read_arguments(&ids, &[main], None, &mut |row| shown_rows.push(line(&report(row, &mut known), true)))
            .unwrap();
        shown_rows
    }

    #[test]
    fn every_row_is_reported_once() {
        let lines = reports(&["se-1", "se-2", "se-1", "se-X\u{1b}", ""], &["se-2"]);
        assert_eq!(
            lines[..3],
            [
                "row 1: se-1: added\n",
                "row 2: se-2: already registered\n",
                "row 3: se-1: already registered\n"
            ]
        );
        assert!(lines[3].starts_with("row 4: \"se-X\\u{1b}\" is not a label id: "), "{}", lines[3]);
        assert!(
            reports(&["orders.csv"], &[])[0]
                .ends_with("(hint: to read a file: trackpost labels add - < orders.csv)\n")
        );
        assert!(lines[4].starts_with("row 5: \"\" is not a label id: "), "{}", lines[4]);
    }
}
