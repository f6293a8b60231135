//! The picture: a line per parcel, redrawn in place on a terminal; a line per change elsewhere; nothing with `--json`.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use super::super::output::{OutputError, try_print};
use super::book::{Book, News, Page};
use super::plan::{Cast, Plan};
use super::track::State;
use crate::sandbox::Carrier;

/// So many parcels have a line of their own on a terminal; the rest share one.
const LINES: usize = 16;
/// Lines are cut here, lest one wraps and spoils the picture.
const WIDTH: usize = 79;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Live { colours: bool },
    Lines,
    Silent,
}

#[derive(Debug)]
pub struct Screen {
    mode: Mode,
    /// Lines of the last picture, which the next one covers.
    drawn: usize,
    note: String,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let mode = match json {
            true => Mode::Silent,
            false if io::stdout().is_terminal() && !dumb => Mode::Live { colours: !set("NO_COLOR") },
            false => Mode::Lines,
        };
        Self { mode, drawn: 0, note: String::new() }
    }

    /// Text as it is, under what was drawn.
    pub fn say(&mut self, text: &str) -> Result<(), OutputError> {
        if self.mode == Mode::Silent {
            return Ok(());
        }
        self.drawn = 0;
        try_print(&format!("{text}\n"))
    }

    /// A line about the whole.
    pub fn note(&mut self, passed: Duration, text: &str) -> Result<(), OutputError> {
        self.note = format!("{:5.1} s  {text}", passed.as_secs_f64());
        if self.mode == Mode::Lines {
            try_print(&format!("{}\n", self.note))?;
        }
        Ok(())
    }

    /// A parcel's state changed.
    pub fn news(&mut self, passed: Duration, news: &News) -> Result<(), OutputError> {
        if self.mode == Mode::Lines {
            let News { label, state, says } = news;
            let line = format!("{:5.1} s  {label:<8} {:<16}  {says}", passed.as_secs_f64(), state.name());
            try_print(&format!("{line}\n"))?;
        }
        Ok(())
    }

    /// The picture as it is now.
    pub fn draw(&mut self, plan: &Plan, book: &Book) -> Result<(), OutputError> {
        let Mode::Live { colours } = self.mode else { return Ok(()) };
        let mut lines: Vec<(String, State)> = Vec::new();
        for cast in plan.cast.iter().take(LINES) {
            let page = book.pages.get(cast.label.as_str());
            lines.push((line(cast, page), page.map_or(State::Unseen, |page| page.state)));
        }
        if plan.cast.len() > LINES {
            lines.push((rest(&plan.cast[LINES..], book), State::Unseen));
        }
        lines.push((String::new(), State::Unseen));
        lines.push((self.note.clone(), State::Unseen));
        let mut picture = String::new();
        if self.drawn > 0 {
            picture.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for (line, state) in &lines {
            let cut: String = line.chars().take(WIDTH).collect();
            let (before, after) = if colours { colour(*state) } else { ("", "") };
            picture.push_str(&format!("\r\x1b[2K{before}{cut}{after}\n"));
        }
        self.drawn = lines.len();
        try_print(&picture)
    }
}

fn colour(state: State) -> (&'static str, &'static str) {
    match state {
        state if state.is_end() => (GREEN, PLAIN),
        state if state.is_trouble() => (YELLOW, PLAIN),
        _ => ("", ""),
    }
}

fn line(cast: &Cast, page: Option<&Page>) -> String {
    let blank = Page::default();
    let page = page.unwrap_or(&blank);
    let says: String = page.says.chars().take(22).collect();
    format!(
        "{:<7} {:<5}  {}  {:<16}  {says:<22}  {:>3} posts",
        cast.label.as_str(),
        carrier(cast.carrier),
        page.state.dots(),
        page.state.name(),
        page.callbacks
    )
}

fn rest(cast: &[Cast], book: &Book) -> String {
    let arrived = |cast: &&Cast| book.pages.get(cast.label.as_str()).is_some_and(|page| page.state.is_end());
    format!("… and {} more, {} of them arrived", cast.len(), cast.iter().filter(arrived).count())
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
    use crate::sandbox::Journey;

    #[test]
    fn a_line_fits_into_80_columns() {
        let cast = Cast {
            label: "se-2000".parse().unwrap(),
            journey: Journey::CollectionPoint,
            carrier: Carrier::Fedex,
        };
        let page = Page {
            state: State::CollectionPoint,
            says: "Delivered to UPS Access Point, awaiting customer pickup".to_owned(),
            callbacks: 199,
            ..Page::default()
        };
        let line = line(&cast, Some(&page));
        assert_eq!(line, "se-2000 FedEx  ● ● ● ● ✓  collection point  Delivered to UPS Acces  199 posts");
        assert!(line.chars().count() <= WIDTH);
    }
}
