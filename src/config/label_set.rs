//! The set of all configured labels: checks rows, and keeps each label in 16 bytes.
//!
//! A hash of the id and a hash of the metadata show whether the registry has the label as configured. A million labels
//! take 16 MB while they are compared; none of them is kept as text.

use std::cmp::Ordering;
use std::hash::DefaultHasher;
use std::hash::Hasher as _;

use super::draft::{RowFault, UncheckedRow};
use super::fault::{Fault, meant};
use crate::domain::label::{AccountName, LabelKey, Registration, Source};

/// The most faults, and the most warnings, that are kept of one place.
pub const SHOWN_PER_PLACE: usize = 100;
/// The most that are kept of all places together.
const MAX_SHOWN: usize = 1_000;
/// The most labels with contradicting rows that are read again to name those rows.
const MAX_CONFLICTS: usize = 1_000;

const ROW_HINT: &str = "write an id, or { id = \"…\", account = \"…\", metadata = { … } }";

/// Place of a row.
#[derive(Clone, Copy)]
pub(super) struct RowPosition<'a> {
    pub(super) place: &'a str,
    /// The key of a list in the configuration; `None` for rows of a file.
    pub(super) list: Option<&'a str>,
    /// Number of the row, from 1 on.
    pub(super) row: u64,
}

impl RowPosition<'_> {
    pub(super) fn fault(self, row_fault: RowFault) -> Fault {
        let key = match self.list {
            Some(list) => format!("{list}, row {}", self.row),
            None => format!("row {}", self.row),
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

/// The label of a row, if its id is valid and its account is one of `accounts` (in order).
pub(super) fn check(
    accounts: &[AccountName],
    draft: UncheckedRow,
    source: Source,
) -> Result<Registration, RowFault> {
    let id = draft.id.parse().map_err(|error| {
        RowFault::new(format!("is not a label id: {error}"))
            .value(&draft.id)
            .hint("use the label id of ShipStation, such as se-324658")
    })?;
    // A fault of the account also names the id, so that the row can be found.
    let named = |row_fault: RowFault| match row_fault.value {
        Some(_) => RowFault { problem: format!("{} (label {})", row_fault.problem, draft.id), ..row_fault },
        None => row_fault.value(&draft.id),
    };
    let account = account(accounts, draft.account.as_deref()).map_err(named)?;
    Ok(Registration { key: LabelKey { account, id }, metadata: draft.metadata, source })
}

fn account(accounts: &[AccountName], named: Option<&str>) -> Result<AccountName, RowFault> {
    match (named, accounts) {
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(RowFault::new("has no account, because the configuration has none")
            .hint("add [accounts.NAME] with its api_key")),
        (None, _) => Err(RowFault::new("does not name an account")
            .hint("the configuration has several accounts: write the account of each label")),
        (Some(name), _) => place_of(accounts, name).map(|found| accounts[found].clone()).ok_or_else(|| {
            let known: Vec<&str> = accounts.iter().map(AccountName::as_str).collect();
            let hint = format!("{}Accounts: {}", meant(name, known.iter().copied()), known.join(", "));
            RowFault::new("is not an account of this configuration").value(name).hint(hint)
        }),
    }
}

/// The position of an account in the sorted list.
fn place_of(accounts: &[AccountName], name: &str) -> Option<usize> {
    accounts.binary_search_by(|account| account.as_str().cmp(name)).ok()
}

/// Place of a label: 0 for the configuration itself, else the number of its file from 1 on.
pub type FileNumber = u32;

/// Bits of `LabelHash::content` for the place; the others are the hash of the metadata.
const PLACE_BITS: u32 = 20;
/// The most label files.
pub(super) const MOST_FILES: usize = (1 << PLACE_BITS) - 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LabelHash {
    name: u64,
    content: u64,
}

impl LabelHash {
    fn new(label_id: &str, metadata: &str, place: FileNumber) -> Self {
        let mask = (1 << PLACE_BITS) - 1;
        Self { name: hash(label_id), content: hash(metadata) & !mask | u64::from(place) & mask }
    }

    fn metadata(self) -> u64 {
        self.content >> PLACE_BITS
    }
}

fn hash(text: &str) -> u64 {
    // Only compared within a process.
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// The distance of most records from their expected place.
const NEAR: usize = 32;

/// How a label of the registry compares to the label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The label set has it with the same metadata and place.
    Same,
    /// The label set has it with other metadata or another place.
    Changed,
    /// The label set does not have it.
    Unknown,
}

/// All labels of the rows, by account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSet {
    accounts: Vec<AccountName>,
    runs: Vec<AccountLabels>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct AccountLabels {
    /// Sorted by name once the label set is sealed.
    records: Vec<LabelHash>,
    /// A bit for each record: set if the registry does not have the label like this.
    wanted: Vec<u64>,
}

impl AccountLabels {
    /// Names are evenly spread hashes, so the value of a name gives its approximate place. A binary search over all of
    /// them would miss the cache at most of its steps.
    fn find(&self, name: u64) -> Option<usize> {
        let (records, last) = (&self.records, self.records.len().checked_sub(1)?);
        let places = |names: u64| ((u128::from(names) * records.len() as u128) >> 64) as usize;
        let mut at = places(name).min(last);
        for _ in 0..2 {
            let off = places(records[at].name.abs_diff(name));
            at = if records[at].name < name { (at + off).min(last) } else { at.saturating_sub(off) };
        }
        for _ in 0..NEAR {
            match records[at].name.cmp(&name) {
                Ordering::Equal => return Some(at),
                Ordering::Less if at < last && records[at + 1].name <= name => at += 1,
                Ordering::Greater if at > 0 && records[at - 1].name >= name => at -= 1,
                _ => return None,
            }
        }
        records.binary_search_by_key(&name, |record| record.name).ok()
    }

    fn is_wanted(&self, at: usize) -> bool {
        self.wanted[at / 64] >> (at % 64) & 1 == 1
    }

    fn clear_wanted(&mut self, at: usize) {
        self.wanted[at / 64] &= !(1 << (at % 64));
    }
}

impl LabelSet {
    /// An empty label set for labels of `accounts`, which are in order.
    pub(super) fn new(accounts: &[AccountName]) -> Self {
        let runs = vec![AccountLabels::default(); accounts.len()];
        Self { accounts: accounts.to_vec(), runs }
    }

    fn run(&mut self, account: &str) -> Option<&mut AccountLabels> {
        place_of(&self.accounts, account).map(|at| &mut self.runs[at])
    }

    pub(super) fn add(&mut self, label: &Registration, place: FileNumber) {
        let record = record_of(label, place);
        if let Some(run) = self.run(label.key.account.as_str()) {
            run.records.push(record);
        }
    }

    /// The number of labels, for [`LabelSet::cut`].
    pub(super) fn mark(&self) -> Vec<usize> {
        self.runs.iter().map(|run| run.records.len()).collect()
    }

    pub(super) fn cut(&mut self, mark: &[usize]) {
        for (run, length) in self.runs.iter_mut().zip(mark) {
            run.records.truncate(*length);
        }
    }

    /// Keeps the last row of each label and marks all labels as wanted. Returns the labels with rows of different
    /// metadata, up to a limit, and their number.
    pub(super) fn seal(&mut self) -> (Conflicts, usize) {
        let (mut conflicts, mut count) = (Conflicts::default(), 0);
        for (account, run) in self.accounts.iter().zip(&mut self.runs) {
            run.records.sort_by_key(|record| record.name);
            let mut kept = 0;
            for at in 0..run.records.len() {
                let record = run.records[at];
                if kept > 0 && run.records[kept - 1].name == record.name {
                    if run.records[kept - 1].metadata() != record.metadata() {
                        count += 1;
                        conflicts.note(account, record.name);
                    }
                    kept -= 1;
                }
                run.records[kept] = record;
                kept += 1;
            }
            run.records.truncate(kept);
            run.wanted = vec![u64::MAX; kept.div_ceil(64)];
        }
        (conflicts, count)
    }

    /// The number of labels of an account.
    pub fn labels_of(&self, account: &AccountName) -> usize {
        place_of(&self.accounts, account.as_str()).map_or(0, |at| self.runs[at].records.len())
    }

    /// The number of labels.
    pub fn labels(&self) -> usize {
        self.runs.iter().map(|run| run.records.len()).sum()
    }

    /// Compares a label of the registry with the label set; `place` is `None` for a file that was not read. An equal
    /// label is then unmarked: it is not wanted.
    pub fn compare(
        &mut self,
        account: &str,
        label_id: &str,
        metadata: &str,
        place: Option<FileNumber>,
    ) -> Comparison {
        let Some(run) = self.run(account) else { return Comparison::Unknown };
        let record = LabelHash::new(label_id, metadata, place.unwrap_or(FileNumber::MAX));
        let Some(at) = run.find(record.name) else { return Comparison::Unknown };
        if run.records[at] != record {
            return Comparison::Changed;
        }
        run.clear_wanted(at);
        Comparison::Same
    }

    /// Drops all labels that are not wanted. Returns the number of the others.
    pub fn keep_wanted(&mut self) -> usize {
        for run in &mut self.runs {
            let records = std::mem::take(&mut run.records).into_iter().enumerate();
            let mut kept: Vec<LabelHash> =
                records.filter(|(at, _)| run.is_wanted(*at)).map(|(_, record)| record).collect();
            kept.shrink_to_fit();
            *run = AccountLabels { wanted: vec![u64::MAX; kept.len().div_ceil(64)], records: kept };
        }
        self.labels()
    }

    /// Whether this is the valid row of a wanted label. Marks the label as not wanted.
    pub(super) fn take(&mut self, label: &Registration, place: FileNumber) -> bool {
        let Some(run) = self.run(label.key.account.as_str()) else { return false };
        // Most labels are not wanted; their metadata need not be hashed.
        let Some(at) = run.find(hash(label.key.id.as_str())).filter(|at| run.is_wanted(*at)) else {
            return false;
        };
        let taken = run.records[at] == record_of(label, place);
        if taken {
            run.clear_wanted(at);
        }
        taken
    }
}

fn record_of(label: &Registration, place: FileNumber) -> LabelHash {
    if label.metadata.is_empty() {
        return LabelHash::new(label.key.id.as_str(), "{}", place);
    }
    let metadata = serde_json::to_string(&label.metadata).expect("metadata is JSON");
    LabelHash::new(label.key.id.as_str(), &metadata, place)
}

/// Labels with rows of different metadata, with the hash of the last row read.
#[derive(Debug, Default)]
pub(super) struct Conflicts(std::collections::HashMap<(AccountName, u64), Option<u64>>);

impl Conflicts {
    fn note(&mut self, account: &AccountName, name: u64) {
        if self.0.len() < MAX_CONFLICTS {
            self.0.insert((account.clone(), name), None);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a row has other metadata than the row of the same label before it.
    pub(super) fn contradicts(&mut self, label: &Registration) -> bool {
        let record = record_of(label, 0);
        let key = (label.key.account.clone(), record.name);
        let Some(last) = self.0.get_mut(&key) else { return false };
        last.replace(record.metadata()).is_some_and(|before| before != record.metadata())
    }
}

/// Faults; only the first ones of each place are kept.
#[derive(Default)]
pub(super) struct BoundedFaults {
    kept: Vec<Fault>,
    of_place: usize,
    total: usize,
}

impl BoundedFaults {
    pub(super) fn push(&mut self, fault: impl FnOnce() -> Fault) {
        self.total += 1;
        self.of_place += 1;
        if self.of_place <= SHOWN_PER_PLACE && self.kept.len() < MAX_SHOWN {
            self.kept.push(fault());
        }
    }

    /// Counts faults that are not kept.
    pub(super) fn count(&mut self, more: usize) {
        self.total += more;
        self.of_place += more;
    }

    /// Ends a place with the number of faults that were not kept.
    pub(super) fn close(&mut self, place: &str, of_what: &str) {
        if let Some(more @ 1..) = self.of_place.checked_sub(SHOWN_PER_PLACE) {
            self.kept.push(
                Fault::new(place, "", format!("{more} {of_what}")).hint("the faults above name the causes"),
            );
        }
        self.of_place = 0;
    }

    /// The faults that were kept, and the number of all.
    pub(super) fn finish(self) -> (Vec<Fault>, usize) {
        (self.kept, self.total)
    }
}
