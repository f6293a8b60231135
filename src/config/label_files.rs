//! Finds label files, and reads them into the roll.
//!
//! A path or a pattern, relative to the configuration file; only the last part of a path may be a pattern. A pattern
//! that fits nothing is fine for now (a file may come later), a plain path that is not there is a slip. Watching is the
//! caller's: it gets the paths.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::reader::Entry;
use super::roll::Roll;
use super::rows::{RowKind, RowSource, read_into};
use crate::domain::label::Source;

/// Reads every file that `entries` name; gives the files and directories worth watching.
pub(super) fn read(entries: &[Entry<'_>], roll: &mut Roll<'_>) -> Vec<PathBuf> {
    let (mut files, mut watched) = (Vec::new(), BTreeSet::new());
    for entry in entries {
        for file in find(entry, &mut watched).unwrap_or_default() {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    for file in files {
        read_file(&file, &entries[0], roll);
        watched.insert(file);
    }
    watched.into_iter().collect()
}

/// The files that one entry means, in the order of their names.
fn find(entry: &Entry<'_>, watched: &mut BTreeSet<PathBuf>) -> Option<Vec<PathBuf>> {
    let text = entry.text()?;
    let path = entry.context.directory.join(text);
    let (Some(name), Some(directory)) = (path.file_name().and_then(|name| name.to_str()), path.parent())
    else {
        return entry.fault("names no file", "a path such as \"labels.d/*\" or \"labels.csv\"");
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let is_pattern = |part: &str| part.contains(['*', '?']);
    if Path::new(text).parent().and_then(Path::to_str).is_some_and(is_pattern) {
        return entry
            .fault("has * or ? before the last part", "only the last part of a path may be a pattern");
    }
    watched.insert(directory.to_owned());
    if !is_pattern(name) {
        return match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => Some(vec![path]),
            Ok(_) => entry.fault("is no file", format!("all files of a directory: \"{text}/*\"")),
            Err(error) => entry.fault(
                format!("cannot be read: {error}"),
                format!("looked for {}; paths start at the configuration file", path.display()),
            ),
        };
    }
    let listed = match std::fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if error.kind() == ErrorKind::NotFound => return nothing_fits(entry, text),
        Err(error) => {
            return entry
                .fault(format!("cannot be listed: {error}"), "trackpost needs to read the directory");
        }
    };
    let mut files: Vec<PathBuf> = listed
        .filter_map(Result::ok)
        .filter(|found| found.file_name().to_str().is_some_and(|found| fits(name, found)))
        .map(|found| found.path())
        .filter(|found| !found.is_dir())
        .collect();
    files.sort();
    if files.is_empty() { nothing_fits(entry, text) } else { Some(files) }
}

fn nothing_fits(entry: &Entry<'_>, pattern: &str) -> Option<Vec<PathBuf>> {
    let warning = Fault::new(entry.place(), &entry.key, "fits no file so far").value(pattern);
    entry.context.findings.warn(warning);
    None
}

fn read_file(path: &Path, entry: &Entry<'_>, roll: &mut Roll<'_>) {
    let findings = entry.context.findings;
    let place = path.display().to_string();
    let Some(kind) = RowKind::of_path(path) else {
        let warning = Fault::new(place, "", "is left out: its ending says nothing about its rows");
        return findings.warn(warning.hint("label files end in .txt, .csv or .jsonl"));
    };
    let read = File::open(path)
        .map_err(|error| {
            Fault::new(&place, "", format!("cannot be read: {error}")).hint("trackpost needs to read it")
        })
        .and_then(|file| {
            let source = RowSource { place: &place, source: Source::File };
            read_into(roll, kind, BufReader::with_capacity(1 << 16, file), source)
        });
    if let Err(fault) = read {
        findings.fault(fault);
    }
}

/// Whether a file name fits a pattern of `*` and `?`. As in a shell, neither takes the dot of a hidden file.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    if name.first() == Some(&'.') && pattern.first() != Some(&'.') {
        return false;
    }
    // reached[n]: the pattern so far takes exactly the first n characters.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for part in pattern {
        if part == '*' {
            let from = reached.iter().position(|&reached| reached).unwrap_or(reached.len());
            reached[from..].fill(true);
        } else {
            for at in (0..name.len()).rev() {
                reached[at + 1] = reached[at] && (part == '?' || part == name[at]);
            }
            reached[0] = false;
        }
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, name, expected) in [
            ("*", "a.txt", true),
            ("*", ".a.txt.swp", false),
            (".*", ".a", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt~", false),
            ("*.txt", ".txt", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("label?.csv", "label1.csv", true),
            ("label?.csv", "label.csv", false),
            ("?", "é", true),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
