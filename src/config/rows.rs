//! Rows of labels, as files and standard input have them: ids, CSV or JSON Lines.
//!
//! Rows are read one by one, so that a million of them cost no more memory than the labels they name. A wrong row is
//! reported and left out; only what makes the whole unreadable (no `label_id` column, a broken disk) is an error.

use std::io::{self, BufRead, Read};
use std::path::Path;

use serde_json::Value as Json;

use super::fault::{Fault, nearest};
use super::roll::{At, Roll, Rows, check};
use crate::domain::label::{AccountName, Metadata, Registration, Source};

/// The longest row, in bytes. A longer one is no row but a mistake, such as a quote that is never closed.
const LONGEST: usize = 64 * 1024;

/// What the rows of a source look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// An id a line; what follows a `#` is a comment.
    Ids,
    /// A header; `label_id`, optional `account`, every other column is metadata.
    Csv,
    /// An object a line: `id`, optional `account`, optional `metadata`; or the id alone, in quotes.
    JsonLines,
}

impl RowKind {
    /// By the ending of a file's name.
    pub fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" => Some(Self::Ids),
            "csv" => Some(Self::Csv),
            "jsonl" => Some(Self::JsonLines),
            _ => None,
        }
    }

    /// By the first line that is not blank; gives back a reader that starts where `reader` did.
    pub fn detect(mut reader: impl BufRead) -> io::Result<(Self, impl BufRead)> {
        let mut seen = Vec::new();
        let kind = loop {
            let start = seen.len();
            let read = reader.by_ref().take(LONGEST as u64).read_until(b'\n', &mut seen)?;
            let line = String::from_utf8_lossy(&seen[start..]).to_ascii_lowercase();
            match line.trim_start_matches('\u{feff}').trim() {
                "" if read > 0 && start < LONGEST => {}
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

/// A row before it is checked.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) account: Option<String>,
    pub(super) metadata: Metadata,
}

/// What is wrong with a row.
#[derive(Debug)]
pub(super) struct Slip {
    pub(super) value: Option<String>,
    pub(super) problem: String,
    pub(super) hint: Option<String>,
}

impl Slip {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { value: None, problem: problem.into(), hint: None }
    }
}

impl Draft {
    /// An id in quotes, or `{"id": …, "account": …, "metadata": {…}}`; `label_id` is taken for `id`.
    pub(super) fn of_json(json: Json) -> Result<Self, Slip> {
        const KEYS: [&str; 3] = ["id", "account", "metadata"];
        let mut object = match json {
            Json::String(id) => return Ok(Self { id, ..Self::default() }),
            Json::Object(object) => object,
            _ => return Err(Slip::new("is neither an id in quotes nor an object with an id")),
        };
        let id = match object.remove("id").or_else(|| object.remove("label_id")) {
            Some(Json::String(id)) => id,
            Some(_) => return Err(Slip::new("has an id that is no text")),
            None => return Err(Slip::new("has no id")),
        };
        let account = match object.remove("account") {
            None | Some(Json::Null) => None,
            Some(Json::String(account)) => Some(account),
            Some(_) => return Err(Slip::new("has an account that is no text")),
        };
        let metadata = match object.remove("metadata") {
            None | Some(Json::Null) => Metadata::new(),
            Some(Json::Object(metadata)) => metadata,
            Some(_) => return Err(Slip::new("has metadata that are no table")),
        };
        if let Some(unknown) = object.keys().next() {
            let meant = nearest(unknown, KEYS).unwrap_or_default();
            let hint = Some(format!("did you mean \"{meant}\"? Known here: {}", KEYS.join(", ")));
            return Err(Slip { value: None, problem: format!("has the unknown key \"{unknown}\""), hint });
        }
        Ok(Self { id, account, metadata })
    }
}

type Each<'a> = &'a mut dyn FnMut(u64, Result<Draft, Slip>);

fn each_line(
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

fn each_record(reader: impl BufRead, each: Each<'_>) -> Result<(), String> {
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let header = csv.byte_headers().map_err(|error| csv_error(&error))?;
    let columns: Vec<String> =
        header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
    if columns.is_empty() {
        return Ok(());
    }
    let position = |wanted: &str| columns.iter().position(|name| name.eq_ignore_ascii_case(wanted));
    let Some(id_at) = position("label_id") else {
        return Err(format!("has no column label_id; its header has {columns:?}"));
    };
    let account_at = position("account");
    if let Some((_, twice)) =
        columns.iter().enumerate().find(|(at, name)| !name.is_empty() && columns[..*at].contains(name))
    {
        return Err(format!("has the column {twice:?} twice"));
    }
    let mut record = csv::ByteRecord::new();
    loop {
        match csv.read_byte_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return Err(csv_error(&error)),
        }
        let row = record.position().map_or(0, csv::Position::line);
        if record.len() == 1 && record[0].trim_ascii().is_empty() {
            continue;
        }
        each(row, draft_of_record(&record, &columns, id_at, account_at));
    }
}

fn draft_of_record(
    record: &csv::ByteRecord,
    columns: &[String],
    id_at: usize,
    account_at: Option<usize>,
) -> Result<Draft, Slip> {
    if record.as_slice().len() > LONGEST {
        return Err(Slip::new("is longer than 64 KiB: is a quote never closed?"));
    }
    if record.len() != columns.len() {
        let (has, needs) = (record.len(), columns.len());
        return Err(Slip::new(format!("has {has} cells where the header has {needs}")));
    }
    let mut draft = Draft::default();
    for (at, (name, cell)) in columns.iter().zip(record).enumerate() {
        let cell = std::str::from_utf8(cell).map_err(|_| Slip::new("is not UTF-8 text"))?;
        match at {
            _ if at == id_at => draft.id = cell.trim().to_owned(),
            _ if Some(at) == account_at => {
                draft.account = Some(cell.trim().to_owned()).filter(|name| !name.is_empty());
            }
            _ if name.is_empty() => {}
            _ => {
                draft.metadata.insert(name.clone(), Json::String(cell.to_owned()));
            }
        }
    }
    Ok(draft)
}

fn cannot_be_read(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

fn csv_error(error: &csv::Error) -> String {
    format!("cannot be read: {error}")
}

#[cfg(test)]
mod tests {
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
