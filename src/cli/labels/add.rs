//! `labels add`: registers by hand what is named, or what stands on stdin; reports row by row.
//!
//! Rows are entered in batches, in the order in which they came, so that a million of them need neither much memory nor
//! a transaction each. A wrong row is reported and keeps no other out.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::Failure;
use crate::cli::{output, resolve};
use crate::clock;
use crate::config::{CheckedRow, Config, RowKind, RowSource, each_row};
use crate::domain::label::{AccountName, LabelKey, Metadata, Registration, Source};
use crate::store::Store;

/// Rows entered at once.
const BATCH: usize = 1_000;

/// What became of a row.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Report {
    row: u64,
    label_id: Option<String>,
    account: Option<String>,
    ok: bool,
    outcome: &'static str,
    problem: Option<String>,
}

const ADDED: &str = "added";
const KNOWN: &str = "already registered";
const CHANGED: &str = "already registered; its metadata is changed";
const CONFIGURED: &str = "already registered by the configuration, whose metadata stays";
const REFUSED: &str = "refused";

pub async fn run(
    store: &Store,
    config: &Config,
    ids: &[String],
    account: Option<&str>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let account = account.map(|name| resolve::account(config, name)).transpose()?;
    let accounts = config.account_names();
    let stdin = match ids {
        [only] => only == "-",
        _ => false,
    };
    if !stdin && ids.iter().any(|id| id == "-") {
        return Err(Failure::usage("- stands for stdin and can't be mixed with ids"));
    }
    let mut counter = Counter { store, json, stdin, waiting: Vec::new(), refused: 0, failed: None };
    // Reading blocks, and so may writing in between: there is nothing else to do meanwhile.
    block_in_place(|| {
        let place = RowSource { place: "-", source: Source::Cli };
        let mut each = |row| counter.take(row);
        if stdin {
            let (kind, reader) = RowKind::detect(std::io::stdin().lock())?;
            each_row(kind, reader, &accounts, account.as_ref(), place, &mut each)
                .map_err(|fault| Failure::new(fault.to_string()))?;
        } else {
            named(ids, &accounts, account.as_ref(), place, &mut each)?;
        }
        Ok::<_, Failure>(())
    })
    .and_then(|()| {
        counter.flush();
        counter.failed.take().map_or(Ok(()), Err)
    })?;
    match counter.refused {
        0 => return Ok(ExitCode::SUCCESS),
        1 => output::complain("error: one row was refused; the others are registered"),
        refused => output::complain(format!("error: {refused} rows were refused; the others are registered")),
    }
    Ok(ExitCode::FAILURE)
}

/// Ids as arguments are rows as well: each for itself, so that whatever one holds is its own matter.
fn named(
    ids: &[String],
    accounts: &[AccountName],
    account: Option<&AccountName>,
    place: RowSource<'_>,
    each: &mut dyn FnMut(CheckedRow),
) -> Result<(), Failure> {
    for (row, id) in (1..).zip(ids) {
        let quoted = serde_json::to_string(id)?;
        each_row(RowKind::JsonLines, quoted.as_bytes(), accounts, account, place, &mut |checked| {
            each(CheckedRow { row, ..checked });
        })
        .map_err(|fault| Failure::new(fault.to_string()))?;
    }
    Ok(())
}

/// Where rows are handed in.
struct Counter<'a> {
    store: &'a Store,
    json: bool,
    stdin: bool,
    waiting: Vec<CheckedRow>,
    refused: u64,
    /// The store's failure; what comes after it is not entered.
    failed: Option<Failure>,
}

impl Counter<'_> {
    fn take(&mut self, row: CheckedRow) {
        self.waiting.push(row);
        if self.waiting.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.waiting);
        if self.failed.is_some() || rows.is_empty() {
            return;
        }
        let entered = block_in_place(|| Handle::current().block_on(enter(self.store, rows)));
        let told = entered.and_then(|reports| {
            self.refused += reports.iter().filter(|report| !report.ok).count() as u64;
            if self.json {
                output::json_lines(&reports)
            } else {
                output::print(&reports.iter().map(|report| shown(report, self.stdin)).collect::<String>());
                Ok(())
            }
        });
        self.failed = told.err();
    }
}

/// Registers the sound rows; says of every row what became of it.
async fn enter(store: &Store, rows: Vec<CheckedRow>) -> Result<Vec<Report>, Failure> {
    let mut of_account: BTreeMap<AccountName, Vec<&str>> = BTreeMap::new();
    // The same label again is one label, and the later row holds.
    let mut wanted: Vec<Registration> = Vec::new();
    let mut places: HashMap<&LabelKey, usize> = HashMap::new();
    for registration in rows.iter().filter_map(|row| row.registration.as_ref().ok()) {
        of_account.entry(registration.key.account.clone()).or_default().push(registration.key.id.as_str());
        match places.entry(&registration.key) {
            Entry::Occupied(place) => wanted[*place.get()] = registration.clone(),
            Entry::Vacant(place) => {
                place.insert(wanted.len());
                wanted.push(registration.clone());
            }
        }
    }
    let mut known = Registered::new();
    for (account, ids) in &of_account {
        for label in store.known_among(account.as_str(), ids).await? {
            known.insert((account.clone(), label.label_id), (label.by_config, label.metadata));
        }
    }
    store.add_by_hand(&wanted, clock::now()).await?;
    Ok(rows.into_iter().map(|row| report(row, &mut known)).collect())
}

/// Whether the configuration asks for a label, and its metadata.
type Registered = HashMap<(AccountName, String), (bool, String)>;

/// What registering a label by hand does to it.
fn outcome(key: &LabelKey, metadata: &Metadata, known: &mut Registered) -> &'static str {
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

fn report(row: CheckedRow, known: &mut Registered) -> Report {
    let number = row.row;
    match row.registration {
        Ok(Registration { key, metadata, .. }) => {
            let outcome = outcome(&key, &metadata, known);
            Report {
                row: number,
                label_id: Some(key.id.to_string()),
                account: Some(key.account.to_string()),
                ok: true,
                outcome,
                problem: None,
            }
        }
        Err(fault) => {
            let value = fault.value.map(|value| format!("{} ", value.escape_debug())).unwrap_or_default();
            let hint = fault.hint.map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
            Report {
                row: number,
                label_id: row.written,
                account: None,
                ok: false,
                outcome: REFUSED,
                problem: Some(format!("{value}{}{hint}", fault.problem)),
            }
        }
    }
}

fn shown(report: &Report, numbered: bool) -> String {
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
        let place = RowSource { place: "-", source: Source::Cli };
        named(&ids, &[main], None, place, &mut |row| shown_rows.push(shown(&report(row, &mut known), true)))
            .unwrap();
        shown_rows
    }

    #[test]
    fn every_row_is_told_of_once() {
        let told = reports(&["se-1", "se-2", "se-1", "se-X\u{1b}", ""], &["se-2"]);
        assert_eq!(
            told[..3],
            [
                "row 1: se-1: added\n",
                "row 2: se-2: already registered\n",
                "row 3: se-1: already registered\n"
            ]
        );
        assert!(told[3].starts_with("row 4: se-X\\u{1b} is not a label id: "), "{}", told[3]);
        assert!(told[4].starts_with("row 5:  is not a label id: "), "{}", told[4]);
    }
}
