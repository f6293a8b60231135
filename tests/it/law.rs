//! The floor plan as a test that reads `src/**`: which room may name which, and which words stand where.
//!
//! A room is a file (`clock.rs`) or a folder (`store/`) right below `src/`. Comments and test code are free.

use std::fs;
use std::path::Path;

/// Arrows point down only, and siblings never meet: the rooms that each room may name beside itself.
const PLAN: &[(&str, &str)] = &[
    ("domain", ""),
    ("agent", ""),
    ("clock", "domain"),
    ("notices", "config"),
    ("pulse", ""),
    ("systemd", ""),
    ("tls", "domain"),
    ("shortage", ""),
    ("transport", "agent clock domain"),
    ("config", "domain"),
    ("store", "clock domain"),
    ("shipstation", "config domain shortage tls transport"),
    ("webhook", "clock domain shortage tls transport"),
    ("sandbox", "clock domain"),
    ("simulation", "domain"),
    ("experience", "domain store"),
    ("attention", "config domain store"),
    ("http", "attention clock config domain notices pulse shortage store"),
    ("desk", "clock config domain shipstation store"),
    ("in_flight", "store"),
    ("poller", "clock desk domain experience in_flight pulse store"),
    ("scout", "clock desk domain pulse store"),
    ("courier", "clock domain in_flight pulse store webhook"),
    ("registrar", "clock config domain notices pulse store"),
    ("janitor", "clock config domain experience pulse store"),
    (
        "daemon",
        "attention clock config courier desk domain experience http janitor notices poller pulse registrar scout shipstation store systemd tls webhook",
    ),
    ("cli", "attention clock config daemon domain http sandbox shipstation simulation store tls webhook"),
    ("main", "cli"),
    ("lib", ""),
];

/// These words stand only in these rooms.
const ONLY_IN: &[(&str, &str)] = &[
    ("sqlx", "store"),
    ("hyper hyper_util", "transport"),
    ("clap clap_complete clap_mangen println! eprintln! print! eprint!", "cli main"),
    // One task per pool closes idle connections; it ends with them.
    ("tokio::spawn task::spawn spawn_local thread::spawn", "daemon transport"),
    // Reading files.
    ("spawn_blocking", "daemon registrar"),
    // What a trade has under way are tasks of its own, which end with it.
    ("JoinSet", "daemon in_flight"),
    ("tokio::signal signal::unix signal::ctrl_c", "daemon"),
    ("sd_notify", "systemd"),
    ("SystemTime Instant Timestamp::now Zoned::now time::sleep", "clock"),
    // Parcels follow a seed: `fastrand::Rng` with a seed is no chance, the rest of fastrand is.
    ("fastrand", "clock sandbox simulation"),
    ("fastrand::f64 fastrand::u64 fastrand::u32 fastrand::u8 Rng::new", "clock"),
];

/// The ground floor is pure.
const NEVER_IN_DOMAIN: &str =
    "tokio axum tracing async std::fs std::env std::net std::io std::thread std::process";

#[test]
fn every_room_names_only_what_is_its_own() {
    let (mut breaches, mut lines) = (Vec::new(), 0);
    each_line(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut |file, number, line| {
        lines += 1;
        let room = file.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let mut found = Vec::new();
        match PLAN.iter().find(|(planned, _)| *planned == room) {
            None => found.push(format!("the room {room} has no line in the plan of tests/it/law.rs")),
            Some((_, below)) => {
                let named = line.split("crate::").skip(1).chain(line.split("use trackpost::").skip(1));
                for named in named.filter_map(|rest| rest.split(|c| !is_of_word(c)).next()) {
                    if named != room && !has(below, named) {
                        found.push(format!("{room} may not name {named:?}; it may name: {below}"));
                    }
                }
            }
        }
        for (words, rooms) in ONLY_IN.iter().filter(|(_, rooms)| !has(rooms, room)) {
            let named = words.split(' ').filter(|word| names(line, word));
            found.extend(named.map(|word| format!("{word} is named only in: {rooms}")));
        }
        let impure = NEVER_IN_DOMAIN.split(' ').filter(|word| room == "domain" && names(line, word));
        found.extend(impure.map(|word| format!("{word} is never named in domain")));
        breaches.extend(found.iter().map(|why| format!("src/{file}:{number}: {why}\n    {}", line.trim())));
    });
    assert!(lines > 5000, "only {lines} lines were read: is src/ somewhere else?");
    assert!(breaches.is_empty(), "{} breaches of the law:\n{}", breaches.len(), breaches.join("\n"));
}

fn has(list: &str, word: &str) -> bool {
    list.split(' ').any(|listed| listed == word)
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` stands in `line`, and not as a part of a longer one.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_of_word) && !line[at + word.len()..].starts_with(is_of_word))
}

/// Gives every line of code to `see`: file below `src/`, number, text without its comment.
fn each_line(folder: &Path, below: &str, see: &mut impl FnMut(&str, usize, &str)) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{below}{}", entry.file_name().display());
        if entry.path().is_dir() && !name.ends_with("/tests") {
            each_line(&entry.path(), &format!("{name}/"), see);
        } else if name.ends_with(".rs") && !name.ends_with("/tests.rs") {
            let text = fs::read_to_string(entry.path()).unwrap();
            // Unit tests stand last in their file.
            let code = text.find("#[cfg(test)]\nmod ").map_or(text.as_str(), |end| &text[..end]);
            for (number, line) in (1..).zip(code.lines()) {
                see(&name, number, line.split("//").next().unwrap_or_default());
            }
        }
    }
}
