//! Progress of long work on stderr: a bar on a terminal, else a line every few seconds.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::output;
use crate::clock::Stopwatch;

/// Interval between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// The unit of the count.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Bytes,
    Items(&'static str),
}

/// Progress of one piece of work. The bar disappears when this is dropped.
#[derive(Debug)]
pub struct Progress {
    name: String,
    unit: Unit,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    printed_at: Stopwatch,
}

impl Progress {
    pub fn new(name: impl Into<String>, unit: Unit, total: Option<u64>) -> Self {
        let name = name.into();
        let bar = std::io::stderr().is_terminal().then(|| bar(&name, unit, total));
        Self { name, unit, total, bar, printed_at: Stopwatch::start() }
    }

    /// Shows that `done` is done.
    pub fn set(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.printed_at.elapsed() >= LINE_INTERVAL {
            self.printed_at = Stopwatch::start();
            output::print_error(self.line(done));
        }
    }

    fn line(&self, done: u64) -> String {
        let counted = |count| match self.unit {
            Unit::Bytes => HumanBytes(count).to_string(),
            Unit::Items(_) => HumanCount(count).to_string(),
        };
        let of = self.total.map(|total| format!(" of {}", counted(total))).unwrap_or_default();
        let noun = match self.unit {
            Unit::Bytes => String::new(),
            Unit::Items(noun) => format!(" {noun}"),
        };
        format!("{}: {}{of}{noun}", self.name, counted(done))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, unit: Unit, total: Option<u64>) -> ProgressBar {
    let counted = match (unit, total) {
        (Unit::Bytes, Some(_)) => "{bar:30} {bytes} of {total_bytes}, {eta} left".to_owned(),
        (Unit::Bytes, None) => "{spinner} {bytes}".to_owned(),
        (Unit::Items(noun), Some(_)) => {
            format!("{{bar:30}} {{human_pos}} of {{human_len}} {noun}, {{eta}} left")
        }
        (Unit::Items(noun), None) => format!("{{spinner}} {{human_pos}} {noun}, {{per_sec}}"),
    };
    let style = ProgressStyle::with_template(&format!("{{msg}}: {counted}"));
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_count_and_unit() {
        let rows = Progress::new("labels add", Unit::Items("rows"), None);
        assert_eq!(rows.line(12_000), "labels add: 12,000 rows");
        let bytes = Progress::new("backup", Unit::Bytes, Some(4096));
        assert_eq!(bytes.line(1536), "backup: 1.50 KiB of 4.00 KiB");
    }
}
