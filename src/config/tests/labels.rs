//! Labels in all kinds of files, and the directories of the files.

use super::super::row_faults::MAX_FAULTS_PER_PLACE;
use super::*;

#[test]
fn a_wrong_row_is_not_a_fault_of_the_configuration() {
    let setup = Setup::new(
        "[store]\npath = 7\n[accounts.main]\napi_key = \"k\"\n[registration]\nlabels = [\"nope\"]",
    );
    let faults = setup.load().unwrap_err();
    assert_eq!((faults.faults.len(), faults.label_faults.kept.len(), faults.label_faults.total), (1, 1, 1));
    let report = faults.to_string();
    assert!(
        report.starts_with("the configuration has a fault\n") && report.contains("\nleft out: "),
        "{report}"
    );
}

#[test]
fn discovery_needs_a_list_url_derived_from_the_tracking_url() {
    let setup = |path: &str, enabled: bool| {
        Setup::new(&format!(
            "[accounts.a]\napi_key = \"k\"\ntracking_path = \"{path}\"\n[accounts.a.discover]\nenabled = {enabled}\ninterval = \"1m\"\n"
        ))
    };
    let account =
        setup("/v1/labels/{label_id}/track", true).loaded().config.accounts.into_values().next().unwrap();
    assert_eq!(account.labels_url().as_deref(), Some("https://api.shipstation.com/v1/labels"));
    assert_eq!((account.discover.enabled, account.discover.interval.as_secs()), (true, 60));
    assert_eq!(account.discover.lookback.as_secs(), 14 * 86_400);
    let report = setup("/track?label={label_id}", true).report();
    assert!(report.contains("accounts.a.discover.enabled = true: needs the list of labels"), "{report}");
    assert!(!setup("/track?label={label_id}", false).loaded().config.accounts.is_empty());
}

#[test]
fn labels_of_every_kind_of_file() {
    let setup = Setup::new(&format!(
        "{}[registration]\nlabels = [\"se-1\", \"SE-2\", {{ id = \"se-3\", acount = \"x\" }}, {{ id = \"se-3\", metadata = {{ n = 1, t = [true] }} }}]\n\
         files = [\"labels.d/*\", \"more/none*.txt\", \"extra.csv\"]\n",
        sound()
    ))
    .file("labels.d/a.txt", "# mine\n\nse-10 # first\r\nnonsense\n")
    .file("labels.d/b.jsonl", "\"se-20\"\n{\"id\":\"se-21\",\"account\":\"main\",\"metadata\":{\"order\":1}}\n{\"id\":\n")
    .file("labels.d/c.md", "se-30\n")
    .file("labels.d/.hidden.txt", "se-31\n")
    .file("extra.csv", "label_id,account,order\nse-40,main,A\nse-41,mian,B\nse-42\nse-10,,C\nse-3,,D\n");
    let (loaded, (reading, labels)) = (setup.loaded(), setup.labels());
    let ids: Vec<&str> = labels.iter().map(|label| label.key.id.as_str()).collect();
    assert_eq!(ids, ["se-1", "se-20", "se-21", "se-40", "se-10", "se-3"]);
    assert_eq!(labels[4].metadata["order"], "C", "the later wins");
    assert_eq!((loaded.label_faults.total, reading.faults.total), (2, 4));
    let faults: Vec<String> =
        loaded.label_faults.kept.iter().chain(&reading.faults.kept).map(Fault::to_string).collect();
    let expected = [
        "trackpost.toml: registration.labels, row 2 = SE-2: is not a label id",
        "trackpost.toml: registration.labels, row 3: has the unknown key \"acount\" (hint: did you mean \"account\"?",
        "labels.d/a.txt: row 4 = nonsense: is not a label id",
        "labels.d/b.jsonl: row 3: is not valid JSON",
        "extra.csv: row 3 = mian: is not an account of this configuration (label se-41) (hint: did you mean \"main\"?",
        "extra.csv: row 4: has 1 cell, but the header has 3",
    ];
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected) && fault.contains("(hint: "), "{expected}\n{fault}");
    }
    let warnings: Vec<String> = reading.warnings.iter().map(Fault::to_string).collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for (warning, expected) in warnings.iter().zip([
        "more/none*.txt: does not match a file yet",
        "extra.csv: row 5 = se-10: an earlier row has other",
        "extra.csv: row 6 = se-3: an earlier row has other",
    ]) {
        assert!(warning.contains(expected), "{expected}\n{warning}");
    }
    assert_eq!(left_out(&reading), ["c.md: has an unknown ending"]);
}

/// Returns the name and the problem of each file that is left out.
fn left_out(reading: &LabelReading) -> Vec<String> {
    let shown = |file: &LeftOut| {
        assert!(file.fault.hint.is_some(), "{}", file.fault);
        format!("{}: {}", file.path.file_name().unwrap().display(), file.fault.problem)
    };
    reading.left_out.iter().map(shown).collect()
}

#[test]
fn an_unreadable_file_is_left_out_and_the_others_are_read() {
    let setup = Setup::new(&format!("{}[registration]\nfiles = [\"none.txt\", \"d\", \"d/*\"]", sound()))
        .file("d/good.txt", "se-1\n")
        .file("d/order.csv", "id,order\nse-1,A\n")
        .file("d/semicolons.csv", "label_id;note\nse-1002;x\n")
        .file("d/sep-line.csv", "sep=,\nlabel_id,note\nse-1002,x\n")
        .file("d/spaced-header.csv", "Label ID,Note\nse-1002,x\n")
        .file("d/misspelt-header.csv", "order,lable_id\nA,se-1002\n")
        .file("d/tabs.csv", "label_id\tnote\nse-1002\tx\n")
        .file("d/no-header.csv", "se-1002,x\nse-1003,y\n");
    std::fs::write(setup.path("d/utf16.csv"), utf16("label_id,note\nse-1002,x\n")).unwrap();
    std::fs::write(setup.path("d/utf16-no-mark.txt"), &utf16("se-1002\n")[2..]).unwrap();
    std::fs::write(setup.path("d/latin1.csv"), b"label_id,note\nse-1001,x\nse-1002,M\xfcller\n").unwrap();
    let directory = setup.directory.path().to_owned();
    let fifo = std::process::Command::new("mkfifo").arg(directory.join("d/pipe.txt")).status().unwrap();
    assert!(fifo.success());
    std::os::unix::fs::symlink("/dev/zero", directory.join("d/zero.csv")).unwrap();
    std::os::unix::fs::symlink("nowhere.txt", directory.join("d/dangling.txt")).unwrap();
    let large = std::fs::File::create(directory.join("d/large.txt")).unwrap();
    large.set_len(300 * 1024 * 1024).unwrap();

    let (reading, labels) = setup.labels();
    let ids: Vec<&str> = labels.iter().map(|label| label.key.id.as_str()).collect();
    assert_eq!(ids, ["se-1"]);
    assert_eq!((reading.faults.total, reading.files.len()), (0, 1));
    let report: Vec<String> = reading.left_out.iter().map(|file| file.fault.to_string()).collect();
    let report = report.join("\n");
    for (file, hint) in [
        ("none.txt: cannot be read: No such file", "resolved to "),
        ("= d: is a directory", "d/*"),
        (
            "order.csv: has no column label_id",
            "if the column \"id\" has the label ids, rename it to label_id",
        ),
        ("semicolons.csv: has no column label_id", "its separator seems to be semicolons"),
        ("tabs.csv: has no column label_id", "its separator seems to be tabs"),
        ("sep-line.csv: has no column label_id", "separator line of a spreadsheet: remove it"),
        ("spaced-header.csv: has no column label_id", "rename the column \"Label ID\" to label_id"),
        ("misspelt-header.csv: has no column label_id", "rename the column \"lable_id\" to label_id"),
        ("no-header.csv: has no column label_id", "its first line is a row"),
        ("utf16.csv: is not UTF-8 text, but seems to be UTF-16", "save it as UTF-8"),
        ("utf16-no-mark.txt: is not UTF-8 text, but seems to be UTF-16", "save it as UTF-8"),
        ("latin1.csv: is not UTF-8 text (row 3)", "save it as UTF-8"),
        ("pipe.txt: is a FIFO", "only regular files are read"),
        ("zero.csv: is a device", "only regular files are read"),
        ("dangling.txt: is a link to a file that does not exist", "repair or remove the link"),
        ("large.txt: has 300 MiB: at most 256 MiB are read", "split it into smaller files"),
    ] {
        let line = report.lines().find(|line| line.contains(file));
        assert!(line.is_some_and(|line| line.contains(hint)), "{file} ({hint})\n{report}");
    }
    assert_eq!(reading.left_out.len(), 16, "{report}");
}

fn utf16(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

#[test]
fn an_entry_without_files_is_a_fault() {
    let report = Setup::new("[registration]\nfiles = [\"*/b.txt\", \"..\"]").report();
    for line in ["files[0] = */b.txt: has * or ? before the last part", "files[1] = ..: does not name a file"]
    {
        assert!(report.contains(line), "{line}\n{report}");
    }
}

/// Labels and faults of one CSV.
fn csv(text: &str) -> (Vec<String>, Vec<String>) {
    let setup = Setup::new(&format!("{}[registration]\nfiles = [\"a.csv\"]", sound())).file("a.csv", text);
    let (reading, labels) = setup.labels();
    let shown = |fault: &Fault| format!("{} {}", fault.key, fault.problem);
    (
        labels.iter().map(|label| label.key.id.to_string()).collect(),
        reading.faults.kept.iter().map(shown).collect(),
    )
}

#[test]
fn a_quote_across_rows_is_reported_and_the_rows_are_read() {
    let (labels, faults) = csv("label_id,order\nse-1001,\"A-1\nse-1002,A-2\nse-1003,A-3\n");
    assert_eq!(labels, ["se-1002", "se-1003"]);
    assert_eq!(faults, ["row 2 opens a quote that is never closed"]);
    // Closed by the opening quote of a later row.
    let (labels, faults) = csv("label_id,order\nse-1,\"A\nse-2,B\nse-3,\"C\"\nse-4,D\n");
    assert_eq!(labels, ["se-2", "se-3", "se-4"]);
    assert_eq!(faults, ["row 2 opens a quote that includes the next 2 rows"]);
    // Closed by a row that does not close its own quote either.
    let (labels, faults) = csv("label_id,order\nse-1,\"A\nse-2,\"B\nse-3,C\n");
    assert_eq!(labels, ["se-3"]);
    let rows = ["row 2 opens a quote that includes the next row", "row 3 opens a quote that is never closed"];
    assert_eq!(faults, rows);
    // A value of several lines is valid.
    let (labels, faults) = csv("label_id,note\nse-1,\"two\nlines, \"\"so\"\"\"\r\nse-2,x\n");
    assert_eq!((labels.len(), faults.len()), (2, 0), "{faults:?}");
    // A row has at most 64 KiB, over all its lines; the rows after a longer one are read.
    let long: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let (labels, faults) = csv(&format!("label_id,note\nse-1,\"{long}\"\nse-2,x\n"));
    assert_eq!(labels, ["se-2"]);
    assert!(faults[0].starts_with("row 2 opens a quote that is never closed"), "{faults:?}");
}

#[test]
fn with_several_accounts_each_label_names_its_own() {
    let setup = Setup::new(
        "[accounts.a]\napi_key = \"k\"\n[accounts.b]\napi_key = \"k\"\n\
         [registration]\nlabels = [\"se-1\", { id = \"se-1\", account = \"a\" }, { id = \"se-1\", account = \"b\" }]",
    );
    assert_eq!(setup.labels().1.len(), 2);
    assert!(
        setup.loaded().label_faults.kept[0].to_string().contains("row 1 = se-1: does not name an account")
    );
}

#[test]
fn a_label_file_of_two_hundred_thousand_rows_loads() {
    let rows: String = (0..200_000).map(|n| format!("se-{n}\n")).collect();
    let setup =
        Setup::new(&format!("{}[registration]\nfiles = [\"many.txt\"]", sound())).file("many.txt", &rows);
    let reading = setup.loaded().sources.read_all();
    assert_eq!((reading.label_set.labels(), reading.faults.total), (200_000, 0));
}

#[test]
fn few_of_many_wrong_rows_are_kept() {
    let text: String =
        (0..200_000).map(|n| if n % 2 == 0 { format!("se-{n}\n") } else { "?\n".into() }).collect();
    let setup =
        Setup::new(&format!("{}[registration]\nfiles = [\"many.txt\"]", sound())).file("many.txt", &text);
    let (reading, labels) = setup.labels();
    assert_eq!((labels.len(), reading.faults.total), (100_000, 100_000));
    assert_eq!(reading.faults.kept.len(), MAX_FAULTS_PER_PLACE + 1);
    let last = reading.faults.kept[MAX_FAULTS_PER_PLACE].to_string();
    assert!(last.contains("many.txt: 99900 more rows are wrong and left out"), "{last}");
}

#[test]
fn registered_labels_are_no_longer_wanted() {
    let setup = Setup::new(&format!("{}[registration]\nfiles = [\"a.jsonl\"]", sound())).file(
        "a.jsonl",
        "\"se-1\"\n{\"id\":\"se-2\",\"metadata\":{\"b\":1,\"a\":\"é\"}}\n\"se-3\"\n\"se-3\"\n",
    );
    let mut reading = setup.loaded().sources.read_all();
    let label_set = &mut reading.label_set;
    assert_eq!((label_set.labels(), label_set.keep_wanted()), (3, 3));
    assert_eq!(label_set.compare("main", "se-1", "{}", Some(1)), Comparison::Same);
    assert_eq!(label_set.compare("main", "se-2", "{\"a\":\"é\",\"b\":1}", Some(1)), Comparison::Same);
    assert_eq!(label_set.keep_wanted(), 1);
    for (account, id, metadata, file, expected) in [
        ("main", "se-3", "{}", None, Comparison::Changed),
        ("main", "se-3", "{}", Some(0), Comparison::Changed),
        ("main", "se-3", "{\"a\":1}", Some(1), Comparison::Changed),
        ("main", "se-4", "{}", Some(1), Comparison::Unknown),
        ("other", "se-3", "{}", Some(1), Comparison::Unknown),
    ] {
        assert_eq!(label_set.compare(account, id, metadata, file), expected, "{id} {metadata} {file:?}");
    }
    assert_eq!(label_set.keep_wanted(), 1);
}

#[test]
fn each_of_many_labels_is_found() {
    for count in [1, 2, 40, 20_000] {
        let text: String = (0..count).map(|n| format!("se-{n}\n")).collect();
        let setup =
            Setup::new(&format!("{}[registration]\nfiles = [\"many.txt\"]", sound())).file("many.txt", &text);
        let mut label_set = setup.loaded().sources.read_all().label_set;
        for n in 0..2 * count {
            let held = label_set.compare("main", &format!("se-{n}"), "{}", Some(1));
            assert_eq!(
                held,
                if n < count { Comparison::Same } else { Comparison::Unknown },
                "se-{n} of {count}"
            );
        }
        assert_eq!(label_set.keep_wanted(), 0);
    }
}

#[test]
fn brackets_in_the_name_of_a_file_are_not_special() {
    let setup = Setup::new(&format!("{}[registration]\nfiles = [\"a[1].txt\", \"b[2]*.txt\"]", sound()))
        .file("a[1].txt", "se-1\n")
        .file("a1.txt", "se-2\n")
        .file("b[2]-x.txt", "se-3\n");
    let (reading, labels) = setup.labels();
    let ids: Vec<&str> = labels.iter().map(|label| label.key.id.as_str()).collect();
    assert_eq!((ids, reading.left_out.len(), reading.warnings.len()), (vec!["se-1", "se-3"], 0, 0));
}

#[test]
fn a_list_of_registered_labels_is_a_source() {
    let row = |id: &str, state: &str| {
        format!(
            "{{\"account\":\"main\",\"label_id\":\"{id}\",\"state\":\"{state}\",\"status_code\":\"IT\",\"metadata\":{{\"a\":1}}}}\n"
        )
    };
    let text = row("se-1", "active") + &row("se-2", "removed") + "{\"id\":\"se-3\",\"state\":\"active\"}\n";
    let setup =
        Setup::new(&format!("{}[registration]\nfiles = [\"a.jsonl\"]", sound())).file("a.jsonl", &text);
    let (reading, labels) = setup.labels();
    assert_eq!(labels.len(), 1);
    assert_eq!((labels[0].key.id.as_str(), &labels[0].metadata["a"]), ("se-1", &1.into()));
    assert_eq!(reading.faults.total, 1);
    assert!(reading.faults.kept[0].to_string().contains("row 3: has the unknown key \"state\""));
}
