//! Rows that are a line each, whatever the line says.
//!
//! Read by hand, since a line may never end: no more than a row may be long is ever held.

use std::io::{self, BufRead, Read as _};

use super::{Draft, Each, LONGEST, Slip};

/// Hands `each` what `parse` makes of every line; a line of which it makes nothing is no row.
pub(super) fn each_line(
    mut reader: impl BufRead,
    each: Each<'_>,
    mut parse: impl FnMut(&str) -> Option<Result<Draft, Slip>>,
) -> Result<(), String> {
    let mut line = Vec::new();
    for row in 1.. {
        line.clear();
        let limited = &mut reader.by_ref().take(LONGEST as u64);
        if limited.read_until(b'\n', &mut line).map_err(cannot_be_read)? == 0 {
            break;
        }
        if line.len() == LONGEST && !line.ends_with(b"\n") {
            skip_line(&mut reader).map_err(cannot_be_read)?;
            each(row, Err(Slip::new("is longer than 64 KiB")));
            continue;
        }
        match std::str::from_utf8(&line) {
            Ok(text) => {
                if let Some(draft) = parse(text.trim_start_matches('\u{feff}')) {
                    each(row, draft);
                }
            }
            Err(_) => each(row, Err(Slip::new("is not UTF-8 text"))),
        }
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

fn cannot_be_read(error: io::Error) -> String {
    format!("cannot be read: {error}")
}
