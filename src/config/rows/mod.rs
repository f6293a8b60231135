//! Rows of labels, as files and standard input have them: ids, CSV or JSON Lines.
//!
//! Rows are read one by one, so that a million of them cost no more memory than the labels they name. A wrong row is
//! reported and left out; only what makes the whole unreadable (no `label_id` column, a broken disk) is an error.
//!
//! Here is what callers ask for; how a [`kind`] is told, and how rows are taken from [`lines`] and [`records`], is in
//! rooms of their own. Whether a label may be watched is for [`super::roll`] to say.

mod draft;
mod kind;
mod lines;
mod records;

use std::io::BufRead;

use super::fault::Fault;
use super::roll::{At, Roll, Rows, check};
use crate::domain::label::{AccountName, Registration, Source};

pub(super) use draft::{Draft, Slip};
pub use kind::RowKind;
use lines::each_line;
use records::each_record;

/// The longest row, in bytes. A longer one is no row but a mistake, such as a quote that is never closed.
const LONGEST: usize = 64 * 1024;

/// Where rows come from.
#[derive(Clone, Copy, Debug)]
pub struct RowSource<'a> {
    /// The name that faults carry: the file, or `-`.
    pub place: &'a str,
    pub source: Source,
}

/// All labels of `reader`, and what is wrong with the other rows. An error makes the whole unreadable.
pub fn parse_rows(
    kind: RowKind,
    reader: impl BufRead,
    accounts: &[AccountName],
    source: RowSource<'_>,
) -> Result<Rows, Fault> {
    let mut roll = Roll::new(accounts);
    read_into(&mut roll, kind, reader, source)?;
    Ok(roll.finish())
}

/// A row that was checked by itself.
#[derive(Debug)]
pub struct CheckedRow {
    /// From 1 on.
    pub row: u64,
    /// The id as it was written, if the row has one.
    pub written: Option<String>,
    pub registration: Result<Registration, Fault>,
}

/// Hands every row of `reader` to `each`, in order and one at a time. Rows without an account are of `account`, if one is
/// given. An error makes the whole unreadable, from there on.
pub fn each_row(
    kind: RowKind,
    reader: impl BufRead,
    accounts: &[AccountName],
    account: Option<&AccountName>,
    source: RowSource<'_>,
    each: &mut dyn FnMut(CheckedRow),
) -> Result<(), Fault> {
    each_draft(kind, reader, source.place, &mut |row, draft| {
        let draft = draft.map(|draft| Draft {
            account: draft.account.or_else(|| account.map(AccountName::to_string)),
            ..draft
        });
        let written = draft.as_ref().ok().map(|draft| draft.id.clone());
        let registration = draft.and_then(|draft| check(accounts, draft, source.source));
        let registration =
            registration.map_err(|slip| At { place: source.place, list: None, row }.fault(slip));
        each(CheckedRow { row, written, registration });
    })
}

/// Puts the rows of one source on the roll.
pub(super) fn read_into(
    roll: &mut Roll<'_>,
    kind: RowKind,
    reader: impl BufRead,
    source: RowSource<'_>,
) -> Result<(), Fault> {
    let outcome = each_draft(kind, reader, source.place, &mut |row, draft| {
        roll.add(At { place: source.place, list: None, row }, source.source, draft);
    });
    roll.close(source.place);
    outcome
}

fn each_draft(kind: RowKind, reader: impl BufRead, place: &str, each: Each<'_>) -> Result<(), Fault> {
    let outcome = match kind {
        RowKind::Ids => each_line(reader, each, |line| {
            let id = line.split('#').next().unwrap_or_default().trim();
            (!id.is_empty()).then(|| Ok(Draft { id: id.to_owned(), ..Draft::default() }))
        }),
        RowKind::JsonLines => each_line(reader, each, |line| {
            let line = line.trim();
            (!line.is_empty()).then(|| match serde_json::from_str(line) {
                Ok(json) => Draft::of_json(json),
                Err(error) => Err(Slip::new(format!("is no JSON: {error}"))),
            })
        }),
        RowKind::Csv => each_record(reader, each),
    };
    outcome.map_err(|problem| {
        Fault::new(place, "", problem).hint(match kind {
            RowKind::Csv => {
                "a header with label_id, optionally account, and what else is metadata; then the rows"
            }
            RowKind::Ids | RowKind::JsonLines => "trackpost needs to read it",
        })
    })
}

/// Who takes the rows: the number of each, from 1 on, and what it says.
type Each<'a> = &'a mut dyn FnMut(u64, Result<Draft, Slip>);

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::super::roll::SHOWN_PER_PLACE;
    use super::*;

    const STDIN: RowSource<'_> = RowSource { place: "-", source: Source::Cli };

    fn parsed(kind: RowKind, text: &[u8]) -> Rows {
        parse_rows(kind, text, &[AccountName::new("main")], STDIN).unwrap()
    }

    fn ids(rows: &Rows) -> Vec<&str> {
        rows.labels.iter().map(|label| label.key.id.as_str()).collect()
    }

    #[test]
    fn the_first_line_tells_the_kind_and_is_not_lost() {
        for (text, kind) in [
            ("\n\nse-1\n", RowKind::Ids),
            ("# label_id\nse-1\n", RowKind::Ids),
            ("se-1", RowKind::Ids),
            ("label_id,order\nse-1,A\n", RowKind::Csv),
            ("\n\"order\",\"Label_ID\"\nA,se-1\n", RowKind::Csv),
            ("\u{feff}label_id\nse-1\n", RowKind::Csv),
            ("\"label_id\"\n\"se-1\"\n", RowKind::Csv),
            (" {\"id\":\"se-1\"}\n", RowKind::JsonLines),
            ("\"se-1\"\n", RowKind::JsonLines),
        ] {
            let (found, reader) = RowKind::detect(text.as_bytes()).unwrap();
            assert_eq!(found, kind, "{text:?}");
            let rows = parse_rows(found, reader, &[AccountName::new("main")], STDIN).unwrap();
            assert_eq!(ids(&rows), ["se-1"], "{text:?}");
            assert_eq!(rows.labels[0].source, Source::Cli);
        }
        assert_eq!(RowKind::detect(&b""[..]).unwrap().0, RowKind::Ids);
    }

    #[test]
    fn two_hundred_thousand_rows_and_few_of_the_wrong_ones_are_kept() {
        let text: String =
            (0..200_000).map(|n| if n % 2 == 0 { format!("se-{n}\n") } else { "?\n".into() }).collect();
        let rows = parsed(RowKind::Ids, text.as_bytes());
        assert_eq!(rows.labels.len(), 100_000);
        assert_eq!(rows.fault_count, 100_000);
        assert_eq!(rows.faults.len(), SHOWN_PER_PLACE + 1);
        assert_eq!(rows.faults[SHOWN_PER_PLACE].to_string(), "-: 99900 more rows are wrong and left out");
    }

    #[test]
    fn a_row_that_never_ends_is_one_wrong_row() {
        let mut text = vec![b'x'; 3 * LONGEST];
        text.extend(b"\nse-1\n\xff\nse-2");
        let rows = parsed(RowKind::Ids, &text);
        assert_eq!(ids(&rows), ["se-1", "se-2"]);
        let faults: Vec<&str> = rows.faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(faults, ["row 1", "row 3"]);
    }

    #[test]
    fn cells_are_metadata() {
        let rows = parsed(RowKind::Csv, b"order,label_id,,note\n A ,se-1,x,\"b, c\"\n\n,se-2,,\n");
        assert_eq!(ids(&rows), ["se-1", "se-2"]);
        assert_eq!(
            Json::from(rows.labels[0].metadata.clone()),
            serde_json::json!({"order": " A ", "note": "b, c"})
        );
        assert!(parsed(RowKind::Csv, b"").labels.is_empty());
        let twice = parse_rows(RowKind::Csv, &b"label_id,a,a\n"[..], &[], STDIN).unwrap_err();
        assert!(twice.to_string().starts_with("-: has the column \"a\" twice (hint: "), "{twice}");
    }

    #[test]
    fn the_same_label_again_is_one_label() {
        let text = b"{\"id\":\"se-1\",\"metadata\":{\"a\":1}}\n{\"label_id\":\"se-1\",\"metadata\":{\"a\":1}}\n{\"id\":\"se-1\"}\n";
        let rows = parsed(RowKind::JsonLines, text);
        assert_eq!(ids(&rows), ["se-1"]);
        assert!(rows.labels[0].metadata.is_empty(), "the later wins");
        assert_eq!(rows.warnings.len(), 1);
        assert_eq!(rows.warnings[0].key, "row 3");
    }
}
