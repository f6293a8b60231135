//! The set of all configured labels: keeps each label in 16 bytes.
//!
//! A hash of the id and a hash of the metadata show whether the registry has the label as configured. A million labels
//! take 16 MB while they are compared; none of them is kept as text.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};

use super::unchecked_row::account_index;
use crate::domain::label::{AccountName, Registration};

/// The most labels with contradicting rows that are read again to name those rows.
const MAX_CONFLICTS: usize = 1_000;

/// Number of the file of a label, from 1 on; 0 for the configuration itself.
pub type FileNumber = u32;

/// Bits of `LabelHash::metadata_and_file` for the number of the file; the others are the hash of the metadata.
const FILE_BITS: u32 = 20;
/// The most label files.
pub(super) const MAX_FILES: usize = (1 << FILE_BITS) - 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LabelHash {
    id_hash: u64,
    metadata_and_file: u64,
}

impl LabelHash {
    fn new(label_id: &str, metadata: &str, file_number: FileNumber) -> Self {
        let mask = (1 << FILE_BITS) - 1;
        let metadata_and_file = hash(metadata) & !mask | u64::from(file_number) & mask;
        Self { id_hash: hash(label_id), metadata_and_file }
    }

    fn of(label: &Registration, file_number: FileNumber) -> Self {
        if label.metadata.is_empty() {
            return Self::new(label.key.id.as_str(), "{}", file_number);
        }
        let metadata = serde_json::to_string(&label.metadata).expect("metadata is JSON");
        Self::new(label.key.id.as_str(), &metadata, file_number)
    }

    fn metadata(self) -> u64 {
        self.metadata_and_file >> FILE_BITS
    }
}

fn hash(text: &str) -> u64 {
    // Only compared within a process.
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// The distance of most records from their expected index.
const NEAR: usize = 32;

/// How a label of the registry compares to the label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The label set has it with the same metadata and file.
    Same,
    /// The label set has it with other metadata or another file.
    Changed,
    /// The label set does not have it.
    Unknown,
}

/// All labels of the rows, by account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSet {
    accounts: Vec<AccountName>,
    /// In the order of `accounts`.
    by_account: Vec<AccountLabels>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct AccountLabels {
    /// Sorted by the hash of the id once the label set is sealed.
    records: Vec<LabelHash>,
    /// A bit for each record: set if the registry does not have the label like this.
    wanted: Vec<u64>,
}

impl AccountLabels {
    /// The hashes are evenly spread, so the value of a hash gives its approximate index. A binary search over all of
    /// them would miss the cache at most of its steps.
    fn find(&self, id_hash: u64) -> Option<usize> {
        let (records, last) = (&self.records, self.records.len().checked_sub(1)?);
        let index_of = |hash: u64| ((u128::from(hash) * records.len() as u128) >> 64) as usize;
        let mut index = index_of(id_hash).min(last);
        for _ in 0..2 {
            let off = index_of(records[index].id_hash.abs_diff(id_hash));
            index = if records[index].id_hash < id_hash {
                (index + off).min(last)
            } else {
                index.saturating_sub(off)
            };
        }
        for _ in 0..NEAR {
            match records[index].id_hash.cmp(&id_hash) {
                Ordering::Equal => return Some(index),
                Ordering::Less if index < last && records[index + 1].id_hash <= id_hash => index += 1,
                Ordering::Greater if index > 0 && records[index - 1].id_hash >= id_hash => index -= 1,
                _ => return None,
            }
        }
        records.binary_search_by_key(&id_hash, |record| record.id_hash).ok()
    }

    fn is_wanted(&self, index: usize) -> bool {
        self.wanted[index / 64] >> (index % 64) & 1 == 1
    }

    fn clear_wanted(&mut self, index: usize) {
        self.wanted[index / 64] &= !(1 << (index % 64));
    }
}

impl LabelSet {
    /// An empty label set for labels of `accounts`, which are in order.
    pub(super) fn new(accounts: &[AccountName]) -> Self {
        let by_account = vec![AccountLabels::default(); accounts.len()];
        Self { accounts: accounts.to_vec(), by_account }
    }

    fn account_labels(&mut self, account: &str) -> Option<&mut AccountLabels> {
        account_index(&self.accounts, account).map(|index| &mut self.by_account[index])
    }

    pub(super) fn add(&mut self, label: &Registration, file_number: FileNumber) {
        let record = LabelHash::of(label, file_number);
        if let Some(labels) = self.account_labels(label.key.account.as_str()) {
            labels.records.push(record);
        }
    }

    /// The number of labels of each account, for [`LabelSet::truncate`].
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.by_account.iter().map(|labels| labels.records.len()).collect()
    }

    /// Drops the labels that were added after [`LabelSet::lengths`].
    pub(super) fn truncate(&mut self, lengths: &[usize]) {
        for (labels, length) in self.by_account.iter_mut().zip(lengths) {
            labels.records.truncate(*length);
        }
    }

    /// Keeps the last row of each label and marks all labels as wanted. Returns the rows with other metadata than the
    /// row before.
    pub(super) fn seal(&mut self) -> Conflicts {
        let mut conflicts = Conflicts::default();
        for (account, labels) in self.accounts.iter().zip(&mut self.by_account) {
            labels.records.sort_by_key(|record| record.id_hash);
            let mut kept = 0;
            for index in 0..labels.records.len() {
                let record = labels.records[index];
                if kept > 0 && labels.records[kept - 1].id_hash == record.id_hash {
                    if labels.records[kept - 1].metadata() != record.metadata() {
                        conflicts.note(account, record.id_hash);
                    }
                    kept -= 1;
                }
                labels.records[kept] = record;
                kept += 1;
            }
            labels.records.truncate(kept);
            labels.wanted = vec![u64::MAX; kept.div_ceil(64)];
        }
        conflicts
    }

    /// The number of labels of an account.
    pub fn labels_of(&self, account: &AccountName) -> usize {
        account_index(&self.accounts, account.as_str())
            .map_or(0, |index| self.by_account[index].records.len())
    }

    /// The number of labels.
    pub fn labels(&self) -> usize {
        self.by_account.iter().map(|labels| labels.records.len()).sum()
    }

    /// Compares a label of the registry with the label set; `file_number` is `None` for a file that was not read. An
    /// equal label is no longer wanted.
    pub fn compare(
        &mut self,
        account: &str,
        label_id: &str,
        metadata: &str,
        file_number: Option<FileNumber>,
    ) -> Comparison {
        let Some(labels) = self.account_labels(account) else { return Comparison::Unknown };
        let record = LabelHash::new(label_id, metadata, file_number.unwrap_or(FileNumber::MAX));
        let Some(index) = labels.find(record.id_hash) else { return Comparison::Unknown };
        if labels.records[index] != record {
            return Comparison::Changed;
        }
        labels.clear_wanted(index);
        Comparison::Same
    }

    /// Drops all labels that are not wanted. Returns the number of the others.
    pub fn keep_wanted(&mut self) -> usize {
        for labels in &mut self.by_account {
            let records = std::mem::take(&mut labels.records).into_iter().enumerate();
            let mut kept: Vec<LabelHash> =
                records.filter(|(index, _)| labels.is_wanted(*index)).map(|(_, record)| record).collect();
            kept.shrink_to_fit();
            *labels = AccountLabels { wanted: vec![u64::MAX; kept.len().div_ceil(64)], records: kept };
        }
        self.labels()
    }

    /// Whether this is the valid row of a wanted label. Marks the label as not wanted.
    pub(super) fn take(&mut self, label: &Registration, file_number: FileNumber) -> bool {
        let Some(labels) = self.account_labels(label.key.account.as_str()) else { return false };
        // Most labels are not wanted; their metadata need not be hashed.
        let Some(index) = labels.find(hash(label.key.id.as_str())).filter(|index| labels.is_wanted(*index))
        else {
            return false;
        };
        let taken = labels.records[index] == LabelHash::of(label, file_number);
        if taken {
            labels.clear_wanted(index);
        }
        taken
    }
}

/// Rows with other metadata than an earlier row of the same label.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    /// The number of these rows.
    pub(super) total: usize,
    /// The first labels of these rows, each with the hash of the metadata that was read last.
    labels: HashMap<(AccountName, u64), Option<u64>>,
}

impl Conflicts {
    fn note(&mut self, account: &AccountName, id_hash: u64) {
        self.total += 1;
        if self.labels.len() < MAX_CONFLICTS {
            self.labels.insert((account.clone(), id_hash), None);
        }
    }

    /// Whether a row has other metadata than the row of the same label before it.
    pub(super) fn contradicts(&mut self, label: &Registration) -> bool {
        let record = LabelHash::of(label, 0);
        let key = (label.key.account.clone(), record.id_hash);
        let Some(last) = self.labels.get_mut(&key) else { return false };
        last.replace(record.metadata()).is_some_and(|before| before != record.metadata())
    }
}
