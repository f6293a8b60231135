//! The live view: a line per parcel, redrawn in place on a terminal; a line per change elsewhere; nothing with `--json`.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::output::{OutputError, try_print};
use super::parcel_state::ParcelState;
use super::plan::{DemoParcel, DemoPlan};
use super::settings::EVERYTHING;
use crate::sandbox::Carrier;
use crate::sandbox::ledger::{Accepted, LedgerLabel};

/// Maximum number of parcels with a line of their own on a terminal; the rest share one.
const LINES: usize = 16;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

#[derive(Debug)]
pub struct Screen {
    mode: Mode,
    /// Number of printed events of each parcel, and its state after them.
    printed: Vec<(usize, ParcelState)>,
}

#[derive(Debug)]
enum Mode {
    Live(Live),
    Lines,
    Silent,
}

/// A block of lines on a terminal.
#[derive(Debug)]
struct Live {
    colours: bool,
    /// Parcels from the top, the rest of them, an empty line, the latest note.
    lines: Vec<ProgressBar>,
}

impl Screen {
    pub fn new(json: bool, plan: &DemoPlan) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let mode = match json {
            true => Mode::Silent,
            false if io::stdout().is_terminal() && !dumb => Mode::Live(Live::new(plan.parcels.len())),
            false => Mode::Lines,
        };
        Self { mode, printed: vec![(0, ParcelState::default()); plan.parcels.len()] }
    }

    /// Prints text below the live view, and ends it.
    pub fn print(&mut self, text: &str) -> Result<(), OutputError> {
        match &self.mode {
            Mode::Silent => return Ok(()),
            Mode::Live(live) => live.lines.iter().for_each(ProgressBar::abandon),
            Mode::Lines => {}
        }
        try_print(&format!("{text}\n"))
    }

    /// Prints a line about the whole demo.
    pub fn note(&mut self, passed: Duration, text: &str) -> Result<(), OutputError> {
        let line = format!("{:5.1} s  {text}", passed.as_secs_f64());
        match &self.mode {
            Mode::Live(live) => {
                if let Some(last) = live.lines.last() {
                    last.set_message(line);
                }
                Ok(())
            }
            Mode::Lines => try_print(&format!("{line}\n")),
            Mode::Silent => Ok(()),
        }
    }

    /// Draws each parcel as the subscriber knows it now.
    pub fn draw(
        &mut self,
        plan: &DemoPlan,
        accepted: &Accepted,
        passed: Duration,
    ) -> Result<(), OutputError> {
        match &self.mode {
            Mode::Live(live) => live.draw(plan, accepted),
            Mode::Lines => {
                let changes = self.changes(plan, accepted, passed);
                if !changes.is_empty() {
                    try_print(&changes)?;
                }
            }
            Mode::Silent => {}
        }
        Ok(())
    }

    /// Returns a line for each change of state that is not printed yet.
    fn changes(&mut self, plan: &DemoPlan, accepted: &Accepted, passed: Duration) -> String {
        let mut text = String::new();
        for (parcel, (printed, state)) in plan.parcels.iter().zip(&mut self.printed) {
            let Some(view) = accepted.label(EVERYTHING, parcel.label.as_str()) else { continue };
            for event in view.added_ids.iter().skip(*printed).filter_map(|id| view.events.get(id)) {
                let Some(after) = ParcelState::of_event(event).filter(|after| after != state) else {
                    continue;
                };
                *state = after;
                let description = event["description"].as_str().unwrap_or_default();
                let (seconds, label) = (passed.as_secs_f64(), parcel.label.as_str());
                text.push_str(&format!("{seconds:5.1} s  {label:<8} {:<16}  {description}\n", after.name()));
            }
            *printed = view.added_ids.len();
        }
        text
    }
}

impl Live {
    fn new(parcels: usize) -> Self {
        let block = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("{wide_msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        let line = |_| block.add(ProgressBar::new_spinner().with_style(style.clone()));
        let lines = (0..parcels.min(LINES + 1) + 2).map(line).collect();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: !no_color, lines }
    }

    fn draw(&self, plan: &DemoPlan, accepted: &Accepted) {
        let view = |parcel: &DemoParcel| accepted.label(EVERYTHING, parcel.label.as_str());
        for (bar, parcel) in self.lines.iter().zip(plan.parcels.iter().take(LINES)) {
            let (text, state) = line(parcel, view(parcel));
            bar.set_message(if self.colours { coloured(text, state) } else { text });
        }
        if let Some((_, rest)) = plan.parcels.split_at_checked(LINES).filter(|(_, rest)| !rest.is_empty()) {
            let arrived =
                rest.iter().filter(|parcel| view(parcel).is_some_and(|view| ParcelState::of(view).is_end()));
            let text = format!("… and {} more, {} of them arrived", rest.len(), arrived.count());
            self.lines[LINES].set_message(text);
        }
    }
}

fn coloured(line: String, state: ParcelState) -> String {
    match state {
        state if state.is_end() => format!("{GREEN}{line}{PLAIN}"),
        state if state.is_trouble() => format!("{YELLOW}{line}{PLAIN}"),
        _ => line,
    }
}

fn line(parcel: &DemoParcel, view: Option<&LedgerLabel>) -> (String, ParcelState) {
    let state = view.map(ParcelState::of).unwrap_or_default();
    let newest = view.and_then(|view| view.events.get(view.added_ids.last()?));
    let description: String =
        newest.and_then(|event| event["description"].as_str()).unwrap_or_default().chars().take(20).collect();
    let line = format!(
        "{:<7} {:<5}  {}  {:<16}  {description:<20}  {:>3} callbacks",
        parcel.label.as_str(),
        carrier(parcel.carrier),
        state.dots(),
        state.name(),
        view.map_or(0, |view| view.callbacks)
    );
    (line, state)
}

fn carrier(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::Ups => "UPS",
        Carrier::Fedex => "FedEx",
        Carrier::Usps => "USPS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::JourneyKind;

    #[test]
    fn a_line_fits_into_80_columns() {
        let parcel = DemoParcel {
            label: "se-2000".parse().unwrap(),
            journey: JourneyKind::CollectionPoint,
            carrier: Carrier::Fedex,
        };
        let event = serde_json::json!({
            "status_code": "SP", "description": "Delivered to UPS Access Point, awaiting customer pickup",
        });
        let mut view = LedgerLabel::default();
        view.events.insert("evt_1".to_owned(), event);
        view.added_ids.push("evt_1".to_owned());
        view.callbacks += 199;
        let (line, state) = line(&parcel, Some(&view));
        assert_eq!(line, "se-2000 FedEx  ● ● ● ● ✓  collection point  Delivered to UPS Acc  199 callbacks");
        assert!(line.chars().count() < 80 && state.is_end());
    }
}
