//! Rows of labels: ids, CSV and JSON Lines. The first byte selects the format.

use std::io::{BufRead, BufReader};

use trackpost::config::{RowKind, each_row};
use trackpost::domain::label::AccountName;

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "0# mine\n\nse-10 # first\r\nnonsense\n",
        "1label_id,account,order\nse-40,main,A\nse-41,mian,B\nse-42\nse-10,,\"C, \"\"D\"\"\"\n",
        "1order,label_id,,note\n A ,se-1,x,\"b, c\"\n\n,se-2,,\n",
        "1\u{feff}label_id\rse-1\r",
        "2\"se-20\"\n{\"id\":\"se-21\",\"account\":\"main\",\"metadata\":{\"order\":1,\"t\":[true,null]}}\n{\"id\":\n",
        "2{\"label_id\":\"se-21\",\"state\":\"removed\",\"account\":\"main\",\"metadata\":{}}\n",
        "3\n\"order\",\"Label_ID\"\nA,se-1\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub fn check(input: &[u8]) {
    let Some((&format, rows)) = input.split_first() else { return };
    let kind = match format % 4 {
        0 => RowKind::Ids,
        1 => RowKind::Csv,
        2 => RowKind::JsonLines,
        _ => RowKind::detect(rows).unwrap().0,
    };
    let whole = read(kind, rows);
    // Rows do not depend on the pieces in which they are read.
    let pieces = BufReader::with_capacity(1 + usize::from(format >> 2), rows);
    assert_eq!(read(kind, pieces), whole);
    let (_, again) = RowKind::detect(rows).unwrap();
    assert_eq!(read(kind, again), whole, "detection keeps all bytes");
}

/// Returns a line for each row, and the fault of the whole source.
fn read(kind: RowKind, reader: impl BufRead) -> Vec<String> {
    let (mut lines, mut last) = (Vec::new(), 0);
    let read = each_row(kind, reader, &[AccountName::new("main")], None, &mut |row| {
        assert!(row.row > last, "row {} after row {last}", row.row);
        last = row.row;
        if let Err(fault) = &row.registration {
            super::check_fault(fault);
        }
        lines.push(format!("{row:?}"));
    });
    if let Err(fault) = read {
        super::check_fault(&fault);
        lines.push(fault.to_string());
    }
    lines
}
