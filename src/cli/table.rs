//! Tables, at most as wide as the terminal. Words are never cut, so ids and URLs stay whole.
//!
//! If a table is too wide, cells wrap at spaces; then the least important columns are left out; if that is not enough,
//! each row is printed as a block of fields. Without a terminal a row is always one line.

use std::io::IsTerminal as _;

use console::measure_text_width as width_of;
use jiff::Timestamp;

use super::output;

/// Spaces between two columns.
const GAP: usize = 2;

/// Prints a table. `least` names the columns to leave out where the terminal is too narrow, in this order.
pub fn print<const N: usize>(
    heading: [&'static str; N],
    least: &'static [&'static str],
    rows: &[[String; N]],
) {
    Table::new(heading, least).page(rows);
}

/// An instant in a cell, with a space to wrap at; or a dash.
pub fn instant_cell(at: impl Into<Option<Timestamp>>) -> String {
    output::instant_or_dash(at.into()).replace('T', " ")
}

/// A table that is printed page by page. The first page determines the layout.
#[derive(Debug)]
pub struct Table<const N: usize> {
    heading: [&'static str; N],
    least: &'static [&'static str],
    layout: Option<TableLayout>,
}

#[derive(Debug, PartialEq, Eq)]
enum TableLayout {
    /// The columns that are printed, with their widths.
    Columns(Vec<(usize, usize)>),
    /// A block of fields per row.
    Blocks,
}

impl<const N: usize> Table<N> {
    pub fn new(heading: [&'static str; N], least: &'static [&'static str]) -> Self {
        Self { heading, least, layout: None }
    }

    /// Prints rows, with the heading before the first ones.
    pub fn page(&mut self, rows: &[[String; N]]) {
        output::print(&self.text(rows, terminal_width()));
    }

    fn text(&mut self, rows: &[[String; N]], limit: Option<usize>) -> String {
        let rows: Vec<[String; N]> =
            rows.iter().map(|row| row.each_ref().map(|cell| output::plain(cell))).collect();
        let heading = self.heading.map(str::to_owned);
        let first = self.layout.is_none();
        let (names, least) = (&self.heading, self.least);
        let layout = self.layout.get_or_insert_with(|| {
            let all: Vec<&[String; N]> = std::iter::once(&heading).chain(&rows).collect();
            TableLayout::of(&all, names, least, limit)
        });
        match layout {
            TableLayout::Columns(columns) => {
                let heading = first.then(|| line(&heading, columns));
                heading.into_iter().chain(rows.iter().map(|row| line(row, columns))).collect()
            }
            TableLayout::Blocks => rows.iter().map(|row| block(&self.heading, row)).collect(),
        }
    }
}

impl TableLayout {
    fn of<const N: usize>(
        rows: &[&[String; N]],
        names: &[&str; N],
        least: &[&str],
        limit: Option<usize>,
    ) -> Self {
        let widest = |column: usize, width: &dyn Fn(&str) -> usize| {
            rows.iter().map(|row| width(&row[column])).max().unwrap_or(0)
        };
        let longest_word = |cell: &str| cell.split(' ').map(width_of).max().unwrap_or(0);
        let mut columns: Vec<(usize, usize)> =
            (0..N).map(|column| (column, widest(column, &width_of))).collect();
        let Some(limit) = limit else { return Self::Columns(columns) };
        let narrowest: Vec<usize> = (0..N).map(|column| widest(column, &longest_word)).collect();
        let gaps = |columns: &[(usize, usize)]| GAP * columns.len().saturating_sub(1);
        let least_width = |columns: &[(usize, usize)]| {
            columns.iter().map(|(at, _)| narrowest[*at]).sum::<usize>() + gaps(columns)
        };
        let mut least = least.iter();
        while least_width(&columns) > limit {
            let Some(name) = least.next() else { return Self::Blocks };
            columns.retain(|(at, _)| names[*at] != *name);
        }
        let width = |columns: &[(usize, usize)]| {
            columns.iter().map(|(_, width)| width).sum::<usize>() + gaps(columns)
        };
        while width(&columns) > limit {
            // The column with the most spare width.
            let spare = |(at, width): &&mut (usize, usize)| width.saturating_sub(narrowest[*at]);
            let Some((_, width)) = columns.iter_mut().max_by_key(spare) else { break };
            *width -= 1;
        }
        Self::Columns(columns)
    }
}

/// Returns the maximum width: `COLUMNS`, else that of the terminal; `None` without a terminal.
fn terminal_width() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    columns.filter(|columns| *columns > 0).or_else(|| terminal().filter(|_| std::io::stdout().is_terminal()))
}

/// A row, on as many lines as its longest cell needs.
fn line(cells: &[String], columns: &[(usize, usize)]) -> String {
    let wrapped: Vec<Vec<String>> = columns.iter().map(|(at, width)| wrapped(&cells[*at], *width)).collect();
    let lines = wrapped.iter().map(Vec::len).max().unwrap_or(1);
    let mut text = String::new();
    for number in 0..lines {
        let mut line = String::new();
        for (cell, (_, width)) in wrapped.iter().zip(columns) {
            let part = cell.get(number).map_or("", String::as_str);
            line.push_str(part);
            line.push_str(&" ".repeat(width.saturating_sub(width_of(part)) + GAP));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns the lines of a cell, broken at spaces. A word that is longer than a line gets its own line.
fn wrapped(cell: &str, width: usize) -> Vec<String> {
    if width_of(cell) <= width {
        return vec![cell.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in cell.split(' ') {
        match lines.last_mut() {
            Some(line) if width_of(line) + 1 + width_of(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A row as a block of fields, and an empty line. Empty cells are left out.
fn block(names: &[&str], row: &[String]) -> String {
    let fields = names
        .iter()
        .zip(row)
        .map(|(name, cell)| (*name, Some(cell.as_str()).filter(|cell| !cell.is_empty())));
    output::block_text(fields) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: [&str; 4] = ["LABEL", "NOTE", "WHEN", "URL"];

    fn printed(limit: Option<usize>) -> String {
        let row =
            ["se-é", "a note of words", "2026-11-27 10:00:00Z", "https://example.com/x"].map(str::to_owned);
        Table::new(HEADING, &["NOTE"]).text(&[row], limit)
    }

    #[test]
    fn a_table_that_fits_has_a_line_per_row() {
        for limit in [None, Some(80)] {
            assert_eq!(
                printed(limit),
                "LABEL  NOTE             WHEN                  URL\n\
                 se-é   a note of words  2026-11-27 10:00:00Z  https://example.com/x\n"
            );
        }
    }

    #[test]
    fn cells_wrap_at_spaces_and_no_word_is_cut() {
        assert_eq!(
            printed(Some(52)),
            "LABEL  NOTE      WHEN          URL\n\
             se-é   a note    2026-11-27    https://example.com/x\n       of words  10:00:00Z\n"
        );
        for limit in 0..90 {
            let text = printed(Some(limit));
            assert!(text.contains("https://example.com/x") && text.contains("10:00:00Z"), "{text}");
            let fits = text.lines().all(|line| width_of(line) <= limit);
            assert!(fits || text.starts_with("LABEL: "), "{limit}: {text}");
        }
    }

    #[test]
    fn a_narrow_terminal_loses_the_least_column_and_then_the_columns() {
        assert!(!printed(Some(43)).contains("NOTE") && printed(Some(43)).starts_with("LABEL  WHEN"));
        assert!(printed(Some(30)).starts_with("LABEL: se-é\nNOTE:  a note of words\n"));
    }

    #[test]
    fn later_pages_keep_the_layout() {
        let mut table = Table::new(["A", "B"], &[]);
        let row = |text: &str| [text.to_owned(), "b".to_owned()];
        assert_eq!(table.text(&[row("1")], Some(10)), "A  B\n1  b\n");
        assert_eq!(table.text(&[row("long-word")], Some(10)), "long-word  b\n");
    }
}
