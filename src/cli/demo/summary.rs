//! The end: what was counted, whether the promise was kept, where the database lies, what next.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::book::Book;
use super::folder::{CONFIG, DATABASE};
use super::stage::Stage;
use super::track::State;
use super::verdict::Verdict;

/// The object of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub parcels: usize,
    /// Requests that the sandbox got.
    pub polls: u64,
    /// Different carrier events that the receiver was told of.
    pub events: usize,
    /// Callbacks that the receiver accepted.
    pub callbacks: usize,
    /// How many of them were well signed.
    pub verified: usize,
    pub missed: usize,
    pub duplicated: usize,
    pub database: String,
    /// Whether the database is still there.
    pub kept: bool,
    pub out_of_order: usize,
    pub bad_signatures: usize,
    /// The API's answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// Callbacks that the receiver refused on purpose.
    pub refused: usize,
    pub seconds: f64,
    /// How many are in which state, in words.
    #[serde(skip)]
    ends: String,
    /// Why it is no success; null if it is one.
    pub failure: Option<String>,
}

impl Summary {
    pub fn new(stage: &Stage, book: &Book, verdict: &Verdict, seconds: f64, failure: Option<String>) -> Self {
        let counters = stage.sandbox.counters();
        Self {
            parcels: stage.plan.cast.len(),
            polls: counters.requests,
            events: book.events.len(),
            callbacks: book.callbacks,
            verified: book.verified,
            missed: verdict.missed.len(),
            duplicated: verdict.duplicated.len(),
            database: stage.folder.file(DATABASE).display().to_string(),
            kept: stage.folder.kept(),
            out_of_order: verdict.disordered.len(),
            bad_signatures: verdict.unsigned,
            answers: counters.by_status,
            refused: book.refused,
            seconds: (seconds * 10.0).round() / 10.0,
            ends: ends(book),
            failure,
        }
    }

    pub fn text(&self, stage: &Stage, verdict: &Verdict) -> String {
        let troubled: Vec<String> = self
            .answers
            .iter()
            .filter(|(status, _)| **status != 200)
            .map(|(status, count)| format!("{count} answered {status}"))
            .collect();
        let troubled = if troubled.is_empty() { String::new() } else { format!("  {}", troubled.join(", ")) };
        let refused = match self.refused {
            0 => String::new(),
            count => format!("  {count} more were refused with 500, and came again under their ids"),
        };
        let note = if self.kept { "" } else { "  (removed; --keep DIR keeps it)" };
        let mut text = String::new();
        let mut row = |name: &str, value: &dyn std::fmt::Display, note: &str| {
            // Writing into a text does not fail.
            let _ = writeln!(text, "  {name:<12}{value:>6}{note}");
        };
        row("parcels", &self.parcels, &self.ends);
        row("polls", &self.polls, &troubled);
        row("events", &self.events, "  carrier events found");
        row("callbacks", &self.callbacks, &refused);
        row("verified", &self.verified, "  signatures that hold");
        row("missed", &self.missed, "");
        row("duplicated", &self.duplicated, "");
        let _ = writeln!(text, "  database      {}{note}", self.database);
        text.push_str(&faults(verdict));
        text.push_str(&next(stage, self.kept));
        text
    }
}

fn next(stage: &Stage, kept: bool) -> String {
    if !kept {
        return "\nWhat next\n  trackpost demo --keep demo      keeps the database and the configuration\n  \
             trackpost check --config FILE   reads a configuration of your own, and says what would run\n  \
             trackpost run --config FILE     the daemon\n"
            .to_owned();
    }
    let config = stage.folder.file(CONFIG);
    let config = config.display();
    format!(
        "\nWhat next\n  less {config}\n  trackpost check --config {config}\n  \
         trackpost labels list --config {config}\n  trackpost history se-1 --config {config}\n"
    )
}

/// As in "  10 delivered, 2 collection point".
fn ends(book: &Book) -> String {
    let mut by_state: BTreeMap<State, usize> = BTreeMap::new();
    for page in book.pages.values() {
        *by_state.entry(page.state).or_default() += 1;
    }
    let counted: Vec<String> =
        by_state.iter().map(|(state, count)| format!("{count} {}", state.name())).collect();
    format!("  {}", counted.join(", "))
}

/// What went wrong, the first of each kind.
fn faults(verdict: &Verdict) -> String {
    const SHOWN: usize = 5;
    let mut text = String::new();
    for (kind, faults) in [
        ("missed", &verdict.missed),
        ("duplicated", &verdict.duplicated),
        ("out of order", &verdict.disordered),
    ] {
        for fault in faults.iter().take(SHOWN) {
            let _ = writeln!(text, "  {kind}: {fault}");
        }
        if faults.len() > SHOWN {
            let _ = writeln!(text, "  {kind}: … and {} more", faults.len() - SHOWN);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_shown_by_kind_and_not_all() {
        let verdict = Verdict {
            missed: (0..7).map(|number| format!("m{number}")).collect(),
            duplicated: vec!["d".to_owned()],
            ..Verdict::default()
        };
        let text = faults(&verdict);
        assert_eq!(text.lines().count(), 7);
        assert!(text.contains("  missed: … and 2 more\n  duplicated: d\n"), "{text}");
    }
}
