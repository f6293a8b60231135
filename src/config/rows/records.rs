//! Rows of a CSV file: a header, then the records.
//!
//! A fault of the header is an error; a record that does not fit the header is a wrong row. A record may contain line
//! breaks within quotes. A quote that is never closed, or that spans lines which are rows by themselves, makes only its
//! own row wrong; the lines after it are read one by one.

use std::io::BufRead;
use std::ops::ControlFlow;

use csv_core::{ReadRecordResult, Reader};
use serde_json::Value as Json;

use super::super::fault::nearest;
use super::lines::{Line, Lines};
use super::{Each, MAX_ROW_BYTES, RowFault, Stopped, UncheckedRow};
use crate::domain::label::LabelId;

/// Maximum number of columns. No export has as many.
const MAX_COLUMNS: usize = 4_096;

/// Passes every record to `each`, with the number of its first line.
pub(super) fn each_record(reader: impl BufRead, each: Each<'_>) -> Result<(), Stopped> {
    let mut records = Records::new(Lines::new(reader));
    let header = match records.next()? {
        None => return Ok(()),
        Some((_, Ok(()))) => Header::read(&records)?,
        Some((_, Err(row_fault))) => {
            return Err(unreadable(format!("has a header that {}", row_fault.problem), row_fault.hint));
        }
    };
    while let Some((number, outcome)) = records.next()? {
        let row = outcome.and_then(|()| match records.rows_within_quotes(&header) {
            Some(taken) => Err(records.reread(taken)),
            None => header.row(&records),
        });
        if let ControlFlow::Break(fault) = each(number, row) {
            return Err(Stopped::ByCaller(fault));
        }
    }
    Ok(())
}

/// The columns.
struct Header {
    columns: Vec<String>,
    id_at: usize,
    account_at: Option<usize>,
}

impl Header {
    fn read<R: BufRead>(records: &Records<R>) -> Result<Self, Stopped> {
        let columns: Result<Vec<String>, _> = records
            .cells()
            .map(|name| std::str::from_utf8(name).map(|name| name.trim().to_owned()))
            .collect();
        let Ok(columns) = columns else {
            return Err(unreadable("is not UTF-8 text", RowFault::not_utf8().hint));
        };
        let position = |wanted: &str| columns.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        let Some(id_at) = position("label_id") else { return Err(no_label_id(&columns)) };
        let account_at = position("account");
        if let Some((_, twice)) =
            columns.iter().enumerate().find(|(at, name)| !name.is_empty() && columns[..*at].contains(name))
        {
            return Err(unreadable(format!("has the column {twice:?} twice"), None));
        }
        Ok(Self { columns, id_at, account_at })
    }

    fn row<R: BufRead>(&self, records: &Records<R>) -> Result<UncheckedRow, RowFault> {
        if records.count != self.columns.len() {
            let (has, needs) = (records.count, self.columns.len());
            let cells = if has == 1 { "cell" } else { "cells" };
            return Err(RowFault::new(format!("has {has} {cells}, but the header has {needs}"))
                .hint("put a value that contains a comma in quotes"));
        }
        let mut row = UncheckedRow::default();
        for (at, (name, cell)) in self.columns.iter().zip(records.cells()).enumerate() {
            let cell = std::str::from_utf8(cell).map_err(|_| RowFault::not_utf8())?;
            match at {
                _ if at == self.id_at => row.id = cell.trim().to_owned(),
                _ if Some(at) == self.account_at => {
                    row.account = Some(cell.trim().to_owned()).filter(|name| !name.is_empty());
                }
                _ if name.is_empty() => {}
                _ => {
                    row.metadata.insert(name.clone(), Json::String(cell.to_owned()));
                }
            }
        }
        Ok(row)
    }
}

/// Returns the fault of a missing column, with the probable cause as a hint.
fn no_label_id(columns: &[String]) -> Stopped {
    let plain = |name: &String| {
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let first = columns.first().map_or("", String::as_str);
    let hint = if first.to_ascii_lowercase().starts_with("sep=") {
        Some("its first line is the separator line of a spreadsheet: remove it".to_owned())
    } else if let [only] = columns
        && let Some((_, name)) = [(';', "semicolons"), ('\t', "tabs"), ('|', "bars")]
            .into_iter()
            .find(|(mark, _)| only.contains(*mark))
    {
        Some(format!("its separator seems to be {name}: cells are separated by commas"))
    } else if let Some(meant) = columns.iter().find(|name| nearest(&plain(name), ["labelid"]).is_some()) {
        Some(format!("rename the column {meant:?} to label_id"))
    } else if let Some(id) = columns.iter().find(|name| plain(name) == "id") {
        Some(format!("if the column {id:?} has the label ids, rename it to label_id"))
    } else if columns.iter().any(|name| name.parse::<LabelId>().is_ok()) {
        Some("its first line is a row: put a header such as label_id,order before it".to_owned())
    } else {
        None
    };
    let shown: Vec<&String> = columns.iter().take(20).collect();
    unreadable(format!("has no column label_id; its header has {shown:?}"), hint)
}

fn unreadable(problem: impl Into<String>, hint: Option<String>) -> Stopped {
    const FORM: &str =
        "start with a header: label_id, optionally account, and columns of metadata; then the rows";
    Stopped::Unreadable { problem: problem.into(), hint: hint.unwrap_or_else(|| FORM.to_owned()) }
}

/// Reads records from lines.
struct Records<R> {
    lines: Lines<R>,
    csv: Reader,
    text: Vec<u8>,
    /// Ends of the cells in `text`; only the first `count` are used.
    ends: Vec<usize>,
    count: usize,
    /// The lines of the record.
    held: Vec<Line>,
}

/// The first line of a record, and whether the record is valid.
type NextRecord = (u64, Result<(), RowFault>);

impl<R: BufRead> Records<R> {
    fn new(lines: Lines<R>) -> Self {
        let (text, ends) = (vec![0; MAX_ROW_BYTES + 1], vec![0; MAX_COLUMNS]);
        Self { lines, csv: Reader::new(), text, ends, count: 0, held: Vec::new() }
    }

    fn cells(&self) -> impl Iterator<Item = &[u8]> {
        cells(&self.text, &self.ends[..self.count])
    }

    /// The first line of the next record, and whether it is valid.
    fn next(&mut self) -> Result<Option<NextRecord>, Stopped> {
        while let Some(line) = self.held.pop() {
            self.lines.done(line);
        }
        let first = loop {
            match self.lines.next()? {
                None => return Ok(None),
                Some(line) if line.bytes.trim_ascii().is_empty() => self.lines.done(line),
                Some(line) => break line,
            }
        };
        let row = first.number;
        if first.too_long {
            return Ok(Some((row, Err(RowFault::too_long()))));
        }
        self.csv.reset();
        self.count = 0;
        let (mut written, mut length, mut line) = (0, 0, first);
        loop {
            if !line.bytes.ends_with(b"\n") {
                line.bytes.push(b'\n');
            }
            length += line.bytes.len();
            let (result, used, text, cells) =
                self.csv.read_record(&line.bytes, &mut self.text[written..], &mut self.ends[self.count..]);
            written += text;
            self.count += cells;
            match result {
                ReadRecordResult::Record => {
                    // A single carriage return ends a record, too.
                    let rest = line.bytes.split_off(used);
                    if !rest.trim_ascii().is_empty() {
                        self.lines.insert(Line { number: line.number + 1, bytes: rest, too_long: false });
                    }
                    self.held.push(line);
                    return Ok(Some((row, Ok(()))));
                }
                ReadRecordResult::OutputEndsFull => {
                    let row_fault = RowFault::new(format!("has more than {MAX_COLUMNS} cells"));
                    return Ok(Some((row, Err(row_fault))));
                }
                // The record continues within quotes.
                ReadRecordResult::InputEmpty | ReadRecordResult::OutputFull | ReadRecordResult::End => {
                    self.held.push(line);
                }
            }
            match self.lines.next()? {
                Some(next) if !next.too_long && length + next.bytes.len() <= MAX_ROW_BYTES => line = next,
                next => {
                    self.lines.give_back(next.into_iter());
                    let lines = self.held.len();
                    let row_fault = self.reread(lines);
                    return Ok(Some((row, Err(row_fault))));
                }
            }
        }
    }

    /// The number of lines within quotes that are rows by themselves.
    fn rows_within_quotes(&self, header: &Header) -> Option<usize> {
        let further = self.held.get(1..)?;
        let taken = further.iter().filter(|line| is_row(&line.bytes, header)).count();
        (taken > 0).then_some(taken)
    }

    /// Gives back all lines of the record but the first, to be read as rows.
    fn reread(&mut self, taken: usize) -> RowFault {
        let further = self.held.split_off(1);
        let problem = match (further.len(), taken) {
            (0, _) => "opens a quote that is never closed".to_owned(),
            (lines, taken) if taken > lines => "opens a quote that is never closed".to_owned(),
            (_, 1) => "opens a quote that includes the next row".to_owned(),
            (_, taken) => format!("opens a quote that includes the next {taken} rows"),
        };
        self.lines.give_back(further.into_iter());
        RowFault::new(problem).hint("a quote within a value is written twice, in quotes: \"6\"\" box\"")
    }
}

fn cells<'a>(text: &'a [u8], ends: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, end)| &text[start..*end])
}

/// Whether a line alone is a row with a label, or the beginning of one.
fn is_row(line: &[u8], header: &Header) -> bool {
    let (mut csv, mut text, mut ends) =
        (Reader::new(), vec![0; line.len() + 1], vec![0; header.columns.len() + 1]);
    let (result, _, _, found) = csv.read_record(line, &mut text, &mut ends);
    let complete = matches!(result, ReadRecordResult::Record) && found == header.columns.len();
    let opens_quote = matches!(result, ReadRecordResult::InputEmpty);
    let id = cells(&text, &ends[..found]).nth(header.id_at).and_then(|id| std::str::from_utf8(id).ok());
    (complete || opens_quote) && id.is_some_and(|id| id.trim().parse::<LabelId>().is_ok())
}
