//! The summary: counts, violations, the place of the database, and the next commands.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::directory::{CONFIG, DATABASE};
use super::parcel_state::ParcelState;
use super::settings::EVERYTHING;
use super::start::DemoHandles;
use crate::sandbox::ledger::{Accepted, Violation, ViolationKind};

/// The object of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct DemoSummary {
    pub parcels: usize,
    /// Polls that the sandbox received.
    pub polls: u64,
    /// Distinct carrier events that the receiver got.
    pub events: usize,
    /// Callbacks that the receiver accepted.
    pub callbacks: usize,
    /// Number of them with a valid signature.
    pub verified: usize,
    pub missed: usize,
    pub duplicated: usize,
    pub invented: usize,
    pub database: String,
    /// Whether the database is kept.
    pub kept: bool,
    pub out_of_order: usize,
    pub bad_signatures: usize,
    /// The API's answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// Callbacks that the receiver refused on purpose.
    pub refused: usize,
    pub seconds: f64,
    /// Number of parcels in each final state, in words.
    #[serde(skip)]
    ends: String,
    /// Reason of the failure; null on success.
    pub failure: Option<String>,
}

impl DemoSummary {
    pub fn new(handles: &DemoHandles, found: &[Violation], seconds: f64, failure: Option<String>) -> Self {
        let polls = handles.plan.parcels.iter();
        let polls = polls.map(|parcel| handles.sandbox.requests_of(parcel.label.as_str()));
        let accepted = handles.receiver.accepted();
        let counts = accepted.counts();
        let of = |kind| found.iter().filter(|violation| violation.kind == kind).count();
        Self {
            parcels: handles.plan.parcels.len(),
            polls: polls.sum(),
            events: accepted.events_of(EVERYTHING),
            callbacks: counts.accepted,
            verified: counts.verified,
            missed: of(ViolationKind::Missed),
            duplicated: of(ViolationKind::Duplicated) + of(ViolationKind::Rewritten),
            invented: of(ViolationKind::Invented),
            database: handles.directory.file(DATABASE).display().to_string(),
            kept: handles.directory.kept(),
            out_of_order: of(ViolationKind::Reordered),
            bad_signatures: counts.bad_signatures,
            answers: handles.sandbox.counters().by_status,
            refused: counts.refused,
            seconds: (seconds * 10.0).round() / 10.0,
            ends: ends(&accepted),
            failure,
        }
    }

    pub fn text(&self, handles: &DemoHandles, found: &[Violation]) -> String {
        let not_ok: Vec<String> = self
            .answers
            .iter()
            .filter(|(status, _)| **status != 200)
            .map(|(status, count)| format!("{count} × {status}"))
            .collect();
        let not_ok = if not_ok.is_empty() { String::new() } else { format!("  {}", not_ok.join(", ")) };
        let refused = match self.refused {
            0 => String::new(),
            count => format!("  {count} more attempts were answered 500 and repeated with the same ids"),
        };
        let note = if self.kept { "" } else { "  (removed; --keep DIR keeps it)" };
        let mut text = String::new();
        let mut row = |name: &str, value: &dyn std::fmt::Display, note: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<12}{value:>6}{note}");
        };
        row("parcels", &self.parcels, &self.ends);
        row("polls", &self.polls, &not_ok);
        row("events", &self.events, "  distinct carrier events received");
        row("callbacks", &self.callbacks, &refused);
        row("verified", &self.verified, "  valid signatures");
        row("missed", &self.missed, "  events or messages that did not arrive");
        row("duplicated", &self.duplicated, "  events or messages with a second id or body");
        row("invented", &self.invented, "  events or messages that the API or the database does not have");
        let _ = writeln!(text, "  database      {}{note}", self.database);
        text.push_str(&violation_lines(found));
        text.push_str(&next(handles, self.kept));
        text
    }
}

fn next(handles: &DemoHandles, kept: bool) -> String {
    if !kept {
        return "\nNext steps\n  trackpost demo --keep demo      keeps the database and the configuration\n  \
             trackpost check --config FILE   checks your own configuration and prints a forecast\n  \
             trackpost run --config FILE     runs the daemon\n"
            .to_owned();
    }
    let config = handles.directory.file(CONFIG);
    let config = config.display();
    format!(
        "\nNext steps\n  less {config}\n  trackpost check --config {config}\n  \
         trackpost labels list --config {config}\n  trackpost history se-1 --config {config}\n"
    )
}

/// As in "  10 delivered, 2 collection point".
fn ends(accepted: &Accepted) -> String {
    let mut by_state: BTreeMap<ParcelState, usize> = BTreeMap::new();
    for view in accepted.labels(EVERYTHING) {
        *by_state.entry(ParcelState::of(view)).or_default() += 1;
    }
    let counted: Vec<String> =
        by_state.iter().map(|(state, count)| format!("{count} {}", state.name())).collect();
    format!("  {}", counted.join(", "))
}

/// Returns the violations, the first of each kind.
fn violation_lines(found: &[Violation]) -> String {
    const SHOWN: usize = 5;
    let mut by_kind: BTreeMap<ViolationKind, Vec<&Violation>> = BTreeMap::new();
    for violation in found {
        by_kind.entry(violation.kind).or_default().push(violation);
    }
    let mut text = String::new();
    for (kind, violations) in by_kind {
        let kind = kind.as_str();
        for violation in violations.iter().take(SHOWN) {
            let _ = writeln!(text, "  {kind}: {violation}");
        }
        if violations.len() > SHOWN {
            let _ = writeln!(text, "  {kind}: … and {} more", violations.len() - SHOWN);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_printed_by_kind_up_to_a_limit() {
        let violation = |kind, text: String| Violation { kind, label: None, text };
        let mut found: Vec<Violation> =
            (0..7).map(|number| violation(ViolationKind::Missed, format!("m{number}"))).collect();
        found.push(violation(ViolationKind::Duplicated, "d".to_owned()));
        let text = violation_lines(&found);
        assert_eq!(text.lines().count(), 7);
        assert!(text.contains("  missed: … and 2 more\n  duplicated: d\n"), "{text}");
    }
}
