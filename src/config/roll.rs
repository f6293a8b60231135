//! The roll of labels: checks every row, and holds each label once.
//!
//! Inline labels and all files end here. The same label twice is one label; where its metadata differ, the later wins
//! and a warning says so. What is wrong is kept for the first rows of a place only, and counted for the rest: a file
//! with a million wrong rows must not make a million faults.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::fault::{Fault, nearest};
use super::rows::{Draft, Slip};
use crate::domain::label::{AccountName, LabelKey, Registration, Source};

/// So many faults, and so many warnings, are kept of one place.
pub const SHOWN_PER_PLACE: usize = 100;

/// What came of reading rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Each label once, in the order in which they came.
    pub labels: Vec<Registration>,
    /// Rows left out; of each place the first [`SHOWN_PER_PLACE`], then one that counts the rest.
    pub faults: Vec<Fault>,
    /// How many rows were left out in all.
    pub fault_count: usize,
    /// Labels that were there before with other metadata; bounded like `faults`.
    pub warnings: Vec<Fault>,
}

/// Where a row stands.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) place: &'a str,
    /// The key of a list in the configuration; `None` for rows of a file.
    pub(super) list: Option<&'a str>,
    /// From 1 on.
    pub(super) row: u64,
}

impl At<'_> {
    pub(super) fn fault(self, slip: Slip) -> Fault {
        let key = match self.list {
            Some(list) => format!("{list}, row {}", self.row),
            None => format!("row {}", self.row),
        };
        let mut fault = Fault::new(self.place, key, slip.problem);
        fault.hint = slip.hint;
        match slip.value {
            Some(value) => fault.value(&value),
            None => fault,
        }
    }
}

pub(super) struct Roll<'a> {
    accounts: &'a [AccountName],
    labels: Vec<Registration>,
    seen: HashMap<LabelKey, usize>,
    faults: Bounded,
    warnings: Bounded,
}

impl<'a> Roll<'a> {
    /// An empty roll for labels of `accounts`.
    pub(super) fn new(accounts: &'a [AccountName]) -> Self {
        Self {
            accounts,
            labels: Vec::new(),
            seen: HashMap::new(),
            faults: Bounded::default(),
            warnings: Bounded::default(),
        }
    }

    pub(super) fn add(&mut self, at: At<'_>, source: Source, draft: Result<Draft, Slip>) {
        match draft.and_then(|draft| check(self.accounts, draft, source)) {
            Ok(label) => self.enter(at, label),
            Err(slip) => self.faults.push(at.fault(slip)),
        }
    }

    /// Ends a place: what was not kept of it is summed up.
    pub(super) fn close(&mut self, place: &str) {
        self.faults.close(place, "more rows are wrong and left out");
        self.warnings.close(place, "more rows name a label again, with other metadata");
    }

    pub(super) fn finish(self) -> Rows {
        Rows {
            labels: self.labels,
            fault_count: self.faults.total,
            faults: self.faults.kept,
            warnings: self.warnings.kept,
        }
    }

    fn enter(&mut self, at: At<'_>, label: Registration) {
        match self.seen.entry(label.key.clone()) {
            Entry::Vacant(free) => {
                free.insert(self.labels.len());
                self.labels.push(label);
            }
            Entry::Occupied(taken) => {
                let earlier = &mut self.labels[*taken.get()];
                if earlier.metadata != label.metadata {
                    let problem = "was there before with other metadata: these hold".to_owned();
                    self.warnings.push(at.fault(Slip::new(problem)).value(label.key.id.as_str()));
                    *earlier = label;
                }
            }
        }
    }
}

/// A row's label, if `accounts` know its account and its id is one.
pub(super) fn check(accounts: &[AccountName], draft: Draft, source: Source) -> Result<Registration, Slip> {
    let id = draft.id.parse().map_err(|error| Slip {
        value: Some(draft.id.clone()),
        problem: format!("is no label id: {error}"),
        hint: None,
    })?;
    // Whatever is wrong with the account, the row is found by its id.
    let named = |slip: Slip| match slip.value {
        Some(_) => Slip { problem: format!("{} (label {})", slip.problem, draft.id), ..slip },
        None => Slip { value: Some(draft.id.clone()), ..slip },
    };
    let account = account(accounts, draft.account.clone()).map_err(named)?;
    Ok(Registration { key: LabelKey { account, id }, metadata: draft.metadata, source })
}

fn account(accounts: &[AccountName], named: Option<String>) -> Result<AccountName, Slip> {
    match (named, accounts) {
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(Slip::new("belongs to no account: none is configured")),
        (None, _) => Err(Slip {
            hint: Some("with several accounts each label names its own".to_owned()),
            ..Slip::new("names no account")
        }),
        (Some(name), accounts) => {
            let found = accounts.iter().find(|account| account.as_str() == name).cloned();
            found.ok_or_else(|| Slip {
                hint: nearest(&name, accounts.iter().map(AccountName::as_str))
                    .map(|meant| format!("did you mean \"{meant}\"?")),
                value: Some(name),
                problem: "is no account of this configuration".to_owned(),
            })
        }
    }
}

/// Faults, of which each place keeps the first.
#[derive(Default)]
struct Bounded {
    kept: Vec<Fault>,
    of_place: usize,
    total: usize,
}

impl Bounded {
    fn push(&mut self, fault: Fault) {
        self.total += 1;
        self.of_place += 1;
        if self.of_place <= SHOWN_PER_PLACE {
            self.kept.push(fault);
        }
    }

    fn close(&mut self, place: &str, of_what: &str) {
        if let Some(more @ 1..) = self.of_place.checked_sub(SHOWN_PER_PLACE) {
            self.kept.push(Fault::new(place, "", format!("{more} {of_what}")));
        }
        self.of_place = 0;
    }
}
