//! Labels of all kinds of files, and where they are looked for.

use super::*;

#[test]
fn a_wrong_row_is_no_fault_of_the_configuration() {
    let place = Place::new(
        "[store]\npath = 7\n[accounts.main]\napi_key = \"k\"\n[registration]\nlabels = [\"nope\"]",
    );
    let faults = place.load().unwrap_err();
    assert_eq!((faults.faults.len(), faults.label_faults.len(), faults.label_fault_count), (1, 1, 1));
    let report = faults.to_string();
    assert!(
        report.starts_with("the configuration has a fault\n") && report.contains("\nleft out: "),
        "{report}"
    );
}

#[test]
fn discovery_needs_a_list_beside_the_tracking() {
    let place = |path: &str, enabled: bool| {
        Place::new(&format!(
            "[accounts.a]\napi_key = \"k\"\ntracking_path = \"{path}\"\n[accounts.a.discover]\nenabled = {enabled}\ninterval = \"1m\"\n"
        ))
    };
    let account =
        place("/v1/labels/{label_id}/track", true).loaded().config.accounts.into_values().next().unwrap();
    assert_eq!(account.labels_url().as_deref(), Some("https://api.shipstation.com/v1/labels"));
    assert_eq!((account.discover.enabled, account.discover.interval.as_secs()), (true, 60));
    assert_eq!(account.discover.lookback.as_secs(), 14 * 86_400);
    let report = place("/track?label={label_id}", true).report();
    assert!(report.contains("accounts.a.discover.enabled = true: needs the list of labels"), "{report}");
    assert!(!place("/track?label={label_id}", false).loaded().config.accounts.is_empty());
}

#[test]
fn labels_of_every_kind_of_file() {
    let place = Place::new(&format!(
        "{}[registration]\nlabels = [\"se-1\", \"SE-2\", {{ id = \"se-3\", acount = \"x\" }}, {{ id = \"se-3\", metadata = {{ n = 1, t = [true] }} }}]\n\
         files = [\"labels.d/*\", \"more/none*.txt\", \"extra.csv\"]\n",
        sound()
    ))
    .file("labels.d/a.txt", "# mine\n\nse-10 # first\r\nnonsense\n")
    .file("labels.d/b.jsonl", "\"se-20\"\n{\"id\":\"se-21\",\"account\":\"main\",\"metadata\":{\"order\":1}}\n{\"id\":\n")
    .file("labels.d/c.md", "se-30\n")
    .file("labels.d/.hidden.txt", "se-31\n")
    .file("extra.csv", "label_id,account,order\nse-40,main,A\nse-41,mian,B\nse-42\nse-10,,C\n");
    let loaded = place.loaded();
    let ids: Vec<&str> = loaded.labels.iter().map(|label| label.key.id.as_str()).collect();
    assert_eq!(ids, ["se-1", "se-3", "se-10", "se-20", "se-21", "se-40"]);
    assert_eq!(loaded.labels[2].metadata["order"], "C", "the later wins");
    assert_eq!(loaded.label_fault_count, 6);
    let faults: Vec<String> = loaded.label_faults.iter().map(Fault::to_string).collect();
    let expected = [
        "trackpost.toml: registration.labels, row 2 = SE-2: is no label id",
        "trackpost.toml: registration.labels, row 3: has the unknown key \"acount\" (hint: did you mean \"account\"?",
        "labels.d/a.txt: row 4 = nonsense: is no label id",
        "labels.d/b.jsonl: row 3: is no JSON",
        "extra.csv: row 3 = mian: is no account of this configuration (label se-41) (hint: did you mean \"main\"?)",
        "extra.csv: row 4: has 1 cells where the header has 3",
    ];
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{expected}\n{fault}");
    }
    let warnings: String = loaded.warnings.iter().map(|warning| warning.to_string() + "\n").collect();
    for expected in
        ["c.md: is left out", "more/none*.txt: fits no file", "extra.csv: row 5 = se-10: was there before"]
    {
        assert!(warnings.contains(expected), "{expected}\n{warnings}");
    }
    assert!(loaded.watched.contains(&place.path("more")));
    assert!(loaded.watched.contains(&place.path("extra.csv")));
}

#[test]
fn what_makes_a_label_file_unreadable_is_a_fault() {
    let place = Place::new("[registration]\nfiles = [\"none.txt\", \"a.csv\", \"*/b.txt\", \"d\"]")
        .file("a.csv", "id,order\nse-1,A\n")
        .file("d/b.txt", "");
    let report = place.report();
    for line in [
        "registration.files[0] = none.txt: cannot be read: No such file",
        "a.csv: has no column label_id",
        "registration.files[2] = */b.txt: has * or ? before the last part",
        "registration.files[3] = d: is no file",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
}

#[test]
fn with_several_accounts_each_label_names_its_own() {
    let loaded = Place::new(
        "[accounts.a]\napi_key = \"k\"\n[accounts.b]\napi_key = \"k\"\n\
         [registration]\nlabels = [\"se-1\", { id = \"se-1\", account = \"a\" }, { id = \"se-1\", account = \"b\" }]",
    )
    .loaded();
    assert_eq!(loaded.labels.len(), 2);
    assert!(loaded.label_faults[0].to_string().contains("row 1 = se-1: names no account"));
}

#[test]
fn a_label_file_of_two_hundred_thousand_rows_loads() {
    let rows: String = (0..200_000).map(|n| format!("se-{n}\n")).collect();
    let place =
        Place::new(&format!("{}[registration]\nfiles = [\"many.txt\"]", sound())).file("many.txt", &rows);
    let loaded = place.loaded();
    assert_eq!((loaded.labels.len(), loaded.label_fault_count), (200_000, 0));
}
