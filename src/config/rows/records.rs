//! Rows of a CSV: a header that says which column is what, then the records.
//!
//! The header decides about all rows, so what is wrong with it is an error; a record that does not fit it is a slip.

use std::io::BufRead;

use serde_json::Value as Json;

use super::{Draft, Each, LONGEST, Slip};

/// Hands every record to `each`, with the line on which it begins.
pub(super) fn each_record(reader: impl BufRead, each: Each<'_>) -> Result<(), String> {
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

fn csv_error(error: &csv::Error) -> String {
    format!("cannot be read: {error}")
}
