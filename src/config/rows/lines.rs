//! Rows of one line each.
//!
//! A line may be endless, so at most `MAX_ROW_BYTES` of it are kept in memory.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read as _};
use std::ops::ControlFlow;

use super::{Each, MAX_ROW_BYTES, PERMISSIONS, RowFault, Stopped, UncheckedRow};

/// A line, with its end if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Number of the line, from 1 on.
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    /// Whether it is longer than a row may be. Then `bytes` is its beginning.
    pub(super) too_long: bool,
}

/// The lines of a reader; lines may be given back.
pub(super) struct Lines<R> {
    reader: R,
    number: u64,
    back: VecDeque<Line>,
    /// A buffer for the next line.
    spare: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0, back: VecDeque::new(), spare: Vec::new() }
    }

    pub(super) fn next(&mut self) -> Result<Option<Line>, Stopped> {
        if let Some(line) = self.back.pop_front() {
            return Ok(Some(line));
        }
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        let limited = &mut self.reader.by_ref().take(MAX_ROW_BYTES as u64);
        if limited.read_until(b'\n', &mut bytes).map_err(cannot_be_read)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let too_long = bytes.len() == MAX_ROW_BYTES && !bytes.ends_with(b"\n");
        if too_long {
            skip_line(&mut self.reader).map_err(cannot_be_read)?;
        }
        Ok(Some(Line { number: self.number, bytes, too_long }))
    }

    /// Puts `lines` back; `next` returns them again.
    pub(super) fn give_back(&mut self, lines: impl DoubleEndedIterator<Item = Line>) {
        lines.rev().for_each(|line| self.back.push_front(line));
    }

    /// Inserts `line`, the part of a line after a lone carriage return, as the next line. Later lines are renumbered.
    pub(super) fn insert(&mut self, line: Line) {
        self.number += 1;
        self.back.iter_mut().for_each(|later| later.number += 1);
        self.back.push_front(line);
    }

    /// Reuses the buffer of a line for the next one.
    pub(super) fn done(&mut self, line: Line) {
        self.spare = line.bytes;
    }
}

/// Passes the result of `parse` for every line to `each`; a line without a result is not a row.
pub(super) fn each_line(
    reader: impl BufRead,
    each: Each<'_>,
    mut parse: impl FnMut(&str) -> Option<Result<UncheckedRow, RowFault>>,
) -> Result<(), Stopped> {
    let mut lines = Lines::new(reader);
    while let Some(line) = lines.next()? {
        let row = match std::str::from_utf8(&line.bytes) {
            _ if line.too_long => Some(Err(RowFault::too_long())),
            Ok(text) => parse(text.trim_start_matches('\u{feff}')),
            Err(_) => Some(Err(RowFault::not_utf8())),
        };
        if let Some(row) = row
            && let ControlFlow::Break(fault) = each(line.number, row)
        {
            return Err(Stopped::ByCaller(fault));
        }
        lines.done(line);
    }
    Ok(())
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let available = reader.fill_buf()?;
        let (used, done) = match available.iter().position(|&byte| byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (available.len(), available.is_empty()),
        };
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}

fn cannot_be_read(error: io::Error) -> Stopped {
    Stopped::Unreadable { problem: format!("cannot be read: {error}"), hint: PERMISSIONS.to_owned() }
}
