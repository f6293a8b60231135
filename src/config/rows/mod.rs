//! Rows of labels, as files and standard input have them: ids, CSV or JSON Lines.
//!
//! Rows are read one by one, so that a million of them need little memory. A wrong row is reported and left out; only a
//! fault of the whole source (no `label_id` column, a broken disk) is an error. [`UncheckedRow::check`] checks ids
//! and accounts.

mod kind;
mod lines;
mod records;

use std::io::BufRead;
use std::ops::ControlFlow;

use super::fault::Fault;
use super::row_faults::{RowFault, RowPosition};
use super::unchecked_row::UncheckedRow;
use crate::domain::label::{AccountName, Registration, Source};

pub use kind::RowKind;
use lines::each_line;
use records::each_record;

/// The longest row, in bytes, over all its lines. A longer row is a mistake.
pub(super) const MAX_ROW_BYTES: usize = 64 * 1024;

/// Hint for a source that cannot be read.
pub(super) const PERMISSIONS: &str = "the user that runs trackpost must be able to read it";

/// A checked row.
#[derive(Debug)]
pub struct CheckedRow {
    /// Number of the line, from 1 on.
    pub row: u64,
    /// The id as it was written, if the row has one.
    pub written: Option<String>,
    pub registration: Result<Registration, Fault>,
}

/// The place of standard input and of arguments in faults.
const STDIN: &str = "-";

/// Passes every row of `reader` (standard input or an argument) to `each`, in order. Rows without an account belong to
/// `account`, if one is given. An error ends the reading.
pub fn each_row(
    kind: RowKind,
    reader: impl BufRead,
    accounts: &[AccountName],
    account: Option<&AccountName>,
    each: &mut dyn FnMut(CheckedRow),
) -> Result<(), Fault> {
    each_unchecked_row(kind, reader, STDIN, &mut |number, row| {
        let row = row.map(|row| UncheckedRow {
            account: row.account.or_else(|| account.map(AccountName::to_string)),
            ..row
        });
        let written = row.as_ref().ok().map(|row| row.id.clone());
        let registration = row
            .and_then(|row| row.check(accounts, Source::Cli))
            .map_err(|row_fault| RowPosition { place: STDIN, list: None, number }.fault(row_fault));
        each(CheckedRow { row: number, written, registration });
        ControlFlow::Continue(())
    })
}

/// Passes every unchecked row of `reader` to `each`. An error ends the reading.
pub(super) fn each_unchecked_row(
    kind: RowKind,
    reader: impl BufRead,
    place: &str,
    each: Each<'_>,
) -> Result<(), Fault> {
    let outcome = match kind {
        RowKind::Ids => each_line(reader, each, |line| {
            let id = line.split('#').next().unwrap_or_default().trim();
            (!id.is_empty()).then(|| Ok(UncheckedRow { id: id.to_owned(), ..UncheckedRow::default() }))
        }),
        RowKind::JsonLines => each_line(reader, each, |line| {
            let line = line.trim();
            (!line.is_empty())
                .then(|| match serde_json::from_str(line) {
                    Ok(json) => UncheckedRow::of_json(json),
                    Err(error) => Err(RowFault::not_json(&error)),
                })
                // A removed label of `labels list --json` is not registered again.
                .filter(|row| row.as_ref().map_or(true, |row| !row.removed))
        }),
        RowKind::Csv => each_record(reader, each),
    };
    outcome.map_err(|stopped| match stopped {
        Stopped::ByCaller(fault) => fault,
        Stopped::Unreadable { problem, hint } => Fault::new(place, "", problem).hint(hint),
    })
}

/// Takes each row with its number, from 1 on. A break ends the reading.
type Each<'a> = &'a mut dyn FnMut(u64, Result<UncheckedRow, RowFault>) -> ControlFlow<Fault>;

/// Why reading ended early.
#[derive(Debug)]
enum Stopped {
    ByCaller(Fault),
    Unreadable { problem: String, hint: String },
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    fn parsed(kind: RowKind, text: &[u8]) -> (Vec<Registration>, Vec<Fault>) {
        let (mut labels, mut faults) = (Vec::new(), Vec::new());
        each_row(kind, text, &[AccountName::new("main")], None, &mut |row| match row.registration {
            Ok(label) => labels.push(label),
            Err(fault) => faults.push(fault),
        })
        .unwrap();
        (labels, faults)
    }

    fn ids(labels: &[Registration]) -> Vec<&str> {
        labels.iter().map(|label| label.key.id.as_str()).collect()
    }

    #[test]
    fn the_first_line_decides_the_format_and_is_kept() {
        for (text, kind) in [
            ("\n\nse-1\n", RowKind::Ids),
            ("# label_id\nse-1\n", RowKind::Ids),
            ("se-1", RowKind::Ids),
            ("label_id,order\nse-1,A\n", RowKind::Csv),
            ("\n\"order\",\"Label_ID\"\nA,se-1\n", RowKind::Csv),
            ("\u{feff}label_id\nse-1\n", RowKind::Csv),
            ("label_id\rse-1\r", RowKind::Csv),
            ("\"label_id\"\n\"se-1\"\n", RowKind::Csv),
            (" {\"id\":\"se-1\"}\n", RowKind::JsonLines),
            ("\"se-1\"\n", RowKind::JsonLines),
        ] {
            let (found, mut reader) = RowKind::detect(text.as_bytes()).unwrap();
            assert_eq!(found, kind, "{text:?}");
            let mut all = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut all).unwrap();
            let (labels, _) = parsed(found, &all);
            assert_eq!(ids(&labels), ["se-1"], "{text:?}");
            assert_eq!(labels[0].source, Source::Cli);
        }
        assert_eq!(RowKind::detect(&b""[..]).unwrap().0, RowKind::Ids);
    }

    #[test]
    fn an_unterminated_row_is_one_wrong_row() {
        let mut text = vec![b'x'; 3 * MAX_ROW_BYTES];
        text.extend(b"\nse-1\n\xff\nse-2");
        let (labels, faults) = parsed(RowKind::Ids, &text);
        assert_eq!(ids(&labels), ["se-1", "se-2"]);
        let faults: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(faults, ["row 1", "row 3"]);
        let mut text = b"label_id,note\nse-1,".to_vec();
        text.extend(vec![b'x'; 3 * MAX_ROW_BYTES]);
        text.extend(b"\nse-2,y\n");
        let (labels, faults) = parsed(RowKind::Csv, &text);
        assert_eq!((ids(&labels), faults[0].key.as_str()), (vec!["se-2"], "row 2"));
    }

    #[test]
    fn a_carriage_return_alone_ends_a_row_and_counts_as_a_line() {
        for text in
            ["label_id\rse-1\rx\rse-2\ry\r", "label_id\nse-1\nx\rse-2\ny", "label_id\rse-1\nx\n\rse-2\ry"]
        {
            let (labels, faults) = parsed(RowKind::Csv, text.as_bytes());
            let rows: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
            assert_eq!((ids(&labels), rows), (vec!["se-1", "se-2"], vec!["row 3", "row 5"]), "{text:?}");
        }
    }

    #[test]
    fn cells_are_metadata() {
        let (labels, _) = parsed(RowKind::Csv, b"order,label_id,,note\n A ,se-1,x,\"b, c\"\n\n,se-2,,\n");
        assert_eq!(ids(&labels), ["se-1", "se-2"]);
        assert_eq!(
            Json::from(labels[0].metadata.clone()),
            serde_json::json!({"order": " A ", "note": "b, c"})
        );
        assert!(parsed(RowKind::Csv, b"").0.is_empty());
        let twice = each_row(RowKind::Csv, &b"label_id,a,a\n"[..], &[], None, &mut |_| {}).unwrap_err();
        assert!(twice.to_string().starts_with("-: has the column \"a\" twice (hint: "), "{twice}");
    }
}
