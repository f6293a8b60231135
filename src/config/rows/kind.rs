//! The kind of rows of a source: known by the ending of its name, or, on standard input, by its first line.

use std::io::{self, BufRead, Read as _};
use std::path::Path;

use super::MAX_ROW_BYTES;

/// The kind of rows of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// An id a line; `#` starts a comment.
    Ids,
    /// A header; `label_id`, optional `account`, every other column is metadata.
    Csv,
    /// An object a line: `id`, optional `account`, optional `metadata`; or the id alone, in quotes.
    JsonLines,
}

impl RowKind {
    /// The kind by the ending of a file's name.
    pub fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" => Some(Self::Ids),
            "csv" => Some(Self::Csv),
            "jsonl" => Some(Self::JsonLines),
            _ => None,
        }
    }

    /// The kind by the first line that is not blank. The returned reader starts where `reader` did.
    pub fn detect(mut reader: impl BufRead) -> io::Result<(Self, impl BufRead)> {
        let mut seen = Vec::new();
        let kind = loop {
            let start = seen.len();
            let read = reader.by_ref().take(MAX_ROW_BYTES as u64).read_until(b'\n', &mut seen)?;
            let line = String::from_utf8_lossy(&seen[start..]).to_ascii_lowercase();
            match line.trim_start_matches('\u{feff}').trim() {
                "" if read > 0 && start < MAX_ROW_BYTES => {}
                line if line.starts_with('{') || is_quoted_id(line) => break Self::JsonLines,
                line if !line.starts_with('#') && line.contains("label_id") => break Self::Csv,
                _ => break Self::Ids,
            }
        };
        Ok((kind, io::Cursor::new(seen).chain(reader)))
    }
}

/// Whether a line is one JSON text, and not the header of a CSV with a single column.
fn is_quoted_id(line: &str) -> bool {
    serde_json::from_str::<String>(line).is_ok_and(|text| text != "label_id")
}
